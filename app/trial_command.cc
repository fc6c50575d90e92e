// plumb trial list|show|lineage|logs|explain|cancel|retry.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/lineage.h"
#include "app/results.h"
#include "app/signals.h"
#include "app/table.h"
#include "store/sqlite.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;
using Json = nlohmann::ordered_json;

Json Finite(double v) { return std::isfinite(v) ? Json(v) : Json(); }

Json Parsed(const std::string& text) {
  Json j = Json::parse(text, nullptr, false);
  return j.is_discarded() ? Json(text) : j;
}

Json TrialJson(const v1::Trial& t) {
  Json j = {{"id", t.id()},
            {"cell_id", t.cell_id()},
            {"cell", t.cell()},
            {"replicate", t.replicate()},
            {"aa", t.aa()},
            {"tune", t.tune()},
            {"state", t.state()},
            {"objective", Finite(t.objective())},
            {"train_loss", Finite(t.train_loss())},
            {"tokens_per_s", Finite(t.tokens_per_s())},
            {"worker", t.worker()},
            {"params_total", t.params_total()},
            {"params_non_embedding", t.params_non_embedding()},
            {"key", t.key()},
            {"tags", std::vector<std::string>(t.tags().begin(), t.tags().end())},
            {"note", t.note()},
            {"foreign", t.foreign()},
            {"origin", t.origin_json().empty() ? Json() : Parsed(t.origin_json())},
            {"config", Parsed(t.config_json())}};
  j["stages"] = Json::array();
  for (const v1::Stage& s : t.stages()) {
    Json stage = {{"id", s.id()},
                  {"name", s.name()},
                  {"kind", s.kind()},
                  {"parent", s.parent()},
                  {"state", s.state()},
                  {"step", s.step()},
                  {"target_step", s.target_step()},
                  {"checkpoint_step", s.checkpoint_step()},
                  {"checkpoint_path", s.checkpoint_path()}};
    if (s.branch_trial_id() > 0) {
      stage["branch_trial_id"] = s.branch_trial_id();
      stage["branch_step"] = s.branch_step();
    }
    stage["attempts"] = Json::array();
    for (const v1::Attempt& a : s.attempts()) {
      stage["attempts"].push_back({{"number", a.number()},
                                   {"worker", a.worker()},
                                   {"outcome", a.outcome()},
                                   {"cause", a.cause()},
                                   {"start_step", a.start_step()},
                                   {"start_time_us", a.start_time_us()},
                                   {"end_time_us", a.end_time_us()},
                                   {"summary", Parsed(a.summary_json())}});
    }
    j["stages"].push_back(std::move(stage));
  }
  return j;
}

// Lines, each after a line break.
std::string Remarks(const v1::Trial& t) {
  std::string out;
  if (t.foreign()) absl::StrAppend(&out, "\nforeign: not trained by Plumb");
  if (!t.origin_json().empty()) absl::StrAppend(&out, "\nfrom ", Printable(t.origin_json()));
  if (!t.tags().empty()) absl::StrAppend(&out, "\ntags: ", absl::StrJoin(t.tags(), ", "));
  if (!t.note().empty()) absl::StrAppend(&out, "\nnote: ", Printable(t.note()));
  return out;
}

void Steps(const v1::Trial& t, int64_t* done, int64_t* target) {
  for (const v1::Stage& s : t.stages()) {
    *done += s.step();
    *target += s.target_step();
  }
}

}  // namespace

