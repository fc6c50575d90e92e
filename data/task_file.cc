#include "data/task_file.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>

#include "data/csv_rows.h"
#include "data/json_lines.h"

namespace plumb::data {
namespace {

using nlohmann::json;
using Points = std::u32string;  // code points, as the harness counts characters

Points Decode(const std::string& text) {
  Points out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    char32_t c = more == 0 ? lead : lead & (0x3F >> more);
    for (int k = 1; k <= more; ++k) c = (c << 6) | (static_cast<unsigned char>(text[i + k]) & 0x3F);
    out += c, i += more + 1;
  }
  return out;
}
std::string Encode(const Points& points) {
  std::string out;
  for (const char32_t c : points) {
    const int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
    out += static_cast<char>(kLead[more] | (c >> (6 * more)));
    for (int k = more - 1; k >= 0; --k) out += static_cast<char>(0x80 | ((c >> (6 * k)) & 0x3F));
  }
  return out;
}

// What Python's str.strip() removes.
bool IsSpace(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}
Points Strip(const Points& text) {
  size_t begin = 0, end = text.size();
  while (begin < end && IsSpace(text[begin])) ++begin;
  while (end > begin && IsSpace(text[end - 1])) --end;
  return text.substr(begin, end - begin);
}
// Latin letters; others have no case here.
bool IsUpper(char32_t c) { return (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7); }
char32_t Lower(char32_t c) { return IsUpper(c) ? c + 32 : c; }
char32_t Upper(char32_t c) { return c >= 32 && IsUpper(c - 32) && c != 0xDF ? c - 32 : c; }

void Replace(std::string* text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size())
    text->replace(at, from.size(), to);
}

// Marks of WikiHow in HellaSwag.
std::string WithoutMarks(const std::string& text) {
  std::string out = Encode(Strip(Decode(text)));
  Replace(&out, " [title]", ". ");
  for (size_t open = 0; (open = out.find('[', open)) != std::string::npos;) {
    const size_t close = out.find(']', open), line = out.find('\n', open);
    if (close == std::string::npos) break;
    if (line < close) {  // '.' of the harness's pattern ends at a line
      ++open;
      continue;
    }
    out.erase(open, close - open + 1);
  }
  Replace(&out, "  ", " ");
  return out;
}

std::string FirstLower(const std::string& text) {
  Points points = Decode(text);
  points[0] = Lower(points[0]);
  return Encode(points);
}

class Reader {
 public:
  Reader(const std::string& format, const std::string& path, std::vector<int64_t> labels)
      : format_(format), lines_(path, "{…}"), labels_(std::move(labels)) {
    if (format == "storycloze" && path.ends_with(".csv")) csv_.emplace(path);
  }

  std::vector<TaskItem> Read(int64_t limit) {
    std::vector<TaskItem> items;
    int64_t examples = 0;
    for (json o; (limit == 0 || examples < limit) && Next(&o); ++examples) {
      if (!labels_.empty()) {
        if (o.contains("label"))
          lines_.Wrong("the right answer stands here and in the file of labels");
        if (examples >= static_cast<int64_t>(labels_.size()))
          lines_.Wrong("the file of labels has no line for it");
        o["label"] = labels_[examples];
      }
      const size_t before = items.size();
      Line(o, &items);
      for (size_t i = before; i < items.size(); ++i) Check(&items[i]);
    }
    return items;
  }

