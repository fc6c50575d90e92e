#include "sweeps/extend.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/diff.h"
#include "sweeps/edit_text.h"
#include "sweeps/sweep_file.h"
#include "sweeps/tuning.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using Identity = std::tuple<TrialRole, int64_t, std::string>;
Identity IdentityOf(const PlannedTrial& t) { return {t.role, t.replicate, t.key}; }

absl::Status Refused(absl::string_view why) { return absl::InvalidArgumentError(why); }

bool SameStages(const PlannedTrial& a, const PlannedTrial& b) {
  return std::equal(a.stages.begin(), a.stages.end(), b.stages.begin(), b.stages.end(),
                    [](const PlannedStage& x, const PlannedStage& y) {
                      return x.name == y.name && x.kind == y.kind && x.parent == y.parent &&
                             x.settings_json == y.settings_json;
                    });
}

// "train.lr: 0.003 → 0.01, …": how the trial in its place differs.
std::string Changes(const PlannedTrial& before, const PlannedTrial& after) {
  std::vector<std::string> out;
  for (const FieldChange& c :
       ConfigChanges(spec::Canonical(before.config, spec::With::kResultOnly).dump(),
                     spec::Canonical(after.config, spec::With::kResultOnly).dump()))
    out.push_back(absl::StrCat(c.path, ": ", c.a, " → ", c.b));
  return absl::StrJoin(out, ", ");
}

class Extender {
 public:
  Extender(SweepPlan* plan, const std::vector<PlannedTrial>& added,
           const std::set<int64_t>& removed, const SweepPlan& newer)
      : plan_(*plan), removed_(removed), newer_(newer) {
    for (const PlannedTrial& t : plan->trials) before_.push_back(&t);
    for (const PlannedTrial& t : added) before_.push_back(&t);
  }

  absl::StatusOr<Extension> Run() {
    if (absl::Status s = Settings(); !s.ok()) return s;
    for (const PlannedTrial* t : before_) known_.emplace(IdentityOf(*t), t);
    MatchCells();
    if (absl::Status s = Lost(); !s.ok()) return s;
    if (absl::Status s = Stages(); !s.ok()) return s;
    Merge();
    for (const PlannedTrial& t : newer_.trials) {
      if (known_.contains(IdentityOf(t))) continue;
      const int64_t cell = place_[static_cast<size_t>(t.cell)];
      if (removed_.contains(cell)) {
        return Refused(absl::StrCat(
            "cell ", plan_.cells[static_cast<size_t>(cell)].name,
            " was taken out by an earlier edit; `plumb sweep retry ID --state cancelled --cell "
            "NAME` computes it after all"));
      }
      out_.added.push_back(t);
      out_.added.back().cell = cell;
    }
    if (absl::Status s = Winners(); !s.ok()) return s;
    if (!out_.added.empty() && plan_.stop && (plan_.stop->across_cells || plan_.stop->racing)) {
      return Refused(
          "stop: compares the trials of this sweep with each other, and decisions were made "
          "without "
          "those that would come now; submit them as a sweep of their own: plumb sweep fork ID "
          "--submit");
    }
    return std::move(out_);
  }

 private:
  absl::Status Settings() const {
    if (plan_.name != newer_.name) {
      return Refused(absl::StrCat("sweep: is called ", plan_.name, ", not ", newer_.name,
                                  "; a copy under another name: plumb sweep fork ID --submit"));
    }
    if (plan_.objectives.front() != newer_.objectives.front()) {
      return Refused(absl::StrCat("objective: stays ", InWords(plan_.objectives.front()),
                                  "; `plumb compare --metric` reads another"));
    }
    if (plan_.labels != newer_.labels || plan_.bundle != newer_.bundle)
      return Refused("resources: stay as they are; a copy with others: plumb sweep fork ID");
    if ((plan_.tune == nullptr) != (newer_.tune == nullptr))
      return Refused("tune: stays as it is; a copy with another: plumb sweep fork ID");
    if (plan_.tune != nullptr && newer_.tune->replicates < plan_.tune->replicates)
      return Refused(absl::StrCat("replicates: there are ", plan_.tune->replicates,
                                  " already; trials are ended with plumb trial cancel"));
    return absl::OkStatus();
  }

