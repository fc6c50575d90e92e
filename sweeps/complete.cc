#include "sweeps/complete.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/corpus_use.h"
#include "sweeps/draw.h"
#include "sweeps/number.h"
#include "trainer/spec/cost.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

std::string Reason(const std::vector<spec::SpecError>& errors) {
  std::string out;
  for (const spec::SpecError& e : errors)
    absl::StrAppend(&out, out.empty() ? "" : "; ", e.path.empty() ? "" : e.path + ": ", e.message);
  return out;
}

// Counts of a shape do not depend on the budget, which may not be known yet.
void AnyBudget(spec::TrialSpec* s) {
  s->train.steps = 1, s->train.tokens = 0, s->train.flops = 0, s->train.epochs = 0;
  s->train.warmup_steps = 0, s->train.warmup_fraction = 0;
}

// The spec resolved with any budget, or as it is where that cannot be.
spec::TrialSpec ForNames(const spec::TrialSpec& s) {
  spec::TrialSpec copy = s;
  AnyBudget(&copy);
  return spec::Resolve(&copy).empty() ? copy : s;
}

std::string OffBy(const SolveResidual& r, int64_t value) {
  return absl::StrCat("; the nearest is ", value, " with ", Grouped(std::llround(r.reached)), " (",
                      r.relative() > 0 ? "+" : "",
                      FormatNumber(std::round(r.relative() * 1000) / 10), "%)");
}

// Takes out what spec::Parse does not know.
OwnBudget TakeOwnBudget(json* flat) {
  OwnBudget own;
  const auto take = [&](const char* path, double* to) {
    const auto it = flat->find(path);
    if (it == flat->end()) return;
    *to = it->get<double>();
    flat->erase(it);
  };
  take("train.seconds", &own.seconds);
  take("train.tokens_per_param", &own.tokens_per_param);
  return own;
}

std::string OtherThreads(const Prices& prices, const spec::TrialSpec& s) {
  const int64_t threads = std::max<int64_t>(1, s.execution.threads);
  if (threads == prices.threads) return "";
  return absl::StrCat("seconds: ", prices.device, " is calibrated for ", prices.threads,
                      " thread(s) a trial, and execution.threads is ", threads);
}

// Why a condition says neither yes nor no.
std::string NoCondition(const Constraint& c, const absl::StatusOr<Value>& value) {
  if (!value.ok()) return std::string(value.status().message());
  return absl::StrCat("\"", c.text, "\" is a ",
                      value->kind == Value::Kind::kText ? "word" : "number", ", not a condition");
}

}  // namespace

Completer::Completer(const SweepFile& file, const CorpusLookup& corpora,
                     std::vector<Problem>* problems)
    : file_(file), corpora_(corpora), problems_(problems), bound_fields_(spec::Fields(bound_)) {
  for (const Variant& v : file.variants) names_.variants.push_back(v.name);
  for (size_t v = 0; v < std::max<size_t>(1, file.variants.size()); ++v) {
    const std::string name = file.variants.empty() ? "" : file.variants[v].name;
    fields_.push_back(FieldsOf(file, v));
    formulas_.push_back(OrderFormulas(fields_.back(), names_, name));
    arms_.push_back({v, nullptr, name});
    for (const Match& m : file.also_match) {
      if (v > 0) arms_.push_back({v, &m, absl::StrCat(name, "@", m.measure)});
    }
  }
  for (size_t a = 0; a < file.axes.size(); ++a) {
    if (file.axes[a].solved()) solved_axis_ = a;
  }
  NameAxes();
}

std::vector<Candidate> Completer::Complete(const SpacePoint& point) {
  point_ = &point;
  active_.assign(fields_.size(), {});
  work_.assign(arms_.size(), {});
  std::vector<bool> stands(fields_.size());
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    if (arms_[arm].match != nullptr) continue;
    const auto active = ActiveAxes(arm);
    const size_t v = arms_[arm].variant;
    stands[v] = active.has_value();
    active_[v] = active.value_or(std::vector<bool>(file_.axes.size(), true));
  }
  std::vector<Candidate> out;
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    if (stands[arms_[arm].variant]) out.push_back(Finish(arm));
  }
  return out;
}

// ---- phases

