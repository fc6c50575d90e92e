#include "trainer/probes/probing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <unordered_map>

namespace plumb::trainer::probes {
namespace {

using at::Tensor;
using Kind = Question::Kind;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

int64_t Distinct(const std::vector<int64_t>& values) {
  return static_cast<int64_t>(std::set<int64_t>(values.begin(), values.end()).size());
}

// Shares of the classes among what was fitted on.
std::vector<double> Prior(const Question& q) {
  std::vector<double> out(q.classes.size());
  double all = 0;
  for (const int32_t c : q.fit.label) {
    if (c >= 0) ++out[c], ++all;
  }
  for (double& share : out) share /= all;
  return out;
}

// Squared deviations from their own mean.
double Squares(const std::vector<double>& values) {
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  return squares;
}

}  // namespace

Probing::Probing(std::unique_ptr<Source> source, int64_t moves, Methods methods)
    : source_(std::move(source)), states_(moves + 1), methods_(methods) {}

int64_t Probing::pieces() const {
  return source_->preparations() + 1 + source_->passes(Side::kFit) + states_ +
         source_->passes(Side::kScore);
}

void Probing::Advance() {
  int64_t piece = next_++;
  const auto is = [&](int64_t count) {
    if (piece < count) return true;
    piece -= count;
    return false;
  };
  if (is(source_->preparations())) return source_->Prepare(piece);
  if (is(1)) return Begin();
  if (is(source_->passes(Side::kFit))) return FitOn(piece);
  if (is(states_)) return Fit(piece);
  ScoreOn(piece);
}

void Probing::Begin() {
  material_ = source_->Ask();
  int64_t width = 0;
  for (const Question& q : material_.questions) {
    columns_.push_back({width, q.width()});
    width += q.width();
  }
  std::unordered_map<int64_t, int64_t> number;
  for (const int64_t d : material_.score.document)
    document_.push_back(number.try_emplace(d, static_cast<int64_t>(number.size())).first->second);
  documents_ = static_cast<int64_t>(number.size());
  fit_ = std::make_unique<LabelMoments>(states_);
  choosing_ = std::make_unique<LabelMoments>(states_);
  sample_.resize(states_), fits_.resize(states_);
  std::vector<uint8_t> chooses;
  for (const int64_t i : material_.sample) chooses.push_back(material_.choosing[i]);
  sample_chooses_ = at::tensor(chooses, at::kByte).to(at::kBool);
  const Judged none = {Tally(documents_), Tally(documents_), Tally(documents_), Tally(documents_)};
  judged_.assign(states_, std::vector<Judged>(material_.questions.size(), none));
}

// What is asked of examples to fit on, a column for each class and number: [count, K].
Tensor Probing::Answered(int64_t first, int64_t count) const {
  const int64_t width = columns_.back().first + columns_.back().width;
  Tensor out = at::zeros({count, width}, at::kDouble);
  double* to = out.data_ptr<double>();
  for (size_t q = 0; q < columns_.size(); ++q) {
    const Question& asked = material_.questions[q];
    for (int64_t i = 0; i < count; ++i) {
      double* row = to + i * width + columns_[q].first;
      if (asked.kind == Kind::kNumber) {
        *row = asked.fit.number[first + i];
      } else if (const int32_t c = asked.fit.label[first + i]; c >= 0) {
        row[c] = 1;
      }
    }
  }
  return out;
}

void Probing::FitOn(int64_t pass) {
  const std::vector<Tensor> states = source_->States(Side::kFit, pass);
  const int64_t n = states.front().size(0), first = fitted_on_;
  fitted_on_ += n;
  if (methods_.ridge) {
    const Tensor answers = Answered(first, n);
    for (const bool chooses : {false, true}) {
      std::vector<int64_t> rows;
      for (int64_t i = 0; i < n; ++i) {
        if ((material_.choosing[first + i] != 0) == chooses) rows.push_back(i);
      }
      const Tensor index = at::tensor(rows, at::kLong);
      const Tensor there = index.to(states.front().device());
      std::vector<Tensor> part;
      for (const Tensor& s : states) part.push_back(s.index_select(0, there));
      (chooses ? choosing_ : fit_)->Add(part, answers.index_select(0, index).to(there.device()));
    }
  }
  if (methods_.logistic) {
    const std::vector<int64_t>& all = material_.sample;
    std::vector<int64_t> rows;
    for (auto at = std::lower_bound(all.begin(), all.end(), first);
         at != all.end() && *at < first + n; ++at)
      rows.push_back(*at - first);
    const Tensor there = at::tensor(rows, at::kLong).to(states.front().device());
    for (int64_t s = 0; s < states_; ++s) sample_[s].push_back(states[s].index_select(0, there));
  }
}

void Probing::Fit(int64_t state) {
  const auto check = [&](const Tensor& t) {
    if (!t.isfinite().all().item<bool>())
      throw std::runtime_error("state h" + std::to_string(state) +
                               " has values that are not finite");
  };
  Fitted& fitted = fits_[state];
  if (methods_.ridge) {
    check(fit_->gram(state)), check(choosing_->gram(state));
    RidgeFit fit = FitRidge(*fit_, *choosing_, state, columns_);
    fitted.ridge = fit.map, fitted.penalty = std::move(fit.penalty);
  }
  if (!methods_.logistic) return;
  const Tensor x = at::cat(sample_[state], 0);
  check(x);
  sample_[state].clear();
  const Logistic logistic(x);
  for (const Question& q : material_.questions) {
    LogisticFit& fit = fitted.logistic.emplace_back();
    if (q.kind != Kind::kClasses) continue;
    std::vector<int64_t> label;
    for (const int64_t i : material_.sample) label.push_back(q.fit.label[i]);
    fit = logistic.Choose(at::tensor(label, at::kLong).to(x.device()), q.width(),
                          sample_chooses_.to(x.device()));
  }
}

void Probing::ScoreOn(int64_t pass) {
  const std::vector<Tensor> states = source_->States(Side::kScore, pass);
  for (int64_t s = 0; s < states_; ++s) Score(s, states[s].to(at::kDouble), judged_on_);
  judged_on_ += states.front().size(0);
}

void Probing::Score(int64_t state, const Tensor& x, int64_t first) {
  const Fitted& fit = fits_[state];
  const auto said = [&](const AffineMap& map) {
    return at::addmm(map.bias.to(x.device()), x, map.weight.to(x.device()));
  };
  const Tensor ridge = methods_.ridge ? said(fit.ridge).cpu() : Tensor();
  std::vector<uint8_t> right;  // of the property itself, for its control, which follows it
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Question& q = material_.questions[i];
    Judged& judged = judged_[state][i];
    const int64_t n = x.size(0);
    if (q.kind == Kind::kNumber) {
      if (!methods_.ridge) continue;
      const Tensor answer = ridge.select(1, columns_[i].first).contiguous();
      for (int64_t e = 0; e < n; ++e) {
        const double off = answer.data_ptr<double>()[e] - q.score.number[first + e];
        judged.left += off * off;
      }
      continue;
    }
    if (methods_.ridge) {
      const Tensor best =
          ridge.narrow(1, columns_[i].first, columns_[i].width).argmax(1).contiguous();
      right.resize(n);
      for (int64_t e = 0; e < n; ++e) {
        const int32_t label = q.score.label[first + e];
        if (label < 0) continue;
        const uint8_t hit = best.data_ptr<int64_t>()[e] == label;
        judged.ridge.Add(document_[first + e], hit);
        if (q.kind == Kind::kControl) {
          judged.beyond_control.Add(document_[first + e], right[e] - hit);
        } else {
          right[e] = hit;
        }
      }
    }
    if (!methods_.logistic || q.kind == Kind::kControl) continue;
    const Tensor log_p = at::log_softmax(said(fit.logistic[i].map), 1).cpu();
    const Tensor best = log_p.argmax(1).contiguous();
    for (int64_t e = 0; e < n; ++e) {
      const int32_t label = q.score.label[first + e];
      if (label < 0) continue;
      judged.logistic.Add(document_[first + e], best.data_ptr<int64_t>()[e] == label);
      judged.loss.Add(document_[first + e], -log_p.data_ptr<double>()[e * q.width() + label]);
    }
  }
}

