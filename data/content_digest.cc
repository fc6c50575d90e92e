#include "data/content_digest.h"

#include <filesystem>
#include <fstream>
#include <sstream>

namespace plumb::data {

ContentDigest::ContentDigest(const std::string& tokenizer, const std::string& model) {
  hash_.Update("tokenizer " + tokenizer + " " + spec::Sha256Hex(model) + "\n");
}

void ContentDigest::Add(Split split, const std::string& bin_sha256,
                        const std::string& docs_sha256) {
  hash_.Update(std::string(Name(split)) + " " + bin_sha256 + " " + docs_sha256 + "\n");
}

void ContentDigest::Add(const Part& part) {
  hash_.Update("part " + part.name);
  for (Split s : kAllSplits)
    hash_.Update(std::string(" ") + Name(s) + " " + std::to_string(part.split(s).documents));
  hash_.Update("\n");
}

std::string ReadContentDigest(const std::string& dir) {
  const Manifest manifest = ReadManifest(dir);
  std::string model;
  for (const char* name : {"/tokenizer.model", "/tokenizer.json"}) {
    const std::string path = dir + name;
    if (!std::filesystem::exists(path)) continue;
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    if (!in || !(text << in.rdbuf())) throw DataError(path + ": cannot be read");
    model = text.str();
  }
  ContentDigest digest(manifest.tokenizer, model);
  try {
    for (Split s : kAllSplits) {
      const std::string file = dir + "/" + Name(s);
      digest.Add(s, spec::Sha256HexOfFile(file + ".bin"), spec::Sha256HexOfFile(file + ".docs"));
    }
  } catch (const DataError&) {
    throw;
  } catch (const std::exception& e) {
    throw DataError(e.what());
  }
  for (const Part& part : manifest.parts) digest.Add(part);
  return digest.HexDigest();
}

}  // namespace plumb::data
