// Pictures of one encode: positions, what patches show, what is refused; and a tower over pictures of several sizes, against `reference`.
//
//   pictures_test [DEVICE]      whose tower is tested: cpu, in float32 and bf16; cuda:N or emu, in bf16
#include "model/pictures.h"

#include <cmath>

#include "check.h"
#include "engine/backend.h"
#include "model/vit.h"
#include "base/error.h"

using namespace jvlm;
using namespace jvlm::test;

namespace {

VisionSpec siglip() {
  VisionSpec v;
  v.hidden = 1152, v.heads = 16, v.head_size = 72, v.mlp = 4304, v.patch = 14, v.image = 980;
  return v;
}

// torch.arange(start, ..., step) of float32 on x86: eight at a time by one fused step from the first of them, what is left one by one.
std::vector<float> arange(double start, int32_t count, double step) {
  const double by = static_cast<float>(step);              // products of it and the sums below are exact in double
  std::vector<float> all;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t first = i < count / 8 * 8 ? i / 8 * 8 : i;
    all.push_back(static_cast<float>(static_cast<float>(start + by * first) + by * (i - first)));
  }
  return all;
}

// The reference's rule, computed as it computes, beside our table; the whole table, and nothing that is not in it.
void positions() {
  const std::vector<float> boundaries = arange(1 / 70., 69, 1 / 70.);
  int32_t below = 0;
  for (int32_t patches = 1; patches <= 70; ++patches) {
    const std::vector<float> at = arange(0, patches, 1. / patches);
    for (int32_t i = 0; i < patches; ++i) {
      int32_t bucket = 0;
      for (float b : boundaries) bucket += b <= at[static_cast<size_t>(i)];
      below += bucket != 70 * i / patches;
      expect("bucket " + std::to_string(i) + " of " + std::to_string(patches), position_bucket(i, patches, 70) == bucket);
    }
  }
  expect("the reference differs from the ideal in 19 buckets", below == 19);
  expect("buckets of another grid", position_bucket(5, 25, 35) == 7 && position_bucket(29, 58, 8) == 4);
  for (int32_t i = 0; i < 32; ++i) expect("buckets of a whole grid", position_bucket(i, 32, 32) == i);
}

// Idefics2 multiplies pixels by 1/255 in double, InternVL divides by 255 in float32. Operations divide: that is the same for every byte.
void rescaling() {
  for (int32_t byte = 0; byte < 256; ++byte)
    expect("byte " + std::to_string(byte) + " / 255", static_cast<float>(byte) / 255.f == static_cast<float>(byte * (1 / 255.)));
}

// What a token's patch shows, of pictures whose bytes say where they are.
void tokens() {
  VisionSpec v = siglip();
  const std::vector<Picture> pictures = {{14, 14, 1, 1}, {31, 70, 3, 5}, {31, 70, 2, 5}, {980, 1, 70, 1}, {15, 979, 2, 70}};
  std::vector<int32_t> bytes;                              // picture, y, x, channel: as one number
  auto number = [](size_t b, int32_t y, int32_t x, int32_t c) { return ((static_cast<int32_t>(b) * 1000 + y) * 1000 + x) * 3 + c; };
  for (size_t b = 0; b < pictures.size(); ++b)
    for (int32_t y = 0; y < pictures[b].height; ++y)
      for (int32_t x = 0; x < pictures[b].width; ++x)
        for (int32_t c = 0; c < 3; ++c) bytes.push_back(number(b, y, x, c));

  const std::unique_ptr<Ops> ops = make_reference_ops(Dtype::f32);
  Arena counting;
  place_pictures(*ops, counting, v, pictures, nullptr);
  Arena ws(ops->allocate(counting.peak()), counting.peak());
  const VisionInput in = place_pictures(*ops, ws, v, pictures, nullptr);
  expect("a counting arena counts what is taken", ws.peak() == counting.peak());
  expect("pictures", in.rows.count == 5 && in.rows.most == 140 && in.tokens() == 1 + 15 + 10 + 70 + 140);
  const Patch* token = in.patches;
  for (size_t b = 0; b < pictures.size(); ++b) {
    const Picture& p = pictures[b];
    expect("start " + std::to_string(b), in.rows.start[b] == token - in.patches && in.start[b] == in.rows.start[b]);
    for (int32_t r = 0; r < p.rows; ++r)
      for (int32_t c = 0; c < p.cols; ++c, ++token) {
        bool good = token->position == position_bucket(r, p.rows, 70) * 70 + position_bucket(c, p.cols, 70);
        for (int32_t y = 0; y < 14; ++y)
          for (int32_t x = 0; x < 14; ++x) {
            const bool inside = 14 * r + y < p.height && 14 * c + x < p.width;
            good &= inside == (y < token->below && x < token->right);
            if (inside) good &= bytes[static_cast<size_t>(token->first + y * token->pitch + 3 * x + 2)] == number(b, 14 * r + y, 14 * c + x, 2);
          }
        expect("patch " + std::to_string(r) + ", " + std::to_string(c) + " of picture " + std::to_string(b), good);
      }
  }

  v.class_token = 1, v.image = 28;
  Arena tiles(ops->allocate(4096), 4096);
  const VisionInput two = place_pictures(*ops, tiles, v, {{28, 28, 2, 2}, {28, 28, 2, 2}}, nullptr);
  expect("tiles", two.tokens() == 10 && two.rows.most == 5 && two.rows.start[1] == 5);
  for (int32_t t = 0; t < 10; ++t) {
    const Patch& p = two.patches[t];
    expect("token " + std::to_string(t) + " of tiles", p.position == t % 5 && (p.below == 0) == (t % 5 == 0) && (t % 5 == 0 || p.first == t / 5 * 2352 + (t % 5 - 1) / 2 * 1176 + (t % 5 - 1) % 2 * 42));
  }
}

