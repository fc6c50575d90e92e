#include "analysis/svg.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace plumb::analysis {

std::string Escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string PaletteColor(int group) {
  static constexpr std::array kColors = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
                                         "#56B4E9", "#000000", "#8C6D31", "#7F7F7F"};
  return kColors[static_cast<size_t>(group) % kColors.size()];
}

std::string RampColor(double t) {
  // From a pale yellow over green to a deep blue.
  static constexpr double kStops[][3] = {{255, 255, 217}, {199, 233, 180}, {127, 205, 187},
                                         {65, 182, 196},  {34, 94, 168},   {8, 29, 88}};
  const double x = std::clamp(t, 0.0, 1.0) * 5;
  const int i = std::min(4, static_cast<int>(x));
  const double f = x - i;
  int c[3];
  for (int j = 0; j < 3; ++j)
    c[j] = static_cast<int>(std::lround(kStops[i][j] * (1 - f) + kStops[i + 1][j] * f));
  return absl::StrFormat("#%02X%02X%02X", c[0], c[1], c[2]);
}
bool RampIsDark(double t) { return t > 0.6; }

SvgPage::SvgPage(double width, double height) {
  absl::StrAppendFormat(&out_,
                        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                        "viewBox=\"0 0 %.0f %.0f\" "
                        "font-family=\"Helvetica, Arial, sans-serif\">\n<rect width=\"100%%\" "
                        "height=\"100%%\" fill=\"white\"/>\n",
                        width, height, width, height);
}

void SvgPage::Text(double x, double y, const std::string& text, const TextStyle& s) {
  absl::StrAppendFormat(
      &out_, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.1f\" text-anchor=\"%s\" fill=\"%s\"%s", x,
      y, s.size, s.anchor, s.fill, s.bold ? " font-weight=\"bold\"" : "");
  if (s.rotate != 0)
    absl::StrAppendFormat(&out_, " transform=\"rotate(%.0f %.1f %.1f)\"", s.rotate, x, y);
  absl::StrAppend(&out_, ">", Escaped(text), "</text>\n");
}
void SvgPage::Rect(double x, double y, double w, double h, const std::string& fill,
                   const std::string& stroke, double stroke_width) {
  absl::StrAppendFormat(&out_,
                        "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" "
                        "stroke=\"%s\" stroke-width=\"%.1f\"/>\n",
                        x, y, w, h, fill, stroke, stroke_width);
}
void SvgPage::Line(double x1, double y1, double x2, double y2, const std::string& stroke,
                   double w) {
  absl::StrAppendFormat(&out_,
                        "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                        "stroke-width=\"%.1f\"/>\n",
                        x1, y1, x2, y2, stroke, w);
}
void SvgPage::Path(const std::vector<std::pair<double, double>>& points, const std::string& stroke,
                   double w) {
  std::string d;
  bool pen_down = false;
  for (const auto& [x, y] : points) {
    if (!std::isfinite(x) || !std::isfinite(y)) {
      pen_down = false;
      continue;
    }
    absl::StrAppendFormat(&d, "%s%.1f %.1f", pen_down ? "L" : "M", x, y);
    pen_down = true;
  }
  absl::StrAppendFormat(&out_,
                        "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\" "
                        "stroke-linejoin=\"round\"/>\n",
                        d, stroke, w);
}
void SvgPage::Polygon(const std::vector<std::pair<double, double>>& points,
                      const std::string& fill) {
  std::string p;
  for (const auto& [x, y] : points)
    absl::StrAppendFormat(&p, "%s%.1f,%.1f", p.empty() ? "" : " ", x, y);
  absl::StrAppendFormat(&out_, "<polygon points=\"%s\" fill=\"%s\"/>\n", p, fill);
}
std::string SvgPage::Finish() { return absl::StrCat(out_, "</svg>\n"); }

}  // namespace plumb::analysis
