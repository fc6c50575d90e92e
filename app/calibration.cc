#include "app/calibration.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/client.h"
#include "app/database.h"
#include "app/results.h"
#include "domain/status_macros.h"
#include "sweeps/read_calibration.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "worker/devices.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Stub = v1::SweepService::Stub;

constexpr size_t kMostRuns = 1000;      // kept in the file
constexpr size_t kMostTrainings = 400;  // of the database, the newest first
constexpr double kOwnMachine = 1.15;    // wall by processor seconds of a run that nobody disturbed

json ToJson(const ShapeRun& r) {
  return {{"device", r.device},
          {"config", spec::Canonical(r.config, spec::With::kExecution)},
          {"step_seconds", r.step_seconds},
          {"pass_seconds", r.pass_seconds},
          {"pass_tokens", r.pass_tokens},
          {"around_seconds", r.around_seconds},
          {"peak_bytes", r.peak_bytes},
          {"time_us", r.time_us}};
}

// Throws what the JSON library throws.
ShapeRun FromJson(const json& j) {
  ShapeRun r{.device = j.at("device"),
             .step_seconds = j.at("step_seconds"),
             .pass_seconds = j.at("pass_seconds"),
             .around_seconds = j.at("around_seconds"),
             .pass_tokens = j.at("pass_tokens"),
             .peak_bytes = j.at("peak_bytes"),
             .time_us = j.at("time_us")};
  if (const auto wrong = spec::ParseResolved(j.at("config").dump(), &r.config); !wrong.empty())
    throw std::runtime_error(spec::Format(wrong));
  return r;
}

std::string Text(const std::vector<ShapeRun>& runs) {
  std::string out = "{\"format\": 1, \"runs\": [";
  for (const ShapeRun& r : runs)
    absl::StrAppend(&out, &r == runs.data() ? "\n" : ",\n", ToJson(r).dump());
  return out + "\n]}\n";
}

int64_t ThreadsOf(const spec::TrialSpec& s) { return std::max<int64_t>(1, s.execution.threads); }

std::string DeviceName(const std::string& kind, const std::string& name) {
  return absl::StrCat(kind, ": ", name);
}

struct DeviceAndThreads {
  std::string device;
  int64_t threads = 1;
  auto operator<=>(const DeviceAndThreads&) const = default;
};
using Runs = std::map<DeviceAndThreads, std::vector<sweeps::Measured>>;

void Add(const ShapeRun& r, Runs* out) {
  std::vector<sweeps::Measured>& runs = (*out)[{r.device, ThreadsOf(r.config)}];
  const std::string shape = sweeps::CostKey(r.config), kind = sweeps::KindOf(r.config);
  runs.push_back({shape, kind, sweeps::StepWork(r.config), r.step_seconds, 1});
  runs.push_back({shape, kind, sweeps::PassWork(r.config), r.pass_seconds, 0.25});
  sweeps::Work around{};
  around[static_cast<size_t>(sweeps::Unit::kTrial)] = 1;
  around[static_cast<size_t>(sweeps::Unit::kTrialParameters)] =
      static_cast<double>(spec::CountParameters(r.config.model).total);
  runs.push_back({shape, kind, around, r.around_seconds, 0.05});
}

double Median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// A training that ran from its first step to its last in one attempt, alone in its trainer.
struct Training {
  spec::TrialSpec config;
  std::string device;
  double cpu_seconds = 0, wall_seconds = 0, attempt_seconds = 0;
  double peak_bytes = 0;  // 0 where the process held something else before
};

absl::StatusOr<std::vector<Training>> Trainings(store::Database& db) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(
          "SELECT t.config_json, a.summary_json, w.devices_json, a.end_time_us - a.start_time_us "
          "FROM attempt a JOIN stage g ON g.id = a.stage_id JOIN trial t ON t.id = g.trial_id "
          "JOIN worker w ON w.id = a.worker_id "
          "WHERE g.kind = 'pretrain' AND g.parent_id IS NULL AND g.state = 'succeeded' AND "
          "a.number = g.attempts "
          "AND a.start_step = 0 AND a.outcome = 'succeeded' AND a.end_time_us IS NOT NULL "
          "ORDER BY a.end_time_us DESC LIMIT ?"));
  rows.Bind(1, static_cast<int64_t>(kMostTrainings));
  std::vector<Training> out;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) break;
    Training t;
    const json summary = json::parse(rows.Text(1), nullptr, false),
               devices = json::parse(rows.Text(2), nullptr, false);
    if (!summary.is_object() || !devices.is_array() || summary.value("capacity", int64_t{1}) != 1)
      continue;
    if (!spec::ParseResolved(rows.Text(0), &t.config).empty()) continue;  // of another version
    const std::string kind = t.config.numerics.device == spec::DeviceKind::kCuda ? "cuda" : "cpu";
    for (const json& d : devices) {
      if (d.value("kind", "") == kind && t.device.empty())
        t.device = DeviceName(kind, d.value("name", ""));
    }
    t.cpu_seconds = summary.value("cpu_seconds", 0.0),
    t.wall_seconds = summary.value("wall_seconds", 0.0);
    t.attempt_seconds = 1e-6 * static_cast<double>(rows.Int(3));
    const double peak = summary.value("peak_bytes", 0.0),
                 before = summary.value("resident_bytes_before", 0.0);
    // What was there before is the process itself, or the heap of another shape.
    if (before < 0.5 * peak + 80e6) t.peak_bytes = peak;
    if (!t.device.empty() && t.cpu_seconds > 0) out.push_back(std::move(t));
  }
  return out;
}

