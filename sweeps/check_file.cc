#include "sweeps/check_file.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "sweeps/formulas.h"
#include "sweeps/population.h"
#include "sweeps/search.h"
#include "sweeps/sobol.h"
#include "sweeps/tuning.h"

namespace plumb::sweeps {
namespace {

class Checker {
 public:
  Checker(const YamlNode& root, const NameContext& names, SweepFile* file,
          std::vector<Problem>* problems)
      : root_(root), names_(names), file_(*file), problems_(problems) {
    for (const Axis& a : file_.axes) {
      for (const std::string& f : a.fields) axis_of_[f] = &a;
    }
  }

  void Run() {
    CheckFormulas(file_, names_, problems_);
    Variants();
    Computed();
    Conditions();
    Objectives();
    Tuning();
    StopsByAStage();
    Matches();
    for (size_t v = 0; v < std::max<size_t>(1, file_.variants.size()); ++v) Budgets(v);
    Solved();
    NeedsPrices();
    if (file_.search) Searching();
    if (file_.population) Populating();
    if (file_.stage_kind != "pretrain") NoTiming();
    if (file_.stage_kind == "noop") return;
    if (file_.stage_kind == "pretrain") NeedsData();
    NeedsValues();
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }
  // A missing one is said elsewhere.
  bool HasTrial() const {
    const YamlEntry* trial = root_.Find("trial");
    return trial != nullptr && trial->value.is_map();
  }
  bool IsAxis(const std::string& field) const { return axis_of_.count(field) > 0; }
  bool IsTuned(const std::string& field) const {
    return file_.tune && std::any_of(file_.tune->axes.begin(), file_.tune->axes.end(),
                                     [&](const Axis& a) { return a.fields[0] == field; });
  }

  void Variants() {
    for (const Variant& v : file_.variants) {
      for (const auto& [field, at] : v.overlay.at) {
        if (IsAxis(field)) {
          Wrong(at, absl::StrCat(field, " is an axis, at line ", axis_of_[field]->at.line,
                                 ": every variant has its values"));
        } else if (IsTuned(field)) {
          Wrong(at, absl::StrCat(field, " is tuned inside each cell; leave it out of ", v.name));
        }
      }
    }
  }

  void Computed() {
    for (const auto& [field, formula] : file_.trial.computed) {
      if (IsAxis(field)) {
        Wrong(axis_of_[field]->at,
              absl::StrCat("the trial computes this ", IsBudget(field) ? "budget" : "field",
                           "; give it in one place"));
      }
      if (IsTuned(field)) {
        Wrong(file_.tune->at, absl::StrCat("the trial computes ", field, "; give it in one place"));
      }
    }
    const auto names_tuned = [&](const sweeps::Computed& formula) {
      for (const Expression::Name& n : formula.expression.names()) {
        const std::string resolved = *ResolveName(n.text, names_);
        const auto reference = AsReference(resolved);
        if (IsTuned(reference ? reference->name : resolved)) {
          Wrong(formula.at, absl::StrCat(formula.field, " is the same for all of a cell, and ",
                                         n.text, " is tuned inside it"));
        }
      }
    };
    for (const auto& [field, formula] : file_.trial.computed) names_tuned(formula);
    for (const Variant& v : file_.variants) {
      for (const auto& [field, formula] : v.overlay.computed) names_tuned(formula);
    }
  }

  void Conditions() {
    for (const Constraint& w : file_.where) {
      for (const Expression::Name& n : w.expression.names()) {
        if (IsTuned(*ResolveName(n.text, names_))) {
          Wrong(w.at, absl::StrCat("where judges cells, and ", n.text, " is tuned inside them"));
        }
      }
    }
    std::set<std::string> known;  // conditional axes written before
    for (const Axis& a : file_.axes) {
      if (a.when) When(a, known);
      if (a.when) known.insert(a.fields.begin(), a.fields.end());
    }
  }

