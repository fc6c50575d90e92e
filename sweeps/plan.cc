#include "sweeps/plan.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "sweeps/complete.h"
#include "sweeps/corpus_use.h"
#include "sweeps/draw.h"
#include "sweeps/number.h"
#include "sweeps/population.h"
#include "sweeps/rungs.h"
#include "sweeps/search.h"
#include "sweeps/space.h"
#include "sweeps/sweep_file.h"
#include "sweeps/trials.h"
#include "sweeps/tuning.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

constexpr double kMaxTrials = 1e6;
constexpr size_t kMaxRefused = 10000;  // kept with their reasons
constexpr int64_t kDrawsPerPoint =
    100;  // of random search, before it is said that the constraints leave too little

class Planner {
 public:
  Planner(const SweepFile& file, const CorpusLookup& corpora, std::vector<Problem>* problems)
      : file_(file), corpora_(corpora), problems_(problems), completer_(file, corpora, problems) {}

  SweepPlan Run() {
    plan_.name = file_.name;
    plan_.objectives = file_.objectives;
    plan_.objective = file_.objectives.front().metric;
    plan_.objective_at = file_.objectives.front().at;
    plan_.stop = file_.stop;
    plan_.limits = file_.limits;
    plan_.priority = file_.priority;
    plan_.labels = file_.labels;
    plan_.bundle = file_.bundle;
    plan_.prices = file_.prices;
    plan_.repeats_allowed = file_.allowed.count("more_than_one_epoch") > 0 || AsksForEpochs();
    if (file_.random_points) {
      Random();
    } else {
      Grid();
    }
    if (problems_->empty() && plan_.cells.empty()) NothingLeft();
    if (problems_->empty() && CheckSize(static_cast<double>(plan_.cells.size()))) Trials();
    if (problems_->empty() && file_.population) Populate();
    if (problems_->empty() && file_.search)
      plan_.search =
          std::make_shared<Search>(file_, corpora_, std::move(initial_), plan_.repeats_allowed);
    if (problems_->empty()) CheckRungs();
    return std::move(plan_);
  }
  // Not OK when a corpus could not be had.
  absl::StatusCode code() const { return completer_.code(); }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  // A budget of epochs says itself how often the corpus is read.
  bool AsksForEpochs() const {
    const auto epochs = [](const Overlay& o) { return o.at.count("train.epochs") > 0; };
    return epochs(file_.trial) ||
           std::any_of(file_.variants.begin(), file_.variants.end(),
                       [&](const Variant& v) { return epochs(v.overlay); }) ||
           std::any_of(file_.axes.begin(), file_.axes.end(), [](const Axis& a) {
             return std::count(a.fields.begin(), a.fields.end(), "train.epochs") > 0;
           });
  }

  // Of one point: a variant, and its matched arms.
  double Arms() const {
    if (file_.variants.empty()) return 1;
    const auto n = static_cast<double>(file_.variants.size());
    return n + (n - 1) * static_cast<double>(file_.also_match.size());
  }

  double TunePoints() const {
    double n = file_.tune ? static_cast<double>(file_.tune->seeds) : 0;
    for (size_t a = 0; file_.tune && a < file_.tune->axes.size(); ++a)
      n *= static_cast<double>(file_.tune->axes[a].points.size());
    return n;
  }

  bool CheckSize(double cells) {
    const double trials = cells * (static_cast<double>(file_.replicates) + TunePoints());
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
    if (!CheckSize(size * Arms())) return;
    for (int64_t i = 0; i < static_cast<int64_t>(size) && problems_->empty(); ++i)
      Keep(GridPoint(file_, i));
  }

  void Random() {
    if (!CheckSize(file_.search ? static_cast<double>(file_.search->trials)
                                : static_cast<double>(*file_.random_points) * Arms()))
      return;
    const int64_t wanted = *file_.random_points;
    int64_t found = 0;
    for (int64_t draw = 0; draw < wanted * kDrawsPerPoint && problems_->empty(); ++draw) {
      found += file_.search || file_.population ? KeepOne(draw) : Keep(RandomPoint(file_, draw));
      if (found == wanted) return;
    }
    if (problems_->empty() && !plan_.cells.empty()) {
      Wrong(file_.axes_at, absl::StrCat("only ", found, " of ", wanted,
                                        " different points were found in ", wanted * kDrawsPerPoint,
                                        " draws; ask for fewer trials, or loosen `where`"));
    }
  }

