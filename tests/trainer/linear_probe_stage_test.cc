// Stage "linear_probe" on trained models: what is known of a state is found there, and nothing
// where there is nothing.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/trainer/engine_fixture.h"
#include "tests/trainer/every_block.h"
#include "trainer/hidden_states.h"
#include "trainer/probes/probing.h"
#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::HasSubstr;

class LinearProbeStage : public EngineTest {
 protected:
  LinearProbeStage() {
    data::Manifest m = data::ReadManifest(data_.path());
    std::vector<int64_t> documents(24, 120);
    documents[3] = 0, documents[5] = 1;
    m.splits[1] = WriteSplit(data_.path(), data::Split::kTune, documents);
    m.splits[2] = WriteSplit(data_.path(), data::Split::kVal, std::vector<int64_t>(14, 110));
    std::ofstream(data_.path() + "/manifest.json") << data::ManifestJson(m);
  }
  // As wide as there are tokens, so that their embeddings are independent of each other.
  spec::TrialSpec Wide(spec::PositionKind position, int64_t steps = 12) {
    spec::TrialSpec s = Spec(0.003, 1, steps);
    s.model = {};
    s.model.n_layers = 2, s.model.d_model = 64, s.model.n_heads = 2, s.model.position = position;
    EXPECT_TRUE(spec::Resolve(&s).empty());
    return s;
  }
  Told After(const spec::TrialSpec& s, const json& settings) {
    return EngineTest::After(s, "linear_probe", settings);
  }
  // Texts of digits whose label is whether they are small ones; `shuffled`: has nothing to do with
  // them.
  json LabelFile(const std::string& name, bool shuffled) {
    const std::string path = work_ / name;
    std::ofstream out(path);
    const CounterRandom random(5);
    for (int64_t i = 0; i < 200; ++i) {
      const bool small = i % 2 == 0;
      std::string text;
      for (int64_t j = 0; j < 4 + static_cast<int64_t>(random.Bits(i) % 5); ++j)
        text += static_cast<char>('0' + (small ? 0 : 5) + random.Bits(1000 + 16 * i + j) % 5);
      const bool says = shuffled ? random.Bits(90000 + i) % 2 == 0 : small;
      out << json{{"text", text}, {"label", says ? "small" : "large"}}.dump() << "\n";
    }
    out.close();
    return {{"path", path}, {"sha256", spec::Sha256HexOfFile(path)}};
  }
};

double At(const Told& t, const std::string& name, int64_t layer) {
  return t.points.at({"linear_probe/" + name, layer, 1});
}
json One(const Told& t, const std::string& kind, const std::string& name, int64_t index = 0) {
  return json::parse(t.records.at({kind, name, index}));
}

