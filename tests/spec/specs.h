// Configs that several tests build on.
#pragma once

#include <random>

#include "gtest/gtest.h"
#include "trainer/spec/parse.h"

namespace plumb::spec {

inline TrialSpec ResolvedOrDie(const std::string& text) {
  TrialSpec s;
  const auto errors = ParseResolved(text, &s);
  EXPECT_TRUE(errors.empty()) << Format(errors);
  return s;
}

inline std::vector<SpecError> ErrorsOf(const std::string& text) {
  TrialSpec s;
  return ParseResolved(text, &s);
}

// A resolved model of random shape; every component turns up.
inline TrialSpec RandomSpec(std::mt19937_64& random) {
  const auto pick = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  TrialSpec s;
  ModelSpec& m = s.model;
  m.n_layers = pick(1, 5);
  m.n_kv_heads = pick(1, 3);
  m.n_heads = m.n_kv_heads * pick(1, 3);
  m.head_dim = 2 * pick(1, 12);
  m.d_model = pick(3, 90);
  m.d_ff = pick(0, 1) * pick(1, 200);
  m.norm = static_cast<NormKind>(pick(0, 1));
  m.position = static_cast<PositionKind>(pick(0, 1));
  m.mlp = static_cast<MlpKind>(pick(0, 1));
  m.bias = pick(0, 1) == 1;
  m.tied_head = pick(0, 1) == 1;
  s.data.seq_len = pick(1, 64);
  s.train.batch_tokens = s.data.seq_len * pick(1, 8);
  s.train.steps = pick(1, 1000);
  EXPECT_TRUE(Resolve(&s).empty());
  return s;
}

}  // namespace plumb::spec