  // Whether the point makes a cell.
  bool Keep(const SpacePoint& point) {
    const size_t before = plan_.cells.size();
    for (Candidate& c : completer_.Complete(point)) Keep(std::move(c));
    return plan_.cells.size() > before;
  }

  // The same of a search, where a draw has one variant.
  bool KeepOne(int64_t draw) {
    const SpacePoint point = RandomPoint(file_, draw);
    const std::vector<std::string> arms = SearchArms(file_);
    const double u = Uniform(file_.random_seed, static_cast<uint64_t>(draw), file_.axes.size());
    const size_t before = plan_.cells.size();
    for (Candidate& c : completer_.Complete(point)) {
      if (!arms.empty() && c.arm != arms[static_cast<size_t>(u * static_cast<double>(arms.size()))])
        continue;
      SearchPoint place = PointOf(file_, point, c);
      Keep(std::move(c));
      if (plan_.cells.size() > before) initial_.push_back(std::move(place));
    }
    return plan_.cells.size() > before;
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
    for (SolveResidual& r : c.residuals) {
      r.cell = static_cast<int64_t>(plan_.cells.size());
      plan_.residuals.push_back(r);
    }
    if (file_.search || file_.population || (file_.stop && file_.stop->across_cells))
      c.cell.flags.push_back("search");
    CheckCooldown(c);
    plan_.cells.push_back(std::move(c.cell));
    (file_.tune ? recipes_ : configs_).push_back(std::move(file_.tune ? c.recipe : c.config));
  }

  // Before the cooldown of a WSD run a rate is not worth what it will be, and losses of different
  // shapes cannot be compared at all. Rungs that are cooled (sweeps/rungs.h) compare none of that.
  void CheckCooldown(Candidate& c) {
    const spec::TrainSpec& t = c.config.train;
    if (t.schedule != spec::ScheduleKind::kWsd) return;
    const double cooldown = 1 - t.decay_fraction;
    const auto early = [&](const std::optional<StopSpec>& s) {
      const bool cools = s && (s->asha || s->hyperband) && s->cooled.value_or(true) &&
                         !file_.search && file_.stage_kind == "pretrain";
      return s && ComparesBefore(*s, cooldown) && !cools;
    };
    if (early(file_.stop) || (file_.tune && early(file_.tune->stop)))
      c.cell.flags.push_back("uncooled_rungs");
    if (!early(file_.stop)) return;
    const std::string model =
        spec::Canonical(c.config, spec::With::kResultOnly).value("model", json::object()).dump();
    if (!first_model_) {
      first_model_ = model;
    } else if (*first_model_ != model && !models_differ_) {
      models_differ_ = true;
      Wrong(file_.stop->at,
            absl::StrCat("under schedule: wsd a rung before ", FormatNumber(100 * cooldown),
                         "% comes before the cooldown, where losses of different models are not "
                         "comparable; put the rungs after it, take schedule: cosine or linear, ",
                         file_.stop->cooled == false ? "leave cooled: false out, " : "",
                         "or compare inside cells (tune:)"));
    }
  }

  void CheckRungs() {
    bool any = false;
    for (const PlannedTrial& t : plan_.trials) {
      if (!CoolsRungs(plan_, t)) continue;
      any = true;
      const StopSpec& stop = *StopOf(plan_, t);
      const std::string wrong = WrongRung(stop, t);
      if (!wrong.empty()) {
        return Wrong(stop.at,
                     absl::StrCat(plan_.cells[static_cast<size_t>(t.cell)].name, ": ", wrong));
      }
    }
    const auto asked = [&](const std::optional<StopSpec>& s) {
      if (any || !s || s->cooled != true) return;
      Wrong(s->at, file_.search
                       ? "cooled: true: the points of a search are judged as they run; leave it "
                         "out, or take schedule: cosine or linear"
                       : "cooled: true: no trial has a rung before a cooldown to come (schedule: "
                         "wsd); leave it out");
    };
    asked(file_.stop);
    if (file_.tune) asked(file_.tune->stop);
  }

