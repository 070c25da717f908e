#!/usr/bin/env python3
"""Times what others make of the same shapes, beside jvlm, in one run on this machine.

    python3 -m venv peers && peers/bin/pip install -r tests/bench/peers/requirements.txt
    peers/bin/python tests/bench/peers/peers.py [--shape h2ovl-0.8b] [--threads N] [--only jvlm,torch,openvino,llama_cpp] [--out FILE]

Shapes come from tests/configs; weights are random, of the size that trained ones have. Stages: the vision tower over one tile (tower only,
without the connector), a prompt of 1,800 tokens, one token behind 1,800. jvlm's own stages are those of `jvlm bench` (tower and connector; a
prompt of 1,856 tokens; 64 tokens behind 2,048): the comparison goes by work per second, so that the difference does not count.
Times are the median of the runs; a first run warms up. Prints a table and writes JSON.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONFIGS = {"h2ovl-0.8b": "h2ovl-mississippi-800m.json", "h2ovl-2b": "h2ovl-mississippi-2b.json"}
PROMPT = 1800
SECONDS = 3
RUNS = 3


class Shape:
    """The numbers of a config, and what its stages must do: the formulas of java/jvlm-cli's Work."""

    def __init__(self, name):
        config = json.loads((ROOT / "tests/configs" / CONFIGS[name]).read_text())
        v, d = config["vision_config"], config["llm_config"]
        self.h, self.heads, self.mlp, self.layers = (
            v["hidden_size"], v["num_attention_heads"], v["intermediate_size"], v["num_hidden_layers"])
        self.patch, self.image = v["patch_size"], v["image_size"]
        self.grid = self.image // self.patch
        self.tokens = 1 + self.grid**2
        self.H, self.dheads, self.kv, self.dmlp, self.dlayers, self.vocabulary = (
            d["hidden_size"], d["num_attention_heads"], d["num_key_value_heads"], d["intermediate_size"], d["num_hidden_layers"],
            d["vocab_size"])
        self.D = d.get("head_dim") or self.H // self.dheads

    def tower_flop(self):
        layer = 2 * self.tokens * (4 * self.h**2 + 2 * self.h * self.mlp) + 4 * self.tokens**2 * self.h
        return self.layers * layer + 2 * self.grid**2 * self.h * 3 * self.patch**2

    def matrices(self):
        return self.dlayers * (self.H * (self.dheads + 2 * self.kv) * self.D + self.H * self.dheads * self.D + 3 * self.H * self.dmlp)

    def prompt_flop(self, n):
        return 2 * n * self.matrices() + self.dlayers * 2 * self.dheads * self.D * n * (n + 1) + 2 * self.vocabulary * self.H

    def step_bytes(self, context, size):
        return size * (self.matrices() + self.vocabulary * self.H + 2 * self.dlayers * self.kv * self.D * context)


def median_time(work):
    work()
    seconds, end = [], time.perf_counter() + SECONDS
    while len(seconds) < RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def row(who, stage, seconds, work, unit):
    print(f"  {who}: {stage} {seconds:.4f} s", file=sys.stderr)
    return {"who": who, "stage": stage, "seconds": seconds, "work": work, "unit": unit, "giga_per_second": work / seconds * 1e-9}


def tower(torch, s):
    """The vision tower as a module: pixels of one tile to hidden states."""
    nn, f = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(s.h, eps=1e-6), nn.LayerNorm(s.h, eps=1e-6)
            self.qkv, self.out = nn.Linear(s.h, 3 * s.h), nn.Linear(s.h, s.h)
            self.up, self.down = nn.Linear(s.h, s.mlp), nn.Linear(s.mlp, s.h)
            self.scale1, self.scale2 = nn.Parameter(torch.full((s.h,), 0.1)), nn.Parameter(torch.full((s.h,), 0.1))

        def forward(self, x):
            q, k, v = self.qkv(self.norm1(x)).view(1, s.tokens, 3, s.heads, s.h // s.heads).permute(2, 0, 3, 1, 4).unbind(0)
            x = x + self.scale1 * self.out(f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, s.tokens, s.h))
            return x + self.scale2 * self.down(f.gelu(self.up(self.norm2(x))))

    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, s.h, s.patch, s.patch)
            self.first, self.positions = nn.Parameter(torch.zeros(1, 1, s.h)), nn.Parameter(torch.zeros(1, s.tokens, s.h))
            self.blocks = nn.ModuleList(Block() for _ in range(s.layers))

        def forward(self, pixels):
            x = torch.cat([self.first, self.patches(pixels).flatten(2).transpose(1, 2)], 1) + self.positions
            for block in self.blocks:
                x = block(x)
            return x

    return Tower().eval()


