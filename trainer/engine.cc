// The engine's commands, and whose turn it is.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <malloc.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <stdexcept>

#include "trainer/process_usage.h"
#include "trainer/spec/parse.h"
#include "trainer/stages/stage.h"
#include "trainer/torch_engine.h"

namespace plumb::trainer {

std::string TorchEngine::Description() const { return std::string("torch ") + TORCH_VERSION; }

void TorchEngine::Open(const std::string& bundle, int64_t capacity, const std::string& data_dir,
                       int64_t threads) {
  Close();
  if (capacity < 1 || capacity > 4096) throw std::invalid_argument("capacity must be in [1, 4096]");
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

void TorchEngine::AddRow(const RowRequest& request) {
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

void TorchEngine::ExtendRow(const std::string& row, int64_t until_step) {
  Row& r = Find(row);
  r.until = until_step < 0 ? r.spec().train.steps : std::min(until_step, r.spec().train.steps);
}

void TorchEngine::CheckpointRow(const std::string& row) { Find(row).checkpoint_asked = true; }

void TorchEngine::StopRow(const std::string& row, StopMode mode) {
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

bool TorchEngine::Step() {
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

std::vector<std::string> TorchEngine::LiveRows() const {
  std::vector<std::string> out;
  for (const Row& r : rows_) out.push_back(r.name());
  if (member_ != nullptr) out.push_back(member_->row());
  return out;
}

void TorchEngine::Close() {
  if (member_ != nullptr) EndMember(RowOutcome::kCancelled, "the bundle was closed");
  while (!rows_.empty()) End(rows_.size() - 1, RowOutcome::kCancelled, "the bundle was closed");
  bundle_.reset();
  dataset_.reset();
  open_ = false;
}

std::unique_ptr<Engine> MakeTorchEngine(EventSink& sink) {
  return std::make_unique<TorchEngine>(sink);
}

}  // namespace plumb::trainer
