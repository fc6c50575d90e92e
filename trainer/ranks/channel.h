// JSON lines over a socket between rank 0 and one other rank of a trial (trainer/ranks/gang.h).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace plumb::trainer {

// Owns its descriptor. One thread.
class Channel {
 public:
  explicit Channel(int fd) : fd_(fd) {}
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int fd() const { return fd_; }
  // False: the other side is gone.
  bool Send(const nlohmann::json& message);
  // Takes in what has come; blocks for the first of it where `wait`. False: the other side is gone
  // and nothing more will come.
  bool Fill(bool wait);
  // The next message that has come; an object.
  std::optional<nlohmann::json> Next();

 private:
  const int fd_;
  std::string in_;
};

}  // namespace plumb::trainer
