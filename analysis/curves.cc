// A series over steps, tokens or FLOPs.
#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/figure.h"
#include "analysis/paint.h"

namespace plumb::analysis {
namespace {

struct Frame {
  double x0 = std::numeric_limits<double>::infinity(), x1 = -x0, y0 = x0, y1 = -x0;
  Axis axis = Axis::kLinear;
  bool empty() const { return !(x1 >= x0); }
  double X(double x) const {
    const double a = axis == Axis::kLog ? std::log(x0) : x0,
                 b = axis == Axis::kLog ? std::log(x1) : x1;
    return b > a ? ((axis == Axis::kLog ? std::log(x) : x) - a) / (b - a) : 0.5;
  }
  double Y(double y) const { return y1 > y0 ? (y - y0) / (y1 - y0) : 0.5; }
};

Frame FrameOf(const CurveFigure& f) {
  Frame frame{.axis = f.x_axis};
  for (const Curve& c : f.curves) {
    for (const Bucket& b : c.buckets) {
      frame.x0 = std::min(frame.x0, b.x);
      frame.x1 = std::max(frame.x1, b.x);
      frame.y0 = std::min(frame.y0, b.min);
      frame.y1 = std::max(frame.y1, b.max);
    }
  }
  return frame;
}

// U+2800 and eight dots, 2 wide and 4 high.
std::string Braille(int dots) {
  const int p = 0x2800 + dots;
  return {static_cast<char>(0xe0 | p >> 12), static_cast<char>(0x80 | (p >> 6 & 63)),
          static_cast<char>(0x80 | (p & 63))};
}

}  // namespace

std::vector<Bucket> Bucketed(const std::vector<Point>& points, int count, Axis axis) {
  std::vector<Point> kept;
  for (const Point& p : points) {
    if (std::isfinite(p.y) && std::isfinite(p.x) && (axis == Axis::kLinear || p.x > 0))
      kept.push_back(p);
  }
  std::stable_sort(kept.begin(), kept.end(),
                   [](const Point& a, const Point& b) { return a.x < b.x; });
  std::vector<Bucket> out;
  if (kept.empty() || count < 1) return out;
  const auto at = [axis](double x) { return axis == Axis::kLog ? std::log(x) : x; };
  const double low = at(kept.front().x), span = at(kept.back().x) - low;
  int64_t current = -1;
  for (const Point& p : kept) {
    const int64_t i =
        span > 0
            ? std::min<int64_t>(count - 1, static_cast<int64_t>((at(p.x) - low) / span * count))
            : 0;
    if (i != current) {
      out.push_back({.x = p.x, .min = p.y, .max = p.y, .last = p.y});
      current = i;
    }
    Bucket& b = out.back();
    b.x = p.x;
    b.min = std::min(b.min, p.y);
    b.max = std::max(b.max, p.y);
    b.last = p.y;
    ++b.points;
  }
  return out;
}

std::string CurvesText(const CurveFigure& f, Color color, int width, int height) {
  const Frame frame = FrameOf(f);
  std::string out = f.title + "\n";
  if (frame.empty()) return out + "no points yet\n";
  const int left = 9, columns = std::max(10, width - left - 1);
  std::vector<int> dots(columns * height), owner(columns * height, -1);
  const auto dot = [&](int x, int y, int group) {
    static constexpr int kBits[4][2] = {{1, 8}, {2, 16}, {4, 32}, {64, 128}};
    const int at = y / 4 * columns + x / 2;
    dots[at] |= kBits[y % 4][x % 2];
    owner[at] = group;
  };
  const int w = columns * 2 - 1, h = height * 4 - 1;
  for (const Curve& c : f.curves) {
    int px = -1, py = -1;
    for (const Bucket& b : c.buckets) {
      const int x = static_cast<int>(std::lround(frame.X(b.x) * w));
      const int y = h - static_cast<int>(std::lround(frame.Y(b.last) * h));
      const int steps = px < 0 ? 1 : std::max({1, std::abs(x - px), std::abs(y - py)});
      for (int i = px < 0 ? 1 : 0; i <= steps; ++i) {
        dot(px < 0 ? x : px + (x - px) * i / steps, px < 0 ? y : py + (y - py) * i / steps,
            static_cast<int>(c.group));
      }
      px = x;
      py = y;
    }
  }
  out += f.y_label + "\n";
  for (int r = 0; r < height; ++r) {
    std::string label;
    if (r % 5 == 0 || r == height - 1) {
      label = Format("%.4g", frame.y1 - (frame.y1 - frame.y0) * (r * 4 + 1.5) / h);
    }
    out += std::string(std::max<int>(0, left - 2 - static_cast<int>(label.size())), ' ') + label +
           " │";
    std::string line;
    for (int k = 0; k < columns; ++k) {
      const int at = r * columns + k;
      if (!dots[at]) {
        line += ' ';
      } else if (color == Color::kYes) {
        const Rgb p = Hue(owner[at]);
        line += "\x1b[38;2;" + std::to_string(p.r) + ";" + std::to_string(p.g) + ";" +
                std::to_string(p.b) + "m" + Braille(dots[at]) + "\x1b[0m";
      } else {
        line += Braille(dots[at]);
      }
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    out += line + "\n";
  }
  out += std::string(left - 1, ' ') + "└";
  for (int k = 0; k < columns; ++k) out += "─";
  out += "\n";
  const std::string a = Si(frame.x0), b = Si(frame.x1),
                    middle = f.x_label + (f.x_axis == Axis::kLog ? " (log)" : "");
  const int space = columns - static_cast<int>(a.size() + b.size() + middle.size());
  out += std::string(left, ' ') + a + std::string(std::max(1, space / 2), ' ') + middle +
         std::string(std::max(1, space - space / 2), ' ') + b + "\n";
  // Without colour a picture of many lines says little; the ends are printed by group.
  for (size_t g = 0; g < f.groups.size(); ++g) {
    std::string ends;
    for (const Curve& c : f.curves) {
      if (c.group == g && !c.buckets.empty()) ends += " " + Format("%.4f", c.buckets.back().last);
    }
    if (ends.empty()) continue;
    std::string mark = "  ";
    if (color == Color::kYes) {
      const Rgb p = Hue(g);
      mark = "\x1b[38;2;" + std::to_string(p.r) + ";" + std::to_string(p.g) + ";" +
             std::to_string(p.b) + "m━━\x1b[0m";
    }
    out += mark + " " + f.groups[g] + ": ends at" + ends + "\n";
  }
  for (const std::string& note : f.notes) out += note + "\n";
  return out;
}

std::string CurvesSvg(const CurveFigure& f) {
  constexpr double kLeft = 64, kTop = 48, kWide = 560, kHigh = 330;
  const Frame frame = FrameOf(f);
  size_t longest = 8;
  for (const std::string& g : f.groups) longest = std::max(longest, g.size());
  const int w = static_cast<int>(kLeft + kWide + 60 + 6.6 * static_cast<double>(longest));
  const int h =
      static_cast<int>(std::max(kTop + kHigh + 62 + 15.0 * static_cast<double>(f.notes.size()),
                                kTop + 30 + 18.0 * static_cast<double>(f.groups.size())));
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + std::to_string(w) + " " +
      std::to_string(h) + "\" width=\"" + std::to_string(w) + "\" height=\"" + std::to_string(h) +
      "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"12\" "
      "role=\"img\">\n<title>" +
      Escaped(f.title) + "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  const auto n = [](double v) { return Format("%.6g", v); };
  const auto text = [&](double x, double y, const std::string& s, const std::string& rest) {
    out += "<text x=\"" + n(x) + "\" y=\"" + n(y) + "\" " + rest + ">" + Escaped(s) + "</text>\n";
  };
  text(16, 26, f.title, "font-size=\"16\" font-weight=\"bold\"");
  if (frame.empty()) {
    text(kLeft, kTop + 40, "no points yet", "");
    return out + "</svg>\n";
  }
  const double margin = frame.y1 > frame.y0 ? 0 : 1;
  const auto x = [&](double v) { return kLeft + frame.X(v) * kWide; };
  const auto y = [&](double v) { return kTop + kHigh - (margin > 0 ? 0.5 : frame.Y(v)) * kHigh; };
  for (double t : Ticks(frame.y0, frame.y1, 6)) {
    out += "<path d=\"M" + n(kLeft) + " " + n(y(t)) + "H" + n(kLeft + kWide) +
           "\" stroke=\"#e4e4e4\" fill=\"none\"/>\n";
    text(kLeft - 8, y(t) + 4, Format("%.4g", t), "text-anchor=\"end\" fill=\"#444444\"");
  }
  for (double t :
       f.x_axis == Axis::kLog ? LogTicks(frame.x0, frame.x1) : Ticks(frame.x0, frame.x1, 6)) {
    out += "<path d=\"M" + n(x(t)) + " " + n(kTop + kHigh) +
           "v5\" stroke=\"#444444\" fill=\"none\"/>\n";
    text(x(t), kTop + kHigh + 20, Si(t), "text-anchor=\"middle\" fill=\"#444444\"");
  }
  out += "<path d=\"M" + n(kLeft) + " " + n(kTop) + "V" + n(kTop + kHigh) + "H" + n(kLeft + kWide) +
         "\" stroke=\"#444444\" fill=\"none\"/>\n";
  text(kLeft + kWide / 2, kTop + kHigh + 40,
       f.x_label + (f.x_axis == Axis::kLog ? " (log scale)" : ""), "text-anchor=\"middle\"");
  text(18, kTop + kHigh / 2, f.y_label,
       "text-anchor=\"middle\" transform=\"rotate(-90 18 " + n(kTop + kHigh / 2) + ")\"");
  // Dashes tell apart groups whose hue comes round again, and help where colour does not.
  static constexpr const char* kDashes[] = {"", "7 3", "2 3", "9 3 2 3"};
  for (const Curve& c : f.curves) {
    if (c.buckets.empty()) continue;
    std::string path;
    for (const Bucket& b : c.buckets) {
      path += (path.empty() ? "M" : "L") + n(x(b.x)) + " " + n(y(b.last));
    }
    const char* dash = kDashes[c.group / 6 % 4];
    out += "<path d=\"" + path + "\" stroke=\"" + Hex(Hue(c.group % 6)) +
           "\" stroke-width=\"1.6\" fill=\"none\"" +
           (*dash ? std::string(" stroke-dasharray=\"") + dash + "\"" : "") + "><title>" +
           Escaped(c.label) + "</title></path>\n";
  }
  for (size_t g = 0; g < f.groups.size(); ++g) {
    const double gy = kTop + 12 + 18.0 * static_cast<double>(g);
    const char* dash = kDashes[g / 6 % 4];
    out += "<path d=\"M" + n(kLeft + kWide + 18) + " " + n(gy) + "h22\" stroke=\"" +
           Hex(Hue(g % 6)) + "\" stroke-width=\"2.4\" fill=\"none\"" +
           (*dash ? std::string(" stroke-dasharray=\"") + dash + "\"" : "") + "/>\n";
    text(kLeft + kWide + 46, gy + 4, f.groups[g], "");
  }
  for (size_t i = 0; i < f.notes.size(); ++i) {
    text(16, kTop + kHigh + 60 + 15.0 * static_cast<double>(i), f.notes[i],
         "font-size=\"11\" fill=\"#444444\"");
  }
  return out + "</svg>\n";
}

std::string CurvesCsv(const CurveFigure& f) {
  std::string out = "group,curve," + CsvText(f.x_label) + ",min,max,last,points\n";
  for (const Curve& c : f.curves) {
    for (const Bucket& b : c.buckets) {
      out += CsvText(c.group < f.groups.size() ? f.groups[c.group] : "") + "," + CsvText(c.label) +
             "," + Exact(b.x) + "," + Exact(b.min) + "," + Exact(b.max) + "," + Exact(b.last) +
             "," + std::to_string(b.points) + "\n";
    }
  }
  return out;
}

}  // namespace plumb::analysis
