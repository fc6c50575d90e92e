#include "trainer/linearity/measurement.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "trainer/hidden_states.h"
#include "trainer/samples.h"

namespace plumb::trainer::linearity {
namespace {

using at::Tensor;

// Positions in one forward pass: all states of it are there at once.
constexpr int64_t kPositionsPerPass = 2048;
// Tokens to fit on for each dimension, without which the chance floor is no longer small.
constexpr int64_t kTokensPerDimension = 50;

int64_t Windows(int64_t tokens, int64_t T, int64_t from) {
  return (tokens + T - from - 1) / (T - from) * T;
}

}  // namespace

Measurement::Measurement(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                         const spec::TrialSpec& resolved, const MeasurementPlan& plan)
    : bundle_(bundle),
      row_(row),
      dataset_(dataset),
      spec_(resolved),
      plan_(plan),
      T_(resolved.eval.seq_len),
      moves_(StreamMoves(resolved.model)) {
  const int64_t d = resolved.model.d_model;
  const int64_t fit = plan.tokens > 0 ? plan.tokens : kTokensPerDimension * d;
  const int64_t score = plan.score_tokens > 0 ? plan.score_tokens : (fit + 3) / 4;
  fit_begins_ = SpreadWindows(dataset.split(plan.fit), T_, Windows(fit, T_, plan.from_position));
  score_begins_ =
      SpreadWindows(dataset.split(plan.score), T_, Windows(score, T_, plan.from_position));
  per_pass_ = std::max<int64_t>(1, kPositionsPerPass / T_);
  transitions_ = TransitionsOf(moves_);
  std::vector<Pair> pairs;
  for (const Transition& t : transitions_) {
    const Pair pair{t.from, t.to};
    const auto found = std::find(pairs.begin(), pairs.end(), pair);
    pair_of_.push_back(static_cast<size_t>(found - pairs.begin()));
    if (found == pairs.end()) pairs.push_back(pair);
  }
  moments_ = std::make_unique<Moments>(moves_ + 2, pairs);
  shapes_.resize(moves_ + 1), points_.resize(moves_ + 1), lens_.resize(moves_ + 1);
}

int64_t Measurement::pieces() const {
  const auto passes = [&](const std::vector<int64_t>& begins) {
    return (static_cast<int64_t>(begins.size()) + per_pass_ - 1) / per_pass_;
  };
  return passes(fit_begins_) + 1 + passes(score_begins_);
}

void Measurement::Advance() {
  const int64_t fits = (static_cast<int64_t>(fit_begins_.size()) + per_pass_ - 1) / per_pass_;
  const int64_t piece = next_++;
  if (piece < fits) {
    FitOn(piece);
  } else if (piece == fits) {
    FitMaps();
  } else {
    ScoreOn(piece - fits - 1);
  }
}

Tensor Measurement::Ids(data::Split split, const std::vector<int64_t>& begins,
                        int64_t piece) const {
  const auto first = static_cast<size_t>(piece * per_pass_);
  return WindowIds(dataset_.split(split), begins, first,
                   std::min<size_t>(per_pass_, begins.size() - first), T_);
}

std::vector<Tensor> Measurement::Kept(const std::vector<Tensor>& states) const {
  const int64_t from = plan_.from_position;
  if (from == 0) return states;
  std::vector<Tensor> out;
  for (const Tensor& s : states) {
    const int64_t d = s.size(1);
    out.push_back(s.view({-1, T_, d}).narrow(1, from, T_ - from).reshape({-1, d}));
  }
  return out;
}

void Measurement::FitOn(int64_t piece) {
  moments_->Add(Kept(HiddenStates(bundle_, row_, Ids(plan_.fit, fit_begins_, piece))));
}

void Measurement::FitMaps() {
  std::vector<Spectrum> spectra;
  for (int64_t s = 0; s <= moves_; ++s) {
    spectra.push_back(SpectrumOf(moments_->gram(s)));
    anisotropy_.push_back(spectra.back().anisotropy);
  }
  for (size_t p = 0; p < moments_->pairs().size(); ++p)
    fits_.push_back(FitPair(*moments_, p, spectra[moments_->pairs()[p].from]));
  held_out_ = std::make_unique<HeldOutScores>(moments_->pairs(), fits_, bundle_.device());
}

void Measurement::ScoreOn(int64_t piece) {
  const Tensor ids = Ids(plan_.score, score_begins_, piece);
  const std::vector<Tensor> all = HiddenStates(bundle_, row_, ids), states = Kept(all);
  held_out_->Add(states);
  const Tensor here = PointsOfPass(piece, states.front().size(0));
  for (int64_t s = 0; s <= moves_; ++s) {
    shapes_[s].Add(states[s], T_ - plan_.from_position);
    if (here.numel() > 0) points_[s].push_back(states[s].cpu().index_select(0, here));
  }
  if (plan_.logit_lens) Look(ids, piece, all);
}

// Positions of a pass that are among those for TwoNN, which are spread over all.
Tensor Measurement::PointsOfPass(int64_t piece, int64_t count) const {
  const int64_t each = T_ - plan_.from_position,
                all = static_cast<int64_t>(score_begins_.size()) * each,
                wanted = std::min(all, plan_.twonn_points), first = piece * per_pass_ * each;
  std::vector<int64_t> here;
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t at = i * all / wanted - first;
    if (at >= 0 && at < count) here.push_back(at);
  }
  return at::tensor(here, at::kLong);
}

