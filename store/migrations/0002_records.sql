-- Schema v2: structured results of stages ("records"), the views that read them, and results of trainings that do not
-- depend on the stages that follow them.

CREATE TABLE record (
  stage_id INTEGER NOT NULL REFERENCES stage (id),
  kind TEXT NOT NULL,                  -- generation, topk, attention, route, route_counts, painters, finetune
  name TEXT NOT NULL,                  -- which one of its kind: a prompt's number, a part of the corpus
  idx INTEGER NOT NULL,                -- counts within (kind, name)
  step INTEGER NOT NULL,
  data_json TEXT NOT NULL,             -- a JSON object
  PRIMARY KEY (stage_id, kind, name, idx),
  CONSTRAINT a_record_has_at_most_1_mib CHECK (length(CAST(data_json AS BLOB)) <= 1048576)
) STRICT;

-- The views take JSON apart with json_each alone: SQLite 3.38 to 3.40 counts json_extract and its like as unsafe in a
-- schema, and refuses them on a connection that does not trust it, as ours.

-- One row per record and sweep that holds its trial.
CREATE VIEW v_record AS
SELECT st.sweep_id, sw.name AS sweep, st.cell_id, c.name AS cell, st.replicate, st.aa, st.trial_id, g.name AS stage,
  r.kind, r.name, r.idx, r.step, r.data_json
FROM record r
JOIN stage g ON g.id = r.stage_id
JOIN sweep_trial st ON st.trial_id = g.trial_id
JOIN sweep sw ON sw.id = st.sweep_id
JOIN cell c ON c.id = st.cell_id;

-- One row per text that a router sent on its way. A choice of -1 skips.
CREATE VIEW v_route AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage,
  (SELECT value FROM json_each(data_json) WHERE key = 'part') AS part,
  (SELECT value FROM json_each(data_json) WHERE key = 'document') AS document,
  (SELECT value FROM json_each(data_json) WHERE key = 'path') AS path,
  (SELECT count(DISTINCT value) FROM json_each(data_json, '$.path') WHERE value >= 0) AS distinct_layers,
  (SELECT value FROM json_each(data_json) WHERE key = 'layer_evaluations') AS layer_evaluations
FROM v_record WHERE kind = 'route';

-- One row per attention map.
CREATE VIEW v_attention AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage,
  (SELECT value FROM json_each(data_json) WHERE key = 'prompt') AS prompt,
  (SELECT value FROM json_each(data_json) WHERE key = 'layer') AS layer,
  (SELECT value FROM json_each(data_json) WHERE key = 'head') AS head,
  (SELECT value FROM json_each(data_json, '$.mean_diagonal_thirds') WHERE key = 0) AS mean_diagonal_first,
  (SELECT value FROM json_each(data_json, '$.mean_diagonal_thirds') WHERE key = 1) AS mean_diagonal_middle,
  (SELECT value FROM json_each(data_json, '$.mean_diagonal_thirds') WHERE key = 2) AS mean_diagonal_last,
  (SELECT avg(value) FROM json_each(data_json, '$.row_entropy')) AS mean_row_entropy,
  (SELECT value FROM json_each(data_json) WHERE key = 'comma_mass') AS comma_mass,
  (SELECT value FROM json_each(data_json) WHERE key = 'tokens') AS tokens,
  (SELECT value FROM json_each(data_json) WHERE key = 'matrix') AS matrix
FROM v_record WHERE kind = 'attention';

-- One row per generated text.
CREATE VIEW v_generation AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage,
  (SELECT value FROM json_each(data_json) WHERE key = 'prompt') AS prompt,
  (SELECT value FROM json_each(data_json) WHERE key = 'text') AS text,
  (SELECT count(*) FROM json_each(data_json, '$.tokens')) AS n_tokens,
  (SELECT value FROM json_each(data_json) WHERE key = 'sampler') AS sampler,
  (SELECT value FROM json_each(data_json) WHERE key = 'temperature') AS temperature,
  (SELECT value FROM json_each(data_json) WHERE key = 'top_k') AS top_k,
  (SELECT value FROM json_each(data_json) WHERE key = 'top_p') AS top_p,
  (SELECT value FROM json_each(data_json) WHERE key = 'seed') AS seed
