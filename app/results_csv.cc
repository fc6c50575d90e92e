#include "app/results_csv.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/nearest.h"
#include "domain/state.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/sha256.h"

namespace plumb::app {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxBytes = 256 << 20;
constexpr size_t kMaxShown = 50;  // problems
constexpr const char* kCosts[] = {"params_total", "params_non_embedding", "flops", "tokens"};
constexpr const char* kRoles[] = {"seed", "replicate", "step", "state"};

struct Row {
  int64_t line = 0;
  std::vector<std::string> cells;
};

// RFC 4180: quotes, doubled inside them; a quoted cell may hold line breaks. Lines end with LF or
// CRLF; empty ones are left out.
std::vector<Row> Split(const std::string& text, char delimiter, std::vector<std::string>* wrong,
                       const std::string& file) {
  std::vector<Row> rows;
  int64_t line = 1;
  size_t i = text.rfind("\xEF\xBB\xBF", 0) == 0 ? 3 : 0;
  while (i < text.size()) {
    Row row{.line = line};
    std::string cell;
    bool quoted = false, was_quoted = false, end = false;
    while (!end) {
      if (i >= text.size()) {
        if (quoted) wrong->push_back(absl::StrCat(file, ":", row.line, ": a quote is not closed"));
        end = true;
        break;
      }
      const char c = text[i++];
      if (c == '\n') ++line;
      if (quoted) {
        if (c != '"') {
          cell += c;
        } else if (i < text.size() && text[i] == '"') {
          cell += '"';
          ++i;
        } else {
          quoted = false;
        }
      } else if (c == '"' && cell.empty() && !was_quoted) {
        quoted = was_quoted = true;
      } else if (c == delimiter) {
        row.cells.push_back(std::move(cell));
        cell.clear();
        was_quoted = false;
      } else if (c == '\n') {
        end = true;
      } else if (c != '\r' || (i < text.size() && text[i] != '\n')) {
        cell += c;
      }
    }
    row.cells.push_back(std::move(cell));
    if (row.cells.size() > 1 || !row.cells[0].empty()) rows.push_back(std::move(row));
  }
  for (Row& r : rows) {
    for (std::string& c : r.cells) c = std::string(absl::StripAsciiWhitespace(c));
  }
  return rows;
}

std::optional<double> AsNumber(const std::string& text) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "nan" || lower == "inf" || lower == "+inf" || lower == "-inf")
    return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  if (text.empty() || !absl::SimpleAtod(text, &value)) return std::nullopt;
  return value;
}

ordered_json AsJson(const std::string& text) {
  int64_t whole = 0;
  if (absl::SimpleAtoi(text, &whole)) return whole;
  const std::optional<double> number = AsNumber(text);
  if (number && std::isfinite(*number)) return *number;
  if (text == "true" || text == "false") return text == "true";
  return text;
}

