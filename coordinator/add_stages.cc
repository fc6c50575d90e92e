#include "coordinator/add_stages.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/trial_filter.h"
#include "domain/status_macros.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;

constexpr int64_t kMostTrials = 20'000;
constexpr size_t kMaxSettings = 256 << 10;

bool IsName(const std::string& text) {
  return !text.empty() && text.size() <= 200 &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:") ==
             std::string::npos;
}

// The stage as it is wanted, checked as a sweep file's would be.
absl::StatusOr<StageRow> ReadStage(const v1::AddStagesRequest& r) {
  const spec::StageKind* kind = spec::FindStageKind(r.kind());
  if (kind == nullptr || kind->from.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("kind: \"", r.kind(),
                     "\" is no stage that could follow another; `plumb schema stages` lists them"));
  }
  if (!IsName(r.name()) || r.name() == "timing")
    return absl::InvalidArgumentError("name: letters, digits, - _ . : (and not \"timing\")");
  if (r.settings_json().size() > kMaxSettings)
    return absl::InvalidArgumentError("settings: more than 256 KiB");
  const json given =
      json::parse(r.settings_json().empty() ? "{}" : r.settings_json(), nullptr, false);
  if (!given.is_object()) return absl::InvalidArgumentError("settings: a JSON object is needed");
  json canonical;
  if (const auto errors = spec::ReadStageSettings(r.kind(), given, &canonical, nullptr);
      !errors.empty())
    return absl::InvalidArgumentError(absl::StrCat(r.kind(), ": ", spec::Format(errors)));
  StageRow row{.name = r.name(), .kind = r.kind(), .target_step = 1};
  if (r.kind() == "external") {  // it is told its last step, as sweeps/trials.cc does
    if (!canonical.contains("steps")) canonical["steps"] = 1;
    row.target_step = canonical["steps"];
    row.memory_bytes = canonical.value("memory_mib", int64_t{0}) << 20;
  }
  row.labels = spec::WorkerLabel(r.kind(), canonical);
  row.settings_json = canonical.dump();
  return row;
}

absl::StatusOr<std::vector<store::TrialView>> Trials(const v1::AddStagesRequest& r,
                                                     store::Reader& reader, int64_t* sweep) {
  std::vector<store::TrialView> out;
  if (r.trial_ids_size() > kMostTrials)
    return absl::InvalidArgumentError("more than 20,000 trials at once; ask in parts");
  for (int64_t id : r.trial_ids()) {
    ASSIGN_OR_RETURN(store::TrialView view, reader.Trial(TrialId{id}));
    out.push_back(std::move(view));
  }
  if (r.trial_ids_size() > 0) {
    if (r.sweep_id() != 0) return absl::InvalidArgumentError("give a sweep or trials, not both");
    return out;
  }
  ASSIGN_OR_RETURN(const store::SweepView of, reader.Sweep(SweepId{r.sweep_id()}));
  *sweep = of.row.id.value;
  ASSIGN_OR_RETURN(out, reader.Trials(of.row.id, "", 0, kMostTrials + 1));
  if (std::ssize(out) > kMostTrials) {
    return absl::InvalidArgumentError(
        "the sweep has more than 20,000 trials; name those that are meant");
  }
  if (!r.tune()) std::erase_if(out, [](const store::TrialView& t) { return t.link.tune != 0; });
  return out;
}