std::optional<std::vector<bool>> Completer::ActiveAxes(size_t arm) {
  std::vector<bool> active(file_.axes.size(), true);
  const bool conditional = std::any_of(file_.axes.begin(), file_.axes.end(),
                                       [](const Axis& a) { return a.when.has_value(); });
  if (!conditional) return active;
  json flat = json::object();
  for (const auto& [path, value] : fields_[arms_[arm].variant].values)
    flat[path] = json::parse(value);
  const auto add = [&](size_t a) {
    for (size_t f = 0; f < file_.axes[a].fields.size() && !file_.axes[a].solved(); ++f)
      flat[file_.axes[a].fields[f]] = json::parse(point_->values[a][f]);
  };
  for (size_t a = 0; a < file_.axes.size(); ++a) {
    if (!file_.axes[a].when) add(a);
  }
  for (size_t a = 0; a < file_.axes.size(); ++a) {
    const Axis& axis = file_.axes[a];
    if (!axis.when) continue;
    spec::TrialSpec s;
    json known_fields = flat;
    TakeOwnBudget(&known_fields);
    if (!spec::Parse(known_fields, &s).empty()) return active;  // refused with its reason later
    const spec::TrialSpec known = ForNames(s);
    const auto holds = axis.when->expression.Evaluate(
        [&](const std::string& name) { return Lookup(name, arm, known); });
    if (!holds.ok() || holds->kind != Value::Kind::kBoolean) {
      Wrong(axis.when->at, NoCondition(*axis.when, holds));
      return active;
    }
    active[a] = holds->boolean;
    if (active[a]) {
      add(a);
    } else if (!file_.random_points && !point_->first[a]) {
      return std::nullopt;
    }
  }
  return active;
}

Completer::Work& Completer::Shape(size_t arm) {
  Work& work = work_[arm];
  if (!work.shaped) {
    work.shaped = true;  // no circle comes back here: CheckFormulas
    work.refused = ShapeOf(arm, &work);
  }
  return work;
}

std::string Completer::ShapeOf(size_t arm, Work* work) {
  const size_t v = arms_[arm].variant;
  json flat = json::object();
  for (const auto& [path, value] : fields_[v].values) flat[path] = json::parse(value);
  for (size_t a = 0; a < file_.axes.size(); ++a) {
    const Axis& axis = file_.axes[a];
    for (size_t f = 0; f < axis.fields.size() && !axis.solved() && active_[v][a]; ++f)
      flat[axis.fields[f]] = json::parse(point_->values[a][f]);
  }
  if (file_.tune) {
    for (const Axis& axis : file_.tune->axes)
      flat[axis.fields[0]] = json::parse(axis.points.front().front());
  }
  spec::TrialSpec raw;
  work->own = TakeOwnBudget(&flat);
  if (const auto errors = spec::Parse(flat, &raw); !errors.empty()) return Reason(errors);
  if (solved_axis_) {
    const Axis& axis = file_.axes[*solved_axis_];
    const auto solution =
        SolveField(axis.fields[0], axis.multiple_of, axis.measure, point_->target, arm, raw);
    if (!solution) {
      return absl::StrCat("solve: no ", axis.fields[0], " that is a multiple of ", axis.multiple_of,
                          " gives a valid shape",
                          why_invalid_.empty() ? "" : " (" + why_invalid_ + ")");
    }
    const SolveResidual r{0, axis.fields[0], axis.measure, point_->target, solution->reached};
    if (std::abs(r.relative()) > axis.tolerance) {
      return absl::StrCat("solve: no ", axis.fields[0], " (multiple of ", axis.multiple_of,
                          ") brings ", axis.measure, " within ", FormatNumber(axis.tolerance * 100),
                          "% of ", Grouped(std::llround(point_->target)),
                          OffBy(r, solution->value));
    }
    work->solved = std::to_string(solution->value);
    SetField(&raw, axis.fields[0], work->solved);
    work->residuals.push_back(r);
  }
  work->spec = raw;
  if (const std::string wrong = ApplyFormulas(formulas_[v].shape, arm, nullptr, &work->spec);
      !wrong.empty()) {
    return wrong;
  }
  const Arm& a = arms_[arm];
  if (a.match != nullptr && a.match->measure != "flops" && a.match->measure != "seconds") {
    if (const std::string wrong = MatchShape(a, raw, work); !wrong.empty()) return wrong;
  }
  if (arms_.size() == 1 && formulas_[v].rest.empty()) return "";  // nobody asks for counts
  work->shape = work->spec;
  AnyBudget(&work->shape);
  return Reason(spec::Resolve(&work->shape));
}

