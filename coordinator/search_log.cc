#include "coordinator/search_log.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "sweeps/tuning.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;

constexpr char kSuggest[] = "suggest", kEnd[] = "search_end";
constexpr int64_t kHopeless = 100;  // refused points in a row

std::string KindOf(const AdditionRow& addition) {
  const json payload = json::parse(addition.payload_json, nullptr, false);
  return payload.is_object() ? payload.value("kind", "") : "";
}

// Of an objective that is to be large the best value is the largest.
std::optional<double> ValueOf(const sweeps::PlannedObjective& objective,
                              const std::vector<store::StepValue>& points) {
  std::vector<double> values;
  for (const store::StepValue& p : points) values.push_back(p.value);
  return sweeps::ValueAt(objective.at, values, objective.maximize);
}

}  // namespace

SearchLog::SearchLog(const sweeps::SweepPlan& plan)
    : search_(plan.search), name_(plan.name), objectives_(plan.objectives) {
  for (const sweeps::SearchPoint& values : search_->initial())
    points_.push_back({.values = values});
  for (size_t i = 0; i < plan.trials.size(); ++i) {
    const sweeps::PlannedTrial& t = plan.trials[i];
    Point& point = points_[static_cast<size_t>(t.cell)];
    if (point.trials++ > 0) continue;
    point.first_trial = static_cast<int64_t>(i);
    Price(t, &point);
    cell_of_key_[spec::Key(t.config)] = plan.cells[static_cast<size_t>(t.cell)].name;
  }
  taken_ = std::ssize(points_);
  for (const sweeps::PlannedObjective& o : objectives_) {
    if (o.stage.empty() || plan.trials.empty()) continue;
    std::vector<sweeps::PlannedStage> way = plan.trials.front().stages;
    sweeps::KeepWayTo(o.stage, &way);
    ways_[o.stage] = std::move(way);
  }
}

void SearchLog::Price(const sweeps::PlannedTrial& trial, Point* point) const {
  point->known.assign(objectives_.size(), 0);
  for (size_t i = 0; i < objectives_.size(); ++i) {
    const std::string measure = sweeps::CostMeasure(objectives_[i].metric);
    if (!measure.empty()) point->known[i] = sweeps::Measure(measure, trial.config);
  }
  point->penalty = 0;
  for (const sweeps::SearchCost& c : spec().cost) {
    const double measure = sweeps::Measure(c.measure, trial.config);
    if (measure > 0) point->penalty += c.weight * std::log10(measure);
  }
}

bool SearchLog::Owns(const AdditionRow& addition) {
  const std::string kind = KindOf(addition);
  return kind == kSuggest || kind == kEnd;
}

absl::StatusOr<std::vector<sweeps::PlannedTrial>> SearchLog::Take(
    const AdditionRow& addition, int64_t first_trial, std::vector<sweeps::PlannedCell>* cells) {
  const json payload = json::parse(addition.payload_json, nullptr, false);
  const auto wrong = [&] {
    return absl::DataLossError(absl::StrCat("addition \"", addition.name, "\" of sweep ",
                                            addition.sweep.value,
                                            " cannot be read: ", addition.payload_json));
  };
  std::vector<sweeps::PlannedTrial> out;
  if (KindOf(addition) == kEnd) {
    ended_ = true;
    return out;
  }
  if (!payload.is_object() || !payload.contains("points") || !payload["points"].is_array() ||
      payload.value("first", int64_t{-1}) != next())
    return wrong();
  for (const json& p : payload["points"]) {
    if (!p.is_object() || !p.contains("values") || !p["values"].is_array()) return wrong();
    Point point{.refused = p.value("refused", ""), .note = p.value("note", "")};
    std::vector<double> values;
    for (const json& v : p["values"])
      values.push_back(v.is_number() ? v.get<double>() : std::nan(""));
    if (!point.refused.empty()) {
      for (double v : values) point.values.push_back(v);
      point.state = v1::POINT_STATE_REFUSED;
      points_.push_back(std::move(point));
      continue;
    }
    sweeps::Search::Judged judged = search_->Judge(values, std::ssize(*cells));
    if (!judged.refused.empty()) return wrong();
    point.values = std::move(judged.point);
    point.first_trial = first_trial + std::ssize(out);
    point.trials = std::ssize(judged.trials);
    Price(judged.trials.front(), &point);
    cell_of_key_[judged.key] = judged.cell.name;
    cells->push_back(std::move(judged.cell));
    std::move(judged.trials.begin(), judged.trials.end(), std::back_inserter(out));
    points_.push_back(std::move(point));
    ++taken_;
  }
  if (std::ssize(out) != addition.trials) return wrong();
  return out;
}

