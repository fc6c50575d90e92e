#include "trainer/spec/parse.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "trainer/spec/choices.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/presets.h"
#include "trainer/spec/sha256.h"

namespace plumb::spec {
namespace {

using nlohmann::json;

// What each component computes is versioned on its own: a change of one component's numbers leaves
// the keys of trials that do not use it as they were. Not listed: 1.
int VersionOf(const std::string& component) {
  static const auto* const versions = new std::map<std::string, int>{};
  const auto it = versions->find(component);
  return it == versions->end() ? 1 : it->second;
}

// Components beyond the plain ones are named by the field that chose them.
std::vector<std::string> Components(const TrialSpec& s) {
  const ModelSpec &m = s.model, plain;
  std::vector<std::string> out = {"attention",  "data_order",     "evaluation",
                                  "init",       "optimizer",      "schedule",
                                  Name(m.norm), Name(m.position), Name(m.mlp)};
  const auto add = [&](bool used, const char* name) {
    if (used) out.push_back(name);
  };
  add(m.block != plain.block, "block.parallel");
  add(m.norm_place != plain.norm_place, "norm_place");
  add(m.attn_matrix != plain.attn_matrix, "attn_matrix");
  add(m.vp != plain.vp, "vp");
  add(m.score_bias != plain.score_bias, "score_bias");
  add(m.qk_norm != plain.qk_norm, "qk_norm");
  add(m.value_residual != plain.value_residual, "value_residual");
  add(m.parametrization != plain.parametrization, "parametrization");
  add(Routed(m), "router");
  add(!s.data.mix.empty() || !s.data.phases.empty(), "mixture");
  add(s.train.objective == Objective::kMlm, "mlm");
  add(Penalised(s.train), "layer_penalty");
  add(s.linearity.every > 0, "linearity");
  if (s.train.optimizer != OptimizerKind::kAdamW) out.push_back(Name(s.train.optimizer));
  return out;
}

json Semantics(const TrialSpec& s) {
  json versions = json::object();
  for (const std::string& used : Components(s)) versions[used] = VersionOf(used);
  return versions;
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
  } catch (const json::out_of_range&) {  // 1e999 is JSON, and no number here
    return {{"", "a number is too large: at most 1.7e308"}};
  }
  if (!duplicates.empty()) return duplicates;
  return Parse(j, spec);
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
  json of = {{"config", Canonical(resolved, With::kResultOnly)},
             {"semantics", Semantics(resolved)}};
  // Not known yet which checkpoint that is; two trials are two.
  if (resolved.init.trial > 0 && resolved.init.digest.empty())
    of["init_trial"] = resolved.init.trial;
  return Sha256Hex(of.dump());
}

namespace {

int64_t StepsBeforeCooldown(const TrialSpec& s) {
  if (!s.data.phases.empty()) return 0;  // fractions of the budget
  switch (s.train.schedule) {
    case ScheduleKind::kConstant:
      return s.train.steps;
    case ScheduleKind::kWsd: {  // as trainer/schedule.h
      const double steps = static_cast<double>(s.train.steps);
      const double decay = std::round(s.train.decay_fraction * steps);
      return decay < 1 ? s.train.steps : static_cast<int64_t>(steps - decay);
    }
    case ScheduleKind::kCosine:
    case ScheduleKind::kLinear:
      return 0;
  }
  return 0;
}

}  // namespace

int64_t TrunkSteps(const TrialSpec& s) {
  const int64_t steps = StepsBeforeCooldown(s);
  return steps > s.init.step ? steps : 0;  // a fork has no state before the step it begins at
}

std::string PrefixKey(const TrialSpec& resolved) {
  if (!resolved.execution.share_trunk || TrunkSteps(resolved) < 1) return "";
  const TrialSpec fresh;
  TrialSpec s = resolved;
  s.train.steps = s.train.tokens = 0;
  s.train.flops = s.train.epochs = 0;
  s.train.schedule = ScheduleKind::kConstant;
  s.train.decay_fraction = fresh.train.decay_fraction;
  s.train.final_lr_fraction = fresh.train.final_lr_fraction;
  s.train.log_every = fresh.train.log_every;
  // Its sequence length stays: models have room for it.
  s.eval = {.seq_len = s.eval.seq_len};
  s.linearity = {};
  return Sha256Hex(json{{"prefix", Canonical(s, With::kResultOnly)},
                        {"semantics", Semantics(resolved)},
                        {"threads", s.execution.threads},
                        {"micro_batch", s.execution.micro_batch}}
                       .dump());
}

std::string FusionKey(const TrialSpec& resolved) {
  json key = json::object();
  for (const Field& f : Scratch(resolved).fields) {
    if (f.fusion != Fusion::kKey) continue;
    const json value = f.get();
    if (value != Defaults().at(f.path)) key[f.path] = value;  // so that a new field changes none
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
