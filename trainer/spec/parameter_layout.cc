#include "trainer/spec/parameter_layout.h"

#include <cmath>
#include <stdexcept>

#include "trainer/spec/block_manifest.h"
#include "trainer/spec/parametrization.h"

namespace plumb::spec {
namespace {

using Kind = Init::Kind;

class Declarer {
 public:
  explicit Declarer(const ModelSpec& m)
      : m_(m), hidden_std_(m.init_std / std::sqrt(WidthRatio(m))) {}

  ParameterLayout Declare() {
    const int64_t d = m_.d_model;
    Matrix("embed.weight", {m_.vocab_size, d}, {Kind::kNormal, m_.init_std}, Role::kEmbedding, -1,
           false);
    if (m_.position == PositionKind::kLearned) {
      Matrix("position.weight", {m_.max_positions, d}, {Kind::kNormal, m_.init_std},
             Role::kPosition, -1, false);
    }
    if (m_.embed_scale_trainable) {
      Gain("embed_gain", 1, m_.embed_scale < 0 ? std::sqrt(d) : m_.embed_scale, -1);
    }
    Norm("embed_norm", KindOf(m_.embed_norm, m_.norm), m_.dyt_alpha_other, -1);
    for (int64_t l = 0; l < m_.n_layers; ++l) Block(l);
    if (Routed(m_)) Router();
    Norm("final_norm", KindOf(m_.final_norm, m_.norm), m_.dyt_alpha_other, -1);
    if (!m_.tied_head) {
      const Init init = m_.head_init == ZeroOrNormal::kZero ? Init{Kind::kZeros}
                                                            : Init{Kind::kNormal, m_.init_std};
      Matrix("head.weight", {d, m_.vocab_size}, init, Role::kReadout, -1, true);
    }
    return std::move(layout_);
  }

 private:
  void Add(Parameter p) {
    p.offset = layout_.row_size;
    layout_.row_size += (p.size() + 15) / 16 * 16;
    layout_.parameters.push_back(std::move(p));
  }
  void Matrix(const std::string& name, std::vector<int64_t> shape, Init init, Role role,
              int64_t layer, bool product) {
    Parameter p{name, std::move(shape), std::move(init), role, layer};
    p.product = product;
    Add(std::move(p));
  }
  void Gain(const std::string& name, int64_t n, double value, int64_t layer) {
    const Init init = value == 1 ? Init{Kind::kOnes} : Init{Kind::kConstant, 0, value};
    Add({name, {n}, init, Role::kGain, layer});
  }
  void Bias(const std::string& name, int64_t n, int64_t layer) {
    Add({name, {n}, {Kind::kZeros}, Role::kBias, layer});
  }
  // y = x W (+ b)
  void Linear(const std::string& name, int64_t in, int64_t out, Init init, bool bias,
              int64_t layer) {
    Matrix(name + ".weight", {in, out}, std::move(init), Role::kHidden, layer, true);
    if (bias) Bias(name + ".bias", out, layer);
  }
  Init Hidden() const { return {Kind::kNormal, hidden_std_}; }
  // Of the last matrix of a residual branch.
  Init BranchOutput() const {
    switch (m_.residual_init) {
      case ResidualInit::kDepth:
        return {Kind::kNormal, hidden_std_ / std::sqrt(2.0 * m_.n_layers)};
      case ResidualInit::kPlain:
        return Hidden();
      case ResidualInit::kZero:
        return {Kind::kZeros};
    }
    return {};
  }
  void Norm(const std::string& name, NormKind kind, double dyt_alpha, int64_t layer) {
    const int64_t d = m_.d_model;
    switch (kind) {
      case NormKind::kNone:
        return;
      case NormKind::kRmsNorm:
        if (m_.norm_weight) {
          const Init init{m_.norm_unit_offset ? Kind::kZeros : Kind::kOnes};
          Add({name + ".weight", {d}, init, Role::kGain, layer});
        }
        return;
      case NormKind::kLayerNorm:
        Add({name + ".weight", {d}, {Kind::kOnes}, Role::kGain, layer});
        Bias(name + ".bias", d, layer);
        return;
      case NormKind::kDyt:
        Gain(name + ".alpha", 1, dyt_alpha, layer);
        Add({name + ".weight", {d}, {Kind::kOnes}, Role::kGain, layer});
        if (m_.dyt_bias) Bias(name + ".bias", d, layer);
        return;
    }
  }

