#include "trainer/protocol/journal_sink.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace plumb::trainer {

using nlohmann::json;

const char* Name(RowOutcome outcome) {
  switch (outcome) {
    case RowOutcome::kSucceeded:
      return "succeeded";
    case RowOutcome::kPaused:
      return "paused";
    case RowOutcome::kInfeasible:
      return "infeasible";
    case RowOutcome::kDiverged:
      return "diverged";
    case RowOutcome::kOutOfMemory:
      return "out_of_memory";
    case RowOutcome::kFailed:
      return "failed";
    case RowOutcome::kPreempted:
      return "preempted";
    case RowOutcome::kCancelled:
      return "cancelled";
  }
  return "?";
}

json NumberToJson(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

double NumberFromJson(const json& json) {
  if (json.is_number()) return json.get<double>();
  if (json == "Infinity") return std::numeric_limits<double>::infinity();
  if (json == "-Infinity") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

void JournalSink::Gathering(const std::string& row, const std::string& address,
                            const std::string& secret) {
  journal_.Append({{"event", "gathering"}, {"row", row}, {"address", address}, {"secret", secret}});
}

void JournalSink::RowStarted(const std::string& row, int64_t step) {
  journal_.Append({{"event", "row_started"}, {"row", row}, {"step", step}});
}

void JournalSink::Points(const std::string& row, int64_t step,
                         const std::vector<PointValue>& values) {
  json list = json::array();
  for (const PointValue& v : values) {
    list.push_back(json::array({v.name, v.layer, v.definition_version, NumberToJson(v.value)}));
  }
  journal_.Append({{"event", "points"}, {"row", row}, {"step", step}, {"values", std::move(list)}});
}

void JournalSink::Documents(const std::string& row, const std::string& split,
                            const std::vector<DocumentScore>& scores) {
  constexpr size_t kPerLine = 2000;
  for (size_t begin = 0; begin < scores.size(); begin += kPerLine) {
    json list = json::array();
    for (size_t i = begin; i < std::min(scores.size(), begin + kPerLine); ++i) {
      const DocumentScore& s = scores[i];
      list.push_back(json::array({s.document, NumberToJson(s.nll), s.tokens, s.bytes}));
    }
    journal_.Append(
        {{"event", "documents"}, {"row", row}, {"split", split}, {"scores", std::move(list)}});
  }
}

void JournalSink::Record(const std::string& row, int64_t step, const std::string& kind,
                         const std::string& name, int64_t index, const std::string& text) {
  const std::string what = "record " + kind + " " + name + " " + std::to_string(index);
  if (kind.empty() || name.empty() || kind.size() > 200 || name.size() > 200)
    throw std::invalid_argument(what + ": kind and name have 1 to 200 bytes");
  if (static_cast<int64_t>(text.size()) > kMaxRecordBytes)
    throw std::invalid_argument(what + " has " + std::to_string(text.size()) +
                                " bytes, at most 1 MiB is kept: ask the stage for less at once "
                                "(fewer tokens, layers or texts a record)");
  json data = json::parse(text, nullptr, false);
  if (!data.is_object()) throw std::invalid_argument(what + " is no JSON object");
  journal_.Append({{"event", "record"},
                   {"row", row},
                   {"step", step},
                   {"kind", kind},
                   {"name", name},
                   {"index", index},
                   {"data", std::move(data)}});
}

void JournalSink::Checkpoint(const std::string& row, int64_t step, const std::string& path,
                             const std::string& digest, int64_t bytes) {
  journal_.Append({{"event", "checkpoint"},
                   {"row", row},
                   {"step", step},
                   {"path", path},
                   {"digest", digest},
                   {"bytes", bytes}});
}

void JournalSink::RowEnded(const std::string& row, int64_t step, RowOutcome outcome,
                           const std::string& cause, const std::string& summary_json) {
  json summary = json::parse(summary_json, nullptr, false);
  if (!summary.is_object()) summary = json::object();
  journal_.Append({{"event", "row_ended"},
                   {"row", row},
                   {"step", step},
                   {"outcome", Name(outcome)},
                   {"cause", cause},
                   {"summary", std::move(summary)}});
}

}  // namespace plumb::trainer
