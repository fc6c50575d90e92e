// What is measured of a row beside its training: losses of the splits, routes, linearity.
#include "trainer/linearity/measurement.h"
#include "trainer/process_usage.h"
#include "trainer/spec/cost.h"
#include "trainer/stages/routes.h"
#include "trainer/torch_engine.h"

namespace plumb::trainer {

void TorchEngine::EvaluateRow(size_t k, std::vector<PointValue>* points) {
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

void TorchEngine::AddRouting(const Row& r, const std::vector<std::vector<TextRoute>>& routes,
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

void TorchEngine::Linearity(size_t k, std::vector<PointValue>* points) {
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

}  // namespace plumb::trainer
