#include "trainer/probes/sources.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <unordered_map>

#include "trainer/hidden_states.h"

namespace plumb::trainer::probes {
namespace {

using at::Tensor;

// Positions in one forward pass: all states of it are there at once.
constexpr int64_t kPositionsPerPass = 2048;
constexpr int64_t kTokensPerDimension = 50;
constexpr int64_t kTokensPerCount = int64_t{1} << 23;
constexpr int64_t kQuarters = 4;

bool Asks(const std::vector<std::string>& properties, const char* name) {
  return std::find(properties.begin(), properties.end(), name) != properties.end();
}

// Without the final norm's.
std::vector<Tensor> StreamStates(const Bundle& bundle, int64_t row, const Tensor& ids) {
  std::vector<Tensor> states = HiddenStates(bundle, row, ids);
  states.pop_back();
  return states;
}

class Tokens : public Source {
 public:
  Tokens(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
         const data::Tokenizer* tokenizer, const spec::TrialSpec& s, const TokenPlan& plan)
      : bundle_(bundle),
        row_(row),
        dataset_(dataset),
        tokenizer_(tokenizer),
        plan_(plan),
        T_(s.eval.seq_len),
        per_pass_(std::max<int64_t>(1, kPositionsPerPass / T_)),
        counts_(s.model.vocab_size) {
    if (T_ < kQuarters) {
      throw std::runtime_error("texts of " + std::to_string(T_) +
                               " tokens (eval.seq_len) have no quarters; give 4 or more");
    }
    const int64_t fit = plan.tokens > 0 ? plan.tokens : kTokensPerDimension * s.model.d_model;
    const int64_t score = plan.score_tokens > 0 ? plan.score_tokens : fit;
    begins_[0] = SpreadWindows(dataset.split(plan.fit), T_, fit);
    begins_[1] = SpreadWindows(dataset.split(plan.score), T_, score);
  }

  int64_t preparations() const override {
    const int64_t tokens = dataset_.split(data::Split::kTrain).tokens();
    return Asks(plan_.properties, "next_token_frequency")
               ? (tokens + kTokensPerCount - 1) / kTokensPerCount
               : 0;
  }

  // Counts the training split.
  void Prepare(int64_t piece) override {
    const data::Shard& train = dataset_.split(data::Split::kTrain);
    const int64_t begin = piece * kTokensPerCount;
    std::vector<int64_t> tokens(std::min(kTokensPerCount, train.tokens() - begin));
    train.Copy(begin, static_cast<int64_t>(tokens.size()), tokens.data());
    for (const int64_t t : tokens) {
      if (t >= 0 && t < static_cast<int64_t>(counts_.size())) ++counts_[t];
    }
  }

  Material Ask() override {
    if (tokenizer_ != nullptr) counts_[tokenizer_->separator()] = 0;  // never asked for
    frequency_ = FrequencyClasses(counts_, plan_.frequency_classes);
    Material m{.fit_name = data::Name(plan_.fit), .score_name = data::Name(plan_.score)};
    for (const std::string& property : plan_.properties) {
      // Where a token stands is no matter of which it is.
      m.questions.push_back({.property = property,
                             .classes = ClassesOf(property),
                             .with_control = property != "position"});
      if (property == "position")
        m.questions.push_back({.property = property, .kind = Question::Kind::kNumber});
    }
    Read(Side::kFit, &m), Read(Side::kScore, &m);
    Complete(&m, plan_.sample);
    return m;
  }

  int64_t passes(Side side) const override {
    return (static_cast<int64_t>(Begins(side).size()) + per_pass_ - 1) / per_pass_;
  }

  std::vector<Tensor> States(Side side, int64_t pass) const override {
    const std::vector<int64_t>& begins = Begins(side);
    const auto first = static_cast<size_t>(pass * per_pass_);
    const size_t count = std::min<size_t>(per_pass_, begins.size() - first);
    const Tensor ids = WindowIds(dataset_.split(SplitOf(side)), begins, first, count, T_);
    const std::vector<int64_t>& all = kept_[Index(side)];
    const int64_t from = static_cast<int64_t>(first) * T_,
                  to = from + static_cast<int64_t>(count) * T_;
    std::vector<int64_t> rows;
    for (auto at = std::lower_bound(all.begin(), all.end(), from); at != all.end() && *at < to;
         ++at)
      rows.push_back(*at - from);
    const Tensor kept = at::tensor(rows, at::kLong).to(bundle_.device());
    std::vector<Tensor> states = StreamStates(bundle_, row_, ids);
    for (Tensor& s : states) s = s.index_select(0, kept);
    return states;
  }

