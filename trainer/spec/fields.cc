#include "trainer/spec/fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "trainer/spec/mixture.h"

namespace plumb::spec {
namespace {

using nlohmann::json;

constexpr double kMaxInteger =
    9007199254740992.0;  // 2^53: every integer up to here is exact as a JSON number

template <typename E>
struct Choices;
template <>
struct Choices<NormKind> {
  static constexpr const char* kNames[] = {"rmsnorm", "layernorm"};
};
template <>
struct Choices<PositionKind> {
  static constexpr const char* kNames[] = {"rope", "learned"};
};
template <>
struct Choices<MlpKind> {
  static constexpr const char* kNames[] = {"swiglu", "gelu"};
};
template <>
struct Choices<ScheduleKind> {
  static constexpr const char* kNames[] = {"constant", "cosine", "wsd"};
};
template <>
struct Choices<DeviceKind> {
  static constexpr const char* kNames[] = {"cpu", "cuda"};
};

std::string Join(const std::vector<std::string>& v) {
  std::string out;
  for (const auto& s : v) out += (out.empty() ? "" : ", ") + s;
  return out;
}

std::string Number(double v) {
  if (v == std::floor(v) && std::abs(v) < 1e15) return std::to_string(static_cast<int64_t>(v));
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", v);
  return buffer;
}

struct About {
  const char* doc;
  const char* unit = "";
  Identity identity = Identity::kResult;
  Fusion fusion = Fusion::kKey;
};

// Collects the table; one method per type of field.
class Table {
 public:
  std::vector<Field> fields;

  void Integer(const char* path, int64_t& v, double min, double max, About about) {
    Field& f = Add(path, FieldType::kInteger, about);
    f.min = min, f.max = max;
    f.get = [&v] { return json(v); };
    f.set = [&v, min, max](const json& j) -> std::string {
      // 1e6 is an integer to everyone but JSON parsers.
      const bool whole = j.is_number_integer() ||
                         (j.is_number_float() && std::floor(j.get<double>()) == j.get<double>());
      if (!j.is_number() || !whole) return "expected an integer, got " + j.dump();
      const double d = j.get<double>();
      if (!(d >= min && d <= max))
        return Number(d) + " is outside [" + Number(min) + ", " + Number(max) + "]";
      v = j.is_number_integer() ? j.get<int64_t>() : static_cast<int64_t>(d);
      return "";
    };
  }
  void Real(const char* path, double& v, double min, double max, About about) {
    Field& f = Add(path, FieldType::kNumber, about);
    f.min = min, f.max = max;
    f.get = [&v] { return json(v); };
    f.set = [&v, min, max](const json& j) -> std::string {
      if (!j.is_number()) return "expected a number, got " + j.dump();
      const double d = j.get<double>();
      if (!(d >= min && d <= max))
        return Number(d) + " is outside [" + Number(min) + ", " + Number(max) + "]";
      v = d;
      return "";
    };
  }
  void Flag(const char* path, bool& v, About about) {
    Field& f = Add(path, FieldType::kBoolean, about);
    f.get = [&v] { return json(v); };
    f.set = [&v](const json& j) -> std::string {
      if (!j.is_boolean()) return "expected true or false, got " + j.dump();
      v = j.get<bool>();
      return "";
    };
  }
  void Text(const char* path, std::string& v, About about) {
    Field& f = Add(path, FieldType::kString, about);
    f.get = [&v] { return json(v); };
    f.set = [&v](const json& j) -> std::string {
      if (!j.is_string()) return "expected a string, got " + j.dump();
      if (j.get<std::string>().size() > 1024) return "longer than 1024 bytes";
      v = j.get<std::string>();
      return "";
    };
  }
  // Text of which `canonical` makes the one form it is kept in.
  void Mixture(const char* path, std::string& v,
               std::string (*canonical)(const std::string&, std::string*), About about) {
    Text(path, v, about);
    fields.back().set = [&v, canonical, check = fields.back().set](const json& j) -> std::string {
      const std::string before = v;
      std::string wrong = check(j);
      if (wrong.empty()) wrong = canonical(j.get<std::string>(), &v);
      if (!wrong.empty()) v = before;
      return wrong;
    };
  }
  template <typename E>
  void Choice(const char* path, E& v, About about) {
    Field& f = Add(path, FieldType::kChoice, about);
    f.choices.assign(std::begin(Choices<E>::kNames), std::end(Choices<E>::kNames));
    const auto names = f.choices;
    f.get = [&v] { return json(Choices<E>::kNames[static_cast<int>(v)]); };
    f.set = [&v, names](const json& j) -> std::string {
      const auto it =
          j.is_string() ? std::find(names.begin(), names.end(), j.get<std::string>()) : names.end();
      if (it == names.end()) return "expected one of " + Join(names) + "; got " + j.dump();
      v = static_cast<E>(it - names.begin());
      return "";
    };
  }
  void Named(const char* path, std::string& v, std::vector<std::string> names, About about) {
    Text(path, v, about);
    Field& f = fields.back();
    f.type = FieldType::kChoice;
    f.choices = names;
    f.set = [&v, names](const json& j) -> std::string {
      if (!j.is_string() ||
          std::find(names.begin(), names.end(), j.get<std::string>()) == names.end()) {
        return "expected one of " + Join(names) + "; got " + j.dump();
      }
      v = j.get<std::string>();
      return "";
    };
  }

