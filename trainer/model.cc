#include "trainer/model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <stdexcept>

#include "trainer/components/block.h"
#include "trainer/spec/block_manifest.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parametrization.h"

namespace plumb::trainer {
namespace {

using at::Tensor;
using components::AttentionState;
using components::Context;
using components::Stream;
using spec::NormKind;

// Vaswani et al. 2017, 3.5: sine and cosine in turn, of angles t / 10000^(2i/d). [T, d]
Tensor Sinusoids(int64_t T, int64_t d, const at::TensorOptions& options) {
  const int64_t pairs = (d + 1) / 2;
  const Tensor frequency =
      at::pow(10000.0, at::arange(pairs, at::kDouble) * (-2.0 / static_cast<double>(d)));
  const Tensor angle = at::arange(T, at::kDouble).unsqueeze(1) * frequency.unsqueeze(0);
  return at::stack({angle.sin(), angle.cos()}, 2)
      .reshape({T, 2 * pairs})
      .narrow(1, 0, d)
      .to(options);
}

Tensor Embed(const Context& c, const Tensor& ids) {
  const int64_t M = c.B * c.T;
  const spec::ModelSpec& m = c.m;
  Tensor x = ops::Embedding(c.At("embed.weight"), ids.reshape({c.K, M}));  // [K, M, d]
  x = c.Scaled(x, "embed_gain", m.embed_scale);
  if (m.position == spec::PositionKind::kLearned) {
    if (c.T > m.max_positions) {
      throw std::invalid_argument("sequence of " + std::to_string(c.T) +
                                  " tokens, but max_positions is " +
                                  std::to_string(m.max_positions));
    }
    const Tensor positions = at::arange(c.T, ids.options()).repeat({c.K, c.B});  // [K, M]
    x = x + ops::Embedding(c.At("position.weight"), positions);
  }
  if (m.position == spec::PositionKind::kSinusoidal) {
    const Tensor table = Sinusoids(c.T, m.d_model, x.options().requires_grad(false));
    x = x + table.repeat({c.B, 1}).unsqueeze(0);
  }
  return components::Norm(c, x, "embed_norm", spec::KindOf(m.embed_norm, m.norm));
}

// The norm that reads block l's input first, "" where none does.
std::string FirstNormOf(const spec::ModelSpec& m, int64_t l) {
  const bool before =
      m.norm_place == spec::NormPlace::kPre || m.norm_place == spec::NormPlace::kPeri;
  return before && !m.embed_shortcut && m.block_plugin.empty() ? spec::BlockName(l) + "attn_norm"
                                                               : "";
}

void RunStack(const Context& c, AttentionState* state, Stream* s, NormKind final_kind) {
  for (int64_t l = 0; l < c.m.n_layers; ++l) {
    const bool last = l + 1 == c.m.n_layers;
    components::RunBlock(c, l, state, s, last ? "final_norm" : FirstNormOf(c.m, l + 1),
                         last ? final_kind : c.m.norm);
    components::KeepState(c, s->x);
  }
}

// Every other block as it is; each by itself, so that no norm is fused over one that does not run.
void RunSubstituted(const Context& c, AttentionState* state, Stream* s) {
  for (int64_t l = 0; l < c.m.n_layers; ++l) {
    const auto other = c.extras->substitutes->find(l);
    if (other == c.extras->substitutes->end()) {
      components::RunBlock(c, l, state, s, "", NormKind::kNone);
    } else if (const Substitute& map = other->second; map.weight.defined()) {
      s->x = at::matmul(s->x, map.weight) + map.bias;
      s->normed = Tensor();
    }
    components::KeepState(c, s->x);
  }
}

// Other orders of execution (Sun et al. 2024, "Transformer Layers as Painters").
void RunSchedule(const Context& c, AttentionState* state, Stream* s) {
  for (const std::vector<int64_t>& step : *c.extras->schedule) {
    Tensor sum;
    for (const int64_t l : step) {
      Stream one{.x = s->x, .embedding = s->embedding};
      components::RunBlock(c, l, state, &one, "", NormKind::kNone);
      sum = sum.defined() ? sum + one.x : one.x;
    }
    if (!step.empty()) {
      s->x = step.size() == 1 ? sum : sum / static_cast<double>(step.size());
      s->normed = Tensor();
    }
    components::KeepState(c, s->x);
  }
}

Tensor Head(const Context& c, Tensor normed) {
  const spec::ModelSpec& m = c.m;
  const double multiplier = spec::LogitMultiplier(m);
  if (multiplier != 1) normed = normed * multiplier;
  Tensor logits = m.tied_head ? ops::LinearTransposed(normed, c.At("embed.weight"))
                              : ops::Linear(normed, c.At("head.weight"), {});
  if (m.logit_softcap > 0) logits = at::tanh(logits / m.logit_softcap) * m.logit_softcap;
  return logits;
}

}  // namespace

ForwardTables::ForwardTables(const spec::ModelSpec& m, int64_t longest, at::Device device) {
  if (m.position != spec::PositionKind::kRope) return;
  const auto turning =
      static_cast<int64_t>(std::lround(m.rotary_fraction * static_cast<double>(m.head_dim)));
  const int64_t half = turning / 2;
  const auto frequency =
      at::pow(m.rope_base, at::arange(half, at::kDouble) * (-1.0 / static_cast<double>(half)));
  const auto angle = at::arange(longest, at::kDouble).unsqueeze(1) * frequency.unsqueeze(0);
  cos64_ = angle.cos().to(device), sin64_ = angle.sin().to(device);
  cos_ = cos64_.to(at::kFloat), sin_ = sin64_.to(at::kFloat);
}
at::Tensor ForwardTables::cos(int64_t T, at::ScalarType type) const {
  if (!cos_.defined()) return {};
  return (type == at::kDouble ? cos64_ : cos_).narrow(0, 0, T);
}
at::Tensor ForwardTables::sin(int64_t T, at::ScalarType type) const {
  if (!sin_.defined()) return {};
  return (type == at::kDouble ? sin64_ : sin_).narrow(0, 0, T);
}

Batching BatchingOf(const spec::ModelSpec& m) {
  const bool alone = spec::Routed(m) ||
                     (!m.block_plugin.empty() && !spec::ReadBlockManifest(m.block_plugin).batched);
  return alone ? Batching::kRowLoop : Batching::kBatched;
}

at::Tensor Forward(const spec::ModelSpec& m, const ForwardTables& tables,
                   const ParameterView& parameters, const at::Tensor& ids, Extras* extras) {
  const Context c{m, tables, parameters, ids.size(0), ids.size(1), ids.size(2), extras};
  if (c.K != 1 && BatchingOf(m) == Batching::kRowLoop) {
    throw std::invalid_argument("this model takes one row a pass");
  }
  Stream s{.x = Embed(c, ids)};
  s.embedding = s.x;
  if (extras != nullptr) extras->states.clear();
  components::KeepState(c, s.x);
  AttentionState state = components::StartAttention(c);
  const NormKind final_kind = spec::KindOf(m.final_norm, m.norm);
  if (spec::Routed(m)) {
    components::RunRouted(c, &state, &s);
  } else if (extras != nullptr && extras->schedule != nullptr) {
    RunSchedule(c, &state, &s);
  } else if (extras != nullptr && extras->substitutes != nullptr) {
    RunSubstituted(c, &state, &s);
  } else {
    RunStack(c, &state, &s, final_kind);
  }
  const Tensor out = components::NormOf(c, &s, "final_norm", final_kind);
  return extras != nullptr && extras->features ? out : Head(c, out);
}

at::Tensor Readout(const spec::ModelSpec& m, const ForwardTables& tables,
                   const ParameterView& parameters, const at::Tensor& stream) {
  const Context c{m, tables, parameters, stream.size(0), 1, stream.size(1), nullptr};
  return Head(c, components::Norm(c, stream, "final_norm", spec::KindOf(m.final_norm, m.norm)));
}

}  // namespace plumb::trainer
