// Times the stages of a model at its true shape, for `jvlm bench` and tests/gpu/stages.py: through the boundary that Java uses, with seeded weights. One JSON
// object a line: {"stage": ..., "tiles" | "tokens" | "batch": ..., "seconds": [every run]}, for decode also "steps" and on the CPU "read_gbs", how
// fast memory was read right before and after each run; at the end the device, the plan, and on the CPU the memory's peak beside it.
//
//   model_stages [--small] DEVICE SPEC LIMITS MANIFEST STAGE...      three files as Java sends them (jvlm.h), then any of vision connector prefill decode answer
//
// vision     `encode` as requests call it: tower and connector, 1 tile and 7 tiles, unless one takes seconds; with a perceiver one picture as large as the tower takes it
// connector  alone, as many at once
// prefill    a prompt of 7 tiles (with a perceiver of 5 pictures: a page and its quarters) and 64 tokens of text, in steps of at most step_tokens
// decode     64 tokens after 2048, each step's id taken from the step before; 1 sequence, 4, and 8 and 16 where the limits allow
// answer     the same pictures and text as prefill's, from bytes in host memory to the last of 128 ids, 1 sequence
//
// A card returns from `encode` before it is done. Vision and connector run so often there that what waits for them at the end (one step of one token,
// which reads a vision row; one number copied back) is one part of a hundred, and it counts. --small: few tokens, few runs, to see that it runs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
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

struct Sizes {
  int32_t text = 64, context = 2048, decoded = 64, answer = 128, tiles = 7;
  double seconds = 3;                                      // for one stage, but at least so many runs
  size_t runs = 3;
};
Sizes sizes;
constexpr Sizes kSmall{8, 100, 3, 4, 1, 0, 1};
constexpr double kLongTile = 3;                            // seconds after which seven are not waited for
constexpr int32_t kBatches[] = {1, 4, 8, 16}, kTilesWaitedFor = 56;

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

void report(const char* stage, const char* of, int32_t count, const std::vector<double>& seconds, const std::string& more = "") {
  std::printf("{\"stage\": \"%s\", \"%s\": %d%s, \"seconds\": [", stage, of, count, more.c_str());
  for (size_t i = 0; i < seconds.size(); ++i) std::printf("%s%.6f", i ? ", " : "", seconds[i]);
  std::printf("]}\n");
  std::fflush(stdout);
}

// Every run's seconds; a short first run only warms up. A run is `times` times the work, then what waits for it.
template <class F, class W>
std::vector<double> runs(int32_t times, F&& work, W&& wait) {
  std::vector<double> seconds;
  auto once = [&] {
    const double start = now();
    for (int32_t i = 0; i < times; ++i) work();
    wait();
    return (now() - start) / times;
  };
  const double first = once();
  if (first > 1) seconds.push_back(first);
  for (const double end = now() + sizes.seconds; seconds.size() < sizes.runs || now() < end;) seconds.push_back(once());
  return seconds;
}
template <class F>
std::vector<double> runs(F&& work) {
  return runs(1, work, [] {});
}

// Sequences of one engine, each in pages of its own.
class Sequences {
 public:
  Sequences(Engine* engine, const Limits& limits, int32_t vocabulary)
      : engine_(engine), limits_(limits), vocabulary_(vocabulary), ids_(static_cast<size_t>(limits.sequences)) {}

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
      collect(engine_, ids_.data());
      past += n, tokens -= n;
    }
  }

  // `tokens` steps of one token for each of `count` sequences, two steps in flight; the first ids are those of the step before where `goes_on`.
  void decode(int32_t count, int32_t past, int32_t tokens, bool goes_on = false) {
    for (int32_t i = 0; i < tokens; ++i) {
      std::vector<int32_t> token, row, start{0}, pasts, length, page, page_start{0}, last;
      for (int32_t s = 0; s < count; ++s) {
        token.push_back(i || goes_on ? -1 - s : 1 + s);
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
      if (i) collect(engine_, ids_.data());
    }
    collect(engine_, ids_.data());
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
  std::vector<int32_t> ids_;
};

bool perceives(const Spec& spec) { return spec.connector.kind == ConnectorKind::perceiver; }
int32_t tiles_at_once(const Spec& spec) { return perceives(spec) ? 1 : sizes.tiles; }

// Pictures of one request in host memory, grey; four numbers each, as `encode` takes them.
class Pictures {
 public:
  Pictures(Engine* engine, const Limits& limits, const Spec& spec, int32_t count) : engine_(engine), limits_(limits), rows_(spec.rows_per_tile()) {
    for (int32_t i = 0; i < count; ++i) add(spec.vision, 1);
  }
  // What a prompt holds: as many tiles as above, or a page and its quarters.
  Pictures(Engine* engine, const Limits& limits, const Spec& spec) : Pictures(engine, limits, spec, tiles_at_once(spec)) {
    for (int32_t i = 0; perceives(spec) && i < 4; ++i) add(spec.vision, 2);
  }

  int32_t rows() const { return static_cast<int32_t>(at_.size()) * rows_; }
  void encode() const {
    const auto count = static_cast<int32_t>(at_.size());
    for (int32_t first = 0; first < count; first += limits_.encode_tiles)
      jvlm::encode(engine_, rgb_.data() + at_[static_cast<size_t>(first)], std::min(limits_.encode_tiles, count - first), shape_.data() + 4 * first, first * rows_);
  }

 private:
  void add(const VisionSpec& v, int32_t part) {
    const int32_t size = v.image / part, grid = v.grid() / part;
    at_.push_back(rgb_.size());
    shape_.insert(shape_.end(), {size, size, grid, grid});
    rgb_.resize(rgb_.size() + 3 * static_cast<size_t>(size) * static_cast<size_t>(size), 128);
  }

  Engine* engine_;
  Limits limits_;
  int32_t rows_;
  std::vector<uint8_t> rgb_;
  std::vector<size_t> at_;                                 // where each begins
  std::vector<int32_t> shape_;
};

// The connector on a backend of its own, with its share of the manifest.
void connector(const std::string& device, const Spec& spec, Limits limits, const std::string& manifest, int32_t times) {
  std::string own;
  std::istringstream lines(manifest);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind("connector.", 0) == 0 || line.rfind("vision.norm.", 0) == 0) own += line + "\n";
  const std::unique_ptr<Ops> ops = make_ops(device, limits.precision);
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
  std::vector<float> host(static_cast<size_t>(x.rows * x.cols));
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i % 17) / 8 - 1;
  ops->upload(x.data, host.data(), x.bytes());
  report("connector", "tiles", limits.encode_tiles, runs(times, [&] { connector->forward(*ops, ws, out, x, in, taps); }, [&] { ops->download(host.data(), out.data, 4); }));
}