 private:
  Field& Add(const char* path, FieldType type, const About& about) {
    Field f;
    f.path = path, f.type = type, f.doc = about.doc, f.unit = about.unit;
    f.identity = about.identity, f.fusion = about.fusion;
    fields.push_back(std::move(f));
    return fields.back();
  }
};

}  // namespace

const char* Name(NormKind v) { return Choices<NormKind>::kNames[static_cast<int>(v)]; }
const char* Name(PositionKind v) { return Choices<PositionKind>::kNames[static_cast<int>(v)]; }
const char* Name(MlpKind v) { return Choices<MlpKind>::kNames[static_cast<int>(v)]; }
const char* Name(ScheduleKind v) { return Choices<ScheduleKind>::kNames[static_cast<int>(v)]; }
const char* Name(DeviceKind v) { return Choices<DeviceKind>::kNames[static_cast<int>(v)]; }

std::vector<Field> Fields(TrialSpec& s) {
  constexpr auto kRow = Fusion::kRow;
  constexpr auto kFree = Fusion::kFree;
  constexpr auto kResult = Identity::kResult;
  constexpr auto kExecution = Identity::kExecution;
  Table t;
  ModelSpec& m = s.model;
  t.Named("model.preset", m.preset, {"llama", "gpt2"},
          {"a row of defaults; the other model fields override it", "", kResult, kFree});
  t.Integer("model.n_layers", m.n_layers, 1, 4096, {"depth: transformer blocks"});
  t.Integer("model.d_model", m.d_model, 1, 1 << 20, {"width of the residual stream"});
  t.Integer("model.n_heads", m.n_heads, 0, 65536,
            {"query heads; 0: d_model / head_dim, or 4 where head_dim is 0 too"});
  t.Integer("model.n_kv_heads", m.n_kv_heads, 0, 65536,
            {"key and value heads; 0: n_heads; fewer is grouped-query attention"});
  t.Integer("model.head_dim", m.head_dim, 0, 65536, {"width of a head; 0: d_model / n_heads"});
  t.Integer(
      "model.d_ff", m.d_ff, 0, 1 << 22,
      {"width of the MLP; 0: swiglu 8/3 d_model rounded up to a multiple of 8, gelu 4 d_model"});
  t.Integer("model.vocab_size", m.vocab_size, 0, 1 << 24, {"0: the tokenizer's", "tokens"});
  t.Choice("model.norm", m.norm, {"kind of the norms"});
  t.Real("model.norm_eps", m.norm_eps, 0, 1,
         {"added to the mean square (rmsnorm) or variance (layernorm), under the root"});
  t.Choice("model.position", m.position, {"position information"});
  t.Integer("model.max_positions", m.max_positions, 0, 1 << 24,
            {"rows of the learned position table; 0: the longest sequence used", "tokens"});
  t.Real("model.rope_base", m.rope_base, 1, 1e12,
         {"base of the rotary angles, half-rotation convention"});
  t.Choice("model.mlp", m.mlp, {"kind of the MLP (gelu is the tanh form)"});
  t.Flag("model.bias", m.bias, {"biases of the linear layers; a layernorm always has one"});
  t.Flag("model.tied_head", m.tied_head, {"the head is the token embedding"});
  t.Real("model.init_std", m.init_std, 0, 10,
         {"normal init of linears and embeddings; the outputs of a residual branch divide it by "
          "sqrt(2 n_layers)",
          "", kResult, kRow});
  t.Text("data.corpus", s.data.corpus, {"name of a prepared corpus (plumb data list)"});
  t.Text("data.tokenizer", s.data.tokenizer, {"bytes, or sentencepiece:<vocabulary size>"});
  t.Text("data.digest", s.data.digest, {"digest of the prepared corpus; set at submit"});
  t.Integer("data.seq_len", s.data.seq_len, 1, 1 << 24, {"sequence length in training", "tokens"});
  t.Mixture("data.mix", s.data.mix, CanonicalMix,
            {"weights of the corpus's parts, as ja=0.7,en=0.3; empty: by their tokens", "", kResult,
             kRow});
  t.Mixture("data.phases", s.data.phases, CanonicalPhases,
            {"mixes in turn, each for a fraction of the steps, as 0.5:ja=1;0.5:ja=0.5,en=0.5; "
             "instead of mix",
             "", kResult, kRow});
  TrainSpec& tr = s.train;
  t.Integer("train.steps", tr.steps, 0, 1e12,
            {"budget: optimizer steps; give one of steps, tokens, flops, epochs", "steps", kResult,
             kRow});
  t.Integer("train.tokens", tr.tokens, 0, kMaxInteger,
            {"budget: training tokens, rounded to whole steps", "tokens", kResult, kRow});
  t.Real(
      "train.flops", tr.flops, 0, 1e30,
      {"budget: training FLOPs by the exact count, rounded to whole steps", "FLOP", kResult, kRow});
  t.Real("train.epochs", tr.epochs, 0, 1e9,
         {"budget: passes over the training tokens of the corpus, rounded to whole steps", "epochs",
          kResult, kRow});
  t.Integer("train.batch_tokens", tr.batch_tokens, 1, 1e10,
            {"tokens per optimizer step, a multiple of data.seq_len", "tokens"});
  t.Real("train.lr", tr.lr, 0, 1e3, {"peak learning rate of AdamW", "", kResult, kRow});
  t.Choice("train.schedule", tr.schedule, {"learning rate after the warm-up", "", kResult, kRow});
  t.Integer("train.warmup_steps", tr.warmup_steps, 0, 1e12,
            {"linear warm-up from 0", "steps", kResult, kRow});
  t.Real("train.warmup_fraction", tr.warmup_fraction, 0, 1,
         {"linear warm-up, as a fraction of all steps", "", kResult, kRow});
  t.Real("train.final_lr_fraction", tr.final_lr_fraction, 0, 1,
         {"rate at the end of cosine or wsd, as a fraction of lr", "", kResult, kRow});
  t.Real("train.decay_fraction", tr.decay_fraction, 0, 1,
         {"wsd: the last part of the steps, in which the rate falls linearly", "", kResult, kRow});
  t.Real("train.weight_decay", tr.weight_decay, 0, 1e3,
         {"decoupled weight decay of matrices (never of gains and biases)", "", kResult, kRow});
  t.Real("train.beta1", tr.beta1, 0, 0.999999999, {"AdamW", "", kResult, kRow});
  t.Real("train.beta2", tr.beta2, 0, 0.999999999999, {"AdamW", "", kResult, kRow});
  t.Real("train.adam_eps", tr.adam_eps, 0, 1, {"AdamW", "", kResult, kRow});
  t.Real("train.grad_clip", tr.grad_clip, 0, 1e9,
         {"largest global gradient norm of the trial; 0: no clipping", "", kResult, kRow});
  t.Real("train.divergence_factor", tr.divergence_factor, 0, 1e9,
         {"a smoothed loss above factor * first loss ends the trial as diverged; 0: only a "
          "non-finite loss does",
          "", kResult, kRow});
  t.Integer("train.log_every", tr.log_every, 1, 1e9,
            {"distance of the points of train/loss", "steps", kResult, kRow});
  t.Integer("eval.points", s.eval.points, 1, 100000,
            {"evaluations of tune and val during training, the last at the end"});
  t.Integer("eval.seq_len", s.eval.seq_len, 0, 1 << 24,
            {"sequence length in evaluation; 0: data.seq_len", "tokens"});
  t.Integer("eval.tokens", s.eval.tokens, 0, kMaxInteger,
            {"per split and evaluation; 0: the whole split", "tokens"});
  t.Integer("eval.final_tokens", s.eval.final_tokens, 0, kMaxInteger,
            {"per split at the end; 0: the whole split", "tokens"});
  t.Integer("eval.train_tokens", s.eval.train_tokens, 0, kMaxInteger,
            {"size of the fixed subset of train that is evaluated; 0: none", "tokens"});
  t.Integer("seed.init", s.seed.init, 0, kMaxInteger,
            {"seed of the initial weights, hashed with each parameter's name", "", kResult, kRow});
  t.Integer("seed.data", s.seed.data, 0, kMaxInteger,
            {"seed of the data order", "", kResult, kRow});
  t.Choice("numerics.device", s.numerics.device, {"kind of device"});
  t.Named("numerics.dtype", s.numerics.dtype, {"float32"}, {"arithmetic of the training step"});
  t.Integer("execution.threads", s.execution.threads, 1, 1024,
            {"threads of one trainer; fixed at a stage's first lease", "", kExecution});
  t.Integer("execution.micro_batch", s.execution.micro_batch, 0, 1e9,
            {"sequences per forward pass; 0: the whole batch", "sequences", kExecution});
  t.Real("execution.checkpoint_seconds", s.execution.checkpoint_seconds, 0, 1e9,
         {"time between checkpoints; 0: by steps only", "s", kExecution, kFree});
  t.Integer("execution.checkpoint_steps", s.execution.checkpoint_steps, 0, 1e12,
            {"steps between checkpoints; 0: by time only", "steps", kExecution, kFree});
  return std::move(t.fields);
}

int EditDistance(const std::string& a, const std::string& b) {
  const int n = a.size(), m = b.size();
  std::vector<std::vector<int>> d(n + 1, std::vector<int>(m + 1));
  for (int i = 0; i <= n; ++i) d[i][0] = i;
  for (int j = 0; j <= m; ++j) d[0][j] = j;
  for (int i = 1; i <= n; ++i) {
    for (int j = 1; j <= m; ++j) {
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[n][m];
}

std::string NearestField(const std::string& path) {
  TrialSpec spec;
  std::string best;
  int best_distance = 1 << 20;
  for (const Field& f : Fields(spec)) {
    // "depth" alone, or a field under the wrong section, is compared with the last part of the path
    // too.
    const std::string last = f.path.substr(f.path.rfind('.') + 1);
    const std::string given = path.substr(path.rfind('.') + 1);
    const int distance =
        std::min(EditDistance(path, f.path), EditDistance(given, last) + (path == given ? 0 : 1));
    if (distance < best_distance) best_distance = distance, best = f.path;
  }
  const int limit = std::max<int>(1, path.size() / 4);
  return best_distance <= limit ? best : "";
}

}  // namespace plumb::spec
