// Stage "finetune": a classifier on a trained model, all weights trained, once for each seed.
//
// The head is linear on the normed residual stream: of the last token where attention is causal, of
// the mean over tokens where it is not. Texts are never padded: those of one length share a pass.
//
// linearity: how linear the layers are (docs/linearity.md, the stage's defaults) before it and
// after each run, on the same texts of the corpus that the model was trained on.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <optional>

#include "data/classification.h"
#include "data/tokenizer.h"
#include "trainer/counter_random.h"
#include "trainer/linearity/measurement.h"
#include "trainer/schedule.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {
namespace {

using data::ClassExample;
using nlohmann::json;

spec::ParameterLayout WithClassifier(spec::ParameterLayout layout, int64_t d, int64_t classes,
                                     double std) {
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, spec::Init init,
                       spec::Role role) {
    spec::Parameter p{.name = name, .shape = std::move(shape), .init = init, .role = role};
    p.offset = layout.row_size;
    layout.row_size += (p.size() + 15) / 16 * 16;
    layout.parameters.push_back(std::move(p));
  };
  add("classifier.weight", {d, classes}, {.kind = spec::Init::Kind::kNormal, .std = std},
      spec::Role::kReadout);
  add("classifier.bias", {classes}, {.kind = spec::Init::Kind::kZeros}, spec::Role::kBias);
  return layout;
}

class Finetune {
 public:
  Finetune(const StageContext& c, data::ClassificationData task)
      : c_(c),
        s_(c.settings),
        task_(std::move(task)),
        model_(c.spec.model),
        layout_(WithClassifier(spec::LayoutOf(model_), model_.d_model,
                               static_cast<int64_t>(task_.classes.size()), model_.init_std)),
        arena_(layout_, 1, c.bundle->device()),
        tables_(model_, s_.at("max_tokens"), c.bundle->device()),
        optimizer_(model_, layout_) {}

  int64_t epochs() const { return s_.at("epochs"); }

  // Throws std::runtime_error where the corpus has too few texts.
  std::unique_ptr<linearity::Measurement> NewMeasurement() const {
    return std::make_unique<linearity::Measurement>(*c_.bundle, 0, *c_.dataset, c_.spec,
                                                    linearity::MeasurementPlan());
  }
  void BeginMeasuring(bool after) {
    if (after) TakeTurns();
    measurement_ = NewMeasurement();
  }
  void Measure() { measurement_->Advance(); }
  // `index`: of the run it comes after; none: it is of the model as it was.
  void EndMeasuring(std::optional<int64_t> index) {
    const std::vector<PointValue> points = PointsOf(measurement_->Finish());
    measurement_.reset();
    if (index) TakeTurns();
    json series = json::object();
    for (const PointValue& p : points) {
      json& layers = series[p.name];
      while (std::ssize(layers) <= std::max<int64_t>(0, p.layer)) layers.push_back(nullptr);
      if (std::isfinite(p.value)) layers[std::max<int64_t>(0, p.layer)] = p.value;
      if (index) after_[{p.name, p.layer}] += p.value;
    }
    json record = {{"series", series}, {"definition", linearity::kDefinition}};
    record["seed"] = index ? json(seed_) : json();
    c_.Record("finetune_linearity", index ? "after" : "before", index.value_or(0), record);
    std::vector<PointValue> told = points;
    for (PointValue& p : told) {
      if (index) p.value = after_.at({p.name, p.layer}) / static_cast<double>(*index + 1);
      p.name = (index ? "finetune/after/" : "finetune/before/") + p.name;
    }
    if (!index || *index + 1 == std::ssize(s_.at("seeds"))) c_.sink->Points(c_.name, 1, told);
  }

  void Begin(int64_t seed) {
    seed_ = seed, step_ = 0, nonfinite_ = 0;
    arena_.InitRow(0, static_cast<int64_t>(Mix(HashOf("finetune") + seed) >> 12));
    at::NoGradGuard no_grad;
    ParameterView from = c_.bundle->arena().View(0, 1), to = arena_.View(0, 1);
    for (auto& [name, value] : from) to.at(name).copy_(value);
  }

