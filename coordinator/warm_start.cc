#include "coordinator/warm_start.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/read.h"
#include "trainer/spec/init.h"
#include "trainer/spec/parse.h"

namespace plumb::coordinator {

absl::Status FillInits(const std::string& db_path, std::vector<sweeps::PlannedTrial>* trials) {
  std::map<int64_t, StageRow> stages;
  std::map<int64_t, spec::TrialSpec> specs;
  std::optional<store::Reader> reader;
  for (sweeps::PlannedTrial& t : *trials) {
    spec::InitSpec& init = t.config.init;
    if (init.trial == 0 || !init.digest.empty()) continue;
    if (!reader) {
      ASSIGN_OR_RETURN(reader, store::Reader::Open(db_path));
    }
    const auto wrong = [&](auto&&... what) {
      return absl::InvalidArgumentError(absl::StrCat("init.trial: ", what...));
    };
    if (!stages.contains(init.trial)) {
      const absl::StatusOr<store::TrialView> view = reader->Trial(TrialId{init.trial});
      if (!view.ok() && !absl::IsNotFound(view.status())) return wrong(view.status().message());
      if (!view.ok()) {
        // Removed since; those that began from it know what of.
        ASSIGN_OR_RETURN(const std::string config, reader->ConfigBegunFrom(TrialId{init.trial}));
        spec::TrialSpec begun;
        if (config.empty() || !spec::ParseResolved(config, &begun).empty())
          return wrong(view.status().message());
        stages[init.trial].checkpoint_path = begun.init.checkpoint;
        stages[init.trial].checkpoint_digest = begun.init.digest;
        specs[init.trial] = std::move(begun);  // of the same tensors
      }
    }
    if (!stages.contains(init.trial)) {
      ASSIGN_OR_RETURN(const store::TrialView view, reader->Trial(TrialId{init.trial}));
      StageRow training;
      for (const store::StageView& s : view.stages) {
        if (s.row.kind == "pretrain" && !s.row.parent) training = s.row;
      }
      if (!training.id) return wrong("trial ", init.trial, " trains nothing");
      if (training.state != StageState::kSucceeded || training.checkpoint_step < 0) {
        return wrong(
            "the training of trial ", init.trial, " is ", Name(training.state),
            ", so its last checkpoint is not known; submit the sweep when it has succeeded");
      }
      if (const auto errors = spec::ParseResolved(view.row.config_json, &specs[init.trial]);
          !errors.empty())
        return wrong("trial ", init.trial, ": ", spec::Format(errors));
      stages[init.trial] = std::move(training);
    }
    const std::string differs = spec::TensorDifference(specs.at(init.trial).model, t.config.model);
    if (!differs.empty())
      return wrong("trial ", init.trial, ": ", differs,
                   "; begin with one of the same shape and variant");
    if (init.step > 0) {
      const std::string other = spec::ForkDifference(
          specs.at(init.trial), stages.at(init.trial).checkpoint_step, t.config);
      if (!other.empty()) return wrong("trial ", init.trial, ": ", other);
    }
    init.checkpoint = stages.at(init.trial).checkpoint_path;
    init.digest = stages.at(init.trial).checkpoint_digest;
    t.key = spec::Key(t.config);
    t.fusion_key = spec::FusionKey(t.config);
  }
  return absl::OkStatus();
}

PlanFn WithWarmStarts(PlanFn plan, std::string db_path) {
  return [plan = std::move(plan), db_path = std::move(db_path)](
             const std::string& yaml,
             const std::string& file_name) -> absl::StatusOr<sweeps::SweepPlan> {
    ASSIGN_OR_RETURN(sweeps::SweepPlan out, plan(yaml, file_name));
    RETURN_IF_ERROR(FillInits(db_path, &out.trials));
    return out;
  };
}

}  // namespace plumb::coordinator
