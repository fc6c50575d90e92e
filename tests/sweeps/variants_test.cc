#include <nlohmann/json.hpp>
#include <set>

#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using Strings = std::vector<std::string>;

Strings CellNames(const SweepPlan& p) {
  Strings out;
  for (const PlannedCell& c : p.cells) out.push_back(c.name);
  return out;
}

const PlannedTrial& TrialOfCell(const SweepPlan& p, const std::string& name) {
  for (const PlannedTrial& t : p.trials) {
    if (p.cells[t.cell].name == name) return t;
  }
  ADD_FAILURE() << "no cell " << name;
  return p.trials.at(0);
}

constexpr char kSas[] = R"(sweep: s
trial:
  model: {d_model: 64, n_heads: 4}
  data: {corpus: docs, seq_len: 32}
  train: {tokens: 5 * ref(preln).params_non_embedding, batch_tokens: 1024}
axes: {model.n_layers: [1, 2]}
variants: {preln: {model.preset: preln}, sas: {model.preset: sas}, thin: {model.preset: sas, model: {d_ff: 64}}}
)";

TEST(Variants, ACellIsAPointAndAVariantAndTheVariantIsACoordinate) {
  const SweepPlan p = PlanOrDie(std::string(kSas) + "replicates: 2\n");
  EXPECT_EQ(CellNames(p), (Strings{"n_layers=1 variant=preln", "n_layers=1 variant=sas",
                                   "n_layers=1 variant=thin", "n_layers=2 variant=preln",
                                   "n_layers=2 variant=sas", "n_layers=2 variant=thin"}));
  EXPECT_EQ(p.cells[4].axes_json, R"({"model.n_layers": 2, "variant": "sas"})");
  EXPECT_EQ(p.trials.size(), 12u);
  EXPECT_EQ(p.trials[0].config.model.skip_attn, 1);
  EXPECT_EQ(p.trials[2].config.model.skip_attn, 0);  // sas
  EXPECT_EQ(p.trials[4].config.model.d_ff, 64);
  // Replicate r of every cell sees the same data in the same order.
  for (const PlannedTrial& t : p.trials) EXPECT_EQ(t.config.seed.data, t.replicate);
}

TEST(Variants, RefGivesEveryVariantTheBaselinesTokens) {
  const SweepPlan p = PlanOrDie(kSas);
  for (const char* layers : {"n_layers=1", "n_layers=2"}) {
    const auto& baseline = TrialOfCell(p, std::string(layers) + " variant=preln");
    const auto& sas = TrialOfCell(p, std::string(layers) + " variant=sas");
    EXPECT_NE(baseline.params.non_embedding, sas.params.non_embedding);
    EXPECT_EQ(baseline.config.train.steps, sas.config.train.steps);
    const double want = 5.0 * static_cast<double>(baseline.params.non_embedding);
    EXPECT_NEAR(static_cast<double>(spec::TotalTokens(sas.config)), want, 512.5);
  }
}

TEST(Variants, RefReachesBudgetsAndShapesOfOthersWhateverTheirOrder) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {head_dim: 16}, data: {corpus: docs, seq_len: 32}, train: {batch_tokens: 1024}}
axes: {model.d_model: [32, 64]}
variants:
  wide: {model.d_ff: 2 * ref(plain).d_ff, train.steps: ref(plain).steps / 2}
  plain: {train.steps: 20}
)");
  const auto& wide = TrialOfCell(p, "d_model=64 variant=wide");
  EXPECT_EQ(wide.config.model.d_ff,
            2 * TrialOfCell(p, "d_model=64 variant=plain").config.model.d_ff);
  EXPECT_EQ(wide.config.train.steps, 10);
}

TEST(Variants, ACellWhoseReferenceIsRefusedIsRefusedToo) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {head_dim: 16}, data: {corpus: docs, seq_len: 32}, train: {tokens: 10 * ref(a).params_total, batch_tokens: 1024}}
axes: {model.d_model: [32, 40]}
variants: {a: {}, b: {model.head_dim: 8}}
)");
  EXPECT_EQ(CellNames(p), (Strings{"d_model=32 variant=a", "d_model=32 variant=b"}));
  ASSERT_EQ(p.refused.size(), 2u);
  EXPECT_NE(p.refused[1].reason.find("ref(a) is no cell here: model.head_dim: 16 does not divide"),
            std::string::npos)
      << p.refused[1].reason;
}

