#include "ops/cpu/team.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/os.h"

namespace jvlm::cpu {
namespace {

// Longer than what lies between two loops of a step, shorter than what the system's scheduler gives a thread at a time.
constexpr std::chrono::microseconds kAwake{100};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

uint32_t asleep(const std::atomic<uint32_t>& value, uint32_t from) {
  value.wait(from, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

// Returns the value once it is another one.
uint32_t changed(const std::atomic<uint32_t>& value, uint32_t from) {
  for (const auto end = std::chrono::steady_clock::now() + kAwake;;) {
    for (int i = 0; i < 64; ++i) {
      const uint32_t now = value.load(std::memory_order_acquire);
      if (now != from) return now;
      pause();
    }
    if (std::chrono::steady_clock::now() > end) return asleep(value, from);
  }
}

thread_local int member = 0;
thread_local bool inside = false;

class Team {
 public:
  explicit Team(int size) : size_(std::min(size, kMost)) {}
  ~Team() {
    start_turn(kMost, nullptr);
    turn_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  void run(int64_t count, int64_t piece, void (*body)(void*, int64_t, int64_t), void* data) {
    const int64_t pieces = (count + piece - 1) / piece;
    if (pieces <= 1 || size_ == 1 || inside) {
      if (count > 0) body(data, 0, count);
      return;
    }
    while (static_cast<int>(threads_.size()) < size_ - 1) threads_.emplace_back([this, own = static_cast<int>(threads_.size()) + 1] { work(own); });
    count_ = count, piece_ = piece, data_ = data;
    next_.store(0, std::memory_order_relaxed);
    const int members = static_cast<int>(std::min<int64_t>(pieces, size_));
    busy_.store(static_cast<uint32_t>(members - 1), std::memory_order_relaxed);
    start_turn(members, body);
    turn_.notify_all();
    share();
    for (uint32_t left = busy_.load(std::memory_order_acquire); left; left = changed(busy_, left)) {}
  }

  // A turn of nobody, of which those who sleep are not told.
  void rest() {
    if (!threads_.empty() && !inside) start_turn(0, nullptr);
  }

 private:
  static constexpr int kMost = 255;

  // The turn's number and, in the lowest byte, how many take part: those who do not may read it late, or never.
  void start_turn(int members, void (*body)(void*, int64_t, int64_t)) {
    body_ = body;
    const uint32_t turn = turn_.load(std::memory_order_relaxed);
    turn_.store(((turn >> 8) + 1) << 8 | static_cast<uint32_t>(members), std::memory_order_release);
  }

  void share() {
    inside = true;
    for (int64_t first; (first = next_.fetch_add(piece_, std::memory_order_relaxed)) < count_;) body_(data_, first, std::min(count_, first + piece_));
    inside = false;
  }

  void work(int own) {
    member = own;
    for (uint32_t turn = 0;;) {
      turn = turn & 255 || !turn ? changed(turn_, turn) : asleep(turn_, turn);
      if (own >= static_cast<int>(turn & 255)) continue;
      if (!body_) return;
      share();
      if (busy_.fetch_sub(1, std::memory_order_release) == 1) busy_.notify_one();
    }
  }

  const int size_;
  std::vector<std::thread> threads_;
  std::atomic<uint32_t> turn_{0}, busy_{0};
  std::atomic<int64_t> next_{0};
  int64_t count_ = 0, piece_ = 1;
  void (*body_)(void*, int64_t, int64_t) = nullptr;
  void* data_ = nullptr;
};

Team& team() {
  thread_local Team own(os::cpu_count());
  return own;
}

}  // namespace

int team_size() { return inside ? 1 : team().size(); }
int team_member() { return member; }
void run_team(int64_t count, int64_t piece, void (*body)(void*, int64_t, int64_t), void* data) { team().run(count, piece, body, data); }
void rest_team() { team().rest(); }

}  // namespace jvlm::cpu
