// A value over two axes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "analysis/figure.h"
#include "analysis/paint.h"

namespace plumb::analysis {
namespace {

struct Scale {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  double Share(double v) const { return high > low ? (v - low) / (high - low) : 0; }
};

Scale ScaleOf(const GridFigure& f) {
  Scale s;
  for (const GridCell& c : f.cells) {
    if (!std::isfinite(c.value)) continue;
    s.low = std::min(s.low, c.value);
    s.high = std::max(s.high, c.value);
  }
  return s;
}

std::string ValueText(const GridCell& c) {
  if (std::isfinite(c.value)) return Format("%.4f", c.value);
  if (std::isfinite(c.median)) return "~" + Format("%.4f", c.median);  // a median of what there is
  return "-";
}

// How the replicates lie: half their range around the middle is said as ±; n is always there.
std::string SpreadText(const GridCell& c) {
  std::string out;
  if (std::isfinite(c.value) && c.n > 1) out = "±" + Format("%.4f", (c.high - c.low) / 2) + " ";
  out += c.n == c.planned ? "n=" + std::to_string(c.n)
                          : "n=" + std::to_string(c.n) + "/" + std::to_string(c.planned);
  if (c.diverged > 0) out += " div=" + std::to_string(c.diverged);
  return out;
}

int Width(const std::string& s) {
  int n = 0;
  for (unsigned char c : s) n += (c & 0xc0) != 0x80;
  return n;
}

std::string Centered(const std::string& s, int width) {
  const int space = std::max(0, width - Width(s));
  return std::string(space / 2, ' ') + s + std::string(space - space / 2, ' ');
}

std::string Left(const std::string& s, int width) {
  return s + std::string(std::max(0, width - Width(s)), ' ');
}

std::string Painted(const std::string& s, const GridCell* c, const Scale& scale, Color color) {
  if (color == Color::kNo || !c || !std::isfinite(c->value)) return s;
  const Rgb p = Heat(scale.Share(c->value));
  const std::string rgb =
      std::to_string(p.r) + ";" + std::to_string(p.g) + ";" + std::to_string(p.b);
  return "\x1b[48;2;" + rgb + (DarkInk(p) ? "m\x1b[30m" : "m\x1b[97m") + s + "\x1b[0m";
}

bool AnyFlags(const GridFigure& f) {
  return std::any_of(f.cells.begin(), f.cells.end(),
                     [](const GridCell& c) { return !c.flags.empty(); });
}

}  // namespace

std::string GridText(const GridFigure& f, Color color) {
  const Scale scale = ScaleOf(f);
  std::map<std::pair<size_t, size_t>, const GridCell*> at;
  int width = 10;
  for (const GridCell& c : f.cells) {
    at[{c.row, c.column}] = &c;
    width = std::max({width, Width(ValueText(c)) + 6, Width(SpreadText(c)) + 2});
  }
  int left = Width(f.row_label);
  for (const std::string& r : f.rows) left = std::max(left, Width(r));
  for (const std::string& c : f.columns) width = std::max(width, Width(c) + 2);

  std::string out = f.title + "\n\n" + Left("", left + 2) + f.column_label + "\n" +
                    Left(f.row_label, left) + "  ";
  for (const std::string& c : f.columns) out += Centered(c, width) + " ";
  out += "\n";
  for (size_t r = 0; r < f.rows.size(); ++r) {
    std::string first = std::string(left - Width(f.rows[r]), ' ') + f.rows[r] + "  ",
                second = Left("", left + 2);
    for (size_t k = 0; k < f.columns.size(); ++k) {
      const auto it = at.find({r, k});
      const GridCell* c = it == at.end() ? nullptr : it->second;
      std::string value = c ? ValueText(*c) : "";
      if (c && c->best) {
        value = "[[ " + value + " ]]";
      } else if (c && c->tied) {
        value = "[ " + value + " ]";
      }
      if (c && !c->flags.empty()) value += " !";
      first += Painted(Centered(value, width), c, scale, color) + " ";
      second += Painted(Centered(c ? SpreadText(*c) : "", width), c, scale, color) + " ";
    }
    while (!first.empty() && first.back() == ' ') first.pop_back();
    while (!second.empty() && second.back() == ' ') second.pop_back();
    out += first + "\n" + second + "\n";
  }
  out += "\n" + f.value_label +
         "; ± half the range over seeds; [[ ]] lowest mean, [ ] cannot be told from it";
  if (AnyFlags(f)) out += "; ! flagged";
  out += "\n";
  for (const GridCell& c : f.cells) {
    if (c.flags.empty()) continue;
    out += "! " + c.name + ":";
    for (const std::string& flag : c.flags) out += " " + flag;
    out += "\n";
  }
  for (const std::string& note : f.notes) out += note + "\n";
  return out;
}

std::string GridSvg(const GridFigure& f) {
  constexpr int kCell = 128, kHigh = 66, kTop = 84;
  int left = 70;
  for (const std::string& r : f.rows) left = std::max(left, 56 + 8 * Width(r));
  std::vector<std::string> notes = {
      "± half the range over seeds. Heavy frame: lowest mean. Dashed frame: cannot be told from it "
      "(paired by seed, 90 % t interval, or within the A/A noise)."};
  for (const GridCell& c : f.cells) {
    if (c.flags.empty()) continue;
    std::string line = "! " + c.name + ":";
    for (const std::string& flag : c.flags) line += " " + flag;
    notes.push_back(line);
  }
  notes.insert(notes.end(), f.notes.begin(), f.notes.end());
  const int w = std::max(560, left + kCell * static_cast<int>(f.columns.size()) + 24);
  std::vector<std::string> lines;  // wrapped to the picture's width
  const int most = (w - 32) * 10 / 58;
  for (std::string note : notes) {
    while (Width(note) > most) {
      size_t cut = note.rfind(' ', most);
      if (cut == std::string::npos || cut == 0) break;
      lines.push_back(note.substr(0, cut));
      note = note.substr(cut + 1);
    }
    lines.push_back(note);
  }
  const int grid_bottom = kTop + kHigh * static_cast<int>(f.rows.size());
  const int h = grid_bottom + 26 + 15 * static_cast<int>(lines.size());
  const Scale scale = ScaleOf(f);
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + std::to_string(w) + " " +
      std::to_string(h) + "\" width=\"" + std::to_string(w) + "\" height=\"" + std::to_string(h) +
      "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"13\" "
      "role=\"img\">\n<title>" +
      Escaped(f.title) + "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  const auto text = [&](double x, double y, const std::string& s, const std::string& rest) {
    out += "<text x=\"" + Format("%.6g", x) + "\" y=\"" + Format("%.6g", y) + "\" " + rest + ">" +
           Escaped(s) + "</text>\n";
  };
  text(16, 26, f.title, "font-size=\"16\" font-weight=\"bold\"");
  text(left + kCell * f.columns.size() / 2.0, 52, f.column_label,
       "text-anchor=\"middle\" fill=\"#444444\"");
  const double middle = (kTop + grid_bottom) / 2.0;
  text(18, middle, f.row_label,
       "text-anchor=\"middle\" fill=\"#444444\" transform=\"rotate(-90 18 " +
           Format("%.6g", middle) + ")\"");
  for (size_t k = 0; k < f.columns.size(); ++k) {
    text(left + kCell * (k + 0.5), kTop - 10, f.columns[k], "text-anchor=\"middle\"");
  }
  for (size_t r = 0; r < f.rows.size(); ++r) {
    text(left - 10, kTop + kHigh * (r + 0.5) + 4, f.rows[r], "text-anchor=\"end\"");
  }
  for (const GridCell& c : f.cells) {
    const double x = left + kCell * static_cast<double>(c.column),
                 y = kTop + kHigh * static_cast<double>(c.row);
    const bool known = std::isfinite(c.value);
    const Rgb paper = known ? Heat(scale.Share(c.value)) : Rgb{235, 235, 235};
    const std::string ink = DarkInk(paper) ? "#000000" : "#ffffff";
    out += "<rect x=\"" + Format("%.6g", x + 1) + "\" y=\"" + Format("%.6g", y + 1) +
           "\" width=\"" + std::to_string(kCell - 2) + "\" height=\"" + std::to_string(kHigh - 2) +
           "\" fill=\"" + Hex(paper) + "\"/>\n";
    if (c.best || c.tied) {
      out += "<rect x=\"" + Format("%.6g", x + 4) + "\" y=\"" + Format("%.6g", y + 4) +
             "\" width=\"" + std::to_string(kCell - 8) + "\" height=\"" +
             std::to_string(kHigh - 8) + "\" fill=\"none\" stroke=\"" + ink +
             (c.best ? "\" stroke-width=\"3\"/>\n"
                     : "\" stroke-width=\"2\" stroke-dasharray=\"6 4\"/>\n");
    }
    text(x + kCell / 2.0, y + 31, ValueText(c) + (c.flags.empty() ? "" : " !"),
         "text-anchor=\"middle\" font-size=\"16\" font-weight=\"bold\" fill=\"" + ink + "\"");
    text(x + kCell / 2.0, y + 50, SpreadText(c),
         "text-anchor=\"middle\" font-size=\"12\" fill=\"" + ink + "\"");
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    text(16, grid_bottom + 24 + 15.0 * static_cast<double>(i), lines[i],
         "font-size=\"11\" fill=\"#444444\"");
  }
  return out + "</svg>\n";
}

std::string GridCsv(const GridFigure& f) {
  std::string out = CsvText(f.row_label) + "," + CsvText(f.column_label) +
                    ",cell,mean,low,high,median,n,planned,diverged,best,tied,difference,difference_"
                    "low,difference_high,flags\n";
  for (const GridCell& c : f.cells) {
    out += CsvText(f.rows[c.row]) + "," + CsvText(f.columns[c.column]) + "," + CsvText(c.name) +
           "," + Exact(c.value) + "," + Exact(c.low) + "," + Exact(c.high) + "," + Exact(c.median) +
           "," + std::to_string(c.n) + "," + std::to_string(c.planned) + "," +
           std::to_string(c.diverged) + "," + (c.best ? "1," : "0,") + (c.tied ? "1," : "0,") +
           Exact(c.difference) + "," + Exact(c.difference_low) + "," + Exact(c.difference_high) +
           ",";
    std::string flags;
    for (const std::string& flag : c.flags) flags += (flags.empty() ? "" : ";") + flag;
    out += CsvText(flags) + "\n";
  }
  return out;
}

}  // namespace plumb::analysis
