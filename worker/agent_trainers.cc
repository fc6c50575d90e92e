// Trainers: found at the start, launched, listened to, missed.
#include <sys/inotify.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "trainer/protocol/retention.h"
#include "trainer/spec/stage_settings.h"
#include "worker/agent_thread.h"

namespace plumb::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kCheckTrainers{500};  // are they alive
constexpr int kPrestart = 4;                 // trainers started before there is work
constexpr int kLaunchesPerAttempt = 2;
constexpr seconds kHelloPatience{5};

}  // namespace

absl::Status Agent::FindTrainers() {
  inotify_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (inotify_ < 0)
    return absl::ResourceExhaustedError(absl::StrCat("inotify: ", std::strerror(errno)));
  std::error_code none;
  for (const auto& stage :
       std::filesystem::directory_iterator(workspace_.dir() + "/checkpoints", none))
    trainer::RemoveLeftovers(stage.path());
  const int count = std::max(options_.slots, workspace_.TrainerDirs());
  for (int i = 0; i < count; ++i) {
    const std::string dir = workspace_.TrainerDir(i);
    std::error_code error;
    std::filesystem::create_directories(dir + "/journal", error);
    if (error) return absl::InternalError(absl::StrCat("cannot make ", dir, ": ", error.message()));
    const int of_dir = inotify_add_watch(inotify_, dir.c_str(), IN_MOVED_TO | IN_ONLYDIR);
    const int of_journal =
        inotify_add_watch(inotify_, (dir + "/journal").c_str(), IN_MODIFY | IN_CREATE | IN_ONLYDIR);
    if (of_dir < 0 || of_journal < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot watch ", dir, ": ", std::strerror(errno)));
    }
    slots_.push_back(std::make_unique<Slot>(i, dir, options_.guard_path));
    folder_watch_[of_dir] = i;
    journal_watch_[of_journal] = i;
    Slot& slot = *slots_.back();
    for (const std::string& row : slot.mark.live) {
      if (Attempt* attempt = AttemptOfRow(row, &slot)) attempt->phase = Phase::kLive;
    }
    // The lock is looked at first: what a trainer that is gone has said, its guard's last word
    // included, is then read.
    const bool alive = slot.process.FolderLocked();
    ReadJournal(slot, JournalOf::kAnyAttempt);
    if (alive) {
      slot.process.Adopt();
      slot.settled = false;
    } else {
      EndRowsOf(slot, "failed", "its trainer ended while no worker watched", std::nullopt);
      if (i < std::min(options_.slots, kPrestart)) Launch(slot, "");
    }
  }
  settle_deadline_ = Clock::now() + kHelloPatience;
  return absl::OkStatus();
}

std::vector<std::string> Agent::Program(const std::string& name) const {
  if (name.empty()) return {options_.trainer_path};
  if (name == spec::kCommandsLabel) {
    if (!options_.allow_commands) return {};
    return {options_.guard_path, "__commands"};
  }
  const auto it = options_.trainers.find(name.substr(std::strlen(spec::kTrainerLabel)));
  return it == options_.trainers.end() ? std::vector<std::string>() : std::vector{it->second};
}

void Agent::Launch(Slot& slot, const std::string& program) {
  slot.bundle.clear();
  slot.leaving = false;
  const absl::Status status = slot.process.Launch(Program(program), program);
  if (!status.ok()) spdlog::error("{}", std::string(status.message()));
}

void Agent::ServeSockets() {
  for (auto& slot : slots_) {
    if (slot->process.fd() < 0) continue;
    for (const TrainerProcess::Answer& answer : slot->process.Pump()) {
      slot->unread = true;
      if (answer.hello) {
        OnHello(*slot, answer);
      } else if (!answer.error.empty() && !answer.row.empty()) {
        if (Attempt* attempt = FindRow(answer.row);
            attempt != nullptr && attempt->phase != Phase::kEnded) {
          // It is not where this worker thought it was: ask before anything else is started
          // there.
          slot->settled = false;
          slot->process.AskHello();
          EndAttempt(*attempt, "failed", "its trainer refused it: " + answer.error, std::nullopt,
                     true);
        }
      }
    }
  }
}

