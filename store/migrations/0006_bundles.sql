-- Bundles: stages of equal fusion key that one trainer runs at once, and what each took of its worker. Quarantine survives a restart.
ALTER TABLE stage ADD COLUMN bundle INTEGER NOT NULL DEFAULT 1;        -- rows of a bundle it may share, at most
ALTER TABLE attempt ADD COLUMN bundle INTEGER NOT NULL DEFAULT 0;      -- its trainer's array; 0: made before there were any
ALTER TABLE attempt ADD COLUMN bundle_rows INTEGER NOT NULL DEFAULT 1; -- that array's size
ALTER TABLE attempt ADD COLUMN slot_us INTEGER NOT NULL DEFAULT 0;     -- slot-microseconds, its share of the bundle's; 0 while it runs
ALTER TABLE worker ADD COLUMN quarantined_until_ct_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN quarantines INTEGER NOT NULL DEFAULT 0;  -- since something last got on there
ALTER TABLE worker ADD COLUMN on_probation INTEGER NOT NULL DEFAULT 0; -- 1: after a quarantine, one attempt at a time
