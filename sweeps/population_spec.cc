#include "sweeps/population_spec.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "sweeps/field_values.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kMaxMembers = 10000;
constexpr int64_t kMaxGenerations = 10000;

class PopulationReader {
 public:
  explicit PopulationReader(std::vector<Problem>* problems) : problems_(problems) {}

  std::optional<PopulationSpec> Run(const YamlEntry& entry) {
    const size_t before = problems_->size();
    const YamlNode& v = entry.value;
    out_.at = entry.key.at;
    if (!v.is_map()) {
      Wrong(v.at, absl::StrCat("expected {members: 8, every: 10%}; got ", Describe(v)));
      return std::nullopt;
    }
    ReportUnknownKeys(v, {"members", "seed", "every", "replace", "factor", "resample"}, problems_);
    if (const YamlEntry* n = v.Find("members")) {
      out_.members = ReadInteger(n->value, 2, kMaxMembers, problems_).value_or(0);
    } else {
      Wrong(entry.key.at, "a population needs a number of members: {members: 8, every: 10%}");
    }
    if (const YamlEntry* s = v.Find("seed"))
      out_.seed =
          static_cast<uint64_t>(ReadInteger(s->value, 0, int64_t{1} << 53, problems_).value_or(0));
    if (const YamlEntry* every = v.Find("every")) {
      Every(every->value);
    } else {
      Wrong(entry.key.at,
            "a population needs the length of a generation, a fraction of the budget or steps: "
            "{members: 8, every: 10%}");
    }
    Replace(v);
    if (const YamlEntry* f = v.Find("factor")) {
      out_.factor = ReadNumber(f->value, problems_).value_or(out_.factor);
      if (!(out_.factor > 1 && out_.factor <= 100))
        Wrong(f->value.at,
              "a value becomes factor times as large or as small: above 1, at most 100");
    }
    if (const YamlEntry* r = v.Find("resample")) {
      out_.resample = ReadNumber(r->value, problems_).value_or(out_.resample);
      if (!(out_.resample >= 0 && out_.resample <= 1))
        Wrong(r->value.at, "the probability that a value is drawn anew is from 0 to 1, as 25%");
    }
    if (problems_->size() > before) return std::nullopt;
    return out_;
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  void Every(const YamlNode& v) {
    const auto number = ReadNumber(v, problems_);
    if (!number) return;
    const auto exact = Rational::Parse(v.text);
    if (*number > 0 && *number < 1) {
      if (!exact) return Wrong(v.at, "write the fraction with fewer digits, as 1/3");
      if (*number * static_cast<double>(kMaxGenerations) < 1)
        return Wrong(v.at, absl::StrCat("at most ", kMaxGenerations, " generations"));
      out_.every = *exact;
    } else if (*number >= 1 && *number == std::floor(*number) && *number <= 1e12) {
      out_.every_steps = static_cast<int64_t>(*number);
    } else {
      Wrong(v.at, absl::StrCat("a generation is a fraction of the budget below 1, as 10%, or whole "
                               "steps, as 500; got ",
                               v.text));
    }
  }

  void Replace(const YamlNode& v) {
    out_.replace = *Rational::Parse("1/4");
    const YamlEntry* replace = v.Find("replace");
    if (replace != nullptr) {
      const auto number = ReadNumber(replace->value, problems_);
      if (!number) return;
      const auto exact = Rational::Parse(replace->value.text);
      if (!(*number > 0 && *number <= 0.5) || !exact) {
        return Wrong(replace->value.at,
                     absl::StrCat("what is replaced is a fraction of the members, at most half of "
                                  "them, as 1/4; got ",
                                  replace->value.text));
      }
      out_.replace = *exact;
    }
    if (out_.members < 2 || out_.replaced() > 0) return;
    const auto inverse = Rational::Divide(Rational(1), out_.replace);
    Wrong(replace != nullptr ? replace->value.at : out_.at,
          absl::StrCat(out_.replace.numerator(), "/", out_.replace.denominator(), " of ",
                       out_.members, " members is none; give at least ",
                       inverse ? inverse->Ceil() : 2, " members, or replace: 1/", out_.members));
  }

  std::vector<Problem>* problems_;
  PopulationSpec out_;
};

}  // namespace

int64_t PopulationSpec::replaced() const {
  const auto product = Rational::Multiply(replace, Rational(members));
  return product ? product->Floor()
                 : static_cast<int64_t>(replace.ToDouble() * static_cast<double>(members));
}

std::optional<PopulationSpec> ReadPopulationSpec(const YamlEntry& entry,
                                                 std::vector<Problem>* problems) {
  return PopulationReader(problems).Run(entry);
}

std::vector<int64_t> GenerationEnds(const PopulationSpec& spec, int64_t steps) {
  std::vector<int64_t> out;
  for (int64_t g = 1; g <= kMaxGenerations; ++g) {
    int64_t at = g * spec.every_steps;
    if (spec.every_steps == 0) {
      const auto part = Rational::Multiply(spec.every, Rational(g));
      const auto exact = part ? Rational::Multiply(*part, Rational(steps)) : std::nullopt;
      at = exact ? exact->Ceil()
                 : static_cast<int64_t>(std::ceil(spec.every.ToDouble() * static_cast<double>(g) *
                                                  static_cast<double>(steps)));
    }
    if (at >= steps) break;
    if (out.empty() || at > out.back()) out.push_back(at);
  }
  return out;
}

}  // namespace plumb::sweeps
