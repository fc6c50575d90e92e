#include "app/arms.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "app/nearest.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

using Axes = std::vector<std::pair<std::string, std::string>>;
using Cell = SweepResults::Cell;

analysis::Gap GapOf(const std::string& state) {
  if (state == "succeeded") return analysis::Gap::kNoValue;
  if (state == "diverged") return analysis::Gap::kDiverged;
  if (state == "stopped") return analysis::Gap::kStopped;
  if (state == "pending" || state == "running" || state == "paused")
    return analysis::Gap::kUnfinished;
  return analysis::Gap::kFailed;
}

// By seed.data; by replicate where a cell's replicates share that one.
analysis::BySeed Keyed(const std::vector<Cell::Run>& runs, bool aa) {
  std::map<int64_t, int64_t> seeds;  // of all that are planned: a result to come changes no key
  bool own = true;
  for (const Cell::Run& r : runs) own = own && (r.aa != aa || seeds.emplace(r.seed, 0).second);
  analysis::BySeed out;
  for (const Cell::Run& r : runs) {
    if (r.aa == aa && r.value) out[own ? r.seed : r.replicate] = *r.value;
  }
  return out;
}

analysis::Arm ArmOf(const Cell& cell, const std::string& value, const std::string& slice,
                    const std::string& series) {
  analysis::Arm arm{.name = cell.result.name,
                    .value = value,
                    .slice = slice,
                    .values = Keyed(cell.runs, false),
                    .control = Keyed(cell.runs, true),
                    .flags = cell.result.flags};
  for (const Cell::Run& r : cell.runs) {
    if (r.value) continue;
    const analysis::Gap gap = GapOf(r.state);
    arm.missing.push_back({.trial = r.trial,
                           .replicate = r.replicate,
                           .control = r.aa,
                           .gap = gap,
                           .words = gap == analysis::Gap::kNoValue
                                        ? absl::StrCat("has no finite ", series)
                                        : r.state});
  }
  return arm;
}

bool EqualValues(const std::string& a, const std::string& b) {
  double x = 0, y = 0;
  return a == b || (IsNumber(a, &x) && IsNumber(b, &y) && x == y);
}

// "n_layers=4 lr=0.001"; the name of a variant or preset alone.
std::string Label(const Axes& axes) {
  if (axes.size() == 1 && (axes[0].first == "variant" || axes[0].first == "model.preset"))
    return axes[0].second;
  return absl::StrJoin(axes, " ", [](std::string* out, const auto& a) {
    absl::StrAppend(out, LastWord(a.first), "=", a.second);
  });
}

absl::StatusOr<std::vector<std::string>> ChosenAxes(const SweepResults& results,
                                                    const std::string& by) {
  const std::vector<std::string> axes = AxesOf(results.cells, false);
  const std::vector<std::string> varying = AxesOf(results.cells, true);
  if (varying.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep ", results.id,
                     " has one cell: nothing to compare; give an axis of its "
                     "file several values"));
  }
  if (by.empty()) {
    if (std::find(varying.begin(), varying.end(), "variant") != varying.end())
      return std::vector<std::string>{"variant"};
    if (varying.size() == 1) return varying;
    return absl::InvalidArgumentError(
        absl::StrCat("which axis? --by ", absl::StrJoin(varying, " or --by ")));
  }
  std::vector<std::string> out;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(by, ','))) {
    const std::string asked = word == "variants" ? "variant" : word;
    const auto found = std::find_if(axes.begin(), axes.end(), [&](const std::string& a) {
      return a == asked || LastWord(a) == asked;
    });
    if (found == axes.end()) {
      std::string near = Nearest(asked, axes);
      for (const std::string& a : axes) {
        if (near.empty() && !Nearest(asked, {LastWord(a)}).empty()) near = a;
      }
      return absl::InvalidArgumentError(
          absl::StrCat("--by ", word, ": no axis of sweep ", results.id, "; ",
                       near.empty() ? absl::StrCat("there are ", absl::StrJoin(axes, ", "))
                                    : absl::StrCat("did you mean ", near, "?")));
    }
    out.push_back(*found);
  }
  return out;
}

// The label that --baseline means; "": none.
std::string FindBaseline(const std::vector<Axes>& values, const std::string& asked) {
  const std::vector<std::string> words = absl::StrSplit(asked, ',');
  for (const Axes& value : values) {
    bool equal = words.size() == value.size();
    for (size_t i = 0; equal && i < words.size(); ++i)
      equal = EqualValues(words[i], value[i].second);
    if (equal || Label(value) == asked) return Label(value);
  }
  return "";
}