  void Epoch(int64_t epoch) {
    const std::vector<ClassExample>& train = task_.split(data::ClassSplit::kTrain);
    std::vector<size_t> order(train.size());
    std::iota(order.begin(), order.end(), 0);
    const CounterRandom random(Mix(HashOf("finetune order") + seed_) + epoch);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Bits(i) % i]);
    const size_t batch = s_.at("batch").get<size_t>();
    for (size_t first = 0; first < order.size(); first += batch) {
      std::vector<const ClassExample*> examples;
      for (size_t i = first; i < std::min(order.size(), first + batch); ++i)
        examples.push_back(&train[order[i]]);
      Update(examples);
    }
  }

  void Report(int64_t index) {
    const data::ClassSplit split = ScoredSplit();
    const std::vector<ClassExample>& examples = task_.split(split);
    std::vector<const ClassExample*> all;
    for (const ClassExample& e : examples) all.push_back(&e);
    at::NoGradGuard no_grad;
    double loss = 0;
    int64_t right = 0;
    for (const auto& [length, group] : ByLength(all, s_.at("batch").get<size_t>())) {
      const auto [logits, labels] = Classify(arena_.View(0, 1), group, length, false);
      loss += at::cross_entropy_loss(logits.to(at::kDouble), labels, {}, at::Reduction::Sum)
                  .item<double>();
      right += logits.argmax(1).eq(labels).sum().item<int64_t>();
    }
    const auto n = static_cast<double>(examples.size());
    accuracy_ += static_cast<double>(right) / n, ++reported_;
    c_.Record("finetune", "seed", index,
              {{"task", s_.at("task").at("path")},
               {"seed", seed_},
               {"split", data::Name(split)},
               {"examples", examples.size()},
               {"train_examples", task_.split(data::ClassSplit::kTrain).size()},
               {"classes", task_.classes.size()},
               {"cut", task_.cut},
               {"also_in_train", task_.also_in_train[static_cast<size_t>(split)]},
               {"steps", step_},
               {"accuracy", static_cast<double>(right) / n},
               {"loss", std::isfinite(loss) ? json(loss / n) : json()},
               {"nonfinite_batches", nonfinite_}});
    c_.Point("finetune/mean_accuracy", accuracy_ / reported_);
  }

 private:
  // Exchanges the fine-tuned weights and those of the model as it was.
  void TakeTurns() {
    at::NoGradGuard no_grad;
    ParameterView whole = c_.bundle->arena().View(0, 1), tuned = arena_.View(0, 1);
    for (auto& [name, value] : whole) {
      const at::Tensor kept = value.clone();
      value.copy_(tuned.at(name));
      tuned.at(name).copy_(kept);
    }
  }
  data::ClassSplit ScoredSplit() const {
    return task_.split(data::ClassSplit::kTest).empty() ? data::ClassSplit::kDev
                                                        : data::ClassSplit::kTest;
  }
  using Group = std::pair<int64_t, std::vector<const ClassExample*>>;
  static std::vector<Group> ByLength(const std::vector<const ClassExample*>& examples,
                                     size_t most) {
    std::map<int64_t, std::vector<const ClassExample*>> by_length;
    for (const ClassExample* e : examples)
      by_length[static_cast<int64_t>(e->ids.size())].push_back(e);
    std::vector<Group> groups;
    for (const auto& [length, all] : by_length) {
      for (size_t i = 0; i < all.size(); i += most)
        groups.emplace_back(
            length, std::vector<const ClassExample*>(all.begin() + i,
                                                     all.begin() + std::min(all.size(), i + most)));
    }
    return groups;
  }
  // Logits [n, C] and labels [n] of texts of one length.
  std::pair<at::Tensor, at::Tensor> Classify(const ParameterView& parameters,
                                             const std::vector<const ClassExample*>& group,
                                             int64_t T, bool training) const {
    const auto n = static_cast<int64_t>(group.size());
    at::Tensor ids = at::empty({1, n, T}, at::kLong), labels = at::empty({n}, at::kLong);
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(group[i]->ids.data(), T, ids.data_ptr<int64_t>() + i * T);
      labels.data_ptr<int64_t>()[i] = group[i]->label;
    }
    Extras extras{.training = training,
                  .noise = Mix(HashOf("finetune noise") + seed_) + step_,
                  .features = true};
    const at::Tensor states =
        Forward(model_, tables_, parameters, ids.to(c_.bundle->device()), &extras)
            .view({n, T, model_.d_model});
    const at::Tensor text = model_.causal ? states.select(1, T - 1) : states.mean(1);
    const at::Tensor logits =
        at::addmm(parameters.at("classifier.bias")[0], text, parameters.at("classifier.weight")[0]);
    return {logits, labels.to(c_.bundle->device())};
  }

  void Update(const std::vector<const ClassExample*>& examples) {
    const auto batch = s_.at("batch").get<int64_t>();
    const auto train = static_cast<int64_t>(task_.split(data::ClassSplit::kTrain).size());
    const int64_t steps = (train + batch - 1) / batch * epochs();
    double loss = 0;
    for (const auto& [length, group] : ByLength(examples, examples.size())) {
      const auto [logits, labels] = Classify(arena_.Leaves(0, 1), group, length, true);
      const at::Tensor mean = at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum) /
                              static_cast<double>(examples.size());
      mean.backward();
      loss += mean.item<double>();
    }
    const bool finite =
        std::isfinite(loss) && std::isfinite(ops::RowSquares(arena_.grads()).front());
    nonfinite_ += !finite;
    ++step_;
    at::NoGradGuard no_grad;
    const spec::TrainSpec schedule = Schedule(steps);
    optimizer_.Step(arena_,
                    {{.lr = LearningRate(schedule, step_),
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .eps = 1e-8,
                      .weight_decay = s_.at("weight_decay"),
                      .step = step_}},
                    {1.0}, {finite});
    if (!finite) arena_.grads().zero_();
  }
  spec::TrainSpec Schedule(int64_t steps) const {
    const auto kind = s_.at("schedule").get<std::string>();
    spec::TrainSpec t;
    t.steps = steps, t.lr = s_.at("lr"), t.final_lr_fraction = 0;
    t.warmup_steps = static_cast<int64_t>(
        std::round(s_.at("warmup_fraction").get<double>() * static_cast<double>(steps)));
    t.schedule = kind == "constant" ? spec::ScheduleKind::kConstant
                 : kind == "linear" ? spec::ScheduleKind::kLinear
                                    : spec::ScheduleKind::kCosine;
    return t;
  }

  const StageContext& c_;
  const json& s_;
  const data::ClassificationData task_;
  const spec::ModelSpec model_;
  const spec::ParameterLayout layout_;
  Arena arena_;
  const ForwardTables tables_;
  const Optimizer optimizer_;
  int64_t seed_ = 0, step_ = 0, nonfinite_ = 0;
  double accuracy_ = 0, reported_ = 0;
  std::unique_ptr<linearity::Measurement> measurement_;      // that is going on
  std::map<std::pair<std::string, int64_t>, double> after_;  // sums over runs, by series and layer
};

}  // namespace

