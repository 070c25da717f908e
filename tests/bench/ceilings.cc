// What this machine can do at best, as one JSON object: the ceilings that `jvlm bench` holds the stages against. Products are oneDNN's, on
// the best of a few shapes and with weights plain or packed, whichever is faster; without oneDNN our own in float32 is measured, and the object
// says so. Reading is done by all threads, over 1 GiB on huge pages. Every figure is the best of several rounds.
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/os.h"
#include "ops/cpu/gemm.h"
#include "reading.h"
#ifdef JVLM_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#endif

using namespace jvlm;

namespace {

constexpr double kSeconds = 0.15;                         // for one shape

struct Shape {
  int64_t m, n, k;
};
// A tile's and a prompt's products, and one square.
constexpr Shape kShapes[] = {{1025, 4096, 1024}, {1025, 3072, 1024}, {1856, 8192, 1536}, {1024, 1024, 1024}, {2048, 2048, 2048}};

// Memory on huge pages, freed at the end of its scope, holding small finite numbers of any type.
struct Memory {
  explicit Memory(int64_t n) : bytes(n), data(os::map_memory(n)) { std::memset(data, 1, static_cast<size_t>(n)); }
  ~Memory() { os::unmap_memory(data, bytes); }
  int64_t bytes;
  void* data;
};

#ifdef JVLM_ONEDNN

double product(dnnl::memory::data_type x, dnnl::memory::data_type w, dnnl::memory::data_type y) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  double most = 0;
  for (const Shape& s : kShapes)
    for (bool packed : {true, false}) try {
        const memory::desc src({s.m, s.k}, x, memory::dims{s.k, 1}), dst({s.m, s.n}, y, memory::dims{s.n, 1});
        const memory::desc weights = packed ? memory::desc({s.k, s.n}, w, memory::format_tag::any) : memory::desc({s.k, s.n}, w, memory::dims{1, s.k});
        const dnnl::matmul::primitive_desc desc(engine, src, weights, dst);
        dnnl::matmul matmul(desc);
        Memory a(static_cast<int64_t>(src.get_size())), b(static_cast<int64_t>(desc.weights_desc().get_size())), c(static_cast<int64_t>(dst.get_size()));
        const memory ma(src, engine, a.data), mb(desc.weights_desc(), engine, b.data), mc(dst, engine, c.data);
        const double time = best_of(kSeconds, [&] {
          matmul.execute(stream, {{DNNL_ARG_SRC, ma}, {DNNL_ARG_WEIGHTS, mb}, {DNNL_ARG_DST, mc}});
          stream.wait();
        });
        most = std::max(most, 2. * static_cast<double>(s.m * s.n * s.k) / time * 1e-9);
      } catch (const dnnl::error&) {
        // Not on this CPU.
      }
  return most;
}

#else

double product() {
  std::unique_ptr<cpu::Gemm> gemm = cpu::make_gemm(cpu::best_isa());
  double most = 0;
  for (const Shape& s : kShapes) {
    Memory a(s.m * s.k * 4), b(s.n * s.k * 4), c(s.m * s.n * 4);
    const double time = best_of(kSeconds, [&] { gemm->product({c.data, Dtype::f32, s.m, s.n}, {a.data, Dtype::f32, s.m, s.k}, static_cast<const float*>(b.data)); });
    most = std::max(most, 2. * static_cast<double>(s.m * s.n * s.k) / time * 1e-9);
  }
  return most;
}

#endif

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

int main() {
  omp_set_num_threads(os::cpu_count());
#ifdef JVLM_ONEDNN
  using T = dnnl::memory::data_type;
  const char* by = "oneDNN";
  const double f32 = product(T::f32, T::f32, T::f32), bf16 = product(T::bf16, T::bf16, T::bf16), int8 = product(T::u8, T::s8, T::s32);
#else
  const char* by = "jvlm";
  const double f32 = product(), bf16 = 0, int8 = 0;
#endif
  const double read = ReadingMemory().best();
  std::printf("{\"cpu\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"gemm_by\": \"%s\", \"gemm_f32_gflops\": %.1f, \"gemm_bf16_gflops\": %.1f, "
              "\"gemm_int8_gops\": %.1f, \"read_gbs\": %.2f}\n",
              cpu_model().c_str(), cpu::name(cpu::best_isa()), omp_get_max_threads(), by, f32, bf16, int8, read);
}
