#include "coordinator/edits.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <future>
#include <limits>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/convert.h"
#include "domain/status_macros.h"
#include "sweeps/sweep_file.h"

namespace plumb::coordinator {
namespace {

constexpr size_t kMaxTags = 32;
constexpr size_t kMaxNote = 4096;
constexpr size_t kMaxAsked = 10'000;  // ids in one request
constexpr int64_t kPlaces = 1'000;    // of a sweep that go in one transaction
constexpr int64_t kRows = 5'000;      // of a trial
constexpr char kTagCharacters[] = "-_.@:/";

void ToProto(const store::RemovalCount& c, v1::Removal* out) {
  out->set_trials(std::ssize(c.trials));
  out->set_shared_trials(c.shared);
  out->set_pinned_trials(c.pinned);
  out->set_needed_trials(c.needed);
  out->set_points(c.points);
  out->set_records(c.records);
  out->set_checkpoints(c.checkpoints);
  out->set_checkpoint_bytes(c.checkpoint_bytes);
  out->set_attempts(c.attempts);
}

absl::Status CheckUser(const std::string& user) {
  if (user.empty() || IsWord(user, "-_.@")) return absl::OkStatus();
  return absl::InvalidArgumentError("user: 1 to 64 letters, digits, - _ . @");
}

}  // namespace

Edits::Edits(Owner* owner, std::string db_path) : owner_(owner), db_path_(std::move(db_path)) {
  thread_.Post([this] {
    if (const absl::Status s = Purge(); !s.ok() && !stopping_)
      spdlog::warn("what was removed is not cleared away yet: {}", std::string(s.message()));
  });
}

void Edits::Stop() {
  stopping_ = true;
  thread_.Stop();
}

absl::StatusOr<store::Reader*> Edits::Reads() {
  if (!reader_) {
    ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(db_path_));
    reader_ = std::move(reader);
  }
  return &*reader_;
}

absl::StatusOr<core::Answer> Edits::Do(core::Event event) {
  if (stopping_) return absl::UnavailableError("the server is stopping; try again");
  auto said = std::make_shared<std::promise<absl::StatusOr<core::Answer>>>();
  std::future<absl::StatusOr<core::Answer>> answer = said->get_future();
  owner_->Post(std::move(event),
               [said](absl::StatusOr<core::Answer> a) { said->set_value(std::move(a)); });
  return answer.get();
}

absl::Status Edits::RetrySweep(const v1::RetrySweepRequest& request,
                               v1::RetrySweepResponse* response) {
  RETURN_IF_ERROR(CheckUser(request.user()));
  if (static_cast<size_t>(request.cells_size()) > kMaxAsked)
    return absl::InvalidArgumentError("cells: at most 10,000");
  std::vector<std::string> states(request.states().begin(), request.states().end());
  if (states.empty()) states = {"failed"};
  std::vector<StageState> from;
  for (const std::string& name : states) {
    const std::optional<StageState> state = StageStateFromName(name);
    if (!state || (*state != StageState::kFailed && *state != StageState::kCancelled &&
                   *state != StageState::kStopped && *state != StageState::kDiverged)) {
      return absl::InvalidArgumentError(
          absl::StrCat("state: \"", name, "\" is not one of failed, cancelled, stopped, diverged"));
    }
    from.push_back(*state);
  }
  // What follows a training that failed was cancelled with it.
  from.push_back(StageState::kCancelled);
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  ASSIGN_OR_RETURN(const store::SweepView sweep, reader->Sweep(SweepId{request.sweep_id()}));
  response->set_sweep_id(sweep.row.id.value);
  if (sweep.row.state == SweepState::kCancelled) {
    return absl::FailedPreconditionError(absl::StrCat(
        "sweep ", sweep.row.id.value, " was cancelled; make a copy of it: plumb sweep fork ",
        sweep.row.id.value, " --submit, which shares what has ended"));
  }
  const std::vector<std::string> cells(request.cells().begin(), request.cells().end());
  ASSIGN_OR_RETURN(const std::vector<TrialId> trials,
                   reader->TrialsIn(sweep.row.id, states, cells));
  if (trials.empty()) {
    return absl::NotFoundError(
        absl::StrCat("sweep ", sweep.row.id.value, " has no trials that are ",
                     absl::StrJoin(states, " or "), cells.empty() ? "" : " in these cells",
                     "; `plumb trial list --sweep ", sweep.row.id.value, "` shows them"));
  }
  for (const TrialId id : trials) {
    ASSIGN_OR_RETURN(const core::Answer answer,
                     Do(core::RetryTrial{.trial = id, .from = from, .user = request.user()}));
    const int64_t stages = std::get<core::Counted>(answer).stages;
    response->set_retried_trials(response->retried_trials() + (stages > 0 ? 1 : 0));
    response->set_retried_stages(response->retried_stages() + stages);
  }
  return absl::OkStatus();
}

