#include "analysis/plot_scale.h"

#include <algorithm>
#include <cmath>

namespace plumb::analysis {

void PlotScale::Hold(double x, double y) {
  if (!std::isfinite(x) || !std::isfinite(y)) return;
  if ((log_x_ && x <= 0) || (log_y_ && y <= 0)) return;
  x_low_ = std::min(x_low_, x), x_high_ = std::max(x_high_, x);
  y_low_ = std::min(y_low_, y), y_high_ = std::max(y_high_, y);
}

// One value alone gets a frame around it.
double PlotScale::y_low() const { return y_low_ == y_high_ ? y_low_ - 0.5 : y_low_; }
double PlotScale::y_high() const { return y_low_ == y_high_ ? y_high_ + 0.5 : y_high_; }
double PlotScale::Y(double y) const { return Place(y, y_low(), y_high(), log_y_); }

double PlotScale::Place(double v, double low, double high, bool log) {
  if (high <= low) return 0.5;
  return log ? std::log(v / low) / std::log(high / low) : (v - low) / (high - low);
}

std::vector<double> Ticks(double low, double high, bool log) {
  std::vector<double> out;
  if (!(high > low)) return {low};
  if (log) {
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10) {
      for (double m : {1.0, 2.0, 5.0}) {
        if (decade * m >= low * (1 - 1e-9) && decade * m <= high * (1 + 1e-9))
          out.push_back(decade * m);
      }
    }
    return out;
  }
  const double raw = (high - low) / 5, magnitude = std::pow(10, std::floor(std::log10(raw)));
  const double step = magnitude * (raw / magnitude < 1.5   ? 1
                                   : raw / magnitude < 3.5 ? 2
                                   : raw / magnitude < 7.5 ? 5
                                                           : 10);
  for (double v = std::ceil(low / step) * step; v <= high + step * 1e-9; v += step)
    out.push_back(v);
  return out;
}

}  // namespace plumb::analysis
