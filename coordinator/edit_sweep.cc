// How a sweep gains what a newer text of its file plans beyond it: Planner::ExtendSweep, and what
// an edit means after a restart. The addition carries the text; the trials follow from it and from
// what was there (sweeps/extend.h).
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/advisor.h"
#include "coordinator/planner.h"
#include "domain/status_macros.h"
#include "store/read.h"
#include "sweeps/extend.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;

constexpr char kEdit[] = "edit";
constexpr size_t kMaxYaml = 1 << 20;
constexpr int64_t kMaxTrials = 1'000'000;
constexpr int kTries = 8;

}  // namespace

absl::StatusOr<std::vector<sweeps::PlannedTrial>> Planner::Added(Kept& kept,
                                                                 const AdditionRow& addition) {
  const json payload = json::parse(addition.payload_json, nullptr, false);
  if (!payload.is_object() || payload.value("kind", "") != kEdit)
    return TrialsOf(kept.plan, kept.added, addition);
  const std::string yaml = payload.value("yaml", "");
  ASSIGN_OR_RETURN(const sweeps::SweepPlan newer, plan_(yaml, "sweep.yaml"));
  if (kept.search) {
    if (newer.search == nullptr || addition.trials != 0)
      return absl::DataLossError(absl::StrCat("edit \"", addition.name, "\" is of no search"));
    kept.search->Follow(newer.search);
    kept.plan.search = newer.search;
    kept.plan.priority = newer.priority, kept.plan.limits = newer.limits;
    kept.yaml = yaml;
    return std::vector<sweeps::PlannedTrial>();
  }
  ASSIGN_OR_RETURN(sweeps::Extension extension,
                   sweeps::Extend(&kept.plan, kept.added, kept.removed, newer));
  if (std::ssize(extension.added) != addition.trials) {
    return absl::FailedPreconditionError(absl::StrCat("its edit \"", addition.name, "\" now adds ",
                                                      extension.added.size(), " trials, it added ",
                                                      addition.trials));
  }
  kept.yaml = yaml;
  for (const int64_t cell : extension.removed) kept.removed.insert(cell);
  return std::move(extension.added);
}

void Planner::ExtendSweep(Extend request, ExtendDone done) {
  absl::Status s;
  if (!request.validate_only && (request.request_id.empty() || request.request_id.size() > 200))
    s = absl::InvalidArgumentError(
        "request_id must have 1 to 200 bytes: make one before the first try");
  if (request.yaml.size() > kMaxYaml)
    s = absl::InvalidArgumentError("the sweep file is larger than 1 MiB");
  if (request.reason.size() > 1000) s = absl::InvalidArgumentError("reason: at most 1,000 bytes");
  if (!s.ok()) {
    done(s);
    return;
  }
  ExtendFrom(std::make_shared<const Extend>(std::move(request)), kTries, std::move(done));
}

void Planner::ExtendFrom(std::shared_ptr<const Extend> request, int tries, ExtendDone done) {
  auto at = std::make_shared<std::optional<core::Core::Cursor>>();
  owner_->Read(
      [at, id = request->sweep](const core::Core& core, core::Now) {
        if (core.Find(id) != nullptr) *at = core.CursorOf(id);
      },
      [this, at, request, tries, done](const absl::Status& read) {
        if (!read.ok()) {
          done(read);
          return;
        }
        if (!*at) {
          done(absl::NotFoundError(
              absl::StrCat("no sweep ", request->sweep.value, "; `plumb sweep list` shows them")));
          return;
        }
        const bool posted = thread_.Post([this, at, request, tries, done] {
          auto out = std::make_shared<Extended>();
          absl::StatusOr<core::ExtendSweep> event = ExtendNow(*request, **at, out.get());
          if (!event.ok() || request->validate_only || out->answer.repeated) {
            // Nobody else may ask for the plan of a sweep that is over; one that is missed is made
            // again.
            if ((*at)->from >= (*at)->trials) plans_.erase((*at)->request_id + (*at)->request_hash);
            done(event.ok() ? absl::StatusOr<Extended>(*out) : event.status());
            return;
          }
          owner_->Post(*std::move(event), [this, request, tries, done,
                                           out](const absl::StatusOr<core::Answer>& answer) {
            if (absl::IsAborted(answer.status()) && tries > 1) {  // it has grown meanwhile
              ExtendFrom(request, tries - 1, done);
              return;
            }
            if (!answer.ok()) {
              done(answer.status());
              return;
            }
            out->answer = std::get<core::Extended>(*answer);
            // Of a search: what is asked for was counted by the older text.
            desk_->Withdraw(request->sweep);
            done(*out);
          });
        });
        if (!posted) done(absl::UnavailableError("the server is busy or stopping; try again"));
      });
}

