#include "sweeps/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "sweeps/solve.h"
#include "sweeps/space.h"
#include "sweeps/sweep_file.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

constexpr double kMaxTrials = 1e6;
constexpr size_t kMaxRefused = 10000;  // kept with their reasons
constexpr int64_t kDrawsPerPoint =
    100;  // of random search, before it is said that the constraints leave too little
constexpr int64_t kAaSeeds = 100000;          // A/A replicate r has the base seeds plus this plus r
constexpr int64_t kTimingPriority = 1000000;  // after every pretraining
constexpr double kTimingSeconds = 1;
constexpr double kOverlapFlag = 0.01;
constexpr double kWeightError = 1e-4;  // weights are millionths: one epoch by weight is not exact

// Thrown away as a point, or kept as a cell.
struct Candidate {
  PlannedCell cell;
  spec::TrialSpec config;  // resolved; of replicate 0
  std::optional<SolveResidual> residual;
  std::string refused;  // why it is no cell; "" where it is one
};

class Planner {
 public:
  Planner(const SweepFile& file, const CorpusLookup& corpora, std::vector<Problem>* problems)
      : file_(file), corpora_(corpora), problems_(problems), solved_fields_(spec::Fields(solved_)) {
    NameAxes();
  }

  SweepPlan Run() {
    plan_.name = file_.name;
    plan_.objective = file_.objective, plan_.objective_at = file_.objective_at;
    plan_.limits = file_.limits;
    plan_.priority = file_.priority;
    plan_.labels = file_.labels;
    plan_.bundle = file_.bundle;
    if (file_.random_points) {
      Random();
    } else {
      Grid();
    }
    if (problems_->empty() && plan_.cells.empty()) NothingLeft();
    if (problems_->empty() && CheckSize(static_cast<double>(plan_.cells.size()))) Trials();
    return std::move(plan_);
  }
  // Not OK when a corpus could not be had.
  absl::StatusCode code() const { return code_; }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  bool CheckSize(double cells) {
    const double trials = cells * static_cast<double>(file_.replicates);
    if (trials > kMaxTrials) {
      Wrong(file_.axes_at,
            absl::StrCat("the axes make ", Short(cells), " cells and ", Short(trials),
                         " trials; at most 1,000,000 trials are planned"));
      return false;
    }
    return true;
  }

  // ---- points

  void Grid() {
    const double size = GridSize(file_);
    if (!CheckSize(size)) return;
    for (int64_t i = 0; i < static_cast<int64_t>(size) && problems_->empty(); ++i)
      Keep(Complete(GridPoint(file_, i)));
  }

  void Random() {
    if (!CheckSize(static_cast<double>(*file_.random_points))) return;
    const int64_t wanted = *file_.random_points;
    for (int64_t draw = 0; draw < wanted * kDrawsPerPoint && problems_->empty(); ++draw) {
      Keep(Complete(RandomPoint(file_, draw)));
      if (static_cast<int64_t>(plan_.cells.size()) == wanted) return;
    }
    if (problems_->empty() && !plan_.cells.empty()) {
      Wrong(file_.axes_at, absl::StrCat("only ", plan_.cells.size(), " of ", wanted,
                                        " different points were found in ", wanted * kDrawsPerPoint,
                                        " draws; ask for fewer trials, or loosen `where`"));
    }
  }

  void Keep(Candidate c) {
    if (c.refused.empty()) {
      const auto [same, is_new] = cell_of_key_.emplace(spec::Key(c.config), plan_.cells.size());
      if (!is_new) c.refused = absl::StrCat("the same trial as ", plan_.cells[same->second].name);
    }
    if (!c.refused.empty()) {
      if (plan_.refused.size() < kMaxRefused) plan_.refused.push_back({c.cell.name, c.refused});
      return;
    }
    if (c.residual) {
      c.residual->cell = static_cast<int64_t>(plan_.cells.size());
      plan_.residuals.push_back(*c.residual);
    }
    plan_.cells.push_back(std::move(c.cell));
    configs_.push_back(std::move(c.config));
  }