 private:
  bool Next(json* o) {
    if (!csv_) return lines_.Next(o);
    std::map<std::string, std::string> row;
    const bool any = csv_->Next(&row);
    lines_.StandAt(csv_->line());
    if (any) *o = StoryClozeRow(row);
    return any;
  }
  // The columns as they are published, under the names that JSON lines of it have.
  json StoryClozeRow(const std::map<std::string, std::string>& row) const {
    json o = json::object();
    for (const auto& [column, value] : row) {
      if (column.starts_with("InputSentence")) {
        o["input_sentence_" + column.substr(13)] = value;
      } else if (column.starts_with("RandomFifthSentenceQuiz")) {
        o["sentence_quiz" + column.substr(23)] = value;
      } else if (column == "AnswerRightEnding") {
        if (value != "1" && value != "2") lines_.Wrong("AnswerRightEnding must be 1 or 2");
        o["answer_right_ending"] = value[0] - '0';
      }
    }
    return o;
  }
  std::string Text(const json& o, const std::string& key) const { return lines_.Text(o, key); }
  // A text that may be empty.
  std::string Maybe(const json& o, const std::string& key) const {
    if (const auto it = o.find(key);
        it != o.end() && it->is_string() && it->get_ref<const std::string&>().empty())
      return "";
    return lines_.Text(o, key);
  }
  const json& At(const json& o, const std::string& key, bool (json::*is)() const noexcept,
                 const char* what) const {
    const auto it = o.find(key);
    if (it == o.end()) lines_.Wrong("\"" + key + "\" is missing");
    if (!((*it).*is)()) lines_.Wrong("\"" + key + "\" must be " + what);
    return *it;
  }
  std::vector<std::string> Texts(const json& o, const std::string& key) const {
    std::vector<std::string> out;
    for (const json& text : At(o, key, &json::is_array, "a list of texts")) {
      if (!text.is_string() || text.get_ref<const std::string&>().empty())
        lines_.Wrong("\"" + key + "\" must be a list of texts");
      out.push_back(text);
    }
    return out;
  }
  // A word of `names` or its index.
  int64_t Label(const json& o, const std::vector<std::string>& names) const {
    const json& label = o.contains("label") ? o["label"] : json();
    const auto it =
        std::find(names.begin(), names.end(), label.is_string() ? label.get<std::string>() : "");
    if (it != names.end()) return it - names.begin();
    return lines_.Integer(o, "label", 0, static_cast<int64_t>(names.size()) - 1);
  }