  // The condition of an axis is judged first of all.
  void When(const Axis& axis, const std::set<std::string>& known) {
    for (const Expression::Name& n : axis.when->expression.names()) {
      const std::string name = *ResolveName(n.text, names_);
      const auto other = axis_of_.find(name);
      const auto why = [&](const std::string& text) {
        Wrong(axis.when->at, absl::StrCat("`when` cannot name ", n.text, ", ", text));
      };
      if (AsReference(name)) {
        why("which belongs to another variant; it is judged on the axes and the trial's own "
            "fields");
      } else if (KnownIn(name) != Phase::kFields) {
        why("which is counted later; it is judged on the axes and the trial's own fields");
      } else if (std::count(axis.fields.begin(), axis.fields.end(), name) > 0) {
        why("the axis's own field");
      } else if (IsTuned(name)) {
        why("which is tuned inside each cell");
      } else if (other != axis_of_.end() && other->second->solved()) {
        why("which is solved later");
      } else if (other != axis_of_.end() && other->second->when && known.count(name) == 0) {
        why("a conditional axis that stands below; write that one first");
      } else {
        for (size_t v = 0; v < std::max<size_t>(1, file_.variants.size()); ++v) {
          if (FieldsOf(file_, v).computed.count(name) == 0) continue;
          why("which is computed later");
          break;
        }
      }
    }
  }

  void Tuning() {
    if (!file_.tune) return;
    for (const Axis& a : file_.tune->axes) {
      if (IsAxis(a.fields[0])) {
        Wrong(a.at,
              absl::StrCat(a.fields[0], " is an axis already, at line ",
                           axis_of_[a.fields[0]]->at.line, ": it is either compared or tuned"));
      }
    }
    if (file_.stage_kind == "noop") {
      Wrong(file_.tune->at, "a noop stage has nothing to tune");
    }
    // Tuning reads a split of its own, so that conclusions stay on seeds and text that tuned
    // nothing.
    const PlannedObjective& first = file_.objectives.front();
    Tune& tune = *file_.tune;
    if (!tune.says_at) tune.by.at = first.at;
    if (tune.by.stage == file_.stage_name) tune.by.stage.clear();
    if (tune.by.metric.empty()) {
      if (!tune.by.stage.empty() && tune.by.stage != first.stage) {
        return Wrong(tune.by_at, absl::StrCat("which series of stage ", tune.by.stage,
                                              " chooses a value? Add metric:, as metric: "
                                              "evaluate/tune/bits_per_byte"));
      }
      const PlannedObjective elsewhere = WhileDeciding(first);
      tune.by.stage = first.stage;
      tune.by.metric = first.stage.empty() ? "tune" + first.metric.substr(first.metric.find('/'))
                                           : elsewhere.metric;
      if (!tune.says_goal) tune.by.maximize = first.maximize;
      if (tune.by.metric.empty()) {
        return Wrong(tune.at, absl::StrCat("the test split is for conclusions, and ", first.metric,
                                           " of stage ", first.stage,
                                           " is of it; name another series of that stage here: "
                                           "stage: ",
                                           first.stage, ", metric: val/accuracy"));
      }
    } else if (!tune.says_goal && LastPart(tune.by.metric) == LastPart(first.metric)) {
      tune.by.maximize = first.maximize;
    }
    HasStage(tune.by_at, "tune: ", &tune.by);
    if (tune.stop && !tune.by.stage.empty()) {
      Wrong(tune.stop->at,
            absl::StrCat("rules inside tune: judge trainings on their way, and ", tune.by.metric,
                         " is there only when stage ", tune.by.stage,
                         " has run; leave stop out, or tune by what the training measures: "
                         "metric: tune/loss"));
    }
    if (tune.stop && tune.stop->divergence && tune.by.maximize) Diverging(*tune.stop);
  }

  static std::string LastPart(const std::string& series) {
    return series.substr(series.rfind('/') + 1);
  }

  void Diverging(const StopSpec& stop) {
    Wrong(stop.at,
          "divergence compares a value with the least that its trial had, and here more is "
          "better; leave it out");
  }

