#include "trainer/spec/cost.h"

#include <algorithm>

#include "trainer/spec/block_manifest.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::spec {

namespace {

// Of one position.
int64_t Flops(const Parameter& p, int64_t seq_len) {
  if (!p.product) return 0;
  // A score bias makes only the columns of the keys that there are.
  if (p.name.ends_with("score_bias.weight")) return 2 * p.shape[0] * std::min(seq_len, p.shape[1]);
  return 2 * p.size();
}

// Of one block and position, beside the matrices: the two products of attention, or what a block
// from outside says.
int64_t MixingFlops(const ModelSpec& m, int64_t seq_len) {
  if (m.block_plugin.empty()) return 4 * seq_len * m.n_heads * m.head_dim;
  return EvaluateShape(ReadBlockManifest(m.block_plugin).flops, m, seq_len);
}

// The scores are there as a matrix.
bool DenseScores(const ModelSpec& m) {
  return m.attn_softcap > 0 || m.score_bias != ScoreBias::kNone;
}

}  // namespace

ParameterCounts CountParameters(const ModelSpec& m) {
  ParameterCounts c;
  for (const Parameter& p : LayoutOf(m).parameters) {
    c.total += p.size();
    c.by_role[Name(p.role)] += p.size();
    if (p.role == Role::kEmbedding || p.role == Role::kPosition || p.role == Role::kReadout)
      c.embedding += p.size();
    if (!p.trainable) c.frozen += p.size();
  }
  c.non_embedding = c.total - c.embedding;
  c.trainable = c.total - c.frozen;
  return c;
}

std::vector<ComponentCost> Components(const ModelSpec& m, int64_t seq_len) {
  std::vector<ComponentCost> out;
  std::map<std::pair<int64_t, std::string>, size_t> at;
  const auto part = [&](const std::string& name, int64_t layer) -> ComponentCost& {
    const auto [it, fresh] = at.try_emplace({layer, name}, out.size());
    if (fresh) out.push_back({name, layer});
    return out[it->second];
  };
  for (const Parameter& p : LayoutOf(m).parameters) {
    // "blocks.3.attn.qkv.weight" is of "attn.qkv"; "embed.weight" of "embed".
    std::string name = p.name;
    if (p.layer >= 0 && name.starts_with("blocks.")) {
      name = name.substr(name.find('.', 7) + 1);
    }
    if (name.find('.') != std::string::npos) name = name.substr(0, name.rfind('.'));
    ComponentCost& c = part(name, p.layer);
    c.parameters += p.size();
    if (!p.trainable) c.frozen += p.size();
    c.flops += Flops(p, seq_len);
  }
  if (m.tied_head) part("head (tied)", -1).flops += 2 * m.d_model * m.vocab_size;
  for (int64_t l = 0; l < m.n_layers; ++l) {
    part(m.block_plugin.empty() ? "attn.scores" : "beside the matrices", l).flops +=
        MixingFlops(m, seq_len);
  }
  return out;
}

int64_t PlannedBlockEvaluations(const ModelSpec& m) {
  const RouterGate gate = m.router.gate;
  const bool dense =
      gate == RouterGate::kSt || gate == RouterGate::kGumbelSt || gate == RouterGate::kSoft;
  return Routed(m) ? m.router.steps * (dense ? m.n_layers : 1) : m.n_layers;
}

int64_t BlockFlopsPerToken(const ModelSpec& m, int64_t seq_len) {
  int64_t blocks = MixingFlops(m, seq_len) * m.n_layers;
  for (const Parameter& p : LayoutOf(m).parameters) blocks += p.layer < 0 ? 0 : Flops(p, seq_len);
  return blocks / m.n_layers;
}

int64_t ForwardFlopsPerToken(const ModelSpec& m, int64_t seq_len) {
  int64_t outside = m.tied_head ? 2 * m.d_model * m.vocab_size : 0;
  int64_t blocks = MixingFlops(m, seq_len) * m.n_layers;
  for (const Parameter& p : LayoutOf(m).parameters)
    (p.layer < 0 ? outside : blocks) += Flops(p, seq_len);
  // All blocks of a routed model cost the same.
  if (Routed(m)) blocks = BlockFlopsPerToken(m, seq_len) * PlannedBlockEvaluations(m);
  return outside + blocks;
}

