// A checkpoint from one machine's folder to another's by way of a real server.
#include "worker/blobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "data/content_digest.h"
#include "data/prepare.h"
#include "plumb/v1/blob_service.grpc.pb.h"
#include "tests/coordinator/cluster.h"
#include "tests/data/texts.h"
#include "trainer/spec/sha256.h"

namespace plumb::worker {
namespace {

namespace fs = std::filesystem;
using coordinator::Client;
using coordinator::Launch;
using coordinator::PlanNoops;
using coordinator::ScriptedWorker;
using coordinator::ServerOptions;
using coordinator::TempDir;

const AttemptKey kKey{.incarnation = 1, .stage = 7, .number = 3};

std::string ReadText(const fs::path& path) {
  std::stringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

// A committed checkpoint of two files, one of several pieces and one empty; returns its digest.
std::string WriteCheckpoint(const std::string& path, char content) {
  const std::string weights = std::string((5 << 19) + 17, content);
  fs::create_directories(path);
  nlohmann::json files;
  for (const auto& [name, bytes] :
       {std::pair<std::string, std::string>{"weights.safetensors", weights}, {"empty", ""}}) {
    std::ofstream(path + "/" + name, std::ios::binary) << bytes;
    files[name] = {{"bytes", bytes.size()}, {"sha256", spec::Sha256Hex(bytes)}};
  }
  const std::string manifest = nlohmann::json{{"files", files}}.dump();
  std::ofstream(path + "/manifest.json") << manifest;
  std::ofstream(path + "/DONE") << "";
  return spec::Sha256Hex(manifest);
}

class BlobsTest : public ::testing::Test {
 protected:
  void Start(const ServerOptions& options) {
    auto server = Launch(options, PlanNoops);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<Client>(server_->address());
    session_ = ScriptedWorker(*client_, "w", 1).registered.session_id();
  }
  Blobs::Event Next(Blobs& blobs) {
    for (;;) {
      auto events = blobs.TakeEvents();
      if (!events.empty()) return events.at(0);
      pollfd wait = {blobs.event_fd(), POLLIN, 0};
      EXPECT_EQ(poll(&wait, 1, 20'000), 1) << "no event";
    }
  }
  std::string File() const { return absl::StrCat("file:", dir_ / "db", ".address"); }

  TempDir dir_;
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<Client> client_;
  int64_t session_ = 0;
};

TEST_F(BlobsTest, ACheckpointIsAtTheOtherMachineByteForByte) {
  Start({.db_path = dir_ / "db"});
  const std::string from = dir_ / "a/step-000000000040", to = dir_ / "b/7/step-000000000040";
  const std::string digest = WriteCheckpoint(from, 'x');
  Blobs a(File()), b(File());
  a.Send(kKey, 40, from, digest);  // before the session is there: it waits
  a.Open(session_, true);
  const Blobs::Event sent = Next(a);
  ASSERT_TRUE(sent.status.ok()) << sent.status;
  EXPECT_EQ(sent.attempt, kKey);
  EXPECT_EQ(sent.step, 40);
  fs::remove_all(from);
  // What has its name there and is another one is replaced.
  WriteCheckpoint(to, 'y');
  EXPECT_FALSE(HasCheckpoint(to, digest));
  b.Open(session_, true);
  b.Fetch(kKey, digest, to);
  const Blobs::Event fetched = Next(b);
  ASSERT_TRUE(fetched.status.ok()) << fetched.status;
  EXPECT_TRUE(HasCheckpoint(to, digest));
  EXPECT_EQ(ReadText(fs::path(to) / "weights.safetensors"), std::string((5 << 19) + 17, 'x'));
  EXPECT_EQ(ReadText(fs::path(to) / "empty"), "");
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(to).parent_path()), {}), 1);
}

TEST_F(BlobsTest, AFetchOfWhatIsNowhereSaysSoAndLeavesNothing) {
  Start({.db_path = dir_ / "db"});
  Blobs b(File());
  b.Open(session_, true);
  b.Fetch(kKey, std::string(64, 'a'), dir_ / "b/7/step-000000000040");
  EXPECT_EQ(Next(b).status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(fs::is_empty(dir_ / "b/7"));
}

TEST_F(BlobsTest, AFetchWaitsForAServerThatIsAway) {
  Blobs b(File());
  b.Open(1, true);
  b.Fetch(kKey, std::string(64, 'a'), dir_ / "b/7/step-000000000040");
  pollfd wait = {b.event_fd(), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 500), 0);  // says nothing while it knows nothing
  Start({.db_path = dir_ / "db"});
  b.Open(session_, true);
  EXPECT_EQ(Next(b).status.code(), absl::StatusCode::kNotFound);
}

TEST_F(BlobsTest, WithoutRoomASendEndsAndNothingCanBeFetched) {
  Start({.db_path = dir_ / "db", .blobs = {.quota_bytes = 1 << 20}});
  const std::string from = dir_ / "a/step-000000000040";
  const std::string digest = WriteCheckpoint(from, 'x');
  Blobs a(File());
  a.Open(session_, true);
  a.Send(kKey, 40, from, digest);
  EXPECT_EQ(Next(a).status.code(), absl::StatusCode::kResourceExhausted);
  a.Fetch(kKey, digest, dir_ / "b/7/step-000000000040");
  EXPECT_EQ(Next(a).status.code(), absl::StatusCode::kNotFound);
}

TEST_F(BlobsTest, AServerThatTakesNoneEndsASendAtOnce) {
  Blobs a(File());
  a.Send(kKey, 40, dir_ / "nowhere", std::string(64, 'a'));
  a.Open(1, false);
  EXPECT_EQ(Next(a).status.code(), absl::StatusCode::kUnimplemented);
}

// A server with the prepared corpora "one" and "two" of about 60 kB each, whose workers fetch them.
class CorporaTest : public BlobsTest {
 protected:
  CorporaTest() {
    const std::string root = dir_ / "data";
    for (int which = 0; which < 2; ++which) {
      const std::string text = absl::StrCat(dir_ / "text", which);
      for (int i = 0; i < 80; ++i)
        data::Write(absl::StrCat(text, "/", i, ".txt"), data::Words(100, 1000 * which + i));
      const data::Manifest made =
          data::Prepare({.corpus = which == 0 ? "one" : "two", .text = {text}, .root = root});
      (which == 0 ? one_ : two_) = made.digest;
    }
    Start({.db_path = dir_ / "db", .blobs = {.data_root = root}});
    blobs_ = std::make_unique<Blobs>(File());
    blobs_->Open(session_, true);
  }
  std::string Place(const std::string& digest) const { return dir_ / ("w/corpora/" + digest); }
  absl::Status Fetch(const std::string& corpus, const std::string& digest, int64_t room = 1 << 30,
                     const std::set<std::string>& in_use = {}) {
    blobs_->FetchCorpus(kKey, corpus, "bytes", digest, Place(digest), room, in_use);
    const Blobs::Event event = Next(*blobs_);
    EXPECT_TRUE(event.fetched && event.corpus);
    return event.status;
  }
  std::vector<std::string> Here() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_ / "w/corpora"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string one_, two_;
  std::unique_ptr<Blobs> blobs_;
};

TEST_F(CorporaTest, ACorpusIsAtTheOtherMachineAndIsWhatItsDigestSays) {
  ASSERT_TRUE(Fetch("one", one_).ok());
  EXPECT_TRUE(HasCorpus(Place(one_), one_));
  EXPECT_EQ(data::ReadContentDigest(Place(one_)), one_);
  EXPECT_THAT(Here(), testing::ElementsAre(one_));
  for (const auto& entry : fs::directory_iterator(dir_ / "data/one/bytes"))
    EXPECT_EQ(ReadText(fs::path(Place(one_)) / entry.path().filename()), ReadText(entry.path()));
}

TEST_F(CorporaTest, WhatTheServerHasNotIsNotFoundAndLeavesNothing) {
  const absl::Status other = Fetch("one", two_);
  EXPECT_EQ(other.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(other.message()), testing::HasSubstr(one_));
  EXPECT_EQ(Fetch("three", two_).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Fetch("../data/one", one_).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(Place(two_)));
  EXPECT_FALSE(fs::exists(Place(one_)));
}

TEST_F(CorporaTest, AByteThatChangedAtTheServerIsNotTaken) {
  std::string bin = ReadText(dir_ / "data/one/bytes/train.bin");
  bin[100] ^= 1;
  data::Write(dir_ / "data/one/bytes/train.bin", bin);
  EXPECT_EQ(Fetch("one", one_).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Here().empty());
}

TEST_F(CorporaTest, ThoseThatNobodyUsesMakeRoom) {
  ASSERT_TRUE(Fetch("one", one_).ok());
  EXPECT_EQ(Fetch("two", two_, 100'000, {one_}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Here(), testing::ElementsAre(one_));
  ASSERT_TRUE(Fetch("two", two_, 100'000).ok());
  EXPECT_THAT(Here(), testing::ElementsAre(two_));
  EXPECT_EQ(Fetch("one", one_, 1000).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(BlobsTest, SessionsAndPiecesAreChecked) {
  Start({.db_path = dir_ / "db"});
  const auto stub = v1::BlobService::NewStub(client_->channel);
  const auto write = [&](int64_t session, const std::string& data, const std::string& digest) {
    v1::WriteBlobRequest request;
    request.set_session_id(session);
    request.set_digest(digest);
    request.set_data(data);
    request.set_size(static_cast<int64_t>(data.size()));
    request.set_last(true);
    v1::WriteBlobResponse response;
    grpc::ClientContext context;
    return stub->WriteBlob(&context, request, &response).error_code();
  };
  const std::string good = spec::Sha256Hex("bytes");
  EXPECT_EQ(write(session_ + 1000, "bytes", good), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(write(session_, "other", good), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(write(session_, "bytes", "../../bytes"), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(write(session_, std::string((1 << 20) + 1, 'x'), good),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(write(session_, "bytes", good), grpc::StatusCode::OK);
  EXPECT_EQ(write(session_, "bytes", good), grpc::StatusCode::OK);  // again
  const ScriptedWorker newer(*client_, "w", 1);
  EXPECT_EQ(write(newer.registered.session_id(), "bytes", good), grpc::StatusCode::OK);
}

}  // namespace
}  // namespace plumb::worker
