#!/usr/bin/env python3
"""Records what the Python reference makes of a checkpoint (H2OVL, InternVL 1.5, Idefics2), as a folder for `./test goldens`.

    python3 -m venv venv && venv/bin/pip install -r tests/goldens/requirements.txt
    venv/bin/python tests/goldens/record.py CHECKPOINT OUT --images PICTURES [--cases FILE] [--system TEXT] [--name NAME]
    ./test goldens OUT

CHECKPOINT is the folder as it was published (config.json, tokenizer, safetensors). OUT gets NAME/ (the checkpoint as a link, golden.json,
activations.json, activations.safetensors) and images/; further checkpoints may be recorded into the same OUT. The layout is described in
PROVENANCE.md beside this file.

--cases names a JSON file with a list `cases`; a golden.json is such a file. H2OVL and InternVL: each case has `images` (files in PICTURES,
in order), `question`, and, if need be, `history` ([[question, answer], ...]), `system` (InternVL), `max_tiles`, `msac` (H2OVL) and
`max_new`; `<image>` and a newline mark where a picture stands, else pictures come first. Idefics2: `parts` (texts, and `I:` before a file in
PICTURES), and, if need be, `history` ([["user", parts], ["assistant", [text]], ...]), `split`, `base` (a completion, without chat format),
`patch_rule` (`any`, unless it says `all`) and `max_new`. Without --cases every picture in PICTURES is asked the model's OCR question, and
one question comes without a picture. Special tokens typed into a question are matched as such here, while jvlm keeps what users write as
text: leave them out.

--system is InternVL's system prompt for cases that bring none; else that of config.json, else that of its code since July 2024.

Nothing in the checkpoint's folder is executed (no trust_remote_code). Decoders are transformers' Llama (InternLM2, too: the same network
with other names and a rope of its own), Mistral and Phi-3, tokenizers its LlamaTokenizer; Idefics2 is transformers' whole. What H2OVL's and
InternVL's own code adds (tiling, vision tower, pixel shuffle, projector, prompt, greedy loop) is written out below in plain PyTorch.
Everything is float32 on the CPU; nothing is rounded to bfloat16. Memory: four bytes a parameter, and the largest file while loading.
"""
import argparse
import hashlib
import json
import shutil
import struct
from pathlib import Path

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
H2OVL_OCR_QUESTION = "Read the text and provide word by word ocr for the document."
OCR_QUESTION = "Read all the text in the image. Output only the text."
SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
TEMPLATES = {         # before the system prompt, a question, an answer; behind each of them
    "h2ogpt2": (None, "<|prompt|>", "<|answer|>", "<|end|>"),
    "internlm2-chat": ("<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"),
    "phi3-chat": ("<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|end|>")}
TIE = 0.004          # where the next two candidates are closer, two correct implementations may differ
TEXTS = ["", " ", "Hello", " Hello", "Hello world", "  two  blanks  ", "line\nline\n\n\tx", "12,345.67 EUR", "Größe naïve", "人工智能", "👍🏽 🇩🇪",
         "<|prompt|>Hi<|end|><|answer|>", "<img></img>\nx", "a<|end|>b"]


# ---- pictures to tiles (InternVL and H2OVL image_process.py) --------------------------------------------------------------------------

