#include "sweeps/schema.h"

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sweeps/field_values.h"
#include "sweeps/measures.h"
#include "sweeps/overlay.h"
#include "sweeps/predict.h"
#include "sweeps/search_spec.h"
#include "sweeps/shape_names.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

// What YAML readers give as text: 300k, 5%, 1/3.
constexpr char kNumberText[] =
    "^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?([kMGT%]|/([0-9]+[.]?[0-9]*|[.][0-9]+)"
    "([eE][+-]?[0-9]+)?)?$";
constexpr char kFormulaText[] = "[*+/%(]| - ";
constexpr char kNameText[] = "^[A-Za-z0-9_.-]{1,100}$";
constexpr char kMetricText[] = "^[a-z0-9_.-]+/[a-z0-9_/.-]+$";
constexpr char kStageText[] = "^[A-Za-z0-9_.:-]+$";
constexpr char kAtText[] = "^(last|best|mean_last[(][1-9][0-9]*[)])$";

json Any(std::vector<json> of) { return {{"anyOf", std::move(of)}}; }
json Pattern(const char* pattern) { return {{"type", "string"}, {"pattern", pattern}}; }
json Text() { return {{"type", {"string", "number", "boolean"}}}; }
json Ref(const std::string& name) { return {{"$ref", "#/$defs/" + name}}; }
json Described(json schema, const char* words) {
  schema["description"] = words;
  return schema;
}

json Number(double low, double high) {
  return Any({{{"type", "number"}, {"minimum", low}, {"maximum", high}}, Pattern(kNumberText)});
}
json Integer(double low, double high) {
  return Any({{{"type", "integer"}, {"minimum", low}, {"maximum", high}}, Pattern(kNumberText)});
}
// Above 0 and below 1.
json Fraction() {
  return Any({{{"type", "number"}, {"exclusiveMinimum", 0}, {"exclusiveMaximum", 1}},
              Pattern(kNumberText)});
}
json AnyNumber() { return Any({{{"type", "number"}}, Pattern(kNumberText)}); }

