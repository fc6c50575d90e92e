#include "sweeps/space.h"

#include <algorithm>
#include <cmath>

#include "sweeps/draw.h"
#include "sweeps/number.h"
#include "sweeps/sobol.h"

namespace plumb::sweeps {
namespace {

int64_t SizeOf(const Axis& axis) {
  return static_cast<int64_t>(axis.solved() ? axis.targets.size() : axis.points.size());
}

}  // namespace

double GridSize(const SweepFile& file) {
  double size = 1;
  for (const Axis& a : file.axes) size *= static_cast<double>(SizeOf(a));
  return size;
}

SpacePoint GridPoint(const SweepFile& file, int64_t index) {
  SpacePoint p;
  p.values.resize(file.axes.size());
  p.first.resize(file.axes.size());
  for (size_t a = file.axes.size(); a-- > 0;) {
    const Axis& axis = file.axes[a];
    const int64_t i = index % SizeOf(axis);
    p.first[a] = i == 0;
    index /= SizeOf(axis);
    if (axis.solved()) {
      p.target = axis.targets[i];
    } else {
      p.values[a] = axis.points[i];
    }
  }
  return p;
}

SpacePoint RandomPoint(const SweepFile& file, int64_t index) {
  SpacePoint p;
  p.values.resize(file.axes.size());
  std::vector<double> sobol;
  if (file.sobol && !file.axes.empty())
    sobol = SobolPoint(static_cast<int64_t>(file.axes.size()), index, file.random_seed);
  for (size_t a = 0; a < file.axes.size(); ++a) {
    const Axis& axis = file.axes[a];
    const double u = file.sobol ? sobol[a] : Uniform(file.random_seed, index, a);
    if (axis.solved() || !axis.points.empty()) {
      const auto i = std::min<int64_t>(SizeOf(axis) - 1,
                                       static_cast<int64_t>(u * static_cast<double>(SizeOf(axis))));
      if (axis.solved()) {
        p.target = axis.targets[i];
      } else {
        p.values[a] = axis.points[i];
      }
      continue;
    }
    // A whole number stands for the unit interval above it, so that both bounds are as likely as
    // the rest.
    const double high = axis.integer ? axis.high + 1 : axis.high;
    double v = axis.logarithmic ? axis.low * std::exp(u * std::log(high / axis.low))
                                : axis.low + u * (high - axis.low);
    v = axis.integer ? std::floor(v) : RoundToFourDigits(v);
    p.values[a] = {FormatNumber(std::clamp(v, axis.low, axis.high))};
  }
  return p;
}

}  // namespace plumb::sweeps
