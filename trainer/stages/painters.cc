#include "trainer/stages/painters.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "trainer/counter_random.h"
#include "trainer/evaluation.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {
namespace {

// Fisher and Yates, from the end.
void Shuffle(std::vector<int64_t>* order, int64_t seed) {
  const CounterRandom random(Mix(HashOf("painters") + static_cast<uint64_t>(seed)));
  for (size_t i = order->size(); i > 1; --i)
    std::swap((*order)[i - 1], (*order)[random.Bits(i) % i]);
}

}  // namespace

LayerSchedule PainterSchedule(const std::string& variant, int64_t T, int64_t N, int64_t repeat,
                              int64_t seed) {
  const auto refuse = [](const std::string& why) { throw std::invalid_argument(why); };
  const auto alone = [](const std::vector<int64_t>& order) {
    LayerSchedule schedule;
    for (const int64_t l : order) schedule.push_back({l});
    return schedule;
  };
  std::vector<int64_t> all(T);
  std::iota(all.begin(), all.end(), 0);
  if (variant == "baseline") return alone(all);
  if (variant == "skip_one" || variant == "switch_two") {
    const bool two = variant == "switch_two";
    if (N < 0 || N + (two ? 1 : 0) >= T) {
      refuse("start_layer " + std::to_string(N) + ": " + variant + " needs block " +
             std::to_string(N + (two ? 1 : 0)) + ", the model has " + std::to_string(T));
    }
    if (two) {
      std::swap(all[N], all[N + 1]);
    } else {
      all.erase(all.begin() + N);
    }
    return alone(all);
  }
  if (N < 0 || 2 * N >= T) {
    refuse("start_layer " + std::to_string(N) + " of " + std::to_string(T) +
           " layers: must be less than half of them");
  }
  const int64_t M = T - 2 * N - 1;
  LayerSchedule schedule = alone({all.begin(), all.begin() + N + 1});
  std::vector<int64_t> middle(all.begin() + N + 1, all.begin() + N + 1 + M);
  if (variant == "parallel" || variant == "looped_parallel") {
    const int64_t rounds = variant == "parallel" ? 1 : repeat;
    for (int64_t i = 0; i < rounds && M > 0; ++i) schedule.push_back(middle);
  } else {
    if (variant == "skip") {
      middle.clear();
    } else if (variant == "middle_repeat") {
      std::fill(middle.begin(), middle.end(), T / 2);
    } else if (variant == "reverse") {
      std::reverse(middle.begin(), middle.end());
    } else if (variant == "random") {
      Shuffle(&middle, seed);
    } else {
      refuse("no painters variant \"" + variant + "\"");
    }
    for (const int64_t l : middle) schedule.push_back({l});
  }
  for (int64_t l = N + 1 + M; l < T; ++l) schedule.push_back({l});
  return schedule;
}

static StageWork PlanPainters(const StageContext& c) {
  using nlohmann::json;
  if (spec::Routed(c.spec.model))
    throw Infeasible("a routed model chooses its own order of layers; painters is for others");
  const int64_t T = c.spec.model.n_layers;
  StageWork work;
  int64_t index = 0;
  const auto measure = [&](const std::string& variant, const json& start, const json& repeat,
                           const json& seed) {
    LayerSchedule schedule;
    try {
      schedule = PainterSchedule(variant, T, start.is_null() ? 0 : start.get<int64_t>(),
                                 repeat.is_null() ? 1 : repeat.get<int64_t>(),
                                 seed.is_null() ? 0 : seed.get<int64_t>());
    } catch (const std::invalid_argument& e) {
      throw Infeasible(e.what());
    }
    work.push_back([&c, schedule, variant, start, repeat, seed, at = index++] {
      EvaluationPlan plan = PlanOf(c.spec, c.settings.at("tokens"));
      plan.schedule = &schedule;
      Score all;
      for (const data::Split split : data::kAllSplits) {
        if (c.settings.at("split") != data::Name(split)) continue;
        for (const Score& part : EvaluateParts(*c.bundle, 0, *c.dataset, split, plan)) all += part;
      }
      c.Record("painters", variant, at,
               {{"variant", variant},
                {"start_layer", start},
                {"repeat", repeat},
                {"seed", seed},
                {"split", c.settings.at("split")},
                {"loss", all.loss()},
                {"perplexity", all.perplexity()},
                {"tokens", all.tokens}});
    });
  };
  measure("baseline", nullptr, nullptr, nullptr);
  for (const json& v : c.settings.at("variants")) {
    const auto variant = v.get<std::string>();
    for (const json& start : c.settings.at("start_layers")) {
      if (variant == "looped_parallel") {
        for (const json& repeat : c.settings.at("repeats"))
          measure(variant, start, repeat, nullptr);
      } else if (variant == "random") {
        for (const json& seed : c.settings.at("seeds")) measure(variant, start, nullptr, seed);
      } else {
        measure(variant, start, nullptr, nullptr);
      }
    }
  }
  return work;
}

static const RegisterStage kPainters("painters", PlanPainters);

}  // namespace plumb::trainer