absl::Status Edits::Annotate(const v1::AnnotateRequest& request, v1::AnnotateResponse* response) {
  RETURN_IF_ERROR(CheckUser(request.user()));
  if ((request.sweep_id() > 0) == (request.trial_id() > 0))
    return absl::InvalidArgumentError("sweep_id or trial_id: one of them");
  for (const auto* tags : {&request.add_tags(), &request.remove_tags()}) {
    if (static_cast<size_t>(tags->size()) > kMaxTags)
      return absl::InvalidArgumentError("at most 32 tags");
    for (const std::string& tag : *tags) {
      if (!IsWord(tag, kTagCharacters)) {
        return absl::InvalidArgumentError(
            absl::StrCat("tag \"", tag.substr(0, 80), "\": 1 to 64 letters, digits, - _ . @ : /"));
      }
    }
  }
  if (request.note().size() > kMaxNote)
    return absl::InvalidArgumentError("note: at most 4,096 bytes");
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  const SweepId sweep{request.sweep_id()};
  const TrialId trial{request.trial_id()};
  const auto read = [&] {
    return sweep ? reader->AnnotationsOf(sweep) : reader->AnnotationsOf(trial);
  };
  ASSIGN_OR_RETURN(const store::Annotations before, read());
  core::Annotate event{.sweep = sweep, .trial = trial, .user = request.user()};
  std::set<std::string> tags(before.tags.begin(), before.tags.end());
  for (const std::string& tag : request.add_tags()) {
    if (tags.insert(tag).second) event.add.push_back(tag);
  }
  for (const std::string& tag : request.remove_tags()) {
    if (tags.erase(tag) > 0) event.remove.push_back(tag);
  }
  if (tags.size() > kMaxTags)
    return absl::InvalidArgumentError("at most 32 tags on one sweep or trial; remove some");
  if (request.has_note() && request.note() != before.note) event.note = request.note();
  RETURN_IF_ERROR(Do(std::move(event)).status());
  ASSIGN_OR_RETURN(const store::Annotations after, read());
  for (const std::string& tag : after.tags) response->add_tags(tag);
  response->set_note(after.note);
  return absl::OkStatus();
}

