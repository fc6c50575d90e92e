#include "data/byte_pair_tokenizer.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <queue>
#include <sstream>
#include <unordered_map>

#include "data/byte_alphabet.h"
#include "data/unicode_classes.h"
#include "data/utf8.h"
#include "data/word_split.h"

namespace plumb::data {
namespace {

using nlohmann::json;

struct Added {
  std::string content;
  int64_t id = 0;
  bool normalized = false;  // looked for in the normalised text, else in the text as it came
};

// What a tokenizer's files say, checked.
struct Rules {
  std::unordered_map<std::string, int64_t> vocab;
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<Added> added;
  std::vector<std::string> special;
  bool nfc = false, prefix_space = false, split_words = true, whole_words_first = false;
};

class BytePair : public Tokenizer {
 public:
  BytePair(const Rules& rules, const std::string& where, const std::string& separator,
           Normalize normalize)
      : normalize_(normalize),
        added_(rules.added),
        nfc_(rules.nfc),
        prefix_space_(rules.prefix_space),
        split_words_(rules.split_words),
        whole_words_first_(rules.whole_words_first) {
    int64_t top = -1;
    for (const auto& [token, id] : rules.vocab) top = std::max(top, id);
    for (const Added& a : added_) top = std::max(top, a.id);
    bytes_.resize(static_cast<size_t>(top + 1));
    for (const auto& [token, id] : rules.vocab) bytes_[id] = BytesOf(token);
    for (const Added& a : added_) bytes_[a.id] = a.content;
    for (int b = 0; b < 256; ++b) {
      const auto it = rules.vocab.find(ByteSymbol(static_cast<unsigned char>(b)));
      if (it == rules.vocab.end())
        throw DataError(where + ": the vocabulary has no token for byte " + std::to_string(b));
      byte_ids_[b] = it->second;
    }
    for (const auto& [left, right] : rules.merges) {
      const auto l = rules.vocab.find(left), r = rules.vocab.find(right),
                 made = rules.vocab.find(left + right);
      if (l == rules.vocab.end() || r == rules.vocab.end() || made == rules.vocab.end())
        throw DataError(where + ": merge \"" + left + " " + right + "\" is not in the vocabulary");
      merges_.try_emplace(Pair(l->second, r->second),
                          Merge{static_cast<int64_t>(merges_.size()), made->second});
    }
    if (whole_words_first_) {
      for (const auto& [token, id] : rules.vocab) words_[BytesOf(token)] = id;
    }
    // Leftmost, and there the longest, is found first.
    std::sort(added_.begin(), added_.end(),
              [](const Added& a, const Added& b) { return a.content.size() > b.content.size(); });
    separator_ = Separator(rules, where, separator);
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(bytes_.size()); }
  int64_t separator() const override { return separator_; }

  std::vector<int64_t> Encode(std::string_view text) const override {
    std::vector<int64_t> out;
    Split(text, false, &out, [&](std::string_view part) {
      const std::string normal = nfc_ ? normalize_(part) : std::string(part);
      Split(normal, true, &out, [&](std::string_view piece) { Words(piece, &out); });
    });
    return out;
  }

  std::string Decode(const std::vector<int64_t>& tokens) const override {
    std::string text;
    for (const int64_t t : tokens) {
      if (t < 0 || t >= vocab_size()) {
        throw DataError("token " + std::to_string(t) + " is outside the vocabulary of " +
                        std::to_string(vocab_size()));
      }
      text += bytes_[t];
    }
    return text;
  }

 private:
  struct Merge {
    int64_t rank = 0, made = 0;
  };
  static uint64_t Pair(int64_t a, int64_t b) {
    return static_cast<uint64_t>(a) << 32 | static_cast<uint64_t>(b);
  }

  // A token's text to the bytes it stands for; one that is not in the alphabet stands for itself.
  static std::string BytesOf(const std::string& token) {
    std::string out;
    for (size_t i = 0; i < token.size();) {
      const char32_t c = NextCodePoint(token, &i);
      const int byte = c == kInvalid ? -1 : ByteOfSymbol(c);
      if (byte < 0) return token;
      out += static_cast<char>(byte);
    }
    return out;
  }

  int64_t Separator(const Rules& rules, const std::string& where, std::string name) const {
    if (name.empty()) {
      const bool usual = std::count(rules.special.begin(), rules.special.end(), "<|endoftext|>");
      if (!usual && rules.special.size() != 1) {
        throw DataError(where + ": has " + std::to_string(rules.special.size()) +
                        " special tokens and no <|endoftext|>; name the one between documents");
      }
      name = usual ? "<|endoftext|>" : rules.special.front();
    }
    for (const Added& a : added_) {
      if (a.content == name) return a.id;
    }
    throw DataError(where + ": no added token \"" + name + "\" to separate documents");
  }

