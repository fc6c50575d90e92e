#include "trainer/ops/kernels/kernels.h"

#ifndef PLUMB_ISA
#error "PLUMB_ISA names the namespace of this copy"
#endif

namespace plumb::trainer::ops::PLUMB_ISA {
namespace {

#define PLUMB_INLINE static inline __attribute__((always_inline))

// e^x to 1e-7 relative, by 2^n e^r with |r| ≤ ln 2 / 2; saturates at both ends, NaN stays NaN.
// Written without branches or calls, so that loops around it vectorise.
PLUMB_INLINE float Exp(float x) {
  constexpr float kRound =
      12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer held in the low bits
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float shifted = x * 1.44269504f + kRound;
  float n = shifted - kRound;
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t exponent =
      (__builtin_bit_cast(int32_t, shifted) - __builtin_bit_cast(int32_t, kRound) + 127) << 23;
  return p * __builtin_bit_cast(float, exponent);
}

// 1 / y for y in [1, 1e36], to 1e-7 relative: a linear guess in the exponent's bits, then Newton's
// steps, each squaring the error (0.12, 0.015, 2e-4, 5e-8). Vector division takes several times as
// long on some processors, and the loops below would be bound by it. NaN stays NaN.
PLUMB_INLINE float Reciprocal(float y) {
  float r = __builtin_bit_cast(float, 0x7EF311C7 - __builtin_bit_cast(int32_t, y));
  r = r * (2.0f - y * r);
  r = r * (2.0f - y * r);
  r = r * (2.0f - y * r);
  return r;
}

// σ(x), and 1 − σ(x) without the cancellation that 1 − value would suffer where it is small.
struct SigmoidValue {
  float value, complement;
};
PLUMB_INLINE SigmoidValue Sigmoid(float x) {
  x = x < -80.0f ? -80.0f : x;
  float e = Exp(-x), value = Reciprocal(1.0f + e);
  return {value, e * value};
}

void RmsNorm(const float* x, const float* branch, const float* gain, float eps, float eps_outside,
             float* sum, float* y, float* stats, int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i, x += d, y += d) {
    const float* in = x;
    float squares = 0;
    if (branch) {
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < d; ++j) {
        float s = x[j] + branch[j];
        sum[j] = s;
        squares += s * s;
      }
      in = sum;
      branch += d;
      sum += d;
    } else {
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < d; ++j) squares += x[j] * x[j];
    }
    float scale = 1.0f / (__builtin_sqrtf(squares / static_cast<float>(d) + eps) + eps_outside);
    stats[i] = scale;
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) y[j] = in[j] * scale * gain[j];
  }
}

void RmsNormBackward(const float* x, const float* gain, const float* stats, float eps_outside,
                     const float* dy, const float* dsum, float* dx, float* dgain, int64_t n,
                     int64_t d) {
  for (int64_t i = 0; i < n; ++i, x += d, dy += d, dx += d) {
    float scale = stats[i], dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < d; ++j) {
      float g = dy[j] * x[j];
      dot += g * gain[j];
      dgain[j] += g * scale;
    }
    float back = dot * scale * scale * scale / static_cast<float>(d);
    if (eps_outside > 0) {
      // d scale / d root = -scale²; a row of zeros has no direction, and its root no derivative.
      float root = 1.0f / scale - eps_outside;
      back = root > 0 ? dot * scale * scale / (static_cast<float>(d) * root) : 0.0f;
    }
    if (dsum) {
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) dx[j] = dy[j] * gain[j] * scale - x[j] * back + dsum[j];
      dsum += d;
    } else {
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) dx[j] = dy[j] * gain[j] * scale - x[j] * back;
    }
  }
}

void LayerNorm(const float* x, const float* branch, const float* gain, const float* bias, float eps,
               float* sum, float* y, float* stats, int64_t n, int64_t d) {
  float inv_d = 1.0f / static_cast<float>(d);
  for (int64_t i = 0; i < n; ++i, x += d, y += d) {
    const float* in = x;
    float total = 0, squares = 0;
    if (branch) {
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < d; ++j) {
        float s = x[j] + branch[j];
        sum[j] = s;
        total += s;
      }
      in = sum;
      branch += d;
      sum += d;
    } else {
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < d; ++j) total += x[j];
    }
    float mean = total * inv_d;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < d; ++j) squares += (in[j] - mean) * (in[j] - mean);
    float scale = 1.0f / __builtin_sqrtf(squares * inv_d + eps);
    stats[2 * i] = mean;
    stats[2 * i + 1] = scale;
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) y[j] = (in[j] - mean) * scale * gain[j] + bias[j];
  }
}

