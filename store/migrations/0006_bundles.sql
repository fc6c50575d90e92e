-- Bundles: stages of equal fusion key that one trainer runs at once, and what each took of its worker. Quarantine survives a restart.
ALTER TABLE stage ADD COLUMN bundle INTEGER NOT NULL DEFAULT 1;        -- rows of a bundle it may share, at most
ALTER TABLE attempt ADD COLUMN bundle INTEGER NOT NULL DEFAULT 0;      -- its trainer's array; 0: made before there were any
ALTER TABLE attempt ADD COLUMN bundle_rows INTEGER NOT NULL DEFAULT 1; -- that array's size
ALTER TABLE attempt ADD COLUMN slot_us INTEGER NOT NULL DEFAULT 0;     -- slot-microseconds, its share of the bundle's; 0 while it runs
ALTER TABLE worker ADD COLUMN quarantined_until_ct_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN quarantines INTEGER NOT NULL DEFAULT 0;  -- since something last got on there
ALTER TABLE worker ADD COLUMN on_probation INTEGER NOT NULL DEFAULT 0; -- 1: after a quarantine, one attempt at a time

-- Sums over a sweep's trials, kept as they change: a list of sweeps must not read a hundred thousand trials. A trial counts once for
-- each place it has in the sweep.
CREATE TABLE sweep_state (
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  state TEXT NOT NULL,
  trials INTEGER NOT NULL,
  PRIMARY KEY (sweep_id, state)
) STRICT, WITHOUT ROWID;
CREATE TABLE sweep_total (
  sweep_id INTEGER PRIMARY KEY REFERENCES sweep (id),
  steps_done INTEGER NOT NULL DEFAULT 0,   -- of all stages
  steps_total INTEGER NOT NULL DEFAULT 0,
  tokens_done INTEGER NOT NULL DEFAULT 0,  -- of pretraining, as are the FLOPs
  flops_done REAL NOT NULL DEFAULT 0,
  flops_total REAL NOT NULL DEFAULT 0,
  first_start_time_us INTEGER NOT NULL DEFAULT 0  -- of what it did not share; 0: nothing has started
) STRICT;

CREATE VIEW sweep_recount AS  -- what sweep_total must say
  SELECT sw.id AS sweep_id, coalesce(sum(g.step), 0) AS steps_done, coalesce(sum(g.target_step), 0) AS steps_total,
         coalesce(sum(CASE WHEN g.kind = 'pretrain' THEN g.step * t.batch_tokens END), 0) AS tokens_done,
         coalesce(sum(CASE WHEN g.kind = 'pretrain' THEN CAST(g.step AS REAL) * t.batch_tokens * t.flops_per_token END), 0.0) AS flops_done,
         coalesce(sum(CASE WHEN g.kind = 'pretrain' THEN t.flops END), 0.0) AS flops_total,
         coalesce((SELECT min(a.start_time_us) FROM sweep_trial x JOIN stage y ON y.trial_id = x.trial_id
                   JOIN attempt a ON a.stage_id = y.id WHERE x.sweep_id = sw.id AND x.shared = 0), 0) AS first_start_time_us
  FROM sweep sw LEFT JOIN sweep_trial st ON st.sweep_id = sw.id LEFT JOIN trial t ON t.id = st.trial_id
  LEFT JOIN stage g ON g.trial_id = t.id GROUP BY sw.id;

INSERT INTO sweep_total SELECT * FROM sweep_recount;
INSERT INTO sweep_state
  SELECT st.sweep_id, t.state, count(*) FROM sweep_trial st JOIN trial t ON t.id = st.trial_id GROUP BY st.sweep_id, t.state;

CREATE TRIGGER sweep_counted AFTER INSERT ON sweep BEGIN
  INSERT INTO sweep_total (sweep_id) VALUES (NEW.id);
