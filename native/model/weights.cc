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

// `count` numbers of a file, from its number `first` behind `offset` on.
std::vector<float> read_numbers(const std::string& file, int64_t offset, Dtype dtype, int64_t first, int64_t count) {
  std::vector<char> bytes(static_cast<size_t>(count * size_of(dtype)));
  os::read_file(file, offset + first * size_of(dtype), bytes.data(), count * size_of(dtype));
  std::vector<float> numbers(static_cast<size_t>(count));
  widen(numbers.data(), bytes.data(), count, dtype);
  return numbers;
}

// An adapter's part in one row of k weights: row + scale * b * A, and with a magnitude that many times the length. False where that is no
// number. The product is summed in float32, as the reference does: its terms are few. The length's are thousands and of one sign, so that
// a float32 sum would lose digits; in double it costs nothing beside the product.
bool merge(float* row, float* sum, int64_t k, const float* a, const float* b, int64_t rank, float scale, const float* magnitude) {
  std::fill(sum, sum + k, 0.f);
  for (int64_t r = 0; r < rank; ++r) {
    const float factor = b[r];
    for (int64_t c = 0; c < k; ++c) sum[c] += factor * a[r * k + c];
  }
  for (int64_t c = 0; c < k; ++c) row[c] += scale * sum[c];
  double squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < k; ++c) squares += static_cast<double>(row[c]) * row[c];
  if (!magnitude) return std::isfinite(squares);
  const auto factor = static_cast<float>(*magnitude / std::sqrt(squares));
  for (int64_t c = 0; c < k; ++c) row[c] *= factor;
  return std::isfinite(squares) && std::isfinite(factor);
}

// The fields of a manifest's line, one after the other.
class Fields {
 public:
  explicit Fields(const std::string& line) : line_(line), in_(line) {}

  bool more() { return in_.peek() != std::istringstream::traits_type::eof(); }
  std::string next() {
    std::string field;
    if (!std::getline(in_, field, '\t')) throw model_format("The manifest's line '" + line_ + "' is too short");
    return field;
  }
  int64_t integer() { return std::stoll(next()); }
  Dtype dtype() {
    const std::string name = next();
    if (name != "F32" && name != "BF16" && name != "F16") throw model_format("The manifest's line '" + line_ + "' has the type " + name);
    return name == "F32" ? Dtype::f32 : name == "BF16" ? Dtype::bf16 : Dtype::f16;
  }

 private:
  const std::string& line_;
  std::istringstream in_;
};

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
    if (line.compare(0, 8, "adapter\t") == 0) {
      parse_update(line);
      continue;
    }
    Fields fields(line);
    const std::string target = fields.next();
    Piece p;
    p.first_row = fields.integer(), p.rows = fields.integer(), p.cols = fields.integer();
    p.dtype = fields.dtype(), p.file = fields.next(), p.offset = fields.integer();
    all += p.rows * p.cols * size_of(p.dtype);
    pieces_[target].push_back(p);
  }
  if (progress_) progress_[0] = 0, progress_[1] = all;
}

void Weights::parse_update(const std::string& line) {
  Fields fields(line);
  fields.next();
  const std::string target = fields.next();
  const int64_t first_row = fields.integer();
  std::vector<Piece>& pieces = pieces_[target];
  auto piece = std::find_if(pieces.begin(), pieces.end(), [&](const Piece& p) { return p.first_row == first_row; });
  if (piece == pieces.end() || piece->update) throw model_format("The manifest's line '" + line + "' belongs to no piece of its own");
  Update& u = piece->update.emplace();
  u.rank = fields.integer(), u.scale = static_cast<float>(std::stod(fields.next())), u.file = fields.next();
  u.a.dtype = fields.dtype(), u.a.offset = fields.integer();
  u.b.dtype = fields.dtype(), u.b.offset = fields.integer();
  if (fields.more()) {
    const Dtype dtype = fields.dtype();
    u.magnitude = Numbers{dtype, fields.integer()};
  }
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
    const Update* u = p.update ? &*p.update : nullptr;
    std::vector<float> a, b, magnitude;
    if (u) a = read_numbers(u->file, u->a.offset, u->a.dtype, 0, u->rank * k);
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
      if (u) b = read_numbers(u->file, u->b.offset, u->b.dtype, r * u->rank, rows * u->rank);
      if (u && u->magnitude) magnitude = read_numbers(u->file, u->magnitude->offset, u->magnitude->dtype, r, rows);
      if (dtype == p.dtype && !u) {
        put(read_);
      } else {
        made_.resize(static_cast<size_t>(rows * out_row));
        std::vector<float> scales(dtype == Dtype::i8 ? static_cast<size_t>(rows) : 0);
        bool sound = true;
#pragma omp parallel
        {
          std::vector<float> wide(static_cast<size_t>(k)), sum(static_cast<size_t>(u ? k : 0));
#pragma omp for schedule(static) reduction(&& : sound)
          for (int64_t i = 0; i < rows; ++i) {
            widen(wide.data(), read_.data() + i * in_row, k, p.dtype);
            if (u)
              sound = merge(wide.data(), sum.data(), k, a.data(), b.data() + i * u->rank, u->rank, u->scale,
                            u->magnitude ? magnitude.data() + i : nullptr) && sound;
            char* made = made_.data() + i * out_row;
            if (dtype == Dtype::i8)
              scales[static_cast<size_t>(i)] = quantise(reinterpret_cast<int8_t*>(made), wide.data(), k);
            else if (dtype == Dtype::f32)
              std::memcpy(made, wide.data(), static_cast<size_t>(out_row));
            else
              for (int64_t c = 0; c < k; ++c) reinterpret_cast<uint16_t*>(made)[c] = to_bf16(wide[static_cast<size_t>(c)]);
          }
        }
        if (!sound)
          throw model_format("The adapter turns weights of " + target +
                             " into what is no finite number; it is damaged or belongs to another model");
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
