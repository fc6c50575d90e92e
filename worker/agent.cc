// The loop, its waiting, and how the worker leaves.
#include "worker/agent.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <variant>

#include "domain/status_macros.h"
#include "spdlog/spdlog.h"
#include "worker/agent_thread.h"
#include "worker/devices.h"

namespace plumb::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kTick{100};  // the stop flag and the clock are looked at this often
constexpr seconds kDrainPatience{
    10};  // for the coordinator and for trainers to leave, once nothing runs

std::string ThisProgram() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

}  // namespace

Agent::Agent(const WorkerOptions& options, Workspace workspace, std::vector<v1::Device> devices,
             const std::atomic<bool>* stop)
    : options_(options),
      workspace_(std::move(workspace)),
      devices_(std::move(devices)),
      stop_(stop),
      client_(options.server),
      blobs_(options.server) {
  if (options_.name.empty()) options_.name = HostName();
  if (options_.guard_path.empty()) options_.guard_path = ThisProgram();
  if (options_.trainer_path.empty()) {
    options_.trainer_path =
        (std::filesystem::path(ThisProgram()).parent_path() / "plumb-trainer").string();
  }
  if (options_.slots <= 0) {
    options_.slots =
        options_.gpu >= 0 ? 1 : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }
}

Agent::~Agent() {
  if (inotify_ >= 0) close(inotify_);
}

absl::Status Agent::Run() {
  RETURN_IF_ERROR(FindTrainers());
  for (;;) {
    if (stop_->load() && !desired_.draining) Drain("asked to stop");
    Wait();
    const Clock::time_point now = Clock::now();
    for (CoordinatorClient::Event& event : client_.TakeEvents()) {
      std::visit([&](auto& done) { OnDone(done); }, event);
    }
    for (const Blobs::Event& event : blobs_.TakeEvents()) OnBlob(event);
    if (!fatal_.ok() && !desired_.draining) Drain(std::string(fatal_.message()));
    OnInotify();
    ServeSockets();
    if (now >= next_check_) CheckTrainers(now);
    for (auto& slot : slots_) {
      if (slot->unread) ReadJournal(*slot, JournalOf::kKnownAttempts);
    }
    DoReconcile();
    Talk();
    for (auto& slot : slots_) SaveMark(*slot, Clock::now(), SaveWhen::kDue);
    LeaveWhenIdle();
    if (desired_.draining && Drained()) break;
  }
  EndTrainers();
  return fatal_;
}

void Agent::Wait() {
  std::vector<pollfd> fds = {
      {client_.event_fd(), POLLIN, 0}, {inotify_, POLLIN, 0}, {blobs_.event_fd(), POLLIN, 0}};
  for (const auto& slot : slots_) {
    if (slot->process.fd() < 0) continue;
    fds.push_back({slot->process.fd(),
                   static_cast<short>(POLLIN | (slot->process.wants_write() ? POLLOUT : 0)), 0});
  }
  const Clock::time_point now = Clock::now();
  Clock::time_point until = now + kTick;
  // A report that is due cannot be made before the pause after a failed call is over.
  if (session_ != 0 && !report_pending_)
    until = std::min(until, std::max(report_due_, talk_after_));
  const auto wait = std::chrono::ceil<milliseconds>(until - now).count();
  poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(wait, 0, 1000)));
}

void Agent::OnInotify() {
  alignas(inotify_event) char buffer[16 << 10];
  for (;;) {
    const ssize_t n = read(inotify_, buffer, sizeof buffer);
    if (n <= 0) return;
    for (ssize_t at = 0; at < n;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      if (event->mask & IN_Q_OVERFLOW) {
        for (auto& slot : slots_) slot->unread = true;
      }
      if (const auto it = journal_watch_.find(event->wd); it != journal_watch_.end())
        slots_[it->second]->unread = true;
      if (const auto it = folder_watch_.find(event->wd); it != folder_watch_.end())
        slots_[it->second]->process.TryConnect();
    }
  }
}

void Agent::Drain(const std::string& why) {
  spdlog::info("worker {} leaves: {}", options_.name, why);
  desired_.draining = true;
  reconcile_ = true;
  drain_since_ = Clock::now();
  ReportSoon(milliseconds(0));
}

void Agent::LeaveWhenIdle() {
  if (options_.exit_when_idle_seconds <= 0 || desired_.draining) return;
  if (!attempts_.empty()) idle_since_ = Clock::now();
  if (Clock::now() - idle_since_ > seconds(options_.exit_when_idle_seconds)) Drain("no work");
}

bool Agent::Drained() {
  const bool live = std::any_of(attempts_.begin(), attempts_.end(), [](const auto& entry) {
    return entry.second->phase != Phase::kEnded;
  });
  if (live || (fatal_.ok() && blobs_.Sending())) {
    drain_since_ = Clock::now();
    return false;
  }
  if (!fatal_.ok() || Clock::now() - drain_since_ > kDrainPatience) return true;
  if (attempts_.empty() && !drain_said_) ReportSoon(milliseconds(0));
  return attempts_.empty() && drain_heard_;
}

void Agent::EndTrainers() {
  for (auto& slot : slots_) {
    SaveMark(*slot, Clock::now(), SaveWhen::kNow);
    if (slot->process.state() != TrainerProcess::State::kAbsent)
      slot->process.Command({{"command", "shutdown"}}, "");
  }
  const Clock::time_point deadline = Clock::now() + kDrainPatience;
  for (;;) {
    OnInotify();
    bool left = false;
    for (auto& slot : slots_) {
      slot->process.TryConnect();
      slot->process.Pump();
      if (slot->process.state() != TrainerProcess::State::kAbsent && slot->process.Gone())
        slot->process.SetAbsent();
      left |= slot->process.state() != TrainerProcess::State::kAbsent;
    }
    if (!left || Clock::now() > deadline) break;
    pollfd wait = {inotify_, POLLIN, 0};
    poll(&wait, 1, 20);
  }
  for (auto& slot : slots_) {
    ReadJournal(*slot, JournalOf::kKnownAttempts);
    SaveMark(*slot, Clock::now(), SaveWhen::kNow);
  }
}

absl::Status RunWorker(const WorkerOptions& options, const std::atomic<bool>* stop) {
  std::vector<v1::Device> devices = ListDevices();
  if (options.gpu >= 0) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    ASSIGN_OR_RETURN(OneGpu one,
                     ChooseGpu(devices, options.gpu, visible == nullptr ? "" : visible));
    devices = std::move(one.devices);
    // For its trainers, which inherit it; nothing else in this process looks at it.
    setenv("CUDA_VISIBLE_DEVICES", one.visible.c_str(), /*overwrite=*/1);
  }
  if (CountGpus(devices) > 0) setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", /*overwrite=*/1);
  ASSIGN_OR_RETURN(Workspace workspace, Workspace::Open(options.dir));
  return Agent(options, std::move(workspace), std::move(devices), stop).Run();
}

}  // namespace plumb::worker
