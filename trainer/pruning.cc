#include "trainer/pruning.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "trainer/counter_random.h"
#include "trainer/hidden_states.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::trainer {
namespace {

using at::Tensor;

constexpr int64_t kPositionsPerPass = 2048;
constexpr int64_t kTokensPerDimension = 50;

std::vector<linearity::Pair> Layers(int64_t n) {
  std::vector<linearity::Pair> out;
  for (int64_t l = 0; l < n; ++l) out.push_back({l, l + 1});
  return out;
}

// Parameters of block l alone.
int64_t BlockParameters(const spec::ModelSpec& m, int64_t l) {
  const std::string prefix = "blocks." + std::to_string(l) + ".";
  int64_t n = 0;
  for (const spec::Parameter& p : spec::LayoutOf(m).parameters) {
    if (p.name.rfind(prefix, 0) == 0) n += p.size();
  }
  return n;
}

at::ScalarType TypeOf(const Bundle& bundle, int64_t row) {
  return bundle.arena().View(row, 1).begin()->second.scalar_type();
}

// Mean over states 1 … L of mean squared difference / variance, differentiable in `states`.
Tensor Distance(const std::vector<Tensor>& states, const std::vector<Tensor>& whole) {
  Tensor sum;
  for (size_t l = 1; l < whole.size(); ++l) {
    const Tensor spread = (whole[l] - whole[l].mean(0, true)).square().mean();
    const Tensor one = (states[l] - whole[l]).square().mean() / spread;
    sum = sum.defined() ? sum + one : one;
  }
  return sum / static_cast<double>(whole.size() - 1);
}

}  // namespace

// Trains the maps of what was taken away, and if asked the layers that stay, so that the stream
// follows the whole model's on the texts of the fit.
class Pruning::Distillation {
 public:
  Distillation(const Pruning& of, const Substitutes& from)
      : of_(of),
        model_(of.spec_.model),
        student_(std::make_shared<Bundle>(model_,
                                          std::max(of.spec_.data.seq_len, of.spec_.eval.seq_len), 1,
                                          of.bundle_.device(), TypeOf(of.bundle_, of.row_))),
        tables_(model_, of.T_, of.bundle_.device()),
        optimizer_(model_, spec::LayoutOf(model_)),
        maps_(from) {
    student_->Add(0);
    at::NoGradGuard no_grad;
    ParameterView to = student_->arena().View(0, 1);
    for (const auto& [name, value] : of.bundle_.arena().View(of.row_, 1)) to.at(name).copy_(value);
    for (auto& [l, map] : maps_) {
      for (Tensor* leaf : {&map.weight, &map.bias}) {
        *leaf = leaf->detach().clone().set_requires_grad(true);
        adam_.push_back({at::zeros_like(*leaf), at::zeros_like(*leaf)});
      }
    }
  }

  void Run() {
    const int64_t steps = of_.plan_.steps, windows = of_.plan_.windows;
    const auto n = static_cast<int64_t>(of_.begins_.size());
    for (int64_t step = 1; step <= steps; ++step) {
      std::vector<int64_t> begins;
      for (int64_t w = 0; w < windows; ++w)
        begins.push_back(of_.begins_[((step - 1) * windows + w) % n]);
      Update(WindowIds(of_.dataset_.split(of_.plan_.fit), begins, 0, begins.size(), of_.T_), step,
             of_.plan_.lr * (1 - static_cast<double>(step - 1) / static_cast<double>(steps)));
    }
  }
  Student Result() const {
    Student out{student_.get(), 0, {}, student_};
    for (const auto& [l, map] : maps_)
      out.substitutes[l] = {map.weight.detach(), map.bias.detach()};
    return out;
  }

