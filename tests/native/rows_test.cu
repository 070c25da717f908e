// What the case list of ops.h does not reach: rows as wide as they get, norms of queries and keys, rope at far positions, and sampling against
// the words of dev.jvlm.sampling.Sampler, one by one.
#include <algorithm>
#include <memory>

#include "check.h"
#include "ops/cuda/device.h"
#include "ops/cuda/kernels.h"

using namespace jvlm;
using namespace jvlm::test;

namespace {

// Device memory with a copy of host memory.
template <class T>
struct Mirror {
  explicit Mirror(std::vector<T> values) : host(std::move(values)), data(static_cast<T*>(cuda::allocate(bytes() + 1))) { cuda::upload_now(data, host.data(), bytes()); }
  ~Mirror() { cuda::release(data); }
  Mirror(const Mirror&) = delete;
  int64_t bytes() const { return static_cast<int64_t>(host.size() * sizeof(T)); }
  std::vector<T>& back() {
    cuda::download_now(host.data(), data, bytes());
    return host;
  }
  std::vector<T> host;
  T* data;
};

std::vector<float> numbers(size_t count, uint32_t seed, float spread = 1, float centre = 0) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(centre, spread);
  std::vector<float> v(count);
  for (float& x : v) x = normal(engine);
  return v;
}

// Against sums in double: one spacing of bf16.
void norms(const cuda::Queue& queue, bool small) {
  for (int64_t width : {8, 1024, 1028, 4100, 12800, 16384})
    for (NormKind kind : {NormKind::layer, NormKind::rms}) {
      constexpr int64_t rows = 3;
      const auto n = static_cast<size_t>(width);
      Mirror<float> x(numbers(rows * n, 1, 2, 50)), weight(numbers(n, 2)), bias(numbers(n, 3));
      Mirror<uint16_t> out(std::vector<uint16_t>(rows * n, 0xffff));
      const bool layer = kind == NormKind::layer;
      cuda::norm(queue, {out.data, Dtype::bf16, rows, width}, {x.data, Dtype::f32, rows, width}, {kind, weight.data, layer ? bias.data : nullptr, 1e-6f});
      out.back();
      bool good = true;
      for (size_t r = 0; r < rows; ++r) {
        double mean = 0, square = 0;
        for (size_t c = 0; layer && c < n; ++c) mean += x.host[r * n + c] / static_cast<double>(width);
        for (size_t c = 0; c < n; ++c) square += (x.host[r * n + c] - mean) * (x.host[r * n + c] - mean) / static_cast<double>(width);
        for (size_t c = 0; c < n; ++c) {
          const double want = (x.host[r * n + c] - mean) / std::sqrt(square + 1e-6f) * weight.host[c] + (layer ? bias.host[c] : 0);
          good &= std::fabs(from_bf16(out.host[r * n + c]) - want) <= 0x1p-8 * std::fabs(want) + 1e-5;
        }
      }
      expect("norm of " + std::to_string(width), good);
    }

  for (int64_t width : {8, 72, 1024, 3200, 8192})
    for (int64_t rows : {1, 3, 17}) {
      if (small && rows > 3) continue;
      const int64_t stride = 3 * width + 8;
      Mirror<float> q(numbers(static_cast<size_t>(width), 4, 0.2f, 1)), k(numbers(static_cast<size_t>(width), 5, 0.2f, 1));
      std::vector<uint16_t> before;
      for (float v : numbers(static_cast<size_t>(rows * stride), 6, 3)) before.push_back(to_bf16(v));
      Mirror<uint16_t> qkv(before);
      cuda::norm_qk(queue, {qkv.data, Dtype::bf16, rows, 3 * width, stride}, {NormKind::rms, q.data, nullptr, 1e-6f}, {NormKind::rms, k.data, nullptr, 1e-6f});
      qkv.back();
      bool good = true;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < stride; c += width) {
          const auto at = static_cast<size_t>(r * stride + c);
          const int64_t part = c / width, count = std::min(width, stride - c);
          double square = 0;
          for (int64_t i = 0; i < count; ++i) square += std::pow(static_cast<double>(from_bf16(before[at + static_cast<size_t>(i)])), 2) / static_cast<double>(width);
          for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
            if (part > 1) {
              good &= qkv.host[at + i] == before[at + i];        // values, and what lies between rows
            } else {
              const double want = from_bf16(before[at + i]) / std::sqrt(square + 1e-6f) * (part ? k : q).host[i];
              good &= std::fabs(from_bf16(qkv.host[at + i]) - want) <= 0x1p-8 * std::fabs(want) + 1e-5;
            }
          }
        }
      expect("norm_qk of " + std::to_string(width) + ", " + std::to_string(rows) + " rows", good);
    }
}