def torch_decoder(torch, s, dtype):
    """A function (tokens, past) that runs that many tokens behind a cache of `past` ones and returns the last one's logits."""
    f = torch.nn.functional

    def weight(n, k):
        return (torch.randn(n, k) * k**-0.5).to(dtype)

    layers = [(weight((s.dheads + 2 * s.kv) * s.D, s.H), weight(s.H, s.dheads * s.D), weight(2 * s.dmlp, s.H), weight(s.H, s.dmlp))
              for _ in range(s.dlayers)]
    head, embed, gain = weight(s.vocabulary, s.H), weight(s.vocabulary, s.H), torch.ones(s.H, dtype=dtype)
    cache = [torch.randn(2, s.kv, PROMPT + 1, s.D).to(dtype) for _ in range(s.dlayers)]
    angle = torch.outer(torch.arange(PROMPT + 1.0), 10000 ** (-torch.arange(0, s.D, 2) / s.D))
    cos, sin = torch.cat([angle.cos()] * 2, -1).to(dtype), torch.cat([angle.sin()] * 2, -1).to(dtype)

    def rope(x, at):
        a, b = x.chunk(2, -1)
        return x * cos[at] + torch.cat([-b, a], -1) * sin[at]

    def run(tokens, past):
        at = slice(past, past + tokens)
        x = embed[torch.arange(tokens) % s.vocabulary]
        for (qkv, out, gate_up, down), (keys, values) in zip(layers, cache):
            y = f.linear(f.rms_norm(x, (s.H,), gain, 1e-5), qkv).view(tokens, -1, s.D).transpose(0, 1)
            q, k, v = y.split([s.dheads, s.kv, s.kv])
            keys[:, at], values[:, at] = rope(k, at), v
            a = f.scaled_dot_product_attention(rope(q, at)[None], keys[None, :, :past + tokens], values[None, :, :past + tokens],
                                               is_causal=tokens > 1, enable_gqa=True)
            x = x + f.linear(a[0].transpose(0, 1).reshape(tokens, -1), out)
            gate, up = f.linear(f.rms_norm(x, (s.H,), gain, 1e-5), gate_up).chunk(2, -1)
            x = x + f.linear(f.silu(gate) * up, down)
        return f.linear(f.rms_norm(x[-1:], (s.H,), gain, 1e-5), head)

    return run


def measure_torch(s, threads):
    import torch

    torch.set_num_threads(threads)
    rows = []
    with torch.inference_mode():
        for name, dtype, size in (("f32", torch.float32, 4), ("bf16", torch.bfloat16, 2)):
            who = f"PyTorch {torch.__version__.split('+')[0]} {name}"
            module, pixels = tower(torch, s).to(dtype), torch.randn(1, 3, s.image, s.image).to(dtype)
            rows.append(row(who, "vision", median_time(lambda: module(pixels)), s.tower_flop(), "FLOP"))
            del module
            run = torch_decoder(torch, s, dtype)
            rows.append(row(who, "prefill", median_time(lambda: run(PROMPT, 0)), s.prompt_flop(PROMPT), "FLOP"))
            rows.append(row(who, "decode", median_time(lambda: run(1, PROMPT)), s.step_bytes(PROMPT, size), "bytes"))
            del run
    return rows


