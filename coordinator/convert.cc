#include "coordinator/convert.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "domain/status_macros.h"
#include "trainer/spec/parse.h"

namespace plumb::coordinator {
namespace {

constexpr int kMaxName = 200;
constexpr int kMaxSlots = 4096;
constexpr int kMaxAttempts = 10'000;
constexpr int kMaxPoints = 1'000'000;
constexpr size_t kMaxLog = 64 << 10;
constexpr size_t kMaxJson = 1 << 20;

absl::Status Check(bool ok, absl::string_view what) {
  return ok ? absl::OkStatus() : absl::InvalidArgumentError(what);
}

absl::Status CheckText(const std::string& text, size_t limit, absl::string_view what) {
  if (text.size() > limit)
    return absl::InvalidArgumentError(absl::StrCat(what, " is longer than ", limit, " bytes"));
  return absl::OkStatus();
}

// A failure's cause is a line and its log; the line stays, the log goes to a column of its own.
void SplitCause(const std::string& text, std::string* cause, std::string* log_tail) {
  constexpr size_t kLine = 500;
  const size_t end = text.find('\n');
  *cause = text.substr(0, std::min(end, kLine));
  if (end != std::string::npos || text.size() > kLine) *log_tail = text;
}

absl::Duration Remaining(int64_t ms) {
  return ms > 0 ? absl::Milliseconds(ms) : absl::InfiniteDuration();
}

absl::StatusOr<core::AttemptReport> FromProto(const v1::AttemptState& a) {
  RETURN_IF_ERROR(
      Check(a.stage_id() > 0 && a.attempt() > 0, "attempts: stage_id and attempt start at 1"));
  RETURN_IF_ERROR(Check(a.step() >= 0 && a.through_seq() >= 0,
                        "attempts: step and through_seq are not negative"));
  RETURN_IF_ERROR(CheckText(a.summary_json(), kMaxJson, "attempts.summary_json"));
  RETURN_IF_ERROR(CheckText(a.cause(), kMaxLog + 4096, "attempts.cause"));
  RETURN_IF_ERROR(CheckText(a.rendezvous(), 300, "attempts.rendezvous"));
  RETURN_IF_ERROR(CheckText(a.gang_secret(), 300, "attempts.gang_secret"));
  core::AttemptReport out{.incarnation = a.incarnation(),
                          .attempt = {StageId{a.stage_id()}, a.attempt()},
                          .step = a.step(),
                          .through_seq = a.through_seq(),
                          .checkpoint_gone = a.checkpoint_gone(),
                          .rendezvous = a.rendezvous(),
                          .secret = a.gang_secret()};
  if (!a.outcome().empty()) {
    out.outcome = OutcomeFromName(a.outcome());
    if (!out.outcome) {
      return absl::InvalidArgumentError(
          absl::StrCat("attempts.outcome: \"", a.outcome(),
                       "\" is not one of succeeded, paused, infeasible, diverged, out_of_memory, "
                       "failed, preempted, lost, cancelled"));
    }
  }
  SplitCause(a.cause(), &out.cause, &out.log_tail);
  if (!a.summary_json().empty()) out.summary_json = a.summary_json();
  return out;
}

absl::StatusOr<MeasurementBatchPtr> FromProto(const v1::AttemptBatch& b) {
  RETURN_IF_ERROR(
      Check(b.stage_id() > 0 && b.attempt() > 0, "batches: stage_id and attempt start at 1"));
  RETURN_IF_ERROR(Check(b.first_seq() > 0 && b.last_seq() >= b.first_seq(),
                        "batches: 1 <= first_seq <= last_seq"));
  auto out = std::make_shared<MeasurementBatch>();
  out->incarnation = b.incarnation();
  out->attempt = {StageId{b.stage_id()}, b.attempt()};
  out->first_seq = b.first_seq();
  out->last_seq = b.last_seq();
  int64_t points = 0;
  for (const v1::SeriesPoints& s : b.series()) {
    RETURN_IF_ERROR(Check(!s.name().empty(), "batches.series.name is empty"));
    RETURN_IF_ERROR(CheckText(s.name(), kMaxName, "batches.series.name"));
    MeasurementBatch::Series& series = out->series.emplace_back();
    series.name = s.name();
    series.layer = s.layer();
    series.definition_version = s.definition_version();
    for (const v1::Point& p : s.points()) {
      RETURN_IF_ERROR(Check(p.step() >= 0, "batches.series.points.step is negative"));
      series.points.push_back({p.step(), p.value()});
    }
    points += s.points_size();
  }
  RETURN_IF_ERROR(Check(points <= kMaxPoints,
                        "batches: more than 1,000,000 points in one batch; send smaller ones"));
  for (const v1::CheckpointCommit& c : b.checkpoints()) {
    RETURN_IF_ERROR(Check(c.step() >= 0 && !c.path().empty(),
                          "batches.checkpoints: a step and a path are needed"));
    RETURN_IF_ERROR(CheckText(c.path(), 4096, "batches.checkpoints.path"));
    RETURN_IF_ERROR(CheckText(c.digest(), 128, "batches.checkpoints.digest"));
    out->checkpoints.push_back(
        {.step = c.step(), .path = c.path(), .digest = c.digest(), .bytes = c.bytes()});
  }
  for (const v1::DocumentScore& d : b.documents()) {
    RETURN_IF_ERROR(CheckText(d.split(), kMaxName, "batches.documents.split"));
    out->documents.push_back({.split = d.split(),
                              .document = d.document(),
                              .nll = d.nll(),
                              .tokens = d.tokens(),
                              .bytes = d.bytes()});
  }
  // A record's content is for the database's constraints to refuse: that ends its attempt as
  // failed, where an error here would end nothing and be sent again for ever.
  for (const v1::Record& r : b.records()) {
    RETURN_IF_ERROR(CheckText(r.kind(), kMaxName, "batches.records.kind"));
    RETURN_IF_ERROR(CheckText(r.name(), kMaxName, "batches.records.name"));
    out->records.push_back({.kind = r.kind(),
                            .name = r.name(),
                            .idx = r.index(),
                            .step = r.step(),
                            .data_json = r.data_json()});
  }
  return out;
}

}  // namespace

bool IsWord(const std::string& text, absl::string_view also) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [&](unsigned char c) {
           return absl::ascii_isalnum(c) || also.find(static_cast<char>(c)) != also.npos;
         });
}

