// Stage "probe": what a trained model says. Continuations, the likeliest next tokens, attention
// maps.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/tokenizer.h"
#include "trainer/counter_random.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;

class Probe {
 public:
  explicit Probe(const StageContext& c)
      : c_(c),
        tokenizer_(data::OpenTokenizer(c.data_dir)),
        longest_(std::max(c.spec.data.seq_len, c.spec.eval.seq_len)) {}

  void Ask(int64_t index) const {
    const json& s = c_.settings;
    const auto prompt = s.at("prompts").at(index).get<std::string>();
    // As a document begins.
    std::vector<int64_t> ids = {tokenizer_->separator()};
    const std::vector<int64_t> text = tokenizer_->Encode(prompt);
    ids.insert(ids.end(), text.begin(), text.end());
    const std::string name = std::to_string(index);
    if (const auto k = s.at("top_k").get<int64_t>(); k > 0) {
      c_.Record("topk", name, 0, {{"prompt", prompt}, {"candidates", Candidates(ids, k)}});
    }
    if (!s.at("generate").is_null()) {
      json out = Continue(ids, text, s.at("generate"), index);
      out["prompt"] = prompt;
      c_.Record("generation", name, 0, out);
    }
    if (s.at("attention").get<bool>()) Maps(prompt, name, ids);
  }