// Sets the knob that brings the arm's count to the baseline's.
std::string Completer::MatchShape(const Arm& arm, const spec::TrialSpec& raw, Work* work) {
  const Match& m = *arm.match;
  const Work& baseline = Shape(0);
  const std::string& name = file_.variants[0].name;
  if (!baseline.refused.empty()) return absl::StrCat(name, ": ", baseline.refused);
  const size_t index = &arm - arms_.data();
  const double target = Measure(m.measure, baseline.shape);
  const auto solution = SolveField(m.knob, m.multiple_of, m.measure, target, index, raw);
  if (!solution) {
    return absl::StrCat("also_match: no ", m.knob, " that is a multiple of ", m.multiple_of,
                        " gives a valid shape",
                        why_invalid_.empty() ? "" : " (" + why_invalid_ + ")");
  }
  const SolveResidual r{0, m.knob, m.measure, target, solution->reached};
  if (std::abs(r.relative()) > m.tolerance) {
    return absl::StrCat("also_match: no ", m.knob, " (multiple of ", m.multiple_of, ") brings ",
                        m.measure, " within ", FormatNumber(m.tolerance * 100), "% of ", name,
                        "'s ", Grouped(std::llround(target)), OffBy(r, solution->value));
  }
  work->residuals.push_back(r);
  work->spec = raw;
  SetField(&work->spec, m.knob, std::to_string(solution->value));
  return ApplyFormulas(formulas_[arm.variant].shape, index, nullptr, &work->spec);
}

Completer::Work& Completer::Budget(size_t arm) {
  Work& work = Shape(arm);
  if (!work.budgeted && work.refused.empty()) {
    work.budgeted = true;
    work.refused = BudgetOf(arm, &work);
  }
  return work_[arm];
}

std::string Completer::BudgetOf(size_t arm, Work* work) {
  const Arm& a = arms_[arm];
  spec::TrialSpec& s = work->spec;
  if (const std::string wrong =
          ApplyFormulas(formulas_[a.variant].rest, arm, &work->shape, &work->spec);
      !wrong.empty()) {
    return wrong;
  }
  if (a.match != nullptr && a.match->measure == "flops") {
    const Work& baseline = Budget(0);
    if (!baseline.refused.empty())
      return absl::StrCat(file_.variants[0].name, ": ", baseline.refused);
    s.train.steps = 0, s.train.tokens = 0, s.train.epochs = 0;
    s.train.flops = spec::TotalTrainingFlops(baseline.resolved);
    work->own = {};
  }
  if (a.match != nullptr && a.match->measure == "seconds") {
    const Work& baseline = Budget(0);
    if (!baseline.refused.empty())
      return absl::StrCat(file_.variants[0].name, ": ", baseline.refused);
    const absl::StatusOr<double> seconds = SecondsOf(baseline.resolved);
    if (!seconds.ok()) return std::string(seconds.status().message());
    work_[arm].own = {.seconds = *seconds};
  }
  if (const std::string wrong = SetOwnBudget(work->own, &s); !wrong.empty()) return wrong;
  const bool noop = file_.stage_kind == "noop", trains = file_.stage_kind == "pretrain";
  work->resolved = s;
  if (!noop && s.train.epochs > 0) {
    if (s.data.corpus.empty()) return "train.epochs is of a corpus; name it, as data.corpus";
    const CorpusInfo* corpus = Corpus(s.data.corpus, s.data.tokenizer);
    if (corpus == nullptr) return "its corpus is not there";
    spec::ResolveEpochs(&work->resolved, corpus->train_tokens);
  }
  if (!trains && s.train.steps == 0 && s.train.tokens == 0 && s.train.flops == 0 &&
      (noop || s.train.epochs == 0))
    work->resolved.train.steps = 1, work->resolved.train.epochs = 0;
  return Reason(spec::Resolve(&work->resolved));
}

