#include "interchange/hf_tensors.h"

#include <map>
#include <stdexcept>

#include "trainer/spec/parameter_layout.h"

namespace plumb::interchange {
namespace {

enum class Order { kBlocks, kPerHead };  // all q, all k, all v; or q, k, v of each head in turn

// Names by role. Roles are our names without ".weight" and, in blocks, without "blocks.l.".
struct Layout {
  std::string block;                         // "model.layers." + l + "."
  std::map<std::string, std::string> outer;  // roles outside the blocks
  std::map<std::string, std::string> inner;
  bool in_out = false;  // GPT-2 keeps its linears [in, out]
  Order qkv = Order::kBlocks;
  std::vector<std::string> ignored;
};

// Names shared by the Llama family.
Layout Llama(std::map<std::string, std::string> norms) {
  Layout l{
      .block = "model.layers.",
      .outer = {{"embed", "model.embed_tokens"}, {"final_norm", "model.norm"}, {"head", "lm_head"}},
      .inner = std::move(norms),
      .ignored = {".rotary_emb.inv_freq"}};
  l.inner.insert({{"attn.q", "self_attn.q_proj"},
                  {"attn.k", "self_attn.k_proj"},
                  {"attn.v", "self_attn.v_proj"},
                  {"attn.out", "self_attn.o_proj"},
                  {"mlp.gate", "mlp.gate_proj"},
                  {"mlp.up", "mlp.up_proj"},
                  {"mlp.down", "mlp.down_proj"}});
  return l;
}

const std::map<std::string, Layout>& Layouts() {
  static const auto* const layouts = [] {
    const std::map<std::string, std::string> pre = {{"attn_norm", "input_layernorm"},
                                                    {"mlp_norm", "post_attention_layernorm"}};
    auto* all = new std::map<std::string, Layout>;
    (*all)["llama"] = (*all)["mistral"] = Llama(pre);
    Layout& phi3 = (*all)["phi3"] = Llama(pre);
    for (const char* split : {"attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up"})
      phi3.inner.erase(split);
    phi3.inner["attn.qkv"] = "self_attn.qkv_proj";
    phi3.inner["mlp.gate_up"] = "mlp.gate_up_proj";
    (*all)["olmo2"] = Llama({{"attn_post_norm", "post_attention_layernorm"},
                             {"mlp_post_norm", "post_feedforward_layernorm"},
                             {"attn.q_norm", "self_attn.q_norm"},
                             {"attn.k_norm", "self_attn.k_norm"}});
    (*all)["gemma2"] = Llama({{"attn_norm", "input_layernorm"},
                              {"attn_post_norm", "post_attention_layernorm"},
                              {"mlp_norm", "pre_feedforward_layernorm"},
                              {"mlp_post_norm", "post_feedforward_layernorm"}});
    (*all)["gpt2"] = {.block = "transformer.h.",
                      .outer = {{"embed", "transformer.wte"},
                                {"position", "transformer.wpe"},
                                {"final_norm", "transformer.ln_f"},
                                {"head", "lm_head"}},
                      .inner = {{"attn_norm", "ln_1"},
                                {"attn.qkv", "attn.c_attn"},
                                {"attn.out", "attn.c_proj"},
                                {"mlp_norm", "ln_2"},
                                {"mlp.up", "mlp.c_fc"},
                                {"mlp.down", "mlp.c_proj"}},
                      .in_out = true,
                      .ignored = {".attn.bias", ".attn.masked_bias"}};
    (*all)["gpt_neox"] = {
        .block = "gpt_neox.layers.",
        .outer = {{"embed", "gpt_neox.embed_in"},
                  {"final_norm", "gpt_neox.final_layer_norm"},
                  {"head", "embed_out"}},
        .inner = {{"attn_norm", "input_layernorm"},
                  {"attn.qkv", "attention.query_key_value"},
                  {"attn.out", "attention.dense"},
                  {"mlp_norm", "post_attention_layernorm"},
                  {"mlp.up", "mlp.dense_h_to_4h"},
                  {"mlp.down", "mlp.dense_4h_to_h"}},
        .qkv = Order::kPerHead,
        .ignored = {".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"}};
    (*all)["gptj"] = {.block = "transformer.h.",
                      .outer = {{"embed", "transformer.wte"},
                                {"final_norm", "transformer.ln_f"},
                                {"head", "lm_head"}},
                      .inner = {{"attn_norm", "ln_1"},
                                {"attn.q", "attn.q_proj"},
                                {"attn.k", "attn.k_proj"},
                                {"attn.v", "attn.v_proj"},
                                {"attn.out", "attn.out_proj"},
                                {"mlp.up", "mlp.fc_in"},
                                {"mlp.down", "mlp.fc_out"}},
                      .ignored = {".attn.bias", ".attn.masked_bias", ".attn.embed_positions"}};
    return all;
  }();
  return *layouts;
}

// A stretch of outputs that stays together: a head of q, k or v, the gate, or a whole tensor.
struct Unit {
  std::string name;
  int64_t width = 0;
};
using Units = std::vector<Unit>;

class Mapper {
 public:
  Mapper(const std::string& model_type, const Layout& layout, const spec::ModelSpec& m)
      : type_(model_type), layout_(layout), m_(m), ours_(spec::LayoutOf(m)) {}

