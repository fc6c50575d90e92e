#include "sweeps/calibration.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "sweeps/nonnegative.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

constexpr size_t kFewestShapes = 3;
constexpr int64_t kParts = 12;       // in which shapes are left out
constexpr double kLeastBand = 0.05;  // nobody knows better than that how busy a machine will be

Prices FitOnce(const std::vector<Measured>& runs, const std::map<std::string, double>& kinds) {
  std::vector<std::vector<double>> rows;
  std::vector<double> ones;
  for (const Measured& r : runs) {
    const auto kind = kinds.find(r.kind);
    const double seconds = r.seconds / (kind == kinds.end() ? 1 : kind->second);
    const double weight = std::sqrt(r.weight);
    std::vector<double> row(r.work.begin(), r.work.end());
    for (double& x : row) x *= weight / seconds;
    rows.push_back(std::move(row));
    ones.push_back(weight);
  }
  const std::vector<double> x = NonNegativeLeastSquares(rows, ones);
  Prices out;
  std::copy(x.begin(), x.end(), out.seconds.begin());
  return out;
}

// Of a kind: the mean of log(measured / predicted), as a factor.
std::map<std::string, double> KindFactors(const std::vector<Measured>& runs, const Prices& fit) {
  std::map<std::string, std::pair<double, double>> sums;
  double all = 0, weight = 0;
  for (const Measured& r : runs) {
    const double predicted = Seconds(fit, r.work);
    if (!(predicted > 0)) continue;
    const double log = std::log(r.seconds / predicted);
    sums[r.kind].first += r.weight * log, sums[r.kind].second += r.weight;
    all += r.weight * log, weight += r.weight;
  }
  std::map<std::string, double> out;
  for (const auto& [kind, sum] : sums)
    out[kind] = sums.size() < 2 ? 1 : std::exp(sum.first / sum.second - all / weight);
  return out;
}

Prices Fit(const std::vector<Measured>& runs) {
  std::map<std::string, double> kinds;
  Prices out = FitOnce(runs, kinds);
  std::set<std::string> names;
  for (const Measured& r : runs) names.insert(r.kind);
  for (int round = 0; round < 4 && names.size() > 1; ++round) {
    kinds = KindFactors(runs, out);
    out = FitOnce(runs, kinds);
  }
  if (names.size() > 1) out.kinds = kinds;
  return out;
}

// Of nine of ten runs that the fit has not seen.
double Band(const std::vector<Measured>& runs, const std::vector<std::string>& shapes) {
  const auto parts = std::min<int64_t>(kParts, std::ssize(shapes));
  std::vector<double> errors;
  for (int64_t part = 0; part < parts; ++part) {
    const auto held = [&](const Measured& r) {
      const auto at = std::lower_bound(shapes.begin(), shapes.end(), r.shape) - shapes.begin();
      return at % parts == part;
    };
    std::vector<Measured> seen;
    for (const Measured& r : runs) {
      if (!held(r)) seen.push_back(r);
    }
    const Prices fit = Fit(seen);
    for (const Measured& r : runs) {
      if (held(r))
        errors.push_back(std::abs(Seconds(fit, r.work) * KindFactor(fit, r.kind) / r.seconds - 1));
    }
  }
  std::sort(errors.begin(), errors.end());
  const double ninth = errors[std::min(errors.size() - 1, errors.size() * 9 / 10)];
  return std::max(kLeastBand, std::round(ninth * 1000) / 1000);
}

}  // namespace

std::string KindOf(const spec::TrialSpec& s) {
  // Fields of sizes, and those that change no work.
  static const std::set<std::string> kSizes = {
      "n_layers",       "d_model",   "n_heads",    "n_kv_heads",        "head_dim",
      "d_ff",           "preset",    "vocab_size", "max_positions",     "init_std",
      "score_bias_max", "rope_base", "norm_eps",   "score_bias_hidden", "base_d_model",
      "base_n_layers"};
  json kind = json::object();
  const json all = spec::Canonical(s, spec::With::kResultOnly).flatten();  // "/model/n_layers": 4
  for (const auto& [path, value] : all.items()) {
    const bool size = kSizes.count(path.substr(path.rfind('/') + 1)) > 0;
    const bool of_model = path.rfind("/model/", 0) == 0 || path.rfind("/router/", 0) == 0;
    if ((of_model && !size) || path.rfind("/numerics/", 0) == 0 || path == "/train/optimizer" ||
        path == "/train/objective") {
      kind[path] = value;
    }
  }
  return spec::Sha256Hex(kind.dump()).substr(0, 12);
}

absl::StatusOr<Prices> FitPrices(const std::string& device, int64_t threads,
                                 const std::vector<Measured>& runs) {
  std::set<std::string> names;
  for (const Measured& r : runs) names.insert(r.shape);
  const std::vector<std::string> shapes(names.begin(), names.end());
  if (shapes.size() < kFewestShapes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "only ", shapes.size(), shapes.size() == 1 ? " shape was" : " shapes were", " measured on ",
        device, "; at least ", kFewestShapes, " say something about others"));
  }
  Prices out = Fit(runs);
  out.device = device, out.threads = threads, out.shapes = std::ssize(shapes);
  out.band = Band(runs, shapes);
  return out;
}

json ToJson(const Prices& p) {
  json seconds = json::object(), kinds = json::object();
  for (size_t i = 0; i < kUnits; ++i) seconds[Name(static_cast<Unit>(i))] = p.seconds[i];
  for (const auto& [kind, factor] : p.kinds) kinds[kind] = factor;
  json out = {{"device", p.device},
              {"threads", p.threads},
              {"band", p.band},
              {"shapes", p.shapes},
              {"seconds", seconds}};
  if (!p.kinds.empty()) out["kinds"] = kinds;
  return out;
}

}  // namespace plumb::sweeps
