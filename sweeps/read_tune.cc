#include "sweeps/read_tune.h"

#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "sweeps/axes.h"
#include "sweeps/overlay.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kMaxTuneSeeds = 1000;
constexpr int64_t kMaxExtend = 20;

// Why a field cannot be tuned; "" where it can.
std::string CannotBeTuned(const Axis& axis) {
  const std::string& field = axis.fields[0];
  if (axis.solved()) return "a solved field is part of the shape; write it under axes:";
  if (axis.when) return "a tuned field is tuned in every cell; leave `when` out";
  if (axis.fields.size() > 1) return "one field at a time; several tuned fields make a grid";
  if (IsBudget(field)) return "a budget cannot be tuned: a longer one is always better";
  static const std::set<std::string> kShape = {
      "model.n_layers", "model.d_model", "model.n_heads",    "model.n_kv_heads",
      "model.head_dim", "model.d_ff",    "model.vocab_size", "model.preset"};
  if (kShape.count(field) > 0 || field.rfind("data.", 0) == 0 || field.rfind("eval.", 0) == 0 ||
      field.rfind("execution.", 0) == 0 || field.rfind("numerics.", 0) == 0) {
    return absl::StrCat(field, " is no nuisance; write it under axes:");
  }
  if (axis.points.empty())
    return "tuning needs to know the values: add points: 5 (or step: for a range)";
  if (axis.points.size() < 2) return "one value is nothing to choose from; put it into trial:";
  return "";
}

}  // namespace

std::optional<Tune> ReadTune(const YamlEntry& entry, const FieldTable& fields,
                             const NameContext& names, std::vector<Problem>* problems) {
  const size_t before = problems->size();
  const YamlNode& v = entry.value;
  if (!v.is_map() || v.entries.empty()) {
    problems->push_back(
        {v.at, absl::StrCat("expected what is tuned inside each cell, as {train.lr: {log: [1e-3, "
                            "3e-2], points: 5}}; got ",
                            Describe(v))});
    return std::nullopt;
  }
  Tune out{.at = entry.key.at, .by_at = entry.key.at};
  out.by.metric.clear();
  for (const YamlEntry& e : v.entries) {
    const std::string& key = e.key.text;
    if (key == "seeds") {
      out.seeds = ReadInteger(e.value, 1, kMaxTuneSeeds, problems).value_or(1);
    } else if (key == "extend") {
      out.extend = ReadInteger(e.value, 0, kMaxExtend, problems).value_or(0);
    } else if (key == "stop") {
      out.stop = ReadStop(e, StopScope::kTune, problems);
    } else if (key == "stage") {
      ReadStageName(e.value, &out.by.stage, problems);
      out.by_at = e.value.at;
    } else if (key == "goal") {
      ReadGoal(e.value, &out.by.maximize, problems);
      out.says_goal = true;
    } else if (key == "metric") {
      ReadMetric(e.value, &out.by.metric, problems);
      if (out.by.stage.empty()) out.by_at = e.value.at;
      if (out.by.metric.rfind("test/", 0) == 0 || out.by.metric.rfind("evaluate/test/", 0) == 0) {
        problems->push_back(
            {e.value.at, "the test split is for conclusions; tune by tune/… or val/…"});
      }
    } else if (key == "at") {
      ReadObjectiveAt(e.value, &out.by.at, problems);
      out.says_at = true;
    } else if (e.key.is_scalar() && key.find('.') == std::string::npos &&
               fields.Find(key) == nullptr && !e.value.is_list() && !e.value.is_map()) {
      problems->push_back({e.key.at, absl::StrCat("unknown key ", Describe(e.key),
                                                  Suggest(key, {"seeds", "extend", "stop", "stage",
                                                                "metric", "at", "goal"}))});
    } else if (const auto axis = ReadAxis(e, fields, names, problems)) {
      if (const std::string wrong = CannotBeTuned(*axis); !wrong.empty())
        problems->push_back({e.key.at, wrong});
      for (const Axis& other : out.axes) {
        if (other.fields[0] == axis->fields[0])
          problems->push_back({e.key.at, axis->fields[0] + " is tuned already"});
      }
      out.axes.push_back(*axis);
    }
  }
  if (out.axes.empty() && problems->size() == before) {
    problems->push_back({v.at,
                         "nothing is tuned: add a field, as train.lr: {log: [1e-3, 3e-2], "
                         "points: 5}"});
  }
  if (problems->size() > before) return std::nullopt;
  return out;
}

void ReadMetric(const YamlNode& metric, std::string* out, std::vector<Problem>* problems) {
  static constexpr char kAllowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-/.";
  const size_t slash = metric.text.find('/');
  if (!metric.is_scalar() || slash == std::string::npos || slash == 0 ||
      slash + 1 == metric.text.size() ||
      metric.text.find_first_not_of(kAllowed) != std::string::npos) {
    problems->push_back(
        {metric.at,
         absl::StrCat("expected the name of a series, as test/bits_per_byte or val/loss; got ",
                      Describe(metric))});
    return;
  }
  *out = metric.text;
}

void ReadStageName(const YamlNode& v, std::string* out, std::vector<Problem>* problems) {
  if (!v.is_scalar() || v.text.empty() ||
      v.text.find_first_not_of(
          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:") !=
          std::string::npos) {
    problems->push_back(
        {v.at, absl::StrCat("expected the name of a stage, as score; got ", Describe(v))});
    return;
  }
  *out = v.text;
}

void ReadGoal(const YamlNode& v, bool* maximize, std::vector<Problem>* problems) {
  *maximize = v.text == "maximize";
  if (*maximize || v.text == "minimize") return;
  problems->push_back({v.at, absl::StrCat("expected goal: minimize or maximize, got ", Describe(v),
                                          Suggest(v.text, {"minimize", "maximize"}))});
}

void ReadObjectiveAt(const YamlNode& v, std::string* out, std::vector<Problem>* problems) {
  int64_t k = 0;
  const bool mean = v.text.rfind("mean_last(", 0) == 0 && v.text.back() == ')' &&
                    absl::SimpleAtoi(v.text.substr(10, v.text.size() - 11), &k) && k > 0;
  if (!v.is_scalar() || (v.text != "last" && v.text != "best" && !mean)) {
    problems->push_back(
        {v.at, absl::StrCat("expected last, best or mean_last(5), got ", Describe(v))});
    return;
  }
  *out = v.text;
}

}  // namespace plumb::sweeps
