#include "engine/engine.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace jvlm {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

int64_t layer_cache_bytes(const Spec& spec, const Limits& l) {
  return aligned(static_cast<int64_t>(l.pages) * l.page_tokens * spec.decoder.kv_heads * spec.decoder.head_size * size_of(act_of(l.precision)));
}

// Everything that lives between the layers, taken once by a counting arena and once for good.
int64_t index_bytes(const Limits& l) {
  constexpr int64_t sample = sizeof(SampleRow);
  return aligned(4LL * (3LL * l.step_tokens + 6LL * l.sequences + l.pages) + sample * l.sequences + 64 * 9);
}

// Logits of a step, and ids.
int64_t logits_bytes(const Spec& spec, const Limits& l) { return aligned(4LL * l.sequences * (spec.decoder.vocabulary + 16)); }

// The model's own code on counting arenas: what it takes is what it will take.
struct Counted {
  int64_t weights = 0, workspace = 0;
};
Counted count(const Spec& spec, const Limits& l, Ops& ops) {
  Weights weights(l.precision, ops);
  const Dtype act = act_of(l.precision);
  Vit vit(spec.vision, weights, act);
  const auto connector = make_connector(spec, weights, act);
  Decoder decoder(spec.decoder, weights, act);
  Trace trace;
  Taps taps(ops, trace);
  Arena vision, text;
  const VisionSpec& v = spec.vision;
  const std::vector<Picture> largest(static_cast<size_t>(l.encode_tiles), {v.image, v.image, v.grid(), v.grid()});
  const VisionInput input = place_pictures(ops, vision, v, largest, nullptr);
  Tensor x = vit.forward(ops, vision, input, taps);
  connector->forward(ops, vision, Tensor(), x, input, taps);
  StepInput in;
  in.step.tokens = l.step_tokens;
  in.logits_rows = l.sequences;
  decoder.forward(ops, text, Tensor(), in, {}, Tensor(), taps);
  return {weights.bytes(), std::max(vision.peak(), text.peak())};
}

}  // namespace

Scratch scratch_of(const Spec& spec, const Limits& l) {
  Scratch s;
  const auto& v = spec.vision;
  const auto& d = spec.decoder;
  const auto& c = spec.connector;                          // with a pixel shuffle all its numbers are 0
  s.max_rows = std::max<int64_t>(static_cast<int64_t>(l.encode_tiles) * (v.tokens() + c.latents), l.step_tokens);
  s.max_inputs = std::max<int64_t>({3LL * v.patch * v.patch, v.mlp, 4LL * v.hidden, c.projection, c.heads * c.head_size, c.mlp, d.hidden, d.attn_width(), d.mlp});
  s.max_outputs =
      std::max<int64_t>({3LL * v.hidden, v.mlp, 2LL * c.projection, 2LL * c.mlp, d.qkv_width(), 2LL * d.mlp, d.hidden, d.vocabulary});
  s.max_tile_tokens = v.tokens() + c.latents;
  s.max_tiles = l.encode_tiles;
  s.max_sequences = l.sequences;
  s.max_context = l.context;
  s.max_heads = std::max({v.heads, c.heads, d.heads});
  s.max_head_size = std::max({v.head_size, c.head_size, d.head_size});
  s.max_patch_inputs = 3LL * v.patch * v.patch;
  s.max_vocabulary = d.vocabulary;
  s.max_downloads = kSlots;
  return s;
}

MemoryPlan plan_memory(const Spec& spec, const Limits& l, Ops& ops) {
  const Counted counted = count(spec, l, ops);
  MemoryPlan p;
  p.weights = counted.weights;
  p.cache = 2 * spec.decoder.layers * layer_cache_bytes(spec, l);
  p.vision = aligned(4LL * l.vision_rows * spec.decoder.hidden) + aligned(3LL * l.encode_tiles * spec.vision.image * spec.vision.image);
  p.workspace = counted.workspace + index_bytes(l) + aligned(Decoder::frequency_bytes(spec.decoder, l.sequences));
  p.logits = (kSlots + 1) * logits_bytes(spec, l);                        // on the device, and once on the host
  p.scratch = ops.scratch_bytes(scratch_of(spec, l));
  if (ops.samples()) p.sampling = 2 * aligned(4LL * l.sequences * spec.decoder.vocabulary);
  return p;
}