void Agent::OnHello(Slot& slot, const TrainerProcess::Answer& hello) {
  if (!hello.error.empty()) {
    spdlog::error("trainer {}: {}", slot.index, hello.error);
    EndRowsOf(slot, "failed", hello.error, std::nullopt);
    slot.settled = true;
    return;
  }
  ReadJournal(slot, slot.settled ? JournalOf::kKnownAttempts : JournalOf::kAnyAttempt);
  if (hello.unanswered.empty()) slot.bundle = hello.bundle;
  for (const std::string& row : hello.rows) {
    Attempt* attempt = AttemptOfRow(row, &slot);
    if (attempt == nullptr) continue;
    if (attempt->phase == Phase::kEnded) {  // believed dead, and reported so: its room is needed
      slot.process.Command({{"command", "stop_row"}, {"row", row}, {"mode", "cancel"}}, "");
    } else {
      attempt->phase = Phase::kLive;
    }
  }
  for (auto& [key, attempt] : attempts_) {
    if (attempt->slot != slot.index ||
        (attempt->phase != Phase::kLive && attempt->phase != Phase::kSent))
      continue;
    const std::string row = key.RowName();
    const bool runs = std::find(hello.rows.begin(), hello.rows.end(), row) != hello.rows.end();
    const auto& pending = hello.unanswered;
    if (!runs && std::find(pending.begin(), pending.end(), row) == pending.end()) {
      EndAttempt(*attempt, "failed", "its trainer does not have it", std::nullopt, false);
    }
  }
  slot.settled = true;
  reconcile_ = true;
}

void Agent::CheckTrainers(Clock::time_point now) {
  next_check_ = now + kCheckTrainers;
  for (auto& slot : slots_) {
    if (slot->process.state() == TrainerProcess::State::kAbsent) continue;
    if (slot->process.Gone()) {
      ReadJournal(*slot, JournalOf::kKnownAttempts);  // may hold the guard's last word
      if (slot->process.state() != TrainerProcess::State::kAbsent) OnExit(*slot, nullptr);
    } else {
      slot->process.TryConnect();
    }
  }
}

void Agent::OnExit(Slot& slot, const JournalEvent* exit) {
  std::string outcome = "failed", cause = "its trainer ended unseen (the guard was killed too)";
  if (exit != nullptr) {
    const int status = exit->json.value("status", -1), signal = exit->json.value("signal", 0);
    if (exit->json.value("out_of_memory", false)) {
      outcome = "out_of_memory";
      cause = "the kernel killed its trainer for want of memory";
    } else if (signal != 0) {
      cause =
          absl::StrCat("its trainer was ended by signal ", signal, " (", strsignal(signal), ")");
    } else if (status == 75) {
      outcome = "preempted";
      cause = "its trainer was asked to leave";
    } else {
      cause = absl::StrCat("its trainer exited with code ", status);
    }
  }
  // An attempt the trainer never took is given to a new one, once.
  for (auto& [key, attempt] : attempts_) {
    if (attempt->slot != slot.index || attempt->phase != Phase::kSent || !attempt->assignment)
      continue;
    if (attempt->launches < kLaunchesPerAttempt && attempt->stop == Stop::kNone) {
      attempt->phase = Phase::kWaiting;
      attempt->slot = -1;
      reconcile_ = true;  // it may be the only one: nothing else would give it a trainer
    }
  }
  EndRowsOf(slot, outcome, cause, exit == nullptr ? std::nullopt : std::optional(exit->begin));
  slot.process.SetAbsent();
  slot.bundle.clear();
  slot.settled = true;
  if (slot.leaving) reconcile_ = true;  // what it left for
  slot.leaving = false;
}

void Agent::EndRowsOf(Slot& slot, const std::string& outcome, const std::string& cause,
                      std::optional<trainer::JournalPosition> at) {
  for (auto& [key, attempt] : attempts_) {
    if (attempt->slot != slot.index || attempt->phase == Phase::kWaiting ||
        attempt->phase == Phase::kEnded)
      continue;
    EndAttempt(*attempt, outcome, cause, at, outcome == "failed" || outcome == "out_of_memory");
  }
}

}  // namespace plumb::worker
