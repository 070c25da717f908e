#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "base/bf16.h"
#include "base/error.h"
#include "base/os.h"

namespace jvlm {
namespace {

constexpr int64_t kChunk = 16 << 20;   // bytes read at a time

// Pseudo-random numbers for benchmarks: uniform, so small that sums over k inputs stay near one; a vector's lie around one, as norms' do.
void seeded(char* out, int64_t count, int64_t cols, uint64_t seed) {
  float spread = cols == 1 ? 0.05f : 1.7f / std::sqrt(static_cast<float>(cols)), centre = cols == 1 ? 1.f : 0.f;
  auto* values = reinterpret_cast<uint16_t*>(out);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    uint64_t x = (seed + static_cast<uint64_t>(i)) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    values[i] = to_bf16(centre + spread * (static_cast<float>(x >> 40) * 0x1p-23f - 1.f));
  }
}

void widen(float* out, const char* in, int64_t count, Dtype dtype) {
  if (dtype == Dtype::f32) {
    std::memcpy(out, in, static_cast<size_t>(count) * 4);
    return;
  }
  auto* half = reinterpret_cast<const uint16_t*>(in);
  if (dtype == Dtype::bf16)
    for (int64_t i = 0; i < count; ++i) out[i] = from_bf16(half[i]);
  else
    for (int64_t i = 0; i < count; ++i) out[i] = from_f16(half[i]);
}

// Symmetric, one scale a row: scale = max|w| / 127, q = round-half-even(w / scale).
float quantise(int8_t* out, const float* row, int64_t k) {
  float largest = 0;
  for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(row[i]));
  float scale = largest / 127.f;
  for (int64_t i = 0; i < k; ++i) {
    float q = scale > 0 ? std::nearbyintf(row[i] / scale) : 0.f;
    out[i] = static_cast<int8_t>(std::clamp(q, -127.f, 127.f));
  }
  return scale;
}

}  // namespace

Weights::Weights(Precision precision, const std::string& manifest, Ops* ops, Arena arena, int64_t* progress)
    : precision_(precision), counted_(ops), ops_(ops), arena_(arena), progress_(progress) {
  std::istringstream in(manifest);
  int64_t all = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string target, dtype, first, rows, cols, offset;
    Piece p;
    auto next = [&](std::string& field) {
      if (!std::getline(fields, field, '\t')) throw model_format("The manifest's line '" + line + "' is too short");
    };
    next(target), next(first), next(rows), next(cols), next(dtype), next(p.file), next(offset);
    p.dtype = dtype == "F32" ? Dtype::f32 : dtype == "BF16" ? Dtype::bf16 : Dtype::f16;
    if (p.dtype == Dtype::f16 && dtype != "F16") throw model_format("Tensor " + target + " has type " + dtype);
    p.first_row = std::stoll(first), p.rows = std::stoll(rows), p.cols = std::stoll(cols), p.offset = std::stoll(offset);
    all += p.rows * p.cols * size_of(p.dtype);
    pieces_[target].push_back(p);
  }
  if (progress_) progress_[0] = 0, progress_[1] = all;
}

Matrix Weights::matrix(const std::string& target, int64_t n, int64_t k, bool quantised) {
  return take(target, n, k, precision_ == Precision::f32 ? Dtype::f32 : precision_ == Precision::i8 && quantised ? Dtype::i8 : Dtype::bf16, true);
}

Matrix Weights::rows(const std::string& target, int64_t n, int64_t k) {
  return take(target, n, k, precision_ == Precision::f32 ? Dtype::f32 : Dtype::bf16, false);
}

Matrix Weights::take(const std::string& target, int64_t n, int64_t k, Dtype dtype, bool may_pack) {
  Matrix m;
  m.n = n, m.k = k, m.dtype = dtype;
  const int64_t packed = may_pack ? counted_->packed_bytes(dtype, n, k) : 0;
  m.packed = packed > 0;
  m.data = arena_.take(m.packed ? packed : n * k * size_of(dtype));
  if (dtype == Dtype::i8) m.scale = static_cast<const float*>(arena_.take(n * 4));
  if (ops_) fill(m, target);
  return m;
}

