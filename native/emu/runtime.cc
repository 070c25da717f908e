#include "emu/cuda_runtime.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "emu/memory.h"
#include "emu/nvtx3/nvToolsExt.h"

using jvlm::emu::Kind;
using Work = std::function<void()>;
using List = std::vector<Work>;

struct CUstream_st {
  std::deque<Work> queue;
  uint64_t queued = 0, done = 0;                           // ever
  std::unique_ptr<List> recording;                         // of a graph
  bool invalid = false;                                    // something was called that a recording cannot hold
  bool asked = false;                                      // whether it is done, since work was last done
};

// Shared with what waits for it: an event may be destroyed before that.
struct Moment {
  std::weak_ptr<CUstream_st> stream;
  uint64_t position = 0;                                   // of the stream: everything queued before
  std::chrono::steady_clock::time_point time;
};
struct CUevent_st {
  std::shared_ptr<Moment> moment = std::make_shared<Moment>();
};
struct CUgraph_st {
  std::shared_ptr<List> list;
};
struct CUgraphExec_st {
  std::shared_ptr<List> list;
};

namespace {

std::recursive_mutex mutex;
std::set<std::shared_ptr<CUstream_st>>& streams() {
  static auto* all = new std::set<std::shared_ptr<CUstream_st>>();
  return *all;
}
std::set<std::unique_ptr<CUevent_st>>& events() {
  static auto* all = new std::set<std::unique_ptr<CUevent_st>>();
  return *all;
}
size_t graphs = 0;
cudaError_t broken = cudaSuccess, last = cudaSuccess;

struct Injection {
  std::string call;
  cudaError_t code;
  int skip;
};
std::vector<Injection> from_environment() {
  const char* text = std::getenv("JVLM_EMU_FAIL");
  char call[64];
  int code = 0, skip = 0;
  if (!text) return {};
  if (std::sscanf(text, "%63[^:]:%d:%d", call, &code, &skip) != 3) std::abort();
  return {{call, static_cast<cudaError_t>(code), skip}};
}
std::vector<Injection> injections = from_environment();
bool hanging = false;                                      // a kernel that never ends has begun

bool beyond_recovery(cudaError_t e) {
  return e == cudaErrorIllegalAddress || e == cudaErrorLaunchTimeout || e == cudaErrorLaunchFailure || e == cudaErrorECCUncorrectable;
}

cudaError_t result(cudaError_t e) {
  if (e != cudaSuccess) last = e;
  return e;
}

std::map<std::string, size_t> calls;                       // how often each was made, ever
std::set<const void*> kernels;                             // launched or recorded, ever

// What an entry returns at once, if it does.
cudaError_t enter(const char* call) {
  ++calls[call];
  for (auto i = injections.begin(); i != injections.end(); ++i) {
    if (i->call != call || i->skip-- > 0) continue;
    const cudaError_t code = i->code;
    injections.erase(i);
    if (beyond_recovery(code)) broken = code;
    return result(code);
  }
  return result(broken);
}

#define JVLM_ENTER()                                       \
  std::lock_guard lock(mutex);                             \
  if (cudaError_t e = enter(__func__); e != cudaSuccess) return e

// What frees or ends something does so after an error too, and then returns that error.
#define JVLM_ENTER_TO_FREE()   \
  std::lock_guard lock(mutex); \
  const cudaError_t entered = enter(__func__)

std::shared_ptr<CUstream_st> owned(cudaStream_t stream) {
  for (const auto& s : streams())
    if (s.get() == stream) return s;
  return nullptr;
}

// Does a stream's work up to a position.
void advance(CUstream_st& s, uint64_t position) {
  while (!hanging && s.done < position && !s.queue.empty()) {
    Work work = std::move(s.queue.front());
    s.queue.pop_front();
    ++s.done;
    try {
      work();
    } catch (...) {
      s.done += s.queue.size();                            // what came after the fault is not done
      s.queue.clear();
      throw;
    }
  }
}

// A fault that a call met which destructors make, and which therefore cannot throw it: the next call that waits does.
std::string unthrown;

template <class F>
void without_throwing(F f) {
  try {
    f();
  } catch (const jvlm::emu::Fault& fault) {
    std::fprintf(stderr, "%s\n", fault.what());
    if (unthrown.empty()) unthrown = fault.what();
  }
}

void throw_unthrown() {
  if (unthrown.empty()) return;
  const jvlm::emu::Fault fault(unthrown);
  unthrown.clear();
  throw fault;
}

void advance_all() {
  for (const auto& s : std::set(streams())) advance(*s, s->queued);
  if (hanging) throw jvlm::emu::Fault("emu: this call waits for a kernel that never ends");
  throw_unthrown();
  jvlm::emu::check_margins();
}

// True where a call that a recording forbids was made; the recording is lost.
bool recording() {
  bool any = false;
  for (const auto& s : streams())
    if (s->recording) any = s->invalid = true;
  return any;
}

cudaError_t put(cudaStream_t stream, Work work) {
  auto s = owned(stream);
  if (!s) return result(cudaErrorInvalidResourceHandle);   // the default stream too: it would wait for all others
  if (s->recording) {
    s->recording->push_back(std::move(work));
  } else {
    s->queue.push_back(std::move(work));
    ++s->queued;
  }
  return cudaSuccess;
}

void reach(Moment& m) {
  if (auto s = m.stream.lock()) advance(*s, m.position);
}

// Whether a stream has come to a position. The first time that somebody asks, it has not.
cudaError_t query(CUstream_st& s, uint64_t position) {
  if (recording()) return result(cudaErrorStreamCaptureUnsupported);
  if (s.done < position && !s.asked) {
    s.asked = true;
    return cudaErrorNotReady;
  }
  s.asked = false;
  advance(s, position);
  if (hanging) return cudaErrorNotReady;
  throw_unthrown();
  jvlm::emu::check_margins();
  return cudaSuccess;
}

bool on(Kind kind, const void* p, size_t bytes) { return jvlm::emu::contains(p, bytes, kind); }

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  JVLM_ENTER();
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  JVLM_ENTER();
  return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  JVLM_ENTER();
  if (device != 0) return result(cudaErrorInvalidDevice);
  *p = {};
  std::strcpy(p->name, "SIMT emulation");
  p->totalGlobalMem = jvlm::emu::options().memory_bytes;
  p->sharedMemPerBlockOptin = jvlm::emu::shared_limit();
  p->major = jvlm::emu::options().architecture / 10;
  p->minor = jvlm::emu::options().architecture % 10;
  p->multiProcessorCount = 4;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  JVLM_ENTER();
  *total_bytes = jvlm::emu::options().memory_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, jvlm::emu::allocated(Kind::device));
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  JVLM_ENTER();
  if (recording()) return result(cudaErrorStreamCaptureUnsupported);
  advance_all();
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  std::lock_guard lock(mutex);
  const cudaError_t e = last;
  last = broken;
  return e;
}

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
#define JVLM_NAME(e) \
  case e: return #e
    JVLM_NAME(cudaSuccess);
    JVLM_NAME(cudaErrorInvalidValue);
    JVLM_NAME(cudaErrorMemoryAllocation);
    JVLM_NAME(cudaErrorInitializationError);
    JVLM_NAME(cudaErrorInvalidConfiguration);
    JVLM_NAME(cudaErrorInsufficientDriver);
    JVLM_NAME(cudaErrorDevicesUnavailable);
    JVLM_NAME(cudaErrorNoDevice);
    JVLM_NAME(cudaErrorInvalidDevice);
    JVLM_NAME(cudaErrorNoKernelImageForDevice);
    JVLM_NAME(cudaErrorECCUncorrectable);
    JVLM_NAME(cudaErrorUnsupportedPtxVersion);
    JVLM_NAME(cudaErrorInvalidResourceHandle);
    JVLM_NAME(cudaErrorNotReady);
    JVLM_NAME(cudaErrorIllegalAddress);
    JVLM_NAME(cudaErrorLaunchOutOfResources);
    JVLM_NAME(cudaErrorLaunchTimeout);
    JVLM_NAME(cudaErrorLaunchFailure);
    JVLM_NAME(cudaErrorCooperativeLaunchTooLarge);
    JVLM_NAME(cudaErrorSystemDriverMismatch);
    JVLM_NAME(cudaErrorStreamCaptureUnsupported);
    JVLM_NAME(cudaErrorStreamCaptureInvalidated);
