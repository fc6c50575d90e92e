// Files that a sweep file's stages name: found where the sweep file lies, and pinned by their
// digest, so that the plan of the text is the same everywhere and for ever.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace plumb::sweeps {

// The text with each path of a stage's file setting (`task: "glue.jsonl"`) replaced by
// {path: absolute, sha256: digest}; relative paths begin at `folder`. NotFound, with line, column
// and caret, for a file that cannot be read, and InvalidArgument for what else is wrong with a text
// that names one; any other text comes back as it is, for planning to judge.
absl::StatusOr<std::string> PinFiles(const std::string& yaml, const std::string& file_name,
                                     const std::string& folder);
// The same of a stage by itself, `{NAME: {KIND: {…}}}` (sweeps/read_stages.h).
absl::StatusOr<std::string> PinStageFiles(const std::string& yaml, const std::string& file_name,
                                          const std::string& folder);

}  // namespace plumb::sweeps
