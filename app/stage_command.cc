// plumb stage list|show|retry|run.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/checkpoint_stage.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/results.h"
#include "app/signals.h"
#include "app/table.h"
#include "domain/status_macros.h"
#include "sweeps/problem.h"
#include "sweeps/read_stages.h"
#include "sweeps/stage_files.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;
using Json = nlohmann::ordered_json;

Json Parsed(const std::string& text) {
  Json j = Json::parse(text.empty() ? "{}" : text, nullptr, false);
  return j.is_discarded() ? Json(text) : j;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// From --file, or from the kind and --settings.
absl::StatusOr<sweeps::LoneStage> StageOf(const StageArgs& args) {
  std::string text, source, folder;
  if (!args.file.empty()) {
    if (!args.kind.empty() || !args.settings.empty() || !args.name.empty() || !args.from.empty()) {
      return absl::InvalidArgumentError(
          "--file says all of the stage, as in a sweep file: {NAME: {from: PARENT, KIND: {…}}}; "
          "leave the kind, --settings, --name and --from out");
    }
    ASSIGN_OR_RETURN(text, ReadFile(args.file));
    source = args.file;
    folder = std::filesystem::path(args.file).parent_path().string();
  } else {
    if (args.kind.empty()) {
      return absl::InvalidArgumentError(
          "which kind of stage? plumb stage run evaluate, or --file stage.yaml; `plumb schema "
          "stages` lists the kinds");
    }
    const std::string settings = args.settings.empty() ? "{}" : args.settings;
    text = absl::StrCat(args.name.empty() ? args.kind : args.name, ": {",
                        args.from.empty() ? "" : absl::StrCat("from: \"", args.from, "\", "),
                        args.kind, ": ", settings[0] == '{' ? settings : "{" + settings + "}", "}");
    source = "stage";
  }
  ASSIGN_OR_RETURN(text, sweeps::PinStageFiles(text, source, folder));
  std::vector<sweeps::Problem> problems;
  auto stage = sweeps::ReadLoneStage(text, &problems);
  if (!stage || !problems.empty())
    return absl::InvalidArgumentError(sweeps::FormatProblems(problems, source, text));
  return *std::move(stage);
}

struct Outcome {
  std::string stage;
  v1::AddStagesResponse response;
};

int Print(const std::vector<Outcome>& outcomes, const StageArgs& args, Format format) {
  Table table{.columns = {{"trial"}, {"cell"}, {"rep"}, {"stage"}, {"result"}, {"detail"}}};
  std::map<std::string, int64_t> counts;
  for (const Outcome& o : outcomes) {
    for (const v1::AddedStage& t : o.response.trials()) {
      ++counts[t.result()];
      table.rows.push_back({t.trial_id(), t.cell(), int64_t{t.replicate()}, o.stage, t.result(),
                            t.result() == "refused" || t.detail() != o.stage ? t.detail() : ""});
    }
  }
  const int64_t work = counts["new"] + counts["retried"];
  if (format != Format::kTable) {
    std::fputs(Print(table, format).c_str(), stdout);
  } else {
    std::fputs(TableText(table, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
    std::printf("%s%s%lld %s, %lld there already, %lld refused%s\n", table.rows.empty() ? "" : "\n",
                args.dry_run ? "dry run: " : "", static_cast<long long>(work),
                args.dry_run ? "would run" : "to run", static_cast<long long>(counts["there"]),
                static_cast<long long>(counts["refused"]),
                args.dry_run && work > 0 ? "; without --dry-run they do" : "");
  }
  if (table.rows.empty()) {
    return Finish(absl::NotFoundError(
        args.where.empty() ? std::string("no trials there")
                           : absl::StrCat("no trial of which this holds: ", args.where)));
  }
  return counts["refused"] == std::ssize(table.rows) ? kConflict : kDone;
}

}  // namespace

int RunStage(const Context& context, const StageArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  absl::StatusOr<sweeps::LoneStage> stage = StageOf(args);
  if (!stage.ok()) return Finish(stage.status());
  if (!args.checkpoint.empty()) return RunStageOnCheckpoint(context, args, *stage);
  if (!args.text.empty() || !args.prepared.empty() || !args.out.empty()) {
    return Finish(absl::InvalidArgumentError(
        "--text, --data and --out go with --checkpoint DIR; trials have corpora of their own, and "
        "their results are in the database"));
  }
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  if (stage->from.empty()) stage->from.push_back("");
  std::vector<Outcome> outcomes;
  for (const std::string& parent : stage->from) {
    v1::AddStagesRequest request;
    request.set_sweep_id(args.sweep);
    for (int64_t id : args.trials) request.add_trial_ids(id);
    request.set_where(args.where);
    request.set_tune(args.tune);
    request.set_name(stage->fans_out ? absl::StrCat(stage->name, ":", parent) : stage->name);
    request.set_kind(stage->kind);
    request.set_settings_json(stage->settings_json);
    request.set_parent(parent);
    request.set_dry_run(args.dry_run);
    auto response = client->Call(&Stub::AddStages, request, std::chrono::seconds(300));
    if (!response.ok()) return Finish(response.status());
    outcomes.push_back({request.name(), *std::move(response)});
  }
  return Print(outcomes, args, *format);
}

int ListStages(const Context& context, const StageArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  std::vector<v1::Trial> trials;
  if (args.trials.empty()) {
    auto all = FetchTrials(context, args.sweep, "");
    if (!all.ok()) return Finish(all.status());
    trials = *std::move(all);
  }
  for (int64_t id : args.trials) {
    auto one = FetchTrial(context, id);
    if (!one.ok()) return Finish(one.status());
    trials.push_back(*std::move(one));
  }
  Table table{.columns = {{"trial"},
                          {"cell"},
                          {"rep"},
                          {"stage"},
                          {"kind"},
                          {"from"},
                          {"state"},
                          {"step"},
                          {"of"}}};
  int64_t left_out = 0;
  for (const v1::Trial& t : trials) {
    for (const v1::Stage& s : t.stages()) {
      if ((!args.kind.empty() && s.kind() != args.kind) ||
          (!args.name.empty() && s.name() != args.name) ||
          (!args.state.empty() && s.state() != args.state))
        continue;
      if (args.limit > 0 && std::ssize(table.rows) >= args.limit) {
        ++left_out;
        continue;
      }
      table.rows.push_back({t.id(), t.cell(), int64_t{t.replicate()}, s.name(), s.kind(),
                            s.parent(), s.state(), s.step(), s.target_step()});
    }
  }
  if (left_out > 0) {
    std::fprintf(stderr, "%lld more; --limit 0 shows all\n", static_cast<long long>(left_out));
  }
  return Show(table, context);
}

int ShowStage(const Context& context, const StageArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  auto trial = FetchTrial(context, args.trial);
  if (!trial.ok()) return Finish(trial.status());
  std::vector<std::string> names, after;
  const v1::Stage* stage = nullptr;
  for (const v1::Stage& s : trial->stages()) {
    names.push_back(s.name());
    if (s.name() == args.name) stage = &s;
    if (s.parent() == args.name) after.push_back(s.name());
  }
  if (stage == nullptr) {
    const std::string near = Nearest(args.name, names);
    return Finish(absl::NotFoundError(
        absl::StrCat("trial ", trial->id(), " has no stage ", args.name, "; ",
                     near.empty() ? absl::StrCat("it has ", absl::StrJoin(names, ", "))
                                  : absl::StrCat("did you mean ", near, "?"))));
  }
  Table attempts{
      .columns = {{"attempt"}, {"worker"}, {"outcome"}, {"from step"}, {"seconds", 1}, {"cause"}}};
  Json json_attempts = Json::array();
  for (const v1::Attempt& a : stage->attempts()) {
    const auto seconds = a.end_time_us() > 0
                             ? Value(static_cast<double>(a.end_time_us() - a.start_time_us()) / 1e6)
                             : Value();
    attempts.rows.push_back({a.number(), a.worker(), a.outcome().empty() ? "running" : a.outcome(),
                             a.start_step(), seconds, a.cause()});
    json_attempts.push_back({{"number", a.number()},
                             {"worker", a.worker()},
                             {"outcome", a.outcome()},
                             {"cause", a.cause()},
                             {"start_step", a.start_step()},
                             {"start_time_us", a.start_time_us()},
                             {"end_time_us", a.end_time_us()},
                             {"summary", Parsed(a.summary_json())}});
  }
  if (*format == Format::kCsv) {
    std::fputs(TableCsv(attempts).c_str(), stdout);
    return kDone;
  }
  if (*format != Format::kTable) {
    const Json j = {{"trial", trial->id()},
                    {"name", stage->name()},
                    {"kind", stage->kind()},
                    {"from", stage->parent()},
                    {"before", after},
                    {"state", stage->state()},
                    {"reason", stage->reason()},
                    {"step", stage->step()},
                    {"target_step", stage->target_step()},
                    {"checkpoint_step", stage->checkpoint_step()},
                    {"checkpoint_path", stage->checkpoint_path()},
                    {"labels", stage->labels()},
                    {"settings", Parsed(stage->settings_json())},
                    {"attempts", json_attempts}};
    std::printf("%s\n", j.dump(*format == Format::kJson ? 2 : -1, ' ', false,
                               Json::error_handler_t::replace)
                            .c_str());
    return kDone;
  }
  std::printf("%s of trial %lld: %s, %s%s%s\n", stage->name().c_str(),
              static_cast<long long>(trial->id()), stage->kind().c_str(), stage->state().c_str(),
              stage->reason().empty() ? "" : ": ", Printable(stage->reason()).c_str());
  std::printf("from %s; step %lld of %lld%s%s\n",
              stage->parent().empty() ? "nothing" : stage->parent().c_str(),
              static_cast<long long>(stage->step()), static_cast<long long>(stage->target_step()),
              after.empty() ? "" : "; before ", absl::StrJoin(after, ", ").c_str());
  if (stage->checkpoint_step() >= 0)
    std::printf("checkpoint of step %lld: %s\n", static_cast<long long>(stage->checkpoint_step()),
                Printable(stage->checkpoint_path()).c_str());
  if (!stage->labels().empty())
    std::printf("on workers labelled %s\n", Printable(stage->labels()).c_str());
  std::printf("settings %s\n", Printable(stage->settings_json()).c_str());
  if (!attempts.rows.empty())
    std::printf("\n%s", TableText(attempts, StdoutIsTerminal() ? TerminalWidth() : 0).c_str());
  return kDone;
}

int RetryStage(const Context& context, const StageArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::RetryTrialRequest request;
  request.set_trial_id(args.trial);
  request.set_stage(args.name);
  auto response = client->Call(&Stub::RetryTrial, request);
  if (!response.ok()) return Finish(response.status());
  const auto after = response->retried_stages() - 1;
  std::printf("trial %lld: %s waits again%s\n", static_cast<long long>(request.trial_id()),
              args.name.c_str(),
              after > 0 ? absl::StrCat(", with ", after, " after it").c_str() : "");
  return kDone;
}

}  // namespace plumb::app
