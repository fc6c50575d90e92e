// What trainers write down: read into attempts, and deleted once it is durable.
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "worker/agent_thread.h"

namespace plumb::worker {
namespace {

constexpr int64_t kUnackedBytes = 8
                                  << 20;  // per slot; beyond this the journal on disk is the spool

}  // namespace

void Agent::ReadJournal(Slot& slot, JournalOf of) {
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

void Agent::OnJournal(Slot& slot, const JournalEvent& event, JournalOf of) {
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

void Agent::NotUnderstood(Slot& slot, const JournalEvent& event, const std::string& why) {
  spdlog::error("trainer {}: line {} of its journal: {}", slot.index, event.seq, why);
  const auto row = event.json.is_object() ? event.json.find("row") : event.json.end();
  if (row == event.json.end() || !row->is_string()) return;
  Attempt* attempt = FindRow(row->get<std::string>());
  if (attempt == nullptr || attempt->phase == Phase::kEnded) return;
  slot.process.Command({{"command", "stop_row"}, {"row", *row}, {"mode", "cancel"}}, "");
  EndAttempt(*attempt, "failed",
             absl::StrCat("line ", event.seq, " of its trainer's journal is not understood: ", why),
             event.begin, true);
}

void Agent::SaveMark(Slot& slot, Clock::time_point now, SaveWhen when) {
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

}  // namespace plumb::worker
