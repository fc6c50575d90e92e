-- Views of what the stages linearity, prune, linear_probe and task record. A member that a record has not, or that was not finite, is NULL.

-- One row per move of the residual stream; `idx` counts within its group (layer, final, whole, half, quarter).
CREATE VIEW v_linearity AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage, tune, step, name AS move, idx,
  (SELECT value FROM json_each(data_json) WHERE key = 'from') AS from_state,
  (SELECT value FROM json_each(data_json) WHERE key = 'to') AS to_state,
  (SELECT value FROM json_each(data_json) WHERE key = 'score') AS score,
  (SELECT value FROM json_each(data_json) WHERE key = 'score_without') AS score_without,
  (SELECT value FROM json_each(data_json) WHERE key = 'adjusted') AS adjusted,
  (SELECT value FROM json_each(data_json) WHERE key = 'adjusted_without') AS adjusted_without,
  (SELECT value FROM json_each(data_json) WHERE key = 'held_out') AS held_out,
  (SELECT value FROM json_each(data_json) WHERE key = 'held_out_without') AS held_out_without,
  (SELECT value FROM json_each(data_json) WHERE key = 'standardized') AS standardized,
  (SELECT value FROM json_each(data_json) WHERE key = 'standardized_without') AS standardized_without,
  (SELECT value FROM json_each(data_json) WHERE key = 'rho') AS rho,
  (SELECT value FROM json_each(data_json) WHERE key = 'rho_law') AS rho_law,
  (SELECT value FROM json_each(data_json) WHERE key = 'floor') AS floor,
  (SELECT value FROM json_each(data_json) WHERE key = 'cosine') AS cosine,
  (SELECT value FROM json_each(data_json) WHERE key = 'error_p50') AS error_p50,
  (SELECT value FROM json_each(data_json) WHERE key = 'error_p90') AS error_p90,
  (SELECT value FROM json_each(data_json) WHERE key = 'error_p99') AS error_p99,
  (SELECT value FROM json_each(data_json) WHERE key = 'rank') AS rank,
  (SELECT value FROM json_each(data_json) WHERE key = 'n') AS n,
  (SELECT value FROM json_each(data_json) WHERE key = 'n_held_out') AS n_held_out,
  (SELECT value FROM json_each(data_json) WHERE key = 'definition') AS definition,
  (SELECT count(*) FROM json_each(data_json, '$.warnings')) AS warnings
FROM v_record WHERE kind = 'linearity';

-- One row per state of the residual stream.
CREATE VIEW v_linearity_state AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage, tune, step, idx AS state,
  (SELECT value FROM json_each(data_json) WHERE key = 'norm') AS norm,
  (SELECT value FROM json_each(data_json) WHERE key = 'kurtosis') AS kurtosis,
  (SELECT value FROM json_each(data_json) WHERE key = 'token_cosine') AS token_cosine,
  (SELECT value FROM json_each(data_json) WHERE key = 'anisotropy') AS anisotropy,
  (SELECT value FROM json_each(data_json) WHERE key = 'intrinsic_dimension') AS intrinsic_dimension,
  (SELECT value FROM json_each(data_json) WHERE key = 'lens_loss') AS lens_loss,
  (SELECT value FROM json_each(data_json) WHERE key = 'lens_accuracy') AS lens_accuracy,
  (SELECT value FROM json_each(data_json) WHERE key = 'definition') AS definition
FROM v_record WHERE kind = 'linearity_state';

-- One row per model that was left when layers had gone; `removed` is a JSON list.
CREATE VIEW v_prune AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage, tune, step, name AS method, idx AS layers_removed,
  (SELECT value FROM json_each(data_json) WHERE key = 'removed') AS removed,
  (SELECT value FROM json_each(data_json) WHERE key = 'order') AS removal_order,
  (SELECT value FROM json_each(data_json) WHERE key = 'loss') AS loss,
  (SELECT value FROM json_each(data_json) WHERE key = 'perplexity') AS perplexity,
  (SELECT value FROM json_each(data_json) WHERE key = 'tokens') AS tokens,
  (SELECT value FROM json_each(data_json) WHERE key = 'stream_error') AS stream_error,
  (SELECT value FROM json_each(data_json) WHERE key = 'parameters') AS parameters,
  (SELECT value FROM json_each(data_json) WHERE key = 'flops_per_token') AS flops_per_token,
  (SELECT value FROM json_each(data_json) WHERE key = 'tokens_per_second') AS tokens_per_second,
  (SELECT value FROM json_each(data_json) WHERE key = 'distil') AS distil,
  (SELECT value FROM json_each(data_json) WHERE key = 'tasks') AS tasks,
  (SELECT value FROM json_each(data_json) WHERE key = 'definition') AS definition
FROM v_record WHERE kind = 'prune';

-- One row per property, method and state of the residual stream.
CREATE VIEW v_linear_probe AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage, tune, step,
  (SELECT value FROM json_each(data_json) WHERE key = 'property') AS property,
  (SELECT value FROM json_each(data_json) WHERE key = 'method') AS method,
  idx AS state,
  (SELECT value FROM json_each(data_json) WHERE key = 'accuracy') AS accuracy,
  (SELECT value FROM json_each(data_json) WHERE key = 'accuracy_stderr') AS accuracy_stderr,
  (SELECT value FROM json_each(data_json) WHERE key = 'loss') AS loss,
  (SELECT value FROM json_each(data_json) WHERE key = 'loss_stderr') AS loss_stderr,
  (SELECT value FROM json_each(data_json) WHERE key = 'r2') AS r2,
  (SELECT value FROM json_each(data_json) WHERE key = 'control_accuracy') AS control_accuracy,
  (SELECT value FROM json_each(data_json) WHERE key = 'selectivity') AS selectivity,
  (SELECT value FROM json_each(data_json) WHERE key = 'selectivity_stderr') AS selectivity_stderr,
  (SELECT value FROM json_each(data_json) WHERE key = 'penalty') AS penalty,
  (SELECT value FROM json_each(data_json) WHERE key = 'definition') AS definition
FROM v_record WHERE kind = 'linear_probe';

-- One row per task and group of its items; "all" is all of them.
CREATE VIEW v_task AS
SELECT sweep_id, sweep, cell_id, cell, replicate, aa, trial_id, stage, tune, step, name AS item_group,
  (SELECT value FROM json_each(data_json) WHERE key = 'task') AS task,
  (SELECT value FROM json_each(data_json) WHERE key = 'format') AS format,
  (SELECT value FROM json_each(data_json) WHERE key = 'items') AS items,
  (SELECT value FROM json_each(data_json) WHERE key = 'acc') AS acc,
  (SELECT value FROM json_each(data_json) WHERE key = 'acc_stderr') AS acc_stderr,
  (SELECT value FROM json_each(data_json) WHERE key = 'acc_norm') AS acc_norm,
  (SELECT value FROM json_each(data_json) WHERE key = 'acc_norm_stderr') AS acc_norm_stderr,
  (SELECT value FROM json_each(data_json) WHERE key = 'f1') AS f1,
  (SELECT value FROM json_each(data_json) WHERE key = 'perplexity') AS perplexity,
  (SELECT value FROM json_each(data_json) WHERE key = 'perplexity_stderr') AS perplexity_stderr,
  data_json
FROM v_record WHERE kind = 'task';