END;
CREATE TRIGGER sweep_trial_counted AFTER INSERT ON sweep_trial BEGIN
  INSERT INTO sweep_state SELECT NEW.sweep_id, state, 1 FROM trial WHERE id = NEW.trial_id
    ON CONFLICT DO UPDATE SET trials = trials + 1;
  UPDATE sweep_total SET
    steps_done = steps_done + x.step, steps_total = steps_total + x.target, tokens_done = tokens_done + x.trained * x.batch_tokens,
    flops_done = flops_done + CAST(x.trained AS REAL) * x.batch_tokens * x.flops_per_token, flops_total = flops_total + x.pretrains * x.flops
  FROM (SELECT coalesce(sum(g.step), 0) AS step, coalesce(sum(g.target_step), 0) AS target,
               coalesce(sum(CASE WHEN g.kind = 'pretrain' THEN g.step END), 0) AS trained, coalesce(sum(g.kind = 'pretrain'), 0) AS pretrains,
               t.batch_tokens, t.flops_per_token, t.flops
        FROM trial t LEFT JOIN stage g ON g.trial_id = t.id WHERE t.id = NEW.trial_id) x
  WHERE sweep_id = NEW.sweep_id;
END;
CREATE TRIGGER stage_counted AFTER INSERT ON stage BEGIN
  UPDATE sweep_total SET
    steps_done = steps_done + x.n * NEW.step, steps_total = steps_total + x.n * NEW.target_step,
    tokens_done = tokens_done + CASE WHEN NEW.kind = 'pretrain' THEN x.n * NEW.step * x.batch_tokens ELSE 0 END,
    flops_done = flops_done + CASE WHEN NEW.kind = 'pretrain' THEN x.n * CAST(NEW.step AS REAL) * x.batch_tokens * x.flops_per_token ELSE 0 END,
    flops_total = flops_total + CASE WHEN NEW.kind = 'pretrain' THEN x.n * x.flops ELSE 0 END
  FROM (SELECT st.sweep_id, count(*) AS n, t.batch_tokens, t.flops_per_token, t.flops FROM sweep_trial st
        JOIN trial t ON t.id = st.trial_id WHERE st.trial_id = NEW.trial_id GROUP BY st.sweep_id) x
  WHERE sweep_total.sweep_id = x.sweep_id;
END;
CREATE TRIGGER stage_step_counted AFTER UPDATE OF step ON stage WHEN NEW.step <> OLD.step BEGIN
  UPDATE sweep_total SET
    steps_done = steps_done + x.n * (NEW.step - OLD.step),
    tokens_done = tokens_done + CASE WHEN NEW.kind = 'pretrain' THEN x.n * (NEW.step - OLD.step) * x.batch_tokens ELSE 0 END,
    flops_done = flops_done + CASE WHEN NEW.kind = 'pretrain'
      THEN x.n * CAST(NEW.step - OLD.step AS REAL) * x.batch_tokens * x.flops_per_token ELSE 0 END
  FROM (SELECT st.sweep_id, count(*) AS n, t.batch_tokens, t.flops_per_token FROM sweep_trial st
        JOIN trial t ON t.id = st.trial_id WHERE st.trial_id = NEW.trial_id GROUP BY st.sweep_id) x
  WHERE sweep_total.sweep_id = x.sweep_id;
END;
CREATE TRIGGER trial_state_counted AFTER UPDATE OF state ON trial WHEN NEW.state <> OLD.state BEGIN
  UPDATE sweep_state SET trials = trials - x.n
    FROM (SELECT sweep_id, count(*) AS n FROM sweep_trial WHERE trial_id = NEW.id GROUP BY sweep_id) x
    WHERE sweep_state.sweep_id = x.sweep_id AND sweep_state.state = OLD.state;
  INSERT INTO sweep_state SELECT sweep_id, NEW.state, count(*) FROM sweep_trial WHERE trial_id = NEW.id GROUP BY sweep_id
    ON CONFLICT DO UPDATE SET trials = trials + excluded.trials;
END;
CREATE TRIGGER attempt_counted AFTER INSERT ON attempt BEGIN
  UPDATE sweep_total SET first_start_time_us = NEW.start_time_us
  WHERE first_start_time_us = 0 AND sweep_id IN
    (SELECT sweep_id FROM sweep_trial WHERE shared = 0 AND trial_id = (SELECT trial_id FROM stage WHERE id = NEW.stage_id));
END;