 private:
  static size_t Index(Side side) { return side == Side::kFit ? 0 : 1; }
  const std::vector<int64_t>& Begins(Side side) const { return begins_[Index(side)]; }
  data::Split SplitOf(Side side) const { return side == Side::kFit ? plan_.fit : plan_.score; }

  std::vector<std::string> ClassesOf(const std::string& property) const {
    if (property == "character_class") return CharacterClasses();
    std::vector<std::string> out;
    if (property == "position") {
      for (int64_t q = 0; q < kQuarters; ++q) {
        // Positions t with floor(4 t / T) = q.
        const int64_t first = (q * T_ + kQuarters - 1) / kQuarters,
                      last = ((q + 1) * T_ + kQuarters - 1) / kQuarters - 1;
        out.push_back(std::to_string(first) + "-" + std::to_string(last));
      }
    } else {
      for (int64_t c = 1; c <= plan_.frequency_classes; ++c) out.push_back(std::to_string(c));
    }
    return out;
  }

  int32_t CharactersOf(int64_t token) {
    const auto [it, fresh] = characters_.try_emplace(token, 0);
    if (fresh) it->second = CharacterClass(tokenizer_->Decode({token}));
    return it->second;
  }

  // One side's examples and their answers.
  void Read(Side side, Material* m) {
    const data::Shard& shard = dataset_.split(SplitOf(side));
    const std::vector<int64_t>& begins = Begins(side);
    Examples& examples = side == Side::kFit ? m->fit : m->score;
    std::vector<int64_t> tokens(T_ + 1);
    for (size_t w = 0; w < begins.size(); ++w) {
      const int64_t begin = begins[w], count = std::min(T_ + 1, shard.tokens() - begin);
      shard.Copy(begin, count, tokens.data());
      for (int64_t t = 0, document = -1; t + 1 < count; ++t) {
        const int64_t at = begin + t;
        if (document < 0 || at >= shard.DocumentBegin(document + 1))
          document = shard.DocumentOf(at);
        if (at == shard.DocumentBegin(document) || at + 1 == shard.DocumentBegin(document + 1))
          continue;
        kept_[Index(side)].push_back(static_cast<int64_t>(w) * T_ + t);
        examples.document.push_back(document);
        examples.type.push_back(tokens[t]);
        for (Question& q : m->questions) {
          Answers& answers = side == Side::kFit ? q.fit : q.score;
          if (q.kind == Question::Kind::kNumber) {
            answers.number.push_back(static_cast<double>(t));
          } else if (q.property == "position") {
            answers.label.push_back(static_cast<int32_t>(kQuarters * t / T_));
          } else if (q.property == "character_class") {
            answers.label.push_back(CharactersOf(tokens[t]));
          } else {
            answers.label.push_back(frequency_.at(tokens[t + 1]));
          }
        }
      }
    }
  }

  const Bundle& bundle_;
  const int64_t row_;
  const data::Dataset& dataset_;
  const data::Tokenizer* tokenizer_;
  const TokenPlan plan_;
  const int64_t T_, per_pass_;
  std::vector<int64_t> counts_;     // of the training split, by token
  std::vector<int32_t> frequency_;  // class by token
  std::unordered_map<int64_t, int32_t> characters_;
  std::vector<int64_t> begins_[2], kept_[2];  // kept: window · T + position, rising
};

class Texts : public Source {
 public:
  Texts(const Bundle& bundle, int64_t row, data::ClassificationData texts, Pool pool,
        int64_t sample)
      : bundle_(bundle), row_(row), texts_(std::move(texts)), pool_(pool), sample_(sample) {
    for (const Side side : {Side::kFit, Side::kScore}) Arrange(side);
  }

