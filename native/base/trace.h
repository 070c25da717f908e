#pragma once
#include <map>
#include <string>
#include <vector>

namespace jvlm {

// Named taps: what a tensor held at a point of the forward pass, for tests. Off unless a prefix was set. Taps append, so a picture that
// is encoded in several calls, or a prompt in several steps, leaves its rows in order. The prefix "*" takes every tap.
class Trace {
 public:
  void start(const std::string& prefix) {
    on_ = !prefix.empty();
    prefix_ = prefix;
    taps_.clear();
  }
  bool wants(const std::string& name) const { return on_ && (prefix_ == "*" || name.compare(0, prefix_.size(), prefix_) == 0); }
  bool on() const { return on_; }
  std::vector<float>& tap(const std::string& name) { return taps_[name]; }
  const std::vector<float>* find(const std::string& name) const {
    auto it = taps_.find(name);
    return it == taps_.end() ? nullptr : &it->second;
  }

 private:
  bool on_ = false;
  std::string prefix_;
  std::map<std::string, std::vector<float>> taps_;
};

}  // namespace jvlm
