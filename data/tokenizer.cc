#include "data/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <sstream>

namespace plumb::data {

std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& dataset_dir) {
  const Manifest manifest = ReadManifest(dataset_dir);
  if (manifest.tokenizer == "bytes") return BytesTokenizer();
  if (manifest.tokenizer.starts_with("sentencepiece:")) {
    const std::string path = (std::filesystem::path(dataset_dir) / "tokenizer.model").string();
    std::ifstream in(path, std::ios::binary);
    if (!in) throw DataError(path + ": not found; prepare the corpus again (plumb data prepare)");
    std::ostringstream model;
    model << in.rdbuf();
    return SentencePieceTokenizer(model.str(), path);
  }
  throw DataError(dataset_dir + ": tokenizer \"" + manifest.tokenizer + "\" has ids only, no text");
}

}  // namespace plumb::data
