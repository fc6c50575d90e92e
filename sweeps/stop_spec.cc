#include "sweeps/stop_spec.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/draw.h"
#include "sweeps/field_values.h"
#include "sweeps/number.h"

namespace plumb::sweeps {
namespace {

class StopReader {
 public:
  StopReader(StopScope scope, std::vector<Problem>* problems)
      : scope_(scope), problems_(problems) {}

  std::optional<StopSpec> Run(const YamlEntry& entry) {
    const size_t before = problems_->size();
    const YamlNode& v = entry.value;
    out_.at = entry.key.at;
    if (!v.is_map() || v.entries.empty()) {
      Wrong(v.at, absl::StrCat("expected rules, as {asha: {rungs: [30%], keep: 1/3}}; got ",
                               Describe(v)));
      return std::nullopt;
    }
    ReportUnknownKeys(
        v, {"asha", "hyperband", "median", "divergence", "racing", "across", "cooled"}, problems_);
    const YamlEntry* budget_rule = nullptr;
    for (const YamlEntry& e : v.entries) {
      const std::string& key = e.key.text;
      if (key == "asha" || key == "hyperband" || key == "median") {
        if (budget_rule != nullptr) {
          Wrong(e.key.at, absl::StrCat(key, " beside ", budget_rule->key.text,
                                       ": give one of asha, hyperband, median"));
        }
        budget_rule = &e;
      }
      if (key == "across") {
        Across(e.value);
        continue;
      }
      if (key == "cooled") {
        Cooled(e.value);
        continue;
      }
      if (!e.value.is_map() && e.value.kind != YamlNode::Kind::kNull) {
        Wrong(e.value.at,
              absl::StrCat("expected the settings of ", key, ", or {}; got ", Describe(e.value)));
        continue;
      }
      if (key == "asha") Asha(e);
      if (key == "hyperband") Hyperband(e);
      if (key == "median") Median(e);
      if (key == "divergence") Divergence(e);
      if (key == "racing") Racing(e);
    }
    Together(v, budget_rule);
    if (problems_->size() > before) return std::nullopt;
    return std::move(out_);
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  void Together(const YamlNode& v, const YamlEntry* budget_rule) {
    if (scope_ == StopScope::kTune) {
      if (const YamlEntry* racing = v.Find("racing")) {
        Wrong(racing->key.at,
              "racing compares cells over their replicates; write it in a stop: of its own, beside "
              "tune:");
      }
      if (const YamlEntry* across = v.Find("across")) {
        Wrong(across->key.at,
              "inside tune: trials of one cell are compared; write across: cells in a stop: of its "
              "own, beside tune:");
      }
    } else if (budget_rule != nullptr && v.Find("across") == nullptr) {
      Wrong(budget_rule->key.at,
            absl::StrCat(budget_rule->key.text,
                         " compares trials inside one cell's tune: group; write it there, or say "
                         "across: cells, which makes the sweep a search and bars it from fits"));
    }
    if (const YamlEntry* cooled = v.Find("cooled");
        cooled != nullptr && v.Find("asha") == nullptr && v.Find("hyperband") == nullptr)
      Wrong(cooled->key.at, "cooled is of rungs: add asha or hyperband");
    const bool rule = v.Find("asha") != nullptr || v.Find("hyperband") != nullptr ||
                      v.Find("median") != nullptr || v.Find("divergence") != nullptr ||
                      v.Find("racing") != nullptr;
    if (!rule && v.Find("across") != nullptr)
      Wrong(v.at, "no rule: add asha, hyperband, median, divergence or racing");
  }

  void Across(const YamlNode& v) {
    if (!v.is_scalar() || v.text != "cells")
      return Wrong(v.at, absl::StrCat("expected across: cells, got ", Describe(v)));
    out_.across_cells = true;
  }

  void Cooled(const YamlNode& v) {
    if (v.is_scalar() && !v.quoted && (v.text == "true" || v.text == "false")) {
      out_.cooled = v.text == "true";
    } else {
      Wrong(v.at, absl::StrCat("expected true or false, got ", Describe(v)));
    }
  }

  // A fraction between 0 and 1, both left out, exactly as it is written: 1/3, 30%.
  std::optional<Rational> Fraction(const YamlNode& v, const char* what) {
    const auto number = ReadNumber(v, problems_);
    if (!number) return std::nullopt;
    const auto exact = Rational::Parse(v.text);
    if (*number > 0 && *number < 1 && exact) return exact;
    Wrong(v.at, *number > 0 && *number < 1
                    ? std::string("write the fraction with fewer digits, as 1/3")
                    : absl::StrCat(what, " is a fraction between 0 and 1, as 30%; got ", v.text));
    return std::nullopt;
  }
  Rational FractionOr(const YamlNode& map, const char* key, const char* what,
                      const char* otherwise) {
    const YamlEntry* e = map.Find(key);
    const Rational least = *Rational::Parse(otherwise);
    return e == nullptr ? least : Fraction(e->value, what).value_or(least);
  }
  Rational Keep(const YamlNode& map) { return FractionOr(map, "keep", "what is kept", "1/3"); }

  RungMode Mode(const YamlNode& map) {
    const YamlEntry* mode = map.Find("mode");
    if (mode == nullptr || mode->value.text == "stop") return RungMode::kStop;
    if (mode->value.text != "promote") {
      Wrong(mode->value.at,
            absl::StrCat("expected mode: stop or promote, got ", Describe(mode->value),
                         Suggest(mode->value.text, {"stop", "promote"})));
    }
    return RungMode::kPromote;
  }

  void Asha(const YamlEntry& e) {
    ReportUnknownKeys(e.value, {"rungs", "keep", "mode"}, problems_);
    AshaRule rule{.keep = Keep(e.value), .mode = Mode(e.value)};
    const YamlEntry* rungs = e.value.Find("rungs");
    if (rungs == nullptr)
      return Wrong(e.key.at, "asha needs its rungs, fractions of the budget: rungs: [10%, 30%]");
    if (!rungs->value.is_list() || rungs->value.items.empty()) {
      return Wrong(rungs->value.at,
                   absl::StrCat("expected a list of fractions, as [10%, 30%]; got ",
                                Describe(rungs->value)));
    }
    for (const YamlNode& item : rungs->value.items) {
      const auto rung = Fraction(item, "a rung");
      if (!rung) continue;
      if (!rule.rungs.empty() && rung->Compare(rule.rungs.back()) <= 0)
        Wrong(item.at, "rungs are in ascending order");
      rule.rungs.push_back(*rung);
    }
    out_.asha = std::move(rule);
  }

  void Hyperband(const YamlEntry& e) {
    ReportUnknownKeys(e.value, {"from", "keep", "brackets", "mode"}, problems_);
    HyperbandRule rule{.from = FractionOr(e.value, "from", "the first rung", "1/10"),
                       .keep = Keep(e.value),
                       .mode = Mode(e.value)};
    if (const YamlEntry* brackets = e.value.Find("brackets"))
      rule.brackets = ReadInteger(brackets->value, 1, 20, problems_).value_or(1);
    out_.hyperband = rule;
  }

  void Median(const YamlEntry& e) {
    ReportUnknownKeys(e.value, {"from", "min_trials"}, problems_);
    MedianRule rule{.from = FractionOr(e.value, "from", "the first look", "1/10")};
    if (const YamlEntry* least = e.value.Find("min_trials"))
      rule.min_trials = ReadInteger(least->value, 1, 1000000, problems_).value_or(1);
    out_.median = rule;
  }

  void Divergence(const YamlEntry& e) {
    ReportUnknownKeys(e.value, {"factor"}, problems_);
    DivergenceRule rule;
    if (const YamlEntry* factor = e.value.Find("factor")) {
      rule.factor = ReadNumber(factor->value, problems_).value_or(rule.factor);
      if (!(rule.factor > 1))
        Wrong(factor->value.at, "the factor is of a trial's own best value: above 1");
    }
    out_.divergence = rule;
  }

  void Racing(const YamlEntry& e) {
    ReportUnknownKeys(e.value, {"alpha", "min_replicates"}, problems_);
    RacingRule rule;
    if (const YamlEntry* alpha = e.value.Find("alpha"))
      rule.alpha = Fraction(alpha->value, "alpha").value_or(*Rational::Of(rule.alpha)).ToDouble();
    if (const YamlEntry* least = e.value.Find("min_replicates"))
      rule.min_replicates = ReadInteger(least->value, 2, 10000, problems_).value_or(2);
    out_.racing = rule;
  }

  const StopScope scope_;
  std::vector<Problem>* problems_;
  StopSpec out_;
};

std::string Fraction(const Rational& r) {
  return absl::StrCat(r.numerator(), "/", r.denominator());
}
std::string Percent(const Rational& r) {
  return FormatNumber(RoundToFourDigits(r.ToDouble() * 100)) + "%";
}

}  // namespace

std::optional<StopSpec> ReadStop(const YamlEntry& entry, StopScope scope,
                                 std::vector<Problem>* problems) {
  return StopReader(scope, problems).Run(entry);
}

bool ComparesBefore(const StopSpec& stop, double part) {
  return (stop.asha && stop.asha->rungs.front().ToDouble() < part) ||
         (stop.hyperband && stop.hyperband->from.ToDouble() < part) ||
         (stop.median && stop.median->from.ToDouble() < part);
}

std::string InWords(const StopSpec& stop) {
  std::vector<std::string> rules;
  const auto mode = [](RungMode m) { return m == RungMode::kStop ? "stop" : "promote"; };
  if (stop.asha) {
    rules.push_back(absl::StrCat(
        "asha at ",
        absl::StrJoin(stop.asha->rungs, ", ",
                      [](std::string* out, const Rational& rung) { *out += Percent(rung); }),
        ", keep ", Fraction(stop.asha->keep), ", ", mode(stop.asha->mode)));
  }
  if (stop.hyperband) {
    rules.push_back(absl::StrCat(
        "hyperband from ", Percent(stop.hyperband->from), ", keep ", Fraction(stop.hyperband->keep),
        stop.hyperband->brackets > 0 ? absl::StrCat(", ", stop.hyperband->brackets, " brackets")
                                     : "",
        ", ", mode(stop.hyperband->mode)));
  }
  if (stop.median) {
    rules.push_back(absl::StrCat("median from ", Percent(stop.median->from), " of ",
                                 stop.median->min_trials, " trials or more"));
  }
  if (stop.divergence)
    rules.push_back(
        absl::StrCat("divergence at ", FormatNumber(stop.divergence->factor), " x its best"));
  if (stop.racing) {
    rules.push_back(absl::StrCat("racing at alpha ", FormatNumber(stop.racing->alpha), " from ",
                                 stop.racing->min_replicates, " replicates"));
  }
  return absl::StrJoin(rules, "; ") + (stop.cooled == false ? "; rungs not cooled" : "") +
         (stop.across_cells ? "; across cells: a search, barred from fits" : "");
}

}  // namespace plumb::sweeps
