#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/backend.h"
#include "engine/batch.h"
#include "engine/limits.h"
#include "model/connector.h"
#include "model/decoder.h"
#include "model/vit.h"

namespace jvlm {

constexpr int kSlots = 3;              // one step being read by Java, two in flight

// Bytes by part, counted before anything is taken.
struct MemoryPlan {
  int64_t weights = 0, cache = 0, vision = 0, workspace = 0, logits = 0, scratch = 0;
  int64_t sampling = 0;                // where the backend samples
  int64_t total() const { return weights + cache + vision + workspace + logits + scratch + sampling; }
};

// What the operations of such a model need at most.
Scratch scratch_of(const Spec& spec, const Limits& limits);

MemoryPlan plan_memory(const Spec& spec, const Limits& limits, Ops& ops);

// A model on a device: weights, cache, buffers, and one worker thread on which everything runs, so that the caller never waits for a
// step that it has only queued, and loops have one team of threads.
class EngineState {
 public:
  EngineState(const std::string& device, const std::string& spec, const std::string& manifest, const std::string& limits, int64_t* progress);
  ~EngineState();

  void encode(const uint8_t* rgb, int32_t count, const int32_t* shape, int32_t first_row);
  void submit(const std::function<void(Batch&)>& assign);
  void collect(int32_t* ids);
  const float* logits();
  int64_t trace(const char* name, float* out, int64_t capacity);

  const Spec& spec() const { return spec_; }
  const Limits& limits() const { return limits_; }

 private:
  struct Slot {
    Batch batch;
    Tensor logits;                     // device
    int32_t* ids = nullptr;            // device
    std::vector<int32_t> host_ids;
    std::exception_ptr failure;
    bool queued = false;               // or failed
    bool under_way = false;            // host_ids come with finish_download
  };

  void work();
  void queue(std::function<void()> job);
  void run(std::function<void()> job);  // queues and waits
  void see(const std::vector<Picture>& pictures, int64_t first_row);   // whose bytes are in tiles_
  void step(Slot& slot, const Slot* before);
  void finish(Slot& slot);
  void warm();
  template <class T>
  T* place(const std::vector<T>& host);    // where it will lie on the device, once the step's indices are uploaded

  Spec spec_;
  Limits limits_;
  std::unique_ptr<Ops> ops_;
  Trace trace_;
  Taps taps_;
  std::unique_ptr<Vit> vit_;
  std::unique_ptr<Connector> connector_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<KvCache> cache_;
  Tensor vision_;
  Arena workspace_, indices_, host_indices_;
  std::vector<char> index_memory_;     // of host_indices_: the same pieces in the same places
  uint8_t* tiles_ = nullptr;
  int32_t* counts_ = nullptr;          // (sequences, vocabulary), as bias_; null where the backend does not sample
  float* bias_ = nullptr;
  std::vector<float> host_logits_;     // of the step collected last, once asked for
  Slot slots_[kSlots];
  int64_t submitted_ = 0, collected_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::thread worker_;
};

}  // namespace jvlm
