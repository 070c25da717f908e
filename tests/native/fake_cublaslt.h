// What the fake libcublasLt (fake_cublaslt.cc) saw and how it shall behave: the object `fake_cublaslt` in it.
#pragma once
#include <cstddef>
#include <cstdint>

struct FakeCublasLt {
  // Seen.
  int handles = 0, objects = 0;                            // alive
  int heuristics = 0, checks = 0, products = 0;
  const char* wrong = nullptr;                             // the first breach of the interface
  uint64_t workspace_bytes = 0;                            // the last heuristic's
  uint32_t reduction = 0, alignment[4] = {};
  int epilogue = 0, bias_type = 0;                         // the last product's
  float beta = 0;
  void* stream = nullptr;
  // Behaviour.
  bool float_bias_on_bf16 = true;                          // an algorithm for it exists
  int64_t refused_rows = 0;                                // the chosen algorithm does not serve so many
  int product_status = 0;
};
