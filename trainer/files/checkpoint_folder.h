// A checkpoint as a folder: step-<12 digits> with weights, optimizer moments (unless it was made
// elsewhere), a manifest of their SHA-256 sums, and a DONE marker, which makes it real.
// docs/trainer-protocol.md has the format. Torch-free.
//
// Errors are std::runtime_error that name the file.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trainer/files/safetensors.h"

namespace plumb::trainer {

struct CheckpointContent {
  int64_t step = 0;
  std::map<std::string, FloatTensor> weights;
  std::map<std::string, FloatTensor> moments;  // "m.<name>", "v.<name>"; empty: none to resume from
  std::map<std::string, std::string> files;  // further files beside them: name, bytes (tokenizers)
  std::string manifest_json;  // further keys of the manifest: config, progress, source
};

// Writes durably under `dir` (made if missing) and returns the folder. The same step again keeps
// what is there, if it is whole and of the same config.
std::string WriteCheckpointFolder(const std::string& dir, const CheckpointContent& content);

// Whether `path` has its marker; and whether its files are what its manifest says.
bool IsCommitted(const std::string& path);
bool IsIntact(const std::string& path);

// The manifest of a committed checkpoint, after checking it against `digest` ("": any) and every
// file it names against its sum. weights.safetensors is always there.
nlohmann::json ReadCheckpointManifest(const std::string& path, const std::string& digest);

}  // namespace plumb::trainer
