#!/usr/bin/env python3
"""What PyTorch and transformers make of the same shapes on the same card, beside kernels_bench (run.sh bench starts both).

    python3 tests/gpu/peers.py [--out FILE] [--commit HASH] [--kernels kernels.json] [--dry]

Attention: scaled_dot_product_attention with the FlashAttention-2 and the cuDNN back end, [7 tiles, 16 heads, 1025 tokens, 64], bf16. Products:
torch.matmul at kernels_bench's shapes. End to end: the 0.8B shape composed of transformers' InternVL vision tower and Llama, random weights, 7 tiles +
64 text and 128 new tokens, batch 1, bf16, sdpa, no compile. Times are medians of device events; operands come in turn from as many copies as outgrow the
cache. --dry runs the same code on the CPU, small, to see that it runs.
"""

import argparse
import datetime
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

CACHE = 256 << 20


def timed(work, dry, runs=30):
    """Median seconds of work(turn)."""
    for turn in range(3):
        work(turn)
    if dry:
        begin = time.perf_counter()
        work(0)
        return time.perf_counter() - begin
    times = []
    for turn in range(runs):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work(turn)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def graphed(work, dry, launches=16):
    """Seconds of one work(turn) out of a replayed graph, as kernels_bench times: launches without gaps between them."""
    if dry:
        return timed(work, dry)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for turn in range(3):
            work(turn)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for turn in range(launches):
            work(turn)
    return timed(lambda _: graph.replay(), dry, 9) / launches