 private:
  void Update(const Tensor& ids, int64_t step, double lr) {
    const std::vector<Tensor> whole = HiddenStates(of_.bundle_, of_.row_, ids);
    Extras extras{
        .substitutes = &maps_, .want_states = true, .graph_of_states = true, .features = true};
    Forward(model_, tables_, student_->arena().Leaves(0, 1), ids.to(of_.bundle_.device()), &extras);
    std::vector<Tensor> states;
    for (const Tensor& s : extras.states) states.push_back(s[0]);
    const Tensor loss = Distance(states, {whole.begin(), whole.end() - 1});
    loss.backward();
    const bool finite = std::isfinite(loss.item<double>());
    at::NoGradGuard no_grad;
    if (of_.plan_.everything) {
      optimizer_.Step(student_->arena(),
                      {{.lr = lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = step}}, {1.0},
                      {finite});
    } else {
      student_->arena().grads().zero_();
    }
    size_t i = 0;
    for (auto& [l, map] : maps_) {
      for (Tensor* leaf : {&map.weight, &map.bias}) Adam(leaf, &adam_[i++], step, finite ? lr : 0);
    }
  }
  static void Adam(Tensor* leaf, std::pair<Tensor, Tensor>* moments, int64_t step, double lr) {
    auto& [m, v] = *moments;
    Tensor& gradient = leaf->mutable_grad();
    if (lr > 0 && gradient.defined()) {
      m.mul_(0.9).add_(gradient, 0.1);
      v.mul_(0.999).addcmul_(gradient, gradient, 0.001);
      const double by = 1 - std::pow(0.9, static_cast<double>(step)),
                   of = 1 - std::pow(0.999, static_cast<double>(step));
      leaf->addcdiv_(m / by, (v / of).sqrt() + 1e-8, -lr);
    }
    gradient = Tensor();
  }

  const Pruning& of_;
  const spec::ModelSpec model_;
  const std::shared_ptr<Bundle> student_;
  const ForwardTables tables_;
  const Optimizer optimizer_;
  Substitutes maps_;
  std::vector<std::pair<Tensor, Tensor>> adam_;
};

Pruning::Pruning(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                 const spec::TrialSpec& resolved, const PruningPlan& plan)
    : bundle_(bundle),
      row_(row),
      dataset_(dataset),
      spec_(resolved),
      plan_(plan),
      layers_(resolved.model.n_layers),
      T_(resolved.eval.seq_len) {
  if (spec::Routed(spec_.model))
    throw std::invalid_argument("a routed model chooses its layers itself");
  if (spec_.model.value_residual != spec::ValueResidual::kNone)
    throw std::invalid_argument("every layer reads the values of the first (model.value_residual)");
  if (layers_ < 2) throw std::invalid_argument("a model of one layer has none to spare");
  const int64_t tokens =
      plan.fit_tokens > 0 ? plan.fit_tokens : kTokensPerDimension * spec_.model.d_model;
  begins_ = SpreadWindows(dataset.split(plan.fit), T_, tokens);
  per_pass_ = std::max<int64_t>(1, kPositionsPerPass / T_);
  moments_ = std::make_unique<linearity::Moments>(layers_ + 2, Layers(layers_));
}
Pruning::~Pruning() = default;

int64_t Pruning::fit_pieces() const {
  return (static_cast<int64_t>(begins_.size()) + per_pass_ - 1) / per_pass_;
}

Tensor Pruning::FitIds(int64_t piece) const {
  const auto first = static_cast<size_t>(piece * per_pass_);
  return WindowIds(dataset_.split(plan_.fit), begins_, first,
                   std::min<size_t>(per_pass_, begins_.size() - first), T_);
}

void Pruning::FitOn(int64_t piece) { moments_->Add(HiddenStates(bundle_, row_, FitIds(piece))); }

const std::vector<LayerFinding>& Pruning::FitMaps() {
  const double values =
      static_cast<double>(moments_->n()) * static_cast<double>(spec_.model.d_model);
  for (int64_t l = 0; l < layers_; ++l) {
    const auto fit = linearity::FitPair(*moments_, static_cast<size_t>(l),
                                        linearity::SpectrumOf(moments_->gram(l)));
    maps_.push_back(fit.with);
    LayerFinding f{.linearity = fit.linearity};
    const double about_mean = moments_->move_squares(l).sum().item<double>();
    const double mean =
        moments_->move_mean(l).square().sum().item<double>() * static_cast<double>(moments_->n());
    f.identity_error = (about_mean + mean) / values;
    // What the best map of the move leaves is what the best map of the later state leaves.
    f.map_error = (1 - fit.linearity.score_without) * about_mean / values;
    findings_.push_back(f);
  }
  return findings_;
}

