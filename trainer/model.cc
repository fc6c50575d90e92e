#include "trainer/model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <stdexcept>

#include "trainer/ops/ops.h"

namespace plumb::trainer {
namespace {

using at::Tensor;

class Pass {
 public:
  Pass(const spec::ModelSpec& m, const ForwardTables& tables, const ParameterView& parameters,
       const Tensor& ids)
      : m_(m),
        p_(parameters),
        K_(ids.size(0)),
        B_(ids.size(1)),
        T_(ids.size(2)),
        cos_(tables.cos(T_)),
        sin_(tables.sin(T_)) {
    if (m.position == spec::PositionKind::kLearned && T_ > m.max_positions) {
      throw std::invalid_argument("sequence of " + std::to_string(T_) +
                                  " tokens, but max_positions is " +
                                  std::to_string(m.max_positions));
    }
  }

  Tensor Run(const Tensor& ids) {
    const int64_t M = B_ * T_;
    Tensor x = ops::Embedding(At("embed.weight"), ids.reshape({K_, M}));  // [K, M, d]
    if (m_.position == spec::PositionKind::kLearned) {
      const Tensor positions = at::arange(T_, ids.options()).repeat({K_, B_});  // [K, M]
      x = x + ops::Embedding(At("position.weight"), positions);
    }
    Tensor normed = Norm(x, "blocks.0.attn_norm");
    for (int64_t l = 0; l < m_.n_layers; ++l) {
      const std::string block = "blocks." + std::to_string(l) + ".";
      Step(AddNorm(x, Attention(normed, block), block + "mlp_norm"), &x, &normed);
      const std::string next =
          l + 1 < m_.n_layers ? "blocks." + std::to_string(l + 1) + ".attn_norm" : "final_norm";
      Step(AddNorm(x, Mlp(normed, block), next), &x, &normed);
    }
    return m_.tied_head ? ops::LinearTransposed(normed, At("embed.weight"))
                        : ops::Linear(normed, At("head.weight"), {});
  }

 private:
  static void Step(ops::SumAndNorm s, Tensor* x, Tensor* normed) {
    *x = std::move(s.sum), *normed = std::move(s.normed);
  }
  const Tensor& At(const std::string& name) const { return p_.at(name); }
  Tensor Find(const std::string& name) const {
    const auto it = p_.find(name);
    return it == p_.end() ? Tensor() : it->second;
  }
  Tensor Linear(const Tensor& x, const std::string& name) const {
    return ops::Linear(x, At(name + ".weight"), Find(name + ".bias"));
  }

  Tensor Norm(const Tensor& x, const std::string& name) const {
    switch (m_.norm) {
      case spec::NormKind::kRmsNorm:
        return ops::RmsNorm(x, At(name + ".weight"), m_.norm_eps);
      case spec::NormKind::kLayerNorm:
        return ops::LayerNorm(x, At(name + ".weight"), At(name + ".bias"), m_.norm_eps);
    }
    return {};
  }
  ops::SumAndNorm AddNorm(const Tensor& x, const Tensor& branch, const std::string& name) const {
    switch (m_.norm) {
      case spec::NormKind::kRmsNorm:
        return ops::AddRmsNorm(x, branch, At(name + ".weight"), m_.norm_eps);
      case spec::NormKind::kLayerNorm:
        return ops::AddLayerNorm(x, branch, At(name + ".weight"), At(name + ".bias"), m_.norm_eps);
    }
    return {};
  }

  Tensor Attention(const Tensor& x, const std::string& block) const {
    const Tensor qkv = Linear(x, block + "attn.qkv").view({K_ * B_, T_, -1});  // [K*B, T, (H+2G) h]
    const Tensor mixed =
        ops::CausalAttention(qkv, m_.n_heads, m_.n_kv_heads, cos_, sin_);  // [K*B, T, H h]
    return Linear(mixed.view({K_, B_ * T_, m_.n_heads * m_.head_dim}),
                  block + "attn.out");  // [K, M, d]
  }
  Tensor Mlp(const Tensor& x, const std::string& block) const {
    switch (m_.mlp) {
      case spec::MlpKind::kSwiGlu:
        return Linear(ops::SwiGlu(Linear(x, block + "mlp.gate_up")), block + "mlp.down");
      case spec::MlpKind::kGelu:
        return Linear(ops::Gelu(Linear(x, block + "mlp.up")), block + "mlp.down");
    }
    return {};
  }

  const spec::ModelSpec& m_;
  const ParameterView& p_;
  const int64_t K_, B_, T_;
  const Tensor cos_, sin_;
};

}  // namespace

ForwardTables::ForwardTables(const spec::ModelSpec& m, int64_t longest, at::Device device) {
  if (m.position != spec::PositionKind::kRope) return;
  const int64_t half = m.head_dim / 2;
  const auto frequency =
      at::pow(m.rope_base, at::arange(half, at::kDouble) * (-1.0 / static_cast<double>(half)));
  const auto angle =
      at::arange(longest, at::kDouble).unsqueeze(1) * frequency.unsqueeze(0);  // [T, h/2]
  cos_ = angle.cos().to(at::kFloat).to(device);
  sin_ = angle.sin().to(at::kFloat).to(device);
}
at::Tensor ForwardTables::cos(int64_t T) const {
  return cos_.defined() ? cos_.narrow(0, 0, T) : at::Tensor();
}
at::Tensor ForwardTables::sin(int64_t T) const {
  return sin_.defined() ? sin_.narrow(0, 0, T) : at::Tensor();
}

at::Tensor Forward(const spec::ModelSpec& m, const ForwardTables& tables,
                   const ParameterView& parameters, const at::Tensor& ids) {
  return Pass(m, tables, parameters, ids).Run(ids);
}

}  // namespace plumb::trainer