int64_t TrainingFlopsPerToken(const ModelSpec& m, int64_t seq_len) {
  return 3 * ForwardFlopsPerToken(m, seq_len);
}

int64_t TotalTokens(const TrialSpec& s) { return s.train.steps * s.train.batch_tokens; }

double TotalTrainingFlops(const TrialSpec& s) {
  return static_cast<double>(TotalTokens(s)) *
         static_cast<double>(TrainingFlopsPerToken(s.model, s.data.seq_len));
}

int64_t PredictedPeakBytes(const TrialSpec& s, int64_t rows) {
  constexpr double kProcess =
      128e6;  // LibTorch's CPU library as far as it is touched, and its products' buffers
  constexpr double kEvaluated = 4096;  // positions of a pass of evaluation
  const ModelSpec& m = s.model;
  // Of each rank.
  const int64_t batch = std::max<int64_t>(1, s.train.batch_tokens / s.data.seq_len / s.train.ranks);
  const int64_t sequences =
      s.execution.micro_batch > 0 ? std::min(s.execution.micro_batch, batch) : batch;
  const auto tokens = static_cast<double>(sequences * s.data.seq_len);
  // In floating point, and floats per position: absurd shapes are asked about too.
  const auto d = static_cast<double>(m.d_model), ff = static_cast<double>(m.d_ff),
             v = static_cast<double>(m.vocab_size);
  const auto qkv = static_cast<double>((m.n_heads + 2 * m.n_kv_heads) * m.head_dim);
  const auto heads = static_cast<double>(m.n_heads * m.head_dim);
  const double hidden = Gated(m.mlp) ? 3 * ff : 2 * ff;  // before and after the activation
  const double kept =
      m.mlp == MlpKind::kRelu ? ff : hidden;  // a ReLU's gradient needs what came out alone
  // What a block keeps for its backward pass: the stream and its norm before each branch, queries,
  // keys and values, what attention made of them, and the MLP's hidden values; of norms of queries
  // and keys what they made, of two maps both.
  double block = 4 * d + qkv + heads + kept;
  if (m.qk_norm != QkNorm::kNone)
    block += static_cast<double>((m.n_heads + m.n_kv_heads) * m.head_dim);
  if (m.attn_matrix == AttentionMatrix::kDifferential) block += 2 * qkv + heads;
  if (DenseScores(m)) block += 3 * static_cast<double>(s.data.seq_len * m.n_heads);
  const double blocks = static_cast<double>(PlannedBlockEvaluations(m));
  // Beside it the logits, and the gradients in a block's MLP.
  const double training =
      4.0 * tokens * static_cast<double>(rows) * (blocks * block + 2 * d + v + hidden + ff);
  constexpr double kPass = 4.0 * kEvaluated;
  const double evaluating = kPass * (hidden + 4 * d + v);
  // What finds no room among what training gave back comes on top.
  const double largest = kPass * std::max(v, Gated(m.mlp) ? 2 * ff : ff);
  const double over = largest > training ? training + largest : 0;
  // What a measurement of linearity holds: moments and maps, and all states of a pass.
  const auto moves = static_cast<double>(Routed(m) ? m.router.steps : m.n_layers);
  const double looking = s.linearity.every > 0 ? 8 * d * d * (3 * moves + 24) +
                                                     2048 * d * (4 * (moves + 2) + 8 * (moves + 6))
                                               : 0;
  const double row = 16.0 * static_cast<double>(LayoutOf(m).row_size);
  const double drawn = 4.0 * static_cast<double>(LayoutOf(m).row_size);
  const double at_work = std::max({drawn, training, evaluating, over, looking});
  const double process = kProcess + static_cast<double>(rows) * row + at_work;
  return static_cast<int64_t>(std::min(static_cast<double>(s.train.ranks) * process, 9e18));
}

}  // namespace plumb::spec
