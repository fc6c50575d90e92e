// Measured shapes, kept per device in a file beside the database, and what else a plan can know of
// the machines: the finished trials of the database, the workers of the server.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "app/context.h"
#include "sweeps/calibration.h"
#include "sweeps/outlook.h"
#include "sweeps/plan.h"

namespace plumb::app {

// One shape, as `plumb-trainer shape-cost` measured it while the machine's other slots were busy
// with others.
struct ShapeRun {
  std::string device;  // "cpu: AMD EPYC"
  spec::TrialSpec config;
  double step_seconds = 0, pass_seconds = 0,
         around_seconds = 0;  // of a processor where the device is one
  int64_t pass_tokens = 0, peak_bytes = 0;
  int64_t time_us = 0;
};

// The device that a trial of this config runs on here; "cpu: " alone where the system does not
// tell.
std::string ThisDevice(spec::DeviceKind kind);

// "plumb.db.calibration.json" for plumb.db.
std::string CalibrationPath(const std::string& db_path);
// Empty where there is no file; an error where it cannot be read, with the path.
absl::StatusOr<std::vector<ShapeRun>> ReadShapeRuns(const std::string& path);
// Adds to the file, under its lock; a shape measured again on a device takes the place of the older
// run.
absl::Status AddShapeRuns(const std::string& path, const std::vector<ShapeRun>& runs);

// The distinct shapes of a plan at the ends of what it spans: smallest, largest, and then those
// furthest from all taken, at most `most`. Larger ones than a short measurement can bear are given
// a smaller batch. Where the plan has few, neighbours of them are added.
std::vector<spec::TrialSpec> ShapesToMeasure(const sweeps::SweepPlan& plan, size_t most);

// Runs the trainer on each, as many at once as the machine has cores for; says on standard error
// how far it is.
absl::StatusOr<std::vector<ShapeRun>> MeasureShapes(const std::string& trainer,
                                                    const std::vector<spec::TrialSpec>& shapes,
                                                    double seconds);

// Prices, finished and running trials, workers: what of it can be had. `corpora` tells how long
// evaluations are. Unavailable only where --server names one that does not answer.
absl::StatusOr<sweeps::Surroundings> LookAround(const Context& context,
                                                const sweeps::CorpusLookup& corpora);

// The sweep file with prices written in where it counts in seconds and has none; NotFound with the
// fix where the device is not calibrated.
absl::StatusOr<std::string> WithCalibration(const Context& context, const std::string& yaml,
                                            const sweeps::CorpusLookup& corpora);

}  // namespace plumb::app
