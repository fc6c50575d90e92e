// Stages that follow a training, on the real engine: probe, painters, finetune, evaluate; and what
// a router leaves.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/trainer/engine_fixture.h"
#include "trainer/measure_plan.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/sha256.h"
#include "trainer/spec/stage_settings.h"
#include "trainer/stages/painters.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {
namespace {

// docs/how-to/add-a-stage.md: an entry there and a file here.
TEST(StageRegistry, EveryKindOfTheRegistryIsRun) {
  for (const spec::StageKind& kind : spec::StageKindTable()) {
    const bool elsewhere =
        kind.name == "pretrain" || kind.name == "external" || kind.name == "noop";
    EXPECT_NE(HasStage(kind.name), elsewhere) << kind.name;
  }
}

using nlohmann::json;
using ::testing::HasSubstr;

class AfterTraining : public EngineTest {
 protected:
  static json One(const Told& t, const std::string& kind, const std::string& name,
                  int64_t index = 0) {
    return json::parse(t.records.at({kind, name, index}));
  }
  static double Of(const Told& t, const std::string& series, int64_t layer) {
    return t.points.at({series, layer, 1});
  }
};

TEST_F(AfterTraining, EvaluateAgreesWithTheTrainingsOwnScores) {
  const spec::TrialSpec s = Spec();
  const Told t = After(s, "evaluate", {{"splits", {"test", "val"}}});
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(t.at("evaluate/test/loss", 1), training_.at("test/loss", 23));
  EXPECT_EQ(t.at("evaluate/val/bits_per_byte", 1), training_.at("val/bits_per_byte", 23));
  const Told from = After(s, "evaluate", {{"from_position", 8}});
  EXPECT_EQ(from.at("evaluate/test/tokens", 1), 5 * 8 - 3);  // 77 targets in windows of 16
  EXPECT_EQ(After(s, "evaluate", {{"from_position", 16}}).outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(After(s, "evaluate", {{"routes", true}}).cause, HasSubstr("no router"));
  EXPECT_THAT(After(s, "evaluate", {{"split", "test"}}).cause, HasSubstr("did you mean splits"));
}

TEST_F(AfterTraining, ProbesSayWhatTheModelSays) {
  const spec::TrialSpec s = Spec(0.01, 1, 40);
  const json settings = {{"prompts", {"abc, d", "abc, "}},
                         {"top_k", 5},
                         {"generate", {{"tokens", 12}}},
                         {"attention", true}};
  const Told t = After(s, "probe", settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  const json top = One(t, "topk", "0");
  EXPECT_EQ(top["prompt"], "abc, d");
  ASSERT_EQ(top["candidates"].size(), 5u);
  double raw = 0, renormalised = 0, before = 1;
  for (const json& c : top["candidates"]) {
    raw += c["p"].get<double>(), renormalised += c["p_renormalised"].get<double>();
    EXPECT_LE(c["p"].get<double>(), before);
    before = c["p"];
    EXPECT_EQ(c["text"], std::string(1, static_cast<char>(c["id"].get<int>())));
  }
  EXPECT_NEAR(renormalised, 1, 1e-12);
  EXPECT_NEAR(top["candidates"][0]["p"].get<double>() / raw,
              top["candidates"][0]["p_renormalised"].get<double>(), 1e-12);
  // Greedy's first token is the likeliest.
  const json said = One(t, "generation", "0");
  EXPECT_EQ(said["tokens"][0], top["candidates"][0]["id"]);
  EXPECT_EQ(said["sampler"], "greedy");
  EXPECT_TRUE(said["temperature"].is_null());
  // Attention of both heads of the last layer; every row a distribution over what came before.
  for (int64_t head = 0; head < 2; ++head) {
    const json map = One(t, "attention", "0", head);
    EXPECT_EQ(map["layer"], 1);
    const size_t T = 7;  // the separator and six bytes
    ASSERT_EQ(map["matrix"].size(), T);
    double comma = 0, third = 0;
    for (size_t q = 0; q < T; ++q) {
      double sum = 0, entropy = 0;
      for (size_t k = 0; k < T; ++k) {
        const double p = map["matrix"][q][k];
        sum += p, entropy -= p > 0 ? p * std::log(p) : 0;
        EXPECT_TRUE(k <= q || p == 0);
      }
      EXPECT_NEAR(sum, 1, 1e-6);
      EXPECT_NEAR(entropy, map["row_entropy"][q].get<double>(), 1e-9);
      comma += map["matrix"][q][4].get<double>() / T;
      if (q < 3) third += map["matrix"][q][q].get<double>() / 3;  // 3 q / 7 = 0 of 0, 1, 2
    }
    EXPECT_NEAR(map["comma_mass"].get<double>(), comma, 1e-9);
    EXPECT_NEAR(map["mean_diagonal_thirds"][0].get<double>(), third, 1e-9);
  }
  EXPECT_EQ(t.records, After(s, "probe", settings).records);
}

TEST_F(AfterTraining, SamplersDrawFromWhatTheirNamesSay) {
  const spec::TrialSpec s = Spec(0.01, 1, 40);
  const auto say = [&](json generate) {
    generate["tokens"] = 30;
    const Told t = After(s, "probe", {{"prompts", {"ab"}}, {"generate", generate}, {"top_k", 3}});
    EXPECT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
    return std::pair{One(t, "generation", "0"), One(t, "topk", "0")};
  };
  const auto a = say({{"sampler", "temperature"}, {"seed", 1}}).first;
  EXPECT_EQ(a, say({{"sampler", "temperature"}, {"seed", 1}}).first);
  EXPECT_NE(a["tokens"], say({{"sampler", "temperature"}, {"seed", 2}}).first["tokens"]);
  // One candidate, or hardly any temperature: greedy.
  const json greedy = say({{"sampler", "greedy"}}).first["tokens"];
  EXPECT_EQ(say({{"sampler", "top_k"}, {"top_k", 1}}).first["tokens"], greedy);
  EXPECT_EQ(say({{"sampler", "top_p"}, {"top_p", 1e-6}}).first["tokens"], greedy);
  EXPECT_EQ(say({{"sampler", "temperature"}, {"temperature", 1e-3}}).first["tokens"], greedy);
  std::set<int64_t> firsts;
  for (int64_t seed = 0; seed < 40; ++seed) {
    const auto [said, top] = say({{"sampler", "top_k"}, {"top_k", 3}, {"seed", seed}});
    firsts.insert(said["tokens"][0].get<int64_t>());
    if (seed > 0) continue;
    EXPECT_EQ(said["top_k"], 3);
  }
  EXPECT_EQ(firsts.size(), 3u);  // all three, and no other
}

TEST_F(AfterTraining, PaintersMeasureTheBaselineAndWhatWasAsked) {
  spec::TrialSpec s = Spec();
  s.model.n_layers = 5;
  const Told t = After(s, "painters",
                       {{"variants", {"skip", "random", "looped_parallel", "skip_one"}},
                        {"start_layers", {1, 2}},
                        {"repeats", {1, 3}},
                        {"seeds", {0, 1}}});
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(t.records.size(), 1u + 2 + 4 + 4 + 2);
  const json base = One(t, "painters", "baseline", 0);
  EXPECT_EQ(base["loss"].get<double>(), training_.at("val/loss", 23));
  for (const auto& [key, text] : t.records) {
    const json r = json::parse(text);
    EXPECT_EQ(r["tokens"], base["tokens"]);
    // Start layer 2 of 5: no layer is in the middle, so all but skip_one are the baseline.
    const bool same =
        r["start_layer"].is_null() || (r["start_layer"] == 2 && r["variant"] != "skip_one");
    if (r["variant"] == "random" && !same) continue;  // of two layers, as likely as not the order
    EXPECT_EQ(r["loss"] == base["loss"], same) << text;
  }
  EXPECT_THAT(After(s, "painters", {{"variants", {"skip"}}, {"start_layers", {3}}}).cause,
              HasSubstr("less than half"));
}

TEST_F(AfterTraining, FinetuneLearnsATaskThatCanBeLearnt) {
  // Two classes told by a letter.
  const std::string path = work_ / "task.jsonl";
  std::ofstream out(path);
  const CounterRandom random(5);
  for (int64_t i = 0; i < 120; ++i) {
    std::string text;
    for (int64_t j = 0; j < 4 + static_cast<int64_t>(random.Bits(i) % 5); ++j)
      text += static_cast<char>('a' + random.Bits(1000 + 16 * i + j) % 20);
    const bool yes = i % 2 == 0;
    text += yes ? 'y' : 'z';
    out << json{{"text", text}, {"label", yes ? "yes" : "no"}}.dump() << "\n";
  }
  out.close();
  const spec::TrialSpec s = Spec();
  const json task = {{"path", path}, {"sha256", spec::Sha256HexOfFile(path)}};
  json settings = {{"task", task}, {"epochs", 4},      {"batch", 8},
                   {"lr", 3e-3},   {"max_tokens", 16}, {"schedule", "linear"}};
  const Told t = After(s, "finetune", settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  ASSERT_EQ(t.records.size(), 3u);
  std::set<double> losses;
  for (int64_t i = 0; i < 3; ++i) {
    const json r = One(t, "finetune", "seed", i);
    EXPECT_EQ(r["seed"], i);
    EXPECT_GE(r["accuracy"].get<double>(), 0.9);
    EXPECT_EQ(r["nonfinite_batches"], 0);
    EXPECT_EQ(r["examples"].get<int64_t>() + r["train_examples"].get<int64_t>(), 120);
    EXPECT_EQ(r["steps"], (r["train_examples"].get<int64_t>() + 7) / 8 * 4);
    losses.insert(r["loss"].get<double>());
  }
  EXPECT_EQ(losses.size(), 3u);
  EXPECT_EQ(t.records, After(s, "finetune", settings).records);
  // With the layers' scores the runs are the same: each begins with the model as it was.
  settings["linearity"] = true;
  const Told scored = After(s, "finetune", settings);
  for (int64_t i = 0; i < 3; ++i)
    EXPECT_EQ(One(scored, "finetune", "seed", i), One(t, "finetune", "seed", i));
  const json before = One(scored, "finetune_linearity", "before")["series"]["linearity/score"];
  ASSERT_EQ(before.size(), static_cast<size_t>(s.model.n_layers));
  const Told stage = After(s, "linearity", json::object());
  EXPECT_EQ(Of(scored, "finetune/before/linearity/score", 0), Of(stage, "linearity/score", 0));
  EXPECT_EQ(before[0], Of(stage, "linearity/score", 0)) << "as the stage of that name measures it";
  double sum = 0;
  for (int64_t i = 0; i < 3; ++i) {
    const json after = One(scored, "finetune_linearity", "after", i);
    EXPECT_EQ(after["seed"], i);
    EXPECT_NE(after["series"]["linearity/score"][0], before[0]);
    sum += after["series"]["linearity/score"][0].get<double>();
  }
  EXPECT_DOUBLE_EQ(Of(scored, "finetune/after/linearity/score", 0), sum / 3);
  settings["linearity"] = false;
  // A rate that breaks everything: the batches that are not finite are counted, not hidden.
  settings["lr"] = 10, settings["seeds"] = {0}, settings["schedule"] = "constant";
  settings["weight_decay"] = 10;
  settings["epochs"] = 40;
  const json broken = One(After(s, "finetune", settings), "finetune", "seed");
  EXPECT_GT(broken["nonfinite_batches"].get<int64_t>(), 0);
  settings["task"]["sha256"] = std::string(64, '0');
  EXPECT_THAT(After(s, "finetune", settings).cause, HasSubstr("not the file"));
}

class Pruned : public AfterTraining {
 protected:
  spec::TrialSpec Deep() {
    spec::TrialSpec s = Spec(0.01, 1, 40);
    s.model.n_layers = 3;
    EXPECT_TRUE(spec::Resolve(&s).empty());
    return s;
  }
  spec::ModelSpec OneLayer() {
    spec::TrialSpec s = Spec();
    s.model.n_layers = 1;
    EXPECT_TRUE(spec::Resolve(&s).empty());
    return s.model;
  }
  // Without what is timed.
  static json Record(const Told& t, const std::string& method, int64_t removed) {
    json r = One(t, "prune", method, removed);
    r.erase("tokens_per_second");
    return r;
  }
};

TEST_F(Pruned, LeavingALayerOutIsWhatPaintersMeasureAndTheOrderIsTheOneAskedFor) {
  const spec::TrialSpec s = Deep();
  const Told t = After(s, "prune", {{"methods", {"remove"}}, {"order", "loss"}});
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  const Told skips =
      After(s, "painters", {{"variants", {"skip_one"}}, {"start_layers", {0, 1, 2}}});
  std::map<double, int64_t> by_loss;
  for (const auto& [key, text] : skips.records) {
    const json r = json::parse(text);
    if (r["variant"] == "skip_one") by_loss[r["loss"].get<double>()] = r["start_layer"];
  }
  ASSERT_EQ(by_loss.size(), 3u);
  const json one = Record(t, "remove", 1), two = Record(t, "remove", 2);
  EXPECT_EQ(one["loss"].get<double>(), by_loss.begin()->first);
  EXPECT_EQ(one["removed"], json({by_loss.begin()->second}));
  EXPECT_EQ(two["removed"][1], std::next(by_loss.begin())->second);
  EXPECT_NEAR(Record(t, "none", 0)["loss"].get<double>(), training_.at("val/loss", 40), 1e-6);
  EXPECT_FALSE(t.records.contains({"prune", "remove", 3}))
      << "one layer stays unless all are asked for";
}

TEST_F(Pruned, MapsAreTheBestInSampleAndDistillationComesNearerToTheWholeModel) {
  const spec::TrialSpec s = Deep();
  json settings = {{"order", "random"},   {"distil_steps", 100}, {"distil_lr", 3e-5},
                   {"distil_windows", 6}, {"fit_tokens", 96},    {"layers", 3}};
  Told t;
  for (int64_t seed = 0;;
       ++seed) {  // the last layer first: what its map gets wrong is all that is wrong
    ASSERT_LT(seed, 40);
    settings["seed"] = seed;
    t = After(s, "prune", settings);
    ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
    if (Record(t, "remove", 1)["removed"] == json({2})) break;
  }
  for (int64_t l = 0; l < 3; ++l) {
    const json layer = One(t, "prune_layer", "layer", l);
    EXPECT_LE(layer["map_error"].get<double>(), layer["identity_error"].get<double>());
    EXPECT_GT(layer["map_error"].get<double>(), 0);
  }
  const json last = One(t, "prune_layer", "layer", 2);
  const double left = (1 - last["score"].get<double>()) / 3;
  EXPECT_NEAR(Record(t, "replace", 1)["stream_error"].get<double>(), left, 1e-4 * left);
  EXPECT_NEAR(Record(t, "remove", 1)["stream_error"].get<double>(),
              left * last["identity_error"].get<double>() / last["map_error"].get<double>(),
              1e-4 * left * last["identity_error"].get<double>() / last["map_error"].get<double>());
  for (int64_t n = 1; n <= 3; ++n) {
    const json removed = Record(t, "remove", n), replaced = Record(t, "replace", n),
               distilled = Record(t, "distil", n);
    EXPECT_LE(distilled["stream_error"].get<double>(), replaced["stream_error"].get<double>()) << n;
    if (n > 1)
      EXPECT_LT(distilled["stream_error"].get<double>(), replaced["stream_error"].get<double>())
          << n;
    EXPECT_EQ(removed["removed"], distilled["removed"]);
    const int64_t d = s.model.d_model, all = Record(t, "none", 0)["parameters"];
    const int64_t block =
        spec::CountParameters(Spec().model).total - spec::CountParameters(OneLayer()).total;
    EXPECT_EQ(removed["parameters"].get<int64_t>(), all - n * block);
    EXPECT_EQ(replaced["parameters"].get<int64_t>(), all - n * block + n * d * (d + 1));
    EXPECT_EQ(
        replaced["flops_per_token"].get<int64_t>() - removed["flops_per_token"].get<int64_t>(),
        n * 2 * d * d);
  }
  // Twice the same, and what is trained is a copy.
  EXPECT_EQ(Record(t, "distil", 2), Record(After(s, "prune", settings), "distil", 2));
  settings["distil_what"] = "everything";
  const Told everything = After(s, "prune", settings);
  ASSERT_EQ(everything.outcome, RowOutcome::kSucceeded) << everything.cause;
  EXPECT_EQ(Record(everything, "replace", 2), Record(t, "replace", 2));
  EXPECT_NE(Record(everything, "distil", 2)["stream_error"],
            Record(t, "distil", 2)["stream_error"]);
}

TEST_F(Pruned, TasksAreAskedAfterEachStep) {
  // The same last words after texts that end alike: a model without layers sees one token at a
  // time, and cannot tell them apart.
  const auto task = [&](const std::string& name, const std::string& before) {
    const std::string path = work_ / name;
    std::ofstream out(path);
    for (int i = 0; i < 6; ++i)
      out << json{{"text", before + std::to_string(i) + " 12" + std::to_string(i)}}.dump() << "\n";
    out.close();
    return json{{"format", "lambada"},
                {"file", {{"path", path}, {"sha256", spec::Sha256HexOfFile(path)}}}};
  };
  const spec::TrialSpec s = Deep();
  const json one = task("one.jsonl", "ab c"), two = task("two.jsonl", "12 3");
  json settings = {{"layers", 3},       {"distil_steps", 30},
                   {"distil_lr", 0.01}, {"distil_what", "everything"},
                   {"fit_tokens", 96},  {"tasks", {{"one", one}, {"two", two}, {"first", one}}}};
  settings["tasks"]["first"]["limit"] = 4;
  const Told t = After(s, "prune", settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  const auto of = [&](const std::string& method, int64_t n, const char* name) {
    return Record(t, method, n)["tasks"][name];
  };
  const json alone = One(After(s, "task", one), "task", "all"), whole = of("none", 0, "one");
  for (const auto& [name, value] : whole.items()) EXPECT_EQ(value, alone[name]) << name;
  EXPECT_EQ(whole["items"], 6);
  EXPECT_EQ(of("none", 0, "first")["items"], 4);
  EXPECT_NE(whole["perplexity"], of("none", 0, "two")["perplexity"]);
  const double left = of("remove", 3, "one")["perplexity"];
  EXPECT_NEAR(of("remove", 3, "two")["perplexity"].get<double>(), left, 1e-4 * left);
  EXPECT_NE(of("replace", 3, "one")["perplexity"], left);
  std::set<double> seen;
  for (const char* method : {"remove", "replace", "distil"}) {
    for (int64_t n = 1; n <= 3; ++n) seen.insert(of(method, n, "one")["perplexity"].get<double>());
  }
  // Where updates led away, what is distilled is what it began from.
  EXPECT_GE(seen.size(), 7u) << "each was asked by itself";
  // What is asked beside changes nothing else.
  settings.erase("tasks");
  const Told without = After(s, "prune", settings);
  json with = Record(t, "distil", 2);
  with.erase("tasks");
  EXPECT_EQ(with, Record(without, "distil", 2));
  settings["tasks"]["one"] = one;
  settings["tasks"]["one"]["file"]["sha256"] = std::string(64, '0');
  EXPECT_THAT(After(s, "prune", settings).cause, HasSubstr("is not the file"));
}

TEST_F(Pruned, RefusesModelsWhoseLayersNeedEachOther) {
  spec::TrialSpec s = Spec();
  s.model.n_layers = 1;
  ASSERT_TRUE(spec::Resolve(&s).empty());
  EXPECT_THAT(After(s, "prune", json::object()).cause, HasSubstr("none to spare"));
}

TEST_F(AfterTraining, TasksAreAnsweredByWhatTheModelHasSeen) {
  const std::string path = work_ / "choices.jsonl";
  std::ofstream out(path);
  for (int i = 0; i < 6; ++i) {
    // Digits, which the corpus has, against letters, which it has not; the last one's key is wrong.
    const std::string seen = std::string("12") + static_cast<char>('0' + i);
    out << json{{"context", i % 2 == 0 ? "" : "123 123"},
                {"choices", {i == 0 ? seen : "xyz", i == 0 ? "xyz" : seen}},
                {"gold", i == 0 || i == 5 ? 0 : 1},
                {"group", i < 3 ? "first" : "second"}}
               .dump()
        << "\n";
  }
  out.close();
  const spec::TrialSpec s = Spec(0.01, 1, 40);
  json settings = {{"format", "choices"},
                   {"file", {{"path", path}, {"sha256", spec::Sha256HexOfFile(path)}}}};
  const Told t = After(s, "task", settings);
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_DOUBLE_EQ(t.at("task/acc", 1), 5.0 / 6);
  EXPECT_DOUBLE_EQ(t.at("task/acc_groups", 1), (1 + 2.0 / 3) / 2);
  const json all = One(t, "task", "all");
  EXPECT_EQ(all["items"], 6);
  EXPECT_NEAR(all["acc_stderr"].get<double>(), std::sqrt(5.0 / 36 / 5), 1e-12);
  EXPECT_DOUBLE_EQ(One(t, "task", "second", 2)["acc"].get<double>(), 2.0 / 3);
  // The beginning of a context that is too long is cut; an answer that is too long is refused.
  settings["context"] = 4;
  const Told cut = After(s, "task", settings);
  ASSERT_EQ(cut.outcome, RowOutcome::kSucceeded) << cut.cause;
  EXPECT_EQ(One(cut, "task", "all")["cut"], 6);  // three items with contexts, two choices each
  settings["context"] = 3;
  EXPECT_THAT(After(s, "task", settings).cause, HasSubstr("an answer of 4 tokens is longer"));
  settings["context"] = 4096;
  EXPECT_EQ(After(s, "task", settings).outcome, RowOutcome::kInfeasible);
  settings.erase("context");
  settings["file"]["sha256"] = std::string(64, '0');
  EXPECT_THAT(After(s, "task", settings).cause, HasSubstr("is not the file"));
}

TEST_F(AfterTraining, ARouterLeavesItsPathsCountsAndFlops) {
  spec::TrialSpec s = Spec();
  s.model.router.gate = spec::RouterGate::kSwitch;
  s.model.router.prefix = 4, s.model.router.balance = 0.01, s.model.router.init_std = 0.5;
  ASSERT_TRUE(spec::Resolve(&s).empty());
  EXPECT_EQ(s.data.score_from, 4);
  const Told t = After(s, "evaluate", {{"routes", true}, {"splits", {"test", "val"}}});
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(static_cast<int64_t>(training_.points.size()), CountPoints(s, true));
  EXPECT_EQ(t.at("evaluate/test/loss", 1), training_.at("test/loss", 23));
  const json counts = One(training_, "route_counts", "test/all");
  EXPECT_EQ(counts, One(t, "route_counts", "test/all"));
  EXPECT_EQ(counts["texts"], 5);
  int64_t evaluations = 0, records = 0;
  std::vector<std::vector<int64_t>> counted(2, std::vector<int64_t>(3));
  for (const auto& [key, text] : t.records) {
    if (std::get<0>(key) != "route" || std::get<1>(key) != "test/all") continue;
    const json r = json::parse(text);
    ++records;
    evaluations += r["layer_evaluations"].get<int64_t>();
    for (size_t step = 0; step < 2; ++step) {
      const auto choice = r["path"][step].get<int64_t>();
      ++counted[step][choice + 1];
      double sum = 0, best = 0;
      for (const json& p : r["probabilities"][step])
        sum += p.get<double>(), best = std::max(best, p.get<double>());
      EXPECT_NEAR(sum, 1, 1e-6);
      EXPECT_EQ(r["probabilities"][step][choice + 1].get<double>(), best);
    }
  }
  EXPECT_EQ(records, 5);
  EXPECT_EQ(json(counted), counts["counts"]);
  EXPECT_EQ(t.at("evaluate/test/layer_evaluations", 1), static_cast<double>(evaluations) / 5);
  // All steps on a block would be what was planned.
  const double planned = training_.at("compute/flops_planned", 23),
               executed = training_.at("compute/flops_executed", 23);
  EXPECT_EQ(planned, spec::TotalTrainingFlops(s));
  EXPECT_LE(executed, planned);
  const double block = 3.0 * spec::BlockFlopsPerToken(s.model, 16) * 16;
  EXPECT_GE(executed, planned - block * 2 * 4 * 23);
  EXPECT_NEAR(std::fmod((planned - executed) / block, 1.0), 0, 1e-9);
}

TEST_F(AfterTraining, ASoftRouterIsScoredByItsArgmaxToo) {
  spec::TrialSpec s = Spec();
  s.model.router.gate = spec::RouterGate::kSoft, s.model.router.prefix = 4;
  ASSERT_TRUE(spec::Resolve(&s).empty());
  const Told t = Alone(Request("r", s));
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(static_cast<int64_t>(t.points.size()), CountPoints(s, true));
  EXPECT_NE(t.at("test/argmax_loss", 23), t.at("test/loss", 23));
  EXPECT_EQ(t.at("compute/flops_executed", 23), t.at("compute/flops_planned", 23));
}

TEST_F(AfterTraining, ARoutedRunResumesBitForBit) {
  spec::TrialSpec s = Spec();
  s.model.router.gate = spec::RouterGate::kGumbelSt, s.model.router.prefix = 4;
  ASSERT_TRUE(spec::Resolve(&s).empty());
  const Told whole = Alone(Request("whole", s));
  const Told first = Alone(Request("first", s, 9));
  ASSERT_EQ(first.outcome, RowOutcome::kPaused) << first.cause;
  RowRequest rest = Request("rest", s);
  rest.checkpoint = first.checkpoints.back();
  const Told second = Alone(rest);
  ASSERT_EQ(second.outcome, RowOutcome::kSucceeded) << second.cause;
  EXPECT_EQ(Weights(whole.checkpoints.back()), Weights(second.checkpoints.back()));
  EXPECT_EQ(whole.at("compute/flops_executed", 23), second.at("compute/flops_executed", 23));
}

}  // namespace
}  // namespace plumb::trainer
