#include "trainer/spec/parameter_layout.h"

#include <cmath>
#include <stdexcept>

namespace plumb::spec {
namespace {

class Declarer {
 public:
  explicit Declarer(const ModelSpec& m) : m_(m) {}

  void Normal(const std::string& name, std::vector<int64_t> shape, double std, Role role,
              int64_t layer) {
    Add({name, std::move(shape), {Init::Kind::kNormal, std}, role, layer});
  }
  // y = x W (+ b)
  void Linear(const std::string& name, int64_t in, int64_t out, double std, int64_t layer) {
    Normal(name + ".weight", {in, out}, std, Role::kHidden, layer);
    if (m_.bias) Add({name + ".bias", {out}, {Init::Kind::kZeros}, Role::kBias, layer});
  }
  void Norm(const std::string& name, int64_t layer) {
    Add({name + ".weight", {m_.d_model}, {Init::Kind::kOnes}, Role::kGain, layer});
    if (m_.norm == NormKind::kLayerNorm)
      Add({name + ".bias", {m_.d_model}, {Init::Kind::kZeros}, Role::kBias, layer});
  }
  ParameterLayout Take() { return std::move(layout_); }

 private:
  void Add(Parameter p) {
    p.offset = layout_.row_size;
    layout_.row_size += (p.size() + 15) / 16 * 16;
    layout_.parameters.push_back(std::move(p));
  }
  const ModelSpec& m_;
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

ParameterLayout LayoutOf(const ModelSpec& m) {
  Declarer declare(m);
  const int64_t d = m.d_model;
  const double branch_std =
      m.init_std / std::sqrt(2.0 * m.n_layers);  // GPT-2's scaling of residual outputs
  declare.Normal("embed.weight", {m.vocab_size, d}, m.init_std, Role::kEmbedding, -1);
  if (m.position == PositionKind::kLearned) {
    declare.Normal("position.weight", {m.max_positions, d}, m.init_std, Role::kPosition, -1);
  }
  for (int64_t l = 0; l < m.n_layers; ++l) {
    const std::string block = "blocks." + std::to_string(l) + ".";
    declare.Norm(block + "attn_norm", l);
    declare.Linear(block + "attn.qkv", d, (m.n_heads + 2 * m.n_kv_heads) * m.head_dim, m.init_std,
                   l);
    declare.Linear(block + "attn.out", m.n_heads * m.head_dim, d, branch_std, l);
    declare.Norm(block + "mlp_norm", l);
    switch (m.mlp) {
      case MlpKind::kSwiGlu:
        declare.Linear(block + "mlp.gate_up", d, 2 * m.d_ff, m.init_std, l);
        break;
      case MlpKind::kGelu:
        declare.Linear(block + "mlp.up", d, m.d_ff, m.init_std, l);
        break;
    }
    declare.Linear(block + "mlp.down", m.d_ff, d, branch_std, l);
  }
  declare.Norm("final_norm", -1);
  if (!m.tied_head)
    declare.Normal("head.weight", {d, m.vocab_size}, m.init_std, Role::kReadout, -1);
  return declare.Take();
}

}  // namespace plumb::spec
