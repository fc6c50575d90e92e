// Where the ranks of a gang find each other: the connections between machines that no message to
// the server goes by.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/loop.h"

namespace plumb::sim {

class Meetings {
 public:
  explicit Meetings(Loop& loop) : loop_(loop) {}

  // Rank 0 waits at `address` for so many ranks: `full` once they are there, `lost` when one that
  // was there is gone.
  void Open(const std::string& address, std::string secret, int64_t ranks,
            std::function<void()> full, std::function<void()> lost) {
    meetings_[address] = {std::move(secret), ranks, std::move(full), std::move(lost), {}};
  }
  // Rank 0 is gone: the others hear of it.
  void Close(const std::string& address) {
    const auto it = meetings_.find(address);
    if (it == meetings_.end()) return;
    for (auto& over : it->second.over) Say(std::move(over));
    meetings_.erase(it);
  }
  // False: nobody is there, or not with that secret.
  bool Join(const std::string& address, const std::string& secret, int64_t ranks,
            std::function<void()> over) {
    const auto it = meetings_.find(address);
    if (it == meetings_.end() || it->second.secret != secret) return false;
    it->second.over.push_back(std::move(over));
    if ((it->second.missing -= ranks) == 0) Say(it->second.full);
    return true;
  }
  // One that had joined is gone.
  void Leave(const std::string& address) {
    if (const auto it = meetings_.find(address); it != meetings_.end()) Say(it->second.lost);
  }

 private:
  struct Meeting {
    std::string secret;
    int64_t missing = 0;
    std::function<void()> full, lost;
    std::vector<std::function<void()>> over;
  };
  void Say(std::function<void()> what) { loop_.After(absl::Milliseconds(1), std::move(what)); }

  Loop& loop_;
  std::map<std::string, Meeting> meetings_;
};

}  // namespace plumb::sim
