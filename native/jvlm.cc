#include "include/jvlm.h"

#include <atomic>
#include <cstring>
#include <new>

#include "base/error.h"
#include "base/os.h"
#include "engine/engine.h"
#include "image/resize.h"

namespace jvlm {

struct Engine {
  EngineState state;
};

namespace {

std::atomic<int32_t> live{0};

// Java gets one exception type, whatever happened. An exception of any other class would reach it without its message.
template <class F>
auto guard(F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw capacity("There is not enough memory; choose a smaller context, fewer sequences or the precision int8");
  } catch (const std::exception& e) {
    throw device_error(std::string("Unexpected: ") + e.what());
  }
}

int64_t give(const std::string& text, char* out, int64_t capacity) {
  const auto bytes = static_cast<int64_t>(text.size()) + 1;
  if (bytes <= capacity) std::memcpy(out, text.c_str(), static_cast<size_t>(bytes));
  return bytes;
}

}  // namespace

Engine* open(const char* device, const char* spec, const char* manifest, const char* limits, int64_t* progress) {
  return guard([&] {
    auto* engine = new Engine{{device, spec, manifest, limits, progress}};
    ++live;
    return engine;
  });
}

int64_t info(const char* device, const char* spec, const char* limits, char* out, int64_t capacity) {
  return guard([&] {
    Limits l = parse_limits(limits);
    MemoryPlan p = plan_memory(parse_spec(spec), l, *make_ops(device, l.precision, l.deterministic));
    std::string text;
    auto line = [&](const char* part, int64_t bytes) { text += std::string(part) + "\t" + std::to_string(bytes) + "\n"; };
    line("weights", p.weights);
    line("cache", p.cache);
    line("vision", p.vision);
    line("workspace", p.workspace);
    line("logits", p.logits);
    line("scratch", p.scratch);
    line("sampling", p.sampling);
    return give(text, out, capacity);
  });
}

int64_t devices(char* out, int64_t capacity) {
  return guard([&] { return give(list_devices(), out, capacity); });
}

void resize(const uint8_t* rgb, int32_t height, int32_t width, int32_t filter, const int32_t* sizes, int32_t count, uint8_t* out) {
  guard([&] { resize_rgb(rgb, height, width, filter, sizes, count, out); });
}

void encode(Engine* engine, const uint8_t* rgb, int32_t count, const int32_t* shape, int32_t first_row) {
  guard([&] { engine->state.encode(rgb, count, shape, first_row); });
}

void submit(Engine* engine, int32_t tokens, const int32_t* token, const int32_t* vision_row, int32_t sequences, const int32_t* seq_start,
            const int32_t* past, const int32_t* rope_length, const int32_t* page_start, const int32_t* page, int32_t logits_rows,
            const int32_t* logits_row, const SampleRow* sample, int32_t biases, const int32_t* bias_slot, const float* bias) {
  guard([&] {
    engine->state.submit([&](Batch& batch) {
      batch.assign(tokens, token, vision_row, sequences, seq_start, past, rope_length, page_start, page, logits_rows, logits_row,
                   engine->state.limits());
      batch.assign_sampling(sample, biases, bias_slot, bias, engine->state.spec());
    });
  });
}

void collect(Engine* engine, int32_t* ids) {
  guard([&] { engine->state.collect(ids); });
}

const float* logits(Engine* engine) {
  return guard([&] { return engine->state.logits(); });
}

int64_t trace(Engine* engine, const char* name, float* out, int64_t capacity) {
  return guard([&] { return engine->state.trace(name, out, capacity); });
}

void close(Engine* engine) {
  guard([&] {
    if (!engine) return;
    delete engine;
    --live;
  });
}

int32_t live_engines() { return live; }

}  // namespace jvlm