// What is found stays what it is; how many points are looked for may change.
absl::StatusOr<core::ExtendSweep> Planner::ExtendSearch(const Extend& request,
                                                        const core::Core::Cursor& at,
                                                        const Kept& kept,
                                                        const sweeps::SweepPlan& newer,
                                                        const std::string& name) {
  if (kept.plan.search == nullptr || newer.search == nullptr) {
    return absl::InvalidArgumentError(
        "search: stays as it is; a copy with another: plumb sweep fork ID");
  }
  RETURN_IF_ERROR(sweeps::MayGoOn(kept.yaml, request.yaml, kept.search->taken()));
  if (kept.search->Ended()) {
    return absl::FailedPreconditionError(
        "the search has ended, its suggester had nothing left (or all that it said was refused); "
        "begin another with prior: of this one");
  }
  const auto event_json = json({{"kind", kEdit},
                                {"yaml", request.yaml},
                                {"user", request.user},
                                {"reason", request.reason}});
  core::ExtendSweep event{
      .sweep = request.sweep,
      .addition = {.name = name,
                   .payload_json = event_json.dump(-1, ' ', false, json::error_handler_t::replace)},
      .additions_before = std::ssize(at.additions),
      .open = true,
      .more = true,
      .user = request.user,
      .what = absl::StrCat("the search has ", newer.search->spec().trials, " points, it had ",
                           kept.plan.search->spec().trials)};
  if (!request.reason.empty()) absl::StrAppend(&event.what, "; ", request.reason);
  if (newer.priority != kept.plan.priority) event.priority = newer.priority;
  return event;
}

absl::StatusOr<core::ExtendSweep> Planner::ExtendNow(const Extend& request,
                                                     const core::Core::Cursor& at, Extended* out) {
  const std::string prefix = absl::StrCat(kEdit, " ", request.request_id, " ");
  const std::string name = absl::StrCat(prefix, spec::Sha256Hex(request.yaml).substr(0, 16));
  for (const AdditionRow& a : at.additions) {
    if (request.request_id.empty() || a.name.rfind(prefix, 0) != 0) continue;
    if (a.name != name) {
      return absl::AlreadyExistsError(
          absl::StrCat("request_id \"", request.request_id,
                       "\" was used for another edit of this sweep; make a new one"));
    }
    out->answer = {.trials = a.trials, .repeated = true};
    return core::ExtendSweep{};
  }
  ASSIGN_OR_RETURN(
      const sweeps::SweepPlan newer,
      plan_(request.yaml, request.file_name.empty() ? "sweep.yaml" : request.file_name));
  ASSIGN_OR_RETURN(const Kept* kept, PlanOf(at));
  if (kept->plan.population != nullptr || newer.population != nullptr) {
    return absl::InvalidArgumentError(
        "a population is not edited: its members are compared as they are. Submit the new text as "
        "a "
        "sweep of its own");
  }
  if (kept->plan.search != nullptr || newer.search != nullptr)
    return ExtendSearch(request, at, *kept, newer, name);
  RETURN_IF_ERROR(sweeps::MayFollow(kept->yaml, request.yaml));
  sweeps::SweepPlan plan = kept->plan;
  ASSIGN_OR_RETURN(const sweeps::Extension extension,
                   sweeps::Extend(&plan, kept->added, kept->removed, newer));
  const auto cell_name = [&](int64_t cell) { return plan.cells[static_cast<size_t>(cell)].name; };
  for (const int64_t c : extension.new_cells) out->new_cells.push_back(cell_name(c));
  for (const int64_t c : extension.removed) out->removed_cells.push_back(cell_name(c));
  out->answer.trials = std::ssize(extension.added);
  if (!extension.removed.empty() && !request.may_remove) {
    return absl::InvalidArgumentError(
        absl::StrCat("the new text lacks ", extension.removed.size(), " of the sweep's cells (",
                     absl::StrJoin(out->removed_cells.begin(),
                                   out->removed_cells.begin() +
                                       std::min<std::ptrdiff_t>(std::ssize(out->removed_cells), 5),
                                   "; "),
                     "); `plumb sweep edit` takes out those that have not begun"));
  }
  if (at.trials + std::ssize(extension.added) > kMaxTrials) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sweep would have ", at.trials + std::ssize(extension.added),
                     " trials, at most ", kMaxTrials, " are taken; submit a second one"));
  }

  core::ExtendSweep event{.sweep = request.sweep,
                          .additions_before = std::ssize(at.additions),
                          .open = NeedsAdvice(plan),
                          .user = request.user,
                          .what = sweeps::InWords(extension)};
  if (!request.reason.empty()) absl::StrAppend(&event.what, "; ", request.reason);
  event.addition = {.name = name,
                    .payload_json = json({{"kind", kEdit},
                                          {"yaml", request.yaml},
                                          {"user", request.user},
                                          {"reason", request.reason}})
                                        .dump(-1, ' ', false, json::error_handler_t::replace),
                    .trials = std::ssize(extension.added)};
  for (const int64_t c : extension.renamed) {
    event.renamed.push_back({c, cell_name(c), plan.cells[static_cast<size_t>(c)].axes_json});
  }
  if (plan.priority != kept->plan.priority) event.priority = plan.priority;
  if (extension.removed.empty()) return event;

  if (at.from < at.trials) {
    return absl::FailedPreconditionError(
        "the sweep's trials are still being made; take cells out in a moment");
  }
  ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(db_path_));
  ASSIGN_OR_RETURN(const std::vector<store::TrialProgress> progress,
                   reader.Progress(request.sweep));
  const auto planned = std::ssize(kept->plan.trials);
  for (const int64_t c : extension.removed) {
    core::ExtendSweep::Removed removed{.cell_idx = c, .name = cell_name(c)};
    for (const store::TrialProgress& t : progress) {
      const sweeps::PlannedTrial& trial =
          t.idx < planned ? kept->plan.trials[t.idx] : kept->added.at(t.idx - planned);
      if (trial.cell == c) removed.trials.push_back(t.trial);
    }
    event.removed.push_back(std::move(removed));
  }
  return event;
}

}  // namespace plumb::coordinator