#undef JVLM_NAME
  }
  return "unknown error";
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  JVLM_ENTER();
  if (recording()) return result(cudaErrorStreamCaptureUnsupported);
  *memory = jvlm::emu::allocate(bytes, Kind::device, jvlm::emu::options().memory_bytes);
  return result(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* memory) {
  JVLM_ENTER_TO_FREE();
  if (recording()) return result(cudaErrorStreamCaptureUnsupported);
  if (!memory) return entered;
  if (entered == cudaSuccess) without_throwing(advance_all);
  bool released = true;
  without_throwing([&] { released = jvlm::emu::release(memory, Kind::device); });
  return result(released ? entered : cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  JVLM_ENTER();
  if (recording()) return result(cudaErrorStreamCaptureUnsupported);
  *memory = jvlm::emu::allocate(bytes, Kind::pinned, size_t{1} << 40);
  return result(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

// Waits for nothing: a queued copy that uses the memory is a fault when its turn comes.
cudaError_t cudaFreeHost(void* memory) {
  JVLM_ENTER_TO_FREE();
  if (!memory) return entered;
  bool released = true;
  without_throwing([&] { released = jvlm::emu::release(memory, Kind::pinned); });
  return result(released ? entered : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  JVLM_ENTER();
  if (recording()) return result(cudaErrorStreamCaptureUnsupported);
  if (kind != cudaMemcpyHostToDevice && !on(Kind::device, from, bytes)) return result(cudaErrorInvalidValue);
  if (kind != cudaMemcpyDeviceToHost && !on(Kind::device, to, bytes)) return result(cudaErrorInvalidValue);
  advance_all();
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

// Stricter than CUDA, which copies from unpinned memory too, but then waits.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  JVLM_ENTER();
  const Kind source = kind == cudaMemcpyHostToDevice ? Kind::pinned : Kind::device;
  const Kind target = kind == cudaMemcpyDeviceToHost ? Kind::pinned : Kind::device;
  if (!on(source, from, bytes) || !on(target, to, bytes)) return result(cudaErrorInvalidValue);
  return put(stream, [=] {
    if (!on(source, from, bytes) || !on(target, to, bytes)) throw jvlm::emu::Fault("emu: a queued copy uses memory that has been freed");
    std::memmove(to, from, bytes);
  });
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  JVLM_ENTER();
  if (!on(Kind::device, memory, bytes)) return result(cudaErrorInvalidValue);
  return put(stream, [=] {
    if (!on(Kind::device, memory, bytes)) throw jvlm::emu::Fault("emu: a queued fill uses memory that has been freed");
    std::memset(memory, value, bytes);
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  JVLM_ENTER();
  auto s = std::make_shared<CUstream_st>();
  *stream = s.get();
  streams().insert(std::move(s));
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  JVLM_ENTER_TO_FREE();
  auto s = owned(stream);
  if (!s) return result(cudaErrorInvalidResourceHandle);
  streams().erase(s);
  if (entered == cudaSuccess) without_throwing([&] { advance(*s, s->queued); });
  return entered;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  JVLM_ENTER();
  auto s = owned(stream);
  return s ? query(*s, s->queued) : result(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  JVLM_ENTER();
  // As it is recorded now: a later record of the same event is another moment.
  auto moment = event->moment;
  if (moment->stream.expired()) return cudaSuccess;        // never recorded, or its stream has gone after its work
  if (auto s = owned(stream); s && s->recording) return result(cudaErrorStreamCaptureUnsupported);
  return put(stream, [moment] { reach(*moment); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  JVLM_ENTER();
  *event = events().insert(std::make_unique<CUevent_st>()).first->get();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  std::lock_guard lock(mutex);
  std::erase_if(events(), [=](const auto& e) { return e.get() == event; });
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  JVLM_ENTER();
  auto s = owned(stream);
  if (!s) return result(cudaErrorInvalidResourceHandle);
  if (s->recording) return result(cudaErrorStreamCaptureUnsupported);
  auto moment = std::make_shared<Moment>();
  moment->stream = s;
  event->moment = moment;
  put(stream, [moment] { moment->time = std::chrono::steady_clock::now(); });
  moment->position = s->queued;
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  JVLM_ENTER();
  auto s = event->moment->stream.lock();
  return s ? query(*s, event->moment->position) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  JVLM_ENTER();
  *milliseconds = std::chrono::duration<float, std::milli>(to->moment->time - from->moment->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  JVLM_ENTER();
  auto s = owned(stream);
  if (!s) return result(cudaErrorInvalidResourceHandle);
  if (s->recording) return result(cudaErrorStreamCaptureUnsupported);
  s->recording = std::make_unique<List>();
  s->invalid = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  JVLM_ENTER_TO_FREE();
  *graph = nullptr;
  auto s = owned(stream);
  if (!s || !s->recording) return result(cudaErrorInvalidResourceHandle);
  auto list = std::move(s->recording);
  if (entered != cudaSuccess) return entered;
  if (s->invalid) return result(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(list)};
  ++graphs;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  JVLM_ENTER();
  *exec = new CUgraphExec_st{graph->list};
  ++graphs;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  std::lock_guard lock(mutex);
  delete graph;
  --graphs;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  std::lock_guard lock(mutex);
  delete exec;
  --graphs;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  JVLM_ENTER();
  auto s = owned(stream);
  if (!s) return result(cudaErrorInvalidResourceHandle);
  if (s->recording) return result(cudaErrorStreamCaptureUnsupported);
  return put(stream, [list = exec->list] {
    for (const Work& work : *list) work();
  });
}

namespace {
std::vector<std::string> ranges;
}
int nvtxRangePushA(const char* name) {
  std::lock_guard lock(mutex);
  ranges.push_back(name);
  return 0;
}
int nvtxRangePop() {
  std::lock_guard lock(mutex);
  ranges.push_back("");
  return 0;
}

namespace jvlm::emu {

std::vector<std::string> take_ranges() {
  std::lock_guard lock(mutex);
  return std::move(ranges);
}

cudaError_t enqueue(cudaStream_t stream, Launch launch) {
  std::lock_guard lock(mutex);
  const cudaError_t e = enter("cudaLaunchKernelExC");
  kernels.insert(launch.entry);
  if (e == cudaErrorNotReady) return put(stream, [] { hanging = true; });
  if (e != cudaSuccess) return e;
  const uint64_t threads = uint64_t{launch.block.x} * launch.block.y * launch.block.z, blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  if (!threads || !blocks || threads > 1024 || launch.block.z > 64 || launch.grid.y > 65535 || launch.grid.z > 65535)
    return result(cudaErrorInvalidConfiguration);
  if (launch.shared_bytes > shared_limit()) return result(cudaErrorInvalidValue);
  return put(stream, [launch = std::make_shared<Launch>(std::move(launch))] { run(*launch); });
}

void fail_next(const char* call, cudaError_t code, int skip) {
  std::lock_guard lock(mutex);
  injections.push_back({call, code, skip});
}

void reset() {
  std::lock_guard lock(mutex);
  injections.clear();
  hanging = false;
  broken = last = cudaSuccess;
  unthrown.clear();
  for (const auto& s : streams()) {
    s->done = s->queued;
    s->queue.clear();
    s->recording.reset();
  }
}

size_t queued() {
  std::lock_guard lock(mutex);
  size_t n = 0;
  for (const auto& s : streams()) n += s->queue.size();
  return n;
}

size_t live_objects() {
  std::lock_guard lock(mutex);
  return streams().size() + events().size() + graphs + count_allocations();
}

}  // namespace jvlm::emu

// For tests that open libjvlm_emu: how often a call was made; "kernels": how many different ones were launched; "queued": pieces of work
// not yet done.
extern "C" __attribute__((visibility("default"))) size_t jvlm_emu_count(const char* call) {
  std::lock_guard lock(mutex);
  const std::string what = call;
  return what == "kernels" ? kernels.size() : what == "queued" ? jvlm::emu::queued() : calls[what];
}
