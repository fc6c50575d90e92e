#include "trainer/protocol/file_checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
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

void Sync(const fs::path& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  const bool done = fd >= 0 && fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!done) throw std::runtime_error(path.string() + ": " + std::strerror(error));
}

void WriteSynced(const fs::path& path, const std::string& text) {
  {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << text;
    out.flush();
    if (!out) throw std::runtime_error(path.string() + ": cannot be written");
  }
  Sync(path, O_RDONLY);
}

}  // namespace

FileCheckpoint CommitFiles(const std::string& folder, const std::string& dir, int64_t step) {
  const fs::path from = folder;
  if (!fs::is_directory(from)) throw std::runtime_error(folder + ": no such folder");
  json files = json::object();
  FileCheckpoint out;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename();
    if (name == "manifest.json" || name == "DONE")
      throw std::runtime_error(entry.path().string() + ": the name is taken; choose another");
    if (!entry.is_regular_file() || entry.is_symlink())
      throw std::runtime_error(entry.path().string() + ": a checkpoint holds files only");
    Sync(entry.path(), O_RDONLY);
    files[name] = {{"bytes", entry.file_size()}, {"sha256", spec::Sha256HexOfFile(entry.path())}};
    out.bytes += static_cast<int64_t>(entry.file_size());
  }
  if (files.empty()) throw std::runtime_error(folder + ": a checkpoint without a file");
  const std::string manifest =
      json({{"format", 1}, {"kind", "external"}, {"step", step}, {"files", files}}).dump(1) + "\n";
  WriteSynced(from / "manifest.json", manifest);
  Sync(from, O_RDONLY | O_DIRECTORY);
  char name[32];
  std::snprintf(name, sizeof name, "step-%012lld", static_cast<long long>(step));
  const fs::path to = fs::path(dir) / name;
  fs::create_directories(dir);
  std::error_code ignored;
  fs::remove(to / "DONE", ignored);  // first: half a checkpoint is none
  fs::remove_all(to);
  fs::rename(from, to);
  Sync(dir, O_RDONLY | O_DIRECTORY);
  WriteSynced(to / "DONE", "");
  Sync(to, O_RDONLY | O_DIRECTORY);
  out.path = to;
  out.digest = spec::Sha256Hex(manifest);
  out.bytes += static_cast<int64_t>(manifest.size());
  return out;
}

std::string CheckFiles(const std::string& path, const std::string& digest) {
  const fs::path dir = path;
  if (!fs::exists(dir / "DONE")) return path + ": not a committed checkpoint (no DONE marker)";
  std::ostringstream text;
  text << std::ifstream(dir / "manifest.json", std::ios::binary).rdbuf();
  if (!digest.empty() && spec::Sha256Hex(text.str()) != digest)
    return path + ": the manifest is not the one that was committed";
  const json manifest = json::parse(text.str(), nullptr, false);
  if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_object())
    return path + ": damaged manifest";
  for (const auto& [name, entry] : manifest["files"].items()) {
    const bool whole = entry.is_object() && fs::is_regular_file(dir / name) &&
                       spec::Sha256HexOfFile(dir / name) == entry.value("sha256", "");
    if (!whole) return (dir / name).string() + ": damaged (its SHA-256 is another)";
  }
  return "";
}

}  // namespace plumb::trainer