  Material Ask() override {
    Question q{.property = "label", .classes = texts_.classes};
    Material m{.fit_name = data::Name(SplitOf(Side::kFit)),
               .score_name = data::Name(SplitOf(Side::kScore))};
    // Equal texts are one document.
    std::map<std::vector<int64_t>, int64_t> document;
    for (const Side side : {Side::kFit, Side::kScore}) {
      Examples& examples = side == Side::kFit ? m.fit : m.score;
      Answers& answers = side == Side::kFit ? q.fit : q.score;
      for (const data::ClassExample* e : order_[Index(side)]) {
        const auto next = static_cast<int64_t>(document.size());
        examples.document.push_back(document.try_emplace(e->ids, next).first->second);
        answers.label.push_back(static_cast<int32_t>(e->label));
      }
    }
    if (texts_.cut > 0)
      m.warnings.push_back(std::to_string(texts_.cut) + " texts were longer and lost their end");
    if (const int64_t n = texts_.also_in_train[static_cast<size_t>(SplitOf(Side::kScore))]; n > 0)
      m.warnings.push_back(std::to_string(n) + " texts to judge on are also among those to fit on");
    m.questions.push_back(std::move(q));
    Complete(&m, sample_);
    return m;
  }

  int64_t passes(Side side) const override {
    return static_cast<int64_t>(passes_[Index(side)].size());
  }

  std::vector<Tensor> States(Side side, int64_t pass) const override {
    const auto [first, count] = passes_[Index(side)][pass];
    const auto* const* examples = order_[Index(side)].data() + first;
    const auto T = static_cast<int64_t>(examples[0]->ids.size());
    const auto n = static_cast<int64_t>(count);
    Tensor ids = at::empty({1, n, T}, at::kLong);
    for (int64_t i = 0; i < n; ++i)
      std::copy_n(examples[i]->ids.data(), T, ids.data_ptr<int64_t>() + i * T);
    std::vector<Tensor> states = StreamStates(bundle_, row_, ids);
    for (Tensor& s : states) {
      const Tensor by_text = s.view({n, T, -1});
      s = pool_ == Pool::kLast || T == 1
              ? by_text.select(1, T - 1)
              : by_text.narrow(1, 1, T - 1).to(at::kDouble).mean(1).to(s.scalar_type());
    }
    return states;
  }

 private:
  static size_t Index(Side side) { return side == Side::kFit ? 0 : 1; }
  data::ClassSplit SplitOf(Side side) const {
    if (side == Side::kFit) return data::ClassSplit::kTrain;
    return texts_.split(data::ClassSplit::kTest).empty() ? data::ClassSplit::kDev
                                                         : data::ClassSplit::kTest;
  }

  // By length, since those of one length share a pass and none is padded.
  void Arrange(Side side) {
    std::vector<const data::ClassExample*>& order = order_[Index(side)];
    for (const data::ClassExample& e : texts_.split(SplitOf(side))) order.push_back(&e);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto* a, const auto* b) { return a->ids.size() < b->ids.size(); });
    for (size_t first = 0; first < order.size();) {
      const size_t length = order[first]->ids.size(),
                   most = std::max<size_t>(1, kPositionsPerPass / length);
      size_t end = first;
      while (end < order.size() && end - first < most && order[end]->ids.size() == length) ++end;
      passes_[Index(side)].push_back({first, end - first});
      first = end;
    }
  }

  const Bundle& bundle_;
  const int64_t row_;
  const data::ClassificationData texts_;
  const Pool pool_;
  const int64_t sample_;
  std::vector<const data::ClassExample*> order_[2];
  std::vector<std::pair<size_t, size_t>> passes_[2];  // first and count
};

}  // namespace

std::unique_ptr<Source> TokenSource(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                                    const data::Tokenizer* tokenizer,
                                    const spec::TrialSpec& resolved, const TokenPlan& plan) {
  return std::make_unique<Tokens>(bundle, row, dataset, tokenizer, resolved, plan);
}

std::unique_ptr<Source> TextSource(const Bundle& bundle, int64_t row,
                                   data::ClassificationData texts, Pool pool, int64_t sample) {
  return std::make_unique<Texts>(bundle, row, std::move(texts), pool, sample);
}

}  // namespace plumb::trainer::probes
