#include "trainer/ranks/gang.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "trainer/ranks/rank_process.h"
#include "trainer/ranks/start_rank.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// For the last words of ranks that have lost another; not longer than they wait for each other.
constexpr std::chrono::milliseconds kGrace(3000);
// To load data and checkpoint: nobody waits inside a step meanwhile.
constexpr std::chrono::milliseconds kLoading(600'000);

}  // namespace

Gang::Gang(const RowRequest& request, const std::string& data_dir, int64_t threads)
    : timeout_(static_cast<int64_t>(1000 * request.spec.execution.rank_timeout_seconds)),
      total_(request.spec.train.ranks),
      host_(request.gang ? request.gang->address : "127.0.0.1") {
  load_ = {{"config", spec::Canonical(request.spec, spec::With::kExecution)},
           {"data_dir", data_dir},
           {"address", host_},
           {"threads", threads},
           {"ranks", total_},
           {"checkpoint", nullptr}};
  if (request.checkpoint) {
    load_["checkpoint"] = {{"path", request.checkpoint->path},
                           {"digest", request.checkpoint->digest},
                           {"step", request.checkpoint->step},
                           {"resume", request.checkpoint->resume}};
  }
  try {
    if (request.ranks_here() < total_) door_ = std::make_unique<Door>(host_);
    for (int64_t rank = 1; rank < request.ranks_here(); ++rank) {
      peers_.push_back({.rank = rank});
      Start(&peers_.back(), request.row);
      load_["rank"] = load_["device"] = rank;
      peers_.back().channel->Send(load_);  // one that is gone already is noticed in Join()
    }
    // A rank of another machine has its own data and its own copy of the checkpoint.
    load_["data_dir"] = nullptr;
    if (!load_["checkpoint"].is_null()) load_["checkpoint"]["path"] = nullptr;
  } catch (...) {
    End();
    throw;
  }
}

Gang::~Gang() { End(); }

