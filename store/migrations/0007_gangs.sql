-- Gangs: an attempt of several ranks on several workers.
ALTER TABLE stage ADD COLUMN ranks INTEGER NOT NULL DEFAULT 1;  -- equal parts of its slots and memory that workers may share
ALTER TABLE worker ADD COLUMN gang TEXT NOT NULL DEFAULT '';    -- workers of one such name reach each other; '': takes no part in gangs

-- The workers of an attempt beside attempt.worker_id, which has rank 0. None: it ran on that one alone.
CREATE TABLE attempt_member (
  stage_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  worker_id INTEGER NOT NULL REFERENCES worker (id),
  first_rank INTEGER NOT NULL,
  ranks INTEGER NOT NULL,
  bundle INTEGER NOT NULL,
  PRIMARY KEY (stage_id, number, first_rank),
  FOREIGN KEY (stage_id, number) REFERENCES attempt (stage_id, number)
) STRICT, WITHOUT ROWID;
