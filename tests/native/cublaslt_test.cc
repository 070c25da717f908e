// Products by cuBLASLt, on fake libraries (fake_cublaslt.cc), which the environment of each test names: no card and nothing of NVIDIA's is needed.
//
//   cublaslt_test                     products, on the fake that the loader finds
//   cublaslt_test opens SENTENCE      which library is found, or why none; a second run for each, for a library stays loaded
//   cublaslt_test alone SENTENCE      the same, where the loader shall find none
#include "ops/cuda/cublaslt.h"

#include <cstdlib>

#include "base/error.h"
#include "base/os.h"
#include "check.h"
#include "fake_cublaslt.h"
#include "ops/cuda/cuda_ops.h"

using namespace jvlm;
using namespace jvlm::cuda;
using test::Buffer;
using test::expect;

namespace {

FakeCublasLt* fake;

// A product's operands, in memory with NaN between the rows, and what the reference makes of them.
struct Operands {
  Operands(int64_t rows, int64_t n, int64_t k, Dtype type)
      : x(Dtype::bf16, rows, k, (k + 7) / 8 * 8 + 8), packed(Dtype::bf16, n, k, weight_stride(k)), plain(Dtype::bf16, n, k), bias(Dtype::f32, 1, n),
        got(type, rows, n, (n + 7) / 8 * 8 + 16), want(type, rows, n) {
    const auto seed = static_cast<uint32_t>(rows * 1000003 + n * 1009 + k);
    x.random(seed), plain.random(seed + 1), bias.random(seed + 2);
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < k; ++c) packed.set(r, c, plain.get(r, c));
    got.random(seed + 3);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < n; ++c) want.set(r, c, got.get(r, c));
  }
  Matrix weights() { return {packed.tensor().data, nullptr, Dtype::bf16, packed.rows(), packed.cols(), true}; }

  Buffer x, packed, plain, bias, got, want;
};

std::vector<char> workspace(32 << 20);
Queue queue() {
  Queue q;
  q.stream = reinterpret_cast<StreamHandle>(workspace.data());            // any pointer: handed on as it is
  return q;
}

void product(CublasLt& lt, int64_t rows, int64_t n, int64_t k, Dtype type, const End& like) {
  static const std::unique_ptr<Ops> reference = make_reference_ops(Dtype::bf16);
  Operands o(rows, n, k, type);
  End end = like;
  if (like.bias) end.bias = o.bias.floats();
  const Matrix plain{o.plain.tensor().data, nullptr, Dtype::bf16, n, k};
  const std::string name = std::to_string(rows) + "x" + std::to_string(n) + "x" + std::to_string(k) + (end.bias ? " bias" : "") + (end.kind == End::add ? " add" : "") +
                           (end.act == Act::gelu_tanh ? " gelu_tanh" : "") + (type == Dtype::f32 ? " to float" : " to bf16");
  const int before = fake->products;
  expect(name + " taken", lt.product(queue(), o.got, o.x, o.weights(), end, workspace.data()) && fake->products == before + 1);
  if (end.kind == End::add)
    reference->matmul_add(o.want, o.x, plain, end.bias, nullptr);
  else
    reference->matmul(o.want, o.x, plain, end.bias, end.act);
  test::compare(name, o.got, o.want, static_cast<double>(k), 1);
  const int epilogue = end.act == Act::none ? (end.bias ? 4 : 1) : end.bias ? 36 : 32;
  expect(name + " as described", fake->epilogue == epilogue && fake->beta == (end.kind == End::add ? 1.f : 0.f) && fake->stream == queue().stream &&
                                     fake->bias_type == (end.bias ? 0 : -1));
}

void products() {
  CublasLt lt(90);
  expect("description", lt.description() == "products by cuBLASLt 13.1");
  expect("workspace", lt.workspace_bytes() == 32 << 20 && CublasLt(80).workspace_bytes() == 4 << 20);
  const float some = 0;
  for (int64_t rows : {17, 255, 257})
    for (auto [n, k] : {std::pair<int64_t, int64_t>{24, 72}, {80, 588}, {17, 255}, {1, 3}})
      for (const float* bias : {static_cast<const float*>(nullptr), &some}) {
        End end;
        end.bias = bias;
        product(lt, rows, n, k, Dtype::bf16, end);
        product(lt, rows, n, k, Dtype::f32, end);
        end.act = Act::gelu_tanh;
        product(lt, rows, n, k, Dtype::bf16, end);
        end.act = Act::none, end.kind = End::add;
        product(lt, rows, n, k, Dtype::f32, end);
      }
  expect("wishes", fake->workspace_bytes == 32 << 20 && fake->reduction == 2);
  for (uint32_t alignment : fake->alignment) expect("alignment", alignment == 16);
}

