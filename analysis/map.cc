#include "analysis/map.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace plumb::analysis {
namespace {

std::vector<double> Values(const std::map<int64_t, double>& m) {
  std::vector<double> out;
  for (const auto& [replicate, value] : m) out.push_back(value);
  return out;
}

std::optional<Noise> NoiseOf(const std::vector<CellResult>& cells, std::optional<double> seed_sd) {
  Noise noise;
  double per_run = 0;
  for (const CellResult& c : cells) {
    if (c.values.empty() || c.aa_values.empty() || c.diverged > 0) continue;
    const double difference = std::abs(MeanInterval(Values(c.values), 0.9).mean -
                                       MeanInterval(Values(c.aa_values), 0.9).mean);
    ++noise.cells;
    noise.mean_absolute_difference += difference;
    noise.largest_difference = std::max(noise.largest_difference, difference);
    per_run +=
        1.0 / static_cast<double>(c.values.size()) + 1.0 / static_cast<double>(c.aa_values.size());
  }
  if (noise.cells == 0) return std::nullopt;
  noise.mean_absolute_difference /= static_cast<double>(noise.cells);
  noise.difference_sd =
      seed_sd ? *seed_sd * std::sqrt(per_run / static_cast<double>(noise.cells)) : 0;
  return noise;
}

// The paired interval, widened where few replicates happen to agree: its standard error is never
// below what the pooled spread over seeds gives two independent means, and its degrees of freedom
// are then the pool's.
Interval AgainstBest(const CellResult& cell, const CellResult& best, std::optional<double> seed_sd,
                     int64_t pool_freedom, double level) {
  Interval d = PairedDifference(cell.values, best.values, level);
  if (d.n == 0) d = WelchDifference(Values(cell.values), Values(best.values), level);
  if (!seed_sd) return d;
  const double floor = *seed_sd * std::sqrt(1.0 / static_cast<double>(cell.values.size()) +
                                            1.0 / static_cast<double>(best.values.size()));
  const double half = StudentQuantile(level, std::max<int64_t>(1, pool_freedom)) * floor;
  if (d.n < 2 || d.sd / std::sqrt(static_cast<double>(d.n)) < floor) {
    // Whichever is wider: few paired differences have heavy tails of their own.
    d.low = std::min(d.n < 2 ? d.mean - half : d.low, d.mean - half);
    d.high = std::max(d.n < 2 ? d.mean + half : d.high, d.mean + half);
  }
  return d;
}

std::string Sentence(const std::vector<CellResult>& cells, const MapReading& r,
                     const std::string& metric, const std::string& noun) {
  if (!r.best) {
    return absl::StrCat("No ", noun,
                        " has all its replicates finished without divergence: nothing to compare "
                        "yet.");
  }
  const CellResult& best = cells[*r.best];
  std::vector<std::string> ties;
  int64_t compared = 0, n = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (!cells[i].Comparable()) continue;
    ++compared;
    n = std::max<int64_t>(n, static_cast<int64_t>(cells[i].values.size()));
    if (r.cells[i].with_best && !r.cells[i].best) ties.push_back(cells[i].name);
  }
  std::string out =
      absl::StrFormat("%s %s: %s at %.4f (n = %d)", r.maximize ? "Highest" : "Lowest", metric,
                      best.name, r.cells[*r.best].value.mean, static_cast<int>(best.values.size()));
  if (compared == 1) return absl::StrCat(out, "; it is the only comparable ", noun, ".");
  if (n < 2 && !r.seed_sd)
    return absl::StrCat(out, "; with one replicate a ", noun,
                        " there is no spread, so no ranking.");
  if (ties.empty()) {
    absl::StrAppendFormat(
        &out, "; the other %d %ss are worse, each with a %.0f %% interval of the difference %s 0.",
        static_cast<int>(compared - 1), noun, 100 * r.level, r.maximize ? "below" : "above");
  } else if (static_cast<int64_t>(ties.size()) + 1 == compared) {
    absl::StrAppendFormat(&out,
                          "; none of the other %d %ss can be told from it (%.0f %% intervals).",
                          static_cast<int>(ties.size()), noun, 100 * r.level);
  } else {
    absl::StrAppendFormat(
        &out, "; not to be told from it: %s; the other %d are worse (%.0f %% intervals).",
        absl::StrJoin(ties, ", "),
        static_cast<int>(compared - 1 - static_cast<int64_t>(ties.size())), 100 * r.level);
  }
  return out;
}

}  // namespace

MapReading ReadMap(const std::vector<CellResult>& cells, const std::string& metric, double level,
                   bool maximize, const std::string& noun) {
  MapReading r;
  r.level = level, r.maximize = maximize;
  const auto better = [&](double a, double b) { return maximize ? a > b : a < b; };
  std::vector<std::vector<double>> groups;
  int64_t freedom = 0;
  for (const CellResult& c : cells) {
    if (c.diverged > 0) continue;
    for (const auto* m : {&c.values, &c.aa_values}) {
      groups.push_back(Values(*m));
      freedom += std::max<int64_t>(0, static_cast<int64_t>(m->size()) - 1);
    }
  }
  r.seed_sd = PooledDeviation(groups);
  for (size_t i = 0; i < cells.size(); ++i) {
    r.cells.push_back({.value = MeanInterval(Values(cells[i].values), level)});
    if (!cells[i].Comparable()) continue;
    if (!r.best || better(r.cells[i].value.mean, r.cells[*r.best].value.mean))
      r.best = static_cast<int64_t>(i);
  }
  if (r.best) {
    for (size_t i = 0; i < cells.size(); ++i) {
      CellReading& c = r.cells[i];
      if (static_cast<int64_t>(i) == *r.best) {
        c.best = c.with_best = true;
      } else if (cells[i].Comparable()) {
        c.minus_best = AgainstBest(cells[i], cells[*r.best], r.seed_sd, freedom, level);
        c.with_best = maximize ? c.minus_best->high >= 0 : c.minus_best->low <= 0;
      }
    }
  }
  r.noise = NoiseOf(cells, r.seed_sd);
  r.sentence = Sentence(cells, r, metric, noun);
  return r;
}

}  // namespace plumb::analysis
