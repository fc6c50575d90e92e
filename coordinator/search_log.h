// The points of a sweep's search, in the order in which they were made, and what came of them: what
// a suggester is told. A function of the plan, of the sweep's additions and of the database, so
// that it comes out the same after a restart.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "domain/rows.h"
#include "plumb/v1/suggest_service.pb.h"
#include "store/read.h"
#include "sweeps/plan.h"
#include "sweeps/search.h"

namespace plumb::coordinator {

class SearchLog {
 public:
  // `plan` has a search; its points drawn at random come first.
  explicit SearchLog(const sweeps::SweepPlan& plan);

  // Whether the addition is of suggestions, or of a search's end.
  static bool Owns(const AdditionRow& addition);
  // Takes an addition of the sweep, whose first trial is number `first_trial` of the sweep. The
  // cells that it brings are added to `cells`; returns its trials. DataLoss for one never made.
  absl::StatusOr<std::vector<sweeps::PlannedTrial>> Take(const AdditionRow& addition,
                                                         int64_t first_trial,
                                                         std::vector<sweeps::PlannedCell>* cells);

  // An answer to a request whose first point was number `first`: the addition that holds it, and
  // what its suggestions came to.
  struct Answer {
    std::string name, payload_json;
    int64_t trials = 0;
    std::vector<std::string> refused;  // by suggestion; "" where it was taken
  };
  Answer Judge(const std::vector<v1::Suggestion>& suggestions, int64_t first) const;
  static Answer End(const std::string& why);

  // Brings the points' states up to date, and the observations of earlier sweeps.
  absl::Status Look(SweepId sweep, store::Reader& reader);
  // How many points to ask for; 0: none.
  int64_t Wanted() const;
  // So many points in a row were refused that asking on is pointless.
  bool Hopeless() const;
  bool Ended() const { return ended_; }
  // More points may come.
  bool IsOpen() const { return !ended_ && taken_ < spec().trials; }
  int64_t taken() const { return taken_; }
  int64_t points() const { return spec().trials; }
  // An edit has given it another number of points; the space is the same.
  void Follow(std::shared_ptr<sweeps::Search> search) { search_ = std::move(search); }
  int64_t next() const { return static_cast<int64_t>(points_.size()); }
  // The request for so many points, with the whole history; its id follows from the rest.
  v1::SuggestionRequest Request(SweepId sweep, int64_t count) const;

 private:
  struct Point {
    sweeps::SearchPoint values;
    std::string refused, note;
    int64_t first_trial = 0, trials = 0;  // places in the sweep
    std::vector<double> known;            // by objective: its value where it is a cost by plan
    double penalty = 0;                   // added to the first
    v1::PointState state = v1::POINT_STATE_RUNNING;
    std::vector<double> objectives;
  };
  const sweeps::SearchSpec& spec() const { return search_->spec(); }
  void Price(const sweeps::PlannedTrial& trial, Point* point) const;
  // Of the later stages that objectives name, by those names: whose they are.
  using Later = std::map<std::string, std::map<TrialId, store::NamedStage>>;
  absl::Status Observe(const std::vector<TrialId>& trials, const std::vector<StageState>& roots,
                       const Later& later, store::Reader& reader, Point* point) const;
  // Stages of an earlier sweep's trials that do what those of this sweep do, whatever their names.
  absl::StatusOr<Later> LikeOurs(const std::vector<TrialId>& trials, store::Reader& reader) const;
  absl::Status ReadPriors(SweepId sweep, store::Reader& reader);
  v1::Observation ToProto(const Point& point, int64_t number) const;

  std::shared_ptr<sweeps::Search> search_;
  std::string name_;
  std::vector<sweeps::PlannedObjective> objectives_;
  std::map<std::string, std::vector<sweeps::PlannedStage>> ways_;  // to the stages they name
  std::vector<Point> points_;
  std::vector<Point> priors_;
  bool priors_read_ = false;
  std::map<std::string, std::string> cell_of_key_;  // names
  int64_t taken_ = 0;
  bool ended_ = false;
};

}  // namespace plumb::coordinator
