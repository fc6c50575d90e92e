// The engine of plumb-trainer: rows of a bundle from request to outcome.
//
// A row's numbers depend on its config and checkpoint alone: not on the rows beside it, nor on when
// it joined.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/checkpoint.h"
#include "trainer/evaluation.h"
#include "trainer/measure_plan.h"
#include "trainer/mixed_order.h"
#include "trainer/protocol/engine.h"
#include "trainer/ranks/gang.h"
#include "trainer/ranks/member.h"
#include "trainer/ranks/rank_process.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {

class TorchEngine : public Engine {
 public:
  explicit TorchEngine(EventSink& sink) : sink_(sink) {}

  std::string Description() const override;
  void Open(const std::string& bundle, int64_t capacity, const std::string& data_dir,
            int64_t threads) override;
  void AddRow(const RowRequest& request) override;
  void ExtendRow(const std::string& row, int64_t until_step) override;
  void CheckpointRow(const std::string& row) override;
  void StopRow(const std::string& row, StopMode mode) override;
  bool Step() override;
  std::vector<std::string> LiveRows() const override;
  void Close() override;

 private:
  using Clock = std::chrono::steady_clock;
  static double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

  // How long commands wait while a gang's ranks on other machines come.
  static constexpr std::chrono::milliseconds kGlance{20};

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

  // ---- a row's way (engine_rows.cc) ----

  void Prepare(const RowRequest& asked, const std::string& fusion_key);
  // The last row, once all that it needs is there.
  void Begin();
  void Gather();
  // Work of a stage that follows a training. Its pieces hold on to the context, which stays until
  // the next stage begins.
  void BeginStage();
  void WorkOnStage();
  void Time();
  void Checkpoint(size_t k);
  // The end of the lease, or of the stage.
  void Conclude(size_t k);
  void End(size_t k, RowOutcome outcome, const std::string& cause);
  void EndAll(RowOutcome outcome, const std::string& cause);
  void EndLost(const std::string& what);
  void EndMember(RowOutcome outcome, const std::string& cause);
  std::string Summary(const Row& r) const;
  // Of a trial's processes together.
  int64_t PeakOfRanks() const;

  // ---- training (engine_training.cc) ----

  // Also where the lease ends: whoever gave it wants to know how good the row is there.
  static bool Evaluates(const Row& r, int64_t step) {
    return IsEvalStep(r.spec(), step) || step >= r.until;
  }
  // ids and targets of the next batch of all rows, in buffers that are used again.
  void FillBatches();
  void StepRows();
  // What falls due once a row has made a step.
  void AfterStep(size_t k, double loss, double grad_norm, bool finite, double lr,
                 const std::vector<double>* layer_norms);

  // ---- what is measured beside it (engine_evaluation.cc) ----

  void EvaluateRow(size_t k, std::vector<PointValue>* points);
  // `routes`: of the val split.
  void AddRouting(const Row& r, const std::vector<std::vector<TextRoute>>& routes,
                  std::vector<PointValue>* points) const;
  // How linear the row's layers now are.
  void Linearity(size_t k, std::vector<PointValue>* points);

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

}  // namespace plumb::trainer
