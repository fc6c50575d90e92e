#include "data/hf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

#include "data/byte_alphabet.h"
#include "data/dataset.h"
#include "data/sentencepiece_model.h"

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

using Type = SentencePieceModel::Type;

// Merges in the order in which SentencePiece prefers them: by the score of what they make.
json Merges(const SentencePieceModel& m) {
  struct Merge {
    float score;
    int left, right;
  };
  std::unordered_map<std::string, int> normal;
  for (size_t i = 0; i < m.pieces.size(); ++i) {
    if (m.pieces[i].type == Type::kNormal) normal[m.pieces[i].text] = static_cast<int>(i);
  }
  std::vector<Merge> merges;
  for (const auto& [piece, id] : normal) {
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xC0) == 0x80) continue;
      const auto left = normal.find(piece.substr(0, cut)), right = normal.find(piece.substr(cut));
      if (left != normal.end() && right != normal.end())
        merges.push_back({m.pieces[id].score, left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    return std::pair(a.left, a.right) < std::pair(b.left, b.right);
  });
  json out = json::array();
  for (const Merge& x : merges) out.push_back({m.pieces[x.left].text, m.pieces[x.right].text});
  return out;
}

// Whether tokenizer.json can say what the model does.
bool Expressible(const SentencePieceModel& m) {
  int bytes = 0;
  for (const auto& piece : m.pieces) {
    bytes += piece.type == Type::kByte;
    if (piece.type == Type::kUserDefined || piece.type == Type::kUnused) return false;
  }
  return m.bpe && bytes == 256 && m.identity && m.escape_whitespaces && !m.remove_extra_whitespaces;
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

bool IsHfBytesTokenizer(const std::string& tokenizer_json) {
  const json given = json::parse(tokenizer_json, nullptr, false);
  if (!given.is_object()) return false;
  json ours = json::parse(HfBytesTokenizer().at("tokenizer.json"));
  for (const char* key : {"normalizer", "pre_tokenizer"}) {
    // Another program may add what is left out here.
    const json &a = ours[key], b = given.value(key, json());
    if (a.is_null() != b.is_null()) return false;
    for (const char* member : {"type", "add_prefix_space", "use_regex"}) {
      if (a.is_object() && a.value(member, json()) != b.value(member, json())) return false;
    }
  }
  const json model = given.value("model", json::object());
  return given.value("added_tokens", json::array()).empty() && model.is_object() &&
         model.value("vocab", json()) == ours["model"]["vocab"] &&
         model.value("merges", json()) == json::array();
}

TokenizerFiles HfSentencePieceTokenizer(std::string_view model, const std::string& where) {
  const SentencePieceModel m = ReadSentencePieceModel(model, where);
  if (!Expressible(m)) {
    throw DataError(
        where +
        ": not a BPE model with identity normalisation and byte fallback, so tokenizer.json "
        "cannot say what it does; keep tokenizer.model beside the model");
  }
  const bool prefixed = m.add_dummy_prefix;
  json vocab = json::object(), added = json::array();
  for (size_t i = 0; i < m.pieces.size(); ++i) {
    const auto& piece = m.pieces[i];
    vocab[piece.text] = i;
    if (piece.type == Type::kControl || piece.type == Type::kUnknown)
      added.push_back(AddedToken(piece.text, static_cast<int64_t>(i)));
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
        {"unk_token", m.pieces[m.unk].text},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", Merges(m)}}}};
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  if (m.bos >= 0) config["bos_token"] = m.pieces[m.bos].text;
  if (m.eos >= 0) config["eos_token"] = m.pieces[m.eos].text;
  config["unk_token"] = m.pieces[m.unk].text;
  TokenizerFiles files = Files(tokenizer, config);
  files["tokenizer.model"] = std::string(model);
  return files;
}

}  // namespace plumb::data