  void NothingLeft() {
    std::map<std::string, int64_t> reasons;
    for (const RefusedCell& r : plan_.refused) ++reasons[r.reason];
    std::string message = "no cell is left:";
    size_t shown = 0;
    for (const auto& [reason, count] : reasons) {
      if (++shown > 5) break;
      absl::StrAppend(&message, shown > 1 ? "; " : " ", count, " × ", reason);
    }
    Wrong(file_.axes.empty() ? file_.trial_at : file_.axes_at, message);
  }

  // ---- one point

  Candidate Complete(const SpacePoint& point) {
    Candidate c;
    std::optional<size_t> solved_axis;
    json flat = json::object();
    for (const auto& [path, value] : file_.base) flat[path] = json::parse(value);
    for (size_t a = 0; a < file_.axes.size(); ++a) {
      const Axis& axis = file_.axes[a];
      if (axis.solved()) solved_axis = a;
      for (size_t f = 0; f < axis.fields.size() && !axis.solved(); ++f)
        flat[axis.fields[f]] = json::parse(point.values[a][f]);
    }
    Describe(point, solved_axis, "", &c.cell);

    spec::TrialSpec s;
    if (const auto errors = spec::Parse(flat, &s); !errors.empty())
      return Refuse(std::move(c), Reason(errors));
    if (solved_axis) {
      const Axis& axis = file_.axes[*solved_axis];
      const auto solution = SolveAxis(axis, point.target, s);
      if (!solution)
        return Refuse(std::move(c),
                      absl::StrCat("solve: no ", axis.fields[0], " that is a multiple of ",
                                   axis.multiple_of, " gives a valid shape",
                                   why_invalid_.empty() ? "" : " (" + why_invalid_ + ")"));
      SolveResidual r{0, axis.fields[0], axis.measure, point.target, solution->reached};
      if (std::abs(r.relative()) > axis.tolerance) {
        return Refuse(
            std::move(c),
            absl::StrCat("solve: no ", axis.fields[0], " (multiple of ", axis.multiple_of,
                         ") brings ", axis.measure, " within ", FormatNumber(axis.tolerance * 100),
                         "% of ", Grouped(std::llround(point.target)), "; the nearest is ",
                         solution->value, " with ", Grouped(std::llround(solution->reached)), " (",
                         r.relative() > 0 ? "+" : "",
                         FormatNumber(std::round(r.relative() * 1000) / 10), "%)"));
      }
      Set(&s, axis.fields[0], solution->value);
      c.residual = r;
      Describe(point, solved_axis, std::to_string(solution->value), &c.cell);
    }
    if (const std::string wrong = ComputeBudget(&s); !wrong.empty())
      return Refuse(std::move(c), wrong);
    if (file_.stage_kind != "noop" && s.train.epochs > 0) {
      const CorpusInfo* corpus = Corpus(s.data.corpus, s.data.tokenizer);
      if (corpus == nullptr) return Refuse(std::move(c), "its corpus is not there");
      spec::ResolveEpochs(&s, corpus->train_tokens);
    }
    if (file_.stage_kind == "noop" && s.train.steps == 0 && s.train.tokens == 0 &&
        s.train.flops == 0)
      s.train.steps = 1, s.train.epochs = 0;
    if (const auto errors = spec::Resolve(&s); !errors.empty())
      return Refuse(std::move(c), Reason(errors));

    const SpecValues values(s);
    for (const Constraint& w : file_.where) {
      const auto holds = w.expression.Evaluate(values);
      if (!holds.ok() || holds->kind != Value::Kind::kBoolean) {
        Wrong(w.at, holds.ok() ? absl::StrCat("\"", w.text, "\" is a number, not a condition")
                               : std::string(holds.status().message()));
        return Refuse(std::move(c), "where: " + w.text);
      }
      if (!holds->boolean) return Refuse(std::move(c), "where: " + w.text);
    }
    if (file_.stage_kind != "noop") {
      const CorpusInfo* corpus = Corpus(s.data.corpus, s.data.tokenizer);
      if (corpus == nullptr) return Refuse(std::move(c), "its corpus is not there");
      if (corpus->vocab_size > s.model.vocab_size) {
        return Refuse(std::move(c),
                      absl::StrCat("model.vocab_size: ", s.model.vocab_size,
                                   " is less than the corpus's ", corpus->vocab_size));
      }
      s.data.digest = corpus->digest;
      c.cell.train_tokens = corpus->train_tokens;
      if (const std::string wrong = Mixture(*corpus, &s, &c.cell); !wrong.empty())
        return Refuse(std::move(c), wrong);
      if (corpus->overlap_13gram_test > kOverlapFlag) c.cell.flags.push_back("test_overlap");
    }
    c.config = std::move(s);
    return c;
  }

