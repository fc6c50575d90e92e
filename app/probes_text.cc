// plumb trial probes: what a linear_probe stage recorded.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/records.h"

namespace plumb::app {
namespace {

constexpr char kProperty[] = "linear_probe_property";

// What the property was read from: "tune", or a file's name and how its texts became states.
std::string Words(const Record& r) {
  const std::string file = TextOf(r.data, "file");
  const auto tokens = [&](const char* n, const char* documents, const std::string& of) {
    return absl::StrCat(Number(NumberOf(r.data, n)), file.empty() ? " tokens" : " texts", " of ",
                        of, " (", Number(NumberOf(r.data, documents)),
                        file.empty() ? " documents)" : " different)");
  };
  std::vector<std::string> classes;
  for (const auto& c : r.data.value("classes", nlohmann::json::array()))
    if (c.is_string()) classes.push_back(Printable(c.get<std::string>()));
  const size_t all = classes.size();
  if (all > 8) classes.resize(8);
  std::string out =
      absl::StrCat(TextOf(r.data, "property"), " (", absl::StrJoin(classes, ", "),
                   all > 8 ? absl::StrCat(", … ", all, " in all") : "", "): fitted on ",
                   tokens("n", "n_documents", TextOf(r.data, "fit")), ", judged on ",
                   tokens("n_held_out", "n_held_out_documents", TextOf(r.data, "score_on")));
  if (!file.empty())
    absl::StrAppend(&out, ", ", Printable(file), ", state: ", TextOf(r.data, "pool"));
  absl::StrAppend(&out, "; definition ", Number(NumberOf(r.data, "definition")), "\n");
  for (const auto& w : r.data.value("warnings", nlohmann::json::array())) {
    if (w.is_string()) absl::StrAppend(&out, "warning: ", Printable(w.get<std::string>()), "\n");
  }
  return absl::StrCat(out, "without the state: accuracy ", Number(NumberOf(r.data, "majority"), 4),
                      ", loss ", Number(NumberOf(r.data, "prior_loss"), 4), "\n");
}

// A line for each state, the methods beside each other; columns that nobody has are left out.
Table States(const std::vector<Record>& records, const std::string& stage,
             const std::string& property) {
  struct Cell {
    const char *column, *method, *member;
  };
  static constexpr Cell kCells[] = {{"ridge", "ridge", "accuracy"},
                                    {"+-", "ridge", "accuracy_stderr"},
                                    {"control", "ridge", "control_accuracy"},
                                    {"selectivity", "ridge", "selectivity"},
                                    {"+-", "ridge", "selectivity_stderr"},
                                    {"r2", "ridge", "r2"},
                                    {"logistic", "logistic", "accuracy"},
                                    {"+-", "logistic", "accuracy_stderr"},
                                    {"loss", "logistic", "loss"},
                                    {"+-", "logistic", "loss_stderr"}};
  std::map<int64_t, std::map<std::string, const Record*>> by_state;
  for (const Record& r : records) {
    if (r.stage == stage && r.kind == "linear_probe" && TextOf(r.data, "property") == property)
      by_state[r.idx][TextOf(r.data, "method")] = &r;
  }
  std::vector<Cell> cells;
  for (const Cell& cell : kCells) {
    const bool any = std::any_of(by_state.begin(), by_state.end(), [&](const auto& s) {
      const auto it = s.second.find(cell.method);
      return it != s.second.end() && it->second->data.contains(cell.member);
    });
    if (any) cells.push_back(cell);
  }
  Table table{.columns = {{"state"}}};
  for (const Cell& cell : cells) table.columns.push_back({cell.column, 4});
  for (const auto& [state, methods] : by_state) {
    std::vector<Value>& row = table.rows.emplace_back();
    row.push_back(absl::StrCat("h", state));
    for (const Cell& cell : cells) {
      const auto it = methods.find(cell.method);
      row.push_back(it == methods.end() ? Value() : Member(it->second->data, cell.member));
    }
  }
  return table;
}

}  // namespace

std::string ProbesText(const std::vector<Record>& records) {
  std::string out;
  std::string stage;
  for (const Record& r : records) {
    if (r.kind != kProperty) continue;
    absl::StrAppend(&out, out.empty() ? "" : "\n");
    if (r.stage != stage) absl::StrAppend(&out, r.stage, "\n");
    stage = r.stage;
    absl::StrAppend(&out, Words(r), TableText(States(records, r.stage, r.name)));
  }
  return out;
}

Table ProbesTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"}, {"property"}, {"method"}, {"state"}, {"metric"}, {"value"}}};
  for (const Record& r : records) {
    const bool beside = r.kind == kProperty;
    for (const auto& [name, value] : r.data.items()) {
      if (name == "state" || !(value.is_number() || value.is_null())) continue;
      table.rows.push_back({r.stage, TextOf(r.data, "property"), TextOf(r.data, "method"),
                            beside ? Value() : Value(r.idx), name, Member(r.data, name.c_str())});
    }
  }
  return table;
}

}  // namespace plumb::app
