// After open a request meets nothing that happens once: no allocation on any device, and where the device runs everything at open (JVLM_EMU_WARM) no kernel
// that was not launched before and no recording. Without it both are met, so that this test can fail.
//
//   warm_test SHAPE           a folder of tests/gpu/shapes, whose tiles are made small
//   warm_test SHAPE hung      closes an engine while a kernel of a step that nobody has collected never ends (JVLM_EMU_FAIL): within the deadline
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/os.h"
#include "check.h"
#include "include/jvlm.h"

using namespace jvlm;
using test::expect;

namespace {

constexpr int32_t kSequences = 3, kStepTokens = 150, kTiles = 3, kSize = 56, kGrid = 4;

std::string read(const std::string& file, const std::string& from, const std::string& to) {
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  std::string all = text.str();
  return all.replace(all.find(from), from.size(), to);
}

// One step: so many new tokens of each sequence, behind so many.
void submit_step(Engine* engine, const std::vector<int32_t>& fresh, int32_t past) {
  std::vector<int32_t> token, row, start{0}, pasts, length, page, page_start{0}, last;
  for (size_t s = 0; s < fresh.size(); ++s) {
    for (int32_t i = 0; i < fresh[s]; ++i) token.push_back(i + 1), row.push_back(past ? -1 : i % 4);
    start.push_back(static_cast<int32_t>(token.size()));
    pasts.push_back(past), length.push_back(past + fresh[s]);
    for (int32_t p = 0; p * 64 < past + fresh[s]; ++p) page.push_back(static_cast<int32_t>(s) * 4 + p);
    page_start.push_back(static_cast<int32_t>(page.size()));
    last.push_back(start.back() - 1);
  }
  const auto count = static_cast<int32_t>(fresh.size());
  submit(engine, start.back(), token.data(), row.data(), count, start.data(), pasts.data(), length.data(), page_start.data(), page.data(), count, last.data());
}

void run_step(Engine* engine, const std::vector<int32_t>& fresh, int32_t past) {
  submit_step(engine, fresh, past);
  std::vector<int32_t> ids(fresh.size());
  collect(engine, ids.data());
}

void requests(Engine* engine) {
  const std::vector<uint8_t> rgb(3 * kTiles * kSize * kSize, 100);
  std::vector<int32_t> shape;
  for (int32_t n = 1; n <= kTiles; ++n) {
    shape.insert(shape.end(), {kSize, kSize, kGrid, kGrid});
    encode(engine, rgb.data(), n, shape.data(), 0);
  }
  for (int32_t n : {kStepTokens, 100, 37, 17, 16, 9, 4, 2}) run_step(engine, {n}, 0);
  run_step(engine, {1, 40}, 3);
  for (int32_t n = kSequences; n; --n)
    for (int32_t i = 0; i < 5; ++i) run_step(engine, std::vector<int32_t>(static_cast<size_t>(n), 1), 70 + i);
}

}  // namespace

int main(int count, char** argument) {
  if (count != 2 && count != 3) return 64;
  const std::string shape = argument[1], spec = read(shape + "/spec.txt", "vision.image 448", "vision.image 56"),
                    manifest = read(shape + "/manifest.txt", "vision.positions\t0\t1025", "vision.positions\t0\t17");
  const bool warm = std::getenv("JVLM_EMU_WARM");
  try {
    for (const char* mode : {"bf16 0", "int8 0", "bf16 1"}) {
      const std::string name(mode), limits = "precision " + name.substr(0, 4) + "\npages 12\npage_tokens 64\nsequences 3\nstep_tokens 150\nvision_rows 24\nencode_tiles 3\n" +
                                             "context 256\ndeterministic " + name.substr(5) + "\n";
      Engine* engine = open("emu", spec.c_str(), manifest.c_str(), limits.c_str(), nullptr);
      if (count == 3) {
        submit_step(engine, {5}, 0);
        close(engine);
        expect("closed", live_engines() == 0);
        break;
      }
      const auto made = reinterpret_cast<size_t (*)(const char*)>(os::library_symbol("libjvlm_emu.so", "jvlm_emu_count", "JVLM_BACKENDS"));
      const std::vector<const char*> never{"cudaMalloc", "cudaMallocHost", "cudaFree", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"}, once{"kernels", "cudaGraphInstantiate"};
      auto counts = [&](const std::vector<const char*>& calls) {
        std::vector<size_t> all;
        for (const char* call : calls) all.push_back(made(call));
        return all;
      };
      const std::vector<size_t> never_before = counts(never), once_before = counts(once);
      requests(engine);
      expect(name + " allocates nothing after open", counts(never) == never_before);
      const std::vector<size_t> once_after = counts(once);
      for (size_t i = 0; i < once.size(); ++i)
        if (warm || (mode[0] == 'b' && mode[5] == '0')) // the set of kernels is the process's: only a cold one's first engine must meet new ones
          expect(name + " " + once[i] + ": " + std::to_string(once_before[i]) + " at open, " + std::to_string(once_after[i]) + " after", (once_after[i] == once_before[i]) == warm);
      close(engine);
    }
  } catch (const std::exception& e) {
    expect(e.what(), false);
  }
  return test::report("warm");
}
