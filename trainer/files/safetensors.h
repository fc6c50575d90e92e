// The safetensors format: 8-byte little-endian header length, JSON header, data. Strict: holes,
// overlaps, offsets outside, sizes that disagree with shapes and duplicate names are refused.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace plumb::trainer {

struct FloatTensor {  // F32, row-major
  std::vector<int64_t> shape;
  const float* data = nullptr;  // borrowed by the writer; in a TensorFile, owned by it
};

// Writes and syncs; throws std::runtime_error. Names in order.
void WriteSafetensors(const std::string& path, const std::map<std::string, FloatTensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

// Where a tensor of any type lies in its file.
struct TensorEntry {
  std::string dtype;  // "F32", "BF16", … as written
  std::vector<int64_t> shape;
  uint64_t begin = 0, bytes = 0;  // from the start of the file
  int64_t size() const {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return n;
  }
};

struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t data_begin = 0;
};
// Reads and checks the header against the file's size, not the data; throws std::runtime_error
// naming the file.
SafetensorsHeader ReadSafetensorsHeader(const std::string& path);

class TensorFile {
 public:
  static TensorFile Read(const std::string& path);  // throws std::runtime_error naming the file
  TensorFile(TensorFile&&) = default;               // a copy would point into the original
  TensorFile& operator=(TensorFile&&) = default;
  const std::map<std::string, FloatTensor>& tensors() const { return tensors_; }

 private:
  TensorFile() = default;
  std::vector<char> bytes_;
  std::map<std::string, FloatTensor> tensors_;
};

// Writes `text` to `path`, synced. Throws std::runtime_error.
void WriteFileSynced(const std::string& path, const std::string& text);
void SyncFolder(const std::string& path);

}  // namespace plumb::trainer