SearchLog::Answer SearchLog::Judge(const std::vector<v1::Suggestion>& suggestions,
                                   int64_t first) const {
  Answer out{.name = absl::StrCat("suggestions from ", first)};
  json points = json::array();
  std::map<std::string, std::string> new_cells;
  for (const v1::Suggestion& s : suggestions) {
    const std::vector<double> values(s.values().begin(), s.values().end());
    sweeps::Search::Judged judged = search_->Judge(values, 0);
    if (judged.refused.empty()) {
      const bool is_old = cell_of_key_.contains(judged.key);
      if (is_old || new_cells.contains(judged.key)) {
        judged.refused =
            absl::StrCat("the same trial as ", (is_old ? cell_of_key_ : new_cells).at(judged.key));
      }
    }
    json point = {{"values", values}};
    if (!s.note().empty()) point["note"] = s.note();
    if (judged.refused.empty()) {
      new_cells[judged.key] = judged.cell.name;
      out.trials += std::ssize(judged.trials);
    } else {
      point["refused"] = judged.refused;
    }
    out.refused.push_back(judged.refused);
    points.push_back(std::move(point));
  }
  out.payload_json = json({{"kind", kSuggest}, {"first", first}, {"points", points}})
                         .dump(-1, ' ', false, json::error_handler_t::replace);
  return out;
}

SearchLog::Answer SearchLog::End(const std::string& why) {
  return {.name = "end of the search", .payload_json = json({{"kind", kEnd}, {"why", why}}).dump()};
}

absl::Status SearchLog::Look(SweepId sweep, store::Reader& reader) {
  if (!priors_read_) RETURN_IF_ERROR(ReadPriors(sweep, reader));
  ASSIGN_OR_RETURN(const std::vector<store::TrialProgress> progress, reader.Progress(sweep));
  Later later;
  for (const auto& [name, way] : ways_) {
    ASSIGN_OR_RETURN(later[name], reader.Stages(sweep, name));
  }
  for (Point& point : points_) {
    if (point.state == v1::POINT_STATE_REFUSED || point.state == v1::POINT_STATE_FINISHED) continue;
    std::vector<TrialId> trials;
    std::vector<StageState> roots;
    for (int64_t i = point.first_trial; i < point.first_trial + point.trials; ++i) {
      if (i >= std::ssize(progress)) break;  // not made yet
      trials.push_back(progress[static_cast<size_t>(i)].trial);
      roots.push_back(progress[static_cast<size_t>(i)].state);
    }
    point.state = v1::POINT_STATE_RUNNING;
    if (std::ssize(trials) == point.trials)
      RETURN_IF_ERROR(Observe(trials, roots, later, reader, &point));
  }
  return absl::OkStatus();
}

