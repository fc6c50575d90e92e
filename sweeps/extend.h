// A sweep and a newer text of its file: which trials it gains, and which cells it would lose. Pure:
// the same texts and decisions in the same order give the same trials after a restart.
//
// Trials are told by what they compute (role, replicate, key), cells by their trials: a field that
// becomes an axis renames the cells there are and loses none.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sweeps/plan.h"

namespace plumb::sweeps {

struct Extension {
  std::vector<PlannedTrial> added;  // their cells are those of the extended plan
  std::vector<int64_t> new_cells;
  std::vector<int64_t> renamed;  // cells that are called otherwise
  std::vector<int64_t> removed;  // cells that the newer text has no more
};

// Extends `plan` (what the sweep was submitted as, and earlier edits after it) to `newer`: its
// cells stay in their places and new ones follow; its `trials` stay as they are. `added`: all
// trials that the sweep has beyond plan->trials; `removed`: cells taken out before.
// InvalidArgument, in words, for a text that would change or lose trials of a cell that stays.
absl::StatusOr<Extension> Extend(SweepPlan* plan, const std::vector<PlannedTrial>& added,
                                 const std::set<int64_t>& removed, const SweepPlan& newer);

// What no edit changes, by the texts: the name, what is tuned and how, who is stopped.
absl::Status MayFollow(const std::string& yaml, const std::string& newer);

// Of a search that has taken `taken` points: whether it goes on soundly by the newer text, which
// may give it another number of points, another number at once, other limits and another priority.
absl::Status MayGoOn(const std::string& yaml, const std::string& newer, int64_t taken);

// "2 cells and 8 trials more, 1 cell taken out"
std::string InWords(const Extension& extension);

}  // namespace plumb::sweeps
