// The float32 CPU loops under ops.h: plain pointers, contiguous positions, one trial's row at a
// time, one thread each. Compiled once per instruction set (kernels.cc, with PLUMB_ISA naming the
// copy) and picked when the process starts.
//
// Invariants:
//  1. A function's result depends on its arguments' values alone, never on how callers cut the
//  work: sums over
//     positions are taken by the caller over chunks of fixed size.
//  2. No standard-library template is instantiated in kernels.cc: the linker could pick a copy that
//  needs AVX-512 for
//     everyone.
#pragma once

#include <cstdint>

namespace plumb::trainer::ops {

struct AdamWScalars {
  float beta1, beta2, eps;
  float keep;             // 1 − lr λ
  float step_size;        // lr / (1 − β1^t)
  float inv_correction2;  // 1 / √(1 − β2^t)
  float grad_scale;
};

// n positions of width d unless said otherwise. "+=" marks what is added to instead of written.
struct Kernels {
  const char* isa;
  // sum = x + branch where branch is given; y = norm(sum or x). stats: n (RMS: 1/rms) or 2n (mean,
  // 1/std) floats.
  // scale = 1 / (sqrt(mean square + eps) + eps_outside).
  void (*rms_norm)(const float* x, const float* branch, const float* gain, float eps,
                   float eps_outside, float* sum, float* y, float* stats, int64_t n, int64_t d);
  // dx = d(norm) + dsum (may be null); dgain += .
  void (*rms_norm_backward)(const float* x, const float* gain, const float* stats,
                            float eps_outside, const float* dy, const float* dsum, float* dx,
                            float* dgain, int64_t n, int64_t d);
  void (*layer_norm)(const float* x, const float* branch, const float* gain, const float* bias,
                     float eps, float* sum, float* y, float* stats, int64_t n, int64_t d);
  void (*layer_norm_backward)(const float* x, const float* gain, const float* stats,
                              const float* dy, const float* dsum, float* dx, float* dgain,
                              float* dbias, int64_t n, int64_t d);
  void (*swiglu)(const float* gate_up, float* y, int64_t n, int64_t f);
  void (*swiglu_backward)(const float* gate_up, const float* dy, float* dgate_up, int64_t n,
                          int64_t f);
  void (*gelu)(const float* x, float* y, int64_t n);
  void (*gelu_backward)(const float* x, const float* dy, float* dx, int64_t n);
  // Rotates `heads` heads of width h at each of n positions, whose time is first_time, first_time +
  // 1, … modulo t; a position's heads start stride floats after the last one's. sign −1 undoes the
  // rotation. In place.
  void (*rope)(float* x, const float* cos, const float* sin, float sign, int64_t first_time,
               int64_t t, int64_t n, int64_t stride, int64_t heads, int64_t h);
  // −log softmax(logits)[target] and log-sum-exp of each position; 0 where target < 0.
  void (*cross_entropy)(const float* logits, const int64_t* targets, float* loss, float* lse,
                        int64_t n, int64_t v);
  // In place: scale * ((1 + 2 z lse) softmax − onehot), 0 where target < 0.
  void (*cross_entropy_backward)(float* logits, const int64_t* targets, const float* lse,
                                 float scale, float z, int64_t n, int64_t v);
  void (*add)(float* y, const float* x, int64_t n);                        // y += x
  void (*add_to_each)(float* y, const float* x, int64_t n, int64_t d);     // y[i] += x
  void (*column_sums)(const float* x, float* sums, int64_t n, int64_t d);  // sums += Σ_i x[i]
  // y = x * gain, gain a vector of d; backward: dx = dy * gain, dgain += x * dy.
  void (*scale)(const float* x, const float* gain, float* y, int64_t n, int64_t d);
  void (*scale_backward)(const float* x, const float* gain, const float* dy, float* dx,
                         float* dgain, int64_t n, int64_t d);
  // One text of t positions: y = alpha v + beta a - gamma c, c the running mean of v (causal) or
  // its mean; gains: alpha, beta, gamma, d floats each. `work`: d floats.
  void (*shaped_mix)(const float* attended, const float* values, const float* gains, float* work,
                     float* y, int64_t t, int64_t d, bool causal);
  // dgains += ; da and dv are written.
  void (*shaped_mix_backward)(const float* attended, const float* values, const float* gains,
                              float* work, const float* dy, float* da, float* dv, float* dgains,
                              int64_t t, int64_t d, bool causal);
  void (*adamw)(float* w, float* g, float* m, float* v, const AdamWScalars& s,
                int64_t n);  // and g = 0
  double (*squares)(const float* x, int64_t n);
};

// The copy for this processor.
const Kernels& ActiveKernels();

}  // namespace plumb::trainer::ops
