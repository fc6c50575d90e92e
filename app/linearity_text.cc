// plumb trial linearity: what a linearity stage recorded.
#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "app/records.h"

namespace plumb::app {
namespace {

// "h0 -> h1"; "half 1: h2 -> h4"; the last, by the final norm, as Hugging Face has it.
std::string Move(const Record& r) {
  const std::string group = TextOf(r.data, "group");
  const std::string from = absl::StrCat("h", Number(NumberOf(r.data, "from")));
  if (group == "final") return absl::StrCat(from, " -> final norm");
  const std::string move = absl::StrCat(from, " -> h", Number(NumberOf(r.data, "to")));
  if (group == "layer") return move;
  return absl::StrCat(group, group == "whole" ? "" : absl::StrCat(" ", r.idx), ": ", move);
}

// Layers first, then the final one, then spans from the coarsest; as they are numbered.
int Rank(const Record& r) {
  static const std::vector<std::string> kGroups = {"layer", "final", "whole", "half", "quarter"};
  return static_cast<int>(std::find(kGroups.begin(), kGroups.end(), r.name) - kGroups.begin());
}

Table Select(const std::vector<Record>& records, const char* kind, const std::string& first,
             const std::vector<std::pair<const char*, int>>& members) {
  std::vector<const Record*> rows;
  for (const Record& r : records) {
    if (r.kind == kind) rows.push_back(&r);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Record* a, const Record* b) {
    return std::tuple(Rank(*a), a->idx) < std::tuple(Rank(*b), b->idx);
  });
  Table table{.columns = {{first}}};
  for (const auto& [name, digits] : members) {
    const bool any = std::any_of(rows.begin(), rows.end(),
                                 [&](const Record* r) { return r->data.contains(name); });
    if (any) table.columns.push_back({name, digits});
  }
  for (const Record* r : rows) {
    std::vector<Value>& row = table.rows.emplace_back();
    row.push_back(r->kind == "linearity" ? Move(*r) : absl::StrCat("h", r->idx));
    for (size_t i = 1; i < table.columns.size(); ++i)
      row.push_back(Member(r->data, table.columns[i].name.c_str()));
  }
  return table;
}

}  // namespace

std::string LinearityText(const std::vector<Record>& records) {
  std::vector<std::string> stages;
  for (const Record& r : records) {
    if (std::find(stages.begin(), stages.end(), r.stage) == stages.end()) stages.push_back(r.stage);
  }
  std::string out;
  for (const std::string& stage : stages) {
    std::vector<Record> own;
    std::set<std::string> warnings;
    const Record* any = nullptr;
    for (const Record& r : records) {
      if (r.stage != stage) continue;
      own.push_back(r);
      if (r.kind == "linearity") any = &r;
      for (const auto& w : r.data.value("warnings", nlohmann::json::array()))
        if (w.is_string()) warnings.insert(w.get<std::string>());
    }
    absl::StrAppend(&out, out.empty() ? "" : "\n", stage);
    if (any != nullptr) {
      absl::StrAppend(&out, ": fitted on ", Number(NumberOf(any->data, "n")), " tokens of ",
                      TextOf(any->data, "fit"),
                      ", held out: ", Number(NumberOf(any->data, "n_held_out")), " of ",
                      TextOf(any->data, "score_on"), "; definition ",
                      Number(NumberOf(any->data, "definition")));
    }
    absl::StrAppend(&out, "\n");
    for (const std::string& w : warnings) absl::StrAppend(&out, "warning: ", Printable(w), "\n");
    const Table moves = Select(own, "linearity", "move",
                               {{"score", 4},
                                {"held_out", 4},
                                {"rho_law", 4},
                                {"score_without", 4},
                                {"adjusted_without", 4},
                                {"held_out_without", 4},
                                {"standardized_without", 4},
                                {"rho", 4},
                                {"cosine", 4},
                                {"error_p99", 4},
                                {"floor", 4},
                                {"rank", 0}});
    const Table states = Select(own, "linearity_state", "state",
                                {{"norm", 3},
                                 {"kurtosis", 2},
                                 {"token_cosine", 4},
                                 {"anisotropy", 4},
                                 {"intrinsic_dimension", 2},
                                 {"lens_loss", 4},
                                 {"lens_accuracy", 4}});
    absl::StrAppend(&out, TableText(moves), states.rows.empty() ? "" : "\n",
                    states.rows.empty() ? "" : TableText(states));
  }
  return out;
}

Table LinearityTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"}, {"kind"}, {"name"}, {"idx"}, {"metric"}, {"value"}}};
  for (const Record& r : records) {
    for (const auto& [name, value] : r.data.items()) {
      if (value.is_number() || value.is_null())
        table.rows.push_back({r.stage, r.kind, r.name, r.idx, name, Member(r.data, name.c_str())});
    }
  }
  return table;
}

}  // namespace plumb::app
