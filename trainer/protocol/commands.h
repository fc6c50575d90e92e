// What a trainer does with the lines of the command socket (docs/trainer-protocol.md): one line in,
// one answer out. Knows neither sockets nor signals. One thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trainer/protocol/engine.h"
#include "trainer/protocol/journal.h"

namespace plumb::trainer {

class Commands {
 public:
  // All of them must outlive this.
  Commands(JournalWriter& journal, EventSink& sink, Engine& engine)
      : journal_(journal), sink_(sink), engine_(engine) {}

  // The answer, without a newline. A line that is no command, or a command that fails, is answered
  // with "ok": false and the reason; it changes nothing and does not use up its number.
  std::string Answer(const std::string& line);
  // Ends the open bundle with what still runs in it; nothing to do without one.
  void CloseBundle();
  bool shutdown() const { return shutdown_; }  // asked for: say the answer and leave

 private:
  void Hello(const nlohmann::json& command, nlohmann::json& answer) const;
  void Apply(const std::string& name, const nlohmann::json& command);
  void AddRow(const nlohmann::json& command);

  JournalWriter& journal_;
  EventSink& sink_;
  Engine& engine_;
  std::string bundle_;  // the open one, or ""
  int64_t last_n_ = 0;
  bool shutdown_ = false;
};

}  // namespace plumb::trainer
