#include "interchange/weight_files.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

namespace plumb::interchange {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

float FromBf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

float FromF16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

template <typename Stored, typename T, typename Convert>
void Spread(const std::vector<char>& bytes, std::vector<T>* out, const Convert& convert) {
  for (size_t i = 0; i < out->size(); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    (*out)[i] = static_cast<T>(convert(value));
  }
}

}  // namespace

void WeightFiles::Add(const std::string& path) {
  trainer::SafetensorsHeader header = trainer::ReadSafetensorsHeader(path);
  metadata_ = std::move(header.metadata);
  for (auto& [name, entry] : header.tensors) {
    if (!tensors_.emplace(name, Place{path, std::move(entry)}).second)
      throw std::runtime_error(path + ": " + name + " is in another file too");
  }
}

WeightFiles WeightFiles::OpenFile(const std::string& path) {
  WeightFiles out;
  out.Add(path);
  return out;
}

WeightFiles WeightFiles::OpenFolder(const std::string& dir) {
  const fs::path one = fs::path(dir) / "model.safetensors",
                 index = fs::path(dir) / "model.safetensors.index.json";
  if (fs::exists(one)) return OpenFile(one);
  if (!fs::exists(index)) {
    throw std::runtime_error(
        dir +
        ": neither model.safetensors nor model.safetensors.index.json; a folder of "
        "pytorch_model.bin files can be saved anew by transformers' save_pretrained");
  }
  std::ifstream in(index);
  const json j = json::parse(in, nullptr, false);
  if (j.is_discarded() || !j.contains("weight_map") || !j["weight_map"].is_object())
    throw std::runtime_error(index.string() + ": no weight_map");
  WeightFiles out;
  std::set<std::string> files;
  for (const auto& [name, file] : j["weight_map"].items()) {
    if (!file.is_string() || fs::path(file.get<std::string>()).has_parent_path())
      throw std::runtime_error(index.string() + ": " + name + ": not the name of a file beside it");
    files.insert(file.get<std::string>());
  }
  for (const std::string& file : files) out.Add((fs::path(dir) / file).string());
  for (const auto& [name, file] : j["weight_map"].items()) {
    const auto it = out.tensors_.find(name);
    if (it == out.tensors_.end() ||
        fs::path(it->second.file).filename() != file.get<std::string>()) {
      throw std::runtime_error(index.string() + ": " + name + " is not in " +
                               file.get<std::string>());
    }
  }
  return out;
}

template <typename T>
std::vector<T> WeightFiles::Read(const std::string& name) const {
  const auto& [file, entry] = tensors_.at(name);
  std::ifstream in(file, std::ios::binary);
  std::vector<char> bytes(entry.bytes);
  in.seekg(static_cast<std::streamoff>(entry.begin));
  if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw std::runtime_error(file + ": cannot be read");
  std::vector<T> out(static_cast<size_t>(entry.size()));
  const auto same = [](auto v) { return v; };
  if (entry.dtype == "F32") {
    Spread<float>(bytes, &out, same);
  } else if (entry.dtype == "F64") {
    Spread<double>(bytes, &out, same);
  } else if (entry.dtype == "BF16") {
    Spread<uint16_t>(bytes, &out, FromBf16);
  } else if (entry.dtype == "F16") {
    Spread<uint16_t>(bytes, &out, FromF16);
  } else if (entry.dtype == "I64") {
    Spread<int64_t>(bytes, &out, same);
  } else if (entry.dtype == "I32") {
    Spread<int32_t>(bytes, &out, same);
  } else {
    throw std::runtime_error(file + ": " + name + ": numbers of type " + entry.dtype +
                             " are not read; F64, F32, F16, BF16");
  }
  return out;
}

template std::vector<float> WeightFiles::Read(const std::string&) const;
template std::vector<double> WeightFiles::Read(const std::string&) const;
template std::vector<int64_t> WeightFiles::Read(const std::string&) const;

}  // namespace plumb::interchange