void chosen_once() {
  CublasLt lt(90);
  auto run = [&](int64_t rows, Dtype type = Dtype::bf16, bool bias = false) {
    Operands o(rows, 24, 72, type);
    End end;
    if (bias) end.bias = o.bias.floats();
    return lt.product(queue(), o.got, o.x, o.weights(), end, workspace.data());
  };
  const int heuristics = fake->heuristics, checks = fake->checks;
  expect("a bucket's first", run(300) && fake->heuristics == heuristics + 1 && fake->checks == checks + 1);
  expect("again", run(300) && fake->heuristics == heuristics + 1 && fake->checks == checks + 1);
  expect("other rows of the bucket are asked for", run(310) && fake->heuristics == heuristics + 1 && fake->checks == checks + 2);
  expect("its full size", run(320) && fake->heuristics == heuristics + 1 && fake->checks == checks + 3);
  fake->refused_rows = 305;
  expect("rows that the algorithm does not serve", !run(305) && !run(305) && fake->heuristics == heuristics + 1 && fake->checks == checks + 4);
  expect("rows after them", run(300) && fake->heuristics == heuristics + 1);
  fake->refused_rows = 0;
  expect("another bucket", run(321) && fake->heuristics == heuristics + 2);
  expect("another type", run(300, Dtype::f32) && fake->heuristics == heuristics + 3);
  fake->float_bias_on_bf16 = false;
  expect("no algorithm: declined, asked once", !run(300, Dtype::bf16, true) && !run(310, Dtype::bf16, true) && fake->heuristics == heuristics + 4);
  expect("float output has one", run(300, Dtype::f32, true));
  fake->float_bias_on_bf16 = true;
}

// A plan serves every product of its kind, each with its own weights, bias and output.
void another_bias() {
  CublasLt lt(90);
  Operands one(32, 24, 72, Dtype::f32), two(32, 24, 72, Dtype::f32);
  two.bias.random(99), two.plain.random(98);
  for (int64_t r = 0; r < 24; ++r)
    for (int64_t c = 0; c < 72; ++c) two.packed.set(r, c, two.plain.get(r, c));
  const auto reference = make_reference_ops(Dtype::bf16);
  for (Operands* o : {&one, &two}) {
    End end;
    end.bias = o->bias.floats();
    expect("taken", lt.product(queue(), o->got, o->x, o->weights(), end, workspace.data()));
    reference->matmul(o->want, o->x, {o->plain.tensor().data, nullptr, Dtype::bf16, 24, 72}, end.bias, Act::none);
    test::compare(o == &one ? "the first bias" : "another bias", o->got, o->want, 72, 1);
  }
}

void declined() {
  CublasLt lt(90);
  Operands o(32, 24, 72, Dtype::f32), half(32, 24, 72, Dtype::bf16);
  const FakeCublasLt before = *fake;
  auto take = [&](Tensor out, Tensor x, Matrix w, End end, void* memory = workspace.data()) { return lt.product(queue(), out, x, w, end, memory); };
  End end;
  end.act = Act::gelu;
  expect("erf GELU", !take(half.got, o.x, o.weights(), end));
  end.act = Act::silu;
  expect("SiLU", !take(half.got, o.x, o.weights(), end));
  end.act = Act::none, end.kind = End::gate;
  expect("gate", !take(half.got, o.x, o.weights(), end));
  end.kind = End::add, end.layer_scale = o.bias.floats();
  expect("layer scale", !take(o.got, o.x, o.weights(), end));
  end.layer_scale = nullptr;
  expect("add to bf16", !take(half.got, o.x, o.weights(), end));
  end.kind = End::store;
  Matrix w = o.weights();
  w.dtype = Dtype::i8, w.scale = o.bias.floats();
  expect("int8", !take(o.got, o.x, w, end));
  w = o.weights(), w.packed = false;
  expect("rows that are not packed", !take(o.got, o.x, w, end));
  expect("no workspace", !take(o.got, o.x, o.weights(), end, nullptr));
  expect("an output that is not aligned", !take(o.got.tensor().columns(1, 20), o.x, o.weights(), end));
  expect("an input that is not aligned", !take(o.got, o.x.tensor().columns(1, 64), o.weights(), end));
  end.bias = o.bias.floats() + 1;
  expect("a bias that is not aligned", !take(o.got, o.x, o.weights(), end));
  expect("not asked for any of them", fake->heuristics == before.heuristics && fake->products == before.products && fake->objects == before.objects);
}

void failed() {
  CublasLt lt(90);
  Operands o(32, 24, 72, Dtype::f32);
  fake->product_status = 13;
  std::string said;
  try {
    lt.product(queue(), o.got, o.x, o.weights(), {}, workspace.data());
  } catch (const Error& e) {
    said = e.what();
  }
  fake->product_status = 0;
  expect("a failure is told: " + said, said.rfind("DEVICE: cuBLASLt failed while queueing a product (status 13)", 0) == 0);
}

