#include "coordinator/population_log.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "domain/status_macros.h"
#include "sweeps/tuning.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;
using sweeps::Exchange;
using sweeps::Fork;

constexpr char kForks[] = "forks";

std::string Shown(const std::optional<double>& value) {
  return value ? absl::StrFormat("%.6g", *value) : "no value";
}

json ToJson(const Fork& f) {
  return {{"member", f.member}, {"from", f.from},    {"trial", f.trial},
          {"stage", f.stage},   {"step", f.step},    {"checkpoint", f.checkpoint},
          {"digest", f.digest}, {"values", f.values}};
}

}  // namespace

PopulationLog::PopulationLog(const sweeps::SweepPlan& plan)
    : plan_(plan.population), series_(sweeps::StoppingBy(plan).metric) {
  for (const sweeps::PlannedTrial& t : plan.trials)
    places_.push_back(
        {.member = t.cell, .values = plan_->space->initial()[static_cast<size_t>(t.cell)]});
  Begin();
}

void PopulationLog::Begin() {
  looks_ = generation_ = 0;
  current_.resize(static_cast<size_t>(plan_->spec.members));
  for (int64_t m = 0; m < plan_->spec.members; ++m) current_[static_cast<size_t>(m)] = m;
  seen_.assign(current_.size(), std::nullopt);
  exchanges_.clear(), from_place_.clear(), values_.clear();
  for (Place& p : places_) p.out = false, p.keep_step = 0, p.reason.clear();
}

absl::StatusOr<std::vector<sweeps::PlannedTrial>> PopulationLog::Take(
    const AdditionRow& addition, int64_t first_trial, std::vector<sweeps::PlannedCell>* cells) {
  const auto wrong = [&](absl::string_view why) {
    return absl::DataLossError(absl::StrCat("addition \"", addition.name, "\" of sweep ",
                                            addition.sweep.value, " cannot be read: ", why));
  };
  const json payload = json::parse(addition.payload_json, nullptr, false);
  std::vector<sweeps::PlannedTrial> out;
  std::vector<sweeps::PlannedCell> new_cells;
  std::vector<Place> new_places;
  int64_t generation = 0;
  try {
    if (payload.at("kind") != kForks) return wrong("it is of no population");
    generation = payload.at("generation").get<int64_t>();
    for (const json& f : payload.at("forks")) {
      const Fork fork{.member = f.at("member"),
                      .from = f.at("from"),
                      .generation = generation,
                      .step = f.at("step"),
                      .trial = f.at("trial"),
                      .stage = f.at("stage"),
                      .checkpoint = f.at("checkpoint"),
                      .digest = f.at("digest"),
                      .values = f.at("values").get<std::vector<double>>()};
      if (fork.member < 0 || fork.member >= plan_->spec.members) return wrong("no such member");
      ASSIGN_OR_RETURN(sweeps::Forked forked,
                       sweeps::MakeFork(*plan_, fork, std::ssize(*cells) + std::ssize(new_cells)));
      new_places.push_back({.member = fork.member, .values = std::move(forked.point)});
      new_cells.push_back(std::move(forked.cell));
      out.push_back(std::move(forked.trials.front()));
    }
  } catch (const json::exception& e) {
    return wrong(e.what());
  }
  if (std::ssize(out) != addition.trials || first_trial != std::ssize(places_))
    return wrong("its trials are not those that it says");
  for (Place& p : new_places) {
    const int64_t place = std::ssize(places_);
    forks_[{generation, p.member}] = place;
    int64_t& current = current_[static_cast<size_t>(p.member)];
    if (current < 0 && generation == generation_) current = place;
    places_.push_back(std::move(p));
  }
  std::move(new_cells.begin(), new_cells.end(), std::back_inserter(*cells));
  return out;
}

absl::Status PopulationLog::Rewind(const std::vector<LookRow>& looks) {
  Begin();
  for (const LookRow& look : looks) {
    if (look.seq != looks_) return absl::DataLossError("looks are missing");
    RETURN_IF_ERROR(Take(look.trial_idx, look.value));
  }
  return absl::OkStatus();
}

absl::Status PopulationLog::Take(int64_t idx, std::optional<double> value) {
  const auto wrong = [&] {
    return absl::DataLossError(
        absl::StrCat("look ", looks_, " is of no member that its population waits for"));
  };
  if (idx < 0 || idx >= std::ssize(places_) || IsOver()) return wrong();
  const auto member = static_cast<size_t>(places_[static_cast<size_t>(idx)].member);
  if (current_[member] != idx || seen_[member]) return wrong();
  seen_[member] = value;
  ++looks_;
  if (std::all_of(seen_.begin(), seen_.end(), [](const auto& s) { return s.has_value(); }))
    Decide();
  return absl::OkStatus();
}

void PopulationLog::Decide() {
  values_.clear();
  for (const auto& s : seen_) values_.push_back(*s);
  const int64_t step = plan_->ends[static_cast<size_t>(generation_)];
  const sweeps::Ranking ranking = sweeps::Rank(plan_->spec, ++generation_, values_);
  exchanges_ = ranking.exchanges;
  from_place_.clear();
  const auto n = std::ssize(values_);
  for (int64_t place = 0; place < n; ++place) {
    const auto m = static_cast<size_t>(ranking.order[static_cast<size_t>(place)]);
    Place& p = places_[static_cast<size_t>(current_[m])];
    p.keep_step = 0;
    p.reason = absl::StrCat("generation ", generation_, " (step ", step, "): ", Shown(values_[m]),
                            " is number ", place + 1, " of ", n);
  }
  for (const Exchange& e : exchanges_) {
    const int64_t from = current_[static_cast<size_t>(e.from)];
    from_place_.push_back(from);
    places_[static_cast<size_t>(from)].keep_step = step;
  }
  for (const Exchange& e : exchanges_) {
    int64_t& current = current_[static_cast<size_t>(e.member)];
    Place& p = places_[static_cast<size_t>(current)];
    p.out = true;
    absl::StrAppend(&p.reason, "; member ", e.member, " goes on as a fork of member ", e.from,
                    ", which has ", Shown(values_[static_cast<size_t>(e.from)]));
    const auto fork = forks_.find({generation_, e.member});
    current = fork == forks_.end() ? -1 : fork->second;
  }
  seen_.assign(current_.size(), std::nullopt);
}

