#include "ops/cpu/gemm.h"

#include <unistd.h>

#include <thread>
#include <unordered_map>
#include <vector>

#ifdef JVLM_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>

#include "ops/cpu/team.h"
#endif

namespace jvlm::cpu {
namespace {

#ifdef JVLM_ONEDNN

using dnnl::memory;

// oneDNN's threads are those of gcc's OpenMP. After each product they wait awake for milliseconds, in the way of our own (team.h), unless the
// process has more of them than cores; then they sleep at once. So a thread that never ends keeps one more.
void let_idle_threads_sleep() {
  static const bool once = [] {
    std::thread([] {
#pragma omp parallel num_threads(2)
      {}
      for (;;) ::pause();
    }).detach();
    return true;
  }();
  static_cast<void>(once);
}

// Primitives are made once a shape: products of the vision tower have one row count, a prompt's chunks two or three.
class OneDnnGemm : public Gemm {
 public:
  OneDnnGemm() { let_idle_threads_sleep(); }
  void product(Tensor sum, Tensor x, const float* w) override { run(sum, x, w, Epilogue()); }
  bool fused(Tensor out, Tensor x, const float* w, const Epilogue& end) override {
    run(out, x, w, end);
    return true;
  }

 private:
  struct Made {
    dnnl::matmul primitive;
    memory::desc src, weights, dst, row, scratchpad;
  };
  struct Key {
    int64_t v[6];
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const {
      size_t h = 0;
      for (int64_t v : k.v) h = h * 1000003 ^ static_cast<size_t>(v);
      return h;
    }
  };

  static memory::desc matrix(const Tensor& t) { return {{t.rows, t.cols}, memory::data_type::f32, {t.stride, 1}}; }

  Made make(const Tensor& out, const Tensor& x, const Epilogue& end) {
    Made m;
    m.src = matrix(x);
    m.weights = memory::desc({x.cols, out.cols}, memory::data_type::f32, memory::dims{1, x.cols});
    m.dst = matrix(out);
    m.row = memory::desc({1, out.cols}, memory::data_type::f32, memory::format_tag::ab);
    dnnl::post_ops post;
    switch (end.act) {
      case Act::none: break;
      case Act::gelu: post.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0); break;
      case Act::gelu_tanh: post.append_eltwise(dnnl::algorithm::eltwise_gelu_tanh, 0, 0); break;
      case Act::silu: post.append_eltwise(dnnl::algorithm::eltwise_swish, 1, 0); break;
    }
    if (end.layer_scale) post.append_binary(dnnl::algorithm::binary_mul, m.row);
    if (end.add) post.append_sum(1);
    dnnl::primitive_attr attr;
    attr.set_post_ops(post);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::matmul::primitive_desc desc = end.bias ? dnnl::matmul::primitive_desc(engine_, m.src, m.weights, m.row, m.dst, attr)
                                                 : dnnl::matmul::primitive_desc(engine_, m.src, m.weights, m.dst, attr);
    m.primitive = dnnl::matmul(desc);
    m.scratchpad = desc.scratchpad_desc();
    if (scratch_.size() < m.scratchpad.get_size() + 64) scratch_.resize(m.scratchpad.get_size() + 64);
    return m;
  }

  void run(const Tensor& out, const Tensor& x, const float* w, const Epilogue& end) {
    const Key key = {{x.rows, x.cols, out.cols, x.stride, out.stride,
                      static_cast<int64_t>(end.act) * 8 + (end.bias ? 1 : 0) + (end.layer_scale ? 2 : 0) + (end.add ? 4 : 0)}};
    auto it = made_.find(key);
    if (it == made_.end()) {
      if (made_.size() >= kMostShapes) made_.clear();
      it = made_.emplace(key, make(out, x, end)).first;
    }
    const Made& m = it->second;
    auto at = [&](const memory::desc& d, const void* p) { return memory(d, engine_, const_cast<void*>(p)); };
    const size_t offset = (64 - reinterpret_cast<uintptr_t>(scratch_.data()) % 64) % 64;
    std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, at(m.src, x.data)},
                                            {DNNL_ARG_WEIGHTS, at(m.weights, w)},
                                            {DNNL_ARG_DST, at(m.dst, out.data)},
                                            {DNNL_ARG_SCRATCHPAD, at(m.scratchpad, scratch_.data() + offset)}};
    if (end.bias) args.insert({DNNL_ARG_BIAS, at(m.row, end.bias)});
    const int after = end.act != Act::none;               // the scale's place among the post-ops
    if (end.layer_scale) args.insert({DNNL_ARG_ATTR_MULTIPLE_POST_OP(after) | DNNL_ARG_SRC_1, at(m.row, end.layer_scale)});
    rest_team();
    m.primitive.execute(stream_, args);
    stream_.wait();
  }

  static constexpr size_t kMostShapes = 512;

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::unordered_map<Key, Made, Hash> made_;
  std::vector<char> scratch_;
};

#endif

class OwnGemm : public Gemm {
 public:
  explicit OwnGemm(Isa isa) : kernels_(isa >= Isa::avx512 ? avx512::gemm_table : isa == Isa::avx2 ? avx2::gemm_table : portable::gemm_table) {}
  void product(Tensor sum, Tensor x, const float* w) override { kernels_.product(sum, x, w); }
  bool fused(Tensor, Tensor, const float*, const Epilogue&) override { return false; }

 private:
  const OwnGemmKernels& kernels_;
};

}  // namespace

std::unique_ptr<Gemm> make_gemm(Isa isa) {
#ifdef JVLM_ONEDNN
  if (isa != Isa::portable) return std::make_unique<OneDnnGemm>();
#endif
  return std::make_unique<OwnGemm>(isa);
}

}  // namespace jvlm::cpu
