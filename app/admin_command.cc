// plumb server backup|restore|check|migrate: on the file, without the server's help.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/table.h"
#include "store/backup.h"

namespace plumb::app {
namespace {

std::string Mib(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

int BackupDatabase(const Context& context, const std::string& dest) {
  auto copied = store::Backup(context.db, dest);
  if (!copied.ok()) return Finish(copied.status());
  std::printf("%s: %s, copied in %s, checked in %s (pages, references, events)\nsha256 %s\n",
              dest.c_str(), Mib(copied->bytes).c_str(),
              absl::FormatDuration(absl::Trunc(copied->copying, absl::Milliseconds(1))).c_str(),
              absl::FormatDuration(absl::Trunc(copied->checking, absl::Milliseconds(1))).c_str(),
              copied->sha256.c_str());
  return kDone;
}

int RestoreDatabase(const Context& context, const std::string& backup) {
  auto kept = store::Restore(backup, context.db, absl::ToUnixMicros(absl::Now()));
  if (!kept.ok()) return Finish(kept.status());
  std::printf(
      "%s is %s now%s\nStart the server on it: what ran meanwhile ends as lost and is run "
      "again from its checkpoints\n",
      context.db.c_str(), backup.c_str(),
      kept->empty() ? "" : absl::StrCat("; what was there is kept as ", *kept).c_str());
  return kDone;
}

int CheckDatabase(const Context& context) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  auto report = store::Check(context.db);
  if (!report.ok()) return Finish(report.status());
  const bool sound = report->damage.empty();
  if (*format == Format::kJson || *format == Format::kJsonl) {
    nlohmann::json rows = nlohmann::json::object();
    for (const auto& [table, n] : report->rows) rows[table] = n;
    std::printf("%s\n",
                nlohmann::json{{"sound", sound},
                               {"damage", report->damage},
                               {"schema", report->schema},
                               {"newest_schema", report->newest_schema},
                               {"incarnation", report->incarnation},
                               {"cluster_seconds", absl::ToDoubleSeconds(report->cluster_time)},
                               {"bytes", report->bytes},
                               {"rows", rows}}
                    .dump()
                    .c_str());
  } else {
    std::printf(
        "%s: %s, schema %lld%s, incarnation %lld\n", context.db.c_str(), Mib(report->bytes).c_str(),
        static_cast<long long>(report->schema),
        report->schema < report->newest_schema
            ? absl::StrCat(" (this program has ", report->newest_schema, ": plumb server migrate)")
                  .c_str()
            : "",
        static_cast<long long>(report->incarnation));
    for (const auto& [table, n] : report->rows)
      std::printf("  %-12s %12lld rows\n", table.c_str(), static_cast<long long>(n));
    std::printf(sound ? "pages, references and the chain of events are sound\n" : "");
  }
  if (sound) return kDone;
  return Finish(absl::DataLossError(absl::StrCat(
      context.db, " is damaged: ", report->damage.front(),
      report->damage.size() > 1 ? absl::StrCat(" (and ", report->damage.size() - 1, " more)") : "",
      "; restore a backup: plumb server restore BACKUP")));
}

int MigrateDatabase(const Context& context) {
  auto copy = store::MigrateWithBackup(context.db, absl::ToUnixMicros(absl::Now()));
  if (!copy.ok()) return Finish(copy.status());
  std::printf(copy->empty() ? "%s is up to date\n"
                            : "%s is up to date now; a verified copy of before is %s\n",
              context.db.c_str(), copy->c_str());
  return kDone;
}

}  // namespace plumb::app
