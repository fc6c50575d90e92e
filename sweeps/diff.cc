#include "sweeps/diff.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

constexpr char kDefault[] = "(default)";
constexpr size_t kShown = 12;  // cells or values that a text names

void Flatten(const json& j, const std::string& path, std::map<std::string, std::string>* out) {
  if (j.is_object() && !j.empty()) {
    for (const auto& [key, value] : j.items())
      Flatten(value, path.empty() ? key : absl::StrCat(path, ".", key), out);
    return;
  }
  (*out)[path] = j.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::map<std::string, std::string> Fields(const std::string& config_json) {
  std::map<std::string, std::string> out;
  const json j = json::parse(config_json, nullptr, false);
  if (j.is_object()) Flatten(j, "", &out);
  return out;
}

// By field, the values that a side's trials have; every field that any trial of either side says.
std::map<std::string, std::set<std::string>> ValuesOf(const SweepSide& side,
                                                      const std::set<std::string>& paths) {
  std::map<std::string, std::set<std::string>> out;
  for (const SweepSide::Trial& t : side.trials) {
    const std::map<std::string, std::string> fields = Fields(t.config_json);
    for (const std::string& path : paths) {
      const auto it = fields.find(path);
      out[path].insert(it == fields.end() ? kDefault : it->second);
    }
  }
  return out;
}

// Seeds count replicates.
bool IsSeed(const std::string& path) { return path.rfind("seed.", 0) == 0; }

// Numbers by size.
std::vector<std::string> Sorted(std::vector<std::string> values) {
  const auto number = [](const std::string& s) {
    const json j = json::parse(s, nullptr, false);
    return j.is_number() ? j.get<double>() : 0.0;
  };
  std::stable_sort(values.begin(), values.end(), [&](const std::string& x, const std::string& y) {
    return number(x) < number(y);
  });
  return values;
}

int64_t Replicates(const SweepSide& side) {
  std::map<std::string, std::set<int64_t>> of;
  for (const SweepSide::Trial& t : side.trials) {
    if (!t.aa && !t.tune) of[t.cell].insert(t.replicate);
  }
  int64_t most = 0;
  for (const auto& [cell, replicates] : of) most = std::max(most, std::ssize(replicates));
  return most;
}

std::string Shortened(const std::vector<std::string>& all, absl::string_view between) {
  if (all.size() <= kShown) return absl::StrJoin(all, between);
  return absl::StrCat(absl::StrJoin(all.begin(), all.begin() + kShown, between), between, "… (",
                      all.size(), ")");
}

}  // namespace

std::string AaKey(const std::string& config_json) { return "aa " + config_json; }

SweepSide SideOf(const SweepPlan& plan, std::string label) {
  SweepSide out{.label = std::move(label), .name = plan.name};
  for (const PlannedTrial& t : plan.trials) {
    const std::string config = spec::Canonical(t.config, spec::With::kExecution).dump();
    out.trials.push_back({.cell = plan.cells[static_cast<size_t>(t.cell)].name,
                          .key = t.aa ? AaKey(config) : t.key,
                          .config_json = config,
                          .replicate = t.replicate,
                          .aa = t.aa,
                          .tune = t.role == TrialRole::kTune});
  }
  return out;
}

std::vector<FieldChange> ConfigChanges(const std::string& a_json, const std::string& b_json) {
  const std::map<std::string, std::string> a = Fields(a_json), b = Fields(b_json);
  std::set<std::string> paths;
  for (const auto& [path, value] : a) paths.insert(path);
  for (const auto& [path, value] : b) paths.insert(path);
  std::vector<FieldChange> out;
  for (const std::string& path : paths) {
    const auto x = a.find(path), y = b.find(path);
    FieldChange change{path, x == a.end() ? kDefault : x->second,
                       y == b.end() ? kDefault : y->second};
    if (change.a != change.b) out.push_back(std::move(change));
  }
  return out;
}

bool SweepDiff::equal() const {
  return fields.empty() && axes.empty() && cells_only_a.empty() && cells_only_b.empty() &&
         trials_only_a == 0 && trials_only_b == 0 && replicates_a == replicates_b;
}

