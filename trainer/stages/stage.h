// Stages that follow a training: what each does with a trained row, as work in small pieces, so
// that the trainer stays open to commands between them.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/protocol/engine.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// The trial cannot do what the stage asks of it; no fault of the worker's.
class Infeasible : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct StageContext {
  std::string name;      // of the row
  spec::TrialSpec spec;  // resolved
  Bundle* bundle;        // its row 0 has the trained weights
  const data::Dataset* dataset;
  std::string data_dir;
  nlohmann::json settings;  // all of them (spec::ReadStageSettings)
  EventSink* sink;

  void Record(const std::string& kind, const std::string& of, int64_t index,
              const nlohmann::json& value) const {
    using nlohmann::json;
    sink->Record(name, 1, kind, of, index,
                 value.dump(-1, ' ', false, json::error_handler_t::replace));
  }
  void Point(const std::string& series, double value) const {
    sink->Points(name, 1, {{.name = series, .value = value}});
  }
};

using StageWork = std::vector<std::function<void()>>;

using StagePlan = StageWork (*)(const StageContext&);

// What a kind's own file says at namespace scope: const RegisterStage kProbe("probe", PlanProbe);
// Its settings are in spec::StageKindTable(). docs/how-to/add-a-stage.md.
struct RegisterStage {
  RegisterStage(const char* kind, StagePlan plan);
};

// "val" → kVal; throws Infeasible for an unknown name.
data::Split SplitNamed(const std::string& name);

// The path of a file setting {"path", "sha256"}, "" for null; throws Infeasible where its bytes are
// not those that were planned with.
std::string CheckedFile(const nlohmann::json& file);

bool HasStage(const std::string& kind);
// The pieces, to be called in order. They share `context`, which must outlive them. Throws
// Infeasible, also from a piece; std::exception where something fails.
StageWork PlanStage(const std::string& kind, const StageContext& context);

}  // namespace plumb::trainer
