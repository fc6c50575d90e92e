// Attempts: what should run is made to run, and what has ended is told.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "trainer/protocol/retention.h"
#include "trainer/spec/stage_settings.h"
#include "worker/agent_thread.h"

namespace plumb::worker {

Attempt* Agent::AttemptOfRow(const std::string& row, Slot* slot) {
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

Attempt* Agent::FindRow(const std::string& row) {
  const auto key = AttemptKey::FromRowName(row);
  if (!key) return nullptr;
  const auto it = attempts_.find(*key);
  return it == attempts_.end() ? nullptr : it->second.get();
}

void Agent::NoteStarted(const AttemptKey& key) {
  int64_t& highest = started_[{key.incarnation, key.stage}];
  highest = std::max(highest, key.number);
}

void Agent::EndAttempt(Attempt& attempt, const std::string& outcome, const std::string& cause,
                       std::optional<trainer::JournalPosition> at, bool with_log) {
  if (attempt.phase == Phase::kEnded) return;
  attempt.End(outcome, cause, at);
  OnEnded(attempt, with_log);
}

void Agent::OnEnded(Attempt& attempt, bool with_log) {
  if (with_log && attempt.slot >= 0)
    attempt.set_log_tail(LogTail(slots_[attempt.slot]->process.dir()));
  spdlog::debug("attempt {} ended: {}", attempt.key().RowName(), attempt.outcome());
  reconcile_ = true;
  bool others = false;
  for (const auto& [key, other] : attempts_)
    others |= other->phase != Phase::kEnded && other.get() != &attempt;
  ReportSoon(others ? kCoalesce : milliseconds(0));
}

void Agent::DoReconcile() {
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
    if (attempt->slot >= 0 && (attempt->phase == Phase::kSent || attempt->phase == Phase::kLive)) {
      slots[attempt->slot].free = false;
    }
  }
  for (const Action& action : Reconcile(desired, local, slots)) Carry(action);
  for (const auto& [key, assignment] : assignments_) {
    const auto it = attempts_.find(key);
    if (it != attempts_.end()) Extend(*it->second, assignment);
  }
}

bool Agent::Settled() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->settled; });
}

void Agent::Carry(const Action& action) {
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

void Agent::Start(Attempt& attempt, Slot& slot) {
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
  auto commands = CommandsFor(*attempt.assignment, row, slot.bundle, CorporaHere(),
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

void Agent::Extend(Attempt& attempt, const v1::Assignment& now) {
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

}  // namespace plumb::worker
