// plumb doctor: each thing that a first run needs, with what to do about it.
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "app/children.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/signals.h"
#include "data/dataset.h"

namespace plumb::app {
namespace {

struct Check {
  std::string name, state, detail, fix;  // state: ok, FAIL, or "-" where it does not apply
};

// Runs `program --version`; stdout's first line, or what went wrong.
bool RunsVersion(const std::string& program, std::string* line) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    alarm(20);
    execl(program.c_str(), program.c_str(), "--version", nullptr);
    _exit(127);
  }
  close(ends[1]);
  char buffer[512];
  ssize_t got;
  while ((got = read(ends[0], buffer, sizeof buffer)) > 0) {
    if (line->size() < 512) line->append(buffer, got);
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  *line = line->substr(0, line->find('\n'));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Check Trainer(const DoctorArgs& args) {
  const std::string path =
      args.trainer.empty()
          ? (std::filesystem::path(ThisProgram()).parent_path() / "plumb-trainer").string()
          : args.trainer;
  if (access(path.c_str(), X_OK) != 0) {
    return {"trainer", "FAIL", absl::StrCat("none at ", path),
            "build it: script/setup, then cmake -DPLUMB_TRAINER=ON; or name it: --trainer PATH"};
  }
  std::string line;
  if (!RunsVersion(path, &line)) {
    return {"trainer", "FAIL", absl::StrCat(path, " does not run: ", line),
            "a missing libtorch is installed by script/setup; then build again"};
  }
  return {"trainer", "ok", absl::StrCat(path, ": ", line), ""};
}

// Only searches by a model need it.
Check Suggester() {
  const std::string path =
      (std::filesystem::path(ThisProgram()).parent_path() / "plumb-suggest").string();
  std::string line;
  if (access(path.c_str(), X_OK) == 0 && RunsVersion(path, &line))
    return {"searches", "ok", absl::StrCat(path, ": ", line), ""};
  return {"searches", "-", line.empty() ? absl::StrCat("no ", path) : line,
          "tpe, gp, cmaes and nsga2 need it: script/setup, then build again"};
}

Check Data(const DoctorArgs& args) {
  const std::string root = args.data_root.empty() ? data::DefaultRoot() : args.data_root;
  try {
    const auto all = data::ListDatasets(root);
    if (all.empty()) {
      return {"data", "FAIL", absl::StrCat("no corpus under ", root),
              "plumb data prepare python-docs-en"};
    }
    std::string names;
    for (const data::Manifest& m : all)
      absl::StrAppend(&names, names.empty() ? "" : ", ", m.corpus, " (", m.tokenizer, ")");
    return {"data", "ok", names, ""};
  } catch (const std::exception& e) {
    return {"data", "FAIL", e.what(), "prepare it again: plumb data prepare NAME"};
  }
}

Check Server(const Context& context) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return {"server", "FAIL", "none runs", "plumb up"};
  auto answer = client->Call(&v1::SweepService::Stub::GetServer, v1::GetServerRequest(),
                             std::chrono::seconds(3));
  if (!answer.ok()) return {"server", "FAIL", std::string(answer.status().message()), "plumb up"};
  return {"server", "ok",
          absl::StrCat(client->address(), ", ", answer->version(), ", ", answer->database_path()),
          ""};
}

Check File(const Context& context) {
  if (!std::filesystem::exists(context.db)) {
    return {"database", "-", absl::StrCat("no ", context.db, " yet"), "made by: plumb up"};
  }
  auto db = OpenResults(context.db);
  if (!db.ok())
    return {"database", "FAIL", std::string(db.status().message()), "give another: --db FILE"};
  auto check = db->Prepare("PRAGMA quick_check(1)");
  std::string answer = "not readable";
  if (check.ok()) {
    auto row = check->Step();
    if (row.ok() && *row) answer = check->Text(0);
    if (!row.ok()) answer = std::string(row.status().message());
  }
  if (answer != "ok") {
    return {"database", "FAIL", absl::StrCat(context.db, ": ", answer),
            "copy the file away; take a backup back"};
  }
  return {
      "database", "ok",
      absl::StrCat(context.db, ", ", std::filesystem::file_size(context.db) / 1024, " KiB, sound"),
      ""};
}

Check Disk(const Context& context) {
  std::string folder = std::filesystem::absolute(context.db).parent_path().string();
  struct statvfs s = {};
  while (statvfs(folder.c_str(), &s) != 0 && folder.size() > 1) {
    folder = std::filesystem::path(folder).parent_path().string();
  }
  const double gib = static_cast<double>(s.f_bavail) * static_cast<double>(s.f_frsize) / (1 << 30);
  const std::string detail = absl::StrCat(static_cast<int64_t>(gib), " GiB free in ", folder);
  if (gib < 1)
    return {"disk", "FAIL", detail, "free at least 1 GiB, or give another folder: --db FILE"};
  return {"disk", "ok", detail, ""};
}

}  // namespace

int RunDoctor(const Context& context, const DoctorArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  const std::vector<Check> checks = {
      Trainer(args),
      Data(args),
      Server(context),
      File(context),
      Disk(context),
      Suggester(),
      {"cores", "ok", absl::StrCat(std::thread::hardware_concurrency()), ""}};
  bool failed = false;
  Table table{.columns = {{"check"}, {"state"}, {"detail"}, {"fix"}}};
  for (const Check& c : checks) {
    failed |= c.state == "FAIL";
    table.rows.push_back({c.name, c.state, c.detail, c.fix});
    if (*format == Format::kTable) {
      std::printf("%-9s %-5s %s\n%s", c.name.c_str(), c.state.c_str(), c.detail.c_str(),
                  c.fix.empty() ? "" : absl::StrCat("                fix: ", c.fix, "\n").c_str());
    }
  }
  if (*format != Format::kTable) std::fputs(Print(table, *format).c_str(), stdout);
  return failed ? kFailed : kDone;
}

}  // namespace plumb::app
