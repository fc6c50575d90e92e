// Seed 000: at each step a router reads a text's stream and picks one block, or none, for the whole
// text. With Layer_j(h) = h + D_j(h) and the skip D_0 = 0:
//   u = W pool(h) + b;  p = softmax(u);  i = argmax(u);  h <- h + g D_i(h)
// where the gate g decides how the router learns (docs/router.md). Texts are grouped by choice, so
// that a skip saves the time of a block.
#include <algorithm>
#include <cmath>

#include "trainer/components/block.h"
#include "trainer/counter_random.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer::components {
namespace {

using at::Tensor;
using spec::RouterGate;
using spec::RouterPool;

class RoutedStack {
 public:
  RoutedStack(const Context& c, AttentionState* state)
      : c_(c), r_(c.m.router), state_(state), choices_(c.m.n_layers + 1) {
    training_ = c.extras != nullptr && c.extras->training;
  }

  void Run(Stream* stream) {
    const int64_t steps = r_.steps;
    std::vector<Route> routes(c_.B);
    Tensor x = stream->x.view({c_.B, c_.T, c_.m.d_model});
    Tensor balance, chosen_sum, p_sum;
    for (int64_t s = 0; s < steps; ++s) {
      Tensor p;  // [B, L + 1]
      const std::vector<int64_t> choice = Choose(x, s, &p);
      x = Apply(x, choice, p, &routes);
      KeepState(c_, x.reshape(stream->x.sizes()));
      for (int64_t b = 0; b < c_.B; ++b) {
        routes[b].path.push_back(choice[b] - 1);
        if (!p.defined()) continue;
        const Tensor row = p.detach()[b].to(at::kDouble).cpu().contiguous();
        routes[b].probabilities.emplace_back(row.data_ptr<double>(),
                                             row.data_ptr<double>() + choices_);
      }
      if (r_.balance == 0 || !p.defined()) continue;
      const Tensor f = OneHot(choice, p.options()).mean(0), mean_p = p.mean(0);  // [L + 1]
      if (r_.balance_scope == spec::BalanceScope::kStep) {
        const Tensor aux = (f * mean_p).sum() * static_cast<double>(choices_);
        balance = balance.defined() ? balance + aux : aux;
      } else {
        chosen_sum = chosen_sum.defined() ? chosen_sum + f : f;
        p_sum = p_sum.defined() ? p_sum + mean_p : mean_p;
      }
    }
    if (chosen_sum.defined()) {
      balance =
          (chosen_sum * p_sum).sum() * (static_cast<double>(choices_) / static_cast<double>(steps));
    }
    stream->x = x.reshape(stream->x.sizes());
    stream->normed = Tensor();
    if (c_.extras != nullptr) {
      c_.extras->routes = std::move(routes);
      if (balance.defined()) {
        c_.extras->balance = (balance / static_cast<double>(steps)).reshape({1});
      }
    }
  }

 private:
  Tensor OneHot(const std::vector<int64_t>& choice, const at::TensorOptions& options) const {
    const Tensor index =
        at::tensor(choice, at::TensorOptions().dtype(at::kLong)).to(options.device());
    return at::one_hot(index, choices_).to(options.dtype()).detach();
  }
  double Gumbel(int64_t text, int64_t step, int64_t choice) const {
    const CounterRandom random(Mix(c_.extras->noise) ^ HashOf("router"));
    return -std::log(-std::log(random.Uniform((text * r_.steps + step) * choices_ + choice)));
  }

  // Choice 0 is the skip, j the block j - 1. p is left undefined where there is no router.
  std::vector<int64_t> Choose(const Tensor& x, int64_t s, Tensor* p) const {
    std::vector<int64_t> choice(c_.B);
    if (r_.gate == RouterGate::kFixed) {
      std::fill(choice.begin(), choice.end(), spec::RouterPath(r_.path)[s] + 1);
      return choice;
    }
    if (r_.gate == RouterGate::kRandom) {
      const CounterRandom random(Mix(c_.extras ? c_.extras->noise : 0) ^ HashOf("path"));
      for (int64_t b = 0; b < c_.B; ++b) {
        choice[b] = static_cast<int64_t>(random.Bits(b * r_.steps + s) % choices_);
      }
      return choice;
    }
    Tensor u = Logits(x, s);
    if (r_.gate == RouterGate::kGumbelSt && training_) {
      Tensor noise = at::empty({c_.B, choices_}, at::kDouble);
      for (int64_t b = 0; b < c_.B; ++b) {
        for (int64_t j = 0; j < choices_; ++j)
          noise.data_ptr<double>()[b * choices_ + j] = Gumbel(b, s, j);
      }
      u = (u + noise.to(u.options())) / r_.temperature;
    }
    *p = at::softmax(u, -1);
    const Tensor scores = u.detach().to(at::kDouble).cpu().contiguous();
    const double* score = scores.data_ptr<double>();
    for (int64_t b = 0; b < c_.B; ++b) {
      double best = 0;
      for (int64_t j = 0; j < choices_; ++j) {
        double v = score[b * choices_ + j];
        if (training_ && r_.noise > 0) v += r_.noise * Gumbel(b, s, j);
        if (j == 0 || v > best) best = v, choice[b] = j;
      }
    }
    return choice;
  }
  Tensor Logits(const Tensor& x, int64_t s) const {
    Tensor pooled;
    switch (r_.pool) {
      case RouterPool::kPrefix:
        pooled = x.narrow(1, 0, std::min(r_.prefix, c_.T)).mean(1);
        break;
      case RouterPool::kFull:
        pooled = x.mean(1);
        break;
      case RouterPool::kBos:
        pooled = x.select(1, 0);
        break;
    }
    const std::string name = "router." + std::to_string(r_.shared ? 0 : s) + ".";
    return at::addmm(c_.At(name + "bias")[0], pooled, c_.At(name + "weight")[0]);
  }