FROM v_record WHERE kind = 'generation';

-- One row per candidate for a prompt's next token, the likeliest first (rank 1).
CREATE VIEW v_topk AS
SELECT v.sweep_id, v.sweep, v.cell_id, v.cell, v.replicate, v.aa, v.trial_id, v.stage,
  (SELECT value FROM json_each(v.data_json) WHERE key = 'prompt') AS prompt,
  e.key + 1 AS rank,
  (SELECT t.value FROM json_each(e.value) t WHERE t.key = 'id') AS token,
  (SELECT t.value FROM json_each(e.value) t WHERE t.key = 'text') AS text,
  (SELECT t.value FROM json_each(e.value) t WHERE t.key = 'p') AS p,
  (SELECT t.value FROM json_each(e.value) t WHERE t.key = 'p_renormalised') AS p_renormalised
FROM v_record v, json_each(v.data_json, '$.candidates') e
WHERE v.kind = 'topk';

-- One row per evaluation of a trained trial with its layers executed otherwise.
CREATE VIEW v_painters AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage,
  (SELECT value FROM json_each(data_json) WHERE key = 'variant') AS variant,
  (SELECT value FROM json_each(data_json) WHERE key = 'start_layer') AS start_layer,
  (SELECT value FROM json_each(data_json) WHERE key = 'repeat') AS repeat,
  (SELECT value FROM json_each(data_json) WHERE key = 'seed') AS seed,
  (SELECT value FROM json_each(data_json) WHERE key = 'loss') AS loss,
  (SELECT value FROM json_each(data_json) WHERE key = 'perplexity') AS perplexity,
  (SELECT value FROM json_each(data_json) WHERE key = 'tokens') AS tokens
FROM v_record WHERE kind = 'painters';

-- One row per fine-tuning run.
CREATE VIEW v_finetune AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage,
  (SELECT value FROM json_each(data_json) WHERE key = 'task') AS task,
  (SELECT value FROM json_each(data_json) WHERE key = 'seed') AS seed,
  (SELECT value FROM json_each(data_json) WHERE key = 'examples') AS examples,
  (SELECT value FROM json_each(data_json) WHERE key = 'accuracy') AS accuracy,
  (SELECT value FROM json_each(data_json) WHERE key = 'loss') AS loss,
  (SELECT value FROM json_each(data_json) WHERE key = 'nonfinite_batches') AS nonfinite_batches
FROM v_record WHERE kind = 'finetune';

DROP VIEW v_cell;
DROP VIEW v_trial;

-- As in schema 1, with `train_state` at the end: how a trial's first stage ended, whatever the stages after it do.
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
  coalesce((SELECT r.state FROM stage r WHERE r.trial_id = t.id AND r.parent_id IS NULL), t.state) AS train_state
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
  sum(train_state = 'succeeded') AS n_succeeded,
  sum(train_state = 'diverged') AS n_diverged,
  CASE WHEN sum(train_state = 'diverged') = 0 THEN avg(test_bits_per_byte) END AS mean_test_bits_per_byte,
  min(test_bits_per_byte) AS min_test_bits_per_byte,
  max(test_bits_per_byte) AS max_test_bits_per_byte,
  CASE WHEN sum(train_state = 'diverged') = 0 THEN avg(val_bits_per_byte) END AS mean_val_bits_per_byte,
  avg(wall_seconds) AS mean_wall_seconds,
  max(solo_tokens_per_s) AS solo_tokens_per_s
FROM v_trial WHERE aa = 0
GROUP BY sweep_id, cell_id;
