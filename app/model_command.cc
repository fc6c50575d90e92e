// plumb model list|show.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/model_picture.h"
#include "app/model_spec.h"
#include "app/table.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/presets.h"

namespace plumb::app {

using nlohmann::json;

int ListModels(const Context& context) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  Table table{.columns = {{"preset"}, {"what"}}};
  for (const std::string& name : spec::PresetNames())
    table.rows.push_back({name, spec::PresetSource(name)});
  std::fputs(Print(table, *format).c_str(), stdout);
  return kDone;
}

int ShowModel(const Context& context, const ModelArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  const absl::StatusOr<spec::TrialSpec> spec = SpecOfPreset(args.preset, args.shape);
  if (!spec.ok()) return Finish(spec.status());
  const spec::ModelSpec& m = spec->model;
  const int64_t T = spec->data.seq_len;
  const spec::ParameterCounts counts = spec::CountParameters(m);
  const int64_t forward = spec::ForwardFlopsPerToken(m, T);
  Table table{.columns = {{"component"},
                          {"blocks"},
                          {"parameters"},
                          {"= formula"},
                          {"FLOPs/token"},
                          {"formula"},
                          {"source"}}};
  const bool text = *format == Format::kTable;
  if (!text) {
    table.columns = {{"component"}, {"blocks"}, {"parameters"},    {"parameters_formula"},
                     {"frozen"},    {"flops"},  {"flops_formula"}, {"source"}};
  }
  json components = json::array();
  for (const ComponentRow& r : ComponentRows(m, T)) {
    const Value blocks = r.blocks > 0 ? Value(r.blocks) : Value();
    if (text) {
      table.rows.push_back({r.name, blocks, r.parameters,
                            absl::StrCat(r.parameters_formula, r.frozen > 0 ? " (frozen)" : ""),
                            r.flops, r.flops_formula, r.source});
    } else {
      table.rows.push_back({r.name, blocks, r.parameters, r.parameters_formula, r.frozen, r.flops,
                            r.flops_formula, r.source});
      components.push_back({{"component", r.name},
                            {"blocks", r.blocks},
                            {"parameters", r.parameters},
                            {"parameters_formula", r.parameters_formula},
                            {"frozen", r.frozen},
                            {"flops", r.flops},
                            {"flops_formula", r.flops_formula},
                            {"source", r.source}});
    }
  }
  if (*format == Format::kJson) {
    const json out = {{"preset", args.preset},
                      {"source", spec::PresetSource(args.preset)},
                      {"spec", spec::Canonical(*spec, spec::With::kResultOnly)},
                      {"seq_len", T},
                      {"parameters",
                       {{"total", counts.total},
                        {"embedding", counts.embedding},
                        {"non_embedding", counts.non_embedding},
                        {"trainable", counts.trainable},
                        {"frozen", counts.frozen}}},
                      {"forward_flops_per_token", forward},
                      {"training_flops_per_token", spec::TrainingFlopsPerToken(m, T)},
                      {"components", components}};
    std::printf("%s\n", out.dump(2).c_str());
    return kDone;
  }
  if (!text) {
    std::fputs(Print(table, *format).c_str(), stdout);
    return kDone;
  }
  std::printf("%s: %s\n\n%s\n", args.preset.c_str(), spec::PresetSource(args.preset).c_str(),
              BlockPicture(m).c_str());
  std::fputs(TableText(table).c_str(), stdout);
  std::printf(
      "\nd %lld, L %lld, H %lld, G %lld, h %lld, f %lld, V %lld, T %lld; each row is one block's\n"
      "parameters: %lld = %lld embedding + %lld others; %lld trained, %lld frozen\n"
      "FLOPs per token: %lld forward, %lld in training (a multiply-add is 2; attention over the "
      "full square)\n",
      static_cast<long long>(m.d_model), static_cast<long long>(m.n_layers),
      static_cast<long long>(m.n_heads), static_cast<long long>(m.n_kv_heads),
      static_cast<long long>(m.head_dim), static_cast<long long>(m.d_ff),
      static_cast<long long>(m.vocab_size), static_cast<long long>(T),
      static_cast<long long>(counts.total), static_cast<long long>(counts.embedding),
      static_cast<long long>(counts.non_embedding), static_cast<long long>(counts.trainable),
      static_cast<long long>(counts.frozen), static_cast<long long>(forward),
      static_cast<long long>(spec::TrainingFlopsPerToken(m, T)));
  if (spec::Routed(m)) {
    std::printf("as planned: %lld blocks of %lld a text\n",
                static_cast<long long>(spec::PlannedBlockEvaluations(m)),
                static_cast<long long>(m.n_layers));
  }
  return kDone;
}

}  // namespace plumb::app
