#include "trainer/spec/parse.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "trainer/spec/cost.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/mixture.h"
#include "trainer/spec/sha256.h"

namespace plumb::spec {
namespace {

using nlohmann::json;

constexpr int64_t kMaxAttentionWidth = 1 << 22;
constexpr double kMaxTokens = 9007199254740992.0;  // 2^53

// What each component computes is versioned on its own: a change of one component's numbers leaves
// the keys of trials that do not use it as they were.
const std::map<std::string, int>& SemanticsVersions() {
  static const auto* versions = new std::map<std::string, int>{
      {"attention", 1}, {"data_order", 1}, {"evaluation", 1}, {"gelu", 1},      {"init", 1},
      {"layernorm", 1}, {"learned", 1},    {"mixture", 1},    {"optimizer", 1}, {"rmsnorm", 1},
      {"rope", 1},      {"swiglu", 1},     {"schedule", 1}};
  return *versions;
}

// The preset's row: fields that differ from the defaults of ModelSpec.
json PresetRow(const std::string& name) {
  if (name == "gpt2") {
    return {{"model.norm", "layernorm"},
            {"model.position", "learned"},
            {"model.mlp", "gelu"},
            {"model.bias", true},
            {"model.tied_head", true}};
  }
  return json::object();  // llama is the default
}

// By path. Built once: keys are computed for every trial of a sweep.
const std::map<std::string, json>& Defaults() {
  static const auto* const defaults = [] {
    auto* d = new std::map<std::string, json>;
    TrialSpec fresh;
    for (const Field& f : Fields(fresh)) (*d)[f.path] = f.get();
    return d;
  }();
  return *defaults;
}

// A spec and the table bound to it, reused: building the table takes longer than what is done with
// it.
struct BoundSpec {
  TrialSpec spec;
  std::vector<Field> fields = Fields(spec);
};
BoundSpec& Scratch(const TrialSpec& spec) {
  thread_local BoundSpec scratch;
  scratch.spec = spec;
  return scratch;
}

const std::set<std::string>& Sections() {
  static const auto* const sections = [] {
    auto* names = new std::set<std::string>;
    for (const auto& [path, value] : Defaults()) names->insert(path.substr(0, path.find('.')));
    return names;
  }();
  return *sections;
}

// Nested objects to dotted paths. Two spellings of one field, or a value where a section belongs,
// are errors.
void Flatten(const json& j, const std::string& prefix, int depth, std::map<std::string, json>* out,
             std::vector<SpecError>* errors) {
  if (depth > 16) {
    errors->push_back({prefix, "nested deeper than 16 levels"});
    return;
  }
  for (const auto& [key, value] : j.items()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    // An empty object is an empty section, or a name to complain about.
    if (value.is_object() && (!value.empty() || Sections().count(path) > 0)) {
      Flatten(value, path, depth + 1, out, errors);
    } else if (!out->emplace(path, value).second) {
      errors->push_back({path, "given twice"});
    }
  }
}

void SetNested(json* root, const std::string& path, json value) {
  const size_t dot = path.find('.');
  (*root)[path.substr(0, dot)][path.substr(dot + 1)] = std::move(value);
}

}  // namespace

std::string Format(const std::vector<SpecError>& errors) {
  std::string out;
  for (const SpecError& e : errors) {
    if (!out.empty()) out += "\n";
    out += e.path.empty() ? e.message : e.path + ": " + e.message;
  }
  return out;
}

std::vector<std::string> PresetNames() { return {"llama", "gpt2"}; }

std::optional<int64_t> TokenizerVocabSize(const std::string& tokenizer) {
  if (tokenizer == "bytes") return 256;
  struct Kind {
    std::string prefix;
    int64_t least;
  };
  // SentencePiece: 256 bytes to fall back on, and some pieces. "ids": token ids that were made
  // elsewhere.
  for (const auto& [prefix, least] : {Kind{"sentencepiece:", 300}, Kind{"ids:", 2}}) {
    if (tokenizer.rfind(prefix, 0) != 0) continue;
    const std::string digits = tokenizer.substr(prefix.size());
    if (digits.empty() || digits.size() > 7 || digits.front() == '0') continue;
    if (digits.find_first_not_of("0123456789") != std::string::npos) continue;
    if (const int64_t n = std::stoll(digits); n >= least) return n;
  }
  return std::nullopt;
}

std::vector<SpecError> Parse(const json& j, TrialSpec* spec) {
  std::vector<SpecError> errors;
  if (!j.is_object()) return {{"", "expected an object of sections (model, data, train, …)"}};
  std::map<std::string, json> flat;
  Flatten(j, "", 0, &flat, &errors);

  BoundSpec& scratch = Scratch(TrialSpec());
  TrialSpec& s = scratch.spec;
  const auto apply = [&](const std::string& path, const json& value) {
    const auto it = std::find_if(scratch.fields.begin(), scratch.fields.end(),
                                 [&](const Field& f) { return f.path == path; });
    if (it == scratch.fields.end()) {
      const std::string near = NearestField(path);
      errors.push_back({path, "no such field" + (near.empty() ? "; plumb schema trial lists them"
                                                              : "; did you mean " + near + "?")});
      return;
    }
    const std::string wrong = it->set(value);
    if (!wrong.empty()) errors.push_back({path, wrong});
  };
  if (const auto it = flat.find("model.preset"); it != flat.end()) apply(it->first, it->second);
  const json row = PresetRow(s.model.preset);  // named: items() of a temporary would outlive it
  for (const auto& [path, value] : row.items()) apply(path, value);
  for (const auto& [path, value] : flat) {
    if (path != "model.preset") apply(path, value);
  }
  if (errors.empty()) *spec = s;
  return errors;
}

std::vector<SpecError> ParseText(const std::string& text, TrialSpec* spec) {
  if (text.size() > 1 << 20) return {{"", "config larger than 1 MiB"}};
  // A SAX pass would find duplicate keys; a callback that remembers the keys of each open object
  // does too.
  std::vector<std::set<std::string>> open;
  std::vector<SpecError> duplicates;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end && !open.empty()) open.pop_back();
    if (event == json::parse_event_t::key && !open.empty()) {
      const auto key = parsed.get<std::string>();
      if (!open.back().insert(key).second) duplicates.push_back({key, "given twice"});
    }
    return depth < 64;
  };
  json j;
  try {
    j = json::parse(text, watch);
  } catch (const json::parse_error& e) {
    return {{"", "not JSON: byte " + std::to_string(e.byte)}};
  }
  if (!duplicates.empty()) return duplicates;
  return Parse(j, spec);
}