def attention(device, dry, tell):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    tiles, heads, tokens, size = (1, 2, 65, 64) if dry else (7, 16, 1025, 64)
    turns = 2 if dry else max(2, CACHE // (3 * tiles * heads * tokens * size * 2) + 1)
    # Strided as a qkv product leaves them: (tiles, tokens, 3, heads, size).
    qkv = [torch.randn(tiles, tokens, 3, heads, size, device=device, dtype=torch.bfloat16) for _ in range(turns)]
    parts = [[x[:, :, i].transpose(1, 2) for i in range(3)] for x in qkv]
    backends = {"math": SDPBackend.MATH} if dry else {"flash-attention-2": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    for name, backend in backends.items():
        try:
            with sdpa_kernel(backend), torch.inference_mode():
                seconds = graphed(lambda i: F.scaled_dot_product_attention(*parts[i % turns]), dry)
        except RuntimeError as e:
            tell("attention", name, error=str(e).splitlines()[0][:200])
            continue
        operations = 4 * tiles * heads * tokens**2 * size
        tell("attention", name, shape=[tiles, heads, tokens, size], seconds=seconds, operations_per_second=operations / seconds)


def products(device, dry, tell):
    shapes = [(65, 96, 64)] if dry else [
        (7175, 3072, 1024), (7175, 1024, 1024), (7175, 4096, 1024), (7175, 1024, 4096), (1025, 3072, 1024), (1025, 4096, 1024), (1792, 1536, 4096), (1792, 2560, 4096),
        (1856, 3072, 1536), (1856, 8192, 1536), (1856, 1536, 4096), (1856, 3840, 2560), (1856, 13824, 2560), (1856, 2560, 6912), (8192, 8192, 8192)]
    for m, n, k in shapes:
        turns = 2 if dry else max(2, min(64, CACHE // (2 * n * k) + 1))
        x = [torch.randn(m, k, device=device, dtype=torch.bfloat16) for _ in range(turns)]
        w = [torch.randn(n, k, device=device, dtype=torch.bfloat16) for _ in range(turns)]
        out = torch.empty(m, n, device=device, dtype=torch.bfloat16)
        with torch.inference_mode():
            seconds = graphed(lambda i: torch.matmul(x[i % turns], w[i % turns].T, out=out), dry)
        tell("product", "torch.matmul", shape=[m, n, k], seconds=seconds, operations_per_second=2 * m * n * k / seconds)


class Composed(torch.nn.Module):
    """Vision tower, pixel shuffle, two-layer connector, Llama: H2OVL-Mississippi-0.8B's shape."""

    def __init__(self, dry):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.models.internvl.configuration_internvl import InternVLVisionConfig
        from transformers.models.internvl.modeling_internvl import InternVLVisionModel
        h, H = (128, 192) if dry else (1024, 1536)
        # The names differ between versions of transformers; what a version does not know is an attribute that nobody reads.
        vision = InternVLVisionConfig(
            hidden_size=h, num_hidden_layers=2 if dry else 24, num_attention_heads=h // 64, intermediate_size=4 * h, image_size=[448, 448], patch_size=[14, 14],
            attention_bias=True, use_qk_norm=False, hidden_act="gelu", norm_type="layer_norm", layer_norm_eps=1e-6, use_absolute_position_embeddings=True,
            use_mean_pooling=False)
        vision._attn_implementation = "sdpa"
        self.vision = InternVLVisionModel(vision)
        llama = LlamaConfig(
            hidden_size=H, intermediate_size=256 if dry else 4096, num_hidden_layers=2 if dry else 16, num_attention_heads=H // 96, num_key_value_heads=H // 192, head_dim=96,
            vocab_size=300 if dry else 32010, rope_theta=1e5, max_position_embeddings=8192, tie_word_embeddings=False, bos_token_id=1, eos_token_id=None, pad_token_id=0)
        llama._attn_implementation = "sdpa"
        self.llama = LlamaForCausalLM(llama)
        self.connector = torch.nn.Sequential(torch.nn.LayerNorm(4 * h), torch.nn.Linear(4 * h, H), torch.nn.GELU(), torch.nn.Linear(H, H))

    def rows(self, pixels):
        x = self.vision(pixel_values=pixels).last_hidden_state[:, 1:]
        b, n, h = x.shape
        g = int(n**0.5)
        x = x.reshape(b, g // 2, 2, g // 2, 2, h).permute(0, 1, 3, 4, 2, 5).reshape(b, n // 4, 4 * h)
        return self.connector(x).flatten(0, 1)

    def answer(self, pixels, text, new):
        rows = self.rows(pixels)
        embeds = torch.cat([rows, self.llama.get_input_embeddings()(text)])[None]
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        return self.llama.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, use_cache=True)


def end_to_end(device, dry, tell):
    tiles, text_tokens, new = (1, 8, 4) if dry else (7, 64, 128)
    torch.manual_seed(1)
    with torch.inference_mode():
        model = Composed(dry).to(device=device, dtype=torch.bfloat16).eval()
        pixels = torch.randn(tiles, 3, 448, 448, device=device, dtype=torch.bfloat16)
        text = torch.randint(3, 250, (text_tokens,), device=device)
        runs = 1 if dry else 5
        model.answer(pixels, text, new)
        times, vision_times = [], []
        for _ in range(runs):
            for work, kept in ((lambda: model.rows(pixels), vision_times), (lambda: model.answer(pixels, text, new), times)):
                if not dry:
                    torch.cuda.synchronize()
                begin = time.perf_counter()
                result = work()
                if not dry:
                    torch.cuda.synchronize()
                kept.append(time.perf_counter() - begin)
        if result.shape[-1] != new:
            raise RuntimeError(f"{result.shape[-1]} new tokens instead of {new}")
    tell("end to end", "transformers", shape="h2ovl-0.8b", tiles=tiles, text=text_tokens, new=new, seconds=statistics.median(times), vision_seconds=statistics.median(vision_times))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--kernels")
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    device = "cpu" if options.dry else "cuda:0"
    results, failed = [], False

    def tell(what, by, **figures):
        results.append({"what": what, "by": by, **figures})
        print(what, by, {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figures.items()}, flush=True)

    for part in (attention, products, end_to_end):
        try:
            part(device, options.dry, tell)
        except Exception as e:  # one comparator that does not run must not hide the others
            failed = True
            tell(part.__name__, "peers.py", error=f"{type(e).__name__}: {e}"[:300])
    try:
        import transformers
        version = transformers.__version__
    except ImportError:
        version = "absent"
    report = {"card": "cpu" if options.dry else torch.cuda.get_device_name(0), "date": datetime.date.today().isoformat(), "commit": options.commit,
              "torch": torch.__version__, "transformers": version, "results": results}
    if options.kernels and not options.dry:
        ours = json.load(open(options.kernels))["kernels"]
        mine = next((k for k in ours if k["kernel"] == "attention_dense" and k["shape"].startswith("7 tiles")), None)
        for r in results:
            if mine and r["what"] == "attention" and "seconds" in r:
                print(f"dense attention, 7 tiles: jvlm {mine['seconds'] * 1e6:.1f} us, {r['by']} {r['seconds'] * 1e6:.1f} us")
    if options.out:
        json.dump(report, open(options.out, "w"), indent=1)
    return failed


if __name__ == "__main__":
    sys.exit(main())
