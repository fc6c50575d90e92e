// How a parameter's learning rate, weight decay and epsilon follow the shape, and the multipliers
// of the forward pass: standard (sp), muP, CompleteP. With m_N = d_model / base.d_model and m_L =
// n_layers / base.n_layers (Yang et al. 2022; Dey et al. 2025, arXiv 2505.01618, table 1):
//
//                               sp      mup        mup_repo       completep
//   hidden init variance        s²      s²/m_N     s²/m_N         s²/m_N
//   hidden rate                 η       η/m_N      η/m_N          η m_L^(α−1)/m_N
//   bias and norm rate, blocks  η       η          η              η m_L^(α−1)
//   hidden weight decay         λ       λ          λ m_N          λ m_N
//   AdamW ε                     ε       ε          ε/m_N, blocks  ε m_L^(−α)/m_N
//   residual branch             1       1          1              m_L^(−α)
//   scores                      1/√h    1/h        1/h            1/h
//   logits                      1       1/m_N      1/m_N          1/m_N
//
// mup is the code that most use (nanoGPT-mup's main branch); mup_repo the same authors' table.
#pragma once

#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

double WidthRatio(const ModelSpec& resolved);  // m_N; 1 under sp
double DepthRatio(const ModelSpec& resolved);  // m_L; 1 unless completep

// Factors of the row's learning rate, weight decay and epsilon.
struct Factors {
  double lr = 1, weight_decay = 1, eps = 1;
};
// Weight decay is 0 for gains, biases and norms, whatever the parametrisation.
Factors FactorsOf(const ModelSpec& resolved, const Parameter& parameter);

double ResidualMultiplier(const ModelSpec& resolved);  // of both branches of a block
double LogitMultiplier(const ModelSpec& resolved);
double ScoreScale(const ModelSpec& resolved);  // attn_scale where it is given

}  // namespace plumb::spec