  void MatchCells() {
    place_.assign(newer_.cells.size(), -1);
    for (const PlannedTrial& t : newer_.trials) {
      const auto it = known_.find(IdentityOf(t));
      if (it != known_.end()) place_[static_cast<size_t>(t.cell)] = it->second->cell;
    }
    there_.assign(plan_.cells.size(), false);
    auto next = std::ssize(plan_.cells);
    for (size_t c = 0; c < place_.size(); ++c) {
      if (place_[c] >= 0) {
        there_[static_cast<size_t>(place_[c])] = true;
      } else {
        place_[c] = next++;
        out_.new_cells.push_back(place_[c]);
      }
    }
    for (int64_t c = 0; c < std::ssize(there_); ++c) {
      if (!there_[static_cast<size_t>(c)] && !removed_.contains(c)) out_.removed.push_back(c);
    }
  }

  // Trials that the newer text has no more, in cells that it has. What tuning decided follows from
  // results, not from the text.
  absl::Status Lost() const {
    std::map<Identity, const PlannedTrial*> after;
    for (const PlannedTrial& t : newer_.trials) after.emplace(IdentityOf(t), &t);
    int64_t lost = 0;
    const PlannedTrial* first = nullptr;
    const auto missing = [&](const PlannedTrial& t) {
      return there_[static_cast<size_t>(t.cell)] && !after.contains(IdentityOf(t));
    };
    for (const PlannedTrial* t : before_) {
      if (plan_.tune != nullptr || !missing(*t)) continue;  // its grid is the same (MayFollow)
      ++lost;
      if (first == nullptr) first = t;
    }
    if (lost > 0) {
      return Refused(absl::StrCat("the new text loses ", lost,
                                  " trials of cells that it keeps, as ", Describe(*first),
                                  "; only whole cells are taken out"));
    }
    if (!out_.removed.empty() && out_.removed.size() + removed_.size() == plan_.cells.size()) {
      std::string how;
      const PlannedTrial& old = *before_.front();
      for (const PlannedTrial& t : newer_.trials) {
        if (t.role != old.role || t.replicate != old.replicate ||
            newer_.cells[static_cast<size_t>(t.cell)].name !=
                plan_.cells[static_cast<size_t>(old.cell)].name)
          continue;
        how = absl::StrCat(" (", Describe(old), " has ", Changes(old, t), ")");
        break;
      }
      return Refused(absl::StrCat("the new text has none of the sweep's cells", how,
                                  "; another computation is another sweep: plumb sweep fork ID"));
    }
    return absl::OkStatus();
  }

  std::string Describe(const PlannedTrial& t) const {
    return absl::StrCat("replicate ", t.replicate, t.aa ? " of the A/A control" : "", " of ",
                        plan_.cells[static_cast<size_t>(t.cell)].name);
  }

  absl::Status Stages() const {
    for (const PlannedTrial& t : newer_.trials) {
      const auto it = known_.find(IdentityOf(t));
      if (it == known_.end() || SameStages(t, *it->second)) continue;
      return Refused(
          absl::StrCat("stages: ", Describe(*it->second),
                       " would have others (timing: too); trials that are there keep theirs"));
    }
    return absl::OkStatus();
  }

  void Merge() {
    plan_.cells.resize(plan_.cells.size() + out_.new_cells.size());
    for (size_t c = 0; c < place_.size(); ++c) {
      PlannedCell& to = plan_.cells[static_cast<size_t>(place_[c])];
      const PlannedCell& from = newer_.cells[c];
      if (static_cast<size_t>(place_[c]) < there_.size() &&
          (to.name != from.name || to.axes_json != from.axes_json))
        out_.renamed.push_back(place_[c]);
      to = from;
    }
    std::sort(out_.renamed.begin(), out_.renamed.end());
    for (SolveResidual r : newer_.residuals) {
      r.cell = place_[static_cast<size_t>(r.cell)];
      if (r.cell >= std::ssize(there_)) plan_.residuals.push_back(r);
    }
    plan_.limits = newer_.limits;
    plan_.priority = newer_.priority;
    plan_.refused = newer_.refused;
    if (plan_.tune == nullptr) return;
    auto tune = std::make_shared<TunePlan>(*newer_.tune);
    tune->recipes = plan_.tune->recipes;
    tune->controlled = plan_.tune->controlled;
    tune->recipes.resize(plan_.cells.size());
    tune->controlled.resize(plan_.cells.size());
    for (size_t c = 0; c < place_.size(); ++c) {
      tune->recipes[static_cast<size_t>(place_[c])] = newer_.tune->recipes[c];
      tune->controlled[static_cast<size_t>(place_[c])] = newer_.tune->controlled[c];
    }
    plan_.tune = std::move(tune);
  }

