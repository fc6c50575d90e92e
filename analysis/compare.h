// A sweep read as a comparison: every value of one axis against the baseline's, slice by slice (a
// slice is one setting of all other axes) and over all slices.
//
// The rules:
// 1. Differences are value − baseline, paired by seed; unpaired (Welch) where no two seeds are
//    shared, and marked.
// 2. A run without a result is listed. One that diverged, was stopped for its score or has no
//    finite value takes its cell out: a mean of the survivors is no result. One that has not ended,
//    or failed for other reasons, leaves the pairs there are, marked partial.
// 3. A difference is told where Holm's p, over all comparisons of the reading, is at most 1 − level
//    and it is larger than the noise floor, where an A/A control gives one: what two means of one
//    and the same cell differ by on other seeds.
// 4. "Cannot be told apart" is not "equal": beside it stands the largest difference that the data
//    allow.
// 5. The pooled difference is the mean per seed over slices, so that slices of one seed are not
//    counted as independent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/paired.h"

namespace plumb::analysis {

enum class Gap { kDiverged, kStopped, kNoValue, kFailed, kUnfinished };

// A run without a result.
struct Missing {
  int64_t trial = 0, replicate = 0;
  bool control = false;  // of the A/A control
  Gap gap = Gap::kUnfinished;
  std::string words;  // "diverged", "pending", "has no finite test/loss"
};

// One cell: a value of the compared axis in a slice.
struct Arm {
  std::string name;          // the cell's
  std::string value, slice;  // slice "": there is only one
  BySeed values;             // of replicates with a result
  BySeed control;            // the A/A control's, on seeds of its own
  std::vector<Missing> missing;
  std::vector<std::string> flags;  // "more_than_one_epoch"
};

enum class Verdict {
  kLower,  // told: rule 3
  kHigher,
  kWithinNoise,   // the pairs agree, but other seeds alone move a mean by as much: not claimed
  kCannotBeTold,  // Holm's p is too large
  kNoSpread,      // every pair differs by the same: nothing to judge by
  kTooFew,        // n < 2: no interval
};

struct Compared {
  std::string value, slice;
  int64_t slices = 1;   // over how many the difference is a mean
  bool pooled = false;  // over all slices that have both arms
  bool partial = false;
  std::vector<std::string> flags;  // of either arm
  Difference difference;
  std::optional<double> p_holm;
  std::optional<double> noise_floor;
  Verdict verdict = Verdict::kCannotBeTold;
};

// A cell that is in no comparison, or its A/A control in no noise floor.
struct LeftOut {
  std::string name;
  std::string reason;  // "1 of 3 replicates diverged (median, divergence as the worst: 2.3)"
};

// Runs of one cell without a result.
struct Absent {
  std::string name;
  int64_t planned = 0;  // of replicates and control
  std::vector<Missing> missing;
};

// What the A/A control found: a cell minus itself on other seeds, unpaired.
struct ControlReading {
  struct Row {
    std::string value, slice;
    Difference difference;
  };
  std::vector<Row> rows;
  SeedNoise noise;
};

struct CompareOptions {
  std::string baseline;  // a value of the axis
  double level = 0.95;
  std::optional<bool> lower_is_better;  // nullopt: neither is known to be
};

struct Comparison {
  CompareOptions options;
  std::vector<Compared> rows;  // by value in the file's order: its slices, then the pooled one
  std::vector<LeftOut> left_out;
  std::vector<Absent> absent;
  int64_t tested = 0;  // rows with a p: Holm's family
  std::optional<ControlReading> control;
  std::vector<std::string> notes;      // what is missing, and what to do about it
  std::vector<std::string> sentences;  // one per value, and a count; claims no more than the data
};

// `arms` in the file's order; their order is that of values and slices. `unit`: "bits per byte".
Comparison Compare(const std::vector<Arm>& arms, const CompareOptions& options,
                   const std::string& unit);

// Of one row: "better", "cannot be told", … with "partial" and "flagged" where it is.
std::string VerdictInWords(const Compared& row, const CompareOptions& options);

// "trials 3, 4 pending; trial 7 diverged"
std::string AbsentInWords(const Absent& absent);

}  // namespace plumb::analysis