// What the finished trainings of the database say, by shape.
void AddTrainings(const std::vector<Training>& trainings, const sweeps::CorpusLookup& corpora,
                  Runs* runs, sweeps::Surroundings* around) {
  struct Same {
    const Training* first = nullptr;
    std::vector<double> seconds, peaks, besides;
  };
  std::map<std::string, Same> shapes;
  for (const Training& t : trainings) {
    Same& s = shapes[sweeps::CostKey(t.config)];
    if (s.first == nullptr) s.first = &t;
    const bool cpu = t.config.numerics.device == spec::DeviceKind::kCpu && ThreadsOf(t.config) == 1;
    s.seconds.push_back(cpu ? t.cpu_seconds : t.wall_seconds);
    if (t.peak_bytes > 0) s.peaks.push_back(t.peak_bytes);
    if (t.wall_seconds < kOwnMachine * t.cpu_seconds)
      s.besides.push_back(t.attempt_seconds - t.wall_seconds);
  }
  for (const auto& [key, same] : shapes) {
    const spec::TrialSpec& s = same.first->config;
    sweeps::MeasuredShape& m = around->measured[key];
    m.peak_bytes = Median(same.peaks);
    const auto corpus = corpora(s.data.corpus, s.data.tokenizer);
    const bool whole_splits = s.eval.final_tokens == 0 || s.eval.tokens == 0;
    if (!corpus.ok() && whole_splits) continue;  // nobody knows how much it evaluated
    std::vector<sweeps::Measured>& of_device = (*runs)[{same.first->device, ThreadsOf(s)}];
    const std::string kind = sweeps::KindOf(s);
    sweeps::Work work =
        sweeps::TrainingWork(s, corpus.ok() ? corpus->splits : sweeps::SplitTokens());
    sweeps::Work beside{};
    for (const auto unit : {sweeps::Unit::kTrial, sweeps::Unit::kTrialParameters})
      std::swap(work[static_cast<size_t>(unit)], beside[static_cast<size_t>(unit)]);
    const double seconds = Median(same.seconds);
    of_device.push_back({key, kind, work, seconds, 1});
    const double rest = Median(same.besides);
    if (rest > 0) of_device.push_back({key, kind, beside, rest, 0.05});
    m.seconds = seconds + std::max(0.0, rest);
  }
}

absl::Status AddWorkers(const Context& context, sweeps::Surroundings* around) {
  if (context.server.empty() && !FindServer(context).ok()) return absl::OkStatus();
  auto client = Client::Connect(context);
  if (!client.ok()) return client.status();
  auto answer = client->Call(&Stub::ListWorkers, v1::ListWorkersRequest(), std::chrono::seconds(5));
  if (!answer.ok()) return answer.status();
  for (const v1::Worker& w : answer->workers()) {
    if (w.state() != "connected" || w.quarantine_seconds() > 0 || w.slots() < 1) continue;
    sweeps::Machine m{.name = w.name(), .slots = w.slots(), .memory_bytes = w.memory_bytes()};
    m.labels.assign(w.labels().begin(), w.labels().end());
    std::sort(m.labels.begin(), m.labels.end());
    if (w.devices_size() > 0)
      m.device = w.devices(w.devices_size() - 1);  // the GPU, where there is one
    around->machines.push_back(std::move(m));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ThisDevice(spec::DeviceKind kind) {
  const std::string wanted = kind == spec::DeviceKind::kCuda ? "cuda" : "cpu";
  for (const v1::Device& d : worker::ListDevices()) {
    if (d.kind() == wanted) return DeviceName(wanted, d.name());
  }
  return DeviceName(wanted, "");
}

std::string CalibrationPath(const std::string& db_path) { return db_path + ".calibration.json"; }

absl::StatusOr<std::vector<ShapeRun>> ReadShapeRuns(const std::string& path) {
  std::vector<ShapeRun> out;
  std::ifstream in(path, std::ios::binary);
  if (!in) return out;
  std::ostringstream text;
  text << in.rdbuf();
  try {
    const json all = json::parse(text.str());
    if (all.at("format") != 1) throw std::runtime_error("of a newer version");
    for (const json& run : all.at("runs")) out.push_back(FromJson(run));
  } catch (const std::exception& e) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": ", e.what(), "; it holds measurements alone: move it away and calibrate again"));
  }
  return out;
}