static StageWork PlanFinetune(const StageContext& c) {
  const json& s = c.settings;
  const std::string path = CheckedFile(s.at("task"));
  const spec::ModelSpec& m = c.spec.model;
  const auto longest = s.at("max_tokens").get<int64_t>();
  if (m.max_positions > 0 && longest > m.max_positions) {
    throw Infeasible("max_tokens " + std::to_string(longest) + ": the model has " +
                     std::to_string(m.max_positions) + " positions");
  }
  data::ClassificationData task;
  try {
    task = data::ReadClassification(path, *data::OpenTokenizer(c.data_dir),
                                    {.seq_len = longest, .holdout = s.at("holdout").get<double>()});
  } catch (const data::DataError& e) {
    throw Infeasible(e.what());
  }
  if (task.split(data::ClassSplit::kTrain).empty() ||
      (task.split(data::ClassSplit::kDev).empty() && task.split(data::ClassSplit::kTest).empty())) {
    throw Infeasible(path + ": needs texts to train on (train) and to score (dev or test)");
  }
  const auto run = std::make_shared<Finetune>(c, std::move(task));
  StageWork work;
  int64_t index = 0, pieces = 0;
  const bool measures = s.at("linearity").get<bool>();
  try {
    if (measures) pieces = run->NewMeasurement()->pieces();
  } catch (const std::runtime_error& e) {
    throw Infeasible(e.what());
  }
  const auto measure = [&](std::optional<int64_t> after) {
    if (!measures) return;
    work.push_back([run, after] { run->BeginMeasuring(after.has_value()); });
    for (int64_t i = 0; i < pieces; ++i) work.push_back([run] { run->Measure(); });
    work.push_back([run, after] { run->EndMeasuring(after); });
  };
  measure(std::nullopt);
  for (const json& seed : s.at("seeds")) {
    work.push_back([run, seed] { run->Begin(seed); });
    for (int64_t e = 0; e < run->epochs(); ++e) work.push_back([run, e] { run->Epoch(e); });
    work.push_back([run, index] { run->Report(index); });
    measure(index++);
  }
  return work;
}

static const RegisterStage kFinetune("finetune", PlanFinetune);

}  // namespace plumb::trainer
