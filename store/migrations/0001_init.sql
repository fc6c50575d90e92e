-- Schema v1. One writer; everyone may read (mode=ro). Times: *_time_us are wall-clock microseconds since 1970, for
-- display; *_ct_us are cluster time, which advances only while the server serves.

CREATE TABLE cluster (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  incarnation INTEGER NOT NULL,
  starts INTEGER NOT NULL,             -- times a server opened the file
  cluster_time_us INTEGER NOT NULL,
  create_time_us INTEGER NOT NULL
) STRICT;

CREATE TABLE sweep (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('materializing', 'running', 'completed', 'cancelled')),
  request_id TEXT NOT NULL UNIQUE,
  request_hash TEXT NOT NULL,
  sweep_yaml TEXT NOT NULL,
  objective TEXT NOT NULL,             -- series name, e.g. test/bits_per_byte
  trials INTEGER NOT NULL,             -- planned, those shared with other sweeps included
  cursor INTEGER NOT NULL,             -- trials materialised
  create_time_us INTEGER NOT NULL,
  end_time_us INTEGER
) STRICT;

-- One point of the space without its seed: what a conclusion is about.
CREATE TABLE cell (
  id INTEGER PRIMARY KEY,
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  idx INTEGER NOT NULL,                -- position in the plan, from 0
  name TEXT NOT NULL,                  -- "n_layers=4 d_model=64"
  axes_json TEXT NOT NULL,             -- {"model.n_layers": 4, …}, in the sweep's order
  flags_json TEXT NOT NULL,            -- ["more_than_one_epoch", …]
  UNIQUE (sweep_id, idx)
) STRICT;

-- One computation, once for ever: sweeps share it by key.
CREATE TABLE trial (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  fusion_key TEXT NOT NULL,
  config_json TEXT NOT NULL,           -- canonical, with execution fields
  state TEXT NOT NULL,                 -- of its furthest live or last stage
  -- shape
  n_layers INTEGER NOT NULL, d_model INTEGER NOT NULL, n_heads INTEGER NOT NULL, n_kv_heads INTEGER NOT NULL,
  head_dim INTEGER NOT NULL, d_ff INTEGER NOT NULL, vocab_size INTEGER NOT NULL,
  -- variant
  norm TEXT NOT NULL, position TEXT NOT NULL, mlp TEXT NOT NULL, tied_head INTEGER NOT NULL,
  -- training
  corpus TEXT NOT NULL, tokenizer TEXT NOT NULL, seq_len INTEGER NOT NULL, batch_tokens INTEGER NOT NULL,
  steps INTEGER NOT NULL, lr REAL NOT NULL, seed_init INTEGER NOT NULL, seed_data INTEGER NOT NULL,
  -- cost, exact
  params_total INTEGER NOT NULL, params_non_embedding INTEGER NOT NULL, params_embedding INTEGER NOT NULL,
  flops_per_token INTEGER NOT NULL, tokens INTEGER NOT NULL, flops REAL NOT NULL,
  create_time_us INTEGER NOT NULL
) STRICT;

CREATE TABLE sweep_trial (
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  idx INTEGER NOT NULL,                -- position in the plan, from 0
  cell_id INTEGER NOT NULL REFERENCES cell (id),
  trial_id INTEGER NOT NULL REFERENCES trial (id),
  replicate INTEGER NOT NULL,
  aa INTEGER NOT NULL,                 -- 1: a member of the A/A control
  shared INTEGER NOT NULL,             -- 1: the trial existed before this sweep
  PRIMARY KEY (sweep_id, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX sweep_trial_by_trial ON sweep_trial (trial_id);
CREATE INDEX sweep_trial_by_cell ON sweep_trial (cell_id);

-- What is scheduled: a named tree per trial, each stage reading its parent's checkpoint.
CREATE TABLE stage (
  id INTEGER PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trial (id),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,                  -- pretrain, timing, noop
  parent_id INTEGER REFERENCES stage (id),
  settings_json TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'paused', 'succeeded', 'failed', 'infeasible',
                                       'diverged', 'stopped', 'cancelled')),
  priority INTEGER NOT NULL,           -- smaller first
  target_step INTEGER NOT NULL,
  step INTEGER NOT NULL,               -- reached and durable
  attempts INTEGER NOT NULL,           -- granted so far; the last one's number
  failures INTEGER NOT NULL,           -- attempts that count against the budget, since the last retry or progress
  not_before_ct_us INTEGER NOT NULL,   -- back-off
  threads INTEGER NOT NULL,            -- slots it takes; never changes, as results depend on it
  checkpoint_step INTEGER NOT NULL,    -- last committed; -1: none
  checkpoint_path TEXT,
  checkpoint_digest TEXT,
  reason TEXT NOT NULL,                -- why it is in this state, for people
  UNIQUE (trial_id, name)
) STRICT;
CREATE INDEX stage_live ON stage (state) WHERE state IN ('pending', 'running', 'paused');

CREATE TABLE worker (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  host TEXT NOT NULL,
  slots INTEGER NOT NULL,
  build TEXT NOT NULL,
  devices_json TEXT NOT NULL,
  session_id INTEGER NOT NULL,         -- the current session; older ones are fenced
  state TEXT NOT NULL,                 -- connected, draining, lost, gone
  register_time_us INTEGER NOT NULL
) STRICT;