absl::Status AddShapeRuns(const std::string& path, const std::vector<ShapeRun>& runs) {
  const std::string lock = path + ".lock";
  const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return absl::PermissionDeniedError(absl::StrCat("cannot write ", lock));
  flock(fd, LOCK_EX);
  const absl::Status status = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(std::vector<ShapeRun> all, ReadShapeRuns(path));
    std::set<std::pair<std::string, std::string>> fresh;
    for (const ShapeRun& r : runs) fresh.insert({r.device, sweeps::CostKey(r.config)});
    std::erase_if(all, [&](const ShapeRun& r) {
      return fresh.count({r.device, sweeps::CostKey(r.config)}) > 0;
    });
    all.insert(all.end(), runs.begin(), runs.end());
    if (all.size() > kMostRuns) all.erase(all.begin(), all.end() - kMostRuns);
    const std::string partial = path + ".tmp";
    std::ofstream out(partial, std::ios::binary | std::ios::trunc);
    out << Text(all);
    out.close();
    std::error_code error;
    if (out) fs::rename(partial, path, error);
    if (!out || error) return absl::PermissionDeniedError(absl::StrCat("cannot write ", path));
    return absl::OkStatus();
  }();
  close(fd);
  return status;
}

absl::StatusOr<sweeps::Surroundings> LookAround(const Context& context,
                                                const sweeps::CorpusLookup& corpora) {
  sweeps::Surroundings around;
  Runs runs;
  if (const absl::Status workers = AddWorkers(context, &around);
      !workers.ok() && !context.server.empty())
    return workers;
  const absl::StatusOr<std::string> named = DatabasePath(context);
  const std::string path = named.ok() ? *named : context.db;
  ASSIGN_OR_RETURN(const std::vector<ShapeRun> shapes, ReadShapeRuns(CalibrationPath(path)));
  for (const ShapeRun& r : shapes) Add(r, &runs);
  if (fs::exists(path)) {
    ASSIGN_OR_RETURN(store::Database db, OpenResults(path));
    ASSIGN_OR_RETURN(const std::vector<Training> trainings, Trainings(db));
    AddTrainings(trainings, corpora, &runs, &around);
    ASSIGN_OR_RETURN(store::Statement trials, db.Prepare("SELECT key, state FROM trial"));
    while (true) {
      ASSIGN_OR_RETURN(const bool more, trials.Step());
      if (!more) break;
      around.trials.emplace(trials.Text(0), trials.Text(1));
    }
  }
  for (const auto& [on, measured] : runs) {
    auto prices = sweeps::FitPrices(on.device, on.threads, measured);
    if (prices.ok()) around.prices.push_back(*std::move(prices));
  }
  around.device = ThisDevice(spec::DeviceKind::kCpu);
  const bool calibrated =
      std::any_of(around.prices.begin(), around.prices.end(),
                  [&](const sweeps::Prices& p) { return p.device == around.device; });
  if (!calibrated) around.device.clear();
  return around;
}

absl::StatusOr<std::string> WithCalibration(const Context& context, const std::string& yaml,
                                            const sweeps::CorpusLookup& corpora) {
  const auto wanted = sweeps::WantsPrices(yaml);
  if (!wanted) return yaml;
  ASSIGN_OR_RETURN(const sweeps::Surroundings around, LookAround(context, corpora));
  std::vector<std::string> known;
  for (const sweeps::Prices& p : around.prices) {
    if (p.threads == wanted->threads &&
        p.device == (wanted->device.empty() ? around.device : wanted->device))
      return sweeps::WithPrices(yaml, p);
    known.push_back(absl::StrCat("\"", p.device, "\" with ", p.threads,
                                 p.threads == 1 ? " thread" : " threads"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the sweep counts in seconds, and ",
      wanted->device.empty() ? "this machine is not calibrated"
                             : absl::StrCat("\"", wanted->device, "\" is not calibrated"),
      " for ", wanted->threads, wanted->threads == 1 ? " thread" : " threads", " a trial",
      known.empty() ? "" : absl::StrCat("; known are ", absl::StrJoin(known, ", ")),
      "; run `plumb sweep plan --calibrate FILE` on the machine that trains",
      known.empty() ? "" : ", or write calibration: NAME in the file"));
}

}  // namespace plumb::app
