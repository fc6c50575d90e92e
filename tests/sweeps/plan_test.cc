#include "sweeps/plan.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "sweeps/draw.h"
#include "sweeps/stage_files.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

constexpr char kTrial[] = R"(sweep: s
trial:
  model: {head_dim: 16}
  data: {corpus: docs, seq_len: 32}
  train: {steps: 20, batch_tokens: 1024}
)";

std::string With(const std::string& rest) { return kTrial + rest; }

std::vector<std::string> CellNames(const SweepPlan& p) {
  std::vector<std::string> out;
  for (const PlannedCell& c : p.cells) out.push_back(c.name);
  return out;
}

using Strings = std::vector<std::string>;

TEST(Plan, GridIsRowMajorInTheOrderWritten) {
  const SweepPlan p =
      PlanOrDie(With("axes: {model.n_layers: [4, 2], model.d_model: [32, 64]}\nreplicates: 2\n"));
  EXPECT_EQ(CellNames(p), (Strings{"n_layers=4 d_model=32", "n_layers=4 d_model=64",
                                   "n_layers=2 d_model=32", "n_layers=2 d_model=64"}));
  EXPECT_EQ(p.cells[1].axes_json, R"({"model.n_layers": 4, "model.d_model": 64})");
  ASSERT_EQ(p.trials.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(p.trials[i].cell, static_cast<int64_t>(i / 2));
    EXPECT_EQ(p.trials[i].replicate, static_cast<int64_t>(i % 2));
  }
}

TEST(Plan, PriorityAndLabelsAreTheSweepsAndBadOnesAreRefusedWithTheirPlace) {
  const SweepPlan p = PlanOrDie(With("priority: 7\nresources: {labels: [h200, fast, h200]}\n"));
  EXPECT_EQ(p.priority, 7);
  EXPECT_EQ(p.labels, (Strings{"fast", "h200"}));
  for (const auto& [text, found] : std::vector<std::pair<std::string, std::string>>{
           {"priority: 5000\n", ":6:11"},
           {"resources: {labels: h200}\n", "expected a list, as [a100]"},
           {"resources: {labels: ['a b']}\n", "a label is 1 to 64 letters"},
           {"resources: {lables: [a]}\n", "labels"}}) {
    EXPECT_NE(Errors(With(text)).find(found), std::string::npos) << Errors(With(text));
  }
}

TEST(Plan, ReplicatesCountTheSeedsUpInEveryCell) {
  const SweepPlan p =
      PlanOrDie(With("axes: {model.d_model: [32, 64]}\nreplicates: {n: 2, pair: data}\n"));
  for (const PlannedTrial& t : p.trials) {
    EXPECT_EQ(t.config.seed.init, t.replicate);
    EXPECT_EQ(t.config.seed.data, t.replicate);
    EXPECT_EQ(t.key, spec::Key(t.config));
    EXPECT_EQ(t.stages[0].priority, t.replicate);
    EXPECT_EQ(t.stages[0].target_step, 20);
  }
  EXPECT_EQ(p.trials[0].fusion_key, p.trials[1].fusion_key);
  EXPECT_NE(p.trials[0].fusion_key, p.trials[2].fusion_key);
}

TEST(Plan, TheSameTextGivesTheSamePlan) {
  const std::string text =
      With("axes: {train.lr: {log: [1e-4, 1e-2]}}\nsearch: {random: {trials: 30, seed: 5}}\n");
  const SweepPlan a = PlanOrDie(text), b = PlanOrDie(text);
  ASSERT_EQ(a.trials.size(), 30u);
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(a.trials[i].key, b.trials[i].key);
}

