-- Starts of a server on this file. A worker that heard a time from one that is not here, or a later one than it could say by what is here,
-- has spoken with another copy of the file.
CREATE TABLE server_start (
  run INTEGER PRIMARY KEY,           -- at random
  start INTEGER NOT NULL UNIQUE,     -- cluster.starts
  cluster_time_us INTEGER NOT NULL   -- that it went on from
) STRICT;
