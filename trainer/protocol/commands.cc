#include "trainer/protocol/commands.h"

#include <unistd.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/protocol/serve.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;

// Deeper than any command, and far less than what writing it again has stack for.
constexpr int kDeepest = 64;

json ParseLine(const std::string& line) {
  return json::parse(
      line,
      [](int depth, json::parse_event_t, json&) {
        if (depth > kDeepest) throw std::runtime_error("not a command: nested too deep");
        return true;
      },
      /*allow_exceptions=*/false);
}

// The library turns 1e300, true and 2^64 - 1 into some int64; none of them is one.
int64_t Integer(const json& value, const char* name) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() &&
       value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))) {
    throw std::runtime_error(std::string(name) + ": an integer of 64 bits is needed");
  }
  return value.get<int64_t>();
}

int64_t Integer(const json& object, const char* name, int64_t absent) {
  const auto it = object.find(name);
  return it == object.end() ? absent : Integer(*it, name);
}

std::optional<CheckpointRef> ParseCheckpoint(const json& command) {
  const auto it = command.find("checkpoint");
  if (it == command.end() || it->is_null()) return std::nullopt;
  return CheckpointRef{it->at("path").get<std::string>(), it->at("digest").get<std::string>(),
                       Integer(it->at("step"), "step"), it->at("resume").get<bool>()};
}

std::optional<GangPart> ParseGang(const json& command) {
  const auto it = command.find("gang");
  if (it == command.end() || it->is_null()) return std::nullopt;
  GangPart part{.first_rank = Integer(*it, "first_rank", 0),
                .ranks_here = Integer(it->at("ranks_here"), "ranks_here"),
                .address = it->at("address").get<std::string>(),
                .rendezvous = it->value("rendezvous", ""),
                .secret = it->value("secret", "")};
  if (part.first_rank < 0 || part.ranks_here < 1 || part.address.empty() ||
      (part.first_rank > 0 && (part.rendezvous.empty() || part.secret.empty())))
    throw std::runtime_error("gang: ranks_here, address and, past rank 0, rendezvous and secret");
  return part;
}

}  // namespace

void Commands::CloseBundle() {
  if (bundle_.empty()) return;
  engine_.Close();
  journal_.Append({{"event", "closed"}, {"bundle", bundle_}});
  bundle_.clear();
}

std::string Commands::Answer(const std::string& line) {
  json answer = {{"ok", true}};
  try {
    const json command = ParseLine(line);
    if (!command.is_object() || !command.contains("command") || !command["command"].is_string())
      throw std::runtime_error("not a command: an object with \"command\" is needed");
    // Said again only where it is a number: anything else may be too deep to be written.
    if (command.contains("n") && command["n"].is_number()) answer["n"] = command["n"];
    const std::string name = command["command"];
    if (name == "hello") {
      Hello(command, answer);
    } else if (const int64_t n = Integer(command.at("n"), "n"); n <= last_n_) {
      answer["repeated"] = true;
    } else {
      Apply(name, command);
      last_n_ = n;
    }
  } catch (const std::exception& e) {
    answer["ok"] = false;
    answer["error"] = e.what();
  }
  return answer.dump(-1, ' ', false, json::error_handler_t::replace);
}

void Commands::Hello(const json& command, json& answer) const {
  const int64_t low = Integer(command, "protocol_min", 1);
  const int64_t high = Integer(command, "protocol_max", 1);
  if (low > kProtocolVersion || high < kProtocolVersion) {
    throw std::runtime_error("this trainer speaks protocol " + std::to_string(kProtocolVersion) +
                             ", the worker " + std::to_string(low) + " to " + std::to_string(high) +
                             ": install worker and trainer of one release");
  }
  answer["protocol"] = kProtocolVersion;
  answer["last_n"] = last_n_;
  answer["pid"] = getpid();
  answer["bundle"] = bundle_;
  answer["rows"] = engine_.LiveRows();
}

void Commands::Apply(const std::string& name, const json& command) {
  if (name == "open") {
    if (!bundle_.empty())
      throw std::runtime_error("bundle " + bundle_ + " is open: close it first");
    const std::string bundle = command.at("bundle");
    if (bundle.empty()) throw std::runtime_error("a bundle needs a name");
    engine_.Open(bundle, Integer(command.at("capacity"), "capacity"),
                 command.at("data_dir").get<std::string>(),
                 Integer(command.at("threads"), "threads"));
    bundle_ = bundle;
    journal_.Append({{"event", "opened"}, {"bundle", bundle_}});
  } else if (name == "add_row") {
    AddRow(command);
  } else if (name == "extend_row") {
    engine_.ExtendRow(command.at("row"), Integer(command.at("until_step"), "until_step"));
  } else if (name == "checkpoint_row") {
    engine_.CheckpointRow(command.at("row"));
  } else if (name == "stop_row") {
    const std::string mode = command.at("mode");
    if (mode != "preempt" && mode != "cancel")
      throw std::runtime_error("mode: \"preempt\" or \"cancel\"");
    engine_.StopRow(command.at("row"),
                    mode == "preempt" ? Engine::StopMode::kPreempt : Engine::StopMode::kCancel);
  } else if (name == "close") {
    const std::string bundle = command.at("bundle");
    if (bundle != bundle_) throw std::runtime_error("bundle " + bundle + " is not open");
    CloseBundle();
  } else if (name == "shutdown") {
    CloseBundle();
    shutdown_ = true;
  } else {
    throw std::runtime_error("unknown command \"" + name + "\"");
  }
}

void Commands::AddRow(const json& command) {
  if (bundle_.empty()) throw std::runtime_error("no bundle is open");
  RowRequest request;
  request.row = command.at("row");
  request.kind = command.at("kind");
  for (const std::string& live : engine_.LiveRows())
    if (live == request.row) throw std::runtime_error("row " + live + " is live already");
  request.stage_json = command.value("stage", json::object()).dump();
  request.until_step = Integer(command, "until_step", -1);
  request.checkpoint = ParseCheckpoint(command);
  request.checkpoint_dir = command.value("checkpoint_dir", "");
  request.keep_step = Integer(command, "keep_step", 0);
  request.gang = ParseGang(command);
  // A no-op has no config, but where it reads values from one.
  const bool bowl = command.contains("stage") && command.at("stage").contains("bowl");
  if (request.kind != "noop" || bowl) {
    const auto errors = spec::ParseResolved(command.at("config").dump(), &request.spec);
    if (!errors.empty()) {
      sink_.RowEnded(request.row, 0, RowOutcome::kInfeasible, spec::Format(errors), "{}");
      return;
    }
  }
  engine_.AddRow(request);
}

}  // namespace plumb::trainer
