// The CUDA runtime as the backend uses it; device.cu is the only file that calls it. No CUDA header is needed to include this one.
// Everything throws Error: DEVICE for what is wrong with driver, card or code, CAPACITY where memory does not suffice. After an error
// that the card does not recover from, every later call throws the same.
//
// A wait ends after JVLM_DEVICE_TIMEOUT seconds (60 where it is not set) with DEVICE: a kernel hangs, as far as anybody can tell. Whatever waits for
// the card would wait for ever then, freeing too: nothing is freed any more, and the process opens no card again.
#pragma once
#include <cstdint>
#include <string>

struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;

namespace jvlm::cuda {

using StreamHandle = CUstream_st*;

struct DeviceInfo {
  std::string name;
  int architecture = 0;                                    // 80, 86, 89, 90, 120, ...
  int multiprocessors = 0;
  int64_t memory_bytes = 0, free_bytes = 0;
  int64_t shared_bytes = 0;                                // of dynamic shared memory that a block may have
};

// Cards that the driver shows, 0 without a card. No driver, or one that is too old, is DEVICE.
int device_count();
// Whether a wait has ended so.
bool hung();
// Makes card `index` the calling thread's; every thread calls it before anything below. An architecture below sm_80 is DEVICE.
DeviceInfo use_device(int index);

// ---- memory ---------------------------------------------------------------------------------------------------------------------------
void* allocate(int64_t bytes);                             // 256-byte aligned, not zeroed
void release(void* memory);                                // waits for the device
void* allocate_pinned(int64_t bytes);
void release_pinned(void* memory);
int64_t free_memory();

// Queued. Host memory is pinned and keeps its content until the stream has come by: nothing is copied aside.
void upload(StreamHandle stream, void* device, const void* pinned, int64_t bytes);
void download(StreamHandle stream, void* pinned, const void* device, int64_t bytes);
void copy(StreamHandle stream, void* to, const void* from, int64_t bytes);           // inside the device
void fill(StreamHandle stream, void* device, uint8_t value, int64_t bytes);
// At once, from any host memory; waits for the device first and until it is done.
void upload_now(void* device, const void* host, int64_t bytes);
void download_now(void* host, const void* device, int64_t bytes);

// ---- order ----------------------------------------------------------------------------------------------------------------------------
class Event {
 public:
  explicit Event(bool timed = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(StreamHandle stream);
  void wait() const;                                       // the calling thread
  bool done() const;
  float milliseconds_since(const Event& earlier) const;    // both timed and done
  CUevent_st* handle() const { return event_; }

 private:
  CUevent_st* event_ = nullptr;
};

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator StreamHandle() const { return stream_; }
  void wait() const;                                       // the calling thread
  void wait_for(const Event& event) const;                 // the stream

 private:
  CUstream_st* stream_ = nullptr;
};

// What was queued on a stream between begin and end, not run: queued again as a whole by each launch, with the arguments of the recording.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void begin(StreamHandle stream);
  void end(StreamHandle stream);
  void drop(StreamHandle stream);                          // ends a recording that went wrong; the graph stays empty
  void launch(StreamHandle stream) const;
  explicit operator bool() const { return graph_ != nullptr; }

 private:
  CUgraphExec_st* graph_ = nullptr;
};

void synchronise();                                        // the calling thread with all streams

// Ranges of the calling thread that Nsight Systems shows, where NVTX was there when this was built. Without a profiler a call costs a short name.
void begin_range(const char* stage, int layer);            // "stage", or "stage.layer" where layer is not below 0
void end_range();

// A runtime call's result; `doing` completes "... failed while".
void check(int code, const char* doing);

}  // namespace jvlm::cuda