absl::StatusOr<core::RegisterWorker> FromProto(const v1::RegisterWorkerRequest& r) {
  RETURN_IF_ERROR(
      Check(!r.worker_name().empty(), "worker_name is empty; give the worker a --name"));
  RETURN_IF_ERROR(CheckText(r.worker_name(), kMaxName, "worker_name"));
  RETURN_IF_ERROR(CheckText(r.host(), kMaxName, "host"));
  RETURN_IF_ERROR(CheckText(r.build(), kMaxName, "build"));
  RETURN_IF_ERROR(
      Check(r.slots() >= 1 && r.slots() <= kMaxSlots, "slots must be between 1 and 4096"));
  RETURN_IF_ERROR(Check(r.devices_size() <= 64, "more than 64 devices"));
  RETURN_IF_ERROR(Check(r.attempts_size() <= kMaxAttempts, "more than 10,000 attempts"));
  if (r.protocol_min() > kProtocol || r.protocol_max() < kProtocol) {
    return absl::FailedPreconditionError(
        absl::StrCat("the worker speaks protocol ", r.protocol_min(), " to ", r.protocol_max(),
                     ", this server ", kProtocol, "; use programs of one version"));
  }
  RETURN_IF_ERROR(Check(r.labels_size() <= 64, "more than 64 labels"));
  std::vector<std::string> labels(r.labels().begin(), r.labels().end());
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  for (const std::string& label : labels)
    RETURN_IF_ERROR(Check(IsWord(label, "-_.="), "labels: 1 to 64 letters, digits, - _ . = each"));
  RETURN_IF_ERROR(Check(r.memory_bytes() >= 0 && r.remaining_ms() >= 0,
                        "memory_bytes and remaining_ms are not negative"));
  core::RegisterWorker out{
      .worker = {.name = r.worker_name(), .host = r.host(), .slots = r.slots(), .build = r.build()},
      .known_incarnation = r.known_incarnation(),
      .known = {r.known_run(), absl::Microseconds(r.known_cluster_time_us())},
      .remaining = Remaining(r.remaining_ms())};
  out.worker.labels = absl::StrJoin(labels, ",");
  out.worker.memory_bytes = r.memory_bytes();
  RETURN_IF_ERROR(CheckText(r.gang(), 300, "gang"));
  out.worker.gang = r.gang();
  nlohmann::json devices = nlohmann::json::array();
  for (const v1::Device& d : r.devices()) {
    devices.push_back({{"kind", d.kind()}, {"name", d.name()}, {"memory_bytes", d.memory_bytes()}});
  }
  out.worker.devices_json = devices.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  RETURN_IF_ERROR(CheckText(out.worker.devices_json, kMaxLog, "devices"));
  for (const v1::AttemptState& a : r.attempts()) {
    ASSIGN_OR_RETURN(core::AttemptReport report, FromProto(a));
    out.attempts.push_back(std::move(report));
  }
  return out;
}

