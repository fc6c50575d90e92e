#include "trainer/spec/stage_settings.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "trainer/spec/fields.h"

namespace plumb::spec {
namespace {

using nlohmann::json;
using Type = SettingType;

constexpr double kAny = 9007199254740992;  // 2^53
constexpr size_t kMaxItems = 256;
constexpr size_t kMaxMapBytes = 64 << 10;
constexpr char kDefinition[] = "definition";

using Words = std::vector<std::string>;
enum class Many { kOne, kList };

StageSetting Integer(const char* path, const char* start, double min, double max, const char* doc,
                     Many many = Many::kOne) {
  return {path, Type::kInteger, many == Many::kList, start, min, max, {}, doc};
}
StageSetting Number(const char* path, const char* start, double min, double max, const char* doc) {
  return {path, Type::kNumber, false, start, min, max, {}, doc};
}
StageSetting Choice(const char* path, const char* start, const Words& choices, const char* doc,
                    Many many = Many::kOne) {
  return {path, Type::kChoice, many == Many::kList, start, 0, 0, choices, doc};
}
StageSetting Flag(const char* path, const char* doc) {
  return {path, Type::kBoolean, false, "false", 0, 0, {}, doc};
}

const Words kSplits = {"tune", "val", "test"};
const Words kSamplers = {"greedy", "temperature", "top_k", "top_p"};
const Words kTaskFormats = {"arc", "blimp", "hellaswag", "piqa", "lambada", "storycloze", "boolq",
                            "cb",  "copa",  "multirc",   "rte",  "wic",     "choices"};
const Words kProbed = {"position", "character_class", "next_token_frequency", "label"};
const Words kPainters = {"skip",     "middle_repeat",   "reverse",  "random",
                         "parallel", "looped_parallel", "skip_one", "switch_two"};

// The registry. A setting without a default must be given.
const std::vector<StageKind>& Registry() {
  static const std::vector<StageKind> kRegistry = {
      {.name = "pretrain", .first = true, .leaves = Leaves::kModel},
      {.name = "probe",
       .from = {Leaves::kModel},
       .settings =
           {{"prompts", Type::kText, true, "", 1, 16384, {}, "Texts to go on from"},
            Integer("top_k", "0", 0, 1000, "Likeliest next tokens of each prompt; 0: none"),
            {"generate", Type::kGroup, false, "null", 0, 0, {}, "A continuation of each prompt"},
            Integer("generate.tokens", "40", 1, 8192, "Tokens to generate"),
            Choice("generate.sampler", "\"greedy\"", kSamplers, "How the next token is chosen"),
            Number("generate.temperature", "1.0", 1e-3, 100, "Divides the logits; not for greedy"),
            Integer("generate.top_k", "50", 1, 1e6, "Only so many candidates; sampler top_k"),
            Number("generate.top_p", "0.9", 1e-6, 1,
                   "The fewest candidates with this mass; sampler top_p"),
            Integer("generate.seed", "0", 0, kAny, "Of the draws"),
            Flag("attention", "Attention maps of each prompt"),
            Integer("attention_layer", "-1", -1, 4096, "Whose heads are mapped; -1: the last")}},
      {.name = "painters",
       .from = {Leaves::kModel},
       .settings =
           {Choice("variants", "", kPainters,
                   "How the middle layers are executed; the baseline is always measured too",
                   Many::kList),
            Integer(
                "start_layers", "[1]", 0, 4096,
                "Layers up to N, and from n_layers - N on, stay; skip_one, switch_two: the layer",
                Many::kList),
            Integer("repeats", "[3]", 1, 100, "Rounds of looped_parallel", Many::kList),
            Integer("seeds", "[0]", 0, kAny, "Orders of random", Many::kList),
            Choice("split", "\"val\"", kSplits, "What is scored"),
            Integer("tokens", "0", 0, kAny, "Of it, at most; 0: all")}},
      {.name = "finetune",
       .definition = kLinearityDefinition,
       .from = {Leaves::kModel},
       .settings = {{"task", Type::kFile, false, "", 0, 0, {}, "Texts with labels, JSON lines"},
                    Integer("epochs", "3", 1, 10000, "Passes over the examples"),
                    Integer("batch", "32", 1, 65536, "Examples in a step"),
                    Number("lr", "0.0001", 0, 10, "Highest learning rate"),
                    Choice("schedule", "\"constant\"", {"constant", "linear", "cosine"},
                           "Rate after the warm-up; linear and cosine end at 0"),
                    Number("warmup_fraction", "0.0", 0, 1, "Share of the steps"),
                    Number("weight_decay", "0.0", 0, 10, "Of AdamW"),
                    Integer("seeds", "[0,1,2]", 0, kAny,
                            "A run each: the head's init and the order", Many::kList),
                    Integer("max_tokens", "128", 1, 1 << 20, "Longer texts are cut"),
                    Number("holdout", "0.2", 0, 0.9,
                           "Share kept for accuracy where the examples do not name their split"),
                    Flag("linearity", "Score the layers before and after, on the corpus")}},
      {.name = "evaluate",
       .from = {Leaves::kModel},
       .settings = {Choice("splits", "[\"test\"]", kSplits, "What is scored", Many::kList),
                    Integer("tokens", "0", 0, kAny, "Of each, at most; 0: all"),
                    Integer("documents", "0", 0, kAny, "Of each, at most; 0: all"),
                    Integer("from_position", "0", 0, 1 << 20,
                            "Score each text from here on, as a router with prefix pooling does"),
                    Flag("routes", "Record every text's way through a routed model")}},
      {.name = "linearity",
       .definition = kLinearityDefinition,
       .from = {Leaves::kModel},
       .settings =
           {Choice("fit", "\"tune\"", kSplits, "What the linear maps are fitted on"),
            Choice("score", "\"val\"", kSplits, "What they are scored on: other documents"),
            Integer("tokens", "0", 0, kAny, "To fit on, at most; 0: 50 for each of d_model"),
            Integer("score_tokens", "0", 0, kAny,
                    "To score on, at most; 0: a quarter of those to fit on"),
            Integer("from_position", "0", 0, 1 << 20,
                    "Leave out the positions of each text before it"),
            Integer("twonn_points", "2048", 0, 4096,
                    "Of each layer, for its intrinsic dimension (TwoNN); 0: not asked for"),
            Flag("logit_lens", "What each layer says by the final norm and the head")}},
      {.name = "linear_probe",
       .definition = kProbesDefinition,
       .from = {Leaves::kModel},
       .settings =
           {Choice("properties", "[\"position\",\"character_class\",\"next_token_frequency\"]",
                   kProbed, "What is read from a token's states; label: from those of a text",
                   Many::kList),
            {"file",
             Type::kFile,
             false,
             "null",
             0,
             0,
             {},
             "Texts with labels, JSON lines, for the property label"},
            Choice("methods", "[\"ridge\",\"logistic\"]", {"ridge", "logistic"},
                   "How the linear maps are fitted", Many::kList),
            Choice("fit", "\"tune\"", kSplits, "What token properties are fitted on"),
            Choice("score", "\"val\"", kSplits, "What they are judged on: other documents"),
            Integer("tokens", "0", 0, kAny, "To fit on, at most; 0: 50 for each of d_model"),
            Integer("score_tokens", "0", 0, kAny, "To judge on, at most; 0: as many as to fit on"),
            Integer("logistic_tokens", "8192", 16, 1 << 20,
                    "Of those to fit on, or of the texts, at most, for the logistic maps"),
            Integer("frequency_classes", "4", 2, 16,
                    "Of next_token_frequency, each of about as much of the training text"),
            Choice("pool", "\"mean\"", {"mean", "last"},
                   "The state of a text: the mean of its tokens', or its last token's"),
            Integer("max_tokens", "0", 0, 1 << 20, "Longer texts are cut; 0: data.seq_len"),
            Number("holdout", "0.2", 0, 0.9,
                   "Share of the texts judged on where the file does not name their split")}},
      {.name = "task",
       .from = {Leaves::kModel},
       .settings = {Choice("format", "", kTaskFormats,
                           "How the questions are written (docs/tasks.md)"),
                    {"file", Type::kFile, false, "", 0, 0, {}, "The questions"},
                    {"labels",
                     Type::kFile,
                     false,
                     "null",
                     0,
                     0,
                     {},
                     "The right answers, where they are published in a file of their own"},
                    Integer("limit", "0", 0, kAny, "The first so many lines; 0: all"),
                    Integer(
                        "context", "0", 0,
                        1 << 20, "Longest text in tokens; its beginning is cut. 0: data.seq_len"),
                    Flag("bos", "Begin each text as a document does; the harness does not")}},
      {.name = "prune",
       .definition = kLinearityDefinition,
       .from = {Leaves::kModel},
       .settings =
           {Choice("methods", "[\"remove\",\"replace\",\"distil\"]",
                   {"remove", "replace", "distil"},
                   "The layer is left out; its least-squares map runs in its place; those maps are "
                   "trained to follow the whole model",
                   Many::kList),
            Choice("order", "\"score\"", {"score", "score_without", "rho", "loss", "random"},
                   "Which layer goes first: the most linear, the one that moves the stream least, "
                   "the one whose loss changes least, or any"),
            Integer("seed", "0", 0, kAny, "Of a random order"),
            Integer("layers", "0", 0, 4096, "To take away at most; 0: all but one"),
            Choice("fit", "\"tune\"", kSplits, "What maps are fitted and distilled on"),
            Integer("fit_tokens", "0", 0, kAny, "Of it, at most; 0: 50 for each of d_model"),
            Choice("split", "\"val\"", kSplits, "What is scored"),
            Integer("tokens", "0", 0, kAny, "Of it, at most; 0: all"),
            Choice("distil_what", "\"maps\"", {"maps", "everything"},
                   "What is trained: the maps alone, or the other layers too"),
            Integer("distil_steps", "100", 1, 1e6, "Updates for each number of layers"),
            Integer("distil_windows", "8", 1, 65536, "Texts of eval.seq_len tokens in an update"),
            Number("distil_lr", "0.0001", 0, 10, "Of Adam, falling to 0 by a line"),
            {"tasks",
             Type::kTasks,
             false,
             "{}",
             0,
             0,
             {},
             "Tasks scored after each step: {arc: {format: arc, file: \"arc.jsonl\"}}"}}},
      {.name = "external",
       .first = true,
       .from = {Leaves::kModel, Leaves::kFiles, Leaves::kNothing},
       .leaves = Leaves::kFiles,
       .settings =
           {{"command",
             Type::kText,
             true,
             "[]",
             1,
             16384,
             {},
             "The program and its arguments, one each: no shell reads them. {script} is the "
             "script"},
            {"script",
             Type::kFile,
             false,
             "null",
             0,
             0,
             {},
             "A file that the command runs, pinned by its digest"},
            {"trainer",
             Type::kText,
             false,
             "\"\"",
             1,
             50,
             {},
             "Instead of a command: a trainer program that workers have by this name (--trainer)"},
            {"with", Type::kMap, false, "{}", 0, 0, {}, "Handed to it as it is"},
            Integer("steps", "0", 0, 1e12,
                    "Its last step; 0: of a first stage the trial's budget, of another 1"),
            Number("timeout_seconds", "0.0", 0, 31536000,
                   "An attempt that takes longer fails; 0: no limit"),
            Number("grace_seconds", "30.0", 0, 3600,
                   "To write a checkpoint and leave when it is asked to; then it is killed"),
            Integer("memory_mib", "0", 0, 1e9, "That it needs, for the scheduler; 0: unknown")}},
      {.name = "noop",
       .first = true,
       .from = {Leaves::kNoop},
       .leaves = Leaves::kNoop,
       .settings =
           {Number("seconds", "0.0", 0, 86400, "How long it lasts"),
            Integer("records", "0", 0, 1e6, "Records that it says at its end"),
            Integer("record_bytes", "0", 0, 1 << 22, "Padding of each record"),
            {"bowl",
             Type::kText,
             false,
             "\"\"",
             0,
             1000,
             {},
             "\"train.lr = 0.003, train.beta2 = 0.95\": the series noop/value is the sum of "
             "ln(field / value)^2, and noop/size that of ln(field)"}}},
  };
  return kRegistry;
}

std::string TypeName(const StageSetting& s) {
  switch (s.type) {
    case Type::kInteger:
      return "a whole number";
    case Type::kNumber:
      return "a number";
    case Type::kBoolean:
      return "true or false";
    case Type::kText:
      return "a text";
    case Type::kChoice:
      return "a word";
    case Type::kFile:
      return "a file";
    case Type::kGroup:
    case Type::kMap:
      return "a map";
    case Type::kTasks:
      return "tasks by name";
  }
  return "?";
}

std::string Short(double v) {
  return v == std::floor(v) && std::abs(v) < 1e16 ? std::to_string(static_cast<int64_t>(v))
                                                  : json(v).dump();
}

std::string Nearest(const std::string& name, const std::vector<std::string>& known) {
  std::string near, list;
  int best = std::max<int>(1, static_cast<int>(name.size()) / 3) + 1;
  for (const std::string& k : known) {
    list += (list.empty() ? "" : ", ") + k;
    if (const int d = EditDistance(name, k); d < best) best = d, near = k;
  }
  return near.empty() ? "known are " + list : "did you mean " + near + "?";
}

// The value in the form that equal values share, or what is wrong with it.
std::string OneValue(const StageSetting& s, const json& v, json* out) {
  const std::string got = ", got " + v.dump(-1, ' ', false, json::error_handler_t::replace);
  switch (s.type) {
    case Type::kInteger:
    case Type::kNumber: {
      if (!v.is_number()) return "expected " + TypeName(s) + got;
      const double x = v.get<double>();
      if (s.type == Type::kInteger && x != std::floor(x)) return "expected a whole number" + got;
      if (!(x >= s.min && x <= s.max))
        return "must be from " + Short(s.min) + " to " + Short(s.max) + got;
      *out = s.type == Type::kInteger ? json(static_cast<int64_t>(x)) : json(x);
      return "";
    }
    case Type::kBoolean:
      if (!v.is_boolean()) return "expected true or false" + got;
      break;
    case Type::kText: {
      if (!v.is_string()) return "expected a text" + got + "; quote it";
      const double bytes = static_cast<double>(v.get_ref<const std::string&>().size());
      if (bytes < s.min || bytes > s.max)
        return "a text has " + Short(s.min) + " to " + Short(s.max) + " bytes, this one " +
               Short(bytes);
      break;
    }
    case Type::kChoice:
      if (!v.is_string() || std::find(s.choices.begin(), s.choices.end(), v) == s.choices.end())
        return "unknown word " + v.dump(-1, ' ', false, json::error_handler_t::replace) + "; " +
               Nearest(v.is_string() ? v.get<std::string>() : "", s.choices);
      break;
    case Type::kFile: {
      if (v.is_string())
        return "the file's digest is missing; hand the sweep in with `plumb sweep submit`, which "
               "adds it, or write {path: /…, sha256: …}";
      const bool whole = v.is_object() && v.size() == 2 && v.contains("path") &&
                         v.contains("sha256") && v["path"].is_string() && v["sha256"].is_string();
      if (!whole) return "expected the path of a file" + got;
      const std::string path = v["path"], digest = v["sha256"];
      if (path.empty() || path[0] != '/') return "with a digest the path must be absolute" + got;
      if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos)
        return "sha256 has 64 hexadecimal digits" + got;
      break;
    }
    case Type::kMap:
      if (!v.is_object()) return "expected a map" + got;
      if (v.dump(-1, ' ', false, json::error_handler_t::replace).size() > kMaxMapBytes)
        return "a map of at most 64 KiB";
      break;
    case Type::kGroup:
    case Type::kTasks:
      return "";
  }
  *out = v;
  return "";
}

class Read {
 public:
  Read(const StageKind& kind, json given) : table_(kind.settings) {
    if (kind.definition > 0 && given.is_object()) {
      const auto asked = given.find(kDefinition);
      if (asked != given.end()) {
        if (*asked != kind.definition) {
          Wrong(kDefinition, "this version computes " + std::to_string(kind.definition) + ", not " +
                                 asked->dump());
        }
        given.erase(asked);
      }
    }
    Map(given, "");
    if (errors_.empty()) Together(kind.name);
    const bool measures = kind.name != "finetune" || full_.value("linearity", false);
    if (kind.definition == 0 || !measures) return;
    full_[kDefinition] = kind.definition;
    if (kind.definition > 1) canonical_[kDefinition] = kind.definition;
  }
  std::vector<SpecError> errors_;
  json canonical_ = json::object(), full_ = json::object();