  void Line(const json& o, std::vector<TaskItem>* out) {
    TaskItem item{.line = lines_.line()};
    if (format_ == "choices") {
      item.context = Maybe(o, "context");
      item.choices = Texts(o, "choices");
      item.gold = lines_.Integer(o, "gold", 0, static_cast<int64_t>(item.choices.size()) - 1);
      if (o.contains("group")) item.group = Text(o, "group");
      for (const auto& [key, value] : o.items()) {
        if (key != "context" && key != "choices" && key != "gold" && key != "group")
          lines_.Wrong(
              "unknown key \"" + key +
              "\"; a line has \"context\", \"choices\", \"gold\" and, if you like, \"group\"");
      }
    } else if (format_ == "arc") {
      const json& q =
          At(o, "question", &json::is_object, "an object with \"stem\" and \"choices\"");
      item.context = "Question: " + Text(q, "stem") + "\nAnswer:";
      const std::string key = Text(o, "answerKey");
      item.gold = -1;
      for (const json& c : At(q, "choices", &json::is_array, "a list of choices")) {
        if (!c.is_object()) lines_.Wrong("a choice is {\"text\": …, \"label\": …}");
        if (Text(c, "label") == key) item.gold = static_cast<int64_t>(item.choices.size());
        item.choices.push_back(Text(c, "text"));
      }
      if (item.gold < 0) lines_.Wrong("\"answerKey\" " + key + " is no choice's label");
    } else if (format_ == "blimp") {
      item.choices = {Text(o, "sentence_good"), Text(o, "sentence_bad")};
      if (o.contains("UID")) item.group = Text(o, "UID");
    } else if (format_ == "hellaswag") {
      Points b = Decode(Maybe(o, "ctx_b"));
      for (size_t i = 0; i < b.size(); ++i) b[i] = i == 0 ? Upper(b[i]) : Lower(b[i]);
      item.context =
          WithoutMarks(Text(o, "activity_label") + ": " + Text(o, "ctx_a") + " " + Encode(b));
      for (const std::string& ending : Texts(o, "endings"))
        item.choices.push_back(WithoutMarks(ending));
      item.gold = Label(o, {"0", "1", "2", "3"});
    } else if (format_ == "piqa") {
      item.context = "Question: " + Text(o, "goal") + "\nAnswer:";
      item.choices = {Text(o, "sol1"), Text(o, "sol2")};
      item.gold = Label(o, {"0", "1"});
    } else if (format_ == "lambada") {
      const std::string text = Text(o, "text");
      const size_t space = text.rfind(' ');
      if (space == std::string::npos || space + 1 == text.size())
        lines_.Wrong("\"text\" has no last word after a space");
      item.context = text.substr(0, space);
      item.choices = {" " + text.substr(space + 1)};
    } else if (format_ == "storycloze") {
      for (const char* n : {"1", "2", "3", "4"})
        item.context +=
            (item.context.empty() ? "" : " ") + Text(o, std::string("input_sentence_") + n);
      item.choices = {Text(o, "sentence_quiz1"), Text(o, "sentence_quiz2")};
      item.gold = lines_.Integer(o, "answer_right_ending", 1, 2) - 1;
    } else if (format_ == "boolq") {
      item.context = Text(o, "passage") + "\nQuestion: " + Text(o, "question") + "?\nAnswer:";
      item.choices = {"no", "yes"};
      item.gold = Label(o, {"false", "true"});
    } else if (format_ == "cb") {
      item.context = Text(o, "premise") + "\nQuestion: " + Text(o, "hypothesis") +
                     ". True, False, or Neither?\nAnswer:";
      item.choices = {"True", "False", "Neither"};
      item.gold = Label(o, {"entailment", "contradiction", "neutral"});
    } else if (format_ == "copa") {
      const std::string asks = Text(o, "question");
      if (asks != "cause" && asks != "effect")
        lines_.Wrong("\"question\" must be \"cause\" or \"effect\"");
      Points premise = Strip(Decode(Text(o, "premise")));
      premise.pop_back();
      item.context = Encode(premise) + (asks == "cause" ? " because" : " therefore");
      item.choices = {" " + FirstLower(Text(o, "choice1")), " " + FirstLower(Text(o, "choice2"))};
      item.gold = Label(o, {"0", "1"});
    } else if (format_ == "multirc") {
      MultiRc(o, out);
      return;
    } else if (format_ == "rte") {
      item.context =
          Text(o, "premise") + "\nQuestion: " + Text(o, "hypothesis") + " True or False?\nAnswer:";
      item.choices = {"True", "False"};
      item.gold = Label(o, {"entailment", "not_entailment"});
    } else {  // wic
      const std::string first = Text(o, "sentence1");
      const Points points = Decode(first);
      const int64_t begin = lines_.Integer(o, "start1", 0, static_cast<int64_t>(points.size()));
      const int64_t end = lines_.Integer(o, "end1", begin, static_cast<int64_t>(points.size()));
      item.context = "Sentence 1: " + first + "\nSentence 2: " + Text(o, "sentence2") +
                     "\nQuestion: Is the word '" + Encode(points.substr(begin, end - begin)) +
                     "' used in the same way in the two sentences above?\nAnswer:";
      item.choices = {"no", "yes"};
      item.gold = Label(o, {"false", "true"});
    }
    out->push_back(std::move(item));
  }

  // A passage with its questions and their answers; each answer is an item.
  void MultiRc(const json& o, std::vector<TaskItem>* out) const {
    const json& passage =
        At(o, "passage", &json::is_object, "an object with \"text\" and \"questions\"");
    for (const json& q : At(passage, "questions", &json::is_array, "a list of questions")) {
      if (!q.is_object()) lines_.Wrong("a question is {\"question\": …, \"answers\": […]}");
      for (const json& a : At(q, "answers", &json::is_array, "a list of answers")) {
        if (!a.is_object()) lines_.Wrong("an answer is {\"text\": …, \"label\": 0}");
        const std::string asked = Text(a, "text") + "\nIs the answer correct? ";
        out->push_back(
            {.context = Text(passage, "text") + "\nQuestion: " + Text(q, "question") + "\nAnswer:",
             .choices = {asked + "yes", asked + "no"},
             .gold = lines_.Integer(a, "label", 0, 1),
             .line = lines_.line()});
      }
    }
  }