void refused(const char* name, const VisionSpec& v, const Picture& p, const std::string& sentence) {
  const int32_t shape[] = {v.image, v.image, v.grid(), v.grid(), p.height, p.width, p.rows, p.cols};
  std::string said = "nothing";
  try {
    read_pictures(v, shape, 2);
  } catch (const Error& e) {
    said = e.what();
  }
  expect(std::string(name) + " says " + said, said == "REQUEST: A picture of " + std::to_string(p.height) + " x " + std::to_string(p.width) + " pixels and " + std::to_string(p.rows) +
                                                         " x " + std::to_string(p.cols) + " patches was given; " + sentence);
}

void refusals() {
  VisionSpec v = siglip();
  const std::string pixels = "the model takes 1 to 980 pixels a side", patches = "there must be 1 to 70 patches of 14 pixels a side, less than a patch more or fewer than its pixels fill";
  for (const Picture& p : {Picture{0, 14, 1, 1}, {14, -1, 1, 1}, {981, 14, 70, 1}, {14, 981, 1, 70}}) refused("pixels", v, p, pixels);
  for (const Picture& p : {Picture{14, 14, 0, 1}, {14, 14, 1, 2}, {14, 28, 1, 1}, {28, 28, 3, 2}, {980, 980, 71, 70}, {13, 15, 1, INT32_MAX / 14}, {14, 14, INT32_MIN, 1}})
    refused("patches", v, p, patches);
  for (const Picture& p : {Picture{1, 1, 1, 1}, {15, 13, 1, 1}, {15, 15, 2, 2}, {980, 980, 70, 70}}) {
    const int32_t shape[] = {p.height, p.width, p.rows, p.cols};
    expect("a picture is taken", read_pictures(v, shape, 1).size() == 1);
  }
  v.class_token = 1, v.image = 448;
  for (const Picture& p : {Picture{448, 447, 32, 32}, {448, 448, 32, 31}, {434, 448, 31, 32}})
    refused("tiles", v, p, "the model takes tiles of 448 x 448 pixels and 32 x 32 patches");
}

