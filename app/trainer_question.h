// One question to a trainer on this machine: `plumb-trainer WORD`, with JSON on its standard input
// and JSON on its standard output.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "app/temporary_folder.h"

namespace plumb::app {

// A trainer at work on one question, in a temporary folder of its own. Whoever asked waits for its
// end (waitpid), which is not waited for here. One that a killed program left at work is ended by
// the next that asks with the same prefix.
class TrainerQuestion {
 public:
  // `prefix` of the folder, as "plumb-coordcheck-". NotFound where the program cannot be started.
  static absl::StatusOr<TrainerQuestion> Ask(const std::string& trainer, const std::string& word,
                                             const nlohmann::json& request,
                                             const std::string& prefix);
  pid_t pid() const { return pid_; }

  // What it wrote; whole once it has ended.
  nlohmann::json Answer() const;  // discarded where it is no JSON
  std::string Wrong() const;      // on its standard error

 private:
  explicit TrainerQuestion(TemporaryFolder folder) : folder_(std::move(folder)) {}
  TemporaryFolder folder_;
  pid_t pid_ = 0;
};

}  // namespace plumb::app
