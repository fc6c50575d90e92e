// Texts to prepare in tests: pronounceable, repeatable, and different from each other.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "data/sources.h"

namespace plumb::data {

class TempDir {
 public:
  TempDir() {
    path_ = (std::filesystem::temp_directory_path() / "plumb_data_XXXXXX").string();
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no temporary folder");
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void Write(const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string Read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

// `words` words of random syllables, in lines and paragraphs.
inline std::string Words(int words, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text;
  for (int w = 1; w <= words; ++w) {
    for (uint64_t syllables = 1 + random() % 3; syllables > 0; --syllables) {
      text += "bdfgklmnprstvz"[random() % 14];
      text += "aeiou"[random() % 5];
    }
    text += w % 40 == 0 ? "\n\n" : w % 8 == 0 ? "\n" : " ";
  }
  return text;
}

inline std::vector<Document> ManyDocuments(int n, int words = 60) {
  std::vector<Document> documents;
  for (int i = 0; i < n; ++i)
    documents.push_back({"d" + std::to_string(i), Words(words, 1000 + i)});
  return documents;
}

}  // namespace plumb::data
