#include "analysis/paint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace plumb::analysis {

Rgb Heat(double share) {
  static constexpr Rgb kStops[] = {
      {38, 62, 120}, {49, 104, 142}, {53, 150, 143}, {122, 199, 118}, {247, 241, 180}};
  const double x = std::clamp(share, 0.0, 1.0) * 4;
  const int i = std::min(3, static_cast<int>(x));
  const auto mix = [&](int a, int b) {
    return static_cast<int>(std::lround(a + (b - a) * (x - i)));
  };
  const Rgb &a = kStops[i], &b = kStops[i + 1];
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

bool DarkInk(Rgb c) { return 0.299 * c.r + 0.587 * c.g + 0.114 * c.b > 135; }

Rgb Hue(size_t i) {
  static constexpr Rgb kHues[] = {{0, 114, 178}, {213, 94, 0},   {0, 158, 115},   {204, 121, 167},
                                  {230, 159, 0}, {86, 180, 233}, {100, 100, 100}, {0, 0, 0}};
  return kHues[i % 8];
}

std::string Hex(Rgb c) {
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", c.r, c.g, c.b);
  return text;
}

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
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string CsvText(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string Exact(double value) {
  if (!std::isfinite(value)) return "";
  for (int precision = 1; precision <= 17; ++precision) {
    char text[40];
    std::snprintf(text, sizeof text, "%.*g", precision, value);
    if (std::strtod(text, nullptr) == value) return text;
  }
  return "";
}

std::string Si(double value) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P", " E", " Z"};
  int unit = 0;
  while (std::abs(value) >= 999.5 && unit < 7) {
    value /= 1000;
    ++unit;
  }
  return Format("%.3g", value) + kUnits[unit];
}

std::vector<double> Ticks(double low, double high, int count) {
  std::vector<double> ticks;
  if (!(high > low)) return {low};
  const double raw = (high - low) / std::max(1, count);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double m : {1.0, 2.0, 5.0}) {
    if (m * power >= raw) {
      step = m * power;
      break;
    }
  }
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9; ++k)
    ticks.push_back(k * step);
  return ticks;
}

std::vector<double> LogTicks(double low, double high) {
  std::vector<double> ticks;
  for (double p = std::floor(std::log10(low)); p <= std::log10(high) + 1; ++p) {
    for (double m : {1.0, 2.0, 5.0}) {
      const double v = m * std::pow(10, p);
      if (v >= low * 0.999 && v <= high * 1.001) ticks.push_back(v);
    }
  }
  if (ticks.size() > 9) {
    std::erase_if(ticks, [](double v) {
      const double l = std::log10(v);
      return std::abs(l - std::round(l)) > 1e-6;
    });
  }
  return ticks;
}

}  // namespace plumb::analysis