TEST_F(LinearProbeStage, ReadsTheTokenFromTheEmbeddingAndNothingFromRandomText) {
  const spec::TrialSpec s = Wide(spec::PositionKind::kRope);
  const json settings = {{"tokens", 2400}, {"score_tokens", 1200}};
  const Told t = After(s, settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  // 63 tokens in 64 dimensions: whatever belongs to a token is there, by heart too.
  for (const char* method : {"ridge", "logistic"})
    EXPECT_EQ(At(t, std::string("character_class/") + method + "/accuracy", 0), 1) << method;
  EXPECT_EQ(At(t, "character_class/ridge/control_accuracy", 0), 1);
  EXPECT_EQ(At(t, "character_class/ridge/selectivity", 0), 0);
  EXPECT_LT(At(t, "character_class/logistic/loss", 0), 0.05);
  EXPECT_EQ(At(t, "character_class/ridge/first/accuracy", -1), 1);
  EXPECT_EQ(At(t, "character_class/ridge/last/accuracy", -1),
            At(t, "character_class/ridge/accuracy", 2));
  // Each token's embedding is the same wherever it stands.
  EXPECT_NEAR(At(t, "position/ridge/r2", 0), 0, 0.05);
  const json about = One(t, "linear_probe_property", "position");
  EXPECT_EQ(about["classes"], json({"0-3", "4-7", "8-11", "12-15"}));
  EXPECT_EQ(about["fit"], "tune");
  EXPECT_EQ(about["warnings"], json::array());
  // The next token is drawn without a look at those before it.
  for (int64_t l = 0; l <= 2; ++l) {
    for (const char* method : {"ridge", "logistic"}) {
      const json r = One(t, "linear_probe", std::string("next_token_frequency/") + method, l);
      EXPECT_NEAR(r["accuracy"].get<double>(), 0.25, 0.06) << method << l;
      EXPECT_NEAR(r["accuracy_stderr"].get<double>(), std::sqrt(0.25 * 0.75 / 1100), 0.007);
    }
    EXPECT_NEAR(At(t, "next_token_frequency/logistic/loss", l),
                At(t, "next_token_frequency/prior_loss", -1), 0.06);
  }
  EXPECT_NEAR(At(t, "next_token_frequency/prior_loss", -1), std::log(4), 0.03);
  const json r = One(t, "linear_probe", "character_class/ridge", 1);
  EXPECT_EQ(r["accuracy"], At(t, "character_class/ridge/accuracy", 1));
  EXPECT_EQ(r["definition"], 1);
  EXPECT_EQ(r["state"], 1);
  EXPECT_EQ(After(s, settings).points, t.points) << "the same numbers again";
}

TEST_F(LinearProbeStage, StatesAreThoseOfTheTokensThatAreAsked) {
  const spec::TrialSpec s = Wide(spec::PositionKind::kRope);
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(3);
  const data::Dataset dataset = data::Dataset::Open(data_.path());
  const auto tokenizer = data::BytesTokenizer();
  const std::unique_ptr<probes::Source> source =
      probes::TokenSource(bundle, 0, dataset, tokenizer.get(), s,
                          {.properties = {"position", "character_class", "next_token_frequency"},
                           .tokens = 1 << 20,
                           .score_tokens = 200});
  for (int64_t i = 0; i < source->preparations(); ++i) source->Prepare(i);
  const probes::Material m = source->Ask();
  // All of tune: no separator, and not the last of a document, nor what is after the last window.
  const data::Shard& tune = dataset.split(data::Split::kTune);
  std::vector<int64_t> asked, counts(256);
  for (int64_t i = 0; i < tune.tokens() / 16 * 16; ++i) {
    if (tune.Token(i) != 0 && i + 1 < tune.tokens() && tune.Token(i + 1) != 0) asked.push_back(i);
  }
  const data::Shard& train = dataset.split(data::Split::kTrain);
  for (int64_t i = 0; i < train.tokens(); ++i) counts[train.Token(i)] += train.Token(i) != 0;
  const std::vector<int32_t> frequency = probes::FrequencyClasses(counts, 4);
  ASSERT_EQ(m.fit.size(), static_cast<int64_t>(asked.size()));
  ASSERT_EQ(m.questions.size(), 6u) << "a number, and two controls";
  for (size_t i = 0; i < asked.size(); ++i) {
    const int64_t at = asked[i];
    EXPECT_EQ(m.fit.document[i], tune.DocumentOf(at));
    EXPECT_EQ(m.fit.type[i], tune.Token(at));
    EXPECT_EQ(m.questions[0].fit.label[i], at % 16 / 4);
    EXPECT_EQ(m.questions[1].fit.number[i], at % 16);
    EXPECT_EQ(m.questions[4].fit.label[i], frequency[tune.Token(at + 1)]);
  }
  int64_t seen = 0;
  for (int64_t pass = 0; pass < source->passes(probes::Side::kFit); ++pass) {
    for (const at::Tensor& state : source->States(probes::Side::kFit, pass)) {
      EXPECT_EQ(state.size(1), 64);
      seen += state.size(0);
    }
  }
  EXPECT_EQ(seen, 3 * m.fit.size());
  const std::vector<at::Tensor> first = source->States(probes::Side::kFit, 0);
  ASSERT_EQ(first.size(), 3u);
  const std::vector<at::Tensor> whole =
      HiddenStates(bundle, 0, WindowIds(tune, {asked[20] / 16 * 16}, 0, 1, 16));
  for (size_t l = 0; l < 3; ++l)
    EXPECT_LE((first[l][20] - whole[l][asked[20] % 16]).abs().max().item<double>(), 1e-5) << l;

  // Of texts: the mean without the separator, or the last token's.
  const json file = LabelFile("labels.jsonl", false);
  for (const probes::Pool pool : {probes::Pool::kMean, probes::Pool::kLast}) {
    const auto texts = probes::TextSource(
        bundle, 0, data::ReadClassification(file["path"], *tokenizer, {.seq_len = 16}), pool, 100);
    const data::ClassificationData read =
        data::ReadClassification(file["path"], *tokenizer, {.seq_len = 16});
    const probes::Material of = texts->Ask();
    EXPECT_EQ(of.questions.size(), 1u);
    const std::vector<at::Tensor> states = texts->States(probes::Side::kScore, 0);
    // The first pass has the shortest texts, in the order of the file.
    const auto& all = read.split(data::ClassSplit::kTest);
    const auto shortest =
        std::min_element(all.begin(), all.end(),
                         [](const auto& a, const auto& b) { return a.ids.size() < b.ids.size(); });
    EXPECT_EQ(of.questions[0].score.label[0], shortest->label);
    const auto T = static_cast<int64_t>(shortest->ids.size());
    const std::vector<at::Tensor> by_token =
        HiddenStates(bundle, 0, at::tensor(shortest->ids, at::kLong).view({1, 1, T}));
    for (size_t l = 0; l < 3; ++l) {
      const at::Tensor expected = pool == probes::Pool::kLast
                                      ? by_token[l][T - 1]
                                      : by_token[l].narrow(0, 1, T - 1).mean(0);
      EXPECT_LE((states[l][0] - expected).abs().max().item<double>(), 1e-5) << l;
    }
  }
}

TEST_F(LinearProbeStage, ANumberDoesNotDependOnWhatElseIsAsked) {
  const spec::TrialSpec s = Wide(spec::PositionKind::kRope);
  const Told all = After(s, {{"tokens", 1200}, {"score_tokens", 600}});
  const Told one = After(s, {{"tokens", 1200},
                             {"score_tokens", 600},
                             {"properties", {"character_class"}},
                             {"methods", {"ridge"}}});
  ASSERT_EQ(one.outcome, RowOutcome::kSucceeded) << one.cause;
  EXPECT_GT(one.points.size(), 10u);
  for (const auto& [key, value] : one.points) EXPECT_NEAR(all.points.at(key), value, 1e-9);
  EXPECT_FALSE(one.points.contains({"linear_probe/character_class/logistic/accuracy", 0, 1}));
  EXPECT_FALSE(one.points.contains({"linear_probe/position/ridge/accuracy", 0, 1}));
}

TEST_F(LinearProbeStage, ReadsThePositionWhereThereIsATableOfThem) {
  const spec::TrialSpec s = Wide(spec::PositionKind::kLearned);
  const Told t = After(s, {{"tokens", 2400}, {"score_tokens", 1200}, {"properties", {"position"}}});
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_GT(At(t, "position/ridge/r2", 0), 0.3);
  EXPECT_GT(At(t, "position/logistic/accuracy", 0), At(t, "position/majority", -1) + 0.2);
  EXPECT_NEAR(At(t, "position/majority", -1), 0.25, 0.02);
}

TEST_F(LinearProbeStage, ReadsTheLabelsOfTextsAndNoneThatAreShuffled) {
  const spec::TrialSpec s = Wide(spec::PositionKind::kRope);
  json settings = {{"properties", {"label"}}, {"file", LabelFile("labels.jsonl", false)}};
  for (const char* pool : {"mean", "last"}) {
    settings["pool"] = pool;
    const Told t = After(s, settings);
    ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
    EXPECT_EQ(At(t, "label/ridge/accuracy", 0), 1) << pool;
    EXPECT_GE(At(t, "label/logistic/accuracy", 0), 0.97) << pool;
    EXPECT_FALSE(t.points.contains({"linear_probe/label/ridge/control_accuracy", 0, 1}));
    const json about = One(t, "linear_probe_property", "label");
    EXPECT_EQ(about["n"].get<int64_t>() + about["n_held_out"].get<int64_t>(), 200);
    EXPECT_EQ(about["classes"], json({"large", "small"}));
    EXPECT_EQ(about["pool"], pool);
    EXPECT_EQ(about["fit"], "train");
    EXPECT_EQ(about["score_on"], "test");
  }
  settings["file"] = LabelFile("shuffled.jsonl", true);
  const Told t = After(s, settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  for (int64_t l = 0; l <= 2; ++l) EXPECT_LE(At(t, "label/ridge/accuracy", l), 0.75) << l;
}

TEST_F(LinearProbeStage, SaysWhatItCannotDo) {
  const spec::TrialSpec s = Wide(spec::PositionKind::kRope);
  EXPECT_THAT(After(s, {{"fit", "val"}}).cause, HasSubstr("name another split"));
  EXPECT_THAT(After(s, {{"properties", {"label"}}}).cause, HasSubstr("file: \"labels.jsonl\""));
  const json file = LabelFile("labels.jsonl", false);
  EXPECT_THAT(After(s, {{"file", file}}).cause, HasSubstr("add label"));
  const Told few = After(s, {{"tokens", 1}, {"properties", {"position"}}});
  ASSERT_EQ(few.outcome, RowOutcome::kSucceeded) << few.cause;
  EXPECT_THAT(One(few, "linear_probe_property", "position")["warnings"],
              Contains(HasSubstr("fewer than the 64 dimensions of a state")));
  const Told cut = After(s, {{"properties", {"label"}}, {"file", file}, {"max_tokens", 17}});
  EXPECT_EQ(cut.outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(cut.cause, HasSubstr("longer than what the trial was made for, 16"));
  const Told pair = After(s, {{"properties", {"label"}}, {"file", file}, {"max_tokens", 4}});
  ASSERT_EQ(pair.outcome, RowOutcome::kSucceeded) << pair.cause;
  EXPECT_THAT(One(pair, "linear_probe_property", "label")["warnings"],
              Contains(HasSubstr("200 texts were longer and lost their end")));
  data::Manifest m = data::ReadManifest(data_.path());
  m.tokenizer = "ids:64";
  std::ofstream(data_.path() + "/manifest.json") << data::ManifestJson(m);
  const Told ids = After(s, {{"tokens", 600}});
  EXPECT_EQ(ids.outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(ids.cause, HasSubstr("has ids only, no text: leave out character_class"));
  EXPECT_EQ(After(s, {{"tokens", 600}, {"properties", {"next_token_frequency"}}}).outcome,
            RowOutcome::kSucceeded);
  m.splits[1] = WriteSplit(data_.path(), data::Split::kTune, {4, 4});
  std::ofstream(data_.path() + "/manifest.json") << data::ManifestJson(m);
  const Told shorter = After(s, {{"properties", {"position"}}});
  EXPECT_EQ(shorter.outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(shorter.cause, HasSubstr("fewer than a sequence of 16"));
  // A window of empty documents.
  m.splits[1] = WriteSplit(data_.path(), data::Split::kTune, std::vector<int64_t>(20, 0));
  std::ofstream(data_.path() + "/manifest.json") << data::ManifestJson(m);
  const Told empty = After(s, {{"properties", {"position"}}});
  EXPECT_EQ(empty.outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(empty.cause, HasSubstr("tune has 0 examples to fit on; there must be 5"));
}

class ProbesOfBlocks : public ::testing::TestWithParam<BlockCase> {};

TEST_P(ProbesOfBlocks, ReadEveryStateOfEachRowByItself) {
  const spec::TrialSpec s = SpecOf(GetParam());
  testing::TempDir data;
  WriteCorpus(data.path());
  data::Manifest m = data::ReadManifest(data.path());
  m.splits[1] = WriteSplit(data.path(), data::Split::kTune, {300, 33, 100});
  std::ofstream(data.path() + "/manifest.json") << data::ManifestJson(m);
  const data::Dataset dataset = data::Dataset::Open(data.path());
  const auto tokenizer = data::BytesTokenizer();
  Bundle bundle(s.model, 8, 2, at::kCPU);
  bundle.Add(5), bundle.Add(6);
  const auto found = [&](int64_t row) {
    probes::Probing probing(
        probes::TokenSource(
            bundle, row, dataset, tokenizer.get(), s,
            {.properties = {"position", "character_class"}, .tokens = 320, .sample = 64}),
        StreamMoves(s.model), {});
    for (int64_t i = probing.pieces(); i > 0; --i) probing.Advance();
    return probing.Finish();
  };
  const probes::Findings one = found(0), other = found(1);
  ASSERT_EQ(static_cast<int64_t>(one.probes.size()), 4 * (StreamMoves(s.model) + 1));
  bool differs = false;
  for (size_t i = 0; i < one.probes.size(); ++i) {
    const double accuracy = one.probes[i].metrics.front().second;
    EXPECT_GE(accuracy, 0);
    EXPECT_LE(accuracy, 1);
    differs |= accuracy != other.probes[i].metrics.front().second;
  }
  EXPECT_TRUE(differs);
}

INSTANTIATE_TEST_SUITE_P(Blocks, ProbesOfBlocks, ::testing::ValuesIn(EveryBlock()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace plumb::trainer