const float* Weights::vector(const std::string& target, int64_t n) { return table(target, n, 1); }

const float* Weights::optional(const std::string& target, int64_t n) {
  return ops_ && !pieces_.count(target) ? nullptr : table(target, n, 1);
}

const float* Weights::table(const std::string& target, int64_t n, int64_t k) {
  return static_cast<const float*>(take(target, n, k, Dtype::f32, false).data);
}

void Weights::fill(const Matrix& m, const std::string& target) {
  const int64_t n = m.n, k = m.k;
  const Dtype dtype = m.dtype;
  auto it = pieces_.find(target);
  if (it == pieces_.end()) throw model_format("The checkpoint has no tensor for " + target);
  used_[target] = true;
  std::sort(it->second.begin(), it->second.end(), [](const Piece& a, const Piece& b) { return a.first_row < b.first_row; });
  int64_t row = 0;
  for (const Piece& p : it->second) {
    if (p.first_row != row || p.cols != k || p.rows < 1)
      throw model_format("The pieces of " + target + " do not make up a tensor of " + std::to_string(n) + " x " + std::to_string(k));
    row += p.rows;
  }
  if (row != n) throw model_format("Tensor " + target + " has " + std::to_string(row) + " rows, not " + std::to_string(n));

  int64_t out_row = k * size_of(dtype);
  for (const Piece& p : it->second) {
    int64_t in_row = k * size_of(p.dtype), step = std::max<int64_t>(1, kChunk / in_row);
    for (int64_t r = 0; r < p.rows; r += step) {
      int64_t rows = std::min(step, p.rows - r);
      read_.resize(static_cast<size_t>(rows * in_row));
      if (p.file.compare(0, 5, "seed:") == 0) {
        if (p.dtype != Dtype::bf16) throw model_format("Seeded weights are BF16");
        seeded(read_.data(), rows * k, k, std::stoull(p.file.substr(5)) + static_cast<uint64_t>(p.offset / 2 + r * k));
      } else {
        os::read_file(p.file, p.offset + r * in_row, read_.data(), rows * in_row);
      }
      int64_t first = p.first_row + r;
      auto put = [&](const std::vector<char>& made) {
        if (m.packed)
          ops_->pack(m, first, rows, made.data());
        else
          ops_->upload(static_cast<char*>(const_cast<void*>(m.data)) + first * out_row, made.data(), rows * out_row);
      };
      if (dtype == p.dtype) {
        put(read_);
      } else {
        made_.resize(static_cast<size_t>(rows * out_row));
        std::vector<float> scales(dtype == Dtype::i8 ? static_cast<size_t>(rows) : 0);
#pragma omp parallel
        {
          std::vector<float> wide(static_cast<size_t>(k));
#pragma omp for schedule(static)
          for (int64_t i = 0; i < rows; ++i) {
            widen(wide.data(), read_.data() + i * in_row, k, p.dtype);
            char* made = made_.data() + i * out_row;
            if (dtype == Dtype::i8)
              scales[static_cast<size_t>(i)] = quantise(reinterpret_cast<int8_t*>(made), wide.data(), k);
            else if (dtype == Dtype::f32)
              std::memcpy(made, wide.data(), static_cast<size_t>(out_row));
            else
              for (int64_t c = 0; c < k; ++c) reinterpret_cast<uint16_t*>(made)[c] = to_bf16(wide[static_cast<size_t>(c)]);
          }
        }
        put(made_);
        if (dtype == Dtype::i8) ops_->upload(const_cast<float*>(m.scale) + first, scales.data(), rows * 4);
      }
      if (progress_) progress_[0] += rows * in_row;
    }
  }
}

void Weights::finish() const {
  for (auto& [target, pieces] : pieces_)
    if (!used_.count(target)) throw model_format("The manifest names " + target + ", which the model does not have");
}

}  // namespace jvlm
