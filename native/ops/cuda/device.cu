#include "ops/cuda/device.h"

#include <cuda_runtime.h>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define JVLM_NVTX 1
#endif

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "ops/cuda/launch.cuh"

namespace jvlm::cuda {
namespace {

std::string mebibytes(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

// The cause and the remedy of what a user can do something about.
std::string explained(cudaError_t code) {
  switch (code) {
    case cudaErrorNoDevice: return "no CUDA device is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use device cpu";
    case cudaErrorInsufficientDriver:
      return "there is no NVIDIA driver, or it is older than this build's CUDA; install a newer driver (nvidia-smi shows what it serves), or use device cpu";
    case cudaErrorSystemDriverMismatch: return "the NVIDIA kernel module and the driver library are of different versions; reboot or reinstall the driver";
    case cudaErrorInitializationError: return "the NVIDIA driver does not start; check nvidia-smi, or use device cpu";
    case cudaErrorInvalidDevice: return "there is no CUDA device of that number; nvidia-smi -L lists them, counting from 0";
    case cudaErrorDevicesUnavailable: return "the card is taken by another process in exclusive mode; end that one or set the compute mode to default";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "this build has no code that the card and its driver can run; rebuild for its architecture or install a newer driver";
    case cudaErrorMemoryAllocation: return "the card has not enough free memory; lower the limits of the memory plan or end other processes on it";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure: return "a kernel accessed memory that is not its own; this is a fault of jvlm, please report model and request. Start the process again";
    case cudaErrorLaunchTimeout: return "a kernel ran longer than the card's watchdog allows; use a card without a display. Start the process again";
    case cudaErrorECCUncorrectable: return "the card's memory failed; reset the card (nvidia-smi -r) and have it checked if this returns";
    default: return "the CUDA runtime reports it; this is a fault of jvlm or of the driver, please report it";
  }
}

void check(cudaError_t code, const char* doing) {
  if (code == cudaSuccess) return;
  cudaGetLastError();                                      // one that the card recovers from is not reported twice
  const std::string sentence = std::string("CUDA failed while ") + doing + " (" + cudaGetErrorName(code) + "): " + explained(code);
  throw code == cudaErrorMemoryAllocation ? capacity(sentence) : device_error(sentence);
}

std::atomic<bool> a_kernel_hangs{false};

std::chrono::seconds longest_wait() {
  const char* text = std::getenv("JVLM_DEVICE_TIMEOUT");
  if (!text) return std::chrono::seconds(60);
  char* end = nullptr;
  errno = 0;
  const long seconds = std::strtol(text, &end, 10);
  if (errno || end == text || *end || seconds < 1 || seconds > 1 << 30)
    throw device_error("JVLM_DEVICE_TIMEOUT is '" + std::string(text) + "'; it must be a whole number of seconds, 1 or more");
  return std::chrono::seconds(seconds);
}

// Asks until it is done. The runtime's own waits know no end; they ask as often.
template <class Query>
void wait_for_end(Query query, const char* doing) {
  static const std::chrono::seconds longest = longest_wait();
  const auto end = std::chrono::steady_clock::now() + longest;
  for (cudaError_t code; (code = query()) != cudaSuccess; std::this_thread::yield()) {
    if (code != cudaErrorNotReady) return check(code, doing);
    if (!hung() && std::chrono::steady_clock::now() < end) continue;
    a_kernel_hangs = true;
    throw device_error("The card has not finished its work within " + std::to_string(longest.count()) +
                       " seconds: a kernel hangs, or work takes longer than JVLM_DEVICE_TIMEOUT allows. Start the process again, with more seconds there if so");
  }
}

size_t size(int64_t bytes) { return static_cast<size_t>(bytes); }

}  // namespace

void check(int code, const char* doing) { check(static_cast<cudaError_t>(code), doing); }

bool hung() { return a_kernel_hangs; }

int device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice) {
    cudaGetLastError();
    return 0;
  }
  check(code, "looking for cards");
  return count;
}

DeviceInfo use_device(int index) {
  static_cast<void>(longest_wait());                       // what cannot be read is told now
  if (hung()) throw device_error("A kernel of this process hangs on a card, and no engine can be opened any more. Start the process again");
  check(cudaSetDevice(index), "opening the card");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "asking for the card's properties");
  DeviceInfo info;
  info.name = properties.name;
  info.architecture = properties.major * 10 + properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  info.shared_bytes = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  if (info.architecture < 80)
    throw device_error(info.name + " is of architecture sm_" + std::to_string(info.architecture) + ", and the kernels need sm_80 (Ampere) or newer; use device cpu");
  info.free_bytes = free_memory();
  return info;
}

int64_t free_memory() {
  size_t free_bytes = 0, total = 0;
  check(cudaMemGetInfo(&free_bytes, &total), "asking for free memory");
  return static_cast<int64_t>(free_bytes);
}

void* allocate(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t code = cudaMalloc(&memory, size(std::max<int64_t>(bytes, 1)));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw capacity("The card has " + mebibytes(free_memory()) + " free and " + mebibytes(bytes) +
                   " are needed; lower the limits of the memory plan or end other processes on the card");
  }
  check(code, "allocating memory");
  return memory;
}
// Runs in destructors, where there is nobody to tell: the error stays with the device and is met by the next call.
void release(void* memory) {
  if (!hung()) static_cast<void>(cudaFree(memory));
}

