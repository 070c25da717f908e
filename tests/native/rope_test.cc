// Rope by a sequence's length: the spec's keys, the frequencies of each kind beside formulas in long double and, to the bit, beside those that the
// reference recorded (the file that is named), and which sequence of a step gets which.
#include <bit>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "check.h"
#include "model/decoder.h"

using namespace jvlm;
using namespace jvlm::test;

namespace {

const char* const kSpec =
    "vision.hidden 8\nvision.heads 1\nvision.head_size 8\nvision.mlp 8\nvision.layers 0\nvision.patch 14\nvision.image 28\nvision.class_token 1\nvision.norm layer_norm\n"
    "vision.eps 1e-6\nvision.activation gelu\nvision.mean 0.5 0.5 0.5\nvision.std 0.5 0.5 0.5\nconnector.kind pixel_shuffle\nconnector.eps 1e-5\ndecoder.hidden 8\ndecoder.heads 1\n"
    "decoder.kv_heads 1\ndecoder.head_size 8\ndecoder.mlp 8\ndecoder.layers 0\ndecoder.vocabulary 8\ndecoder.eps 1e-5\ndecoder.rope_theta 10000\n"
    "decoder.window 0\ndecoder.context 99999\ndecoder.activation silu\n";
const char* const kPlain = "decoder.rope plain\n";
const char* const kNtk = "decoder.rope dynamic_ntk\ndecoder.rope_factor 3\ndecoder.rope_limit 100\n";
const char* const kLong =
    "decoder.rope long\ndecoder.rope_limit 100\ndecoder.rope_magnitude 1.25\ndecoder.rope_short 1 1.02 1.04 1.06\ndecoder.rope_long 1 1.5 2.5 24.5\n";

DecoderSpec with(const std::string& rope) { return parse_spec(kSpec + rope).decoder; }

void refused(const std::string& rope, const std::string& saying) {
  std::string what;
  try {
    with(rope);
  } catch (const Error& e) {
    what = e.what();
  }
  expect("refused: " + rope + ": " + what, what.find(saying) != std::string::npos);
}

// Within the three roundings to float32 of the power, of its product with the factor and of the reciprocal.
void frequencies(const std::string& name, const DecoderSpec& spec, int32_t length, long double base, const std::vector<long double>& factor) {
  const std::vector<float> got = Decoder::inverse_frequencies(spec, length);
  double worst = got.size() == 4 && factor.size() == 4 ? 0 : 1;
  for (size_t i = 0; i < got.size(); ++i) {
    const long double want = 1 / (factor[i] * std::pow(base, static_cast<long double>(i) / 4));
    worst = std::max(worst, static_cast<double>(std::fabs(got[i] / want - 1)));
  }
  expect(name + " at " + std::to_string(length) + ": " + std::to_string(worst * 0x1p24) + " half spacings off", worst < 4 * 0x1p-24);
}

void kinds() {
  const std::vector<long double> ones(4, 1);
  for (int32_t length : {1, 100, 101, 100000}) frequencies("plain", with(kPlain), length, 10000, ones);
  for (int32_t length : {1, 100}) frequencies("dynamic_ntk", with(kNtk), length, 10000, ones);
  for (int32_t length : {101, 150, 100000})
    frequencies("dynamic_ntk", with(kNtk), length, 10000 * std::pow(3.L * length / 100 - 2, 8.L / 6), ones);
  for (int32_t length : {1, 100}) frequencies("long", with(kLong), length, 10000, {1, 1.02L, 1.04L, 1.06L});
  for (int32_t length : {101, 100000}) frequencies("long", with(kLong), length, 10000, {1, 1.5L, 2.5L, 24.5L});
  expect("magnitude", with(kLong).rope_magnitude == 1.25f && with(kNtk).rope_magnitude == 1 && with(kPlain).rope_magnitude == 1);
}

std::vector<float> factors(std::istream& in, int32_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  for (float& f : out) in >> f;
  return out;
}

void recorded(const std::string& file) {
  std::ifstream lines(file);
  size_t values = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string kind, name = line.substr(0, 60);
    DecoderSpec spec;
    int32_t length;
    in >> kind >> spec.head_size >> spec.rope_theta;
    if (kind == "dynamic_ntk" || kind == "all") {
      spec.rope = Rope::dynamic_ntk;
      in >> spec.rope_factor >> spec.rope_limit;
    } else if (kind == "long") {
      spec.rope = Rope::long_rope;
      in >> spec.rope_limit;
      spec.rope_short = factors(in, spec.head_size / 2);
      spec.rope_long = factors(in, spec.head_size / 2);
    }
    in >> length >> std::hex;
    if (kind == "all") {
      uint64_t hash = 0xcbf29ce484222325, want = 0;
      for (int32_t beyond = 1; beyond <= length; ++beyond)
        for (float f : Decoder::inverse_frequencies(spec, spec.rope_limit + beyond)) hash = (hash ^ std::bit_cast<uint32_t>(f)) * 0x100000001b3;
      in >> want;
      expect(name + ": the hash differs", in && hash == want);
      continue;
    }
    const std::vector<float> got = Decoder::inverse_frequencies(spec, length);
    for (size_t i = 0; i < got.size(); ++i, ++values) {
      uint32_t bits = 0;
      in >> bits;
      if (got[i] != std::bit_cast<float>(bits)) {
        const int64_t off = static_cast<int64_t>(std::bit_cast<uint32_t>(got[i])) - bits;
        expect(name + "...: frequency " + std::to_string(i) + " is " + std::to_string(off) + " last places off", false);
        return;
      }
    }
    expect(name + "...: all of the line is read", in && in.peek() == std::char_traits<char>::eof());
  }
  expect("recorded frequencies: " + std::to_string(values), values > 5000);
}

