// A model's folder and a text, made ready for a stage: a checkpoint that the trainer reads, and a
// corpus in the model's own tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/dataset.h"
#include "trainer/protocol/engine.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::app {

struct ModelSource {
  std::string folder;  // as it was given, absolute
  std::string layout;  // of Hugging Face ("llama"), or "plumb"
  trainer::CheckpointRef checkpoint;
  spec::TrialSpec config;  // resolved, as the checkpoint says
  std::vector<std::string> notes;
};

// `folder`: a Hugging Face model (config.json), a checkpoint of Plumb (manifest.json), or a folder
// of such, whose last is taken. A Hugging Face model is read into `work`.
absl::StatusOr<ModelSource> OpenModel(const std::string& folder, const std::string& work);

struct TextSource {
  std::vector<std::string> files;  // none: nobody reads it, and any text will do
  std::string tokenizer;           // "bytes", or a file; "": the model's own
  std::string data_root;           // where the corpora of trained models lie; "": the usual place
};
// Shares of the splits: half to fit on, the same of val and test, the rest is left to train.
inline constexpr double kTextShares[] = {0.16, 0.5, 0.17, 0.17};

// Prepares the text under `work` and returns the corpus's folder. Signals must be blocked; SIGINT
// ends it as Cancelled.
absl::StatusOr<std::string> PrepareTextFor(const ModelSource& model, const TextSource& text,
                                           const std::string& work);

}  // namespace plumb::app
