#include "trainer/spec/mixture.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>

namespace plumb::spec {
namespace {

constexpr double kSumTolerance = 1e-3;  // of fractions written with three digits

std::vector<std::string> SplitAt(const std::string& text, char separator) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1)
    out.push_back(text.substr(begin, end - begin));
  out.push_back(text.substr(begin));
  return out;
}

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

bool ParseReal(const std::string& text, double* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(*value);
}

// Exact: 700000 is "0.7".
std::string Decimal(int64_t millionths) {
  std::string digits = std::to_string(millionths % kMillionths);
  digits.insert(0, 6 - digits.size(), '0');
  digits.erase(digits.find_last_not_of('0') + 1);
  return std::to_string(millionths / kMillionths) + (digits.empty() ? "" : "." + digits);
}

std::string Names(const std::vector<CorpusPart>& parts) {
  std::string out;
  for (const CorpusPart& p : parts) out += (out.empty() ? "" : ", ") + p.name;
  return out;
}

}  // namespace

bool IsPartName(const std::string& name) {
  return !name.empty() && name.size() <= 32 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

std::vector<int64_t> Millionths(const std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  std::vector<int64_t> out(values.size());
  std::vector<std::pair<double, size_t>> left;  // of those that may be rounded
  int64_t rest = kMillionths;
  for (size_t i = 0; i < values.size(); ++i) {
    const double exact = values[i] / sum * static_cast<double>(kMillionths);
    out[i] = static_cast<int64_t>(exact);
    left.emplace_back(static_cast<double>(out[i]) - exact, i);
    if (out[i] == 0 && values[i] > 0) out[i] = 1, left.back().first = 1;
    rest -= out[i];
  }
  std::stable_sort(left.begin(), left.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; rest > 0; ++i, --rest) ++out[left[i % left.size()].second];
  // Parts that were raised to a millionth are paid for by the largest.
  if (rest < 0) *std::max_element(out.begin(), out.end()) += rest;
  return out;
}

std::string ParseMix(const std::string& text, Mix* out) {
  constexpr char kForm[] = "a mix is written part=weight,part=weight, as ja=0.7,en=0.3";
  std::map<std::string, double> weights;
  double sum = 0;
  for (const std::string& item : SplitAt(text, ',')) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos) return "\"" + Trimmed(item) + "\": " + kForm;
    const std::string name = Trimmed(item.substr(0, equals));
    const std::string number = Trimmed(item.substr(equals + 1));
    if (!IsPartName(name)) {
      return "\"" + name +
             "\" is no name of a part: 1 to 32 lower-case letters, digits, '_' and '-'";
    }
    double weight = 0;
    if (!ParseReal(number, &weight) || weight < 0 || weight > 1e12)
      return "the weight of " + name + " is \"" + number + "\", not a number from 0 to 1e12";
    if (!weights.emplace(name, weight).second) return name + " is given twice";
    sum += weight;
  }
  if (!(sum > 0)) return "every weight is 0; give one part a weight above 0";
  if (weights.size() > kMaxParts)
    return "more than " + std::to_string(kMaxParts) + " parts in one mix";
  std::erase_if(weights, [](const auto& w) { return w.second == 0; });
  Mix mix;
  std::vector<double> values;
  for (const auto& [name, weight] : weights) {
    if (weight / sum < 1.0 / kMillionths)
      return "the weight of " + name + " is less than a millionth of the sum; leave the part out";
    mix.emplace_back(name, 0);
    values.push_back(weight);
  }
  const std::vector<int64_t> millionths = Millionths(values);
  for (size_t i = 0; i < mix.size(); ++i) mix[i].second = millionths[i];
  *out = std::move(mix);
  return "";
}

