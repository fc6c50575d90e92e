#include "trainer/probes/material.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <unordered_map>

#include "trainer/counter_random.h"

namespace plumb::trainer::probes {
namespace {

constexpr int64_t kLeastExamples = 5;  // to fit on
constexpr int64_t kLeastOfAClass = 2;  // in the sample, to fit on
constexpr int64_t kFewDocuments = 10;  // with fewer a standard error says little
constexpr int64_t kParts = 5;          // one of them chooses

bool Space(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int64_t Distinct(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

// `size` of 0 … n - 1, the same ones always and evenly at random, so that no period of the texts is
// met; rising.
std::vector<int64_t> SampleOf(int64_t n, int64_t size) {
  std::vector<int64_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  if (size >= n) return all;
  const CounterRandom random(HashOf("probe sample"));
  std::vector<uint64_t> key(n);
  for (int64_t i = 0; i < n; ++i) key[i] = random.Bits(i);
  std::nth_element(all.begin(), all.begin() + size, all.end(), [&](int64_t a, int64_t b) {
    return key[a] != key[b] ? key[a] < key[b] : a < b;
  });
  all.resize(size);
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<int64_t> Counts(const std::vector<int32_t>& label, size_t classes) {
  std::vector<int64_t> out(classes);
  for (const int32_t c : label) {
    if (c >= 0) ++out[c];
  }
  return out;
}

// Leaves the classes that can be fitted.
void Keep(const Material& m, Question* q) {
  const std::string &fit_name = m.fit_name, &score_name = m.score_name;
  std::vector<int64_t> seen(q->classes.size());
  for (const int64_t i : m.sample) {
    if (!m.choosing[i] && q->fit.label[i] >= 0) ++seen[q->fit.label[i]];
  }
  const std::vector<int64_t> fit = Counts(q->fit.label, q->classes.size()),
                             score = Counts(q->score.label, q->classes.size());
  std::vector<int32_t> place(q->classes.size(), -1);
  std::vector<std::string> kept;
  std::string only;
  int64_t judged = 0;
  for (size_t c = 0; c < place.size(); ++c) {
    if (fit[c] + score[c] == 0) continue;
    const std::string& name = q->classes[c];
    if (seen[c] < kLeastOfAClass) {
      q->warnings.push_back("class " + name + " is left out: " + fit_name + " has " +
                            std::to_string(fit[c]) + " of it, too few to fit, " + score_name +
                            " has " + std::to_string(score[c]));
      continue;
    }
    if (score[c] == 0)
      q->warnings.push_back("class " + name + " is never asked for: " + score_name +
                            " has none of it");
    place[c] = static_cast<int32_t>(kept.size());
    kept.push_back(name);
    judged += score[c];
    only = name;
  }
  if (kept.size() < 2) {
    throw std::runtime_error(
        q->property + ": " +
        (kept.empty() ? "no class has " + std::to_string(kLeastOfAClass) + " examples in "
                      : "only class " + only + " has enough examples in ") +
        fit_name + "; there is nothing to tell apart: leave the property out, or give more text");
  }
  if (judged == 0) {
    throw std::runtime_error(q->property + ": " + score_name +
                             " has no example of a class that was fitted; give more text");
  }
  for (Answers* side : {&q->fit, &q->score}) {
    for (int32_t& c : side->label) c = c < 0 ? -1 : place[c];
  }
  q->classes = std::move(kept);
}

// Classes by type of token; an example that the property does not ask has none here either.
std::vector<int32_t> Drawn(const std::vector<int64_t>& type, const std::vector<int32_t>& asked,
                           const std::vector<double>& up_to, const CounterRandom& random) {
  std::vector<int32_t> out(type.size(), -1);
  for (size_t i = 0; i < type.size(); ++i) {
    if (asked[i] < 0) continue;
    const double u = random.Uniform(static_cast<uint64_t>(type[i]));
    const auto it = std::upper_bound(up_to.begin(), up_to.end() - 1, u);
    out[i] = static_cast<int32_t>(it - up_to.begin());
  }
  return out;
}

Question ControlOf(const Material& m, const Question& q) {
  Question out{.property = q.property, .kind = Question::Kind::kControl, .classes = q.classes};
  const std::vector<int64_t> counts = Counts(q.fit.label, q.classes.size());
  const auto all = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  std::vector<double> up_to;
  double sum = 0;
  for (const int64_t n : counts) up_to.push_back(sum += static_cast<double>(n) / all);
  const CounterRandom random(HashOf("probe control " + q.property));
  out.fit.label = Drawn(m.fit.type, q.fit.label, up_to, random);
  out.score.label = Drawn(m.score.type, q.score.label, up_to, random);
  return out;
}

}  // namespace

const std::vector<std::string>& CharacterClasses() {
  static const std::vector<std::string> kClasses = {"lower",       "upper", "digit",
                                                    "punctuation", "space", "other"};
  return kClasses;
}

int32_t CharacterClass(std::string_view text) {
  if (text.empty()) return 5;
  for (const unsigned char c : text) {
    if (Space(c)) continue;
    if (c >= 'a' && c <= 'z') return 0;
    if (c >= 'A' && c <= 'Z') return 1;
    if (c >= '0' && c <= '9') return 2;
    return c > ' ' && c < 0x7f ? 3 : 5;
  }
  return 4;
}

std::vector<int32_t> FrequencyClasses(const std::vector<int64_t>& counts, int64_t classes) {
  std::vector<int64_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return counts[a] > counts[b]; });
  const int64_t all = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<int32_t> out(counts.size());
  int64_t before = 0;
  for (const int64_t id : order) {
    out[id] = static_cast<int32_t>(
        counts[id] == 0
            ? classes - 1
            : static_cast<int64_t>(static_cast<double>(classes) *
                                   (static_cast<double>(before) / static_cast<double>(all))));
    before += counts[id];
  }
  return out;
}

std::vector<uint8_t> ChoosingPart(const std::vector<int64_t>& document) {
  const auto n = static_cast<int64_t>(document.size());
  std::vector<uint8_t> out(n);
  if (n < kLeastExamples) return out;
  std::vector<int64_t> order;  // documents as they come first
  std::unordered_map<int64_t, int64_t> size;
  for (const int64_t d : document) {
    if (size[d]++ == 0) order.push_back(d);
  }
  if (order.size() == 1) {
    std::fill(out.end() - n / kParts, out.end(), 1);
    return out;
  }
  // Whenever a fifth of what went by has room for the next.
  std::unordered_map<int64_t, bool> chosen;
  int64_t went_by = 0, taken = 0;
  for (const int64_t d : order) {
    went_by += size[d];
    if (kParts * (taken + size[d]) > went_by) continue;
    chosen[d] = true, taken += size[d];
  }
  if (taken == 0) {  // few or unequal documents: the one nearest a fifth
    chosen[*std::min_element(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return std::abs(kParts * size[a] - n) < std::abs(kParts * size[b] - n);
    })] = true;
  }
  for (int64_t i = 0; i < n; ++i) out[i] = chosen.contains(document[i]);
  return out;
}

void Complete(Material* m, int64_t sample) {
  const std::string &fit_name = m->fit_name, &score_name = m->score_name;
  const int64_t n = m->fit.size();
  if (n < kLeastExamples) {
    throw std::runtime_error(fit_name + " has " + std::to_string(n) +
                             " examples to fit on; there must be " +
                             std::to_string(kLeastExamples) + " or more");
  }
  if (m->score.size() == 0) throw std::runtime_error(score_name + " has no example to judge on");
  m->choosing = ChoosingPart(m->fit.document);
  if (Distinct(m->fit.document) == 1) {
    m->warnings.push_back(fit_name +
                          ": all is one document; its end chooses the penalty, which may come out "
                          "too weak");
  }
  if (const int64_t judged = Distinct(m->score.document); judged < kFewDocuments) {
    m->warnings.push_back("judged on " + std::to_string(judged) + " documents of " + score_name +
                          ": a standard error over so few says little");
  }
  m->sample = SampleOf(n, sample);
  std::vector<Question> all;
  for (Question& q : m->questions) {
    if (q.kind == Question::Kind::kClasses) Keep(*m, &q);
    all.push_back(std::move(q));
    if (all.back().with_control) all.push_back(ControlOf(*m, all.back()));
  }
  m->questions = std::move(all);
}

}  // namespace plumb::trainer::probes
