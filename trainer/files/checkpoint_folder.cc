#include "trainer/files/checkpoint_folder.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + ": cannot be read");
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// The same config: otherwise the folder's name was given again, by a database that had forgotten
// whose it was, and what lies there is another trial's.
bool IsOf(const fs::path& dir, const std::string& manifest_json) {
  const json there = json::parse(ReadText(dir / "manifest.json"));
  const json wanted = json::parse(manifest_json);
  return there.value("config", json()) == wanted.value("config", json());
}

}  // namespace

bool IsCommitted(const std::string& path) { return fs::exists(fs::path(path) / "DONE"); }

bool IsIntact(const std::string& path) {
  try {
    const fs::path dir = path;
    const json manifest = json::parse(ReadText(dir / "manifest.json"));
    for (const auto& [name, entry] : manifest.at("files").items()) {
      if (spec::Sha256HexOfFile(dir / name) != entry.at("sha256").get<std::string>()) return false;
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::string WriteCheckpointFolder(const std::string& dir, const CheckpointContent& content) {
  fs::create_directories(dir);
  char name[32];
  std::snprintf(name, sizeof name, "step-%012lld", static_cast<long long>(content.step));
  const fs::path final = fs::path(dir) / name;
  if (IsCommitted(final) && IsIntact(final) && IsOf(final, content.manifest_json)) return final;
  const fs::path temporary = final.string() + ".tmp-" + std::to_string(getpid());
  fs::remove_all(temporary);
  fs::remove_all(final);
  try {
    fs::create_directory(temporary);
    json files = json::object();
    const auto list = [&](const std::string& file) {
      files[file] = {{"bytes", fs::file_size(temporary / file)},
                     {"sha256", spec::Sha256HexOfFile(temporary / file)}};
    };
    WriteSafetensors(temporary / "weights.safetensors", content.weights);
    list("weights.safetensors");
    if (!content.moments.empty()) {
      WriteSafetensors(temporary / "optimizer.safetensors", content.moments);
      list("optimizer.safetensors");
    }
    for (const auto& [file, bytes] : content.files) {
      WriteFileSynced(temporary / file, bytes);
      list(file);
    }
    json manifest = json::parse(content.manifest_json);
    manifest["format"] = 1;
    manifest["step"] = content.step;
    manifest["files"] = std::move(files);
    WriteFileSynced(temporary / "manifest.json", manifest.dump(1) + "\n");
    SyncFolder(temporary);
  } catch (...) {  // a full disk: what is half done only takes room
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  fs::rename(temporary, final);
  SyncFolder(dir);
  WriteFileSynced(final / "DONE", "");
  SyncFolder(final);
  return final;
}

json ReadCheckpointManifest(const std::string& path, const std::string& digest) {
  const fs::path dir = path;
  if (!IsCommitted(path))
    throw std::runtime_error(path + ": not a committed checkpoint (no DONE marker)");
  const std::string text = ReadText(dir / "manifest.json");
  if (!digest.empty() && spec::Sha256Hex(text) != digest)
    throw std::runtime_error(path + ": the manifest is not the one that was committed");
  const json manifest = json::parse(text, nullptr, false);
  if (manifest.is_discarded()) throw std::runtime_error(path + ": damaged manifest");
  try {
    const json& files = manifest.at("files");
    if (!files.contains("weights.safetensors"))
      throw std::runtime_error(path + ": damaged manifest (no weights)");
    for (const auto& [name, entry] : files.items()) {
      if (!fs::exists(dir / name)) throw std::runtime_error(path + "/" + name + ": missing");
      if (spec::Sha256HexOfFile(dir / name) != entry.at("sha256").get<std::string>())
        throw std::runtime_error(path + "/" + name + ": damaged (its SHA-256 is another)");
    }
  } catch (const json::exception&) {
    throw std::runtime_error(path + ": damaged manifest");
  }
  return manifest;
}

}  // namespace plumb::trainer
