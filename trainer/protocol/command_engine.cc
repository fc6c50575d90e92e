#include "trainer/protocol/command_engine.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "trainer/protocol/command_process.h"
#include "trainer/protocol/file_checkpoint.h"
#include "trainer/protocol/retention.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/sha256.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr int kLongestStepMs = 20;  // commands wait for the end of a step
constexpr size_t kMostValues = 10000;

// What the command has said is wrong: its row ends as failed with this cause.
class Misspoken : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Python writes NaN, Infinity and -Infinity, which are no JSON: as strings they are what the
// journal has for them.
std::string Quoted(const std::string& line) {
  std::string out;
  bool text = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"' && (i == 0 || line[i - 1] != '\\')) text = !text;
    const auto is = [&](const char* word) { return line.compare(i, std::strlen(word), word) == 0; };
    const char* word = text              ? nullptr
                       : is("NaN")       ? "NaN"
                       : is("-Infinity") ? "-Infinity"
                       : is("Infinity")  ? "Infinity"
                                         : nullptr;
    if (word == nullptr) {
      out += line[i];
      continue;
    }
    out += std::string("\"") + word + "\"";
    i += std::strlen(word) - 1;
  }
  return out;
}

std::optional<double> Number(const json& v) {
  if (v.is_number()) return v.get<double>();
  if (v.is_boolean()) return v.get<bool>() ? 1 : 0;
  if (v.is_null() || v == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (v == "Infinity") return std::numeric_limits<double>::infinity();
  if (v == "-Infinity") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

// Every field, defaults too.
json FullConfig(spec::TrialSpec s) {
  json out = json::object();
  for (const spec::Field& f : spec::Fields(s)) {
    std::string at = "/" + f.path;
    std::replace(at.begin(), at.end(), '.', '/');
    out[json::json_pointer(at)] = f.get();
  }
  return out;
}

struct Row {
  RowRequest request;
  json settings;  // all of them
  std::string data_dir;
  int64_t threads = 1;
  int64_t target = 1, until = -1, step = 0;
  int64_t told_until = -1;                  // what the running command was told
  std::optional<CheckpointRef> checkpoint;  // to go on from
  int64_t committed = -1;                   // step of the last one that it has made
  std::string folder;                       // where it runs
  std::unique_ptr<CommandProcess> process;
  Clock::time_point start, kill_at = Clock::time_point::max();
  std::optional<Engine::StopMode> stop;
  bool timed_out = false;
  std::string outcome, cause;  // as the command says
  double cpu_seconds = 0;
  int64_t peak_bytes = 0, commands = 0;
};

class CommandEngine : public Engine {
 public:
  explicit CommandEngine(EventSink& sink) : sink_(sink) {}

  std::string Description() const override { return "command"; }
  void Open(const std::string&, int64_t, const std::string& data_dir, int64_t threads) override {
    data_dir_ = data_dir, threads_ = threads;
  }

  void AddRow(const RowRequest& request) override {
    if (row_) throw std::runtime_error("row " + row_->request.row + " runs: one command at a time");
    Row row{.request = request, .data_dir = data_dir_, .threads = threads_};
    row.step = request.checkpoint && request.checkpoint->resume ? request.checkpoint->step : 0;
    if (const std::string wrong = Prepare(&row); !wrong.empty()) {
      sink_.RowEnded(request.row, row.step, RowOutcome::kInfeasible, wrong, "{}");
      return;
    }
    row_ = std::move(row);
    sink_.RowStarted(request.row, row_->step);
    try {
      Launch();
    } catch (const std::exception& e) {
      End(RowOutcome::kFailed, e.what());
    }
  }

  void ExtendRow(const std::string& row, int64_t until_step) override {
    Find(row).until = until_step;
  }
  void CheckpointRow(const std::string& row) override {
    Find(row);
    throw std::runtime_error("a command says itself when it has a checkpoint");
  }

  void StopRow(const std::string& name, StopMode mode) override {
    Row& row = Find(name);
    if (mode == StopMode::kCancel) return End(RowOutcome::kCancelled, "");
    if (row.stop) return;
    row.stop = mode;
    AskToLeave();
  }

  bool Step() override {
    if (!row_) return false;
    Row& row = *row_;
    try {
      for (const std::string& line : row.process->Read(kLongestStepMs)) Take(line);
      if (row.process->Ended()) {
        Ended();
        return row_.has_value();
      }
    } catch (const std::exception& e) {
      End(RowOutcome::kFailed, e.what());
      return false;
    }
    const auto now = Clock::now();
    const double limit = row.settings["timeout_seconds"];
    if (limit > 0 && !row.timed_out && !row.stop &&
        now - row.start > std::chrono::duration<double>(limit)) {
      row.timed_out = true;
      AskToLeave();
    }
    if (now >= row.kill_at) row.process->Signal(SIGKILL);
    return true;
  }

  std::vector<std::string> LiveRows() const override {
    return row_ ? std::vector{row_->request.row} : std::vector<std::string>();
  }
  void Close() override {
    if (row_) End(RowOutcome::kCancelled, "");
  }

 private:
  Row& Find(const std::string& name) {
    if (!row_ || row_->request.row != name) throw std::runtime_error("no row " + name);
    return *row_;
  }

  static std::string Prepare(Row* row) {
    const RowRequest& r = row->request;
    if (r.kind != "external")
      return "this program runs stages of kind external only, not " + r.kind;
    if (r.checkpoint_dir.empty()) return "checkpoint_dir is needed: the command runs beneath it";
    const auto errors =
        spec::ReadStageSettings(r.kind, json::parse(r.stage_json), nullptr, &row->settings);
    if (!errors.empty()) return spec::Format(errors);
    const json& s = row->settings;
    if (s["command"].empty())
      return "its trainer is " + s["trainer"].get<std::string>() + ", which this is not";
    if (s["script"].is_object()) {
      const std::string path = s["script"]["path"];
      if (!fs::is_regular_file(path)) return "there is no script " + path + " on this machine";
      if (spec::Sha256HexOfFile(path) != s["script"]["sha256"])
        return path + " is not the script that was submitted (its SHA-256 is another)";
    }
    row->target = std::max<int64_t>(1, s["steps"].get<int64_t>());
    row->until = r.until_step;
    row->checkpoint = r.checkpoint;
    if (r.checkpoint && r.checkpoint->resume) row->committed = r.checkpoint->step;
    if (r.checkpoint) return CheckFiles(r.checkpoint->path, r.checkpoint->digest);
    return "";
  }

  void Launch() {
    Row& row = *row_;
    const std::string dir = row.request.checkpoint_dir;
    // What a command that is gone has left here.
    if (fs::is_directory(dir)) {
      for (const auto& e : fs::directory_iterator(dir)) {
        if (e.path().filename().string().rfind("run-", 0) == 0) fs::remove_all(e.path());
      }
    }
    row.folder = dir + "/run-" + row.request.row;
    fs::create_directories(row.folder);
    row.told_until = row.until;
    json job = {
        {"version", 1},
        {"row", row.request.row},
        {"config", FullConfig(row.request.spec)},
        {"with", row.settings["with"]},
        {"seed", {{"init", row.request.spec.seed.init}, {"data", row.request.spec.seed.data}}},
        {"steps", row.target},
        {"until_step", row.until},
        {"checkpoint", nullptr},
        {"workspace", row.folder},
        {"data_dir", row.data_dir},
        {"threads", row.threads}};
    if (row.checkpoint) {
      job["checkpoint"] = {{"path", row.checkpoint->path},
                           {"step", row.checkpoint->step},
                           {"resume", row.checkpoint->resume}};
    }
    const std::string text = job.dump(-1, ' ', false, json::error_handler_t::replace);
    const std::string file = row.folder + "/job.json";
    std::ofstream(file) << text << "\n";
    std::vector<std::string> argv = row.settings["command"];
    for (std::string& word : argv) {
      if (word == "{script}") word = row.settings["script"]["path"];
    }
    const std::string threads = std::to_string(row.threads);
    row.process = std::make_unique<CommandProcess>(
        argv, row.folder,
        std::map<std::string, std::string>{
            {"PLUMB_JOB", file}, {"OMP_NUM_THREADS", threads}, {"PYTHONUNBUFFERED", "1"}},
        text + "\n");
    row.start = Clock::now();
    ++row.commands;
  }

  void AskToLeave() {
    Row& row = *row_;
    row.process->Signal(SIGTERM);
    const double grace = row.settings["grace_seconds"];
    row.kill_at = Clock::now() +
                  std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(grace));
  }

  // ---- what it says

  void Take(const std::string& line) {
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] != '{') return Log(line);
    json fact = json::parse(line, nullptr, false);
    if (fact.is_discarded()) fact = json::parse(Quoted(line), nullptr, false);
    if (!fact.is_object()) return Log(line);
    try {
      if (fact.contains("values")) {
        Values(fact);
      } else if (fact.contains("checkpoint")) {
        Checkpoint(fact);
      } else if (fact.contains("record")) {
        Record(fact);
      } else if (fact.contains("outcome")) {
        Outcome(fact);
      } else {
        Log(line);
      }
    } catch (const std::exception& e) {
      throw Misspoken("its line " + line.substr(0, 200) + ": " + e.what());
    }
  }

  static void Log(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

  int64_t StepOf(const json& fact, int64_t otherwise) const {
    const auto it = fact.find("step");
    if (it == fact.end()) return otherwise;
    if (!it->is_number_integer() || *it < 0 || *it > row_->target)
      throw Misspoken("step is a whole number up to " + std::to_string(row_->target) +
                      ", its last (steps: in the stage's settings)");
    return it->get<int64_t>();
  }

  void Values(const json& fact) {
    const int64_t step = StepOf(fact, row_->target);
    const json& values = fact["values"];
    if (!values.is_object() || values.size() > kMostValues)
      throw Misspoken("values: {\"val/loss\": 3.2}, at most 10,000 of them");
    std::vector<PointValue> points;
    for (const auto& [name, v] : values.items()) {
      const auto number = Number(v);
      if (!number || name.empty() || name.size() > 200)
        throw Misspoken("values: names of 1 to 200 bytes and numbers");
      points.push_back({.name = name, .value = *number});
    }
    row_->step = std::max(row_->step, step);
    if (!points.empty()) sink_.Points(row_->request.row, step, points);
  }

  void Checkpoint(const json& fact) {
    const int64_t step = StepOf(fact, row_->step);
    const fs::path folder = fs::path(row_->folder) / fact["checkpoint"].get<std::string>();
    const std::string dir = row_->request.checkpoint_dir;
    const FileCheckpoint made = CommitFiles(folder.lexically_normal(), dir, step);
    row_->step = std::max(row_->step, step);
    row_->committed = step;
    row_->checkpoint = CheckpointRef{made.path, made.digest, step, true};
    sink_.Checkpoint(row_->request.row, step, made.path, made.digest, made.bytes);
    RetainCheckpoints(dir, made.path);
  }

  void Record(const json& fact) {
    sink_.Record(row_->request.row, StepOf(fact, row_->step), fact.value("kind", "external"),
                 fact.value("name", "result"), fact.value("index", int64_t{0}),
                 fact["record"].dump(-1, ' ', false, json::error_handler_t::replace));
  }

  void Outcome(const json& fact) {
    row_->outcome = fact["outcome"].get<std::string>();
    row_->cause = fact.value("cause", "");
    if (row_->outcome != "diverged" && row_->outcome != "infeasible")
      throw Misspoken(
          "outcome is \"diverged\" or \"infeasible\"; a success needs no word, and a "
          "failure is an exit code");
  }

  // ---- how it ends

  void Ended() {
    Row& row = *row_;
    row.cpu_seconds += static_cast<double>(row.process->usage().ru_utime.tv_sec) +
                       static_cast<double>(row.process->usage().ru_stime.tv_sec);
    row.peak_bytes = std::max<int64_t>(row.peak_bytes, row.process->usage().ru_maxrss * 1024);
    const int status = row.process->status();
    const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (row.outcome == "diverged") return End(RowOutcome::kDiverged, row.cause);
    if (row.outcome == "infeasible") return End(RowOutcome::kInfeasible, row.cause);
    if (row.timed_out) {
      return End(RowOutcome::kFailed,
                 "it took longer than " + row.settings["timeout_seconds"].dump() + " s");
    }
    const bool early = row.told_until >= 0 && row.told_until < row.target && row.step < row.target;
    if (row.stop && !(well && !early && row.step >= row.target))
      return End(RowOutcome::kPreempted, "");
    if (!well) {
      return End(RowOutcome::kFailed,
                 WIFSIGNALED(status)
                     ? "the command was ended by signal " + std::to_string(WTERMSIG(status)) +
                           " (" + strsignal(WTERMSIG(status)) + ")"
                     : "the command exited with code " + std::to_string(WEXITSTATUS(status)));
    }
    if (!early) {
      row.step = row.target;
      return End(RowOutcome::kSucceeded, "");
    }
    if (row.committed < row.told_until) {
      return End(RowOutcome::kFailed, "it was to pause at step " + std::to_string(row.told_until) +
                                          " and left without a checkpoint of it");
    }
    if (row.until >= 0 && row.until <= row.told_until) return End(RowOutcome::kPaused, "");
    Launch();  // it was allowed to go on meanwhile
  }

  void End(RowOutcome outcome, std::string cause) {  // a copy: it may be the row's own
    const Row row = std::move(*row_);
    row_.reset();
    const json summary = {
        {"seconds", std::chrono::duration<double>(Clock::now() - row.start).count()},
        {"cpu_seconds", row.cpu_seconds},
        {"peak_bytes", row.peak_bytes},
        {"commands", row.commands}};
    if (row.process != nullptr) row.process->Signal(SIGKILL);
    std::error_code ignored;
    if (!row.folder.empty()) fs::remove_all(row.folder, ignored);
    sink_.RowEnded(row.request.row, row.step, outcome, cause, summary.dump());
  }

  EventSink& sink_;
  std::string data_dir_;
  int64_t threads_ = 1;
  std::optional<Row> row_;
};

}  // namespace

std::unique_ptr<Engine> MakeCommandEngine(EventSink& sink) {
  return std::make_unique<CommandEngine>(sink);
}

}  // namespace plumb::trainer
