// The shapes that a calibration measures, and the trainers that do it.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "app/calibration.h"
#include "app/trainer_question.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"

namespace plumb::app {
namespace {

using nlohmann::json;

constexpr double kMostFlops = 3e11;  // of a step that is timed: seconds on one core
constexpr size_t kFewShapes =
    10;  // fewer say little about others: their neighbours are measured too

double StepFlops(const spec::TrialSpec& s) {
  return static_cast<double>(s.train.batch_tokens) *
         static_cast<double>(spec::TrainingFlopsPerToken(s.model, s.data.seq_len));
}

// As much of the batch as a short measurement bears; whole sequences.
spec::TrialSpec Bearable(spec::TrialSpec s) {
  const double flops = StepFlops(s);
  if (flops <= kMostFlops) return s;
  const double share = kMostFlops / flops;
  const int64_t sequences = s.train.batch_tokens / s.data.seq_len;
  s.train.batch_tokens =
      s.data.seq_len *
      std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<double>(sequences)));
  return s;
}

// Where a shape stands among others: what it costs, each by its logarithm.
using Place = std::array<double, 6>;
Place PlaceOf(const spec::TrialSpec& s) {
  const auto log = [](double x) { return std::log(std::max(x, 1.0)); };
  return {
      log(static_cast<double>(s.model.n_layers)),   log(static_cast<double>(s.model.d_model)),
      log(static_cast<double>(s.data.seq_len)),     log(static_cast<double>(s.train.batch_tokens)),
      log(static_cast<double>(s.model.vocab_size)), log(static_cast<double>(s.model.d_ff))};
}
double Distance(const Place& a, const Place& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

void AddNeighbours(std::vector<spec::TrialSpec>* shapes) {
  const std::vector<spec::TrialSpec> given = *shapes;
  for (const spec::TrialSpec& s : given) {
    const auto add = [&](auto change) {
      spec::TrialSpec other = s;
      change(other);
      if (spec::Resolve(&other).empty()) shapes->push_back(other);
    };
    add([](spec::TrialSpec& t) { t.model.n_layers *= 2; });
    add([](spec::TrialSpec& t) { t.model.n_layers = std::max<int64_t>(1, t.model.n_layers / 2); });
    add([](spec::TrialSpec& t) { t.model.d_ff = std::max<int64_t>(8, t.model.d_ff / 2); });
    add([](spec::TrialSpec& t) { t.model.d_ff *= 2; });
    add([](spec::TrialSpec& t) {
      t.train.batch_tokens =
          t.data.seq_len * std::max<int64_t>(1, t.train.batch_tokens / t.data.seq_len / 4);
    });
    add([](spec::TrialSpec& t) {  // twice as wide, by heads
      t.model.n_heads *= 2, t.model.n_kv_heads *= 2, t.model.d_model *= 2, t.model.d_ff *= 2;
    });
  }
}

std::vector<spec::TrialSpec> Distinct(const std::vector<spec::TrialSpec>& shapes) {
  std::vector<spec::TrialSpec> out;
  std::set<std::string> seen;
  for (const spec::TrialSpec& shape : shapes) {
    spec::TrialSpec s = Bearable(shape);
    s.train.steps = 100, s.train.tokens = 0, s.train.flops = 0, s.train.epochs = 0;
    s.train.warmup_steps = 0, s.train.warmup_fraction = 0, s.data.phases.clear(), s.eval.points = 1;
    if (seen.insert(sweeps::CostKey(s)).second) out.push_back(s);
  }
  return out;
}

// The trainer at work on one shape.
struct Running {
  TrainerQuestion question;
  size_t shape = 0;
};

absl::StatusOr<ShapeRun> Take(const TrainerQuestion& question, int status,
                              const spec::TrialSpec& s) {
  const std::string wrong = question.Wrong();
  const json j = question.Answer();
  if (status != 0 || !j.is_object()) {
    return absl::InternalError(absl::StrCat(
        "plumb-trainer shape-cost failed on n_layers=", s.model.n_layers,
        " d_model=", s.model.d_model, wrong.empty() ? " (out of memory?)" : ": " + wrong));
  }
  const std::string clock = s.numerics.device == spec::DeviceKind::kCpu && s.execution.threads <= 1
                                ? "_cpu_seconds"
                                : "_seconds";
  return ShapeRun{.device = ThisDevice(s.numerics.device),
                  .config = s,
                  .step_seconds = j.at("step" + clock),
                  .pass_seconds = j.at("pass" + clock),
                  .around_seconds = j.at("around" + clock),
                  .pass_tokens = j.at("pass_tokens"),
                  .peak_bytes = j.at("peak_bytes"),
                  .time_us = absl::GetCurrentTimeNanos() / 1000};
}

}  // namespace