  void Block(int64_t l) {
    const std::string block = BlockName(l);
    const bool before = m_.norm_place != NormPlace::kOut;  // post: the norm of the sum
    const bool after = m_.norm_place == NormPlace::kOut || m_.norm_place == NormPlace::kPeri;
    const bool parallel = m_.block == BlockForm::kParallel;
    if (m_.embed_shortcut) {
      Gain(block + "embed_mix.stream", 1, 1, l);
      Gain(block + "embed_mix.embed", 1, 0, l);
    }
    if (!m_.block_plugin.empty()) return Plugin(block, l);
    if (before) Norm(block + "attn_norm", m_.norm, m_.dyt_alpha_attn, l);
    Attention(block + "attn.", l);
    if (after) Norm(block + "attn_post_norm", m_.norm, m_.dyt_alpha_other, l);
    if (before && (!parallel || m_.parallel_norms == ParallelNorms::kSeparate)) {
      Norm(block + "mlp_norm", m_.norm, m_.dyt_alpha_other, l);
    }
    Mlp(block + "mlp.", l);
    if (after) Norm(block + "mlp_post_norm", m_.norm, m_.dyt_alpha_other, l);
    if (m_.skip_attn_trainable) Gain(block + "attn_skip", 1, m_.skip_attn, l);
    if (m_.branch_attn_trainable) {
      Gain(block + "attn_branch", 1, BranchGain(m_, m_.branch_attn), l);
    }
    if (m_.skip_mlp_trainable) Gain(block + "mlp_skip", 1, m_.skip_mlp, l);
    if (m_.branch_mlp_trainable) Gain(block + "mlp_branch", 1, BranchGain(m_, m_.branch_mlp), l);
  }

  void Plugin(const std::string& block, int64_t l) {
    const BlockManifest manifest = ReadBlockManifest(m_.block_plugin);
    for (const BlockParameter& p : manifest.parameters) {
      using BlockKind = BlockParameter::Kind;
      std::vector<int64_t> shape;
      for (const std::string& size : p.shape) shape.push_back(EvaluateShape(size, m_));
      Parameter out{block + p.name, std::move(shape), {}, Role::kHidden, l};
      out.product = p.kind == BlockKind::kMatrix;
      if (p.kind == BlockKind::kGain) out.role = Role::kGain;
      if (p.kind == BlockKind::kBias) out.role = Role::kBias;
      if (p.init == "normal") {
        out.init = Hidden();
      } else if (p.init == "output") {
        out.init = BranchOutput();
      } else if (p.init == "ones" || p.init == "zeros") {
        out.init = {p.init == "ones" ? Kind::kOnes : Kind::kZeros};
      } else {
        out.init = {Kind::kConstant, 0, std::stod(p.init)};
      }
      Add(std::move(out));
    }
  }

