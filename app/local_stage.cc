#include "app/local_stage.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "app/children.h"
#include "app/signals.h"
#include "app/table.h"
#include "domain/status_macros.h"
#include "trainer/protocol/journal.h"
#include "trainer/protocol/journal_sink.h"
#include "trainer/spec/parse.h"
#include "worker/trainer_process.h"

namespace plumb::app {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr char kRow[] = "stage";
constexpr auto kGlance = std::chrono::milliseconds(20);
// For a trainer to leave by itself, where it is stopped and where it is done.
constexpr auto kPatience = std::chrono::seconds(3), kPatienceAtEnd = std::chrono::seconds(30);

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// "linearity: 12 s, 3 results", again and again in one line of a terminal, now and then elsewhere.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)) {}
  ~Progress() {
    if (terminal_ && said_ > 0) std::fputs("\r\x1b[K", stderr);
  }
  void Say(size_t results) {
    const double now = Since(start_);
    if (now - said_ < (terminal_ ? 0.5 : 30)) return;
    said_ = now;
    std::fprintf(stderr, "%s%s: %s, %zu results so far%s", terminal_ ? "\r\x1b[K" : "",
                 what_.c_str(), Duration(now).c_str(), results, terminal_ ? "" : "\n");
    std::fflush(stderr);
  }

 private:
  const std::string what_;
  const Clock::time_point start_ = Clock::now();
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  double said_ = 0;
};

class Run {
 public:
  Run(const LocalStage& stage, const std::string& dir)
      : stage_(stage), process_(dir, ThisProgram()), journal_(dir + "/journal") {}
  ~Run() { End(); }

  absl::StatusOr<LocalResult> Work() {
    RETURN_IF_ERROR(process_.Launch({stage_.trainer}, ""));
    process_.Command({{"command", "open"},
                      {"bundle", kRow},
                      {"capacity", 1},
                      {"data_dir", stage_.data_dir},
                      {"threads", stage_.threads}},
                     "");
    process_.Command({{"command", "add_row"},
                      {"row", kRow},
                      {"kind", stage_.kind},
                      {"config", spec::Canonical(stage_.config, spec::With::kExecution)},
                      {"stage", json::parse(stage_.settings_json)},
                      {"until_step", -1},
                      {"checkpoint",
                       {{"path", stage_.checkpoint.path},
                        {"digest", stage_.checkpoint.digest},
                        {"step", stage_.checkpoint.step},
                        {"resume", false}}},
                      {"checkpoint_dir", process_.dir() + "/checkpoints"}},
                     kRow);
    Progress progress(stage_.name);
    while (!ended_) {
      const bool gone = process_.Gone();  // before the journal is read: then that is all of it
      process_.TryConnect();
      for (const auto& answer : process_.Pump()) {
        if (!answer.error.empty())
          return absl::InternalError(absl::StrCat("the trainer refused: ", answer.error));
      }
      for (const trainer::JournalEvent& event : journal_.Read()) RETURN_IF_ERROR(Take(event.json));
      if (ended_) break;
      if (gone) return Crashed("it ended without a word");
      progress.Say(result_.records.size() + result_.points.size());
      if (const int signal = WaitForSignal(kGlance); signal == SIGINT || signal == SIGTERM)
        return absl::CancelledError("stopped; nothing is kept");
    }
    return std::move(result_);
  }

 private:
  absl::Status Take(const json& e) {
    const std::string kind = e.at("event");
    if (kind == "hello") {
      result_.engine = e.at("engine");
    } else if (kind == "points") {
      for (const json& v : e.at("values"))
        result_.points.push_back({.name = v.at(0),
                                  .layer = v.at(1),
                                  .definition_version = v.at(2),
                                  .value = trainer::NumberFromJson(v.at(3))});
    } else if (kind == "record") {
      Keep({.stage = stage_.name,
            .kind = e.at("kind"),
            .name = e.at("name"),
            .idx = e.at("index"),
            .step = e.at("step"),
            .data = e.at("data")});
    } else if (kind == "documents") {
      const std::string split = e.at("split");
      auto& all = result_.documents;
      if (all.empty() || all.back().split != split) all.push_back({.split = split});
      for (const json& d : e.at("scores"))
        all.back().scores.push_back({d.at(0), trainer::NumberFromJson(d.at(1)), d.at(2), d.at(3)});
    } else if (kind == "row_ended") {
      ended_ = true;
      result_.summary = e.at("summary");
      const std::string outcome = e.at("outcome"), cause = e.at("cause");
      if (outcome == "infeasible") return absl::FailedPreconditionError(cause);
      if (outcome != "succeeded")
        return absl::InternalError(absl::StrCat(outcome, cause.empty() ? "" : ": ", cause));
    } else if (kind == "exit") {
      if (e.value("out_of_memory", false))
        return absl::ResourceExhaustedError(
            "the kernel ended the trainer: this machine has too little memory for it");
      if (e.value("status", -1) == 127)
        return absl::NotFoundError(absl::StrCat(
            stage_.trainer, " cannot be started; give --trainer /path/to/plumb-trainer"));
      const int signal = e.value("signal", 0);
      return Crashed(signal != 0 ? absl::StrCat("it ended by signal ", signal)
                                 : absl::StrCat("it ended with code ", e.value("status", -1)));
    }
    return absl::OkStatus();
  }

  // Said again, it replaces the one before.
  void Keep(Record record) {
    for (Record& r : result_.records) {
      if (r.kind == record.kind && r.name == record.name && r.idx == record.idx) {
        r = std::move(record);
        return;
      }
    }
    result_.records.push_back(std::move(record));
  }

  absl::Status Crashed(const std::string& how) const {
    return absl::InternalError(
        absl::StrCat("the trainer: ", how, "\n", worker::LogTail(process_.dir())));
  }

  // Asks it to leave, and does not wait for a piece of work that takes long.
  void End() {
    if (process_.state() == worker::TrainerProcess::State::kAbsent) return;
    process_.Command({{"command", "shutdown"}}, "");
    for (const auto start = Clock::now(); !process_.Gone();) {
      process_.TryConnect();
      process_.Pump();
      if (Clock::now() - start > (ended_ ? kPatienceAtEnd : kPatience)) KillTrainer(process_.dir());
      usleep(10'000);
    }
    process_.SetAbsent();
  }
  const LocalStage& stage_;
  worker::TrainerProcess process_;
  trainer::JournalReader journal_;
  LocalResult result_;
  bool ended_ = false;
};

}  // namespace

absl::StatusOr<LocalResult> RunLocalStage(const LocalStage& stage, const std::string& dir) {
  return Run(stage, dir).Work();
}

void KillTrainer(const std::string& dir) {
  const worker::TrainerProcess process(dir, "");
  // Guard and trainer are one process group, which the guard's lock names while one of them lives.
  for (int i = 0; i < 100 && process.FolderLocked(); ++i) {
    pid_t guard = 0;
    std::ifstream(dir + "/guard.lock") >> guard;
    if (guard > 1) kill(-guard, SIGKILL);
    usleep(10'000);
  }
}

}  // namespace plumb::app
