#include "data/task_score.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace plumb::data {
namespace {

int64_t Characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// The first largest, as numpy's argmax.
size_t Best(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

size_t BestBy(const TaskItem& item, const ItemScore& score, double (*length)(const std::string&)) {
  std::vector<double> values;
  for (size_t i = 0; i < item.choices.size(); ++i)
    values.push_back(score.log_likelihood[i] / length(item.choices[i]));
  return Best(values);
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double SampleDeviation(const std::vector<double>& values) {
  const double mean = Mean(values);
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

TaskMetric MeanOf(const std::string& name, const std::vector<double>& values) {
  TaskMetric out{.name = name, .value = Mean(values)};
  if (values.size() > 1)
    out.stderr_ = SampleDeviation(values) / std::sqrt(static_cast<double>(values.size()));
  return out;
}

TaskMetric Perplexity(const std::vector<double>& log_likelihoods, int64_t bootstraps) {
  TaskMetric out{.name = "perplexity", .value = std::exp(-Mean(log_likelihoods))};
  constexpr int64_t kChunk = 1000;
  std::vector<double> resampled;
  const auto n = static_cast<double>(log_likelihoods.size());
  for (int64_t chunk = 0; chunk < bootstraps / kChunk; ++chunk) {
    PythonRandom random(static_cast<uint32_t>(chunk));
    for (int64_t i = 0; i < kChunk; ++i) {
      double sum = 0;
      for (size_t k = 0; k < log_likelihoods.size(); ++k)
        sum += log_likelihoods[static_cast<size_t>(random.Next() * n)];
      resampled.push_back(std::exp(-sum / n));
    }
  }
  if (resampled.size() > 1 && log_likelihoods.size() > 1) out.stderr_ = SampleDeviation(resampled);
  return out;
}

// Mean over the classes of the F1 of each against the rest; of a class that nobody names and nobody
// is, 0.
double MacroF1(const std::vector<size_t>& predicted, const std::vector<size_t>& gold,
               size_t classes) {
  double sum = 0;
  for (size_t c = 0; c < classes; ++c) {
    double both = 0, either = 0;
    for (size_t i = 0; i < gold.size(); ++i) {
      both += predicted[i] == c && gold[i] == c;
      either += (predicted[i] == c) + (gold[i] == c);
    }
    sum += either > 0 ? 2 * both / either : 0;
  }
  return sum / static_cast<double>(classes);
}

GroupScore ScoreItems(const TaskData& task, const std::vector<ItemScore>& scores,
                      const std::vector<size_t>& which, int64_t bootstraps) {
  GroupScore out{.items = static_cast<int64_t>(which.size())};
  std::vector<double> acc, norm, bytes, likelihood;
  std::vector<size_t> predicted, gold;
  for (const size_t i : which) {
    const TaskItem& item = task.items[i];
    if (task.last_word) {
      acc.push_back(scores[i].greedy[0] ? 1 : 0);
      likelihood.push_back(scores[i].log_likelihood[0]);
      continue;
    }
    const auto right = static_cast<size_t>(item.gold);
    predicted.push_back(Best(scores[i].log_likelihood)), gold.push_back(right);
    acc.push_back(predicted.back() == right);
    norm.push_back(BestBy(item, scores[i], [](const std::string& c) {
                     return static_cast<double>(Characters(c));
                   }) == right);
    bytes.push_back(BestBy(item, scores[i], [](const std::string& c) {
                      return static_cast<double>(c.size());
                    }) == right);
  }
  out.metrics.push_back(MeanOf("acc", acc));
  if (task.last_word) {
    out.metrics.push_back(Perplexity(likelihood, bootstraps));
    return out;
  }
  out.metrics.push_back(MeanOf("acc_norm", norm));
  out.metrics.push_back(MeanOf("acc_bytes", bytes));
  if (task.format == "cb")
    out.metrics.push_back({.name = "f1", .value = MacroF1(predicted, gold, 3)});
  return out;
}

}  // namespace

std::vector<GroupScore> ScoreTask(const TaskData& task, const std::vector<ItemScore>& scores,
                                  int64_t bootstraps) {
  std::vector<size_t> all;
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t i = 0; i < task.items.size(); ++i) {
    all.push_back(i);
    if (!task.items[i].group.empty()) groups[task.items[i].group].push_back(i);
  }
  std::vector<GroupScore> out = {ScoreItems(task, scores, all, bootstraps)};
  double sum = 0;
  for (const auto& [name, which] : groups) {
    out.push_back(ScoreItems(task, scores, which, bootstraps));
    out.back().group = name;
    sum += out.back().metrics[0].value;
  }
  if (groups.size() > 1)
    out[0].metrics.push_back(
        {.name = "acc_groups", .value = sum / static_cast<double>(groups.size())});
  return out;
}

// Matsumoto and Nishimura 1998; seeded by an array of one word, as Python seeds by a small integer.
PythonRandom::PythonRandom(uint32_t seed) {
  state_[0] = 19650218;
  for (uint32_t i = 1; i < 624; ++i)
    state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  uint32_t i = 1;
  const auto next = [&] {
    if (++i < 624) return;
    state_[0] = state_[623], i = 1;
  };
  for (int k = 0; k < 624; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525U)) + seed;
    next();
  }
  for (int k = 0; k < 623; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941U)) - i;
    next();
  }
  state_[0] = 0x80000000U;
}

uint32_t PythonRandom::Word() {
  if (at_ == 624) {
    for (int k = 0; k < 624; ++k) {
      const uint32_t y = (state_[k] & 0x80000000U) | (state_[(k + 1) % 624] & 0x7fffffffU);
      state_[k] = state_[(k + 397) % 624] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908b0dfU : 0);
    }
    at_ = 0;
  }
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680U;
  y ^= (y << 15) & 0xefc60000U;
  return y ^ (y >> 18);
}

double PythonRandom::Next() {
  const uint32_t a = Word() >> 5, b = Word() >> 6;
  return (a * 67108864.0 + b) / 9007199254740992.0;
}

}  // namespace plumb::data
