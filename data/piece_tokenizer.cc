// SentencePiece BPE (Sennrich et al. 2016; Kudo & Richardson 2018) without the library, for the
// trainer: its ids are the library's (tests/data compare them).
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <queue>
#include <sstream>
#include <unordered_map>

#include "data/byte_pair_tokenizer.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer.h"

namespace plumb::data {
namespace {

using Type = SentencePieceModel::Type;
constexpr char kSpace[] = "\xe2\x96\x81";  // U+2581 stands for a space in pieces

size_t CharacterBytes(unsigned char lead) {
  return lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 1;
}

class Pieces : public Tokenizer {
 public:
  Pieces(SentencePieceModel model, const std::string& where) : model_(std::move(model)) {
    if (!model_.bpe || !model_.identity || model_.remove_extra_whitespaces ||
        !model_.escape_whitespaces || model_.bos < 0) {
      throw DataError(where +
                      ": only BPE with identity normalisation, kept white space and a bos " +
                      "token is read here");
    }
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      const SentencePieceModel::Piece& p = model_.pieces[id];
      const auto i = static_cast<int64_t>(id);
      if (p.type == Type::kByte) {
        bytes_[std::stoi(p.text.substr(1, 4), nullptr, 16) & 255] = i;  // "<0x0A>"
        has_bytes_ = true;
      } else if (p.type == Type::kNormal || p.type == Type::kUserDefined) {
        ids_[p.text] = i;
      }
    }
  }
  int64_t vocab_size() const override { return static_cast<int64_t>(model_.pieces.size()); }
  int64_t separator() const override { return model_.bos; }

  std::vector<int64_t> Encode(std::string_view given) const override {
    std::string text = model_.add_dummy_prefix && !given.empty() ? kSpace : "";
    for (const char c : given) c == ' ' ? text += kSpace : text += c;
    std::vector<Symbol> symbols;
    for (size_t at = 0; at < text.size();) {
      const size_t n = std::min(CharacterBytes(text[at]), text.size() - at);
      const auto i = static_cast<int64_t>(symbols.size());
      symbols.push_back({at, n, i - 1, i + 1});
      at += n;
    }
    Merge(text, &symbols);
    std::vector<int64_t> out;
    for (const Symbol& s : symbols) {
      if (s.size == 0) continue;
      const std::string piece = text.substr(s.begin, s.size);
      if (const auto it = ids_.find(piece); it != ids_.end()) {
        out.push_back(it->second);
      } else if (has_bytes_) {
        for (const unsigned char c : piece) out.push_back(bytes_[c]);
      } else {
        out.push_back(model_.unk);
      }
    }
    return out;
  }

  std::string Decode(const std::vector<int64_t>& tokens) const override {
    std::string out;
    bool first = model_.add_dummy_prefix;
    for (const int64_t token : tokens) {
      if (token < 0 || token >= vocab_size()) {
        throw DataError("token " + std::to_string(token) + " is outside the vocabulary of " +
                        std::to_string(vocab_size()));
      }
      const SentencePieceModel::Piece& p = model_.pieces[token];
      if (p.type == Type::kControl) continue;
      if (p.type == Type::kByte) {
        out += static_cast<char>(std::stoi(p.text.substr(1, 4), nullptr, 16));
      } else {
        std::string text = p.type == Type::kUnknown ? " \xe2\x81\x87 " : p.text;
        for (size_t at; (at = text.find(kSpace)) != std::string::npos;)
          text.replace(at, sizeof kSpace - 1, " ");
        out += first && text.starts_with(' ') ? text.substr(1) : text;
      }
      first = false;
    }
    return out;
  }

 private:
  struct Symbol {
    size_t begin, size;  // size 0: merged into the one before
    int64_t previous, next;
  };
  struct Pair {
    float score;
    int64_t left;
    size_t size;  // of the merged text: out of date where it is not what is there
    bool operator<(const Pair& o) const {
      return score != o.score ? score < o.score : left > o.left;
    }
  };

  // The pair of the highest score first, of equal ones the leftmost.
  void Merge(const std::string& text, std::vector<Symbol>* symbols) const {
    std::vector<Symbol>& s = *symbols;
    const auto n = static_cast<int64_t>(s.size());
    std::priority_queue<Pair> pairs;
    const auto consider = [&](int64_t left) {
      if (left < 0 || s[left].next >= n) return;
      const size_t size = s[left].size + s[s[left].next].size;
      const auto it = ids_.find(text.substr(s[left].begin, size));
      if (it != ids_.end()) pairs.push({model_.pieces[it->second].score, left, size});
    };
    for (int64_t i = 0; i + 1 < n; ++i) consider(i);
    while (!pairs.empty()) {
      const Pair p = pairs.top();
      pairs.pop();
      Symbol& left = s[p.left];
      if (left.size == 0 || left.next >= n || left.size + s[left.next].size != p.size) continue;
      Symbol& right = s[left.next];
      left.size += right.size;
      right.size = 0;
      left.next = right.next;
      if (left.next < n) s[left.next].previous = p.left;
      consider(left.previous);
      consider(p.left);
    }
  }

  const SentencePieceModel model_;
  std::unordered_map<std::string, int64_t> ids_;
  int64_t bytes_[256] = {};
  bool has_bytes_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> PieceTokenizer(std::string_view model, const std::string& where) {
  return std::make_unique<Pieces>(ReadSentencePieceModel(model, where), where);
}

std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& dataset_dir) {
  const Manifest manifest = ReadManifest(dataset_dir);
  if (manifest.tokenizer == "bytes") return BytesTokenizer();
  const bool pieces = manifest.tokenizer.starts_with("sentencepiece:");
  if (pieces || manifest.tokenizer.starts_with("bpe:")) {
    const std::string path =
        (std::filesystem::path(dataset_dir) / (pieces ? "tokenizer.model" : "tokenizer.json"))
            .string();
    std::ifstream in(path, std::ios::binary);
    if (!in) throw DataError(path + ": not found; prepare the corpus again (plumb data prepare)");
    std::ostringstream model;
    model << in.rdbuf();
    return pieces ? PieceTokenizer(model.str(), path) : BytePairTokenizer(model.str(), path);
  }
  throw DataError(dataset_dir + ": tokenizer \"" + manifest.tokenizer + "\" has ids only, no text");
}

}  // namespace plumb::data
