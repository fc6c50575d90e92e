#include "data/hf_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

#include "data/byte_alphabet.h"
#include "data/dataset.h"

namespace plumb::data {
namespace {

using nlohmann::json;

constexpr char kSpace[] = "\xE2\x96\x81";  // U+2581, a space in a piece

json AddedToken(const std::string& content, int64_t id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

json Replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

TokenizerFiles Files(const json& tokenizer, const json& config) {
  return {{"tokenizer.json", tokenizer.dump(1) + "\n"},
          {"tokenizer_config.json", config.dump(1) + "\n"}};
}

// The normalised text that a model cuts into pieces.
std::string Normalised(const sentencepiece::SentencePieceProcessor& p, const std::string& text) {
  std::vector<int> ids;
  if (!p.Encode(text, &ids).ok()) return "";
  std::string joined;
  for (const int id : ids) {
    // A byte's piece is "<0x0A>".
    if (p.IsByte(id)) {
      joined += static_cast<char>(std::stoi(p.IdToPiece(id).substr(3, 2), nullptr, 16));
    } else {
      joined += p.IdToPiece(id);
    }
  }
  return joined;
}

// Merges in the order in which SentencePiece prefers them: by the score of what they make.
json Merges(const sentencepiece::SentencePieceProcessor& p) {
  struct Merge {
    float score;
    int left, right;
  };
  std::unordered_map<std::string, int> normal;
  for (int i = 0; i < p.GetPieceSize(); ++i) {
    if (!p.IsControl(i) && !p.IsUnknown(i) && !p.IsByte(i)) normal[p.IdToPiece(i)] = i;
  }
  std::vector<Merge> merges;
  for (const auto& [piece, id] : normal) {
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xC0) == 0x80) continue;
      const auto left = normal.find(piece.substr(0, cut)), right = normal.find(piece.substr(cut));
      if (left != normal.end() && right != normal.end())
        merges.push_back({p.GetScore(id), left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    return std::pair(a.left, a.right) < std::pair(b.left, b.right);
  });
  json out = json::array();
  for (const Merge& m : merges) out.push_back({p.IdToPiece(m.left), p.IdToPiece(m.right)});
  return out;
}

}  // namespace

TokenizerFiles HfBytesTokenizer() {
  json vocab = json::object();
  for (int b = 0; b < 256; ++b) vocab[ByteSymbol(static_cast<unsigned char>(b))] = b;
  const json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", json::array()},
                          {"normalizer", nullptr},
                          {"pre_tokenizer",
                           {{"type", "ByteLevel"},
                            {"add_prefix_space", false},
                            {"trim_offsets", false},
                            {"use_regex", false}}},
                          {"post_processor", nullptr},
                          {"decoder",
                           {{"type", "ByteLevel"},
                            {"add_prefix_space", false},
                            {"trim_offsets", false},
                            {"use_regex", false}}},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", false},
                            {"vocab", vocab},
                            {"merges", json::array()}}}};
  return Files(tokenizer, {{"tokenizer_class", "PreTrainedTokenizerFast"},
                           {"clean_up_tokenization_spaces", false}});
}

TokenizerFiles HfSentencePieceTokenizer(std::string_view model, const std::string& where) {
  sentencepiece::SentencePieceProcessor p;
  if (!p.LoadFromSerializedProto(model).ok())
    throw DataError(where + ": is not a SentencePiece model");
  // The header of the library hides how a model was trained; what it does shows it.
  const bool prefixed = Normalised(p, "a") == std::string(kSpace) + "a";
  const std::string lead = prefixed ? kSpace : "";
  const std::string ligature = "\xEF\xAC\x81";  // NFKC would make it "fi"
  const bool identity = Normalised(p, "a  b" + ligature + "\t ") ==
                        lead + "a" + kSpace + kSpace + "b" + ligature + "\t" + kSpace;
  int first_normal = 0, bytes = 0;
  for (int i = 0; i < p.GetPieceSize(); ++i) bytes += p.IsByte(i);
  while (first_normal < p.GetPieceSize() &&
         (p.IsControl(first_normal) || p.IsUnknown(first_normal) || p.IsByte(first_normal)))
    ++first_normal;
  bool ranked = first_normal < p.GetPieceSize();  // BPE scores are 0, -1, -2, …
  for (int i = first_normal; i < p.GetPieceSize() && ranked; ++i)
    ranked = p.GetScore(i) == static_cast<float>(first_normal - i);
  if (!identity || !ranked || bytes != 256) {
    throw DataError(
        where +
        ": not a BPE model with identity normalisation and byte fallback, so "
        "tokenizer.json cannot say what it does; keep tokenizer.model beside the model");
  }
  json vocab = json::object(), added = json::array();
  for (int i = 0; i < p.GetPieceSize(); ++i) {
    vocab[p.IdToPiece(i)] = i;
    if (p.IsControl(i) || p.IsUnknown(i)) added.push_back(AddedToken(p.IdToPiece(i), i));
  }
  const json spaces = Replace(" ", kSpace);
  json decoders = {Replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (prefixed)
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  const json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer",
       prefixed ? json{{"type", "Sequence"},
                       {"normalizers", {{{"type", "Prepend"}, {"prepend", kSpace}}, spaces}}}
                : spaces},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", p.IdToPiece(p.unk_id())},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", Merges(p)}}}};
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  if (p.bos_id() >= 0) config["bos_token"] = p.IdToPiece(p.bos_id());
  if (p.eos_id() >= 0) config["eos_token"] = p.IdToPiece(p.eos_id());
  if (p.unk_id() >= 0) config["unk_token"] = p.IdToPiece(p.unk_id());
  TokenizerFiles files = Files(tokenizer, config);
  files["tokenizer.model"] = std::string(model);
  return files;
}

}  // namespace plumb::data