TEST(Variants, AConditionMayCompareWithAnotherVariant) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {head_dim: 16}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {model.d_model: [32, 64, 72]}
variants: {a: {}, b: {model.n_layers: 8, model.head_dim: 8}}
where: params_total <= 1.5 * ref(a).params_total or d_model > 32
)");
  EXPECT_EQ(CellNames(p),
            (Strings{"d_model=32 variant=a", "d_model=64 variant=a", "d_model=64 variant=b"}));
  ASSERT_EQ(p.refused.size(), 3u);  // 72 is no multiple of a's heads
  EXPECT_NE(p.refused[2].reason.find(": ref(a) is no cell here"), std::string::npos)
      << p.refused[2].reason;
}

TEST(Variants, TheControlMayBeOneVariant) {
  const SweepPlan p = PlanOrDie(std::string(kSas) + "replicates: 3\naa: preln\n");
  int64_t control = 0;
  for (const PlannedTrial& t : p.trials) {
    EXPECT_EQ(t.aa, t.role == TrialRole::kAa);
    if (!t.aa) continue;
    ++control;
    EXPECT_EQ(t.config.seed.data, 100000 + t.replicate);
    EXPECT_NE(p.cells[t.cell].name.find("variant=preln"), std::string::npos);
  }
  EXPECT_EQ(control, 6);
  EXPECT_EQ(PlanOrDie(std::string(kSas) + "aa: {variant: sas, model.n_layers: 2}\n").trials.size(),
            7u);
  EXPECT_NE(
      Errors(std::string(kSas) + "aa: prelm\n").find("no variant \"prelm\"; did you mean preln?"),
      std::string::npos);
}

TEST(Variants, ASecondArmHasTheBaselinesFlops) {
  const SweepPlan p = PlanOrDie(std::string(kSas) + "also_match: [flops]\n");
  EXPECT_EQ(CellNames(p)[2], "n_layers=1 variant=sas@flops");
  EXPECT_EQ(p.cells[2].axes_json, R"({"model.n_layers": 1, "variant": "sas@flops"})");
  EXPECT_EQ(p.cells.size(), 10u);
  const auto& baseline = TrialOfCell(p, "n_layers=2 variant=preln");
  const auto& sas = TrialOfCell(p, "n_layers=2 variant=sas");
  const auto& matched = TrialOfCell(p, "n_layers=2 variant=sas@flops");
  EXPECT_EQ(sas.config.train.steps, baseline.config.train.steps);
  EXPECT_LE(std::abs(matched.flops - baseline.flops),
            static_cast<double>(matched.flops_per_token) * 512);
  EXPECT_NE(matched.config.train.steps, baseline.config.train.steps);
}

TEST(Variants, ASecondArmHasTheBaselinesParameters) {
  const SweepPlan p = PlanOrDie(
      std::string(kSas) + "also_match: [{params_non_embedding: model.d_ff, multiple_of: 4}]\n");
  const auto& baseline = TrialOfCell(p, "n_layers=2 variant=preln");
  const auto& matched = TrialOfCell(p, "n_layers=2 variant=sas@params_non_embedding");
  EXPECT_GT(matched.config.model.d_ff, baseline.config.model.d_ff);
  EXPECT_EQ(matched.config.model.d_ff % 4, 0);
  const double per_unit = 2.0 * 64 * 2;  // two layers' in and out matrices, one more column each
  EXPECT_LE(
      std::abs(static_cast<double>(matched.params.non_embedding - baseline.params.non_embedding)),
      per_unit * 2);
  ASSERT_EQ(p.residuals.size(), 2u);
  EXPECT_EQ(p.residuals[0].field, "model.d_ff");
  // A variant that differs in the knob alone is then the other.
  ASSERT_EQ(p.refused.size(), 2u);
  EXPECT_EQ(p.refused[0].reason, "the same trial as n_layers=1 variant=sas@params_non_embedding");
}

TEST(Variants, ASolvedAxisIsSolvedInEachAndNamedByItsTarget) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {n_heads: 2}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {model.d_model: {solve: params_non_embedding, target: 100k, multiple_of: 4, tolerance: 20%}}
variants: {preln: {model.preset: preln}, sas: {model.preset: sas}}
)");
  EXPECT_EQ(CellNames(p), (Strings{"params_non_embedding=100k variant=preln",
                                   "params_non_embedding=100k variant=sas"}));
  EXPECT_EQ(p.cells[0].axes_json, R"({"params_non_embedding": 100000, "variant": "preln"})");
  EXPECT_LT(p.trials[0].config.model.d_model, p.trials[1].config.model.d_model);
  EXPECT_EQ(p.residuals.size(), 2u);
}

