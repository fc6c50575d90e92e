#include "trainer/files/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

namespace plumb::trainer {
namespace {

using nlohmann::json;
constexpr uint64_t kMaxHeader = 16 << 20;

[[noreturn]] void Fail(const std::string& path, const std::string& what) {
  throw std::runtime_error(path + ": " + what);
}

uint64_t WidthOf(const std::string& dtype) {  // bytes; 0: unknown
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "BOOL" || dtype == "I8" || dtype == "U8") return 1;
  return 0;
}

class SyncedFile {
 public:
  explicit SyncedFile(const std::string& path)
      : path_(path), fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (fd_ < 0) Fail(path, std::strerror(errno));
  }
  ~SyncedFile() {
    if (fd_ >= 0) close(fd_);
  }
  void Write(const void* data, size_t size) {
    const char* p = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = write(fd_, p, size);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) Fail(path_, std::strerror(errno));
      p += n, size -= n;
    }
  }
  void Finish() {
    if (fsync(fd_) != 0) Fail(path_, std::strerror(errno));
    const int fd = fd_;
    fd_ = -1;
    if (close(fd) != 0) Fail(path_, std::strerror(errno));
  }

 private:
  std::string path_;
  int fd_;
};

}  // namespace

void WriteFileSynced(const std::string& path, const std::string& text) {
  SyncedFile f(path);
  f.Write(text.data(), text.size());
  f.Finish();
}

void SyncFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) Fail(path, std::strerror(errno));
  const int rc = fsync(fd);
  const int error = errno;
  close(fd);
  if (rc != 0) Fail(path, std::strerror(error));
}

void WriteSafetensors(const std::string& path, const std::map<std::string, FloatTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  const auto count = [](const FloatTensor& t) {
    uint64_t n = 1;
    for (int64_t s : t.shape) n *= static_cast<uint64_t>(s);
    return n;
  };
  for (const auto& [name, t] : tensors) {
    const uint64_t end = offset + 4 * count(t);
    header[name] = {{"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  SyncedFile f(path);
  f.Write(&length, 8);
  f.Write(text.data(), text.size());
  for (const auto& [name, t] : tensors) f.Write(t.data, 4 * count(t));
  f.Finish();
}

SafetensorsHeader ReadSafetensorsHeader(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) Fail(path, "cannot be read");
  const uint64_t whole = static_cast<uint64_t>(in.tellg());
  in.seekg(0);
  uint64_t length = 0;
  if (whole < 8 || !in.read(reinterpret_cast<char*>(&length), 8))
    Fail(path, "shorter than its header");
  if (length > kMaxHeader || length > whole - 8 || length % 8 != 0) Fail(path, "bad header length");
  std::string text(length, ' ');
  if (!in.read(text.data(), static_cast<std::streamsize>(length))) Fail(path, "cannot be read");
  std::set<std::string> names;
  bool twice = false;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1)
      twice |= !names.insert(parsed.get<std::string>()).second;
    return depth < 8;
  };
  const json header = json::parse(text, watch, false);
  if (header.is_discarded() || !header.is_object() || twice) Fail(path, "bad header");
  SafetensorsHeader out;
  out.data_begin = 8 + length;
  const uint64_t size = whole - 8 - length;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  try {
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        out.metadata = entry.get<std::map<std::string, std::string>>();
        continue;
      }
      TensorEntry t{.dtype = entry.at("dtype").get<std::string>(),
                    .shape = entry.at("shape").get<std::vector<int64_t>>()};
      const uint64_t width = WidthOf(t.dtype);
      if (width == 0) Fail(path, name + ": unknown type " + t.dtype);
      const auto begin = entry.at("data_offsets").at(0).get<uint64_t>(),
                 end = entry.at("data_offsets").at(1).get<uint64_t>();
      uint64_t n = width;
      for (int64_t s : t.shape) {
        if (s < 0 || (s > 0 && n > size / static_cast<uint64_t>(s)))
          Fail(path, name + ": bad shape");
        n *= static_cast<uint64_t>(s);
      }
      if (begin > end || end > size || end - begin != n)
        Fail(path, name + ": offsets disagree with the shape");
      t.begin = out.data_begin + begin, t.bytes = end - begin;
      ranges.emplace_back(begin, end);
      out.tensors.emplace(name, std::move(t));
    }
  } catch (const json::exception&) {
    Fail(path, "bad header entry");
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != at) Fail(path, "hole or overlap in the data");
    at = end;
  }
  if (at != size) Fail(path, "data after the last tensor");
  return out;
}

TensorFile TensorFile::Read(const std::string& path) {
  const SafetensorsHeader header = ReadSafetensorsHeader(path);
  TensorFile out;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) Fail(path, "cannot be read");
  out.bytes_.resize(static_cast<size_t>(in.tellg()));
  in.seekg(0);
  in.read(out.bytes_.data(), static_cast<std::streamsize>(out.bytes_.size()));
  if (!in) Fail(path, "cannot be read");
  for (const auto& [name, t] : header.tensors) {
    if (t.dtype != "F32") Fail(path, name + ": only F32 is read here");
    if (t.begin % 4 != 0 || t.begin + t.bytes > out.bytes_.size())
      Fail(path, name + ": offsets disagree with the shape");
    out.tensors_[name] = {t.shape, reinterpret_cast<const float*>(out.bytes_.data() + t.begin)};
  }
  return out;
}

}  // namespace plumb::trainer
