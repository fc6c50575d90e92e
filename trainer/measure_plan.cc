#include "trainer/measure_plan.h"

#include <cmath>

#include "trainer/linearity/transitions.h"

namespace plumb::trainer {
namespace {
using Names = std::vector<std::string>;

void AddScores(const std::string& of, bool with_bytes, Names* out) {
  out->push_back(of + "/loss");
  out->push_back(of + "/perplexity");
  if (with_bytes) out->push_back(of + "/bits_per_byte");
}

void AddSplit(const std::string& split, bool with_bytes, const Names& parts, Names* out) {
  AddScores(split, with_bytes, out);
  if (parts.size() < 2) return;
  for (const std::string& part : parts) AddScores(split + "/" + part, with_bytes, out);
}
}  // namespace

bool IsLogStep(const spec::TrialSpec& s, int64_t step) {
  return step % s.train.log_every == 0 || step == s.train.steps;
}

bool IsEvalStep(const spec::TrialSpec& s, int64_t step) {
  // The i with round(i S / P) == step, if there is one.
  const double S = static_cast<double>(s.train.steps), P = static_cast<double>(s.eval.points);
  const auto i = static_cast<int64_t>(std::round(static_cast<double>(step) * P / S));
  for (int64_t j = std::max<int64_t>(1, i - 1); j <= std::min(s.eval.points, i + 1); ++j) {
    if (static_cast<int64_t>(std::round(static_cast<double>(j) * S / P)) == step) return true;
  }
  return false;
}

bool IsLinearityStep(const spec::TrialSpec& s, int64_t step) {
  return s.linearity.every > 0 && (step % s.linearity.every == 0 || step == s.train.steps);
}

std::vector<std::string> PenaltySeries(const spec::TrialSpec& s) {
  std::vector<std::string> out;
  if (s.train.layer_cosine > 0) out.push_back("train/layer_cosine");
  if (s.train.layer_mse > 0) out.push_back("train/layer_mse");
  return out;
}

int64_t LinearityPoints(const spec::TrialSpec& s) {
  constexpr int64_t kOfTransition = 18, kOfState = 4, kTime = 1;
  const int64_t moves = spec::Routed(s.model) ? s.model.router.steps : s.model.n_layers;
  const auto transitions = static_cast<int64_t>(linearity::TransitionsOf(moves).size());
  return kOfTransition * transitions + kOfState * (moves + 1) + kTime;
}

std::vector<std::string> LogSeries() {
  return {"train/loss", "train/lr", "train/grad_norm", "train/tokens_per_s", "train/flops_per_s"};
}

bool HasBitsPerByte(const spec::TrialSpec& s, bool reversible) {
  return reversible && s.train.objective == spec::Objective::kCausal;
}

std::vector<std::string> EvalSeries(const spec::TrialSpec& s, bool reversible, const Names& parts) {
  const bool with_bytes = HasBitsPerByte(s, reversible);
  std::vector<std::string> out;
  AddSplit("tune", with_bytes, parts, &out);
  AddSplit("val", with_bytes, parts, &out);
  if (s.eval.train_tokens > 0) out.push_back("train_subset/loss");
  for (const char* name :
       {"time/wall_seconds", "time/cpu_seconds", "memory/peak_bytes", "data/epochs"})
    out.push_back(name);
  if (parts.size() > 1) {
    for (const std::string& part : parts) out.push_back("data/epochs/" + part);
  }
  if (spec::Routed(s.model)) {
    for (const char* name : {"router/layer_evaluations", "router/distinct_paths",
                             "compute/flops_planned", "compute/flops_executed"})
      out.push_back(name);
    if (s.model.router.gate == spec::RouterGate::kSoft) out.push_back("val/argmax_loss");
    if (s.model.router.balance > 0) out.push_back("train/balance_loss");
  }
  return out;
}

std::vector<std::string> FinalSeries(const spec::TrialSpec& s, bool reversible,
                                     const Names& parts) {
  std::vector<std::string> out;
  AddSplit("test", HasBitsPerByte(s, reversible), parts, &out);
  if (s.model.router.gate == spec::RouterGate::kSoft) out.push_back("test/argmax_loss");
  return out;
}

int64_t CountPoints(const spec::TrialSpec& s, bool reversible, const Names& parts) {
  int64_t logs = 0, evals = 0, looks = 0;
  for (int64_t step = 1; step <= s.train.steps; ++step) {
    logs += IsLogStep(s, step);
    evals += IsEvalStep(s, step);
    looks += IsLinearityStep(s, step);
  }
  return logs * static_cast<int64_t>(LogSeries().size() + PenaltySeries(s).size()) +
         looks * LinearityPoints(s) +
         evals *
             (static_cast<int64_t>(EvalSeries(s, reversible, parts).size()) + s.model.n_layers) +
         static_cast<int64_t>(FinalSeries(s, reversible, parts).size());
}

}  // namespace plumb::trainer