// The point's state, from the states of its trials' first stages and what they measured.
absl::Status SearchLog::Observe(const std::vector<TrialId>& trials,
                                const std::vector<StageState>& roots, const Later& later,
                                store::Reader& reader, Point* point) const {
  bool cancelled = false, failed = false;
  for (const StageState s : roots) {
    if (!IsTerminal(s)) return absl::OkStatus();
    cancelled |= s == StageState::kCancelled;
    failed |= s != StageState::kSucceeded && s != StageState::kCancelled;
  }
  for (const sweeps::PlannedObjective& o : objectives_) {
    if (o.stage.empty() || cancelled || failed) continue;
    for (const TrialId trial : trials) {
      const auto it = later.at(o.stage).find(trial);
      // An earlier sweep's trial may lack it; then nothing is known.
      if (it == later.at(o.stage).end() || !IsTerminal(it->second.state)) return absl::OkStatus();
      const StageState s = it->second.state;
      cancelled |= s == StageState::kCancelled;
      failed |= s != StageState::kSucceeded && s != StageState::kCancelled;
    }
  }
  std::vector<double> sums = point->known;
  for (size_t i = 0; i < objectives_.size() && !cancelled && !failed; ++i) {
    if (!sweeps::CostMeasure(objectives_[i].metric).empty()) continue;
    for (const TrialId trial : trials) {
      store::TrialSeries series;
      if (objectives_[i].stage.empty()) {
        ASSIGN_OR_RETURN(series, reader.Series(trial, objectives_[i].metric));
      } else {
        series.found = true, series.state = StageState::kSucceeded;
        ASSIGN_OR_RETURN(
            series.points,
            reader.Points(later.at(objectives_[i].stage).at(trial).stage, objectives_[i].metric));
      }
      // A later stage may have it still to say.
      if (!series.found || !IsTerminal(series.state)) {
        ASSIGN_OR_RETURN(const bool live, reader.HasLiveStage(trial));
        if (live) return absl::OkStatus();
      }
      const std::optional<double> value = ValueOf(objectives_[i], series.points);
      if (!value) {
        failed = true;
        break;
      }
      sums[i] += *value / static_cast<double>(trials.size());
    }
  }
  point->state = cancelled ? v1::POINT_STATE_CANCELLED
                 : failed  ? v1::POINT_STATE_FAILED
                           : v1::POINT_STATE_FINISHED;
  point->objectives.clear();
  if (point->state != v1::POINT_STATE_FINISHED) return absl::OkStatus();
  point->objectives = std::move(sums);
  point->objectives[0] += objectives_[0].maximize ? -point->penalty : point->penalty;
  return absl::OkStatus();
}

absl::StatusOr<SearchLog::Later> SearchLog::LikeOurs(const std::vector<TrialId>& trials,
                                                     store::Reader& reader) const {
  Later out;
  for (const auto& [name, way] : ways_) {
    auto& of = out[name];
    for (const TrialId trial : trials) {
      ASSIGN_OR_RETURN(const store::TrialView view, reader.Trial(trial));
      const StageRow* at = nullptr;
      for (const sweeps::PlannedStage& wanted : way) {
        const StageId parent = at == nullptr ? StageId{} : at->id;
        const auto next =
            std::find_if(view.stages.begin(), view.stages.end(), [&](const store::StageView& s) {
              return s.row.kind == wanted.kind && s.row.parent == parent &&
                     s.row.settings_json == wanted.settings_json;
            });
        at = next == view.stages.end() ? nullptr : &next->row;
        if (at == nullptr) break;
      }
      if (at != nullptr) of[trial] = {at->id, at->state};
    }
  }
  return out;
}

absl::Status SearchLog::ReadPriors(SweepId sweep, store::Reader& reader) {
  priors_.clear();
  for (const sweeps::SearchPrior& prior : spec().prior) {
    SweepId id{prior.id};
    if (!prior.name.empty()) {
      ASSIGN_OR_RETURN(id, reader.SweepByName(prior.name, sweep));
    }
    if (!id) continue;  // Submit has refused it; it may have been removed since
    ASSIGN_OR_RETURN(const std::vector<store::CellTrial> trials, reader.CellTrials(id));
    ASSIGN_OR_RETURN(const std::vector<store::TrialProgress> progress, reader.Progress(id));
    std::map<TrialId, StageState> roots;
    for (const store::TrialProgress& p : progress) roots[p.trial] = p.state;
    for (size_t begin = 0, end = 0; begin < trials.size(); begin = end) {
      std::vector<TrialId> of_cell;
      std::vector<StageState> states;
      for (; end < trials.size() && trials[end].cell_idx == trials[begin].cell_idx; ++end) {
        of_cell.push_back(trials[end].trial);
        states.push_back(roots[trials[end].trial]);
      }
      const auto place = search_->Place(trials[begin].config_json, trials[begin].axes_json);
      sweeps::PlannedTrial planned;
      if (!place || !spec::ParseResolved(trials[begin].config_json, &planned.config).empty())
        continue;
      Point point{.values = *place};
      Price(planned, &point);
      ASSIGN_OR_RETURN(const Later later, LikeOurs(of_cell, reader));
      RETURN_IF_ERROR(Observe(of_cell, states, later, reader, &point));
      if (point.state == v1::POINT_STATE_FINISHED || point.state == v1::POINT_STATE_FAILED)
        priors_.push_back(std::move(point));
    }
  }
  priors_read_ = true;
  return absl::OkStatus();
}

