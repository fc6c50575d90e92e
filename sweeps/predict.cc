#include "sweeps/predict.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "sweeps/calibration.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kPositionsPerPass = 4096;  // as the trainer evaluates
constexpr double kPointBytes = 32;           // a point of a series in the database, with its index

size_t At(Unit unit) { return static_cast<size_t>(unit); }

// Of one position of a forward pass through the whole model.
struct PerPosition {
  double flops = 0, traffic = 0, scores = 0, vocabulary = 0;
  double blocks = 0;  // computed by a pass
};

PerPosition PositionOf(const spec::ModelSpec& m, int64_t seq_len) {
  PerPosition out;
  const double blocks = static_cast<double>(spec::PlannedBlockEvaluations(m));
  const double share =
      blocks / static_cast<double>(m.n_layers);  // of a routed model not each block once
  double flops_in_scores = 0;
  for (const spec::Parameter& p : spec::LayoutOf(m).parameters) {
    if (!p.product) continue;
    const double times = p.layer < 0 ? 1 : share;
    out.traffic += times * static_cast<double>(p.shape.front() + p.shape.back());
  }
  if (m.tied_head) out.traffic += static_cast<double>(m.d_model + m.vocab_size);
  const double width = static_cast<double>(m.n_heads * m.head_dim);
  out.scores = blocks * static_cast<double>(seq_len) * width;
  if (m.block_plugin.empty()) flops_in_scores = 4 * out.scores;
  out.flops = static_cast<double>(spec::ForwardFlopsPerToken(m, seq_len)) - flops_in_scores;
  out.vocabulary = static_cast<double>(m.vocab_size);
  out.blocks = blocks;
  return out;
}

// Positions of an evaluation that asks for `tokens` of a split (0: all of it) of `there`.
double Positions(int64_t tokens, int64_t there, int64_t seq_len) {
  if (tokens == 0 || (there > 0 && tokens > there)) tokens = there;
  const int64_t windows = std::max<int64_t>(1, tokens / seq_len);
  return static_cast<double>(windows * seq_len);
}

}  // namespace

const char* Name(Unit unit) {
  switch (unit) {
    case Unit::kStep:
      return "step";
    case Unit::kStepBlock:
      return "step_block";
    case Unit::kStepFlops:
      return "step_flops";
    case Unit::kStepTraffic:
      return "step_traffic";
    case Unit::kStepScores:
      return "step_scores";
    case Unit::kStepVocabulary:
      return "step_vocabulary";
    case Unit::kStepParameters:
      return "step_parameters";
    case Unit::kPass:
      return "pass";
    case Unit::kPassBlock:
      return "pass_block";
    case Unit::kPassFlops:
      return "pass_flops";
    case Unit::kPassTraffic:
      return "pass_traffic";
    case Unit::kPassScores:
      return "pass_scores";
    case Unit::kPassVocabulary:
      return "pass_vocabulary";
    case Unit::kTrial:
      return "trial";
    case Unit::kTrialParameters:
      return "trial_parameters";
  }
  return "";
}

Work operator+(const Work& a, const Work& b) {
  Work out;
  for (size_t i = 0; i < kUnits; ++i) out[i] = a[i] + b[i];
  return out;
}

Work operator*(double times, const Work& w) {
  Work out;
  for (size_t i = 0; i < kUnits; ++i) out[i] = times * w[i];
  return out;
}

Work StepWork(const spec::TrialSpec& s) {
  const PerPosition at = PositionOf(s.model, s.data.seq_len);
  const int64_t batch = std::max<int64_t>(1, s.train.batch_tokens / s.data.seq_len / s.train.ranks);
  const int64_t micro =
      s.execution.micro_batch > 0 ? std::min(s.execution.micro_batch, batch) : batch;
  const auto tokens = static_cast<double>(batch * s.data.seq_len);
  const auto passes = static_cast<double>((batch + micro - 1) / micro);
  Work w{};
  w[At(Unit::kStep)] = 1;
  w[At(Unit::kStepBlock)] = passes * at.blocks;
  w[At(Unit::kStepFlops)] = 3 * tokens * at.flops;
  w[At(Unit::kStepTraffic)] = tokens * at.traffic;
  w[At(Unit::kStepScores)] = tokens * at.scores;
  w[At(Unit::kStepVocabulary)] = tokens * at.vocabulary;
  w[At(Unit::kStepParameters)] = static_cast<double>(spec::CountParameters(s.model).trainable);
  return w;
}

