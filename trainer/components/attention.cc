#include <cmath>
#include <limits>

#include "trainer/components/context.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parametrization.h"

namespace plumb::trainer::components {
namespace {

using at::Tensor;
using spec::AttentionMatrix;
using spec::ModelSpec;
using spec::ValueProjection;

// Slopes of ALiBi (Press et al. 2022): 2^(-8n/H), n = 1 … H; where H is no power of two, those of
// the next smaller one and then the odd ones of the next larger.
std::vector<double> AlibiSlopes(int64_t heads) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<double> slopes;
  for (int64_t n = 1; n <= power; ++n) slopes.push_back(std::exp2(-8.0 * n / power));
  for (int64_t n = 1; static_cast<int64_t>(slopes.size()) < heads; n += 2) {
    slopes.push_back(std::exp2(-8.0 * n / (2 * power)));
  }
  return slopes;
}

// 0 where a query sees a key, -inf where not, and ALiBi's bias. [1 or H, T, T]
Tensor Mask(const ModelSpec& m, int64_t T, int64_t window, const at::TensorOptions& options) {
  const Tensor position = at::arange(T, options);
  const Tensor distance = position.unsqueeze(1) - position.unsqueeze(0);  // query - key
  Tensor hidden = at::zeros({T, T}, options.dtype(at::kBool));
  if (m.causal) hidden = hidden.logical_or(distance < 0);
  if (window > 0) hidden = hidden.logical_or(distance >= window);
  Tensor mask = at::zeros({1, T, T}, options);
  if (m.position == spec::PositionKind::kAlibi) {
    const Tensor slopes =
        at::tensor(AlibiSlopes(m.n_heads), options.dtype(at::kDouble)).to(options.dtype());
    mask = -slopes.view({-1, 1, 1}) * distance.abs().unsqueeze(0);
  }
  return mask.masked_fill(hidden.unsqueeze(0), -std::numeric_limits<double>::infinity());
}

// [N, T, G, h] → [N, H, T, h]
Tensor Widened(const Tensor& kv, int64_t heads) {
  const int64_t groups = kv.size(2);
  Tensor wide = kv;
  if (groups != heads) {
    wide = kv.unsqueeze(3)
               .expand({kv.size(0), kv.size(1), groups, heads / groups, kv.size(3)})
               .reshape({kv.size(0), kv.size(1), heads, kv.size(3)});
  }
  return wide.transpose(1, 2);
}

// The first `turning` of a head's width rotate; pairs are halves, or neighbours.
Tensor Rotated(const ModelSpec& m, const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t turning = 2 * cos.size(1), h = x.size(3);
  const Tensor head = turning == h ? x : x.narrow(3, 0, turning).contiguous();
  Tensor y;
  if (m.rope_style == spec::RopeStyle::kHalf) {
    y = ops::Rope(head, cos, sin);
  } else {
    const Tensor pairs = head.reshape({x.size(0), x.size(1), x.size(2), turning / 2, 2});
    const Tensor a = pairs.select(4, 0), b = pairs.select(4, 1);
    const Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
    y = at::stack({a * c - b * s, b * c + a * s}, 4).reshape(head.sizes());
  }
  return turning == h ? y : at::cat({y, x.narrow(3, turning, h - turning)}, 3);
}

class Attender {
 public:
  Attender(const Context& c, int64_t l, AttentionState* state)
      : c_(c), m_(c.m), l_(l), name_(spec::BlockName(l) + "attn."), N_(c.K * c.B), state_(state) {
    if (m_.position == spec::PositionKind::kRope) {
      const at::ScalarType type = c.parameters.begin()->second.scalar_type();
      cos_ = c.tables.cos(c.T, type), sin_ = c.tables.sin(c.T, type);
    }
  }

  Tensor Run(const Tensor& x) {
    if (!Plain() || WantsMap()) return Project(General(x));
    Tensor qkv = c_.Linear(x, name_ + "qkv");
    if (m_.qkv_act == spec::QkvActivation::kGelu) qkv = at::gelu(qkv, "none");
    const Tensor mixed = ops::CausalAttention(qkv.view({N_, c_.T, -1}), m_.n_heads, m_.n_kv_heads,
                                              cos_, sin_, spec::ScoreScale(m_), m_.causal);
    return Project(mixed.view({c_.K, c_.B * c_.T, m_.n_heads * m_.head_dim}));
  }

 private:
  bool WantsMap() const {
    if (c_.extras == nullptr || !c_.extras->want_attention) return false;
    const int64_t wanted = c_.extras->attention_layer;
    return l_ == (wanted < 0 ? m_.n_layers - 1 : wanted);
  }
  // One packed linear, straight into the fused operation.
  bool Plain() const {
    return m_.qkv == spec::QkvForm::kFused && m_.attn_matrix == AttentionMatrix::kPlain &&
           m_.score_bias == spec::ScoreBias::kNone && m_.qk_norm == spec::QkNorm::kNone &&
           m_.attn_softcap == 0 && !MaskOfBlock().defined() &&
           m_.value_residual == spec::ValueResidual::kNone && m_.rotary_fraction == 1 &&
           m_.rope_style == spec::RopeStyle::kHalf;
  }
  Tensor MaskOfBlock() const {
    const bool windowed =
        m_.attn_window > 0 && (m_.attn_window_pattern == spec::WindowPattern::kAll || l_ % 2 == 0);
    return windowed ? state_->windowed_mask : state_->mask;
  }
  Tensor Heads(const Tensor& x, int64_t heads) const {
    return x.view({N_, c_.T, heads, m_.head_dim});
  }