void LayerNormBackward(const float* x, const float* gain, const float* stats, const float* dy,
                       const float* dsum, float* dx, float* dgain, float* dbias, int64_t n,
                       int64_t d) {
  float inv_d = 1.0f / static_cast<float>(d);
  for (int64_t i = 0; i < n; ++i, x += d, dy += d, dx += d) {
    float mean = stats[2 * i], scale = stats[2 * i + 1], total = 0, dot = 0;
#pragma omp simd reduction(+ : total, dot)
    for (int64_t j = 0; j < d; ++j) {
      float normed = (x[j] - mean) * scale;
      float g = dy[j] * gain[j];
      total += g;
      dot += g * normed;
      dgain[j] += dy[j] * normed;
      dbias[j] += dy[j];
    }
    total *= inv_d;
    dot *= inv_d;
    if (dsum) {
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) {
        dx[j] = (dy[j] * gain[j] - total - (x[j] - mean) * scale * dot) * scale + dsum[j];
      }
      dsum += d;
    } else {
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) {
        dx[j] = (dy[j] * gain[j] - total - (x[j] - mean) * scale * dot) * scale;
      }
    }
  }
}

void SwiGlu(const float* gate_up, float* y, int64_t n, int64_t f) {
  for (int64_t i = 0; i < n; ++i, gate_up += 2 * f, y += f) {
    const float* up = gate_up + f;
#pragma omp simd
    for (int64_t j = 0; j < f; ++j) y[j] = gate_up[j] * Sigmoid(gate_up[j]).value * up[j];
  }
}

void SwiGluBackward(const float* gate_up, const float* dy, float* dgate_up, int64_t n, int64_t f) {
  for (int64_t i = 0; i < n; ++i, gate_up += 2 * f, dgate_up += 2 * f, dy += f) {
    const float* up = gate_up + f;
    float* dup = dgate_up + f;
#pragma omp simd
    for (int64_t j = 0; j < f; ++j) {
      float gate = gate_up[j];
      SigmoidValue s = Sigmoid(gate);
      dup[j] = dy[j] * gate * s.value;
      dgate_up[j] = dy[j] * up[j] * s.value * (1.0f + gate * s.complement);
    }
  }
}

// tanh-GELU is x σ(2u), u = √(2/π) (x + 0.044715 x³), since (1 + tanh u) / 2 = σ(2u).
constexpr float kTwoRootTwoOverPi = 1.5957691216f, kCubic = 0.044715f;

void Gelu(const float* x, float* y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j)
    y[j] = x[j] * Sigmoid(kTwoRootTwoOverPi * (x[j] + kCubic * x[j] * x[j] * x[j])).value;
}

void GeluBackward(const float* x, const float* dy, float* dx, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    float square = x[j] * x[j];
    SigmoidValue s = Sigmoid(kTwoRootTwoOverPi * x[j] * (1.0f + kCubic * square));
    float du = kTwoRootTwoOverPi * (1.0f + 3.0f * kCubic * square);
    dx[j] = dy[j] * s.value * (1.0f + x[j] * s.complement * du);
  }
}

void Rope(float* x, const float* cos, const float* sin, float sign, int64_t first_time, int64_t t,
          int64_t n, int64_t stride, int64_t heads, int64_t h) {
  int64_t half = h / 2;
  for (int64_t i = 0; i < n; ++i, x += stride) {
    const float* c = cos + (first_time + i) % t * half;
    const float* s = sin + (first_time + i) % t * half;
    for (int64_t head = 0; head < heads; ++head) {
      float* a = x + head * h;
      float* b = a + half;
#pragma omp simd
      for (int64_t j = 0; j < half; ++j) {
        float first = a[j], second = b[j];
        a[j] = first * c[j] - sign * second * s[j];
        b[j] = second * c[j] + sign * first * s[j];
      }
    }
  }
}

void CrossEntropy(const float* logits, const int64_t* targets, float* loss, float* lse, int64_t n,
                  int64_t v) {
  for (int64_t i = 0; i < n; ++i, logits += v) {
    float top = logits[0], sum = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < v; ++j) top = logits[j] > top ? logits[j] : top;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < v; ++j) sum += Exp(logits[j] - top);
    lse[i] = top + __builtin_logf(sum);
    loss[i] = targets[i] < 0 ? 0.0f : lse[i] - logits[targets[i]];
  }
}

void CrossEntropyBackward(float* logits, const int64_t* targets, const float* lse, float scale,
                          float z, int64_t n, int64_t v) {
  for (int64_t i = 0; i < n; ++i, logits += v) {
    if (targets[i] < 0) {
      for (int64_t j = 0; j < v; ++j) logits[j] = 0;
      continue;
    }
    float shift = lse[i], factor = scale * (1.0f + 2.0f * z * shift);
#pragma omp simd
    for (int64_t j = 0; j < v; ++j) logits[j] = factor * Exp(logits[j] - shift);
    logits[targets[i]] -= scale;
  }
}

void Add(float* y, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) y[j] += x[j];
}

void AddToEach(float* y, const float* x, int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i, y += d) Add(y, x, d);
}

void ColumnSums(const float* x, float* sums, int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i, x += d) Add(sums, x, d);
}

