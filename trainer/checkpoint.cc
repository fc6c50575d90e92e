#include "trainer/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/files/checkpoint_folder.h"
#include "trainer/protocol/retention.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Doubles as hexadecimal text: exact, and NaN has a spelling.
std::string Hex(double v) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%a", v);
  return buffer;
}

// Row k of a [K, P] tensor as contiguous CPU memory, cut into the layout's tensors.
std::map<std::string, FloatTensor> Tensors(const spec::ParameterLayout& layout,
                                           const at::Tensor& row, const std::string& prefix) {
  std::map<std::string, FloatTensor> out;
  for (const spec::Parameter& p : layout.parameters)
    out[prefix + p.name] = {p.shape, row.data_ptr<float>() + p.offset};
  return out;
}

void Fill(const spec::ParameterLayout& layout, const TensorFile& file, const std::string& prefix,
          at::Tensor row, const std::string& path) {
  at::Tensor cpu = at::zeros({layout.row_size}, at::kFloat);
  for (const spec::Parameter& p : layout.parameters) {
    const auto it = file.tensors().find(prefix + p.name);
    if (it == file.tensors().end())
      throw std::runtime_error(path + ": no tensor " + prefix + p.name);
    if (it->second.shape != p.shape)
      throw std::runtime_error(path + ": " + prefix + p.name + " has another shape than the model");
    std::copy_n(it->second.data, p.size(), cpu.data_ptr<float>() + p.offset);
  }
  row.copy_(cpu);
}

// Throws unless the checkpoint is of this run, or of one that has the same state at that step.
void CheckContinues(const json& manifest, const spec::TrialSpec& s, const std::string& path) {
  json is = manifest.value("config", json::object());
  is.erase("execution");
  const json wanted = spec::Canonical(s, spec::With::kResultOnly);
  if (is == wanted) return;
  const int64_t step = manifest.value("step", int64_t{0});
  spec::TrialSpec other, own = s;
  const bool read = spec::ParseResolved(is.dump(), &other).empty();
  // Where what it began with lay (init.checkpoint) does not matter.
  if (read && spec::Canonical(other, spec::With::kResultOnly) == wanted) return;
  own.execution = other.execution = {};
  const std::string key = spec::PrefixKey(own);
  if (read && !key.empty() && key == spec::PrefixKey(other) &&
      step <= std::min(spec::TrunkSteps(own), spec::TrunkSteps(other)))
    return;
  throw std::runtime_error(path + ": is of another trial, which does not compute the same up to " +
                           "step " + std::to_string(step));
}

// What a crash left, then what is no longer needed.
void Retain(const std::string& dir, const fs::path& newest) {
  std::vector<fs::path> left;
  for (const auto& e : fs::directory_iterator(dir)) {
    const std::string name = e.path().filename();
    if (name.rfind("step-", 0) != 0) continue;
    if (name.find(".tmp-") != std::string::npos || !IsCommitted(e.path())) left.push_back(e.path());
  }
  for (const fs::path& path : left) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  RetainCheckpoints(dir, newest);
}

}  // namespace

SavedCheckpoint SaveCheckpoint(const std::string& dir, const Arena& arena, int64_t k,
                               const RowProgress& progress, const std::string& config_json) {
  Arena& a = const_cast<Arena&>(arena);
  const auto row = [&](const at::Tensor& t) { return t.select(0, k).detach().cpu().contiguous(); };
  const at::Tensor w = row(a.weights()), m = row(a.m()), v = row(a.v());
  CheckpointContent content{.step = progress.step,
                            .weights = Tensors(arena.layout(), w, ""),
                            .moments = Tensors(arena.layout(), m, "m.")};
  content.moments.merge(Tensors(arena.layout(), v, "v."));
  content.manifest_json = json{{"config", json::parse(config_json)},
                               {"progress",
                                {{"first_loss", Hex(progress.first_loss)},
                                 {"smoothed_loss", Hex(progress.smoothed_loss)},
                                 {"wall_seconds", Hex(progress.wall_seconds)},
                                 {"cpu_seconds", Hex(progress.cpu_seconds)},
                                 {"block_evaluations", Hex(progress.block_evaluations)}}}}
                              .dump();
  const fs::path final = WriteCheckpointFolder(dir, content);
  SavedCheckpoint out{.path = final, .digest = spec::Sha256HexOfFile(final / "manifest.json")};
  for (const auto& e : fs::directory_iterator(final))
    out.bytes += static_cast<int64_t>(e.file_size());
  Retain(dir, final);
  return out;
}

RowProgress LoadCheckpoint(const CheckpointRef& ref, Arena& arena, int64_t k,
                           const spec::TrialSpec* continues) {
  const fs::path dir = ref.path;
  const json manifest = ReadCheckpointManifest(ref.path, ref.digest);
  RowProgress progress;
  if (ref.resume) {
    if (!manifest.at("files").contains("optimizer.safetensors")) {
      throw std::runtime_error(ref.path +
                               ": holds weights alone (it was imported); a stage can start from it "
                               "but not be resumed");
    }
    try {
      const auto number = [&](const char* name) {
        return std::strtod(manifest.at("progress").at(name).get<std::string>().c_str(), nullptr);
      };
      progress = {.step = manifest.at("step").get<int64_t>(),
                  .first_loss = number("first_loss"),
                  .smoothed_loss = number("smoothed_loss"),
                  .wall_seconds = number("wall_seconds"),
                  .cpu_seconds = number("cpu_seconds")};
      if (manifest.at("progress").contains("block_evaluations"))
        progress.block_evaluations = number("block_evaluations");
    } catch (const json::exception&) {
      throw std::runtime_error(ref.path + ": damaged manifest");
    }
  }
  at::NoGradGuard no_grad;
  const std::string weights = dir / "weights.safetensors",
                    optimizer = dir / "optimizer.safetensors";
  const auto read = [&](const std::string& path, size_t per_parameter) {
    TensorFile file = TensorFile::Read(path);
    if (file.tensors().size() != per_parameter * arena.layout().parameters.size()) {
      throw std::runtime_error(path + ": " + std::to_string(file.tensors().size()) +
                               " tensors, but the model has " +
                               std::to_string(arena.layout().parameters.size()) + " parameters");
    }
    return file;
  };
  Fill(arena.layout(), read(weights, 1), "", arena.weights().select(0, k), weights);
  arena.grads().select(0, k).zero_();
  if (!ref.resume) {
    arena.m().select(0, k).zero_();
    arena.v().select(0, k).zero_();
    return {};
  }
  if (continues != nullptr) CheckContinues(manifest, *continues, ref.path);
  const TensorFile moments = read(optimizer, 2);
  Fill(arena.layout(), moments, "m.", arena.m().select(0, k), optimizer);
  Fill(arena.layout(), moments, "v.", arena.v().select(0, k), optimizer);
  return progress;
}

}  // namespace plumb::trainer