absl::StatusOr<core::Report> FromProto(const v1::ReportRequest& r) {
  RETURN_IF_ERROR(Check(r.attempts_size() <= kMaxAttempts && r.batches_size() <= kMaxAttempts,
                        "more than 10,000 attempts or batches in one report"));
  core::Report out{.session = SessionId{r.session_id()},
                   .generation = r.generation(),
                   .known_incarnation = r.known_incarnation(),
                   .known = {r.known_run(), absl::Microseconds(r.known_cluster_time_us())},
                   .draining = r.draining(),
                   .remaining = Remaining(r.remaining_ms())};
  for (const v1::AttemptState& a : r.attempts()) {
    ASSIGN_OR_RETURN(core::AttemptReport report, FromProto(a));
    out.attempts.push_back(std::move(report));
  }
  for (const v1::AttemptBatch& b : r.batches()) {
    ASSIGN_OR_RETURN(MeasurementBatchPtr batch, FromProto(b));
    out.batches.push_back(std::move(batch));
  }
  return out;
}

namespace {
// The same computation in smaller pieces, where the model allows that.
std::string WithMicroBatch(const std::string& config_json, int64_t micro_batch) {
  nlohmann::json config = nlohmann::json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return config_json;
  config["execution"]["micro_batch"] = micro_batch;
  const std::string text = config.dump();
  spec::TrialSpec spec;
  return spec::ParseResolved(text, &spec).empty() ? text : config_json;
}
}  // namespace

void ToProto(const core::Grant& g, v1::Assignment* out) {
  out->set_incarnation(g.incarnation);
  out->set_stage_id(g.attempt.stage.value);
  out->set_attempt(g.attempt.number);
  out->set_trial_id(g.trial.value);
  out->set_kind(g.kind);
  out->set_config_json(g.micro_batch > 0 ? WithMicroBatch(g.config_json, g.micro_batch)
                                         : g.config_json);
  out->set_stage_json(g.settings_json);
  out->set_until_step(g.until_step);
  out->set_checkpoint_path(g.checkpoint_path);
  out->set_checkpoint_digest(g.checkpoint_digest);
  out->set_checkpoint_step(g.checkpoint_step);
  out->set_resume(g.resume);
  out->set_exclusive(g.exclusive);
  out->set_fusion_key(g.fusion_key);
  out->set_bundle(g.bundle);
  out->set_bundle_rows(g.bundle_rows);
  out->set_keep_step(g.keep_step);
  if (g.ranks_here < g.ranks) {
    out->set_ranks_here(g.ranks_here);
    out->set_first_rank(g.first_rank);
    out->set_rendezvous(g.rendezvous);
    out->set_gang_secret(g.secret);
  }
}

void ToProto(const store::EventView& v, v1::Event* out) {
  out->set_id(v.id);
  out->set_time_us(v.row.time_us);
  out->set_kind(v.row.kind);
  out->set_sweep_id(v.row.sweep.value);
  out->set_trial_id(v.row.trial.value);
  out->set_stage(v.stage);
  out->set_attempt(v.row.attempt);
  out->set_worker(v.worker);
  out->set_detail(v.row.detail);
}

void ToProto(const core::Core::UserView& v, v1::User* out) {
  out->set_name(v.row.name);
  out->set_weight(v.row.weight);
  out->set_max_slots(v.row.max_slots);
  out->set_slots(v.slots);
  out->set_waiting(v.waiting);
  out->set_consumed_seconds(static_cast<double>(v.row.consumed_us) / 1e6);
}

void ToProto(const store::SweepView& v, v1::Sweep* out) {
  out->set_id(v.row.id.value);
  out->set_name(v.row.name);
  out->set_state(std::string(Name(v.row.state)));
  out->set_create_time_us(v.row.create_time_us);
  out->set_end_time_us(v.row.end_time_us);
  out->set_trials(v.row.trials);
  for (const auto& [state, n] : v.trials_by_state) (*out->mutable_trials_by_state())[state] = n;
  out->set_steps_done(v.steps_done);
  out->set_steps_total(v.steps_total);
  out->set_flops_done(v.flops_done);
  out->set_flops_total(v.flops_total);
  out->set_eta_seconds(-1);
  out->set_user(v.row.user);
  out->set_priority(v.row.priority);
  out->set_paused(v.row.paused);
  for (const std::string& tag : v.annotations.tags) out->add_tags(tag);
  out->set_note(v.annotations.note);
  out->set_origin_json(v.row.origin_json);
  out->set_imported(v.row.imported);
  out->set_objective(v.row.objective);
  out->set_objective_stage(v.row.objective_stage);
  out->set_objective_at(v.row.objective_at);
  out->set_maximize(v.row.maximize);
}

