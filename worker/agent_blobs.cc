// Checkpoints and corpora by way of the coordinator (worker/blobs.h).
#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "trainer/protocol/retention.h"
#include "worker/agent_thread.h"

namespace plumb::worker {
namespace {

// The stage's folder is here and this checkpoint is not in it: later ones have replaced it. Where
// the folder is not here either, it may be on a machine or a disk that comes back.
bool CheckpointGone(const std::string& path) {
  std::error_code error;
  const std::filesystem::path checkpoint(path);
  return std::filesystem::is_directory(checkpoint.parent_path(), error) &&
         !std::filesystem::exists(checkpoint / "DONE", error) && !error;
}

}  // namespace

void Agent::SendCheckpoint(Attempt& attempt, const nlohmann::json& event) {
  if (options_.shared_checkpoints || !attempt.has_checkpoint_pending()) return;
  const int64_t step = event.value("step", int64_t{0});
  attempt.sent_checkpoint = std::min(attempt.sent_checkpoint, step - 1);
  const bool keeps = attempt.assignment && step > 0 && step == attempt.assignment->keep_step();
  blobs_.Send(attempt.key(), step, event.value("path", ""), event.value("digest", ""), keeps);
}

void Agent::OnBlob(const Blobs::Event& event) {
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

std::string Agent::FetchedPath(const v1::Assignment& a) const {
  return absl::StrCat(workspace_.CheckpointDir(a.stage_id()), "/step-",
                      absl::Dec(a.checkpoint_step(), absl::kZeroPad12));
}

void Agent::RemoveFetched(const Attempt& attempt) {
  if (attempt.fetch != Fetch::kHere || !attempt.assignment ||
      (attempt.assignment->resume() && !attempt.member()))
    return;
  std::error_code ignored;
  std::filesystem::remove_all(FetchedPath(*attempt.assignment), ignored);
}

CorpusRoots Agent::CorporaHere() const {
  return {.prepared = options_.data_root, .fetched = workspace_.dir() + "/corpora"};
}

bool Agent::CorpusReady(Attempt& attempt) {
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

bool Agent::CheckpointReady(Attempt& attempt) {
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

void Agent::Acknowledged(const Attempt& attempt) {
  const std::string dir = workspace_.CheckpointDir(attempt.key().stage);
  if (!trainer::WriteAcknowledged(dir, attempt.acked_checkpoint))
    spdlog::warn("cannot write {}/acknowledged; more checkpoints are kept", dir);
  // Trainers of others need not know what may go.
  if (attempt.assignment && attempt.assignment->kind() == "external" &&
      attempt.acked_checkpoint > 0)
    trainer::RetainCheckpoints(
        dir, absl::StrCat("step-", absl::Dec(attempt.acked_checkpoint, absl::kZeroPad12)));
}

}  // namespace plumb::worker