// Cells by (value, slice), where each pair is one cell and a slice holds the baseline and another.
class Slicing {
 public:
  Slicing(const std::vector<Cell>& cells, std::vector<std::string> labels, std::string baseline)
      : cells_(cells), labels_(std::move(labels)), baseline_(std::move(baseline)) {}

  std::vector<std::string> By(const std::vector<std::string>& axes) const {
    std::vector<std::string> out;
    for (const Cell& c : cells_) {
      Axes at;
      for (const std::string& a : axes) at.emplace_back(a, ValueOf(c, a));
      out.push_back(Label(at));
    }
    return out;
  }

  bool Unique(const std::vector<std::string>& slices) const {
    std::set<std::pair<std::string, std::string>> seen;
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (!seen.emplace(labels_[i], slices[i]).second) return false;
    }
    return true;
  }

  bool Meet(const std::vector<std::string>& slices) const {
    std::set<std::string> of_baseline;
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (labels_[i] == baseline_) of_baseline.insert(slices[i]);
    }
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (labels_[i] != baseline_ && of_baseline.count(slices[i]) > 0) return true;
    }
    return false;
  }

 private:
  const std::vector<Cell>& cells_;
  const std::vector<std::string> labels_;
  const std::string baseline_;
};

}  // namespace

absl::StatusOr<Arms> ArmsByAxis(const SweepResults& results, const std::string& by,
                                const std::string& baseline) {
  const std::vector<Cell>& cells = results.cells;
  ASSIGN_OR_RETURN(const std::vector<std::string> axes, ChosenAxes(results, by));
  Arms out{.axis = absl::StrJoin(axes, ",", [](std::string* s, const std::string& a) {
             absl::StrAppend(s, LastWord(a));
           })};
  std::vector<Axes> values;
  std::vector<std::string> labels, distinct;
  for (const Cell& c : cells) {
    Axes& value = values.emplace_back();
    for (const std::string& a : axes) value.emplace_back(a, ValueOf(c, a));
    labels.push_back(Label(value));
    if (std::count(distinct.begin(), distinct.end(), labels.back()) == 0)
      distinct.push_back(labels.back());
  }
  if (distinct.size() < 2) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep ", results.id, " has one value of ", out.axis, ": nothing to compare"));
  }
  out.baseline = baseline.empty() ? distinct[0] : FindBaseline(values, baseline);
  if (out.baseline.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--baseline ", baseline, ": no value of ",
                                                   out.axis, "; there are ",
                                                   absl::StrJoin(distinct, ", ")));
  }

  // All other axes that vary make the slices, but for those that the baseline has not: they are
  // part of what is compared with it.
  std::vector<std::string> rest;
  for (const std::string& a : AxesOf(cells, true)) {
    if (std::count(axes.begin(), axes.end(), a) > 0) continue;
    bool in_baseline = false;
    for (size_t i = 0; i < cells.size(); ++i)
      in_baseline |= labels[i] == out.baseline && ValueOf(cells[i], a) != kNoValue;
    if (in_baseline) {
      rest.push_back(a);
      continue;
    }
    for (size_t i = 0; i < cells.size(); ++i) {
      if (const std::string v = ValueOf(cells[i], a); v != kNoValue)
        absl::StrAppend(&labels[i], " ", LastWord(a), "=", v);
    }
  }
  const Slicing slicing(cells, labels, out.baseline);
  std::vector<std::string> slices = slicing.By(rest);
  // Axes whose values follow from the compared one's, as a width solved for equal parameters.
  std::vector<std::string> moving;
  for (size_t i = 0; i < rest.size() && !slicing.Meet(slices);) {
    std::vector<std::string> fewer = rest;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    if (std::vector<std::string> without = slicing.By(fewer); slicing.Unique(without)) {
      moving.push_back(LastWord(rest[i]));
      rest = std::move(fewer), slices = std::move(without);
    } else {
      ++i;
    }
  }
  if (!slicing.Meet(slices)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no two cells of sweep ", results.id, " differ in ", out.axis,
        " alone: another axis moves with it. Name the axes that move together, as --by ",
        absl::StrJoin(AxesOf(cells, true), ",")));
  }
  if (!moving.empty()) {
    out.notes.push_back(absl::StrCat(absl::StrJoin(moving, ", "),
                                     moving.size() == 1 ? " moves" : " move", " with ", out.axis,
                                     ": a difference is one of both."));
  }
  for (size_t i = 0; i < cells.size(); ++i)
    out.arms.push_back(ArmOf(cells[i], labels[i], slices[i], results.series));
  return out;
}

}  // namespace plumb::app
