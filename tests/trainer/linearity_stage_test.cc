// Linearity of trained rows: as a stage after the training and on its way, for every block.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/trainer/engine_fixture.h"
#include "tests/trainer/every_block.h"
#include "trainer/hidden_states.h"
#include "trainer/linearity/measurement.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class LinearityStage : public EngineTest {
 protected:
  LinearityStage() {
    data::Manifest m = data::ReadManifest(data_.path());
    m.splits[1] = WriteSplit(data_.path(), data::Split::kTune, {900, 333, 400});
    m.splits[2] = WriteSplit(data_.path(), data::Split::kVal, {200, 50, 0, 420});
    std::ofstream(data_.path() + "/manifest.json") << data::ManifestJson(m);
  }
  Told After(const spec::TrialSpec& s, const json& settings) {
    return EngineTest::After(s, "linearity", settings);
  }
};

double At(const Told& t, const std::string& name, int64_t layer, int64_t step = 1) {
  return t.points.at({name, layer, step});
}

TEST_F(LinearityStage, LeavesScoresOfEveryTransitionAndWhatTheyAreReadBeside) {
  const spec::TrialSpec s = Spec(0.03, 1, 60);
  const json settings = {
      {"tokens", 1600}, {"score_tokens", 640}, {"twonn_points", 200}, {"logit_lens", true}};
  const Told t = After(s, settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  for (int64_t l = 0; l < 2; ++l) {
    const double score = At(t, "linearity/score", l), rho = At(t, "linearity/rho", l);
    EXPECT_GT(score, 0.2);
    EXPECT_LE(score, 1);
    // Both leave the same: (1 - s) |y|² = (1 - s') |f|².
    EXPECT_LE(At(t, "linearity/held_out", l), score + 0.02);
    EXPECT_NEAR(At(t, "linearity/rho_law", l), 1 / (1 + rho * rho), 1e-12);
    EXPECT_EQ(At(t, "linearity/n", l), 1600);
    EXPECT_EQ(At(t, "linearity/rank", l), 16);
    EXPECT_NEAR(At(t, "linearity/floor", l), 16.0 / 1599, 1e-12);
    EXPECT_LE(At(t, "linearity/error_p50", l), At(t, "linearity/error_p90", l));
    EXPECT_LE(std::abs(At(t, "linearity/cosine", l)), 1);
  }
  for (int64_t l = 0; l <= 2; ++l) {
    EXPECT_GT(At(t, "linearity/state/norm", l), 0);
    EXPECT_GT(At(t, "linearity/state/anisotropy", l), 1.0 / 16);
    EXPECT_GT(At(t, "linearity/state/intrinsic_dimension", l), 0);
  }
  // The lens on the last state is the model itself: of all tokens but each window's last.
  EXPECT_GT(At(t, "linearity/state/lens_loss", 0), At(t, "linearity/state/lens_loss", 2));
  EXPECT_GT(At(t, "linearity/whole/score", -1), 0);
  EXPECT_TRUE(t.points.contains({"linearity/half/held_out", 1, 1}));
  EXPECT_FALSE(t.points.contains({"linearity/quarter/score", 0, 1}));
  EXPECT_EQ(At(t, "linearity/half/score", 0), At(t, "linearity/score", 0)) << "two layers";
  const json record = json::parse(t.records.at({"linearity", "layer", 1}));
  EXPECT_EQ(record["score"], At(t, "linearity/score", 1));
  EXPECT_EQ(record["from"], 1);
  EXPECT_EQ(record["definition"], linearity::kDefinition);
  EXPECT_EQ(record["fit"], "tune");
  EXPECT_EQ(record["warnings"].size(), 0u);
  EXPECT_TRUE(t.records.contains({"linearity", "final", 0}));
  EXPECT_TRUE(t.records.contains({"linearity_state", "state", 2}));
  EXPECT_EQ(t.points, After(s, settings).points) << "the same numbers again";
}

TEST_F(LinearityStage, SaysWhatItCannotDoAndWhatItsNumbersMeanLessFor) {
  const spec::TrialSpec s = Spec();
  EXPECT_THAT(After(s, {{"fit", "val"}}).cause, HasSubstr("name another split"));
  const Told late = After(s, {{"from_position", 16}});
  EXPECT_EQ(late.outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(late.cause, HasSubstr("leaves nothing of texts of 16"));
  const Told few = After(s, {{"tokens", 16}});
  ASSERT_EQ(few.outcome, RowOutcome::kSucceeded) << few.cause;
  const json record = json::parse(few.records.at({"linearity", "layer", 1}));
  EXPECT_THAT(record["warnings"].dump(), HasSubstr("fewer than 50 for each of 16 dimensions"));
  EXPECT_THAT(record["warnings"].dump(), HasSubstr("every map is exact"));
  EXPECT_NEAR(record["score"].get<double>(), 1, 1e-9);
  EXPECT_TRUE(record["adjusted"].is_null());
}

TEST_F(LinearityStage, OnTheWayMeasuresWhatTheStageDoesAtItsEnd) {
  spec::TrialSpec s = Spec(0.03, 1, 30);
  s.linearity.every = 7, s.linearity.tokens = 800, s.linearity.score_tokens = 320;
  s.train.layer_cosine = 0.5;
  const Told t = Alone(Request("way", s));
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(static_cast<int64_t>(t.points.size()), CountPoints(s, true));
  for (const int64_t step : {7, 14, 21, 28, 30})
    EXPECT_TRUE(t.points.contains({"linearity/score_without", 1, step})) << step;
  EXPECT_FALSE(t.points.contains({"linearity/score", 0, 10}));
  EXPECT_TRUE(t.points.contains({"train/layer_cosine", -1, 30}));
  EXPECT_FALSE(t.points.contains({"train/layer_mse", -1, 30}));
  trained_ = t.checkpoints.back();
  trained_->resume = false;
  const Told stage = After(s, {{"tokens", 800}, {"score_tokens", 320}});
  for (const char* metric : {"score", "score_without", "held_out", "rho", "error_p99"}) {
    for (int64_t l = 0; l < 2; ++l)
      EXPECT_EQ(At(stage, std::string("linearity/") + metric, l),
                At(t, std::string("linearity/") + metric, l, 30))
          << metric;
  }
}

TEST_F(LinearityStage, MeasuringChangesNothingOfTheTrainingNorOfOtherRows) {
  const spec::TrialSpec plain = Spec();
  spec::TrialSpec measured = plain, other = Spec(0.01, 2);
  measured.linearity.every = 5, measured.linearity.tokens = 320;
  other.linearity.every = 4, other.linearity.tokens = 160;
  const Told a = Alone(Request("plain", plain)), b = Alone(Request("measured", measured)),
             c = Alone(Request("other", other));
  EXPECT_EQ(Weights(a.checkpoints.back()), Weights(b.checkpoints.back()));
  for (const auto& [key, value] : Results(a)) EXPECT_EQ(b.points.at(key), value);
  Open(2);
  engine_->AddRow(Request("measured", measured));
  engine_->AddRow(Request("other", other));
  RunAll();
  EXPECT_EQ(Results(ear_.told["measured"]), Results(b));
  EXPECT_EQ(Results(ear_.told["other"]), Results(c));
}

TEST_F(LinearityStage, TheCosinePenaltyRaisesTheNeighboursCosine) {
  double raised = 0, before = 0;
  for (const double coefficient : {0.0, 0.5}) {
    spec::TrialSpec s = Spec(0.01, 3, 120);
    s.train.layer_cosine = coefficient;
    s.linearity.every = 120;
    const Told t = Alone(Request("c", s));
    ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
    (coefficient > 0 ? raised : before) =
        At(t, "linearity/cosine", 0, 120) + At(t, "linearity/cosine", 1, 120);
  }
  EXPECT_GT(raised, before + 0.05);
}

class LinearityOfBlocks : public ::testing::TestWithParam<BlockCase> {};

TEST_P(LinearityOfBlocks, IsMeasuredOnEveryOne) {
  spec::TrialSpec s = SpecOf(GetParam());
  s.linearity.every = 1, s.linearity.tokens = 240, s.linearity.score_tokens = 80;
  testing::TempDir data;
  WriteCorpus(data.path());
  data::Manifest m = data::ReadManifest(data.path());
  m.splits[1] = WriteSplit(data.path(), data::Split::kTune, {300, 33});
  std::ofstream(data.path() + "/manifest.json") << data::ManifestJson(m);
  const data::Dataset dataset = data::Dataset::Open(data.path());
  Bundle bundle(s.model, 8, 2, at::kCPU);
  bundle.Add(5), bundle.Add(6);
  const auto told = linearity::MeasureLinearity(bundle, 1, dataset, s);
  EXPECT_EQ(static_cast<int64_t>(told.size()) + 1, LinearityPoints(s));
  for (const PointValue& p : told) {
    if (p.name != "linearity/score") continue;
    EXPECT_GE(p.value, 0);
    EXPECT_LE(p.value, 1);
  }
  // The states are those between which the blocks run, and the last one is what the head reads.
  const at::Tensor ids = WindowIds(dataset.split(data::Split::kVal), {0, 8, 16}, 0, 3, 8);
  const std::vector<at::Tensor> states = HiddenStates(bundle, 1, ids);
  EXPECT_EQ(static_cast<int64_t>(states.size()), StreamMoves(s.model) + 2);
  const at::Tensor logits = bundle.Logits(1, ids)[0],
                   read = bundle.Readout(1, states[states.size() - 2].unsqueeze(0))[0];
  EXPECT_LE((logits - read).abs().max().item<double>(),
            1e-5 * std::max(1.0, logits.abs().max().item<double>()));
}

INSTANTIATE_TEST_SUITE_P(Blocks, LinearityOfBlocks, ::testing::ValuesIn(EveryBlock()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace plumb::trainer