  void Populate() {
    const spec::TrialSpec& first = plan_.trials.front().config;
    auto out = std::make_shared<PopulationPlan>();
    out->spec = *file_.population;
    out->steps = first.train.steps;
    out->ends = GenerationEnds(out->spec, out->steps);
    out->model =
        spec::Canonical(first, spec::With::kResultOnly).value("model", json::object()).dump();
    for (const PlannedTrial& t : plan_.trials) {
      if (t.config.train.steps == out->steps) continue;
      return Wrong(
          out->spec.at,
          absl::StrCat("all members have one budget, since they take over each other's "
                       "state: ",
                       plan_.cells.front().name, " has ", out->steps, " steps, and ",
                       plan_.cells[static_cast<size_t>(t.cell)].name, " ", t.config.train.steps));
    }
    if (out->ends.empty()) {
      return Wrong(out->spec.at, absl::StrCat("a generation is shorter than the budget, which is ",
                                              out->steps, " steps; give less in every:"));
    }
    const auto cooldown = (1 - first.train.decay_fraction) * static_cast<double>(out->steps);
    const bool uncooled = first.train.schedule == spec::ScheduleKind::kWsd &&
                          static_cast<double>(out->ends.front()) < cooldown;
    for (PlannedTrial& t : plan_.trials) {
      PlannedCell& cell = plan_.cells[static_cast<size_t>(t.cell)];
      if (uncooled) cell.flags.push_back("uncooled_rungs");
      MarkMember(t.cell, 0, out->ends.front(), &cell, &t);
    }
    out->space =
        std::make_shared<Search>(file_, corpora_, std::move(initial_), plan_.repeats_allowed);
    plan_.population = std::move(out);
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

  // ---- trials

  // Its prediction with what its corpus takes, which is mapped.
  PlannedTrial WithMapped(PlannedTrial t, size_t cell) const {
    if (t.predicted_peak_bytes > 0)
      t.predicted_peak_bytes += MappedBytes(plan_.cells[cell], configs_[cell]);
    return t;
  }

  void Trials() {
    size_t replicates = 0, control = 0;
    if (file_.tune) {
      Tuned();
      replicates = plan_.cells.size() * static_cast<size_t>(file_.replicates);
      for (bool controlled : plan_.tune->controlled)
        control += controlled ? static_cast<size_t>(file_.replicates) : 0;
    } else {
      control = Replicates();
      replicates = plan_.trials.size() - control;
    }
    if (file_.search) replicates = static_cast<size_t>(file_.search->trials * file_.replicates);
    const size_t tune = file_.tune ? plan_.trials.size() : 0;
    if (const size_t all = replicates + control + tune;
        file_.limits.trials > 0 && static_cast<int64_t>(all) > file_.limits.trials) {
      Wrong(file_.limits_at,
            absl::StrCat("the sweep has ", all, " trials (",
                         file_.search ? file_.search->trials : std::ssize(plan_.cells), " cells × ",
                         file_.replicates, " replicates",
                         control == 0 ? "" : absl::StrCat(" + ", control, " A/A members"),
                         tune == 0 ? "" : absl::StrCat(" + ", tune, " that tune"),
                         "), more than this limit of ", file_.limits.trials));
    }
  }

  // Of them A/A members.
  size_t Replicates() {
    std::vector<PlannedTrial> control;
    for (size_t i = 0; i < plan_.cells.size(); ++i) {
      const bool controlled = file_.aa && InControl(plan_.cells[i]);
      const auto cell = static_cast<int64_t>(i);
      for (PlannedTrial& t : ReplicatesOf(file_, cell, configs_[i]))
        plan_.trials.push_back(WithMapped(std::move(t), i));
      if (!controlled) continue;
      const PlannedTrial first = WithMapped(TrialOf(cell, configs_[i], StagesOf(file_)), i);
      for (int64_t r = 0; r < file_.replicates; ++r) {
        control.push_back(WithSeeds(first, r, kAaSeeds + r, file_.name));
        control.back().role = TrialRole::kAa, control.back().aa = true;
      }
    }
    plan_.trials.insert(plan_.trials.end(), control.begin(), control.end());
    return control.size();
  }

  void Tuned() {
    const Tune& tune = *file_.tune;
    auto out = std::make_shared<TunePlan>();
    spec::TrialSpec scratch;
    const auto fields = spec::Fields(scratch);
    for (const Axis& a : tune.axes) {
      const auto field = std::find_if(fields.begin(), fields.end(), [&](const spec::Field& f) {
        return f.path == a.fields.front();
      });
      TuneAxis axis{.field = field->path,
                    .ordered = field->type == spec::FieldType::kInteger ||
                               field->type == spec::FieldType::kNumber,
                    .least = field->min,
                    .most = field->max,
                    .integer = field->type == spec::FieldType::kInteger};
      for (const auto& point : a.points) axis.values.push_back(point.front());
      out->axes.push_back(std::move(axis));
    }
    out->seeds = tune.seeds, out->stop = tune.stop, out->extend = tune.extend;
    out->metric = tune.by.metric, out->metric_at = tune.by.at;
    out->metric_stage = tune.by.stage, out->maximize = tune.by.maximize;
    out->replicates = file_.replicates, out->timing = file_.timing;
    out->stages = StagesOf(file_);
    for (const PlannedCell& cell : plan_.cells)
      out->controlled.push_back(file_.aa && InControl(cell));
    out->recipes = std::move(recipes_);
    plan_.tune = out;
    const auto points = static_cast<int64_t>(out->points());
    for (size_t cell = 0; cell < plan_.cells.size(); ++cell) {
      for (int64_t p = 0; p < points; ++p) {
        std::vector<FieldValue> values(out->axes.size());
        int64_t rest = p;
        for (size_t a = out->axes.size(); a-- > 0;) {
          const auto n = static_cast<int64_t>(out->axes[a].values.size());
          values[a] = out->axes[a].values[static_cast<size_t>(rest % n)];
          rest /= n;
        }
        auto trials = TuneTrials(plan_, static_cast<int64_t>(cell), values);
        if (!trials.ok()) {
          return Wrong(tune.at, absl::StrCat(plan_.cells[cell].name, ": ",
                                             std::string(trials.status().message())));
        }
        for (PlannedTrial& t : *trials) plan_.trials.push_back(std::move(t));
      }
    }
  }

  bool InControl(const PlannedCell& cell) const {
    const json axes = json::parse(cell.axes_json);
    return std::all_of(file_.aa_cells.begin(), file_.aa_cells.end(), [&](const auto& want) {
      return axes.contains(want.first) && axes[want.first] == json::parse(want.second);
    });
  }

  const SweepFile& file_;
  const CorpusLookup& corpora_;
  std::vector<Problem>* problems_;
  Completer completer_;
  SweepPlan plan_;
  std::vector<spec::TrialSpec> configs_, recipes_;  // by cell; the latter where something is tuned
  std::map<std::string, size_t> cell_of_key_;
  std::vector<SearchPoint> initial_;        // of a search, by cell
  std::optional<std::string> first_model_;  // of a search under WSD
  bool models_differ_ = false;
};

}  // namespace

absl::Status CheckRepeats(const SweepPlan& plan) {
  if (plan.repeats_allowed) return absl::OkStatus();
  int64_t cells = 0;
  const PlannedCell* first = nullptr;
  for (const PlannedCell& cell : plan.cells) {
    const bool repeats =
        std::any_of(cell.flags.begin(), cell.flags.end(),
                    [](const std::string& f) { return f.rfind("more_than_one_epoch", 0) == 0; });
    if (!repeats) continue;
    if (++cells == 1) first = &cell;
  }
  if (cells == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      cells, " of ", plan.cells.size(), plan.cells.size() == 1 ? " cell reads" : " cells read",
      " the corpus more than once (", first->name, cells > 1 ? ", …" : "",
      "): what is learnt twice is not compared at its price. Give fewer tokens or a larger corpus, "
      "or write "
      "`allow: [more_than_one_epoch]`"));
}

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
