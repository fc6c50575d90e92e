#include "trainer/mixed_order.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "trainer/spec/mixture.h"

namespace plumb::trainer {
namespace {

constexpr int64_t kBlock = 256;  // samples between two rows of counts
constexpr int64_t kMaxPeriod = 1000000;

}  // namespace

MixPattern::MixPattern(const std::vector<int64_t>& weights, int64_t seed) : weights_(weights) {
  const auto parts = static_cast<int64_t>(weights.size());
  int64_t divisor = 0;
  for (const int64_t w : weights) {
    if (w < 0) throw std::invalid_argument("a weight of a part is negative");
    divisor = std::gcd(divisor, w);
  }
  if (divisor == 0) throw std::invalid_argument("no part has a weight above 0");
  for (int64_t& w : weights_) w /= divisor;
  const int64_t period = std::accumulate(weights_.begin(), weights_.end(), int64_t{0});
  if (period > kMaxPeriod || parts > 256)
    throw std::invalid_argument("the weights of a mix must be millionths of at most 256 parts");

  std::vector<int64_t> active;
  for (int64_t p = 0; p < parts; ++p) {
    if (weights_[p] > 0) active.push_back(p);
  }
  const CounterRandom random(HashOf("mix") ^ static_cast<uint64_t>(seed));
  std::stable_sort(active.begin(), active.end(), [&](int64_t a, int64_t b) {
    return random.Bits(static_cast<uint64_t>(a)) < random.Bits(static_cast<uint64_t>(b));
  });
  // Of the parts whose count would otherwise fall 1 / (2k - 2) or more behind, the one that must
  // come soonest to stay within 1 - 1 / (2k - 2). In whole numbers, so that nothing depends on
  // rounding: behind[p] is period times what part p lacks once this sample is given.
  const int64_t k = std::max<int64_t>(2, static_cast<int64_t>(active.size()));
  std::vector<int64_t> behind(parts), count(parts);
  pattern_.reserve(period);
  for (int64_t n = 0; n < period; ++n) {
    if (n % kBlock == 0) {
      for (const int64_t c : count) counts_.push_back(static_cast<int32_t>(c));
    }
    int64_t next = -1, next_slack = 0;
    for (const int64_t p : active) {
      behind[p] += weights_[p];
      if ((2 * k - 2) * behind[p] < period) continue;
      const int64_t slack = (2 * k - 3) * period - (2 * k - 2) * behind[p];
      if (next < 0 || slack * weights_[next] < next_slack * weights_[p])
        next = p, next_slack = slack;
    }
    behind[next] -= period;
    ++count[next];
    pattern_.push_back(static_cast<uint8_t>(next));
  }
}

int64_t MixPattern::Count(int64_t part, int64_t n) const {
  const int64_t at = n % period(), block = at / kBlock;
  const auto parts = static_cast<int64_t>(weights_.size());
  return n / period() * weights_[part] + counts_[block * parts + part] +
         std::count(pattern_.begin() + block * kBlock, pattern_.begin() + at,
                    static_cast<uint8_t>(part));
}

MixedOrder::MixedOrder(const std::vector<int64_t>& part_tokens, const std::vector<Phase>& phases,
                       int64_t seq_len, int64_t seed) {
  if (part_tokens.empty() || phases.empty())
    throw std::invalid_argument("a mixture needs a part and a phase");
  for (size_t p = 0; p < part_tokens.size(); ++p) {
    const bool read = std::any_of(phases.begin(), phases.end(),
                                  [&](const Phase& phase) { return phase.weights[p] > 0; });
    if (read || part_tokens[p] > seq_len) {
      parts_.emplace_back(std::in_place, part_tokens[p], seq_len, seed);
    } else {
      parts_.emplace_back(std::nullopt);
    }
  }
  int64_t begin = 0;
  std::vector<int64_t> before(part_tokens.size());
  for (const Phase& phase : phases) {
    stretches_.push_back({begin, before, MixPattern(phase.weights, seed)});
    begin += phase.samples;
    for (size_t p = 0; p < before.size(); ++p)
      before[p] += stretches_.back().pattern.Count(static_cast<int64_t>(p), phase.samples);
  }
}

const MixedOrder::Stretch& MixedOrder::StretchOf(int64_t index) const {
  auto next = std::upper_bound(stretches_.begin(), stretches_.end(), index,
                               [](int64_t i, const Stretch& s) { return i < s.begin; });
  return *std::prev(next);
}

MixedOrder::Sample MixedOrder::At(int64_t index) const {
  const Stretch& s = StretchOf(index);
  const int64_t part = s.pattern.PartAt(index - s.begin);
  return {part, parts_[part]->Begin(s.before[part] + s.pattern.Count(part, index - s.begin))};
}

int64_t MixedOrder::Count(int64_t part, int64_t samples) const {
  const Stretch& s = StretchOf(samples);
  return s.before[part] + s.pattern.Count(part, samples - s.begin);
}

double MixedOrder::Epochs(int64_t part, int64_t samples) const {
  return parts_[part] ? parts_[part]->Epochs(Count(part, samples)) : 0;
}

double MixedOrder::Epochs(int64_t samples) const {
  int64_t windows = 0;
  for (const auto& p : parts_) windows += p ? p->windows() : 0;
  return static_cast<double>(samples) / static_cast<double>(windows);
}

MixedOrder OrderOf(const spec::TrialSpec& s, const data::Dataset& dataset) {
  std::vector<spec::CorpusPart> parts;
  std::vector<int64_t> tokens;
  for (const data::Part& p : dataset.parts()) {
    parts.push_back({p.name, p.split(data::Split::kTrain).tokens});
    tokens.push_back(parts.back().train_tokens);
  }
  std::vector<spec::PartPhase> phases;
  if (const std::string wrong = spec::PhasesOn(s, parts, &phases); !wrong.empty())
    throw std::invalid_argument(wrong);
  std::vector<MixedOrder::Phase> in_samples;
  for (const spec::PartPhase& p : phases) {
    in_samples.push_back(
        {.samples = (p.end_step - p.begin_step) * (s.train.batch_tokens / s.data.seq_len),
         .weights = p.weights});
  }
  return MixedOrder(tokens, in_samples, s.data.seq_len, s.seed.data);
}

}  // namespace plumb::trainer