Metrics Probing::OfRidge(int64_t state, size_t i) const {
  const std::vector<Question>& asked = material_.questions;
  const std::vector<Judged>& judged = judged_[state];
  Metrics m = {{"accuracy", judged[i].ridge.mean()},
               {"accuracy_stderr", judged[i].ridge.standard_error()}};
  if (i + 1 < asked.size() && asked[i + 1].kind == Kind::kControl) {
    const Judged& control = judged[i + 1];
    m.emplace_back("control_accuracy", control.ridge.mean());
    m.emplace_back("selectivity", control.beyond_control.mean());
    m.emplace_back("selectivity_stderr", control.beyond_control.standard_error());
  }
  m.emplace_back("penalty", fits_[state].penalty[i]);
  for (size_t j = 0; j < asked.size(); ++j) {
    if (asked[j].kind != Kind::kNumber || asked[j].property != asked[i].property) continue;
    const double all = Squares(asked[j].score.number);
    m.emplace_back("r2", all > 0 ? 1 - judged[j].left / all : kNaN);
    m.emplace_back("r2_penalty", fits_[state].penalty[j]);
  }
  return m;
}

// What needs no state: always the class that is most frequent where it was fitted, or always the
// shares that it has there.
PropertyFinding Probing::Beside(size_t i) const {
  const Question& q = material_.questions[i];
  const std::vector<double> prior = Prior(q);
  const auto most = std::max_element(prior.begin(), prior.end()) - prior.begin();
  Tally majority(documents_), loss(documents_);
  for (size_t e = 0; e < q.score.label.size(); ++e) {
    const int32_t label = q.score.label[e];
    if (label < 0) continue;
    majority.Add(document_[e], label == most);
    loss.Add(document_[e], -std::log(prior[label]));
  }
  const auto n_fit =
      std::count_if(q.fit.label.begin(), q.fit.label.end(), [](int32_t c) { return c >= 0; });
  PropertyFinding out{.property = q.property,
                      .fit_on = material_.fit_name,
                      .score_on = material_.score_name,
                      .classes = q.classes};
  out.metrics = {{"majority", majority.mean()},
                 {"majority_stderr", majority.standard_error()},
                 {"prior_loss", loss.mean()},
                 {"n", static_cast<double>(n_fit)},
                 {"n_documents", static_cast<double>(Distinct(material_.fit.document))},
                 {"n_held_out", static_cast<double>(majority.n())},
                 {"n_held_out_documents", static_cast<double>(documents_)}};
  if (methods_.logistic) {
    const auto seen = std::count_if(material_.sample.begin(), material_.sample.end(),
                                    [&](int64_t e) { return q.fit.label[e] >= 0; });
    out.metrics.emplace_back("n_logistic", static_cast<double>(seen));
  }
  out.warnings = material_.warnings;
  const int64_t d = (methods_.ridge ? fits_[0].ridge : fits_[0].logistic[i].map).weight.size(0);
  if (n_fit < d) {
    out.warnings.push_back("fitted on " + std::to_string(n_fit) + ", fewer than the " +
                           std::to_string(d) +
                           " dimensions of a state: the penalty decides what is read");
  }
  out.warnings.insert(out.warnings.end(), q.warnings.begin(), q.warnings.end());
  return out;
}

