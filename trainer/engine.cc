// The engine of plumb-trainer: rows of a bundle from request to outcome.
//
// A row's numbers depend on its config and checkpoint alone: not on the rows beside it, nor on when
// it joined.
#include "trainer/protocol/engine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <malloc.h>
#include <torch/headeronly/version.h>

#include <chrono>
#include <cmath>
#include <map>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/checkpoint.h"
#include "trainer/evaluation.h"
#include "trainer/linearity/measurement.h"
#include "trainer/measure_plan.h"
#include "trainer/mixed_order.h"
#include "trainer/process_usage.h"
#include "trainer/protocol/retention.h"
#include "trainer/ranks/gang.h"
#include "trainer/ranks/member.h"
#include "trainer/ranks/rank_process.h"
#include "trainer/samples.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"
#include "trainer/stages/routes.h"
#include "trainer/stages/stage.h"
#include "trainer/timing.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// The smoothed loss forgets with this factor a step; divergence is judged once it has seen 1 / (1 -
// kSmoothing) of them.
constexpr double kSmoothing = 0.95;
constexpr int64_t kSmoothingSteps = 20;

// For a gang's ranks on other machines to come, and how long commands wait meanwhile.
constexpr std::chrono::seconds kGathering(600);
constexpr std::chrono::milliseconds kGlance(20);

struct Row {
  RowRequest request;
  int64_t until = 0;  // the lease's end, at most train.steps
  RowProgress progress;
  std::unique_ptr<MixedOrder> order;
  double balance = 0;                 // of a routed model: the balance loss of the step before
  std::vector<PointValue> penalties;  // of the step before, where it has any
  Clock::time_point last_checkpoint;
  int64_t last_checkpoint_step = 0;
  bool checkpoint_asked = false;
  bool preempt_asked = false;
  bool gathering = false;  // its ranks on other machines have not all come
  // Since the last log step.
  double window_seconds = 0;
  int64_t window_tokens = 0;

  const spec::TrialSpec& spec() const { return request.spec; }
  const std::string& name() const { return request.row; }
  bool finished() const { return progress.step >= spec().train.steps; }
};

class TorchEngine : public Engine {
 public:
  explicit TorchEngine(EventSink& sink) : sink_(sink) {}

  std::string Description() const override { return std::string("torch ") + TORCH_VERSION; }

  void Open(const std::string& bundle, int64_t capacity, const std::string& data_dir,
            int64_t threads) override {
    Close();
    if (capacity < 1 || capacity > 4096)
      throw std::invalid_argument("capacity must be in [1, 4096]");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    at::set_num_threads(static_cast<int>(threads));
    threads_ = threads;
    name_ = bundle, capacity_ = capacity, data_dir_ = data_dir;
    // What the bundle before left in the heap is no part of this one's peak.
    malloc_trim(0);
    ResetPeak();
    residue_ = StatusBytes("VmRSS");
    open_ = true;
  }