std::string AsText(const ordered_json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string LastPart(const std::string& path) { return path.substr(path.rfind('.') + 1); }

void PutNested(ordered_json* config, const std::string& path, const ordered_json& value) {
  ordered_json* at = config;
  size_t begin = 0;
  for (size_t dot; (dot = path.find('.', begin)) != std::string::npos; begin = dot + 1) {
    at = &(*at)[path.substr(begin, dot - begin)];
    if (!at->is_object() && !at->is_null()) return;
  }
  (*at)[path.substr(begin)] = value;
}

// Columns of the table `trial` that a field has a place in.
void PutColumn(ordered_json* columns, const std::string& path, const ordered_json& value) {
  static const std::set<std::string> integers = {
      "model.n_layers",       "model.d_model", "model.n_heads",    "model.n_kv_heads",
      "model.head_dim",       "model.d_ff",    "model.vocab_size", "data.seq_len",
      "train.batch_tokens",   "seed.init",     "seed.data",        "params_total",
      "params_non_embedding", "tokens"};
  static const std::set<std::string> texts = {"model.norm", "model.position", "model.mlp",
                                              "data.corpus", "data.tokenizer"};
  std::string name = LastPart(path);
  if (path == "seed.init" || path == "seed.data") name = "seed_" + name;
  const bool numeric = path == "train.lr" || path == "flops";
  if ((integers.contains(path) && value.is_number_integer()) ||
      (texts.contains(path) && value.is_string()) || (numeric && value.is_number()))
    (*columns)[name] = value;
}

class Table {
 public:
  Table(const std::string& file, const std::string& sweep, const CsvMapping& mapping)
      : file_(file), sweep_(sweep), mapping_(mapping) {
    spec::TrialSpec scratch;
    for (const spec::Field& f : spec::Fields(scratch)) {
      paths_[f.path] = f.path;
      const std::string shorter = spec::ShortName(f.path);
      if (shorter.empty()) continue;
      const auto [it, is_new] = paths_.emplace(shorter, f.path);
      if (!is_new && it->second != f.path) it->second.clear();  // of more than one
    }
  }

  absl::StatusOr<ForeignSweep> Read(const std::string& text) {
    if (text.size() > kMaxBytes)
      return absl::InvalidArgumentError(absl::StrCat(file_, ": larger than 256 MiB; split it"));
    const std::vector<Row> rows = Split(text, mapping_.delimiter, &wrong_, file_);
    if (rows.empty()) return absl::InvalidArgumentError(absl::StrCat(file_, ":1: no header"));
    Header(rows[0]);
    if (wrong_.empty() && rows.size() == 1)
      wrong_.push_back(absl::StrCat(file_, ":2: no rows under the header"));
    for (size_t r = 1; r < rows.size() && headed_; ++r) Add(rows[r]);
    if (wrong_.empty()) Finish();
    if (wrong_.empty()) return std::move(out_);
    const size_t n = wrong_.size();
    if (n > kMaxShown) {
      wrong_.resize(kMaxShown);
      wrong_.push_back(absl::StrCat("… and ", n - kMaxShown, " more"));
    }
    return absl::InvalidArgumentError(absl::StrCat("nothing was imported; ", n,
                                                   n == 1 ? " problem:\n" : " problems:\n",
                                                   absl::StrJoin(wrong_, "\n")));
  }

 private:
  struct Column {
    enum class Kind { kAxis, kMetric, kRole, kCost, kIgnored } kind = Kind::kIgnored;
    std::string name;   // the axis, the series, the role, the cost
    std::string field;  // of an axis: its path in the field table, ""
    std::string header;
  };

  void Wrong(int64_t line, const std::string& message) {
    wrong_.push_back(absl::StrCat(file_, ":", line, ": ", message));
  }

  std::string FieldOf(const std::string& name) const {
    const auto it = paths_.find(name);
    return it == paths_.end() ? "" : it->second;
  }

  void Header(const Row& row) {
    const size_t before = wrong_.size();
    std::set<std::string> seen;
    std::map<std::string, std::string> roles;  // column → role
    for (const char* role : kRoles) {
      const auto it = mapping_.columns.find(role);
      roles[it == mapping_.columns.end() ? role : it->second] = role;
    }
    for (const std::string& name : row.cells) {
      Column c{.header = name};
      if (!seen.insert(name).second) Wrong(row.line, absl::StrCat("column \"", name, "\" twice"));
      if (std::find(mapping_.ignored.begin(), mapping_.ignored.end(), name) !=
          mapping_.ignored.end()) {
      } else if (const auto m = mapping_.metrics.find(name); m != mapping_.metrics.end()) {
        c.kind = Column::Kind::kMetric, c.name = m->second;
      } else if (const auto a = mapping_.axes.find(name); a != mapping_.axes.end()) {
        c.kind = Column::Kind::kAxis, c.name = a->second, c.field = FieldOf(a->second);
        if (!c.field.empty()) c.name = c.field;
      } else if (const auto r = roles.find(name); r != roles.end()) {
        c.kind = Column::Kind::kRole, c.name = r->second;
      } else if (std::find(std::begin(kCosts), std::end(kCosts), name) != std::end(kCosts)) {
        c.kind = Column::Kind::kCost, c.name = name;
      } else if (name.find('/') != std::string::npos) {
        c.kind = Column::Kind::kMetric, c.name = name;
      } else if (const std::string field = FieldOf(name); !field.empty()) {
        c.kind = Column::Kind::kAxis, c.name = c.field = field;
      } else {
        Wrong(row.line, absl::StrCat("column \"", name,
                                     "\" is neither a field of a trial nor a series (they have a "
                                     "slash); say what it is: --axis ",
                                     name, " or --metric ", name, "=val/loss, or --ignore ", name));
      }
      columns_.push_back(std::move(c));
    }
    const auto must_be_there = [&](const std::string& column, const std::string& option) {
      if (seen.contains(column)) return;
      const std::string near = Nearest(column, {seen.begin(), seen.end()});
      Wrong(row.line, absl::StrCat(option, ": no column \"", column, "\"",
                                   near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
    };
    for (const auto& [column, axis] : mapping_.axes) must_be_there(column, "--axis");
    for (const auto& [column, series] : mapping_.metrics) must_be_there(column, "--metric");
    for (const auto& [role, column] : mapping_.columns) must_be_there(column, "--column");
    for (const std::string& column : mapping_.ignored) must_be_there(column, "--ignore");
    std::set<std::string> names;
    for (const Column& c : columns_) {
      if (c.kind == Column::Kind::kMetric && out_.first_metric.empty()) out_.first_metric = c.name;
      has_step_ |= c.kind == Column::Kind::kRole && c.name == "step";
      if (c.kind != Column::Kind::kIgnored && !names.insert(c.name).second)
        Wrong(row.line, absl::StrCat("two columns are ", c.name));
    }
    if (out_.first_metric.empty())
      Wrong(row.line, "no column is a series; name one: --metric COLUMN=val/loss");
    for (const auto& [path, value] : mapping_.fields) {
      if (FieldOf(path).empty())
        Wrong(row.line, absl::StrCat("--set ", path, ": no field of a trial"));
      if (names.contains(FieldOf(path)))
        Wrong(row.line, absl::StrCat("--set ", path, ": a column says it already"));
    }
    headed_ = wrong_.size() == before;
  }

  // One row of the table: points of one trial at one step.
  void Add(const Row& row) {
    if (row.cells.size() != columns_.size()) {
      return Wrong(row.line,
                   absl::StrCat(row.cells.size(), " cells, the header has ", columns_.size()));
    }
    const size_t before = wrong_.size();
    ordered_json axes = ordered_json::object();
    std::map<std::string, int64_t> whole;  // seed, replicate, step
    std::string state;
    std::map<std::string, double> costs;
    std::vector<std::pair<std::string, double>> points;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const Column& c = columns_[i];
      const std::string& text = row.cells[i];
      const std::string where = absl::StrCat(c.header, ": ");
      switch (c.kind) {
        case Column::Kind::kIgnored:
          break;
        case Column::Kind::kAxis:
          if (text.empty()) Wrong(row.line, where + "no value; an axis has one in each row");
          axes[c.name] = AsJson(text);
          break;
        case Column::Kind::kRole:
          if (c.name == "state") {
            const auto parsed = StageStateFromName(text);
            if (!text.empty() && (!parsed || !IsTerminal(*parsed)))
              Wrong(row.line, where + absl::StrCat("expected succeeded, failed or diverged, got \"",
                                                   text, "\""));
            state = text;
            break;
          } else {
            int64_t value = 0;
            if (!absl::SimpleAtoi(text, &value) || value < 0) {
              Wrong(row.line,
                    where + absl::StrCat("expected a whole number from 0 on, got \"", text, "\""));
            }
            whole[c.name] = value;
          }
          break;
        case Column::Kind::kCost:
        case Column::Kind::kMetric: {
          if (text.empty()) break;  // not measured there
          const std::optional<double> value = AsNumber(text);
          if (!value) {
            Wrong(row.line, where + absl::StrCat("expected a number, got \"", text, "\""));
          } else if (c.kind == Column::Kind::kMetric) {
            points.emplace_back(c.name, *value);
          } else if (!std::isfinite(*value) || *value < 0) {
            Wrong(row.line, where + "expected a finite number from 0 on");
          } else {
            costs[c.name] = *value;
          }
          break;
        }
      }
    }
    if (wrong_.size() > before) return;
    ForeignSweep::Trial& t = TrialOf(axes, whole, row.line);
    const int64_t step = whole.contains("step") ? whole["step"] : 0;
    t.steps = std::max(t.steps, step);
    if (!state.empty()) t.state = state;
    Seen& seen = seen_[&t - out_.trials.data()];
    for (const auto& [name, value] : costs) {
      const auto [it, is_new] = seen.costs.emplace(name, value);
      if (!is_new && it->second != value)
        Wrong(row.line, absl::StrCat(name, ": ", value, " here, ", it->second,
                                     " in an earlier row of the same trial"));
    }
    for (const auto& [series, value] : points) {
      const auto [it, is_new] = seen.lines.emplace(std::pair(series, step), row.line);
      if (!is_new) {
        Wrong(row.line,
              absl::StrCat(series, has_step_ ? absl::StrCat(" at step ", step) : std::string(),
                           " of the same cell and seed is in line ", it->second,
                           has_step_ ? ""
                                     : " already; is there a column for the step? --column "
                                       "step=NAME"));
      } else {
        t.series[series].emplace_back(step, value);
      }
    }
  }

  ForeignSweep::Trial& TrialOf(const ordered_json& axes,
                               const std::map<std::string, int64_t>& whole, int64_t line) {
    const std::string axes_json = axes.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    const auto [cell, new_cell] = cell_of_.emplace(axes_json, std::ssize(out_.cells));
    if (new_cell) {
      std::vector<std::string> parts;
      for (const auto& [axis, value] : axes.items())
        parts.push_back(absl::StrCat(LastPart(axis), "=", AsText(value)));
      out_.cells.push_back({parts.empty() ? "base" : absl::StrJoin(parts, " "), axes_json});
    }
    const auto number = [&](const char* name) {
      const auto it = whole.find(name);
      return it == whole.end() ? std::optional<int64_t>() : std::optional<int64_t>(it->second);
    };
    const std::optional<int64_t> seed = number("seed"), replicate = number("replicate");
    const std::string id = absl::StrCat(cell->second, " ", seed ? absl::StrCat(*seed) : "-", " ",
                                        replicate ? absl::StrCat(*replicate) : "-");
    const auto [trial, is_new] = trial_of_.emplace(id, out_.trials.size());
    if (is_new) {
      out_.trials.push_back({.cell = cell->second,
                             .replicate = replicate ? *replicate : next_replicate_[cell->second],
                             .seed = seed});
      ForeignSweep::Trial& t = out_.trials.back();
      if (!replicates_.emplace(t.cell, t.replicate).second)
        Wrong(line, absl::StrCat("replicate ", t.replicate, " of ",
                                 out_.cells[static_cast<size_t>(t.cell)].name,
                                 " is there with another seed"));
      ++next_replicate_[cell->second];
      ordered_json config = ordered_json::object(), columns = ordered_json::object();
      for (const auto& [path, value] : mapping_.fields)
        Put(&config, &columns, FieldOf(path), AsJson(value));
      for (const auto& [axis, value] : axes.items()) {
        if (!FieldOf(axis).empty()) Put(&config, &columns, FieldOf(axis), value);
      }
      if (seed) {
        Put(&config, &columns, "seed.data", *seed);
        Put(&config, &columns, "seed.init", *seed);
      }
      configs_.emplace_back(std::move(config), std::move(columns));
      t.key = spec::Sha256Hex(
          absl::StrCat("foreign\n", sweep_, "\n", axes_json, "\n", id.substr(id.find(' '))));
    }
    return out_.trials[trial->second];
  }

  static void Put(ordered_json* config, ordered_json* columns, const std::string& path,
                  const ordered_json& value) {
    PutNested(config, path, value);
    PutColumn(columns, path, value);
  }

  void Finish() {
    for (size_t i = 0; i < out_.trials.size(); ++i) {
      ForeignSweep::Trial& t = out_.trials[i];
      auto& [config, columns] = configs_[i];
      for (const auto& [name, value] : seen_[static_cast<std::ptrdiff_t>(i)].costs) {
        const bool whole = value == std::floor(value) && value < 9e15;
        PutColumn(&columns, name,
                  name != "flops" && whole ? ordered_json(static_cast<int64_t>(value))
                                           : ordered_json(value));
      }
      columns["steps"] = t.steps;
      for (auto& [series, points] : t.series) std::sort(points.begin(), points.end());
      const auto replace = ordered_json::error_handler_t::replace;
      t.config_json = config.dump(-1, ' ', false, replace);
      t.columns_json = columns.dump(-1, ' ', false, replace);
    }
  }

  struct Seen {
    std::map<std::pair<std::string, int64_t>, int64_t> lines;  // of a point
    std::map<std::string, double> costs;
  };

  const std::string& file_;
  const std::string& sweep_;
  const CsvMapping& mapping_;
  std::map<std::string, std::string> paths_;  // full and short names of fields
  std::vector<std::string> wrong_;
  std::vector<Column> columns_;
  bool headed_ = false, has_step_ = false;
  std::map<std::string, int64_t> cell_of_;
  std::map<std::string, size_t> trial_of_;
  std::map<int64_t, int64_t> next_replicate_;
  std::set<std::pair<int64_t, int64_t>> replicates_;
  std::map<std::ptrdiff_t, Seen> seen_;  // by trial
  std::vector<std::pair<ordered_json, ordered_json>> configs_;
  ForeignSweep out_;
};

}  // namespace

absl::StatusOr<ForeignSweep> ReadResultsCsv(const std::string& text, const std::string& file,
                                            const std::string& sweep, const CsvMapping& mapping) {
  return Table(file, sweep, mapping).Read(text);
}

}  // namespace plumb::app