  // Whether the objective's stage is there, with a series of that name as far as anybody knows.
  // The first stage is what no name means too.
  void HasStage(Position at, const std::string& what, PlannedObjective* objective) {
    if (objective->stage == file_.stage_name) objective->stage.clear();
    if (objective->stage.empty()) return;
    std::vector<std::string> known = {file_.stage_name};
    const ChildStage* stage = nullptr;
    std::string several;
    for (const ChildStage& child : file_.children) {
      known.push_back(child.name);
      if (child.name == objective->stage) stage = &child;
      if (child.name.rfind(objective->stage + ":", 0) == 0 && several.empty()) several = child.name;
    }
    if (stage == nullptr && IsBroken(objective->stage.substr(0, objective->stage.find(':'))))
      return;
    if (stage == nullptr) {
      return Wrong(
          at, absl::StrCat(what, "no stage \"", objective->stage, "\"",
                           several.empty()
                               ? Suggest(objective->stage, known)
                               : absl::StrCat(" but one for each parent; name one, as ", several)));
    }
    if (stage->kind == "probe" || stage->kind == "painters") {
      return Wrong(at, absl::StrCat(what, "a ", stage->kind,
                                    " leaves records and measures no series; name an evaluate, "
                                    "finetune or external"));
    }
    if (stage->kind == "finetune" && objective->metric != "finetune/mean_accuracy") {
      return Wrong(at, absl::StrCat(what, "a finetune measures finetune/mean_accuracy, not ",
                                    objective->metric));
    }
    if (stage->kind != "evaluate") return;
    std::vector<std::string> splits;
    const auto settings = nlohmann::json::parse(stage->settings_json);  // without what is usual
    for (const auto& split : settings.value("splits", nlohmann::json::array({"test"})))
      splits.push_back(split.get<std::string>());
    const bool there = std::any_of(splits.begin(), splits.end(), [&](const std::string& split) {
      return objective->metric.rfind("evaluate/" + split + "/", 0) == 0;
    });
    if (there) return;
    std::string series;
    for (const std::string& split : splits)
      absl::StrAppend(&series, series.empty() ? "" : ", ", "evaluate/", split, "/…");
    Wrong(at,
          absl::StrCat(what, "stage ", stage->name, " measures ", series, ", not ",
                       objective->metric, "; what it scores is its setting splits: [tune, test]"));
  }

  // The file has such an entry and no stage came of it: what is wrong with it is said there.
  bool IsBroken(const std::string& entry) const {
    const YamlEntry* stages = root_.Find("stages");
    return stages != nullptr && stages->value.is_map() && stages->value.Find(entry) != nullptr &&
           std::none_of(file_.children.begin(), file_.children.end(), [&](const ChildStage& child) {
             return child.name == entry || child.name.rfind(entry + ":", 0) == 0;
           });
  }

  // Rules beside tune: that would judge by what a later stage measures.
  void StopsByAStage() {
    const PlannedObjective& first = file_.objectives.front();
    if (!file_.stop) return;
    if (file_.stop->divergence && first.maximize) Diverging(*file_.stop);
    if (first.stage.empty()) return;
    const StopSpec& stop = *file_.stop;
    if (stop.asha || stop.hyperband || stop.median || stop.divergence) {
      return Wrong(stop.at,
                   absl::StrCat(stop.asha        ? "asha"
                                : stop.hyperband ? "hyperband"
                                : stop.median    ? "median"
                                                 : "divergence",
                                " judges trainings on their way, and ", first.metric,
                                " is there only when stage ", first.stage,
                                " has run; racing compares cells by it: stop: {racing: {}}"));
    }
    PlannedObjective by = WhileDeciding(first);
    if (by.metric.empty()) {
      return Wrong(stop.at, absl::StrCat("racing looks while the sweep still runs, and ",
                                         first.metric, " of stage ", first.stage,
                                         " is of the test split, which is for conclusions"));
    }
    HasStage(stop.at, "racing reads no test split while the sweep runs: ", &by);
  }

  void Objectives() {
    for (PlannedObjective& o : file_.objectives) {
      const YamlEntry* e = root_.Find("objective");
      if (e == nullptr) e = root_.Find("report");
      if (e != nullptr) HasStage(e->value.at, "", &o);
      if (o.metric.rfind("cost/", 0) != 0 || e == nullptr) continue;
      const std::string measure = CostMeasure(o.metric);
      if (!IsMeasure(measure)) {
        Wrong(e->value.at,
              absl::StrCat("unknown measure in ", o.metric, Suggest(measure, MeasureNames())));
      } else if (&o == &file_.objectives.front()) {
        Wrong(e->value.at, absl::StrCat(o.metric,
                                        " is known before anything runs; put what is measured "
                                        "first"));
      }
    }
  }