absl::Status PopulationLog::Look(const std::vector<store::TrialProgress>& trials,
                                 store::Results& results, const CheckpointOf& checkpoint_of,
                                 core::AdviseSweep* out) {
  out->looks_before = looks_;
  for (int64_t before = -1; before != generation_ && !IsOver();) {
    before = generation_;
    const int64_t end = plan_->ends[static_cast<size_t>(generation_)];
    for (size_t m = 0; m < current_.size() && generation_ == before; ++m) {
      const int64_t idx = current_[m];
      if (seen_[m] || idx < 0 || idx >= std::ssize(trials)) continue;
      const store::TrialProgress& t = trials[static_cast<size_t>(idx)];
      std::optional<double> value;
      if (!IsTerminal(t.state)) {
        // There, and its checkpoint is committed.
        if (t.state != StageState::kPaused || t.until_step < end || t.checkpoint_step < end)
          continue;
        ASSIGN_OR_RETURN(const std::vector<store::StepValue> points,
                         results.Points(t.stage, series_, end - 1));
        if (!points.empty() && std::isfinite(points.front().value)) value = points.front().value;
      }
      out->looks.push_back({.trial_idx = idx, .step = end, .value = value});
      RETURN_IF_ERROR(Take(idx, value));
    }
  }
  RETURN_IF_ERROR(Forks(trials, checkpoint_of, out));
  const int64_t until = IsOver() ? -1 : plan_->ends[static_cast<size_t>(generation_)];
  bool live = false;
  for (const store::TrialProgress& t : trials) {
    if (IsTerminal(t.state) || t.idx >= std::ssize(places_)) continue;
    live = true;
    const Place& p = places_[static_cast<size_t>(t.idx)];
    const bool further = t.until_step >= 0 && (until < 0 || until > t.until_step);
    if (!p.out && !further) continue;
    out->verdicts.push_back({.trial = t.trial,
                             .stop = p.out,
                             .until_step = until,
                             .reason = p.reason,
                             .keep_step = p.keep_step});
  }
  out->open |=
      !IsOver() || live || std::ssize(trials) < std::ssize(places_) || !out->additions.empty();
  return absl::OkStatus();
}

// Those of the last decision that are not there.
absl::Status PopulationLog::Forks(const std::vector<store::TrialProgress>& trials,
                                  const CheckpointOf& checkpoint_of, core::AdviseSweep* out) {
  json forks = json::array();
  std::vector<std::string> why;
  std::map<int64_t, std::vector<sweeps::SearchPoint>> taken;  // by whose state it is
  const auto& axes = plan_->space->axes();
  for (size_t i = 0; i < exchanges_.size(); ++i) {
    const Exchange& e = exchanges_[i];
    if (current_[static_cast<size_t>(e.member)] >= 0) return absl::OkStatus();
    const store::TrialProgress& source = trials[static_cast<size_t>(from_place_[i])];
    const sweeps::SearchPoint& values = places_[static_cast<size_t>(from_place_[i])].values;
    ASSIGN_OR_RETURN(const CheckpointRow checkpoint, checkpoint_of(source.trial, source.stage));
    Fork fork{.member = e.member,
              .from = e.from,
              .generation = generation_,
              .step = plan_->ends[static_cast<size_t>(generation_ - 1)],
              .trial = source.trial.value,
              .stage = source.stage.value,
              .checkpoint = checkpoint.path,
              .digest = checkpoint.digest};
    if (checkpoint.step != fork.step) {
      return absl::DataLossError(absl::StrCat("trial ", fork.trial, " paused at step ", fork.step,
                                              ", and its last checkpoint is of step ",
                                              checkpoint.step));
    }
    fork.values = sweeps::ChooseValues(*plan_, values, taken[e.from], generation_, e.member);
    ASSIGN_OR_RETURN(const sweeps::Forked made, sweeps::MakeFork(*plan_, fork, 0));
    taken[e.from].push_back(made.point);
    why.push_back(absl::StrCat(
        "member ", e.member, " (", Shown(values_[static_cast<size_t>(e.member)]),
        ") goes on from trial ", fork.trial, " (member ", e.from, ", ",
        Shown(values_[static_cast<size_t>(e.from)]), ") at step ", fork.step, " with ",
        sweeps::InWords(axes, made.point), " in place of ", sweeps::InWords(axes, values)));
    forks.push_back(ToJson(fork));
  }
  if (forks.empty()) return absl::OkStatus();
  out->additions.push_back(
      {.name = absl::StrCat("generation ", generation_),
       .payload_json = json({{"kind", kForks}, {"generation", generation_}, {"forks", forks}})
                           .dump(-1, ' ', false, json::error_handler_t::replace),
       .trials = std::ssize(forks),
       .why = absl::StrJoin(why, "; ")});
  return absl::OkStatus();
}

}  // namespace plumb::coordinator
