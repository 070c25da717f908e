// Recorded cases of small models through the boundary, on a machine without Java: the answer's ids are fed one by one, the logits of every step
// lie within the case's bound of what was recorded, and the id with the highest is the recorded one where the margin is more than twice that.
//
//   models_test DEVICE FOLDER FAMILY...      FOLDER: tests/gpu/models, whose README.md says what its files hold
//   models_test DEVICE FOLDER deterministic FAMILY...      the same cases in deterministic mode, in bf16 and int8: alone, and among three other sequences
//                                                          in other chunks, every logit is the same to the last bit
//   models_test DEVICE FOLDER ahead FAMILY...              two steps in flight choose what steps collected one by one do; on the emulation,
//                                                          the second is queued while the first is, and waits for nobody
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/os.h"
#include "engine/limits.h"
#include "include/jvlm.h"
#include "model/spec.h"
#include "ops/ops.h"

using namespace jvlm;
namespace fs = std::filesystem;

namespace {

int cases = 0, failures = 0;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in || text.str().empty()) throw std::runtime_error(file.string() + " cannot be read");
  return text.str();
}

// ---- weights: made as weights/tiny/README.md says -----------------------------------------------------------------------------------------
constexpr uint64_t kGamma = 0x9E3779B97F4A7C15u;

uint64_t split_mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

