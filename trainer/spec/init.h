// Warm starts: what a run begins with that has a checkpoint in place of fresh weights.
#pragma once

#include <string>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

// Fills init.digest from the folder where it is not given, and checks that the model has the
// checkpoint's tensors, and of a fork (init.step) that the optimizer and the step are the
// checkpoint's. Returns "" or what is wrong. With a digest nothing is read: the folder may be
// another machine's.
std::string ResolveInit(TrialSpec* spec);

// "" where `spec`, which says init.step, can go on from a checkpoint of `step` by a run of `of`.
std::string ForkDifference(const TrialSpec& of, int64_t step, const TrialSpec& spec);

// Of two resolved models: "" where one can begin with the other's weights, else the first tensor
// that differs.
std::string TensorDifference(const ModelSpec& of_checkpoint, const ModelSpec& model);

}  // namespace plumb::spec
