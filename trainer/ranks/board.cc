#include "trainer/ranks/board.h"

#include <stdexcept>

namespace plumb::trainer {

using nlohmann::json;

void Board::Set(const std::string& key, const Word& word) {
  const std::lock_guard lock(mutex_);
  words_[key] = word;
  std::erase_if(waiting_, [&](const Waiting& w) {
    if (w.key == key) w.channel->Send({{"word", word}});
    return w.key == key;
  });
  changed_.notify_all();
}

Word Board::Get(const std::string& key, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const bool over =
      changed_.wait_for(lock, limit, [&] { return words_.count(key) > 0 || !lost_.empty(); });
  if (!over) throw std::runtime_error("a rank does not connect");
  if (!lost_.empty()) throw std::runtime_error(lost_);
  return words_.at(key);
}

bool Board::Has(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return words_.count(key) > 0;
}

void Board::Answer(const json& request, Channel* from) {
  const std::string what = request.at("board"), key = request.at("key");
  if (what == "set") return Set(key, request.at("word").get<Word>());
  const std::lock_guard lock(mutex_);
  const auto it = words_.find(key);
  if (what == "has") {
    from->Send({{"has", it != words_.end()}});
  } else if (it != words_.end()) {
    from->Send({{"word", it->second}});
  } else {
    waiting_.push_back({key, from});
  }
}

void Board::Lose(const std::string& why) {
  const std::lock_guard lock(mutex_);
  lost_ = why;
  waiting_.clear();
  changed_.notify_all();
}

void RemoteBoard::Set(const std::string& key, const Word& word) {
  channel_.Send({{"board", "set"}, {"key", key}, {"word", word}});
}
Word RemoteBoard::Get(const std::string& key, std::chrono::milliseconds) {
  return Ask({{"board", "get"}, {"key", key}}).at("word").get<Word>();
}
bool RemoteBoard::Has(const std::string& key) {
  return Ask({{"board", "has"}, {"key", key}}).at("has").get<bool>();
}
json RemoteBoard::Ask(const json& request) {
  if (channel_.Send(request)) {
    for (;;) {
      if (auto answer = channel_.Next()) return *answer;
      if (!channel_.Fill(/*wait=*/true)) break;
    }
  }
  throw std::runtime_error("rank 0 is gone");
}

}  // namespace plumb::trainer
