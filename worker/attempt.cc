#include "worker/attempt.h"

#include <charconv>
#include <map>
#include <tuple>

#include "trainer/protocol/journal_sink.h"

namespace plumb::worker {
namespace {

using nlohmann::json;
constexpr size_t kMaxCause = 4000;
using SeriesKey = std::tuple<std::string, int64_t, int64_t>;

void AddPoints(const json& event, std::map<SeriesKey, v1::SeriesPoints*>& by_key,
               v1::AttemptBatch& batch) {
  const int64_t step = event.at("step");
  for (const json& v : event.at("values")) {
    const SeriesKey key = {v.at(0), v.at(1), v.at(2)};
    v1::SeriesPoints*& series = by_key[key];
    if (series == nullptr) {
      series = batch.add_series();
      series->set_name(std::get<0>(key));
      series->set_layer(std::get<1>(key));
      series->set_definition_version(std::get<2>(key));
    }
    v1::Point* point = series->add_points();
    point->set_step(step);
    point->set_value(trainer::NumberFromJson(v.at(3)));
  }
}

void AddDocuments(const json& event, v1::AttemptBatch& batch) {
  for (const json& s : event.at("scores")) {
    v1::DocumentScore* score = batch.add_documents();
    score->set_split(event.at("split").get<std::string>());
    score->set_document(s.at(0));
    score->set_nll(trainer::NumberFromJson(s.at(1)));
    score->set_tokens(s.at(2));
    score->set_bytes(s.at(3));
  }
}

void AddRecord(const json& event, v1::AttemptBatch& batch) {
  v1::Record* record = batch.add_records();
  record->set_step(event.at("step"));
  record->set_kind(event.at("kind").get<std::string>());
  record->set_name(event.at("name").get<std::string>());
  record->set_index(event.at("index"));
  record->set_data_json(event.at("data").dump());
}

void AddCheckpoint(const json& event, v1::AttemptBatch& batch) {
  v1::CheckpointCommit* commit = batch.add_checkpoints();
  commit->set_step(event.at("step"));
  commit->set_path(event.at("path").get<std::string>());
  commit->set_digest(event.at("digest").get<std::string>());
  commit->set_bytes(event.at("bytes"));
}

// Throws nlohmann's exceptions where a field is not what it should be.
void AddFact(const json& event, std::map<SeriesKey, v1::SeriesPoints*>& by_key,
             v1::AttemptBatch& batch) {
  const std::string kind = event.at("event");
  if (kind == "points") AddPoints(event, by_key, batch);
  if (kind == "documents") AddDocuments(event, batch);
  if (kind == "record") AddRecord(event, batch);
  if (kind == "checkpoint") AddCheckpoint(event, batch);
}

}  // namespace

std::string AttemptKey::RowName() const {
  return std::to_string(incarnation) + "." + std::to_string(stage) + "." + std::to_string(number);
}

std::optional<AttemptKey> AttemptKey::FromRowName(const std::string& row) {
  AttemptKey key;
  const char* at = row.data();
  const char* const end = row.data() + row.size();
  for (int64_t* part : {&key.incarnation, &key.stage, &key.number}) {
    if (part != &key.incarnation && (at == end || *at++ != '.')) return std::nullopt;
    const auto [next, error] = std::from_chars(at, end, *part);
    if (error != std::errc()) return std::nullopt;
    at = next;
  }
  return at == end ? std::optional(key) : std::nullopt;
}

AttemptKey KeyOf(const v1::Assignment& a) { return {a.incarnation(), a.stage_id(), a.attempt()}; }

void Attempt::OnEvent(const trainer::JournalEvent& event) {
  const std::string kind = event.json.value("event", "");
  if (!first_event_) first_event_ = event.begin;
  step = std::max(step, event.json.value("step", int64_t{0}));
  if (phase == Phase::kWaiting || phase == Phase::kSent) phase = Phase::kLive;
  if (kind == "points" || kind == "documents" || kind == "record" || kind == "checkpoint") {
    // What cannot be sent is refused here, before anything depends on it.
    v1::AttemptBatch scratch;
    std::map<SeriesKey, v1::SeriesPoints*> by_key;
    AddFact(event.json, by_key, scratch);
    through_seq_ = event.seq;
    if (event.seq <= acked_) return;
    const bool is_checkpoint = kind == "checkpoint";
    pending_.push_back({event.seq, event.bytes(), event.begin, event.json, is_checkpoint});
    pending_bytes_ += event.bytes();
    checkpoints_pending_ += is_checkpoint;
  } else if (kind == "gathering") {
    rendezvous_ = event.json.at("address");
    secret_ = event.json.at("secret");
    gathers_ = event.begin;
  } else if (kind == "row_started") {
    gathers_.reset();
  } else if (kind == "row_ended") {
    if (event.json.contains("summary")) summary_json_ = event.json["summary"].dump();
    End(event.json.value("outcome", "failed"), event.json.value("cause", ""), event.begin);
  }
}

void Attempt::End(const std::string& outcome, const std::string& cause,
                  std::optional<trainer::JournalPosition> at) {
  if (phase == Phase::kEnded) return;
  phase = Phase::kEnded;
  outcome_ = outcome;
  cause_ = cause;
  ended_at_ = at;
  gathers_.reset();
}

void Attempt::OnAck(int64_t seq) {
  acked_known_ = true;
  acked_ = std::max(acked_, seq);
  while (!pending_.empty() && pending_.front().seq <= acked_) {
    pending_bytes_ -= pending_.front().bytes;
    checkpoints_pending_ -= pending_.front().is_checkpoint;
    if (pending_.front().is_checkpoint)
      acked_checkpoint = pending_.front().json.value("step", acked_checkpoint);
    pending_.pop_front();
  }
}

std::optional<trainer::JournalPosition> Attempt::KeepFrom() const {
  if (gathers_) return gathers_;  // before any fact
  if (!pending_.empty()) return pending_.front().begin;
  return ended_at_;
}

v1::AttemptState Attempt::State(bool with_log) const {
  v1::AttemptState state;
  state.set_incarnation(key_.incarnation);
  state.set_stage_id(key_.stage);
  state.set_attempt(key_.number);
  state.set_step(step);
  if (phase == Phase::kEnded && (with_log || log_tail_.empty())) {
    state.set_outcome(outcome_);
    state.set_through_seq(through_seq_);
    // Its first line says why; what follows is the log.
    const std::string cause = cause_.substr(0, kMaxCause);
    state.set_cause(ValidUtf8(log_tail_.empty() ? cause : cause + "\n" + log_tail_));
    state.set_summary_json(summary_json_);
    state.set_checkpoint_gone(checkpoint_gone);
  }
  if (gathers_) {
    state.set_rendezvous(rendezvous_);
    state.set_gang_secret(secret_);
  }
  return state;
}

bool Attempt::IsHeld(const Fact& fact) const {
  return fact.is_checkpoint && fact.json.value("step", int64_t{0}) > sent_checkpoint;
}

v1::AttemptBatch Attempt::Batch(int64_t budget) const {
  v1::AttemptBatch batch;
  batch.set_incarnation(key_.incarnation);
  batch.set_stage_id(key_.stage);
  batch.set_attempt(key_.number);
  batch.set_first_seq(acked_ + 1);
  std::map<SeriesKey, v1::SeriesPoints*> by_key;
  for (const Fact& fact : pending_) {
    if (IsHeld(fact)) break;
    if (batch.last_seq() > 0 && fact.bytes > budget) break;
    budget -= fact.bytes;
    batch.set_last_seq(fact.seq);
    AddFact(fact.json, by_key, batch);
  }
  return batch;
}

JournalMark MarkFor(trainer::JournalPosition read, const std::vector<const Attempt*>& attempts) {
  JournalMark mark{.position = read};
  for (const Attempt* attempt : attempts) {
    if (const auto from = attempt->KeepFrom()) mark.position = std::min(mark.position, *from);
  }
  for (const Attempt* attempt : attempts) {
    const auto first = attempt->first_event();
    if (attempt->phase == Phase::kLive && (!first || *first < mark.position)) {
      mark.live.push_back(attempt->key().RowName());
    }
  }
  return mark;
}

std::string ValidUtf8(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = byte(i);
    const size_t n = c < 0x80                  ? 1
                     : (c >= 0xC2 && c < 0xE0) ? 2
                     : (c >= 0xE0 && c < 0xF0) ? 3
                     : (c >= 0xF0 && c < 0xF5) ? 4
                                               : 0;
    bool good = n > 0 && i + n <= text.size();
    for (size_t k = 1; good && k < n; ++k) good = (byte(i + k) & 0xC0) == 0x80;
    if (good && n == 3)
      good = !(c == 0xE0 && byte(i + 1) < 0xA0) && !(c == 0xED && byte(i + 1) >= 0xA0);
    if (good && n == 4)
      good = !(c == 0xF0 && byte(i + 1) < 0x90) && !(c == 0xF4 && byte(i + 1) >= 0x90);
    if (good) {
      out.append(text, i, n);
      i += n;
    } else {
      out += '?';
      ++i;
    }
  }
  return out;
}

}  // namespace plumb::worker