void Scale(const float* x, const float* gain, float* y, int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i, x += d, y += d) {
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) y[j] = x[j] * gain[j];
  }
}

void ScaleBackward(const float* x, const float* gain, const float* dy, float* dx, float* dgain,
                   int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i, x += d, dy += d, dx += d) {
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) {
      dgain[j] += x[j] * dy[j];
      dx[j] = dy[j] * gain[j];
    }
  }
}

// work = Σ v over the text; the mean's factor at position i.
void SumOver(const float* v, float* work, int64_t t, int64_t d) {
  for (int64_t j = 0; j < d; ++j) work[j] = 0;
  for (int64_t i = 0; i < t; ++i) Add(work, v + i * d, d);
}

void ShapedMix(const float* attended, const float* values, const float* gains, float* work,
               float* y, int64_t t, int64_t d, bool causal) {
  const float *alpha = gains, *beta = gains + d, *gamma = gains + 2 * d;
  if (!causal) SumOver(values, work, t, d);
  if (causal) {
    for (int64_t j = 0; j < d; ++j) work[j] = 0;
  }
  for (int64_t i = 0; i < t; ++i, attended += d, values += d, y += d) {
    float inverse = 1.0f / static_cast<float>(causal ? i + 1 : t), take = causal ? 1.0f : 0.0f;
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) {
      float sum = work[j] + take * values[j];
      work[j] = sum;
      y[j] = alpha[j] * values[j] + beta[j] * attended[j] - gamma[j] * sum * inverse;
    }
  }
}

void ShapedMixBackward(const float* attended, const float* values, const float* gains, float* work,
                       const float* dy, float* da, float* dv, float* dgains, int64_t t, int64_t d,
                       bool causal) {
  const float *alpha = gains, *beta = gains + d, *gamma = gains + 2 * d;
  float *dalpha = dgains, *dbeta = dgains + d, *dgamma = dgains + 2 * d;
  if (!causal) SumOver(values, work, t, d);
  if (causal) {
    for (int64_t j = 0; j < d; ++j) work[j] = 0;
  }
  for (int64_t i = 0; i < t; ++i) {
    const float *a = attended + i * d, *v = values + i * d, *g = dy + i * d;
    float* back = da + i * d;
    float inverse = 1.0f / static_cast<float>(causal ? i + 1 : t), take = causal ? 1.0f : 0.0f;
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) {
      float sum = work[j] + take * v[j];
      work[j] = sum;
      dalpha[j] += g[j] * v[j];
      dbeta[j] += g[j] * a[j];
      dgamma[j] -= g[j] * sum * inverse;
      back[j] = g[j] * beta[j];
    }
  }
  // dv[i] = alpha dy[i] - Σ_{s >= i} gamma dy[s] / (s + 1); all s where it is not causal.
  for (int64_t j = 0; j < d; ++j) work[j] = 0;
  if (!causal) {
    for (int64_t i = 0; i < t; ++i) Add(work, dy + i * d, d);
    for (int64_t j = 0; j < d; ++j) work[j] *= 1.0f / static_cast<float>(t);
  }
  for (int64_t i = t; i-- > 0;) {
    const float* g = dy + i * d;
    float* back = dv + i * d;
    float take = causal ? 1.0f / static_cast<float>(i + 1) : 0.0f;
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) {
      float sum = work[j] + take * g[j];
      work[j] = sum;
      back[j] = alpha[j] * g[j] - gamma[j] * sum;
    }
  }
}

void AdamW(float* w, float* g, float* m, float* v, const AdamWScalars& s, int64_t n) {
  const float beta1 = s.beta1, beta2 = s.beta2, eps = s.eps, keep = s.keep, step_size = s.step_size,
              inv_correction2 = s.inv_correction2, grad_scale = s.grad_scale;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    float grad = g[j] * grad_scale;
    float mean = beta1 * m[j] + (1.0f - beta1) * grad;
    float square = beta2 * v[j] + (1.0f - beta2) * grad * grad;
    m[j] = mean;
    v[j] = square;
    w[j] = keep * w[j] - step_size * mean / (__builtin_sqrtf(square) * inv_correction2 + eps);
    g[j] = 0.0f;
  }
}

double Squares(const float* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
  return sum;
}

#define PLUMB_STRING_(x) #x
#define PLUMB_STRING(x) PLUMB_STRING_(x)

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {PLUMB_STRING(PLUMB_ISA),
                          RmsNorm,
                          RmsNormBackward,
                          LayerNorm,
                          LayerNormBackward,
                          SwiGlu,
                          SwiGluBackward,
                          Gelu,
                          GeluBackward,
                          Rope,
                          CrossEntropy,
                          CrossEntropyBackward,
                          Add,
                          AddToEach,
                          ColumnSums,
                          Scale,
                          ScaleBackward,
                          ShapedMix,
                          ShapedMixBackward,
                          AdamW,
                          Squares};

}  // namespace plumb::trainer::ops::PLUMB_ISA
