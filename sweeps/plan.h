// From a sweep file to the trials it means: pure, and the same text and corpora always give the
// same plan, in the same order, so that a server that restarts goes on from a cursor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/predict.h"
#include "sweeps/stop_spec.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/mixture.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::sweeps {

// What a plan must know of a prepared corpus.
struct CorpusInfo {
  std::string digest;
  int64_t vocab_size = 0;
  int64_t train_tokens = 0;
  double overlap_13gram_test = 0;
  std::vector<spec::CorpusPart> parts;  // two or more, by name; empty: all is one part
  SplitTokens splits;                   // that evaluation reads; 0 where not known
};
// NotFound names the command that prepares it.
using CorpusLookup = std::function<absl::StatusOr<CorpusInfo>(const std::string& corpus,
                                                              const std::string& tokenizer)>;

// What a cell's trials read of one part of the corpus.
struct PartUse {
  std::string name;
  double tokens = 0;
  int64_t train_tokens = 0;  // that there are
};

struct PlannedCell {
  std::string name;  // "n_layers=4 d_model=64 variant=sas": axis values, last part of each path
  std::string axes_json;  // {"model.n_layers": 4, …, "variant": "sas"} in the sweep's order, solved
                          // values included; never a tuned field. With variants a solved axis is
                          // here by its target, {"params_total": 1000000}, which variants share
  std::vector<std::string> flags;  // "more_than_one_epoch" (of a mixed corpus with the part:
                                   // "more_than_one_epoch:ja"), "test_overlap", …
  int64_t train_tokens = 0;        // of its corpus; 0 where there is none (noop)
  std::vector<PartUse> parts;      // of a mixed corpus
  SplitTokens splits;              // of its corpus
};

struct PlannedStage {
  std::string name;    // "pretrain", "timing", or as the file names it; unique in its trial
  std::string kind;    // "pretrain", "noop", "timing", or of spec::StageKinds()
  std::string parent;  // "" for a root
  std::string settings_json = "{}";
  int64_t target_step = 0;
  int64_t priority = 0;  // smaller first
};

enum class TrialRole {
  kMain,  // a replicate: what conclusions are drawn from
  kTune,  // chooses a nuisance value inside its cell; on seeds that no replicate has
  kAa,    // member of the A/A control: same cell, disjoint seeds, never shared with another sweep
};

struct PlannedTrial {
  int64_t cell = 0;  // index into SweepPlan::cells; of a tune trial also its group
  int64_t replicate = 0;
  TrialRole role = TrialRole::kMain;
  bool aa = false;                       // role is kAa
  std::vector<std::string> tune_values;  // of TunePlan's fields, as JSON; empty where none is tuned
  spec::TrialSpec config;                // resolved, data.digest set
  // spec::Key; for A/A members, and where `own`, salted with the sweep's request id by the server.
  std::string key;
  std::string fusion_key;
  std::vector<PlannedStage> stages;
  spec::ParameterCounts params;
  int64_t flops_per_token = 0;
  double flops = 0;
  int64_t predicted_peak_bytes = 0;
  // Of a population's members (sweeps/population.h).
  int64_t until_step = -1;  // where it first pauses; -1: nowhere, or as a rule of `stop` says
  bool own = false;         // no other sweep shares it
  // Of a run that an earlier rung was promoted to (sweeps/rungs.h): the place in the sweep of the
  // trial that it stands for. And of each that is not the whole of that trial, its key.
  int64_t rung_of = -1;
  std::string whole_key;
  bool rung() const { return !whole_key.empty(); }
  int64_t branch_stage = 0,
          branch_step = 0;  // of a fork: the stage whose checkpoint it begins from
};

// A point of the space that is no cell.
struct RefusedCell {
  std::string name;
  std::string reason;  // "where: d_model % n_heads == 0", "model.head_dim: must be even", "solve:
                       // no width …"
};

// How far a solved knob is from its target.
struct SolveResidual {
  int64_t cell = 0;
  std::string field;    // "model.d_model"
  std::string measure;  // "params_non_embedding"
  double target = 0, reached = 0;
  double relative() const { return target == 0 ? 0 : reached / target - 1; }
};

struct Limits {
  int64_t trials = 0;       // 0: none
  double device_hours = 0;  // 0: none
};

struct PlannedObjective {
  std::string stage;  // whose series it is, by its name in the trial; "": of the training, or of
                      // the first stage that has it
  std::string metric = "test/bits_per_byte";
  std::string at = "last";  // "last", "best", "mean_last(5)"
  bool maximize = false;
  bool operator==(const PlannedObjective&) const = default;
};

// "score: val/accuracy, last, to maximize"
std::string InWords(const PlannedObjective& objective);

struct TunePlan;        // sweeps/tuning.h
class Search;           // sweeps/search.h
struct PopulationPlan;  // sweeps/population.h

struct SweepPlan {
  std::string name;
  std::string objective = "test/bits_per_byte";  // the first of `objectives`
  std::string objective_at = "last";
  std::vector<PlannedObjective> objectives = std::vector<PlannedObjective>(1);  // never empty
  std::vector<PlannedCell> cells;
  // Cell by cell, replicate by replicate; A/A members last. With `tune` these are the tune trials
  // alone: a cell's replicates and A/A members follow from its winner (WinnerTrials).
  std::vector<PlannedTrial> trials;
  std::shared_ptr<const TunePlan> tune;  // nullptr where nothing is tuned; shared, since a plan is
                                         // copied and this never changes
  // nullptr where the plan has all points. Else `cells` and `trials` are those drawn at random,
  // with which the search begins. Shared by copies of the plan, and used by one thread.
  std::shared_ptr<Search> search;
  // nullptr where there is none. Else `cells` and `trials` are its members as they begin; forks
  // come as it goes. Shared as `search` is.
  std::shared_ptr<const PopulationPlan> population;
  std::optional<StopSpec> stop;  // of the whole sweep; a cell's own is in `tune`
  std::vector<RefusedCell> refused;
  std::vector<SolveResidual> residuals;
  Limits limits;
  int64_t priority = 0;             // larger first
  std::vector<std::string> labels;  // of the workers it needs, sorted
  int64_t bundle = 1;               // trials of equal shape that a trainer may run at once
  bool repeats_allowed =
      false;  // cells may read their corpus more than once: `allow:` or train.epochs says so
  std::optional<Prices> prices;  // of the file's `calibration:`, which `seconds` are counted by
};

// Reads and plans a sweep file. On a bad file: InvalidArgument whose message holds every error,
// each as "file:line:column: message", the source line and a caret under the column. `file_name` is
// only for messages.
absl::StatusOr<SweepPlan> PlanSweep(const std::string& yaml, const std::string& file_name,
                                    const CorpusLookup& corpora);

// OK, or InvalidArgument where cells read their corpus, or a part of it, more than once and the
// file does not allow it. Asked before a sweep is taken; a sweep that was taken once is planned
// again without it.
absl::Status CheckRepeats(const SweepPlan& plan);

}  // namespace plumb::sweeps