const std::vector<int64_t>& Pruning::Rank() {
  std::vector<double> least(layers_);
  for (int64_t l = 0; l < layers_; ++l) {
    const linearity::Linearity& found = findings_[l].linearity;
    least[l] = plan_.order == "score"           ? -found.score
               : plan_.order == "score_without" ? -found.score_without
               : plan_.order == "rho"           ? found.rho
               : plan_.order == "loss"
                   ? Evaluated(Without({l}, false)).loss()
                   : CounterRandom(Mix(HashOf("prune") + plan_.seed)).Uniform(l);
  }
  order_.resize(layers_);
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(),
                   [&](int64_t a, int64_t b) { return least[a] < least[b]; });
  return order_;
}

Student Pruning::Without(const std::vector<int64_t>& removed, bool mapped) const {
  Student out{&bundle_, row_, {}, nullptr};
  const at::ScalarType type = TypeOf(bundle_, row_);
  for (const int64_t l : removed) {
    out.substitutes[l] = {};
    if (mapped)
      out.substitutes[l] = {maps_[l].weight.to(bundle_.device(), type),
                            maps_[l].bias.to(bundle_.device(), type)};
  }
  return out;
}

Score Pruning::Evaluated(const Student& student) const {
  EvaluationPlan plan = PlanOf(spec_, plan_.tokens);
  plan.substitutes = &student.substitutes;
  Score all;
  for (const Score& part : EvaluateParts(*student.bundle, student.row, dataset_, plan_.score, plan))
    all += part;
  return all;
}

double Pruning::StreamError(const Student& student) const {
  std::vector<double> squares(layers_ + 1);
  for (int64_t piece = 0; piece < fit_pieces(); ++piece) {
    const Tensor ids = FitIds(piece);
    Extras extras{.substitutes = &student.substitutes, .want_states = true, .features = true};
    student.bundle->Logits(student.row, ids.to(bundle_.device()), &extras);
    const std::vector<Tensor> whole = HiddenStates(bundle_, row_, ids);
    for (int64_t l = 1; l <= layers_; ++l)
      squares[l] += (extras.states[l][0].to(at::kDouble) - whole[l].to(at::kDouble))
                        .square()
                        .sum()
                        .item<double>();
  }
  double sum = 0;
  for (int64_t l = 1; l <= layers_; ++l)
    sum += squares[l] / at::trace(moments_->gram(l)).item<double>();
  return sum / static_cast<double>(layers_);
}

double Pruning::Speed(const Student& student) const {
  const Tensor ids = FitIds(0).to(bundle_.device());
  double best = INFINITY;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    Extras extras{.substitutes = &student.substitutes};
    student.bundle->Logits(student.row, ids, &extras)[0][0][0]
        .item<double>();  // waits for the device
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return static_cast<double>(ids.numel()) / best;
}

Remains Pruning::Judged(const std::string& method, const std::vector<int64_t>& removed,
                        const Student& student, double stream_error) const {
  const spec::ModelSpec& m = spec_.model;
  PruningResult out{.method = method,
                    .removed = removed,
                    .score = Evaluated(student),
                    .stream_error = stream_error};
  out.parameters = spec::CountParameters(m).total;
  out.flops_per_token = spec::ForwardFlopsPerToken(m, T_);
  for (const int64_t l : removed) {
    out.parameters -= BlockParameters(m, l);
    out.flops_per_token -= spec::BlockFlopsPerToken(m, T_);
    if (!student.substitutes.at(l).weight.defined()) continue;
    out.parameters += m.d_model * (m.d_model + 1);
    out.flops_per_token += 2 * m.d_model * m.d_model;
  }
  out.tokens_per_second = Speed(student);
  return {std::move(out), student};
}

Remains Pruning::Whole() const { return Judged("none", {}, Without({}, false), 0); }

Remains Pruning::Left(const std::string& method, int64_t layers) const {
  const std::vector<int64_t> removed(order_.begin(), order_.begin() + layers);
  const Student student = Without(removed, method != "remove");
  const double error = StreamError(student);
  if (method != "distil") return Judged(method, removed, student, error);
  Distillation distillation(*this, student.substitutes);
  distillation.Run();
  const Student distilled = distillation.Result();
  const double after = StreamError(distilled);
  // Where the updates led away, the maps that they began from.
  return after <= error ? Judged(method, removed, distilled, after)
                        : Judged(method, removed, student, error);
}

}  // namespace plumb::trainer
