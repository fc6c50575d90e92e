-- Schema v2: structured results of stages ("records"), and the views that read them.

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