  void AddRow(const RowRequest& request) override {
    if (!open_) throw std::logic_error("no bundle is open");
    if (static_cast<int64_t>(rows_.size()) >= capacity_ || member_ != nullptr)
      throw std::length_error("all rows of the bundle are taken");
    for (const Row& r : rows_) {
      if (r.name() == request.row)
        throw std::invalid_argument("row " + request.row + " is live already");
    }
    const std::string fusion_key = spec::FusionKey(request.spec);
    if (!rows_.empty() && fusion_key != fusion_key_)
      throw std::invalid_argument("the bundle holds rows of another fusion key");
    if (!rows_.empty() && request.spec.train.ranks > 1) {  // both have them: they are in the key
      throw std::invalid_argument(
          "a trial of several ranks (train.ranks) is run alone and shares no bundle");
    }
    Guarded(request.row, 0, [&] {
      if (request.kind != "pretrain" && request.kind != "timing" && !HasStage(request.kind)) {
        sink_.RowEnded(request.row, 0, RowOutcome::kInfeasible,
                       "this trainer does not run stages of kind " + request.kind, "{}");
        return;
      }
      if (request.spec.numerics.device == spec::DeviceKind::kCuda && !at::hasCUDA()) {
        sink_.RowEnded(request.row, 0, RowOutcome::kInfeasible,
                       "numerics.device is cuda, but this trainer sees no CUDA device; use a "
                       "worker with a GPU and a LibTorch built for it",
                       "{}");
        return;
      }
      if (request.spec.numerics.device == spec::DeviceKind::kCuda && request.spec.train.ranks > 1) {
        const auto gpus = static_cast<int64_t>(at::getNumGPUs());
        if (!Collective::Supports(at::kCUDA) || gpus < request.ranks_here()) {
          sink_.RowEnded(
              request.row, 0, RowOutcome::kInfeasible,
              Collective::Supports(at::kCUDA)
                  ? "train.ranks: one GPU a rank, but this machine has " + std::to_string(gpus)
                  : "train.ranks on GPUs needs a trainer built with NCCL; this one is not",
              "{}");
          return;
        }
      }
      if (request.gang && request.gang->first_rank > 0) {
        member_ = std::make_unique<Member>(request, data_dir_);
        sink_.RowStarted(request.row, 0);
        return;
      }
      if (!rows_.empty() &&
          (request.kind != "pretrain" || rows_.front().request.kind != "pretrain")) {
        throw std::invalid_argument("a row of kind " + request.kind +
                                    " cannot join: only pretrain rows share a bundle");
      }
      Prepare(request, fusion_key);
    });
  }

  void ExtendRow(const std::string& row, int64_t until_step) override {
    Row& r = Find(row);
    r.until = until_step < 0 ? r.spec().train.steps : std::min(until_step, r.spec().train.steps);
  }
  void CheckpointRow(const std::string& row) override { Find(row).checkpoint_asked = true; }
  void StopRow(const std::string& row, StopMode mode) override {
    if (member_ != nullptr && member_->row() == row) {
      mode == StopMode::kPreempt ? EndMember(RowOutcome::kPreempted, "asked to make room")
                                 : EndMember(RowOutcome::kCancelled, "cancelled");
      return;
    }
    const size_t k = IndexOf(row);
    if (mode == StopMode::kPreempt) {
      Guarded(row, rows_[k].progress.step, [&] {
        if (rows_[k].request.kind == "pretrain" && !rows_[k].gathering) Checkpoint(k);
        End(k, RowOutcome::kPreempted, "asked to make room");
      });
    } else {
      End(k, RowOutcome::kCancelled, "cancelled");
    }
  }

  bool Step() override {
    if (member_ != nullptr) {
      if (const auto end = member_->Wait(kGlance)) EndMember(end->outcome, end->cause);
      return true;
    }
    if (rows_.empty()) return false;
    if (rows_.front().gathering) {
      Guarded(rows_.front().name(), rows_.front().progress.step, [&] { Gather(); });
      return true;
    }
    if (rows_.front().request.kind != "pretrain") {
      Guarded(rows_.front().name(), 0,
              [&] { rows_.front().request.kind == "timing" ? Time() : WorkOnStage(); });
      return true;
    }
    try {
      StepRows();
    } catch (const RankLost& e) {
      EndLost(e.what());
    } catch (const std::bad_alloc&) {
      EndAll(RowOutcome::kOutOfMemory, "the trainer ran out of memory");
    } catch (const c10::OutOfMemoryError& e) {
      EndAll(RowOutcome::kOutOfMemory, e.what_without_backtrace());
    } catch (const std::exception& e) {
      EndAll(RowOutcome::kFailed, e.what());
    }
    return true;
  }

  std::vector<std::string> LiveRows() const override {
    std::vector<std::string> out;
    for (const Row& r : rows_) out.push_back(r.name());
    if (member_ != nullptr) out.push_back(member_->row());
    return out;
  }