TEST(Plan, ConstraintsRefusePointsAndSaySo) {
  const SweepPlan p = PlanOrDie(With(R"(axes: {model.n_layers: [1, 2, 4], model.d_model: [32, 64]}
where: [n_layers * d_model < 256, params_total <= 2M, "max(n_layers, 2) <= 2 or d_model == 32"]
)"));
  EXPECT_EQ(CellNames(p),
            (Strings{"n_layers=1 d_model=32", "n_layers=1 d_model=64", "n_layers=2 d_model=32",
                     "n_layers=2 d_model=64", "n_layers=4 d_model=32"}));
  ASSERT_EQ(p.refused.size(), 1u);
  EXPECT_EQ(p.refused[0].name, "n_layers=4 d_model=64");
  EXPECT_EQ(p.refused[0].reason, "where: n_layers * d_model < 256");
}

TEST(Plan, AShapeThatCannotBeBuiltIsARefusedCell) {
  const SweepPlan p = PlanOrDie(With("axes: {model.d_model: [32, 40]}\n"));
  ASSERT_EQ(p.refused.size(), 1u);
  EXPECT_EQ(p.refused[0].reason,
            "model.head_dim: 16 does not divide d_model 40; give n_heads too, or another width");
}

TEST(Plan, EqualFlopsGiveStepsWithinHalfAStep) {
  const SweepPlan p = PlanOrDie(R"(sweep: iso
trial: {model: {head_dim: 16}, data: {corpus: docs, seq_len: 64}, train: {flops: 1.5e11, batch_tokens: 1024}}
axes: {model.n_layers: [1, 2, 4], model.d_model: [32, 64, 96]}
)");
  ASSERT_EQ(p.trials.size(), 9u);
  for (const PlannedTrial& t : p.trials) {
    const double per_step = static_cast<double>(t.flops_per_token) * 1024;
    EXPECT_LE(std::abs(t.flops - 1.5e11), per_step / 2);
    EXPECT_EQ(t.flops, per_step * static_cast<double>(t.config.train.steps));
  }
}

TEST(Plan, SolvedWidthIsPartOfTheCellAndNearestToItsTarget) {
  const SweepPlan p = PlanOrDie(
      With("axes:\n  model.n_layers: [1, 2, 4]\n  model.d_model: {solve: params_non_embedding, "
           "target: [300k, 1M], multiple_of: 16, tolerance: 20%}\n"));
  ASSERT_EQ(p.cells.size(), 6u);
  ASSERT_EQ(p.residuals.size(), 6u);
  for (const PlannedTrial& t : p.trials) {
    const SolveResidual& r = p.residuals[t.cell];
    EXPECT_EQ(r.reached, static_cast<double>(t.params.non_embedding));
    for (int64_t d = 16; d <= 1024; d += 16) {
      spec::TrialSpec s;
      s.model.n_layers = t.config.model.n_layers, s.model.head_dim = 16, s.model.d_model = d,
      s.train.steps = 1;
      ASSERT_TRUE(spec::Resolve(&s).empty());
      const double other = static_cast<double>(spec::CountParameters(s.model).non_embedding);
      EXPECT_GE(std::abs(other - r.target), std::abs(r.reached - r.target)) << d;
    }
    EXPECT_EQ(nlohmann::json::parse(p.cells[t.cell].axes_json)["model.d_model"],
              t.config.model.d_model);
  }
  EXPECT_EQ(p.cells[0].name, "n_layers=1 d_model=160");
}

TEST(Plan, ATargetOutOfReachNamesTheNearestValue) {
  const SweepPlan p =
      PlanOrDie(With("axes:\n  model.n_layers: [1, 2]\n  model.d_model: {solve: params_total, "
                     "target: 28k, multiple_of: 16, tolerance: 10%}\n"));
  ASSERT_EQ(p.refused.size(), 1u);
  EXPECT_EQ(p.refused[0].name, "n_layers=2 params_total=28k");
  EXPECT_EQ(p.refused[0].reason,
            "solve: no model.d_model (multiple of 16) brings params_total within 10% of 28,000; "
            "the nearest is 16 with 14,928 (-46.7%)");
}

TEST(Plan, OtherShapeFieldsCanBeSolvedToo) {
  const SweepPlan p = PlanOrDie(
      With("axes: {model.n_layers: {solve: flops_per_token, target: 1M}, model.d_model: [32]}\n"));
  ASSERT_EQ(p.cells.size(), 1u);
  EXPECT_NEAR(static_cast<double>(p.trials[0].flops_per_token), 1e6, 5e4);
  EXPECT_GT(p.trials[0].config.model.n_layers, 1);
}

TEST(Plan, ABudgetMayFollowFromTheShape) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {head_dim: 16}, data: {corpus: docs, seq_len: 32}, train: {tokens: 20 * params_non_embedding, batch_tokens: 1024}}
axes: {model.d_model: [32, 64]}
)");
  ASSERT_EQ(p.trials.size(), 2u);
  for (const PlannedTrial& t : p.trials) {
    EXPECT_LE(std::abs(20 * t.params.non_embedding - spec::TotalTokens(t.config)), 512);
  }
}