namespace {

// Trials that a living sweep's file begins from (init.trial), with that sweep: its plan may have to
// be made again.
absl::StatusOr<std::map<int64_t, SweepId>> Sources(store::Reader& reader) {
  std::map<int64_t, SweepId> out;
  for (int64_t before = std::numeric_limits<int64_t>::max();;) {
    ASSIGN_OR_RETURN(const std::vector<store::SweepView> views, reader.Sweeps(before, 500));
    for (const store::SweepView& v : views) {
      before = v.row.id.value;
      if (v.row.state == SweepState::kCompleted || v.row.state == SweepState::kCancelled) continue;
      ASSIGN_OR_RETURN(const std::string yaml, reader.PresentYaml(v.row.id));
      if (yaml.find("init") == std::string::npos) continue;
      std::vector<sweeps::Problem> problems;
      const sweeps::SweepFile file = sweeps::ReadSweepFile(yaml, &problems);
      const auto add = [&](const std::string& value) {
        int64_t id = 0;
        if (absl::SimpleAtoi(value, &id) && id > 0) out.emplace(id, v.row.id);
      };
      const auto of = [&](const sweeps::Overlay& overlay) {
        const auto it = overlay.values.find("init.trial");
        if (it != overlay.values.end()) add(it->second);
      };
      of(file.trial);
      for (const sweeps::Variant& variant : file.variants) of(variant.overlay);
      for (const sweeps::Axis& axis : file.axes) {
        for (size_t f = 0; f < axis.fields.size(); ++f) {
          if (axis.fields[f] != "init.trial") continue;
          for (const auto& point : axis.points) add(point[f]);
        }
      }
    }
    if (views.size() < 500) return out;
  }
}

// "" where none of the trials is one of those.
std::string WhoBegins(const std::map<int64_t, SweepId>& sources,
                      const std::vector<TrialId>& trials) {
  for (const TrialId trial : trials) {
    const auto it = sources.find(trial.value);
    if (it == sources.end()) continue;
    return absl::StrCat("sweep ", it->second.value, ", which has not ended, begins from trial ",
                        trial.value, " (init.trial)");
  }
  return "";
}

}  // namespace

absl::Status Edits::RemoveSweeps(const v1::RemoveSweepsRequest& request,
                                 v1::RemoveSweepsResponse* response) {
  RETURN_IF_ERROR(CheckUser(request.user()));
  if (static_cast<size_t>(request.sweep_ids_size()) > kMaxAsked)
    return absl::InvalidArgumentError("sweep_ids: at most 10,000");
  if (request.sweep_ids().empty() && request.ended_before_us() <= 0) {
    return absl::InvalidArgumentError(
        "which sweeps? plumb sweep remove ID, or plumb server retain --older-than 90d");
  }
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  v1::Removal* out = response->mutable_removal();
  std::vector<SweepId> sweeps;
  const auto ended = [](const SweepRow& row) {
    return row.state == SweepState::kCompleted || row.state == SweepState::kCancelled;
  };
  const auto pinned = [](const store::SweepView& v) {
    return std::find(v.annotations.tags.begin(), v.annotations.tags.end(), "pinned") !=
           v.annotations.tags.end();
  };
  const auto stays = [&](const store::SweepView& v, absl::string_view why) {
    out->add_kept(absl::StrCat("sweep ", v.row.id.value, " (", v.row.name, ") stays: ", why));
  };
  for (const int64_t id : request.sweep_ids()) {
    ASSIGN_OR_RETURN(const store::SweepView view, reader->Sweep(SweepId{id}));
    if (id <= 0) return absl::InvalidArgumentError("sweep_ids: from 1 on");
    if (!ended(view.row)) {
      return absl::FailedPreconditionError(absl::StrCat("sweep ", id, " is ", Name(view.row.state),
                                                        "; end it first: plumb sweep cancel ", id));
    }
    if (pinned(view)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "sweep ", id, " is pinned; let it go first: plumb sweep tag ", id, " -- -pinned"));
    }
    sweeps.push_back(view.row.id);
  }
  if (request.sweep_ids().empty()) {
    for (int64_t before = std::numeric_limits<int64_t>::max();;) {
      ASSIGN_OR_RETURN(const std::vector<store::SweepView> views, reader->Sweeps(before, 500));
      for (const store::SweepView& v : views) {
        before = v.row.id.value;
        if (!ended(v.row) || v.row.end_time_us >= request.ended_before_us()) continue;
        if (pinned(v)) {
          stays(v, "it is pinned");
        } else if (request.keep_tagged() && !v.annotations.tags.empty()) {
          stays(v, absl::StrCat("it is tagged ", absl::StrJoin(v.annotations.tags, ", ")));
        } else {
          sweeps.push_back(v.row.id);
        }
      }
      if (views.size() < 500) break;
    }
  }
  ASSIGN_OR_RETURN(const auto sources, Sources(*reader));
  for (auto it = sweeps.begin(); it != sweeps.end() && !sources.empty();) {
    ASSIGN_OR_RETURN(const store::RemovalCount one, reader->WhatGoes(std::vector<SweepId>{*it}));
    const std::string who = WhoBegins(sources, one.trials);
    if (who.empty()) {
      ++it;
    } else if (!request.sweep_ids().empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("sweep ", it->value, " stays: ", who, "; end that one first"));
    } else {
      out->add_kept(absl::StrCat("sweep ", it->value, " stays: ", who));
      it = sweeps.erase(it);
    }
  }
  ASSIGN_OR_RETURN(const store::RemovalCount count, reader->WhatGoes(sweeps));
  ToProto(count, out);
  for (const SweepId id : sweeps) out->add_sweep_ids(id.value);
  if (!request.really()) return absl::OkStatus();
  for (const SweepId id : sweeps) {
    while (true) {
      ASSIGN_OR_RETURN(const bool has, reader->HasPlaces(id));
      RETURN_IF_ERROR(
          Do(core::RemoveSweep{.sweep = id, .limit = kPlaces, .last = !has, .user = request.user()})
              .status());
      if (!has) break;
    }
    RETURN_IF_ERROR(Purge());
  }
  return absl::OkStatus();
}

