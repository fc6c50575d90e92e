// The space of a search whose points a suggester chooses, and what becomes of a choice.
//
// A suggester sees one number for each axis: the value itself where the axis is a range, the place
// of a choice where it is a list. With variants the last axis is `variant`. Judge makes a cell of
// such a point, or says why it is none; the same file, corpora and point give the same cell.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/complete.h"
#include "sweeps/plan.h"
#include "sweeps/search_spec.h"
#include "sweeps/sweep_file.h"

namespace plumb::sweeps {

struct SearchAxis {
  enum class Kind { kReal, kWhole, kChoice };
  std::string name;  // "train.lr"; of fields that move together "[model.n_layers, model.d_model]"
  Kind kind = Kind::kChoice;
  double low = 0, high = 0;  // of numbers, both included
  bool logarithmic = false;
  std::vector<std::string> choices;  // as cells show them
  std::vector<double> numbers;       // of choices that are all numbers and rise; else empty
  bool conditional = false;          // it does not exist at every point
};

// By axis; none where the axis does not exist.
using SearchPoint = std::vector<std::optional<double>>;

class Search {
 public:
  // `corpora` must stay callable for its life. `initial`: the points drawn at random, by cell.
  // `repeats_allowed`: a point may read its corpus more than once (SweepPlan).
  Search(const SweepFile& file, const CorpusLookup& corpora, std::vector<SearchPoint> initial,
         bool repeats_allowed);
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  const SearchSpec& spec() const { return *file_.search; }
  const std::vector<SearchAxis>& axes() const { return axes_; }
  const std::vector<SearchPoint>& initial() const { return initial_; }
  int64_t replicates() const { return file_.replicates; }

  struct Judged {
    std::string refused;  // why it is no cell; "" where it is one
    SearchPoint point;    // as it is kept: rounded, without axes that do not exist there
    PlannedCell cell;
    std::vector<PlannedTrial> trials;  // its replicates
    std::string key;                   // equal for cells that are the same trial
  };
  // The point as cell number `cell` of the sweep. Not const: one thread at a time.
  Judged Judge(const std::vector<double>& values, int64_t cell);

  // Where a trial of an earlier sweep lies in this space, by its resolved config (flat JSON by
  // dotted path) and cell; nullopt where one of its values is not on its axis.
  std::optional<SearchPoint> Place(const std::string& config_json,
                                   const std::string& axes_json) const;

 private:
  const SweepFile file_;
  const CorpusLookup corpora_;
  std::vector<Problem> problems_;
  Completer completer_;
  std::vector<SearchAxis> axes_;
  std::vector<SearchPoint> initial_;
  const bool repeats_allowed_;
};

// The axes of a search of this file.
std::vector<SearchAxis> SearchAxes(const SweepFile& file);
// Names of the variants and of their matched arms, as cells have them; empty without variants.
std::vector<std::string> SearchArms(const SweepFile& file);
// The point of a candidate that was completed from `from`.
SearchPoint PointOf(const SweepFile& file, const SpacePoint& from, const Candidate& candidate);

}  // namespace plumb::sweeps