def measure_openvino(s, threads):
    import openvino
    import torch

    rows = []
    module, pixels = tower(torch, s), torch.randn(1, 3, s.image, s.image)
    with torch.no_grad():
        converted = openvino.convert_model(module, example_input=pixels)
    for name in ("f32", "bf16"):
        compiled = openvino.Core().compile_model(
            converted, "CPU", {"INFERENCE_PRECISION_HINT": name, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
        request = compiled.create_infer_request()
        who = f"OpenVINO {openvino.__version__.split('-')[0]} {name}"
        rows.append(row(who, "vision", median_time(lambda: request.infer([pixels.numpy()])), s.tower_flop(), "FLOP"))
    return rows


def write_gguf(s, kind, path):
    """A decoder of this shape with random weights, as llama.cpp reads it: matrices in q4_0, q8_0 or bf16."""
    import gguf
    import numpy

    quantisation = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0,
                    "bf16": gguf.GGMLQuantizationType.BF16}[kind]
    random, writer = numpy.random.default_rng(1), gguf.GGUFWriter(path, "llama")
    writer.add_block_count(s.dlayers)
    writer.add_context_length(8192)
    writer.add_embedding_length(s.H)
    writer.add_feed_forward_length(s.dmlp)
    writer.add_head_count(s.dheads)
    writer.add_head_count_kv(s.kv)
    writer.add_key_length(s.D)
    writer.add_value_length(s.D)
    writer.add_rope_dimension_count(s.D)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(s.vocabulary)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name, n, k):
        values = random.standard_normal((n, k), numpy.float32) * numpy.float32(k**-0.5)
        writer.add_tensor(name, gguf.quants.quantize(values, quantisation), raw_dtype=quantisation)

    def gain(name):
        writer.add_tensor(name, numpy.ones(s.H, numpy.float32))

    matrix("token_embd.weight", s.vocabulary, s.H)
    matrix("output.weight", s.vocabulary, s.H)
    gain("output_norm.weight")
    for i in range(s.dlayers):
        at = f"blk.{i}."
        gain(at + "attn_norm.weight")
        gain(at + "ffn_norm.weight")
        matrix(at + "attn_q.weight", s.dheads * s.D, s.H)
        matrix(at + "attn_k.weight", s.kv * s.D, s.H)
        matrix(at + "attn_v.weight", s.kv * s.D, s.H)
        matrix(at + "attn_output.weight", s.H, s.dheads * s.D)
        matrix(at + "ffn_gate.weight", s.dmlp, s.H)
        matrix(at + "ffn_up.weight", s.dmlp, s.H)
        matrix(at + "ffn_down.weight", s.H, s.dmlp)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def measure_llama(s, threads):
    import llama_cpp

    llama_cpp.llama_backend_init()
    rows, size = [], {"q4_0": 18 / 32, "q8_0": 34 / 32, "bf16": 2}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("q4_0", "q8_0", "bf16"):
            path = os.path.join(folder, "decoder.gguf")
            write_gguf(s, kind, path)
            model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = 2048, PROMPT, 512
            params.n_threads = params.n_threads_batch = threads
            context = llama_cpp.llama_init_from_model(model, params)
            memory = llama_cpp.llama_get_memory(context)
            batch = llama_cpp.llama_batch_init(PROMPT, 0, 1)

            def decode(first, count):
                # What lies behind `first` is forgotten: each run writes it anew.
                llama_cpp.llama_memory_seq_rm(memory, 0, first, -1)
                batch.n_tokens = count
                for i in range(count):
                    batch.token[i], batch.pos[i] = (first + i) % s.vocabulary, first + i
                    batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, i == count - 1
                if llama_cpp.llama_decode(context, batch):
                    raise RuntimeError("llama_decode failed")

            who = f"llama.cpp ({llama_cpp.__version__}) {kind}"
            rows.append(row(who, "prefill", median_time(lambda: decode(0, PROMPT)), s.prompt_flop(PROMPT), "FLOP"))
            rows.append(row(who, "decode", median_time(lambda: decode(PROMPT, 1)), s.step_bytes(PROMPT, size[kind]), "bytes"))
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_free(context)
            llama_cpp.llama_model_free(model)
    return rows


def measure_jvlm(shape):
    command = [str(ROOT / "jvlm"), "bench", "--json", "--shape", shape, "--stages", "vision,prefill,decode"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    rows = []
    for run in report["runs"]:
        for stage in run["stages"]:
            if stage.get("tiles", 1) == 1 and stage.get("batch", 1) == 1:
                # `jvlm bench` decodes 64 tokens a run.
                each = 64 if stage["stage"] == "decode" else 1
                rows.append(row(f"jvlm {run['precision']}", stage["stage"], stage["seconds"] / each, stage["work"] / each, stage["unit"]))
    return rows, report["ceilings"]


PEERS = {"torch": measure_torch, "openvino": measure_openvino, "llama_cpp": measure_llama}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=CONFIGS, default="h2ovl-0.8b")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="jvlm,torch,openvino,llama_cpp")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/bench/results" / "peers.json")
    args = parser.parse_args()
    shape, rows, ceilings = Shape(args.shape), [], None
    for who in args.only.split(","):
        if who == "jvlm":
            own, ceilings = measure_jvlm(args.shape)
            rows += own
        elif who in PEERS and importlib.util.find_spec(who):
            rows += PEERS[who](shape, args.threads)
        else:
            print(f"not measured: {who} is not installed", file=sys.stderr)
    best = {stage: max((r["giga_per_second"] for r in rows if r["stage"] == stage and r["who"].startswith("jvlm")), default=None)
            for stage in ("vision", "prefill", "decode")}
    print(f"{args.shape}, {args.threads} threads, {time.strftime('%Y-%m-%d')}")
    print(f"{'':24}{'stage':10}{'seconds':>10}{'G/s':>10}  jvlm's best is")
    for r in sorted(rows, key=lambda r: ("vision prefill decode".split().index(r["stage"]), r["seconds"])):
        # Bytes differ by precision: for decoding it is the time of a token that counts.
        ours = min((q["seconds"] for q in rows if q["who"].startswith("jvlm") and q["stage"] == "decode"), default=None)
        factor = (r["seconds"] / ours if ours else None) if r["stage"] == "decode" else best[r["stage"]] and best[r["stage"]] / r["giga_per_second"]
        print(f"{r['who']:24}{r['stage']:10}{r['seconds']:10.4f}{r['giga_per_second']:10.1f}" + (f"  {factor:.2f} x as fast" if factor else ""))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"shape": args.shape, "threads": args.threads, "date": time.strftime("%Y-%m-%d"),
                                    "python": platform.python_version(), "command": " ".join(["peers.py"] + sys.argv[1:]),
                                    "ceilings": ceilings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