  // [K, M, H h] before the output projection.
  Tensor General(const Tensor& x) {
    const int64_t H = m_.n_heads, G = m_.n_kv_heads, h = m_.head_dim;
    Tensor q, k, v;  // [K, M, heads * h]
    if (m_.qkv == spec::QkvForm::kFused) {
      Tensor qkv = c_.Linear(x, name_ + "qkv");
      if (m_.qkv_act == spec::QkvActivation::kGelu) qkv = at::gelu(qkv, "none");
      const auto parts = qkv.split_with_sizes({H * h, G * h, G * h}, 2);
      q = parts[0].contiguous(), k = parts[1].contiguous(), v = parts[2].contiguous();
    } else {
      q = c_.Linear(x, name_ + "q"), k = c_.Linear(x, name_ + "k"), v = Value(x);
      if (m_.qkv_act == spec::QkvActivation::kGelu) {
        q = at::gelu(q, "none"), k = at::gelu(k, "none"), v = at::gelu(v, "none");
      }
    }
    v = WithFirstValue(v);
    if (m_.qk_norm != spec::QkNorm::kNone) {
      const bool head = m_.qk_norm == spec::QkNorm::kHead;
      q = Normed(q, head ? H : 1, "q_norm.weight"), k = Normed(k, head ? G : 1, "k_norm.weight");
    }
    q = Heads(q, H), k = Heads(k, G);
    if (cos_.defined()) q = Rotated(m_, q, cos_, sin_), k = Rotated(m_, k, cos_, sin_);
    if (m_.attn_matrix == AttentionMatrix::kDifferential) return Differential(x, q, k, v);
    const Tensor mixed = Mix(x, q.transpose(1, 2), Widened(k, H), Widened(Heads(v, G), H));
    const Tensor flat = mixed.transpose(1, 2).reshape({c_.K, c_.B * c_.T, H * h});
    if (m_.attn_matrix == AttentionMatrix::kPlain) return flat;
    return ops::ShapedMix(flat, v, c_.At(name_ + "alpha"), c_.At(name_ + "beta"),
                          c_.Find(name_ + "gamma"), c_.T, m_.causal);
  }

  Tensor Value(const Tensor& x) const {
    const std::string v = name_ + "v";
    if (m_.vp == ValueProjection::kFull) return c_.Linear(x, v);
    if (m_.vp == ValueProjection::kReparam) return Reparam(x, v, m_.vp_alpha, m_.vp_beta);
    return c_.Find(v + ".weight").defined() ? Reparam(x, v, 1, 1) : x;
  }
  // x (alpha W0 + beta dW), W0 = I where nothing is stored.
  Tensor Reparam(const Tensor& x, const std::string& name, double alpha, double beta) const {
    const Tensor fixed = c_.Find(name + ".fixed");
    const Tensor base = fixed.defined() ? ops::Linear(x, fixed, {}) : x;
    return c_.Scaled(base, name + ".alpha", alpha) +
           c_.Scaled(c_.Linear(x, name), name + ".beta", beta);
  }
  Tensor WithFirstValue(const Tensor& v) {
    if (m_.value_residual == spec::ValueResidual::kNone) return v;
    if (l_ == 0) {
      state_->first_value = v;
      return v;
    }
    const Tensor& first = state_->first_value;
    const Tensor mix = c_.Find(name_ + "value_mix");
    if (!mix.defined()) {
      return v * (1 - m_.value_residual_mix) + first * m_.value_residual_mix;
    }
    return v + ops::ScaleRows(first - v, mix);
  }
  // RMSNorm of each of the `parts` that a position's x [K, M, ·] is made of.
  Tensor Normed(const Tensor& x, int64_t parts, const char* gain) const {
    const Tensor rows = x.reshape({c_.K, c_.B * c_.T * parts, x.size(2) / parts});
    Tensor w = c_.Find(name_ + gain);
    if (!w.defined()) w = at::ones({c_.K, rows.size(2)}, x.options().requires_grad(false));
    if (m_.norm_unit_offset) w = w + 1;
    return ops::RmsNorm(rows, w, m_.norm_eps, m_.norm_eps_inside).view(x.sizes());
  }