json Object(json properties, std::vector<std::string> required = {}) {
  json out = {
      {"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (!required.empty()) out["required"] = required;
  return out;
}
json ListOf(json items, int64_t least = 1) {
  return {{"type", "array"}, {"items", std::move(items)}, {"minItems", least}};
}
// A rule's settings, or nothing.
json Settings(json properties, std::vector<std::string> required = {}) {
  const bool needed = !required.empty();
  json object = Object(std::move(properties), std::move(required));
  if (!needed) object["type"] = {"object", "null"};
  return object;
}
json Condition() { return {{"type", {"string", "boolean"}}}; }

// ---- fields

json ValueOf(const spec::Field& f) {
  if (f.path == "data.tokenizer")
    return Any({Text(), Object({{"sentencepiece", Integer(300, 9999999)}}, {"sentencepiece"})});
  const json mix = {
      {"type", "object"}, {"minProperties", 1}, {"additionalProperties", AnyNumber()}};
  if (f.path == "data.mix") return Any({Text(), mix});
  if (f.path == "data.phases") {
    return Any({Text(), ListOf(Object({{"part", AnyNumber()}, {"mix", Any({Text(), mix})}},
                                      {"part", "mix"}))});
  }
  switch (f.type) {
    case spec::FieldType::kInteger:
      return Integer(f.min, f.max);
    case spec::FieldType::kNumber:
      return Number(f.min, f.max);
    case spec::FieldType::kBoolean:
      return {{"type", "boolean"}};
    case spec::FieldType::kChoice:
      return {{"enum", f.choices}};
    case spec::FieldType::kString:
      return Text();
  }
  return Text();
}

bool IsNumeric(const spec::Field& f) {
  return f.type == spec::FieldType::kInteger || f.type == spec::FieldType::kNumber;
}

class SchemaWriter {
 public:
  SchemaWriter() : fields_(SweepFields(scratch_, own_)) {
    std::map<std::string, int> count;
    for (const spec::Field& f : fields_) ++count[spec::ShortName(f.path)];
    for (const spec::Field& f : fields_) {
      const std::string name = spec::ShortName(f.path);
      if (!name.empty() && count[name] == 1) short_[f.path] = name;
    }
  }

  json Write() {
    Define();
    json root = Object(Root(), {"sweep"});
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema";
    root["title"] = "Plumb sweep file";
    root["$defs"] = std::move(defs_);
    return root;
  }

 private:
  static bool MayVary(const spec::Field& f) {
    return f.path != "data.digest" && f.path != "seed.init" && f.path != "seed.data";
  }

  void Define() {
    json sections = json::object(), dotted = json::object(), maps = json::object();
    for (const spec::Field& f : fields_) {
      if (f.path == "data.digest") continue;
      defs_[f.path] = ValueOf(f);
      defs_[f.path]["description"] = absl::StrCat(f.doc, f.unit.empty() ? "" : " [" + f.unit + "]");
      const json value = IsNumeric(f) && !IsOwnBudget(f.path)
                             ? Any({Ref(f.path), Pattern(kFormulaText)})
                             : Ref(f.path);
      const size_t dot = f.path.find('.');
      sections[f.path.substr(0, dot)][f.path.substr(dot + 1)] = value;
      dotted[f.path] = value;
      if (!MayVary(f)) continue;
      defs_["values." + f.path] = Any(ValuesOf(f));
      defs_["axis." + f.path] = AxisOf(f);
      maps[f.path] = Ref(f.path);
      if (short_.count(f.path) > 0) maps[short_[f.path]] = Ref(f.path);
    }
    defs_["shape"] = Described(Pattern(ShapeNamePattern().c_str()),
                               "a named shape and knobs, as gpt2-medium or gpt2-nl24-dm512");
    sections["model"]["shape"] = Ref("shape");
    dotted["model.shape"] = Ref("shape");
    for (const auto& [section, properties] : sections.items()) dotted[section] = Object(properties);
    defs_["fields"] = Object(dotted);
    json point = Object(maps);
    point["minProperties"] = 1;
    defs_["points"] = Any(
        {ListOf(point), Object({{"points", ListOf(point)}, {"when", Condition()}}, {"points"})});
    defs_["stop"] = Stop();
    const json at = Pattern(kAtText), goal = {{"enum", {"minimize", "maximize"}}};
    const json split = {{"enum", {"train", "tune", "val", "test"}}};
    defs_["objective"] = Any(
        {Pattern(kMetricText),
         Object({{"metric", Pattern(kMetricText)}, {"at", at}, {"goal", goal}}),
         Object({{"stage", Described(Pattern(kStageText), "a later stage, whose series it is")},
                 {"metric", Pattern(kMetricText)},
                 {"at", at},
                 {"goal", goal}},
                {"stage", "metric"}),
         Object(
             {{"metric", Pattern("^[a-z0-9_.-]+$")}, {"split", split}, {"at", at}, {"goal", goal}},
             {"metric", "split"})});
  }

  // Lists and ranges of a field.
  std::vector<json> ValuesOf(const spec::Field& f) const {
    std::vector<json> out = {
        ListOf(Ref(f.path)),
        Object({{"points", ListOf(Ref(f.path))}, {"when", Condition()}}, {"points"})};
    if (!IsNumeric(f)) return out;
    const json bounds = {
        {"type", "array"}, {"items", Ref(f.path)}, {"minItems", 2}, {"maxItems", 2}};
    const json points = Integer(2, 100000);
    out.push_back(
        Object({{"range", bounds}, {"step", AnyNumber()}, {"when", Condition()}}, {"range"}));
    for (const char* kind : {"linear", "log"})
      out.push_back(Object({{kind, bounds}, {"points", points}, {"when", Condition()}}, {kind}));
    return out;
  }

  json AxisOf(const spec::Field& f) const {
    std::vector<json> forms = {Ref("values." + f.path), Ref("points")};
    if (f.type == spec::FieldType::kInteger && f.path.rfind("model.", 0) == 0) {
      const json target = AnyNumber();
      forms.push_back(Object({{"solve",
                               {{"enum",
                                 {"params_total", "params_non_embedding", "params_embedding",
                                  "flops_per_token", "flops", "seconds"}}}},
                              {"target", Any({target, ListOf(target)})},
                              {"multiple_of", Integer(1, 1 << 20)},
                              {"tolerance", Number(0, 1)}},
                             {"solve", "target"}));
    }
    return Any(std::move(forms));
  }

  json Axes() const {
    json properties = json::object();
    for (const spec::Field& f : fields_) {
      if (!MayVary(f)) continue;
      properties[f.path] = Ref("axis." + f.path);
      if (const auto name = short_.find(f.path); name != short_.end())
        properties[name->second] = properties[f.path];
    }
    const std::vector<json> shapes = {
        ListOf(Ref("shape")),
        Object({{"points", ListOf(Ref("shape"))}, {"when", Condition()}}, {"points"}),
        Ref("points")};
    properties["model.shape"] = Any(shapes);
    properties["shape"] = Any(shapes);
    const json rows = ListOf(ListOf(json::object()));
    return {
        {"type", "object"},
        {"properties", properties},
        // Several fields that move together: [model.n_layers, model.d_model]: [[2, 64], …].
        {"patternProperties",
         {{"^\\[", Any({rows, Object({{"points", rows}, {"when", Condition()}}, {"points"})})}}},
        {"additionalProperties", Ref("points")}};
  }

  json Tune() const {
    json properties = {{"seeds", Integer(1, 1000)},
                       {"extend", Integer(0, 20)},
                       {"stop", Ref("stop")},
                       {"stage", Pattern(kStageText)},
                       {"metric", Pattern(kMetricText)},
                       {"at", Pattern(kAtText)},
                       {"goal", {{"enum", {"minimize", "maximize"}}}}};
    for (const spec::Field& f : fields_) {
      if (!MayVary(f) || IsBudget(f.path)) continue;
      properties[f.path] = Ref("values." + f.path);
      if (const auto name = short_.find(f.path); name != short_.end())
        properties[name->second] = properties[f.path];
    }
    return Object(properties);
  }

  static json Stop() {
    const json mode = {{"enum", {"stop", "promote"}}};
    return Object(
        {{"asha", Settings({{"rungs", ListOf(Fraction())}, {"keep", Fraction()}, {"mode", mode}},
                           {"rungs"})},
         {"hyperband", Settings({{"from", Fraction()},
                                 {"keep", Fraction()},
                                 {"brackets", Integer(1, 20)},
                                 {"mode", mode}})},
         {"median", Settings({{"from", Fraction()}, {"min_trials", Integer(1, 1000000)}})},
         {"divergence", Settings({{"factor", AnyNumber()}})},
         {"racing", Settings({{"alpha", Fraction()}, {"min_replicates", Integer(2, 10000)}})},
         {"across", {{"const", "cells"}}},
         {"cooled", {{"type", "boolean"}}}});
  }

  static json Stages() {
    json kinds = {{"pretrain", {{"type", {"object", "null"}}, {"maxProperties", 0}}}};
    for (const std::string& kind : spec::StageKinds()) {
      json settings = {{"after", {{"type", "string"}}}};
      for (const spec::StageSetting& s : spec::StageSettings(kind)) {
        const std::string key = s.path.substr(0, s.path.find_first_of(".["));
        settings[key] = Described(json::object(), s.doc.c_str());
      }
      if (const int64_t definition = spec::FindStageKind(kind)->definition; definition > 0)
        settings["definition"] = {{"const", definition}};
      kinds[kind] = Object(settings);
      kinds[kind]["type"] = {"object", "null"};
    }
    const json name = {{"type", "string"}, {"pattern", "^[A-Za-z0-9_.:-]+$"}};
    const json from = Described(Any({name, {{"type", "array"}, {"items", name}, {"minItems", 1}}}),
                                "the stage it starts from; of a list, a stage for each");
    json stage = {{"anyOf", json::array()}};
    for (const auto& [kind, settings] : kinds.items())
      stage["anyOf"].push_back(Object({{"from", from}, {kind, settings}}, {kind}));
    return {{"type", "object"},
            {"minProperties", 1},
            {"propertyNames", {{"pattern", "^[A-Za-z0-9_.-]{1,64}$"}}},
            {"additionalProperties", stage}};
  }

  static json Search() {
    const json draws = Object(
        {{"trials", Integer(1, 1000000)}, {"seed", Integer(0, 9007199254740992.0)}}, {"trials"});
    json grid = Object(json::object());
    grid["type"] = {"object", "null"};
    json properties = {{"grid", grid}, {"random", draws}, {"sobol", draws}};
    for (const std::string& sampler : SamplerNames())
      properties[sampler] = Object(Model(sampler == "nsga2" || sampler == "cmaes"), {"trials"});
    json external = Model(/*has_population=*/false);
    external["name"] = Described(Pattern("^[A-Za-z0-9_.-]{1,64}$"), "what its suggester asks by");
    properties["external"] = Object(external, {"name", "trials"});
    properties["population"] = Object(
        {{"members", Described(Integer(2, 10000), "trials that train side by side")},
         {"seed", Integer(0, 9007199254740992.0)},
         {"every", Described(AnyNumber(), "a generation: a fraction of the budget, or steps")},
         {"replace", Described(Fraction(),
                               "part of the members, at most half, that give way to "
                               "forks of the best as many; 1/4")},
         {"factor", Described(AnyNumber(), "so many times as large or small a fork's values are")},
         {"resample", Described(AnyNumber(), "or they are drawn anew, with this probability")}},
        {"members", "every"});
    json out = Object(std::move(properties));
    out["minProperties"] = 1, out["maxProperties"] = 1;
    return Any({{{"const", "grid"}}, out});
  }

  // A search whose points a suggester chooses.
  static json Model(bool has_population) {
    const json name = {{"type", {"string", "number"}}};
    json measures = json::object();
    for (const std::string& measure : MeasureNames()) measures[measure] = AnyNumber();
    json cost = Object(measures);
    cost["minProperties"] = 1;
    json out = {
        {"trials", Described(Integer(1, 100000), "points in all")},
        {"startup", Described(Integer(1, 100000), "of them, the first, drawn at random")},
        {"parallel", Described(Integer(1, 100000), "points that may be unfinished at once")},
        {"seed", Integer(0, 9007199254740992.0)},
        {"prior", Described(Any({name, ListOf(name, 0)}), "earlier sweeps to learn from")},
        {"cost", Described(cost, "added to the objective: weight * log10(measure)")}};
    if (has_population) out["population"] = Described(Integer(2, 100000), "points of a generation");
    return out;
  }

  static json AlsoMatch() {
    const json settings = {{"multiple_of", Integer(1, 1 << 20)}, {"tolerance", Number(0, 1)}};
    std::vector<json> forms = {
        {{"enum", {"flops", "params_total", "params_non_embedding", "seconds"}}}};
    for (const char* measure : {"params_total", "params_non_embedding"}) {
      json properties = settings;
      properties[measure] = {{"type", "string"}};
      forms.push_back(Object(properties, {measure}));
    }
    return ListOf(Any(std::move(forms)));
  }

  static json Calibration() {
    json seconds = json::object();
    for (size_t i = 0; i < kUnits; ++i) seconds[Name(static_cast<Unit>(i))] = AnyNumber();
    return Any(
        {Text(), Object({{"device", Text()},
                         {"threads", Integer(1, 4096)},
                         {"band", AnyNumber()},
                         {"shapes", Integer(1, 1000000)},
                         {"seconds", Object(seconds)},
                         {"kinds", {{"type", "object"}, {"additionalProperties", AnyNumber()}}}},
                        {"device", "seconds"})});
  }

  json Root() const {
    const json objective = Any({Ref("objective"), ListOf(Ref("objective"))});
    const json text = {{"type", "string"}};
    return {
        {"sweep",
         Described({{"type", {"string", "number"}}, {"pattern", kNameText}}, "the sweep's name")},
        {"include", Described(Any({text, ListOf(text)}), "sweep files that this one begins with")},
        {"trial", Described(Ref("fields"), "the base trial")},
        {"axes", Described(Axes(), "fields and their values; every combination is a cell")},
        {"variants", Described({{"type", "object"},
                                {"minProperties", 1},
                                {"propertyNames", {{"pattern", "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}}},
                                {"additionalProperties", Any({Ref("fields"), {{"type", "null"}}})}},
                               "named overlays of the trial, the baseline first")},
        {"also_match", Described(AlsoMatch(), "second arms that equal the baseline in a measure")},
        {"tune", Described(Tune(), "chosen inside each cell, never part of a conclusion")},
        {"stop", Described(Ref("stop"), "rules that end trials early")},
        {"where",
         Described(Any({Condition(), ListOf(Condition(), 0)}), "conditions that a cell fulfils")},
        {"search", Described(Search(), "all points of the axes, or draws")},
        {"replicates",
         Described(Any({Integer(1, 10000),
                        Object({{"n", Integer(1, 10000)}, {"pair", {{"const", "data"}}}}, {"n"})}),
                   "trials of each cell, each on its own seeds")},
        {"aa",
         Described(Any({{{"type", {"boolean", "string"}}},
                        {{"type", "object"},
                         {"additionalProperties", {{"type", {"string", "number", "boolean"}}}}}}),
                   "cells that run once more on other seeds: the noise floor")},
        {"allow", Described({{"type", "array"}, {"items", {{"enum", {"more_than_one_epoch"}}}}},
                            "flags that refuse no sweep")},
        {"calibration",
         Described(Calibration(),
                   "what a unit of work takes on a device; the client writes it in")},
        {"timing", Described({{"type", "boolean"}}, "measure each cell's speed alone")},
        {"objective", Described(objective, "what cells are judged by")},
        {"report", Described(objective, "another word for objective")},
        {"limits",
         Described(Object({{"trials", Integer(1, 1000000)}, {"device_hours", AnyNumber()}}),
                   "a larger sweep is refused")},
        {"priority", Described(Integer(-1000, 1000), "larger first")},
        {"resources",
         Described(Object({{"labels", ListOf(Text(), 0)}, {"bundle", Integer(1, 256)}}),
                   "the workers it may run on")},
        {"stages", Described(Stages(), "what follows each training")},
    };
  }

  spec::TrialSpec scratch_;
  OwnBudget own_;
  std::vector<spec::Field> fields_;
  std::map<std::string, std::string> short_;  // path -> the name that only it has
  json defs_ = json::object();
};

}  // namespace

json SweepSchema() { return SchemaWriter().Write(); }

}  // namespace plumb::sweeps
