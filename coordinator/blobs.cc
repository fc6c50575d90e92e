#include "coordinator/blobs.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/corpora.h"
#include "coordinator/services.h"
#include "coordinator/task_thread.h"
#include "domain/status_macros.h"
#include "spdlog/spdlog.h"
#include "store/sqlite.h"

namespace plumb::coordinator {
namespace {

constexpr int64_t kMaxPiece = 1 << 20;
constexpr int64_t kMaxManifest = 64 << 20;
constexpr size_t kMaxWaiting = 64;  // calls a thread, of 1 MiB each
constexpr auto kBelieveSession = std::chrono::seconds(5);

class BlobServerImpl final : public BlobServer, public v1::BlobService::CallbackService {
 public:
  BlobServerImpl(Owner* owner, std::string db_path, const BlobServiceOptions& options,
                 std::unique_ptr<store::Blobs> blobs)
      : owner_(owner),
        db_path_(std::move(db_path)),
        options_(options),
        blobs_(std::move(blobs)),
        corpora_(options.data_root),
        collector_([this] { CollectAgainAndAgain(); }) {}
  ~BlobServerImpl() override { Stop(); }

  grpc::Service* service() override { return this; }

  void Stop() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    if (collector_.joinable()) collector_.join();
    for (TaskThread& thread : threads_) thread.Stop();
  }

