#include "sim/oracle.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/random.h"

namespace plumb::sim {

namespace {
// Between what the core does and the time that it is seen here, at most.
constexpr absl::Duration kCommitTakes = absl::Minutes(10);
}  // namespace

uint64_t Oracle::HashMix(uint64_t h) {
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
  return h ^ (h >> 31);
}

void Oracle::OnWrong(const std::string& what) {
  if (wrong_.empty()) wrong_ = absl::StrCat("at ", absl::FormatDuration(loop_.now()), ": ", what);
}

void Oracle::OnApplied(const core::Core& core) {
  if (scenario_.check_every == 0 || ++applied_ % scenario_.check_every != 0) return;
  if (const absl::Status s = core.CheckInvariants(); !s.ok())
    OnWrong(absl::StrCat("core: ", s.message()));
}

void Oracle::See(const OpenAttempt& c) {
  const AttemptRow& r = c.row;
  Stage& s = book_.stages[r.id.stage];
  if (s.open) OnWrong(absl::StrCat("A: stage ", r.id.stage.value, " has two live attempts"));
  const bool rises =
      r.incarnation > s.incarnation || (r.incarnation == s.incarnation && r.id.number > s.number);
  if (!rises || r.id.number != s.number + 1)
    OnWrong(absl::StrCat("A: stage ", r.id.stage.value, " opens attempt ", r.incarnation, ".",
                         r.id.number, " after ", s.incarnation, ".", s.number));
  if (r.incarnation != book_.incarnation)
    OnWrong(
        absl::StrCat("A: a grant under incarnation ", r.incarnation, " of ", book_.incarnation));
  MayBranch(c, s);
  if (r.start_step != std::max<int64_t>(s.checkpoint_step, 0))
    OnWrong(absl::StrCat("E: attempt ", r.id.number, " of stage ", r.id.stage.value, " starts at ",
                         r.start_step, ", its checkpoint is at ", s.checkpoint_step));
  s.bundle = r.bundle;
  s.bundle_rows = r.bundle_rows;
  s.opened = loop_.now();
  book_.bundles.try_emplace(r.bundle, Book::Charged{.opened = s.opened, .slots = s.threads});
  s.ranks_on.clear();
  if (!r.members.empty()) MayBeGang(c, s);
  int64_t first = s.ranks;
  for (const AttemptMember& m : r.members) {
    s.ranks_on[m.worker] = m.ranks;
    first -= m.ranks;
  }
  if (!r.members.empty()) s.ranks_on[r.worker] = first;
  MayHave(r.id.stage, s, r.worker);
  for (const AttemptMember& m : r.members) MayHave(r.id.stage, s, m.worker);
  s.worker = r.worker;
  s.incarnation = r.incarnation;
  s.number = r.id.number;
  s.open = true;
  s.acked = 0;
  s.step = std::max<int64_t>(s.checkpoint_step, 0);
  if (s.root && r.id.number == 1) waits.push_back(absl::ToDoubleSeconds(loop_.now() - s.since));
  ++counts["attempts"];
  Mix(HashOf("open", static_cast<uint64_t>(r.id.stage.value * 1000 + r.id.number)));
}

void Oracle::See(const PutTrunk& c) {
  const Stage& s = book_.stages[c.row.stage];
  if (c.row.step != s.trunk_step || s.checkpoint_step < c.row.step ||
      c.row.prefix_key != s.prefix || c.row.digest != DigestAt(s.key, s.name, c.row.step))
    OnWrong(absl::StrCat("L: stage ", c.row.stage.value, " has no checkpoint at ", c.row.step,
                         " to begin from"));
  book_.trunks[c.row.prefix_key][c.row.step] = c.row.digest;
}

// It goes by itself, having spent a budget where it began.
void Oracle::Leaves(StageId id) {
  Stage& s = book_.stages[id];
  if (s.branch_step == 0 || s.checkpoint_step != s.branch_step ||
      s.failures < std::min(scenario_.options.max_failures, scenario_.options.max_losses))
    return;  // it may be of another attempt in this transaction
  s.prefix.clear();
  s.trunk_step = s.branch_step = s.failures = 0;
  s.checkpoint_step = -1;
  ++counts["trunk_left"];
}

void Oracle::MayBranch(const OpenAttempt& c, Stage& s) {
  if (s.prefix.empty() || s.checkpoint_step >= 0) return;
  const auto& trunks = book_.trunks[s.prefix];
  // Its last step is its own: what it measures there, nobody else does.
  const auto after = trunks.upper_bound(std::min(s.trunk_step, s.target_step - 1));
  const int64_t longest = after == trunks.begin() ? 0 : std::prev(after)->first;
  if (c.row.start_step != longest)
    OnWrong(absl::StrCat("L: stage ", c.row.id.stage.value, " begins at ", c.row.start_step,
                         ", it may at ", longest));
  s.branch_step = longest;
  if (longest == 0) return;
  s.checkpoint_step = longest;
  ++counts["branched"];
}

// All or nothing: every rank is somewhere, once.
void Oracle::MayBeGang(const OpenAttempt& c, const Stage& s) {
  int64_t next = s.ranks;
  for (const AttemptMember& m : c.row.members) next -= m.ranks;
  std::set<WorkerId> on = {c.row.worker};
  bool right = next >= 1;
  for (const AttemptMember& m : c.row.members) {
    right &= m.ranks >= 1 && m.first_rank == next && on.insert(m.worker).second &&
             !book_.workers[m.worker].gang.empty() &&
             book_.workers[m.worker].gang == book_.workers[c.row.worker].gang;
    next += m.ranks;
  }
  if (!right || next != s.ranks)
    OnWrong(
        absl::StrCat("K: the ranks of stage ", c.row.id.stage.value, " are not each somewhere"));
  ++counts["gangs"];
}

// What users and machines allow.
void Oracle::MayHave(StageId id, const Stage& s, WorkerId worker) {
  const auto wrong = [&](absl::string_view why) {
    OnWrong(absl::StrCat("I: stage ", id.value, " is granted to worker ", worker.value, ", ", why));
  };
  const WorkerRow& w = book_.workers[worker];
  if (w.drain) wrong("which is drained");
  if (!s.labels.empty() && w.labels != s.labels) wrong("which has not the label it needs");
  std::set<StageId>& there = book_.on[worker];
  // A bundle takes what one of its rows needs of slots, and memory for as many rows as it may have.
  int64_t slots = s.threads / s.ranks * s.RanksOn(worker);
  int64_t memory = s.memory * s.RanksOn(worker) / s.ranks * s.bundle_rows, rows = 1;
  std::set<int64_t> counted = {s.bundle};
  for (StageId id_there : there) {
    const Stage& other = book_.stages[id_there];
    if (other.bundle == s.bundle) {
      ++rows;
      if (other.bundle_rows != s.bundle_rows) wrong("to a bundle of another size");
      if (other.fusion != s.fusion || other.threads != s.threads || other.labels != s.labels)
        wrong("to a bundle of another kind");
    }
    if (!counted.insert(other.bundle).second) continue;
    slots += other.threads / other.ranks * other.RanksOn(worker);
    memory += other.memory * other.RanksOn(worker) / other.ranks * other.bundle_rows;
  }
  if (rows > s.bundle_rows || s.bundle_rows > s.bundle_most)
    wrong(absl::StrCat("as row ", rows, " of a bundle of ", s.bundle_rows, ", of at most ",
                       s.bundle_most));
  counts["rows_joined"] += rows > 1;
  if (slots > w.slots) wrong(absl::StrCat("which has ", w.slots, " slots, not ", slots));
  if (w.memory_bytes > 0 && memory > w.memory_bytes) wrong("which has not the memory");
  there.insert(id);
  bool paused = true;
  std::set<std::string> users;
  for (SweepId sweep : book_.of[s.trial]) {
    if (book_.ended.contains(sweep)) continue;
    paused &= book_.paused.contains(sweep);
    users.insert(book_.users[sweep]);
  }
  if (paused && !users.empty()) wrong("though all its sweeps are paused");
  if (users.size() != 1) return;
  std::set<StageId>& has = book_.by_user[*users.begin()];
  has.insert(id);
  int64_t taken = 0;
  counted.clear();
  for (StageId other : has) {
    if (counted.insert(book_.stages[other].bundle).second) taken += book_.stages[other].threads;
  }
  const int64_t quota = book_.quotas[*users.begin()];
  if (quota > 0 && taken > quota)
    wrong(absl::StrCat("though its user has ", taken, " slots then, of at most ", quota));
}

void Oracle::Close(StageId id, Stage& s) {
  s.open = false;
  book_.on[s.worker].erase(id);
  for (const auto& [worker, ranks] : s.ranks_on) book_.on[worker].erase(id);
  for (auto& [user, has] : book_.by_user) has.erase(id);
}

void Oracle::See(const ApplyBatch& c) {
  const MeasurementBatch& b = *c.batch;
  Stage& s = book_.stages[b.attempt.stage];
  if (!s.open || s.number != b.attempt.number || s.incarnation != b.incarnation) {
    OnWrong(absl::StrCat("B: facts of attempt ", b.incarnation, ".", b.attempt.number, " of stage ",
                         b.attempt.stage.value, " are written; the current one is ", s.incarnation,
                         ".", s.number, s.open ? "" : " and has ended"));
  }
  if (b.first_seq != s.acked + 1)
    OnWrong(absl::StrCat("G: facts ", b.first_seq, "…", b.last_seq, " follow ", s.acked));
  s.acked = b.last_seq;
  for (const MeasurementBatch::Series& series : b.series) {
    for (const MeasurementBatch::Point& p : series.points) {
      s.step = std::max(s.step, p.step);
      ++counts["points"];
    }
  }
  for (const CheckpointRow& r : b.checkpoints) {
    if (r.step < s.checkpoint_step)
      OnWrong(absl::StrCat("E: a checkpoint at ", r.step, " after one at ", s.checkpoint_step));
    if (r.digest != DigestAt(s.key, s.name, r.step))
      OnWrong(absl::StrCat("E: a checkpoint of another trial in stage ", b.attempt.stage.value));
    if (r.step > s.checkpoint_step) s.failures = 0;
    s.checkpoint_step = std::max(s.checkpoint_step, r.step);
    ++counts["checkpoints"];
  }
  Mix(HashOf("batch", static_cast<uint64_t>(b.attempt.stage.value * 100003 + b.last_seq)));
}

void Oracle::See(const CloseAttempt& c) {
  Stage& s = book_.stages[c.fence.attempt.stage];
  if (!s.open || s.number != c.fence.attempt.number)
    OnWrong(absl::StrCat("B: attempt ", c.fence.attempt.number, " of stage ",
                         c.fence.attempt.stage.value, " ends; the current one is ", s.number));
  if (c.outcome != Outcome::kLost && c.outcome != Outcome::kCancelled &&
      !said_.contains({c.fence.incarnation, c.fence.attempt, c.outcome}))
    OnWrong(absl::StrCat("B: attempt ", c.fence.attempt.number, " of stage ",
                         c.fence.attempt.stage.value, " ends as ", Name(c.outcome),
                         ", which no trainer said"));
  if (c.slot_us < 0 ||
      c.slot_us > s.threads * absl::ToInt64Microseconds(loop_.now() - s.opened + kCommitTakes))
    OnWrong(absl::StrCat("J: stage ", c.fence.attempt.stage.value, " is charged ", c.slot_us,
                         " us for ", absl::FormatDuration(loop_.now() - s.opened)));
  Book::Charged& bundle = book_.bundles[s.bundle];
  bundle.us += c.slot_us;
  if (bundle.us >
      bundle.slots * absl::ToInt64Microseconds(loop_.now() - bundle.opened + kCommitTakes))
    OnWrong(absl::StrCat("J: the rows of bundle ", s.bundle, " are charged ", bundle.us,
                         " us together for ", absl::FormatDuration(loop_.now() - bundle.opened)));
  s.failures += c.outcome == Outcome::kFailed || c.outcome == Outcome::kLost;
  s.ooms += c.outcome == Outcome::kOutOfMemory;
  Close(c.fence.attempt.stage, s);
  ++counts[absl::StrCat("outcome_", Name(c.outcome))];
  Mix(HashOf("close", static_cast<uint64_t>(c.fence.attempt.stage.value * 16) +
                          static_cast<uint64_t>(c.outcome)));
}

void Oracle::See(const UpdateStage& c) {
  Stage& s = book_.stages[c.row.id];
  if (IsTerminal(s.state) && c.row.state != s.state && !s.reopened)
    OnWrong(absl::StrCat("D: stage ", c.row.id.value, " was ", Name(s.state), " and is ",
                         Name(c.row.state)));
  if (c.row.checkpoint_step != s.checkpoint_step)
    OnWrong(absl::StrCat("E: stage ", c.row.id.value, " names the checkpoint at ",
                         c.row.checkpoint_step, ", the last one committed is at ",
                         s.checkpoint_step));
  if (c.row.branch_step != s.branch_step || c.row.branch_stage.value == c.row.id.value ||
      (c.row.branch_step > 0) != (c.row.branch_stage.value > 0))
    OnWrong(absl::StrCat("L: stage ", c.row.id.value, " began at ", c.row.branch_step, " of stage ",
                         c.row.branch_stage.value, ", and in fact at ", s.branch_step));
  if ((c.row.state == StageState::kRunning) != s.open)
    OnWrong(absl::StrCat("A: stage ", c.row.id.value, " is ", Name(c.row.state),
                         s.open ? " with" : " without", " a live attempt"));
  if (!IsTerminal(s.state) && IsTerminal(c.row.state)) {
    if (c.row.state == StageState::kFailed && s.failures < scenario_.options.max_failures &&
        s.ooms < scenario_.options.max_ooms)
      OnWrong(absl::StrCat("D: stage ", c.row.id.value, " failed after ", s.failures, " failures"));
    s.reopened = false;
    s.failures = s.ooms = 0;
    ++counts[absl::StrCat("stage_", Name(c.row.state))];
  }
  s.state = c.row.state;
}

void Oracle::OnCommitted(absl::Span<const Change> changes) {
  std::set<StageId> leaves;
  // What a user's request reopens is said in the same transaction.
  for (const Change& change : changes) {
    const auto* note = std::get_if<AppendEvent>(&change);
    if (note == nullptr) continue;
    ++counts[absl::StrCat("event_", note->row.kind)];
    if (note->row.kind == "retried") book_.stages[note->row.stage].reopened = true;
    if (note->row.kind == "trunk_left") leaves.insert(note->row.stage);
  }
  // What is allowed in this transaction is allowed in all of it: rows are written once an event,
  // after what they allow, and several events share a transaction.
  for (const Change& change : changes) {
    if (const auto* moved = std::get_if<UpdateSweep>(&change)) {
      if (!moved->paused) book_.paused.erase(moved->id);
      if (moved->state == SweepState::kRunning || moved->state == SweepState::kMaterializing)
        book_.ended.erase(moved->id);
    } else if (const auto* user = std::get_if<UpsertUser>(&change)) {
      int64_t& quota = book_.quotas[user->row.name];
      if (user->row.max_slots == 0 || (quota > 0 && user->row.max_slots > quota))
        quota = user->row.max_slots;
    } else if (const auto* worker = std::get_if<UpsertWorker>(&change)) {
      WorkerRow& row = book_.workers[worker->row.id];
      const bool drain = row.drain && worker->row.drain;
      row = worker->row;
      row.drain = drain;
    } else if (const auto* insert = std::get_if<InsertSweepTrial>(&change)) {
      book_.of[insert->row.trial].insert(insert->row.sweep);
    } else if (const auto* sweep = std::get_if<InsertSweep>(&change)) {
      book_.users[sweep->row.id] = sweep->row.user;
    }
  }
  for (const Change& change : changes) {
    if (const auto* insert = std::get_if<InsertTrial>(&change)) {
      book_.keys[insert->row.id] = insert->row.key;
      book_.fusions[insert->row.id] = insert->row.fusion_key;
    } else if (const auto* stage = std::get_if<InsertStage>(&change)) {
      Stage& s = book_.stages[stage->row.id];
      s.key = book_.keys[stage->row.trial];
      s.name = stage->row.kind;
      s.state = stage->row.state;
      s.root = !stage->row.parent;
      s.trial = stage->row.trial;
      s.threads = stage->row.threads;
      s.ranks = stage->row.ranks;
      s.memory = (stage->row.memory_bytes + (256 << 20) - 1) / (256 << 20) * (256 << 20);
      s.labels = stage->row.labels;
      s.bundle_most = stage->row.bundle;
      s.prefix = stage->row.prefix_key;
      s.trunk_step = stage->row.trunk_step;
      s.target_step = stage->row.target_step;
      s.fusion = book_.fusions[stage->row.trial];
      s.since = loop_.now();
    } else if (const auto* open = std::get_if<OpenAttempt>(&change)) {
      See(*open);
    } else if (const auto* trunk = std::get_if<PutTrunk>(&change)) {
      See(*trunk);
    } else if (const auto* batch = std::get_if<ApplyBatch>(&change)) {
      See(*batch);
    } else if (const auto* close = std::get_if<CloseAttempt>(&change)) {
      See(*close);
      if (leaves.contains(close->fence.attempt.stage)) Leaves(close->fence.attempt.stage);
    } else if (const auto* raise = std::get_if<SetIncarnation>(&change)) {
      if (raise->incarnation <= book_.incarnation) OnWrong("A: the incarnation does not rise");
      book_.incarnation = raise->incarnation;
    } else if (const auto* sweep = std::get_if<InsertSweep>(&change)) {
      book_.sweeps[sweep->row.id] = sweep->row.name;
    } else if (const auto* moved = std::get_if<UpdateSweep>(&change)) {
      if (moved->cursor < book_.cursors[moved->id]) OnWrong("C: a sweep's cursor goes back");
      book_.cursors[moved->id] = moved->cursor;
    }
  }
  // Rows are as the last update of the transaction leaves them.
  std::map<StageId, const UpdateStage*> last;
  for (const Change& change : changes) {
    if (const auto* update = std::get_if<UpdateStage>(&change)) last[update->row.id] = update;
  }
  for (const auto& [id, update] : last) See(*update);
  for (const Change& change : changes) {
    if (const auto* moved = std::get_if<UpdateSweep>(&change)) {
      if (moved->paused) book_.paused.insert(moved->id);
      if (moved->state == SweepState::kCompleted || moved->state == SweepState::kCancelled)
        book_.ended.insert(moved->id);
    } else if (const auto* user = std::get_if<UpsertUser>(&change)) {
      book_.quotas[user->row.name] = user->row.max_slots;
    } else if (const auto* worker = std::get_if<UpsertWorker>(&change)) {
      book_.workers[worker->row.id] = worker->row;
    }
  }
  Mix(HashOf("commit", changes.size()));
}

void Oracle::OnLoaded(const ClusterSnapshot& snapshot) {
  ++counts["loads"];
  if (snapshot.incarnation < book_.incarnation)
    OnWrong(absl::StrCat("A: the incarnation fell from ", book_.incarnation, " to ",
                         snapshot.incarnation));
  if (snapshot.incarnation > book_.incarnation) {
    // Raised at the start: all that ran is lost.
    book_.incarnation = snapshot.incarnation;
    for (auto& [id, s] : book_.stages) {
      if (s.open) s.state = StageState::kPending;
      Close(id, s);
    }
  }
  std::set<std::string> there;
  for (const SweepRow& row : snapshot.sweeps) there.insert(row.name);
  for (const std::string& name : book_.submitted) {
    if (!there.contains(name))
      OnWrong(absl::StrCat("C: sweep ", name, " was acknowledged and is gone"));
  }
  std::map<AttemptId, const AttemptRow*> open;
  for (const AttemptRow& row : snapshot.attempts) open[row.id] = &row;
  for (const auto& [at, seq] : book_.acked) {
    const auto it = open.find(at.second);
    if (it == open.end() || it->second->incarnation != at.first) continue;  // ended since
    if (it->second->acked_seq < seq)
      OnWrong(absl::StrCat("C: attempt ", at.second.number, " of stage ", at.second.stage.value,
                           " was acknowledged up to ", seq, ", the database has ",
                           it->second->acked_seq));
  }
  for (const auto& [id, s] : book_.stages) {
    if (s.open && !open.contains({id, s.number}))
      OnWrong(absl::StrCat("C: the live attempt of stage ", id.value, " is gone"));
  }
}

void Oracle::OnSaved() { saved_ = book_; }

void Oracle::OnPutBack() {
  book_ = saved_;
  ++counts["put_back"];
}

void Oracle::OnSubmitted(const std::string& name) { book_.submitted.insert(name); }

void Oracle::OnAcked(const AttemptId& attempt, int64_t incarnation, int64_t through_seq) {
  int64_t& seq = book_.acked[{incarnation, attempt}];
  seq = std::max(seq, through_seq);
}

void Oracle::OnEnded(int64_t incarnation, const AttemptId& attempt, Outcome outcome) {
  said_.insert({incarnation, attempt, outcome});
}

void Oracle::Judge(const Contents& contents, bool drained) {
  std::map<StageId, std::map<int64_t, double>> points;
  for (const auto& [at, value] : contents.points) points[std::get<0>(at)][std::get<2>(at)] = value;
  std::map<StageId, std::string> keys;
  std::map<StageId, int64_t> succeeded, open;
  for (const auto& [id, a] : contents.attempts) {
    succeeded[id.stage] += a.outcome == "succeeded";
    open[id.stage] += a.outcome.empty();
  }
  for (const auto& [id, s] : contents.stages) {
    const std::string& key = contents.trials.at(s.trial).first;
    const std::string where =
        absl::StrCat("stage ", id.value, " (", key, "/", s.name, ", ", s.state, ")");
    const Truth t = TruthOf(scenario_.work, key, book_.stages[id].name);
    const bool live = s.state == "pending" || s.state == "running" || s.state == "paused";
    if (drained && live) OnWrong(absl::StrCat("H: ", where, " has not ended"));
    if (drained && open[id] > 0) OnWrong(absl::StrCat("H: ", where, " has an open attempt"));
    if (succeeded[id] > 1)
      OnWrong(absl::StrCat("B: ", where, " succeeded ", succeeded[id], " times"));
    if ((s.state == "succeeded") != (succeeded[id] == 1))
      OnWrong(absl::StrCat("B: ", where, " and ", succeeded[id], " attempts that succeeded"));
    if (s.state == "succeeded" && t.fate != Fate::kSucceeds)
      OnWrong(absl::StrCat("G: ", where, " cannot have succeeded"));
    if (s.state == "diverged" && t.fate != Fate::kDiverges) OnWrong(absl::StrCat("G: ", where));
    if (s.state == "infeasible" && t.fate != Fate::kInfeasible) OnWrong(absl::StrCat("G: ", where));
    const std::map<int64_t, double>& have = points[id];
    const int64_t to = s.state == "succeeded"  ? t.target_step
                       : s.state == "diverged" ? t.fate_step
                       : have.empty()          ? 0
                                               : have.rbegin()->first;
    std::map<int64_t, double> expected;
    for (int64_t step = book_.stages[id].branch_step + 1; step <= to; ++step) {
      if (step % t.point_every == 0 || step == t.target_step)
        expected[step] = ValueAt(key, book_.stages[id].name, step);
    }
    if (have != expected)
      OnWrong(absl::StrCat("G: ", where, " has ", have.size(), " points up to step ", to, ", ",
                           expected.size(), " should be there"));
    if (s.state == "succeeded" && s.checkpoint_step != t.target_step)
      OnWrong(absl::StrCat("E: ", where, " keeps the checkpoint at ", s.checkpoint_step));
  }
  if (scenario_.faults.empty() && scenario_.work.kills_machine == 0 && counts["outcome_lost"] > 0)
    OnWrong(absl::StrCat("H: ", counts["outcome_lost"], " attempts were lost without a fault"));
  for (const auto& [id, state] : contents.sweeps) {
    const bool ended = state.rfind("completed", 0) == 0 || state.rfind("cancelled", 0) == 0;
    if (drained && !ended) OnWrong(absl::StrCat("H: sweep ", id.value, " is ", state));
  }
  for (const std::string& name : book_.submitted) {
    const bool there = std::any_of(book_.sweeps.begin(), book_.sweeps.end(),
                                   [&](const auto& e) { return e.second == name; });
    if (!there) OnWrong(absl::StrCat("C: sweep ", name, " is gone"));
  }
}

}  // namespace plumb::sim
