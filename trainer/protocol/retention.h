// Which checkpoints of a stage stay on disk: what the coordinator knows must be there to go on
// from, however far the trainer has come meanwhile (docs/trainer-protocol.md).
//
// The worker writes down in the stage's folder, DIR/acknowledged, the step of the last checkpoint
// that the coordinator has committed. Of those after it any may be the next one it commits (the
// answer to a report may be lost), so they stay too, within a limit.
#pragma once

#include <cstdint>
#include <string>

namespace plumb::trainer {

// The checkpoint that another trial may begin from, its step in DIR/kept, stays for good.

// Of the committed checkpoints up to `newest` (a path in `dir`; "": all) the last two, the
// acknowledged one and up to 32 after it stay; later ones are left alone. A folder nobody has
// acknowledged anything in keeps the last two. Errors are ignored: the next call tries again.
void RetainCheckpoints(const std::string& dir, const std::string& newest);

// Written by replacement, not synced: an older step keeps more. False: it could not be written.
bool WriteAcknowledged(const std::string& dir, int64_t step);

// Written by replacement; throws std::runtime_error.
void WriteKept(const std::string& dir, int64_t step);

// For the worker: removes what a process that is gone was writing in `dir`, a stage's folder
// (step-….tmp-<pid>, acknowledged.new, kept.new). A folder that is not there is fine.
void RemoveLeftovers(const std::string& dir);

}  // namespace plumb::trainer
