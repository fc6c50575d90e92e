// Small resolved configs and a corpus on disk, for the trainer's tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/spec/parse.h"

namespace plumb::trainer {

inline spec::TrialSpec Resolved(const std::string& json) {
  spec::TrialSpec s;
  const auto errors = spec::ParseResolved(json, &s);
  EXPECT_TRUE(errors.empty()) << spec::Format(errors);
  return s;
}

inline spec::TrialSpec Tiny(const std::string& preset, int64_t steps = 20) {
  return Resolved(
      R"({"model": {"preset": ")" + preset +
      R"(", "n_layers": 2, "d_model": 32, "n_heads": 4}, "data": {"seq_len": 16},
      "train": {"batch_tokens": 64, "lr": 3e-3, "log_every": 5, "steps": )" +
      std::to_string(steps) +
      R"(}, "eval": {"points": 4, "tokens": 64, "train_tokens": 64}, "execution": {"checkpoint_seconds": 0}})");
}

class TempDir {
 public:
  TempDir() {
    std::string t = (std::filesystem::temp_directory_path() / "plumb-trainer-XXXXXX").string();
    if (mkdtemp(t.data()) == nullptr) std::abort();
    path_ = t;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Documents as a prepared corpus of bytes: each begins with the separator 0.
inline void WriteShard(const std::string& dir, const std::string& split,
                       const std::vector<std::string>& documents) {
  std::vector<uint16_t> tokens;
  std::vector<uint64_t> docs = {documents.size()};
  for (const std::string& d : documents) {
    docs.push_back(tokens.size());
    docs.push_back(d.size());
    tokens.push_back(0);
    for (unsigned char c : d) tokens.push_back(c);
  }
  int32_t header[256] = {20240520, 1, static_cast<int32_t>(tokens.size())};
  std::ofstream bin(dir + "/" + split + ".bin", std::ios::binary);
  bin.write(reinterpret_cast<const char*>(header), sizeof header);
  bin.write(reinterpret_cast<const char*>(tokens.data()),
            static_cast<std::streamsize>(tokens.size() * 2));
  std::ofstream(dir + "/" + split + ".docs", std::ios::binary)
      .write(reinterpret_cast<const char*>(docs.data()),
             static_cast<std::streamsize>(docs.size() * 8));
}

inline std::string Prose(int n, const std::string& about) {
  std::string out;
  for (int i = 0; i < n; ++i)
    out += "Line " + std::to_string(i) + " says something of " + about + ", and line " +
           std::to_string(i * 7 % n) + " answers.\n";
  return out;
}

// A corpus with several documents a split, digest "d".
inline std::string WriteCorpus(const TempDir& dir) {
  const std::string path = dir / "corpus";
  std::filesystem::create_directories(path);
  nlohmann::json manifest = {{"corpus", "c"},
                             {"tokenizer", "bytes"},
                             {"digest", "d"},
                             {"vocab_size", 256},
                             {"reversible", true}};
  const auto add = [&](const std::string& split, const std::vector<std::string>& documents) {
    WriteShard(path, split, documents);
    int64_t bytes = 0;
    for (const auto& d : documents) bytes += static_cast<int64_t>(d.size());
    manifest["splits"][split] = {{"documents", documents.size()},
                                 {"bytes", bytes},
                                 {"characters", bytes},
                                 {"tokens", bytes + static_cast<int64_t>(documents.size())},
                                 {"sha256", ""}};
  };
  add("train", {Prose(40, "trees"), Prose(30, "stones"), Prose(50, "rivers")});
  add("tune", {Prose(3, "birds"), Prose(2, "fish")});
  add("val", {Prose(4, "wind"), "x", Prose(2, "rain")});
  add("test", {Prose(3, "snow"), Prose(3, "fog")});
  std::ofstream(path + "/manifest.json") << manifest.dump();
  return path;
}

}  // namespace plumb::trainer
