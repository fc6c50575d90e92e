// The `stages:` key of a sweep file, from text to planned stages.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"
#include "sweeps/describe.h"
#include "sweeps/stage_files.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

using ::testing::HasSubstr;

constexpr char kTrial[] = R"(sweep: s
trial:
  model: {head_dim: 16}
  data: {corpus: docs, seq_len: 32}
  train: {steps: 20, batch_tokens: 1024}
)";
std::string With(const std::string& stages) { return kTrial + stages; }

TEST(Stages, ChildrenFollowThePretrainingOfEveryTrial) {
  const SweepPlan p = PlanOrDie(With(R"(axes: {model.d_model: [32, 64]}
replicates: 2
timing: true
aa: true
stages:
  probes: {probe: {after: pretrain, prompts: ["彼女が", "123"], top_k: 5, generate: {tokens: 8}}}
  painters: {painters: {variants: [skip, reverse], start_layers: [1]}}
)"));
  ASSERT_EQ(p.trials.size(), 8u);
  for (const PlannedTrial& t : p.trials) {
    ASSERT_EQ(t.stages.size(), t.replicate == 0 && !t.aa ? 4u : 3u);
    EXPECT_EQ(t.stages[0].kind, "pretrain");
    EXPECT_EQ(t.stages[1].name, "probes");
    EXPECT_EQ(t.stages[1].kind, "probe");
    EXPECT_EQ(t.stages[1].parent, "pretrain");
    EXPECT_EQ(t.stages[1].target_step, 1);
    EXPECT_EQ(t.stages[1].priority, t.replicate);
    EXPECT_EQ(t.stages[1].settings_json,
              R"({"generate":{"tokens":8},"prompts":["彼女が","123"],"top_k":5})");
    EXPECT_EQ(t.stages[2].name, "painters");
    EXPECT_EQ(t.stages[2].settings_json, R"({"variants":["skip","reverse"]})");
  }
}

TEST(Stages, PlanSaysWhatFollows) {
  const PlanSummary s = Summarize(
      PlanOrDie(With("timing: true\nstages: {evaluate: {evaluate: {}}, p: {painters: {variants: "
                     "[skip]}}}\n")),
      0);
  EXPECT_THAT(SummaryText(s), HasSubstr("evaluate, p (painters)"));
  EXPECT_EQ(
      nlohmann::json::parse(SummaryJson(s))["stages"][1],
      nlohmann::json::parse(
          R"({"name": "p", "kind": "painters", "after": "pretrain", "settings": {"variants": ["skip"]}})"));
}

TEST(Stages, StagesDoNotChangeWhichTrialItIs) {
  EXPECT_EQ(PlanOrDie(With("")).trials[0].key,
            PlanOrDie(With("stages: {e: {evaluate: {}}}\n")).trials[0].key);
}

TEST(Stages, NoopsFollowANoop) {
  const SweepPlan p = PlanOrDie(
      "sweep: n\nstages: {run: {noop: {}}, more: {noop: {after: run, seconds: 0.5, records: "
      "2}}}\n");
  ASSERT_EQ(p.trials[0].stages.size(), 2u);
  EXPECT_EQ(p.trials[0].stages[1].parent, "run");
  EXPECT_EQ(p.trials[0].stages[1].settings_json, R"({"records":2,"seconds":0.5})");
}

TEST(Stages, FirstStageMayBeNamed) {
  const SweepPlan p = PlanOrDie(With("stages: {base: {pretrain: }, e: {evaluate: {}}}\n"));
  EXPECT_EQ(p.trials[0].stages[0].name, "base");
  EXPECT_EQ(p.trials[0].stages[1].parent, "base");
}

std::vector<std::string> Tree(const SweepPlan& p) {
  std::vector<std::string> out;
  for (const PlannedStage& s : p.trials[0].stages)
    out.push_back(s.parent.empty() ? s.name : absl::StrCat(s.name, " < ", s.parent));
  return out;
}

TEST(Stages, AreATreeInWhichAListOfParentsFansOut) {
  const SweepPlan p = PlanOrDie(With(R"(stages:
  eval: {from: [base, cut, "more"], external: {command: [python3, e.py]}}
  last: {from: eval, external: {command: [python3, f.py]}}
  one: {from: "eval:cut", external: {command: [python3, f.py]}}
  base: {pretrain: {}}
  cut: {external: {after: base, command: [python3, cut.py]}}
  more: {from: cut, external: {command: [python3, cut.py], steps: 5, with: {heads: 2}}}
  old: {evaluate: {after: base}}
)"));
  EXPECT_EQ(Tree(p),
            (std::vector<std::string>{
                "base", "cut < base", "more < cut", "eval:base < base", "eval:cut < cut",
                "eval:more < more", "last:eval:base < eval:base", "last:eval:cut < eval:cut",
                "last:eval:more < eval:more", "one < eval:cut", "old < base"}));
  EXPECT_EQ(p.trials[0].stages[2].settings_json,
            R"({"command":["python3","cut.py"],"steps":5,"with":{"heads":2}})");
  EXPECT_EQ(p.trials[0].stages[2].target_step, 5);
  EXPECT_EQ(p.trials[0].stages[3].target_step, 1);
}

TEST(Stages, AnExternalMayBeTheFirst) {
  const std::string stages =
      "stages: {run: {external: {trainer: nano, with: {x: 1}}}, then: {from: run, external: "
      "{command: [true]}}}\n";
  // With a budget it is the external's; without data no corpus is asked for.
  const SweepPlan p = PlanOrDie("sweep: s\ntrial: {train: {steps: 7}}\n" + stages);
  EXPECT_EQ(p.trials[0].stages[0].target_step, 7);
  EXPECT_EQ(p.trials[0].stages[0].settings_json, R"({"steps":7,"trainer":"nano","with":{"x":1}})");
  EXPECT_EQ(p.trials[0].stages[1].parent, "run");
  EXPECT_EQ(p.trials[0].flops, 0);
  EXPECT_EQ(p.trials[0].config.data.digest, "");
  EXPECT_EQ(PlanOrDie("sweep: s\n" + stages).trials[0].stages[0].target_step, 1);
  EXPECT_NE(PlanOrDie(With(stages)).trials[0].config.data.digest, "");
  // What it does is what the trial is; what follows it is not.
  const auto key = [](const std::string& text) {
    return PlanOrDie("sweep: s\n" + text).trials[0].key;
  };
  EXPECT_EQ(key(stages), key("stages: {run: {external: {trainer: nano, with: {x: 1}}}}\n"));
  EXPECT_NE(key(stages), key("stages: {run: {external: {trainer: nano, with: {x: 2}}}}\n"));
  const auto script = [&](const std::string& path, char digit, const std::string& more) {
    return key("stages: {run: {external: {command: [python3, \"{script}\"]" + more +
               ", script: {path: " + path + ", sha256: \"" + std::string(64, digit) + "\"}}}}\n");
  };
  EXPECT_EQ(script("/a", '1', ""), script("/b", '1', ", timeout_seconds: 9"));
  EXPECT_NE(script("/a", '1', ""), script("/a", '2', ""));
}

TEST(Stages, EveryErrorStandsAtItsPlace) {
  EXPECT_EQ(Errors(With(R"(stages:
  probes: {probe: {after: pretrian, prompts: ["a", [b]], topk: 5, generate: {tokens: many}}}
  paint: {painters: {variants: [skip, revers]}}
)")),
            R"~(f.yaml:7:27: no stage "pretrian" to follow; did you mean pretrain?
    probes: {probe: {after: pretrian, prompts: ["a", [b]], topk: 5, generate: {tokens: many}}}
                            ^
f.yaml:7:52: prompts[1]: expected a text, got ["b"]; quote it
    probes: {probe: {after: pretrian, prompts: ["a", [b]], topk: 5, generate: {tokens: many}}}
                                                     ^
f.yaml:7:58: topk: unknown setting; did you mean top_k?
    probes: {probe: {after: pretrian, prompts: ["a", [b]], topk: 5, generate: {tokens: many}}}
                                                           ^
f.yaml:7:86: generate.tokens: expected a whole number, got "many"
    probes: {probe: {after: pretrian, prompts: ["a", [b]], topk: 5, generate: {tokens: many}}}
                                                                                       ^
f.yaml:8:39: variants[1]: unknown word "revers"; did you mean reverse?
    paint: {painters: {variants: [skip, revers]}}
                                        ^)~");
}

TEST(Stages, WhatCannotBeSaysWhatToWrite) {
  for (const auto& [stages, message] : std::vector<std::pair<std::string, std::string>>{
           {"{a: {pretrain: {}}, b: {noop: {}}}", "b: a second first stage; a is one already"},
           {"{a: {probe: {prompts: [x], top_k: 1}}, b: {evaluate: {after: a}}}",
            "a (probe) leaves no model for an evaluate to start from"},
           {"{a: {noop: {}}, b: {evaluate: {}}}", "a is a noop, which leaves no model"},
           {"{b: {noop: {after: pretrain}}}", "a noop follows a noop"},
           {"{pretrain: {evaluate: {}}}", "the name pretrain is taken"},
           {"{timing: {evaluate: {}}}", "the name timing is taken"},
           {"{a: {after: pretrain, evaluate: {}}}",
            "beside the kind the word is from: {from: pretrain, …}"},
           {"{a: {evaluate: {}, probe: {}}}", "a stage is of one kind"},
           {"{a: {from: b, evaluate: {}}}", "no stage \"b\" to follow"},
           {"{lin: {from: pretrain, evaluate: {}}, b: {from: lim, external: {command: [x]}}}",
            "no stage \"lim\" to follow; did you mean lin?"},
           {"{a: {from: b, external: {command: [x]}}, b: {from: c, external: {command: [x]}}, c: "
            "{from: a, external: {command: [x]}}}",
            "a circle: a from b from c from a; a stage cannot come from itself"},
           {"{a: {from: a, evaluate: {}}}", "a circle: a from a"},
           {"{a: {from: [pretrain, pretrain], evaluate: {}}}", "pretrain is there twice"},
           {"{a: {from: [], evaluate: {}}}", "expected the name of a stage, or a list"},
           {"{a: {from: {x: 1}, evaluate: {}}}", "expected the name of a stage, or a list"},
           {"{a: {from: pretrain}}", "the stage's kind is missing"},
           {"{a: {from: pretrain, evaluate: {after: pretrain}}}", "say the same; keep from:"},
           {"{a: {evaluate: {from: pretrain}}}", "write it beside the kind"},
           {"{b: {pretrain: {}}, a: {from: b, pretrain: {}}}", "is a trial's first stage"},
           {"{a: {from: [pretrain], evaluate: {}}, b: {from: \"a:x\", external: {command: [x]}}}",
            "no stage \"a:x\"; known are a:pretrain"},
           {"{x: {external: {command: [x]}}, e: {from: x, evaluate: {}}}",
            "x is external: what it leaves is no model of ours"},
           {"{x: {external: {command: [x]}}, b: {pretrain: {}}}",
            "x: a second first stage; b is one already. Write {from: b, …}"},
           {"{x: {external: {}}}", "give a command, as command: [python3"},
           {"{x: {external: {command: [x], trainer: y}}}", "one of them"},
           {"{x: {external: {command: [\"{script}\"]}}}", "say which file it is"},
           {"{x: {external: {command: python3}}}", "command: expected a list"},
           {"{x: {external: {trainer: \"a b\"}}}", "the name of a trainer is"},
           {"{x: {external: {trainer: a, with: [1]}}}", "with: expected a map"},
           {"{a: {evalute: {}}}", "unknown kind of stage \"evalute\"; did you mean evaluate?"},
           {"{a: {prune: {order: size}}}", "order: unknown word \"size\"; known are score"},
           {"{a: {evaluate: 3}}", "expected a map of settings"},
           {"{\"a b\": {evaluate: {}}}", "the name of a stage is"},
           {"{a: {evaluate: {tokens: }}}", "tokens has no value"},
           {"{a: {finetune: {task: t.jsonl}}}", "the file's digest is missing"},
           {"{a: {noop: {seconds: -1}}}", "seconds: must be from 0 to 86400, got -1"},
       }) {
    EXPECT_THAT(Errors(With("stages: " + stages + "\n")), HasSubstr(message)) << stages;
  }
}

class PinFilesTest : public ::testing::Test {
 protected:
  PinFilesTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "plumb-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    std::ofstream(dir_ + "/t 1.jsonl") << "[0, \"a\"]\n";
  }
  ~PinFilesTest() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(PinFilesTest, PathBecomesAbsoluteWithTheDigestAndThePlanTakesIt) {
  const std::string pinned = absl::StrCat("{path: \"", dir_, "/t 1.jsonl\", sha256: \"",
                                          spec::Sha256Hex("[0, \"a\"]\n"), "\"}");
  for (const char* path : {"t 1.jsonl", "\"t 1.jsonl\"", "'t 1.jsonl'", "\"./t\\u00201.jsonl\""}) {
    const std::string text = With(absl::StrCat(
        "# 海\nstages: {p: {probe: {prompts: [é海], top_k: 1}}, glue: {finetune: {task: ", path,
        ", seeds: [0]}}}  # end\n"));
    const auto out = PinFiles(text, "f.yaml", dir_);
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_EQ(*out, absl::StrReplaceAll(text, {{path, pinned}}));
    EXPECT_EQ(*PinFiles(*out, "f.yaml", "/elsewhere"), *out);
  }
  const auto yaml = PinFiles(With("stages: {glue: {finetune: {task: t 1.jsonl}}}\n"), "f", dir_);
  EXPECT_THAT(PlanOrDie(*yaml).trials[0].stages[1].settings_json, HasSubstr(dir_ + "/t 1.jsonl"));
}

TEST_F(PinFilesTest, FilesOfTasksWithinAStageArePinned) {
  const auto yaml = PinFiles(
      With("stages: {p: {prune: {tasks: {a: {format: arc, file: t 1.jsonl, limit: 20}}}}}\n"), "f",
      dir_);
  ASSERT_TRUE(yaml.ok()) << yaml.status();
  const std::string settings = PlanOrDie(*yaml).trials[0].stages[1].settings_json;
  EXPECT_THAT(settings, HasSubstr(dir_ + "/t 1.jsonl"));
  EXPECT_THAT(settings, HasSubstr("\"limit\":20"));
  const auto wrong = PinFiles(
      With("stages: {p: {prune: {tasks: {a: {format: arc, file: t 1.jsonl, limt: 20}}}}}\n"), "f",
      dir_);
  EXPECT_THAT(std::string(wrong.status().message()),
              HasSubstr("tasks.a.limt: unknown setting; did you mean limit?"));
  const auto missing = PinFiles(
      With("stages: {p: {prune: {tasks: {a: {format: arc, file: x.jsonl}}}}}\n"), "f", dir_);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("there is no file"));
}

TEST_F(PinFilesTest, StagesOfTheReferencePageAreRead) {
  std::ifstream in(PLUMB_SOURCE_DIR "/docs/sweep-file.md");
  const std::string page(std::istreambuf_iterator<char>(in), {});
  const size_t section = page.find("\n## stages\n"), fence = page.find("```yaml\n", section) + 8;
  ASSERT_NE(section, std::string::npos);
  std::ofstream(dir_ + "/task.jsonl") << "[0, \"a\"]\n";
  for (const char* script : {"/cut.py", "/score.py"}) std::ofstream(dir_ + script) << "pass\n";
  const auto pinned =
      PinFiles(With(page.substr(fence, page.find("```", fence) - fence)), "f.yaml", dir_);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  const SweepPlan p = PlanOrDie(*pinned);
  std::vector<std::string> kinds;
  for (const PlannedStage& s : p.trials[0].stages) kinds.push_back(s.kind);
  EXPECT_EQ(kinds, (std::vector<std::string>{"pretrain", "probe", "painters", "finetune",
                                             "evaluate", "external", "external", "external"}));
}

TEST_F(PinFilesTest, MissingFileIsShownWhereItIsNamed) {
  const auto out =
      PinFiles(With("stages: {glue: {finetune: {task: none.jsonl}}}\n"), "f.yaml", dir_);
  EXPECT_EQ(out.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(out.status().message()),
              HasSubstr("f.yaml:6:34: there is no file " + dir_ + "/none.jsonl"));
}

TEST_F(PinFilesTest, OtherErrorsKeepTheirColumns) {
  const auto out =
      PinFiles(With("stages: {glue: {finetune: {task: t 1.jsonl, lrr: 1}}}\n"), "f.yaml", dir_);
  EXPECT_EQ(std::string(out.status().message()),
            "f.yaml:6:45: lrr: unknown setting; did you mean lr?\n"
            "  stages: {glue: {finetune: {task: t 1.jsonl, lrr: 1}}}\n"
            "                                              ^");
}

TEST_F(PinFilesTest, WhatIsNoSweepFileComesBackAsItIs) {
  for (const char* text : {"", "a: [", "stages: 3\n", "stages: {a: {b: 3}, c: [1]}\n"})
    EXPECT_EQ(*PinFiles(text, "f.yaml", dir_), text);
}

}  // namespace
}  // namespace plumb::sweeps