  static Candidate Refuse(Candidate c, std::string why) {
    c.refused = std::move(why);
    return c;
  }
  static std::string Reason(const std::vector<spec::SpecError>& errors) {
    std::string out;
    for (const spec::SpecError& e : errors)
      absl::StrAppend(&out, out.empty() ? "" : "; ", e.path.empty() ? "" : e.path + ": ",
                      e.message);
    return out;
  }

  void Set(spec::TrialSpec* s, const std::string& path, int64_t value) {
    solved_ = *s;
    for (const spec::Field& f : solved_fields_) {
      if (f.path == path) f.set(value);
    }
    *s = solved_;
  }

  // Counts of a shape do not depend on the budget, which may not be known yet.
  static void AnyBudget(spec::TrialSpec* s) {
    s->train.steps = 1, s->train.tokens = 0, s->train.flops = 0, s->train.epochs = 0;
    s->train.warmup_steps = 0, s->train.warmup_fraction = 0;
  }

  std::optional<Solution> SolveAxis(const Axis& axis, double target, const spec::TrialSpec& s) {
    const spec::Field* field = nullptr;
    for (const spec::Field& f : solved_fields_) {
      if (f.path == axis.fields[0]) field = &f;
    }
    why_invalid_.clear();
    const auto measure_at = [&](int64_t value) -> std::optional<double> {
      solved_ = s;
      AnyBudget(&solved_);
      if (!field->set(value).empty()) return std::nullopt;
      if (const auto errors = spec::Resolve(&solved_); !errors.empty()) {
        if (why_invalid_.empty()) why_invalid_ = Reason(errors);
        return std::nullopt;
      }
      return Measure(axis.measure, solved_);
    };
    const auto low = std::max<int64_t>(1, static_cast<int64_t>(field->min));  // 0 means "derived"
    return SolveInteger(low, static_cast<int64_t>(field->max), axis.multiple_of, target,
                        measure_at);
  }

  std::string ComputeBudget(spec::TrialSpec* s) {
    if (!file_.budget) return "";
    spec::TrialSpec shape = *s;
    AnyBudget(&shape);
    if (const auto errors = spec::Resolve(&shape); !errors.empty()) return Reason(errors);
    const auto value = file_.budget->expression.Evaluate(SpecValues(shape));
    const std::string what = absl::StrCat(file_.budget->field, ": ", file_.budget->text);
    if (!value.ok()) return absl::StrCat(what, ": ", value.status().message());
    if (value->kind != Value::Kind::kNumber) return what + " is no number";
    if (!(value->number >= 0.5 && value->number <= 1e30))
      return absl::StrCat(what, " is ", FormatNumber(value->number), ", not a budget");
    spec::TrialSpec with = *s;
    for (const spec::Field& f : spec::Fields(with)) {
      if (f.path != file_.budget->field) continue;
      const std::string wrong = f.type == spec::FieldType::kInteger
                                    ? f.set(std::round(value->number))
                                    : f.set(value->number);
      if (!wrong.empty()) return absl::StrCat(what, ": ", wrong);
    }
    *s = with;
    return "";
  }