EngineState::EngineState(const std::string& device, const std::string& spec_text, const std::string& manifest, const std::string& limits_text,
                         int64_t* progress)
    : spec_(parse_spec(spec_text)), limits_(parse_limits(limits_text)), ops_(make_ops(device, limits_.precision, limits_.deterministic)), taps_(*ops_, trace_) {
  worker_ = std::thread([this] { work(); });
  try {
    run([&] {
      const MemoryPlan plan = plan_memory(spec_, limits_, *ops_);
      const int64_t needed = plan.total() - logits_bytes(spec_, limits_), there = ops_->available_bytes();    // one of the logits is the host's
      if (needed > there)
        throw capacity("The model needs " + std::to_string(needed >> 20) + " MiB of the device's memory and " + std::to_string(there >> 20) +
                       " MiB are free; choose the precision int8, a smaller context or fewer sequences, or stop what else runs there");
      auto arena = [&](int64_t bytes) { return Arena(ops_->allocate(bytes), bytes); };
      const Dtype act = act_of(limits_.precision);
      ops_->reserve(scratch_of(spec_, limits_));

      Arena cache = arena(plan.cache);
      for (int32_t i = 0; i < spec_.decoder.layers; ++i) {
        KvCache c;
        c.k = cache.take(layer_cache_bytes(spec_, limits_));
        c.v = cache.take(layer_cache_bytes(spec_, limits_));
        c.dtype = act;
        c.kv_heads = spec_.decoder.kv_heads, c.head_size = spec_.decoder.head_size, c.page_tokens = limits_.page_tokens;
        cache_.push_back(c);
      }
      Arena vision = arena(plan.vision);
      vision_ = vision.tensor(Dtype::f32, limits_.vision_rows, spec_.decoder.hidden);
      tiles_ = static_cast<uint8_t*>(vision.take(3LL * limits_.encode_tiles * spec_.vision.image * spec_.vision.image));

      Arena workspace = arena(plan.workspace);
      void* frequencies = workspace.take(Decoder::frequency_bytes(spec_.decoder, limits_.sequences));
      const int64_t index = index_bytes(limits_);
      indices_ = Arena(workspace.take(index), aligned(index));
      index_memory_.resize(static_cast<size_t>(aligned(index)));
      host_indices_ = Arena(index_memory_.data(), aligned(index));
      const int64_t rest = plan.workspace - workspace.mark();
      workspace_ = Arena(workspace.take(rest / 64 * 64), rest);

      Arena logits = arena(kSlots * logits_bytes(spec_, limits_));
      for (Slot& s : slots_) {
        s.logits = logits.tensor(Dtype::f32, limits_.sequences, spec_.decoder.vocabulary);
        s.ids = static_cast<int32_t*>(logits.take(4LL * limits_.sequences));
        s.host_ids.resize(static_cast<size_t>(limits_.sequences));
      }
      host_logits_.resize(static_cast<size_t>(limits_.sequences) * static_cast<size_t>(spec_.decoder.vocabulary));
      if (plan.sampling) {
        Arena sampling = arena(plan.sampling);
        counts_ = static_cast<int32_t*>(sampling.take(plan.sampling / 2));
        bias_ = static_cast<float*>(sampling.take(plan.sampling / 2));
      }
      Weights weights(limits_.precision, manifest, ops_.get(), arena(plan.weights), progress);
      vit_ = std::make_unique<Vit>(spec_.vision, weights, act);
      connector_ = make_connector(spec_, weights, act);
      decoder_ = std::make_unique<Decoder>(spec_.decoder, weights, act);
      decoder_->prepare(*ops_, frequencies, limits_.sequences);
      weights.finish();
      if (ops_->loads_late()) warm();
    });
  } catch (...) {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    worker_.join();
    throw;
  }
}

