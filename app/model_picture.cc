#include "app/model_picture.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/table.h"
#include "trainer/spec/choices.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parametrization.h"

namespace plumb::app {
namespace {

using spec::ModelSpec;
using spec::Name;
using spec::Parameter;
using Dims = std::vector<std::string>;

// The dimensions of a parameter in letters, by what it is called within its block.
Dims LettersOf(const ModelSpec& m, const std::string& name) {
  static const auto* const kLetters = new std::map<std::string, Dims>{
      {"embed.weight", {"V", "d"}},
      {"position.weight", {"P", "d"}},
      {"head.weight", {"d", "V"}},
      {"attn.qkv.weight", {"d", "(H + 2*G)*h"}},
      {"attn.qkv.bias", {"(H + 2*G)*h"}},
      {"attn.q.weight", {"d", "H*h"}},
      {"attn.q.bias", {"H*h"}},
      {"attn.k.weight", {"d", "G*h"}},
      {"attn.k.bias", {"G*h"}},
      {"attn.v.bias", {"G*h"}},
      {"attn.v.fixed", {"d", "d"}},
      {"attn.out.fixed", {"d", "d"}},
      {"attn.out.bias", {"d"}},
      {"mlp.gate_up.weight", {"d", "2*f"}},
      {"mlp.gate_up.bias", {"2*f"}},
      {"mlp.up.weight", {"d", "f"}},
      {"mlp.up.bias", {"f"}},
      {"mlp.down.weight", {"f", "d"}},
      {"mlp.down.bias", {"d"}},
      {"router.weight", {"d", "(L + 1)"}},
      {"router.bias", {"(L + 1)"}},
  };
  if (const auto it = kLetters->find(name); it != kLetters->end()) return it->second;
  const bool full = m.vp == spec::ValueProjection::kFull;
  if (name == "attn.v.weight") return full ? Dims{"d", "G*h"} : Dims{"d", "d"};
  if (name == "attn.out.weight") return full ? Dims{"H*h", "d"} : Dims{"d", "d"};
  if (absl::StrContains(name, "norm.") && !absl::EndsWith(name, ".alpha")) {
    const bool per_head = m.qk_norm == spec::QkNorm::kHead;
    if (name == "attn.q_norm.weight") return per_head ? Dims{"h"} : Dims{"H*h"};
    if (name == "attn.k_norm.weight") return per_head ? Dims{"h"} : Dims{"G*h"};
    return {"d"};
  }
  return {};
}

std::string Within(const Parameter& p) {
  std::string name = p.name;
  if (p.layer >= 0) name = name.substr(name.find('.', 7) + 1);
  if (absl::StartsWith(name, "router.")) name = "router." + name.substr(name.rfind('.') + 1);
  return name;
}

std::string Product(const ModelSpec& m, const Parameter& p) {
  Dims dims = LettersOf(m, Within(p));
  if (dims.empty()) {  // gains and what is as long as it was asked to be
    for (const int64_t n : p.shape) dims.push_back(absl::StrCat(n));
    if (m.attn_gains == spec::GainScope::kHead && absl::StartsWith(Within(p), "attn.") &&
        p.shape.size() == 1 && p.shape[0] == m.n_heads)
      dims = {"H"};
    if (Within(p) == "attn.score_bias.weight" && m.score_bias == spec::ScoreBias::kDense)
      dims[0] = "d";
    if (Within(p) == "attn.score_bias.hidden.weight") dims[0] = "d";
  }
  return absl::StrJoin(dims, "*");
}

std::string SourceOf(const ModelSpec& m, const std::string& c) {
  if (absl::EndsWith(c, "q_norm") || absl::EndsWith(c, "k_norm"))
    return "Henry et al. 2020 (QK-norm)";
  if (absl::EndsWith(c, "norm")) {
    const spec::NormKind kind = c == "final_norm"   ? spec::KindOf(m.final_norm, m.norm)
                                : c == "embed_norm" ? spec::KindOf(m.embed_norm, m.norm)
                                                    : m.norm;
    return kind == spec::NormKind::kDyt         ? "Zhu et al. 2025 (DyT)"
           : kind == spec::NormKind::kLayerNorm ? "Ba et al. 2016"
                                                : "Zhang & Sennrich 2019";
  }
  if (absl::StartsWith(c, "attn.score_bias")) return "seed 002; Tay et al. 2020 (Synthesizer)";
  if (c == "attn.v" && m.vp != spec::ValueProjection::kFull) return "He & Hofmann 2023, Eq. 6";
  if (c == "attn") {
    return m.attn_matrix == spec::AttentionMatrix::kPlain ? "ResFormer, arXiv 2410.17897"
                                                          : "He & Hofmann 2023, Eq. 4-5";
  }
  if (absl::StartsWith(c, "attn.")) {
    return m.n_kv_heads < m.n_heads ? "Vaswani et al. 2017; Ainslie et al. 2023 (GQA)"
                                    : "Vaswani et al. 2017, 3.2";
  }
  if (absl::StartsWith(c, "mlp.")) {
    return spec::Gated(m.mlp) ? "Shazeer 2020 (GLU variants)" : "Vaswani et al. 2017, 3.3";
  }
  if (absl::StartsWith(c, "router")) return "seed 000; Fedus et al. 2022 (Switch)";
  if (absl::StartsWith(c, "embed_mix")) return "modded-nanogpt 2024";
  if (absl::EndsWith(c, "skip") || absl::EndsWith(c, "branch")) return "He & Hofmann 2023, Eq. 1";
  if (absl::StartsWith(c, "head (tied)")) return "Press & Wolf 2017";
  return "";
}

std::string ComponentOf(const Parameter& p) {
  const std::string name = Within(p);
  if (absl::StartsWith(name, "router.")) return p.name.substr(0, p.name.rfind('.'));
  return absl::StrContains(name, ".") ? name.substr(0, name.rfind('.')) : name;
}

}  // namespace

int64_t LetterValue(const ModelSpec& m, int64_t T, const std::string& letter) {
  const std::map<std::string, int64_t> values = {
      {"d", m.d_model},    {"L", m.n_layers},      {"H", m.n_heads},
      {"G", m.n_kv_heads}, {"h", m.head_dim},      {"f", m.d_ff},
      {"V", m.vocab_size}, {"P", m.max_positions}, {"T", T}};
  return values.at(letter);
}

std::vector<ComponentRow> ComponentRows(const ModelSpec& m, int64_t seq_len) {
  std::map<std::pair<int64_t, std::string>, std::pair<Dims, Dims>> formulas;
  for (const Parameter& p : spec::LayoutOf(m).parameters) {
    auto& [parameters, flops] = formulas[{p.layer, ComponentOf(p)}];
    parameters.push_back(Product(m, p));
    if (!p.product) continue;
    const bool bias = absl::EndsWith(p.name, "score_bias.weight");  // as many columns as keys
    flops.push_back(
        bias && seq_len < p.shape[1]
            ? absl::StrCat("2*",
                           m.score_bias == spec::ScoreBias::kDense ? "d" : absl::StrCat(p.shape[0]),
                           "*T")
            : "2*" + Product(m, p));
  }
  std::vector<ComponentRow> rows;
  for (const spec::ComponentCost& c : spec::Components(m, seq_len)) {
    ComponentRow row{.name = c.name,
                     .blocks = c.layer >= 0,
                     .parameters = c.parameters,
                     .frozen = c.frozen,
                     .flops = c.flops,
                     .source = SourceOf(m, c.name)};
    const auto& [parameters, flops] = formulas[{c.layer, c.name}];
    row.parameters_formula = parameters.empty() ? "0" : absl::StrJoin(parameters, " + ");
    row.flops_formula = flops.empty() ? "0" : absl::StrJoin(flops, " + ");
    if (c.name == "attn.scores") row.flops_formula = "4*T*H*h";
    if (c.name == "head (tied)") row.flops_formula = "2*d*V";
    const auto same = std::find_if(rows.begin(), rows.end(), [&](const ComponentRow& r) {
      return r.name == row.name && r.blocks > 0 && c.layer >= 0 && r.parameters == row.parameters &&
             r.frozen == row.frozen && r.flops == row.flops;
    });
    if (same != rows.end()) {
      ++same->blocks;
    } else {
      rows.push_back(row);
    }
  }
  return rows;
}

namespace {

constexpr int kWidth = 72;  // of the block; the rest is margin

std::string Repeat(const std::string& s, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

// "RMSNorm" and the like; "" for none.
std::string NormText(const ModelSpec& m, spec::NormKind kind) {
  switch (kind) {
    case spec::NormKind::kRmsNorm:
      return m.norm_unit_offset ? "RMSNorm (1 + w)"
             : m.norm_weight    ? "RMSNorm"
                                : "RMSNorm, no gain";
    case spec::NormKind::kLayerNorm:
      return "LayerNorm";
    case spec::NormKind::kDyt:
      return "DyT";
    case spec::NormKind::kNone:
      return "";
  }
  return "";
}

std::string Times(double gain, bool trained, double multiplier = 1) {
  const double value = gain * multiplier;
  if (value == 1 && !trained) return "";
  return absl::StrCat("× ", Number(value), trained ? " trained" : "");
}

std::string AttentionText(const ModelSpec& m) {
  std::string out = m.n_heads == 1 ? "attention" : absl::StrCat("attention, ", m.n_heads, " heads");
  if (m.n_kv_heads != m.n_heads) absl::StrAppend(&out, " on ", m.n_kv_heads);
  if (m.attn_matrix == spec::AttentionMatrix::kShaped) out = "shaped " + out;
  if (m.attn_matrix == spec::AttentionMatrix::kValueSkip) out = "value-skip " + out;
  return out;
}

struct Arm {
  std::vector<std::string> boxes;
  double skip;
  bool skip_trained;
};

std::string Chain(const std::vector<std::string>& boxes) {
  std::vector<std::string> shown;
  for (const std::string& b : boxes) {
    if (!b.empty()) shown.push_back(b);
  }
  return absl::StrJoin(shown, " ─ ");
}

// One residual step: the skip above, the branch below.
std::string Residual(const Arm& arm) {
  const std::string branch = Chain(arm.boxes);
  std::string out;
  if (arm.skip == 0 && !arm.skip_trained) {  // no skip at all
    const std::string line = absl::StrCat("x ─── ", branch, " ");
    return absl::StrCat("  ", line, Repeat("─", kWidth - DisplayWidth(line)), "─── x\n");
  }
  const std::string skip = Times(arm.skip, arm.skip_trained);
  const std::string top =
      absl::StrCat("x ─┬─", skip.empty() ? "" : " ", skip, skip.empty() ? "" : " ");
  absl::StrAppend(&out, "  ", top, Repeat("─", kWidth - DisplayWidth(top)), "(+) x\n");
  const std::string below = absl::StrCat("   └─ ", branch, " ");
  absl::StrAppend(&out, "  ", below, Repeat("─", kWidth - DisplayWidth(below)), "─┘\n");
  return out;
}

std::string DepthNote(const ModelSpec& m) {
  return m.norm_scaling == spec::NormScaling::kDepth ? "/ √l" : "";
}

// What follows the picture: the choices that have no box.
std::vector<std::string> Notes(const ModelSpec& m) {
  std::vector<std::string> notes;
  const auto add = [&](bool when, std::string text) {
    if (when) notes.push_back(std::move(text));
  };
  std::string qkv =
      m.qkv == spec::QkvForm::kFused ? "q, k, v: one linear" : "q, k, v: a linear each";
  if (m.vp == spec::ValueProjection::kIdentity)
    qkv = "q, k: a linear each; value and output are the identity";
  if (m.vp == spec::ValueProjection::kReparam)
    qkv = "q, k: a linear each; value and output α W0 + β dW";
  add(true, qkv);
  add(m.first_value == spec::FirstValue::kReparam, "block 0 keeps a value: α I + β dW, trained");
  add(m.query_init == spec::QueryInit::kZero, "queries start at 0");
  add(m.qkv_act == spec::QkvActivation::kGelu, "GELU on q, k and v");
  add(m.attn_matrix == spec::AttentionMatrix::kShaped,
      absl::StrCat("A' = α I + β softmax(q kᵀ) − γ C, a triple a ",
                   m.attn_gains == spec::GainScope::kHead ? "head" : "layer", ", trained"));
  add(m.attn_matrix == spec::AttentionMatrix::kValueSkip, "A' = α I + β softmax(q kᵀ), trained");
  add(m.qk_norm != spec::QkNorm::kNone,
      absl::StrCat("RMSNorm on q and k, ",
                   m.qk_norm == spec::QkNorm::kHead ? "per head" : "over all heads"));
  add(m.score_bias != spec::ScoreBias::kNone, "scores + F(x), a dense layer over key positions");
  add(m.attn_softcap > 0, absl::StrCat("scores c tanh(s / c), c = ", Number(m.attn_softcap)));
  add(m.attn_window > 0, absl::StrCat("a query sees ", m.attn_window, " keys",
                                      m.attn_window_pattern == spec::WindowPattern::kAlternate
                                          ? ", in every other block"
                                          : ""));
  add(!m.causal, "attention to both sides");
  add(m.value_residual != spec::ValueResidual::kNone, "v mixed with block 0's (ResFormer)");
  switch (m.position) {
    case spec::PositionKind::kRope:
      add(true,
          absl::StrCat("RoPE, base ", Number(m.rope_base),
                       m.rotary_fraction < 1
                           ? absl::StrCat(", on ", Number(100 * m.rotary_fraction), " % of a head")
                           : ""));
      break;
    case spec::PositionKind::kAlibi:
      add(true, "ALiBi");
      break;
    case spec::PositionKind::kNone:
      add(true, "no position information but causality");
      break;
    default:
      break;  // at the embedding
  }
  add(m.norm == spec::NormKind::kRmsNorm && !m.norm_eps_inside, "RMSNorm's ε outside the root");
  add(m.embed_shortcut, "before each block x ← λ0 x + λ1 x0, trained");
  add(m.parametrization != spec::Parametrization::kSp,
      absl::StrCat(Name(m.parametrization), " from d ", m.base_d_model, ", L ", m.base_n_layers,
                   ": scores × ", Number(spec::ScoreScale(m)), ", branches × ",
                   Number(spec::ResidualMultiplier(m)), ", logits × ",
                   Number(spec::LogitMultiplier(m))));
  add(spec::Routed(m),
      absl::StrCat(
          "router (", Name(m.router.gate), ", reads ", Name(m.router.pool),
          m.router.pool == spec::RouterPool::kPrefix ? absl::StrCat(" of ", m.router.prefix) : "",
          "): at each of ", m.router.steps, " steps a text takes one block, or none"));
  return notes;
}

}  // namespace

std::string BlockPicture(const ModelSpec& m) {
  const bool before =
      m.norm_place == spec::NormPlace::kPre || m.norm_place == spec::NormPlace::kPeri;
  const bool after =
      m.norm_place == spec::NormPlace::kOut || m.norm_place == spec::NormPlace::kPeri;
  const std::string norm = Chain({NormText(m, m.norm), DepthNote(m)});
  const double multiplier = spec::ResidualMultiplier(m);
  const std::string attention = AttentionText(m),
                    mlp = absl::StrCat("MLP ", Name(m.mlp), ", f ", m.d_ff);
  const std::string a_gain = Times(spec::BranchGain(m, m.branch_attn), m.branch_attn_trainable,
                                   multiplier),
                    m_gain = Times(spec::BranchGain(m, m.branch_mlp), m.branch_mlp_trainable,
                                   multiplier);
  const std::string in = before ? norm : "", out_norm = after ? norm : "";

  std::vector<std::string> embed = {
      absl::StrCat("tokens ─ embedding ", m.vocab_size, " × ", m.d_model),
      Times(m.embed_scale, m.embed_scale_trainable)};
  if (m.position == spec::PositionKind::kLearned)
    embed.push_back(absl::StrCat("+ learned positions, ", m.max_positions));
  if (m.position == spec::PositionKind::kSinusoidal) embed.push_back("+ sinusoids");
  embed.push_back(NormText(m, spec::KindOf(m.embed_norm, m.norm)));

  std::string out = absl::StrCat("  ", Chain(embed), " ─ x\n");
  absl::StrAppend(&out, "  ┌── ", spec::Routed(m) ? "a block; the router picks among " : "block, ",
                  m.n_layers,
                  spec::Routed(m)   ? ""
                  : m.n_layers == 1 ? " time"
                                    : " times",
                  "\n");
  std::string body;
  if (m.block == spec::BlockForm::kSequential) {
    for (const Arm& arm :
         {Arm{{in, attention, out_norm, a_gain}, m.skip_attn, m.skip_attn_trainable},
          Arm{{in, mlp, out_norm, m_gain}, m.skip_mlp, m.skip_mlp_trainable}}) {
      body += Residual(arm);
      if (m.norm_place == spec::NormPlace::kPost) body += absl::StrCat("  x ─ ", norm, " ─ x\n");
    }
  } else {
    const bool shared = m.parallel_norms == spec::ParallelNorms::kShared;
    const bool skip = m.skip_mlp != 0 || m.skip_mlp_trainable;
    const auto line = [&](const std::string& head, const std::string& text,
                          const std::string& end) {
      const std::string left = absl::StrCat(head, text, " ");
      absl::StrAppend(&body, "  ", left, Repeat("─", kWidth - DisplayWidth(left)), end, "\n");
    };
    if (skip) {
      line("x ─┬─", absl::StrCat(" ", Times(m.skip_mlp, m.skip_mlp_trainable)), "(+) x");
      line("   ├─ ", Chain({in, attention, out_norm, a_gain}), "─┤");
    } else {
      line("x ─┬─ ", Chain({in, attention, out_norm, a_gain}), "(+) x");
    }
    line("   └─ ", Chain({shared && !in.empty() ? in + " (the same)" : in, mlp, out_norm, m_gain}),
         "─┘");
    if (m.norm_place == spec::NormPlace::kPost) body += absl::StrCat("  x ─ ", norm, " ─ x\n");
  }
  size_t begin = 0;
  for (size_t end; (end = body.find('\n', begin)) != std::string::npos; begin = end + 1)
    absl::StrAppend(&out, "  │ ", body.substr(begin, end - begin), "\n");
  absl::StrAppend(
      &out, "  └──\n  ",
      Chain(
          {"x", NormText(m, spec::KindOf(m.final_norm, m.norm)),
           Times(1, false, spec::LogitMultiplier(m)),
           m.tied_head ? "head, the embedding's transpose" : "head",
           m.logit_softcap > 0 ? absl::StrCat("c tanh(z / c), c = ", Number(m.logit_softcap)) : "",
           "logits"}),
      "\n");
  for (const std::string& note : Notes(m)) absl::StrAppend(&out, "  · ", note, "\n");
  return out;
}

}  // namespace plumb::app