TEST(Plan, FieldsMoveTogetherOnOneAxis) {
  const SweepPlan lists =
      PlanOrDie(With("axes: {[model.n_layers, model.d_model]: [[2, 64], [4, 48]]}\n"));
  const SweepPlan maps =
      PlanOrDie(With("axes: {shape: {points: [{model.n_layers: 2, model.d_model: 64}, "
                     "{model.d_model: 48, model.n_layers: 4}]}}\n"));
  EXPECT_EQ(CellNames(lists), (Strings{"n_layers=2 d_model=64", "n_layers=4 d_model=48"}));
  EXPECT_EQ(CellNames(maps), CellNames(lists));
  EXPECT_EQ(maps.trials[1].key, lists.trials[1].key);
}

TEST(Plan, RangesAreSpacedAsWritten) {
  EXPECT_EQ(CellNames(PlanOrDie(With("axes: {model.n_layers: {range: [1, 7], step: 3}}\n"))),
            (Strings{"n_layers=1", "n_layers=4", "n_layers=7"}));
  EXPECT_EQ(CellNames(PlanOrDie(With("axes: {train.lr: {linear: [0.1, 0.3], points: 3}}\n"))),
            (Strings{"lr=0.1", "lr=0.2", "lr=0.3"}));
  EXPECT_EQ(CellNames(PlanOrDie(With("axes: {train.lr: {log: [1e-3, 1e-1], points: 3}}\n"))),
            (Strings{"lr=0.001", "lr=0.01", "lr=0.1"}));
  EXPECT_EQ(CellNames(PlanOrDie(With("axes: {train.lr: {points: [1e-3, 2e-3]}}\n"))),
            (Strings{"lr=0.001", "lr=0.002"}));
}

TEST(Plan, RandomSearchDrawsTheSameValuesForEver) {
  const SweepPlan p = PlanOrDie(
      With("axes: {model.d_model: [32, 64], train.lr: {log: [1e-4, 1e-2]}, train.warmup_steps: "
           "{range: [0, 9]}}\nsearch: {random: {trials: 4, seed: 7}}\n"));
  EXPECT_EQ(
      CellNames(p),
      (Strings{"d_model=64 lr=0.008447 warmup_steps=2", "d_model=32 lr=0.003804 warmup_steps=0",
               "d_model=64 lr=0.0006764 warmup_steps=5", "d_model=64 lr=0.000134 warmup_steps=0"}));
}

TEST(Plan, DrawsFillTheirRangeEvenly) {
  int64_t low = 0, count = 20000;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double u = Uniform(3, i, 1);
    ASSERT_TRUE(u >= 0 && u < 1);
    low += u < 0.25, sum += u;
  }
  EXPECT_NEAR(sum / count, 0.5, 0.01);
  EXPECT_NEAR(static_cast<double>(low) / count, 0.25, 0.015);
}

TEST(Plan, RandomSearchRedrawsRefusedAndRepeatedPoints) {
  const SweepPlan p =
      PlanOrDie(With("axes: {model.d_model: [16, 32, 48, 64]}\nwhere: d_model != 48\nsearch: "
                     "{random: {trials: 3}}\n"));
  EXPECT_EQ(std::set<std::string>({p.cells[0].name, p.cells[1].name, p.cells[2].name}),
            (std::set<std::string>{"d_model=16", "d_model=32", "d_model=64"}));
  EXPECT_NE(Errors(With("axes: {model.d_model: [16, 32]}\nsearch: {random: {trials: 3}}\n"))
                .find("only 2 of 3 different points"),
            std::string::npos);
}

TEST(Plan, TheControlRunsItsCellsAgainOnDisjointSeeds) {
  const SweepPlan p =
      PlanOrDie(With("axes: {model.n_layers: [1, 2], model.d_model: [32, 64]}\nreplicates: 3\naa: "
                     "{model.n_layers: 2}\n"));
  ASSERT_EQ(p.trials.size(), 12u + 6u);
  std::set<std::string> keys;
  for (size_t i = 0; i < p.trials.size(); ++i) {
    const PlannedTrial& t = p.trials[i];
    EXPECT_EQ(t.aa, i >= 12);
    keys.insert(t.key);
    if (!t.aa) continue;
    EXPECT_EQ(t.config.model.n_layers, 2);
    EXPECT_EQ(t.config.seed.init, 100000 + t.replicate);
    EXPECT_EQ(t.config.seed.data, 100000 + t.replicate);
  }
  EXPECT_EQ(keys.size(), 18u);
  EXPECT_EQ(PlanOrDie(With("axes: {model.d_model: [32, 64]}\naa: true\n")).trials.size(), 4u);
}

