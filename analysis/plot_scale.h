// Where data lie in a plot's frame, and its round numbers.
#pragma once

#include <limits>
#include <vector>

namespace plumb::analysis {

// Maps data to [0, 1] on both axes, logarithmic where asked for.
class PlotScale {
 public:
  PlotScale(bool log_x, bool log_y) : log_x_(log_x), log_y_(log_y) {}

  // Widens the frame to hold a point; one that is not finite, or not positive on a logarithmic
  // axis, cannot be drawn and is left out.
  void Hold(double x, double y);
  bool empty() const { return !(x_low_ <= x_high_); }
  double X(double x) const { return Place(x, x_low_, x_high_, log_x_); }
  double Y(double y) const;
  double x_low() const { return x_low_; }
  double x_high() const { return x_high_; }
  double y_low() const;
  double y_high() const;

 private:
  static double Place(double v, double low, double high, bool log);
  bool log_x_, log_y_;
  double x_low_ = std::numeric_limits<double>::infinity(), x_high_ = -x_low_, y_low_ = x_low_,
         y_high_ = -x_low_;
};

// Round numbers between low and high: 1, 2 and 5 in each decade of a logarithmic axis, else about
// five.
std::vector<double> Ticks(double low, double high, bool log);

}  // namespace plumb::analysis
