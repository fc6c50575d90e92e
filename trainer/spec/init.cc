#include "trainer/spec/init.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::spec {
namespace {

std::string Shape(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace

std::string TensorDifference(const ModelSpec& of_checkpoint, const ModelSpec& model) {
  const ParameterLayout theirs = LayoutOf(of_checkpoint), ours = LayoutOf(model);
  std::map<std::string, std::vector<int64_t>> there;
  for (const Parameter& p : theirs.parameters) there[p.name] = p.shape;
  for (const Parameter& p : ours.parameters) {
    const auto it = there.find(p.name);
    if (it == there.end()) return "the checkpoint has no tensor " + p.name;
    if (it->second != p.shape)
      return p.name + " is " + Shape(it->second) + " in the checkpoint, and " + Shape(p.shape) +
             " in the model";
    there.erase(it);
  }
  return there.empty() ? "" : "the model has no tensor " + there.begin()->first;
}

std::string ForkDifference(const TrialSpec& of, int64_t step, const TrialSpec& spec) {
  if (step != spec.init.step) {
    return "init.step is " + std::to_string(spec.init.step) + ", and the checkpoint of step " +
           std::to_string(step);
  }
  if (of.train.optimizer == spec.train.optimizer) return "";
  return std::string("the checkpoint has the state of ") + Name(of.train.optimizer) +
         ", and train.optimizer is " + Name(spec.train.optimizer) +
         "; leave init.step out to begin with the weights alone";
}

std::string ResolveInit(TrialSpec* spec) {
  InitSpec& init = spec->init;
  if (init.trial == 0 && init.checkpoint.empty()) {
    if (init.step > 0)
      return "init.step is of no checkpoint; say init.trial or init.checkpoint too";
    return init.digest.empty() ? "" : "init.digest is of no checkpoint; say init.checkpoint too";
  }
  if (init.step > 0 && init.step >= spec->train.steps) {
    return "init.step is " + std::to_string(init.step) + ", and the run ends at step " +
           std::to_string(spec->train.steps) + "; give it a larger budget";
  }
  if (!init.digest.empty() || init.checkpoint.empty()) return "";
  if (init.checkpoint.front() != '/') return "give an absolute path: trials run in other folders";
  const std::filesystem::path folder = init.checkpoint;
  std::ifstream in(folder / "manifest.json", std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf()) || !std::filesystem::exists(folder / "DONE"))
    return init.checkpoint + " is no checkpoint: give a folder step-… with manifest.json and DONE";
  const nlohmann::json manifest = nlohmann::json::parse(text.str(), nullptr, false);
  TrialSpec other;
  if (!manifest.is_object() || !manifest.contains("config"))
    return init.checkpoint + ": its manifest.json is damaged";
  nlohmann::json config = manifest["config"];
  if (config.is_object()) config.erase("init");
  if (const auto errors = ParseResolved(config.dump(), &other); !errors.empty())
    return init.checkpoint + ": its config is none of this release: " + Format(errors);
  const std::string differs = TensorDifference(other.model, spec->model);
  if (!differs.empty()) return differs + "; begin with a checkpoint of the same shape and variant";
  if (init.step > 0) {
    const std::string wrong = ForkDifference(other, manifest.value("step", int64_t{0}), *spec);
    if (!wrong.empty()) return wrong;
  }
  init.digest = Sha256Hex(text.str());
  return "";
}

}  // namespace plumb::spec
