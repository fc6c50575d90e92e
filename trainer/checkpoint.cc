#include "trainer/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "trainer/safetensors.h"
#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kKept = 2;

// Doubles as hexadecimal text: exact, and NaN has a spelling.
std::string Hex(double v) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%a", v);
  return buffer;
}

std::string StepName(int64_t step) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "step-%012lld", static_cast<long long>(step));
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

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + ": cannot be read");
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

bool IsDone(const fs::path& p) { return fs::exists(p / "DONE"); }

// Whether what lies in a committed folder is what its manifest says.
bool Intact(const fs::path& dir) {
  try {
    const json manifest = json::parse(ReadText(dir / "manifest.json"));
    for (const auto& [name, entry] : manifest.at("files").items()) {
      if (spec::Sha256HexOfFile(dir / name) != entry.at("sha256").get<std::string>()) return false;
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void Retain(const std::string& dir, const fs::path& newest) {
  std::vector<fs::path> steps;
  for (const auto& e : fs::directory_iterator(dir)) {
    const std::string name = e.path().filename();
    if (name.rfind("step-", 0) != 0) continue;
    if (name.find(".tmp-") != std::string::npos || !IsDone(e.path())) {
      std::error_code ignored;
      fs::remove_all(e.path(), ignored);
    } else if (e.path() <= newest) {
      steps.push_back(e.path());
    }
  }
  std::sort(steps.begin(), steps.end());
  for (size_t i = 0; i + kKept < steps.size(); ++i) {
    std::error_code ignored;
    fs::remove(steps[i] / "DONE", ignored);  // first: half a checkpoint is none
    fs::remove_all(steps[i], ignored);
  }
}

}  // namespace

SavedCheckpoint SaveCheckpoint(const std::string& dir, const Arena& arena, int64_t k,
                               const RowProgress& progress, const std::string& config_json) {
  fs::create_directories(dir);
  const fs::path final = fs::path(dir) / StepName(progress.step);
  if (!IsDone(final) || !Intact(final)) {
    const fs::path temporary = final.string() + ".tmp-" + std::to_string(getpid());
    fs::remove_all(temporary);
    fs::remove_all(final);
    fs::create_directory(temporary);
    Arena& a = const_cast<Arena&>(arena);
    const auto row = [&](const at::Tensor& t) {
      return t.select(0, k).detach().cpu().contiguous();
    };
    const at::Tensor w = row(a.weights()), m = row(a.m()), v = row(a.v());
    WriteSafetensors(temporary / "weights.safetensors", Tensors(arena.layout(), w, ""));
    auto moments = Tensors(arena.layout(), m, "m.");
    moments.merge(Tensors(arena.layout(), v, "v."));
    WriteSafetensors(temporary / "optimizer.safetensors", moments);
    json files = json::object();
    for (const char* name : {"weights.safetensors", "optimizer.safetensors"}) {
      files[name] = {{"bytes", fs::file_size(temporary / name)},
                     {"sha256", spec::Sha256HexOfFile(temporary / name)}};
    }
    const json manifest = {{"format", 1},
                           {"step", progress.step},
                           {"config", json::parse(config_json)},
                           {"files", files},
                           {"progress",
                            {{"first_loss", Hex(progress.first_loss)},
                             {"smoothed_loss", Hex(progress.smoothed_loss)},
                             {"wall_seconds", Hex(progress.wall_seconds)},
                             {"cpu_seconds", Hex(progress.cpu_seconds)}}}};
    WriteFileSynced(temporary / "manifest.json", manifest.dump(1) + "\n");
    SyncFolder(temporary);
    fs::rename(temporary, final);
    SyncFolder(dir);
    WriteFileSynced(final / "DONE", "");
    SyncFolder(final);
  }
  SavedCheckpoint out{.path = final, .digest = spec::Sha256HexOfFile(final / "manifest.json")};
  for (const auto& e : fs::directory_iterator(final))
    out.bytes += static_cast<int64_t>(e.file_size());
  Retain(dir, final);
  return out;
}

RowProgress LoadCheckpoint(const CheckpointRef& ref, Arena& arena, int64_t k) {
  const fs::path dir = ref.path;
  if (!IsDone(dir))
    throw std::runtime_error(ref.path + ": not a committed checkpoint (no DONE marker)");
  const std::string text = ReadText(dir / "manifest.json");
  if (!ref.digest.empty() && spec::Sha256Hex(text) != ref.digest)
    throw std::runtime_error(ref.path + ": the manifest is not the one that was committed");
  const json manifest = json::parse(text, nullptr, false);
  if (manifest.is_discarded()) throw std::runtime_error(ref.path + ": damaged manifest");
  RowProgress progress;
  try {
    for (const std::string name : {"weights.safetensors", "optimizer.safetensors"}) {
      if (!fs::exists(dir / name)) throw std::runtime_error(ref.path + "/" + name + ": missing");
      if (spec::Sha256HexOfFile(dir / name) !=
          manifest.at("files").at(name).at("sha256").get<std::string>())
        throw std::runtime_error(ref.path + "/" + name + ": damaged (its SHA-256 is another)");
    }
    const auto number = [&](const char* name) {
      return std::strtod(manifest.at("progress").at(name).get<std::string>().c_str(), nullptr);
    };
    progress = {.step = manifest.at("step").get<int64_t>(),
                .first_loss = number("first_loss"),
                .smoothed_loss = number("smoothed_loss"),
                .wall_seconds = number("wall_seconds"),
                .cpu_seconds = number("cpu_seconds")};
  } catch (const json::exception&) {
    throw std::runtime_error(ref.path + ": damaged manifest");
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
  const TensorFile moments = read(optimizer, 2);
  Fill(arena.layout(), moments, "m.", arena.m().select(0, k), optimizer);
  Fill(arena.layout(), moments, "v.", arena.v().select(0, k), optimizer);
  return progress;
}

}  // namespace plumb::trainer