void ToProto(const store::TrialView& v, v1::Trial* out, TrialParts parts) {
  out->set_id(v.row.id.value);
  out->set_cell_id(v.cell_id);
  out->set_cell(v.cell.name);
  out->set_replicate(static_cast<int32_t>(v.link.replicate));
  out->set_aa(v.link.aa != 0);
  out->set_tune(v.link.tune != 0);
  out->set_state(std::string(Name(v.row.state)));
  for (const store::StageView& s : v.stages) {
    v1::Stage* stage = out->add_stages();
    stage->set_id(s.row.id.value);
    stage->set_name(s.row.name);
    stage->set_kind(s.row.kind);
    stage->set_parent(s.parent);
    stage->set_state(std::string(Name(s.row.state)));
    stage->set_step(s.row.step);
    stage->set_target_step(s.row.target_step);
    stage->set_checkpoint_step(s.row.checkpoint_step);
    stage->set_checkpoint_path(s.row.checkpoint_path);
    stage->set_branch_trial_id(s.branch_trial.value);
    stage->set_branch_step(s.row.branch_step);
    if (parts == TrialParts::kAll) {
      stage->set_settings_json(s.row.settings_json);
      stage->set_reason(s.row.reason);
      stage->set_labels(s.row.labels);
    }
    for (size_t i = 0; i < s.attempts.size(); ++i) {
      const AttemptRow& a = s.attempts[i];
      v1::Attempt* attempt = stage->add_attempts();
      attempt->set_number(a.id.number);
      attempt->set_worker(s.workers[i]);
      if (a.outcome) attempt->set_outcome(std::string(Name(*a.outcome)));
      attempt->set_cause(a.log_tail.empty() ? a.cause : a.log_tail);
      attempt->set_start_time_us(a.start_time_us);
      attempt->set_end_time_us(a.end_time_us);
      attempt->set_start_step(a.start_step);
      attempt->set_summary_json(a.summary_json);
    }
  }
  out->set_config_json(v.row.config_json);
  out->set_key(v.row.key);
  out->set_objective(v.objective);
  out->set_train_loss(v.train_loss);
  out->set_tokens_per_s(v.tokens_per_s);
  out->set_worker(v.worker);
  for (const std::string& tag : v.annotations.tags) out->add_tags(tag);
  out->set_note(v.annotations.note);
  out->set_foreign(v.annotations.foreign);
  out->set_origin_json(v.annotations.origin_json);
  out->set_params_total(v.row.params_total);
  out->set_params_non_embedding(v.row.params_non_embedding);
}

void ToProto(const core::Core::WorkerView& v, v1::Worker* out) {
  out->set_id(v.row.id.value);
  out->set_name(v.row.name);
  out->set_state(std::string(Name(v.row.state)));
  if (v.row.state == WorkerState::kConnected && v.suspect) out->set_state("suspect");
  if (v.quarantined > absl::ZeroDuration()) out->set_state("quarantined");
  for (absl::string_view label : absl::StrSplit(v.row.labels, ',', absl::SkipEmpty()))
    out->add_labels(std::string(label));
  out->set_memory_bytes(v.row.memory_bytes);
  out->set_memory_used(v.memory_used);
  out->set_quarantine_seconds(absl::ToDoubleSeconds(v.quarantined));
  out->set_on_probation(v.on_probation);
  if (v.remaining != absl::InfiniteDuration())
    out->set_remaining_seconds(std::max(0.0, absl::ToDoubleSeconds(v.remaining)));
  out->set_host(v.row.host);
  out->set_slots(static_cast<int32_t>(v.row.slots));
  out->set_busy(static_cast<int32_t>(v.used));
  out->set_silent_seconds(absl::ToDoubleSeconds(v.silent));
  out->set_build(v.row.build);
  const auto devices =
      nlohmann::json::parse(v.row.devices_json, nullptr, /*allow_exceptions=*/false);
  if (!devices.is_array()) return;
  for (const auto& d : devices) {
    if (d.is_object())
      out->add_devices(absl::StrCat(d.value("kind", ""), ": ", d.value("name", "")));
  }
}

}  // namespace plumb::coordinator
