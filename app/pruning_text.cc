// plumb trial pruning: what a prune stage recorded.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/records.h"

namespace plumb::app {
namespace {

std::vector<std::string> StagesOf(const std::vector<Record>& records) {
  std::vector<std::string> out;
  for (const Record& r : records) {
    if (std::find(out.begin(), out.end(), r.stage) == out.end()) out.push_back(r.stage);
  }
  return out;
}

Table Select(const std::vector<Record>& records, const std::string& stage, const char* kind,
             const std::vector<Column>& columns) {
  Table table{.columns = columns};
  for (const Record& r : records) {
    if (r.stage != stage || r.kind != kind) continue;
    std::vector<Value>& row = table.rows.emplace_back();
    for (const Column& c : columns) row.push_back(Member(r.data, c.name.c_str()));
  }
  return table;
}

// A column for each task: the first of its metrics that there is.
void AddTasks(const std::vector<Record>& records, const std::string& stage, Table* left) {
  std::set<std::pair<std::string, const char*>> columns;
  std::vector<const nlohmann::json*> rows;
  for (const Record& r : records) {
    if (r.stage != stage || r.kind != "prune") continue;
    const auto tasks = r.data.find("tasks");
    rows.push_back(tasks == r.data.end() ? nullptr : &*tasks);
    if (rows.back() == nullptr || !rows.back()->is_object()) continue;
    for (const auto& [name, scores] : rows.back()->items()) {
      for (const char* metric : {"acc", "perplexity"}) {
        if (!scores.is_object() || !scores.contains(metric)) continue;
        columns.emplace(name, metric);
        break;
      }
    }
  }
  for (const auto& [name, metric] : columns) {
    left->columns.push_back({absl::StrCat(name, "/", metric), 4});
    for (size_t i = 0; i < rows.size(); ++i) {
      const bool there = rows[i] != nullptr && rows[i]->is_object() && rows[i]->contains(name);
      left->rows[i].push_back(there ? Member(rows[i]->at(name), metric) : Value());
    }
  }
}

}  // namespace

std::string PruningText(const std::vector<Record>& records) {
  std::string out;
  for (const std::string& stage : StagesOf(records)) {
    absl::StrAppend(&out, out.empty() ? "" : "\n", stage);
    for (const Record& r : records) {
      if (r.stage != stage || r.kind != "prune") continue;
      absl::StrAppend(&out, ": in the order of ", TextOf(r.data, "order"), ", fitted on ",
                      TextOf(r.data, "fit"), ", scored on ", Number(NumberOf(r.data, "tokens")),
                      " tokens of ", TextOf(r.data, "split"), "; definition ",
                      Number(NumberOf(r.data, "definition")));
      break;
    }
    const Table layers = Select(records, stage, "prune_layer",
                                {{"layer"},
                                 {"score", 4},
                                 {"score_without", 4},
                                 {"rho", 4},
                                 {"identity_error"},
                                 {"map_error"}});
    Table left = Select(records, stage, "prune",
                        {{"layers_removed"},
                         {"method"},
                         {"removed"},
                         {"loss", 4},
                         {"perplexity", 3},
                         {"stream_error", 4},
                         {"parameters"},
                         {"flops_per_token"},
                         {"tokens_per_second", 0}});
    AddTasks(records, stage, &left);
    std::stable_sort(left.rows.begin(), left.rows.end(),
                     [](const auto& a, const auto& b) { return a[0] < b[0]; });
    absl::StrAppend(&out, "\n", layers.rows.empty() ? "" : TableText(layers) + "\n",
                    TableText(left));
  }
  return out;
}

Table PruningTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"}, {"kind"}, {"name"}, {"idx"}, {"metric"}, {"value"}}};
  for (const Record& r : records) {
    for (const auto& [name, value] : r.data.items()) {
      if (name == "tasks" && value.is_object()) {
        for (const auto& [task, scores] : value.items()) {
          for (const auto& [metric, score] : scores.items())
            table.rows.push_back({r.stage, r.kind, r.name, r.idx, absl::StrCat(task, "/", metric),
                                  Member(scores, metric.c_str())});
        }
        continue;
      }
      table.rows.push_back({r.stage, r.kind, r.name, r.idx, name, Member(r.data, name.c_str())});
    }
  }
  return table;
}

}  // namespace plumb::app
