#include "trainer/spec/mixture.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "trainer/spec/parse.h"

namespace plumb::spec {
namespace {

std::string CanonicalOf(const std::string& text) {
  std::string out;
  EXPECT_EQ(CanonicalMix(text, &out), "") << text;
  std::string again;
  EXPECT_EQ(CanonicalMix(out, &again), "");
  EXPECT_EQ(again, out) << "the canonical form is its own";
  return out;
}
std::string WrongMix(const std::string& text) {
  std::string out = "untouched";
  const std::string wrong = CanonicalMix(text, &out);
  EXPECT_EQ(out, "untouched");
  return wrong;
}
std::string PhasesOf(const std::string& text) {
  std::string out, again;
  EXPECT_EQ(CanonicalPhases(text, &out), "") << text;
  EXPECT_EQ(CanonicalPhases(out, &again), "");
  EXPECT_EQ(again, out);
  return out;
}

TEST(Mixture, EqualMixesHaveOneText) {
  EXPECT_EQ(CanonicalOf(""), "");
  EXPECT_EQ(CanonicalOf("ja=3,en=7"), "en=0.7,ja=0.3");
  EXPECT_EQ(CanonicalOf(" ja = 0.3 , en=.7"), "en=0.7,ja=0.3");
  EXPECT_EQ(CanonicalOf("ja=1,en=0"), "ja=1");
  EXPECT_EQ(CanonicalOf("c=1,b=1,a=1"), "a=0.333334,b=0.333333,c=0.333333");
  EXPECT_EQ(CanonicalOf("a=2,b=1"), "a=0.666667,b=0.333333");
  EXPECT_EQ(CanonicalOf("a=1,b=999999"), "a=0.000001,b=0.999999");
}

TEST(Mixture, SaysWhatIsWrongWithAMix) {
  EXPECT_NE(WrongMix("ja").find("part=weight"), std::string::npos);
  EXPECT_NE(WrongMix("ja=1,ja=2").find("twice"), std::string::npos);
  EXPECT_NE(WrongMix("ja=-1").find("weight of ja"), std::string::npos);
  EXPECT_NE(WrongMix("ja=nan").find("weight of ja"), std::string::npos);
  EXPECT_NE(WrongMix("ja=1x").find("weight of ja"), std::string::npos);
  EXPECT_NE(WrongMix("ja=0").find("every weight is 0"), std::string::npos);
  EXPECT_NE(WrongMix("Ja=1").find("no name of a part"), std::string::npos);
  EXPECT_NE(WrongMix("a=1,b=1e-9").find("millionth"), std::string::npos);
  EXPECT_NE(WrongMix("a=1,").find("part=weight"), std::string::npos);
}

TEST(Mixture, PhasesAreFractionsOfTheStepsAndMixes) {
  EXPECT_EQ(PhasesOf("0.5:ja=1;0.5:ja=1,en=1"), "0.5:ja=1;0.5:en=0.5,ja=0.5");
  EXPECT_EQ(PhasesOf("0.333:a=1;0.333:b=1;0.333:a=1"), "0.333334:a=1;0.333333:b=1;0.333333:a=1");
  EXPECT_EQ(PhasesOf("0.25:a=1;0.25:a=2;0.5:b=1"), "0.5:a=1;0.5:b=1") << "neighbours are merged";
  std::string out;
  EXPECT_NE(CanonicalPhases("0.5:a=1;0.4:b=1", &out).find("add up to 0.9"), std::string::npos);
  EXPECT_NE(CanonicalPhases("a=1;b=1", &out).find("fraction:mix"), std::string::npos);
  EXPECT_NE(CanonicalPhases("0.5:a=1;0.5:b", &out).find("phase 2"), std::string::npos);
  EXPECT_NE(CanonicalPhases("0:a=1;1:b=1", &out).find("fraction"), std::string::npos);
}

TEST(Mixture, MillionthsAddUpAndKeepWhatIsThere) {
  EXPECT_EQ(Millionths({1, 1, 1}), (std::vector<int64_t>{333334, 333333, 333333}));
  EXPECT_EQ(Millionths({1e9, 1}), (std::vector<int64_t>{999999, 1}));
  EXPECT_EQ(Millionths({1e9, 1, 0}), (std::vector<int64_t>{999999, 1, 0}));
  const auto many = Millionths({0.1, 0.2, 0.3, 17, 1e-9, 3.14159});
  EXPECT_EQ(std::accumulate(many.begin(), many.end(), int64_t{0}), kMillionths);
}

TrialSpec Resolved(const std::string& text) {
  TrialSpec s;
  const auto errors = ParseResolved(text, &s);
  EXPECT_TRUE(errors.empty()) << Format(errors);
  return s;
}

TEST(Mixture, PhasesOnACorpusAreStepsAndWeights) {
  const std::vector<CorpusPart> parts = {{"en", 3000}, {"ja", 1000}};
  std::vector<PartPhase> phases;
  TrialSpec s = Resolved(R"({"train": {"steps": 11, "batch_tokens": 128}})");
  ASSERT_EQ(PhasesOn(s, parts, &phases), "");
  ASSERT_EQ(phases.size(), 1u);
  EXPECT_EQ(phases[0].end_step, 11);
  EXPECT_EQ(phases[0].weights, (std::vector<int64_t>{750000, 250000})) << "by their tokens";
  s.data.phases = "0.5:ja=1;0.5:en=0.2,ja=0.8";
  ASSERT_EQ(PhasesOn(s, parts, &phases), "");
  ASSERT_EQ(phases.size(), 2u);
  EXPECT_EQ(phases[0].end_step, 6);
  EXPECT_EQ(phases[1].begin_step, 6);
  EXPECT_EQ(phases[1].end_step, 11);
  EXPECT_EQ(phases[0].weights, (std::vector<int64_t>{0, 1000000}));
  EXPECT_EQ(phases[1].weights, (std::vector<int64_t>{200000, 800000}));
  const auto tokens = TokensByPart(s, phases);
  EXPECT_DOUBLE_EQ(tokens[0], 5 * 128 * 0.2);
  EXPECT_DOUBLE_EQ(tokens[1], 6 * 128 + 5 * 128 * 0.8);
  s.data.phases.clear(), s.data.mix = "fr=1";
  EXPECT_EQ(PhasesOn(s, parts, &phases), "data.mix: the corpus has no part fr; it has en, ja");
}

TEST(Mixture, EntersTheKeyOnlyWhereItIsGiven) {
  const std::string train = R"("train": {"steps": 10, "batch_tokens": 128})";
  const TrialSpec plain = Resolved("{" + train + "}");
  EXPECT_EQ(Canonical(plain, With::kResultOnly).contains("data"), false);
  const TrialSpec mixed = Resolved(R"({"data": {"mix": "ja=1,en=1"}, )" + train + "}");
  EXPECT_NE(Key(plain), Key(mixed));
  EXPECT_EQ(Key(mixed), Key(Resolved(R"({"data": {"mix": "en=5,ja=5"}, )" + train + "}")));
  EXPECT_EQ(Key(mixed),
            Key(Resolved(R"({"data": {"phases": "0.5:en=1,ja=1;0.5:en=2,ja=2"}, )" + train + "}")))
      << "one phase is no phase";
  EXPECT_EQ(FusionKey(plain), FusionKey(mixed)) << "rows may read different mixtures";
}

TEST(Mixture, OfPhasesAndMixOnlyOneIsGiven) {
  TrialSpec s;
  EXPECT_FALSE(ParseResolved(R"({"data": {"mix": "a=1", "phases": "0.5:a=1;0.5:b=1"},
                                 "train": {"steps": 1}})",
                             &s)
                   .empty());
}

TEST(Epochs, NeedACorpus) {
  TrialSpec s;
  const auto errors = ParseResolved(R"({"train": {"epochs": 2}})", &s);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].path, "train.epochs");
  ASSERT_TRUE(ParseText(R"({"train": {"epochs": 2, "batch_tokens": 1024}})", &s).empty());
  ResolveEpochs(&s, 100000);
  EXPECT_TRUE(Resolve(&s).empty());
  EXPECT_EQ(s.train.steps, 195);  // 2 · 100000 / 1024 = 195.3
  EXPECT_EQ(s.train.epochs, 0);
  ASSERT_TRUE(ParseText(R"({"train": {"epochs": 2, "steps": 3}})", &s).empty());
  ResolveEpochs(&s, 100000);
  EXPECT_FALSE(Resolve(&s).empty()) << "two budgets";
}

}  // namespace
}  // namespace plumb::spec
