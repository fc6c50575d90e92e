// The engine without arithmetic. Its summary carries the wall-clock time of its start, which
// measurements of the orchestrator's latency read.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "trainer/protocol/engine.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::trainer {
namespace {

using Clock = std::chrono::steady_clock;
// Commands wait for the end of a step, so a step never sleeps longer than this.
constexpr auto kLongestStep = std::chrono::milliseconds(5);

constexpr double kLongestRow = 1e9;  // seconds; a clock holds it

struct Row {
  int64_t step = 0;
  int64_t target = 1;
  Clock::time_point due;
  int64_t start_time_us = 0;
  int64_t records = 0, record_bytes = 0;
  std::vector<PointValue> points;  // said at its end
};

// noop/value and noop/size: a smooth function of the trial's fields, so that searches have
// something to find. Both are lowest in different places; without a bowl the value is 1.
std::vector<PointValue> PointsOf(const spec::TrialSpec& trial, const std::string& bowl) {
  const auto sides = spec::ReadBowl(bowl);
  if (!sides) throw std::runtime_error("noop: bowl: \"" + bowl + "\"");
  if (sides->empty()) return {{.name = "noop/value", .value = 1.0}};
  double value = 0, size = 0;
  spec::TrialSpec copy = trial;
  const std::vector<spec::Field> fields = spec::Fields(copy);
  for (const spec::BowlSide& side : *sides) {
    for (const spec::Field& f : fields) {
      if (f.path != side.field) continue;
      const double x = f.get().get<double>();
      value += std::pow(std::log(x / side.lowest), 2), size += std::log(x);
    }
  }
  return {{.name = "noop/value", .value = value}, {.name = "noop/size", .value = size}};
}

class NoopEngine : public Engine {
 public:
  explicit NoopEngine(EventSink& sink) : sink_(sink) {}

  std::string Description() const override { return "noop"; }
  void Open(const std::string&, int64_t capacity, const std::string&, int64_t) override {
    capacity_ = capacity;
  }

  void AddRow(const RowRequest& request) override {
    if (rows_.contains(request.row))
      throw std::runtime_error("row " + request.row + " is live already");
    if (static_cast<int64_t>(rows_.size()) >= capacity_)
      throw std::runtime_error("the bundle is full");
    if (request.kind != "noop") {
      sink_.RowEnded(request.row, 0, RowOutcome::kInfeasible,
                     "this trainer runs stages of kind noop only, not " + request.kind +
                         ": start the worker with plumb-trainer",
                     "{}");
      return;
    }
    const auto stage = nlohmann::json::parse(request.stage_json);
    Row row;
    row.step = request.checkpoint ? request.checkpoint->step : 0;
    row.target = request.until_step >= 0 ? request.until_step
                                         : std::max(row.step, stage.value("steps", int64_t{1}));
    row.due =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                           std::clamp(stage.value("seconds", 0.0), 0.0, kLongestRow)));
    row.start_time_us = std::chrono::duration_cast<std::chrono::microseconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
    row.records = stage.value("records", int64_t{0});
    row.record_bytes = stage.value("record_bytes", int64_t{0});
    row.points = PointsOf(request.spec, stage.value("bowl", ""));
    rows_[request.row] = row;
    sink_.RowStarted(request.row, row.step);
  }

  void ExtendRow(const std::string& row, int64_t until_step) override {
    Row& found = Find(row);
    if (until_step >= 0) found.target = until_step;
  }
  void CheckpointRow(const std::string& row) override { Find(row); }  // has nothing to keep

  void StopRow(const std::string& row, StopMode mode) override {
    Find(row);
    End(row, mode == StopMode::kPreempt ? RowOutcome::kPreempted : RowOutcome::kCancelled);
  }

  bool Step() override {
    if (rows_.empty()) return false;
    Clock::time_point first = Clock::time_point::max();
    for (const auto& [name, row] : rows_) first = std::min(first, row.due);
    std::this_thread::sleep_until(std::min(first, Clock::now() + kLongestStep));
    const Clock::time_point now = Clock::now();
    for (auto it = rows_.begin(); it != rows_.end();) {
      const std::string name = it->first;
      Row& row = it->second;
      ++it;
      if (row.due > now) continue;
      row.step = row.target;
      sink_.Points(name, row.step, row.points);
      try {
        SayRecords(name, row);
        End(name, RowOutcome::kSucceeded);
      } catch (const std::invalid_argument& e) {
        End(name, RowOutcome::kFailed, e.what());
      }
    }
    return !rows_.empty();
  }

  std::vector<std::string> LiveRows() const override {
    std::vector<std::string> names;
    for (const auto& [name, row] : rows_) names.push_back(name);
    return names;
  }

  void Close() override {
    for (const std::string& row : LiveRows()) End(row, RowOutcome::kCancelled);
  }

 private:
  Row& Find(const std::string& name) {
    const auto it = rows_.find(name);
    if (it == rows_.end()) throw std::runtime_error("no row " + name);
    return it->second;
  }

  void SayRecords(const std::string& name, const Row& row) {
    for (int64_t i = 0; i < row.records; ++i) {
      nlohmann::json data = {{"value", i}};
      if (row.record_bytes > 0) data["padding"] = std::string(row.record_bytes, '.');
      sink_.Record(name, row.step, "noop", "record", i, data.dump());
    }
  }

  void End(const std::string& name, RowOutcome outcome, const std::string& cause = "") {
    const Row row = Find(name);
    rows_.erase(name);
    sink_.RowEnded(name, row.step, outcome, cause,
                   nlohmann::json({{"start_time_us", row.start_time_us}}).dump());
  }

  EventSink& sink_;
  int64_t capacity_ = 0;
  std::map<std::string, Row> rows_;
};

}  // namespace

std::unique_ptr<Engine> MakeNoopEngine(EventSink& sink) {
  return std::make_unique<NoopEngine>(sink);
}

}  // namespace plumb::trainer
