// A profile's lines from a sweep's cells.
#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/tables.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

using Cell = SweepResults::Cell;
constexpr double kLevel = 0.9;

std::string Label(const Cell& cell, const std::vector<std::string>& by) {
  return absl::StrJoin(by, " ", [&](std::string* out, const std::string& a) {
    const std::string value = ValueOf(cell, a);
    double number = 0;
    absl::StrAppend(out, LastWord(a), "=",
                    IsNumber(value, &number) ? absl::StrFormat("%.10g", number) : value);
  });
}

// No two cells of one line at one place.
bool Apart(const std::vector<Cell>& cells, const std::string& x,
           const std::vector<std::string>& by) {
  std::set<std::pair<std::string, std::string>> seen;
  return std::all_of(cells.begin(), cells.end(), [&](const Cell& c) {
    return seen.emplace(Label(c, by), ValueOf(c, x)).second;
  });
}

}  // namespace

absl::StatusOr<analysis::ProfileFigure> LoadProfile(const SweepResults& results, std::string x,
                                                    std::string by) {
  const std::vector<std::string> varying = AxesOf(results.cells, true);
  std::vector<std::string> numbers;
  for (const std::string& a : varying) {
    double ignored = 0;
    if (std::all_of(results.cells.begin(), results.cells.end(),
                    [&](const Cell& c) { return IsNumber(ValueOf(c, a), &ignored); }))
      numbers.push_back(a);
  }
  if (numbers.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep ", results.id, " varies no number: nothing to draw along"));
  }
  if (x.empty()) {
    x = std::count(numbers.begin(), numbers.end(), "model.n_layers") > 0 ? "model.n_layers"
                                                                         : numbers[0];
  } else {
    ASSIGN_OR_RETURN(x, ChooseAxis(numbers, x, "--x"));
  }
  std::vector<std::string> lines;
  for (const std::string& a : varying) {
    if (a != x) lines.push_back(a);
  }
  std::vector<std::string> moving;
  if (!by.empty()) {
    ASSIGN_OR_RETURN(by, ChooseAxis(varying, by, "--by"));
    if (by == x) {
      return absl::InvalidArgumentError(
          absl::StrCat("--by ", by, ": that is the axis across; name another one"));
    }
    for (const std::string& a : lines) {
      if (a != by) moving.push_back(a);
    }
    lines = {by};
    if (!Apart(results.cells, x, lines)) {
      return absl::FailedPreconditionError(
          absl::StrCat("with --by ", by, " some lines have several cells at one ", LastWord(x),
                       ": ", absl::StrJoin(moving, ", "),
                       " varies too; leave out --by for a line "
                       "for each setting"));
    }
  } else {
    // What follows from x makes no line of its own.
    for (size_t i = 0; i < lines.size();) {
      std::vector<std::string> fewer = lines;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      std::set<std::string> values;
      for (const Cell& c : results.cells) values.insert(ValueOf(c, lines[i]));
      if (values.size() > 1 && Apart(results.cells, x, fewer)) {
        moving.push_back(lines[i]);
        lines = std::move(fewer);
      } else {
        ++i;
      }
    }
  }

  analysis::ProfileFigure f{
      .title = absl::StrCat("Sweep ", results.id, " ", results.name, ": ", Words(results),
                            results.corpus.empty() ? "" : ", ", results.corpus),
      .metric = Words(results),
      .x_label = LastWord(x) == "n_layers"  ? "depth (n_layers)"
                 : LastWord(x) == "d_model" ? "width (d_model)"
                                            : LastWord(x)};
  std::vector<std::string> labels;
  double least = INFINITY, most = -INFINITY;
  for (const Cell& c : results.cells) {
    const std::string label = Label(c, lines);
    const auto found = std::find(labels.begin(), labels.end(), label);
    if (found == labels.end()) {
      labels.push_back(label);
      f.lines.push_back({.label = label});
    }
    analysis::CellResult cell = c.result;
    IsNumber(ValueOf(c, x), &cell.x);
    least = std::min(least, cell.x), most = std::max(most, cell.x);
    f.lines[static_cast<size_t>(std::find(labels.begin(), labels.end(), label) - labels.begin())]
        .cells.push_back(std::move(cell));
  }
  f.log_x = least > 0 && most / least >= 4;
  for (analysis::ProfileFigure::Line& line : f.lines) {
    std::stable_sort(line.cells.begin(), line.cells.end(),
                     [](const auto& a, const auto& b) { return a.x < b.x; });
    line.reading =
        analysis::ReadMap(line.cells, f.metric, kLevel, !results.lower_is_better.value_or(true));
  }
  if (!moving.empty()) {
    std::vector<std::string> words;
    for (const std::string& a : moving) words.push_back(LastWord(a));
    f.notes.push_back(absl::StrCat(absl::StrJoin(words, ", "),
                                   moving.size() == 1 ? " moves with " : " move with ", LastWord(x),
                                   " along a line."));
  }
  if (results.ended < results.trials) {
    f.notes.push_back(absl::StrCat("Not complete: ", results.ended, " of ", results.trials,
                                   " trials have ended."));
  }
  return f;
}

}  // namespace plumb::app