Candidate Completer::Finish(size_t arm) {
  Candidate c;
  const Arm& a = arms_[arm];
  c.arm = a.name, c.active = active_[a.variant];
  const Work& work = Budget(arm);
  Describe(a, work.solved, &c.cell);
  c.refused = work.refused;
  if (!c.refused.empty()) return c;
  c.residuals = work.residuals;
  c.config = work.resolved;
  for (const Constraint& w : file_.where) {
    const auto holds =
        w.expression.Evaluate([&](const std::string& name) { return Lookup(name, arm, c.config); });
    c.refused = "where: " + w.text;
    if (absl::IsFailedPrecondition(holds.status())) {
      absl::StrAppend(&c.refused, ": ", std::string(holds.status().message()));
      return c;
    }
    if (!holds.ok() || holds->kind != Value::Kind::kBoolean) {
      Wrong(w.at, NoCondition(w, holds));
      return c;
    }
    if (!holds->boolean) return c;
    c.refused.clear();
  }
  if (file_.stage_kind == "pretrain" ||
      (file_.stage_kind != "noop" && !c.config.data.corpus.empty()))
    c.refused = AddCorpus(&c.config, &c.cell);
  if (!file_.tune || !c.refused.empty()) return c;
  c.recipe = work.spec;
  c.recipe.data.digest = c.config.data.digest;
  // What is tuned must be possible everywhere on its grid.
  for (const Axis& axis : file_.tune->axes) {
    for (const auto& point : axis.points) {
      std::vector<FieldValue> values;
      for (const Axis& other : file_.tune->axes)
        values.push_back(&other == &axis ? point.front() : other.points.front().front());
      spec::TrialSpec tuned;
      c.refused = ResolveRecipe(*file_.tune, values, c.cell.train_tokens, c.recipe, &tuned);
      if (c.refused.empty()) continue;
      c.refused = absl::StrCat("tune: ", axis.fields[0], " = ", point.front(), ": ", c.refused);
      return c;
    }
  }
  return c;
}

// ---- formulas

absl::StatusOr<Value> Completer::Lookup(const std::string& given, size_t arm,
                                        const spec::TrialSpec& own) {
  absl::StatusOr<std::string> name = ResolveName(given, names_);
  if (!name.ok()) return name.status();
  const std::string& variant =
      file_.variants.empty() ? arms_[0].name : file_.variants[arms_[arm].variant].name;
  if (*name == "variant") return Value::Text(variant);
  if (name->front() == '\'') return Value::Text(given);
  const auto reference = AsReference(*name);
  if (!reference) return ValuesOf(own)(*name);
  // In the variant itself it is what it is there: of the unmatched arm, which comes first.
  size_t other = 0;
  while (arms_[other].name != reference->variant || arms_[other].match != nullptr) ++other;
  if (other == arm) return ValuesOf(own)(reference->name);
  const bool budget =
      KnownIn(reference->name) == Phase::kBudget ||
      (KnownIn(reference->name) == Phase::kFields && !IsShapeField(reference->name));
  const Work& work = budget ? Budget(other) : Shape(other);
  if (!work.refused.empty()) {
    return absl::FailedPreconditionError(  // of this point, not of the file
        absl::StrCat("ref(", reference->variant, ") is no cell here: ", work.refused));
  }
  return ValuesOf(budget ? work.resolved : work.shape)(reference->name);
}

std::string Completer::ApplyFormulas(const std::vector<Computed>& formulas, size_t arm,
                                     const spec::TrialSpec* counted, spec::TrialSpec* s) {
  for (const Computed& formula : formulas) {
    // Fields of training are those of the spec itself, which an earlier formula may have set.
    spec::TrialSpec known = counted == nullptr ? ForNames(*s) : *counted;
    if (counted != nullptr) {
      known.train = s->train, known.eval = s->eval;
      known.train.steps = std::max<int64_t>(1, known.train.steps);
    }
    const auto value = formula.expression.Evaluate(
        [&](const std::string& name) { return Lookup(name, arm, known); });
    const std::string what = absl::StrCat(formula.field, ": ", formula.text);
    if (!value.ok()) return absl::StrCat(what, ": ", value.status().message());
    if (value->kind != Value::Kind::kNumber) return what + " is no number";
    double number = value->number;
    const auto field = std::find_if(bound_fields_.begin(), bound_fields_.end(),
                                    [&](const spec::Field& f) { return f.path == formula.field; });
    const bool whole = field->type == spec::FieldType::kInteger;
    if (IsBudget(formula.field)) {
      if (!(number >= 0.5 && number <= 1e30))
        return absl::StrCat(what, " is ", FormatNumber(number), ", not a budget");
      if (whole) number = std::round(number);
    } else if (whole && number != std::floor(number)) {
      return absl::StrCat(what, " is ", FormatNumber(RoundToFourDigits(number)),
                          ", no whole number; write round_to(…, 1), or another step");
    }
    const std::string wrong =
        SetField(s, formula.field,
                 whole && std::abs(number) < 9e15 ? std::to_string(static_cast<int64_t>(number))
                                                  : json(number).dump());
    if (!wrong.empty()) return absl::StrCat(what, ": ", wrong);
  }
  return "";
}

