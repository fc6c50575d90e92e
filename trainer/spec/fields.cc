#include "trainer/spec/fields.h"

#include "trainer/spec/field_table.h"
#include "trainer/spec/mixture.h"

namespace plumb::spec {
namespace {

constexpr double kMaxInteger = 9007199254740992.0;  // 2^53: exact as a JSON number

}  // namespace

std::vector<Field> Fields(TrialSpec& s) {
  constexpr auto kRow = Fusion::kRow;
  constexpr auto kFree = Fusion::kFree;
  constexpr auto kResult = Identity::kResult;
  constexpr auto kExecution = Identity::kExecution;
  Table t;
  AddModelFields(s.model, &t);
  t.Text("data.corpus", s.data.corpus, {"name of a prepared corpus (plumb data list)"});
  t.Text("data.tokenizer", s.data.tokenizer, {"bytes, or sentencepiece:<vocabulary size>"});
  t.Text("data.digest", s.data.digest, {"digest of the prepared corpus; set at submit"});
  t.Integer("data.seq_len", s.data.seq_len, 1, 1 << 24, {"sequence length in training", "tokens"});
  t.Integer("data.score_from", s.data.score_from, 0, 1 << 24,
            {"positions before it are context and never scored, in training as in evaluation; at "
             "least router.prefix where a router reads a prefix",
             "tokens", kResult, kRow});
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
  t.Integer(
      "train.ranks", tr.ranks, 1, 256,
      {"processes of one worker that share each step's sequences evenly, each with "
       "execution.threads threads; the order of summation, and so the last bits, depend on it",
       "processes"});
  t.Choice("train.objective", tr.objective,
           {"causal: predict the next token; mlm: predict masked tokens (BERT)"});
  t.Real("train.mask_fraction", tr.mask_fraction, 0, 1,
         {"mlm: share of the tokens that is predicted (of those 80% masked, 10% random, 10% kept)",
          "", kResult, kRow});
  t.Choice("train.optimizer", tr.optimizer,
           {"muon: for the blocks' matrices, AdamW for the rest", "", kResult, kRow});
  t.Real("train.lr", tr.lr, 0, 1e3, {"peak learning rate", "", kResult, kRow});
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
  t.Real("train.momentum", tr.momentum, 0, 0.999999999, {"sgd, muon", "", kResult, kRow});
  t.Real("train.z_loss", tr.z_loss, 0, 10,
         {"times the squared log-sum-exp of the logits, added to the training loss", "", kResult,
          kRow});
  t.Real("train.layer_cosine", tr.layer_cosine, 0, 1e6,
         {"times the sum over neighbouring layers of 1 - cos(h, h'), added to the training loss",
          "", kResult, kRow});
  t.Real("train.layer_mse", tr.layer_mse, 0, 1e6,
         {"times the sum over neighbouring layers of |h - h'|^2, added to the training loss", "",
          kResult, kRow});
  t.Choice("train.layer_reduction", tr.layer_reduction,
           {"of layer_cosine and layer_mse: mean over tokens, their sum, or elements: mean over "
            "tokens and, of the squares, over the width too"});
  t.Flag("train.layer_embedding", tr.layer_embedding,
         {"layer_cosine, layer_mse: the first pair is the embedding and block 0's output; false: "
          "the outputs of blocks 0 and 1"});
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
  t.Integer("linearity.every", s.linearity.every, 0, 1e12,
            {"measure how linear each layer is every so many steps, and at the last; 0: never",
             "steps", kResult, kRow});
  t.Integer("linearity.tokens", s.linearity.tokens, 0, kMaxInteger,
            {"of the tune split, to fit linear maps on; 0: 50 d_model", "tokens", kResult, kRow});
  t.Integer("linearity.score_tokens", s.linearity.score_tokens, 0, kMaxInteger,
            {"of the val split, to score them on; 0: a quarter of those to fit on", "tokens",
             kResult, kRow});
  t.Integer("seed.init", s.seed.init, 0, kMaxInteger,
            {"seed of the initial weights, hashed with each parameter's name", "", kResult, kRow});
  t.Integer("seed.data", s.seed.data, 0, kMaxInteger,
            {"seed of the data order", "", kResult, kRow});
  t.Integer("init.trial", s.init.trial, 0, kMaxInteger,
            {"begin with the weights of this trial's last checkpoint, and a fresh optimizer; 0: "
             "with fresh weights",
             "", kExecution, kFree});
  t.Text(
      "init.checkpoint", s.init.checkpoint,
      {"the same from the folder of a checkpoint (step-…), an absolute path; of init.trial it is "
       "set at submit",
       "", kExecution, kFree});
  t.Text("init.digest", s.init.digest,
         {"SHA-256 of that checkpoint's manifest.json: what decides the result; set at submit", "",
          kResult, kRow});
  t.Integer("init.step", s.init.step, 0, 1e12,
            {"the step of that checkpoint: go on from there with its optimizer's state too, under "
             "the fields given here; 0: its weights alone, from step 0",
             "steps", kResult, kRow});
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
  t.Real("execution.rank_timeout_seconds", s.execution.rank_timeout_seconds, 0.1, 1e6,
         {"how long a rank of train.ranks waits for the others within a step before the attempt "
          "ends as failed and is tried again",
          "s", kExecution, kFree});
  t.Flag(
      "execution.share_trunk", s.execution.share_trunk,
      {"begin from a checkpoint of a trial that computes the same up to there (schedules constant "
       "and wsd, whose rate does not depend on the budget before the cooldown), and let others "
       "begin from this one's; false: from step 0, so that budgets are independent runs",
       "", kExecution, kFree});
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

std::string ShortName(const std::string& path) {
  return path.rfind("base.", 0) == 0 ? "" : path.substr(path.rfind('.') + 1);
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
