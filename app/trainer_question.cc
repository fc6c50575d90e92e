#include "app/trainer_question.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

constexpr char kRequest[] = "/in", kAnswer[] = "/out", kWrong[] = "/err", kPid[] = "/pid";

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Ends the trainer that was asked in `folder`. Its number may be another process's by now, whose
// standard input is another file.
void End(const std::string& folder) {
  pid_t pid = 0;
  std::ifstream(folder + kPid) >> pid;
  std::error_code gone;
  if (pid > 1 && fs::equivalent(absl::StrCat("/proc/", pid, "/fd/0"), folder + kRequest, gone))
    kill(pid, SIGKILL);
}

}  // namespace

absl::StatusOr<TrainerQuestion> TrainerQuestion::Ask(const std::string& trainer,
                                                     const std::string& word,
                                                     const nlohmann::json& request,
                                                     const std::string& prefix) {
  ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::Make(prefix, End));
  TrainerQuestion question(std::move(folder));
  const std::string& dir = question.folder_.path();
  const std::string in = dir + kRequest, out = dir + kAnswer, wrong = dir + kWrong;
  std::ofstream(in) << request.dump();
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  constexpr int kNew = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out.c_str(), kNew, 0600);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, wrong.c_str(), kNew, 0600);
  std::string program = trainer, first = word;
  char* argv[] = {program.data(), first.data(), nullptr};
  const int failed = posix_spawn(&question.pid_, trainer.c_str(), &files, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) {
    return absl::NotFoundError(
        absl::StrCat(trainer, " cannot be started; give --trainer /path/to/plumb-trainer"));
  }
  std::ofstream(dir + kPid) << question.pid_;
  return question;
}

nlohmann::json TrainerQuestion::Answer() const {
  return nlohmann::json::parse(Read(folder_.path() + kAnswer), nullptr, false);
}

std::string TrainerQuestion::Wrong() const { return Read(folder_.path() + kWrong); }

}  // namespace plumb::app
