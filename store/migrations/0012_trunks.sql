-- Work that is shared by prefix: stages of one prefix key have the same state at each step up to the least of their trunk steps,
-- so that one may begin from a checkpoint of another.
ALTER TABLE stage ADD COLUMN prefix_key TEXT NOT NULL DEFAULT '';      -- '': it shares nothing
ALTER TABLE stage ADD COLUMN trunk_step INTEGER NOT NULL DEFAULT 0;    -- the last step that follows from the prefix key
ALTER TABLE stage ADD COLUMN branch_stage_id INTEGER;  -- whose checkpoint it began from (which may be removed since); NULL: it began by itself
ALTER TABLE stage ADD COLUMN branch_step INTEGER NOT NULL DEFAULT 0;
CREATE INDEX stage_by_prefix ON stage (prefix_key) WHERE prefix_key <> '';
CREATE INDEX stage_by_branch ON stage (branch_stage_id) WHERE branch_stage_id IS NOT NULL;

-- Checkpoints that others may begin from, as far as anybody knows.
CREATE TABLE trunk (
  prefix_key TEXT NOT NULL,
  step INTEGER NOT NULL,
  stage_id INTEGER NOT NULL,      -- that made it
  path TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (prefix_key, step)
) STRICT, WITHOUT ROWID;

CREATE INDEX trunk_by_stage ON trunk (stage_id);

DROP VIEW v_cell;
DROP VIEW v_trial;
DROP VIEW v_curve;

-- What a stage has from others: steps up to through_step from its source, of which those up to the next line's from that one's.
CREATE VIEW v_lineage AS
WITH RECURSIVE line (stage_id, source_id, through_step, generation) AS (
  SELECT id, branch_stage_id, branch_step, 1 FROM stage WHERE branch_stage_id IS NOT NULL
  UNION ALL
  SELECT l.stage_id, s.branch_stage_id, s.branch_step, l.generation + 1 FROM line l JOIN stage s ON s.id = l.source_id
  WHERE s.branch_stage_id IS NOT NULL
)
SELECT g.trial_id, l.stage_id, s.trial_id AS source_trial_id, l.source_id AS source_stage_id, l.through_step, l.generation
FROM line l JOIN stage g ON g.id = l.stage_id JOIN stage s ON s.id = l.source_id;

-- As in schema 11, with its lineage at the end: the trial whose checkpoint it began from, the step of that, and the trial that
-- began the trunk (itself, where nothing is shared). Trials of one trunk are not independent.
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
  st.tune,
  (SELECT group_concat(tag, ',') FROM (SELECT tag FROM trial_tag WHERE trial_id = t.id ORDER BY tag)) AS tags,
  (SELECT text FROM trial_note WHERE trial_id = t.id) AS note,
  coalesce((SELECT is_foreign FROM trial_origin WHERE trial_id = t.id), 0) AS is_foreign,
  (SELECT origin_json FROM trial_origin WHERE trial_id = t.id) AS origin_json,
  (SELECT trial_id FROM stage WHERE id = p.branch_stage_id) AS branch_trial_id,
  CASE WHEN p.branch_stage_id IS NOT NULL THEN p.branch_step END AS branch_step,
  coalesce((WITH RECURSIVE up (id, n) AS (
     SELECT p.id, 0 UNION ALL
     SELECT s.branch_stage_id, up.n + 1 FROM up JOIN stage s ON s.id = up.id WHERE s.branch_stage_id IS NOT NULL)
   SELECT s.trial_id FROM up JOIN stage s ON s.id = up.id ORDER BY up.n DESC LIMIT 1), t.id) AS trunk_trial_id
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
  max(solo_tokens_per_s) AS solo_tokens_per_s,
  max(is_foreign) AS is_foreign
FROM v_trial WHERE aa = 0 AND tune = 0
GROUP BY sweep_id, cell_id;

-- One row per point of a curve. What a trial has from another's checkpoint it did not measure itself: those points are the
-- other's, source_trial_id; of what a conclusion reads, the last ones, none is.
CREATE VIEW v_curve AS
SELECT st.sweep_id, st.cell_id, c.name AS cell, st.trial_id, st.replicate, st.aa, g.name AS stage, s.name AS series, s.layer,
  m.step, m.step * t.batch_tokens AS tokens, CAST(m.step AS REAL) * t.batch_tokens * t.flops_per_token AS flops, m.value, st.tune,
  st.trial_id AS source_trial_id
FROM sweep_trial st
JOIN cell c ON c.id = st.cell_id
JOIN trial t ON t.id = st.trial_id
JOIN stage g ON g.trial_id = t.id
JOIN series s ON s.stage_id = g.id
JOIN measurement m ON m.series_id = s.id
UNION ALL
SELECT st.sweep_id, st.cell_id, c.name AS cell, st.trial_id, st.replicate, st.aa, g.name AS stage, s.name AS series, s.layer,
  m.step, m.step * t.batch_tokens AS tokens, CAST(m.step AS REAL) * t.batch_tokens * t.flops_per_token AS flops, m.value, st.tune,
  l.source_trial_id
FROM v_lineage l
JOIN stage g ON g.id = l.stage_id
JOIN trial t ON t.id = g.trial_id
JOIN sweep_trial st ON st.trial_id = t.id
JOIN cell c ON c.id = st.cell_id
JOIN series s ON s.stage_id = l.source_stage_id
JOIN measurement m ON m.series_id = s.id AND m.step <= l.through_step;