def grid(width, height, least, most, size, admitted=lambda columns, rows: True):
    candidates = sorted({(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if least <= i * j <= most and admitted(i, j)},
                        key=lambda g: g[0] * g[1])
    best, distance = (1, 1), float("inf")
    for columns, rows in candidates:
        d = abs(width / height - columns / rows)
        if d < distance:
            best, distance = (columns, rows), d
        elif d == distance and width * height > 0.5 * size * size * columns * rows:
            best = (columns, rows)
    return best


def cut(picture, columns, rows, size, thumbnail):
    whole = picture.resize((size * columns, size * rows))
    tiles = [whole.crop((c * size, r * size, (c + 1) * size, (r + 1) * size)) for r in range(rows) for c in range(columns)]
    if thumbnail and len(tiles) != 1:
        tiles.append(picture.resize((size, size)))
    return tiles


def tiles_of(picture, config, most, msac):
    size, thumbnail = config["force_image_size"], config.get("use_thumbnail", False)
    columns, rows = grid(*picture.size, config.get("min_dynamic_patch", 1), most, size)
    coarse = cut(picture, columns, rows, size, thumbnail)
    if not msac:
        return coarse
    fine = cut(picture, *grid(*picture.size, 3, most, size, lambda i, j: columns % i and rows % j), size, thumbnail)
    return fine[:-1] + coarse[:-1] + fine[-1:]


def pixels(tiles):
    x = torch.stack([torch.frombuffer(bytearray(t.tobytes()), dtype=torch.uint8).view(t.height, t.width, 3) for t in tiles])
    x = x.permute(0, 3, 1, 2).to(torch.float32) / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


# ---- vision tower and projector of H2OVL and InternVL ---------------------------------------------------------------------------------

class Vision:
    def __init__(self, config, weights):
        self.c, self.w = config["vision_config"], weights
        self.eps = self.c.get("layer_norm_eps", 1e-6)
        if self.c.get("hidden_act", "gelu") != "gelu" or config.get("ps_version", "v1") != "v2" or config.get("downsample_ratio", 0.5) != 0.5:
            raise SystemExit("hidden_act, ps_version or downsample_ratio are not those of H2OVL and InternVL 1.5")
        # -1 is the last block's output, -2 the one before it.
        self.layers = self.c["num_hidden_layers"] + config.get("select_layer", -1) + 1

    def rms_norm(self, x, name):
        return self.w[name + ".weight"] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def norm(self, x, name):
        if self.c.get("norm_type", "rms_norm") == "rms_norm":
            return self.rms_norm(x, name)
        return torch.nn.functional.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.eps)

    def linear(self, x, name):
        return torch.nn.functional.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def __call__(self, x, keep):
        w, heads, at = self.w, self.c["num_attention_heads"], "vision_model.embeddings."
        x = torch.nn.functional.conv2d(x, w[at + "patch_embedding.weight"], w[at + "patch_embedding.bias"], stride=self.c["patch_size"])
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([w[at + "class_embedding"].expand(x.shape[0], 1, -1), x], 1) + w[at + "position_embedding"]
        keep("vision.embed", x)
        b, n, h = x.shape
        for i in range(self.layers):
            at = f"vision_model.encoder.layers.{i}."
            q, k, v = self.linear(self.norm(x, at + "norm1"), at + "attn.qkv").chunk(3, -1)
            if self.c.get("qk_normalization", True):     # over all heads at once
                q, k = self.rms_norm(q, at + "attn.q_norm"), self.rms_norm(k, at + "attn.k_norm")
            q, k, v = (t.view(b, n, heads, h // heads).transpose(1, 2) for t in (q, k, v))
            a = torch.softmax((q * (h // heads) ** -0.5) @ k.transpose(-2, -1), -1) @ v
            x = x + w[at + "ls1"] * self.linear(a.transpose(1, 2).reshape(b, n, h), at + "attn.proj")
            m = torch.nn.functional.gelu(self.linear(self.norm(x, at + "norm2"), at + "mlp.fc1"))
            x = x + w[at + "ls2"] * self.linear(m, at + "mlp.fc2")
            keep(f"vision.{i}", x)
        side = int((n - 1) ** 0.5)
        x = x[:, 1:].view(b, side // 2, 2, side // 2, 2, h).permute(0, 1, 3, 2, 4, 5).reshape(b, (side // 2) ** 2, 4 * h)
        x = torch.nn.functional.layer_norm(x, x.shape[-1:], w["mlp1.0.weight"], w["mlp1.0.bias"], 1e-5)
        x = self.linear(torch.nn.functional.gelu(self.linear(x, "mlp1.1")), "mlp1.3")
        keep("connector", x)
        return x


# ---- InternLM2 as transformers' Llama -------------------------------------------------------------------------------------------------

INTERNLM2 = {"tok_embeddings": "embed_tokens", "attention_norm": "input_layernorm", "attention.wo": "self_attn.o_proj",
             "ffn_norm": "post_attention_layernorm", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w3": "mlp.up_proj",
             "feed_forward.w2": "mlp.down_proj", "output.": "lm_head."}


def as_llama(state, config):
    kv_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    group, out = config["num_attention_heads"] // kv_heads, {}
    for name, w in state.items():
        if ".attention.wqkv." in name:      # goes by key/value head: its query heads, its key, its value
            parts = w.view(kv_heads, group + 2, -1, w.shape[-1]).split((group, 1, 1), 1)
            out.update({name.replace("attention.wqkv", f"self_attn.{p}_proj"): t.reshape(-1, w.shape[-1]) for p, t in zip("qkv", parts)})
            continue
        for old, new in INTERNLM2.items():
            name = name.replace(old, new)
        out[name] = w
    return out


class InternLM2Rope(torch.nn.Module):
    """Dynamic NTK by the length at this forward. InternLM2's own table never shrinks in one process; every case here has a fresh one."""

    def __init__(self, config):
        super().__init__()
        self.size, self.theta = config["hidden_size"] // config["num_attention_heads"], config.get("rope_theta", 10000)
        self.limit, scaling = config.get("max_position_embeddings", 2048), config.get("rope_scaling")
        if scaling and scaling["type"] != "dynamic":
            raise SystemExit(f"rope_scaling {scaling['type']} of InternLM2 is not written out here")
        self.factor = scaling and scaling["factor"]

    def forward(self, x, positions):
        length, theta = positions.max().item() + 1, self.theta
        if self.factor and length > self.limit:
            theta *= (self.factor * length / self.limit - (self.factor - 1)) ** (self.size / (self.size - 2))
        frequencies = 1.0 / theta ** (torch.arange(0, self.size, 2).float() / self.size)
        angles = torch.outer(positions[0].float(), frequencies).repeat(1, 2)[None]
        return angles.cos(), angles.sin()


# ---- the whole models -----------------------------------------------------------------------------------------------------------------

def built(kind, config, state):
    """A model of transformers with these weights, which are not copied."""
    kwargs = {k: v for k, v in config.items() if k not in ("architectures", "model_type", "torch_dtype", "attn_implementation")}
    with transformers.modeling_utils.no_init_weights():
        lm = kind(kind.config_class(**kwargs, attn_implementation="eager")).eval()
    lm.load_state_dict(state, assign=True)
    return lm


class Model:
    """What the families have in common. `lm` is the part that turns ids or embeddings into logits."""

    def __init__(self, folder):
        self.tokenizer = tokenizer_of(folder)
        self.banned = []

    def decode(self, ids):
        special = {i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        return self.tokenizer.decode([i for i in ids if i not in special], spaces_between_special_tokens=False)

    def answer(self, limit, keep, **prompt):
        """One forward over the prompt, then one a token, as generate() does it."""
        out = self.lm(**prompt, use_cache=True, output_hidden_states=keep.on)
        if keep.on:
            states = out.hidden_states
            keep("decoder.embed", states[0])
            for i in range(1, len(states) - 1):
                keep(f"decoder.{i - 1}", states[i])
            keep("decoder.norm", states[-1])
            keep("logits", out.logits[:, -1:])
        greedy, steps, stop = [], [], "limit"
        while len(greedy) < limit:
            logits = out.logits[0, -1].clone()
            logits[self.banned] = -float("inf")
            best = torch.topk(logits, 5)
            margin = (best.values[0] - best.values[1]).item()
            if margin < TIE:
                stop = "tie"
                break
            steps.append({"ids": best.indices.tolist(), "logits": [round(v, 5) for v in best.values.tolist()], "margin": round(margin, 5)})
            greedy.append(best.indices[0].item())
            if greedy[-1] in self.ends:
                stop = "eos"
                break
            if len(greedy) < limit:
                out = self.lm(input_ids=torch.tensor([greedy[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        return {"max_new": limit, "stop": stop, "greedy_ids": greedy, "greedy_text": self.decode(greedy), "steps": steps,
                "min_margin": min((s["margin"] for s in steps), default=None)}


def tokenizer_of(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if config.get("tokenizer_class") == "InternLM2Tokenizer":
        return InternLM2Tokenizer.from_pretrained(folder, legacy=True, add_prefix_space=False)
    if (folder / "tokenizer.model").exists():
        return transformers.AutoTokenizer.from_pretrained(folder, use_fast=False, trust_remote_code=False)
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


class InternLM2Tokenizer(transformers.LlamaTokenizer):
    def convert_tokens_to_string(self, tokens):
        # InternLM2's own class does this whatever clean_up_tokenization_spaces says.
        return self.clean_up_tokenization(super().convert_tokens_to_string(tokens))


class Tiled(Model):
    """H2OVL and InternVL."""

    def __init__(self, folder, config, weights):
        super().__init__(folder)
        self.config, self.template = config, TEMPLATES[config["template"]]
        self.question = H2OVL_OCR_QUESTION if config["model_type"] == "h2ovl_chat" else OCR_QUESTION
        self.vision = Vision(config, weights)
        llm, prefix = config["llm_config"], "language_model."
        state = {n[len(prefix):]: t for n, t in weights.items() if n.startswith(prefix) and not n.endswith("rotary_emb.inv_freq")}
        if llm["architectures"][0] == "InternLM2ForCausalLM":
            self.lm = built(transformers.LlamaForCausalLM, {**llm, "rope_scaling": None}, as_llama(state, llm))
            self.lm.model.rotary_emb = InternLM2Rope(llm)
        else:
            self.lm = built({"LlamaForCausalLM": transformers.LlamaForCausalLM, "MistralForCausalLM": transformers.MistralForCausalLM,
                             "Phi3ForCausalLM": transformers.Phi3ForCausalLM}[llm["architectures"][0]], llm, state)
        self.row, end = self.tokenizer.convert_tokens_to_ids(["<IMG_CONTEXT>", self.template[3]])
        self.ends = [end]

    def files(self, case):
        return case["images"]

    def case(self, files, question):
        return {"images": files, "question": question}

    def prompt(self, case, system):
        before_system, before_question, before_answer, end = self.template
        question = case["question"]
        if case["images"] and not case.get("history") and "<image>" not in question:
            question = "<image>\n" * len(case["images"]) + question
        prompt = ""
        if before_system:
            prompt = before_system + (system or self.config.get("system_message", SYSTEM)) + end
        elif system:
            raise SystemExit("this model has no system prompt")
        for q, a in case.get("history") or []:
            prompt += before_question + q + end + before_answer + a + end
        prompt += before_question + question + end + before_answer
        if prompt.count("<image>") != len(case["images"]):
            raise SystemExit(f"{case['question']!r}: {len(case['images'])} pictures, but {prompt.count('<image>')} places for them")
        return prompt

    def record(self, case, images, system, keep):
        config = self.config
        most = case.get("max_tiles") or config.get("max_dynamic_patch", 6)
        msac = case.get("msac", config.get("use_msac", False) and len(case["images"]) == 1)
        pictures = [tiles_of(Image.open(images / f).convert("RGB"), config, most, msac) for f in case["images"]]
        system = case.get("system") or system
        prompt = self.prompt(case, system)

        rows = [self.vision(pixels(t[i:i + 4]), keep) for t in pictures for i in range(0, len(t), 4)]
        vision = torch.cat(rows) if rows else None
        text = prompt
        for t in pictures:
            text = text.replace("<image>", "<img>" + "<IMG_CONTEXT>" * (len(t) * vision.shape[1]) + "</img>", 1)
        ids = self.tokenizer(text).input_ids
        x = self.lm.get_input_embeddings()(torch.tensor([ids]))
        if pictures:
            x[0, torch.tensor(ids) == self.row] = vision.flatten(0, 1)

        samples = [] if vision is None else [[round(v, 5) for v in tile[r, :6].tolist()] for tile in vision
                                             for r in (0, min(tile.shape[0] // 2 + 3, tile.shape[0] - 1))]
        return {
            "images": case["images"], "question": case["question"], "history": case.get("history") or [], "system": system,
            "max_tiles": most, "msac": msac, "tiles": [len(t) for t in pictures],
            "tiles_sha256": [[hashlib.sha256(t.tobytes()).hexdigest() for t in p] for p in pictures],
            "prompt": prompt, "ids_rle": runs(ids), "ids_sha256": hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
            "length": len(ids), "connector_samples": samples, **self.answer(case.get("max_new", 24), keep, inputs_embeds=x)}


class Idefics2(Model):
    FAKE, PICTURE, END = "<fake_token_around_image>", "<image>", "<end_of_utterance>"

    def __init__(self, folder, config, weights):
        super().__init__(folder)
        self.question = OCR_QUESTION
        self.lm = built(transformers.Idefics2ForConditionalGeneration, config, weights)
        self.processor = transformers.Idefics2ImageProcessor.from_pretrained(folder)
        generation = transformers.GenerationConfig.from_pretrained(folder)
        ends, words = generation.eos_token_id, generation.bad_words_ids or []
        self.ends = ends if isinstance(ends, list) else [ends]
        if any(len(w) != 1 for w in words):
            raise SystemExit("bad_words_ids has words of several tokens")
        self.banned = [w[0] for w in words]
        self.chats = self.END in self.tokenizer.get_vocab()

    def turns(self, case):
        return [*(case.get("history") or []), ("user", case["parts"])]

    def files(self, case):
        return [p[2:] for _, parts in self.turns(case) for p in parts if p.startswith("I:")]

    def case(self, files, question):
        return {"parts": [*("I:" + f for f in files), question], "base": not self.chats}

    def prompt(self, case):
        def written(parts):
            return "".join(self.PICTURE if p.startswith("I:") else p for p in parts)

        if case.get("base"):
            return written(case["parts"])
        return "".join(role.capitalize() + (":" if parts[0].startswith("I:") else ": ") + written(parts) + self.END + "\n"
                       for role, parts in self.turns(case)) + "Assistant:"

    def see(self, pictures, split, rule, keep):
        """What the pictures' patches become, and the golden's lines about them. One picture at a time: the mask makes that the same."""
        def processed(**options):
            return self.processor([pictures], do_image_splitting=split, return_tensors="pt", **options)

        batch, size = processed(), self.lm.config.vision_config.patch_size
        x, mask = batch.pixel_values[0], batch.pixel_attention_mask[0]
        shown = processed(do_rescale=False, do_normalize=False).pixel_values[0]
        valid = [(m[:, 0].sum().item(), m[0].sum().item()) for m in mask]
        inside = mask.unfold(1, size, size).unfold(2, size, size).sum((-2, -1))
        patches = inside > 0 if rule == "any" else inside == size * size      # `any` is this transformers' own, `all` that of later ones
        seen, rows = [], []
        for i in range(len(x)):
            y = self.lm.model.vision_model(pixel_values=x[i:i + 1], patch_attention_mask=patches[i:i + 1]).last_hidden_state
            seen.append(y[:, patches[i].flatten()])
            rows.append(self.lm.model.connector(y, attention_mask=patches[i:i + 1].flatten(1)))
        keep("vision.out", torch.cat(seen, 1))
        rows = torch.cat(rows)
        keep("connector", rows)
        return rows, {
            "pixel_shape": list(x.shape), "valid_hw": valid,
            "pixels_sha256": [hashlib.sha256(s[:, :h, :w].permute(1, 2, 0).numpy().tobytes()).hexdigest() for s, (h, w) in zip(shown, valid)],
            "patch_valid": [(p[:, 0].sum().item(), p[0].sum().item()) for p in patches],
            "connector_samples": [[round(v, 5) for v in r[i, :6].tolist()] for r in rows for i in (0, 31, 63)]}

    def record(self, case, images, system, keep):
        if system:
            raise SystemExit("this model has no system prompt")
        split, rule = case.get("split", self.processor.do_image_splitting), case.get("patch_rule", "any")
        # Without alpha, as goldens load pictures; the processor alone would compose it on white.
        pictures = [Image.open(images / f).convert("RGB") for f in self.files(case)]
        rows, lines = self.see(pictures, split, rule, keep) if pictures else (None, {})
        prompt = self.prompt(case)
        picture = self.FAKE + self.PICTURE * self.lm.config.perceiver_config.resampler_n_latents + self.FAKE
        text = prompt.replace(self.PICTURE, picture * (5 if split else 1)).replace(self.FAKE + self.FAKE, self.FAKE)
        ids = self.tokenizer(text).input_ids
        return {
            "parts": case["parts"], "history": case.get("history") or [], "split": split, "base": case.get("base", False), "patch_rule": rule,
            "prompt": prompt, "ids": ids, "length": len(ids), **lines,
            **self.answer(case.get("max_new", 24), keep, input_ids=torch.tensor([ids]), image_hidden_states=rows)}


def model_of(folder):
    config, weights = json.loads((folder / "config.json").read_text()), {}
    kinds = {"h2ovl_chat": Tiled, "internvl_chat": Tiled, "idefics2": Idefics2}
    if config.get("model_type") not in kinds:
        raise SystemExit("only checkpoints of " + ", ".join(kinds) + " (model_type) can be recorded")
    for file in sorted(folder.glob("*.safetensors")):
        weights.update({name: t.to(torch.float32) for name, t in load_file(file).items()})
    model = kinds[config["model_type"]](folder, config, weights)
    model.names, model.parameters = sorted(weights), sum(t.numel() for t in weights.values())
    return model


def runs(ids):
    out = []
    for i in ids:
        if out and out[-1][0] == i:
            out[-1][1] += 1
        else:
            out.append([i, 1])
    return out


class Keep:
    """Activations by name while `on`; parts of a batch that come one after the other are joined."""

    def __init__(self):
        self.on, self.parts = True, {}

    def __call__(self, name, x):
        if self.on:
            self.parts.setdefault(name, []).append(x.detach().clone())

    def save(self, folder):
        stored, described = {}, {}
        for name, parts in self.parts.items():
            x = torch.cat(parts)
            n, batch = x.shape[1], min(3, x.shape[0])
            rows = sorted({*range(min(4, n)), *range(max(0, n - 4), n), n // 3, n // 2, *range(0, n, max(1, n // 24))})
            stored[name] = x[:batch, rows].contiguous()
            y = x.double()
            described[name] = {"shape": list(x.shape), "rows": rows, "batch": batch, "sum": y.sum().item(), "abs": y.abs().sum().item(),
                               "l2": y.pow(2).sum().sqrt().item()}
        save_file(stored, folder / "activations.safetensors")
        (folder / "activations.json").write_text(json.dumps(described))


@torch.no_grad()
def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("checkpoint", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--images", type=Path, required=True, help="folder of pictures")
    options.add_argument("--cases", type=Path, help="JSON file with a list `cases`; a golden.json will do")
    options.add_argument("--system", help="system prompt of cases that bring none (InternVL)")
    options.add_argument("--name", help="folder in OUT; the checkpoint's name unless given")
    o = options.parse_args()
    model = model_of(o.checkpoint)
    if o.cases:
        cases = json.loads(o.cases.read_text())["cases"]
    else:
        kinds = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
        files = sorted(f.name for f in o.images.iterdir() if f.suffix.lower() in kinds)
        own = o.checkpoint / "jvlm.json"                # where the checkpoint brings a question of its own, as weights/nano does
        question = json.loads(own.read_text())["ocr_question"] if own.exists() else model.question
        cases = [{**model.case([f], question), "max_new": 64} for f in files] + [model.case([], "What is OCR?")]
    name = o.name or o.checkpoint.resolve().name
    folder, images = o.out / name, o.out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    link = folder / "checkpoint"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(o.checkpoint.resolve(), target_is_directory=True)

    keep, done = Keep(), []
    for i, case in enumerate(cases):
        done.append(model.record(case, o.images, o.system, keep))
        if keep.on:
            keep.on = False
            keep.save(folder)
        for f in model.files(case):
            shutil.copyfile(o.images / f, images / f)
        d = done[-1]
        print(f"{name} case {i}: {d['length']} tokens, {len(d['greedy_ids'])} generated, {d['stop']}: {d['greedy_text']!r}", flush=True)
    golden = {"family": name, "parameters": model.parameters, "tensors": model.names, "cases": done,
              "tokenizer": [{"text": t, "ids": model.tokenizer(t).input_ids} for t in TEXTS]}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False))


if __name__ == "__main__":
    main()
