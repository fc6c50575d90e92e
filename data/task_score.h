// What the harness reports of a task, from the log-likelihoods of its choices. Definitions of
// lm-evaluation-harness 0.4.13.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/task_file.h"

namespace plumb::data {

// ln p of each choice, in nats, and whether greedy decoding gives it.
struct ItemScore {
  std::vector<double> log_likelihood;
  std::vector<bool> greedy;
};

struct TaskMetric {
  std::string
      name;  // "acc", "acc_norm" (by characters), "acc_bytes" (by UTF-8 bytes), "f1", "perplexity"
  double value = 0;
  std::optional<double> stderr_;  // of the mean: sample deviation by √n; of perplexity: bootstrap;
                                  // none for f1 and for one item
};

struct GroupScore {
  std::string group;  // "" for all items
  int64_t items = 0;
  std::vector<TaskMetric> metrics;
};

// Of all items first; then of each group, by name, where the file has groups. Of several groups the
// accuracy of all has a neighbour "acc_groups": the unweighted mean over the groups, as BLiMP's is
// taken. `bootstraps`: resamples, in thousands of one seed each.
std::vector<GroupScore> ScoreTask(const TaskData& task, const std::vector<ItemScore>& scores,
                                  int64_t bootstraps = 100'000);

// Python's random.Random(seed).random(), by which the harness draws its resamples: MT19937, 53
// bits.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);
  double Next();

 private:
  uint32_t Word();
  uint32_t state_[624];
  int at_ = 624;
};

}  // namespace plumb::data
