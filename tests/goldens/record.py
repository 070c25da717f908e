#!/usr/bin/env python3
"""Records what the Python reference makes of an H2OVL checkpoint, as a folder for `./test goldens`.

    python3 -m venv venv && venv/bin/pip install -r tests/goldens/requirements.txt
    venv/bin/python tests/goldens/record.py CHECKPOINT OUT --images PICTURES [--cases FILE] [--name NAME]
    ./test goldens OUT

CHECKPOINT is the folder as it was published (config.json, tokenizer, safetensors). OUT gets NAME/ (the checkpoint as a link, golden.json,
activations.json, activations.safetensors) and images/; further checkpoints may be recorded into the same OUT. The layout is described in
PROVENANCE.md beside this file.

--cases names a JSON file with a list `cases`, each with `images` (files in PICTURES, in order), `question`, and, if need be, `history`
([[question, answer], ...]), `max_tiles`, `msac` and `max_new`; `<image>` and a newline mark where a picture stands, else pictures come
first. A golden.json is such a file. Without it every picture in PICTURES is asked the model's OCR question, and one question comes
without a picture. Special tokens typed into a question are matched as such here, while jvlm keeps what users write as text: leave
them out.

Nothing in the checkpoint's folder is executed (no trust_remote_code): the decoder is transformers' Llama or Mistral, the tokenizer its
LlamaTokenizer, and what H2OVL's own code adds (tiling, vision tower, pixel shuffle, projector, prompt, greedy loop) is written out
below in plain PyTorch. Everything is float32 on the CPU; nothing is rounded to bfloat16. Memory: four bytes a parameter, and as much
again while loading.
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
OCR_QUESTION = "Read the text and provide word by word ocr for the document."
TIE = 0.004          # where the next two candidates are closer, two correct implementations may differ
TEXTS = ["", " ", "Hello", " Hello", "Hello world", "  two  blanks  ", "line\nline\n\n\tx", "12,345.67 EUR", "Größe naïve", "人工智能", "👍🏽 🇩🇪",
         "<|prompt|>Hi<|end|><|answer|>", "<img></img>\nx", "a<|end|>b"]


# ---- pictures to tiles (H2OVL image_process.py) ---------------------------------------------------------------------------------------

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


# ---- vision tower and projector -------------------------------------------------------------------------------------------------------

class Vision:
    def __init__(self, config, weights):
        self.c, self.w = config["vision_config"], weights
        if self.c.get("norm_type", "layer_norm") != "layer_norm" or self.c.get("qk_normalization") or self.c.get("hidden_act") != "gelu":
            raise SystemExit("this vision tower is not the 300M InternViT of H2OVL")
        if config.get("select_layer", -1) != -1 or config.get("ps_version") != "v2" or config.get("downsample_ratio") != 0.5:
            raise SystemExit("select_layer, ps_version or downsample_ratio are not H2OVL's")

    def norm(self, x, name):
        w = self.w
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], self.c["layer_norm_eps"])

    def linear(self, x, name):
        return torch.nn.functional.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def __call__(self, x, keep):
        w, heads, at = self.w, self.c["num_attention_heads"], "vision_model.embeddings."
        x = torch.nn.functional.conv2d(x, w[at + "patch_embedding.weight"], w[at + "patch_embedding.bias"], stride=self.c["patch_size"])
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([w[at + "class_embedding"].expand(x.shape[0], 1, -1), x], 1) + w[at + "position_embedding"]
        keep("vision.embed", x)
        b, n, h = x.shape
        for i in range(self.c["num_hidden_layers"]):
            at = f"vision_model.encoder.layers.{i}."
            q, k, v = self.linear(self.norm(x, at + "norm1"), at + "attn.qkv").view(b, n, 3, heads, h // heads).permute(2, 0, 3, 1, 4)
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


# ---- the whole model ------------------------------------------------------------------------------------------------------------------

class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        if self.config.get("model_type") != "h2ovl_chat":
            raise SystemExit("only H2OVL checkpoints (model_type h2ovl_chat) can be recorded")
        weights = {}
        for file in sorted(folder.glob("*.safetensors")):
            weights.update({name: t.to(torch.float32) for name, t in load_file(file).items()})
        self.names, self.parameters = sorted(weights), sum(t.numel() for t in weights.values())
        self.vision = Vision(self.config, weights)
        llm = self.config["llm_config"]
        kind = {"LlamaForCausalLM": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
                "MistralForCausalLM": (transformers.MistralConfig, transformers.MistralForCausalLM)}[llm["architectures"][0]]
        kwargs = {k: v for k, v in llm.items() if k not in ("architectures", "torch_dtype", "attn_implementation")}
        with transformers.modeling_utils.no_init_weights():
            self.lm = kind[1](kind[0](**kwargs, attn_implementation="eager")).eval()
        prefix = "language_model."
        state = {n[len(prefix):]: t for n, t in weights.items() if n.startswith(prefix) and not n.endswith("rotary_emb.inv_freq")}
        self.lm.load_state_dict(state, strict=not llm.get("tie_word_embeddings", False))
        self.lm.to(torch.float32)
        if (folder / "tokenizer.model").exists():
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=False, trust_remote_code=False)
        else:
            self.tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        self.row, self.end = self.tokenizer.convert_tokens_to_ids(["<IMG_CONTEXT>", "<|end|>"])

    def decode(self, ids):
        special = {i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        return self.tokenizer.decode([i for i in ids if i not in special], spaces_between_special_tokens=False)

    def record(self, case, images, keep):
        config = self.config
        most = case.get("max_tiles") or config.get("max_dynamic_patch", 6)
        msac = case.get("msac", config.get("use_msac", False) and len(case["images"]) == 1)
        pictures = [tiles_of(Image.open(images / f).convert("RGB"), config, most, msac) for f in case["images"]]
        question = case["question"]
        if pictures and not case.get("history") and "<image>" not in question:
            question = "<image>\n" * len(pictures) + question
        prompt = "".join(f"<|prompt|>{q}<|end|><|answer|>{a}<|end|>" for q, a in case.get("history") or [])
        prompt += f"<|prompt|>{question}<|end|><|answer|>"
        if prompt.count("<image>") != len(pictures):
            raise SystemExit(f"{case['question']!r}: {len(pictures)} pictures, but {prompt.count('<image>')} places for them")

        rows = [self.vision(pixels(t[i:i + 4]), keep) for t in pictures for i in range(0, len(t), 4)]
        vision = torch.cat(rows) if rows else None
        text = prompt
        for t in pictures:
            text = text.replace("<image>", "<img>" + "<IMG_CONTEXT>" * (len(t) * vision.shape[1]) + "</img>", 1)
        ids = self.tokenizer(text).input_ids
        x = self.lm.get_input_embeddings()(torch.tensor([ids]))
        if pictures:
            x[0, torch.tensor(ids) == self.row] = vision.flatten(0, 1)

        # One forward over the prompt, then one a token, as generate() does it.
        out = self.lm(inputs_embeds=x, use_cache=True, output_hidden_states=keep.on)
        if keep.on:
            states = out.hidden_states
            keep("decoder.embed", states[0])
            for i in range(1, len(states) - 1):
                keep(f"decoder.{i - 1}", states[i])
            keep("decoder.norm", states[-1])
            keep("logits", out.logits[:, -1:])
        greedy, steps, stop, limit = [], [], "limit", case.get("max_new", 24)
        while len(greedy) < limit:
            best = torch.topk(out.logits[0, -1], 5)
            margin = (best.values[0] - best.values[1]).item()
            if margin < TIE:
                stop = "tie"
                break
            steps.append({"ids": best.indices.tolist(), "logits": [round(v, 5) for v in best.values.tolist()], "margin": round(margin, 5)})
            greedy.append(best.indices[0].item())
            if greedy[-1] == self.end:
                stop = "eos"
                break
            if len(greedy) < limit:
                out = self.lm(input_ids=torch.tensor([greedy[-1:]]), past_key_values=out.past_key_values, use_cache=True)

        samples = [] if vision is None else [[round(v, 5) for v in tile[r, :6].tolist()] for tile in vision
                                             for r in (0, min(tile.shape[0] // 2 + 3, tile.shape[0] - 1))]
        return {
            "images": case["images"], "question": case["question"], "history": case.get("history") or [], "system": None, "max_tiles": most,
            "msac": msac, "tiles": [len(t) for t in pictures],
            "tiles_sha256": [[hashlib.sha256(t.tobytes()).hexdigest() for t in p] for p in pictures],
            "prompt": prompt, "ids_rle": runs(ids), "ids_sha256": hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
            "length": len(ids), "connector_samples": samples, "max_new": limit, "stop": stop, "greedy_ids": greedy,
            "greedy_text": self.decode(greedy), "steps": steps,
            "min_margin": min((s["margin"] for s in steps), default=None)}


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
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("checkpoint", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--images", type=Path, required=True, help="folder of pictures")
    options.add_argument("--cases", type=Path, help="JSON file with a list `cases`; a golden.json will do")
    options.add_argument("--name", help="folder in OUT; the checkpoint's name unless given")
    o = options.parse_args()
    if o.cases:
        cases = json.loads(o.cases.read_text())["cases"]
    else:
        kinds = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
        files = sorted(f.name for f in o.images.iterdir() if f.suffix.lower() in kinds)
        own = o.checkpoint / "jvlm.json"                # where the checkpoint brings a question of its own, as weights/nano does
        question = json.loads(own.read_text())["ocr_question"] if own.exists() else OCR_QUESTION
        cases = [{"images": [f], "question": question, "max_new": 64} for f in files] + [{"images": [], "question": "What is OCR?"}]
    model = Model(o.checkpoint)
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
        done.append(model.record(case, o.images, keep))
        if keep.on:
            keep.on = False
            keep.save(folder)
        for f in case["images"]:
            shutil.copyfile(o.images / f, images / f)
        d = done[-1]
        print(f"{name} case {i}: {d['length']} tokens, {len(d['greedy_ids'])} generated, {d['stop']}: {d['greedy_text']!r}", flush=True)
    golden = {"family": name, "parameters": model.parameters, "tensors": model.names, "cases": done,
              "tokenizer": [{"text": t, "ids": model.tokenizer(t).input_ids} for t in TEXTS]}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False))


if __name__ == "__main__":
    main()