  void Close() override {
    if (member_ != nullptr) EndMember(RowOutcome::kCancelled, "the bundle was closed");
    while (!rows_.empty()) End(rows_.size() - 1, RowOutcome::kCancelled, "the bundle was closed");
    bundle_.reset();
    dataset_.reset();
    open_ = false;
  }

 private:
  size_t IndexOf(const std::string& row) const {
    for (size_t k = 0; k < rows_.size(); ++k) {
      if (rows_[k].name() == row) return k;
    }
    throw std::out_of_range("no live row " + row);
  }
  Row& Find(const std::string& row) { return rows_[IndexOf(row)]; }

  // Runs `fn`; what it throws ends the row. The name is a copy: `fn` may end the row whose name it
  // is.
  template <typename Fn>
  void Guarded(const std::string row, int64_t step, Fn fn) {
    const auto end = [&](RowOutcome outcome, const std::string& cause) {
      for (size_t k = 0; k < rows_.size(); ++k) {
        if (rows_[k].name() == row) return End(k, outcome, cause);
      }
      if (rows_.empty()) gang_.reset();  // of the row that did not begin
      sink_.RowEnded(row, step, outcome, cause, "{}");
    };
    try {
      fn();
    } catch (const RankLost& e) {
      const Gang::Failure failure = gang_->Explain(e.what());
      end(failure.outcome, failure.cause);
    } catch (const Infeasible& e) {
      end(RowOutcome::kInfeasible, e.what());
    } catch (const std::bad_alloc&) {
      end(RowOutcome::kOutOfMemory, "the trainer ran out of memory");
    } catch (const c10::OutOfMemoryError& e) {
      end(RowOutcome::kOutOfMemory, e.what_without_backtrace());
    } catch (const c10::Error& e) {
      end(RowOutcome::kFailed, e.what_without_backtrace());
    } catch (const std::exception& e) {
      end(RowOutcome::kFailed, e.what());
    }
  }

  void Prepare(const RowRequest& asked, const std::string& fusion_key) {
    RowRequest request = asked;
    const spec::TrialSpec& s = request.spec;
    if (dataset_ == nullptr)
      dataset_ = std::make_unique<data::Dataset>(data::Dataset::Open(data_dir_));
    const data::Manifest& manifest = dataset_->manifest();
    const auto refuse = [&](const std::string& why) {
      sink_.RowEnded(request.row, 0, RowOutcome::kInfeasible, why, "{}");
    };
    if (!s.data.digest.empty() && s.data.digest != manifest.digest) {
      return refuse(
          "the corpus in " + data_dir_ +
          " is not the one the trial was planned for (data.digest differs); prepare it again");
    }
    if (manifest.vocab_size > s.model.vocab_size) {
      return refuse("the corpus has a vocabulary of " + std::to_string(manifest.vocab_size) +
                    ", model.vocab_size is " + std::to_string(s.model.vocab_size));
    }
    const bool warm = s.init.trial > 0 || !s.init.checkpoint.empty();
    if (request.kind == "pretrain" && warm &&
        (!request.checkpoint ||
         (!request.checkpoint->resume &&
          (s.init.digest.empty() || request.checkpoint->digest != s.init.digest)))) {
      return refuse("it begins with a checkpoint (init.digest) that was not given to this trainer");
    }
    // All of the state of a checkpoint that is another's, under what this row's config says.
    const bool forks = request.kind == "pretrain" && s.init.step > 0 && !request.checkpoint->resume;
    if (forks) request.checkpoint->resume = true;
    Row row;
    row.request = request;
    const bool trains = request.kind == "pretrain" || request.kind == "timing";
    try {  // a stage that follows a training asks nothing of the train split
      if (trains) row.order = std::make_unique<MixedOrder>(OrderOf(s, *dataset_));
    } catch (const std::invalid_argument& e) {
      return refuse(e.what());
    }
    const at::Device device = s.numerics.device == spec::DeviceKind::kCuda
                                  ? at::Device(at::kCUDA, 0)
                                  : at::Device(at::kCPU);
    gang_.reset();
    if (s.train.ranks > 1 && trains) gang_ = std::make_unique<Gang>(request, data_dir_, threads_);
    if (rows_.empty() && (bundle_ == nullptr || fusion_key != fusion_key_)) {
      bundle_.reset();
      bundle_ = std::make_unique<Bundle>(s.model, std::max(s.data.seq_len, s.eval.seq_len),
                                         capacity_, device);
      fusion_key_ = fusion_key;
    }
    const int64_t k = bundle_->Add(s.seed.init, s.model);
    try {
      if (request.checkpoint)
        row.progress = LoadCheckpoint(*request.checkpoint, bundle_->arena(), k,
                                      request.kind == "pretrain" && !forks ? &s : nullptr);
      if (forks && row.progress.step != s.init.step) {
        throw std::runtime_error("init.step is " + std::to_string(s.init.step) +
                                 ", and the checkpoint of step " +
                                 std::to_string(row.progress.step));
      }
      if (request.keep_step > 0) WriteKept(request.checkpoint_dir, request.keep_step);
      if (gang_ != nullptr && gang_->address().empty()) gang_->Join(device);
    } catch (...) {
      bundle_->Remove(k);
      throw;
    }
    row.until =
        request.until_step < 0 ? s.train.steps : std::min(request.until_step, s.train.steps);
    row.last_checkpoint = Clock::now();
    row.last_checkpoint_step = row.progress.step;
    row.gathering = gang_ != nullptr && !gang_->address().empty();
    if (row.gathering) sink_.Gathering(request.row, gang_->address(), gang_->secret());
    rows_.push_back(std::move(row));
    if (!rows_.back().gathering) Begin();
  }

