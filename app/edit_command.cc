// plumb sweep extend|edit|retry|fork|diff.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results.h"
#include "app/submit.h"
#include "app/table.h"
#include "app/writer.h"
#include "domain/status_macros.h"
#include "sweeps/diff.h"
#include "sweeps/edit_text.h"
#include "sweeps/sweep_file.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parse.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;
using Json = nlohmann::ordered_json;
using sweeps::TextEdit;

// What the trials have where the field is no axis; "" where it is not known or not one value.
std::string BaseValue(Client& client, int64_t sweep, const std::string& path) {
  v1::ListTrialsRequest request;
  request.set_sweep_id(sweep);
  request.set_page_size(1);
  const auto trials = client.Call(&Stub::ListTrials, request);
  if (!trials.ok() || trials->trials().empty()) return "";
  spec::TrialSpec spec;
  if (!spec::ParseResolved(trials->trials(0).config_json(), &spec).empty()) return "";
  for (const spec::Field& f : spec::Fields(spec)) {
    if (f.path != path && spec::ShortName(f.path) != path) continue;
    const nlohmann::json value = f.get();
    return value.is_string() ? value.get<std::string>() : value.dump();
  }
  return "";
}

absl::StatusOr<std::string> NewText(Client& client, const EditArgs& args, const std::string& text) {
  std::vector<TextEdit> edits;
  for (const std::string& axis : args.axes) {
    ASSIGN_OR_RETURN(TextEdit edit, sweeps::ParseAxis(axis, TextEdit::Kind::kAddValues));
    edit.base = BaseValue(client, args.id, edit.path);
    edits.push_back(std::move(edit));
  }
  for (const std::string& axis : args.drops) {
    ASSIGN_OR_RETURN(TextEdit edit, sweeps::ParseAxis(axis, TextEdit::Kind::kDropValues));
    edits.push_back(std::move(edit));
  }
  if (args.replicates > 0)
    edits.push_back({.path = "replicates", .value = absl::StrCat(args.replicates)});
  for (const std::string& set : args.sets) {
    ASSIGN_OR_RETURN(TextEdit edit, sweeps::ParseSet(set));
    edits.push_back(std::move(edit));
  }
  if (!args.file.empty() && !edits.empty()) {
    return absl::InvalidArgumentError(
        "--file is the whole new text; give it alone, or --axis, --replicates, --set without it");
  }
  if (!args.file.empty()) return ReadSweepFile(args.file);
  if (edits.empty()) {
    return absl::InvalidArgumentError(
        "nothing to change; give --replicates 5, --axis model.n_layers=16,32, --set "
        "limits.trials=200 or --file new.yaml");
  }
  return sweeps::EditText(text, edits);
}

std::string Some(const google::protobuf::RepeatedPtrField<std::string>& names) {
  constexpr int kShown = 8;
  std::string out;
  for (int i = 0; i < std::min(kShown, names.size()); ++i)
    absl::StrAppend(&out, "\n  ", Printable(names[i]));
  if (names.size() > kShown) absl::StrAppend(&out, "\n  … and ", names.size() - kShown, " more");
  return out;
}

bool IsFileName(const std::string& text) {
  return absl::EndsWith(text, ".yaml") || absl::EndsWith(text, ".yml") ||
         absl::StrContains(text, "/");
}

