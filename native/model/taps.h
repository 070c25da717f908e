#pragma once
#include <string>

#include "base/tensor.h"
#include "base/trace.h"
#include "ops/ops.h"

namespace jvlm {

// Copies tensors out at named points when somebody listens. The names are those of the recorded goldens.
class Taps {
 public:
  Taps(Ops& ops, Trace& trace) : ops_(ops), trace_(trace) {}

  bool wants(const std::string& name) const { return trace_.on() && trace_.wants(name); }
  void operator()(const char* stage, Tensor x) {
    if (trace_.on()) record(stage, x);
  }
  void operator()(const char* stage, int32_t layer, Tensor x) {
    if (trace_.on()) record(std::string(stage) + "." + std::to_string(layer), x);
  }

 private:
  void record(const std::string& name, Tensor x);

  Ops& ops_;
  Trace& trace_;
};

}  // namespace jvlm
