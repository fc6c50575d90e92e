// What stages recorded beside their measurements, as text for people and as rows for programs. Pure
// functions of the records; a field that is missing shows as "-".
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "app/table.h"
#include "store/sqlite.h"

namespace plumb::app {

struct Record {
  std::string stage;
  std::string kind;
  std::string name;
  int64_t idx = 0;
  int64_t step = 0;
  nlohmann::json data;  // an object; its members by kind are in docs/database.md
};

// Those of one trial, by (stage, kind, name, idx); `stage` "": of all its stages.
absl::StatusOr<std::vector<Record>> LoadRecords(store::Database& db, int64_t trial,
                                                const std::string& stage,
                                                const std::vector<std::string>& kinds);

// [{"stage", "kind", "name", "idx", "step", …the record's own members}], or one a line.
std::string RecordsJson(const std::vector<Record>& records, Format format);

// What `plumb trial <view>` prints: the text for people, and the same as a table for CSV.
struct RecordView {
  const char* command;             // "generate"
  std::vector<std::string> kinds;  // of records it shows
  const char* what;                // "generated text"
  const char* stage_kind;          // of stages that make them
  const char* settings;            // that such a stage needs, as in a sweep file
  std::string (*text)(const std::vector<Record>&);
  Table (*table)(const std::vector<Record>&);
};
// generate, topk, attention, routes, painters, finetune, linearity, pruning, tasks, probes.
const std::vector<RecordView>& RecordViews();
const RecordView* FindRecordView(const std::string& command);  // null for an unknown command

// The views' halves, a file each where they are more than a table.
std::string AttentionText(const std::vector<Record>& records);
Table AttentionTable(const std::vector<Record>& records);  // a row for each (query, key)
std::string RoutesText(const std::vector<Record>& records);
Table RoutesTable(const std::vector<Record>& records);  // a row for each path of a part
std::string LinearityText(const std::vector<Record>& records);
Table LinearityTable(const std::vector<Record>& records);  // a row for each metric
std::string PruningText(const std::vector<Record>& records);
Table PruningTable(const std::vector<Record>& records);  // a row for each metric
std::string TaskText(const std::vector<Record>& records);
Table TaskTable(const std::vector<Record>& records);  // a row for each metric
std::string ProbesText(const std::vector<Record>& records);
Table ProbesTable(const std::vector<Record>& records);  // a row for each metric

// Members of a record, by name.
Value Member(const nlohmann::json& data, const char* name);
std::string TextOf(const nlohmann::json& data, const char* name);  // "" where it is no text
double NumberOf(const nlohmann::json& data, const char* name);     // NaN where it is no number

}  // namespace plumb::app