EngineState::~EngineState() {
  // What is in flight ends first, within the deadline: giving memory back would wait for it without one.
  std::vector<int32_t> ids(static_cast<size_t>(limits_.sequences));
  while (collected_ < submitted_) {
    try {
      collect(ids.data());
    } catch (...) {                                       // nobody waits for this step any more
    }
  }
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

void EngineState::work() {
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

void EngineState::queue(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

void EngineState::run(std::function<void()> job) {
  bool done = false;
  std::exception_ptr failure;
  queue([&] {
    std::exception_ptr caught;
    try {
      job();
    } catch (...) {
      caught = std::current_exception();
    }
    std::lock_guard lock(mutex_);
    failure = caught;
    done = true;
    changed_.notify_all();
  });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done; });
  if (failure) std::rethrow_exception(failure);
}

void EngineState::encode(const uint8_t* rgb, int32_t count, const int32_t* shape, int32_t first_row) {
  // None is larger than the largest, so that so many fit everywhere.
  if (count < 1 || count > limits_.encode_tiles)
    throw request_error("encode takes 1 to " + std::to_string(limits_.encode_tiles) + " pictures, not " + std::to_string(count));
  const std::vector<Picture> pictures = read_pictures(spec_.vision, shape, count);
  const int64_t rows = static_cast<int64_t>(count) * spec_.rows_per_tile();
  if (first_row < 0 || first_row + rows > limits_.vision_rows) throw request_error("The pictures do not fit into the vision buffer");
  int64_t bytes = 0;
  for (const Picture& p : pictures) bytes += 3LL * p.height * p.width;
  run([&] {
    ops_->upload(tiles_, rgb, bytes);
    see(pictures, first_row);
  });
}

void EngineState::see(const std::vector<Picture>& pictures, int64_t first_row) {
  workspace_.rewind(0);
  const VisionInput in = place_pictures(*ops_, workspace_, spec_.vision, pictures, tiles_);
  const Range range(*ops_, "encode");
  Tensor x = vit_->forward(*ops_, workspace_, in, taps_);
  const Range after(*ops_, "connector");
  connector_->forward(*ops_, workspace_, vision_.slice(first_row, static_cast<int64_t>(pictures.size()) * spec_.rows_per_tile()), x, in, taps_);
}

void EngineState::submit(const std::function<void(Batch&)>& assign) {
  if (submitted_ - collected_ >= 2) throw request_error("Two steps are in flight already; collect one first");
  Slot& slot = slots_[submitted_ % kSlots];
  const Slot* before = submitted_ ? &slots_[(submitted_ - 1) % kSlots] : nullptr;
  assign(slot.batch);
  if (!slot.batch.sample.empty() && !ops_->samples()) throw request_error("This device takes the likeliest token only");
  slot.batch.check(spec_, limits_, before ? static_cast<int32_t>(before->batch.logits_row.size()) : 0);
  slot.queued = slot.under_way = false;
  slot.failure = nullptr;
  ++submitted_;
  queue([this, &slot, before] {
    std::exception_ptr caught;
    try {
      step(slot, before);
    } catch (...) {
      caught = std::current_exception();
    }
    std::lock_guard lock(mutex_);
    slot.failure = caught;
    slot.queued = true;
    changed_.notify_all();
  });
}

template <class T>
T* EngineState::place(const std::vector<T>& host) {
  const auto bytes = static_cast<int64_t>(host.size() * sizeof(T));
  std::copy(host.begin(), host.end(), static_cast<T*>(host_indices_.take(bytes)));
  return static_cast<T*>(indices_.take(bytes));
}

void EngineState::step(Slot& slot, const Slot* before) {
  const Batch& b = slot.batch;
  const Range range(*ops_, "step");
  workspace_.rewind(0);
  indices_.rewind(0), host_indices_.rewind(0);
  void* const first = indices_.take(0);
  StepInput in;
  in.token = place(b.token);
  in.vision_row = place(b.vision_row);
  in.last_ids = before ? before->ids : nullptr;
  in.logits_row = place(b.logits_row);
  in.logits_rows = static_cast<int32_t>(b.logits_row.size());
  const SampleRow* sample = place(b.sample);
  Step& s = in.step;
  s.tokens = b.tokens(), s.sequences = b.sequences();
  s.seq_start = place(b.seq_start);
  s.past = place(b.past);
  s.page_start = place(b.page_start);
  s.page = place(b.page);
  ops_->upload(first, index_memory_.data(), indices_.mark());          // all in one: on a card each copy has a start of its own
  for (int32_t i = 0; i < s.sequences; ++i) {
    const int32_t fresh = b.seq_start[static_cast<size_t>(i) + 1] - b.seq_start[static_cast<size_t>(i)];
    s.max_new = std::max(s.max_new, fresh);
    s.max_length = std::max(s.max_length, b.past[static_cast<size_t>(i)] + fresh);
  }
  decoder_->set_lengths(*ops_, b.rope_length);
  const float* bias = b.bias.data();
  for (const int64_t to : b.bias_slot) {
    ops_->upload(bias_ + to * spec_.decoder.vocabulary, bias, 4LL * spec_.decoder.vocabulary);
    bias += spec_.decoder.vocabulary;
  }
  Tensor logits = slot.logits.slice(0, in.logits_rows);
  const auto slot_index = static_cast<uint64_t>(&slot - slots_);
  auto forward = [&] {
    decoder_->forward(*ops_, workspace_, logits, in, cache_, vision_, taps_);
    if (!b.sample.empty())
      ops_->sample(slot.ids, logits, sample, counts_, bias_);
    else if (in.logits_rows)
      ops_->argmax(slot.ids, logits);
  };
  if (ops_->replays() && s.max_new == 1 && in.logits_rows == s.sequences && !trace_.on()) {
    // One token a sequence: where everything lies depends on the number of sequences, the slots and whether there are samples alone, as long
    // as the pages come last above.
    const auto before_index = before ? static_cast<uint64_t>(before - slots_) : kSlots;
    ops_->replay(static_cast<uint64_t>(s.sequences) << 8 | slot_index << 4 | before_index << 1 | !b.sample.empty(), forward);
  } else {
    forward();
  }
  if (in.logits_rows)
    slot.under_way = ops_->download_later(static_cast<int32_t>(slot_index), slot.host_ids.data(), slot.ids, 4LL * in.logits_rows);
}

void EngineState::finish(Slot& slot) {
  if (slot.under_way) ops_->finish_download(static_cast<int32_t>(&slot - slots_));
}

// Runs what requests will run, on pictures and pages of zeros: so many pictures and tokens, half as many and so on, for kernels and algorithms go by
// rows; then one token for each number of sequences, the likeliest and sampled, first as it is, for nothing should be loaded inside a recording, then
// recorded for each slot.
void EngineState::warm() {
  const VisionSpec& v = spec_.vision;
  for (int32_t n = std::min(limits_.encode_tiles, limits_.vision_rows / spec_.rows_per_tile()); n; n /= 2)
    see(std::vector<Picture>(static_cast<size_t>(n), {v.image, v.image, v.grid(), v.grid()}), 0);

  auto run_step = [&](int32_t sequences, int32_t tokens, int32_t rows, int slot, bool sampled = false) {
    Batch b;
    for (int32_t r = 0; sampled && r < rows; ++r) b.sample.emplace_back().slot = r;
    b.token.assign(static_cast<size_t>(sequences * tokens), 0), b.vision_row.assign(b.token.size(), -1);
    b.past.assign(static_cast<size_t>(sequences), 0), b.rope_length.assign(b.past.size(), tokens);
    const int32_t pages = (tokens + limits_.page_tokens - 1) / limits_.page_tokens;
    for (int32_t s = 0; s <= sequences; ++s) b.seq_start.push_back(s * tokens), b.page_start.push_back(s * pages);
    for (int32_t p = 0; p < sequences * pages; ++p) b.page.push_back(p);
    for (int32_t r = 0; r < rows; ++r) b.logits_row.push_back((r + 1) * tokens - 1);
    slots_[slot].batch = std::move(b);
    step(slots_[slot], &slots_[(slot + kSlots - 1) % kSlots]);
    finish(slots_[slot]);
  };
  for (int32_t n = std::min({limits_.step_tokens, limits_.context, limits_.pages * limits_.page_tokens}); n > 1; n /= 2) run_step(1, n, 1, 0);
  for (int32_t n = std::min(limits_.sequences, limits_.pages); n; --n) {
    for (bool sampled : {false, true}) {
      if (sampled && !ops_->samples()) break;
      run_step(n, 1, n - 1, 0, sampled);
      for (int slot = 0; slot < kSlots; ++slot) run_step(n, 1, n, slot, sampled);
    }
  }
  for (Slot& s : slots_) s.batch = {};
}

void EngineState::collect(int32_t* ids) {
  if (collected_ == submitted_) throw request_error("No step is in flight");
  Slot& slot = slots_[collected_++ % kSlots];
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return slot.queued; });
  }
  if (slot.failure) std::rethrow_exception(slot.failure);
  if (slot.under_way) run([&] { finish(slot); });           // after the step submitted behind it, if any, has been queued
  std::copy_n(slot.host_ids.begin(), slot.batch.logits_row.size(), ids);
}

const float* EngineState::logits() {
  if (!collected_) throw request_error("No step has been collected");
  const Slot& slot = slots_[(collected_ - 1) % kSlots];    // no step writes there before the next collect
  const Tensor logits = slot.logits.slice(0, static_cast<int64_t>(slot.batch.logits_row.size()));
  run([&] { ops_->download(host_logits_.data(), logits.data, logits.bytes()); });
  return host_logits_.data();
}

int64_t EngineState::trace(const char* name, float* out, int64_t capacity) {
  int64_t count = 0;
  run([&] {
    if (!out) {
      trace_.start(name);
      return;
    }
    const std::vector<float>* tap = trace_.find(name);
    count = tap ? static_cast<int64_t>(tap->size()) : 0;
    if (count) std::memcpy(out, tap->data(), static_cast<size_t>(std::min(count, capacity)) * 4);
  });
  return count;
}

}  // namespace jvlm
