// Starting a rank: a process of this same program.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace plumb::trainer {

// As `plumb-trainer ARGS…` with `extra` in its environment and the descriptors `keep`. It dies with
// the thread that starts it. Throws std::runtime_error.
pid_t StartRank(std::vector<std::string> args, const std::vector<int>& keep,
                std::vector<std::string> extra);

// How it ended, of waitpid's status: "ended by signal 9 (…)".
std::string EndOf(int status);

}  // namespace plumb::trainer
