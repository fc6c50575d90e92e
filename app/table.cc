#include "app/table.h"

#include <algorithm>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "app/nearest.h"

namespace plumb::app {
namespace {

// The next code point of UTF-8 text, moving i past it; broken bytes count as one each.
uint32_t Next(const std::string& s, size_t& i) {
  const auto c = static_cast<unsigned char>(s[i++]);
  int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
  uint32_t point = more == 3 ? c & 7 : more == 2 ? c & 15 : more == 1 ? c & 31 : c;
  while (more-- > 0 && i < s.size() && (s[i] & 0xc0) == 0x80) point = point << 6 | (s[i++] & 63);
  return point;
}

int PointWidth(uint32_t p) {
  if (p >= 0x300 && p < 0x370) return 0;
  if ((p >= 0x1100 && p <= 0x115f) || (p >= 0x2e80 && p <= 0xa4cf) ||
      (p >= 0xac00 && p <= 0xd7a3) || (p >= 0xf900 && p <= 0xfaff) ||
      (p >= 0xfe30 && p <= 0xfe6f) || (p >= 0xff00 && p <= 0xff60) ||
      (p >= 0x1f300 && p <= 0x1faff))
    return 2;
  return 1;
}

std::string CellText(const Value& v, int digits) {
  if (const auto* i = std::get_if<int64_t>(&v)) return absl::StrCat(*i);
  if (const auto* d = std::get_if<double>(&v)) return Number(*d, digits);
  if (const auto* s = std::get_if<std::string>(&v)) return Printable(*s);
  return "-";
}

nlohmann::json CellJson(const Value& v) {
  if (const auto* i = std::get_if<int64_t>(&v)) return *i;
  if (const auto* d = std::get_if<double>(&v)) {
    return std::isfinite(*d) ? nlohmann::json(*d) : nlohmann::json();
  }
  if (const auto* s = std::get_if<std::string>(&v)) return *s;
  return nullptr;
}

std::string RowJson(const Table& table, const std::vector<Value>& row) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (size_t c = 0; c < table.columns.size(); ++c)
    object[table.columns[c].name] = CellJson(row[c]);
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string CsvField(const std::string& s) {
  if (s.find_first_of(",\"\r\n") == std::string::npos) return s;
  std::string out = "\"";
  for (char c : s) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

}  // namespace

absl::StatusOr<Format> ParseFormat(const std::string& name) {
  if (name == "table") return Format::kTable;
  if (name == "json") return Format::kJson;
  if (name == "jsonl") return Format::kJsonl;
  if (name == "csv") return Format::kCsv;
  const std::string near = Nearest(name, {"table", "json", "jsonl", "csv"});
  return absl::InvalidArgumentError(
      absl::StrCat("-o ", name, ": not one of table, json, jsonl, csv",
                   near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
}

int DisplayWidth(const std::string& text) {
  int width = 0;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\x1b') {
      while (i < text.size() && text[i] != 'm') ++i;
      ++i;
      continue;
    }
    width += PointWidth(Next(text, i));
  }
  return width;
}

std::string Shorten(const std::string& text, int width) {
  if (DisplayWidth(text) <= width) return text;
  int used = 0;
  size_t i = 0;
  while (i < text.size()) {
    size_t next = i;
    const int w = PointWidth(Next(text, next));
    if (used + w > width - 1) break;
    used += w;
    i = next;
  }
  return text.substr(0, i) + "…";
}

std::string Printable(const std::string& text) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = c == '\n' || c == '\t' ? ' ' : '?';
  }
  return out;
}

std::string Number(double value, int digits) {
  if (std::isnan(value)) return "-";
  char text[64];
  if (digits >= 0) {
    std::snprintf(text, sizeof text, "%.*f", digits, value);
  } else {
    std::snprintf(text, sizeof text, "%.6g", value);
  }
  return text;
}

std::string Scaled(double value) {
  if (std::isnan(value)) return "-";
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P", " E", " Z"};
  int unit = 0;
  while (std::abs(value) >= 999.5 && unit < 7) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.3g%s", value, kUnits[unit]);
  return text;
}