absl::StatusOr<sweeps::SweepSide> SideFor(const Context& context, const EditArgs& args,
                                          const std::string& name) {
  int64_t id = 0;
  if (!absl::SimpleAtoi(name, &id)) {
    ASSIGN_OR_RETURN(const std::string yaml, ReadSweepFile(name));
    ASSIGN_OR_RETURN(const sweeps::SweepPlan plan,
                     PlanText(yaml, name, args.data_root, args.assume_tokens));
    return sweeps::SideOf(plan, name);
  }
  ASSIGN_OR_RETURN(const v1::GetSweepResponse sweep, FetchSweep(context, id));
  ASSIGN_OR_RETURN(const std::vector<v1::Trial> trials, FetchTrials(context, id, ""));
  sweeps::SweepSide side{.label = absl::StrCat("sweep ", id, " (", sweep.sweep().name(), ")"),
                         .name = sweep.sweep().name()};
  for (const v1::Trial& t : trials) {
    side.trials.push_back({.cell = t.cell(),
                           .key = t.aa() ? sweeps::AaKey(t.config_json()) : t.key(),
                           .config_json = t.config_json(),
                           .replicate = t.replicate(),
                           .aa = t.aa(),
                           .tune = t.tune()});
  }
  return side;
}

}  // namespace

int EditSweepCommand(const Context& context, const EditArgs& args, bool may_remove) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  absl::StatusOr<Writer> writer = Writer::Open(context);
  if (!writer.ok()) return Finish(writer.status());
  Client& client = writer->client();
  v1::GetSweepRequest get;
  get.set_sweep_id(args.id);
  auto sweep = client.Call(&Stub::GetSweep, get);
  if (!sweep.ok()) return Finish(sweep.status());
  absl::StatusOr<std::string> text = NewText(client, args, sweep->sweep_yaml());
  if (!text.ok()) return Finish(text.status());
  v1::ExtendSweepRequest request;
  request.set_request_id(args.request_id.empty() ? NewRequestId() : args.request_id);
  request.set_sweep_id(args.id);
  request.set_sweep_yaml(*text);
  request.set_file_name(args.file.empty() ? absl::StrCat("sweep ", args.id) : args.file);
  request.set_user(ThisUser());
  request.set_may_remove(may_remove);
  request.set_validate_only(args.dry_run);
  request.set_reason(args.reason);
  auto response = client.Call(&Stub::ExtendSweep, request, std::chrono::seconds(120));
  if (!response.ok()) return Finish(response.status());
  if (*format == Format::kJson || *format == Format::kJsonl) {
    Json j = {{"sweep", args.id},
              {"dry_run", args.dry_run},
              {"trials", response->trials()},
              {"new_cells", std::vector<std::string>(response->new_cells().begin(),
                                                     response->new_cells().end())},
              {"removed_cells", std::vector<std::string>(response->removed_cells().begin(),
                                                         response->removed_cells().end())},
              {"cancelled_stages", response->cancelled_stages()},
              {"repeated_request", response->repeated_request()}};
    std::printf("%s\n", j.dump(*format == Format::kJson ? 2 : -1, ' ', false,
                               Json::error_handler_t::replace)
                            .c_str());
    return kDone;
  }
  std::printf("sweep %lld %s %lld trials%s", static_cast<long long>(args.id),
              args.dry_run ? "would gain" : "gains", static_cast<long long>(response->trials()),
              response->repeated_request() ? " (by this request, before)" : "");
  if (!response->new_cells().empty())
    std::printf(", %d new cells:%s", response->new_cells_size(),
                Some(response->new_cells()).c_str());
  std::printf("\n");
  if (!response->removed_cells().empty() && args.dry_run) {
    std::printf("would be taken out:%s\n", Some(response->removed_cells()).c_str());
  } else if (!response->removed_cells().empty()) {
    std::printf("taken out, with %lld pending stages:%s\n",
                static_cast<long long>(response->cancelled_stages()),
                Some(response->removed_cells()).c_str());
  }
  return kDone;
}

int RetrySweepCommand(const Context& context, const EditArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::RetrySweepRequest request;
  request.set_sweep_id(args.id);
  for (const std::string& state : args.states) request.add_states(state);
  for (const std::string& cell : args.cells) request.add_cells(cell);
  request.set_user(ThisUser());
  auto response = client->Call(&Stub::RetrySweep, request, std::chrono::seconds(600));
  if (!response.ok()) return Finish(response.status());
  return Show(
      {.columns = {{"sweep"}, {"retried_trials"}, {"retried_stages"}},
       .rows = {{response->sweep_id(), response->retried_trials(), response->retried_stages()}}},
      context);
}

