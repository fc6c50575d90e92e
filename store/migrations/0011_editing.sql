-- Tags and notes, where results come from, and the removal of trials as a whole.
CREATE TABLE sweep_tag (
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  tag TEXT NOT NULL CHECK (length(tag) BETWEEN 1 AND 64),
  create_time_us INTEGER NOT NULL,
  user TEXT NOT NULL,
  PRIMARY KEY (sweep_id, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX sweep_tag_by_tag ON sweep_tag (tag);
CREATE TABLE trial_tag (
  trial_id INTEGER NOT NULL REFERENCES trial (id),
  tag TEXT NOT NULL CHECK (length(tag) BETWEEN 1 AND 64),
  create_time_us INTEGER NOT NULL,
  user TEXT NOT NULL,
  PRIMARY KEY (trial_id, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX trial_tag_by_tag ON trial_tag (tag);
CREATE TABLE sweep_note (
  sweep_id INTEGER PRIMARY KEY REFERENCES sweep (id),
  text TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  user TEXT NOT NULL
) STRICT;
CREATE TABLE trial_note (
  trial_id INTEGER PRIMARY KEY REFERENCES trial (id),
  text TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  user TEXT NOT NULL
) STRICT;

-- Sweeps that were not written here: forks, and what was imported with its results.
CREATE TABLE sweep_origin (
  sweep_id INTEGER PRIMARY KEY REFERENCES sweep (id),
  imported INTEGER NOT NULL,           -- 1: its trials came with their results, and none is planned
  origin_json TEXT NOT NULL            -- {"fork": 3, …}, {"csv": "results.csv", …}, {"database": "other.db", …}
) STRICT;
-- Trials that were not computed here.
CREATE TABLE trial_origin (
  trial_id INTEGER PRIMARY KEY REFERENCES trial (id),
  is_foreign INTEGER NOT NULL,         -- 1: not trained by Plumb at all
  origin_json TEXT NOT NULL
) STRICT;

-- Ids are given once: the highest that removed rows had.
CREATE TABLE removed (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  last_sweep INTEGER NOT NULL,
  last_trial INTEGER NOT NULL,
  last_stage INTEGER NOT NULL
) STRICT;
INSERT INTO removed VALUES (1, 0, 0, 0);

-- A trial that is being removed has the key 'removed:ID', and no sweep may take it up.
CREATE TRIGGER removed_trial_is_not_shared BEFORE INSERT ON sweep_trial
WHEN (SELECT key GLOB 'removed:*' FROM trial WHERE id = NEW.trial_id) BEGIN
  SELECT RAISE(ABORT, 'the trial is being removed');
END;
-- The sums of a sweep that loses a trial; as sweep_trial_counted, the other way.
CREATE TRIGGER sweep_trial_uncounted AFTER DELETE ON sweep_trial BEGIN
  UPDATE sweep_state SET trials = trials - 1
    WHERE sweep_id = OLD.sweep_id AND state = (SELECT state FROM trial WHERE id = OLD.trial_id);
  UPDATE sweep_total SET
    steps_done = steps_done - x.step, steps_total = steps_total - x.target, tokens_done = tokens_done - x.trained * x.batch_tokens,
    flops_done = flops_done - CAST(x.trained AS REAL) * x.batch_tokens * x.flops_per_token, flops_total = flops_total - x.pretrains * x.flops
  FROM (SELECT coalesce(sum(g.step), 0) AS step, coalesce(sum(g.target_step), 0) AS target,
               coalesce(sum(CASE WHEN g.kind = 'pretrain' THEN g.step END), 0) AS trained, coalesce(sum(g.kind = 'pretrain'), 0) AS pretrains,
               t.batch_tokens, t.flops_per_token, t.flops
        FROM trial t LEFT JOIN stage g ON g.trial_id = t.id WHERE t.id = OLD.trial_id) x
  WHERE sweep_id = OLD.sweep_id;
END;
CREATE INDEX stage_by_parent ON stage (parent_id) WHERE parent_id IS NOT NULL;

-- One row per sweep.
CREATE VIEW v_sweep AS
SELECT sw.id AS sweep_id, sw.name AS sweep, sw.state, sw.user, sw.priority, sw.objective, sw.trials,
  sw.create_time_us, sw.end_time_us,
  (SELECT group_concat(tag, ',') FROM (SELECT tag FROM sweep_tag WHERE sweep_id = sw.id ORDER BY tag)) AS tags,
  (SELECT text FROM sweep_note WHERE sweep_id = sw.id) AS note,
  coalesce((SELECT imported FROM sweep_origin WHERE sweep_id = sw.id), 0) AS imported,
  (SELECT origin_json FROM sweep_origin WHERE sweep_id = sw.id) AS origin_json
FROM sweep sw;

DROP VIEW v_cell;
DROP VIEW v_trial;

-- As in schema 10, with the trial's tags and note, and whether and where it was computed elsewhere, at the end.
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
  (SELECT origin_json FROM trial_origin WHERE trial_id = t.id) AS origin_json
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

