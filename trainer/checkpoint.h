// Checkpoints of one row: a folder step-<12 digits> with weights, moments and a manifest, made real
// by its DONE marker (docs/trainer-protocol.md). Everything that advances is inside, so that a
// resumed run is the undisturbed one bit for bit.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/arena.h"
#include "trainer/protocol/engine.h"

namespace plumb::trainer {

// What advances beside the tensors.
struct RowProgress {
  int64_t step = 0;
  double first_loss = 0;     // of step 1
  double smoothed_loss = 0;  // divergence detection
  double wall_seconds = 0;   // of all attempts
  double cpu_seconds = 0;
  double block_evaluations = 0;  // of a routed model: blocks computed, summed over training texts
  friend bool operator==(const RowProgress&, const RowProgress&) = default;
};

struct SavedCheckpoint {
  std::string path, digest;  // SHA-256 of manifest.json
  int64_t bytes = 0;
};

// Writes row k durably under `dir` (made if missing); throws std::runtime_error. Writing the same
// step again keeps what is there, if it is whole. Then removes all but the last two checkpoints of
// `dir` and stale temporary folders.
SavedCheckpoint SaveCheckpoint(const std::string& dir, const Arena& arena, int64_t k,
                               const RowProgress& progress, const std::string& config_json);

// Reads into row k. The manifest's digest must be `ref.digest`, each file's SHA-256 the manifest's,
// and the tensors those of the arena's layout. With ref.resume false only the weights are taken and
// the result is a fresh RowProgress. `continues`: the run that goes on from it, of which it must be
// a checkpoint: its own, or one of a run that is the same up to there (spec::PrefixKey). Throws
// std::runtime_error saying what is wrong.
RowProgress LoadCheckpoint(const CheckpointRef& ref, Arena& arena, int64_t k,
                           const spec::TrialSpec* continues = nullptr);

}  // namespace plumb::trainer
