#include "model/taps.h"

#include "base/bf16.h"

namespace jvlm {

void Taps::record(const std::string& name, Tensor x) {
  if (!trace_.wants(name)) return;
  std::vector<char> host(static_cast<size_t>(x.bytes()));
  ops_.download(host.data(), x.data, x.bytes());
  std::vector<float>& tap = trace_.tap(name);
  for (int64_t r = 0; r < x.rows; ++r) {
    const char* row = host.data() + r * x.stride * size_of(x.dtype);
    for (int64_t c = 0; c < x.cols; ++c)
      tap.push_back(x.dtype == Dtype::f32 ? reinterpret_cast<const float*>(row)[c] : from_bf16(reinterpret_cast<const uint16_t*>(row)[c]));
  }
}

}  // namespace jvlm
