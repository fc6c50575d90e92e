#include "trainer/spec/cost.h"

#include <algorithm>

#include "trainer/spec/parameter_layout.h"

namespace plumb::spec {

ParameterCounts CountParameters(const ModelSpec& m) {
  ParameterCounts c;
  for (const Parameter& p : LayoutOf(m).parameters) {
    c.total += p.size();
    c.by_role[Name(p.role)] += p.size();
    if (p.role == Role::kEmbedding || p.role == Role::kPosition || p.role == Role::kReadout)
      c.embedding += p.size();
  }
  c.non_embedding = c.total - c.embedding;
  return c;
}

int64_t ForwardFlopsPerToken(const ModelSpec& m, int64_t seq_len) {
  const int64_t d = m.d_model;
  const int64_t attention =
      d * (m.n_heads + 2 * m.n_kv_heads) * m.head_dim + m.n_heads * m.head_dim * d;
  const int64_t mlp = (m.mlp == MlpKind::kSwiGlu ? 3 : 2) * d * m.d_ff;
  const int64_t weights = m.n_layers * (attention + mlp) + d * m.vocab_size;
  return 2 * weights + 4 * seq_len * m.n_heads * m.head_dim * m.n_layers;
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
  constexpr int64_t kProcess = 260 << 20;  // LibTorch's CPU library, mapped and touched
  const ModelSpec& m = s.model;
  const int64_t batch = std::max<int64_t>(1, s.train.batch_tokens / s.data.seq_len);
  const int64_t sequences =
      s.execution.micro_batch > 0 ? std::min(s.execution.micro_batch, batch) : batch;
  const int64_t tokens = sequences * s.data.seq_len;
  const int64_t qkv = (m.n_heads + 2 * m.n_kv_heads) * m.head_dim;
  // What a block keeps for its backward pass, in floats per token: two norms' inputs and outputs,
  // the residual twice, q, k, v before and after RoPE, the attention's output, and the MLP's hidden
  // values.
  const int64_t block = 6 * m.d_model + 2 * qkv + m.n_heads * m.head_dim +
                        (m.mlp == MlpKind::kSwiGlu ? 4 : 2) * m.d_ff;
  // In floating point: absurd shapes are asked about too.
  const double floats = static_cast<double>(m.n_layers * block + 4 * m.d_model + 2 * m.vocab_size);
  const double activations = 4.0 * static_cast<double>(tokens) * floats;
  const double row = 16.0 * static_cast<double>(LayoutOf(m).row_size) + activations;
  return static_cast<int64_t>(
      std::min(static_cast<double>(kProcess) + static_cast<double>(rows) * row, 9e18));
}

}  // namespace plumb::spec