int run(const std::string& device, const std::string& spec_text, const std::string& limits_text, const std::string& manifest, const std::set<std::string>& wanted) {
  const Spec spec = parse_spec(spec_text);
  const Limits limits = parse_limits(limits_text);
  if (limits.context < sizes.context + sizes.decoded) throw request_error("model_stages needs a context of " + std::to_string(sizes.context + sizes.decoded));
  const bool cpu = device == "cpu";

  char text[8192];
  info(device.c_str(), spec_text.c_str(), limits_text.c_str(), text, sizeof text);
  int64_t plan = 0;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part);) plan += std::strtoll(part.c_str() + part.find('\t'), nullptr, 10);
  std::optional<ReadingMemory> memory;                     // what decoding on the CPU is held against; there before the engine's memory is counted
  if (cpu && wanted.count("decode")) memory.emplace();
  const int64_t before = status("VmRSS");

  const double start = now();
  Engine* engine = open(device.c_str(), spec_text.c_str(), manifest.c_str(), limits_text.c_str(), nullptr);
  const double opened = now() - start;
  Sequences sequences(engine, limits, spec.decoder.vocabulary);
  const Pictures page(engine, limits, spec);
  const int32_t tiles = tiles_at_once(spec), prompt = page.rows() + sizes.text;
  auto times = [&](int32_t count) { return cpu || sizes.runs == 1 ? 1 : kTilesWaitedFor / count; };
  auto vision = [&](int32_t count) {
    const Pictures pictures(engine, limits, spec, count);
    return runs(times(count), [&] { pictures.encode(); }, [&] { if (!cpu) sequences.prompt(0, 0, 1, 1); });
  };
  if (wanted.count("vision")) {
    const std::vector<double> one = vision(1);
    report("vision", "tiles", 1, one);
    if (tiles > 1 && one[0] < kLongTile) report("vision", "tiles", tiles, vision(tiles));
  }
  if (wanted.count("prefill")) report("prefill", "tokens", prompt, runs([&] { sequences.prompt(0, 0, prompt, page.rows()); }));
  if (wanted.count("decode")) {
    int32_t filled = 0;
    for (int32_t batch : kBatches) {
      if (batch > limits.sequences) break;
      // What is read must have been written: memory that never was is one page of zeros in the processor's cache.
      for (; filled < batch; ++filled) sequences.prompt(filled, 0, sizes.context, page.rows());
      std::string more = ", \"steps\": " + std::to_string(sizes.decoded);
      auto decode = [&] { sequences.decode(batch, sizes.context, sizes.decoded); };
      std::vector<double> seconds;
      if (memory) {
        decode();
        std::string rates;
        for (const double end = now() + sizes.seconds; seconds.size() < sizes.runs || now() < end;) {
          const double before = memory->rate(), start = now();
          decode();
          seconds.push_back(now() - start);
          rates += (rates.empty() ? "" : ", ") + std::to_string((before + memory->rate()) / 2);
        }
        more += ", \"read_gbs\": [" + rates + "]";
      } else {
        seconds = runs(decode);
      }
      report("decode", "batch", batch, seconds, more);
    }
  }
  if (wanted.count("answer"))
    report("answer", "tokens", sizes.answer, runs([&] {
             page.encode();
             sequences.prompt(0, 0, prompt, page.rows());  // its last step gives the first id
             sequences.decode(1, prompt, sizes.answer - 1, true);
           }));
  const int64_t peak = status("VmHWM");
  close(engine);
  devices(text, sizeof text);
  std::string described(text);                             // which product is the faster is decided once a process
  described = described.substr(described.find(device + "\t") + device.size() + 1);
  described = described.substr(0, described.find('\n'));
  std::printf("{\"device\": \"%s\", \"open_seconds\": %.3f, \"plan_bytes\": %lld", described.c_str(), opened, static_cast<long long>(plan));
  if (cpu) std::printf(", \"peak_bytes\": %lld", static_cast<long long>(peak - before));
  std::printf("}\n");
  std::fflush(stdout);
  if (wanted.count("connector")) connector(device, spec, limits, manifest, times(tiles));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool small = argc > 1 && std::string(argv[1]) == "--small";
  if (small) sizes = kSmall, --argc, ++argv;
  if (argc < 6) {
    std::fputs("usage: model_stages [--small] DEVICE SPEC LIMITS MANIFEST STAGE...\n", stderr);
    return 64;
  }
  try {
    const std::string device = argv[1];
    if (!small && device != "cpu") sizes.seconds = 1;      // what a card does in a second varies less, and a card's time is dear
    return run(device, read(argv[2]), read(argv[3]), read(argv[4]), {argv + 5, argv + argc});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "model_stages: %s\n", e.what());
    return 70;
  }
}
