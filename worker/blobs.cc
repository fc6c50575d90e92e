#include "worker/blobs.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/content_digest.h"
#include "domain/status_macros.h"
#include "plumb/v1/blob_service.grpc.pb.h"
#include "spdlog/spdlog.h"
#include "trainer/spec/sha256.h"

namespace plumb::worker {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int64_t kPiece = 1 << 20;
constexpr seconds kCallDeadline{15};
constexpr seconds kNoProgress{30};
constexpr seconds kLongestSend{600};
constexpr milliseconds kPauseFirst{100}, kPauseMost{2000};
constexpr int kDamagedTries = 3;
constexpr int64_t kReserve = int64_t{1} << 30;  // of the disk, left free

absl::Status Errno(absl::string_view what, const std::string& path) {
  return absl::InternalError(absl::StrCat(what, " ", path, ": ", std::strerror(errno)));
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  if (!in || !(out << in.rdbuf())) return absl::NotFoundError(path + ": cannot be read");
  return out.str();
}

bool IsPlainName(const std::string& name);

struct ListedFile {
  std::string name, sha256;
  int64_t bytes = 0;
};

// The files a manifest names, all of them in its own folder.
absl::StatusOr<std::vector<ListedFile>> FilesOf(const std::string& manifest_json) {
  std::vector<ListedFile> out;
  const json manifest = json::parse(manifest_json, nullptr, false);
  try {
    for (const auto& [name, file] : manifest.at("files").items()) {
      if (!IsPlainName(name) || name == "manifest.json")
        return absl::DataLossError("the manifest names a file \"" + name + "\"");
      out.push_back({name, file.at("sha256").get<std::string>(), file.at("bytes").get<int64_t>()});
    }
  } catch (const json::exception& e) {
    return absl::DataLossError(absl::StrCat("damaged manifest: ", e.what()));
  }
  return out;
}

bool IsPlainName(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && name != "DONE";
}

int64_t BytesIn(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    std::error_code gone;
    const auto size = entry.file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

// Removes corpora from `folder` until `bytes` more stay within `room` and the disk has them.
absl::Status MakeRoom(const fs::path& folder, int64_t bytes, int64_t room,
                      const std::set<std::string>& in_use) {
  std::error_code error;
  fs::create_directories(folder, error);
  std::vector<std::pair<fs::file_time_type, fs::path>> corpora;
  int64_t taken = 0;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    taken += BytesIn(entry.path());
    std::error_code unknown;
    auto used = fs::last_write_time(entry.path() / "DONE", unknown);
    if (unknown) used = fs::file_time_type::min();
    if (!in_use.contains(entry.path().filename().string()))
      corpora.emplace_back(used, entry.path());
  }
  if (error)
    return absl::InternalError(absl::StrCat("list ", folder.string(), ": ", error.message()));
  std::sort(corpora.begin(), corpora.end());
  for (const auto& [used, path] : corpora) {
    const auto disk = fs::space(folder, error);
    const bool fits = error || static_cast<int64_t>(disk.available) > bytes + kReserve;
    if (taken + bytes <= room && fits) break;
    spdlog::info("corpus {} makes room for another", path.string());
    taken -= BytesIn(path);
    fs::remove_all(path, error);
  }
  if (taken + bytes > room)
    return absl::ResourceExhaustedError(
        absl::StrCat("a corpus of ", bytes >> 20, " MiB does not fit beside ", taken >> 20,
                     " MiB in use: plumb worker start --corpora-gib says how much they may take"));
  return absl::OkStatus();
}

absl::Status SyncPath(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Errno("open", path);
  const int failed = fsync(fd);
  const absl::Status status = failed != 0 ? Errno("sync", path) : absl::OkStatus();
  close(fd);
  return status;
}

// Written durably; DataLoss when it is not what `digest` says.
absl::Status WriteVerified(
    const std::string& path, const std::string& digest,
    const std::function<absl::StatusOr<std::string>(int64_t offset)>& next_piece) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return Errno("make", path);
  absl::Status status;
  spec::Sha256 sum;
  for (int64_t at = 0; status.ok();) {
    absl::StatusOr<std::string> piece = next_piece(at);
    if (!piece.ok()) {
      status = piece.status();
      break;
    }
    if (piece->empty()) break;
    sum.Update(*piece);
    for (size_t done = 0; done < piece->size();) {
      const ssize_t n = write(fd, piece->data() + done, piece->size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        status = Errno("write", path);
        break;
      }
      done += static_cast<size_t>(n);
    }
    at += static_cast<int64_t>(piece->size());
  }
  if (status.ok() && fsync(fd) != 0) status = Errno("sync", path);
  close(fd);
  if (status.ok() && sum.HexDigest() != digest)
    status = absl::DataLossError(path + ": what came has another SHA-256");
  return status;
}

}  // namespace

