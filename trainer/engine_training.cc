// A step of all rows, and what falls due after it.
#include "trainer/process_usage.h"
#include "trainer/samples.h"
#include "trainer/spec/cost.h"
#include "trainer/torch_engine.h"

namespace plumb::trainer {
namespace {

// The smoothed loss forgets with this factor a step; divergence is judged once it has seen 1 / (1 -
// kSmoothing) of them.
constexpr double kSmoothing = 0.95;
constexpr int64_t kSmoothingSteps = 20;

}  // namespace

void TorchEngine::FillBatches() {
  const spec::TrialSpec& s = rows_.front().spec();
  const int64_t n = static_cast<int64_t>(rows_.size()), T = s.data.seq_len,
                B = s.train.batch_tokens / T;
  if (!ids_.defined() || ids_.sizes() != at::IntArrayRef({n, B, T})) {
    ids_ = at::empty({n, B, T}, at::kLong);
    targets_ = at::empty({n, B, T}, at::kLong);
  }
  for (int64_t k = 0; k < n; ++k) {
    const Row& r = rows_[k];
    FillBatch(r.spec(), *dataset_, *r.order, r.progress.step, ids_.data_ptr<int64_t>() + k * B * T,
              targets_.data_ptr<int64_t>() + k * B * T);
  }
}

void TorchEngine::StepRows() {
  const Clock::time_point start = Clock::now();
  const double cpu = CpuSeconds();
  FillBatches();
  std::vector<RowUpdate> updates;
  bool evaluates = false;
  for (const Row& r : rows_) {
    evaluates |= Evaluates(r, r.progress.step + 1);
    updates.push_back(UpdateOf(r.spec(), r.progress.step + 1));
  }
  std::vector<std::vector<double>> layer_norms;
  const at::Device device = bundle_->device();
  if (gang_ != nullptr) gang_->Begin(RankWork::kTrain, rows_.front().progress.step);
  const StepResult result = bundle_->Step(
      ids_.to(device), targets_.to(device), updates, rows_.front().spec().execution.micro_batch,
      evaluates ? &layer_norms : nullptr, gang_ != nullptr ? &gang_->ranks() : nullptr);
  if (gang_ != nullptr) gang_->Finish();
  // Each row pays its share of the step.
  const double share = 1.0 / static_cast<double>(rows_.size());
  const double wall = Seconds(Clock::now() - start),
               cpu_spent = CpuSeconds() - cpu + (gang_ != nullptr ? gang_->step_cpu_seconds() : 0);
  for (Row& r : rows_) {
    r.progress.wall_seconds += wall * share;
    r.progress.cpu_seconds += cpu_spent * share;
    r.window_seconds += wall;
    r.window_tokens += r.spec().train.batch_tokens;
  }
  for (size_t k = 0; k < result.block_evaluations.size(); ++k) {
    const spec::TrialSpec& s = rows_[k].spec();
    rows_[k].progress.block_evaluations +=
        result.block_evaluations[k] * static_cast<double>(s.train.batch_tokens / s.data.seq_len);
    rows_[k].balance = result.balance[k];
  }
  for (size_t k = 0; k < result.layer_cosine.size(); ++k) {
    const spec::TrainSpec& t = rows_[k].spec().train;
    std::vector<PointValue>& told = rows_[k].penalties;
    told.clear();
    if (t.layer_cosine > 0)
      told.push_back({.name = "train/layer_cosine", .value = result.layer_cosine[k]});
    if (t.layer_mse > 0) told.push_back({.name = "train/layer_mse", .value = result.layer_mse[k]});
  }
  // From the last row to the first: ending one moves the last into its place.
  for (size_t k = rows_.size(); k-- > 0;) {
    Guarded(rows_[k].name(), rows_[k].progress.step, [&] {
      AfterStep(k, result.loss[k], result.grad_norm[k], result.finite[k], updates[k].lr,
                evaluates ? &layer_norms[k] : nullptr);
    });
  }
}

void TorchEngine::AfterStep(size_t k, double loss, double grad_norm, bool finite, double lr,
                            const std::vector<double>* layer_norms) {
  Row& r = rows_[k];
  const spec::TrialSpec& s = r.spec();
  const int64_t step = r.progress.step + 1;
  if (!finite) {
    sink_.Points(r.name(), step, {{.name = "train/loss", .value = loss}});
    return End(k, RowOutcome::kDiverged,
               "loss or gradient is not finite at step " + std::to_string(step));
  }
  r.progress.step = step;
  r.progress.first_loss = step == 1 ? loss : r.progress.first_loss;
  r.progress.smoothed_loss =
      step == 1 ? loss : kSmoothing * r.progress.smoothed_loss + (1 - kSmoothing) * loss;

  std::vector<PointValue> points;
  const auto add = [&](const std::string& name, double value, int64_t layer = -1) {
    points.push_back({.name = name, .layer = layer, .value = value});
  };
  if (IsLogStep(s, step)) {
    const double rate =
        r.window_seconds > 0 ? static_cast<double>(r.window_tokens) / r.window_seconds : 0;
    add("train/loss", loss);
    add("train/lr", lr);
    add("train/grad_norm", grad_norm);
    add("train/tokens_per_s", rate);
    add("train/flops_per_s",
        rate * static_cast<double>(spec::TrainingFlopsPerToken(s.model, s.data.seq_len)));
    points.insert(points.end(), r.penalties.begin(), r.penalties.end());
    r.window_seconds = 0, r.window_tokens = 0;
  }
  if (IsLinearityStep(s, step)) Linearity(k, &points);
  if (Evaluates(r, step)) {
    for (size_t l = 0; l < layer_norms->size(); ++l)
      add("train/grad_norm_layer", (*layer_norms)[l], static_cast<int64_t>(l));
    EvaluateRow(k, &points);
  }
  if (!points.empty()) sink_.Points(r.name(), step, points);

  const double factor = s.train.divergence_factor;
  if (factor > 0 && step >= kSmoothingSteps &&
      r.progress.smoothed_loss > factor * r.progress.first_loss) {
    return End(k, RowOutcome::kDiverged,
               "smoothed loss " + std::to_string(r.progress.smoothed_loss) + " at step " +
                   std::to_string(step) + " is above " + std::to_string(factor) +
                   " times the first loss (train.divergence_factor)");
  }
  if (step >= r.until) return Conclude(k);
  const bool due = step == r.request.keep_step ||
                   (s.execution.checkpoint_steps > 0 && step % s.execution.checkpoint_steps == 0) ||
                   (s.execution.checkpoint_seconds > 0 &&
                    Seconds(Clock::now() - r.last_checkpoint) >= s.execution.checkpoint_seconds);
  if (due || r.checkpoint_asked) Checkpoint(k);
}

}  // namespace plumb::trainer