  void Attention(const std::string& attn, int64_t l) {
    const int64_t d = m_.d_model, q = m_.n_heads * m_.head_dim, kv = m_.n_kv_heads * m_.head_dim;
    const AttentionBias b = m_.attn_bias;
    const bool follow = b == AttentionBias::kDefault && m_.bias;
    const bool qk_bias = follow || b == AttentionBias::kQk || b == AttentionBias::kQkv;
    const bool v_bias = follow || b == AttentionBias::kQkv;
    if (m_.qkv == QkvForm::kFused) {
      Linear(attn + "qkv", d, q + 2 * kv, Hidden(), v_bias, l);
    } else {
      Linear(attn + "q", d, q, m_.query_init == QueryInit::kZero ? Init{Kind::kZeros} : Hidden(),
             qk_bias, l);
      Linear(attn + "k", d, kv, Hidden(), qk_bias, l);
      Value(attn + "v", v_bias, l);
    }
    if (m_.vp == ValueProjection::kFull) {
      Init init = BranchOutput();
      if (m_.vp_init == ValueInit::kOrthogonal) init = {Kind::kOrthogonal};
      if (m_.vp_init == ValueInit::kTiedOrthogonal)
        init = {Kind::kTransposeOf, 0, 0, attn + "v.weight"};
      const bool bias =
          m_.attn_out_bias == OnOff::kOn || (m_.attn_out_bias == OnOff::kDefault && m_.bias);
      Linear(attn + "out", q, d, init, bias, l);
    } else if (m_.vp == ValueProjection::kReparam) {
      Reparam(attn + "out", m_.vp_init, m_.vp_alpha, m_.vp_beta, m_.vp_gains_trainable, l);
    }
    if (m_.attn_matrix == AttentionMatrix::kDifferential) {
      for (const char* vector : {"lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"}) {
        Add({attn + vector, {m_.head_dim}, {Kind::kNormal, 0.1}, Role::kGain, l});
      }
      if (m_.norm_weight) {
        const Init init{m_.norm_unit_offset ? Kind::kZeros : Kind::kOnes};
        Add({attn + "pair_norm.weight", {2 * m_.head_dim}, init, Role::kGain, l});
      }
    } else if (m_.attn_matrix != AttentionMatrix::kPlain) {
      const int64_t n = m_.attn_gains == GainScope::kHead ? m_.n_heads : 1;
      const bool shaped = m_.attn_matrix == AttentionMatrix::kShaped;
      Gain(attn + "alpha", n, 1, l);
      Gain(attn + "beta", n, shaped ? 1 : 0, l);
      if (shaped) Gain(attn + "gamma", n, 1, l);
    }
    if (m_.qk_norm != QkNorm::kNone && m_.norm_weight) {
      const bool head = m_.qk_norm == QkNorm::kHead;
      const Init init{m_.norm_unit_offset ? Kind::kZeros : Kind::kOnes};
      Add({attn + "q_norm.weight", {head ? m_.head_dim : q}, init, Role::kGain, l});
      Add({attn + "k_norm.weight", {head ? m_.head_dim : kv}, init, Role::kGain, l});
    }
    if (m_.score_bias != ScoreBias::kNone) {
      const Init init = m_.score_bias_init == ZeroOrNormal::kZero ? Init{Kind::kZeros} : Hidden();
      int64_t in = d;
      if (m_.score_bias == ScoreBias::kMlp) {
        in = m_.score_bias_hidden;
        Linear(attn + "score_bias.hidden", d, in, Hidden(), true, l);
      }
      Linear(attn + "score_bias", in, m_.score_bias_max, init, true, l);
    }
    if (m_.value_residual == ValueResidual::kTrainable && l > 0) {
      Gain(attn + "value_mix", 1, m_.value_residual_mix, l);
    }
  }
  void Value(const std::string& v, bool bias, int64_t l) {
    switch (m_.vp) {
      case ValueProjection::kFull: {
        const bool orthogonal =
            m_.vp_init == ValueInit::kOrthogonal || m_.vp_init == ValueInit::kTiedOrthogonal;
        Linear(v, m_.d_model, m_.n_kv_heads * m_.head_dim,
               orthogonal ? Init{Kind::kOrthogonal} : Hidden(), bias, l);
        return;
      }
      case ValueProjection::kIdentity:
        if (l == 0 && m_.first_value == FirstValue::kReparam) {
          Reparam(v, ValueInit::kIdentity, 1, 1, true, l);
        }
        return;
      case ValueProjection::kReparam:
        Reparam(v, m_.vp_init, m_.vp_alpha, m_.vp_beta, m_.vp_gains_trainable, l);
        return;
    }
  }
  // alpha W0 + beta dW, square.
  void Reparam(const std::string& name, ValueInit w0, double alpha, double beta, bool trainable,
               int64_t l) {
    const int64_t d = m_.d_model;
    Matrix(name + ".weight", {d, d}, {Kind::kZeros}, Role::kHidden, l, true);
    if (w0 != ValueInit::kIdentity) {
      const bool transpose = w0 == ValueInit::kTiedOrthogonal && name.ends_with("out");
      Parameter p{name + ".fixed", {d, d}, Hidden(), Role::kHidden, l};
      if (w0 != ValueInit::kNormal) p.init = {Kind::kOrthogonal};
      if (transpose) p.init = {Kind::kTransposeOf, 0, 0, BlockName(l) + "attn.v.fixed"};
      p.trainable = false;
      Add(std::move(p));
    }
    if (trainable) {
      Gain(name + ".alpha", 1, alpha, l);
      Gain(name + ".beta", 1, beta, l);
    }
  }

