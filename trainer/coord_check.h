// How large a model's activations are, and how far a few steps of training move them: what
// must not depend on the width under muP, nor on the depth under CompleteP (Yang et al. 2022,
// appendix D.1; Dey et al. 2025, figure 3).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// Root mean square over the elements of a tensor.
struct Coordinate {
  std::string name;  // "embedding", "stream" (after the last block), "logits"
  int64_t step = 0;  // updates made
  double rms = 0;
  double moved = 0;  // of the difference to step 0
};

// `steps` updates at the spec's rate, without warm-up, on one batch of a seeded pseudo-text: each
// token is a fixed function of the one before, or one time in four drawn anew. No corpus is read.
std::vector<Coordinate> CoordinateCheck(const spec::TrialSpec& resolved, int64_t steps);

// The program behind `plumb-trainer coordcheck`: reads {"spec": …, "steps": n} from standard input,
// writes {"coordinates": […]} to standard output. Returns an exit code.
int CoordinateCheckMain();

}  // namespace plumb::trainer
