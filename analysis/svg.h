// SVG elements as text, escaped. Fonts are named, not outlined; colours come from one palette that
// colour-blind readers can tell apart (Okabe & Ito 2008) and one sequential ramp that is monotone
// in lightness.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace plumb::analysis {

class SvgPage {
 public:
  SvgPage(double width, double height);
  struct TextStyle {
    double size = 12;
    const char* anchor = "start";  // start, middle, end
    const char* fill = "#222222";
    bool bold = false;
    double rotate = 0;  // degrees about (x, y)
  };
  void Text(double x, double y, const std::string& text, const TextStyle& style);
  void Rect(double x, double y, double w, double h, const std::string& fill,
            const std::string& stroke, double stroke_width);
  void Line(double x1, double y1, double x2, double y2, const std::string& stroke,
            double stroke_width);
  void Path(const std::vector<std::pair<double, double>>& points, const std::string& stroke,
            double stroke_width);
  void Polygon(const std::vector<std::pair<double, double>>& points, const std::string& fill);
  std::string Finish();

 private:
  std::string out_;
};

std::string Escaped(const std::string& text);
std::string PaletteColor(int group);
// 0 (light) … 1 (dark); and whether text on it should be white.
std::string RampColor(double t);
bool RampIsDark(double t);

}  // namespace plumb::analysis