  // Cuts at the added tokens of one kind; between them, between(part).
  template <typename Between>
  void Split(std::string_view text, bool normalized, std::vector<int64_t>* out,
             const Between& between) const {
    size_t from = 0;
    while (from < text.size()) {
      size_t at = std::string_view::npos;
      const Added* found = nullptr;
      for (const Added& a : added_) {
        if (a.normalized != normalized) continue;
        const size_t here = text.find(a.content, from);
        if (here < at) at = here, found = &a;  // the longest of equals stands first
      }
      if (found == nullptr) break;
      if (at > from) between(text.substr(from, at - from));
      out->push_back(found->id);
      from = at + found->content.size();
    }
    if (from < text.size()) between(text.substr(from));
  }

  void Words(std::string_view text, std::vector<int64_t>* out) const {
    std::string spaced;
    if (prefix_space_ && text.front() != ' ') text = spaced = " " + std::string(text);
    if (!split_words_) return Word(text, out);
    for (size_t from = 0; from < text.size();) {
      const size_t end = WordEnd(text, from);
      Word(text.substr(from, end - from), out);
      from = end;
    }
  }

  // Merges by rank, and in a rank from the left.
  void Word(std::string_view word, std::vector<int64_t>* out) const {
    if (whole_words_first_) {
      if (const auto it = words_.find(std::string(word)); it != words_.end()) {
        out->push_back(it->second);
        return;
      }
    }
    struct Symbol {
      int64_t id;
      int prev, next;
    };
    struct Candidate {
      int64_t rank;
      int at;
      int64_t left, right, made;
      bool operator<(const Candidate& o) const {
        return rank != o.rank ? rank > o.rank : at > o.at;
      }
    };
    const int n = static_cast<int>(word.size());
    std::vector<Symbol> symbols(word.size());
    std::priority_queue<Candidate> queue;
    const auto consider = [&](int at) {
      if (at < 0 || symbols[at].next < 0) return;
      const int64_t left = symbols[at].id, right = symbols[symbols[at].next].id;
      const auto it = merges_.find(Pair(left, right));
      if (it != merges_.end()) queue.push({it->second.rank, at, left, right, it->second.made});
    };
    for (int i = 0; i < n; ++i) {
      symbols[i] = {byte_ids_[static_cast<unsigned char>(word[i])], i - 1, i + 1 < n ? i + 1 : -1};
    }
    for (int i = 0; i < n; ++i) consider(i);
    while (!queue.empty()) {
      const Candidate c = queue.top();
      queue.pop();
      Symbol& s = symbols[c.at];
      if (s.id != c.left || s.next < 0 || symbols[s.next].id != c.right) continue;  // out of date
      Symbol& gone = symbols[s.next];
      s.id = c.made;
      gone.id = -1;
      s.next = gone.next;
      if (s.next >= 0) symbols[s.next].prev = c.at;
      consider(s.prev);
      consider(c.at);
    }
    for (int i = 0; i >= 0 && i < n; i = symbols[i].next) out->push_back(symbols[i].id);
  }

