// What a trial takes of a machine before it runs: seconds of a slot, memory, disk.
//
// Seconds are a sum: what the trial does, counted exactly in units of work, times what a unit takes
// on a device. Counting is here and needs only the config; the prices are fitted to measured runs
// (sweeps/calibration.h). All pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "trainer/spec/trial_spec.h"

namespace plumb::sweeps {

// The units. Of an optimizer step (forward, backward, update), of a forward pass of evaluation, of
// a whole trial.
enum class Unit {
  kStep,            // steps
  kStepBlock,       // blocks of a micro-batch: what dispatching them takes
  kStepFlops,       // of the matrix products, forward and backward
  kStepTraffic,     // floats that go in and out of matrix products, and with them the elementwise
                    // operations
  kStepScores,      // entries of the attention maps, times their head's width
  kStepVocabulary,  // logits
  kStepParameters,  // parameters that are updated
  kPass,            // forward passes of at most 4096 positions
  kPassBlock,
  kPassFlops,
  kPassTraffic,
  kPassScores,
  kPassVocabulary,
  kTrial,            // trials: opening a corpus, closing a row
  kTrialParameters,  // parameters drawn at the start and written in a checkpoint at the end
};
inline constexpr size_t kUnits = 15;
// "step", "step_block", …
const char* Name(Unit unit);

using Work = std::array<double, kUnits>;
Work operator+(const Work& a, const Work& b);
Work operator*(double times, const Work& w);

// Tokens of the corpus's splits, which bound what an evaluation reads; 0 where they are not known.
struct SplitTokens {
  int64_t tune = 0, val = 0, test = 0;
  friend bool operator==(const SplitTokens&, const SplitTokens&) = default;
};

// Of one process of the trial. `resolved` all the way: with its steps.
Work StepWork(const spec::TrialSpec& resolved);
Work PassWork(const spec::TrialSpec& resolved);  // of one whole pass
// All of a pretraining: steps, evaluations, its beginning and end.
Work TrainingWork(const spec::TrialSpec& resolved, const SplitTokens& splits);
// The same without the steps.
Work WorkBesideSteps(const spec::TrialSpec& resolved, const SplitTokens& splits);

// What a unit of each kind takes, in seconds, on one device with so many threads a trial and all of
// its slots busy.
struct Prices {
  std::string device;   // "AMD EPYC"; "" for no prices at all
  int64_t threads = 1;  // of a trial
  Work seconds{};       // of a unit
  double band =
      0;  // nine of ten measured trainings lie within this fraction of what was predicted of them
  int64_t shapes = 0;  // that it was fitted to
  std::map<std::string, double>
      kinds;  // factor of trials of a kind (sweeps/calibration.h); 1 where it is not here
  bool empty() const { return device.empty(); }
  friend bool operator==(const Prices&, const Prices&) = default;
};
double Seconds(const Prices& prices, const Work& work);  // of a kind whose factor is 1
double KindFactor(const Prices& prices, const std::string& kind);

// Of the trial's pretraining.
double PredictSeconds(const Prices& prices, const spec::TrialSpec& resolved,
                      const SplitTokens& splits);

// The number of steps at which a training takes `seconds`, or as near as whole steps come; 0 where
// the evaluations alone take longer. `resolved` with any budget.
int64_t StepsIn(const Prices& prices, const spec::TrialSpec& resolved, const SplitTokens& splits,
                double seconds);

// Equal for trials that cost the same: all that is computed but for seeds and rates.
std::string CostKey(const spec::TrialSpec& resolved);

// Bytes that a trial leaves on disk: its last checkpoints, which it keeps two of, and what it
// records.
int64_t PredictDiskBytes(const spec::TrialSpec& resolved);

}  // namespace plumb::sweeps