// Positions up to 1e5 with the steepest frequency 1; a sequence without tokens stands between others.
void far_positions(const cuda::Queue& queue) {
  constexpr int32_t half = 40;
  Mirror<int32_t> seq_start({0, 5, 5, 6, 70}), past({0, 7, 99999, 65500});
  std::vector<float> f;
  for (int s = 0; s < 4; ++s)
    for (int i = 0; i < half; ++i) f.push_back(std::pow(s + 1e6f, -static_cast<float>(i) / half));
  Mirror<float> frequency(f), cos(std::vector<float>(70 * half)), sin(std::vector<float>(70 * half));
  Step step;
  step.tokens = 70, step.sequences = 4, step.seq_start = seq_start.data, step.past = past.data;
  for (float magnitude : {1.f, 1.25f}) {
    cuda::rope_table(queue, cos.data, sin.data, step, frequency.data, half, magnitude);
    cos.back(), sin.back();
    double worst = 0;
    for (int s = 0; s < 4; ++s)
      for (int t = seq_start.host[static_cast<size_t>(s)]; t < seq_start.host[static_cast<size_t>(s) + 1]; ++t)
        for (int i = 0; i < half; ++i) {
          const float angle = static_cast<float>(past.host[static_cast<size_t>(s)] + t - seq_start.host[static_cast<size_t>(s)]) * f[static_cast<size_t>(s * half + i)];
          const auto at = static_cast<size_t>(t * half + i);
          worst = std::max({worst, std::fabs(cos.host[at] - std::cos(static_cast<double>(angle)) * magnitude), std::fabs(sin.host[at] - std::sin(static_cast<double>(angle)) * magnitude)});
        }
    // Half a spacing of float32 numbers from 1 to 2, and the series' first missing term.
    expect("rope_table far out: " + std::to_string(worst * 1e9) + "e-9", worst < 0x1p-24 + 2e-10);
  }
}

// A row that stands for an id that argmax did not find is read from the table's first row, not from before it: the table begins at a page.
void unfound_id(const cuda::Queue& queue) {
  constexpr int64_t rows = 32, cols = 64;
  Mirror<uint16_t> table(std::vector<uint16_t>(rows * cols - 1, to_bf16(2)));
  Mirror<int32_t> token({-1}), seen({-1}), last({-1});
  Mirror<float> out(std::vector<float>(cols, NAN));
  Matrix m;
  m.data = table.data, m.dtype = Dtype::bf16, m.n = rows, m.k = cols;
  cuda::embed(queue, {out.data, Dtype::f32, 1, cols}, token.data, seen.data, last.data, m, {});
  expect("embed of an id that was not found", out.back() == std::vector<float>(cols, 2));
}

// ---- sampling -------------------------------------------------------------------------------------------------------------------------------
uint32_t philox(uint64_t seed, uint32_t index) {
  uint32_t c[4] = {index, 0, 0, 0}, k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    const uint64_t p0 = c[0] * uint64_t{0xd2511f53u}, p1 = c[2] * uint64_t{0xcd9e8d57u};
    const uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1), static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    std::copy(next, next + 4, c);
  }
  return c[0];
}

