// plumb trial tasks: what task stages scored.
#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "app/records.h"

namespace plumb::app {
namespace {

constexpr const char* kMetrics[] = {"acc",        "acc_norm", "acc_bytes",
                                    "acc_groups", "f1",       "perplexity"};

std::string TaskOf(const Record& r) {
  return std::filesystem::path(TextOf(r.data, "task")).filename().string();
}

}  // namespace

std::string TaskText(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"}, {"task"}, {"format"}, {"of"}, {"items"}}};
  std::vector<const char*> shown;
  for (const char* metric : kMetrics) {
    bool any = false;
    for (const Record& r : records) any |= r.data.contains(metric);
    if (!any) continue;
    shown.push_back(metric);
    table.columns.push_back({metric, 4});
    table.columns.push_back({"±", 4});
  }
  for (const Record& r : records) {
    std::vector<Value>& row = table.rows.emplace_back();
    row = {r.stage, TaskOf(r), Member(r.data, "format"), r.name, Member(r.data, "items")};
    for (const char* metric : shown) {
      row.push_back(Member(r.data, metric));
      row.push_back(Member(r.data, absl::StrCat(metric, "_stderr").c_str()));
    }
  }
  return TableText(table);
}

Table TaskTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"},
                          {"task"},
                          {"format"},
                          {"version"},
                          {"group"},
                          {"items"},
                          {"metric"},
                          {"value"},
                          {"stderr"}}};
  for (const Record& r : records) {
    for (const char* metric : kMetrics) {
      if (!r.data.contains(metric)) continue;
      table.rows.push_back({r.stage, TaskOf(r), Member(r.data, "format"), Member(r.data, "version"),
                            r.name, Member(r.data, "items"), metric, Member(r.data, metric),
                            Member(r.data, absl::StrCat(metric, "_stderr").c_str())});
    }
  }
  return table;
}

}  // namespace plumb::app
