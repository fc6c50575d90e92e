#include "data/classification.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "data/json_lines.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {
namespace {

using nlohmann::json;

// A line as it was read.
struct Entry {
  int64_t line = 0;
  std::string first, second;  // second: of a pair
  std::string label;          // its text, also of an integer
  std::optional<ClassSplit> split;
};

class Reader {
 public:
  Reader(const std::string& path, const ClassificationOptions& options)
      : path_(path),
        lines_(path, "{\"text\": \"…\", \"label\": \"…\"}", options.max_file_bytes,
               options.max_line_bytes) {}

  std::vector<Entry> Read() {
    std::vector<Entry> entries;
    for (json object; lines_.Next(&object);) entries.push_back(Line(object, entries.empty()));
    if (entries.empty()) throw DataError(path_ + ": has no line");
    return entries;
  }
  bool integers() const { return integers_; }
  bool pairs() const { return pairs_; }

 private:
  [[noreturn]] void Wrong(const std::string& what) const { lines_.Wrong(what); }

  Entry Line(const json& object, bool first) {
    Entry entry{.line = lines_.line()};
    const bool pair = object.contains("text_a") || object.contains("text_b");
    for (const auto& [key, value] : object.items()) {
      const bool known = key == "label" || key == "split" ||
                         (pair ? key == "text_a" || key == "text_b" : key == "text");
      if (!known) {
        Wrong("unknown key \"" + key + "\"; a line has " +
              (pair ? "\"text_a\", \"text_b\"" : "\"text\"") +
              ", \"label\" and, if you like, \"split\"");
      }
    }
    entry.first = lines_.Text(object, pair ? "text_a" : "text");
    if (pair) entry.second = lines_.Text(object, "text_b");

    const auto label = object.find("label");
    if (label == object.end()) Wrong("\"label\" is missing");
    const bool integer = label->is_number_integer();
    if (!integer && !label->is_string()) Wrong("\"label\" must be a string or an integer");
    entry.label = integer ? label->dump() : label->get<std::string>();
    if (entry.label.empty() || entry.label.size() > 256)
      Wrong("\"label\" must have 1 to 256 bytes");

    const auto split = object.find("split");
    if (split != object.end()) {
      for (const ClassSplit s : kClassSplits) {
        if (*split == Name(s)) entry.split = s;
      }
      if (!entry.split)
        Wrong("\"split\" must be \"train\", \"dev\" or \"test\", not " + split->dump());
    }
    if (first) pairs_ = pair, integers_ = integer, splits_ = entry.split.has_value();
    if (pair != pairs_) Wrong("one text and two texts in one file; give every line the same keys");
    if (integer != integers_)
      Wrong("labels are strings and integers in one file; write them all one way");
    if (entry.split.has_value() != splits_)
      Wrong("\"split\" stands in some lines only; give it in every line or in none");
    return entry;
  }

  const std::string& path_;
  JsonLines lines_;
  bool pairs_ = false, integers_ = false, splits_ = false;
};

std::vector<std::string> Classes(const std::vector<Entry>& entries, bool integers) {
  const std::set<std::string> found = [&] {
    std::set<std::string> labels;
    for (const Entry& e : entries) labels.insert(e.label);
    return labels;
  }();
  std::vector<std::string> classes(found.begin(), found.end());
  if (!integers) return classes;
  // By value, without reading them into a type that they may not fit.
  const auto less = [](const std::string& a, const std::string& b) {
    const bool a_minus = a[0] == '-', b_minus = b[0] == '-';
    if (a_minus != b_minus) return a_minus;
    const bool smaller = a.size() != b.size() ? a.size() < b.size() : a < b;
    return a_minus ? !smaller && a != b : smaller;
  };
  std::sort(classes.begin(), classes.end(), less);
  return classes;
}

std::string TextDigest(const Entry& e, uint64_t seed) {
  spec::Sha256 hash;
  hash.Update(std::to_string(seed) + '\n' + e.first);
  hash.Update(std::string(1, '\0') + e.second);  // texts hold no NUL
  return hash.HexDigest();
}

void AssignSplits(std::vector<Entry>* entries, uint64_t seed, double holdout,
                  const std::string& path) {
  std::map<std::string, ClassSplit> by_text;  // in the order of the digests
  std::vector<std::string> digests;
  for (const Entry& e : *entries) {
    digests.push_back(TextDigest(e, seed));
    by_text[digests.back()] = ClassSplit::kTrain;
  }
  if (by_text.size() < 2)
    throw DataError(path + ": one text only; there must be one to train on and one to test on");
  const double share = holdout * static_cast<double>(by_text.size());
  auto test = std::max<int64_t>(1, static_cast<int64_t>(share + 0.5));
  for (auto it = by_text.begin(); test > 0; ++it, --test) it->second = ClassSplit::kTest;
  for (size_t i = 0; i < entries->size(); ++i) (*entries)[i].split = by_text[digests[i]];
}

// Cuts the ends: a single text to `room`, of two texts the longer, then both alike.
void Cut(std::vector<int64_t>* a, std::vector<int64_t>* b, int64_t room) {
  const auto left = static_cast<int64_t>(a->size()), right = static_cast<int64_t>(b->size());
  if (left + right <= room) return;
  const int64_t half = room / 2;
  const int64_t keep_right = std::min(right, std::max(half, room - left));
  b->resize(keep_right);
  a->resize(std::min(left, room - keep_right));
}

}  // namespace

