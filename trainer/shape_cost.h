// What a shape costs this machine: seconds of a step, of an evaluation's pass, of what surrounds a
// training, and memory. For the planner's calibration, which fits prices to such figures.
#pragma once

#include <cstdint>

#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// Each as wall and as processor seconds; the latter are steady on a machine that others use.
struct Spent {
  double wall_seconds = 0, cpu_seconds = 0;
};

struct ShapeCost {
  Spent step;                     // one optimizer step: the mean
  Spent pass;                     // one forward pass of evaluation
  Spent around;                   // parameters drawn, and one checkpoint written: once a trial
  int64_t steps = 0, passes = 0;  // timed
  int64_t pass_tokens = 0;        // of a pass
  int64_t peak_bytes = 0;         // of this process, all of the following together
  int64_t build_peak_bytes = 0, step_peak_bytes = 0, pass_peak_bytes = 0, write_peak_bytes = 0;
  int64_t resident_bytes_before = 0;  // before the shape was built
  int64_t checkpoint_bytes = 0;
};

// Trains on pseudo-random tokens for about `seconds` after a warm-up, and evaluates for a quarter
// of that. Needs no corpus; the weights are of no use afterwards. In a process of its own, since
// memory is never given back.
ShapeCost MeasureShape(const spec::TrialSpec& resolved, double seconds);

// `plumb-trainer shape-cost`: {"spec": canonical config, "seconds": 1} on standard input, the
// figures as JSON on standard output. Returns the exit code.
int ShapeCostMain();

}  // namespace plumb::trainer
