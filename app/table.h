// Rows for people and programs: one table, printed aligned, as JSON, JSON lines or CSV.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::app {

enum class Format { kTable, kJson, kJsonl, kCsv };
absl::StatusOr<Format> ParseFormat(const std::string& name);

// monostate is absent: "-" in a table, null in JSON, empty in CSV.
using Value = std::variant<std::monostate, int64_t, double, std::string>;

struct Column {
  std::string name;
  int digits = -1;  // after the point, in tables only; -1: up to 6 significant digits
};

struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<Value>> rows;  // each as long as columns
};

// Numbers right-aligned, text left; no boxes. `width` > 0 shortens the widest text columns to fit.
std::string TableText(const Table& table, int width = 0);
std::string TableJson(const Table& table);   // one array of objects
std::string TableJsonl(const Table& table);  // one object a line
std::string TableCsv(const Table& table);    // RFC 4180, "\n"
std::string Print(const Table& table, Format format, int width = 0);

// Terminal columns that `text` takes: code points, without ANSI escapes; wide East Asian ones count
// two.
int DisplayWidth(const std::string& text);
std::string Shorten(const std::string& text, int width);  // ends with "…" where it was cut
// Makes text from elsewhere safe to print: control characters become "?".
std::string Printable(const std::string& text);

// Six significant digits at most, "-" for NaN.
std::string Number(double value, int digits = -1);
// 1234567 -> "1.23 M"; for people.
std::string Scaled(double value);
std::string Duration(double seconds);  // "3.2 s", "4 min 10 s", "2 h 05 min"

}  // namespace plumb::app
