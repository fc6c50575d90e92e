// The agent: one thread that owns everything. It waits for the coordinator's answers (an event
// descriptor), for journals and sockets to appear or grow (inotify), for trainers' answers (their
// sockets) and for time; then makes what is equal what should be.
//
//   desired state (Poll) ──► Reconcile ──► commands to trainers
//   journals ──► Attempt::OnEvent ──► Report ──► Attempt::OnAck ──► segments deleted
#include "worker/agent.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "spdlog/spdlog.h"
#include "trainer/protocol/retention.h"
#include "trainer/spec/stage_settings.h"
#include "worker/attempt.h"
#include "worker/blobs.h"
#include "worker/coordinator_client.h"
#include "worker/devices.h"
#include "worker/reconcile.h"
#include "worker/row_commands.h"
#include "worker/slot.h"
#include "worker/workspace.h"

#ifndef PLUMB_VERSION
#define PLUMB_VERSION "0.1.0"
#endif

namespace plumb::worker {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;
using trainer::JournalEvent;

constexpr int kProtocol = 1;
constexpr int kPollWaitMs = 20'000;
constexpr milliseconds kTick{100};           // the stop flag and the clock are looked at this often
constexpr milliseconds kCheckTrainers{500};  // are they alive
constexpr milliseconds kCoalesce{3};         // an end waits so long for the ends of its neighbours
constexpr int64_t kReportBytes = 900 << 10;  // facts in one Report; with states and one fact
                                             // of 1 MiB (a record) it stays under 3 MiB
constexpr int64_t kLogBytesPerReport = 100 << 10;
constexpr int64_t kUnackedBytes = 8
                                  << 20;  // per slot; beyond this the journal on disk is the spool
constexpr int kPrestart = 4;              // trainers started before there is work
constexpr int kLaunchesPerAttempt = 2;
constexpr seconds kHelloPatience{5};
constexpr seconds kDrainPatience{
    10};  // for the coordinator and for trainers to leave, once nothing runs
constexpr milliseconds kBackoffFirst{100};
constexpr milliseconds kBackoffMost{5'000};

std::string ThisProgram() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

class Agent {
 public:
  Agent(const WorkerOptions& options, Workspace workspace, std::vector<v1::Device> devices,
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
      options_.slots = options_.gpu >= 0
                           ? 1
                           : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    }
  }

  ~Agent() {
    if (inotify_ >= 0) close(inotify_);
  }

  absl::Status Run() {
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

 private:
  enum class JournalOf { kKnownAttempts, kAnyAttempt };
  enum class SaveWhen { kDue, kNow };

  // ---- start ----

  // Opens the trainers' folders, reads what their journals say, and finds those that live.
  absl::Status FindTrainers() {
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
      if (error)
        return absl::InternalError(absl::StrCat("cannot make ", dir, ": ", error.message()));
      const int of_dir = inotify_add_watch(inotify_, dir.c_str(), IN_MOVED_TO | IN_ONLYDIR);
      const int of_journal = inotify_add_watch(inotify_, (dir + "/journal").c_str(),
                                               IN_MODIFY | IN_CREATE | IN_ONLYDIR);
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

  // The attempt a row of a slot belongs to, made where there is none.
  Attempt* AttemptOfRow(const std::string& row, Slot* slot) {
    const auto key = AttemptKey::FromRowName(row);
    if (!key) return nullptr;
    const auto [it, is_new] = attempts_.try_emplace(*key, nullptr);
    if (is_new) {
      it->second = std::make_unique<Attempt>(*key);
      it->second->slot = slot->index;
      NoteStarted(*key);
    }
    if (it->second->slot < 0) it->second->slot = slot->index;
    return it->second.get();
  }

  // ---- waiting ----

  void Wait() {
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

  void OnInotify() {
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

  // ---- trainers ----

  // A trainer by its name (ProgramOf); empty for one that this worker does not have.
  std::vector<std::string> Program(const std::string& name) const {
    if (name.empty()) return {options_.trainer_path};
    if (name == spec::kCommandsLabel) {
      if (!options_.allow_commands) return {};
      return {options_.guard_path, "__commands"};
    }
    const auto it = options_.trainers.find(name.substr(std::strlen(spec::kTrainerLabel)));
    return it == options_.trainers.end() ? std::vector<std::string>() : std::vector{it->second};
  }

  void Launch(Slot& slot, const std::string& program) {
    slot.bundle.clear();
    slot.leaving = false;
    const absl::Status status = slot.process.Launch(Program(program), program);
    if (!status.ok()) spdlog::error("{}", std::string(status.message()));
  }

  void ServeSockets() {
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

  void OnHello(Slot& slot, const TrainerProcess::Answer& hello) {
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

  void CheckTrainers(Clock::time_point now) {
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

  // Guard and trainer are gone (or the guard is about to be: `exit` is its last word).
  void OnExit(Slot& slot, const JournalEvent* exit) {
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

  void EndRowsOf(Slot& slot, const std::string& outcome, const std::string& cause,
                 std::optional<trainer::JournalPosition> at) {
    for (auto& [key, attempt] : attempts_) {
      if (attempt->slot != slot.index || attempt->phase == Phase::kWaiting ||
          attempt->phase == Phase::kEnded)
        continue;
      EndAttempt(*attempt, outcome, cause, at, outcome == "failed" || outcome == "out_of_memory");
    }
  }

  // ---- journals ----

  void ReadJournal(Slot& slot, JournalOf of) {
    slot.unread = false;
    for (;;) {
      int64_t unacked = 0;
      for (const auto& [key, attempt] : attempts_) {
        if (attempt->slot == slot.index) unacked += attempt->pending_bytes();
      }
      if (unacked > kUnackedBytes && of == JournalOf::kKnownAttempts) {
        slot.unread = true;  // read on when there is room
        return;
      }
      const std::vector<JournalEvent> events = slot.reader.Read();
      if (events.empty()) return;
      for (const JournalEvent& event : events) {
        try {
          OnJournal(slot, event, of);
        } catch (const nlohmann::json::exception& e) {
          NotUnderstood(slot, event, e.what());
        }
      }
    }
  }

  // A line with a field of another kind than it should have. Its row cannot be trusted any more.
  void NotUnderstood(Slot& slot, const JournalEvent& event, const std::string& why) {
    spdlog::error("trainer {}: line {} of its journal: {}", slot.index, event.seq, why);
    const auto row = event.json.is_object() ? event.json.find("row") : event.json.end();
    if (row == event.json.end() || !row->is_string()) return;
    Attempt* attempt = FindRow(row->get<std::string>());
    if (attempt == nullptr || attempt->phase == Phase::kEnded) return;
    slot.process.Command({{"command", "stop_row"}, {"row", *row}, {"mode", "cancel"}}, "");
    EndAttempt(
        *attempt, "failed",
        absl::StrCat("line ", event.seq, " of its trainer's journal is not understood: ", why),
        event.begin, true);
  }

  void OnJournal(Slot& slot, const JournalEvent& event, JournalOf of) {
    const std::string kind = event.json.value("event", "");
    if (kind == "exit") {
      OnExit(slot, &event);
      return;
    }
    if (kind ==
        "hello") {  // a new trainer: rows of the one before it can no longer end by themselves
      for (auto& [key, attempt] : attempts_) {
        if (attempt->slot == slot.index && attempt->phase == Phase::kLive) {
          EndAttempt(*attempt, "failed", "its trainer ended unseen", event.begin, false);
        }
      }
      return;
    }
    if (!event.json.contains("row")) return;
    const std::string row = event.json["row"];
    Attempt* attempt = of == JournalOf::kAnyAttempt ? AttemptOfRow(row, &slot) : FindRow(row);
    if (attempt == nullptr) return;  // forgotten
    const bool had_ended = attempt->phase == Phase::kEnded;
    attempt->OnEvent(event);
    if (kind == "checkpoint") SendCheckpoint(*attempt, event.json);
    if (kind == "gathering") ReportSoon(milliseconds(0));  // others wait for it
    if (!had_ended && attempt->phase == Phase::kEnded) {
      OnEnded(*attempt, attempt->outcome() == "failed" || attempt->outcome() == "out_of_memory");
    } else if (attempt->has_checkpoint_pending()) {
      ReportSoon(kCoalesce);
    }
  }

  Attempt* FindRow(const std::string& row) {
    const auto key = AttemptKey::FromRowName(row);
    if (!key) return nullptr;
    const auto it = attempts_.find(*key);
    return it == attempts_.end() ? nullptr : it->second.get();
  }

  void EndAttempt(Attempt& attempt, const std::string& outcome, const std::string& cause,
                  std::optional<trainer::JournalPosition> at, bool with_log) {
    if (attempt.phase == Phase::kEnded) return;
    attempt.End(outcome, cause, at);
    OnEnded(attempt, with_log);
  }

  void OnEnded(Attempt& attempt, bool with_log) {
    if (with_log && attempt.slot >= 0)
      attempt.set_log_tail(LogTail(slots_[attempt.slot]->process.dir()));
    spdlog::debug("attempt {} ended: {}", attempt.key().RowName(), attempt.outcome());
    reconcile_ = true;
    bool others = false;
    for (const auto& [key, other] : attempts_)
      others |= other->phase != Phase::kEnded && other.get() != &attempt;
    ReportSoon(others ? kCoalesce : milliseconds(0));
  }

  // Writes down how far the journal is done with, then deletes what lies before. At most once a
  // second, or when a whole segment can go.
  void SaveMark(Slot& slot, Clock::time_point now, SaveWhen when) {
    if (slot.reader.position() == slot.mark.position) return;
    if (when == SaveWhen::kDue && now < slot.mark_time + seconds(1)) return;
    std::vector<const Attempt*> here;
    for (const auto& [key, attempt] : attempts_) {
      if (attempt->slot == slot.index) here.push_back(attempt.get());
    }
    const JournalMark mark = MarkFor(slot.reader.position(), here);
    slot.mark_time = now;
    if (mark.position == slot.mark.position) return;
    const absl::Status status = WriteMark(slot.process.dir(), mark);
    if (!status.ok()) {
      spdlog::warn("{}", std::string(status.message()));
      return;
    }
    if (mark.position.segment > slot.mark.position.segment)
      trainer::TrimJournal(slot.process.dir() + "/journal", mark.position);
    slot.mark = mark;
  }

  // ---- what should be ----

  void NoteStarted(const AttemptKey& key) {
    int64_t& highest = started_[{key.incarnation, key.stage}];
    highest = std::max(highest, key.number);
  }

  void DoReconcile() {
    if (!reconcile_) return;
    const bool settled = Settled();
    reconcile_ = !settled;
    Desired desired = desired_;
    // One that this worker has had and forgotten does not run twice: it is left out, and so
    // reported as gone.
    std::erase_if(desired.attempts, [&](const AttemptKey& key) {
      const auto it = started_.find({key.incarnation, key.stage});
      return !attempts_.contains(key) && it != started_.end() && key.number <= it->second;
    });
    std::vector<LocalAttempt> local;
    std::vector<SlotView> slots(slots_.size());
    for (int i = 0; i < static_cast<int>(slots_.size()); ++i) {
      slots[i].free = settled && i < options_.slots;
      if (slots_[i]->process.state() != TrainerProcess::State::kAbsent && !slots_[i]->leaving)
        slots[i].program = slots_[i]->process.program();
    }
    for (const auto& [key, attempt] : attempts_) {
      local.push_back({key, attempt->phase, attempt->stop, attempt->slot});
      if (attempt->slot >= 0 &&
          (attempt->phase == Phase::kSent || attempt->phase == Phase::kLive)) {
        slots[attempt->slot].free = false;
      }
    }
    for (const Action& action : Reconcile(desired, local, slots)) Carry(action);
    for (const auto& [key, assignment] : assignments_) {
      const auto it = attempts_.find(key);
      if (it != attempts_.end()) Extend(*it->second, assignment);
    }
  }

  // All trainers that were found alive have said what they run. Until then nothing new starts.
  bool Settled() const {
    return std::all_of(slots_.begin(), slots_.end(),
                       [](const auto& slot) { return slot->settled; });
  }

  void Carry(const Action& action) {
    if (action.kind == Action::kTake) {
      auto& attempt = attempts_[action.key];
      attempt = std::make_unique<Attempt>(action.key);
      attempt->assignment = assignments_.at(action.key);
      BeginWith(&*attempt->assignment);
      if (attempt->assignment->resume()) attempt->step = attempt->assignment->checkpoint_step();
      attempt->TrustAck();
      NoteStarted(action.key);
      return;
    }
    Attempt& attempt = *attempts_.at(action.key);
    switch (action.kind) {
      case Action::kTake:
        return;
      case Action::kStart:
        Start(attempt, *slots_[action.slot]);
        return;
      case Action::kPreempt:
      case Action::kCancel: {
        attempt.stop = action.kind == Action::kPreempt ? Stop::kPreempt : Stop::kCancel;
        slots_[attempt.slot]->process.Command(
            {{"command", "stop_row"},
             {"row", action.key.RowName()},
             {"mode", attempt.stop == Stop::kPreempt ? "preempt" : "cancel"}},
            "");
        return;
      }
      case Action::kAbandon:
        EndAttempt(attempt, "preempted", "it had not begun when its worker was asked to leave",
                   std::nullopt, false);
        return;
      case Action::kForget:
        if (attempt.stop == Stop::kCancel)
          ReportSoon(milliseconds(0));  // its room is free once this is heard
        if (attempt.acked_checkpoint >= 0)
          trainer::RetainCheckpoints(workspace_.CheckpointDir(action.key.stage), "");
        trainer::RemoveLeftovers(workspace_.CheckpointDir(action.key.stage));
        blobs_.Cancel(action.key);
        RemoveFetched(attempt);
        attempts_.erase(action.key);
        idle_since_ = Clock::now();
        return;
    }
  }

  // The stage's folder is here and this checkpoint is not in it: later ones have replaced it. Where
  // the folder is not here either, it may be on a machine or a disk that comes back.
  static bool CheckpointGone(const std::string& path) {
    std::error_code error;
    const std::filesystem::path checkpoint(path);
    return std::filesystem::is_directory(checkpoint.parent_path(), error) &&
           !std::filesystem::exists(checkpoint / "DONE", error) && !error;
  }

  // ---- checkpoints by way of the coordinator (worker/blobs.h) ----

  // What is committed can be fetched: the fact waits until the coordinator has the files, or the
  // sending was given up.
  void SendCheckpoint(Attempt& attempt, const nlohmann::json& event) {
    if (options_.shared_checkpoints || !attempt.has_checkpoint_pending()) return;
    const int64_t step = event.value("step", int64_t{0});
    attempt.sent_checkpoint = std::min(attempt.sent_checkpoint, step - 1);
    const bool keeps = attempt.assignment && step > 0 && step == attempt.assignment->keep_step();
    blobs_.Send(attempt.key(), step, event.value("path", ""), event.value("digest", ""), keeps);
  }

  void OnBlob(const Blobs::Event& event) {
    const auto it = attempts_.find(event.attempt);
    if (it == attempts_.end()) return;
    Attempt& attempt = *it->second;
    if (event.corpus) {
      attempt.corpus_fetch = event.status.ok()                     ? Fetch::kHere
                             : absl::IsNotFound(event.status)      ? Fetch::kMissing
                             : absl::IsUnimplemented(event.status) ? Fetch::kMissing
                                                                   : Fetch::kFailed;
      attempt.corpus_problem = std::string(event.status.message());
      reconcile_ = true;
      return;
    }
    if (!event.fetched) {
      attempt.sent_checkpoint = std::max(attempt.sent_checkpoint, event.step);
      ReportSoon(kCoalesce);
      return;
    }
    attempt.fetch = event.status.ok()                     ? Fetch::kHere
                    : absl::IsNotFound(event.status)      ? Fetch::kMissing
                    : absl::IsUnimplemented(event.status) ? Fetch::kNone
                                                          : Fetch::kFailed;
    if (attempt.fetch == Fetch::kNone) takes_blobs_ = false;
    if (attempt.fetch == Fetch::kHere && attempt.assignment) {
      attempt.assignment->set_checkpoint_path(FetchedPath(*attempt.assignment));
      spdlog::info("attempt {} goes on from step {}, fetched from the server",
                   attempt.key().RowName(), attempt.assignment->checkpoint_step());
    }
    reconcile_ = true;
  }

  std::string FetchedPath(const v1::Assignment& a) const {
    return absl::StrCat(workspace_.CheckpointDir(a.stage_id()), "/step-",
                        absl::Dec(a.checkpoint_step(), absl::kZeroPad12));
  }

  // A stage that only reads, and a member of a gang, has no use for its copy any more.
  void RemoveFetched(const Attempt& attempt) {
    if (attempt.fetch != Fetch::kHere || !attempt.assignment ||
        (attempt.assignment->resume() && !attempt.member()))
      return;
    std::error_code ignored;
    std::filesystem::remove_all(FetchedPath(*attempt.assignment), ignored);
  }

  CorpusRoots CorporaHere() const {
    return {.prepared = options_.data_root, .fetched = workspace_.dir() + "/corpora"};
  }

  // False: the corpus that it reads is being fetched, or cannot be had and the attempt has ended.
  bool CorpusReady(Attempt& attempt) {
    const auto corpus = CorpusOf(*attempt.assignment);
    if (!corpus || corpus->digest.empty()) return true;
    const CorpusRoots roots = CorporaHere();
    const absl::Status here = FindCorpus(*corpus, roots).status();
    if (here.ok()) return true;
    if (attempt.corpus_fetch == Fetch::kUnderWay) return false;
    if (takes_blobs_ && attempt.corpus_fetch == Fetch::kNone) {
      std::set<std::string> in_use;
      for (const auto& [key, other] : attempts_) {
        if (!other->assignment || other->phase == Phase::kEnded) continue;
        if (const auto of = CorpusOf(*other->assignment)) in_use.insert(of->digest);
      }
      attempt.corpus_fetch = Fetch::kUnderWay;
      blobs_.FetchCorpus(attempt.key(), corpus->corpus, corpus->tokenizer, corpus->digest,
                         absl::StrCat(roots.fetched, "/", corpus->digest), options_.corpora_bytes,
                         std::move(in_use));
      return false;
    }
    const bool failed = attempt.corpus_fetch == Fetch::kFailed;
    EndAttempt(attempt, failed ? "failed" : "infeasible",
               absl::StrCat(std::string(here.message()),
                            attempt.corpus_problem.empty() ? "" : "; from the server: ",
                            attempt.corpus_problem),
               std::nullopt, false);
    return false;
  }

  // False: what it starts from is being fetched, or cannot be had and the attempt has ended.
  // Without blobs the trainer is left to say what it finds.
  bool CheckpointReady(Attempt& attempt) {
    v1::Assignment& a = *attempt.assignment;
    if (a.checkpoint_path().empty() || HasCheckpoint(a.checkpoint_path(), a.checkpoint_digest()))
      return true;
    if (takes_blobs_ && attempt.fetch == Fetch::kNone && !a.checkpoint_digest().empty()) {
      if (HasCheckpoint(FetchedPath(a), a.checkpoint_digest())) {
        a.set_checkpoint_path(FetchedPath(a));
        return true;
      }
      attempt.fetch = Fetch::kUnderWay;
      blobs_.Fetch(attempt.key(), a.checkpoint_digest(), FetchedPath(a));
    }
    if (attempt.fetch == Fetch::kUnderWay) return false;
    if (attempt.fetch == Fetch::kFailed) {
      EndAttempt(attempt, "failed",
                 absl::StrCat("its checkpoint could not be fetched from the server to ",
                              FetchedPath(a), ": is there room?"),
                 std::nullopt, false);
      return false;
    }
    // One of another stage is done without: this one then begins by itself.
    const bool others = std::filesystem::path(a.checkpoint_path()).parent_path().filename() !=
                        std::filesystem::path(workspace_.CheckpointDir(a.stage_id())).filename();
    const bool nowhere = attempt.fetch == Fetch::kMissing && !options_.shared_checkpoints;
    if (a.resume() && (nowhere || others || CheckpointGone(a.checkpoint_path()))) {
      attempt.checkpoint_gone = true;
      EndAttempt(attempt, "failed",
                 absl::StrCat("its checkpoint ", a.checkpoint_path(), " is not there any more"),
                 std::nullopt, false);
      return false;
    }
    return true;
  }

  // Says in the stage's folder what the coordinator knows, so that its trainer keeps it.
  void Acknowledged(const Attempt& attempt) {
    const std::string dir = workspace_.CheckpointDir(attempt.key().stage);
    if (!trainer::WriteAcknowledged(dir, attempt.acked_checkpoint))
      spdlog::warn("cannot write {}/acknowledged; more checkpoints are kept", dir);
    // Trainers of others need not know what may go.
    if (attempt.assignment && attempt.assignment->kind() == "external" &&
        attempt.acked_checkpoint > 0)
      trainer::RetainCheckpoints(
          dir, absl::StrCat("step-", absl::Dec(attempt.acked_checkpoint, absl::kZeroPad12)));
  }

  void Start(Attempt& attempt, Slot& slot) {
    const std::string row = attempt.key().RowName();
    if (!CorpusReady(attempt) || !CheckpointReady(attempt)) return;
    const std::string program = ProgramOf(*attempt.assignment);
    if (Program(program).empty()) {
      EndAttempt(
          attempt, "infeasible",
          program == spec::kCommandsLabel
              ? std::string("this worker runs no commands; start it with --allow-commands")
              : absl::StrCat("this worker has no ", program, "; start it with --trainer NAME=PATH"),
          std::nullopt, false);
      return;
    }
    if (slot.process.state() != TrainerProcess::State::kAbsent &&
        (slot.leaving || slot.process.program() != program)) {
      // It waits until that one has left; the exit reconciles again.
      if (!slot.leaving) slot.process.Command({{"command", "shutdown"}}, "");
      slot.leaving = true;
      return;
    }
    attempt.slot = slot.index;
    if (slot.process.state() == TrainerProcess::State::kAbsent) {
      ++attempt.launches;
      Launch(slot, program);
    }
    auto commands =
        CommandsFor(*attempt.assignment, row, slot.bundle, CorporaHere(),
                    workspace_.CheckpointDir(attempt.key().stage), options_.gang_address);
    if (!commands.ok()) {
      EndAttempt(attempt, "infeasible", std::string(commands.status().message()), std::nullopt,
                 false);
      return;
    }
    const bool writes_many =
        attempt.assignment->kind() == "pretrain" || attempt.assignment->kind() == "external";
    if (writes_many && !attempt.member()) {
      attempt.acked_checkpoint =
          attempt.assignment->resume() ? attempt.assignment->checkpoint_step() : 0;
      Acknowledged(attempt);
    }
    attempt.phase = Phase::kSent;
    slot.bundle = commands->bundle;
    for (nlohmann::json& command : commands->commands) {
      const bool about_row = command["command"] != "close";
      slot.process.Command(std::move(command), about_row ? row : "");
    }
    spdlog::debug("attempt {} goes to trainer {}", row, slot.index);
  }

  void Extend(Attempt& attempt, const v1::Assignment& now) {
    if (attempt.phase != Phase::kLive && attempt.phase != Phase::kSent) return;
    const int64_t before = attempt.assignment ? attempt.assignment->until_step() : -1;
    if (now.until_step() != before) {
      slots_[attempt.slot]->process.Command({{"command", "extend_row"},
                                             {"row", attempt.key().RowName()},
                                             {"until_step", now.until_step()}},
                                            "");
    }
    if (!attempt.assignment || now.until_step() != before) attempt.assignment = now;
  }

  // ---- the coordinator ----

  void ReportSoon(milliseconds delay) { report_due_ = std::min(report_due_, Clock::now() + delay); }

  // Makes the calls that are due. At most one Report and one Poll are under way.
  void Talk() {
    const Clock::time_point now = Clock::now();
    if (now < talk_after_) return;
    if (client_.connection() == 0 || broken_) {
      if (!client_.Connect()) {
        BackOff("no address in " + options_.server);
        return;
      }
      broken_ = register_pending_ = report_pending_ = poll_pending_ = false;
      for (auto& [key, attempt] : attempts_) attempt->DoubtAck();
      report_due_ = now;
    }
    if (session_ == 0) {
      if (!register_pending_ && (Settled() || now >= settle_deadline_)) Register();
      return;
    }
    if (!poll_pending_ && !drain_said_) {
      v1::PollRequest request;
      request.set_session_id(session_);
      request.set_generation(generation_);
      request.set_cluster(workspace_.known().cluster);
      request.set_wait_ms(kPollWaitMs);
      client_.Poll(request);
      poll_pending_ = true;
    }
    if (!report_pending_ && now >= report_due_) Report();
  }

  // Of the machine, as announced; 0: nothing is.
  int64_t RemainingMs() const {
    if (options_.until_unix_seconds == 0) return 0;
    const auto now = std::chrono::duration_cast<milliseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    return std::max<int64_t>(1, options_.until_unix_seconds * 1000 - now.count());
  }

  void Register() {
    v1::RegisterWorkerRequest request;
    request.set_worker_name(ValidUtf8(options_.name));
    request.set_protocol_min(kProtocol);
    request.set_protocol_max(kProtocol);
    request.set_build(PLUMB_VERSION);
    request.set_slots(options_.slots);
    request.set_host(ValidUtf8(HostName()));
    request.set_known_cluster(workspace_.known().cluster);
    request.set_known_incarnation(workspace_.known().incarnation);
    request.set_known_cluster_time_us(workspace_.known().cluster_time_us);
    request.set_known_run(workspace_.known().run);
    for (const v1::Device& device : devices_) *request.add_devices() = device;
    request.set_memory_bytes(options_.memory_bytes > 0 ? options_.memory_bytes
                                                       : MemoryForTrials(devices_));
    std::set<std::string> labels(options_.labels.begin(), options_.labels.end());
    if (CountGpus(devices_) > 0) labels.insert(kCudaLabel);
    if (options_.allow_commands) labels.insert(spec::kCommandsLabel);
    for (const auto& [name, path] : options_.trainers) labels.insert(spec::kTrainerLabel + name);
    for (const std::string& label : labels) request.add_labels(label);
    if (!options_.gang_address.empty()) {
      // Who listens on loopback is reached from its own machine alone.
      const bool loopback = options_.gang_address.starts_with("127.") ||
                            options_.gang_address == "::1" || options_.gang_address == "localhost";
      request.set_gang(loopback ? "host " + ValidUtf8(HostName()) : "net");
    }
    request.set_remaining_ms(RemainingMs());
    for (const auto& [key, attempt] : attempts_) *request.add_attempts() = attempt->State(false);
    client_.Register(request);
    register_pending_ = true;
  }

  void Report() {
    v1::ReportRequest request;
    request.set_session_id(session_);
    request.set_generation(generation_);
    request.set_draining(desired_.draining);
    request.set_remaining_ms(RemainingMs());
    request.set_cluster(workspace_.known().cluster);
    request.set_known_incarnation(workspace_.known().incarnation);
    request.set_known_cluster_time_us(workspace_.known().cluster_time_us);
    request.set_known_run(workspace_.known().run);
    int64_t log_budget = kLogBytesPerReport, budget = kReportBytes;
    for (const auto& [key, attempt] : attempts_) {
      const bool with_log = attempt->LogBytes() <= log_budget;
      if (with_log) log_budget -= attempt->LogBytes();
      *request.add_attempts() = attempt->State(with_log);
    }
    for (const auto& [key, attempt] : attempts_) {
      if (budget <= 0) break;
      if (!attempt->HasSomethingToSend()) continue;
      *request.add_batches() = attempt->Batch(budget);
      budget -= static_cast<int64_t>(request.batches(request.batches_size() - 1).ByteSizeLong());
    }
    if (desired_.draining && attempts_.empty()) drain_said_ = true;
    client_.Report(request);
    report_pending_ = true;
    report_due_ = Clock::now() + report_interval_;
  }

  void OnDone(CoordinatorClient::Done<v1::RegisterWorkerResponse>& done) {
    if (done.connection != client_.connection()) return;
    register_pending_ = false;
    if (!done.status.ok()) {
      const auto code = done.status.error_code();
      if (code == grpc::StatusCode::FAILED_PRECONDITION ||
          code == grpc::StatusCode::INVALID_ARGUMENT) {
        Fatal(absl::FailedPreconditionError(
            absl::StrCat("the coordinator refuses this worker: ", done.status.error_message())));
      } else {
        Broken("register", done.status);
      }
      return;
    }
    const v1::RegisterWorkerResponse& r = done.response;
    if (r.protocol() != kProtocol) {
      Fatal(absl::FailedPreconditionError(
          absl::StrCat("the coordinator chose protocol ", r.protocol(), ", this worker speaks ",
                       kProtocol, ": install one release on both")));
      return;
    }
    if (!workspace_.known().cluster.empty() && r.cluster() != workspace_.known().cluster &&
        !LeaveCluster())
      return;
    session_ = r.session_id();
    generation_ = 0;
    desired_.known = false;
    takes_blobs_ = r.blobs();
    blobs_.Open(session_, takes_blobs_);
    if (r.report_interval_ms() > 0) report_interval_ = milliseconds(r.report_interval_ms());
    if (const absl::Status s =
            workspace_.Join({r.cluster(), r.incarnation(), r.cluster_time_us(), r.run()});
        !s.ok()) {
      spdlog::warn("{}", std::string(s.message()));
    }
    spdlog::info("worker {}: session {} with the coordinator at {}, {} slots", options_.name,
                 session_, client_.address(), options_.slots);
    for (auto& [key, attempt] : attempts_) attempt->DoubtAck();
    Heard();
    report_due_ = Clock::now();
  }

  void OnDone(CoordinatorClient::Done<v1::ReportResponse>& done) {
    if (done.connection != client_.connection()) return;
    report_pending_ = false;
    if (!done.status.ok()) {
      Broken("report", done.status);
      return;
    }
    Heard();
    workspace_.Heard(done.response.cluster_time_us(), done.response.run());
    if (done.response.report_interval_ms() > 0)
      report_interval_ = milliseconds(done.response.report_interval_ms());
    bool more = false;
    for (const v1::BatchAck& ack : done.response.acks()) {
      for (auto& [key, attempt] : attempts_) {
        if (key.stage != ack.stage_id() || key.number != ack.attempt()) continue;
        if (ack.fenced()) continue;  // the next desired state drops it
        const int64_t before = attempt->acked_checkpoint;
        attempt->OnAck(ack.through_seq());
        if (attempt->acked_checkpoint > before) Acknowledged(*attempt);
        more |= attempt->HasSomethingToSend() &&
                (attempt->phase == Phase::kEnded || attempt->pending_bytes() > kReportBytes / 2);
      }
    }
    report_due_ = more ? Clock::now() : std::min(report_due_, Clock::now() + report_interval_);
    drain_heard_ = drain_said_;
  }

  void OnDone(CoordinatorClient::Done<v1::PollResponse>& done) {
    if (done.connection != client_.connection()) return;
    poll_pending_ = false;
    if (!done.status.ok()) {
      if (done.status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED)
        Broken("poll", done.status);
      return;
    }
    reachable_ = true;  // but what cannot be reported (a full disk) is still tried ever more rarely
    const v1::PollResponse& r = done.response;
    if (r.generation() < generation_ || (r.generation() == generation_ && desired_.known)) return;
    generation_ = r.generation();
    desired_.known = true;
    desired_.attempts.clear();
    desired_.bundles.clear();
    desired_.members.clear();
    desired_.unready.clear();
    desired_.programs.clear();
    assignments_.clear();
    for (const v1::Assignment& a : r.assignments()) {
      desired_.attempts.push_back(KeyOf(a));
      assignments_[KeyOf(a)] = a;
      if (a.bundle_rows() > 1) desired_.bundles[KeyOf(a)] = a.bundle();
      if (std::string program = ProgramOf(a); !program.empty())
        desired_.programs[KeyOf(a)] = std::move(program);
      if (a.first_rank() == 0) continue;
      desired_.members.insert(KeyOf(a));
      if (a.rendezvous().empty()) desired_.unready.insert(KeyOf(a));
      // The same assignment says more than it did.
      const auto it = attempts_.find(KeyOf(a));
      if (it == attempts_.end() || it->second->phase != Phase::kWaiting || !it->second->assignment)
        continue;
      it->second->assignment->set_rendezvous(a.rendezvous());
      it->second->assignment->set_gang_secret(a.gang_secret());
    }
    desired_.preempt_stages = {r.preempt_stage_ids().begin(), r.preempt_stage_ids().end()};
    reconcile_ = true;
  }

  // The coordinator serves another database than the one this folder worked for. Attempts of that
  // one have the same names as attempts of this one; so they are forgotten, unless one still runs.
  bool LeaveCluster() {
    for (const auto& [key, attempt] : attempts_) {
      if (attempt->phase == Phase::kEnded || attempt->phase == Phase::kWaiting) continue;
      Fatal(absl::FailedPreconditionError(
          absl::StrCat("trainers in ", workspace_.dir(), " still run for another database than ",
                       client_.address(),
                       " serves: give this worker another --dir, or remove the "
                       "folder to give their work up")));
      return false;
    }
    attempts_.clear();
    started_.clear();
    assignments_.clear();
    return true;
  }

  void Heard() {
    backoff_ = kBackoffFirst;
    reachable_ = true;
  }

  // A call failed. The connection is made anew after a pause, since the coordinator may have
  // another address by now.
  void Broken(const char* call, const grpc::Status& status) {
    switch (status.error_code()) {
      case grpc::StatusCode::FAILED_PRECONDITION:
        Fatal(absl::FailedPreconditionError(
            absl::StrCat("another worker named ", options_.name, " has taken over (",
                         status.error_message(), "): give each worker its own --name")));
        return;
      case grpc::StatusCode::NOT_FOUND:
        session_ = 0;
        break;
      default:
        break;
    }
    broken_ = true;
    BackOff(absl::StrCat(call, ": ", status.error_message()));
  }

  void BackOff(const std::string& why) {
    if (reachable_)
      spdlog::warn("worker {}: coordinator not reached ({}); trainers go on", options_.name, why);
    reachable_ = false;
    const double jitter = std::uniform_real_distribution<>(0.5, 1.0)(random_);
    talk_after_ =
        Clock::now() +
        milliseconds(static_cast<int64_t>(static_cast<double>(backoff_.count()) * jitter));
    backoff_ = std::min(kBackoffMost, milliseconds(backoff_.count() * 8 / 5));
  }

  void Fatal(absl::Status status) {
    fatal_ = std::move(status);
    session_ = 0;
    talk_after_ = Clock::time_point::max();
  }

  // ---- leaving ----

  void Drain(const std::string& why) {
    spdlog::info("worker {} leaves: {}", options_.name, why);
    desired_.draining = true;
    reconcile_ = true;
    drain_since_ = Clock::now();
    ReportSoon(milliseconds(0));
  }

  void LeaveWhenIdle() {
    if (options_.exit_when_idle_seconds <= 0 || desired_.draining) return;
    if (!attempts_.empty()) idle_since_ = Clock::now();
    if (Clock::now() - idle_since_ > seconds(options_.exit_when_idle_seconds)) Drain("no work");
  }

  // Nothing runs, and the coordinator has heard of everything or cannot be reached.
  bool Drained() {
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

  void EndTrainers() {
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

  WorkerOptions options_;
  Workspace workspace_;
  const std::vector<v1::Device> devices_;
  const std::atomic<bool>* const stop_;
  CoordinatorClient client_;
  Blobs blobs_;
  bool takes_blobs_ = false;  // the coordinator, as it said at registration
  std::mt19937_64 random_{std::random_device{}()};

  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<AttemptKey, std::unique_ptr<Attempt>> attempts_;
  std::map<std::pair<int64_t, int64_t>, int64_t>
      started_;  // (incarnation, stage) → highest attempt seen here
  int inotify_ = -1;
  std::map<int, int> folder_watch_, journal_watch_;  // watch → slot
  Clock::time_point next_check_, settle_deadline_;
  bool reconcile_ = false;

  Desired desired_;
  std::map<AttemptKey, v1::Assignment> assignments_;
  int64_t session_ = 0;
  int64_t generation_ = 0;
  milliseconds report_interval_{1000};
  Clock::time_point report_due_, talk_after_;
  milliseconds backoff_ = kBackoffFirst;
  bool register_pending_ = false, report_pending_ = false, poll_pending_ = false;
  bool broken_ = false;
  bool reachable_ = true;

  absl::Status fatal_;
  Clock::time_point drain_since_, idle_since_ = Clock::now();
  bool drain_said_ = false, drain_heard_ = false;
};

}  // namespace

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