 private:
  void Wrong(std::string path, std::string message) {
    errors_.push_back({std::move(path), std::move(message)});
  }

  // A map of settings whose paths begin with `prefix`.
  void Map(const json& map, const std::string& prefix) {
    const std::string at = prefix.empty() ? "" : prefix.substr(0, prefix.size() - 1);
    if (!map.is_object()) return Wrong(at, "expected a map of settings, got " + map.dump());
    std::vector<std::string> names;
    for (const StageSetting& s : table_) {
      if (s.path.rfind(prefix, 0) != 0) continue;
      const std::string name = s.path.substr(prefix.size());
      if (name.find('.') == std::string::npos) names.push_back(name), Setting(s, map, name);
    }
    for (const auto& [name, value] : map.items()) {
      if (std::find(names.begin(), names.end(), name) == names.end())
        Wrong(prefix + name, "unknown setting; " + Nearest(name, names));
    }
  }

  void Setting(const StageSetting& s, const json& map, const std::string& name) {
    const auto it = map.find(name);
    const json::json_pointer at("/" + Slashed(s.path));
    if (it == map.end()) {
      if (s.default_json.empty()) return Wrong(s.path, "must be given: " + s.doc);
      full_[at] = json::parse(s.default_json);
      return;
    }
    if (!s.default_json.empty() && json::parse(s.default_json) == *it) {
      full_[at] = *it;
      return;
    }
    if (s.type == Type::kGroup) {
      if (it->is_null()) {
        full_[at] = nullptr;
        return;
      }
      canonical_[at] = full_[at] = json::object();
      Map(*it, s.path + ".");
      return;
    }
    if (s.type == Type::kTasks) return Tasks(s, *it);
    const std::optional<json> value = s.is_list ? List(s, *it) : Single(s, *it);
    if (!value) return;
    full_[at] = *value;
    if (s.default_json.empty() || json::parse(s.default_json) != *value) canonical_[at] = *value;
  }