TEST(Plan, TimingFollowsTheFirstReplicateOfEachCellAfterAllElse) {
  const SweepPlan p =
      PlanOrDie(With("axes: {model.d_model: [32, 64]}\nreplicates: 2\naa: true\ntiming: true\n"));
  int64_t last = 0, timings = 0;
  for (const PlannedTrial& t : p.trials) last = std::max(last, t.stages[0].priority);
  for (const PlannedTrial& t : p.trials) {
    ASSERT_EQ(t.stages.size(), t.replicate == 0 && !t.aa ? 2u : 1u);
    if (t.stages.size() < 2) continue;
    ++timings;
    EXPECT_EQ(t.stages[1].kind, "timing");
    EXPECT_EQ(t.stages[1].parent, "pretrain");
    EXPECT_GT(t.stages[1].priority, last);
  }
  EXPECT_EQ(timings, 2);
}

TEST(Plan, NoopStagesNeedNeitherCorpusNorBudget) {
  const SweepPlan p = PlanOrDie(
      "sweep: n\naxes: {model.n_layers: {range: [1, 100]}}\nstages: {run: {noop: {seconds: "
      "0.5}}}\n");
  ASSERT_EQ(p.trials.size(), 100u);
  const PlannedStage& s = p.trials[0].stages[0];
  EXPECT_EQ(s.name, "run");
  EXPECT_EQ(s.kind, "noop");
  EXPECT_EQ(s.settings_json, R"({"seconds":0.5})");
  EXPECT_EQ(s.target_step, 1);
  EXPECT_NE(p.trials[0].key, spec::Key(p.trials[0].config));  // never taken for a trial that trains
}

TEST(Plan, FlagsRepeatedTextAndOverlap) {
  const SweepPlan p = PlanOrDie(
      "sweep: s\ntrial: {data: {corpus: small, seq_len: 32}, train: {batch_tokens: 1024}}\naxes: "
      "{train.steps: [19, 20]}\n");
  EXPECT_EQ(p.cells[0].flags, (Strings{"test_overlap"}));
  EXPECT_EQ(p.cells[1].flags, (Strings{"more_than_one_epoch", "test_overlap"}));
  EXPECT_EQ(p.trials[0].config.data.digest, "d2");
}

TEST(Plan, TheSameTrialTwiceIsRefusedOnce) {
  const SweepPlan p = PlanOrDie(With("axes: {model.n_heads: [0, 2]}\n"));
  const SweepPlan q = PlanOrDie(
      "sweep: s\ntrial: {model: {d_model: 32, head_dim: 16}, data: {corpus: docs, seq_len: 32}, "
      "train: {steps: 2, batch_tokens: 64}}\naxes: {model.n_heads: [0, 2]}\n");
  EXPECT_EQ(p.cells.size(), 2u);
  ASSERT_EQ(q.refused.size(), 1u);
  EXPECT_EQ(q.refused[0].reason, "the same trial as n_heads=0");
}

TEST(Plan, LimitsNameTheNumber) {
  EXPECT_EQ(
      Errors(
          With("axes: {model.d_model: [32, 64]}\nreplicates: 3\naa: true\nlimits: {trials: 10}\n")),
      "f.yaml:9:18: the sweep has 12 trials (2 cells × 3 replicates + 6 A/A members), more than "
      "this limit of 10\n"
      "  limits: {trials: 10}\n"
      "                   ^");
  EXPECT_NE(Errors(With("axes: {train.lr: {log: [1e-6, 1], points: 2000}, train.beta1: {linear: "
                        "[0, 0.9], points: 2000}}\n"))
                .find("4M cells and 4M trials; at most 1,000,000"),
            std::string::npos);
}

TEST(Plan, AMissingCorpusNamesTheCommandAndThePlace) {
  const auto plan = PlanSweep("sweep: s\ntrial: {data: {corpus: nope}, train: {steps: 1}}\n",
                              "f.yaml", TestCorpora);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(plan.status().message(),
            "f.yaml:2:24: corpus \"nope\" is not prepared; run: plumb data prepare nope\n"
            "  trial: {data: {corpus: nope}, train: {steps: 1}}\n"
            "                         ^");
}

