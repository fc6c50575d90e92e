#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/store.h"

namespace plumb::store {
namespace {

std::string Select(const char* columns, const char* rest) {
  return absl::StrCat("SELECT ", columns, " FROM ", rest);
}

}  // namespace

TrialRow ReadTrial(const Statement& s) {
  int i = 0;
  TrialRow r;
  r.id = TrialId{s.Int(i++)};
  r.key = s.Text(i++);
  r.fusion_key = s.Text(i++);
  r.config_json = s.Text(i++);
  r.state = StageStateFromName(s.Text(i++)).value_or(StageState::kPending);
  for (int64_t* p :
       {&r.n_layers, &r.d_model, &r.n_heads, &r.n_kv_heads, &r.head_dim, &r.d_ff, &r.vocab_size}) {
    *p = s.Int(i++);
  }
  for (std::string* p : {&r.norm, &r.position, &r.mlp}) *p = s.Text(i++);
  r.tied_head = s.Int(i++);
  for (std::string* p : {&r.corpus, &r.tokenizer}) *p = s.Text(i++);
  for (int64_t* p : {&r.seq_len, &r.batch_tokens, &r.steps}) *p = s.Int(i++);
  r.lr = s.Double(i++);
  for (int64_t* p : {&r.seed_init, &r.seed_data, &r.params_total, &r.params_non_embedding,
                     &r.params_embedding, &r.flops_per_token, &r.tokens}) {
    *p = s.Int(i++);
  }
  r.flops = s.Double(i++);
  r.create_time_us = s.Int(i++);
  return r;
}

StageRow ReadStage(const Statement& s) {
  int i = 0;
  StageRow r;
  r.id = StageId{s.Int(i++)};
  r.trial = TrialId{s.Int(i++)};
  r.name = s.Text(i++);
  r.kind = s.Text(i++);
  r.parent = StageId{s.Int(i++)};
  r.settings_json = s.Text(i++);
  r.state = StageStateFromName(s.Text(i++)).value_or(StageState::kPending);
  for (int64_t* p : {&r.priority, &r.target_step, &r.step, &r.attempts, &r.failures})
    *p = s.Int(i++);
  r.not_before_ct = absl::Microseconds(s.Int(i++));
  r.threads = s.Int(i++);
  r.checkpoint_step = s.Int(i++);
  for (std::string* p : {&r.checkpoint_path, &r.checkpoint_digest, &r.reason}) *p = s.Text(i++);
  for (int64_t* p : {&r.losses, &r.ooms, &r.memory_bytes}) *p = s.Int(i++);
  r.labels = s.Text(i++);
  r.bundle = s.Int(i++);
  r.ranks = s.Int(i++);
  r.until_step = s.Int(i++);
  r.prefix_key = s.Text(i++);
  r.trunk_step = s.Int(i++);
  r.branch_stage = StageId{s.Int(i++)};
  r.branch_step = s.Int(i++);
  return r;
}

AttemptRow ReadAttempt(const Statement& s) {
  AttemptRow r;
  r.id = {StageId{s.Int(0)}, s.Int(1)};
  r.incarnation = s.Int(2);
  r.worker = WorkerId{s.Int(3)};
  r.session = SessionId{s.Int(4)};
  r.until_step = s.Int(5);
  r.start_step = s.Int(6);
  r.acked_seq = s.Int(7);
  if (!s.IsNull(8)) r.outcome = OutcomeFromName(s.Text(8));
  r.cause = s.Text(9);
  r.log_tail = s.Text(10);
  r.summary_json = s.Text(11);
  r.start_time_us = s.Int(12);
  r.end_time_us = s.Int(13);
  r.bundle = s.Int(14);
  r.bundle_rows = s.Int(15);
  r.slot_us = s.Int(16);
  return r;
}

TrunkRow ReadTrunk(const Statement& s) {
  return {.prefix_key = s.Text(0),
          .step = s.Int(1),
          .stage = StageId{s.Int(2)},
          .trial = TrialId{s.Int(3)},
          .path = s.Text(4),
          .digest = s.Text(5)};
}

SweepTrialRow ReadLink(const Statement& s) {
  return {.sweep = SweepId{s.Int(0)},
          .idx = s.Int(1),
          .trial = TrialId{s.Int(2)},
          .replicate = s.Int(3),
          .aa = s.Int(4),
          .shared = s.Int(5),
          .tune = s.Int(6)};
}

absl::StatusOr<std::vector<StageRow>> Store::StagesOf(TrialId trial) {
  static const std::string sql = Select(kStageColumns, "stage WHERE trial_id = ? ORDER BY id");
  ASSIGN_OR_RETURN(Statement * s, Cached(sql.c_str()));
  s->Reset();
  s->Bind(1, trial.value);
  std::vector<StageRow> out;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, s->Step());
    if (!row) break;
    out.push_back(ReadStage(*s));
  }
  s->Reset();
  return out;
}

absl::StatusOr<std::map<std::string, TrialTree>> Store::FindByKey(
    const std::vector<std::string>& keys) {
  static const std::string sql = Select(kTrialColumns, "trial WHERE key = ?");
  std::map<std::string, TrialTree> out;
  for (const std::string& key : keys) {
    ASSIGN_OR_RETURN(Statement * s, Cached(sql.c_str()));
    s->Reset();
    s->Bind(1, key);
    ASSIGN_OR_RETURN(const bool row, s->Step());
    if (row) out[key].trial = ReadTrial(*s);
    s->Reset();
  }
  for (auto& [key, tree] : out) {
    ASSIGN_OR_RETURN(tree.stages, StagesOf(tree.trial.id));
  }
  return out;
}

absl::StatusOr<std::optional<TrialTree>> Store::Find(TrialId trial) {
  static const std::string sql =
      Select(kTrialColumns, "trial WHERE id = ? AND key NOT GLOB 'removed:*'");
  ASSIGN_OR_RETURN(Statement * s, Cached(sql.c_str()));
  s->Reset();
  s->Bind(1, trial.value);
  ASSIGN_OR_RETURN(const bool row, s->Step());
  if (!row) {
    s->Reset();
    return std::optional<TrialTree>();
  }
  TrialTree tree{.trial = ReadTrial(*s)};
  s->Reset();
  ASSIGN_OR_RETURN(tree.stages, StagesOf(trial));
  return std::optional<TrialTree>(std::move(tree));
}

absl::StatusOr<std::vector<SweepTrialRow>> Store::LinksOf(TrialId trial) {
  static const std::string sql =
      Select(kLinkColumns, "sweep_trial WHERE trial_id = ? ORDER BY sweep_id, idx");
  ASSIGN_OR_RETURN(Statement * s, Cached(sql.c_str()));
  s->Reset();
  s->Bind(1, trial.value);
  std::vector<SweepTrialRow> out;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, s->Step());
    if (!row) break;
    out.push_back(ReadLink(*s));
  }
  s->Reset();
  return out;
}

absl::StatusOr<std::vector<TrunkRow>> Store::FindTrunks(const std::set<std::string>& prefix_keys) {
  static const std::string sql =
      Select(kTrunkColumns, "trunk k JOIN stage g ON g.id = k.stage_id WHERE k.prefix_key = ?");
  std::vector<TrunkRow> out;
  for (const std::string& key : prefix_keys) {
    ASSIGN_OR_RETURN(Statement * s, Cached(sql.c_str()));
    s->Reset();
    s->Bind(1, key);
    while (true) {
      ASSIGN_OR_RETURN(const bool row, s->Step());
      if (!row) break;
      out.push_back(ReadTrunk(*s));
    }
    s->Reset();
  }
  return out;
}

}  // namespace plumb::store