bool HasCorpus(const std::string& dir, const std::string& digest) {
  std::error_code error;
  const absl::StatusOr<std::string> is = ReadText(dir + "/DONE");
  if (!is.ok() || *is != digest) return false;
  fs::last_write_time(dir + "/DONE", fs::file_time_type::clock::now(), error);
  return true;
}

bool HasCheckpoint(const std::string& path, const std::string& digest) {
  std::error_code error;
  if (!fs::exists(fs::path(path) / "DONE", error)) return false;
  if (digest.empty()) return true;
  const absl::StatusOr<std::string> manifest = ReadText(path + "/manifest.json");
  return manifest.ok() && spec::Sha256Hex(*manifest) == digest;
}

// Calls that wait for the coordinator, each repeated until it has an answer that repeating would
// not change. One thread's.
class Blobs::Connection {
 public:
  Connection(Blobs* blobs, Lane* lane, bool sends) : blobs_(blobs), lane_(lane), sends_(sends) {}

  // A job begins: from now on `gives_up` holds for its calls.
  void Begin(Clock::time_point since, bool gives_up) {
    since_ = since;
    progress_ = Clock::now();
    gives_up_ = gives_up;
  }

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Request request,
                                grpc::Status (v1::BlobService::Stub::*method)(grpc::ClientContext*,
                                                                              const Request&,
                                                                              Response*)) {
    milliseconds pause = kPauseFirst;
    for (;;) {
      int64_t opens = 0;
      {
        std::lock_guard lock(blobs_->mutex_);
        if (blobs_->stop_ || lane_->cancelled) return absl::CancelledError("no longer wanted");
        request.set_session_id(blobs_->session_);
        opens = blobs_->opens_;
      }
      if (stub_ == nullptr || opens != opens_) Connect(opens);
      grpc::Status status(grpc::StatusCode::UNAVAILABLE, "no address");
      Response response;
      if (stub_ != nullptr) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + kCallDeadline);
        SetContext(&context);
        status = (stub_.get()->*method)(&context, request, &response);
        SetContext(nullptr);
      }
      const auto code = status.error_code();
      const bool again =
          code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED ||
          code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::FAILED_PRECONDITION ||
          code == grpc::StatusCode::UNAUTHENTICATED;
      if (sends_) {
        std::lock_guard lock(blobs_->mutex_);
        blobs_->answered_ = !again;
      }
      if (status.ok()) {
        progress_ = Clock::now();
        return response;
      }
      absl::Status said(static_cast<absl::StatusCode>(code), status.error_message());
      if (!again) return said;
      const auto now = Clock::now();
      if (gives_up_ && (now > since_ + kLongestSend || now > progress_ + kNoProgress)) return said;
      stub_.reset();  // it may have another address by now
      std::unique_lock lock(blobs_->mutex_);
      blobs_->changed_.wait_for(lock, pause, [&] { return blobs_->stop_ || lane_->cancelled; });
      pause = std::min(kPauseMost, pause * 2);
    }
  }
  // Of the blob of this digest, from an offset on.
  std::function<absl::StatusOr<std::string>(int64_t)> Pieces(const std::string& digest) {
    return [this, digest](int64_t at) -> absl::StatusOr<std::string> {
      v1::ReadBlobRequest ask;
      ask.set_digest(digest);
      ask.set_offset(at);
      ask.set_limit(kPiece);
      ASSIGN_OR_RETURN(v1::ReadBlobResponse piece, Call(ask, &v1::BlobService::Stub::ReadBlob));
      return std::move(*piece.mutable_data());
    };
  }
  bool OutOfTime() const { return gives_up_ && Clock::now() > since_ + kLongestSend; }

 private:
  // So that who cancels or ends need not wait for the call.
  void SetContext(grpc::ClientContext* context) {
    std::lock_guard lock(blobs_->mutex_);
    lane_->context = context;
    if (context != nullptr && (blobs_->stop_ || lane_->cancelled)) context->TryCancel();
  }

  void Connect(int64_t opens) {
    opens_ = opens;
    std::string address = blobs_->server_;
    if (address.starts_with("file:")) {
      std::ifstream file(address.substr(5));
      address.clear();
      file >> address;
      if (address.empty()) return;
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = v1::BlobService::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  Blobs* const blobs_;
  Lane* const lane_;
  const bool sends_;
  bool gives_up_ = false;
  Clock::time_point since_, progress_;
  int64_t opens_ = 0;
  std::unique_ptr<v1::BlobService::Stub> stub_;
};

Blobs::Blobs(std::string server)
    : server_(std::move(server)),
      event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      sender_([this] { Run(sends_, false); }),
      fetcher_([this] { Run(fetches_, true); }) {}

Blobs::~Blobs() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    for (Lane* lane : {&sends_, &fetches_}) {
      if (lane->context != nullptr) lane->context->TryCancel();
    }
  }
  changed_.notify_all();
  sender_.join();
  fetcher_.join();
  close(event_fd_);
}

