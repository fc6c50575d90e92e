// Population-based training (Jaderberg et al., "Population Based Training of Neural Networks",
// 2017) in generations. All members train to the end of a generation; then the worst `replaced()`
// of them give way: each goes on as a fork of a member drawn from the best as many, from that one's
// checkpoint, with its values changed. Pure: what is decided follows from the spec, the values seen
// and the generation alone.
//
//   Smaller values are better; of equal ones the member with the smaller number. A member without a
//   value (it diverged, failed or was cancelled) is the worst: it is always replaced, beyond the
//   number too, and never forked. Where none has a value, nobody is replaced.
//
//   A fork changes each of its values: with probability `resample` it is drawn anew from its axis,
//   else a number becomes `factor` times as large or as small, within its bounds, a value of a list
//   that rises becomes its neighbour, and a category stays.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/plan.h"
#include "sweeps/population_spec.h"
#include "sweeps/search.h"

namespace plumb::sweeps {

struct PopulationPlan {
  PopulationSpec spec;
  std::vector<int64_t> ends;  // of generations, in steps
  int64_t steps = 0;          // of each member
  std::string model;          // canonical, of each member: forks have its tensors
  std::shared_ptr<Search>
      space;  // axes, first values, and what a point is as a trial; one thread's
};

// Whether a run may go on under another value of the field: a rate or another setting of the
// optimizer, but neither its kind nor how much is read at a step.
bool MayChangeOnTheWay(const std::string& field);
// "train.lr, train.weight_decay, …"
std::string FieldsThatMayChange();

// A member that gives way, and the one whose state it takes over.
struct Exchange {
  int64_t member = 0, from = 0;
  friend bool operator==(const Exchange&, const Exchange&) = default;
};
struct Ranking {
  std::vector<int64_t> order;       // members, the best first
  std::vector<Exchange> exchanges;  // by member
};
// `values`: by member at the end of generation `generation` (from 1); none: it has none, or one
// that is not finite.
Ranking Rank(const PopulationSpec& spec, int64_t generation,
             const std::vector<std::optional<double>>& values);

// The values of a fork that replaces `member`; `attempt`: from 0, for a point that cannot be used.
std::vector<double> Explore(const PopulationSpec& spec, const std::vector<SearchAxis>& axes,
                            const SearchPoint& from, int64_t generation, int64_t member,
                            int64_t attempt);

// What a fork is made of, as its addition keeps it.
struct Fork {
  int64_t member = 0, from = 0;  // whom it replaces, and whose state it has
  int64_t generation = 0;        // at whose end
  int64_t step = 0;              // of the checkpoint
  int64_t trial = 0, stage = 0;  // that the checkpoint is of
  std::string checkpoint, digest;
  std::vector<double> values;  // by axis
};
// Values for a fork that make a trial: the first explored ones that the file's conditions take and
// that differ from the parent's and from those of its other forks, `taken`; else the parent's own.
std::vector<double> ChooseValues(const PopulationPlan& plan, const SearchPoint& from,
                                 const std::vector<SearchPoint>& taken, int64_t generation,
                                 int64_t member);

struct Forked {
  SearchPoint point;
  PlannedCell cell;
  std::vector<PlannedTrial> trials;  // one
};
// The fork as cell number `cell`; the same fork gives the same trial.
absl::StatusOr<Forked> MakeFork(const PopulationPlan& plan, const Fork& fork, int64_t cell);

// What marks the cells and trials of a population: member and generation in name and coordinates,
// the end of its first generation, and that they are nobody else's.
void MarkMember(int64_t member, int64_t generation, int64_t until_step, PlannedCell* cell,
                PlannedTrial* trial);

// "8 members; at 25%, 50%, 75% the worst 2 …"
std::string InWords(const PopulationPlan& plan);
// "lr = 0.001, beta2 = 0.95"
std::string InWords(const std::vector<SearchAxis>& axes, const SearchPoint& point);

}  // namespace plumb::sweeps