void Gang::End() {
  ranks_.reset();
  for (Peer& p : peers_) {
    if (p.pid > 0) kill(p.pid, SIGKILL);
  }
  for (Peer& p : peers_) {
    while (p.pid > 0 && waitpid(p.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    p.pid = 0;
  }
  peers_.clear();
}

bool Gang::Gather(std::chrono::milliseconds limit) {
  if (door_ == nullptr) return true;
  for (const Door::Guest& guest : door_->LetIn(limit)) {
    auto channel = std::make_unique<Channel>(guest.fd);
    const auto same = [&](const Peer& p) { return p.rank == guest.rank; };
    if (guest.rank < 1 || guest.rank >= total_ || std::any_of(peers_.begin(), peers_.end(), same))
      continue;
    load_["rank"] = guest.rank;
    channel->Send(load_);
    peers_.push_back({.rank = guest.rank, .remote = true, .channel = std::move(channel)});
  }
  Listen(Clock::now());
  for (const Peer& p : peers_) {
    if (p.status || p.failure || p.victim)
      throw RankLost("rank " + std::to_string(p.rank) + " is gone");
  }
  if (static_cast<int64_t>(peers_.size()) + 1 < total_) return false;
  door_.reset();
  return true;
}

void Gang::Start(Peer* peer, const std::string& row) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::runtime_error(std::string("socketpair: ") + std::strerror(errno));
  peer->channel = std::make_unique<Channel>(ends[0]);
  try {
    // The last two for who reads a list of processes.
    peer->pid = StartRank({kRankArgument, std::to_string(ends[1]),
                           std::to_string(peer->rank) + "/" + std::to_string(total_), row},
                          {ends[1]}, {});
  } catch (const std::runtime_error& e) {
    close(ends[1]);
    throw std::runtime_error("rank " + std::to_string(peer->rank) + ": " + e.what());
  }
  close(ends[1]);
}

std::string Gang::EndOf(const Peer& p) {
  return "rank " + std::to_string(p.rank) + " " +
         (p.remote ? "on another machine has ended, or its connection has"
                   : trainer::EndOf(*p.status));
}

void Gang::Join(at::Device device) {
  Await(std::max(kLoading, timeout_));
  Say({{"do", "join"}});
  // Connecting blocks this thread; meanwhile another answers the ranks' questions and hears of
  // their ends.
  const int wake = eventfd(0, EFD_CLOEXEC);
  if (wake < 0) throw std::runtime_error(std::string("eventfd: ") + std::strerror(errno));
  std::atomic<bool> connecting = true;
  std::thread host([&] {
    while (connecting) {
      Listen(Clock::now() + kLoading, wake);
      for (const Peer& p : peers_) {
        if (p.status || p.failure || p.victim)
          board_.Lose("rank " + std::to_string(p.rank) + " is gone");
      }
    }
  });
  const auto end = [&] {
    connecting = false;
    const uint64_t one = 1;
    while (write(wake, &one, sizeof one) < 0 && errno == EINTR) {
    }
    host.join();
    close(wake);
  };
  try {
    ranks_ = Collective::Join(board_, 0, total_, device, timeout_, host_);
  } catch (...) {
    end();
    throw;
  }
  end();
}

void Gang::Begin(RankWork work, int64_t step) {
  Say({{"do", work == RankWork::kTrain ? "train" : "time"}, {"step", step}});
}

void Gang::Finish() {
  Await(timeout_);
  step_cpu_seconds_ = 0;
  for (Peer& p : peers_) {
    step_cpu_seconds_ += p.answer->value("cpu_seconds", 0.0);
    p.peak_bytes = p.answer->value("peak_bytes", int64_t{0});
  }
}

void Gang::CheckSame(const std::string& own) {
  Say({{"do", "digest"}});
  Await(timeout_);
  for (const Peer& p : peers_) {
    if (p.answer->value("digest", "") == own) continue;
    throw std::runtime_error("rank " + std::to_string(p.rank) +
                             " holds other weights than rank 0; the attempt starts again from the "
                             "checkpoint before");
  }
}

int64_t Gang::peak_bytes() const {
  int64_t sum = 0;
  for (const Peer& p : peers_) sum += p.peak_bytes;
  return sum;
}

void Gang::Say(const json& message) {
  for (Peer& p : peers_) {
    p.answer.reset();
    if (p.status || !p.channel->Send(message))
      throw RankLost("rank " + std::to_string(p.rank) + " is gone");
  }
}

void Gang::Await(std::chrono::milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  for (;;) {
    bool all = true;
    for (const Peer& p : peers_) {
      if (p.status || p.failure || p.victim)
        throw RankLost("rank " + std::to_string(p.rank) + " is gone");
      all &= p.answer.has_value();
    }
    if (all) return;
    if (Clock::now() >= deadline) throw RankLost("a rank does not answer");
    Listen(deadline);
  }
}

void Gang::Listen(Clock::time_point deadline, int wake) {
  std::vector<pollfd> fds;
  for (const Peer& p : peers_) fds.push_back({p.status ? -1 : p.channel->fd(), POLLIN, 0});
  fds.push_back({wake, POLLIN, 0});
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  if (poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(left + 1, 0, 60'000))) <= 0)
    return;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (fds[i].revents == 0) continue;
    Peer& p = peers_[i];
    const bool there = p.channel->Fill(/*wait=*/false);
    while (auto message = p.channel->Next()) {
      if (message->contains("board")) {
        board_.Answer(*message, p.channel.get());
      } else if (message->contains("lost")) {
        p.victim = true;
      } else if (message->contains("failed")) {
        p.failure = {
            message->value("out_of_memory", false) ? RowOutcome::kOutOfMemory : RowOutcome::kFailed,
            message->value("failed", "")};
      } else {
        p.answer = std::move(message);
      }
    }
    if (there) continue;
    int status = 0;
    while (!p.remote && waitpid(p.pid, &status, 0) < 0 && errno == EINTR) {
    }
    p.pid = 0, p.status = status;
  }
}

Gang::Failure Gang::Explain(const std::string& lost) {
  const auto over = [](const Peer& p) { return p.status || p.failure || p.victim; };
  const auto guilty = [](const Peer& p) { return p.failure || (p.status && !p.victim); };
  const Clock::time_point deadline = Clock::now() + std::min(kGrace, timeout_);
  while (Clock::now() < deadline && std::none_of(peers_.begin(), peers_.end(), guilty) &&
         !std::all_of(peers_.begin(), peers_.end(), over))
    Listen(deadline);
  const auto name = [](const Peer& p) { return "rank " + std::to_string(p.rank); };
  for (const Peer& p : peers_) {
    if (p.failure) return {p.failure->outcome, name(p) + ": " + p.failure->cause};
  }
  for (const Peer& p : peers_) {
    if (p.status && !p.victim) return {RowOutcome::kFailed, EndOf(p)};
  }
  for (const Peer& p : peers_) {
    if (over(p)) continue;
    return {RowOutcome::kFailed,
            name(p) + " did not take part in a step within " +
                std::to_string(std::chrono::duration<double>(timeout_).count()) +
                " s (execution.rank_timeout_seconds)"};
  }
  return {RowOutcome::kFailed, "the ranks lost each other: " + lost};
}

}  // namespace plumb::trainer