  // Each by the table of kind "task".
  void Tasks(const StageSetting& s, const json& v) {
    if (!v.is_object() || v.empty() || v.size() > 32)
      return Wrong(s.path,
                   "expected 1 to 32 tasks by names of your own, as {arc: {format: arc, file: "
                   "\"arc.jsonl\"}}");
    json canonical = json::object(), full = json::object();
    for (const auto& [name, settings] : v.items()) {
      const std::string path = s.path + "." + name;
      if (name.empty() || name.size() > 32 ||
          name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
        Wrong(path, "a task's name is 1 to 32 of a-z, 0-9 and _");
      for (const SpecError& e : ReadStageSettings("task", settings, &canonical[name], &full[name]))
        Wrong(e.path.empty() ? path : path + "." + e.path, e.message);
    }
    const json::json_pointer at("/" + Slashed(s.path));
    canonical_[at] = std::move(canonical), full_[at] = std::move(full);
  }

  std::optional<json> Single(const StageSetting& s, const json& v) {
    json out;
    if (const std::string wrong = OneValue(s, v, &out); !wrong.empty()) {
      Wrong(s.path, wrong);
      return std::nullopt;
    }
    return out;
  }

  std::optional<json> List(const StageSetting& s, const json& v) {
    if (!v.is_array() || v.empty() || v.size() > kMaxItems) {
      Wrong(s.path, "expected a list of 1 to 256, each " + TypeName(s) + ", as [" +
                        (s.choices.empty() ? s.type == Type::kText ? "\"…\"" : "0" : s.choices[0]) +
                        "]");
      return std::nullopt;
    }
    json out = json::array();
    std::set<json> seen;
    bool good = true;
    for (size_t i = 0; i < v.size(); ++i) {
      json item;
      std::string wrong = OneValue(s, v[i], &item);
      if (wrong.empty() && s.type != Type::kText && !seen.insert(item).second)
        wrong = item.dump() + " is there twice";
      if (!wrong.empty()) {
        Wrong(s.path + "[" + std::to_string(i) + "]", wrong);
        good = false;
      }
      out.push_back(std::move(item));
    }
    return good ? std::optional(out) : std::nullopt;
  }

  void Together(const std::string& kind) {
    if (kind == "probe" && full_["top_k"] == 0 && full_["generate"].is_null() &&
        full_["attention"] == false)
      Wrong("", "nothing to probe: give top_k, generate or attention");
    if (kind == "linearity" && full_["fit"] == full_["score"])
      Wrong("score",
            "is what the maps are fitted on: name another split, whose documents they have "
            "not seen");
    if (kind == "linear_probe" && full_["fit"] == full_["score"])
      Wrong("score",
            "is what the probes are fitted on: name another split, whose documents they have "
            "not seen");
    if (kind == "linear_probe") {
      const json& asked = full_["properties"];
      const bool label = std::find(asked.begin(), asked.end(), "label") != asked.end();
      if (label != full_["file"].is_object())
        Wrong("file", label ? "the property label is read from a file of texts; say which, as "
                              "file: \"labels.jsonl\""
                            : "no property is read from it: add label, as properties: [label]");
    }
    if (kind == "noop" && !ReadBowl(full_["bowl"].get<std::string>()))
      Wrong("bowl", "expected numeric fields and values above 0, as \"train.lr = 0.003\"");
    if (kind != "external") return;
    const json& command = full_["command"];
    const std::string trainer = full_["trainer"];
    if (trainer.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_.") != std::string::npos)
      Wrong("trainer", "the name of a trainer is letters, digits, - _ .");
    const bool uses = std::find(command.begin(), command.end(), "{script}") != command.end();
    if (command.empty() == (full_["trainer"] == ""))
      Wrong("", "give a command, as command: [python3, \"{script}\"], or a trainer; one of them");
    if (!command.empty() && uses != full_["script"].is_object())
      Wrong("script", uses ? "the command names {script}; say which file it is"
                           : "the command does not use it: write \"{script}\" among its words");
    if (command.empty() && full_["script"].is_object())
      Wrong("script", "a trainer runs its own program; leave the script out");
  }

  static std::string Slashed(std::string path) {
    std::replace(path.begin(), path.end(), '.', '/');
    return path;
  }

  const std::vector<StageSetting>& table_;
};

}  // namespace

std::optional<std::vector<BowlSide>> ReadBowl(const std::string& text) {
  std::vector<BowlSide> out;
  TrialSpec spec;
  const std::vector<Field> fields = Fields(spec);
  const auto trimmed = [](const std::string& part) {
    const size_t begin = part.find_first_not_of(' ');
    return begin == std::string::npos ? std::string()
                                      : part.substr(begin, part.find_last_not_of(' ') + 1 - begin);
  };
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string side = text.substr(begin, end - begin);
    const size_t equals = side.find('=');
    if (equals == std::string::npos) return std::nullopt;
    out.push_back({.field = trimmed(side.substr(0, equals))});
    const json number = json::parse(trimmed(side.substr(equals + 1)), nullptr, false);
    if (!number.is_number() || !(number.get<double>() > 0)) return std::nullopt;
    out.back().lowest = number.get<double>();
    const bool numeric = std::any_of(fields.begin(), fields.end(), [&](const Field& f) {
      return f.path == out.back().field &&
             (f.type == FieldType::kInteger || f.type == FieldType::kNumber);
    });
    if (!numeric) return std::nullopt;
    begin = end + 1;
  }
  return out;
}

const std::vector<StageKind>& StageKindTable() { return Registry(); }

const StageKind* FindStageKind(const std::string& kind) {
  for (const StageKind& k : Registry()) {
    if (k.name == kind) return &k;
  }
  return nullptr;
}

namespace {
std::string A(const std::string& kind) {
  return (std::string("aeiou").find(kind[0]) == std::string::npos ? "a " : "an ") + kind;
}
}  // namespace

std::string CannotFollow(const std::string& kind, const std::string& parent,
                         const std::string& parent_kind) {
  const StageKind& is = *FindStageKind(kind);
  const Leaves left = FindStageKind(parent_kind)->leaves;
  if (std::find(is.from.begin(), is.from.end(), left) != is.from.end()) return "";
  if (is.from.empty()) return A(kind) + " is a trial's first stage and follows none";
  switch (left) {
    case Leaves::kNothing:
      return is.from.front() == Leaves::kNoop
                 ? "a noop follows a noop; after another stage it would do nothing"
                 : parent + " (" + parent_kind + ") leaves no model for " + A(kind) +
                       " to start from; name the stage whose model it is to take";
    case Leaves::kModel:
      return "a noop follows a noop; after a training it would do nothing";
    case Leaves::kFiles:
      return kind == "noop" ? "a noop follows a noop; after another stage it would do nothing"
                            : parent + " is external: what it leaves is no model of ours, which " +
                                  A(kind) + " needs; only an external can follow it";
    case Leaves::kNoop:
      return parent + " is a noop, which leaves no model for " + A(kind) +
             "; only a noop can follow it";
  }
  return "";
}

std::string WorkerLabel(const std::string& kind, const json& settings) {
  if (kind != "external") return "";
  const std::string trainer = settings.value("trainer", "");
  return trainer.empty() ? kCommandsLabel : kTrainerLabel + trainer;
}

const std::vector<std::string>& StageKinds() {
  static const std::vector<std::string> kKinds = [] {
    std::vector<std::string> out;
    for (const StageKind& k : Registry()) {
      if (!k.settings.empty()) out.push_back(k.name);
    }
    return out;
  }();
  return kKinds;
}

const std::vector<StageSetting>& StageSettings(const std::string& kind) {
  static const std::vector<StageSetting> kNone;
  const StageKind* k = FindStageKind(kind);
  return k == nullptr ? kNone : k->settings;
}

const StageSetting* FindStageSetting(const std::string& kind, const std::string& path) {
  for (const StageSetting& s : StageSettings(kind)) {
    if (s.path == path) return &s;
  }
  return nullptr;
}

std::vector<SpecError> ReadStageSettings(const std::string& kind, const json& given,
                                         json* canonical, json* full) {
  const StageKind* k = FindStageKind(kind);
  if (k == nullptr || k->settings.empty())
    return {{"", "no settings are known for stages of kind " + kind}};
  return ReadStageSettings(*k, given, canonical, full);
}

std::vector<SpecError> ReadStageSettings(const StageKind& kind, const json& given, json* canonical,
                                         json* full) {
  Read read(kind, given);
  if (read.errors_.empty()) {
    if (canonical != nullptr) *canonical = std::move(read.canonical_);
    if (full != nullptr) *full = std::move(read.full_);
  }
  return std::move(read.errors_);
}

json StageSettingReference() {
  json out = json::array();
  for (const std::string& kind : StageKinds()) {
    for (const StageSetting& s : StageSettings(kind)) {
      json row = {{"kind", kind},
                  {"path", s.path},
                  {"type", (s.is_list ? "a list, each " : "") + TypeName(s)},
                  {"doc", s.doc}};
      row["default"] = s.default_json.empty() ? json() : json::parse(s.default_json);
      row["required"] = s.default_json.empty();
      if (s.min != s.max) row["min"] = s.min, row["max"] = s.max;
      if (!s.choices.empty()) row["choices"] = s.choices;
      out.push_back(std::move(row));
    }
  }
  return out;
}

}  // namespace plumb::spec