std::optional<Solution> Completer::SolveField(const std::string& field, int64_t multiple_of,
                                              const std::string& measure, double target, size_t arm,
                                              const spec::TrialSpec& raw) {
  const auto& found = *std::find_if(bound_fields_.begin(), bound_fields_.end(),
                                    [&](const spec::Field& f) { return f.path == field; });
  const Formulas& formulas = formulas_[arms_[arm].variant];
  why_invalid_.clear();
  const auto invalid = [&](std::string why) -> std::optional<double> {
    if (why_invalid_.empty()) why_invalid_ = std::move(why);
    return std::nullopt;
  };
  const auto measure_at = [&](int64_t value) -> std::optional<double> {
    spec::TrialSpec s = raw;
    if (!SetField(&s, field, std::to_string(value)).empty()) return std::nullopt;
    if (const auto wrong = ApplyFormulas(formulas.shape, arm, nullptr, &s); !wrong.empty())
      return invalid(wrong);
    spec::TrialSpec counted = s;
    AnyBudget(&counted);
    if (const auto errors = spec::Resolve(&counted); !errors.empty())
      return invalid(Reason(errors));
    if (measure != "flops" && measure != "seconds") return Measure(measure, counted);
    if (const auto wrong = ApplyFormulas(formulas.rest, arm, &counted, &s); !wrong.empty())
      return invalid(wrong);
    if (s.train.epochs > 0) {
      const CorpusInfo* corpus = Corpus(s.data.corpus, s.data.tokenizer);
      if (corpus == nullptr) return std::nullopt;
      spec::ResolveEpochs(&s, corpus->train_tokens);
    }
    if (const auto wrong = SetOwnBudget(work_[arm].own, &s); !wrong.empty()) return invalid(wrong);
    if (const auto errors = spec::Resolve(&s); !errors.empty()) return invalid(Reason(errors));
    if (measure != "seconds") return Measure(measure, s);
    const absl::StatusOr<double> seconds = SecondsOf(s);
    return seconds.ok() ? std::optional(*seconds) : std::nullopt;
  };
  const auto low = std::max<int64_t>(1, static_cast<int64_t>(found.min));  // 0 means "derived"
  return SolveInteger(low, static_cast<int64_t>(found.max), multiple_of, target, measure_at);
}

absl::StatusOr<double> Completer::SecondsOf(const spec::TrialSpec& resolved) {
  const CorpusInfo* corpus = Corpus(resolved.data.corpus, resolved.data.tokenizer);
  if (corpus == nullptr || !file_.prices)
    return absl::FailedPreconditionError("its corpus is not there");
  if (const std::string wrong = OtherThreads(*file_.prices, resolved); !wrong.empty())
    return absl::FailedPreconditionError(wrong);
  return PredictSeconds(*file_.prices, resolved, corpus->splits);
}

std::string Completer::SetOwnBudget(const OwnBudget& own, spec::TrialSpec* s) {
  if (own.seconds == 0 && own.tokens_per_param == 0) return "";
  s->train.steps = 0, s->train.tokens = 0, s->train.flops = 0, s->train.epochs = 0;
  spec::TrialSpec counted = *s;
  AnyBudget(&counted);
  counted.train.steps = 1'000'000;  // as many evaluations as are asked for
  if (const auto errors = spec::Resolve(&counted); !errors.empty()) return Reason(errors);
  if (own.tokens_per_param > 0) {
    const auto params = static_cast<double>(spec::CountParameters(counted.model).total);
    s->train.tokens =
        std::max<int64_t>(1, std::llround(std::min(own.tokens_per_param * params, 9e17)));
    return "";
  }
  const CorpusInfo* corpus = Corpus(s->data.corpus, s->data.tokenizer);
  if (corpus == nullptr || !file_.prices) return "its corpus is not there";
  if (const std::string wrong = OtherThreads(*file_.prices, counted); !wrong.empty()) return wrong;
  const int64_t steps = StepsIn(*file_.prices, counted, corpus->splits, own.seconds);
  if (steps == 0) {
    counted.train.steps = std::max<int64_t>(1, counted.eval.points);
    const double beside = PredictSeconds(*file_.prices, counted, corpus->splits);
    return absl::StrCat("train.seconds: ", FormatNumber(RoundToFourDigits(own.seconds)),
                        " s are not enough for its evaluations, which with a step each take ",
                        FormatNumber(RoundToFourDigits(beside)),
                        " s; give more, or eval.points: 1 and fewer eval.tokens");
  }
  s->train.steps = steps;
  return "";
}