void* allocate_pinned(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t code = cudaMallocHost(&memory, size(std::max<int64_t>(bytes, 1)));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw capacity("The system grants no " + mebibytes(bytes) + " of pinned memory; free host memory or lower the limits of the memory plan");
  }
  check(code, "allocating pinned memory");
  return memory;
}
void release_pinned(void* memory) {
  if (!hung()) static_cast<void>(cudaFreeHost(memory));
}

void upload(StreamHandle stream, void* device, const void* pinned, int64_t bytes) {
  check(cudaMemcpyAsync(device, pinned, size(bytes), cudaMemcpyHostToDevice, stream), "queueing a copy to the card");
}
void download(StreamHandle stream, void* pinned, const void* device, int64_t bytes) {
  check(cudaMemcpyAsync(pinned, device, size(bytes), cudaMemcpyDeviceToHost, stream), "queueing a copy from the card");
}
void copy(StreamHandle stream, void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size(bytes), cudaMemcpyDeviceToDevice, stream), "queueing a copy inside the card");
}
void fill(StreamHandle stream, void* device, uint8_t value, int64_t bytes) {
  check(cudaMemsetAsync(device, value, size(bytes), stream), "queueing a fill");
}
// cudaMemcpy waits for the default stream only, and ours do not wait for that one.
void upload_now(void* device, const void* host, int64_t bytes) {
  synchronise();
  check(cudaMemcpy(device, host, size(bytes), cudaMemcpyHostToDevice), "copying to the card");
}
void download_now(void* host, const void* device, int64_t bytes) {
  synchronise();
  check(cudaMemcpy(host, device, size(bytes), cudaMemcpyDeviceToHost), "copying from the card");
}

Event::Event(bool timed) { check(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming), "making an event"); }
Event::~Event() {
  if (!hung()) static_cast<void>(cudaEventDestroy(event_));
}
void Event::record(StreamHandle stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
void Event::wait() const {
  wait_for_end([this] { return cudaEventQuery(event_); }, "waiting for an event");
}
bool Event::done() const {
  const cudaError_t code = cudaEventQuery(event_);
  if (code != cudaErrorNotReady) check(code, "asking for an event");
  return code == cudaSuccess;
}
float Event::milliseconds_since(const Event& earlier) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "timing");
  return milliseconds;
}

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
Stream::~Stream() {
  if (!hung()) static_cast<void>(cudaStreamDestroy(stream_));
}
void Stream::wait() const {
  wait_for_end([this] { return cudaStreamQuery(stream_); }, "waiting for the card");
}
void Stream::wait_for(const Event& event) const { check(cudaStreamWaitEvent(stream_, event.handle(), 0), "making a stream wait"); }

Graph::~Graph() {
  if (graph_ && !hung()) static_cast<void>(cudaGraphExecDestroy(graph_));
}
void Graph::begin(StreamHandle stream) { check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a graph"); }
void Graph::end(StreamHandle stream) {
  cudaGraph_t recorded = nullptr;
  check(cudaStreamEndCapture(stream, &recorded), "recording a graph");
  cudaGraphExec_t made = nullptr;
  const cudaError_t code = cudaGraphInstantiate(&made, recorded, 0);
  static_cast<void>(cudaGraphDestroy(recorded));
  check(code, "making a graph");
  if (graph_) static_cast<void>(cudaGraphExecDestroy(graph_));
  graph_ = made;
}
void Graph::drop(StreamHandle stream) {
  cudaGraph_t recorded = nullptr;
  if (cudaStreamEndCapture(stream, &recorded) == cudaSuccess) static_cast<void>(cudaGraphDestroy(recorded));
  cudaGetLastError();
}
void Graph::launch(StreamHandle stream) const { check(cudaGraphLaunch(graph_, stream), "starting a graph"); }

void synchronise() { check(cudaDeviceSynchronize(), "waiting for the card"); }

#ifdef JVLM_NVTX
void begin_range(const char* stage, int layer) {
  char name[32];
  if (layer >= 0) std::snprintf(name, sizeof name, "%s.%d", stage, layer);
  nvtxRangePushA(layer >= 0 ? name : stage);
}
void end_range() { nvtxRangePop(); }
#else
void begin_range(const char*, int) {}
void end_range() {}
#endif

#if defined(__CUDACC__)
void launch_kernel(StreamHandle stream, const void* kernel, const Shape& shape, void** list) {
  // Beyond 48 KiB a kernel must ask.
  if (shape.shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)), "giving a kernel shared memory");
  bool overlapping = false;                                // what no card below sm_90 has
  if (shape.mode == Mode::overlapping) {
    int device = 0, major = 0;
    check(cudaGetDevice(&device), "asking for the card");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking for the architecture");
    overlapping = major >= 9;
  }
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid, config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  if (shape.mode == Mode::resident) {
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    config.numAttrs = 1;
  } else if (overlapping) {
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.numAttrs = 1;
  }
  check(cudaLaunchKernelExC(&config, kernel, list), "starting a kernel");
}
#endif

}  // namespace jvlm::cuda
