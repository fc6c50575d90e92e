-- Sweeps whose list of trials grows: a cell's replicates after its tuning, values beyond a grid's edge, suggestions, what a user adds.
ALTER TABLE sweep ADD COLUMN open INTEGER NOT NULL DEFAULT 0;         -- 1: more may come, so that it is not completed when all has ended
ALTER TABLE sweep_trial ADD COLUMN tune INTEGER NOT NULL DEFAULT 0;   -- 1: it chose a nuisance value; conclusions are not drawn from it

-- What was added after the plan, in order: with the plan it says which trials the sweep has.
CREATE TABLE sweep_addition (
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  idx INTEGER NOT NULL,
  name TEXT NOT NULL,             -- of the decision, so that it is made once: "winner of cell 3"
  payload_json TEXT NOT NULL,     -- what its trials follow from
  trials INTEGER NOT NULL,        -- how many they are
  PRIMARY KEY (sweep_id, idx),
  UNIQUE (sweep_id, name)
) STRICT, WITHOUT ROWID;