std::vector<SpecError> Resolve(TrialSpec* spec) {
  TrialSpec s = *spec;
  std::vector<SpecError> errors;
  const auto wrong = [&](const char* path, const std::string& message) {
    errors.push_back({path, message});
  };
  const auto str = [](int64_t v) { return std::to_string(v); };

  ModelSpec& m = s.model;
  if (m.n_heads == 0) {
    if (m.head_dim == 0) {
      m.n_heads = 4;
    } else if (m.d_model % m.head_dim == 0) {
      m.n_heads = m.d_model / m.head_dim;
    } else {
      wrong("model.head_dim", str(m.head_dim) + " does not divide d_model " + str(m.d_model) +
                                  "; give n_heads too, or another width");
    }
  }
  if (m.head_dim == 0 && m.n_heads > 0) {
    if (m.d_model % m.n_heads == 0) {
      m.head_dim = m.d_model / m.n_heads;
    } else {
      wrong("model.n_heads", str(m.n_heads) + " does not divide d_model " + str(m.d_model) +
                                 "; give head_dim too, or another width");
    }
  }
  if (m.n_kv_heads == 0) m.n_kv_heads = m.n_heads;
  // Keeps every count of parameters and FLOPs within 64 bits.
  if (m.n_heads * m.head_dim > kMaxAttentionWidth) {
    wrong("model.head_dim", str(m.n_heads) + " heads of width " + str(m.head_dim) +
                                " are wider than " + str(kMaxAttentionWidth) + " together");
  }
  if (m.n_kv_heads > 0 && m.n_heads % m.n_kv_heads != 0) {
    wrong("model.n_kv_heads", str(m.n_kv_heads) + " does not divide n_heads " + str(m.n_heads));
  }
  if (m.position == PositionKind::kRope && m.head_dim % 2 != 0) {
    wrong("model.head_dim",
          "RoPE turns pairs: the head width " + str(m.head_dim) + " must be even");
  }
  if (m.d_ff == 0) {
    m.d_ff = m.mlp == MlpKind::kSwiGlu ? (8 * m.d_model + 23) / 24 * 8
                                       : 4 * m.d_model;  // ceil(8d/3) to a multiple of 8
  }
  const auto vocab = TokenizerVocabSize(s.data.tokenizer);
  if (!vocab) {
    wrong("data.tokenizer",
          "unknown tokenizer \"" + s.data.tokenizer + "\"; bytes, or sentencepiece:<300 or more>");
  } else if (m.vocab_size == 0) {
    m.vocab_size = *vocab;
  } else if (m.vocab_size < *vocab) {
    wrong("model.vocab_size", str(m.vocab_size) + " is less than the tokenizer's " + str(*vocab));
  }
  if (s.eval.seq_len == 0) s.eval.seq_len = s.data.seq_len;
  const int64_t longest = std::max(s.data.seq_len, s.eval.seq_len);
  if (m.position == PositionKind::kLearned) {
    if (m.max_positions == 0) m.max_positions = longest;
    if (m.max_positions < longest) {
      wrong("model.max_positions",
            str(m.max_positions) + " is less than the longest sequence, " + str(longest));
    }
  } else {
    m.max_positions = 0;
  }

  TrainSpec& t = s.train;
  if (t.batch_tokens % s.data.seq_len != 0) {
    wrong("train.batch_tokens",
          str(t.batch_tokens) + " is not a multiple of data.seq_len " + str(s.data.seq_len));
  }
  const int budgets = (t.steps > 0) + (t.tokens > 0) + (t.flops > 0) + (t.epochs > 0);
  if (budgets != 1) {
    wrong("train", std::string(budgets == 0 ? "no budget: give one of " : "give only one of ") +
                       "train.steps, train.tokens, train.flops, train.epochs");
  } else if (t.epochs > 0) {
    wrong("train.epochs",
          "the length of an epoch is the corpus's, which is not known here; sweeps turn it into "
          "steps, elsewhere give train.steps or train.tokens");
  }
  if (!s.data.mix.empty() && !s.data.phases.empty())
    wrong("data.phases", "give data.mix or data.phases, not both: each phase has its own mix");
  if (std::vector<MixPhase> phases; !s.data.phases.empty()) {
    if (const std::string bad = ParsePhases(s.data.phases, &phases); !bad.empty()) {
      wrong("data.phases", bad);
    } else if (phases.size() == 1) {  // no other run than that of its mix, so no other key
      s.data.mix = MixText(phases[0].mix);
      s.data.phases.clear();
    }
  }
  if (t.warmup_steps > 0 && t.warmup_fraction > 0)
    wrong("train.warmup_steps", "give warmup_steps or warmup_fraction, not both");
  if (!errors.empty()) return errors;

  if (t.flops > 0) {
    const double per_step = static_cast<double>(TrainingFlopsPerToken(m, s.data.seq_len)) *
                            static_cast<double>(t.batch_tokens);
    const double steps = std::round(t.flops / per_step);
    if (steps < 1) {
      wrong("train.flops", "less than one step of " + std::to_string(per_step) +
                               " FLOPs; raise it or make batch_tokens smaller");
    } else if (steps > 1e12) {
      wrong("train.flops", "more than 1e12 steps");
    } else {
      t.steps = static_cast<int64_t>(steps);
    }
  } else if (t.tokens > 0) {
    t.steps = std::max<int64_t>(1, (t.tokens + t.batch_tokens / 2) / t.batch_tokens);
  }
  t.flops = 0, t.tokens = 0;
  if (t.warmup_fraction > 0 && errors.empty()) {
    t.warmup_steps =
        static_cast<int64_t>(std::round(t.warmup_fraction * static_cast<double>(t.steps)));
    t.warmup_fraction = 0;
  }
  if (static_cast<double>(t.steps) * static_cast<double>(t.batch_tokens) > kMaxTokens) {
    wrong("train",
          str(t.steps) + " steps of " + str(t.batch_tokens) + " tokens are more than 2^53 tokens");
  }
  if (t.warmup_steps > t.steps)
    wrong("train.warmup_steps",
          str(t.warmup_steps) + " is more than the " + str(t.steps) + " steps");
  // Fields that the chosen kind does not read go back to their default, so that they never split a
  // key.
  const TrialSpec defaults;
  if (m.position != PositionKind::kRope) m.rope_base = defaults.model.rope_base;
  if (t.schedule == ScheduleKind::kConstant) t.final_lr_fraction = defaults.train.final_lr_fraction;
  if (t.schedule != ScheduleKind::kWsd) t.decay_fraction = defaults.train.decay_fraction;
  s.eval.points = std::min(s.eval.points, std::max<int64_t>(1, t.steps));
  if (errors.empty()) *spec = s;
  return errors;
}