  void Mlp(const std::string& mlp, int64_t l) {
    const int64_t d = m_.d_model, f = m_.d_ff;
    const bool bias = m_.mlp_bias == OnOff::kOn || (m_.mlp_bias == OnOff::kDefault && m_.bias);
    if (Gated(m_.mlp)) {
      Linear(mlp + "gate_up", d, 2 * f, Hidden(), bias, l);
    } else {
      Linear(mlp + "up", d, f, Hidden(), bias, l);
    }
    Linear(mlp + "down", f, d, BranchOutput(), bias, l);
  }

  void Router() {
    const RouterSpec& r = m_.router;
    const int64_t choices = m_.n_layers + 1, d = m_.d_model;
    const bool learns = r.gate != RouterGate::kFrozen && r.gate != RouterGate::kRandom &&
                        r.gate != RouterGate::kFixed;
    if (r.gate == RouterGate::kRandom || r.gate == RouterGate::kFixed) return;
    for (int64_t s = 0; s < (r.shared ? 1 : r.steps); ++s) {
      const std::string name = "router." + std::to_string(s) + ".";
      // Choice 0 is the skip, choice j the block j - 1.
      Parameter weight{name + "weight", {d, choices}, {Kind::kNormal, r.init_std}, Role::kRouter};
      Parameter bias{name + "bias", {choices}, {Kind::kZeros}, Role::kRouter};
      if (r.init == RouterInit::kIdentity) {
        weight.init = {Kind::kZeros};
        bias.init = {Kind::kOneHot, 0, r.init_bias, std::to_string(s + 1)};
      }
      weight.trainable = bias.trainable = learns;
      Add(std::move(weight));
      Add(std::move(bias));
    }
  }

  const ModelSpec& m_;
  const double hidden_std_;
  ParameterLayout layout_;
};

}  // namespace

const char* Name(Role role) {
  switch (role) {
    case Role::kEmbedding:
      return "embedding";
    case Role::kPosition:
      return "position";
    case Role::kHidden:
      return "hidden";
    case Role::kReadout:
      return "readout";
    case Role::kGain:
      return "gain";
    case Role::kBias:
      return "bias";
    case Role::kRouter:
      return "router";
  }
  return "?";
}

const Parameter& ParameterLayout::at(const std::string& name) const {
  for (const Parameter& p : parameters) {
    if (p.name == name) return p;
  }
  throw std::out_of_range("no parameter " + name);
}

bool ParameterLayout::contains(const std::string& name) const {
  for (const Parameter& p : parameters) {
    if (p.name == name) return true;
  }
  return false;
}

std::string BlockName(int64_t l) { return "blocks." + std::to_string(l) + "."; }

NormKind KindOf(OuterNorm v, NormKind same) {
  switch (v) {
    case OuterNorm::kSame:
      return same;
    case OuterNorm::kRmsNorm:
      return NormKind::kRmsNorm;
    case OuterNorm::kLayerNorm:
      return NormKind::kLayerNorm;
    case OuterNorm::kNone:
      return NormKind::kNone;
  }
  return NormKind::kNone;
}

double BranchGain(const ModelSpec& m, double branch) {
  return m.branch_scale == BranchScale::kDepth ? branch / std::sqrt(m.n_layers) : branch;
}

ParameterLayout LayoutOf(const ModelSpec& m) { return Declarer(m).Declare(); }

}  // namespace plumb::spec