void make_weights(const fs::path& family, const fs::path& to) {
  std::istringstream in(text_of(family / "weights.txt"));
  std::string word, dtype, file, name;
  uint64_t seed;
  in >> word >> seed >> dtype;
  const size_t size = dtype == "F32" ? 4 : 2;              // of a number; every one is exact in bf16
  std::map<std::string, std::vector<char>> files;
  size_t offset, count;
  int exponent, shift;
  double add;
  while (in >> file >> offset >> count >> exponent >> shift >> add >> name) {
    uint64_t key = 0xCBF29CE484222325u;
    for (char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    key ^= seed * kGamma;
    std::vector<char>& bytes = files[file];
    if (bytes.size() < offset + size * count) bytes.resize(offset + size * count);
    const double step = std::ldexp(1.0, -exponent);
    for (size_t i = 0; i < count; ++i) {
      const int b = static_cast<int8_t>(split_mix(key + (i + 1) * kGamma) >> 56);
      const float value = static_cast<float>(shift == 0 ? (2 * b + 1) * step : add + (b >> shift) * step);
      std::memcpy(bytes.data() + offset + size * i, reinterpret_cast<const char*>(&value) + 4 - size, size);
    }
  }
  if (files.empty() || !in.eof()) throw std::runtime_error("weights.txt cannot be read");
  for (const auto& [name_of, bytes] : files) {
    std::ofstream out(to / name_of, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out) throw std::runtime_error("the weights cannot be written");
  }
}

std::string manifest_in(const fs::path& family, const fs::path& files) {
  std::istringstream in(text_of(family / "manifest.txt"));
  std::string all;
  for (std::string line; std::getline(in, line);) {
    size_t file = 0;
    for (int tabs = 0; tabs < 5; ++tabs) file = line.find('\t', file) + 1;
    all += line.substr(0, file) + (files / line.substr(file)).string() + "\n";
  }
  return all;
}

// ---- cases ----------------------------------------------------------------------------------------------------------------------------------
struct Recorded {
  int32_t id = 0;
  double margin = 0;
  std::vector<std::pair<int32_t, double>> logits;
};

struct Case {
  std::string name;
  int32_t tiles = 0, rows_per_tile = 0;
  double bound = 0;
  std::vector<uint8_t> rgb;
  std::vector<size_t> begin{0};                            // of each tile in it, and the last one's end
  std::vector<int32_t> shape;                              // four numbers a tile, as `encode` takes them
  std::vector<int32_t> banned;                             // ids that are never chosen
  std::vector<int32_t> token, row;
  std::vector<Recorded> steps;
};

// Runs of pixels: n < 128 and n + 1 pixels as they are, or n >= 128 and one that stands n - 126 times.
void unpack(const std::string& packed, size_t bytes, std::vector<uint8_t>& rgb) {
  const size_t end = rgb.size() + bytes;
  for (size_t i = 0; i < packed.size() && rgb.size() < end;) {
    const auto n = static_cast<unsigned char>(packed[i++]);
    const size_t times = n < 128 ? 1 : n - 126u, pixels = n < 128 ? n + 1u : 1;
    if (i + 3 * pixels > packed.size()) break;
    for (size_t t = 0; t < times; ++t) rgb.insert(rgb.end(), packed.begin() + static_cast<std::ptrdiff_t>(i), packed.begin() + static_cast<std::ptrdiff_t>(i + 3 * pixels));
    i += 3 * pixels;
  }
  if (rgb.size() != end) throw std::runtime_error("a tile has not the size that it should have");
}

std::vector<Case> read_cases(const fs::path& folder, const fs::path& family) {
  std::istringstream in(text_of(family / "cases.txt"));
  std::vector<Case> all;
  std::string word;
  size_t n;
  in >> word >> n;
  std::vector<int32_t> banned(n);
  for (int32_t& id : banned) in >> id;
  while (in >> word) {
    Case c;
    c.banned = banned;
    in >> c.name >> word >> c.tiles >> word >> c.rows_per_tile >> word >> c.bound;
    for (int32_t t = 0; t < c.tiles; ++t) {
      int32_t shape[4];
      in >> word;
      for (int32_t& number : shape) in >> number;
      unpack(text_of(folder / word), 3 * static_cast<size_t>(shape[0]) * static_cast<size_t>(shape[1]), c.rgb);
      c.begin.push_back(c.rgb.size());
      c.shape.insert(c.shape.end(), shape, shape + 4);
    }
    in >> word >> n;
    c.token.resize(n), c.row.resize(n);
    for (size_t i = 0; i < n; ++i) in >> c.token[i] >> c.row[i];
    in >> word >> n;
    c.steps.resize(n);
    for (Recorded& s : c.steps) {
      size_t ids;
      in >> s.id >> s.margin >> ids;
      s.logits.resize(ids);
      for (auto& [id, logit] : s.logits) in >> id >> logit;
    }
    if (!in || word != "steps") throw std::runtime_error("cases.txt cannot be read");
    all.push_back(c);
  }
  return all;
}

// ---- a sequence -----------------------------------------------------------------------------------------------------------------------------
// One sequence's tokens into the engine, `length` what scaled rope goes by; its logits where `want` says so.
std::vector<float> feed(Engine* engine, const Limits& limits, int32_t vocabulary, const int32_t* token, const int32_t* row, int32_t n, int32_t past, int32_t length,
                        bool want) {
  std::vector<int32_t> page;                               // out of order on purpose
  for (int32_t p = 0; p * limits.page_tokens < past + n; ++p) page.push_back(limits.pages - 1 - p);
  const int32_t start[] = {0, n}, page_start[] = {0, static_cast<int32_t>(page.size())}, last = n - 1;
  submit(engine, n, token, row, 1, start, &past, &length, page_start, page.data(), want, &last);
  int32_t id = 0;
  collect(engine, &id);
  if (!want) return {};
  const float* from = logits(engine);
  return {from, from + vocabulary};
}

void check(const Case& c, size_t step, std::vector<float> got, double& worst) {
  const Recorded& s = c.steps[step];
  for (const auto& [id, logit] : s.logits) {
    const double off = std::fabs(got[static_cast<size_t>(id)] - logit);
    worst = std::max(worst, std::isnan(off) ? INFINITY : off / c.bound);
    if (!(off <= c.bound)) {
      ++failures;
      std::printf("FAIL %s step %zu: the logit of id %d is %.6g, recorded %.6g, bound %.3g\n", c.name.c_str(), step, id, static_cast<double>(got[static_cast<size_t>(id)]), logit, c.bound);
    }
  }
  for (int32_t id : c.banned) got[static_cast<size_t>(id)] = -INFINITY;
  const auto best = static_cast<int32_t>(std::max_element(got.begin(), got.end()) - got.begin());
  if (s.margin > 2 * c.bound && best != s.id) {
    ++failures;
    std::printf("FAIL %s step %zu: id %d instead of %d, recorded margin %.4g\n", c.name.c_str(), step, best, s.id, s.margin);
  }
}

void run(Engine* engine, const Limits& limits, const Spec& spec, const Case& c) {
  const int32_t vocabulary = spec.decoder.vocabulary;
  for (int32_t first = 0; first < c.tiles; first += limits.encode_tiles)
    encode(engine, c.rgb.data() + c.begin[static_cast<size_t>(first)], std::min(limits.encode_tiles, c.tiles - first), c.shape.data() + 4 * first, first * c.rows_per_tile);
  const auto tokens = static_cast<int32_t>(c.token.size());
  std::vector<float> got;
  int32_t past = 0;
  while (past < tokens) {
    const int32_t n = std::min(limits.step_tokens, tokens - past);
    got = feed(engine, limits, vocabulary, c.token.data() + past, c.row.data() + past, n, past, tokens, past + n == tokens);
    past += n;
  }
  double worst = 0;
  size_t demanded = 0;
  for (size_t step = 0; step < c.steps.size(); ++step) {
    check(c, step, got, worst);
    demanded += c.steps[step].margin > 2 * c.bound;
    const int32_t none = -1;
    if (step + 1 < c.steps.size()) got = feed(engine, limits, vocabulary, &c.steps[step].id, &none, 1, past, past + 1, true), ++past;
  }
  ++cases;
  std::printf("%s: %zu steps, worst logit at %.3f of the bound %.3g, best id demanded in %zu\n", c.name.c_str(), c.steps.size(), worst, c.bound, demanded);
}

// ---- deterministic mode -----------------------------------------------------------------------------------------------------------------------
constexpr int32_t kSequences = 4;

struct Fed {                                               // new tokens of one sequence in a step
  int32_t sequence = 0, past = 0, length = 0;              // length: what scaled rope goes by
  std::vector<int32_t> token, row;
};

// One step of several sequences; the logits of the last token of each.
std::vector<std::vector<float>> feed(Engine* engine, const Limits& limits, int32_t vocabulary, const std::vector<Fed>& all) {
  std::vector<int32_t> token, row, start{0}, past, length, page, page_start{0}, last, ids(all.size());
  for (const Fed& f : all) {
    token.insert(token.end(), f.token.begin(), f.token.end());
    row.insert(row.end(), f.row.begin(), f.row.end());
    start.push_back(static_cast<int32_t>(token.size()));
    past.push_back(f.past), length.push_back(f.length);
    const int32_t each = limits.pages / kSequences, tokens = f.past + static_cast<int32_t>(f.token.size());
    for (int32_t p = 0; p * limits.page_tokens < tokens; ++p) page.push_back((f.sequence + 1) * each - 1 - p);
    page_start.push_back(static_cast<int32_t>(page.size()));
    last.push_back(start.back() - 1);
  }
  const auto count = static_cast<int32_t>(all.size());
  submit(engine, static_cast<int32_t>(token.size()), token.data(), row.data(), count, start.data(), past.data(), length.data(), page_start.data(),
         page.data(), count, last.data());
  collect(engine, ids.data());
  std::vector<std::vector<float>> rows;
  const float* from = logits(engine);
  for (int32_t s = 0; s < count; ++s) rows.emplace_back(from + s * vocabulary, from + (s + 1) * vocabulary);
  return rows;
}

// The logits of every step of a case, whose prompt is cut into chunks of these lengths (the last one again and again) and whose tiles are encoded so many
// at a time; with `others`, three sequences of other lengths go their ways beside it, one of them with a prompt while the case decodes.
std::vector<std::vector<float>> logits_of(Engine* engine, const Limits& limits, const Spec& spec, const Case& c, const std::vector<int32_t>& chunks,
                                          int32_t tiles_at_once, bool others) {
  const auto tokens = static_cast<int32_t>(c.token.size());
  for (int32_t first = 0; first < c.tiles; first += tiles_at_once) {
    // Another picture is encoded with the case's own, behind them in memory and in the vision buffer.
    const int32_t n = std::min(tiles_at_once, c.tiles - first);
    const auto at = [&](int32_t tile) { return c.rgb.begin() + static_cast<std::ptrdiff_t>(c.begin[static_cast<size_t>(tile)]); };
    std::vector<uint8_t> rgb(at(first), at(first + n));
    std::vector<int32_t> shape(c.shape.begin() + 4 * first, c.shape.begin() + 4 * (first + n));
    if (others) {
      rgb.insert(rgb.end(), std::reverse_iterator(at(first + 1)), std::reverse_iterator(at(first)));
      shape.insert(shape.end(), c.shape.begin() + 4 * first, c.shape.begin() + 4 * (first + 1));
    }
    encode(engine, rgb.data(), n + others, shape.data(), first * c.rows_per_tile);
  }

  std::vector<Fed> beside;                                 // lengths after each step: 5, 6, 7 ...; 150, 151 ...; 40, 80 ...
  auto advance = [&](int32_t step) {
    const int32_t fresh[] = {step ? 1 : 5, step ? 1 : 150, 40};
    beside.resize(3);
    for (int32_t s = 0; s < 3; ++s) {
      Fed& f = beside[static_cast<size_t>(s)];
      f.past += static_cast<int32_t>(f.token.size());
      const int32_t n = std::min(fresh[s], limits.context - f.past);
      f.sequence = s + 1, f.length = f.past + n;
      f.token.clear(), f.row.assign(static_cast<size_t>(n), -1);
      for (int32_t i = 0; i < n; ++i) f.token.push_back((f.past + i) * 7 % spec.decoder.vocabulary);
    }
  };

  std::vector<std::vector<float>> all;
  int32_t past = 0, step = 0;
  auto run_step = [&](std::vector<int32_t> token, std::vector<int32_t> row, int32_t length) {
    std::vector<Fed> in;
    if (others) {
      advance(step);
      for (const Fed& f : beside)
        if (!f.token.empty()) in.push_back(f);
    }
    const size_t own = std::min<size_t>(in.size(), 1);     // between the others
    const auto n = static_cast<int32_t>(token.size());
    in.insert(in.begin() + static_cast<std::ptrdiff_t>(own), Fed{0, past, length, std::move(token), std::move(row)});
    std::vector<float> got = feed(engine, limits, spec.decoder.vocabulary, in)[own];
    past += n, ++step;
    return got;
  };
  std::vector<float> got;
  while (past < tokens) {
    const int32_t n = std::min(chunks[std::min(static_cast<size_t>(step), chunks.size() - 1)], tokens - past);
    got = run_step({c.token.begin() + past, c.token.begin() + past + n}, {c.row.begin() + past, c.row.begin() + past + n}, tokens);
  }
  all.push_back(got);
  for (size_t i = 0; i + 1 < c.steps.size(); ++i) all.push_back(run_step({c.steps[i].id}, {-1}, past + 1));
  return all;
}

// How many logits differ, and where the largest difference is.
int64_t differing(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b, std::string& worst) {
  int64_t count = 0;
  double most = -1;
  for (size_t step = 0; step < a.size(); ++step)
    for (size_t id = 0; id < a[step].size(); ++id) {
      if (std::memcmp(&a[step][id], &b[step][id], sizeof(float)) == 0) continue;
      ++count;
      const double off = std::fabs(static_cast<double>(a[step][id]) - b[step][id]);
      if (off > most) most = off, worst = "step " + std::to_string(step) + ", id " + std::to_string(id) + ": " + std::to_string(a[step][id]) + " alone, " + std::to_string(b[step][id]);
    }
  return count;
}

void deterministic(const char* device, const std::string& spec_text, const std::string& manifest, const Limits& l, const std::vector<Case>& all) {
  const Spec spec = parse_spec(spec_text);
  for (const char* precision : {"bf16", "int8"})
    for (bool on : {true, false}) {
      const int32_t each = (l.context + l.page_tokens - 1) / l.page_tokens;
      const std::string text = std::string("precision ") + precision + "\npages " + std::to_string(kSequences * each) + "\npage_tokens " +
                               std::to_string(l.page_tokens) + "\nsequences " + std::to_string(kSequences) + "\nstep_tokens " +
                               std::to_string(l.context + 1000) + "\nvision_rows " + std::to_string(l.vision_rows + 512) + "\nencode_tiles 4\ncontext " +
                               std::to_string(l.context) + "\ndeterministic " + (on ? "1" : "0") + "\n";
      const Limits limits = parse_limits(text);
      Engine* engine = open(device, spec_text.c_str(), manifest.c_str(), text.c_str(), nullptr);
      int64_t differ = 0;
      for (const Case& c : all) {
        const auto alone = logits_of(engine, limits, spec, c, {static_cast<int32_t>(c.token.size())}, 1, false);
        std::string worst;
        const int64_t here = differing(alone, logits_of(engine, limits, spec, c, {1, 9, 1, 97}, 3, true), worst);
        differ += here, ++cases;
        if (on && here) ++failures, std::printf("FAIL %s %s: %ld logits differ, most in %s\n", c.name.c_str(), precision, static_cast<long>(here), worst.c_str());
      }
      // Without the mode they are not the same, else this test could not fail.
      if (!on && !differ) ++failures, std::printf("FAIL %s: nothing differs without deterministic mode either\n", precision);
      std::printf("deterministic %d, %s: %ld logits differ\n", on, precision, static_cast<long>(differ));
      close(engine);
    }
}

// ---- two steps in flight ----------------------------------------------------------------------------------------------------------------
constexpr int32_t kSteps = 40;

void expect(const std::string& what, bool good) {
  ++cases;
  if (!good) ++failures, std::printf("FAIL %s\n", what.c_str());
}

using Count = size_t (*)(const char*);                     // jvlm_emu_count

// What was sampled, row by row, in kSteps steps of two sequences, whose order changes in every third, with other bans each. Step 0: prompts.
std::vector<std::vector<int32_t>> chosen(Engine* engine, const Limits& limits, int32_t vocabulary, bool ahead, Count count) {
  auto row_of = [](int32_t step, int32_t sequence) { return sequence ^ (step % 3 == 0); };
  const int32_t prompt[] = {5, 70}, each = limits.pages / 2;
  std::vector<std::vector<int32_t>> ids;
  std::vector<float> bias(2 * static_cast<size_t>(vocabulary));
  auto submit_step = [&](int32_t step) {
    std::vector<int32_t> token, start{0}, past, length, page, page_start{0}, last;
    std::vector<SampleRow> sample(2);
    for (int32_t row = 0; row < 2; ++row) {
      const int32_t s = row_of(step, row), n = step ? 1 : prompt[s];
      for (int32_t i = 0; i < n; ++i) {
        const int32_t before = step ? row_of(step - 1, s) : 0;
        token.push_back(!step ? (s + 3) * i % vocabulary : ahead ? -1 - before : ids.back()[static_cast<size_t>(before)]);
      }
      past.push_back(step ? prompt[s] + step - 1 : 0), length.push_back(past.back() + n);
      for (int32_t p = 0; p * limits.page_tokens < length.back(); ++p) page.push_back(s * each + p);
      start.push_back(static_cast<int32_t>(token.size())), last.push_back(start.back() - 1);
      page_start.push_back(static_cast<int32_t>(page.size()));
      SampleRow& r = sample[static_cast<size_t>(row)];
      r.temperature = 1, r.slot = r.bias = s, r.index = step, r.seed_low = static_cast<uint32_t>(s);
    }
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = (static_cast<int32_t>(i) + step) % 5 ? 0 : -INFINITY;
    const std::vector<int32_t> row(token.size(), -1), slots{0, 1};
    submit(engine, start.back(), token.data(), row.data(), 2, start.data(), past.data(), length.data(), page_start.data(), page.data(), 2,
           last.data(), sample.data(), 2, slots.data(), bias.data());
    float none;
    trace(engine, "none", &none, 0);                       // until the step has been queued
  };
  auto collect_step = [&] { collect(engine, ids.emplace_back(2).data()); };
  submit_step(0);
  for (int32_t step = 1; step < kSteps; ++step) {
    if (!ahead) collect_step();
    const size_t launched = count ? count("cudaGraphLaunch") : 0, copied = count ? count("cudaMemcpyAsync") : 0;
    submit_step(step);
    if (count) expect("step " + std::to_string(step) + " copies indices, two biases, ids", count("cudaMemcpyAsync") == copied + 4);
    if (!ahead) continue;
    if (count) expect("step " + std::to_string(step) + " is queued behind one in flight", count("cudaGraphLaunch") == launched + 1);
    const bool all_done = step % 3 == 2;                   // both, before the first is collected
    if (all_done) logits(engine);
    collect_step();
    if (count) expect("step " + std::to_string(step) + " is not waited for with the one before", (count("queued") == 0) == all_done);
  }
  collect_step();
  return ids;
}

void ahead(const char* device, const std::string& spec_text, const std::string& manifest, const Limits& l) {
  const Spec spec = parse_spec(spec_text);
  const std::string text = "precision bf16\npages 4\npage_tokens 64\nsequences 2\nstep_tokens 128\nvision_rows " +
                           std::to_string(l.vision_rows) + "\nencode_tiles 1\ncontext 128\ndeterministic 0\n";
  Engine* engine = open(device, spec_text.c_str(), manifest.c_str(), text.c_str(), nullptr);
  const bool emulated = std::strcmp(device, "emu") == 0;
  const Count count = emulated ? reinterpret_cast<Count>(os::library_symbol("libjvlm_emu.so", "jvlm_emu_count", "JVLM_BACKENDS")) : nullptr;
  const auto one_by_one = chosen(engine, parse_limits(text), spec.decoder.vocabulary, false, count);
  expect("ids tell steps apart", std::set(one_by_one.begin(), one_by_one.end()).size() == kSteps);
  expect("ids of steps that run ahead", chosen(engine, parse_limits(text), spec.decoder.vocabulary, true, count) == one_by_one);
  close(engine);
}

}  // namespace