  // The last row, once all that it needs is there.
  void Begin() {
    const RowRequest& request = rows_.back().request;
    sink_.RowStarted(request.row, rows_.back().progress.step);
    if (HasStage(request.kind)) BeginStage();
    // A checkpoint at the lease's end or the stage's: nothing is left to do but say so.
    if (request.kind == "pretrain" && rows_.back().progress.step >= rows_.back().until)
      Conclude(rows_.size() - 1);
  }

  void Gather() {
    Row& r = rows_.front();
    const std::string address = gang_->address();
    if (gang_->Gather(kGlance)) {
      gang_->Join(bundle_->device());
      r.gathering = false;
      Begin();
    } else if (Clock::now() > r.last_checkpoint + kGathering) {
      throw std::runtime_error("its ranks on other machines did not come to " + address +
                               " in time: can they reach this machine there (--gang-address)?");
    }
  }

  void EndMember(RowOutcome outcome, const std::string& cause) {
    const std::string row = member_->row();
    member_.reset();  // no process is left of a row that has ended
    sink_.RowEnded(row, 0, outcome, cause, "{}");
  }

  // ids and targets of the next batch of all rows, in buffers that are used again.
  void FillBatches() {
    const spec::TrialSpec& s = rows_.front().spec();
    const int64_t n = static_cast<int64_t>(rows_.size()), T = s.data.seq_len,
                  B = s.train.batch_tokens / T;
    if (!ids_.defined() || ids_.sizes() != at::IntArrayRef({n, B, T})) {
      ids_ = at::empty({n, B, T}, at::kLong);
      targets_ = at::empty({n, B, T}, at::kLong);
    }
    for (int64_t k = 0; k < n; ++k) {
      const Row& r = rows_[k];
      FillBatch(r.spec(), *dataset_, *r.order, r.progress.step,
                ids_.data_ptr<int64_t>() + k * B * T, targets_.data_ptr<int64_t>() + k * B * T);
    }
  }

  // Also where the lease ends: whoever gave it wants to know how good the row is there.
  static bool Evaluates(const Row& r, int64_t step) {
    return IsEvalStep(r.spec(), step) || step >= r.until;
  }

