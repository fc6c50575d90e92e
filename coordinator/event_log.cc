#include "coordinator/event_log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb::coordinator {
namespace {

std::atomic<bool> as_json = false;

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// What a message is, as fields: an event's are made already, and begin with a brace.
class Fields : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& msg, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string text(msg.payload.data(), msg.payload.size());
    const std::string json =
        text.starts_with("{\"event\"") ? text : Dump(nlohmann::ordered_json{{"message", text}});
    out.append(json.data() + 1, json.data() + json.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<Fields>();
  }
};

}  // namespace

void LogAsJson() {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<Fields>('*').set_pattern(
      R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%*)");
  spdlog::set_default_logger(spdlog::stderr_logger_mt("json"));
  spdlog::set_formatter(std::move(formatter));
  as_json = true;
}

void LogEvents(absl::Span<const Change> committed) {
  if (!as_json) return;
  std::map<SweepId, std::string> requests;
  for (const Change& change : committed) {
    if (const auto* sweep = std::get_if<InsertSweep>(&change))
      requests[sweep->row.id] = sweep->row.request_id;
  }
  for (const Change& change : committed) {
    const auto* note = std::get_if<AppendEvent>(&change);
    if (note == nullptr) continue;
    const EventRow& row = note->row;
    nlohmann::ordered_json json = {{"event", row.kind}};
    if (row.sweep) json["sweep"] = row.sweep.value;
    if (const auto it = requests.find(row.sweep); it != requests.end())
      json["request"] = it->second;
    if (row.trial) json["trial"] = row.trial.value;
    if (row.stage) json["stage"] = row.stage.value;
    if (row.attempt > 0) json["attempt"] = row.attempt;
    if (row.worker) json["worker"] = row.worker.value;
    json["detail"] = row.detail;
    spdlog::info("{}", Dump(json));
  }
}

}  // namespace plumb::coordinator