Work PassWork(const spec::TrialSpec& s) {
  const int64_t length = s.eval.seq_len > 0 ? s.eval.seq_len : s.data.seq_len;
  const PerPosition at = PositionOf(s.model, length);
  const auto tokens =
      static_cast<double>(std::max<int64_t>(1, kPositionsPerPass / length) * length);
  Work w{};
  w[At(Unit::kPass)] = 1;
  w[At(Unit::kPassBlock)] = at.blocks;
  w[At(Unit::kPassFlops)] = tokens * at.flops;
  w[At(Unit::kPassTraffic)] = tokens * at.traffic;
  w[At(Unit::kPassScores)] = tokens * at.scores;
  w[At(Unit::kPassVocabulary)] = tokens * at.vocabulary;
  return w;
}

Work WorkBesideSteps(const spec::TrialSpec& s, const SplitTokens& splits) {
  const int64_t length = s.eval.seq_len > 0 ? s.eval.seq_len : s.data.seq_len;
  const auto in_pass =
      static_cast<double>(std::max<int64_t>(1, kPositionsPerPass / length) * length);
  const auto points =
      static_cast<double>(std::max<int64_t>(0, std::min(s.eval.points, s.train.steps)));
  double passes = 0;
  const auto read = [&](double times, int64_t tokens, int64_t there) {
    passes += times * std::ceil(Positions(tokens, there, length) / in_pass);
  };
  if (points > 0) {
    read(points - 1, s.eval.tokens, splits.tune);
    read(points - 1, s.eval.tokens, splits.val);
    if (s.eval.train_tokens > 0) read(points, s.eval.train_tokens, 0);
    // At the end as many of each as may be asked for, and of the test split once.
    read(1, s.eval.final_tokens, splits.tune);
    read(1, s.eval.final_tokens, splits.val);
    read(1, s.eval.final_tokens, splits.test);
  }
  Work w = passes * PassWork(s);
  w[At(Unit::kTrial)] = 1;
  w[At(Unit::kTrialParameters)] = static_cast<double>(spec::CountParameters(s.model).total);
  return w;
}

Work TrainingWork(const spec::TrialSpec& s, const SplitTokens& splits) {
  return static_cast<double>(s.train.steps) * StepWork(s) + WorkBesideSteps(s, splits);
}

double Seconds(const Prices& prices, const Work& work) {
  double sum = 0;
  for (size_t i = 0; i < kUnits; ++i) sum += prices.seconds[i] * work[i];
  return sum;
}

double KindFactor(const Prices& prices, const std::string& kind) {
  const auto it = prices.kinds.find(kind);
  return it == prices.kinds.end() ? 1 : it->second;
}

double PredictSeconds(const Prices& prices, const spec::TrialSpec& s, const SplitTokens& splits) {
  return Seconds(prices, TrainingWork(s, splits)) *
         (prices.kinds.empty() ? 1 : KindFactor(prices, KindOf(s)));
}

int64_t StepsIn(const Prices& prices, const spec::TrialSpec& resolved, const SplitTokens& splits,
                double seconds) {
  spec::TrialSpec s = resolved;
  s.train.steps = std::max<int64_t>(1, s.eval.points);  // as many as it evaluates at
  const double kind = prices.kinds.empty() ? 1 : KindFactor(prices, KindOf(s));
  const double step = kind * Seconds(prices, StepWork(s)),
               beside = kind * Seconds(prices, WorkBesideSteps(s, splits));
  if (!(step > 0) || seconds <= beside) return 0;
  return std::max<int64_t>(1, std::llround(std::min((seconds - beside) / step, 9e15)));
}

std::string CostKey(const spec::TrialSpec& resolved) {
  spec::TrialSpec s = resolved;
  s.seed = {};
  s.train.lr = 1e-3, s.train.warmup_steps = 0;
  s.execution.checkpoint_seconds = 0, s.execution.checkpoint_steps = 0;
  return spec::Sha256Hex(spec::Canonical(s, spec::With::kExecution).dump());
}

int64_t PredictDiskBytes(const spec::TrialSpec& s) {
  // Weights and two moments; two checkpoints where one falls due before the last.
  const double checkpoint = 12.0 * static_cast<double>(spec::LayoutOf(s.model).row_size);
  const bool one =
      s.execution.checkpoint_seconds == 0 &&
      (s.execution.checkpoint_steps == 0 || s.execution.checkpoint_steps >= s.train.steps);
  const double points = 5.0 * static_cast<double>(s.train.steps) /
                            static_cast<double>(std::max<int64_t>(1, s.train.log_every)) +
                        static_cast<double>(s.eval.points * (12 + s.model.n_layers));
  return static_cast<int64_t>(std::min((one ? 1 : 2) * checkpoint + kPointBytes * points, 9e18));
}

}  // namespace plumb::sweeps