// The logit lens: the final norm and the head on every state, judged by the token that follows.
void Measurement::Look(const Tensor& ids, int64_t piece, const std::vector<Tensor>& states) {
  const data::Shard& shard = dataset_.split(plan_.score);
  const int64_t from = std::max(plan_.from_position, ScoredOf(spec_).from);
  Tensor targets = at::full_like(ids, -1);
  const int64_t windows = ids.size(1);
  for (int64_t w = 0; w < windows; ++w) {
    const int64_t begin = score_begins_[piece * per_pass_ + w];
    for (int64_t t = from; t + 1 < T_; ++t) {
      const int64_t next = begin + t + 1;
      if (shard.DocumentBegin(shard.DocumentOf(next)) == next) continue;  // a separator
      targets.data_ptr<int64_t>()[w * T_ + t] = ids.data_ptr<int64_t>()[w * T_ + t + 1];
      ++lens_tokens_;
    }
  }
  targets = targets.view({1, -1}).to(bundle_.device());
  for (int64_t s = 0; s <= moves_; ++s) {
    const Tensor logits = bundle_.Readout(row_, states[s].unsqueeze(0));
    lens_[s].right += logits.argmax(2).eq(targets).sum().item<int64_t>();
    const Tensor nll = ops::CrossEntropyEach(logits, targets).to(at::kDouble);
    lens_[s].nll += nll.masked_fill(targets.lt(0), 0).sum().item<double>();
  }
}

Findings Measurement::Finish() {
  Findings out;
  const Linearity& first = fits_.front().linearity;
  const int64_t d = spec_.model.d_model;
  if (first.n < kTokensPerDimension * d) {
    out.warnings.push_back("fitted on " + std::to_string(first.n) +
                           " tokens, fewer than 50 for each of " + std::to_string(d) +
                           " dimensions: the scores in sample are raised towards the chance " +
                           "floor; compare the adjusted and the held-out ones");
  }
  if (first.n <= d + 1) {
    out.warnings.push_back(
        "with no more tokens than dimensions every map is exact: the scores in "
        "sample say nothing");
  }
  for (size_t i = 0; i < transitions_.size(); ++i) {
    const Linearity& l = fits_[pair_of_[i]].linearity;
    const HeldOut h = held_out_->Of(pair_of_[i]);
    Metrics m = {{"score", l.score},
                 {"score_without", l.score_without},
                 {"adjusted", l.adjusted},
                 {"adjusted_without", l.adjusted_without},
                 {"held_out", h.score},
                 {"held_out_without", h.score_without},
                 {"standardized", l.standardized},
                 {"standardized_without", l.standardized_without},
                 {"rho", l.rho},
                 {"rho_law", l.rho_law},
                 {"floor", l.floor},
                 {"rank", static_cast<double>(l.rank)},
                 {"n", static_cast<double>(l.n)},
                 {"n_held_out", static_cast<double>(h.n)},
                 {"error_p50", h.error_p50},
                 {"error_p90", h.error_p90},
                 {"error_p99", h.error_p99},
                 {"cosine", h.neighbour_cosine}};
    out.transitions.push_back({transitions_[i], std::move(m)});
  }
  for (int64_t s = 0; s <= moves_; ++s) {
    const Shape shape = shapes_[s].Means();
    Metrics m = {{"anisotropy", anisotropy_[s]},
                 {"norm", shape.norm},
                 {"kurtosis", shape.kurtosis},
                 {"token_cosine", shape.token_cosine}};
    if (plan_.twonn_points > 0) {
      m.emplace_back("intrinsic_dimension", IntrinsicDimension(at::cat(points_[s], 0)));
    }
    if (plan_.logit_lens) {
      const auto n = static_cast<double>(lens_tokens_);
      m.emplace_back("lens_loss", lens_[s].nll / n);
      m.emplace_back("lens_accuracy", static_cast<double>(lens_[s].right) / n);
    }
    out.states.push_back({s, std::move(m)});
  }
  return out;
}

std::vector<PointValue> PointsOf(const Findings& findings) {
  std::vector<PointValue> out;
  for (const auto& [transition, metrics] : findings.transitions) {
    for (const auto& [name, value] : metrics)
      out.push_back({.name = SeriesOf(transition, name),
                     .layer = LayerOf(transition),
                     .definition_version = kDefinition,
                     .value = value});
  }
  for (const auto& [state, metrics] : findings.states) {
    for (const auto& [name, value] : metrics)
      out.push_back({.name = "linearity/state/" + name,
                     .layer = state,
                     .definition_version = kDefinition,
                     .value = value});
  }
  return out;
}

std::vector<PointValue> MeasureLinearity(const Bundle& bundle, int64_t row,
                                         const data::Dataset& dataset, const spec::TrialSpec& s) {
  Measurement measurement(bundle, row, dataset, s,
                          {.tokens = s.linearity.tokens, .score_tokens = s.linearity.score_tokens});
  for (int64_t i = measurement.pieces(); i > 0; --i) measurement.Advance();
  return PointsOf(measurement.Finish());
}

}  // namespace plumb::trainer::linearity