std::vector<spec::TrialSpec> ShapesToMeasure(const sweeps::SweepPlan& plan, size_t most) {
  std::vector<spec::TrialSpec> all;
  for (const sweeps::PlannedTrial& t : plan.trials) {
    if (t.replicate == 0 && !t.aa && t.stages.front().kind != "noop") all.push_back(t.config);
  }
  std::vector<spec::TrialSpec> shapes = Distinct(all);
  if (shapes.empty()) return {};
  if (shapes.size() < kFewShapes) {
    AddNeighbours(&shapes);
    shapes = Distinct(shapes);
  }
  // The smallest, the largest, then always the one furthest from what was taken.
  std::stable_sort(shapes.begin(), shapes.end(),
                   [](const spec::TrialSpec& a, const spec::TrialSpec& b) {
                     return StepFlops(a) < StepFlops(b);
                   });
  std::vector<spec::TrialSpec> out;
  std::vector<double> far(shapes.size(), INFINITY);
  const auto take = [&](size_t i) {
    out.push_back(shapes[i]);
    for (size_t j = 0; j < shapes.size(); ++j)
      far[j] = std::min(far[j], Distance(PlaceOf(shapes[i]), PlaceOf(shapes[j])));
  };
  take(0);
  if (shapes.size() > 1 && most > 1) take(shapes.size() - 1);
  while (out.size() < std::min(most, shapes.size())) {
    const size_t furthest = std::max_element(far.begin(), far.end()) - far.begin();
    if (far[furthest] == 0) break;
    take(furthest);
  }
  return out;
}

absl::StatusOr<std::vector<ShapeRun>> MeasureShapes(const std::string& trainer,
                                                    const std::vector<spec::TrialSpec>& shapes,
                                                    double seconds) {
  const int64_t threads =
      shapes.empty() ? 1 : std::max<int64_t>(1, shapes.front().execution.threads);
  const bool cuda = !shapes.empty() && shapes.front().numerics.device == spec::DeviceKind::kCuda;
  const auto cores = static_cast<int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  const auto at_once = static_cast<size_t>(cuda ? 1 : std::max<int64_t>(1, cores / threads));
  std::vector<ShapeRun> out;
  std::map<pid_t, Running> running;
  absl::Status failed;
  size_t next = 0;
  while (next < shapes.size() || !running.empty()) {
    while (failed.ok() && next < shapes.size() && running.size() < at_once) {
      auto asked = TrainerQuestion::Ask(
          trainer, "shape-cost",
          {{"spec", spec::Canonical(shapes[next], spec::With::kExecution)}, {"seconds", seconds}},
          "plumb-calibrate-");
      if (!asked.ok()) failed = asked.status();
      if (asked.ok()) {
        const pid_t pid = asked->pid();
        running.emplace(pid, Running{.question = *std::move(asked), .shape = next});
      }
      ++next;
    }
    if (running.empty()) break;
    int status = 0;
    const pid_t pid = waitpid(-1, &status, 0);
    const auto it = running.find(pid);
    if (it == running.end()) continue;
    auto run = Take(it->second.question, status, shapes[it->second.shape]);
    running.erase(it);
    if (run.ok()) out.push_back(*std::move(run));
    if (!run.ok() && failed.ok()) failed = run.status(), next = shapes.size();
    std::fprintf(stderr, "calibrating: %zu of %zu shapes%s", out.size(), shapes.size(),
                 isatty(STDERR_FILENO) ? "\r" : "\n");
  }
  if (isatty(STDERR_FILENO)) std::fputc('\n', stderr);
  if (!failed.ok()) return failed;
  return out;
}

}  // namespace plumb::app
