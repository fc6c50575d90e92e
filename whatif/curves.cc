#include "whatif/curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/random.h"
#include "sweeps/tuning.h"

namespace plumb::whatif {
namespace {

using sweeps::PlannedTrial;
using sweeps::SweepPlan;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The same name and seed give the same draw, on every platform.
double Normal(uint64_t seed, const std::string& name, uint64_t more = 0) {
  const auto unit = [&](const char* which) {
    return static_cast<double>(sim::HashOf(absl::StrCat(which, seed, "/", name), more) >> 11) *
           0x1p-53;
  };
  return std::sqrt(-2 * std::log1p(-unit("a"))) * std::cos(2 * std::numbers::pi * unit("b"));
}

// A run to a rung is a part of the same run.
const std::string& RunOf(const PlannedTrial& t) { return t.rung() ? t.whole_key : t.key; }

class InventedCurves : public Curves {
 public:
  InventedCurves(const SweepPlan& plan, const Family& family) : family_(family) {
    for (const sweeps::PlannedCell& c : plan.cells) {
      cells_.push_back({.offset = family.spread * Normal(family.seed, "cell " + c.axes_json),
                        .early = 0.2 * Normal(family.seed, "early " + c.axes_json),
                        .shift = 0.15 * Normal(family.seed, "rate " + c.axes_json)});
    }
    if (plan.tune == nullptr) return;
    for (size_t a = 0; a < plan.tune->axes.size(); ++a)
      other_.push_back(plan.tune->axes[a].field != "train.lr");
  }

  double At(const PlannedTrial& t, int64_t step) const override {
    const int64_t end = t.stages.front().target_step;
    const double clean = Clean(t, static_cast<double>(step) / static_cast<double>(end));
    if (!std::isfinite(clean)) return clean;
    // Replicates of one number see the same data.
    const double shared = Normal(family_.seed, "replicate", static_cast<uint64_t>(t.replicate));
    const double half = family_.seed_sd * std::sqrt(0.5);
    return clean + half * (shared + Normal(family_.seed, "run " + RunOf(t))) +
           family_.noise * Normal(family_.seed, "look " + t.key, static_cast<uint64_t>(step) + 1);
  }

  double Truth(const PlannedTrial& t) const override { return Clean(t, 1); }

 private:
  struct Cell {
    double offset = 0, early = 0, shift = 0;
  };

  // Without noise.
  double Clean(const PlannedTrial& t, double u) const {
    const Cell& cell = cells_[t.cell];
    const double millions = std::max(1e-3, static_cast<double>(t.params.non_embedding) * 1e-6);
    const double tokens = u * 1e-6 * static_cast<double>(t.stages.front().target_step) *
                          static_cast<double>(t.config.train.batch_tokens);
    const auto q = [&](double at) {
      return std::log10(std::max(1e-12, t.config.train.lr) / 3e-3) + 0.25 * std::log10(millions) -
             family_.crossing * (1 - at) - cell.shift;
    };
    if (q(1) > 1.2) {
      const double where =
          0.02 + 0.18 * std::exp(-4 * (q(1) - 1.2));  // the higher the rate, the sooner
      if (u >= where) return kInfinity;
    }
    double point = 0;
    for (size_t a = 0; a < other_.size() && a < t.tune_values.size(); ++a) {
      if (other_[a])
        point += family_.spread * Normal(family_.seed, absl::StrCat("point ", t.cell, " ", a, " ",
                                                                    t.tune_values[a]));
    }
    return 0.8 + 0.5 * std::pow(millions, -0.2) + 1.2 * std::pow(tokens + 0.01, -0.25) +
           0.3 * q(u) * q(u) + cell.offset + point + cell.early * family_.crossing * (1 - u);
  }

  const Family family_;
  std::vector<Cell> cells_;
  std::vector<bool> other_;  // by tuned field: not the rate
};

}  // namespace

std::unique_ptr<Curves> Invented(const SweepPlan& plan, const Family& family) {
  return std::make_unique<InventedCurves>(plan, family);
}

std::string PointOf(const PlannedTrial& trial) { return absl::StrJoin(trial.tune_values, ","); }

Recorded::Recorded(const SweepPlan& plan, std::map<std::string, Recording> by_key)
    : plan_(plan), by_key_(std::move(by_key)) {
  for (auto it = by_key_.begin(); it != by_key_.end();) {
    Recording& r = it->second;
    std::erase_if(r.points, [](const auto& p) { return !std::isfinite(p.second); });
    it = !r.whole || (r.points.empty() && !r.diverged) ? by_key_.erase(it) : std::next(it);
  }
  for (const auto& [key, r] : by_key_) by_point_[{r.cell, r.values}].push_back(&r);
}

const Recording* Recorded::Of(const PlannedTrial& t) const {
  if (const auto it = by_key_.find(RunOf(t)); it != by_key_.end()) return &it->second;
  const auto it = by_point_.find({plan_.cells[t.cell].name, PointOf(t)});
  if (it == by_point_.end()) return nullptr;
  return it->second[static_cast<size_t>(t.replicate) % it->second.size()];
}

double Recorded::At(const PlannedTrial& t, int64_t step) const {
  const Recording* r = Of(t);
  if (r == nullptr) return kInfinity;
  const auto next =
      std::lower_bound(r->points.begin(), r->points.end(), std::pair(step, -kInfinity));
  if (next == r->points.end())
    return r->diverged || r->points.empty() ? kInfinity : r->points.back().second;
  if (next->first == step || next == r->points.begin()) return next->second;
  const auto& [s0, v0] = *std::prev(next);
  const auto& [s1, v1] = *next;
  return v0 + (v1 - v0) * static_cast<double>(step - s0) / static_cast<double>(s1 - s0);
}

double Recorded::Truth(const PlannedTrial& t) const {
  const auto it = by_point_.find({plan_.cells[t.cell].name, PointOf(t)});
  if (it == by_point_.end()) return kInfinity;
  double sum = 0;
  for (const Recording* r : it->second) {
    if (r->diverged) return kInfinity;
    sum += r->points.back().second;
  }
  return sum / static_cast<double>(it->second.size());
}

}  // namespace plumb::whatif
