#include "app/records.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

using nlohmann::json;

std::string Quoted(const std::string& text) { return absl::StrCat("\"", Printable(text), "\""); }

// Text of several lines, each safe to print and set in.
std::string Indented(const std::string& text) {
  std::string out;
  for (const auto& line : absl::StrSplit(text, '\n'))
    absl::StrAppend(&out, "    ", Printable(std::string(line)), "\n");
  return out;
}

std::string Sampler(const json& d) {
  const std::string sampler = TextOf(d, "sampler");
  if (sampler == "greedy") return sampler;
  std::string out = absl::StrCat(sampler == "temperature" ? "" : sampler + " ",
                                 sampler == "top_k"   ? Number(NumberOf(d, "top_k")) + ", "
                                 : sampler == "top_p" ? Number(NumberOf(d, "top_p")) + ", "
                                                      : "");
  return absl::StrCat(out, "temperature ", Number(NumberOf(d, "temperature")), ", seed ",
                      Number(NumberOf(d, "seed")));
}

std::string GenerationsText(const std::vector<Record>& records) {
  std::string out;
  for (const Record& r : records) {
    const size_t tokens = r.data.contains("tokens") ? r.data["tokens"].size() : 0;
    absl::StrAppend(&out, out.empty() ? "" : "\n", Quoted(TextOf(r.data, "prompt")), "  (", r.stage,
                    ", ", Sampler(r.data), ", ", tokens, " tokens)\n",
                    Indented(TextOf(r.data, "text")));
  }
  return out;
}

Table GenerationsTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"},
                          {"prompt"},
                          {"text"},
                          {"sampler"},
                          {"temperature"},
                          {"top_k"},
                          {"top_p"},
                          {"seed"}}};
  for (const Record& r : records) {
    std::vector<Value>& row = table.rows.emplace_back();
    row = {r.stage};
    for (const char* m : {"prompt", "text", "sampler", "temperature", "top_k", "top_p", "seed"})
      row.push_back(Member(r.data, m));
  }
  return table;
}

Table TopkTable(const std::vector<Record>& records) {
  Table table{
      .columns = {
          {"stage"}, {"prompt"}, {"rank"}, {"token"}, {"text"}, {"p", 4}, {"renormalised", 4}}};
  for (const Record& r : records) {
    int64_t rank = 0;
    for (const json& c : r.data.value("candidates", json::array())) {
      table.rows.push_back({r.stage, TextOf(r.data, "prompt"), ++rank, Member(c, "id"),
                            TextOf(c, "text"), NumberOf(c, "p"), NumberOf(c, "p_renormalised")});
    }
  }
  return table;
}

std::string TopkText(const std::vector<Record>& records) {
  std::string out;
  for (const Record& r : records) {
    Table of_prompt = TopkTable({r});
    double mass = 0;
    for (std::vector<Value>& row : of_prompt.rows) {
      mass += std::get<double>(row[5]);
      row[4] = Quoted(std::get<std::string>(row[4]));
      row.erase(row.begin(), row.begin() + 2);
    }
    of_prompt.columns.erase(of_prompt.columns.begin(), of_prompt.columns.begin() + 2);
    absl::StrAppend(&out, out.empty() ? "" : "\n", Quoted(TextOf(r.data, "prompt")), "  (", r.stage,
                    "; these ", of_prompt.rows.size(), " have ", Number(mass, 4),
                    " of the probability)\n", TableText(of_prompt));
  }
  return out;
}

Table PaintersTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"},
                          {"variant"},
                          {"start_layer"},
                          {"repeat"},
                          {"seed"},
                          {"loss"},
                          {"perplexity"},
                          {"tokens"}}};
  for (const Record& r : records) {
    std::vector<Value>& row = table.rows.emplace_back();
    row = {r.stage};
    for (const char* m :
         {"variant", "start_layer", "repeat", "seed", "loss", "perplexity", "tokens"})
      row.push_back(Member(r.data, m));
  }
  return table;
}