std::string Duration(double seconds) {
  if (!(seconds >= 0)) return "-";
  char text[48];
  if (seconds < 99.95) {
    std::snprintf(text, sizeof text, seconds < 9.95 ? "%.1f s" : "%.0f s", seconds);
  } else if (seconds < 3600) {
    std::snprintf(text, sizeof text, "%d min %02d s", static_cast<int>(seconds) / 60,
                  static_cast<int>(seconds) % 60);
  } else {
    std::snprintf(text, sizeof text, "%.0f h %02d min", std::floor(seconds / 3600),
                  static_cast<int>(std::fmod(seconds, 3600) / 60));
  }
  return text;
}

std::string TableText(const Table& table, int width) {
  const size_t n = table.columns.size();
  std::vector<int> widths(n);
  std::vector<char> numeric(n, 1);
  std::vector<std::vector<std::string>> cells(table.rows.size());
  for (size_t c = 0; c < n; ++c) widths[c] = DisplayWidth(table.columns[c].name);
  for (size_t r = 0; r < table.rows.size(); ++r) {
    for (size_t c = 0; c < n; ++c) {
      cells[r].push_back(CellText(table.rows[r][c], table.columns[c].digits));
      widths[c] = std::max(widths[c], DisplayWidth(cells[r][c]));
      if (std::holds_alternative<std::string>(table.rows[r][c])) numeric[c] = 0;
    }
  }
  int total = n == 0 ? 0 : static_cast<int>(2 * (n - 1));
  for (int w : widths) total += w;
  while (width > 0 && total > width) {
    size_t widest = n;
    for (size_t c = 0; c < n; ++c) {
      if (!numeric[c] && widths[c] > 8 && (widest == n || widths[c] > widths[widest])) widest = c;
    }
    if (widest == n) break;
    --widths[widest];
    --total;
  }
  std::string out;
  const auto add = [&](size_t c, const std::string& text) {
    const std::string shown = Shorten(text, widths[c]);
    const std::string pad(std::max(0, widths[c] - DisplayWidth(shown)), ' ');
    if (c > 0) out += "  ";
    if (numeric[c]) {
      out += pad + shown;
    } else {
      out += c + 1 < n ? shown + pad : shown;
    }
  };
  for (size_t c = 0; c < n; ++c) add(c, table.columns[c].name);
  out += '\n';
  for (const auto& row : cells) {
    for (size_t c = 0; c < n; ++c) add(c, row[c]);
    out += '\n';
  }
  return out;
}

std::string TableJson(const Table& table) {
  std::string out = "[";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    out += (r == 0 ? "\n  " : ",\n  ") + RowJson(table, table.rows[r]);
  }
  return out + (table.rows.empty() ? "]\n" : "\n]\n");
}

std::string TableJsonl(const Table& table) {
  std::string out;
  for (const auto& row : table.rows) out += RowJson(table, row) + "\n";
  return out;
}

std::string TableCsv(const Table& table) {
  std::string out;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    out += (c ? "," : "") + CsvField(table.columns[c].name);
  }
  out += '\n';
  for (const auto& row : table.rows) {
    for (size_t c = 0; c < row.size(); ++c) {
      std::string text;
      if (const auto* d = std::get_if<double>(&row[c])) {
        char number[40];
        std::snprintf(number, sizeof number, "%.17g", *d);
        for (int precision = 1; precision < 17;
             ++precision) {  // the shortest that reads back equal
          char shorter[40];
          std::snprintf(shorter, sizeof shorter, "%.*g", precision, *d);
          if (std::strtod(shorter, nullptr) == *d) {
            std::snprintf(number, sizeof number, "%s", shorter);
            break;
          }
        }
        if (std::isfinite(*d)) text = number;
      } else if (!std::holds_alternative<std::monostate>(row[c])) {
        text = std::holds_alternative<std::string>(row[c]) ? std::get<std::string>(row[c])
                                                           : CellText(row[c], -1);
      }
      out += (c ? "," : "") + CsvField(text);
    }
    out += '\n';
  }
  return out;
}

std::string Print(const Table& table, Format format, int width) {
  switch (format) {
    case Format::kTable:
      return TableText(table, width);
    case Format::kJson:
      return TableJson(table);
    case Format::kJsonl:
      return TableJsonl(table);
    case Format::kCsv:
      return TableCsv(table);
  }
  return "";
}

}  // namespace plumb::app
