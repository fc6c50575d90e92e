#include "trainer/components/block.h"

#include <cmath>

#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parametrization.h"

namespace plumb::trainer::components {
namespace {

using at::Tensor;
using spec::ModelSpec;
using spec::NormKind;
using spec::NormPlace;

// What surrounds one of a block's two branches.
struct Branch {
  std::string norm, post_norm;  // names; the norm's input or, after, its sum
  std::string skip_name, gain_name;
  double skip = 1, gain = 1;
};

Branch AttentionBranch(const ModelSpec& m, const std::string& block) {
  return {block + "attn_norm", block + "attn_post_norm",
          block + "attn_skip", block + "attn_branch",
          m.skip_attn,         spec::BranchGain(m, m.branch_attn)};
}
Branch MlpBranch(const ModelSpec& m, const std::string& block) {
  return {block + "mlp_norm", block + "mlp_post_norm",
          block + "mlp_skip", block + "mlp_branch",
          m.skip_mlp,         spec::BranchGain(m, m.branch_mlp)};
}

bool HasInputNorm(const ModelSpec& m) {
  return m.norm_place == NormPlace::kPre || m.norm_place == NormPlace::kPeri;
}
bool HasOutputNorm(const ModelSpec& m) {
  return m.norm_place == NormPlace::kOut || m.norm_place == NormPlace::kPeri;
}

// LayerNorm scaling (arXiv 2502.05795): / sqrt(l), l from 1.
Tensor DepthScaled(const ModelSpec& m, const Tensor& normed, int64_t l) {
  return m.norm_scaling == spec::NormScaling::kDepth
             ? normed * (1 / std::sqrt(static_cast<double>(l + 1)))
             : normed;
}

Tensor Input(const Context& c, const Branch& b, int64_t l, Stream* s) {
  if (!HasInputNorm(c.m)) return s->x;
  return DepthScaled(c.m, NormOf(c, s, b.norm, c.m.norm), l);
}

// Output norm, gain and the depth's multiplier.
Tensor Output(const Context& c, const Branch& b, int64_t l, Tensor y) {
  if (HasOutputNorm(c.m)) y = DepthScaled(c.m, Norm(c, y, b.post_norm, c.m.norm), l);
  const double multiplier = spec::ResidualMultiplier(c.m);
  y = c.Scaled(y, b.gain_name, b.gain);
  return multiplier == 1 ? y : y * multiplier;
}

// x <- skip x + branch, and the next norm with it where that can be fused.
void Join(const Context& c, const Branch& b, const Tensor& branch, Stream* s,
          const std::string& next, NormKind next_kind) {
  s->normed = Tensor();
  const bool trained_skip = c.parameters.count(b.skip_name) > 0;
  if (!trained_skip && b.skip == 0) {
    s->x = branch;
  } else if (trained_skip || b.skip != 1) {
    s->x = c.Scaled(s->x, b.skip_name, b.skip) + branch;
  } else if (!next.empty() && CanAddNorm(c, next_kind)) {
    ops::SumAndNorm sum = AddNorm(c, s->x, branch, next, next_kind);
    s->x = std::move(sum.sum), s->normed = std::move(sum.normed), s->normed_by = next;
  } else {
    s->x = s->x + branch;
  }
}

void Sequential(const Context& c, int64_t l, AttentionState* state, Stream* s,
                const std::string& next, NormKind next_kind) {
  const std::string block = spec::BlockName(l);
  const Branch attention = AttentionBranch(c.m, block), mlp = MlpBranch(c.m, block);
  const bool post = c.m.norm_place == NormPlace::kPost;
  const std::string within = post ? attention.norm : HasInputNorm(c.m) ? mlp.norm : "";
  const Tensor mixed = Attention(c, Input(c, attention, l, s), l, state);
  Join(c, attention, Output(c, attention, l, mixed), s, within, c.m.norm);
  if (post) s->x = DepthScaled(c.m, NormOf(c, s, attention.norm, c.m.norm), l);
  const Tensor hidden = Mlp(c, Input(c, mlp, l, s), l);
  Join(c, mlp, Output(c, mlp, l, hidden), s, post ? mlp.norm : next, post ? c.m.norm : next_kind);
  if (post) s->x = DepthScaled(c.m, NormOf(c, s, mlp.norm, c.m.norm), l);
}

void Parallel(const Context& c, int64_t l, AttentionState* state, Stream* s,
              const std::string& next, NormKind next_kind) {
  const std::string block = spec::BlockName(l);
  const Branch attention = AttentionBranch(c.m, block), mlp = MlpBranch(c.m, block);
  const bool shared = c.m.parallel_norms == spec::ParallelNorms::kShared;
  const bool post = c.m.norm_place == NormPlace::kPost;
  const Tensor in = Input(c, attention, l, s);
  const Tensor in_mlp = shared ? in : Input(c, mlp, l, s);
  const Tensor sum =
      Output(c, attention, l, Attention(c, in, l, state)) + Output(c, mlp, l, Mlp(c, in_mlp, l));
  Join(c, mlp, sum, s, post ? attention.norm : next, post ? c.m.norm : next_kind);
  if (post) s->x = DepthScaled(c.m, NormOf(c, s, attention.norm, c.m.norm), l);
}

}  // namespace

Tensor NormOf(const Context& c, Stream* s, const std::string& name, NormKind kind) {
  if (s->normed.defined() && s->normed_by == name) return s->normed;
  return Norm(c, s->x, name, kind);
}

void RunBlock(const Context& c, int64_t l, AttentionState* state, Stream* s,
              const std::string& next, NormKind next_kind) {
  if (c.m.embed_shortcut) {
    const std::string block = spec::BlockName(l);
    s->x = ops::ScaleRows(s->x, c.At(block + "embed_mix.stream")) +
           ops::ScaleRows(s->embedding, c.At(block + "embed_mix.embed"));
    s->normed = Tensor();
  }
  if (!c.m.block_plugin.empty()) {
    s->x = Plugin(c, s->x, l);
    s->normed = Tensor();
  } else if (c.m.block == spec::BlockForm::kParallel) {
    Parallel(c, l, state, s, next, next_kind);
  } else {
    Sequential(c, l, state, s, next, next_kind);
  }
}

}  // namespace plumb::trainer::components