int ForkSweepCommand(const Context& asked, const EditArgs& asked_args) {
  Context context = asked;
  EditArgs args = asked_args;
  // `-o new.yaml` is what one writes; -o is the output format everywhere.
  if (args.out.empty() && IsFileName(context.format)) {
    args.out = context.format;
    context.format = "table";
  }
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  if (!args.submit && args.out.empty())
    return Finish(absl::InvalidArgumentError(
        "where does the copy go? --out new.yaml writes it, --submit hands it to the server"));
  const auto run = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const v1::GetSweepResponse from, FetchSweep(context, args.id));
    if (from.sweep().imported()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "sweep ", from.sweep().id(), " was imported: its trials were not planned here"));
    }
    std::vector<TextEdit> edits;
    bool named = false;
    for (const std::string& set : args.sets) {
      ASSIGN_OR_RETURN(TextEdit edit, sweeps::ParseSet(set));
      named |= edit.path == "sweep";
      edits.push_back(std::move(edit));
    }
    if (!named) {
      edits.push_back(
          {.path = "sweep",
           .value = args.name.empty() ? absl::StrCat(from.sweep().name(), "-fork") : args.name});
    }
    ASSIGN_OR_RETURN(std::string text, sweeps::EditText(from.sweep_yaml(), edits));
    const Json origin = {
        {"fork", from.sweep().id()}, {"of", from.sweep().name()}, {"set", args.sets}};
    text = sweeps::WithFork(text, origin.dump(-1, ' ', false, Json::error_handler_t::replace));
    std::vector<sweeps::Problem> problems;
    (void)sweeps::ReadSweepFile(text, &problems);
    const std::string name = args.out.empty() ? "fork.yaml" : args.out;
    if (!problems.empty())
      return absl::InvalidArgumentError(sweeps::FormatProblems(problems, name, text));
    if (!args.out.empty()) {
      if (std::filesystem::exists(args.out)) {
        return absl::FailedPreconditionError(absl::StrCat(args.out, " exists; give another name"));
      }
      std::ofstream out(args.out, std::ios::binary);
      out << text;
      out.close();
      if (!out) return absl::NotFoundError(absl::StrCat("cannot write ", args.out));
      if (!args.submit && *format == Format::kTable) {
        std::printf("%s\nwhat is new in it: plumb sweep diff %lld %s\n", args.out.c_str(),
                    static_cast<long long>(from.sweep().id()), args.out.c_str());
      }
    }
    if (!args.submit) return absl::OkStatus();
    ASSIGN_OR_RETURN(Client client, Client::Connect(context));
    ASSIGN_OR_RETURN(const auto response, Submit(client, text, name, NewRequestId()));
    if (Show({.columns = {{"sweep"}, {"trials"}, {"fork_of"}},
              .rows = {{response.sweep_id(), response.trials(), from.sweep().id()}}},
             context) != kDone)
      return absl::InternalError("printing failed");
    return absl::OkStatus();
  };
  return Finish(run());
}

int DiffSweepsCommand(const Context& context, const EditArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  absl::StatusOr<sweeps::SweepSide> a = SideFor(context, args, args.a);
  if (!a.ok()) return Finish(a.status());
  absl::StatusOr<sweeps::SweepSide> b = SideFor(context, args, args.b);
  if (!b.ok()) return Finish(b.status());
  const sweeps::SweepDiff diff = sweeps::Diff(*a, *b);
  const bool json = *format == Format::kJson || *format == Format::kJsonl;
  std::printf("%s%s", (json ? sweeps::DiffJson(diff) : sweeps::DiffText(diff)).c_str(),
              json ? "\n" : "");
  return kDone;
}

}  // namespace plumb::app