void ResolveEpochs(TrialSpec* spec, int64_t train_tokens) {
  TrainSpec& t = spec->train;
  if (!(t.epochs > 0) || t.steps > 0 || t.tokens > 0 || t.flops > 0) return;  // or Resolve() tells
  const double steps = t.epochs * static_cast<double>(train_tokens) /
                       static_cast<double>(std::max<int64_t>(1, t.batch_tokens));
  t.steps = std::max<int64_t>(1, static_cast<int64_t>(std::min(std::round(steps), 1e12)));
  t.epochs = 0;
}

std::vector<SpecError> ParseResolved(const std::string& text, TrialSpec* spec) {
  auto errors = ParseText(text, spec);
  return errors.empty() ? Resolve(spec) : errors;
}

json Canonical(const TrialSpec& resolved, With with) {
  json out = json::object();
  for (const Field& f : Scratch(resolved).fields) {
    if (f.path == "model.preset") continue;  // its row is already in the fields
    if (f.identity == Identity::kExecution && with == With::kResultOnly) continue;
    const json value = f.get();
    if (value != Defaults().at(f.path)) SetNested(&out, f.path, value);
  }
  return out;
}

std::string Key(const TrialSpec& resolved) {
  const ModelSpec& m = resolved.model;
  json versions = json::object();
  for (const std::string& used :
       {std::string("attention"), std::string("data_order"), std::string("evaluation"),
        std::string("init"), std::string("optimizer"), std::string("schedule"),
        std::string(Name(m.norm)), std::string(Name(m.position)), std::string(Name(m.mlp))}) {
    versions[used] = SemanticsVersions().at(used);
  }
  if (!resolved.data.mix.empty() || !resolved.data.phases.empty())
    versions["mixture"] = SemanticsVersions().at("mixture");
  return Sha256Hex(
      json{{"config", Canonical(resolved, With::kResultOnly)}, {"semantics", versions}}.dump());
}

