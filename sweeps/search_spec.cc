#include "sweeps/search_spec.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "sweeps/field_values.h"
#include "sweeps/measures.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kMaxPoints = 100000;

class SearchReader {
 public:
  explicit SearchReader(std::vector<Problem>* problems) : problems_(problems) {}

  std::optional<SearchSpec> Run(const YamlEntry& entry) {
    const size_t before = problems_->size();
    const YamlNode& v = entry.value;
    out_.at = entry.key.at;
    out_.sampler = entry.key.text;
    out_.external = entry.key.text == "external";
    if (!v.is_map()) {
      Wrong(v.at, absl::StrCat("expected ",
                               out_.external ? "{name: mine, trials: 60}" : "{trials: 60, seed: 1}",
                               "; got ", Describe(v)));
      return std::nullopt;
    }
    std::vector<std::string> keys = {"trials", "seed", "parallel", "startup", "prior", "cost"};
    if (out_.external) keys.insert(keys.begin(), "name");
    if (out_.sampler == "nsga2" || out_.sampler == "cmaes") keys.push_back("population");
    ReportUnknownKeys(v, keys, problems_);
    if (out_.external) Name(v);
    Points(v);
    if (const YamlEntry* s = v.Find("seed"))
      out_.seed =
          static_cast<uint64_t>(ReadInteger(s->value, 0, int64_t{1} << 53, problems_).value_or(0));
    if (const YamlEntry* p = v.Find("parallel"))
      out_.parallel = ReadInteger(p->value, 1, kMaxPoints, problems_).value_or(1);
    if (const YamlEntry* p = v.Find("population"))
      out_.population = ReadInteger(p->value, 2, kMaxPoints, problems_).value_or(2);
    if (const YamlEntry* p = v.Find("prior")) Prior(p->value);
    if (const YamlEntry* c = v.Find("cost")) Cost(c->value);
    if (problems_->size() > before) return std::nullopt;
    return std::move(out_);
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  void Name(const YamlNode& v) {
    const YamlEntry* name = v.Find("name");
    if (name == nullptr) {
      return Wrong(v.at,
                   "an external search needs the name that its suggester asks by: {name: mine, "
                   "trials: 60}");
    }
    const std::string& text = name->value.text;
    const bool taken =
        std::find(SamplerNames().begin(), SamplerNames().end(), text) != SamplerNames().end();
    if (taken) {
      Wrong(name->value.at, absl::StrCat(text, " is a search of its own: write search: {", text,
                                         ": {trials: 60}}"));
    } else if (!name->value.is_scalar() || text.empty() || text.size() > 64 ||
               text.find_first_not_of(
                   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
                   std::string::npos) {
      Wrong(name->value.at, "the name of a suggester is 1 to 64 letters, digits, - _ .");
    }
    out_.sampler = text;
  }

  void Points(const YamlNode& v) {
    const YamlEntry* n = v.Find("trials");
    if (n == nullptr) {
      Wrong(v.at, absl::StrCat("the search needs a number of points: {trials: 60}"));
      return;
    }
    out_.trials = ReadInteger(n->value, 1, kMaxPoints, problems_).value_or(1);
    out_.startup = std::min(out_.startup, out_.trials);
    const YamlEntry* s = v.Find("startup");
    if (s == nullptr) return;
    out_.startup = ReadInteger(s->value, 1, kMaxPoints, problems_).value_or(1);
    if (out_.startup > out_.trials) {
      Wrong(s->value.at, absl::StrCat("the ", out_.startup, " points of the startup are among the ",
                                      out_.trials, " of `trials`"));
    }
  }

  // [earlier, 12]: names or numbers of sweeps.
  void Prior(const YamlNode& v) {
    const std::vector<YamlNode> one = {v};
    for (const YamlNode& item : v.is_list() ? v.items : one) {
      SearchPrior prior{.at = item.at};
      if (!item.is_scalar() || item.text.empty()) {
        Wrong(item.at, absl::StrCat("expected the name or number of an earlier sweep; got ",
                                    Describe(item)));
        continue;
      }
      if (item.quoted || !absl::SimpleAtoi(item.text, &prior.id)) prior.name = item.text;
      if (prior.name.empty() && prior.id < 1) Wrong(item.at, "sweeps are numbered from 1 on");
      out_.prior.push_back(std::move(prior));
    }
  }

  // {flops: 0.1}
  void Cost(const YamlNode& v) {
    if (!v.is_map() || v.entries.empty()) {
      return Wrong(v.at, absl::StrCat("expected a measure and its weight, as {flops: 0.1}: ten "
                                      "times the FLOPs must lower the objective by 0.1; got ",
                                      Describe(v)));
    }
    for (const YamlEntry& e : v.entries) {
      if (e.key.text == "params") {
        Wrong(e.key.at, "bare `params` is ambiguous: write params_total or params_non_embedding");
      } else if (!e.key.is_scalar() || !IsMeasure(e.key.text)) {
        Wrong(e.key.at, absl::StrCat("unknown measure ", Describe(e.key),
                                     Suggest(e.key.text, MeasureNames())));
      }
      const double weight = ReadNumber(e.value, problems_).value_or(1);
      if (!(weight > 0)) Wrong(e.value.at, "the weight of a cost must be above 0");
      out_.cost.push_back({e.key.text, weight});
    }
  }

  std::vector<Problem>* problems_;
  SearchSpec out_;
};

}  // namespace

const std::vector<std::string>& SamplerNames() {
  static const std::vector<std::string> kNames = {"tpe", "gp", "cmaes", "nsga2"};
  return kNames;
}

std::optional<SearchSpec> ReadSearchSpec(const YamlEntry& entry, std::vector<Problem>* problems) {
  return SearchReader(problems).Run(entry);
}

std::string CostMeasure(const std::string& metric) {
  absl::string_view name = metric;
  return absl::ConsumePrefix(&name, "cost/") ? std::string(name) : "";
}

}  // namespace plumb::sweeps
