// Times the stages of a model at its true shape, for `jvlm bench`: through the boundary that Java uses, with seeded weights. One JSON object
// a line: {"stage": ..., "tiles" | "tokens" | "batch": ..., "seconds": [every run]}, for decode also "read_gbs", how fast the engine's own memory can be
// read; at the end the memory's peak beside the plan.
//
//   model_stages SPEC LIMITS MANIFEST STAGE...      three files as Java sends them (jvlm.h), then any of vision connector prefill decode
//
// vision     `encode` as requests call it: tower and connector, 1 tile and 7 tiles, unless one takes seconds; with a perceiver one picture as large as the tower takes it
// connector  alone, as many at once
// prefill    a prompt of 7 tiles (with a perceiver of 5 pictures: a page and its quarters) and 64 tokens of text, in steps of at most step_tokens
// decode     64 tokens after 2048, each step's id taken from the step before; 1 sequence and 4
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/lines.h"
#include "engine/engine.h"
#include "engine/limits.h"
#include "include/jvlm.h"
#include "model/connector.h"
#include "model/spec.h"
#include "reading.h"

using namespace jvlm;

namespace {

constexpr int32_t kText = 64, kContext = 2048, kDecoded = 64, kBatch = 4;
constexpr double kSeconds = 3;                             // for one stage, but at least kRuns runs
constexpr size_t kRuns = 3;

std::string read(const char* path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// A line of /proc/self/status in bytes.
int64_t status(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.rfind(key + ":", 0) == 0) return std::strtoll(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
  return 0;
}

void report(const char* stage, const char* of, int32_t count, const std::vector<double>& seconds, double read_gbs = 0) {
  std::printf("{\"stage\": \"%s\", \"%s\": %d, \"seconds\": [", stage, of, count);
  for (size_t i = 0; i < seconds.size(); ++i) std::printf("%s%.6f", i ? ", " : "", seconds[i]);
  std::printf("]");
  if (read_gbs > 0) std::printf(", \"read_gbs\": %.2f", read_gbs);
  std::printf("}\n");
  std::fflush(stdout);
}

// Every run's seconds; a short first run only warms up.
template <class F>
std::vector<double> runs(F&& work) {
  std::vector<double> seconds;
  double start = now();
  work();
  const double first = now() - start;
  if (first > 1) seconds.push_back(first);
  for (const double end = now() + kSeconds; seconds.size() < kRuns || now() < end;) {
    start = now();
    work();
    seconds.push_back(now() - start);
  }
  return seconds;
}

// Sequences of one engine, each in pages of its own.
class Sequences {
 public:
  Sequences(Engine* engine, const Limits& limits, int32_t vocabulary) : engine_(engine), limits_(limits), vocabulary_(vocabulary) {}

  // Runs tokens past ... past + tokens of one sequence; the first `vision` positions of it are rows of pictures.
  void prompt(int32_t sequence, int32_t past, int32_t tokens, int32_t vision) {
    while (tokens > 0) {
      const int32_t n = std::min(tokens, limits_.step_tokens);
      std::vector<int32_t> token, row;
      for (int32_t i = past; i < past + n; ++i) {
        token.push_back(i % vocabulary_);
        row.push_back(i < vision ? i : -1);
      }
      const std::vector<int32_t> start{0, n}, last{n - 1}, length{past + n}, pasts{past}, page = pages(sequence, past + n);
      const std::vector<int32_t> page_start{0, static_cast<int32_t>(page.size())};
      const bool end = n == tokens;
      submit(engine_, n, token.data(), row.data(), 1, start.data(), pasts.data(), length.data(), page_start.data(), page.data(), end, last.data());
      collect(engine_, ids_);
      past += n, tokens -= n;
    }
  }

  // `tokens` steps of one token for each of `count` sequences, two steps in flight.
  void decode(int32_t count, int32_t past, int32_t tokens) {
    for (int32_t i = 0; i < tokens; ++i) {
      std::vector<int32_t> token, row, start{0}, pasts, length, page, page_start{0}, last;
      for (int32_t s = 0; s < count; ++s) {
        token.push_back(i ? -1 - s : 1 + s);
        row.push_back(-1);
        start.push_back(s + 1);
        pasts.push_back(past + i);
        length.push_back(past + i + 1);
        const std::vector<int32_t> own = pages(s, past + i + 1);
        page.insert(page.end(), own.begin(), own.end());
        page_start.push_back(static_cast<int32_t>(page.size()));
        last.push_back(s);
      }
      submit(engine_, count, token.data(), row.data(), count, start.data(), pasts.data(), length.data(), page_start.data(), page.data(), count,
             last.data());
      if (i) collect(engine_, ids_);
    }
    collect(engine_, ids_);
  }

 private:
  std::vector<int32_t> pages(int32_t sequence, int32_t tokens) const {
    std::vector<int32_t> page;
    const int32_t each = limits_.pages / limits_.sequences;
    for (int32_t i = 0; i < (tokens + limits_.page_tokens - 1) / limits_.page_tokens; ++i) page.push_back(sequence * each + i);
    return page;
  }

  Engine* engine_;
  Limits limits_;
  int32_t vocabulary_;
  int32_t ids_[kBatch] = {};
};

bool perceives(const Spec& spec) { return spec.connector.kind == ConnectorKind::perceiver; }
int32_t tiles_at_once(const Spec& spec) { return perceives(spec) ? 1 : 7; }

// The connector on a backend of its own, with its share of the manifest.
void connector(const Spec& spec, Limits limits, const std::string& manifest) {
  std::string own;
  std::istringstream lines(manifest);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind("connector.", 0) == 0 || line.rfind("vision.norm.", 0) == 0) own += line + "\n";
  const std::unique_ptr<Ops> ops = make_ops("cpu", limits.precision);
  const Dtype act = act_of(limits.precision);
  limits.encode_tiles = tiles_at_once(spec);
  ops->reserve(scratch_of(spec, limits));
  auto arena = [&](int64_t bytes) { return Arena(ops->allocate(bytes), bytes); };
  Weights count(limits.precision, *ops);
  make_connector(spec, count, act);
  Weights weights(limits.precision, own, ops.get(), arena(count.bytes()), nullptr);
  const auto connector = make_connector(spec, weights, act);
  const VisionSpec& v = spec.vision;
  const std::vector<Picture> pictures(static_cast<size_t>(limits.encode_tiles), {v.image, v.image, v.grid(), v.grid()});
  Trace trace;
  Taps taps(*ops, trace);
  Tensor x, out;
  auto place = [&](Arena& ws) {
    VisionInput in = place_pictures(*ops, ws, v, pictures, nullptr);
    x = ws.tensor(Dtype::f32, in.tokens(), v.hidden), out = ws.tensor(Dtype::f32, int64_t{limits.encode_tiles} * spec.rows_per_tile(), spec.decoder.hidden);
    return in;
  };
  Arena counted;
  const VisionInput none = place(counted);
  connector->forward(*ops, counted, out, x, none, taps);
  Arena ws = arena(counted.peak());
  const VisionInput in = place(ws);
  for (int64_t i = 0; i < x.rows * x.cols; ++i) static_cast<float*>(x.data)[i] = static_cast<float>(i % 17 - 8) / 8;
  report("connector", "tiles", limits.encode_tiles, runs([&] { connector->forward(*ops, ws, out, x, in, taps); }));
}

int run(int argc, char** argv) {
  const std::string spec_text = read(argv[1]), limits_text = read(argv[2]), manifest = read(argv[3]);
  const std::set<std::string> wanted(argv + 4, argv + argc);
  const Spec spec = parse_spec(spec_text);
  const Limits limits = parse_limits(limits_text);
  if (limits.sequences != kBatch || limits.context < kContext + kDecoded) throw request_error("model_stages needs 4 sequences and a context of 2112");

  char text[4096];
  info("cpu", spec_text.c_str(), limits_text.c_str(), text, sizeof text);
  int64_t plan = 0;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part);) plan += std::strtoll(part.c_str() + part.find('\t'), nullptr, 10);
  const int64_t before = status("VmRSS");

  Engine* engine = open("cpu", spec_text.c_str(), manifest.c_str(), limits_text.c_str(), nullptr);
  Sequences sequences(engine, limits, spec.decoder.vocabulary);
  const int32_t tiles = tiles_at_once(spec);
  const std::vector<uint8_t> rgb(static_cast<size_t>(tiles) * 3 * spec.vision.image * spec.vision.image, 128);
  std::vector<int32_t> shape;
  for (int32_t t = 0; t < limits.encode_tiles; ++t)
    shape.insert(shape.end(), {spec.vision.image, spec.vision.image, spec.vision.grid(), spec.vision.grid()});
  auto vision = [&](int32_t count) {
    for (int32_t t = 0; t < count; t += limits.encode_tiles) {
      const int32_t n = std::min(limits.encode_tiles, count - t);
      encode(engine, rgb.data(), n, shape.data(), t * spec.rows_per_tile());
    }
  };
  const int32_t rows = (perceives(spec) ? 5 : tiles) * spec.rows_per_tile();
  if (wanted.count("vision")) {
    const std::vector<double> one = runs([&] { vision(1); });
    report("vision", "tiles", 1, one);
    if (tiles > 1 && one[0] < kSeconds) report("vision", "tiles", tiles, runs([&] { vision(tiles); }));
  }
  if (wanted.count("prefill")) report("prefill", "tokens", rows + kText, runs([&] { sequences.prompt(0, 0, rows + kText, rows); }));
  if (wanted.count("decode"))
    for (int32_t batch : {1, kBatch}) {
      // What is read must have been written: memory that never was is one page of zeros in the processor's cache.
      for (int32_t s = batch == 1 ? 0 : 1; s < batch; ++s) sequences.prompt(s, 0, kContext, rows);
      const std::vector<double> seconds = runs([&] { sequences.decode(batch, kContext, kDecoded); });
      report("decode", "batch", batch, seconds, read_rate_of_largest());
    }
  const int64_t peak = status("VmHWM");
  close(engine);
  char devices_text[4096];
  devices(devices_text, sizeof devices_text);
  std::string device(devices_text);                        // which product is the faster is decided once a process
  device = device.substr(device.find("cpu\t") + 4);
  device = device.substr(0, device.find('\n'));
  std::printf("{\"device\": \"%s\", \"plan_bytes\": %lld, \"peak_bytes\": %lld}\n", device.c_str(), static_cast<long long>(plan), static_cast<long long>(peak - before));
  std::fflush(stdout);
  if (wanted.count("connector")) connector(spec, limits, manifest);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fputs("usage: model_stages SPEC LIMITS MANIFEST STAGE...\n", stderr);
    return 64;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "model_stages: %s\n", e.what());
    return 70;
  }
}