std::string FusionKey(const TrialSpec& resolved) {
  json key = json::object();
  for (const Field& f : Scratch(resolved).fields) {
    if (f.fusion == Fusion::kKey) key[f.path] = f.get();
  }
  return Sha256Hex(key.dump());
}

json FieldReference() {
  static constexpr const char* kTypes[] = {"integer", "number", "boolean", "string", "choice"};
  TrialSpec fresh;
  json out = json::array();
  for (const Field& f : Fields(fresh)) {
    json row = {{"path", f.path},
                {"type", kTypes[static_cast<int>(f.type)]},
                {"default", f.get()},
                {"doc", f.doc},
                {"identity", f.identity == Identity::kResult ? "result" : "execution"},
                {"fusion", f.fusion == Fusion::kKey   ? "key"
                           : f.fusion == Fusion::kRow ? "row"
                                                      : "free"}};
    if (!f.unit.empty()) row["unit"] = f.unit;
    if (f.type == FieldType::kInteger || f.type == FieldType::kNumber)
      row["min"] = f.min, row["max"] = f.max;
    if (!f.choices.empty()) row["choices"] = f.choices;
    out.push_back(std::move(row));
  }
  return out;
}

json Schema() {
  json sections = json::object();
  for (const json& f : FieldReference()) {
    const auto path = f["path"].get<std::string>();
    const size_t dot = path.find('.');
    json& section = sections[path.substr(0, dot)];
    section["type"] = "object";
    section["additionalProperties"] = false;
    json p = {
        {"description", f["doc"].get<std::string>() +
                            (f.contains("unit") ? " [" + f["unit"].get<std::string>() + "]" : "")},
        {"default", f["default"]}};
    const auto type = f["type"].get<std::string>();
    p["type"] = type == "choice" ? "string" : type;
    if (f.contains("choices")) p["enum"] = f["choices"];
    if (f.contains("min")) p["minimum"] = f["min"], p["maximum"] = f["max"];
    section["properties"][path.substr(dot + 1)] = p;
  }
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", "Plumb trial config"},
          {"type", "object"},
          {"additionalProperties", false},
          {"properties", sections}};
}

}  // namespace plumb::spec
