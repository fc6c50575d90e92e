// The words that choice fields take, in the order of their enums.
#pragma once

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

template <typename E>
struct Choices;
template <>
struct Choices<BlockForm> {
  static constexpr const char* kNames[] = {"sequential", "parallel"};
};
template <>
struct Choices<NormKind> {
  static constexpr const char* kNames[] = {"rmsnorm", "layernorm", "dyt", "none"};
};
template <>
struct Choices<NormPlace> {
  static constexpr const char* kNames[] = {"pre", "post", "peri", "out"};
};
template <>
struct Choices<OuterNorm> {
  static constexpr const char* kNames[] = {"same", "rmsnorm", "layernorm", "none"};
};
template <>
struct Choices<NormScaling> {
  static constexpr const char* kNames[] = {"none", "depth"};
};
template <>
struct Choices<ParallelNorms> {
  static constexpr const char* kNames[] = {"shared", "separate"};
};
template <>
struct Choices<BranchScale> {
  static constexpr const char* kNames[] = {"constant", "depth"};
};
template <>
struct Choices<AttentionMatrix> {
  static constexpr const char* kNames[] = {"plain", "vskip", "shaped", "differential"};
};
template <>
struct Choices<GainScope> {
  static constexpr const char* kNames[] = {"head", "layer"};
};
template <>
struct Choices<ValueProjection> {
  static constexpr const char* kNames[] = {"full", "identity", "reparam"};
};
template <>
struct Choices<ValueInit> {
  static constexpr const char* kNames[] = {"normal", "orthogonal", "identity", "tied_orthogonal"};
};
template <>
struct Choices<FirstValue> {
  static constexpr const char* kNames[] = {"same", "reparam"};
};
template <>
struct Choices<QueryInit> {
  static constexpr const char* kNames[] = {"normal", "zero"};
};
template <>
struct Choices<QkvForm> {
  static constexpr const char* kNames[] = {"fused", "separate"};
};
template <>
struct Choices<AttentionBias> {
  static constexpr const char* kNames[] = {"default", "none", "qk", "qkv"};
};
template <>
struct Choices<OnOff> {
  static constexpr const char* kNames[] = {"default", "none", "yes"};
};
template <>
struct Choices<QkvActivation> {
  static constexpr const char* kNames[] = {"none", "gelu"};
};
template <>
struct Choices<ScoreBias> {
  static constexpr const char* kNames[] = {"none", "dense", "mlp"};
};
template <>
struct Choices<ZeroOrNormal> {
  static constexpr const char* kNames[] = {"zero", "normal"};
};
template <>
struct Choices<QkNorm> {
  static constexpr const char* kNames[] = {"none", "head", "full"};
};
template <>
struct Choices<WindowPattern> {
  static constexpr const char* kNames[] = {"all", "alternate"};
};
template <>
struct Choices<PositionKind> {
  static constexpr const char* kNames[] = {"rope", "learned", "sinusoidal", "alibi", "none"};
};
template <>
struct Choices<RopeStyle> {
  static constexpr const char* kNames[] = {"half", "interleaved"};
};
template <>
struct Choices<MlpKind> {
  static constexpr const char* kNames[] = {"swiglu", "gelu",       "geglu",    "geglu_tanh",
                                           "reglu",  "bilinear",   "gelu_erf", "relu",
                                           "relu2",  "leaky_relu", "silu"};
};
template <>
struct Choices<ResidualInit> {
  static constexpr const char* kNames[] = {"depth", "plain", "zero"};
};
template <>
struct Choices<ValueResidual> {
  static constexpr const char* kNames[] = {"none", "fixed", "trainable"};
};
template <>
struct Choices<Parametrization> {
  static constexpr const char* kNames[] = {"sp", "mup", "mup_repo", "completep"};
};
template <>
struct Choices<RouterGate> {
  static constexpr const char* kNames[] = {"none", "switch", "unit_st", "st",   "gumbel_st",
                                           "soft", "frozen", "random",  "fixed"};
};
template <>
struct Choices<RouterPool> {
  static constexpr const char* kNames[] = {"prefix", "full", "bos"};
};
template <>
struct Choices<RouterInit> {
  static constexpr const char* kNames[] = {"random", "identity"};
};
template <>
struct Choices<BalanceScope> {
  static constexpr const char* kNames[] = {"step", "joint"};
};
template <>
struct Choices<Objective> {
  static constexpr const char* kNames[] = {"causal", "mlm"};
};
template <>
struct Choices<OptimizerKind> {
  static constexpr const char* kNames[] = {"adamw", "adam", "sgd", "adafactor", "muon"};
};
template <>
struct Choices<ScheduleKind> {
  static constexpr const char* kNames[] = {"constant", "cosine", "wsd", "linear"};
};
template <>
struct Choices<DeviceKind> {
  static constexpr const char* kNames[] = {"cpu", "cuda"};
};

template <>
struct Choices<LayerReduction> {
  static constexpr const char* kNames[] = {"mean", "sum", "elements"};
};

template <typename E>
const char* Name(E v) {
  return Choices<E>::kNames[static_cast<int>(v)];
}

}  // namespace plumb::spec