  void Matches() {
    if (file_.also_match.empty()) return;
    const Position at = root_.Find("also_match")->key.at;
    if (file_.variants.size() < 2) {
      return Wrong(at,
                   "also_match: gives each variant but the baseline a second arm; there are no "
                   "variants beside a baseline");
    }
    for (const Match& m : file_.also_match) {
      if (m.measure == "flops" || m.measure == "seconds") continue;
      if (IsAxis(m.knob)) {
        Wrong(m.at, absl::StrCat(m.knob, " is an axis; name another knob, as {", m.measure,
                                 ": model.d_ff}"));
      }
      for (size_t v = 1; v < file_.variants.size(); ++v) {
        if (FieldsOf(file_, v).computed.count(m.knob) == 0) continue;
        Wrong(m.at, absl::StrCat(m.knob, " is computed in ", file_.variants[v].name,
                                 "; name another knob, as {", m.measure, ": model.d_ff}"));
      }
    }
  }

  void Budgets(size_t variant) {
    const Overlay fields = FieldsOf(file_, variant);
    std::vector<std::pair<std::string, Position>> budgets;
    const sweeps::Computed* formula = nullptr;
    for (const std::string& path : BudgetFields()) {
      const auto axis = axis_of_.find(path);
      if (axis != axis_of_.end()) budgets.push_back({path, axis->second->at});
      const auto it = fields.at.find(path);
      if (axis == axis_of_.end() && it != fields.at.end()) budgets.push_back({path, it->second});
      if (fields.computed.count(path) > 0) formula = &fields.computed.at(path);
    }
    if (budgets.size() > 1) {
      std::sort(budgets.begin(), budgets.end(),
                [](const auto& a, const auto& b) { return a.second < b.second; });
      Wrong(budgets[1].second,
            absl::StrCat("a second budget: line ", budgets[0].second.line, " gives ",
                         budgets[0].first, "; give one of ", kBudgetNames));
    }
    if (budgets.size() == 1 && formula != nullptr && budgets[0].second != formula->at) {
      Wrong(budgets[0].second, "the trial computes this budget; give it in one place");
    }
    if (budgets.empty() && file_.stage_kind == "pretrain" && HasTrial()) {
      Wrong(file_.variants.empty() ? file_.trial_at : file_.variants[variant].at,
            file_.variants.empty()
                ? absl::StrCat("no budget: give one of ", kBudgetNames, ", here or as an axis")
                : absl::StrCat("no budget for ", file_.variants[variant].name, ": give one of ",
                               kBudgetNames, " here, in trial: or as an axis"));
    }
  }

  void Solved() {
    for (const Axis& a : file_.axes) {
      if (a.measure != "flops" && a.measure != "seconds") continue;
      const std::string budget = "train." + a.measure;
      for (size_t v = 0; v < std::max<size_t>(1, file_.variants.size()); ++v) {
        if (FieldsOf(file_, v).at.count(budget) == 0 && !IsAxis(budget)) continue;
        Wrong(a.at,
              absl::StrCat("the budget is given in ", a.measure == "flops" ? "FLOPs" : "seconds",
                           ", whatever the shape; solve for ", a.measure,
                           " with train.tokens or train.steps, or for another measure"));
        break;
      }
    }
    const auto solved = std::find_if(file_.axes.begin(), file_.axes.end(),
                                     [](const Axis& a) { return a.solved(); });
    if (solved == file_.axes.end()) return;
    for (size_t v = 0; v < std::max<size_t>(1, file_.variants.size()); ++v) {
      if (FieldsOf(file_, v).computed.count(solved->fields[0]) > 0) {
        Wrong(solved->at, absl::StrCat(solved->fields[0],
                                       " is computed already; solve for another "
                                       "field"));
        return;
      }
    }
  }