const char* Name(ClassSplit split) {
  switch (split) {
    case ClassSplit::kTrain:
      return "train";
    case ClassSplit::kDev:
      return "dev";
    case ClassSplit::kTest:
      return "test";
  }
  throw DataError("no such split");
}

ClassificationData ReadClassification(const std::string& path, const Tokenizer& tokenizer,
                                      const ClassificationOptions& options) {
  Reader reader(path, options);
  std::vector<Entry> entries = reader.Read();
  ClassificationData data{.integer_labels = reader.integers(),
                          .pairs = reader.pairs(),
                          .splits_given = entries[0].split.has_value(),
                          .digest = spec::Sha256HexOfFile(path)};
  const int64_t separators = data.pairs ? 2 : 1;
  if (options.seq_len < 2 * separators) {
    throw DataError("seq_len " + std::to_string(options.seq_len) + " leaves no room for " +
                    (data.pairs ? "two texts; give 4 or more" : "a text; give 2 or more"));
  }
  data.classes = Classes(entries, data.integer_labels);
  const auto classes = static_cast<int64_t>(data.classes.size());
  if (classes < 2)
    throw DataError(path + ": every label is \"" + data.classes[0] +
                    "\"; a classifier needs two classes or more");
  if (classes > options.max_classes) {
    throw DataError(path + ": " + std::to_string(classes) + " different labels, more than the " +
                    std::to_string(options.max_classes) + " allowed; is \"label\" a class?");
  }
  if (!data.splits_given) AssignSplits(&entries, options.split_seed, options.holdout, path);

  std::map<std::string, int64_t> index;
  for (int64_t c = 0; c < classes; ++c) index[data.classes[c]] = c;
  std::set<std::string> train;
  for (const Entry& e : entries) {
    if (*e.split == ClassSplit::kTrain) train.insert(TextDigest(e, 0));
  }
  for (const Entry& e : entries) {
    std::vector<int64_t> a = tokenizer.Encode(e.first), b;
    if (data.pairs) b = tokenizer.Encode(e.second);
    const size_t whole = a.size() + b.size();
    Cut(&a, &b, options.seq_len - separators);
    data.cut += a.size() + b.size() < whole;
    ClassExample example{
        .ids = {tokenizer.separator()}, .label = index.at(e.label), .line = e.line};
    example.ids.insert(example.ids.end(), a.begin(), a.end());
    if (data.pairs) {
      example.ids.push_back(tokenizer.separator());
      example.ids.insert(example.ids.end(), b.begin(), b.end());
    }
    const auto s = static_cast<size_t>(*e.split);
    data.also_in_train[s] += *e.split != ClassSplit::kTrain && train.count(TextDigest(e, 0)) > 0;
    data.examples[s].push_back(std::move(example));
  }
  if (data.split(ClassSplit::kTrain).empty())
    throw DataError(path + ": no line has the split \"train\"");
  if (data.split(ClassSplit::kDev).empty() && data.split(ClassSplit::kTest).empty())
    throw DataError(path + ": every line is \"train\"; some must be \"dev\" or \"test\"");
  return data;
}

}  // namespace plumb::data