void Blobs::Open(int64_t session, bool takes_blobs) {
  {
    std::lock_guard lock(mutex_);
    session_ = session;
    takes_blobs_ = takes_blobs;
    opened_ = true;
    ++opens_;
  }
  changed_.notify_all();
}

void Blobs::Send(const AttemptKey& attempt, int64_t step, const std::string& path,
                 const std::string& digest, bool keeps) {
  {
    std::lock_guard lock(mutex_);
    Job job{.attempt = attempt,
            .step = step,
            .path = path,
            .digest = digest,
            .keeps = keeps,
            .since = Clock::now()};
    const auto older = std::find_if(sends_.waiting.begin(), sends_.waiting.end(),
                                    [&](const Job& j) { return j.attempt == attempt && !j.keeps; });
    if (older != sends_.waiting.end()) {
      if (older->step > step) return;
      *older = std::move(job);
    } else {
      sends_.waiting.push_back(std::move(job));
    }
  }
  changed_.notify_all();
}

void Blobs::Fetch(const AttemptKey& attempt, const std::string& digest, const std::string& path) {
  {
    std::lock_guard lock(mutex_);
    fetches_.waiting.push_back(
        {.attempt = attempt, .path = path, .digest = digest, .since = Clock::now()});
  }
  changed_.notify_all();
}

void Blobs::FetchCorpus(const AttemptKey& attempt, const std::string& corpus,
                        const std::string& tokenizer, const std::string& digest,
                        const std::string& dir, int64_t room, std::set<std::string> in_use) {
  {
    std::lock_guard lock(mutex_);
    fetches_.waiting.push_back({.attempt = attempt,
                                .path = dir,
                                .digest = digest,
                                .corpus = corpus,
                                .tokenizer = tokenizer,
                                .room = room,
                                .in_use = std::move(in_use),
                                .since = Clock::now()});
  }
  changed_.notify_all();
}

void Blobs::Cancel(const AttemptKey& attempt) {
  {
    std::lock_guard lock(mutex_);
    for (Lane* lane : {&sends_, &fetches_}) {
      std::erase_if(lane->waiting, [&](const Job& j) { return j.attempt == attempt; });
      if (lane->now != attempt) continue;
      lane->cancelled = true;
      if (lane->context != nullptr) lane->context->TryCancel();
    }
  }
  changed_.notify_all();
}