  const Normalize normalize_;
  std::vector<std::string> bytes_;  // by id
  int64_t byte_ids_[256] = {};
  std::unordered_map<uint64_t, Merge> merges_;
  std::unordered_map<std::string, int64_t> words_;
  std::vector<Added> added_;
  const bool nfc_, prefix_space_, split_words_, whole_words_first_;
  int64_t separator_ = 0;
};

[[noreturn]] void Refuse(const std::string& where, const std::string& key, const json& value,
                         const std::string& known) {
  throw DataError(where + ": " + key + " " + value.dump() + " is not known here; " + known);
}

void ReadMerges(const json& merges, const std::string& where, Rules* rules) {
  for (const json& m : merges) {
    if (m.is_array() && m.size() == 2) {
      rules->merges.emplace_back(m[0].get<std::string>(), m[1].get<std::string>());
      continue;
    }
    const std::string line = m.is_string() ? m.get<std::string>() : "";
    const size_t space = line.find(' ');
    if (space == std::string::npos) throw DataError(where + ": bad merge " + m.dump());
    rules->merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

void ReadByteLevel(const json& step, Rules* rules) {
  rules->prefix_space = step.value("add_prefix_space", true);
  rules->split_words = step.value("use_regex", true);
}

Rules Read(const json& j, const std::string& where) {
  Rules rules;
  const json& model = j.at("model");
  if (model.value("type", "BPE") != "BPE")
    Refuse(where, "model.type", model["type"], "byte-level BPE alone");
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.contains(key) && !model[key].is_null() && model[key] != "" && model[key] != 0)
      Refuse(where, std::string("model.") + key, model[key], "null");
  }
  if (model.value("byte_fallback", false)) {
    throw DataError(where +
                    ": BPE with byte fallback is SentencePiece's; give its tokenizer.model");
  }
  rules.whole_words_first = model.value("ignore_merges", false);
  for (const auto& [token, id] : model.at("vocab").items()) rules.vocab[token] = id.get<int64_t>();
  ReadMerges(model.at("merges"), where, &rules);

  if (const json& n = j.value("normalizer", json()); !n.is_null()) {
    if (n.value("type", "") != "NFC") Refuse(where, "normalizer", n, "NFC or none");
    rules.nfc = true;
  }
  const json& pre = j.value("pre_tokenizer", json());
  if (pre.is_object() && pre.value("type", "") == "ByteLevel") {
    ReadByteLevel(pre, &rules);
  } else if (pre.is_object() && pre.value("type", "") == "Sequence" &&
             pre.at("pretokenizers").size() == 2 &&
             pre["pretokenizers"][0].value("type", "") == "Split" &&
             pre["pretokenizers"][0].at("pattern") == json{{"Regex", kGpt2Words}} &&
             pre["pretokenizers"][0].value("behavior", "") == "Isolated" &&
             !pre["pretokenizers"][0].value("invert", false) &&
             pre["pretokenizers"][1].value("type", "") == "ByteLevel") {
    ReadByteLevel(pre["pretokenizers"][1], &rules);
    rules.split_words = true;
  } else {
    Refuse(where, "pre_tokenizer", pre, "ByteLevel with GPT-2's words");
  }
  for (const json& a : j.value("added_tokens", json::array())) {
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
      if (a.value(flag, false)) Refuse(where, std::string("added token with ") + flag, a, "false");
    }
    rules.added.push_back({a.at("content").get<std::string>(), a.at("id").get<int64_t>(),
                           a.value("normalized", false)});
    if (rules.added.back().content.empty()) Refuse(where, "added token", a, "a text");
    if (a.value("special", false)) rules.special.push_back(rules.added.back().content);
  }
  return rules;
}

void CheckIds(const Rules& rules, const std::string& where) {
  const auto check = [&](int64_t id) {
    if (id < 0 || id >= 1 << 24)
      throw DataError(where + ": token id " + std::to_string(id) + " is out of range");
  };
  for (const auto& [token, id] : rules.vocab) check(id);
  for (const Added& a : rules.added) check(a.id);
}

}  // namespace

std::string PlainNfc(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    if (!PlainInNfc(NextCodePoint(text, &i)))
      throw DataError(
          "\"" + std::string(text.substr(at, i - at)) +
          "\" may be written otherwise in Normalization Form C, which is not done here");
  }
  return std::string(text);
}

std::unique_ptr<Tokenizer> BytePairTokenizer(const std::string& tokenizer_json,
                                             const std::string& where, const std::string& separator,
                                             Normalize nfc) try {
  const Rules rules = Read(json::parse(tokenizer_json), where);
  CheckIds(rules, where);
  return std::make_unique<BytePair>(rules, where, separator, nfc);
} catch (const json::exception& e) {
  throw DataError(where + ": not a tokenizer.json (" + e.what() + ")");
}

std::unique_ptr<Tokenizer> BytePairTokenizer(const std::string& vocab_json,
                                             const std::string& merges_txt,
                                             const std::string& where,
                                             const std::string& separator) try {
  Rules rules;
  const json vocab = json::parse(vocab_json);
  for (const auto& [token, id] : vocab.items()) rules.vocab[token] = id.get<int64_t>();
  json lines = json::array();
  std::istringstream in(merges_txt);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty() && line.rfind("#version", 0) != 0) lines.push_back(line);
  }
  ReadMerges(lines, where, &rules);
  const std::string name = separator.empty() ? "<|endoftext|>" : separator;
  if (const auto it = rules.vocab.find(name); it != rules.vocab.end()) {
    rules.added.push_back({name, it->second, false});
    rules.special.push_back(name);
  }
  CheckIds(rules, where);
  return std::make_unique<BytePair>(rules, where, name, PlainNfc);
} catch (const json::exception& e) {
  throw DataError(where + ": not a vocabulary (" + e.what() + ")");
}

}  // namespace plumb::data
