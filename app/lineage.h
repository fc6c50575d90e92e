// Which trials began from checkpoints of which: the family of one trial, as a tree.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "app/table.h"
#include "store/sqlite.h"

namespace plumb::app {

struct Relative {
  int64_t trial = 0;
  int64_t from_trial = 0;  // 0: it began by itself
  int64_t from_step = 0;
  int64_t depth = 0;  // 0: the one that began by itself
  int64_t step = 0, target_step = 0;
  std::string state, cell;
  bool warm = false;  // with the weights alone (init.trial, init.checkpoint)
};

// The family of `trial`, parents before children, children by step; at least itself. NotFound:
// there is no such trial with a training.
absl::StatusOr<std::vector<Relative>> ReadLineage(store::Database& db, int64_t trial);

// A line a trial, the one asked for marked.
std::string DrawLineage(const std::vector<Relative>& family, int64_t trial);
// For Graphviz.
std::string LineageDot(const std::vector<Relative>& family, int64_t trial);
Table LineageTable(const std::vector<Relative>& family);

}  // namespace plumb::app