  // Checks what the trial reads of the corpus's parts, and says how much.
  static std::string Mixture(const CorpusInfo& corpus, spec::TrialSpec* s, PlannedCell* cell) {
    const int64_t tokens = spec::TotalTokens(*s);
    std::vector<spec::CorpusPart> parts = corpus.parts;
    if (parts.empty()) parts = {{"all", corpus.train_tokens}};
    if (corpus.train_tokens <= 0) return "";
    std::vector<spec::PartPhase> phases;
    if (const std::string wrong = spec::PhasesOn(*s, parts, &phases); !wrong.empty()) return wrong;
    if (std::vector<spec::MixPhase> given; !s->data.phases.empty()) {
      spec::ParsePhases(s->data.phases, &given);
      if (phases.size() < given.size()) {
        return absl::StrCat("data.phases: ", given.size(), " phases in ", s->train.steps,
                            " steps leave one of them no step");
      }
    }
    if (parts.size() == 1) {  // nothing is mixed: the same trial as without a mix
      s->data.mix.clear(), s->data.phases.clear();
      if (tokens > corpus.train_tokens) cell->flags.push_back("more_than_one_epoch");
      return "";
    }
    const std::vector<double> used = spec::TokensByPart(*s, phases);
    for (size_t p = 0; p < parts.size(); ++p) {
      const auto most = static_cast<double>(parts[p].train_tokens);
      cell->parts.push_back({parts[p].name, used[p], parts[p].train_tokens});
      if (used[p] > most * (1 + kWeightError))
        cell->flags.push_back("more_than_one_epoch:" + parts[p].name);
    }
    return "";
  }

  const CorpusInfo* Corpus(const std::string& corpus, const std::string& tokenizer) {
    const auto key = std::make_pair(corpus, tokenizer);
    const auto known = corpus_.find(key);
    if (known != corpus_.end()) return &known->second;
    const auto info = corpora_(corpus, tokenizer);
    if (info.ok()) return &corpus_.emplace(key, *info).first->second;
    const auto at = file_.base_at.find("data.corpus");
    Wrong(at == file_.base_at.end() ? file_.axes_at : at->second,
          std::string(info.status().message()));
    code_ = info.status().code();
    return nullptr;
  }

  // ---- names