  void Check(TaskItem* item) const {
    const size_t least = format_ == "lambada" ? 1 : 2;
    if (item->choices.size() < least) lines_.Wrong("fewer than two choices");
    if (item->gold >= static_cast<int64_t>(item->choices.size()))
      lines_.Wrong("the right answer is no choice's index");
    for (const std::string& choice : item->choices) {
      if (choice.empty()) lines_.Wrong("a choice is empty");
    }
  }

  const std::string& format_;
  JsonLines lines_;
  std::optional<CsvRows> csv_;  // in place of lines
  const std::vector<int64_t> labels_;
};

std::vector<int64_t> ReadLabels(const std::string& path) {
  std::ifstream in(path);
  std::vector<int64_t> out;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of("0123456789\r") != std::string::npos || line.empty() ||
        line.size() > 9)
      throw DataError(path + ":" + std::to_string(out.size() + 1) +
                      ": each line is the index of the right answer");
    out.push_back(std::stoll(line));
  }
  if (out.empty()) throw DataError(path + ": cannot be read, or is empty");
  return out;
}

const std::map<std::string, std::string>& Versions() {
  static const std::map<std::string, std::string> kVersions = {
      {"arc", "1.0"},     {"blimp", "1.0"},      {"hellaswag", "1.0"}, {"piqa", "1.0"},
      {"lambada", "1.0"}, {"storycloze", "1.0"}, {"boolq", "2.0"},     {"cb", "1.0"},
      {"copa", "1.0"},    {"multirc", "2.0"},    {"rte", "0.0"},       {"wic", "1.0"},
      {"choices", "1.0"}};
  return kVersions;
}

}  // namespace

const std::vector<std::string>& TaskFormats() {
  static const std::vector<std::string> kFormats = {
      "arc", "blimp", "hellaswag", "piqa", "lambada", "storycloze", "boolq",
      "cb",  "copa",  "multirc",   "rte",  "wic",     "choices"};
  return kFormats;
}

TaskData ReadTask(const std::string& format, const std::string& path, const std::string& labels,
                  int64_t limit) {
  const auto version = Versions().find(format);
  if (version == Versions().end()) throw DataError("no such task format: " + format);
  TaskData out{.format = format,
               .version = version->second,
               .delimiter = format == "lambada" ? "" : " ",
               .last_word = format == "lambada"};
  out.items = Reader(format, path, labels.empty() ? std::vector<int64_t>() : ReadLabels(labels))
                  .Read(limit);
  if (out.items.empty()) throw DataError(path + ": has no item");
  return out;
}

EncodedPair EncodePair(const Tokenizer& tokenizer, const std::string& context,
                       const std::string& continuation, bool separator_first) {
  const Points points = Decode(context);
  size_t end = points.size();
  while (end > 0 && IsSpace(points[end - 1])) --end;
  const std::string before = Encode(points.substr(0, end)),
                    after = Encode(points.substr(end)) + continuation;
  EncodedPair out;
  if (separator_first || before.empty()) out.tokens.push_back(tokenizer.separator());
  std::vector<int64_t> whole = tokenizer.Encode(before + after);
  const std::vector<int64_t> alone =
      before.empty() ? std::vector<int64_t>() : tokenizer.Encode(before);
  if (whole.size() > alone.size()) {
    out.tokens.insert(out.tokens.end(), whole.begin(), whole.end());
    out.continuation = static_cast<int64_t>(whole.size() - alone.size());
    return out;
  }
  const std::vector<int64_t> apart = tokenizer.Encode(after);
  out.tokens.insert(out.tokens.end(), alone.begin(), alone.end());
  out.tokens.insert(out.tokens.end(), apart.begin(), apart.end());
  out.continuation = static_cast<int64_t>(apart.size());
  out.spanning = true;
  return out;
}

}  // namespace plumb::data
