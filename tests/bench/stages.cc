// Times of the stages of a model at its true shape with seeded weights, without Java: vision (1 and 7 tiles), prefill, decode.
//   stages h2ovl-0.8b|h2ovl-2b bf16|int8|float32 [rounds]
// One JSON object a stage: seconds (best of the rounds), work, and work per second. The ceilings to hold them against: bench/ceilings.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "engine/engine.h"

using namespace jvlm;

namespace {

// With JVLM_CPU_TIME set, time that the process was given, all threads together: on one thread (taskset) of a busy machine it says more.
double now() {
  static const bool given = std::getenv("JVLM_CPU_TIME") != nullptr;
  timespec t;
  clock_gettime(given ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

std::string spec_text(bool two) {
  std::string s =
      "vision.hidden 1024\nvision.heads 16\nvision.head_size 64\nvision.mlp 4096\nvision.layers 24\nvision.patch 14\nvision.image 448\n"
      "vision.norm layer_norm\nvision.eps 1e-6\nvision.activation gelu\nvision.mean 0.485 0.456 0.406\nvision.std 0.229 0.224 0.225\n"
      "connector.eps 1e-5\ndecoder.vocabulary 32010\ndecoder.eps 1e-5\ndecoder.context 8192\ndecoder.window 0\ndecoder.activation silu\n"
      "decoder.kv_heads 8\n";
  return s + (two ? "decoder.hidden 2560\ndecoder.heads 32\ndecoder.head_size 80\ndecoder.mlp 6912\ndecoder.layers 24\ndecoder.rope_theta 10000\n"
                  : "decoder.hidden 1536\ndecoder.heads 16\ndecoder.head_size 96\ndecoder.mlp 4096\ndecoder.layers 16\ndecoder.rope_theta 100000\n");
}

std::string manifest_text(const Spec& s) {
  std::string text;
  int64_t offset = 0;
  auto add = [&](const std::string& target, int64_t n, int64_t k = 1) {
    text += target + "\t0\t" + std::to_string(n) + "\t" + std::to_string(k) + "\tBF16\tseed:1\t" + std::to_string(offset) + "\n";
    offset += n * k * 2;
  };
  auto both = [&](const std::string& target, int64_t n, int64_t k) { add(target + ".weight", n, k), add(target + ".bias", n); };
  const auto& v = s.vision;
  const auto& d = s.decoder;
  const int64_t h = v.hidden;
  both("vision.patch", h, 3LL * v.patch * v.patch);
  add("vision.class", h), add("vision.positions", v.tokens(), h);
  for (int i = 0; i < v.layers; ++i) {
    const std::string at = "vision." + std::to_string(i) + ".";
    both(at + "norm1", h, 1), both(at + "attn.qkv", 3 * h, h), both(at + "attn.out", h, h), add(at + "scale1", h);
    both(at + "norm2", h, 1), both(at + "mlp.up", v.mlp, h), both(at + "mlp.down", h, v.mlp), add(at + "scale2", h);
  }
  both("connector.norm", 4 * h, 1), both("connector.up", d.hidden, 4 * h), both("connector.down", d.hidden, d.hidden);
  add("decoder.embed.weight", d.vocabulary, d.hidden);
  for (int i = 0; i < d.layers; ++i) {
    const std::string at = "decoder." + std::to_string(i) + ".";
    add(at + "attn_norm.weight", d.hidden), add(at + "attn.qkv.weight", d.qkv_width(), d.hidden), add(at + "attn.out.weight", d.hidden, d.attn_width());
    add(at + "mlp_norm.weight", d.hidden), add(at + "mlp.gate_up.weight", 2LL * d.mlp, d.hidden), add(at + "mlp.down.weight", d.hidden, d.mlp);
  }
  add("decoder.norm.weight", d.hidden), add("decoder.head.weight", d.vocabulary, d.hidden);
  return text;
}

struct Steps {
  EngineState& engine;
  int32_t page_tokens = 64;

  // `fresh` new tokens for each of `sequences` sequences that have `past` tokens already.
  double run(int32_t sequences, int32_t past, int32_t fresh, int32_t logits) {
    std::vector<int32_t> token, row, start{0}, before, length, page_start{0}, page, logits_row;
    const int32_t pages = (past + fresh + page_tokens - 1) / page_tokens;
    for (int32_t s = 0; s < sequences; ++s) {
      for (int32_t i = 0; i < fresh; ++i) token.push_back(100 + i * 7 % 30000), row.push_back(-1);
      start.push_back(static_cast<int32_t>(token.size()));
      before.push_back(past), length.push_back(past + fresh);
      for (int32_t i = 0; i < pages; ++i) page.push_back(s * pages + i);
      page_start.push_back(static_cast<int32_t>(page.size()));
      if (logits) logits_row.push_back(static_cast<int32_t>(token.size()) - 1);
    }
    std::vector<int32_t> ids(static_cast<size_t>(sequences));
    const double begin = now();
    engine.submit([&](Batch& b) {
      b.assign(static_cast<int32_t>(token.size()), token.data(), row.data(), sequences, start.data(), before.data(), length.data(), page_start.data(), page.data(),
               static_cast<int32_t>(logits_row.size()), logits_row.data(), engine.limits());
    });
    engine.collect(ids.data());
    return now() - begin;
  }
};

void line(const char* stage, double seconds, double work, const char* unit) {
  std::printf("{\"stage\": \"%s\", \"seconds\": %.6f, \"%s\": %.4g, \"g_per_second\": %.2f}\n", stage, seconds, unit, work, work / seconds * 1e-9);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("stages h2ovl-0.8b|h2ovl-2b bf16|int8|float32 [rounds]\n", stderr), 64;
  const std::string text = spec_text(std::string(argv[1]) == "h2ovl-2b"), precision = argv[2];
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const Spec spec = parse_spec(text);
  const auto& v = spec.vision;
  const auto& d = spec.decoder;
  constexpr int32_t prompt = 1856, context = 2048, sequences = 4;
  EngineState engine("cpu", text, manifest_text(spec),
                     "precision " + precision + "\npages 160\npage_tokens 64\nsequences 4\nstep_tokens 1856\nvision_rows 1792\nencode_tiles 7\ncontext 2304\n", nullptr);
  Steps steps{engine};

  const double tokens = v.tokens(), h = v.hidden;
  const double tile = v.layers * (2 * tokens * (4 * h * h + 2 * h * v.mlp) + 4 * tokens * tokens * h) + 2 * tokens * h * 3 * v.patch * v.patch +
                      2. * spec.rows_per_tile() * (4 * h * d.hidden + static_cast<double>(d.hidden) * d.hidden);
  std::vector<uint8_t> rgb(static_cast<size_t>(7) * 448 * 448 * 3);
  for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<uint8_t>(i * 7919 >> 3);
  for (int tiles : {1, 7}) {
    double best = 1e9;
    for (int r = 0; r < rounds + 1; ++r) {
      const double start = now();
      engine.encode(rgb.data(), tiles, 448, 448, 0);
      best = std::min(best, now() - start);
    }
    line(tiles == 1 ? "vision of 1 tile" : "vision of 7 tiles", best, tiles * tile, "flop");
  }

  const double matrices = static_cast<double>(d.layers) * d.hidden * (d.qkv_width() + d.attn_width() + 3. * d.mlp), head = static_cast<double>(d.vocabulary) * d.hidden;
  double best = 1e9;
  for (int r = 0; r < rounds; ++r) best = std::min(best, steps.run(1, 0, prompt, 1));
  line("prefill of 1856 tokens", best, 2 * (prompt * matrices + head) + d.layers * 2. * prompt * prompt * d.attn_width(), "flop");

  const double weight = precision == "float32" ? 4 : precision == "bf16" ? 2 : 1, number = precision == "float32" ? 4 : 2;
  for (int32_t batch : {1, sequences}) {
    best = 1e9;
    for (int r = 0; r < rounds * 8; ++r) best = std::min(best, steps.run(batch, context, 1, 1));
    line(batch == 1 ? "decode at context 2048, batch 1" : "decode at context 2048, batch 4", best,
         weight * (matrices + head) + number * batch * 2. * d.layers * context * d.kv_heads * d.head_size, "bytes");
  }
}
