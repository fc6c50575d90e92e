// What tells two sweeps apart, by their trials: as the database has them, or as a file plans them.
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sweeps/plan.h"

namespace plumb::sweeps {

struct SweepSide {
  struct Trial {
    // The key is of what it computes: of an A/A member, whose own no other sweep has, AaKey.
    std::string cell, key, config_json;  // canonical
    int64_t replicate = 0;
    bool aa = false, tune = false;
  };
  std::string label;  // "sweep 3", "new.yaml"
  std::string name;
  std::vector<Trial> trials;
};
SweepSide SideOf(const SweepPlan& plan, std::string label);
std::string AaKey(const std::string& config_json);

// A value as JSON text; "(default)" where a canonical config does not say it.
struct FieldChange {
  std::string path, a, b;
};
std::vector<FieldChange> ConfigChanges(const std::string& a_json, const std::string& b_json);

struct AxisChange {
  std::string path;
  std::vector<std::string> only_a, only_b;  // values, as JSON
  int64_t shared = 0;                       // values that both have
};

struct SweepDiff {
  std::string a, b;                 // labels
  std::vector<FieldChange> fields;  // that all trials of a side have in common
  std::vector<AxisChange> axes;     // fields that vary on a side, where the values differ
  std::vector<std::string> cells_only_a, cells_only_b;
  int64_t cells_shared = 0;                                         // by name
  int64_t replicates_a = 0, replicates_b = 0;                       // the most that a cell has
  int64_t trials_only_a = 0, trials_only_b = 0, trials_shared = 0;  // by what they compute
  bool equal() const;
};

SweepDiff Diff(const SweepSide& a, const SweepSide& b);
std::string DiffText(const SweepDiff& diff);
std::string DiffJson(const SweepDiff& diff);

}  // namespace plumb::sweeps
