// The weights of a folder: model.safetensors, or the shards that model.safetensors.index.json
// names. Tensors of F64, F32, F16, BF16 and integers are read as numbers of the caller's type.
// Errors are std::runtime_error that name the file.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trainer/files/safetensors.h"

namespace plumb::interchange {

class WeightFiles {
 public:
  static WeightFiles OpenFolder(const std::string& dir);
  static WeightFiles OpenFile(const std::string& path);

  struct Place {
    std::string file;
    trainer::TensorEntry entry;
  };
  const std::map<std::string, Place>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // of one file

  // T: float, double or int64_t. Throws std::out_of_range for an unknown name.
  template <typename T>
  std::vector<T> Read(const std::string& name) const;

 private:
  void Add(const std::string& path);
  std::map<std::string, Place> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace plumb::interchange