void buckets() {
  bool good = true;
  for (int64_t rows = 1; rows < 20000; ++rows) {
    const int64_t b = row_bucket(rows);
    good &= b >= rows && b <= std::max<int64_t>(16 + rows, rows + rows / 4) && row_bucket(b) == b && b <= row_bucket(rows + 1);
  }
  expect("row buckets", good && row_bucket(17) == 32 && row_bucket(1025) == 1280 && row_bucket(7175) == 8192);
}

// The backend on the emulation, whose streams are lazy: what was queued is done before the fake, which works at once, is called.
void backend() {
  const std::unique_ptr<Ops> ops(make_cuda_ops(0, Dtype::bf16, true)), without(jvlm_make_ops(0, static_cast<int>(Dtype::bf16), 0));
  auto ends = [](const std::string& s, const std::string& with) { return s.size() > with.size() && s.compare(s.size() - with.size(), with.size(), with) == 0; };
  expect("the backend tells: " + ops->description(), ends(ops->description(), ", products by cuBLASLt 13.1"));
  expect("the emulation does not look for it: " + without->description(), ends(without->description(), ", products by jvlm"));
  Scratch s;
  s.max_rows = 64, s.max_inputs = s.max_outputs = 128, s.max_tiles = 1, s.max_tile_tokens = 16, s.max_sequences = 1, s.max_heads = 1, s.max_head_size = 64, s.max_patch_inputs = 48;
  const int64_t more = ops->scratch_bytes(s) - without->scratch_bytes(s);
  expect("the workspace is counted", more == 4 << 20 || more == 32 << 20);
  ops->reserve(s);

  Operands o(33, 24, 72, Dtype::bf16);
  auto up = [&](Buffer& b) {
    Tensor t = b;
    const void* host = t.data;
    t.data = ops->allocate(t.bytes());
    ops->upload(t.data, host, t.bytes());
    return t;
  };
  const Tensor x = up(o.x), out = up(o.got);
  Matrix w = o.weights();
  w.data = ops->allocate(ops->packed_bytes(Dtype::bf16, w.n, w.k));
  ops->pack(w, 0, w.n, o.plain.tensor().data);
  ops->download(o.got.tensor().data, out.data, out.bytes());
  const int before = fake->products;
  ops->matmul(out, x, w, nullptr, Act::none);
  ops->download(o.got.tensor().data, out.data, out.bytes());
  make_reference_ops(Dtype::bf16)->matmul(o.want, o.x, {o.plain.tensor().data, nullptr, Dtype::bf16, w.n, w.k}, nullptr, Act::none);
  test::compare("through the backend", o.got, o.want, 72, 1);
  expect("33 rows are the library's", fake->products == before + 1);
  ops->matmul(out, x, w, nullptr, Act::gelu);
  ops->download(o.got.tensor().data, out.data, out.bytes());
  make_reference_ops(Dtype::bf16)->matmul(o.want, o.x, {o.plain.tensor().data, nullptr, Dtype::bf16, w.n, w.k}, nullptr, Act::gelu);
  test::compare("what the library does not take", o.got, o.want, 72, 1);
  expect("erf GELU is our own product's", fake->products == before + 1);
}

// Which library is found, or why none.
int opens(const std::string& want) {
  std::string said;
  try {
    CublasLt lt(80);
    said = lt.description();
    expect("a workspace where there is a library", (lt.workspace_bytes() > 0) == (said.find("cuBLASLt 1") != std::string::npos));
    Operands o(32, 24, 72, Dtype::bf16);
    if (!lt.workspace_bytes()) expect("declined without one", !lt.product(queue(), o.got, o.x, o.weights(), {}, workspace.data()));
  } catch (const Error& e) {
    said = e.what();
  }
  expect("said \"" + said + "\" instead of \"" + want + "\"", said.rfind(want, 0) == 0);
  return test::report("cublaslt opens");
}

}  // namespace

int main(int count, char** argument) {
  const std::string mode = count > 1 ? argument[1] : "";
  if (mode == "alone")
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"})
      if (os::open_library(name).there) {
        std::printf("not run: the loader finds %s here, before any folder\n", name);
        return 0;
      }
  if (count > 2) return opens(argument[2]);
  fake = static_cast<FakeCublasLt*>(os::open_library("libcublasLt.so.13").symbol("fake_cublaslt"));
  expect("the loader finds the fake", fake);
  if (!fake) return test::report("cublaslt");
  products();
  chosen_once();
  another_bias();
  declined();
  failed();
  buckets();
  backend();
  expect(std::string("the interface is kept: ") + (fake->wrong ? fake->wrong : ""), !fake->wrong);
  expect("nothing is left", fake->handles == 0 && fake->objects == 0);
  return test::report("cublaslt");
}
