// plumb trial generate|topk|attention|routes|painters|finetune: what stages recorded.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/records.h"
#include "app/results.h"
#include "domain/status_macros.h"
#include "store/migrations.h"

namespace plumb::app {
namespace {

struct StageState {
  std::string name, kind, state, reason;
};

absl::StatusOr<std::vector<StageState>> StagesOf(store::Database& db, int64_t trial) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare("SELECT name, kind, state, reason FROM stage WHERE trial_id = ? ORDER BY id"));
  rows.Bind(1, trial);
  std::vector<StageState> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return out;
    out.push_back({rows.Text(0), rows.Text(1), rows.Text(2), rows.Text(3)});
  }
}

// Why there is nothing to show, and what to do about it.
absl::Status Nothing(const RecordView& view, const TrialArgs& args,
                     const std::vector<StageState>& stages) {
  const std::string what = absl::StrCat("trial ", args.id, " has no ", view.what);
  const std::string add =
      absl::StrCat("add to its sweep file, and submit that again:\n  stages: {", view.stage_kind,
                   "s: {", view.stage_kind, ": ", view.settings, "}}");
  for (const StageState& s : stages) {
    if (s.kind != view.stage_kind || (!args.stage.empty() && s.name != args.stage)) continue;
    const bool lives = s.state == "pending" || s.state == "running" || s.state == "paused";
    if (s.state == "succeeded") {
      return absl::NotFoundError(
          absl::StrCat(what, ": its stage ", s.name, " was not asked for it; ", add));
    }
    return absl::NotFoundError(absl::StrCat(what, lives ? " yet" : "", ": its stage ", s.name,
                                            " is ", s.state, ": ", s.reason,
                                            "\nsee: plumb trial explain ", args.id));
  }
  return absl::NotFoundError(absl::StrCat(
      what, args.stage.empty() ? "" : absl::StrCat(" of stage ", args.stage), "; ", add));
}

absl::Status Show(const Context& context, const RecordView& view, const TrialArgs& args,
                  Format format) {
  ASSIGN_OR_RETURN(const std::string path, DatabasePath(context));
  ASSIGN_OR_RETURN(store::Database db, OpenResults(path));
  RETURN_IF_ERROR(store::CheckSchema(db, path));
  ASSIGN_OR_RETURN(const std::vector<StageState> stages, StagesOf(db, args.id));
  if (stages.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no trial ", args.id, "; `plumb trial list` shows them"));
  }
  std::vector<std::string> names;
  for (const StageState& s : stages) names.push_back(s.name);
  if (!args.stage.empty() && std::find(names.begin(), names.end(), args.stage) == names.end()) {
    const std::string near = Nearest(args.stage, names);
    return absl::NotFoundError(
        absl::StrCat("trial ", args.id, " has no stage ", args.stage, "; ",
                     near.empty() ? absl::StrCat("it has ", absl::StrJoin(names, ", "))
                                  : absl::StrCat("did you mean ", near, "?")));
  }
  ASSIGN_OR_RETURN(const std::vector<Record> records,
                   LoadRecords(db, args.id, args.stage, view.kinds));
  if (records.empty()) return Nothing(view, args, stages);
  std::string text;
  switch (format) {
    case Format::kTable:
      text = view.text(records);
      break;
    case Format::kCsv:
      text = TableCsv(view.table(records));
      break;
    case Format::kJson:
    case Format::kJsonl:
      text = RecordsJson(records, format);
      break;
  }
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

int ShowRecords(const Context& context, const std::string& command, const TrialArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  return Finish(Show(context, *FindRecordView(command), args, *format));
}

}  // namespace plumb::app