 private:
  // Probabilities of the next token; a text longer than the model has seen is read from its end.
  std::vector<double> Next(const std::vector<int64_t>& ids, double temperature = 1) const {
    const auto n = std::min<int64_t>(longest_, static_cast<int64_t>(ids.size()));
    const at::Tensor in =
        at::tensor(at::ArrayRef<int64_t>(ids.data() + ids.size() - n, n), at::kLong)
            .view({1, 1, n})
            .to(c_.bundle->device());
    Extras extras;
    const at::Tensor logits = c_.bundle->Logits(0, in, &extras)[0][n - 1];
    const at::Tensor p = at::softmax(logits.to(at::kDouble) / temperature, 0).cpu().contiguous();
    // What the tokenizer has; a model may have room for more.
    const int64_t V = std::min(p.numel(), tokenizer_->vocab_size());
    return {p.data_ptr<double>(), p.data_ptr<double>() + V};
  }
  // Ids by falling probability, of equal ones the smaller first.
  static std::vector<int64_t> Order(const std::vector<double>& p, int64_t k) {
    std::vector<int64_t> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    k = std::min<int64_t>(k, static_cast<int64_t>(p.size()));
    std::partial_sort(order.begin(), order.begin() + k, order.end(),
                      [&](int64_t a, int64_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
    order.resize(k);
    return order;
  }

  json Candidates(const std::vector<int64_t>& ids, int64_t k) const {
    const std::vector<double> p = Next(ids);
    const std::vector<int64_t> best = Order(p, k);
    double mass = 0;
    for (const int64_t id : best) mass += p[id];
    json out = json::array();
    for (const int64_t id : best) {
      out.push_back({{"id", id},
                     {"text", tokenizer_->Decode({id})},
                     {"p", p[id]},
                     {"p_renormalised", p[id] / mass}});
    }
    return out;
  }

  json Continue(std::vector<int64_t> ids, std::vector<int64_t> text, const json& g,
                int64_t index) const {
    const auto sampler = g.at("sampler").get<std::string>();
    const bool greedy = sampler == "greedy";
    const auto seed = g.at("seed").get<int64_t>();
    const CounterRandom random(Mix(HashOf("generate") + static_cast<uint64_t>(seed)) +
                               static_cast<uint64_t>(index));
    std::vector<int64_t> tokens;
    const std::string before = tokenizer_->Decode(text);
    for (int64_t i = 0; i < g.at("tokens").get<int64_t>(); ++i) {
      const std::vector<double> p = Next(ids, greedy ? 1.0 : g.at("temperature").get<double>());
      const int64_t id = greedy ? Order(p, 1)[0] : Draw(p, sampler, g, random.Uniform(i));
      if (id == tokenizer_->separator()) break;  // the document ends
      tokens.push_back(id), ids.push_back(id), text.push_back(id);
    }
    const std::string all = tokenizer_->Decode(text);
    json out = {
        {"text", all.starts_with(before) ? all.substr(before.size()) : tokenizer_->Decode(tokens)},
        {"tokens", tokens},
        {"sampler", sampler},
        {"context", longest_}};
    out["temperature"] = greedy ? json() : g.at("temperature");
    out["top_k"] = sampler == "top_k" ? g.at("top_k") : json();
    out["top_p"] = sampler == "top_p" ? g.at("top_p") : json();
    out["seed"] = greedy ? json() : g.at("seed");
    return out;
  }
  // By inversion over the candidates in falling order of probability.
  static int64_t Draw(const std::vector<double>& p, const std::string& sampler, const json& g,
                      double u) {
    const auto all = static_cast<int64_t>(p.size());
    std::vector<int64_t> order =
        Order(p, sampler == "top_k" ? std::min<int64_t>(all, g.at("top_k")) : all);
    double mass = 0;
    if (sampler == "top_p") {
      size_t n = 0;
      while (n < order.size() && mass < g.at("top_p").get<double>()) mass += p[order[n++]];
      order.resize(n);
    } else {
      for (const int64_t id : order) mass += p[id];
    }
    double left = u * mass;
    for (const int64_t id : order) {
      if ((left -= p[id]) < 0) return id;
    }
    return order.back();
  }

  void Maps(const std::string& prompt, const std::string& name, std::vector<int64_t> ids) const {
    if (static_cast<int64_t>(ids.size()) > longest_) ids.resize(longest_);
    const auto T = static_cast<int64_t>(ids.size());
    const auto asked = c_.settings.at("attention_layer").get<int64_t>();
    Extras extras{.want_attention = true, .attention_layer = asked};
    c_.bundle->Logits(0, at::tensor(ids, at::kLong).view({1, 1, T}).to(c_.bundle->device()),
                      &extras);
    if (!extras.attention.defined()) throw Infeasible("the layer was not executed: no map");
    const at::Tensor maps = extras.attention[0].to(at::kDouble).cpu().contiguous();  // [H, T, T]
    std::vector<std::string> texts;
    std::vector<int64_t> commas;
    for (int64_t t = 0; t < T; ++t) {
      texts.push_back(t == 0 ? "" : tokenizer_->Decode({ids[t]}));
      for (const char* comma : {",", "\xe3\x80\x81", "\xef\xbc\x8c"}) {
        if (texts.back().find(comma) != std::string::npos) {
          commas.push_back(t);
          break;
        }
      }
    }
    for (int64_t h = 0; h < maps.size(0); ++h) {
      const double* a = maps.data_ptr<double>() + h * T * T;
      std::vector<std::vector<double>> matrix;
      std::vector<double> entropy, thirds(3);
      std::vector<int64_t> n(3);
      double on_commas = 0;
      for (int64_t q = 0; q < T; ++q) {
        matrix.emplace_back(a + q * T, a + (q + 1) * T);
        double e = 0;
        for (const double p : matrix.back()) e -= p > 0 ? p * std::log(p) : 0;
        entropy.push_back(e);
        thirds[3 * q / T] += matrix.back()[q], ++n[3 * q / T];
        for (const int64_t k : commas) on_commas += matrix.back()[k];
      }
      json diagonal = json::array();
      for (int i = 0; i < 3; ++i)
        diagonal.push_back(n[i] == 0 ? json() : json(thirds[i] / static_cast<double>(n[i])));
      c_.Record("attention", name, h,
                {{"prompt", prompt},
                 {"layer", asked < 0 ? c_.spec.model.n_layers - 1 : asked},
                 {"head", h},
                 {"tokens", texts},
                 {"matrix", matrix},
                 {"mean_diagonal_thirds", diagonal},
                 {"row_entropy", entropy},
                 {"comma_mass", on_commas / static_cast<double>(T)}});
    }
  }

  const StageContext& c_;
  const std::unique_ptr<data::Tokenizer> tokenizer_;
  const int64_t longest_;
};

}  // namespace

static StageWork PlanProbe(const StageContext& c) {
  const json& s = c.settings;
  if (!c.spec.model.causal && (s.at("top_k") != 0 || !s.at("generate").is_null())) {
    throw Infeasible("a model of the mlm objective has no next token; ask for attention alone");
  }
  if (s.at("attention_layer").get<int64_t>() >= c.spec.model.n_layers) {
    throw Infeasible("attention_layer " + s.at("attention_layer").dump() + ": the model has " +
                     std::to_string(c.spec.model.n_layers) + " layers");
  }
  if (s.at("attention").get<bool>() && spec::Routed(c.spec.model))
    throw Infeasible("attention of a routed model: its layers run in an order of each text's own");
  const auto probe = std::make_shared<Probe>(c);
  StageWork work;
  for (size_t i = 0; i < s.at("prompts").size(); ++i)
    work.push_back([probe, i] { probe->Ask(static_cast<int64_t>(i)); });
  return work;
}

static const RegisterStage kProbe("probe", PlanProbe);

}  // namespace plumb::trainer
