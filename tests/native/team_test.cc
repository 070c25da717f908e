// Loops over a team of threads: every item once, whatever the pieces, from several callers, nested, awake and asleep.
#include "ops/cpu/team.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

using namespace jvlm;
using namespace jvlm::cpu;
using namespace jvlm::test;

namespace {

// Loops that miss an item or do one twice. The numbers are plain, so that ThreadSanitizer sees whether a loop's end is the end.
int loops(int rounds) {
  int wrong = 0;
  std::vector<int> seen(1000);
  for (int round = 0; round < rounds; ++round)
    for (int64_t count : {0, 1, 2, 3, 7, 100, 1000})
      for (int64_t piece : {1, 3, 64, 2000}) {
        std::vector<int64_t> by(static_cast<size_t>(team_size()));
        parallel_pieces(count, piece, [&](int64_t first, int64_t last) {
          by[static_cast<size_t>(team_member())] += last - first;
          for (int64_t i = first; i < last; ++i) ++seen[static_cast<size_t>(i)];
        });
        int64_t done = 0;
        for (int64_t n : by) done += n;
        bool good = done == count;
        for (int64_t i = 0; i < 1000; ++i) {
          good &= seen[static_cast<size_t>(i)] == (i < count);
          seen[static_cast<size_t>(i)] = 0;
        }
        wrong += !good;
        if (count % 2) rest_team();
      }
  return wrong;
}

void nested() {
  std::vector<int> seen(6 * 50);
  parallel_each(6, [&](int64_t i) {
    const int outer = team_member();
    parallel_each(50, [&](int64_t j) { seen[static_cast<size_t>(i * 50 + j)] += team_member() == outer; });
  });
  int wrong = 0;
  for (int n : seen) wrong += n != 1;
  expect("a loop inside a loop runs where it stands", wrong == 0);
}

void parts() {
  for (int64_t count : {0, 3, 4, 5, 1001}) {
    std::atomic<int64_t> sum{0};
    parallel_parts(count, 4, [&](int64_t i) { sum += i + 1; });
    expect("equal parts of " + std::to_string(count), sum == count * (count + 1) / 2);
  }
}

void asleep() {
  std::atomic<int> sum{0};
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));   // longer than anyone stays awake
    parallel_each(8, [&](int64_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
      ++sum;
    });
  }
  expect("loops wake those who sleep", sum == 160);
}

}  // namespace

int main() {
  expect("every item once", loops(50) == 0);
  nested();
  parts();
  asleep();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) callers.emplace_back([&] { wrong += loops(20); });
  for (std::thread& t : callers) t.join();
  expect("several callers at once", wrong == 0);
  return report("team");
}