CREATE TABLE attempt (
  stage_id INTEGER NOT NULL REFERENCES stage (id),
  number INTEGER NOT NULL,             -- the fencing token, with the incarnation
  incarnation INTEGER NOT NULL,
  worker_id INTEGER NOT NULL REFERENCES worker (id),
  session_id INTEGER NOT NULL,
  until_step INTEGER NOT NULL,
  start_step INTEGER NOT NULL,
  acked_seq INTEGER NOT NULL,          -- the attempt's batches up to here are durable
  outcome TEXT,                        -- NULL while it runs
  cause TEXT NOT NULL,
  log_tail TEXT NOT NULL,
  summary_json TEXT NOT NULL,
  start_time_us INTEGER NOT NULL,
  end_time_us INTEGER,
  PRIMARY KEY (stage_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_running ON attempt (stage_id) WHERE outcome IS NULL;

CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  stage_id INTEGER NOT NULL REFERENCES stage (id),
  name TEXT NOT NULL,
  layer INTEGER NOT NULL,              -- -1: not about one block
  definition_version INTEGER NOT NULL,
  UNIQUE (stage_id, name, layer, definition_version)
) STRICT;

-- value is NULL where it was not finite.
CREATE TABLE measurement (
  series_id INTEGER NOT NULL REFERENCES series (id),
  step INTEGER NOT NULL,
  value REAL,
  PRIMARY KEY (series_id, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE document_score (
  stage_id INTEGER NOT NULL REFERENCES stage (id),
  split TEXT NOT NULL,
  document INTEGER NOT NULL,           -- index in its split
  nll REAL,                            -- nats, summed over the document's tokens; NULL where it was not finite
  tokens INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (stage_id, split, document)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint (
  stage_id INTEGER NOT NULL REFERENCES stage (id),
  step INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  path TEXT NOT NULL,
  digest TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  commit_time_us INTEGER NOT NULL,
  PRIMARY KEY (stage_id, step)
) STRICT, WITHOUT ROWID;

-- Append-only: submits, transitions, retries, rollbacks, fences.
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  time_us INTEGER NOT NULL,
  kind TEXT NOT NULL,
  sweep_id INTEGER,
  trial_id INTEGER,
  stage_id INTEGER,
  attempt INTEGER,
  worker_id INTEGER,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_trial ON event (trial_id) WHERE trial_id IS NOT NULL;

-- Documented views, version 1 (docs/database.md).

-- One row per trial of a sweep, with the last values of the common series.
CREATE VIEW v_trial AS
WITH last_value AS (
  SELECT s.stage_id, s.name, m.step, m.value
  FROM series s JOIN measurement m ON m.series_id = s.id
  WHERE s.layer = -1 AND m.step = (SELECT max(step) FROM measurement WHERE series_id = s.id)
)
SELECT st.sweep_id, sw.name AS sweep, st.cell_id, c.name AS cell, st.replicate, st.aa, t.id AS trial_id, t.state,
  t.n_layers, t.d_model, t.n_heads, t.n_kv_heads, t.head_dim, t.d_ff, t.vocab_size, t.norm, t.position, t.mlp,
  t.corpus, t.tokenizer, t.seq_len, t.batch_tokens, t.steps, t.lr, t.seed_init, t.seed_data,
  t.params_total, t.params_non_embedding, t.flops_per_token, t.tokens, t.flops,
  p.id AS stage_id, p.step,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'train/loss') AS train_loss,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'tune/loss') AS tune_loss,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'val/loss') AS val_loss,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'val/bits_per_byte') AS val_bits_per_byte,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'test/loss') AS test_loss,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'test/bits_per_byte') AS test_bits_per_byte,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'time/wall_seconds') AS wall_seconds,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'time/cpu_seconds') AS cpu_seconds,
  (SELECT value FROM last_value v WHERE v.stage_id = p.id AND v.name = 'memory/peak_bytes') AS peak_bytes,
  (SELECT value FROM last_value v JOIN stage ts ON ts.id = v.stage_id
   WHERE ts.trial_id = t.id AND ts.kind = 'timing' AND v.name = 'timing/solo_tokens_per_s') AS solo_tokens_per_s
FROM sweep_trial st
JOIN sweep sw ON sw.id = st.sweep_id
JOIN cell c ON c.id = st.cell_id
JOIN trial t ON t.id = st.trial_id
LEFT JOIN stage p ON p.trial_id = t.id AND p.kind = 'pretrain' AND p.parent_id IS NULL;

-- One row per cell: its replicates that are not A/A controls. Diverged replicates are counted, not averaged away.
CREATE VIEW v_cell AS
SELECT sweep_id, sweep, cell_id, cell, n_layers, d_model, d_ff, params_total, params_non_embedding, flops_per_token,
  tokens, flops, steps,
  count(*) AS n,
  sum(state = 'succeeded') AS n_succeeded,
  sum(state = 'diverged') AS n_diverged,
  CASE WHEN sum(state = 'diverged') = 0 THEN avg(test_bits_per_byte) END AS mean_test_bits_per_byte,
  min(test_bits_per_byte) AS min_test_bits_per_byte,
  max(test_bits_per_byte) AS max_test_bits_per_byte,
  CASE WHEN sum(state = 'diverged') = 0 THEN avg(val_bits_per_byte) END AS mean_val_bits_per_byte,
  avg(wall_seconds) AS mean_wall_seconds,
  max(solo_tokens_per_s) AS solo_tokens_per_s
FROM v_trial WHERE aa = 0
GROUP BY sweep_id, cell_id;

-- One row per point of a curve.
CREATE VIEW v_curve AS
SELECT st.sweep_id, st.cell_id, c.name AS cell, st.trial_id, st.replicate, st.aa, g.name AS stage, s.name AS series, s.layer,
  m.step, m.step * t.batch_tokens AS tokens, CAST(m.step AS REAL) * t.batch_tokens * t.flops_per_token AS flops, m.value
FROM sweep_trial st
JOIN cell c ON c.id = st.cell_id
JOIN trial t ON t.id = st.trial_id
JOIN stage g ON g.trial_id = t.id
JOIN series s ON s.stage_id = g.id
JOIN measurement m ON m.series_id = s.id;
