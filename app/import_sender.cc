#include "app/import_sender.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "app/exit_code.h"
#include "app/signals.h"
#include "app/table.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;
using Json = nlohmann::ordered_json;

constexpr size_t kSliceBytes = 2 << 20;  // of a request; gRPC takes 4 MiB
constexpr size_t kMostBytes = 3'900'000;
constexpr int kSliceTrials = 500;

}  // namespace

std::string DumpJson(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ImportSender::ImportSender(Client& client, const v1::ImportSweepRequest& begin,
                           std::vector<std::string> cell_names)
    : client_(client), begin_(begin), cell_names_(std::move(cell_names)) {}

absl::StatusOr<std::optional<int64_t>> ImportSender::Begin() {
  ASSIGN_OR_RETURN(const v1::ImportSweepResponse begun,
                   client_.Call(&Stub::ImportSweep, begin_, std::chrono::seconds(120)));
  out_.sweep = begun.sweep_id();
  out_.trials = begin_.trials();
  out_.before = begun.complete() || begun.present();
  slice_.set_sweep_id(begun.sweep_id());
  slice_.set_from(begun.cursor());
  if (out_.before) return std::optional<int64_t>();
  return std::optional<int64_t>(begun.cursor());
}

absl::Status ImportSender::Add(v1::ImportedTrial trial, int64_t from_cell,
                               const std::vector<v1::ImportedCell>& cells) {
  size_t bytes = trial.ByteSizeLong() + 64;
  for (const v1::ImportedCell& cell : cells) bytes += cell.ByteSizeLong() + 16;
  if (bytes > kMostBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a trial of cell ", cell_names_[static_cast<size_t>(trial.cell())],
                     " has more points and records than one request takes (", bytes >> 10,
                     " KiB); thin out its series"));
  }
  if (slice_.trials_size() >= kSliceTrials || (bytes_ > 0 && bytes_ + bytes > kSliceBytes))
    RETURN_IF_ERROR(Flush());
  if (slice_.trials().empty()) slice_.set_from_cell(from_cell);
  for (const v1::ImportedCell& cell : cells) *slice_.add_cells() = cell;
  *slice_.add_trials() = std::move(trial);
  bytes_ += bytes;
  return absl::OkStatus();
}

absl::StatusOr<ImportOutcome> ImportSender::End() {
  RETURN_IF_ERROR(Flush());
  return std::move(out_);
}

absl::Status ImportSender::Flush() {
  if (slice_.trials().empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const v1::ImportTrialsResponse response,
                   client_.Call(&Stub::ImportTrials, slice_, std::chrono::seconds(300)));
  out_.shared += response.shared();
  for (v1::ImportConflict c : response.conflicts()) {
    c.set_cell(
        cell_names_.at(static_cast<size_t>(slice_.trials(static_cast<int>(c.place())).cell())));
    out_.conflicts.push_back(std::move(c));
  }
  const int64_t sweep = slice_.sweep_id();
  slice_.Clear();
  slice_.set_sweep_id(sweep);
  slice_.set_from(response.cursor());
  bytes_ = 0;
  return absl::OkStatus();
}

int PrintImports(const Context& context, const std::vector<ImportOutcome>& outcomes) {
  const absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  if (*format == Format::kJson || *format == Format::kJsonl) {
    Json sweeps = Json::array();
    for (const ImportOutcome& o : outcomes) {
      Json conflicts = Json::array();
      for (const v1::ImportConflict& c : o.conflicts) {
        conflicts.push_back({{"trial", c.trial_id()},
                             {"cell", c.cell()},
                             {"what", c.what()},
                             {"here", c.here()},
                             {"there", c.there()}});
      }
      sweeps.push_back({{"sweep", o.sweep},
                        {"trials", o.trials},
                        {"shared", o.shared},
                        {"there_before", o.before},
                        {"conflicts", std::move(conflicts)}});
    }
    std::printf(
        "%s\n",
        sweeps.dump(*format == Format::kJson ? 2 : -1, ' ', false, Json::error_handler_t::replace)
            .c_str());
    return kDone;
  }
  for (const ImportOutcome& o : outcomes) {
    std::printf("sweep %lld: %lld trials%s", static_cast<long long>(o.sweep),
                static_cast<long long>(o.trials), o.before ? ", there before" : "");
    if (!o.before) std::printf(", %lld of them there before", static_cast<long long>(o.shared));
    std::printf("\n");
    if (o.conflicts.empty()) continue;
    std::printf("%zu differ, and what is here stays:\n", o.conflicts.size());
    Table table{.columns = {{"trial"}, {"cell"}, {"what"}, {"here"}, {"there"}}};
    for (const v1::ImportConflict& c : o.conflicts)
      table.rows.push_back({c.trial_id(), c.cell(), c.what(), c.here(), c.there()});
    std::fputs(TableText(table, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  }
  return kDone;
}

int FinishImport(const Context& context, absl::StatusOr<ImportOutcome> outcome) {
  if (!outcome.ok()) return Finish(outcome.status());
  return PrintImports(context, {*std::move(outcome)});
}

}  // namespace plumb::app
