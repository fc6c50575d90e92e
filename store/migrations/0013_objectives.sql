-- What a sweep is judged by, whole: the stage whose series it is, which of its values, and which way is better.
ALTER TABLE sweep ADD COLUMN objective_stage TEXT NOT NULL DEFAULT '';  -- as the sweep's file calls it; '': a trial's first that has the series
ALTER TABLE sweep ADD COLUMN objective_at TEXT NOT NULL DEFAULT 'last';  -- last, best, mean_last(5); '': of an older schema, only its file says so
ALTER TABLE sweep ADD COLUMN objective_goal TEXT NOT NULL DEFAULT 'minimize' CHECK (objective_goal IN ('minimize', 'maximize'));
UPDATE sweep SET objective_at = '' WHERE sweep_yaml LIKE '%at:%';

-- Stages that the trial calls otherwise than the sweep's file, because it had one of that name already, or one that does the same.
ALTER TABLE sweep_trial ADD COLUMN stages_json TEXT NOT NULL DEFAULT '{}';  -- {"score": "score-2"}

DROP VIEW v_sweep;
DROP VIEW v_cell;
DROP VIEW v_trial;

-- As in schema 11, with the rest of what it is judged by at the end.
CREATE VIEW v_sweep AS
SELECT sw.id AS sweep_id, sw.name AS sweep, sw.state, sw.user, sw.priority, sw.objective, sw.trials,
  sw.create_time_us, sw.end_time_us,
  (SELECT group_concat(tag, ',') FROM (SELECT tag FROM sweep_tag WHERE sweep_id = sw.id ORDER BY tag)) AS tags,
  (SELECT text FROM sweep_note WHERE sweep_id = sw.id) AS note,
  coalesce((SELECT imported FROM sweep_origin WHERE sweep_id = sw.id), 0) AS imported,
  (SELECT origin_json FROM sweep_origin WHERE sweep_id = sw.id) AS origin_json,
  sw.objective_stage, sw.objective_at, sw.objective_goal
FROM sweep sw;

-- As in schema 12, but metrics are those of the first stage, whatever kind it is (a program of others too); with the value that the
-- sweep judges it by at the end, which a trial has whose first stage, and the stage that the sweep names, have succeeded.
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
   SELECT s.trial_id FROM up JOIN stage s ON s.id = up.id ORDER BY up.n DESC LIMIT 1), t.id) AS trunk_trial_id,
  CASE
    WHEN p.state <> 'succeeded' OR p.state IS NULL THEN NULL
    WHEN sw.objective_at = 'last' THEN
      (SELECT value FROM measurement WHERE series_id = st.judged_by ORDER BY step DESC LIMIT 1)
    WHEN sw.objective_at = 'best' AND sw.objective_goal = 'minimize' THEN (SELECT min(value) FROM measurement WHERE series_id = st.judged_by)
    WHEN sw.objective_at = 'best' THEN (SELECT max(value) FROM measurement WHERE series_id = st.judged_by)
    WHEN sw.objective_at GLOB 'mean_last(*' THEN
      (SELECT CASE WHEN count(value) = CAST(substr(sw.objective_at, 11) AS INTEGER) THEN avg(value) END FROM
        (SELECT value, row_number() OVER (ORDER BY step DESC) AS nth FROM measurement WHERE series_id = st.judged_by)
       WHERE nth <= CAST(substr(sw.objective_at, 11) AS INTEGER))
  END AS objective
FROM (
  -- With the series that it is judged by: of the stage that the sweep names, once that has succeeded; else of the first that has it.
  SELECT b.*,
    (SELECT r.id FROM stage g JOIN series r ON r.stage_id = g.id
     WHERE g.trial_id = b.trial_id AND g.kind <> 'timing' AND r.name = w.objective AND r.layer = -1 AND (w.objective_stage = '' OR
       (g.state = 'succeeded' AND g.name = coalesce((SELECT value FROM json_each(b.stages_json) WHERE key = w.objective_stage), w.objective_stage)))
     ORDER BY g.parent_id IS NOT NULL, g.id, r.definition_version DESC LIMIT 1) AS judged_by
  FROM sweep_trial b JOIN sweep w ON w.id = b.sweep_id
) st
JOIN sweep sw ON sw.id = st.sweep_id
JOIN cell c ON c.id = st.cell_id
JOIN trial t ON t.id = st.trial_id
LEFT JOIN stage p ON p.id = (SELECT min(id) FROM stage WHERE trial_id = t.id AND parent_id IS NULL);

-- One row per cell: its replicates; neither A/A controls nor trials that chose its nuisance values. The mean of the objective is that of
-- all replicates, or none.
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
  max(is_foreign) AS is_foreign,
  count(objective) AS n_objective,
  CASE WHEN count(objective) = count(*) THEN avg(objective) END AS mean_objective
FROM v_trial WHERE aa = 0 AND tune = 0
GROUP BY sweep_id, cell_id;