  // Ye et al. 2024 (arXiv 2410.05258), eqs. 1 to 3: heads 2j and 2j + 1 are two maps over one value
  // of width 2h, norm((A1 - lambda A2) v) (1 - lambda_init) with lambda =
  // exp(q1 k1) - exp(q2 k2) + lambda_init, lambda_init = 0.8 - 0.6 exp(-0.3 l), l from 0.
  Tensor Differential(const Tensor& x, const Tensor& q, const Tensor& k, const Tensor& v) const {
    const int64_t H = m_.n_heads, h = m_.head_dim;
    const double first = 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(l_));
    const auto product = [&](const char* a, const char* b) {  // [K, 1]
      return at::bmm(c_.At(name_ + a).unsqueeze(1), c_.At(name_ + b).unsqueeze(2)).squeeze(2);
    };
    const Tensor lambda = at::exp(product("lambda_q1", "lambda_k1")) -
                          at::exp(product("lambda_q2", "lambda_k2")) + first;
    const Tensor values = Widened(v.view({N_, c_.T, H / 2, 2 * h}), H);
    const Tensor mixed = Mix(x, q.transpose(1, 2), k.transpose(1, 2), values);  // [N, H, T, 2h]
    const Tensor maps = mixed.view({N_, H / 2, 2, c_.T, 2 * h});
    const auto flat = [&](int64_t map) {
      return maps.select(2, map).transpose(1, 2).reshape({c_.K, c_.B * c_.T, H * h});
    };
    const Tensor difference = flat(0) - ops::ScaleRows(flat(1), lambda);
    return Normed(difference, H / 2, "pair_norm.weight") * (1 - first);
  }

  // softmax(scores) v; q, k [N, H, T, h], v [N, H, T, w] → [N, H, T, w].
  Tensor Mix(const Tensor& x, const Tensor& q, const Tensor& k, const Tensor& v) const {
    const double scale = spec::ScoreScale(m_);
    Tensor mask = MaskOfBlock();
    const bool dense = m_.attn_softcap > 0 || m_.score_bias != spec::ScoreBias::kNone || WantsMap();
    if (!dense) {
      std::optional<Tensor> bias;
      if (mask.defined()) bias = mask.unsqueeze(0);
      // The fused kernel wants one width; zeros add nothing to a score.
      const int64_t more = v.size(3) - q.size(3);
      const auto wide = [&](const Tensor& t) {
        return more > 0 ? at::constant_pad_nd(t, {0, more}) : t;
      };
      return at::scaled_dot_product_attention(wide(q), wide(k), v, bias, 0.0,
                                              m_.causal && !mask.defined(), scale);
    }
    Tensor scores = at::matmul(q, k.transpose(2, 3)) * scale;  // [N, H, T, T]
    if (m_.score_bias != spec::ScoreBias::kNone) scores = scores + Bias(x).unsqueeze(1);
    if (m_.attn_softcap > 0) scores = at::tanh(scores / m_.attn_softcap) * m_.attn_softcap;
    if (!mask.defined() && m_.causal) mask = Mask(m_, c_.T, 0, scores.options());
    if (mask.defined()) scores = scores + mask.unsqueeze(0);
    const Tensor weights = at::softmax(scores, -1);
    if (WantsMap()) c_.extras->attention = weights.detach();
    return at::matmul(weights, v);
  }
  // [N, T, T]: row t from x_t alone, one column a key position.
  Tensor Bias(const Tensor& x) const {
    Tensor in = x;
    if (m_.score_bias == spec::ScoreBias::kMlp) {
      in = at::gelu(c_.Linear(x, name_ + "score_bias.hidden"), "none");
    }
    const Tensor weight = c_.At(name_ + "score_bias.weight"),
                 bias = c_.At(name_ + "score_bias.bias");
    const Tensor columns = c_.T == weight.size(2) ? ops::Linear(in, weight, bias)
                                                  : ops::Linear(in, weight.narrow(2, 0, c_.T),
                                                                bias.narrow(1, 0, c_.T));
    return columns.reshape({N_, c_.T, c_.T});
  }
  Tensor Project(const Tensor& mixed) const {
    switch (m_.vp) {
      case ValueProjection::kFull:
        return c_.Linear(mixed, name_ + "out");
      case ValueProjection::kReparam:
        return Reparam(mixed, name_ + "out", m_.vp_alpha, m_.vp_beta);
      case ValueProjection::kIdentity:
        return mixed;
    }
    return {};
  }

  const Context& c_;
  const ModelSpec& m_;
  const int64_t l_;
  const std::string name_;
  const int64_t N_;  // texts of all rows
  AttentionState* state_;
  Tensor cos_, sin_;
};

}  // namespace

AttentionState StartAttention(const Context& c) {
  AttentionState state;
  const at::TensorOptions options = c.parameters.begin()->second.options().requires_grad(false);
  if (c.m.position == spec::PositionKind::kAlibi) state.mask = Mask(c.m, c.T, 0, options);
  if (c.m.attn_window > 0) {
    // Within the window there is nothing to hide but the future.
    if (c.T > c.m.attn_window) {
      state.windowed_mask = Mask(c.m, c.T, c.m.attn_window, options);
    } else {
      state.windowed_mask = state.mask;
    }
  }
  return state;
}

Tensor Attention(const Context& c, const Tensor& x, int64_t l, AttentionState* state) {
  return Attender(c, l, state).Run(x);
}

}  // namespace plumb::trainer::components
