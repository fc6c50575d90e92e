// Linear probes: what is asked, ridge and logistic maps against scikit-learn and closed forms.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "trainer/counter_random.h"
#include "trainer/probes/logistic.h"
#include "trainer/probes/material.h"
#include "trainer/probes/ridge.h"
#include "trainer/probes/tally.h"

namespace plumb::trainer::probes {
namespace {

using at::Tensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = Question::Kind;

double Number(const Tensor& t) { return t.item<double>(); }
double Apart(const Tensor& a, const Tensor& b) { return Number((a - b).abs().max()); }

Tensor Normal(int64_t n, int64_t d, uint64_t key) {
  const CounterRandom random(Mix(key));
  Tensor t = at::empty({n, d}, at::kDouble);
  for (int64_t i = 0; i < n * d; ++i) t.data_ptr<double>()[i] = random.Normal(i);
  return t;
}

Tensor Ints(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }
Tensor OneHot(const Tensor& label, int64_t classes) {
  return at::zeros({label.size(0), classes}, at::kDouble).scatter_(1, label.unsqueeze(1), 1.0);
}
Tensor Said(const AffineMap& map, const Tensor& x) { return x.mm(map.weight) + map.bias; }

TEST(CharacterClass, IsThatOfTheFirstCharacterThatIsNoWhiteSpace) {
  const auto named = [](const char* text) { return CharacterClasses()[CharacterClass(text)]; };
  EXPECT_EQ(named("the"), "lower");
  EXPECT_EQ(named(" \tThe"), "upper");
  EXPECT_EQ(named("\n7x"), "digit");
  EXPECT_EQ(named(" (a"), "punctuation");
  EXPECT_EQ(named("_"), "punctuation");
  EXPECT_EQ(named(" \r\n"), "space");
  EXPECT_EQ(named("\xe3\x81\x82"), "other");
  EXPECT_EQ(named("\x01"), "other");
  EXPECT_EQ(named("\x7f"), "other");
  EXPECT_EQ(named(""), "other");
}

TEST(FrequencyClasses, HaveAboutEqualMassTheMostFrequentFirst) {
  //                                  40 %                 20 %, 20 %      10 %, 10 %
  EXPECT_THAT(FrequencyClasses({0, 10, 40, 20, 0, 20, 10}, 4), ElementsAre(3, 3, 0, 1, 3, 2, 3));
  EXPECT_THAT(FrequencyClasses({1, 1, 1, 1}, 2), ElementsAre(0, 0, 1, 1));
  // One that has more than a class: the next is where it ends.
  EXPECT_THAT(FrequencyClasses({60, 40}, 4), ElementsAre(0, 2));
}

TEST(ChoosingPart, IsAboutAFifthByWholeDocuments) {
  std::vector<int64_t> document;
  for (int64_t d = 0; d < 40; ++d) document.insert(document.end(), 1 + d % 7, d);
  const std::vector<uint8_t> chosen = ChoosingPart(document);
  std::set<int64_t> of[2];
  double n = 0;
  for (size_t i = 0; i < chosen.size(); ++i) of[chosen[i]].insert(document[i]), n += chosen[i];
  for (const int64_t d : of[1]) EXPECT_FALSE(of[0].contains(d)) << d;
  EXPECT_NEAR(n / static_cast<double>(chosen.size()), 0.2, 0.05);
  // Two documents: the smaller. One: its end.
  EXPECT_THAT(ChoosingPart({1, 1, 1, 2, 2}), ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THAT(ChoosingPart({1, 1, 1, 1, 1}), ElementsAre(0, 0, 0, 0, 1));
}

Material Asked(int64_t n, const std::function<int32_t(int64_t)>& label) {
  Material m{.fit_name = "tune", .score_name = "val"};
  m.questions.push_back({.property = "p", .classes = {"a", "b", "c"}, .with_control = true});
  for (int64_t i = 0; i < n; ++i) {
    m.fit.document.push_back(i / 4), m.score.document.push_back(i / 4);
    m.fit.type.push_back(i % 50), m.score.type.push_back(i % 50);
    m.questions[0].fit.label.push_back(label(i));
    m.questions[0].score.label.push_back(label(i));
  }
  return m;
}

TEST(Material, LeavesOutClassesThatCannotBeFittedAndSaysSo) {
  Material m = Asked(200, [](int64_t i) { return i == 17 ? 1 : i % 2 == 0 ? 0 : 2; });
  Complete(&m, 100);
  EXPECT_THAT(m.questions[0].classes, ElementsAre("a", "c"));
  EXPECT_EQ(m.questions[0].fit.label[17], -1);
  EXPECT_EQ(m.questions[0].score.label[19], 1);
  EXPECT_THAT(m.questions[0].warnings,
              ElementsAre("class b is left out: tune has 1 of it, too few to fit, val has 1"));
  EXPECT_THAT(m.warnings, IsEmpty());
  EXPECT_EQ(m.sample.size(), 100u);
  EXPECT_TRUE(std::is_sorted(m.sample.begin(), m.sample.end()));
  EXPECT_NE(m.sample, std::vector<int64_t>({0, 2, 4}));
}

TEST(Material, SaysWhatIsTooLittleToAsk) {
  const auto why = [](Material m) -> std::string {
    try {
      Complete(&m, 100);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(why(Asked(200, [](int64_t) { return 2; })),
              HasSubstr("p: only class c has enough examples in tune; there is nothing to tell "
                        "apart: leave the property out"));
  EXPECT_THAT(why(Asked(4, [](int64_t i) { return i % 2; })),
              HasSubstr("tune has 4 examples to fit on; there must be 5"));
  Material none = Asked(100, [](int64_t i) { return i % 2; });
  none.questions[0].score.label.assign(100, 2);
  EXPECT_THAT(why(none), HasSubstr("p: val has no example of a class that was fitted"));
  none.score = {}, none.questions[0].score.label.clear();
  EXPECT_THAT(why(none), HasSubstr("val has no example to judge on"));
  Material one = Asked(100, [](int64_t i) { return i % 2; });
  one.fit.document.assign(100, 0), one.score.document.assign(100, 0);
  Complete(&one, 100);
  EXPECT_THAT(one.warnings, ElementsAre(HasSubstr("tune: all is one document"),
                                        HasSubstr("judged on 1 documents of val")));
}

TEST(Material, AControlHasAClassForEachTypeWithTheFrequenciesOfTheProperty) {
  Material m = Asked(20000, [](int64_t i) { return i % 10 == 0 ? 1 : i % 10 < 4 ? 0 : 2; });
  for (int64_t i = 0; i < 20000; ++i) m.fit.type[i] = i % 5000, m.score.type[i] = (i + 7) % 5000;
  m.questions[0].fit.label[3] = -1;
  Complete(&m, 1000);
  ASSERT_EQ(m.questions.size(), 2u);
  const Question& control = m.questions[1];
  EXPECT_EQ(control.kind, Kind::kControl);
  EXPECT_EQ(control.property, "p");
  EXPECT_EQ(control.fit.label[3], -1) << "asked of the same examples";
  std::map<int64_t, int32_t> by_type;
  double n[3] = {};
  for (int64_t i = 4; i < 20000; ++i) {
    const int32_t label = control.fit.label[i];
    EXPECT_EQ(by_type.try_emplace(m.fit.type[i], label).first->second, label);
    ++n[label];
  }
  EXPECT_EQ(control.score.label[100], by_type.at(107));
  EXPECT_NEAR(n[0] / 19996, 0.3, 0.03);
  EXPECT_NEAR(n[1] / 19996, 0.1, 0.02);
  EXPECT_NEAR(n[2] / 19996, 0.6, 0.03);
}

TEST(Tally, ErrorsAreOfDocumentsNotOfTokens) {
  // Single tokens: the standard deviation of 0, 0, 1, 1 over the root of 4.
  Tally single(4), whole(4), one(1);
  for (int64_t d = 0; d < 4; ++d) {
    single.Add(d, d < 2);
    // Ten tokens of a document that are all alike say no more than one of them.
    for (int i = 0; i < 10; ++i) whole.Add(d, d < 2);
    one.Add(0, d < 2);
  }
  EXPECT_EQ(single.mean(), 0.5);
  EXPECT_NEAR(single.standard_error(), std::sqrt(1.0 / 3) / 2, 1e-15);
  EXPECT_NEAR(whole.standard_error(), single.standard_error(), 1e-15);
  EXPECT_TRUE(std::isnan(one.standard_error()));
}

struct Moved {
  LabelMoments moments{1};
  Tensor x, y;
};
Moved Of(const Tensor& x, const Tensor& y) {
  Moved m{.x = x, .y = y};
  m.moments.Add({x}, y);
  return m;
}
AffineMap RidgeOf(const Moved& m, double penalty) {
  return Ridge(m.moments, 0, linearity::SpectrumOf(m.moments.gram(0)), {0, m.y.size(1)}, penalty);
}

TEST(Ridge, RecoversAnAffineMapAndLeavesNothing) {
  const Tensor x = Normal(300, 7, 1) + 50, map = Normal(7, 2, 2), bias = Normal(1, 2, 3)[0];
  const Moved m = Of(x, x.mm(map) + bias);
  EXPECT_LE(Apart(RidgeOf(m, 0).weight, map), 1e-10);
  EXPECT_LE(Apart(Said(RidgeOf(m, 0), x), m.y), 1e-9);
  const Tensor unseen = Normal(50, 7, 4) + 50;
  const Moved rest = Of(unseen, unseen.mm(map) + bias);
  const RidgeFit fit = FitRidge(m.moments, rest.moments, 0, {{0, 2}});
  EXPECT_THAT(fit.penalty, ElementsAre(RidgePenalties().front()));
  EXPECT_LE(Apart(Said(fit.map, unseen), rest.y), 1e-4);
}

TEST(Ridge, ChoosesWhatHasTheLeastErrorOnTheOtherPart) {
  const Tensor towards = Normal(12, 1, 5);
  const auto draw = [&](int64_t n, uint64_t key) {
    const Tensor x = Normal(n, 12, key);
    return Of(x, at::cat({x.mm(towards) + 3 * Normal(n, 1, key + 1), Normal(n, 1, key + 2)}, 1));
  };
  const Moved fit = draw(40, 10), other = draw(30, 20);
  const RidgeFit chosen = FitRidge(fit.moments, other.moments, 0, {{.first = 0}, {.first = 1}});
  for (int64_t q = 0; q < 2; ++q) {
    double least = INFINITY, best = 0;
    for (const double penalty : RidgePenalties()) {
      const double error =
          Number((Said(RidgeOf(fit, penalty), other.x) - other.y).select(1, q).square().sum());
      if (error < least) least = error, best = penalty;
    }
    EXPECT_EQ(chosen.penalty[q], best) << q;
  }
  EXPECT_GE(chosen.penalty[1], 1) << "there is nothing to read";
  const Moved both = Of(at::cat({fit.x, other.x}), at::cat({fit.y, other.y}));
  const AffineMap again = RidgeOf(both, chosen.penalty[0]);
  EXPECT_LE(Apart(chosen.map.weight.select(1, 0), again.weight.select(1, 0)), 1e-12)
      << "parts merge to the whole";
  EXPECT_LE(Apart(chosen.map.bias[0], again.bias[0]), 1e-12);
}

TEST(Ridge, StandsColumnsThatAreEqualConstantOrMassive) {
  Tensor x = Normal(100, 6, 30);
  const Tensor y = x.narrow(1, 0, 1) + 0.1 * Normal(100, 1, 31);
  const Tensor plain = Said(RidgeOf(Of(x, y), 1e-3), x);
  Tensor massive = x.clone();
  massive.select(1, 2).mul_(1e6).add_(1e9);
  EXPECT_LE(Apart(Said(RidgeOf(Of(massive, y), 1e-3), massive), plain), 1e-6);
  x.select(1, 4).fill_(3);
  x.select(1, 5).copy_(x.select(1, 0));
  const AffineMap map = RidgeOf(Of(x, y), 0);
  EXPECT_EQ(Number(map.weight[4][0]), 0);
  EXPECT_NEAR(Number(map.weight[5][0]), Number(map.weight[0][0]), 1e-10);
}

// probes/make_probe_fixtures.py: scikit-learn, float64.
TEST(Probes, AreThoseOfScikitLearn) {
  std::ifstream file(PLUMB_SOURCE_DIR "/tests/trainer/probes/probes.json");
  int cases = 0;
  for (const nlohmann::json& c : nlohmann::json::parse(file)) {
    ++cases;
    const std::string name = c["name"];
    const auto matrix = [&](const char* of) {
      const auto n = static_cast<int64_t>(c[of].size()), d = static_cast<int64_t>(c[of][0].size());
      Tensor t = at::empty({n, d}, at::kDouble);
      for (int64_t i = 0; i < n * d; ++i) t.data_ptr<double>()[i] = c[of][i / d][i % d];
      return t;
    };
    const Tensor x = matrix("x"), held_out = matrix("held_out");
    const Tensor label = Ints(c["label"]), held_out_label = Ints(c["held_out_label"]);
    const int64_t classes = c["classes"];
    const auto accuracy = [&](const AffineMap& map) {
      return Number(Said(map, held_out).argmax(1).eq(held_out_label).to(at::kDouble).mean());
    };
    const AffineMap ridge = RidgeOf(Of(x, OneHot(label, classes)), c["ridge_penalty"]);
    const Tensor weight = matrix("ridge_weight");
    EXPECT_LE(Number(((ridge.weight - weight) / weight.abs().max()).abs().max()), 1e-9) << name;
    EXPECT_LE(Apart(ridge.bias, at::tensor(c["ridge_bias"].get<std::vector<double>>())), 1e-9)
        << name;
    EXPECT_NEAR(accuracy(ridge), c["ridge_accuracy"].get<double>(), 1e-12) << name;

    const LogisticFit fit = Logistic(x).Fit(label, classes, c["logistic_penalty"]);
    EXPECT_LE(fit.gradient, Logistic::kTolerance) << name;
    EXPECT_NEAR(fit.objective, c["logistic_objective"].get<double>(), 1e-9) << name;
    EXPECT_NEAR(accuracy(fit.map), c["held_out_accuracy"].get<double>(), 1e-12) << name;
    const auto loss = [&](const Tensor& of, const Tensor& wanted) {
      return -Number(at::log_softmax(Said(fit.map, of), 1).gather(1, wanted.unsqueeze(1)).mean());
    };
    EXPECT_NEAR(loss(x, label), c["logistic_loss"].get<double>(), 1e-6) << name;
    EXPECT_NEAR(loss(held_out, held_out_label), c["held_out_loss"].get<double>(), 1e-4) << name;
  }
  EXPECT_EQ(cases, 4);
}

TEST(Logistic, OfStatesThatSayNothingIsTheEntropyOfTheLabels) {
  std::vector<int64_t> label;
  for (int i = 0; i < 100; ++i) label.push_back(i < 50 ? 0 : i < 80 ? 1 : 2);
  const LogisticFit fit = Logistic(at::full({100, 4}, 7.0, at::kDouble)).Fit(Ints(label), 3, 1e-3);
  EXPECT_NEAR(fit.objective, -(0.5 * std::log(0.5) + 0.3 * std::log(0.3) + 0.2 * std::log(0.2)),
              1e-10);
  EXPECT_EQ(Number(fit.map.weight.abs().max()), 0);
}

TEST(Logistic, DoesNotDependOnTheScaleOfADimensionNorOnExamplesWithoutALabel) {
  const Tensor x = Normal(200, 5, 40);
  const Tensor label = (x.mm(Normal(5, 3, 41)) + Normal(200, 3, 42)).argmax(1);
  const LogisticFit plain = Logistic(x).Fit(label, 3, 1e-3);
  Tensor massive = x.clone();
  massive.select(1, 1).mul_(1e5).add_(1e7);
  EXPECT_NEAR(Logistic(massive).Fit(label, 3, 1e-3).objective, plain.objective, 1e-9);
  // The features are standardised over all states, so only what has no label is added: mirrored,
  // which moves neither mean nor deviation.
  const Tensor around = x.mean(0);
  const Tensor twice = at::cat({x, 2 * around - x});
  const Tensor some = at::cat({label, at::full({200}, -1, at::kLong)});
  EXPECT_NEAR(Logistic(twice).Fit(some, 3, 1e-3).objective, plain.objective, 1e-9);
}

TEST(Logistic, ChoosesTheLastPenaltyBeforeTheOtherPartsLossRises) {
  const Tensor x = Normal(120, 10, 60);
  const Tensor label = (0.5 * x.mm(Normal(10, 3, 61)) + Normal(120, 3, 62)).argmax(1);
  Tensor chooses = at::zeros({120}, at::kBool);
  chooses.slice(0, 80, 120).fill_(1);
  const Logistic logistic(x);
  const Tensor fitted = at::where(chooses, at::full_like(label, -1), label);
  std::vector<double> losses;
  for (const double penalty : LogisticPenalties()) {
    const Tensor log_p = at::log_softmax(Said(logistic.Fit(fitted, 3, penalty).map, x), 1);
    losses.push_back(-Number(log_p.gather(1, label.unsqueeze(1)).slice(0, 80, 120).mean()));
  }
  const size_t best = std::min_element(losses.begin(), losses.end()) - losses.begin();
  ASSERT_GT(best, 0u);
  ASSERT_LT(best + 1, losses.size()) << "it would be no choice";
  const LogisticFit chosen = logistic.Choose(label, 3, chooses);
  EXPECT_EQ(chosen.penalty, LogisticPenalties()[best]);
  EXPECT_NEAR(chosen.objective, logistic.Fit(label, 3, chosen.penalty).objective, 1e-10)
      << "then of all";
}

TEST(Logistic, ReadsWhatIsSeparableAndFindsNothingInRandomLabels) {
  const Tensor x = Normal(3000, 6, 50), unseen = Normal(1000, 6, 51), map = Normal(6, 3, 52);
  Tensor chooses = at::zeros({3000}, at::kBool);
  chooses.slice(0, 0, 600).fill_(1);
  const Logistic logistic(x);
  const LogisticFit fit = logistic.Choose(x.mm(map).argmax(1), 3, chooses);
  EXPECT_LE(fit.penalty, 1e-3);
  EXPECT_GE(
      Number(Said(fit.map, unseen).argmax(1).eq(unseen.mm(map).argmax(1)).to(at::kDouble).mean()),
      0.98);
  const LogisticFit chance = logistic.Choose(Normal(3000, 3, 53).argmax(1), 3, chooses);
  EXPECT_GE(chance.penalty, 1);
  EXPECT_LE(chance.gradient, Logistic::kTolerance);
  const Tensor loss = -at::log_softmax(Said(chance.map, unseen), 1)
                           .gather(1, Normal(1000, 3, 54).argmax(1).unsqueeze(1))
                           .mean();
  EXPECT_NEAR(Number(loss), std::log(3.0), 0.01);
}

}  // namespace
}  // namespace plumb::trainer::probes