void keys() {
  refused("", "'decoder.rope' is missing");
  refused("decoder.rope yarn\n", "'decoder.rope' is yarn");
  refused(kPlain + std::string("decoder.rope_limit 100\n"), "'decoder.rope_limit' is no key of such a model");
  refused("decoder.rope dynamic_ntk\ndecoder.rope_limit 100\n", "'decoder.rope_factor' is missing");
  refused("decoder.rope dynamic_ntk\ndecoder.rope_factor 0.5\ndecoder.rope_limit 100\n", "rope_factor is less than 1");
  refused("decoder.rope dynamic_ntk\ndecoder.rope_factor 2\ndecoder.rope_limit 0\n", "'decoder.rope_limit' is 0");
  for (const char* list : {"1 1 1", "1 1 1 1 1", "1 1 1 0", "1 1 1 -1", "1 1 1 x", "1 1 1 nan"})
    refused("decoder.rope long\ndecoder.rope_limit 100\ndecoder.rope_magnitude 1\ndecoder.rope_short 1 1 1 1\ndecoder.rope_long " + std::string(list) + "\n",
            "'decoder.rope_long' must be 4 positive numbers");
}

// Row s of the table is that of sequence s, whatever the steps before had there; rows of sequences that are not in the step stay.
void steps() {
  for (const char* rope : {kPlain, kNtk, kLong}) {
    const DecoderSpec spec = with(rope);
    const std::unique_ptr<Ops> ops = make_reference_ops(Dtype::f32);
    Weights weights(Precision::f32, *ops);
    Decoder decoder(spec, weights, Dtype::f32);
    std::vector<float> table(3 * 4, -1);
    expect("bytes", Decoder::frequency_bytes(spec, 3) == static_cast<int64_t>(table.size() * sizeof(float)));
    decoder.prepare(*ops, table.data(), 3);
    for (const std::vector<int32_t>& lengths : std::vector<std::vector<int32_t>>{{5}, {101, 7, 300}, {102, 100, 301}, {300, 300}, {1, 1, 1}}) {
      const std::vector<float> before = table;
      decoder.set_lengths(*ops, lengths);
      for (size_t s = 0; s < 3; ++s) {
        const std::vector<float> got(table.begin() + static_cast<std::ptrdiff_t>(4 * s), table.begin() + static_cast<std::ptrdiff_t>(4 * s + 4));
        const std::vector<float> kept(before.begin() + static_cast<std::ptrdiff_t>(4 * s), before.begin() + static_cast<std::ptrdiff_t>(4 * s + 4));
        expect("sequence " + std::to_string(s) + " of a step", got == (s < lengths.size() ? Decoder::inverse_frequencies(spec, lengths[s]) : kept));
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return fprintf(stderr, "usage: rope_test VECTORS\n"), 64;
  keys();
  kinds();
  recorded(argv[1]);
  steps();
  return report("rope");
}
