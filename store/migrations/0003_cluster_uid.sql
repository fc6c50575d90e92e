-- Names the cluster: a worker that comes from another one brings nothing along that would count here.
ALTER TABLE cluster ADD COLUMN uid TEXT NOT NULL DEFAULT '';
UPDATE cluster SET uid = lower(hex(randomblob(16)));