int main(int count, char** argument) {
  if (count < 4) {
    std::printf("usage: models_test DEVICE FOLDER FAMILY...\n");
    return 64;
  }
  char described[8192];                                    // says which library makes products
  devices(described, sizeof described);
  std::printf("%s", described);
  const fs::path folder = argument[2];
  std::string made = (fs::temp_directory_path() / "jvlm-models-XXXXXX").string();
  if (!mkdtemp(made.data())) return 1;
  try {
    const std::string mode = argument[3];
    for (int i = 3 + (mode == "deterministic" || mode == "ahead"); i < count; ++i) {
      const fs::path family = folder / argument[i];
      make_weights(family, made);
      const std::string spec = text_of(family / "spec.txt"), limits = text_of(family / "limits.txt");
      if (mode == "deterministic") {
        deterministic(argument[1], spec, manifest_in(family, made), parse_limits(limits), read_cases(folder, family));
        continue;
      }
      if (mode == "ahead") {
        ahead(argument[1], spec, manifest_in(family, made), parse_limits(limits));
        continue;
      }
      Engine* engine = open(argument[1], spec.c_str(), manifest_in(family, made).c_str(), limits.c_str(), nullptr);
      for (const Case& c : read_cases(folder, family)) run(engine, parse_limits(limits), parse_spec(spec), c);
      close(engine);
    }
    if (live_engines() != 0) ++failures, std::printf("FAIL an engine lives on\n");
  } catch (const std::exception& e) {
    ++failures;
    std::printf("FAIL %s\n", e.what());
  }
  fs::remove_all(made);
  std::printf("models on %s: %d cases, %d failures\n", argument[1], cases, failures);
  return failures || !cases;
}
