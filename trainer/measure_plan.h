// Which series carry a point at which step: a pure function of the config, so that anyone can count
// what a finished stage must have left. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

bool IsLogStep(const spec::TrialSpec& resolved,
               int64_t step);  // every train.log_every steps, and the last
bool IsEvalStep(const spec::TrialSpec& resolved,
                int64_t step);  // round(i · steps / points), i = 1 … points; ends with the last

// Every linearity.every steps, and the last; never where that is 0.
bool IsLinearityStep(const spec::TrialSpec& resolved, int64_t step);

// Bits per byte exist where the corpus's tokenizer is reversible and every token is predicted.
bool HasBitsPerByte(const spec::TrialSpec& resolved, bool reversible);

// Names at such a step, layer −1 all; `reversible`: the corpus's tokenizer is; `parts`: names of
// the corpus's parts, whose own series (val/ja/loss, data/epochs/ja) exist where there are two or
// more.
std::vector<std::string> LogSeries();
std::vector<std::string> PenaltySeries(const spec::TrialSpec& resolved);  // at the same steps
// Points of one measurement of linearity: each metric of each transition and state, and its time.
int64_t LinearityPoints(const spec::TrialSpec& resolved);
std::vector<std::string> EvalSeries(
    const spec::TrialSpec& resolved, bool reversible,
    const std::vector<std::string>& parts = {});  // plus train/grad_norm_layer, per layer
std::vector<std::string> FinalSeries(
    const spec::TrialSpec& resolved, bool reversible,
    const std::vector<std::string>& parts = {});  // at the last step only: the test split

// Measurement rows a pretrain stage leaves when it succeeds.
int64_t CountPoints(const spec::TrialSpec& resolved, bool reversible,
                    const std::vector<std::string>& parts = {});

}  // namespace plumb::trainer