  void StepRows() {
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
                 cpu_spent =
                     CpuSeconds() - cpu + (gang_ != nullptr ? gang_->step_cpu_seconds() : 0);
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
      if (t.layer_mse > 0)
        told.push_back({.name = "train/layer_mse", .value = result.layer_mse[k]});
    }
    // From the last row to the first: ending one moves the last into its place.
    for (size_t k = rows_.size(); k-- > 0;) {
      Guarded(rows_[k].name(), rows_[k].progress.step, [&] {
        AfterStep(k, result.loss[k], result.grad_norm[k], result.finite[k], updates[k].lr,
                  evaluates ? &layer_norms[k] : nullptr);
      });
    }
  }

  // What falls due once a row has made a step.
  void AfterStep(size_t k, double loss, double grad_norm, bool finite, double lr,
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
    const bool due =
        step == r.request.keep_step ||
        (s.execution.checkpoint_steps > 0 && step % s.execution.checkpoint_steps == 0) ||
        (s.execution.checkpoint_seconds > 0 &&
         Seconds(Clock::now() - r.last_checkpoint) >= s.execution.checkpoint_seconds);
    if (due || r.checkpoint_asked) Checkpoint(k);
  }

  // How linear the row's layers now are.
  void Linearity(size_t k, std::vector<PointValue>* points) {
    Row& r = rows_[k];
    const Clock::time_point start = Clock::now();
    const double cpu = CpuSeconds();
    for (PointValue& p :
         linearity::MeasureLinearity(*bundle_, static_cast<int64_t>(k), *dataset_, r.spec()))
      points->push_back(std::move(p));
    const double seconds = Seconds(Clock::now() - start);
    points->push_back({.name = "time/linearity_seconds", .value = seconds});
    r.progress.wall_seconds += seconds;
    r.progress.cpu_seconds += CpuSeconds() - cpu;
  }

  void EvaluateRow(size_t k, std::vector<PointValue>* points) {
    Row& r = rows_[k];
    const spec::TrialSpec& s = r.spec();
    const Clock::time_point start = Clock::now();
    const double cpu = CpuSeconds();
    const bool last = r.finished();
    const bool with_bytes = HasBitsPerByte(s, dataset_->manifest().reversible);
    const int64_t tokens = last ? s.eval.final_tokens : s.eval.tokens;
    const auto add = [&](const std::string& name, double value) {
      points->push_back({.name = name, .value = value});
    };
    const bool routed = spec::Routed(s.model);
    std::vector<std::vector<TextRoute>> routes;
    const auto score = [&](data::Split split) {
      std::vector<DocumentScore> documents;
      EvaluationPlan plan = PlanOf(s, tokens);
      if (last) plan.document_scores = &documents;
      const std::vector<Score> parts = EvaluateParts(*bundle_, static_cast<int64_t>(k), *dataset_,
                                                     split, plan, routed ? &routes : nullptr);
      const auto report = [&](const std::string& name, const Score& e) {
        add(name + "/loss", e.loss());
        add(name + "/perplexity", e.perplexity());
        if (with_bytes) add(name + "/bits_per_byte", e.bits_per_byte());
      };
      const std::string name = data::Name(split);
      Score all;
      for (const Score& part : parts) all += part;
      report(name, all);
      for (size_t p = 0; parts.size() > 1 && p < parts.size(); ++p)
        report(name + "/" + dataset_->parts()[p].name, parts[p]);
      if (!documents.empty()) sink_.Documents(r.name(), name, documents);
      if (s.model.router.gate == spec::RouterGate::kSoft && split != data::Split::kTune) {
        plan.document_scores = nullptr, plan.argmax = true;
        Score argmax;
        for (const Score& part :
             EvaluateParts(*bundle_, static_cast<int64_t>(k), *dataset_, split, plan))
          argmax += part;
        add(name + "/argmax_loss", argmax.loss());
      }
    };
    score(data::Split::kTune);
    score(data::Split::kVal);
    if (routed) AddRouting(r, routes, points);
    if (s.eval.train_tokens > 0) {
      add("train_subset/loss",
          Evaluate(*bundle_, static_cast<int64_t>(k), dataset_->split(data::Split::kTrain),
                   PlanOf(s, s.eval.train_tokens))
              .loss());
    }
    if (last) score(data::Split::kTest);  // once, and never for choosing
    if (last && routed) {
      RecordRoutes(sink_, r.name(), r.progress.step, s.model, "test", dataset_->parts(), routes);
    }
    r.progress.wall_seconds += Seconds(Clock::now() - start);
    r.progress.cpu_seconds += CpuSeconds() - cpu;
    add("time/wall_seconds", r.progress.wall_seconds);
    add("time/cpu_seconds", r.progress.cpu_seconds);
    add("memory/peak_bytes", static_cast<double>(PeakOfRanks()));
    const int64_t samples = r.progress.step * (s.train.batch_tokens / s.data.seq_len);
    add("data/epochs", r.order->Epochs(samples));
    const std::vector<data::Part>& parts = dataset_->parts();
    for (size_t p = 0; parts.size() > 1 && p < parts.size(); ++p) {
      add("data/epochs/" + parts[p].name, r.order->Epochs(static_cast<int64_t>(p), samples));
    }
  }

  // `routes`: of the val split.
  void AddRouting(const Row& r, const std::vector<std::vector<TextRoute>>& routes,
                  std::vector<PointValue>* points) const {
    const spec::TrialSpec& s = r.spec();
    const auto add = [&](const char* name, double value) {
      points->push_back({.name = name, .value = value});
    };
    const RouteSummary summary = Summarise(routes);
    add("router/layer_evaluations", summary.layer_evaluations);
    add("router/distinct_paths", static_cast<double>(summary.distinct_paths));
    if (s.model.router.balance > 0) add("train/balance_loss", r.balance);
    // Training FLOPs so far: planned, and with the blocks that were computed in place of those that
    // were planned.
    const double tokens =
        static_cast<double>(r.progress.step) * static_cast<double>(s.train.batch_tokens);
    const double planned =
        tokens * static_cast<double>(spec::TrainingFlopsPerToken(s.model, s.data.seq_len));
    const double block = 3.0 * static_cast<double>(s.data.seq_len) *
                         static_cast<double>(spec::BlockFlopsPerToken(s.model, s.data.seq_len));
    const double texts = tokens / static_cast<double>(s.data.seq_len);
    add("compute/flops_planned", planned);
    add("compute/flops_executed",
        planned + block * (r.progress.block_evaluations -
                           texts * static_cast<double>(spec::PlannedBlockEvaluations(s.model))));
  }

  // Work of a stage that follows a training. Its pieces hold on to the context, which stays until
  // the next stage begins.
  void BeginStage() {
    const Row& r = rows_.front();
    stage_ = {.name = r.name(),
              .spec = r.spec(),
              .bundle = bundle_.get(),
              .dataset = dataset_.get(),
              .data_dir = data_dir_,
              .sink = &sink_};
    const auto wrong = spec::ReadStageSettings(r.request.kind, json::parse(r.request.stage_json),
                                               nullptr, &stage_.settings);
    if (!wrong.empty()) throw Infeasible(spec::Format(wrong));
    stage_work_ = PlanStage(r.request.kind, stage_);
    next_work_ = 0;
  }
  void WorkOnStage() {
    const Clock::time_point start = Clock::now();
    const double cpu = CpuSeconds();
    if (next_work_ < stage_work_.size()) stage_work_[next_work_++]();
    Row& r = rows_.front();
    r.progress.wall_seconds += Seconds(Clock::now() - start);
    r.progress.cpu_seconds += CpuSeconds() - cpu;
    if (next_work_ < stage_work_.size()) return;
    r.progress.step = 1;
    End(0, RowOutcome::kSucceeded, "");
  }

  void Checkpoint(size_t k) {
    Row& r = rows_[k];
    if (gang_ != nullptr)
      gang_->CheckSame(WeightsDigest(bundle_->arena(), static_cast<int64_t>(k)));
    const SavedCheckpoint saved =
        SaveCheckpoint(r.request.checkpoint_dir, bundle_->arena(), static_cast<int64_t>(k),
                       r.progress, spec::Canonical(r.spec(), spec::With::kExecution).dump());
    sink_.Checkpoint(r.name(), r.progress.step, saved.path, saved.digest, saved.bytes);
    r.last_checkpoint = Clock::now();
    r.last_checkpoint_step = r.progress.step;
    r.checkpoint_asked = false;
  }

  // The end of the lease, or of the stage.
  void Conclude(size_t k) {
    Checkpoint(k);
    End(k, rows_[k].finished() ? RowOutcome::kSucceeded : RowOutcome::kPaused, "");
  }

  void Time() {
    Row& r = rows_.front();
    const json settings = json::parse(r.request.stage_json);
    const TimingResult t = TimeTraining(*bundle_, r.spec(), *dataset_, *r.order,
                                        settings.value("seconds", 1.0), gang_.get());
    sink_.Points(r.name(), 1,
                 {{.name = "timing/solo_tokens_per_s", .value = t.tokens_per_s},
                  {.name = "timing/solo_flops_per_s",
                   .value = t.tokens_per_s * static_cast<double>(spec::TrainingFlopsPerToken(
                                                 r.spec().model, r.spec().data.seq_len))},
                  {.name = "timing/steps", .value = static_cast<double>(t.steps)}});
    r.progress.step = 1;
    End(0, RowOutcome::kSucceeded, "");
  }

  // Of a trial's processes together.
  int64_t PeakOfRanks() const { return PeakBytes() + (gang_ != nullptr ? gang_->peak_bytes() : 0); }

  std::string Summary(const Row& r) const {
    return json{{"wall_seconds", r.progress.wall_seconds},
                {"cpu_seconds", r.progress.cpu_seconds},
                {"peak_bytes", PeakOfRanks()},
                {"ranks", gang_ != nullptr ? r.spec().train.ranks : 1},
                {"resident_bytes_before", residue_},
                {"predicted_peak_bytes", spec::PredictedPeakBytes(r.spec(), capacity_)},
                {"threads", threads_},
                {"engine", Description()},
                {"capacity", capacity_},
                {"cpu_capability", at::get_cpu_capability()}}
        .dump();
  }

  void End(size_t k, RowOutcome outcome, const std::string& cause) {
    const std::string summary = Summary(rows_[k]), name = rows_[k].name();
    const int64_t step = rows_[k].progress.step;
    if (k == 0) stage_work_.clear();
    gang_.reset();  // before the end is told: no process is left of a row that has ended
    bundle_->Remove(static_cast<int64_t>(k));
    if (k + 1 != rows_.size()) rows_[k] = std::move(rows_.back());
    rows_.pop_back();
    sink_.RowEnded(name, step, outcome, cause, summary);
  }
  void EndAll(RowOutcome outcome, const std::string& cause) {
    while (!rows_.empty()) End(rows_.size() - 1, outcome, cause);
  }

  void EndLost(const std::string& what) {
    const Gang::Failure failure = gang_->Explain(what);
    EndAll(failure.outcome, failure.cause);
  }

  EventSink& sink_;
  bool open_ = false;
  std::string name_, data_dir_, fusion_key_;
  int64_t capacity_ = 0, threads_ = 1, residue_ = 0;
  std::unique_ptr<data::Dataset> dataset_;
  std::unique_ptr<Bundle> bundle_;
  std::vector<Row> rows_;       // row k of the bundle
  std::unique_ptr<Gang> gang_;  // of the one row, where it has ranks
  // In place of rows: ranks of a trial whose rank 0 is on another machine.
  std::unique_ptr<Member> member_;
  at::Tensor ids_, targets_;
  StageContext stage_;
  StageWork stage_work_;
  size_t next_work_ = 0;
};

}  // namespace

std::unique_ptr<Engine> MakeTorchEngine(EventSink& sink) {
  return std::make_unique<TorchEngine>(sink);
}

}  // namespace plumb::trainer