std::string ParsePhases(const std::string& text, std::vector<MixPhase>* out) {
  std::vector<MixPhase> phases;
  std::vector<double> shares;
  for (const std::string& item : SplitAt(text, ';')) {
    const size_t colon = item.find(':');
    double share = 0;
    if (colon == std::string::npos || !ParseReal(Trimmed(item.substr(0, colon)), &share)) {
      return "\"" + Trimmed(item) +
             "\": phases are written fraction:mix;fraction:mix, as 0.5:ja=1;0.5:ja=0.5,en=0.5";
    }
    if (!(share >= 1.0 / kMillionths && share <= 1))
      return "the fraction " + Trimmed(item.substr(0, colon)) + " is not from 1e-6 to 1";
    MixPhase phase;
    if (const std::string wrong = ParseMix(item.substr(colon + 1), &phase.mix); !wrong.empty())
      return "phase " + std::to_string(phases.size() + 1) + ": " + wrong;
    if (!phases.empty() && phases.back().mix == phase.mix) {
      shares.back() += share;
      continue;
    }
    shares.push_back(share);
    phases.push_back(std::move(phase));
  }
  if (phases.size() > kMaxPhases) return "more than " + std::to_string(kMaxPhases) + " phases";
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  if (std::abs(sum - 1) > kSumTolerance) {
    char shown[32];
    std::snprintf(shown, sizeof shown, "%g", sum);
    return std::string("the fractions of the steps add up to ") + shown + "; they must be 1";
  }
  const std::vector<int64_t> millionths = Millionths(shares);
  for (size_t i = 0; i < phases.size(); ++i) phases[i].share = millionths[i];
  *out = std::move(phases);
  return "";
}

std::string MixText(const Mix& mix) {
  std::string out;
  for (const auto& [name, weight] : mix)
    out += (out.empty() ? "" : ",") + name + "=" + Decimal(weight);
  return out;
}

std::string PhasesText(const std::vector<MixPhase>& phases) {
  std::string out;
  for (const MixPhase& p : phases)
    out += (out.empty() ? "" : ";") + Decimal(p.share) + ":" + MixText(p.mix);
  return out;
}

std::string CanonicalMix(const std::string& text, std::string* canonical) {
  Mix mix;
  if (!text.empty()) {
    if (const std::string wrong = ParseMix(text, &mix); !wrong.empty()) return wrong;
  }
  *canonical = MixText(mix);
  return "";
}

std::string CanonicalPhases(const std::string& text, std::string* canonical) {
  std::vector<MixPhase> phases;
  if (!text.empty()) {
    if (const std::string wrong = ParsePhases(text, &phases); !wrong.empty()) return wrong;
  }
  *canonical = PhasesText(phases);
  return "";
}

std::string PhasesOn(const TrialSpec& s, const std::vector<CorpusPart>& parts,
                     std::vector<PartPhase>* out) {
  std::vector<MixPhase> phases = {{}};
  if (!s.data.phases.empty()) {
    if (const std::string wrong = ParsePhases(s.data.phases, &phases); !wrong.empty())
      return "data.phases: " + wrong;
  } else if (!s.data.mix.empty()) {
    if (const std::string wrong = ParseMix(s.data.mix, &phases[0].mix); !wrong.empty())
      return "data.mix: " + wrong;
  }
  std::vector<PartPhase> result;
  int64_t share = 0, begin = 0;
  for (const MixPhase& phase : phases) {
    PartPhase p{.begin_step = begin, .weights = std::vector<int64_t>(parts.size())};
    share += phase.share;
    p.end_step = static_cast<int64_t>(
        (static_cast<__int128>(s.train.steps) * share + kMillionths / 2) / kMillionths);
    begin = p.end_step;
    for (const auto& [name, weight] : phase.mix) {
      const auto part = std::find_if(parts.begin(), parts.end(),
                                     [&n = name](const CorpusPart& c) { return c.name == n; });
      if (part == parts.end()) {
        return std::string(s.data.phases.empty() ? "data.mix" : "data.phases") +
               ": the corpus has no part " + name + "; it has " + Names(parts);
      }
      p.weights[part - parts.begin()] = weight;
    }
    if (phase.mix.empty()) {
      std::vector<double> tokens;
      for (const CorpusPart& c : parts) tokens.push_back(static_cast<double>(c.train_tokens));
      if (std::accumulate(tokens.begin(), tokens.end(), 0.0) <= 0)
        return "the corpus has no training tokens";
      p.weights = Millionths(tokens);
    }
    if (p.end_step > p.begin_step) result.push_back(std::move(p));
  }
  *out = std::move(result);
  return "";
}

std::vector<double> TokensByPart(const TrialSpec& s, const std::vector<PartPhase>& phases) {
  std::vector<double> out;
  for (const PartPhase& p : phases) {
    out.resize(p.weights.size());
    const double tokens = static_cast<double>(p.end_step - p.begin_step) *
                          static_cast<double>(s.train.batch_tokens) /
                          static_cast<double>(kMillionths);
    for (size_t i = 0; i < out.size(); ++i) out[i] += tokens * static_cast<double>(p.weights[i]);
  }
  return out;
}

}  // namespace plumb::spec
