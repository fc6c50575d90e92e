#include "trainer/ranks/member.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/ranks/rank_process.h"
#include "trainer/ranks/start_rank.h"

namespace plumb::trainer {

using nlohmann::json;

Member::Member(const RowRequest& request, const std::string& data_dir) : row_(request.row) {
  const GangPart& part = *request.gang;
  std::string secret = kRankSecret;
  secret.append("=").append(part.secret);
  try {
    for (int64_t i = 0; i < part.ranks_here; ++i) {
      const int64_t rank = part.first_rank + i;
      int words[2];
      if (pipe2(words, O_CLOEXEC) != 0)
        throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
      processes_.push_back({.rank = rank, .words = words[0]});
      // What is this machine's own; the rest rank 0 says.
      const json here = {{"data_dir", data_dir},
                         {"address", part.address},
                         {"device", i},
                         {"words", words[1]},
                         {"checkpoint", request.checkpoint ? request.checkpoint->path : ""}};
      try {
        processes_.back().pid =
            StartRank({kRankArgument, "tcp:" + part.rendezvous,
                       std::to_string(rank) + "/" + std::to_string(request.spec.train.ranks), row_,
                       here.dump()},
                      {words[1]}, {secret});
      } catch (...) {
        close(words[1]);
        throw;
      }
      close(words[1]);
    }
  } catch (...) {
    Kill();
    throw;
  }
}

Member::~Member() { Kill(); }

void Member::Kill() {
  for (Process& p : processes_) {
    if (p.pid > 0) kill(p.pid, SIGKILL);
  }
  for (Process& p : processes_) {
    while (p.pid > 0 && waitpid(p.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    if (p.words >= 0) close(p.words);
  }
  processes_.clear();
}

std::optional<Member::End> Member::Wait(std::chrono::milliseconds limit) {
  std::vector<pollfd> fds;
  for (const Process& p : processes_) fds.push_back({p.pid > 0 ? p.words : -1, POLLIN, 0});
  poll(fds.data(), fds.size(), static_cast<int>(limit.count()));
  bool all = true;
  for (size_t i = 0; i < processes_.size(); ++i) {
    Process& p = processes_[i];
    if (p.pid > 0 && fds[i].revents != 0) {
      int status = 0;
      while (waitpid(p.pid, &status, 0) < 0 && errno == EINTR) {
      }
      p.pid = 0;
      std::string words(4096, '\0');
      const ssize_t n = read(p.words, words.data(), words.size());
      words.resize(n > 0 ? static_cast<size_t>(n) : 0);
      const std::string name = "rank " + std::to_string(p.rank);
      if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != kRankLost)) {
        const bool oom = WIFEXITED(status) && WEXITSTATUS(status) == kRankOutOfMemory;
        return End{oom ? RowOutcome::kOutOfMemory : RowOutcome::kFailed,
                   words.empty() ? name + " " + EndOf(status) : name + ": " + words};
      }
    }
    all &= p.pid == 0;
  }
  if (!all) return std::nullopt;
  return End{RowOutcome::kSucceeded, "rank 0 has ended"};
}

}  // namespace plumb::trainer