// What the core would say, from what the database says.
void Foresee(const store::TrialView& t, const StageRow& stage, const std::string& parent_name,
             v1::AddedStage* out) {
  const store::StageView* parent = nullptr;
  for (const store::StageView& s : t.stages) {
    if (parent == nullptr && (parent_name.empty() || s.row.name == parent_name)) parent = &s;
  }
  const auto refuse = [&](std::string why) {
    out->set_result("refused");
    out->set_detail(std::move(why));
  };
  if (parent == nullptr) return refuse(absl::StrCat("it has no stage ", parent_name));
  if (spec::FindStageKind(parent->row.kind) == nullptr)
    return refuse(absl::StrCat("nothing follows a ", parent->row.kind));
  const std::string wrong = spec::CannotFollow(stage.kind, parent->row.name, parent->row.kind);
  if (!wrong.empty()) return refuse(wrong);
  const StageState state = parent->row.state;
  if (IsTerminal(state) && state != StageState::kSucceeded)
    return refuse(absl::StrCat("its stage ", parent->row.name, " ended as ", Name(state)));
  out->set_result("new");
  out->set_detail(stage.name);
  for (const store::StageView& s : t.stages) {
    const bool named =
        s.row.name == stage.name || absl::StartsWith(s.row.name, absl::StrCat(stage.name, "-"));
    if (!named || s.row.kind != stage.kind || s.row.parent != parent->row.id ||
        s.row.settings_json != stage.settings_json)
      continue;
    const bool again = s.row.state == StageState::kFailed ||
                       s.row.state == StageState::kCancelled || s.row.state == StageState::kStopped;
    out->set_result(again ? "retried" : "there");
    out->set_detail(s.row.name);
  }
}

// Posts the trials one after the other; the answers come on the store's thread.
class Job : public std::enable_shared_from_this<Job> {
 public:
  Job(StageRow stage, std::string parent, Owner& owner, v1::AddStagesResponse* response,
      std::function<void(const absl::Status&)> done)
      : stage_(std::move(stage)),
        parent_(std::move(parent)),
        owner_(owner),
        response_(response),
        done_(std::move(done)) {}

  void Next() {
    while (at_ < response_->trials_size() && response_->trials(at_).result() == "refused") ++at_;
    if (at_ == response_->trials_size()) return done_(absl::OkStatus());
    core::AddStage event{.trial = TrialId{response_->trials(at_).trial_id()},
                         .stage = stage_,
                         .parent = parent_,
                         .known = std::nullopt,
                         .links = {}};
    owner_.Post(std::move(event),
                [self = shared_from_this()](const absl::StatusOr<core::Answer>& answer) {
                  self->Take(answer);
                });
  }

 private:
  void Take(const absl::StatusOr<core::Answer>& answer) {
    v1::AddedStage* out = response_->mutable_trials(at_++);
    if (answer.ok()) {
      const auto& added = std::get<core::StageAdded>(*answer);
      out->set_result(added.is_new ? "new" : added.retried ? "retried" : "there");
      out->set_detail(added.name);
    } else if (absl::IsFailedPrecondition(answer.status()) || absl::IsNotFound(answer.status())) {
      out->set_result("refused");
      out->set_detail(std::string(answer.status().message()));
    } else {
      return done_(answer.status());  // the server stops, or has no room: ask again
    }
    Next();
  }

  const StageRow stage_;
  const std::string parent_;
  Owner& owner_;
  v1::AddStagesResponse* const response_;
  const std::function<void(const absl::Status&)> done_;
  int at_ = 0;
};

absl::StatusOr<StageRow> Prepare(const v1::AddStagesRequest& r, store::Reader& reader,
                                 v1::AddStagesResponse* response) {
  ASSIGN_OR_RETURN(StageRow stage, ReadStage(r));
  int64_t sweep = 0;
  ASSIGN_OR_RETURN(const std::vector<store::TrialView> trials, Trials(r, reader, &sweep));
  response->set_sweep_id(sweep);
  ASSIGN_OR_RETURN(const TrialFilter filter, TrialFilter::Create(r.where(), trials));
  for (const store::TrialView& t : trials) {
    ASSIGN_OR_RETURN(const bool takes, filter.Takes(t));
    if (!takes) continue;
    v1::AddedStage* out = response->add_trials();
    out->set_trial_id(t.row.id.value);
    out->set_cell(t.cell.name);
    out->set_replicate(static_cast<int32_t>(t.link.replicate));
    Foresee(t, stage, r.parent(), out);
  }
  return stage;
}

}  // namespace

void AddStages(const v1::AddStagesRequest& request, store::Reader& reader, Owner& owner,
               v1::AddStagesResponse* response, std::function<void(const absl::Status&)> done) {
  absl::StatusOr<StageRow> stage = Prepare(request, reader, response);
  if (!stage.ok() || request.dry_run()) return done(stage.status());
  std::make_shared<Job>(*std::move(stage), request.parent(), owner, response, std::move(done))
      ->Next();
}

}  // namespace plumb::coordinator