std::string Completer::SetField(spec::TrialSpec* s, const std::string& field,
                                const FieldValue& value) {
  bound_ = *s;
  std::string wrong;
  for (const spec::Field& f : bound_fields_) {
    if (f.path == field) wrong = f.set(json::parse(value));
  }
  *s = bound_;
  return wrong;
}

std::string ResolveRecipe(const Tune& tune, const std::vector<FieldValue>& values,
                          int64_t train_tokens, const spec::TrialSpec& recipe,
                          spec::TrialSpec* out) {
  spec::TrialSpec s = recipe;
  const auto fields = spec::Fields(s);
  for (size_t i = 0; i < tune.axes.size(); ++i) {
    for (const spec::Field& f : fields) {
      if (f.path != tune.axes[i].fields[0]) continue;
      if (const std::string wrong = f.set(json::parse(values[i])); !wrong.empty()) return wrong;
    }
  }
  if (s.train.epochs > 0) spec::ResolveEpochs(&s, train_tokens);
  if (const auto errors = spec::Resolve(&s); !errors.empty()) return Reason(errors);
  *out = s;
  return "";
}

// ---- the corpus

std::string Completer::AddCorpus(spec::TrialSpec* s, PlannedCell* cell) {
  const CorpusInfo* corpus = Corpus(s->data.corpus, s->data.tokenizer);
  if (corpus == nullptr) return "its corpus is not there";
  return UseCorpus(*corpus, s, cell);
}

const CorpusInfo* Completer::Corpus(const std::string& corpus, const std::string& tokenizer) {
  const auto key = std::make_pair(corpus, tokenizer);
  const auto known = corpus_.find(key);
  if (known != corpus_.end()) return &known->second;
  const auto info = corpora_(corpus, tokenizer);
  if (info.ok()) return &corpus_.emplace(key, *info).first->second;
  const auto at = file_.trial.at.find("data.corpus");
  Wrong(at == file_.trial.at.end() ? file_.axes_at : at->second,
        std::string(info.status().message()));
  code_ = info.status().code();
  return nullptr;
}

// ---- names

void Completer::NameAxes() {
  std::map<std::string, int> count;
  const auto last = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  for (const Axis& a : file_.axes) {
    for (const std::string& f : a.fields) ++count[last(f)];
  }
  for (const Axis& a : file_.axes) {
    for (const std::string& f : a.fields) name_of_[f] = count[last(f)] > 1 ? f : last(f);
  }
}

// `solved` is the value of the solved axis, or "" while there is none.
void Completer::Describe(const Arm& arm, const std::string& solved, PlannedCell* cell) const {
  std::vector<std::string> names, members;
  for (size_t a = 0; a < file_.axes.size(); ++a) {
    const Axis& axis = file_.axes[a];
    if (!active_[arm.variant][a]) continue;
    if (axis.solved() && (solved.empty() || !file_.variants.empty())) {
      names.push_back(absl::StrCat(axis.measure, "=", Short(point_->target)));
      if (!file_.variants.empty())
        members.push_back(absl::StrCat("\"", axis.measure, "\": ", FormatNumber(point_->target)));
      continue;
    }
    if (!axis.name.empty()) {
      const size_t i = std::find(axis.points.begin(), axis.points.end(), point_->values[a]) -
                       axis.points.begin();
      names.push_back(absl::StrCat(axis.name, "=", axis.point_names[i]));
      members.push_back(absl::StrCat("\"", axis.name, "\": \"", axis.point_names[i], "\""));
      continue;
    }
    for (size_t f = 0; f < axis.fields.size(); ++f) {
      const FieldValue& value = axis.solved() ? solved : point_->values[a][f];
      const json parsed = json::parse(value);
      names.push_back(absl::StrCat(name_of_.at(axis.fields[f]), "=",
                                   parsed.is_string() ? parsed.get<std::string>() : value));
      members.push_back(absl::StrCat("\"", axis.fields[f], "\": ", value));
    }
  }
  if (!arm.name.empty()) {
    names.push_back(absl::StrCat("variant=", arm.name));
    members.push_back(absl::StrCat("\"variant\": \"", arm.name, "\""));
  }
  cell->name = names.empty() ? "base" : absl::StrJoin(names, " ");
  cell->axes_json = absl::StrCat("{", absl::StrJoin(members, ", "), "}");
}

}  // namespace plumb::sweeps