  void Searching() {
    const SearchSpec& search = *file_.search;
    if (file_.axes.empty())
      Wrong(search.at, "there is nothing to search: give axes:, as train.lr: {log: [1e-4, 1e-2]}");
    if (file_.tune) {
      Wrong(file_.tune->at,
            "a search chooses one value at a time, and tuning several inside each: write what is "
            "tuned under axes:");
    }
    if (file_.aa) {
      Wrong(root_.Find("aa")->key.at,
            "a search ends where it is good and says nothing of noise: leave aa out, and compare "
            "its best in a sweep of its own");
    }
    if (file_.stop) SearchStops(*file_.stop);
    if (file_.objectives.size() > 1) {
      if (search.sampler == "gp" || search.sampler == "cmaes") {
        Wrong(search.at, absl::StrCat(search.sampler, " searches for one objective, and there are ",
                                      file_.objectives.size(), "; nsga2 and tpe take several"));
      }
      if (!search.cost.empty()) {
        Wrong(search.at,
              "a cost is added to the one objective; beside several write it as one of them: "
              "cost/flops");
      }
    }
    const std::vector<SearchAxis> axes = SearchAxes(file_);
    const auto numbers = std::any_of(axes.begin(), axes.end(), [](const SearchAxis& a) {
      return a.kind != SearchAxis::Kind::kChoice || a.numbers.size() > 1;
    });
    if (search.sampler == "cmaes" && !numbers && !file_.axes.empty()) {
      Wrong(search.at,
            "cmaes searches numbers, and no axis here is a range or a rising list: "
            "write one as {log: [1e-4, 1e-2]}, or take tpe");
    }
    double points = std::max<double>(1, static_cast<double>(file_.variants.size()));
    for (const Axis& a : file_.axes) {
      points *= a.solved()          ? static_cast<double>(a.targets.size())
                : !a.points.empty() ? static_cast<double>(a.points.size())
                : a.integer         ? a.high - a.low + 1
                                    : 1e9;
    }
    if (file_.also_match.empty() && points < static_cast<double>(search.trials)) {
      Wrong(search.at,
            absl::StrCat("the axes have ", static_cast<int64_t>(points), " points, fewer than the ",
                         search.trials, " of the search; leave search out, and all are run"));
    }
  }

  void Populating() {
    const PopulationSpec& population = *file_.population;
    if (file_.axes.empty()) {
      Wrong(population.at,
            "there is nothing to change on the way: give axes:, as train.lr: {log: [1e-4, 1e-2]}");
    }
    for (const Axis& a : file_.axes) {
      for (const std::string& field : a.fields) {
        if (MayChangeOnTheWay(field)) continue;
        Wrong(a.at, absl::StrCat(field,
                                 " cannot change on the way, as a fork goes on from another "
                                 "member's checkpoint; the axes of a population are of ",
                                 FieldsThatMayChange()));
        break;
      }
    }
    const auto leave_out = [&](bool there, const char* key, const char* why) {
      if (const YamlEntry* e = root_.Find(key); there && e != nullptr) Wrong(e->key.at, why);
    };
    leave_out(file_.tune.has_value(), "tune",
              "a population changes its values as it goes; write what is tuned under axes:");
    leave_out(file_.stop.has_value(), "stop",
              "the worst of a population give way to forks of the best; leave stop out");
    leave_out(file_.aa, "aa",
              "a search ends where it is good and says nothing of noise: leave aa out, and compare "
              "its best in a sweep of its own");
    leave_out(
        !file_.variants.empty(), "variants",
        "members take over each other's state, and those of two variants have none in common; "
        "submit a sweep for each");
    leave_out(file_.replicates > 1, "replicates",
              "the members of a population compete, and a second population is another search; "
              "submit it with another seed under trial: and search:");
    const PlannedObjective& first = file_.objectives.front();
    if (!first.stage.empty() || first.maximize) {
      Wrong(population.at,
            absl::StrCat("members are compared on their way by a loss of the training, and ",
                         first.metric,
                         first.stage.empty() ? " is to be large" : " is of a later stage",
                         "; give objective: test/loss"));
    }
    if (file_.stage_kind != "pretrain") {
      Wrong(population.at,
            absl::StrCat("members go on from each other's checkpoints, and a first "
                         "stage of kind ",
                         file_.stage_kind, " leaves none that another can take over"));
    }
  }