Findings Probing::Finish() const {
  Findings out;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Question& q = material_.questions[i];
    if (q.kind != Kind::kClasses) continue;
    PropertyFinding& beside = out.properties.emplace_back(Beside(i));
    for (int64_t s = 0; methods_.ridge && s < states_; ++s)
      out.probes.push_back({q.property, "ridge", s, OfRidge(s, i)});
    for (int64_t s = 0; methods_.logistic && s < states_; ++s) {
      const Judged& judged = judged_[s][i];
      const LogisticFit& fit = fits_[s].logistic[i];
      if (!(fit.gradient <= Logistic::kTolerance)) {
        beside.warnings.push_back("logistic, h" + std::to_string(s) +
                                  ": not at its optimum; the largest slope left is " +
                                  std::to_string(fit.gradient));
      }
      out.probes.push_back({q.property,
                            "logistic",
                            s,
                            {{"accuracy", judged.logistic.mean()},
                             {"accuracy_stderr", judged.logistic.standard_error()},
                             {"loss", judged.loss.mean()},
                             {"loss_stderr", judged.loss.standard_error()},
                             {"penalty", fit.penalty},
                             {"objective", fit.objective},
                             {"slope", fit.gradient},
                             {"steps", static_cast<double>(fit.steps)}}});
    }
  }
  return out;
}

std::vector<PointValue> PointsOf(const Findings& findings) {
  static const std::set<std::string> kDrawn = {"accuracy",    "loss",    "control_accuracy",
                                               "selectivity", "penalty", "r2"};
  std::vector<PointValue> out;
  const auto add = [&](const std::string& name, int64_t layer, double value) {
    out.push_back({.name = "linear_probe/" + name,
                   .layer = layer,
                   .definition_version = kDefinition,
                   .value = value});
  };
  for (const PropertyFinding& p : findings.properties) {
    for (const auto& [name, value] : p.metrics) {
      if (name == "majority" || name == "prior_loss") add(p.property + "/" + name, -1, value);
    }
  }
  int64_t last = 0;
  for (const ProbeFinding& p : findings.probes) last = std::max(last, p.state);
  for (const ProbeFinding& p : findings.probes) {
    const std::string of = p.property + "/" + p.method + "/";
    for (const auto& [name, value] : p.metrics) {
      if (!kDrawn.contains(name)) continue;
      add(of + name, p.state, value);
      // At places that all depths have, to be drawn across them.
      if (name == "penalty") continue;
      if (p.state == 0) add(of + "first/" + name, -1, value);
      if (p.state == (last + 1) / 2) add(of + "middle/" + name, -1, value);
      if (p.state == last) add(of + "last/" + name, -1, value);
    }
  }
  return out;
}

}  // namespace plumb::trainer::probes