TEST(Plan, EveryErrorAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(Errors(R"(sweep: my sweep
trial:
  model: {preset: lama, d_modle: 64, tied_head: yes}
  data: {corpus: docs, seq_len: 128.5}
  train: {steps: 10, tokens: 20 * params}
axes:
  model.n_layers: [2, two]
  model.n_heads: {log: [0, 4], points: 3}
  seed.init: [1, 2]
where: [d_model = 64]
tune: {train.lr: [1]}
replicate: 3
limits: {trials: many}
)"),
            R"~(f.yaml:1:8: the name of a sweep is 1 to 100 letters, digits, - _ .
  sweep: my sweep
         ^
f.yaml:3:19: model.preset: expected one of llama, gpt2, preln, gptj_parallel, vskipinit, sas, sas_p, sas_p_nonorm, op, llama_base, llama_gelu_qkv, llama_sep_qkv, llama_score_bias, differential, phi3_static, phi3_dynamic, gptneox, olmo2, gemma2_small, modded; got "lama"
    model: {preset: lama, d_modle: 64, tied_head: yes}
                    ^
f.yaml:3:25: model.d_modle: no such field; did you mean model.d_model?
    model: {preset: lama, d_modle: 64, tied_head: yes}
                          ^
f.yaml:3:49: "yes" is a boolean to some YAML readers and a word to others; write true, or put it in quotes
    model: {preset: lama, d_modle: 64, tied_head: yes}
                                                  ^
f.yaml:4:33: data.seq_len: expected an integer, got 128.5
    data: {corpus: docs, seq_len: 128.5}
                                  ^
f.yaml:5:30: a second budget: line 5 gives train.steps; give one of train.steps, train.tokens, train.flops, train.epochs, train.seconds, train.tokens_per_param
    train: {steps: 10, tokens: 20 * params}
                               ^
f.yaml:5:35: bare `params` is ambiguous: write params_total or params_non_embedding
    train: {steps: 10, tokens: 20 * params}
                                    ^
f.yaml:7:23: model.n_layers: expected an integer, got "two"
    model.n_layers: [2, two]
                        ^
f.yaml:8:25: a logarithmic axis needs bounds above 0
    model.n_heads: {log: [0, 4], points: 3}
                          ^
f.yaml:9:3: seeds are no axis: write `replicates: N`, which counts both seeds up from the base trial's
    seed.init: [1, 2]
    ^
f.yaml:10:17: write == to compare
  where: [d_model = 64]
                  ^
f.yaml:11:8: one value is nothing to choose from; put it into trial:
  tune: {train.lr: [1]}
         ^
f.yaml:12:1: unknown key "replicate"; did you mean replicates?
  replicate: 3
  ^
f.yaml:13:18: expected a number (64, 1e-3, 300k, 5%), got "many"
  limits: {trials: many}
                   ^)~");
}

struct Bad {
  const char* yaml;     // after kTrial
  const char* message;  // what the answer must say
};

