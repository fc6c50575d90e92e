#include "coordinator/planner.h"

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/advisor.h"
#include "coordinator/plan_rows.h"
#include "coordinator/warm_start.h"
#include "domain/status_macros.h"
#include "store/read.h"
#include "sweeps/edit_text.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {
namespace {

constexpr int64_t kSliceTrials = 250;  // at most 1,000 a turn; fewer keep the turns short
constexpr size_t kMaxYaml = 1 << 20;
constexpr size_t kMaxTrials = 1'000'000;

}  // namespace

Planner::Planner(PlanFn plan, std::string db_path, SuggestionDesk* desk)
    : plan_(WithWarmStarts(std::move(plan), db_path)), db_path_(std::move(db_path)), desk_(desk) {}

void Planner::Attach(Owner* owner) {
  std::lock_guard lock(attach_mutex_);
  owner_ = owner;
  for (core::Core::Cursor& at : std::exchange(asked_, {})) {
    thread_.Post([this, at = std::move(at)] {
      absl::StatusOr<core::MaterializeSlice> slice = SliceNow(at);
      if (slice.ok()) {
        owner_->Planned(*std::move(slice));
      } else {
        owner_->Planned(
            core::AbandonSweep{.sweep = at.sweep, .reason = std::string(slice.status().message())});
      }
    });
  }
}

void Planner::AskForSlice(const core::Core::Cursor& at) {
  {
    std::lock_guard lock(attach_mutex_);
    asked_.push_back(at);
    if (owner_ == nullptr) return;
  }
  Attach(owner_);
}

void Planner::Submit(std::string request_id, std::string yaml, std::string file_name,
                     std::string user, Done done) {
  const bool posted =
      thread_.Post([this, request_id = std::move(request_id), yaml = std::move(yaml),
                    file_name = std::move(file_name), user = std::move(user),
                    done] { SubmitNow(request_id, yaml, file_name, user, done); },
                   /*limit=*/64);
  if (!posted)
    done(absl::ResourceExhaustedError(
        "too many sweeps wait to be planned, or the server stops; try again"));
}

void Planner::SubmitNow(const std::string& request_id, const std::string& yaml,
                        const std::string& file_name, const std::string& user, const Done& done) {
  if (request_id.empty() || request_id.size() > 200) {
    done(absl::InvalidArgumentError(
        "request_id must have 1 to 200 bytes: make one before the first try"));
    return;
  }
  if (yaml.size() > kMaxYaml) {
    done(absl::InvalidArgumentError(
        "the sweep file is larger than 1 MiB; use ranges instead of lists"));
    return;
  }
  absl::StatusOr<sweeps::SweepPlan> plan =
      plan_(yaml, file_name.empty() ? "sweep.yaml" : file_name);
  if (!plan.ok()) {
    done(plan.status());
    return;
  }
  if (const absl::Status read_once = sweeps::CheckRepeats(*plan); !read_once.ok()) {
    done(read_once);
    return;
  }
  if (plan->trials.empty()) {
    std::string why = "the sweep has no trials";
    for (size_t i = 0; i < plan->refused.size() && i < 5; ++i) {
      absl::StrAppend(&why, "\n  ", plan->refused[i].name, ": ", plan->refused[i].reason);
    }
    done(absl::InvalidArgumentError(why));
    return;
  }
  if (plan->trials.size() > kMaxTrials) {
    done(absl::InvalidArgumentError(absl::StrCat("the sweep has ", plan->trials.size(),
                                                 " trials, at most ", kMaxTrials,
                                                 " are taken; split it")));
    return;
  }
  if (const absl::Status priors = CheckPriors(*plan); !priors.ok()) {
    done(priors);
    return;
  }
  core::SubmitSweep event{.sweep = {.name = plan->name,
                                    .request_id = request_id,
                                    .request_hash = spec::Sha256Hex(yaml),
                                    .sweep_yaml = yaml,
                                    .objective = plan->objective,
                                    .objective_stage = plan->objectives.front().stage,
                                    .objective_at = plan->objective_at,
                                    .maximize = plan->objectives.front().maximize,
                                    .trials = static_cast<int64_t>(plan->trials.size()),
                                    .user = user,
                                    .priority = plan->priority,
                                    .open = NeedsAdvice(*plan),
                                    .origin_json = sweeps::ForkOf(yaml)}};
  const std::string key = request_id + event.sweep.request_hash;
  plans_[key] = Keep(*std::move(plan), yaml);
  owner_->Post(std::move(event), [this, done, key](absl::StatusOr<core::Answer> answer) {
    if (!answer.ok()) {
      thread_.Post([this, key] { plans_.erase(key); });
      done(answer.status());
      return;
    }
    const auto& submitted = std::get<core::Submitted>(*answer);
    // A plan that is missed is made again.
    if (submitted.repeated) thread_.Post([this, key] { plans_.erase(key); });
    done(submitted);
  });
}

void Planner::AskForAdvice(const Owner::Question& question) {
  thread_.Post([this, question] {
    absl::StatusOr<core::AdviseSweep> advice = AdviceNow(question);
    if (advice.ok()) {
      owner_->Advised(question, *std::move(advice));
    } else {
      owner_->Advised(question,
                      core::AbandonSweep{.sweep = question.due.sweep,
                                         .reason = std::string(advice.status().message())});
    }
  });
}