  // Which rules take trials that come later as they take the first.
  void SearchStops(const StopSpec& stop) {
    const bool promotes = (stop.asha && stop.asha->mode == RungMode::kPromote) || stop.hyperband;
    if (promotes || stop.racing) {
      Wrong(stop.at, absl::StrCat("the points of a search come one after another, and ",
                                  stop.racing      ? "racing compares cells"
                                  : stop.hyperband ? "hyperband fills brackets"
                                                   : "mode: promote lets trials wait for others",
                                  " that are there from the start; use asha with mode: stop, "
                                  "median or divergence"));
    }
  }

  // What is counted in seconds needs to know how long anything takes.
  void NeedsPrices() {
    std::vector<Position> uses;
    const auto expression = [&](const Constraint& c) {
      for (const Expression::Name& n : c.expression.names()) {
        const std::string name = *ResolveName(n.text, names_);
        const auto reference = AsReference(name);
        if ((reference ? reference->name : name) == "seconds") uses.push_back(c.at);
      }
    };
    for (const Axis& a : file_.axes) {
      if (a.measure == "seconds" ||
          std::count(a.fields.begin(), a.fields.end(), "train.seconds") > 0)
        uses.push_back(a.at);
    }
    for (const Match& m : file_.also_match) {
      if (m.measure == "seconds") uses.push_back(m.at);
    }
    for (const Constraint& w : file_.where) expression(w);
    const auto overlay = [&](const Overlay& o) {
      if (const auto it = o.at.find("train.seconds"); it != o.at.end()) uses.push_back(it->second);
      for (const auto& [field, formula] : o.computed)
        expression({formula.at, formula.text, formula.expression});
    };
    overlay(file_.trial);
    for (const Variant& v : file_.variants) overlay(v.overlay);
    file_.counts_seconds = !uses.empty();
    if (uses.empty() || file_.prices) return;
    if (!file_.calibration_device.empty()) {
      return Wrong(file_.calibration_at,
                   absl::StrCat("the calibration of ", file_.calibration_device,
                                " was not written in; `plumb sweep plan` and `plumb sweep submit` "
                                "do that where it is known"));
    }
    Wrong(*std::min_element(uses.begin(), uses.end()),
          "seconds need a calibration of the machine that trains: run `plumb sweep plan "
          "--calibrate` there first");
  }

  void NoTiming() {
    if (file_.timing)
      Wrong(root_.Find("timing")->key.at,
            absl::StrCat("a first stage of kind ", file_.stage_kind,
                         " trains nothing here that could be timed; leave timing out"));
  }

  void NeedsData() {
    const bool axis = IsAxis("data.corpus");
    for (size_t v = 0; v < std::max<size_t>(1, file_.variants.size()); ++v) {
      if (axis || FieldsOf(file_, v).at.count("data.corpus") > 0 || !HasTrial()) continue;
      return Wrong(file_.trial_at,
                   "data.corpus is missing; `plumb data list` shows the prepared corpora");
    }
  }

  void NeedsValues() {
    if (file_.sobol && file_.axes.size() > static_cast<size_t>(kMaxSobolDimensions)) {
      Wrong(file_.axes_at, absl::StrCat("a Sobol sequence has at most ", kMaxSobolDimensions,
                                        " axes; write search: {random: {trials: 20}}"));
    }
    for (const Axis& a : file_.axes) {
      if (!file_.random_points && !a.solved() && a.points.empty()) {
        Wrong(a.at,
              "a grid needs to know the values: add points: 5 (or step: for a range), or write "
              "search: {random: {trials: 20}}");
      }
    }
  }

  const YamlNode& root_;
  const NameContext& names_;
  SweepFile& file_;
  std::vector<Problem>* problems_;
  std::map<std::string, const Axis*> axis_of_;
};

}  // namespace

void CheckFile(const YamlNode& root, const NameContext& names, SweepFile* file,
               std::vector<Problem>* problems) {
  Checker(root, names, file, problems).Run();
}

}  // namespace plumb::sweeps