TEST(Plan, BadFilesNameTheFix) {
  for (const Bad& bad : {
           Bad{"axes: {model.d_model: {solve: params, target: 1M}}\n",
               "bare `params` is ambiguous: write params_total or params_non_embedding"},
           Bad{"axes: {model.d_model: {solve: params_total}}\n", "solve needs a target"},
           Bad{"axes: {train.lr: {solve: params_total, target: 1}}\n",
               "solve finds a whole-number field of the model"},
           Bad{"axes: {model.d_model: {solve: params_total, target: 1M}, model.d_ff: {solve: "
               "params_total, target: 1M}}\n",
               "only one axis can be solved"},
           Bad{"axes: {model.d_model: [64, 64]}\n", "64 is on this axis already"},
           Bad{"axes: {model.d_model: []}\n", "an axis needs at least one value"},
           Bad{"axes: {model.d_model: 64}\n", "expected a list of values"},
           Bad{"axes: {model.d_model: {rang: [1, 2]}}\n",
               "unknown kind of axis \"rang\"; did you mean range?"},
           Bad{"axes: {train.lr: {log: [1e-3, 1e-2]}}\n", "a grid needs to know the values"},
           Bad{"axes: {train.lr: {log: [1e-2, 1e-3], points: 3}}\n",
               "the first bound must be less"},
           Bad{"axes: {train.flops: [1e10]}\n", "a second budget"},
           Bad{"axes: {model.preset: [llama, gpt3]}\n",
               "model.preset: expected one of llama, gpt2"},
           Bad{"axes: {[model.n_layers, model.d_model]: [[2, 64], [4]]}\n",
               "expected a list of 2 values (model.n_layers, model.d_model)"},
           Bad{"axes: {p: {points: [{model.n_layers: 2, model.d_model: 64}, {model.n_layers: "
               "4}]}}\n",
               "this point does not give model.d_model"},
           Bad{"axes: {model.n_layers: [1], n_layers: [2]}\n",
               "model.n_layers is on another axis already"},
           Bad{"axes: {seq_len: [32]}\n", "\"seq_len\" could be data.seq_len or eval.seq_len"},
           Bad{"where: params < 5\n", "bare `params` is ambiguous"},
           Bad{"where: n_layers + 1\n", "is a number, not a condition"},
           Bad{"where: n_layers % 0 == 1\n", "division by zero"},
           Bad{"where: n_layers > 1000\n", "no cell is left: 1 × where: n_layers > 1000"},
           Bad{"replicates: 0\n", "expected a whole number from 1 to 10000"},
           Bad{"replicates: {n: 2, pair: init}\n", "only `pair: data` is supported"},
           Bad{"search: {randon: {}}\n", "unknown search \"randon\"; did you mean random?"},
           Bad{"search: {random: {}}\n", "random search needs a number of draws"},
           Bad{"objective: loss\n", "expected the name of a series"},
           Bad{"objective: val/loss\nreport: val/loss\n",
               "`report` is another word for `objective`"},
           Bad{"report: {metric: val/loss, at: end}\n", "expected last, best or mean_last(5)"},
           Bad{"timing: 1\n", "expected true or false"},
           Bad{"aa: {model.n_layers: 2}\n", "model.n_layers is not an axis"},
           Bad{"axes: {model.n_layers: [1, 2]}\naa: {model.n_layers: 3}\n",
               "3 is not on the axis model.n_layers"},
           Bad{"axes: {data.digest: [x]}\n", "data.digest is set from the prepared corpus"},
       }) {
    const std::string errors = Errors(With(bad.yaml));
    EXPECT_NE(errors.find(bad.message), std::string::npos) << bad.yaml << errors;
  }
}

TEST(Plan, TheAxesAndConditionsOfTheReferencePageAreRead) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {data: {corpus: docs}, train: {tokens: 20 * params_non_embedding}}
axes:
  model.n_layers: [2, 4, 8]
  model.n_heads: {range: [2, 8], step: 2}
  train.beta2: {linear: [0.9, 0.98], points: 5}
  train.lr: {log: [1e-4, 1e-2], points: 5}
  [model.d_model, data.seq_len]: [[64, 128], [128, 64]]
where:
  - d_model % n_heads == 0
  - params_total <= 2M and not tied_head
  - max(n_layers, 4) * d_model < 4096
  - norm == rmsnorm or norm_eps > 1e-6
  - "min(n_layers, 4) <= 4"
)");
  EXPECT_EQ(p.cells.size() + p.refused.size(), 3u * 4 * 5 * 5 * 2);
  EXPECT_EQ(p.cells.size(), 3u * 3 * 5 * 5 * 2);  // six heads divide neither width
}

TEST(Plan, EveryExampleOfTheProjectPlans) {
  int64_t read = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PLUMB_SOURCE_DIR) + "/sweeps/examples")) {
    if (entry.path().extension() != ".yaml") continue;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    const auto pinned = PinFiles(text.str(), entry.path(), entry.path().parent_path());
    ASSERT_TRUE(pinned.ok()) << pinned.status();
    // Corpora of the size that the seeds had; nothing here has them.
    const auto plan = PlanSweep(*pinned, entry.path(), [](const std::string&, const std::string&) {
      return absl::StatusOr<CorpusInfo>(
          CorpusInfo{.digest = "d",
                     .vocab_size = 256,
                     .train_tokens = 1000000000,
                     .parts = {{"en", 500000000}, {"ja", 500000000}}});
    });
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_GT(plan->trials.size(), 0u) << entry.path();
    ++read;
  }
  EXPECT_GE(read, 4);
}

}  // namespace
}  // namespace plumb::sweeps