SweepDiff Diff(const SweepSide& a, const SweepSide& b) {
  SweepDiff out{.a = a.label, .b = b.label};
  std::set<std::string> paths;
  for (const SweepSide* side : {&a, &b}) {
    for (const SweepSide::Trial& t : side->trials) {
      for (const auto& [path, value] : Fields(t.config_json)) paths.insert(path);
    }
  }
  const auto values_a = ValuesOf(a, paths), values_b = ValuesOf(b, paths);
  for (const std::string& path : paths) {
    if (IsSeed(path) || a.trials.empty() || b.trials.empty()) continue;
    const std::set<std::string>&x = values_a.at(path), &y = values_b.at(path);
    if (x == y) continue;
    if (x.size() == 1 && y.size() == 1) {
      out.fields.push_back({path, *x.begin(), *y.begin()});
      continue;
    }
    AxisChange axis{.path = path};
    std::set_difference(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(axis.only_a));
    std::set_difference(y.begin(), y.end(), x.begin(), x.end(), std::back_inserter(axis.only_b));
    axis.only_a = Sorted(std::move(axis.only_a)), axis.only_b = Sorted(std::move(axis.only_b));
    axis.shared = std::ssize(x) - std::ssize(axis.only_a);
    out.axes.push_back(std::move(axis));
  }
  const auto names = [](const SweepSide& side) {
    std::vector<std::string> in_order;
    std::set<std::string> seen;
    for (const SweepSide::Trial& t : side.trials) {
      if (seen.insert(t.cell).second) in_order.push_back(t.cell);
    }
    return std::pair(in_order, seen);
  };
  const auto [cells_a, set_a] = names(a);
  const auto [cells_b, set_b] = names(b);
  for (const std::string& c : cells_a)
    set_b.contains(c) ? void(++out.cells_shared) : out.cells_only_a.push_back(c);
  for (const std::string& c : cells_b) {
    if (!set_a.contains(c)) out.cells_only_b.push_back(c);
  }
  out.replicates_a = Replicates(a), out.replicates_b = Replicates(b);
  std::set<std::string> keys_a, keys_b;
  for (const SweepSide::Trial& t : a.trials) keys_a.insert(t.key);
  for (const SweepSide::Trial& t : b.trials) keys_b.insert(t.key);
  for (const std::string& key : keys_a)
    ++(keys_b.contains(key) ? out.trials_shared : out.trials_only_a);
  for (const std::string& key : keys_b) out.trials_only_b += keys_a.contains(key) ? 0 : 1;
  return out;
}

std::string DiffText(const SweepDiff& d) {
  std::string out = absl::StrCat("a: ", d.a, "\nb: ", d.b, "\n");
  for (const FieldChange& f : d.fields)
    absl::StrAppend(&out, "field  ", f.path, ": ", f.a, " → ", f.b, "\n");
  for (const AxisChange& axis : d.axes) {
    absl::StrAppend(&out, "values ", axis.path, ":");
    if (!axis.only_a.empty()) absl::StrAppend(&out, " only a ", Shortened(axis.only_a, ", "));
    if (!axis.only_a.empty() && !axis.only_b.empty()) absl::StrAppend(&out, ";");
    if (!axis.only_b.empty()) absl::StrAppend(&out, " only b ", Shortened(axis.only_b, ", "));
    absl::StrAppend(&out, "; ", axis.shared, " in both\n");
  }
  for (const std::string& line :
       {absl::StrCat("only a (", d.cells_only_a.size(), "): ", Shortened(d.cells_only_a, "; ")),
        absl::StrCat("only b (", d.cells_only_b.size(), "): ", Shortened(d.cells_only_b, "; "))}) {
    if (line.find("(0)") == std::string::npos) absl::StrAppend(&out, "cells  ", line, "\n");
  }
  if (d.replicates_a != d.replicates_b)
    absl::StrAppend(&out, "replicates: ", d.replicates_a, " → ", d.replicates_b, "\n");
  absl::StrAppend(&out, "cells: ", d.cells_shared, " in both, ", d.cells_only_a.size(),
                  " only in a, ", d.cells_only_b.size(), " only in b\n");
  absl::StrAppend(&out, "trials: ", d.trials_shared, " are the same computation, ", d.trials_only_a,
                  " only in a, ", d.trials_only_b, " only in b\n");
  if (d.equal()) absl::StrAppend(&out, "no difference\n");
  return out;
}

std::string DiffJson(const SweepDiff& d) {
  nlohmann::ordered_json j = {{"a", d.a}, {"b", d.b}, {"equal", d.equal()}};
  const auto value = [](const std::string& text) {
    auto v = nlohmann::ordered_json::parse(text, nullptr, false);
    return v.is_discarded() ? nlohmann::ordered_json() : v;  // the default: null
  };
  const auto values = [&](const std::vector<std::string>& texts) {
    auto out = nlohmann::ordered_json::array();
    for (const std::string& t : texts) out.push_back(value(t));
    return out;
  };
  j["fields"] = nlohmann::ordered_json::array();
  for (const FieldChange& f : d.fields)
    j["fields"].push_back({{"path", f.path}, {"a", value(f.a)}, {"b", value(f.b)}});
  j["axes"] = nlohmann::ordered_json::array();
  for (const AxisChange& axis : d.axes) {
    j["axes"].push_back({{"path", axis.path},
                         {"only_a", values(axis.only_a)},
                         {"only_b", values(axis.only_b)},
                         {"shared", axis.shared}});
  }
  j["cells"] = {{"only_a", d.cells_only_a}, {"only_b", d.cells_only_b}, {"shared", d.cells_shared}};
  j["replicates"] = {{"a", d.replicates_a}, {"b", d.replicates_b}};
  j["trials"] = {
      {"only_a", d.trials_only_a}, {"only_b", d.trials_only_b}, {"shared", d.trials_shared}};
  return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace plumb::sweeps