  void NameAxes() {
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
  void Describe(const SpacePoint& point, std::optional<size_t> solved_axis,
                const std::string& solved, PlannedCell* cell) {
    std::vector<std::string> names, members;
    for (size_t a = 0; a < file_.axes.size(); ++a) {
      const Axis& axis = file_.axes[a];
      if (solved_axis == a && solved.empty()) {
        names.push_back(absl::StrCat(axis.measure, "=", Short(point.target)));
        continue;
      }
      for (size_t f = 0; f < axis.fields.size(); ++f) {
        const FieldValue& value = solved_axis == a ? solved : point.values[a][f];
        const json parsed = json::parse(value);
        names.push_back(absl::StrCat(name_of_[axis.fields[f]], "=",
                                     parsed.is_string() ? parsed.get<std::string>() : value));
        members.push_back(absl::StrCat("\"", axis.fields[f], "\": ", value));
      }
    }
    cell->name = names.empty() ? "base" : absl::StrJoin(names, " ");
    cell->axes_json = absl::StrCat("{", absl::StrJoin(members, ", "), "}");
  }

  // ---- trials

  void Trials() {
    std::vector<PlannedTrial> control;
    for (size_t i = 0; i < plan_.cells.size(); ++i) {
      const bool controlled = file_.aa && InControl(plan_.cells[i]);
      PlannedTrial first = Trial(i);
      for (int64_t r = 0; r < file_.replicates; ++r) {
        plan_.trials.push_back(WithSeeds(first, r, r));
        if (r == 0 && file_.timing) {
          plan_.trials.back().stages.push_back(
              {.name = "timing",
               .kind = "timing",
               .parent = file_.stage_name,
               .settings_json = json{{"seconds", kTimingSeconds}}.dump(),
               .target_step = 1,
               .priority = kTimingPriority});
        }
        if (controlled) {
          control.push_back(WithSeeds(first, r, kAaSeeds + r));
          control.back().aa = true;
        }
      }
    }
    plan_.trials.insert(plan_.trials.end(), control.begin(), control.end());
    if (file_.limits.trials > 0 &&
        static_cast<int64_t>(plan_.trials.size()) > file_.limits.trials) {
      Wrong(file_.limits_at,
            absl::StrCat("the sweep has ", plan_.trials.size(), " trials (", plan_.cells.size(),
                         " cells × ", file_.replicates, " replicates",
                         control.empty() ? "" : absl::StrCat(" + ", control.size(), " A/A members"),
                         "), more than this limit of ", file_.limits.trials));
    }
  }

  bool InControl(const PlannedCell& cell) const {
    const json axes = json::parse(cell.axes_json);
    return std::all_of(file_.aa_cells.begin(), file_.aa_cells.end(), [&](const auto& want) {
      return axes.contains(want.first) && axes[want.first] == json::parse(want.second);
    });
  }

  PlannedTrial Trial(size_t cell) const {
    const spec::TrialSpec& s = configs_[cell];
    PlannedTrial t;
    t.cell = static_cast<int64_t>(cell);
    t.config = s;
    t.fusion_key = spec::FusionKey(s);  // seeds differ from row to row
    const bool noop = file_.stage_kind == "noop";
    t.stages.push_back({.name = file_.stage_name,
                        .kind = file_.stage_kind,
                        .settings_json = file_.stage_settings,
                        .target_step = noop ? 1 : s.train.steps});
    for (const ChildStage& child : file_.children) {
      t.stages.push_back({.name = child.name,
                          .kind = child.kind,
                          .parent = file_.stage_name,
                          .settings_json = child.settings_json,
                          .target_step = 1});
    }
    t.params = spec::CountParameters(s.model);
    t.flops_per_token = spec::TrainingFlopsPerToken(s.model, s.data.seq_len);
    t.flops = noop ? 0 : spec::TotalTrainingFlops(s);
    t.predicted_peak_bytes = noop ? 0 : spec::PredictedPeakBytes(s, 1);
    return t;
  }

  PlannedTrial WithSeeds(PlannedTrial t, int64_t replicate, int64_t seed) const {
    t.replicate = replicate;
    t.config.seed.init += seed;
    t.config.seed.data += seed;
    t.key = spec::Key(t.config);
    // A trial that trains nothing must never be taken for one that does, nor for a no-op of another
    // length.
    if (file_.stage_kind == "noop")
      t.key =
          spec::Sha256Hex(absl::StrCat("noop ", file_.name, " ", file_.stage_settings, " ", t.key));
    // The whole map once before any part of it twice; what follows a training, right after it.
    for (PlannedStage& stage : t.stages) stage.priority = replicate;
    return t;
  }

  const SweepFile& file_;
  const CorpusLookup& corpora_;
  std::vector<Problem>* problems_;
  SweepPlan plan_;
  std::vector<spec::TrialSpec> configs_;  // by cell
  std::map<std::string, size_t> cell_of_key_;
  std::map<std::pair<std::string, std::string>, CorpusInfo> corpus_;
  std::map<std::string, std::string> name_of_;  // field -> its name in cells
  spec::TrialSpec solved_;                      // what solved_fields_ are bound to
  std::vector<spec::Field> solved_fields_;
  std::string why_invalid_;
  absl::StatusCode code_ = absl::StatusCode::kInvalidArgument;
};

}  // namespace

absl::StatusOr<SweepPlan> PlanSweep(const std::string& yaml, const std::string& file_name,
                                    const CorpusLookup& corpora) {
  std::vector<Problem> problems;
  const SweepFile file = ReadSweepFile(yaml, &problems);
  if (!problems.empty())
    return absl::InvalidArgumentError(FormatProblems(problems, file_name, yaml));
  Planner planner(file, corpora, &problems);
  SweepPlan plan = planner.Run();
  if (!problems.empty())
    return absl::Status(planner.code(), FormatProblems(problems, file_name, yaml));
  return plan;
}

}  // namespace plumb::sweeps
