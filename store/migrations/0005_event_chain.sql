-- Events are append-only: each row's hash covers the row before it, and the cluster row says where the chain ends
-- (store/event_chain.h). Old rows are chained, and updates and deletions refused, by the program that migrates.
ALTER TABLE event ADD COLUMN hash TEXT NOT NULL DEFAULT '';
ALTER TABLE cluster ADD COLUMN last_event INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cluster ADD COLUMN last_event_hash TEXT NOT NULL DEFAULT '';