std::shared_ptr<Planner::Kept> Planner::Keep(sweeps::SweepPlan plan, std::string yaml) {
  auto kept = std::make_shared<Kept>(Kept{.plan = std::move(plan), .yaml = std::move(yaml)});
  kept->contest = AllOf(*kept, {});
  if (kept->plan.search != nullptr) kept->search.emplace(kept->plan);
  if (kept->plan.population != nullptr) kept->population.emplace(kept->plan);
  return kept;
}

Contest Planner::AllOf(const Kept& kept, const std::vector<AdditionRow>& additions) {
  Contest out(kept.plan);
  out.Join(kept.plan.trials);
  auto next = kept.added.begin();
  for (const AdditionRow& a : additions) {
    out.Join({next, next + a.trials});
    next += a.trials;
  }
  return out;
}

absl::StatusOr<Planner::Kept*> Planner::PlanOf(const core::Core::Cursor& at) {
  std::shared_ptr<Kept>& kept = plans_[at.request_id + at.request_hash];
  if (kept == nullptr) {
    // After a restart: the same file and corpora give the same plan.
    ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(db_path_));
    ASSIGN_OR_RETURN(const std::string yaml, reader.SweepYaml(at.sweep));
    ASSIGN_OR_RETURN(sweeps::SweepPlan again, plan_(yaml, "sweep.yaml"));
    kept = Keep(std::move(again), yaml);
  }
  for (; kept->additions < at.additions.size(); ++kept->additions) {
    ASSIGN_OR_RETURN(std::vector<sweeps::PlannedTrial> more,
                     AddedBy(*kept, at.additions[kept->additions]));
    RETURN_IF_ERROR(FillInits(db_path_, &more));
    kept->contest->Join(more);
    std::move(more.begin(), more.end(), std::back_inserter(kept->added));
  }
  const int64_t trials = std::ssize(kept->plan.trials) + std::ssize(kept->added);
  if (trials != at.trials) {
    return absl::FailedPreconditionError(absl::StrCat(
        "its plan now has ", trials, " trials, it had ", at.trials, "; submit it again"));
  }
  return kept.get();
}

absl::StatusOr<core::MaterializeSlice> Planner::SliceNow(const core::Core::Cursor& at) {
  ASSIGN_OR_RETURN(const Kept* kept, PlanOf(at));
  core::MaterializeSlice slice = ToSlice(kept->plan, kept->added, *kept->contest, at.sweep,
                                         at.request_id, at.from, kSliceTrials);
  const bool last = slice.from + std::ssize(*slice.trials) >= at.trials;
  if (last && !NeedsAdvice(kept->plan)) plans_.erase(at.request_id + at.request_hash);
  return slice;
}

absl::StatusOr<core::AdviseSweep> Planner::AdviceNow(const Owner::Question& question) {
  const core::Core::Cursor& at = question.at;
  // Since it was asked, a suggester has added to the sweep, and a slice of that was cut already: it
  // will be asked again.
  if (const auto known = plans_.find(at.request_id + at.request_hash);
      known != plans_.end() && known->second->additions > at.additions.size())
    return core::AdviseSweep{.sweep = at.sweep, .open = true};
  ASSIGN_OR_RETURN(Kept * kept, PlanOf(at));
  ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(db_path_));
  if (!kept->contest->empty()) {
    // After a restart, or where what was seen last could not be committed: from the record.
    ASSIGN_OR_RETURN(const std::vector<LookRow> looks, reader.Looks(at.sweep));
    if (kept->contest->looks() != std::ssize(looks)) {
      kept->contest = AllOf(*kept, at.additions);
      RETURN_IF_ERROR(kept->contest->Take(looks));
    }
  }
  ASSIGN_OR_RETURN(core::AdviseSweep advice,
                   Advise(kept->plan, kept->added, at.additions, at.sweep, *kept->contest, reader));
  advice.seen = question.due.seen;
  advice.additions_before = std::ssize(at.additions);
  if (kept->search) RETURN_IF_ERROR(AskForPoints(at, *kept, reader, &advice));
  if (kept->population) RETURN_IF_ERROR(JudgeMembers(at, *kept, reader, &advice));
  if (!advice.open) plans_.erase(at.request_id + at.request_hash);
  return advice;
}

absl::Status Planner::JudgeMembers(const core::Core::Cursor& at, Kept& kept, store::Reader& reader,
                                   core::AdviseSweep* advice) {
  PopulationLog& log = *kept.population;
  ASSIGN_OR_RETURN(const std::vector<LookRow> looks, reader.Looks(at.sweep));
  if (log.looks() != std::ssize(looks)) RETURN_IF_ERROR(log.Rewind(looks));
  ASSIGN_OR_RETURN(const std::vector<store::TrialProgress> trials, reader.Progress(at.sweep));
  const auto checkpoint_of = [&](TrialId trial, StageId stage) -> absl::StatusOr<CheckpointRow> {
    ASSIGN_OR_RETURN(const store::TrialView view, reader.Trial(trial));
    for (const store::StageView& s : view.stages) {
      if (s.row.id == stage) {
        return CheckpointRow{.step = s.row.checkpoint_step,
                             .path = s.row.checkpoint_path,
                             .digest = s.row.checkpoint_digest};
      }
    }
    return absl::NotFoundError(absl::StrCat("trial ", trial.value, " has no stage ", stage.value));
  };
  return log.Look(trials, reader, checkpoint_of, advice);
}

}  // namespace plumb::coordinator