int64_t SearchLog::Wanted() const {
  if (!IsOpen()) return 0;
  const int64_t unfinished = std::count_if(points_.begin(), points_.end(), [](const Point& p) {
    return p.state == v1::POINT_STATE_RUNNING;
  });
  return std::max<int64_t>(0, std::min(spec().parallel - unfinished, spec().trials - taken_));
}

bool SearchLog::Hopeless() const {
  int64_t refused = 0;
  while (refused < std::ssize(points_) &&
         points_[points_.size() - 1 - static_cast<size_t>(refused)].state ==
             v1::POINT_STATE_REFUSED)
    ++refused;
  return refused >= kHopeless;
}

v1::Observation SearchLog::ToProto(const Point& point, int64_t number) const {
  v1::Observation out;
  out.set_number(number);
  for (const std::optional<double>& value : point.values) {
    v1::SearchValue* v = out.add_values();
    if (value) v->set_value(*value);
  }
  out.set_state(point.state);
  for (double value : point.objectives) out.add_objectives(value);
  out.set_reason(point.refused);
  out.set_note(point.note);
  return out;
}

v1::SuggestionRequest SearchLog::Request(SweepId sweep, int64_t count) const {
  v1::SuggestionRequest out;
  out.set_sweep_id(sweep.value);
  out.set_sweep(name_);
  out.set_sampler(spec().sampler);
  out.set_seed(static_cast<int64_t>(spec().seed));
  out.set_first(next());
  out.set_count(static_cast<int32_t>(count));
  out.set_points(spec().trials);
  out.set_population(spec().population);
  for (const sweeps::SearchAxis& axis : search_->axes()) {
    v1::SearchAxis* a = out.add_axes();
    a->set_name(axis.name);
    a->set_conditional(axis.conditional);
    switch (axis.kind) {
      case sweeps::SearchAxis::Kind::kReal:
        a->mutable_real()->set_low(axis.low);
        a->mutable_real()->set_high(axis.high);
        a->mutable_real()->set_logarithmic(axis.logarithmic);
        break;
      case sweeps::SearchAxis::Kind::kWhole:
        a->mutable_whole()->set_low(static_cast<int64_t>(axis.low));
        a->mutable_whole()->set_high(static_cast<int64_t>(axis.high));
        a->mutable_whole()->set_logarithmic(axis.logarithmic);
        break;
      case sweeps::SearchAxis::Kind::kChoice:
        for (const std::string& c : axis.choices) a->mutable_choice()->add_names(c);
        for (double n : axis.numbers) a->mutable_choice()->add_numbers(n);
        break;
    }
  }
  for (size_t i = 0; i < objectives_.size(); ++i) {
    std::string name = objectives_[i].metric;
    if (!objectives_[i].stage.empty()) name = absl::StrCat(objectives_[i].stage, ": ", name);
    for (const sweeps::SearchCost& c : spec().cost)
      absl::StrAppend(&name, objectives_[i].maximize ? " - " : " + ",
                      sweeps::FormatNumber(c.weight), " * log10(", c.measure, ")");
    out.add_objectives()->set_name(name);
    out.mutable_objectives(static_cast<int>(i))->set_maximize(objectives_[i].maximize);
  }
  std::string said;
  for (size_t i = priors_.size(); i-- > 0;)
    *out.add_history() = ToProto(priors_[i], -1 - static_cast<int64_t>(i));
  for (size_t i = 0; i < points_.size(); ++i)
    *out.add_history() = ToProto(points_[i], static_cast<int64_t>(i));
  for (const v1::Observation& o : out.history())
    absl::StrAppend(&said, o.SerializeAsString(), "\n");
  out.set_history_hash(spec::Sha256Hex(said));
  out.set_request_id(spec::Sha256Hex(out.SerializeAsString()).substr(0, 32));
  return out;
}

}  // namespace plumb::coordinator
