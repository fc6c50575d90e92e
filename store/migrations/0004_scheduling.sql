-- Who asks, how urgently, and what a stage needs of a worker.
ALTER TABLE sweep ADD COLUMN user TEXT NOT NULL DEFAULT '';
ALTER TABLE sweep ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;     -- larger first
ALTER TABLE sweep ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;       -- 1: nothing of it is granted
ALTER TABLE stage ADD COLUMN losses INTEGER NOT NULL DEFAULT 0;       -- attempts lost without progress
ALTER TABLE stage ADD COLUMN ooms INTEGER NOT NULL DEFAULT 0;         -- attempts out of memory; each halves the micro-batch
ALTER TABLE stage ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0; -- predicted; 0: unknown
ALTER TABLE stage ADD COLUMN labels TEXT NOT NULL DEFAULT '';         -- of the worker it needs: sorted, with commas
ALTER TABLE worker ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN drain INTEGER NOT NULL DEFAULT 0;       -- 1: asked to give back what it has

CREATE TABLE user (
  name TEXT PRIMARY KEY,
  weight REAL NOT NULL CHECK (weight > 0),
  max_slots INTEGER NOT NULL,   -- at once; 0: no limit
  consumed_us INTEGER NOT NULL  -- slot-microseconds, for the fair share
) STRICT, WITHOUT ROWID;
