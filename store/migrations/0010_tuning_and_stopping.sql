-- What tuning came to, where a stage pauses, and what stopping rules have seen.
ALTER TABLE cell ADD COLUMN tuned_json TEXT NOT NULL DEFAULT '{}';        -- {"train.lr": 0.01}: chosen on the cell's tune trials
ALTER TABLE stage ADD COLUMN until_step INTEGER NOT NULL DEFAULT -1;      -- it pauses there, at a rung; -1: it goes to its target

-- Values in the order in which they were judged: what stopping rules decide from, so that a server that restarts decides the same.
CREATE TABLE look (
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  seq INTEGER NOT NULL,           -- from 0
  trial_idx INTEGER NOT NULL,     -- sweep_trial.idx
  step INTEGER NOT NULL,
  value REAL,                     -- of the rule's metric; NULL: the run has diverged or failed
  PRIMARY KEY (sweep_id, seq),
  UNIQUE (sweep_id, trial_idx, step)
) STRICT, WITHOUT ROWID;

DROP VIEW v_cell;
DROP VIEW v_trial;
DROP VIEW v_curve;
DROP VIEW v_record;

-- As in schema 2, with `tune` at the end: 1 where the trial chose a nuisance value of its cell.
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
   WHERE ts.trial_id = t.id AND ts.kind = 'timing' AND v.name = 'timing/solo_tokens_per_s') AS solo_tokens_per_s,
  coalesce((SELECT r.state FROM stage r WHERE r.trial_id = t.id AND r.parent_id IS NULL), t.state) AS train_state,
  st.tune
FROM sweep_trial st
JOIN sweep sw ON sw.id = st.sweep_id
JOIN cell c ON c.id = st.cell_id
JOIN trial t ON t.id = st.trial_id
LEFT JOIN stage p ON p.trial_id = t.id AND p.kind = 'pretrain' AND p.parent_id IS NULL;

-- One row per cell: its replicates; neither A/A controls nor trials that chose its nuisance values.
CREATE VIEW v_cell AS
SELECT sweep_id, sweep, cell_id, cell, n_layers, d_model, d_ff, params_total, params_non_embedding, flops_per_token,
  tokens, flops, steps,
  count(*) AS n,
  sum(train_state = 'succeeded') AS n_succeeded,
  sum(train_state = 'diverged') AS n_diverged,
  CASE WHEN sum(train_state = 'diverged') = 0 THEN avg(test_bits_per_byte) END AS mean_test_bits_per_byte,
  min(test_bits_per_byte) AS min_test_bits_per_byte,
  max(test_bits_per_byte) AS max_test_bits_per_byte,
  CASE WHEN sum(train_state = 'diverged') = 0 THEN avg(val_bits_per_byte) END AS mean_val_bits_per_byte,
  avg(wall_seconds) AS mean_wall_seconds,
  max(solo_tokens_per_s) AS solo_tokens_per_s
FROM v_trial WHERE aa = 0 AND tune = 0
GROUP BY sweep_id, cell_id;

-- One row per point of a curve.
CREATE VIEW v_curve AS
SELECT st.sweep_id, st.cell_id, c.name AS cell, st.trial_id, st.replicate, st.aa, g.name AS stage, s.name AS series, s.layer,
  m.step, m.step * t.batch_tokens AS tokens, CAST(m.step AS REAL) * t.batch_tokens * t.flops_per_token AS flops, m.value, st.tune
FROM sweep_trial st
JOIN cell c ON c.id = st.cell_id
JOIN trial t ON t.id = st.trial_id
JOIN stage g ON g.trial_id = t.id
JOIN series s ON s.stage_id = g.id
JOIN measurement m ON m.series_id = s.id;

-- One row per structured result.
CREATE VIEW v_record AS
SELECT st.sweep_id, sw.name AS sweep, st.cell_id, c.name AS cell, st.replicate, st.aa, st.trial_id, g.name AS stage,
  r.kind, r.name, r.idx, r.step, r.data_json, st.tune
FROM record r
JOIN stage g ON g.id = r.stage_id
JOIN sweep_trial st ON st.trial_id = g.trial_id
JOIN sweep sw ON sw.id = st.sweep_id
JOIN cell c ON c.id = st.cell_id;