std::vector<Blobs::Event> Blobs::TakeEvents() {
  uint64_t ignored;
  if (read(event_fd_, &ignored, sizeof ignored) < 0) {
  }
  std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

bool Blobs::Sending() const {
  std::lock_guard lock(mutex_);
  return opened_ && answered_ && (sends_.now || !sends_.waiting.empty());
}

void Blobs::Say(Event event) {
  std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  const uint64_t one = 1;
  if (write(event_fd_, &one, sizeof one) < 0) return;  // full: readable already
}

void Blobs::Run(Lane& lane, bool fetches) {
  Connection connection(this, &lane, !fetches);
  bool refused = false;
  for (;;) {
    Job job;
    bool takes = false;
    {
      std::unique_lock lock(mutex_);
      lane.now.reset();
      lane.cancelled = false;
      changed_.wait(lock, [&] { return stop_ || (opened_ && !lane.waiting.empty()); });
      if (stop_) return;
      job = std::move(lane.waiting.front());
      lane.waiting.pop_front();
      lane.now = job.attempt;
      takes = takes_blobs_;
    }
    Event event{.fetched = fetches,
                .corpus = !job.corpus.empty(),
                .attempt = job.attempt,
                .step = job.step};
    connection.Begin(Clock::now(), !fetches);
    if (!takes) {
      event.status = absl::UnimplementedError("the server keeps no blobs");
    } else {
      event.status = event.corpus ? FetchCorpusNow(connection, job)
                     : fetches    ? FetchCheckpoint(connection, job)
                                  : SendCheckpoint(connection, job);
      const bool failed =
          !event.status.ok() && !absl::IsCancelled(event.status) && !absl::IsNotFound(event.status);
      // Said when it begins.
      if (failed && (fetches || !refused)) {
        spdlog::warn("{} {} is not {} the server: {}", event.corpus ? "corpus" : "checkpoint",
                     job.path, fetches ? "fetched from" : "sent to",
                     std::string(event.status.message()));
      }
      if (!fetches) refused = failed;
    }
    Say(std::move(event));
  }
}

absl::Status Blobs::SendCheckpoint(Connection& to, const Job& job) {
  ASSIGN_OR_RETURN(const std::string manifest, ReadText(job.path + "/manifest.json"));
  ASSIGN_OR_RETURN(std::vector<ListedFile> files, FilesOf(manifest));
  // Last: what can be fetched is whole.
  files.push_back({"manifest.json", job.digest, static_cast<int64_t>(manifest.size())});
  for (const ListedFile& file : files) {
    std::ifstream in(job.path + "/" + file.name, std::ios::binary);
    if (!in) return absl::NotFoundError(job.path + "/" + file.name + ": cannot be read");
    std::string piece;
    for (int damaged = 0;;) {
      if (to.OutOfTime()) return absl::DeadlineExceededError("it took too long");
      v1::StatBlobRequest ask;
      ask.set_digest(file.sha256);
      ASSIGN_OR_RETURN(const v1::StatBlobResponse have,
                       to.Call(ask, &v1::BlobService::Stub::StatBlob));
      if (have.complete()) break;
      absl::Status status;
      for (int64_t at = have.bytes(); status.ok();) {
        if (to.OutOfTime()) return absl::DeadlineExceededError("it took too long");
        v1::WriteBlobRequest write;
        piece.resize(static_cast<size_t>(std::min(kPiece, std::max<int64_t>(0, file.bytes - at))));
        in.clear();
        in.seekg(at);
        if (!in.read(piece.data(), static_cast<std::streamsize>(piece.size())))
          return absl::DataLossError(job.path + "/" + file.name +
                                     ": shorter than its manifest says");
        write.set_digest(file.sha256);
        write.set_offset(at);
        write.set_data(piece);
        write.set_size(file.bytes);
        at += static_cast<int64_t>(piece.size());
        write.set_last(at >= file.bytes);
        status = to.Call(write, &v1::BlobService::Stub::WriteBlob).status();
        if (write.last()) break;
      }
      // Another writer, or an answer that was lost: ask again where it ends.
      if (status.ok() || absl::IsOutOfRange(status)) continue;
      if (absl::IsDataLoss(status) && ++damaged < kDamagedTries) continue;
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status Blobs::FetchCheckpoint(Connection& from, const Job& job) {
  const auto pieces_of = [&](const std::string& digest) { return from.Pieces(digest); };
  const fs::path final = job.path;
  // As a trainer names what it writes; the worker removes it once this process is gone.
  const std::string temporary = absl::StrCat(job.path, ".tmp-", getpid());
  const auto fetch = [&]() -> absl::Status {
    std::error_code error;
    fs::remove_all(temporary, error);
    fs::create_directories(temporary, error);
    if (error) return absl::InternalError(absl::StrCat("make ", temporary, ": ", error.message()));
    RETURN_IF_ERROR(WriteVerified(temporary + "/manifest.json", job.digest, pieces_of(job.digest)));
    ASSIGN_OR_RETURN(const std::string manifest, ReadText(temporary + "/manifest.json"));
    ASSIGN_OR_RETURN(const std::vector<ListedFile> files, FilesOf(manifest));
    for (const ListedFile& file : files)
      RETURN_IF_ERROR(
          WriteVerified(temporary + "/" + file.name, file.sha256, pieces_of(file.sha256)));
    RETURN_IF_ERROR(SyncPath(temporary));
    // What has its name and is another one: of an attempt that the coordinator no longer knows.
    fs::remove(final / "DONE", error);
    fs::remove_all(final, error);
    fs::rename(temporary, final, error);
    if (error) return absl::InternalError(absl::StrCat("make ", job.path, ": ", error.message()));
    RETURN_IF_ERROR(SyncPath(final.parent_path()));
    if (!(std::ofstream(final / "DONE") << "")) return Errno("make DONE in", job.path);
    RETURN_IF_ERROR(SyncPath(final / "DONE"));
    return SyncPath(final);
  };
  absl::Status status;
  for (int damaged = 0; damaged < kDamagedTries; ++damaged) {
    status = fetch();
    if (!absl::IsDataLoss(status)) break;
  }
  if (!status.ok()) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
  }
  return status;
}

absl::Status Blobs::FetchCorpusNow(Connection& from, const Job& job) {
  if (HasCorpus(job.path, job.digest)) return absl::OkStatus();  // another attempt's fetch
  const fs::path parent = fs::path(job.path).parent_path();
  const std::string temporary = absl::StrCat(job.path, ".tmp");
  const auto fetch = [&]() -> absl::Status {
    v1::ListCorpusRequest ask;
    ask.set_digest(job.digest);
    ask.set_corpus(job.corpus);
    ask.set_tokenizer(job.tokenizer);
    ASSIGN_OR_RETURN(const v1::ListCorpusResponse list,
                     from.Call(ask, &v1::BlobService::Stub::ListCorpus));
    int64_t bytes = 0;
    for (const v1::CorpusFile& file : list.files()) {
      if (!IsPlainName(file.name()))
        return absl::DataLossError("the corpus has a file \"" + file.name() + "\"");
      bytes += file.bytes();
    }
    std::error_code error;
    fs::remove_all(temporary, error);
    RETURN_IF_ERROR(MakeRoom(parent, bytes, job.room, job.in_use));
    fs::create_directories(temporary, error);
    if (error) return absl::InternalError(absl::StrCat("make ", temporary, ": ", error.message()));
    spdlog::info("corpus {} ({}, {} MiB) is fetched from the server", job.corpus, job.tokenizer,
                 bytes >> 20);
    for (const v1::CorpusFile& file : list.files())
      RETURN_IF_ERROR(WriteVerified(absl::StrCat(temporary, "/", file.name()), file.sha256(),
                                    from.Pieces(file.sha256())));
    try {  // the data room throws; statuses begin here
      const std::string is = data::ReadContentDigest(temporary);
      if (is != job.digest)
        return absl::DataLossError(absl::StrCat("what came has content digest ", is));
    } catch (const std::exception& e) {
      return absl::DataLossError(e.what());
    }
    RETURN_IF_ERROR(SyncPath(temporary));
    fs::remove_all(job.path, error);
    fs::rename(temporary, job.path, error);
    if (error) return absl::InternalError(absl::StrCat("make ", job.path, ": ", error.message()));
    RETURN_IF_ERROR(SyncPath(parent));
    if (!(std::ofstream(job.path + "/DONE") << job.digest).flush())
      return Errno("make DONE in", job.path);
    return SyncPath(job.path + "/DONE");
  };
  absl::Status status;
  // A file that is no longer as it was listed is listed again.
  for (int tries = 0; tries < kDamagedTries; ++tries) {
    status = fetch();
    if (!absl::IsDataLoss(status) && !absl::IsNotFound(status)) break;
  }
  if (!status.ok()) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
  }
  return status;
}

}  // namespace plumb::worker