// Rows: variants, the baseline first, then by name; columns: start layers. Several
// seeds: their mean.
std::string PaintersText(const std::vector<Record>& records) {
  std::vector<std::string> stages;
  for (const Record& r : records) {
    if (std::find(stages.begin(), stages.end(), r.stage) == stages.end()) stages.push_back(r.stage);
  }
  std::string out;
  for (const std::string& stage : stages) {
    struct Mean {
      double sum = 0;
      int64_t n = 0;
    };
    std::vector<std::string> order;
    std::map<std::string, std::map<int64_t, Mean>> by_variant;
    std::set<int64_t> starts;
    double baseline = std::numeric_limits<double>::quiet_NaN(), tokens = baseline;
    int64_t most_seeds = 1;
    for (const Record& r : records) {
      if (r.stage != stage) continue;
      tokens = NumberOf(r.data, "tokens");
      const std::string variant = TextOf(r.data, "variant");
      if (variant == "baseline") {
        baseline = NumberOf(r.data, "perplexity");
        continue;
      }
      const double repeat = NumberOf(r.data, "repeat");
      const std::string row = repeat > 1 ? absl::StrCat(variant, " x", Number(repeat)) : variant;
      if (!by_variant.contains(row)) order.push_back(row);
      const double start = NumberOf(r.data, "start_layer");
      const auto column = std::isfinite(start) ? static_cast<int64_t>(start) : int64_t{-1};
      starts.insert(column);
      Mean& mean = by_variant[row][column];
      mean.sum += NumberOf(r.data, "perplexity");
      most_seeds = std::max(most_seeds, ++mean.n);
    }
    Table table{.columns = {{"variant"}}};
    for (int64_t start : starts) table.columns.push_back({absl::StrCat("start ", start), 3});
    if (starts.empty()) table.columns.push_back({"perplexity", 3});
    table.rows.push_back({std::string("baseline")});
    table.rows[0].resize(table.columns.size(), baseline);
    for (const std::string& variant : order) {
      std::vector<Value>& row = table.rows.emplace_back();
      row = {variant};
      row.resize(table.columns.size());
      size_t column = 0;
      for (int64_t start : starts) {
        const auto it = by_variant[variant].find(start);
        ++column;
        if (it != by_variant[variant].end())
          row[column] = it->second.sum / static_cast<double>(it->second.n);
      }
    }
    absl::StrAppend(&out, out.empty() ? "" : "\n", stage, ": perplexity over ", Number(tokens),
                    " tokens",
                    most_seeds > 1 ? absl::StrCat("; means of up to ", most_seeds, " seeds") : "",
                    "\n", TableText(table));
  }
  return out;
}

Table FinetuneTable(const std::vector<Record>& records) {
  Table table{.columns = {{"stage"},
                          {"task"},
                          {"seed"},
                          {"examples"},
                          {"accuracy", 4},
                          {"loss", 4},
                          {"nonfinite_batches"}}};
  for (const Record& r : records) {
    std::vector<Value>& row = table.rows.emplace_back();
    row = {r.stage};
    for (const char* m : {"task", "seed", "examples", "accuracy", "loss", "nonfinite_batches"})
      row.push_back(Member(r.data, m));
  }
  return table;
}

std::string FinetuneText(const std::vector<Record>& records) {
  double sum = 0, square = 0;
  const auto n = static_cast<double>(records.size());
  for (const Record& r : records) {
    const double accuracy = NumberOf(r.data, "accuracy");
    sum += accuracy, square += accuracy * accuracy;
  }
  std::string out = TableText(FinetuneTable(records));
  std::set<std::string> stages;
  for (const Record& r : records) stages.insert(r.stage);
  if (n < 2 || stages.size() > 1) return out;
  const double deviation = std::sqrt(std::max(0.0, (square - sum * sum / n) / (n - 1)));
  absl::StrAppend(&out, "\naccuracy ", Number(sum / n, 4), ", standard deviation ",
                  Number(deviation, 4), " over ", records.size(), " seeds\n");
  return out;
}

}  // namespace

Value Member(const json& data, const char* name) {
  const auto it = data.is_object() ? data.find(name) : data.end();
  if (!data.is_object() || it == data.end() || it->is_null()) return {};
  if (it->is_number_integer()) return it->get<int64_t>();
  if (it->is_number()) return it->get<double>();
  return it->is_string() ? it->get<std::string>() : it->dump();
}