// Sampler.next, statement by statement: a sort, sums in double from one end.
int32_t next(const float* logits, int n, const SampleRow& row, const int32_t* counts, const float* bias) {
  std::vector<float> score(logits, logits + n);
  for (float s : score)
    if (!std::isfinite(s)) return -1;
  for (size_t i = 0; i < score.size(); ++i) {
    if (counts[i] && (row.repetition != 1 || row.presence != 0 || row.frequency != 0)) {
      if (row.repetition != 1) score[i] = score[i] < 0 ? score[i] * row.repetition : score[i] / row.repetition;
      const float product = row.frequency * static_cast<float>(counts[i]);
      score[i] -= row.presence + product;
    }
    if (row.bias >= 0) score[i] = std::isinf(bias[i]) ? bias[i] : score[i] + bias[i];
  }
  const auto best = static_cast<int32_t>(std::max_element(score.begin(), score.end()) - score.begin());
  const float most = score[static_cast<size_t>(best)];
  if (most == -INFINITY) return -2;
  if (row.temperature == 0 || std::isinf(most / row.temperature)) return best;
  std::vector<int32_t> order;
  for (int i = 0; i < n; ++i) {
    score[static_cast<size_t>(i)] /= row.temperature;
    if (score[static_cast<size_t>(i)] != -INFINITY) order.push_back(i);
  }
  auto of = [&](size_t rank) { return score[static_cast<size_t>(order[rank])]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)]; });
  auto weight = [&](size_t rank) { return std::exp(static_cast<double>(of(rank)) - of(0)); };
  size_t kept = order.size();
  if (row.top_k > 0 && static_cast<size_t>(row.top_k) < kept) {
    const float threshold = of(static_cast<size_t>(row.top_k) - 1);
    while (of(kept - 1) < threshold) --kept;
  }
  auto sum = [&] {
    double s = 0;
    for (size_t i = 0; i < kept; ++i) s += weight(i);
    return s;
  };
  if (row.top_p < 1) {
    const double all = sum();
    double running = 0;
    for (const auto limit = static_cast<float>(1 - static_cast<double>(row.top_p)); kept > 1; --kept) {
      running += weight(kept - 1);
      if (static_cast<float>(running / all) > limit) break;
    }
  }
  if (row.min_p > 0) {
    const double all = sum();
    const size_t before = kept;
    for (kept = 1; kept < before && static_cast<float>(weight(kept) / all) >= row.min_p * static_cast<float>(1 / all);) ++kept;
  }
  const double target = philox(row.seed_low | static_cast<uint64_t>(row.seed_high) << 32, static_cast<uint32_t>(row.index)) / 0x1p32 * sum();
  double running = 0;
  for (size_t i = 0; i + 1 < kept; ++i) {
    running += weight(i);
    if (running > target) return order[i];
  }
  return order[kept - 1];
}

