// A small prepared corpus, written byte by byte as data/dataset.h lays it out.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/manifest_json.h"
#include "trainer/counter_random.h"

namespace plumb::trainer {

// Documents of `lengths` random text tokens in [1, 64), each after its separator 0; one byte a
// token.
inline data::SplitInfo WriteSplit(const std::string& dir, data::Split split,
                                  const std::vector<int64_t>& lengths) {
  std::vector<uint16_t> tokens;
  std::vector<uint64_t> docs = {lengths.size()};
  data::SplitInfo info{.documents = static_cast<int64_t>(lengths.size())};
  const CounterRandom random(HashOf(data::Name(split)));
  for (int64_t length : lengths) {
    docs.push_back(tokens.size());
    docs.push_back(static_cast<uint64_t>(length));
    tokens.push_back(0);
    for (int64_t i = 0; i < length; ++i)
      tokens.push_back(static_cast<uint16_t>(1 + random.Bits(tokens.size()) % 63));
    info.bytes += length, info.characters += length;
  }
  info.tokens = static_cast<int64_t>(tokens.size());
  std::vector<int32_t> header(256);
  header[0] = 20240520, header[1] = 1, header[2] = static_cast<int32_t>(tokens.size());
  const std::string path = dir + "/" + data::Name(split);
  std::ofstream bin(path + ".bin", std::ios::binary);
  bin.write(reinterpret_cast<const char*>(header.data()), 1024);
  bin.write(reinterpret_cast<const char*>(tokens.data()),
            static_cast<std::streamsize>(2 * tokens.size()));
  std::ofstream(path + ".docs", std::ios::binary)
      .write(reinterpret_cast<const char*>(docs.data()),
             static_cast<std::streamsize>(8 * docs.size()));
  return info;
}

inline void WriteCorpus(const std::string& dir) {
  data::Manifest m{
      .corpus = "c", .tokenizer = "bytes", .digest = "d", .vocab_size = 256, .reversible = true};
  m.splits[0] = WriteSplit(dir, data::Split::kTrain, {700, 300, 0, 900});
  m.splits[1] = WriteSplit(dir, data::Split::kTune, {100, 33});
  m.splits[2] = WriteSplit(dir, data::Split::kVal, {1, 50, 0, 120});
  m.splits[3] = WriteSplit(dir, data::Split::kTest, {77});
  std::ofstream(dir + "/manifest.json") << data::ManifestJson(m);
}

// The same shards as parts "a" and "b": their documents stand in this order in every split.
inline void WriteMixedCorpus(const std::string& dir) {
  WriteCorpus(dir);
  data::Manifest m = data::ReadManifest(dir);
  const auto part = [](const std::string& name, std::vector<std::vector<int64_t>> lengths) {
    data::Part p{.name = name};
    for (size_t s = 0; s < 4; ++s) {
      for (const int64_t length : lengths[s]) {
        p.splits[s].documents += 1, p.splits[s].bytes += length, p.splits[s].characters += length;
        p.splits[s].tokens += 1 + length;
      }
    }
    return p;
  };
  m.splits[3] = WriteSplit(dir, data::Split::kTest, {77, 40});
  m.parts = {part("a", {{700, 300}, {100}, {1, 50}, {77}}),
             part("b", {{0, 900}, {33}, {0, 120}, {40}})};
  std::ofstream(dir + "/manifest.json") << data::ManifestJson(m);
}

}  // namespace plumb::trainer
