// plumb export csv|jsonl: a documented view, row by row, to a file or standard output.
#include <cstdio>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

absl::Status Export(const Context& context, const ExportArgs& args, std::FILE* out, int64_t* rows) {
  static constexpr std::pair<const char*, const char*> kViews[] = {
      {"trials", "v_trial"},
      {"cells", "v_cell"},
      {"curves", "v_curve"},
      {"records", "v_record"},
      {"routes", "v_route"},
      {"attention", "v_attention"},
      {"generations", "v_generation"},
      {"topk", "v_topk"},
      {"painters", "v_painters"},
      {"finetune", "v_finetune"},
      {"linearity", "v_linearity"},
      {"linearity_states", "v_linearity_state"},
      {"prune", "v_prune"},
      {"linear_probes", "v_linear_probe"},
      {"tasks", "v_task"}};
  const char* view = nullptr;
  std::vector<std::string> names;
  for (const auto& [name, of_name] : kViews) {
    names.push_back(name);
    if (args.what == name) view = of_name;
  }
  if (view == nullptr) {
    const std::string near = Nearest(args.what, names);
    return absl::InvalidArgumentError(
        absl::StrCat("--what ", args.what, ": not one of ", absl::StrJoin(names, ", "),
                     near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
  }
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  ASSIGN_OR_RETURN(store::Statement statement,
                   db.Prepare(absl::StrCat("SELECT * FROM ", view,
                                           args.sweep > 0 ? " WHERE sweep_id = ?" : "")));
  if (args.sweep > 0) statement.Bind(1, args.sweep);
  Table table;
  for (int c = 0; c < statement.columns(); ++c) table.columns.push_back({statement.ColumnName(c)});
  const Format format = args.format == "csv" ? Format::kCsv : Format::kJsonl;
  if (format == Format::kCsv) std::fputs(TableCsv(table).c_str(), out);
  const size_t header = TableCsv(table).size();
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) break;
    std::vector<Value> row;
    for (int c = 0; c < statement.columns(); ++c) row.push_back(ColumnValue(statement.handle(), c));
    table.rows = {std::move(row)};
    const std::string text = Print(table, format);
    std::fputs(text.c_str() + (format == Format::kCsv ? header : 0), out);
    ++*rows;
  }
  if (std::fflush(out) != 0 || std::ferror(out))
    return absl::ResourceExhaustedError("writing failed; is the disk full?");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<store::Database> OpenResults(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    return absl::NotFoundError(
        absl::StrCat("no database ", path, "; name one with --db FILE, or make one: plumb up"));
  }
  return store::Database::Open(path, store::Database::Mode::kReadOnly);
}

Value ColumnValue(sqlite3_stmt* row, int column) {
  switch (sqlite3_column_type(row, column)) {
    case SQLITE_INTEGER:
      return int64_t{sqlite3_column_int64(row, column)};
    case SQLITE_FLOAT:
      return sqlite3_column_double(row, column);
    case SQLITE_NULL:
      return {};
    default: {
      const auto* text = static_cast<const char*>(sqlite3_column_blob(row, column));
      return std::string(text ? text : "", sqlite3_column_bytes(row, column));
    }
  }
}

int RunExport(const Context& context, const ExportArgs& args) {
  int64_t rows = 0;
  if (args.out.empty() || args.out == "-") return Finish(Export(context, args, stdout, &rows));
  const std::string part = args.out + ".part";
  std::FILE* out = std::fopen(part.c_str(), "w");
  if (!out) return Finish(absl::NotFoundError(absl::StrCat("cannot write ", part)));
  absl::Status status = Export(context, args, out, &rows);
  if (std::fclose(out) != 0 && status.ok()) status = absl::ResourceExhaustedError("writing failed");
  std::error_code error;
  if (!status.ok()) {
    std::filesystem::remove(part, error);
    return Finish(status);
  }
  std::filesystem::rename(part, args.out, error);
  if (error)
    return Finish(absl::InternalError(absl::StrCat("rename to ", args.out, ": ", error.message())));
  std::fprintf(stderr, "%lld rows in %s\n", static_cast<long long>(rows), args.out.c_str());
  return kDone;
}

}  // namespace plumb::app
