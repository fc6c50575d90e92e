// Attention maps as shaded text.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "app/records.h"

namespace plumb::app {
namespace {

using nlohmann::json;

constexpr size_t kMostTokens = 64;  // rows and columns; a longer prompt shows its last ones
constexpr int kLabelWidth = 14;
constexpr const char* kShades[] = {" ", "░", "▒", "▓", "█"};

double At(const json& list, size_t i) {
  return list.is_array() && i < list.size() && list[i].is_number() ? list[i].get<double>() : NAN;
}

std::string Label(const json& tokens, size_t i) {
  std::string text =
      i < tokens.size() && tokens[i].is_string() ? tokens[i].get<std::string>() : "?";
  return Shorten(Printable(text), kLabelWidth);
}

// " ░▒▓█", in quarters of the map's largest weight; what rounds to nothing is blank.
const char* Shade(double weight, double largest) {
  if (!(weight > largest / 100)) return kShades[0];
  return kShades[std::clamp(static_cast<int>(std::ceil(4 * weight / largest)), 1, 4)];
}

std::string Map(const json& d) {
  const json tokens = d.value("tokens", json::array()), matrix = d.value("matrix", json::array());
  const size_t n = matrix.size(), first = n > kMostTokens ? n - kMostTokens : 0;
  double largest = 0;
  for (size_t q = first; q < n; ++q) {
    for (size_t k = first; k < n; ++k) {
      if (const double w = At(matrix[q], k); w > largest) largest = w;
    }
  }
  std::string out;
  if (first > 0) absl::StrAppend(&out, "  (the last ", kMostTokens, " of ", n, " tokens)\n");
  // Columns are numbered as the rows are: tens above units.
  if (n > 10) {
    absl::StrAppend(&out, "  ", std::string(kLabelWidth + 5, ' '));
    for (size_t k = first; k < n; ++k)
      absl::StrAppend(&out, k % 10 == 0 || k == first ? absl::StrFormat("%-2d", k / 10) : "  ");
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  }
  absl::StrAppend(&out, "  ", std::string(kLabelWidth + 5, ' '));
  for (size_t k = first; k < n; ++k) absl::StrAppend(&out, k % 10, k + 1 < n ? " " : "\n");
  for (size_t q = first; q < n; ++q) {
    const std::string label = Label(tokens, q);
    absl::StrAppend(&out, "  ", label, std::string(kLabelWidth - DisplayWidth(label), ' '),
                    absl::StrFormat(" %3d ", q));
    std::string row;
    for (size_t k = first; k < n; ++k) {
      const char* shade = Shade(At(matrix[q], k), largest);
      absl::StrAppend(&row, shade, shade);
    }
    while (!row.empty() && row.back() == ' ') row.pop_back();
    absl::StrAppend(&out, row, "\n");
  }
  absl::StrAppend(&out, "  largest weight ", Number(largest, 3),
                  "; shades are its quarters ░ ▒ ▓ █\n");
  return out;
}

std::string Quantities(const json& d) {
  const json thirds = d.value("mean_diagonal_thirds", json::array());
  const json entropy = d.value("row_entropy", json::array());
  double sum = 0, low = NAN, high = NAN;
  for (size_t i = 0; i < entropy.size(); ++i) {
    const double e = At(entropy, i);
    sum += e, low = std::fmin(low, e), high = std::fmax(high, e);
  }
  return absl::StrCat("  attention to itself by thirds of the text: ", Number(At(thirds, 0), 4),
                      ", ", Number(At(thirds, 1), 4), ", ", Number(At(thirds, 2), 4),
                      "\n  entropy of a row: mean ",
                      Number(entropy.empty() ? NAN : sum / static_cast<double>(entropy.size()), 4),
                      ", from ", Number(low, 4), " to ", Number(high, 4),
                      " nats\n  mass on commas: ", Number(NumberOf(d, "comma_mass"), 4), "\n");
}

}  // namespace

std::string AttentionText(const std::vector<Record>& records) {
  std::string out;
  for (const Record& r : records) {
    absl::StrAppend(&out, out.empty() ? "" : "\n", "\"", Printable(TextOf(r.data, "prompt")),
                    "\"  (", r.stage, ", layer ", Number(NumberOf(r.data, "layer")), ", head ",
                    Number(NumberOf(r.data, "head")), "; rows ask, columns are looked at)\n",
                    Map(r.data), Quantities(r.data));
  }
  return out;
}

Table AttentionTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"},
                          {"prompt"},
                          {"layer"},
                          {"head"},
                          {"query"},
                          {"key"},
                          {"query_token"},
                          {"key_token"},
                          {"weight"}}};
  for (const Record& r : records) {
    const json tokens = r.data.value("tokens", json::array());
    const json matrix = r.data.value("matrix", json::array());
    const auto token = [&](size_t i) {
      return i < tokens.size() && tokens[i].is_string() ? tokens[i].get<std::string>() : "";
    };
    for (size_t q = 0; q < matrix.size(); ++q) {
      for (size_t k = 0; k < matrix[q].size(); ++k) {
        table.rows.push_back({r.stage, TextOf(r.data, "prompt"), Member(r.data, "layer"),
                              Member(r.data, "head"), static_cast<int64_t>(q),
                              static_cast<int64_t>(k), token(q), token(k), At(matrix[q], k)});
      }
    }
  }
  return table;
}

}  // namespace plumb::app