  TensorMap Make() {
    for (const spec::Parameter& p : ours_.parameters) Add(p);
    map_.ignored = layout_.ignored;
    if (m_.tied_head) {
      for (const char* head : {"lm_head.weight", "embed_out.weight"})
        map_.copies.push_back({head, layout_.outer.at("embed") + ".weight"});
    } else if (type_ == "gpt_neox") {
      map_.aliases.push_back({"embed_out.weight", "lm_head.weight"});
    }
    if (type_ == "gptj") map_.zeros.push_back({"lm_head.bias", {m_.vocab_size}});
    // A model saved without its head's wrapper has no "transformer." before its names.
    const std::string base = layout_.block.substr(0, layout_.block.find('.') + 1);
    for (const Link& link : map_.links) {
      if (link.theirs.rfind(base, 0) == 0)
        map_.aliases.push_back({link.theirs, link.theirs.substr(base.size())});
    }
    return std::move(map_);
  }

 private:
  void Heads(const char* what, int64_t n, Units* to) const {
    for (int64_t i = 0; i < n; ++i) to->push_back({what + std::to_string(i), m_.head_dim});
  }
  // The units of a role, in our order.
  Units UnitsOf(const std::string& role, int64_t width) const {
    Units units;
    if (role == "attn.qkv" || role == "attn.q") Heads("q", m_.n_heads, &units);
    if (role == "attn.qkv" || role == "attn.k") Heads("k", m_.n_kv_heads, &units);
    if (role == "attn.qkv" || role == "attn.v") Heads("v", m_.n_kv_heads, &units);
    if (role == "mlp.gate_up" || role == "mlp.gate") units.push_back({"gate", m_.d_ff});
    if (role == "mlp.gate_up" || role == "mlp.up") units.push_back({"up", m_.d_ff});
    return units.empty() ? Units{{role, width}} : units;
  }
  Units TheirUnits(const std::string& role, int64_t width) const {
    if (role != "attn.qkv" || layout_.qkv == Order::kBlocks) return UnitsOf(role, width);
    Units units;
    for (int64_t i = 0; i < m_.n_heads; ++i) {
      for (const char* what : {"q", "k", "v"})
        units.push_back({what + std::to_string(i), m_.head_dim});
    }
    return units;
  }

  void Add(const spec::Parameter& p) {
    const size_t dot = p.name.rfind('.');
    const std::string suffix = p.name.substr(dot);  // ".weight"
    std::string role = p.name.substr(0, dot), before;
    const std::map<std::string, std::string>* names = &layout_.outer;
    if (p.layer >= 0) {
      const std::string block = "blocks." + std::to_string(p.layer) + ".";
      role = role.substr(block.size());
      before = layout_.block + std::to_string(p.layer) + ".";
      names = &layout_.inner;
    }
    // Their tensors that could hold a part of ours.
    std::vector<std::string> candidates = {role};
    if (role.rfind("attn.", 0) == 0) candidates = {role, "attn.qkv", "attn.q", "attn.k", "attn.v"};
    if (role == "mlp.gate_up") candidates = {role, "mlp.gate", "mlp.up"};
    const int64_t outputs = p.shape.back();
    const bool known_suffix = suffix == ".weight" || suffix == ".bias";
    const bool table = p.role == spec::Role::kEmbedding || p.role == spec::Role::kPosition;
    const Units ours = UnitsOf(role, outputs);
    int64_t placed = 0;
    for (size_t c = 0; c < candidates.size() && known_suffix; ++c) {
      const auto it = names->find(candidates[c]);
      if (it == names->end() || (c > 0 && candidates[c] == role)) continue;
      const Units theirs = TheirUnits(candidates[c], outputs);
      Link link{.ours = p.name, .theirs = before + it->second + suffix, .ours_shape = p.shape};
      int64_t width = 0;
      for (const Unit& their : theirs) {
        int64_t at = 0;
        for (const Unit& our : ours) {
          if (our.name == their.name) Append(&link.runs, {at, width, our.width});
          at += our.width;
        }
        width += their.width;
      }
      if (link.runs.empty()) continue;
      for (const Run& run : link.runs) placed += run.count;
      link.transposed = p.shape.size() == 2 && !table && (!layout_.in_out || p.layer < 0);
      link.theirs_shape = p.shape;
      if (link.transposed) {
        link.theirs_shape = {width, p.shape[0]};
      } else {
        link.theirs_shape.back() = width;
      }
      map_.links.push_back(std::move(link));
    }
    if (placed != outputs) {
      throw std::invalid_argument("parameter " + p.name + " has no place in the layout of " +
                                  type_);
    }
  }
  static void Append(std::vector<Run>* runs, Run run) {
    if (!runs->empty() && runs->back().ours + runs->back().count == run.ours &&
        runs->back().theirs + runs->back().count == run.theirs) {
      runs->back().count += run.count;
    } else {
      runs->push_back(run);
    }
  }

  const std::string type_;
  const Layout& layout_;
  const spec::ModelSpec& m_;
  const spec::ParameterLayout ours_;
  TensorMap map_;
};

}  // namespace

std::vector<std::string> HfModelTypes() {
  std::vector<std::string> names;
  for (const auto& [name, layout] : Layouts()) names.push_back(name);
  return names;
}

TensorMap HfTensors(const std::string& model_type, const spec::ModelSpec& resolved) {
  const auto it = Layouts().find(model_type);
  if (it == Layouts().end())
    throw std::invalid_argument("no layout for model_type \"" + model_type + "\"");
  return Mapper(model_type, it->second, resolved).Make();
}

}  // namespace plumb::interchange
