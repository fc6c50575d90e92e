// A row from its request to its outcome; its steps are elsewhere.
#include <ATen/Version.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/process_usage.h"
#include "trainer/protocol/retention.h"
#include "trainer/samples.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"
#include "trainer/timing.h"
#include "trainer/torch_engine.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;

// For a gang's ranks on other machines to come.
constexpr std::chrono::seconds kGathering(600);

}  // namespace

void TorchEngine::Prepare(const RowRequest& asked, const std::string& fusion_key) {
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
  const at::Device device = s.numerics.device == spec::DeviceKind::kCuda ? at::Device(at::kCUDA, 0)
                                                                         : at::Device(at::kCPU);
  gang_.reset();
  if (s.train.ranks > 1 && trains) gang_ = std::make_unique<Gang>(request, data_dir_, threads_);
  if (rows_.empty() && (bundle_ == nullptr || fusion_key != fusion_key_)) {
    bundle_.reset();
    bundle_ = std::make_unique<Bundle>(s.model, std::max(s.data.seq_len, s.eval.seq_len), capacity_,
                                       device);
    fusion_key_ = fusion_key;
  }
  const int64_t k = bundle_->Add(s.seed.init, s.model);
  try {
    if (request.checkpoint)
      row.progress = LoadCheckpoint(*request.checkpoint, bundle_->arena(), k,
                                    request.kind == "pretrain" && !forks ? &s : nullptr);
    if (forks && row.progress.step != s.init.step) {
      throw std::runtime_error("init.step is " + std::to_string(s.init.step) +
                               ", and the checkpoint of step " + std::to_string(row.progress.step));
    }
    if (request.keep_step > 0) WriteKept(request.checkpoint_dir, request.keep_step);
    if (gang_ != nullptr && gang_->address().empty()) gang_->Join(device);
  } catch (...) {
    bundle_->Remove(k);
    throw;
  }
  row.until = request.until_step < 0 ? s.train.steps : std::min(request.until_step, s.train.steps);
  row.last_checkpoint = Clock::now();
  row.last_checkpoint_step = row.progress.step;
  row.gathering = gang_ != nullptr && !gang_->address().empty();
  if (row.gathering) sink_.Gathering(request.row, gang_->address(), gang_->secret());
  rows_.push_back(std::move(row));
  if (!rows_.back().gathering) Begin();
}

void TorchEngine::Begin() {
  const RowRequest& request = rows_.back().request;
  sink_.RowStarted(request.row, rows_.back().progress.step);
  if (HasStage(request.kind)) BeginStage();
  // A checkpoint at the lease's end or the stage's: nothing is left to do but say so.
  if (request.kind == "pretrain" && rows_.back().progress.step >= rows_.back().until)
    Conclude(rows_.size() - 1);
}

void TorchEngine::Gather() {
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

void TorchEngine::BeginStage() {
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

void TorchEngine::WorkOnStage() {
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

void TorchEngine::Time() {
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

void TorchEngine::Checkpoint(size_t k) {
  Row& r = rows_[k];
  if (gang_ != nullptr) gang_->CheckSame(WeightsDigest(bundle_->arena(), static_cast<int64_t>(k)));
  const SavedCheckpoint saved =
      SaveCheckpoint(r.request.checkpoint_dir, bundle_->arena(), static_cast<int64_t>(k),
                     r.progress, spec::Canonical(r.spec(), spec::With::kExecution).dump());
  sink_.Checkpoint(r.name(), r.progress.step, saved.path, saved.digest, saved.bytes);
  r.last_checkpoint = Clock::now();
  r.last_checkpoint_step = r.progress.step;
  r.checkpoint_asked = false;
}

void TorchEngine::Conclude(size_t k) {
  Checkpoint(k);
  End(k, rows_[k].finished() ? RowOutcome::kSucceeded : RowOutcome::kPaused, "");
}

void TorchEngine::End(size_t k, RowOutcome outcome, const std::string& cause) {
  const std::string summary = Summary(rows_[k]), name = rows_[k].name();
  const int64_t step = rows_[k].progress.step;
  if (k == 0) stage_work_.clear();
  gang_.reset();  // before the end is told: no process is left of a row that has ended
  bundle_->Remove(static_cast<int64_t>(k));
  if (k + 1 != rows_.size()) rows_[k] = std::move(rows_.back());
  rows_.pop_back();
  sink_.RowEnded(name, step, outcome, cause, summary);
}

void TorchEngine::EndAll(RowOutcome outcome, const std::string& cause) {
  while (!rows_.empty()) End(rows_.size() - 1, outcome, cause);
}

void TorchEngine::EndLost(const std::string& what) {
  const Gang::Failure failure = gang_->Explain(what);
  EndAll(failure.outcome, failure.cause);
}

void TorchEngine::EndMember(RowOutcome outcome, const std::string& cause) {
  const std::string row = member_->row();
  member_.reset();  // no process is left of a row that has ended
  sink_.RowEnded(row, 0, outcome, cause, "{}");
}

std::string TorchEngine::Summary(const Row& r) const {
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

int64_t TorchEngine::PeakOfRanks() const {
  return PeakBytes() + (gang_ != nullptr ? gang_->peak_bytes() : 0);
}

}  // namespace plumb::trainer