TEST(Variants, DrawsAreSharedSoThatDifferencesArePaired) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32, n_heads: 2}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {train.lr: {log: [1e-4, 1e-2]}}
search: {random: {trials: 3, seed: 1}}
variants: {a: {}, b: {model.preset: gpt2}}
)");
  ASSERT_EQ(p.cells.size(), 6u);
  for (size_t i = 0; i < 6; i += 2)
    EXPECT_EQ(p.trials[i].config.train.lr, p.trials[i + 1].config.train.lr);
}

TEST(Formulas, AreEvaluatedInPhases) {
  const SweepPlan p = PlanOrDie(R"~(sweep: s
trial:
  model: {d_ff: "round_to(8/3 * d_model, 64)", n_heads: d_model / 16}
  data: {corpus: docs, seq_len: 32}
  train: {tokens: 20 * params_non_embedding, batch_tokens: 1024, lr: 0.002 * 128 / d_model}
axes: {model.d_model: [96, 128, 192]}
)~");
  const int64_t ffs[] = {256, 320, 512};
  for (size_t i = 0; i < 3; ++i) {
    const spec::TrialSpec& s = p.trials[i].config;
    EXPECT_EQ(s.model.d_ff, ffs[i]);
    EXPECT_EQ(s.model.n_heads, s.model.d_model / 16);
    EXPECT_DOUBLE_EQ(s.train.lr, 0.256 / static_cast<double>(s.model.d_model));
    EXPECT_NEAR(static_cast<double>(spec::TotalTokens(s)),
                20.0 * static_cast<double>(p.trials[i].params.non_embedding), 512.5);
  }
}

TEST(Formulas, FollowASolvedField) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {head_dim: 16, d_ff: 3 * d_model}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {model.n_layers: [1, 4], model.d_model: {solve: params_non_embedding, target: 200k, multiple_of: 16, tolerance: 20%}}
)");
  for (const PlannedTrial& t : p.trials) EXPECT_EQ(t.config.model.d_ff, 3 * t.config.model.d_model);
  EXPECT_EQ(static_cast<double>(p.trials[1].params.non_embedding), p.residuals[1].reached);
}

TEST(Formulas, AWidthCanBeSolvedForTheWholeCost) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {head_dim: 8}, data: {corpus: docs, seq_len: 32}, train: {tokens: 20 * params_non_embedding, batch_tokens: 1024}}
axes: {model.n_layers: [1, 3], model.d_model: {solve: flops, target: 1e12, multiple_of: 8, tolerance: 30%}}
)");
  ASSERT_EQ(p.trials.size(), 2u);
  for (const PlannedTrial& t : p.trials) {
    EXPECT_EQ(t.flops, p.residuals[t.cell].reached);
    EXPECT_NEAR(t.flops / 1e12, 1, 0.3);
  }
}

TEST(Conditions, AnAxisExistsOnlyWhereItsConditionHolds) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes:
  model.mlp: [swiglu, leaky_relu]
  model.leaky_slope: {points: [0.1, 0.3], when: mlp == leaky_relu}
)");
  EXPECT_EQ(CellNames(p), (Strings{"mlp=swiglu", "mlp=leaky_relu leaky_slope=0.1",
                                   "mlp=leaky_relu leaky_slope=0.3"}));
  EXPECT_EQ(p.cells[0].axes_json, R"({"model.mlp": "swiglu"})");
  EXPECT_TRUE(p.refused.empty());
}

TEST(Conditions, MayNameTheVariantAndAnEarlierConditionalAxis) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes:
  train.schedule: {points: [cosine, wsd], when: variant != plain}
  train.decay_fraction: {linear: [0.1, 0.3], points: 3, when: schedule == wsd}
variants: {plain: {}, other: {model.norm: layernorm}}
)");
  EXPECT_EQ(CellNames(p), (Strings{"variant=plain", "schedule=cosine variant=other",
                                   "schedule=wsd decay_fraction=0.1 variant=other",
                                   "schedule=wsd decay_fraction=0.2 variant=other",
                                   "schedule=wsd decay_fraction=0.3 variant=other"}));
}

TEST(Conditions, AreJudgedOnDrawsToo) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes:
  model.mlp: [swiglu, leaky_relu]
  model.leaky_slope: {linear: [0.1, 0.3], when: mlp == leaky_relu}
search: {random: {trials: 6, seed: 3}}
)");
  int64_t with = 0;
  for (const PlannedCell& c : p.cells) with += c.name.find("leaky_slope") != std::string::npos;
  EXPECT_EQ(with, 5);  // and swiglu once
}

}  // namespace
}  // namespace plumb::sweeps
