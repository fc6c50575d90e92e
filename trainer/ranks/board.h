// Where ranks leave word for each other while they connect; c10d calls it a store. It is in rank
// 0's memory, and the others ask over their channels: c10d's own stores wait for minutes for a rank
// that has died, or, where it died while it wrote to the file, for ever.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/ranks/channel.h"

namespace plumb::trainer {

using Word = std::vector<uint8_t>;

class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  virtual void Set(const std::string& key, const Word& word) = 0;
  // Waits until it has been set. Throws std::runtime_error when a rank is gone, or
  // after `limit`.
  virtual Word Get(const std::string& key, std::chrono::milliseconds limit) = 0;
  virtual bool Has(const std::string& key) = 0;
};

// Safe to call from several threads.
class Board : public Rendezvous {
 public:
  void Set(const std::string& key, const Word& word) override;
  Word Get(const std::string& key, std::chrono::milliseconds limit) override;
  bool Has(const std::string& key) override;

  // What a RemoteBoard at the other end of `from` has asked; a word that is not there yet is sent
  // when it comes. `from` must outlive the board or Lose().
  void Answer(const nlohmann::json& request, Channel* from);
  // A rank is gone: every Get() throws from now on.
  void Lose(const std::string& why);

 private:
  struct Waiting {
    std::string key;
    Channel* channel;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Word> words_;
  std::vector<Waiting> waiting_;
  std::string lost_;
};

// Rank 0's board, for another rank. While it is used nothing else is said on the channel. Limits
// are rank 0's to keep: when it gives up, so does this rank.
class RemoteBoard : public Rendezvous {
 public:
  explicit RemoteBoard(Channel& channel) : channel_(channel) {}
  void Set(const std::string& key, const Word& word) override;
  Word Get(const std::string& key, std::chrono::milliseconds limit) override;
  bool Has(const std::string& key) override;

 private:
  nlohmann::json Ask(const nlohmann::json& request);
  Channel& channel_;
};

}  // namespace plumb::trainer