// What a tower without class token gives for pictures of several sizes. Its widths are no multiples of anything.
std::vector<float> tower(const std::string& device, Precision precision, const std::vector<Picture>& pictures, const std::string& pixels) {
  VisionSpec v;
  v.hidden = 40, v.heads = 2, v.head_size = 20, v.mlp = 52, v.layers = 2, v.patch = 14, v.image = 980, v.eps = 1e-5f, v.activation = Act::gelu_tanh;
  for (int c = 0; c < 3; ++c) v.mean[c] = v.std[c] = 0.5f;
  std::string manifest;
  int64_t offset = 0;
  auto tensor = [&](const std::string& name, int64_t rows, int64_t cols) {
    manifest += name + "\t0\t" + std::to_string(rows) + "\t" + std::to_string(cols) + "\tBF16\tseed:1\t" + std::to_string(offset) + "\n";
    offset += 2 * rows * cols;
  };
  tensor("vision.patch.weight", v.hidden, 588), tensor("vision.patch.bias", v.hidden, 1), tensor("vision.positions", v.tokens(), v.hidden);
  for (int32_t i = 0; i < v.layers; ++i) {
    const std::string at = "vision." + std::to_string(i) + ".";
    for (const char* norm : {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}) tensor(at + norm, v.hidden, 1);
    tensor(at + "attn.qkv.weight", 3 * v.hidden, v.hidden), tensor(at + "attn.qkv.bias", 3 * v.hidden, 1), tensor(at + "attn.out.weight", v.hidden, v.hidden);
    tensor(at + "mlp.up.weight", v.mlp, v.hidden), tensor(at + "mlp.down.weight", v.hidden, v.mlp);
  }

  const std::unique_ptr<Ops> ops = make_ops(device, precision);
  const Dtype act = precision == Precision::f32 ? Dtype::f32 : Dtype::bf16;
  auto arena = [&](int64_t bytes) { return Arena(ops->allocate(bytes), bytes); };
  Weights counted(precision, *ops);
  Vit(v, counted, act);
  Weights weights(precision, manifest, ops.get(), arena(counted.bytes()), nullptr);
  const Vit vit(v, weights, act);
  weights.finish();
  Trace trace;
  Taps taps(*ops, trace);
  Arena counting;
  const VisionInput in = place_pictures(*ops, counting, v, pictures, nullptr);
  vit.forward(*ops, counting, in, taps);
  Scratch s;
  s.max_rows = in.tokens(), s.max_inputs = 588, s.max_outputs = 3 * v.hidden, s.max_tile_tokens = in.rows.most, s.max_tiles = in.rows.count, s.max_sequences = 1, s.max_context = 1;
  s.max_heads = v.heads, s.max_head_size = v.head_size, s.max_patch_inputs = 588;
  ops->reserve(s);
  auto* rgb = static_cast<uint8_t*>(ops->allocate(static_cast<int64_t>(pixels.size())));
  ops->upload(rgb, pixels.data(), static_cast<int64_t>(pixels.size()));
  Arena ws = arena(counting.peak());
  trace.start("vision.1");
  vit.forward(*ops, ws, place_pictures(*ops, ws, v, pictures, rgb), taps);
  return *trace.find("vision.1");
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0, all = 0;
  for (size_t i = 0; i < b.size(); ++i) square += std::pow(a.at(i) - b[i], 2), all += std::pow(b[i], 2);
  return std::sqrt(square / all);
}

void towers(const std::string& device) {
  const std::vector<Picture> pictures = {{14, 70, 1, 5}, {140, 99, 10, 7}, {99, 70, 8, 5}, {1, 1, 1, 1}, {378, 392, 27, 28}};
  std::vector<std::string> pixels;
  std::string all;
  for (const Picture& p : pictures) {
    std::string own(static_cast<size_t>(3 * p.height * p.width), 0);
    for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<char>((i * 7919 >> 3) + pixels.size() * 31);
    pixels.push_back(own), all += own;
  }
  const std::vector<float> want = tower("reference", Precision::f32, pictures, all);
  // Rounded to bf16 are, in each of two layers, two norms, qkv, the softmax's weights, attention and the MLP's middle; a rounding is off by 2^-9 / sqrt(3)
  // of the value on average, and the residual stream keeps each as a part. float32: as the goldens.
  const struct { Precision precision; double most; } runs[] = {{Precision::bf16, 0x1p-9 * std::sqrt(2 * 6 / 3.)}, {Precision::f32, 1e-4}};
  for (auto [precision, most] : runs) {
    if (precision == Precision::f32 && device != "cpu") continue;
    const std::string name = device + (precision == Precision::f32 ? " float32" : " bf16");
    const std::vector<float> got = tower(device, precision, pictures, all);
    const double off = distance(got, want);
    expect("the tower on " + name + " is off by " + std::to_string(off) + ", allowed are " + std::to_string(most), off <= most);
    size_t row = 0;
    for (size_t b = 0; b < pictures.size(); ++b) {         // a picture alone is what it is among others
      const std::vector<float> alone = tower(device, precision, {pictures[b]}, pixels[b]);
      const std::vector<float> among(got.begin() + static_cast<std::ptrdiff_t>(row), got.begin() + static_cast<std::ptrdiff_t>(row + alone.size()));
      row += alone.size();
      const double apart = distance(among, alone);
      expect("picture " + std::to_string(b) + " alone on " + name + " is off by " + std::to_string(apart), apart <= most);
    }
    expect("rows", row == got.size());
  }
}

}  // namespace

int main(int count, char** argument) {
  positions();
  rescaling();
  tokens();
  refusals();
  towers(count > 1 ? argument[1] : "cpu");
  return report("pictures");
}