// Rows of random settings and logits of many kinds, among them whole halves (ties), as wide as the pool and wider.
void sampling(const cuda::Queue& queue, bool small) {
  expect("Philox of zeros is the published 6627e8d5", philox(0, 0) == 0x6627e8d5u);
  std::mt19937_64 engine(1);
  auto pick = [&](std::initializer_list<float> values) { return values.begin()[engine() % values.size()]; };
  int different = 0, total = 0;
  for (int width : {1, 2, 33, 1000, 5000, 32010}) {
    if (small && width > 5000) continue;
    const int rows = small ? 2 : width > 4096 ? 4 : 16, stride = (width + 3) / 4 * 4 + 4;
    std::vector<float> logits(static_cast<size_t>(rows * stride), NAN), bias(static_cast<size_t>(rows * width));
    std::vector<int32_t> counts(static_cast<size_t>(rows * width));
    std::vector<SampleRow> row(static_cast<size_t>(rows));
    for (int r = 0; r < rows; ++r) {
      SampleRow& s = row[static_cast<size_t>(r)];
      const float spread = pick({0, 1e-3f, 1, 4, 4, 4, 30}), grain = pick({0, 0, 0.5f, 4});
      const std::vector<float> values = numbers(static_cast<size_t>(width), static_cast<uint32_t>(engine()), spread);
      for (int c = 0; c < width; ++c) {
        const float v = values[static_cast<size_t>(c)];
        logits[static_cast<size_t>(r * stride + c)] = grain > 0 ? std::round(v / grain) * grain : v;
        counts[static_cast<size_t>(r * width + c)] = engine() % 4 ? 0 : static_cast<int32_t>(engine() % 9);
        bias[static_cast<size_t>(r * width + c)] = engine() % 8 ? 0 : pick({1, -1, -INFINITY, 0.3f});
      }
      s.temperature = pick({0, 0.2f, 0.7f, 1, 1, 1.7f, 1e-38f}), s.top_k = static_cast<int32_t>(pick({0, 0, 1, 5, 40, 700, 4500})), s.top_p = pick({1, 1, 0.9f, 0.5f, 0.99f, 1e-6f, 1e-45f});
      s.min_p = pick({0, 0, 0.05f, 0.5f, 1}), s.repetition = pick({1, 1, 1.3f}), s.presence = pick({0, 0, 0.7f}), s.frequency = pick({0, 0, 0.1f});
      s.slot = rows - 1 - r, s.bias = engine() % 2 ? r : -1, s.index = static_cast<int32_t>(engine() % 4 ? engine() % 1000 : 0);
      s.seed_low = static_cast<uint32_t>(engine()), s.seed_high = static_cast<uint32_t>(engine());
    }
    logits[static_cast<size_t>(stride + width / 2)] = NAN, logits[static_cast<size_t>(width - 1)] = -INFINITY;       // rows 1 and 0
    if (rows > 2) row[2].bias = 2, std::fill_n(bias.begin() + 2 * width, width, -INFINITY);
    Mirror<float> device_logits(logits), device_bias(bias);
    Mirror<int32_t> device_counts(counts), ids(std::vector<int32_t>(static_cast<size_t>(rows), 77));
    Mirror<SampleRow> device_row(row);
    Mirror<char> scratch(std::vector<char>(static_cast<size_t>(cuda::sample_scratch_bytes(rows, width)), '\xff'));
    const Tensor tensor(device_logits.data, Dtype::f32, rows, width, stride);
    for (int step = 0; step < 2; ++step) {                                // the second sees what the first has counted
      cuda::sample(queue, ids.data, tensor, device_row.data, device_counts.data, device_bias.data, scratch.data);
      ids.back();
      for (int r = 0; r < rows; ++r) {
        const SampleRow& s = row[static_cast<size_t>(r)];
        int32_t* count = counts.data() + s.slot * width;
        const bool penalties = s.repetition != 1 || s.presence != 0 || s.frequency != 0;
        if (penalties && s.index == 0) std::fill_n(count, width, 0);              // an answer begins: what another left goes
        const int32_t want = next(logits.data() + r * stride, width, s, count, bias.data() + r * width), got = ids.host[static_cast<size_t>(r)];
        ++total, different += got != want;
        if (got != want)
          std::printf("width %d row %d: %d instead of %d; t %g k %d p %g min %g rep %g pres %g freq %g\n", width, r, got, want, s.temperature, s.top_k, s.top_p, s.min_p, s.repetition, s.presence, s.frequency);
        if (want >= 0 && penalties) ++count[want];
      }
    }
    expect("counts are kept", device_counts.back() == counts);
  }
  expect("sample: " + std::to_string(different) + " of " + std::to_string(total) + " differ from Sampler", different == 0);
}

}  // namespace

// small: less, for sanitizers (ops_cases.h).
int main(int count, char**) {
  const cuda::DeviceInfo info = cuda::use_device(0);
  const cuda::Stream stream;
  const cuda::Queue queue{stream, info.architecture, info.multiprocessors};
  const bool small = count > 1;
  norms(queue, small);
  far_positions(queue);
  unfound_id(queue);
  sampling(queue, small);
  return report("rows");
}
