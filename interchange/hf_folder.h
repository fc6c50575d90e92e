// Whole folders: a Hugging Face model (config.json, safetensors, tokenizer) to a checkpoint of
// Plumb, and back. Weights are moved, not computed with: a float32 model that goes out and comes
// back has the same bits.
//
// Errors are std::runtime_error, whose text may have several lines; nothing is left behind.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::interchange {

struct Imported {
  std::string checkpoint;  // the folder step-000000000000
  std::string digest;      // SHA-256 of its manifest
  std::string model_type;
  spec::TrialSpec spec;  // resolved
  int64_t parameters = 0;
  std::vector<std::string> files;  // of the tokenizer, kept beside the weights
  std::vector<std::string> notes;  // for people
};

// Reads the model in `dir` and writes a checkpoint of step 0 under `out`, with weights alone: a
// stage can start from it, none can resume. The manifest's "source" keeps config.json.
Imported ImportHf(const std::string& dir, const std::string& out);

struct ExportOptions {
  std::string model_type;  // "": the first layout that can hold the model
  // The tokenizer's files by name, and the ids it gives these tokens; where not given, those that
  // an imported checkpoint has kept.
  std::map<std::string, std::string> tokenizer_files;
  std::optional<int64_t> bos, eos;
};

struct Exported {
  std::string model_type;
  int64_t parameters = 0;
  std::vector<std::string> files;  // all that were written
};

// Writes the model of a checkpoint folder into `dir`, which must be new or empty.
Exported ExportHf(const std::string& checkpoint, const std::string& dir,
                  const ExportOptions& options);

// The resolved config in a checkpoint's manifest.
spec::TrialSpec SpecOf(const nlohmann::json& manifest, const std::string& where);

}  // namespace plumb::interchange
