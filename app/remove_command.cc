// plumb sweep remove, plumb trial remove, plumb server retain; plumb export sqlite.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results.h"
#include "app/submit.h"
#include "app/table.h"
#include "app/writer.h"
#include "store/extract.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;
using Json = nlohmann::ordered_json;

// "90d", or what absl reads ("36h").
absl::StatusOr<absl::Duration> ParseAge(const std::string& text) {
  absl::Duration age;
  double days = 0;
  if (absl::EndsWith(text, "d") && absl::SimpleAtod(text.substr(0, text.size() - 1), &days)) {
    age = absl::Hours(24) * days;
  } else if (!absl::ParseDuration(text, &age)) {
    age = absl::ZeroDuration();
  }
  if (age > absl::ZeroDuration() && age < absl::InfiniteDuration()) return age;
  return absl::InvalidArgumentError(
      absl::StrCat("--older-than ", text, ": expected a time, as 90d or 36h"));
}

int Print(const Context& context, const v1::Removal& r, bool really, const std::string& command) {
  const absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  if (*format == Format::kJson || *format == Format::kJsonl) {
    const Json j = {{"removed", really},
                    {"sweeps", std::vector<int64_t>(r.sweep_ids().begin(), r.sweep_ids().end())},
                    {"trials", r.trials()},
                    {"shared_trials", r.shared_trials()},
                    {"pinned_trials", r.pinned_trials()},
                    {"needed_trials", r.needed_trials()},
                    {"points", r.points()},
                    {"records", r.records()},
                    {"attempts", r.attempts()},
                    {"checkpoints", r.checkpoints()},
                    {"checkpoint_bytes", r.checkpoint_bytes()},
                    {"kept", std::vector<std::string>(r.kept().begin(), r.kept().end())}};
    std::printf("%s\n", j.dump(*format == Format::kJson ? 2 : -1, ' ', false,
                               Json::error_handler_t::replace)
                            .c_str());
    return kDone;
  }
  std::printf(
      "%s%s%s%lld trials with %lld points, %lld records, %lld attempts, %lld checkpoints "
      "(%sB)\n",
      really ? "removed: " : "would go: ",
      r.sweep_ids().empty() ? ""
                            : absl::StrCat(r.sweep_ids_size() == 1 ? "sweep " : "sweeps ",
                                           absl::StrJoin(r.sweep_ids(), ", "))
                                  .c_str(),
      r.sweep_ids().empty() ? "" : "; ", static_cast<long long>(r.trials()),
      static_cast<long long>(r.points()), static_cast<long long>(r.records()),
      static_cast<long long>(r.attempts()), static_cast<long long>(r.checkpoints()),
      Scaled(static_cast<double>(r.checkpoint_bytes())).c_str());
  if (r.shared_trials() > 0)
    std::printf("%lld trials stay: other sweeps have them\n",
                static_cast<long long>(r.shared_trials()));
  if (r.pinned_trials() > 0)
    std::printf("%lld trials stay: they are pinned\n", static_cast<long long>(r.pinned_trials()));
  if (r.needed_trials() > 0) {
    std::printf("%lld trials stay as long as those that began from their checkpoints\n",
                static_cast<long long>(r.needed_trials()));
  }
  for (const std::string& line : r.kept()) std::printf("%s\n", Printable(line).c_str());
  if (!really && (r.trials() > 0 || !r.sweep_ids().empty()))
    std::printf("nothing is removed yet; for good: %s --yes\n", command.c_str());
  return kDone;
}

}  // namespace

int RemoveSweepsCommand(const Context& context, const RemoveArgs& args) {
  v1::RemoveSweepsRequest request;
  std::string command = "plumb sweep remove";
  for (const int64_t id : args.ids) {
    request.add_sweep_ids(id);
    absl::StrAppend(&command, " ", id);
  }
  if (args.ids.empty()) {
    const absl::StatusOr<absl::Duration> age = ParseAge(args.older_than);
    if (!age.ok()) return Finish(age.status());
    request.set_ended_before_us(std::max<int64_t>(1, absl::ToUnixMicros(absl::Now() - *age)));
    request.set_keep_tagged(args.keep_tagged);
    command = absl::StrCat("plumb server retain --older-than ", args.older_than,
                           args.keep_tagged ? " --keep-tagged" : "");
  }
  request.set_really(args.really);
  request.set_user(ThisUser());
  absl::StatusOr<Writer> writer = Writer::Open(context);
  if (!writer.ok()) return Finish(writer.status());
  auto response =
      writer->client().Call(&Stub::RemoveSweeps, request, std::chrono::seconds(24 * 3600));
  if (!response.ok()) return Finish(response.status());
  return Print(context, response->removal(), args.really, command);
}

int RemoveTrialsCommand(const Context& context, const RemoveArgs& args) {
  v1::RemoveTrialsRequest request;
  std::string command = "plumb trial remove";
  for (const int64_t id : args.ids) {
    request.add_trial_ids(id);
    absl::StrAppend(&command, " ", id);
  }
  request.set_really(args.really);
  request.set_user(ThisUser());
  absl::StatusOr<Writer> writer = Writer::Open(context);
  if (!writer.ok()) return Finish(writer.status());
  auto response =
      writer->client().Call(&Stub::RemoveTrials, request, std::chrono::seconds(24 * 3600));
  if (!response.ok()) return Finish(response.status());
  return Print(context, response->removal(), args.really, command);
}

int ExportDatabase(const Context& context, const ExportArgs& args) {
  const absl::StatusOr<std::string> path = DatabasePath(context);
  if (!path.ok()) return Finish(path.status());
  const absl::StatusOr<store::Extracted> out =
      store::Extract(*path, args.out, args.sweeps, absl::ToUnixMicros(absl::Now()));
  if (!out.ok()) return Finish(out.status());
  return Show({.columns = {{"file"}, {"sweeps"}, {"trials"}, {"points"}, {"events"}},
               .rows = {{args.out, out->sweeps, out->trials, out->points, out->events}}},
              context);
}

}  // namespace plumb::app