std::string TextOf(const json& data, const char* name) {
  const Value v = Member(data, name);
  const auto* text = std::get_if<std::string>(&v);
  return text == nullptr ? "" : *text;
}

double NumberOf(const json& data, const char* name) {
  const Value v = Member(data, name);
  if (const auto* i = std::get_if<int64_t>(&v)) return static_cast<double>(*i);
  if (const auto* d = std::get_if<double>(&v)) return *d;
  return std::numeric_limits<double>::quiet_NaN();
}

absl::StatusOr<std::vector<Record>> LoadRecords(store::Database& db, int64_t trial,
                                                const std::string& stage,
                                                const std::vector<std::string>& kinds) {
  std::vector<Record> out;
  for (const std::string& kind : kinds) {
    ASSIGN_OR_RETURN(
        store::Statement rows,
        db.Prepare("SELECT g.name, r.name, r.idx, r.step, r.data_json FROM record r JOIN stage g "
                   "ON g.id = r.stage_id WHERE g.trial_id = ?1 AND r.kind = ?2 AND (?3 = '' OR "
                   "g.name = ?3) ORDER BY g.id, r.name, r.idx"));
    rows.Bind(1, trial).Bind(2, kind).Bind(3, stage);
    for (;;) {
      ASSIGN_OR_RETURN(const bool more, rows.Step());
      if (!more) break;
      out.push_back({rows.Text(0), kind, rows.Text(1), rows.Int(2), rows.Int(3),
                     json::parse(rows.Text(4), nullptr, false)});
    }
  }
  return out;
}

std::string RecordsJson(const std::vector<Record>& records, Format format) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  std::string lines;
  for (const Record& r : records) {
    nlohmann::ordered_json one = {
        {"stage", r.stage}, {"kind", r.kind}, {"name", r.name}, {"idx", r.idx}, {"step", r.step}};
    for (const auto& [key, value] : r.data.items()) one.emplace(key, value);
    absl::StrAppend(&lines, one.dump(), "\n");
    all.push_back(std::move(one));
  }
  return format == Format::kJsonl ? lines : all.dump(2) + "\n";
}

const std::vector<RecordView>& RecordViews() {
  static const std::vector<RecordView> kViews = {
      {"generate",
       {"generation"},
       "generated text",
       "probe",
       "{prompts: [\"…\"], generate: {tokens: 40}}",
       GenerationsText,
       GenerationsTable},
      {"topk",
       {"topk"},
       "next tokens",
       "probe",
       "{prompts: [\"…\"], top_k: 5}",
       TopkText,
       TopkTable},
      {"attention",
       {"attention"},
       "attention maps",
       "probe",
       "{prompts: [\"…\"], attention: true}",
       AttentionText,
       AttentionTable},
      {"routes",
       {"route", "route_counts"},
       "routes",
       "evaluate",
       "{routes: true}",
       RoutesText,
       RoutesTable},
      {"painters",
       {"painters"},
       "layer-execution variants",
       "painters",
       "{variants: [skip, reverse], start_layers: [1]}",
       PaintersText,
       PaintersTable},
      {"finetune",
       {"finetune"},
       "fine-tuning runs",
       "finetune",
       "{task: \"task.jsonl\", epochs: 3}",
       FinetuneText,
       FinetuneTable},
      {"linearity",
       {"linearity", "linearity_state"},
       "linearity scores",
       "linearity",
       "{}",
       LinearityText,
       LinearityTable},
      {"pruning",
       {"prune_layer", "prune"},
       "pruned models",
       "prune",
       "{order: score}",
       PruningText,
       PruningTable},
      {"tasks",
       {"task"},
       "task scores",
       "task",
       "{format: arc, file: \"questions.jsonl\"}",
       TaskText,
       TaskTable},
      {"probes",
       {"linear_probe_property", "linear_probe"},
       "linear probes",
       "linear_probe",
       "{}",
       ProbesText,
       ProbesTable},
  };
  return kViews;
}

const RecordView* FindRecordView(const std::string& command) {
  for (const RecordView& view : RecordViews()) {
    if (command == view.command) return &view;
  }
  return nullptr;
}

}  // namespace plumb::app
