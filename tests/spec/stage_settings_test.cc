#include "trainer/spec/stage_settings.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace plumb::spec {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json Full(const std::string& kind, const json& given) {
  json full;
  EXPECT_EQ(Format(ReadStageSettings(kind, given, nullptr, &full)), "");
  return full;
}
json Canonical(const std::string& kind, const json& given) {
  json canonical;
  EXPECT_EQ(Format(ReadStageSettings(kind, given, &canonical, nullptr)), "");
  return canonical;
}
std::string Errors(const std::string& kind, const json& given) {
  json untouched = "as before";
  const auto errors = ReadStageSettings(kind, given, &untouched, &untouched);
  EXPECT_FALSE(errors.empty());
  EXPECT_EQ(untouched, "as before");
  return Format(errors);
}

TEST(StageSettings, EveryDefaultIsAValueThatItsSettingTakes) {
  for (const std::string& kind : StageKinds()) {
    EXPECT_FALSE(StageSettings(kind).empty()) << kind;
    for (const StageSetting& s : StageSettings(kind)) {
      EXPECT_FALSE(s.doc.empty()) << kind << " " << s.path;
      if (s.default_json.empty() || s.type == SettingType::kGroup) continue;
      const json::json_pointer at(
          s.path.rfind("generate.", 0) == 0 ? "/generate/" + s.path.substr(9) : "/" + s.path);
      json given = json::object();
      given[at] = json::parse(s.default_json);
      for (const SpecError& e : ReadStageSettings(kind, given, nullptr, nullptr))
        EXPECT_NE(e.path, s.path) << kind << " " << e.message;
    }
  }
}

TEST(StageSettings, FullHasEverySettingAndCanonicalOnlyWhatIsNotDefault) {
  const json given = {{"prompts", {"a", "a"}}, {"top_k", 5.0}, {"generate", {{"tokens", 40}}}};
  EXPECT_EQ(Canonical("probe", given),
            json::parse(R"({"prompts": ["a", "a"], "top_k": 5, "generate": {}})"));
  const json full = Full("probe", given);
  EXPECT_EQ(full["generate"]["sampler"], "greedy");
  EXPECT_EQ(full["generate"]["temperature"], 1.0);
  EXPECT_EQ(full["attention"], false);
  EXPECT_TRUE(full["top_k"].is_number_integer());
  EXPECT_TRUE(Full("probe", {{"prompts", {"a"}}, {"attention", true}})["generate"].is_null());
}

TEST(StageSettings, CanonicalFormReadsBackAsTheSame) {
  const json given = {{"variants", {"skip", "random"}}, {"start_layers", {2, 1}}, {"seeds", {0}}};
  const json once = Canonical("painters", given);
  EXPECT_EQ(once, json::parse(R"({"variants": ["skip", "random"], "start_layers": [2, 1]})"));
  EXPECT_EQ(Canonical("painters", once), once);
  EXPECT_EQ(Full("painters", once), Full("painters", given));
}

TEST(StageSettings, AllErrorsAreToldWithTheirPaths) {
  const std::string e =
      Errors("probe", {{"prompts", {"a", 7, ""}},
                       {"topk", 5},
                       {"top_k", 5.5},
                       {"attention", "yes"},
                       {"generate", {{"tokens", 0}, {"sampler", "gredy"}, {"temp", 1}}}});
  EXPECT_THAT(e, HasSubstr("prompts[1]: expected a text, got 7; quote it"));
  EXPECT_THAT(e, HasSubstr("prompts[2]: a text has 1 to 16384 bytes"));
  EXPECT_THAT(e, HasSubstr("topk: unknown setting; did you mean top_k?"));
  EXPECT_THAT(e, HasSubstr("top_k: expected a whole number, got 5.5"));
  EXPECT_THAT(e, HasSubstr("attention: expected true or false"));
  EXPECT_THAT(e, HasSubstr("generate.tokens: must be from 1 to 8192, got 0"));
  EXPECT_THAT(e, HasSubstr("generate.sampler: unknown word \"gredy\"; did you mean greedy?"));
  EXPECT_THAT(e, HasSubstr("generate.temp: unknown setting; known are tokens, sampler"));
}

TEST(StageSettings, WhatMustBeGivenAndWhatSeveralSaySaysSo) {
  EXPECT_THAT(Errors("probe", json::object()), HasSubstr("prompts: must be given"));
  EXPECT_THAT(Errors("probe", {{"prompts", {"a"}}}),
              HasSubstr("nothing to probe: give top_k, generate or attention"));
  EXPECT_THAT(Errors("painters", {{"variants", json::array()}}),
              HasSubstr("variants: expected a list of 1 to 256"));
  EXPECT_THAT(Errors("painters", {{"variants", {"skip", "skip"}}}),
              HasSubstr("variants[1]: \"skip\" is there twice"));
  EXPECT_THAT(Errors("distil", json::object()), HasSubstr("no settings are known"));
  EXPECT_THAT(Errors("linearity", {{"fit", "val"}}),
              HasSubstr("score: is what the maps are fitted on"));
  EXPECT_THAT(Errors("linear_probe", {{"score", "tune"}}),
              HasSubstr("score: is what the probes are fitted on"));
  EXPECT_THAT(Errors("linear_probe", {{"properties", {"position", "label"}}}),
              HasSubstr("file: the property label is read from a file of texts"));
  EXPECT_THAT(Errors("linear_probe", {{"properties", {"positions"}}}),
              HasSubstr("properties[0]: unknown word \"positions\"; did you mean position?"));
  const json texts = {{"path", "/t.jsonl"}, {"sha256", std::string(64, 'a')}};
  EXPECT_THAT(Errors("linear_probe", {{"file", texts}}), HasSubstr("file: no property is read"));
  EXPECT_EQ(Canonical("linear_probe", {{"file", texts}, {"properties", {"label"}}}),
            json({{"file", texts}, {"properties", {"label"}}}));
  EXPECT_EQ(Full("linear_probe", json::object())["methods"], json({"ridge", "logistic"}));
  EXPECT_THAT(Errors("evaluate", 3), HasSubstr("expected a map of settings"));
}

