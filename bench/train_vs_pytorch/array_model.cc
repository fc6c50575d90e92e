#include "bench/train_vs_pytorch/array_model.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace plumb::trainer {

ArrayModel::ArrayModel(const spec::ModelSpec& resolved, int64_t rows, int64_t seq_len)
    : model_(resolved), layout_(spec::LayoutOf(resolved)), rows_(rows), seq_len_(seq_len) {
  for (at::Tensor* arena : {&weights_, &grads_, &m_, &v_})
    *arena = at::zeros({rows, layout_.row_size});
  for (const spec::Parameter& p : layout_.parameters) {
    std::vector<int64_t> shape = p.shape;
    shape.insert(shape.begin(), rows);
    auto view = [&](const at::Tensor& arena) {
      return arena.narrow(1, p.offset, p.size()).view(shape).detach();
    };
    at::Tensor leaf = view(weights_).requires_grad_(true);
    leaf.mutable_grad() = view(grads_);
    leaves_[p.name] = leaf;
    bool decays = p.role != spec::Role::kGain && p.role != spec::Role::kBias;
    segments_.push_back(
        {.offset = p.offset, .size = p.size(), .lr_factor = 1, .weight_decay = decays ? 1.0 : 0.0});
  }
  int64_t half = resolved.head_dim / 2;
  if (resolved.position == spec::PositionKind::kRope) {
    at::Tensor frequency =
        at::pow(resolved.rope_base, at::arange(half, at::kDouble) * (-1.0 / half));
    at::Tensor angle = at::arange(seq_len, at::kDouble).unsqueeze(1) * frequency;
    cos_ = angle.cos().to(at::kFloat);
    sin_ = angle.sin().to(at::kFloat);
  }
}

at::Tensor ArrayModel::Value(const std::string& name, int64_t k) const {
  return leaves_.at(name).detach()[k];
}

int64_t ArrayModel::parameters() const {
  int64_t n = 0;
  for (const spec::Parameter& p : layout_.parameters) n += p.size();
  return n;
}

at::Tensor ArrayModel::Forward(const at::Tensor& ids) const {
  int64_t batch = ids.size(1), positions = batch * seq_len_;
  bool rms = model_.norm == spec::NormKind::kRmsNorm;
  auto weight = [&](const std::string& name) { return Parameter(name + ".weight"); };
  auto bias = [&](const std::string& name) {
    return layout_.contains(name + ".bias") ? Parameter(name + ".bias") : at::Tensor();
  };
  auto linear = [&](const at::Tensor& x, const std::string& name) {
    return ops::Linear(x, weight(name), bias(name));
  };
  at::Tensor x =
      ops::Embedding(Parameter("embed.weight"), ids.reshape({rows_, positions}));  // [K, M, d]
  if (model_.position == spec::PositionKind::kLearned) {
    at::Tensor times = at::arange(seq_len_, at::kLong).repeat({rows_, batch});
    x = x + ops::Embedding(Parameter("position.weight"), times);
  }
  // The stream and its norm; `branch` is what the last half-block wants added.
  at::Tensor branch, normed;
  auto add_and_norm = [&](const std::string& name) {
    if (!branch.defined()) {
      normed = rms ? ops::RmsNorm(x, weight(name), model_.norm_eps)
                   : ops::LayerNorm(x, weight(name), bias(name), model_.norm_eps);
      return;
    }
    ops::SumAndNorm out =
        rms ? ops::AddRmsNorm(x, branch, weight(name), model_.norm_eps)
            : ops::AddLayerNorm(x, branch, weight(name), bias(name), model_.norm_eps);
    x = out.sum;
    normed = out.normed;
  };
  for (int64_t l = 0; l < model_.n_layers; ++l) {
    std::string block = "blocks." + std::to_string(l) + ".";
    add_and_norm(block + "attn_norm");
    at::Tensor qkv = linear(normed, block + "attn.qkv");
    at::Tensor heads = ops::CausalAttention(qkv.view({rows_ * batch, seq_len_, qkv.size(2)}),
                                            model_.n_heads, model_.n_kv_heads, cos_, sin_);
    branch = linear(heads.view({rows_, positions, heads.size(2)}), block + "attn.out");
    add_and_norm(block + "mlp_norm");
    at::Tensor hidden = model_.mlp == spec::MlpKind::kSwiGlu
                            ? ops::SwiGlu(linear(normed, block + "mlp.gate_up"))
                            : ops::Gelu(linear(normed, block + "mlp.up"));
    branch = linear(hidden, block + "mlp.down");
  }
  add_and_norm("final_norm");
  return model_.tied_head ? ops::LinearTransposed(normed, Parameter("embed.weight"))
                          : ops::Linear(normed, Parameter("head.weight"), {});
}

std::vector<double> ArrayModel::Step(const at::Tensor& ids, const at::Tensor& targets,
                                     std::vector<ops::AdamWRow> rows,
                                     const std::vector<double>& decay, double clip) {
  int64_t positions = ids.size(1) * ids.size(2);
  at::Tensor sums = ops::CrossEntropySum(Forward(ids), targets.reshape({rows_, positions}));
  torch::autograd::backward({sums}, {at::full({rows_}, 1.0 / static_cast<double>(positions))});
  if (clip > 0) {
    std::vector<double> squares = ops::RowSquares(grads_);
    for (int64_t k = 0; k < rows_; ++k)
      rows[k].grad_scale = std::min(1.0, clip / std::sqrt(squares[k]));
  }
  ops::AdamWStep(weights_, grads_, m_, v_, rows, decay, segments_);
  std::vector<double> losses;
  for (int64_t k = 0; k < rows_; ++k)
    losses.push_back(sums.data_ptr<float>()[k] / static_cast<double>(positions));
  return losses;
}

}  // namespace plumb::trainer
