// Virtual time: things to do, in order of their time and, at one time, of their arrival.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/time/time.h"

namespace plumb::sim {

class Loop {
 public:
  absl::Duration now() const { return now_; }
  int64_t done() const { return done_; }

  void At(absl::Duration when, std::function<void()> what) {
    queue_.emplace(std::pair(std::max(when, now_), next_++), std::move(what));
  }
  void After(absl::Duration wait, std::function<void()> what) { At(now_ + wait, std::move(what)); }

  // Does the next thing; false when there is none.
  bool Step() {
    if (queue_.empty()) return false;
    auto node = queue_.extract(queue_.begin());
    now_ = node.key().first;
    ++done_;
    node.mapped()();
    return true;
  }

 private:
  absl::Duration now_;
  uint64_t next_ = 0;
  int64_t done_ = 0;
  std::map<std::pair<absl::Duration, uint64_t>, std::function<void()>> queue_;
};

}  // namespace plumb::sim
