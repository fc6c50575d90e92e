// Log-likelihoods of a task's choices under a row of a bundle.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "data/task_score.h"
#include "trainer/bundle.h"
#include "trainer/model.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {

class TaskRun {
 public:
  // `context`: inputs of the longest text; what is longer loses its beginning. The bundle must have
  // been made for so long a text and outlive this. Throws Infeasible for an answer that is longer.
  TaskRun(const Bundle& bundle, int64_t row, const data::Tokenizer& tokenizer,
          const data::TaskData& task, int64_t context, bool separator_first);

  size_t passes() const { return passes_.size(); }
  void Pass(size_t pass) { Pass(pass, bundle_, row_, nullptr); }
  // The same questions to another model of the same tokens, of which some blocks may not run.
  void Pass(size_t pass, const Bundle& bundle, int64_t row, const Substitutes* substitutes);
  const std::vector<data::ItemScore>& scores() const {
    return scores_;
  }                                               // whole after the last pass
  int64_t cut() const { return cut_; }            // texts that lost their beginning
  int64_t spanning() const { return spanning_; }  // see EncodedPair

 private:
  struct Request {
    size_t item, choice;
    data::EncodedPair pair;
  };
  const Bundle& bundle_;
  const int64_t row_, context_;
  std::vector<Request> requests_;
  std::vector<size_t> order_;                      // of requests, by falling length
  std::vector<std::pair<size_t, size_t>> passes_;  // first and count in the order
  std::vector<data::ItemScore> scores_;
  int64_t cut_ = 0, spanning_ = 0;
};

// A task as a stage's settings (of kind "task") ask for it.
struct AskedTask {
  nlohmann::json settings;
  std::shared_ptr<const data::TaskData> data;
  int64_t context = 0;
  bool bos = false;
  std::shared_ptr<TaskRun> run;  // of the stage's trained row
};
// Throws Infeasible, where the model cannot be asked or the files are not those that were planned
// with.
AskedTask OpenTask(const StageContext& c, const nlohmann::json& settings);

// [(group, {"acc": …, "acc_stderr": …, …})] of what the last passes gave, all items first, group
// "".
std::vector<std::pair<std::string, nlohmann::json>> TaskScores(const AskedTask& task);

}  // namespace plumb::trainer
