// The learning rate as a pure function of the step.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// The rate of update `step` (1, 2, …, t.steps) of a resolved TrainSpec with w = warmup_steps, S =
// steps, f = final fraction:
//   step <= w:  lr · step / w
//   constant:   lr
//   cosine:     lr · (f + (1 − f) (1 + cos(π (step − w) / (S − w))) / 2)
//               (Loshchilov & Hutter 2017, one cycle)
//   linear:     lr · (1 − (1 − f) (step − w) / (S − w))
//   wsd:        lr until D = round(decay_fraction · S) steps before the end, then linearly to f ·
//   lr
//               at S (Hu et al. 2024)
inline double LearningRate(const spec::TrainSpec& t, int64_t step) {
  const double s = static_cast<double>(step), w = static_cast<double>(t.warmup_steps),
               S = static_cast<double>(t.steps);
  if (step <= t.warmup_steps) return t.lr * s / w;
  switch (t.schedule) {
    case spec::ScheduleKind::kConstant:
      return t.lr;
    case spec::ScheduleKind::kCosine: {
      const double progress = S > w ? (s - w) / (S - w) : 1;
      return t.lr * (t.final_lr_fraction +
                     (1 - t.final_lr_fraction) * (1 + std::cos(std::numbers::pi * progress)) / 2);
    }
    case spec::ScheduleKind::kLinear: {
      const double progress = S > w ? (s - w) / (S - w) : 1;
      return t.lr * (1 - (1 - t.final_lr_fraction) * progress);
    }
    case spec::ScheduleKind::kWsd: {
      const double decay = std::round(t.decay_fraction * S);
      if (decay < 1 || s <= S - decay) return t.lr;
      return t.lr * (1 - (1 - t.final_lr_fraction) * (s - (S - decay)) / decay);
    }
  }
  return t.lr;
}

}  // namespace plumb::trainer
