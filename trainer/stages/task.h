// Log-likelihoods of a task's choices under a row of a bundle.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "data/task_score.h"
#include "trainer/bundle.h"

namespace plumb::trainer {

class TaskRun {
 public:
  // `context`: inputs of the longest text; what is longer loses its beginning. The bundle must have
  // been made for so long a text and outlive this. Throws Infeasible for an answer that is longer.
  TaskRun(const Bundle& bundle, int64_t row, const data::Tokenizer& tokenizer,
          const data::TaskData& task, int64_t context, bool separator_first);

  size_t passes() const { return passes_.size(); }
  void Pass(size_t pass);
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

}  // namespace plumb::trainer
