// Where the states that are probed come from: tokens of a corpus, or texts with labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/classification.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "trainer/bundle.h"
#include "trainer/probes/material.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer::probes {

enum class Side { kFit, kScore };

class Source {
 public:
  virtual ~Source() = default;
  // Pieces of work before Ask().
  virtual int64_t preparations() const { return 0; }
  virtual void Prepare(int64_t /*piece*/) {}
  // Once, before any States(). Throws std::runtime_error where there is too little to ask.
  virtual Material Ask() = 0;
  virtual int64_t passes(Side side) const = 0;
  // h_0 … h_S of the next examples, [n, d] each; examples of a side in their order.
  virtual std::vector<at::Tensor> States(Side side, int64_t pass) const = 0;
};

struct TokenPlan {
  std::vector<std::string> properties;  // position, character_class, next_token_frequency
  data::Split fit = data::Split::kTune, score = data::Split::kVal;
  int64_t tokens = 0;        // to fit on; 0: 50 d_model
  int64_t score_tokens = 0;  // 0: as many
  int64_t sample = 8192;     // of those to fit on, for the logistic probe
  int64_t frequency_classes = 4;
};

// Tokens of evenly spread windows of eval.seq_len tokens: those that are no separator and have a
// token after them in their document, whatever is asked of them. All arguments must outlive it;
// `tokenizer` may be null where no character class is asked for (tokens without a text). Throws
// std::runtime_error where the texts do not suffice.
std::unique_ptr<Source> TokenSource(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                                    const data::Tokenizer* tokenizer,
                                    const spec::TrialSpec& resolved, const TokenPlan& plan);

enum class Pool { kMean, kLast };

// Texts of a file, each one example: the mean of its tokens' states but for that of the separator
// before it, or that of its last token. Fitted on "train", judged on "test" (where there is none,
// "dev").
std::unique_ptr<Source> TextSource(const Bundle& bundle, int64_t row,
                                   data::ClassificationData texts, Pool pool, int64_t sample);

}  // namespace plumb::trainer::probes