  // Cells whose winner is chosen gain what the winner's trials now are more.
  absl::Status Winners() {
    if (plan_.tune == nullptr) return absl::OkStatus();
    std::map<int64_t, std::vector<std::string>> winners;
    for (const PlannedTrial* t : before_) {
      if (t->role == TrialRole::kMain && there_[static_cast<size_t>(t->cell)])
        winners.emplace(t->cell, t->tune_values);
    }
    for (const auto& [cell, values] : winners) {
      absl::StatusOr<std::vector<PlannedTrial>> trials = WinnerTrials(plan_, cell, values);
      if (!trials.ok()) return trials.status();
      for (PlannedTrial& t : *trials) {
        if (!known_.contains(IdentityOf(t))) out_.added.push_back(std::move(t));
      }
    }
    return absl::OkStatus();
  }

  SweepPlan& plan_;
  const std::set<int64_t>& removed_;
  const SweepPlan& newer_;
  std::vector<const PlannedTrial*> before_;
  std::map<Identity, const PlannedTrial*> known_;
  std::vector<int64_t> place_;  // by cell of the newer plan: its cell of the extended one
  std::vector<bool> there_;     // by cell of the plan: the newer one has it
  Extension out_;
};

}  // namespace

absl::StatusOr<Extension> Extend(SweepPlan* plan, const std::vector<PlannedTrial>& added,
                                 const std::set<int64_t>& removed, const SweepPlan& newer) {
  // What is refused changes nothing.
  SweepPlan extended = *plan;
  absl::StatusOr<Extension> out = Extender(&extended, added, removed, newer).Run();
  if (out.ok()) *plan = std::move(extended);
  return out;
}

absl::Status MayFollow(const std::string& yaml, const std::string& newer) {
  for (const char* key : {"tune", "stop"}) {
    if (SectionOf(yaml, key) == SectionOf(newer, key)) continue;
    return Refused(absl::StrCat(key,
                                ": stays as it is, decisions were made by it; a copy with "
                                "another: plumb sweep fork ID"));
  }
  return absl::OkStatus();
}

absl::Status MayGoOn(const std::string& yaml, const std::string& newer, int64_t taken) {
  for (const char* key :
       {"sweep", "trial", "axes", "variants", "also_match", "stop", "where", "replicates", "aa",
        "timing", "report", "objective", "resources", "stages", "allow", "calibration"}) {
    if (SectionOf(yaml, key) == SectionOf(newer, key)) continue;
    return Refused(absl::StrCat(
        key,
        ": of a search stays as it is, its points follow from what it finds; of search: trials and "
        "parallel may change. Submit the new text as a sweep of its own; with prior: it begins "
        "with what this one has found"));
  }
  std::vector<Problem> problems;
  const auto before = ReadSweepFile(yaml, &problems).search;
  const auto after = ReadSweepFile(newer, &problems).search;
  if (!problems.empty() || !before || !after) return Refused("search: stays a search by a model");
  const auto fixed = [](const SearchSpec& s) {
    std::string out = absl::StrCat(s.sampler, " ", s.external, " ", s.startup, " ", s.seed);
    for (const SearchPrior& p : s.prior) absl::StrAppend(&out, " ", p.name, "#", p.id);
    for (const SearchCost& c : s.cost) absl::StrAppend(&out, " ", c.measure, "=", c.weight);
    return out;
  };
  if (fixed(*before) != fixed(*after))
    return Refused("search: what was suggested follows from it; only trials and parallel change");
  if (after->trials < taken) {
    return Refused(
        absl::StrCat("search: has ", taken, " points already, more than ", after->trials));
  }
  // Left out, a generation's size follows from the number of points.
  if (before->sampler == "nsga2" && before->trials != after->trials && before->population == 0 &&
      after->population == 0) {
    return Refused(
        "search: the generations of nsga2 follow from trials where population is left out, so more "
        "trials would be another search; submit one with prior: of this one");
  }
  if (before->population != after->population) return Refused("search: population stays as it is");
  return absl::OkStatus();
}

std::string InWords(const Extension& e) {
  const auto cells = [](size_t n) { return absl::StrCat(n, n == 1 ? " cell" : " cells"); };
  std::string out;
  if (!e.new_cells.empty()) out = absl::StrCat(cells(e.new_cells.size()), " and ");
  absl::StrAppend(&out, e.added.size(), e.added.size() == 1 ? " trial more" : " trials more");
  if (!e.removed.empty()) absl::StrAppend(&out, ", ", cells(e.removed.size()), " taken out");
  return out;
}

}  // namespace plumb::sweeps