TEST(StageSettings, FileIsAnAbsolutePathWithItsDigest) {
  const std::string digest(64, 'a');
  EXPECT_THAT(Errors("finetune", {{"task", "t.jsonl"}}), HasSubstr("plumb sweep submit"));
  EXPECT_THAT(Errors("finetune", {{"task", {{"path", "t.jsonl"}, {"sha256", digest}}}}),
              HasSubstr("must be absolute"));
  EXPECT_THAT(Errors("finetune", {{"task", {{"path", "/t.jsonl"}, {"sha256", "ab"}}}}),
              HasSubstr("64 hexadecimal digits"));
  const json task = {{"path", "/t.jsonl"}, {"sha256", digest}};
  EXPECT_EQ(Full("finetune", {{"task", task}})["task"], task);
  EXPECT_EQ(Full("finetune", {{"task", task}})["seeds"], json({0, 1, 2}));
}

TEST(StageSettings, TasksOfAPruneAreThoseOfTaskStages) {
  const json file = {{"path", "/t.jsonl"}, {"sha256", std::string(64, 'a')}};
  const json given = {
      {"tasks", {{"arc", {{"format", "arc"}, {"file", file}, {"limit", 0}, {"bos", true}}}}}};
  json canonical, full;
  ASSERT_TRUE(ReadStageSettings("prune", given, &canonical, &full).empty());
  EXPECT_EQ(canonical,
            json({{"tasks", {{"arc", {{"format", "arc"}, {"file", file}, {"bos", true}}}}}}));
  EXPECT_EQ(full["tasks"]["arc"]["context"], 0);
  EXPECT_EQ(full["tasks"]["arc"]["labels"], json());
  EXPECT_EQ(Full("prune", json::object())["tasks"], json::object());
  EXPECT_EQ(Full("prune", {{"tasks", json::object()}})["tasks"], json::object());
  EXPECT_THAT(Errors("prune", {{"tasks", {{"arc", {{"format", "arcs"}, {"file", file}}}}}}),
              HasSubstr("tasks.arc.format: unknown word \"arcs\"; did you mean arc?"));
  EXPECT_THAT(Errors("prune", {{"tasks", {{"arc", {{"format", "arc"}}}}}}),
              HasSubstr("tasks.arc.file: must be given"));
  EXPECT_THAT(Errors("prune", {{"tasks", {{"A b", {{"format", "arc"}, {"file", file}}}}}}),
              HasSubstr("tasks.A b: a task's name is"));
  EXPECT_THAT(Errors("prune", {{"tasks", {{"arc", 3}}}}), HasSubstr("tasks.arc: expected a map"));
  EXPECT_THAT(Errors("prune", {{"tasks", json::array()}}), HasSubstr("tasks: expected 1 to 32"));
}

// A stage whose numbers are defined anew is another stage, so that it can be run again on a trial
// that has the old one.
TEST(StageSettings, ANewDefinitionMakesAnotherStage) {
  StageKind kind = *FindStageKind("linearity");
  json before, after, full;
  EXPECT_THAT(ReadStageSettings(kind, {{"tokens", 640}}, &before, nullptr), IsEmpty());
  EXPECT_EQ(before, json({{"tokens", 640}}));
  ++kind.definition;
  EXPECT_THAT(ReadStageSettings(kind, {{"tokens", 640}}, &after, &full), IsEmpty());
  EXPECT_EQ(after, json({{"tokens", 640}, {"definition", kLinearityDefinition + 1}}));
  EXPECT_EQ(full["definition"], kLinearityDefinition + 1);
  json again;
  EXPECT_THAT(ReadStageSettings(kind, after, &again, nullptr), IsEmpty());
  EXPECT_EQ(again, after);
  EXPECT_EQ(Format(ReadStageSettings(kind, {{"definition", 1}}, nullptr, nullptr)),
            "definition: this version computes 2, not 1");
  kind = *FindStageKind("finetune");
  ++kind.definition;
  const json task = {{"task", {{"path", "/t"}, {"sha256", std::string(64, 'a')}}}};
  json plain = task, measured = task;
  measured["linearity"] = true;
  EXPECT_THAT(ReadStageSettings(kind, plain, &after, nullptr), IsEmpty());
  EXPECT_FALSE(after.contains("definition"));
  EXPECT_THAT(ReadStageSettings(kind, measured, &after, nullptr), IsEmpty());
  EXPECT_EQ(after["definition"], 2);
}

TEST(StageSettings, ABowlIsOfNumericFieldsAndValuesAboveZero) {
  const auto sides = ReadBowl("train.lr = 0.003,model.n_layers=4");
  ASSERT_TRUE(sides && sides->size() == 2);
  EXPECT_EQ((*sides)[0].field, "train.lr");
  EXPECT_EQ((*sides)[0].lowest, 0.003);
  EXPECT_EQ((*sides)[1].lowest, 4);
  EXPECT_TRUE(ReadBowl("")->empty());
  for (const char* wrong :
       {"train.lr", "train.lr = 0", "train.lr = x", "model.norm = 1", "lr = 1", "train.lr = 1,,"})
    EXPECT_FALSE(ReadBowl(wrong)) << wrong;
}

}  // namespace
}  // namespace plumb::spec
