// Sweeps that come with their results: begun, then trials slice by slice, each a transaction. What
// was interrupted goes on at its cursor.
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/convert.h"
#include "coordinator/edits.h"
#include "domain/status_macros.h"
#include "store/blobs.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;

constexpr size_t kMaxText = 1 << 20;
constexpr int kMaxTrials = 10'000;  // in one request
constexpr int64_t kMaxPoints = 1'000'000;

absl::Status Check(bool ok, absl::string_view what) {
  return ok ? absl::OkStatus() : absl::InvalidArgumentError(what);
}

absl::Status CheckObject(const std::string& text, absl::string_view what) {
  if (text.size() > kMaxText)
    return absl::InvalidArgumentError(absl::StrCat(what, ": at most 1 MiB"));
  const json j = json::parse(text, nullptr, false);
  return Check(j.is_object(), absl::StrCat(what, ": a JSON object"));
}

// Columns of the table by name, over those of the row.
absl::Status ReadColumns(const std::string& text, TrialRow* row) {
  const json j = json::parse(text, nullptr, false);
  RETURN_IF_ERROR(Check(j.is_object(), "trials.columns_json: a JSON object"));
  const std::map<std::string, int64_t*> integers = {
      {"n_layers", &row->n_layers},
      {"d_model", &row->d_model},
      {"n_heads", &row->n_heads},
      {"n_kv_heads", &row->n_kv_heads},
      {"head_dim", &row->head_dim},
      {"d_ff", &row->d_ff},
      {"vocab_size", &row->vocab_size},
      {"tied_head", &row->tied_head},
      {"seq_len", &row->seq_len},
      {"batch_tokens", &row->batch_tokens},
      {"steps", &row->steps},
      {"seed_init", &row->seed_init},
      {"seed_data", &row->seed_data},
      {"params_total", &row->params_total},
      {"params_non_embedding", &row->params_non_embedding},
      {"params_embedding", &row->params_embedding},
      {"flops_per_token", &row->flops_per_token},
      {"tokens", &row->tokens}};
  const std::map<std::string, std::string*> texts = {{"norm", &row->norm},
                                                     {"position", &row->position},
                                                     {"mlp", &row->mlp},
                                                     {"corpus", &row->corpus},
                                                     {"tokenizer", &row->tokenizer}};
  for (const auto& [name, value] : j.items()) {
    if (const auto i = integers.find(name); i != integers.end() && value.is_number_integer()) {
      *i->second = value.get<int64_t>();
    } else if (const auto t = texts.find(name);
               t != texts.end() && value.is_string() && value.get<std::string>().size() <= 200) {
      *t->second = value.get<std::string>();
    } else if (name == "lr" && value.is_number()) {
      row->lr = value.get<double>();
    } else if (name == "flops" && value.is_number()) {
      row->flops = value.get<double>();
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("trials.columns_json: ", name, ": no such column, or of another type"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<MeasurementBatchPtr> ReadResults(const v1::ImportedStage& s) {
  auto out = std::make_shared<MeasurementBatch>();
  int64_t points = 0;
  for (const v1::SeriesPoints& from : s.series()) {
    RETURN_IF_ERROR(Check(!from.name().empty() && from.name().size() <= 200,
                          "stages.series.name: 1 to 200 bytes"));
    MeasurementBatch::Series& to = out->series.emplace_back();
    to.name = from.name();
    to.layer = from.layer();
    to.definition_version = std::max<int64_t>(1, from.definition_version());
    for (const v1::Point& p : from.points()) {
      RETURN_IF_ERROR(Check(p.step() >= 0, "stages.series.points.step is negative"));
      to.points.push_back({p.step(), p.value()});
    }
    points += from.points_size();
  }
  RETURN_IF_ERROR(Check(points <= kMaxPoints, "stages.series: at most 1,000,000 points"));
  for (const v1::Record& r : s.records()) {
    RETURN_IF_ERROR(Check(r.kind().size() <= 200 && r.name().size() <= 200,
                          "stages.records: kind and name have at most 200 bytes"));
    RETURN_IF_ERROR(CheckObject(r.data_json(), "stages.records.data_json"));
    out->records.push_back({.kind = r.kind(),
                            .name = r.name(),
                            .idx = r.index(),
                            .step = r.step(),
                            .data_json = r.data_json()});
  }
  for (const v1::DocumentScore& d : s.documents()) {
    RETURN_IF_ERROR(Check(d.split().size() <= 200, "stages.documents.split: at most 200 bytes"));
    out->documents.push_back({.split = d.split(),
                              .document = d.document(),
                              .nll = d.nll(),
                              .tokens = d.tokens(),
                              .bytes = d.bytes()});
  }
  return MeasurementBatchPtr(std::move(out));
}

bool IsStage(const std::string& name) {
  return !name.empty() && name.size() <= 200 &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:") ==
             std::string::npos;
}

absl::StatusOr<core::ImportTrials::Imported> ReadTrial(const v1::ImportedTrial& t) {
  core::ImportTrials::Imported out{.foreign = t.foreign(), .origin_json = t.origin_json()};
  RETURN_IF_ERROR(Check(t.key().size() == 64, "trials.key: 64 hexadecimal digits"));
  RETURN_IF_ERROR(store::CheckDigest(t.key()));
  RETURN_IF_ERROR(Check(t.fusion_key().size() <= 64, "trials.fusion_key: at most 64 bytes"));
  RETURN_IF_ERROR(CheckObject(t.config_json(), "trials.config_json"));
  RETURN_IF_ERROR(CheckObject(t.origin_json(), "trials.origin_json"));
  RETURN_IF_ERROR(
      Check(t.stages_size() >= 1 && t.stages_size() <= 1000, "trials.stages: 1 to 1,000"));
  out.trial = {.cell_idx = t.cell(),
               .replicate = t.replicate(),
               .aa = t.aa() ? 1 : 0,
               .tune = t.tune() ? 1 : 0};
  TrialRow& row = out.trial.trial;
  row.key = t.key();
  row.fusion_key = t.fusion_key();
  row.config_json = t.config_json();
  RETURN_IF_ERROR(ReadColumns(t.columns_json(), &row));
  row.state = StageState::kSucceeded;
  std::set<std::string> names;
  for (const v1::ImportedStage& s : t.stages()) {
    const std::optional<StageState> state = StageStateFromName(s.state());
    if (!state || !IsTerminal(*state)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "stages.state: \"", s.state(), "\" is no end; what has not ended is not imported"));
    }
    RETURN_IF_ERROR(Check(s.parent().empty() || names.contains(s.parent()),
                          "stages.parent: a stage before it"));
    RETURN_IF_ERROR(Check(!s.name().empty() && s.name().size() <= 200 && s.kind().size() <= 200 &&
                              names.insert(s.name()).second,
                          "stages.name: 1 to 200 bytes, once in a trial"));
    RETURN_IF_ERROR(
        Check(s.called().empty() || IsStage(s.called()), "stages.called: the name of a stage"));
    out.called.push_back(s.called().empty() ? s.name() : s.called());
    RETURN_IF_ERROR(CheckObject(s.settings_json(), "stages.settings_json"));
    RETURN_IF_ERROR(Check(s.reason().size() <= 4096, "stages.reason: at most 4,096 bytes"));
    out.trial.stages.push_back({.name = s.name(),
                                .kind = s.kind(),
                                .settings_json = s.settings_json(),
                                .state = *state,
                                .target_step = s.target_step(),
                                .step = s.step(),
                                .attempts = s.attempts(),
                                .reason = s.reason()});
    out.trial.parents.push_back(s.parent());
    if (*state != StageState::kSucceeded && row.state == StageState::kSucceeded) row.state = *state;
    ASSIGN_OR_RETURN(MeasurementBatchPtr results, ReadResults(s));
    out.results.push_back(std::move(results));
  }
  return out;
}

std::string Number(double v) {
  if (!std::isfinite(v)) return "not finite";
  std::string out = absl::StrFormat("%.15g", v);
  if (std::strtod(out.c_str(), nullptr) != v) out = absl::StrFormat("%.17g", v);
  return out;
}

// Values of the imported trial that differ from those of the one that is there.
void Compare(const store::Reader::Held& here, const core::ImportTrials::Imported& there,
             int64_t place, v1::ImportTrialsResponse* response) {
  const auto differs = [&](const std::string& what, std::string ours, std::string theirs) {
    v1::ImportConflict* c = response->add_conflicts();
    c->set_trial_id(here.trial.value);
    c->set_place(place);
    c->set_what(what);
    c->set_here(std::move(ours));
    c->set_there(std::move(theirs));
  };
  const std::string state(Name(there.trial.trial.state));
  if (state != here.state) differs("state", here.state, state);
  if (here.state != "succeeded" || there.results.front() == nullptr) return;
  for (const MeasurementBatch::Series& s : there.results.front()->series) {
    if (s.layer != -1 || s.points.empty() || s.name.rfind("time/", 0) == 0 ||
        s.name.rfind("timing/", 0) == 0 || s.name.rfind("memory/", 0) == 0 ||
        s.name.find("per_s") != std::string::npos)
      continue;  // how it was computed, not what
    const auto it = here.last.find(s.name);
    if (it == here.last.end()) continue;
    const MeasurementBatch::Point& last =
        *std::max_element(s.points.begin(), s.points.end(),
                          [](const auto& a, const auto& b) { return a.step < b.step; });
    const bool same = it->second.step == last.step &&
                      (it->second.value == last.value ||
                       (!std::isfinite(it->second.value) && !std::isfinite(last.value)));
    if (!same) {
      differs(s.name, absl::StrCat(Number(it->second.value), " at step ", it->second.step),
              absl::StrCat(Number(last.value), " at step ", last.step));
    }
  }
}

}  // namespace

absl::Status Edits::ImportSweep(const v1::ImportSweepRequest& request,
                                v1::ImportSweepResponse* response) {
  RETURN_IF_ERROR(Check(!request.request_id().empty() && request.request_id().size() <= 200,
                        "request_id must have 1 to 200 bytes"));
  RETURN_IF_ERROR(Check(IsWord(request.name(), "-_."), "name: 1 to 64 letters, digits, - _ ."));
  RETURN_IF_ERROR(Check(request.objective().size() <= 200, "objective: at most 200 bytes"));
  RETURN_IF_ERROR(Check(request.objective_stage().empty() || IsStage(request.objective_stage()),
                        "objective_stage: the name of a stage"));
  RETURN_IF_ERROR(Check(request.objective_at().size() <= 40, "objective_at: at most 40 bytes"));
  RETURN_IF_ERROR(Check(request.sweep_yaml().size() <= kMaxText, "sweep_yaml: at most 1 MiB"));
  RETURN_IF_ERROR(CheckObject(request.origin_json(), "origin_json"));
  RETURN_IF_ERROR(
      Check(request.trials() >= 1 && request.trials() <= 1'000'000, "trials: 1 to 1,000,000"));
  RETURN_IF_ERROR(Check(request.user().empty() || IsWord(request.user(), "-_.@"),
                        "user: 1 to 64 letters, digits, - _ . @"));
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  if (!request.source_request_id().empty()) {
    ASSIGN_OR_RETURN(const SweepId there, reader->FindRequest(request.source_request_id()));
    if (there) {
      ASSIGN_OR_RETURN(const store::SweepView view, reader->Sweep(there));
      if (view.row.trials >= request.trials()) {
        response->set_sweep_id(there.value);
        response->set_present(true);
        return absl::OkStatus();
      }
    }
  }
  ASSIGN_OR_RETURN(
      const core::Answer answer,
      Do(core::SubmitSweep{
          .sweep = {
              .name = request.name(),
              .request_id = request.request_id(),
              .request_hash = spec::Sha256Hex(
                  absl::StrCat(request.name(), "\n", request.trials(), "\n", request.sweep_yaml())),
              .sweep_yaml = request.sweep_yaml(),
              .objective = request.objective(),
              .objective_stage = request.objective_stage(),
              .objective_at = request.objective_at().empty() ? "last" : request.objective_at(),
              .maximize = request.maximize(),
              .trials = request.trials(),
              .user = request.user(),
              .imported = true,
              .origin_json = request.origin_json()}}));
  const SweepId id = std::get<core::Submitted>(answer).sweep;
  ASSIGN_OR_RETURN(const store::SweepView view, reader->Sweep(id));
  response->set_sweep_id(id.value);
  response->set_cursor(view.row.cursor);
  response->set_complete(view.row.cursor >= view.row.trials);
  return absl::OkStatus();
}

absl::Status Edits::ImportTrials(const v1::ImportTrialsRequest& request,
                                 v1::ImportTrialsResponse* response) {
  RETURN_IF_ERROR(Check(request.trials_size() <= kMaxTrials && request.cells_size() <= kMaxTrials,
                        "trials, cells: at most 10,000 in one request"));
  core::ImportTrials event{.sweep = SweepId{request.sweep_id()}, .from = request.from()};
  for (const v1::ImportedCell& cell : request.cells()) {
    RETURN_IF_ERROR(Check(cell.name().size() <= 4096, "cells.name: at most 4,096 bytes"));
    RETURN_IF_ERROR(CheckObject(cell.axes_json(), "cells.axes_json"));
    RETURN_IF_ERROR(CheckObject(cell.tuned_json(), "cells.tuned_json"));
    RETURN_IF_ERROR(Check(json::parse(cell.flags_json(), nullptr, false).is_array(),
                          "cells.flags_json: a JSON list"));
    event.cells.push_back({.idx = request.from_cell() + std::ssize(event.cells),
                           .name = cell.name(),
                           .axes_json = cell.axes_json(),
                           .flags_json = cell.flags_json(),
                           .tuned_json = cell.tuned_json()});
  }
  auto trials = std::make_shared<std::vector<core::ImportTrials::Imported>>();
  std::vector<std::string> keys;
  for (const v1::ImportedTrial& t : request.trials()) {
    ASSIGN_OR_RETURN(core::ImportTrials::Imported trial, ReadTrial(t));
    keys.push_back(trial.trial.trial.key);
    trials->push_back(std::move(trial));
  }
  ASSIGN_OR_RETURN(store::Reader * reader, Reads());
  ASSIGN_OR_RETURN(const auto held, reader->FindByKey(keys));
  for (size_t i = 0; i < trials->size(); ++i) {
    const auto it = held.find(keys[i]);
    if (it == held.end()) continue;
    response->set_shared(response->shared() + 1);
    Compare(it->second, (*trials)[i], static_cast<int64_t>(i), response);
  }
  event.trials = std::move(trials);
  RETURN_IF_ERROR(Do(std::move(event)).status());
  ASSIGN_OR_RETURN(const store::SweepView view, reader->Sweep(SweepId{request.sweep_id()}));
  response->set_cursor(view.row.cursor);
  return absl::OkStatus();
}

}  // namespace plumb::coordinator