  // Layer_j on some texts [n, T, d].
  Tensor Layer(const Tensor& texts, int64_t j) {
    Context c = c_;
    c.B = texts.size(0);
    Stream s{.x = texts.reshape({1, c.B * c_.T, c_.m.d_model})};
    RunBlock(c, j, state_, &s, "", spec::NormKind::kNone);
    return s.x.view(texts.sizes());
  }

  Tensor Apply(const Tensor& x, const std::vector<int64_t>& choice, const Tensor& p,
               std::vector<Route>* routes) {
    const bool soft = r_.gate == RouterGate::kSoft && !(c_.extras != nullptr && c_.extras->argmax);
    const bool dense =
        training_ && (r_.gate == RouterGate::kSt || r_.gate == RouterGate::kGumbelSt);
    if (soft || dense) {
      // Every block on every text. Straight-through: the chosen block's output bit for bit, and the
      // gradient of all probabilities.
      const Tensor one_hot =
          OneHot(choice, at::TensorOptions().dtype(at::kBool).device(x.device()));
      Tensor y = x, learn;
      for (int64_t j = 1; j < choices_; ++j) {
        const Tensor out = Layer(x, j - 1), pj = p.select(1, j).view({c_.B, 1, 1});
        if (soft) {
          y = y + pj * (out - x);
          continue;
        }
        y = at::where(one_hot.select(1, j).view({c_.B, 1, 1}), out, y);
        const Tensor term = (pj - pj.detach()) * (out - x).detach();
        learn = learn.defined() ? learn + term : term;
      }
      for (Route& r : *routes) r.evaluations += choices_ - 1;
      return soft ? y : y + learn;
    }
    return Grouped(x, choice, p, routes);
  }

  // Each text through its choice. p undefined: the gate is 1 and nothing is learnt.
  Tensor Grouped(const Tensor& x, const std::vector<int64_t>& choice, const Tensor& p,
                 std::vector<Route>* routes) {
    std::vector<Tensor> outputs;
    std::vector<int64_t> order;
    for (int64_t j = 0; j < choices_; ++j) {
      std::vector<int64_t> members;
      for (int64_t b = 0; b < c_.B; ++b) {
        if (choice[b] == j) members.push_back(b);
      }
      if (members.empty()) continue;
      const bool all = static_cast<int64_t>(members.size()) == c_.B;
      const Tensor index = at::tensor(members, at::kLong).to(x.device());
      const Tensor texts = all ? x : x.index_select(0, index);
      outputs.push_back(j == 0 ? texts : Gated(texts, j, p, index));
      order.insert(order.end(), members.begin(), members.end());
      if (j > 0 && routes != nullptr) {
        for (const int64_t b : members) (*routes)[b].evaluations += 1;
      }
      if (all) return outputs.front();
    }
    std::vector<int64_t> back(c_.B);
    for (size_t i = 0; i < order.size(); ++i) back[order[i]] = static_cast<int64_t>(i);
    return at::cat(outputs, 0).index_select(0, at::tensor(back, at::kLong).to(x.device()));
  }
  Tensor Gated(const Tensor& texts, int64_t j, const Tensor& p, const Tensor& index) {
    const Tensor y = Layer(texts, j - 1);
    const bool learns = r_.gate == RouterGate::kSwitch || r_.gate == RouterGate::kUnitSt;
    if (!p.defined() || !learns) return y;
    const Tensor g = p.index_select(0, index).select(1, j).view({-1, 1, 1});
    if (r_.gate == RouterGate::kSwitch) return texts + g * (y - texts);
    // p / stopgrad(p): the value 1 exactly, so the block's own output; the gradient of log p.
    return y + (g / g.detach() - 1) * (y - texts).detach();
  }

  const Context& c_;
  const spec::RouterSpec& r_;
  AttentionState* state_;
  const int64_t choices_;
  bool training_ = false;
};

}  // namespace

void RunRouted(const Context& c, AttentionState* state, Stream* stream) {
  RoutedStack(c, state).Run(stream);
}

}  // namespace plumb::trainer::components