absl::Status Edits::RemoveTrials(const v1::RemoveTrialsRequest& request,
                                 v1::RemoveTrialsResponse* response) {
  RETURN_IF_ERROR(CheckUser(request.user()));
  if (request.trial_ids().empty() || static_cast<size_t>(request.trial_ids_size()) > kMaxAsked)
    return absl::InvalidArgumentError("trial_ids: 1 to 10,000");
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  std::vector<TrialId> ids;
  for (const int64_t id : request.trial_ids()) {
    ASSIGN_OR_RETURN(const store::TrialView view, reader->Trial(TrialId{id}));
    if (!IsTerminal(view.row.state)) {
      return absl::FailedPreconditionError(absl::StrCat("trial ", id, " is ", Name(view.row.state),
                                                        "; end it first: plumb trial cancel ", id));
    }
    ids.push_back(TrialId{id});
  }
  ASSIGN_OR_RETURN(const store::RemovalCount count, reader->WhatGoes(ids));
  if (count.pinned > 0) {
    return absl::FailedPreconditionError(
        "a trial of these is pinned; let it go first: plumb trial tag ID -- -pinned");
  }
  if (count.needed > 0) {
    return absl::FailedPreconditionError(
        "another trial began from the checkpoint of one of these, and its curve begins with their "
        "points; remove it first, or together with them (plumb trial show ID names them)");
  }
  ASSIGN_OR_RETURN(const auto sources, Sources(*reader));
  if (const std::string who = WhoBegins(sources, ids); !who.empty())
    return absl::FailedPreconditionError(absl::StrCat(who, "; end that sweep first"));
  ToProto(count, response->mutable_removal());
  if (!request.really()) return absl::OkStatus();
  for (const TrialId id : ids)
    RETURN_IF_ERROR(Do(core::RemoveTrial{.trial = id, .user = request.user()}).status());
  return Purge();
}

absl::Status Edits::Purge() {
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  while (!stopping_) {
    ASSIGN_OR_RETURN(const std::vector<TrialId> trials, reader->Removed(1));
    if (trials.empty()) return absl::OkStatus();
    const auto before = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(Do(core::PurgeTrial{.trial = trials.front(), .limit = kRows}).status());
    // As much time as it took is left to everybody else.
    std::this_thread::sleep_for(std::chrono::steady_clock::now() - before);
  }
  return absl::UnavailableError("the server is stopping; the rest goes at its next start");
}

}  // namespace plumb::coordinator
