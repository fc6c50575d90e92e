#include "interchange/hf_folder.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>

#include "interchange/hf_config.h"
#include "interchange/hf_tensors.h"
#include "interchange/weight_files.h"
#include "trainer/files/checkpoint_folder.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/sha256.h"

namespace plumb::interchange {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTokenizerFiles[] = {
    "tokenizer.model",       "tokenizer.json",          "vocab.json",       "merges.txt",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path.string() + ": cannot be read");
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

[[noreturn]] void Fail(const std::string& where, const std::vector<spec::SpecError>& errors) {
  throw std::runtime_error(where + ":\n" + spec::Format(errors));
}

std::string Shape(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (int64_t s : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(s);
  return out + "]";
}

bool EndsWith(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

// Their tensors by the names of the map; what is in the files and not in the map is an error.
class Theirs {
 public:
  Theirs(const WeightFiles& files, const TensorMap& map, const std::string& dir)
      : files_(files), map_(map), dir_(dir) {
    for (const Link& link : map.links) wanted_.insert(Find(link.theirs));
    for (const auto& zero : map.zeros) wanted_.insert(zero.theirs);
    for (const auto& copy : map.copies) wanted_.insert(copy.theirs);
    for (const auto& [name, place] : files.tensors()) {
      const bool ignored =
          std::any_of(map.ignored.begin(), map.ignored.end(),
                      [&n = name](const std::string& end) { return EndsWith("." + n, end); });
      if (wanted_.count(name) == 0 && !ignored) {
        throw std::runtime_error(dir + ": " + name + " " + Shape(place.entry.shape) +
                                 " is a tensor that this layout does not have");
      }
    }
    CheckZeros();
    CheckCopies();
  }

  // The name in the files of a tensor of the map.
  const std::string& Find(const std::string& name) const {
    if (const auto it = files_.tensors().find(name); it != files_.tensors().end()) return it->first;
    for (const auto& [theirs, other] : map_.aliases) {
      if (theirs != name) continue;
      if (const auto it = files_.tensors().find(other); it != files_.tensors().end())
        return it->first;
    }
    throw std::runtime_error(dir_ + ": tensor " + name + " is missing");
  }
  void CheckShape(const Link& link) const {
    const std::string& name = Find(link.theirs);
    const auto& shape = files_.tensors().at(name).entry.shape;
    if (shape != link.theirs_shape) {
      throw std::runtime_error(dir_ + ": " + name + " is " + Shape(shape) +
                               ", but config.json says " + Shape(link.theirs_shape));
    }
  }

 private:
  void CheckZeros() const {
    for (const auto& zero : map_.zeros) {
      if (files_.tensors().count(zero.theirs) == 0) continue;
      const std::vector<float> values = files_.Read<float>(zero.theirs);
      if (std::any_of(values.begin(), values.end(), [](float v) { return v != 0; })) {
        throw std::runtime_error(dir_ + ": " + zero.theirs +
                                 " is not zero, and Plumb has no such parameter");
      }
    }
  }
  void CheckCopies() const {
    for (const auto& copy : map_.copies) {
      if (files_.tensors().count(copy.theirs) == 0) continue;
      if (files_.Read<float>(copy.theirs) != files_.Read<float>(Find(copy.of))) {
        throw std::runtime_error(dir_ + ": " + copy.theirs + " is not " + copy.of +
                                 ", but config.json says tie_word_embeddings; set it to false");
      }
    }
  }

  const WeightFiles& files_;
  const TensorMap& map_;
  const std::string dir_;
  std::set<std::string> wanted_;
};

}  // namespace

spec::TrialSpec SpecOf(const json& manifest, const std::string& where) {
  if (!manifest.contains("config")) throw std::runtime_error(where + ": no config in the manifest");
  spec::TrialSpec spec;
  std::vector<spec::SpecError> errors = spec::Parse(manifest["config"], &spec);
  if (errors.empty()) errors = spec::Resolve(&spec);
  if (!errors.empty()) Fail(where, errors);
  return spec;
}

Imported ImportHf(const std::string& dir, const std::string& out) {
  const fs::path config_path = fs::path(dir) / "config.json";
  if (!fs::exists(config_path))
    throw std::runtime_error(dir + ": no config.json; give the folder of a Hugging Face model");
  const json config = json::parse(ReadText(config_path), nullptr, false);
  if (config.is_discarded()) throw std::runtime_error(config_path.string() + ": not JSON");
  HfConfig read;
  if (const auto errors = ConfigFromHf(config, &read); !errors.empty())
    Fail(config_path.string(), errors);
  const fs::path final = fs::path(out) / "step-000000000000";
  if (fs::exists(final))
    throw std::runtime_error(final.string() + " exists; choose another folder");

  const WeightFiles files = WeightFiles::OpenFolder(dir);
  const TensorMap map = HfTensors(read.model_type, read.spec.model);
  const Theirs theirs(files, map, dir);
  Imported result{.model_type = read.model_type, .spec = read.spec, .notes = read.notes};
  const spec::ParameterLayout layout = spec::LayoutOf(read.spec.model);
  std::map<std::string, std::vector<float>> buffers;
  bool rounded = false;
  for (const spec::Parameter& p : layout.parameters)
    buffers[p.name].resize(static_cast<size_t>(p.size()));
  for (const Link& link : map.links) {
    theirs.CheckShape(link);
    const std::string& name = theirs.Find(link.theirs);
    rounded |= files.tensors().at(name).entry.dtype == "F64";
    MoveToOurs(link, files.Read<float>(name).data(), buffers.at(link.ours).data());
  }
  if (rounded) result.notes.push_back("weights of float64 are rounded to float32");

  trainer::CheckpointContent content{.step = 0};
  for (const spec::Parameter& p : layout.parameters) {
    content.weights[p.name] = {p.shape, buffers.at(p.name).data()};
    result.parameters += p.size();
  }
  for (const char* name : kTokenizerFiles) {
    if (!fs::exists(fs::path(dir) / name)) continue;
    content.files[name] = ReadText(fs::path(dir) / name);
    result.files.emplace_back(name);
  }
  content.manifest_json = json{{"config", spec::Canonical(read.spec, spec::With::kResultOnly)},
                               {"source", {{"format", "huggingface"}, {"config", config}}}}
                              .dump();
  result.checkpoint = trainer::WriteCheckpointFolder(out, content);
  result.digest = spec::Sha256HexOfFile(fs::path(result.checkpoint) / "manifest.json");
  return result;
}

Exported ExportHf(const std::string& checkpoint, const std::string& dir,
                  const ExportOptions& options) {
  if (fs::exists(dir) && !(fs::is_directory(dir) && fs::is_empty(dir)))
    throw std::runtime_error(dir + " is not an empty folder; choose another");
  const json manifest = trainer::ReadCheckpointManifest(checkpoint, "");
  const spec::TrialSpec spec = SpecOf(manifest, checkpoint);
  json config;
  if (const auto errors = ConfigToHf(spec, options.model_type, &config); !errors.empty()) {
    Fail("this model has no place in a Hugging Face layout" + (options.model_type.empty()
                                                                   ? " (what the nearest lacks)"
                                                                   : " of " + options.model_type),
         errors);
  }
  Exported result{.model_type = config.at("model_type")};
  std::map<std::string, std::string> texts;
  const json source = manifest.value("source", json::object()).value("config", json::object());
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (source.contains(key)) config[key] = source[key];
  }
  if (options.bos) config["bos_token_id"] = *options.bos;
  if (options.eos) config["eos_token_id"] = *options.eos;
  texts = options.tokenizer_files;
  if (texts.empty()) {
    for (const char* name : kTokenizerFiles) {
      if (manifest.at("files").contains(name)) texts[name] = ReadText(fs::path(checkpoint) / name);
    }
  }
  texts["config.json"] = config.dump(2) + "\n";
  json generation = {{"_from_model_config", true}};
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    generation[key] = config[key];
  texts["generation_config.json"] = generation.dump(2) + "\n";

  const TensorMap map = HfTensors(result.model_type, spec.model);
  const std::string weights_path = fs::path(checkpoint) / "weights.safetensors";
  const trainer::TensorFile ours = trainer::TensorFile::Read(weights_path);
  std::map<std::string, std::vector<float>> buffers;
  std::map<std::string, trainer::FloatTensor> tensors;
  const auto room = [&](const std::string& name, const std::vector<int64_t>& shape) -> float* {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    std::vector<float>& buffer = buffers[name];
    buffer.resize(static_cast<size_t>(n));
    tensors[name] = {shape, buffer.data()};
    return buffer.data();
  };
  for (const Link& link : map.links) {
    const auto it = ours.tensors().find(link.ours);
    if (it == ours.tensors().end() || it->second.shape != link.ours_shape) {
      throw std::runtime_error(weights_path + ": " + link.ours + " " + Shape(link.ours_shape) +
                               " of the config is not there");
    }
    MoveToTheirs(link, it->second.data, room(link.theirs, link.theirs_shape));
  }
  for (const spec::Parameter& p : spec::LayoutOf(spec.model).parameters)
    result.parameters += p.size();
  for (const auto& zero : map.zeros) room(zero.theirs, zero.shape);

  fs::path target = fs::path(dir).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "out/"
  const fs::path temporary = target.string() + ".tmp-export";
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  try {
    trainer::WriteSafetensors(temporary / "model.safetensors", tensors, {{"format", "pt"}});
    for (const auto& [name, text] : texts) trainer::WriteFileSynced(temporary / name, text);
    fs::remove(target);  // empty
    fs::rename(temporary, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  result.files = {"model.safetensors"};
  for (const auto& [name, text] : texts) result.files.push_back(name);
  return result;
}

}  // namespace plumb::interchange