  grpc::ServerUnaryReactor* StatBlob(grpc::CallbackServerContext* context,
                                     const v1::StatBlobRequest* request,
                                     v1::StatBlobResponse* response) override {
    return Answer(context, *request, [this, request, response]() -> absl::Status {
      ASSIGN_OR_RETURN(const store::Blobs::Have have, blobs_->Stat(request->digest()));
      response->set_complete(have.complete);
      response->set_bytes(have.bytes);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* WriteBlob(grpc::CallbackServerContext* context,
                                      const v1::WriteBlobRequest* request,
                                      v1::WriteBlobResponse* response) override {
    return Answer(context, *request, [this, request, response]() -> absl::Status {
      if (static_cast<int64_t>(request->data().size()) > kMaxPiece)
        return absl::InvalidArgumentError("a piece of a blob: at most 1 MiB");
      absl::StatusOr<int64_t> end =
          blobs_->Append(request->digest(), request->offset(), request->data());
      if (absl::IsResourceExhausted(end.status())) {
        Collect();
        end = blobs_->Append(request->digest(), request->offset(), request->data());
      }
      if (!end.ok()) return end.status();
      response->set_bytes(*end);
      return request->last() ? blobs_->Finish(request->digest(), request->size())
                             : absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ReadBlob(grpc::CallbackServerContext* context,
                                     const v1::ReadBlobRequest* request,
                                     v1::ReadBlobResponse* response) override {
    return Answer(context, *request, [this, request, response]() -> absl::Status {
      ASSIGN_OR_RETURN(*response->mutable_data(), ReadAny(request->digest(), request->offset(),
                                                          std::min(request->limit(), kMaxPiece)));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ListCorpus(grpc::CallbackServerContext* context,
                                       const v1::ListCorpusRequest* request,
                                       v1::ListCorpusResponse* response) override {
    return Answer(context, *request, [this, request, response]() -> absl::Status {
      if (options_.data_root.empty())
        return absl::NotFoundError("this server gives no corpora away");
      ASSIGN_OR_RETURN(const std::vector<CorpusFile> files,
                       corpora_.List(request->corpus(), request->tokenizer(), request->digest()));
      for (const CorpusFile& file : files) {
        v1::CorpusFile* out = response->add_files();
        out->set_name(file.name);
        out->set_sha256(file.sha256);
        out->set_bytes(file.bytes);
      }
      return absl::OkStatus();
    });
  }

 private:
  // Runs `work` on one of our threads (one digest, one thread) once the session is known to be
  // current.
  template <typename Request, typename Work>
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const Request& request,
                                   Work work) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    auto run = [this, reactor, work, thread = ThreadOf(request.digest())] {
      if (!threads_[thread].Post([reactor, work] { reactor->Finish(ToGrpc(work())); }, kMaxWaiting))
        reactor->Finish(
            ToGrpc(absl::UnavailableError("too many blobs at once, or the server stops")));
    };
    const SessionId session{request.session_id()};
    if (Believed(session)) {
      run();
      return reactor;
    }
    auto said = std::make_shared<absl::Status>();
    owner_->Read(
        [said, session](const core::Core& core, core::Now) {
          if (core.WorkerOfSession(session)) return;
          *said = core.SessionWasFenced(session)
                      ? absl::FailedPreconditionError("a newer session of this worker exists")
                      : absl::UnauthenticatedError("no such session; register again");
        },
        [this, said, session, run, reactor](absl::Status s) {
          if (s.ok()) s = *said;
          if (!s.ok()) {
            reactor->Finish(ToGrpc(s));
            return;
          }
          Believe(session);
          run();
        });
    return reactor;
  }

  absl::StatusOr<std::string> ReadAny(const std::string& digest, int64_t offset, int64_t limit) {
    absl::StatusOr<std::string> bytes = blobs_->Read(digest, offset, limit);
    return absl::IsNotFound(bytes.status()) ? corpora_.Read(digest, offset, limit) : bytes;
  }

  size_t ThreadOf(const std::string& digest) const {
    return std::hash<std::string>()(digest) % threads_.size();
  }

  bool Believed(SessionId session) {
    std::lock_guard lock(mutex_);
    const auto it = believed_.find(session);
    return it != believed_.end() && std::chrono::steady_clock::now() < it->second;
  }
  void Believe(SessionId session) {
    std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(believed_, [now](const auto& entry) { return entry.second < now; });
    believed_[session] = now + kBelieveSession;
  }

  void CollectAgainAndAgain() {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, absl::ToChronoNanoseconds(options_.collect_every),
                              [this] { return stop_; }))
          return;
      }
      Collect();
    }
  }

  void Collect() {
    std::lock_guard lock(collect_mutex_);
    // For want of room it is asked for with every piece.
    const auto now = std::chrono::steady_clock::now();
    if (now - collected_ < std::chrono::seconds(1)) return;
    const auto needed = NeededBlobs(db_path_, *blobs_);
    const auto removed = needed.ok() ? blobs_->Collect(*needed, options_.grace)
                                     : absl::StatusOr<store::Blobs::Removed>(needed.status());
    if (!removed.ok()) {
      spdlog::warn("blobs are not collected: {}", std::string(removed.status().message()));
    } else if (removed->blobs > 0) {
      spdlog::debug("{} blobs of {} bytes removed", removed->blobs, removed->bytes);
    }
    collected_ = std::chrono::steady_clock::now();
  }

  Owner* const owner_;
  const std::string db_path_;
  const BlobServiceOptions options_;
  const std::unique_ptr<store::Blobs> blobs_;
  Corpora corpora_;
  std::array<TaskThread, 4> threads_;

  std::mutex collect_mutex_;
  std::chrono::steady_clock::time_point collected_;  // by collect_mutex_

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;                                                    // by mutex_
  std::map<SessionId, std::chrono::steady_clock::time_point> believed_;  // by mutex_: until when
  std::thread collector_;  // last: starts when everything above is made
};

}  // namespace

absl::StatusOr<std::set<std::string>> NeededBlobs(const std::string& db_path, store::Blobs& blobs) {
  std::set<std::string> manifests;
  {
    // A connection of its own, on whatever thread this is.
    ASSIGN_OR_RETURN(store::Database db,
                     store::Database::Open(db_path, store::Database::Mode::kReadOnly));
    ASSIGN_OR_RETURN(
        store::Statement s,
        db.Prepare(
            "SELECT checkpoint_digest FROM stage WHERE checkpoint_step >= 0 AND "
            "checkpoint_digest IS NOT NULL AND state NOT IN ('cancelled', "
            "'diverged', 'infeasible') "
            // And what others may begin from, as long as who made it counts or one is live.
            "UNION SELECT k.digest FROM trunk k JOIN stage g ON g.id = k.stage_id WHERE "
            "g.state NOT IN ('cancelled', 'diverged', 'infeasible') OR EXISTS (SELECT 1 FROM "
            "stage o WHERE o.prefix_key = k.prefix_key AND o.prefix_key <> '' AND o.state IN "
            "('pending', 'running', 'paused')) "
            // And what a warm start or a fork begins with that has no checkpoint of its own yet.
            "UNION SELECT json_extract(t.config_json, '$.init.digest') FROM stage g JOIN trial t "
            "ON "
            "t.id = g.trial_id WHERE g.state IN ('pending', 'running', 'paused') AND "
            "g.checkpoint_step "
            "< 0 AND g.kind = 'pretrain' AND g.parent_id IS NULL AND instr(t.config_json, "
            "'\"init\"') > 0 AND json_extract(t.config_json, '$.init.digest') IS NOT NULL"));
    for (;;) {
      ASSIGN_OR_RETURN(const bool more, s.Step());
      if (!more) break;
      manifests.insert(s.Text(0));
    }
  }
  std::set<std::string> needed = manifests;
  for (const std::string& digest : manifests) {
    const absl::StatusOr<std::string> text = blobs.Read(digest, 0, kMaxManifest);
    if (absl::IsNotFound(text.status()) || absl::IsInvalidArgument(text.status())) continue;
    if (!text.ok()) return text.status();  // what it needs is unknown: nothing is removed
    const auto manifest = nlohmann::json::parse(*text, nullptr, false);
    if (!manifest.is_object() || !manifest.contains("files")) continue;
    for (const auto& [name, file] : manifest["files"].items()) {
      if (file.is_object() && file.contains("sha256") && file["sha256"].is_string())
        needed.insert(file["sha256"].get<std::string>());
    }
  }
  return needed;
}

absl::StatusOr<std::unique_ptr<BlobServer>> BlobServer::Start(Owner* owner,
                                                              const std::string& db_path,
                                                              const BlobServiceOptions& options) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<store::Blobs> blobs,
      store::Blobs::Open(db_path + ".blobs", {.quota_bytes = options.quota_bytes,
                                              .reserve_bytes = options.reserve_bytes}));
  return std::make_unique<BlobServerImpl>(owner, db_path, options, std::move(blobs));
}

}  // namespace plumb::coordinator