int ListTrials(const Context& context, const TrialArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  // One more than is shown tells that there are more.
  auto trials =
      FetchTrials(context, args.sweep, args.state, args.limit > 0 ? args.limit + 1 : 0, args.tag);
  if (!trials.ok()) return Finish(trials.status());
  if (args.limit > 0 && std::ssize(*trials) > args.limit) {
    trials->resize(args.limit);
    std::fprintf(stderr, "the first %lld; --limit 0 shows all\n",
                 static_cast<long long>(args.limit));
  }
  Table table{.columns = {{"id"},
                          {"cell"},
                          {"rep"},
                          {"aa"},
                          {"tune"},
                          {"state"},
                          {"step"},
                          {"of"},
                          {"objective", 4},
                          {"train_loss", 4},
                          {"foreign"},
                          {"tags"}}};
  for (const v1::Trial& t : *trials) {
    int64_t done = 0, target = 0;
    Steps(t, &done, &target);
    table.rows.push_back({t.id(), t.cell(), int64_t{t.replicate()}, int64_t{t.aa()},
                          int64_t{t.tune()}, t.state(), done, target, t.objective(), t.train_loss(),
                          int64_t{t.foreign()}, absl::StrJoin(t.tags(), ",")});
  }
  std::fputs(Print(table, *format, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  return kDone;
}

int ShowTrial(const Context& context, const TrialArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  auto trial = FetchTrial(context, args.id);
  if (!trial.ok()) return Finish(trial.status());
  if (*format == Format::kJson || *format == Format::kJsonl) {
    std::printf("%s\n", TrialJson(*trial)
                            .dump(*format == Format::kJson ? 2 : -1, ' ', false,
                                  Json::error_handler_t::replace)
                            .c_str());
    return kDone;
  }
  Table stages{.columns = {{"stage"},
                           {"kind"},
                           {"state"},
                           {"step"},
                           {"of"},
                           {"checkpoint"},
                           {"attempt"},
                           {"outcome"},
                           {"worker"},
                           {"cause"}}};
  for (const v1::Stage& s : trial->stages()) {
    const auto checkpoint = s.checkpoint_step() >= 0 ? Value(s.checkpoint_step()) : Value();
    if (s.attempts().empty()) {
      stages.rows.push_back({s.name(), s.kind(), s.state(), s.step(), s.target_step(), checkpoint,
                             Value(), "", "", ""});
    }
    for (const v1::Attempt& a : s.attempts()) {
      stages.rows.push_back({s.name(), s.kind(), s.state(), s.step(), s.target_step(), checkpoint,
                             a.number(), a.outcome().empty() ? "running" : a.outcome(), a.worker(),
                             a.cause()});
    }
  }
  if (*format == Format::kCsv) {
    std::fputs(TableCsv(stages).c_str(), stdout);
    return kDone;
  }
  std::printf(
      "trial %lld: %s, %s, replicate %d%s%s\nobjective %s, train/loss %s\n%s parameters (%s "
      "without "
      "embeddings)\n\n%s\nconfig %s\n",
      static_cast<long long>(trial->id()), trial->state().c_str(), Printable(trial->cell()).c_str(),
      trial->replicate(),
      trial->aa()     ? ", A/A"
      : trial->tune() ? ", tuning"
                      : "",
      Remarks(*trial).c_str(), Number(trial->objective()).c_str(),
      Number(trial->train_loss()).c_str(), Scaled(trial->params_total()).c_str(),
      Scaled(trial->params_non_embedding()).c_str(),
      TableText(stages, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(),
      trial->config_json().c_str());
  for (const v1::Stage& s : trial->stages()) {
    if (s.branch_trial_id() == 0) continue;
    std::printf(
        "%s began from step %lld of trial %lld; all of its family: plumb trial lineage %lld\n",
        s.name().c_str(), static_cast<long long>(s.branch_step()),
        static_cast<long long>(s.branch_trial_id()), static_cast<long long>(trial->id()));
  }
  return kDone;
}

int TrialLineage(const Context& context, const TrialArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  const absl::StatusOr<std::string> path = DatabasePath(context);
  if (!path.ok()) return Finish(path.status());
  auto db = store::Database::Open(*path, store::Database::Mode::kReadOnly);
  if (!db.ok()) return Finish(db.status());
  const auto family = ReadLineage(*db, args.id);
  if (!family.ok()) return Finish(family.status());
  if (args.dot) {
    std::fputs(LineageDot(*family, args.id).c_str(), stdout);
  } else if (*format == Format::kTable) {
    std::fputs(DrawLineage(*family, args.id).c_str(), stdout);
  } else {
    std::fputs(Print(LineageTable(*family), *format, 0).c_str(), stdout);
  }
  return kDone;
}

int TrialLogs(const Context& context, const TrialArgs& args) {
  const absl::StatusOr<std::string> path = DatabasePath(context);  // only it has the log's tail
  if (!path.ok()) return Finish(path.status());
  auto db = store::Database::Open(*path, store::Database::Mode::kReadOnly);
  if (!db.ok()) return Finish(db.status());
  auto rows = db->Prepare(
      "SELECT s.name, a.number, coalesce(a.outcome, 'running'), a.cause, a.log_tail, s.id FROM "
      "stage s "
      "JOIN attempt a ON a.stage_id = s.id WHERE s.trial_id = ? ORDER BY s.id, a.number");
  if (!rows.ok()) return Finish(rows.status());
  rows->Bind(1, args.id);
  int n = 0;
  for (;;) {
    absl::StatusOr<bool> more = rows->Step();
    if (!more.ok()) return Finish(more.status());
    if (!*more) break;
    ++n;
    std::printf("==> %s, attempt %lld: %s%s%s\n%s\n", rows->Text(0).c_str(),
                static_cast<long long>(rows->Int(1)), rows->Text(2).c_str(),
                rows->Text(3).empty() ? "" : ", ", rows->Text(3).c_str(),
                rows->Text(4).empty() ? "(no output kept)" : rows->Text(4).c_str());
  }
  if (n == 0) {
    return Finish(absl::NotFoundError(absl::StrCat("trial ", args.id, " has no attempts in ", *path,
                                                   "; why: plumb trial explain ", args.id)));
  }
  return kDone;
}

namespace {
int PrintLines(const Context& context, const google::protobuf::RepeatedPtrField<std::string>& all) {
  if (context.format == "json") {
    Json lines = Json::array();
    for (const std::string& line : all) lines.push_back(line);
    std::printf("%s\n", lines.dump(2).c_str());
    return kDone;
  }
  for (const std::string& line : all) std::printf("%s\n", Printable(line).c_str());
  return kDone;
}
}  // namespace

int ExplainWorker(const Context& context, const std::string& name) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::ExplainWorkerRequest request;
  request.set_name(name);
  auto response = client->Call(&Stub::ExplainWorker, request);
  if (!response.ok()) return Finish(response.status());
  return PrintLines(context, response->lines());
}

int ExplainTrial(const Context& context, const TrialArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::ExplainTrialRequest request;
  request.set_trial_id(args.id);
  auto response = client->Call(&Stub::ExplainTrial, request);
  if (!response.ok()) return Finish(response.status());
  return PrintLines(context, response->lines());
}

int CancelTrial(const Context& context, const TrialArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::CancelTrialRequest request;
  request.set_trial_id(args.id);
  auto response = client->Call(&Stub::CancelTrial, request);
  if (!response.ok()) return Finish(response.status());
  std::printf("trial %lld: %lld stages cancelled\n", static_cast<long long>(args.id),
              static_cast<long long>(response->cancelled_stages()));
  return kDone;
}

int RetryTrial(const Context& context, const TrialArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::RetryTrialRequest request;
  request.set_trial_id(args.id);
  auto response = client->Call(&Stub::RetryTrial, request);
  if (!response.ok()) return Finish(response.status());
  std::printf("trial %lld: %lld stages wait again\n", static_cast<long long>(args.id),
              static_cast<long long>(response->retried_stages()));
  return kDone;
}

}  // namespace plumb::app
