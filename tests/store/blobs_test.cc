// Blobs: each digest is of bytes the test made, so every size, sum and survivor is known.
#include "store/blobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "trainer/spec/sha256.h"

namespace plumb::store {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BlobsTest : public ::testing::Test {
 protected:
  BlobsTest() {
    std::string pattern = (fs::temp_directory_path() / "plumb-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  ~BlobsTest() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  std::unique_ptr<Blobs> Open(int64_t quota = 1 << 30) {
    auto blobs = Blobs::Open(dir_ + "/blobs", {.quota_bytes = quota, .reserve_bytes = 0});
    EXPECT_TRUE(blobs.ok()) << blobs.status();
    return *std::move(blobs);
  }
  static std::string Put(Blobs& blobs, const std::string& bytes) {
    const std::string digest = spec::Sha256Hex(bytes);
    EXPECT_TRUE(blobs.Append(digest, 0, bytes).ok());
    EXPECT_TRUE(blobs.Finish(digest, static_cast<int64_t>(bytes.size())).ok());
    return digest;
  }
  std::string PathOf(const std::string& digest) const {
    return dir_ + "/blobs/" + digest.substr(0, 2) + "/" + digest;
  }
  static void MakeOld(const std::string& path, int64_t seconds) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
  }

  std::string dir_;
};

std::string Bytes(int64_t n, char first) {
  std::string out(static_cast<size_t>(n), first);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(first + i * i % 251);
  return out;
}

TEST_F(BlobsTest, WhatWasWrittenInPiecesIsReadInPieces) {
  auto blobs = Open();
  const std::string bytes = Bytes(1000, 'a'), digest = spec::Sha256Hex(bytes);
  for (int64_t at = 0; at < 1000; at += 300) {
    const auto end = blobs->Append(digest, at, bytes.substr(static_cast<size_t>(at), 300));
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, std::min<int64_t>(1000, at + 300));
  }
  EXPECT_FALSE(blobs->Stat(digest)->complete);
  EXPECT_EQ(blobs->Read(digest, 0, 1).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(blobs->Finish(digest, 1000).ok());
  EXPECT_TRUE(blobs->Stat(digest)->complete);
  EXPECT_EQ(*blobs->Read(digest, 0, 400) + *blobs->Read(digest, 400, 5000), bytes);
  EXPECT_EQ(*blobs->Read(digest, 1000, 5), "");
  EXPECT_TRUE(blobs->Finish(digest, 1000).ok());      // again
  EXPECT_EQ(*blobs->Append(digest, 0, bytes), 1000);  // there already: nothing to do
  EXPECT_EQ(blobs->bytes(), 1000);
}

TEST_F(BlobsTest, AnEmptyBlobIsABlob) {
  auto blobs = Open();
  EXPECT_EQ(*blobs->Read(Put(*blobs, ""), 0, 10), "");
}

TEST_F(BlobsTest, AWrongOffsetIsToldTheRightOne) {
  auto blobs = Open();
  const std::string bytes = Bytes(100, 'b'), digest = spec::Sha256Hex(bytes);
  ASSERT_TRUE(blobs->Append(digest, 0, bytes.substr(0, 60)).ok());
  for (const int64_t wrong : {0, 59, 61, -1}) {
    const absl::Status s = blobs->Append(digest, wrong, "x").status();
    EXPECT_EQ(s.code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(s.message()), HasSubstr("goes on at byte 60"));
  }
  EXPECT_EQ(blobs->Finish(digest, 100).code(), absl::StatusCode::kOutOfRange);  // not all of it
  ASSERT_TRUE(blobs->Append(digest, 60, bytes.substr(60)).ok());
  EXPECT_TRUE(blobs->Finish(digest, 100).ok());
}

TEST_F(BlobsTest, AWriterThatIsKilledGoesOnWhereItsBytesEnd) {
  const std::string bytes = Bytes(4 << 20, 'c'), digest = spec::Sha256Hex(bytes);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto blobs = Open();
    for (size_t at = 0; at < bytes.size(); at += 4096) {
      if (!blobs->Append(digest, static_cast<int64_t>(at), bytes.substr(at, 4096)).ok()) _exit(1);
      if (at == 256 * 4096 && write(ready[1], "x", 1) != 1) _exit(1);
    }
    pause();
  }
  char c;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  auto blobs = Open();
  const int64_t there = blobs->Stat(digest)->bytes;
  EXPECT_GE(there, 257 * 4096);
  EXPECT_EQ(blobs->bytes(), there);
  ASSERT_TRUE(blobs->Append(digest, there, bytes.substr(static_cast<size_t>(there))).ok());
  ASSERT_TRUE(blobs->Finish(digest, 4 << 20).ok());
  EXPECT_EQ(*blobs->Read(digest, 0, 8 << 20), bytes);
}

TEST_F(BlobsTest, WhatIsNotWhatItsNameSaysIsRemoved) {
  auto blobs = Open();
  const std::string digest = spec::Sha256Hex("right");
  ASSERT_TRUE(blobs->Append(digest, 0, "wrong").ok());
  const absl::Status s = blobs->Finish(digest, 5);
  EXPECT_EQ(s.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(s.message()), HasSubstr(spec::Sha256Hex("wrong")));
  EXPECT_EQ(blobs->Stat(digest)->bytes, 0);
  EXPECT_EQ(blobs->bytes(), 0);
  EXPECT_EQ(Put(*blobs, "right"), digest);
}

TEST_F(BlobsTest, NamesAreDigestsAndNothingElse) {
  auto blobs = Open();
  const std::string good(64, 'a');
  for (const std::string& name :
       {std::string(), std::string("../../etc/passwd"), std::string(63, 'a'), std::string(65, 'a'),
        std::string(64, 'A'), std::string(64, 'g'), "../" + good.substr(3),
        good.substr(1) + std::string(1, '\0')}) {
    EXPECT_EQ(blobs->Stat(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(blobs->Append(name, 0, "x").status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(blobs->Finish(name, 1).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(blobs->Read(name, 0, 1).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(blobs->bytes(), 0);
}

TEST_F(BlobsTest, TheQuotaHoldsForPartialsTooAndRoomComesBack) {
  auto blobs = Open(100);
  const std::string first = Put(*blobs, Bytes(60, 'd'));
  const std::string second = Bytes(60, 'e'), digest = spec::Sha256Hex(second);
  ASSERT_TRUE(blobs->Append(digest, 0, second.substr(0, 40)).ok());  // to the byte
  EXPECT_EQ(blobs->Append(digest, 40, second.substr(40)).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Open(100)->bytes(), 100);  // counted again from the disk
  MakeOld(PathOf(first), 10);
  EXPECT_EQ(blobs->Collect({}, absl::Seconds(5))->bytes, 60);
  ASSERT_TRUE(blobs->Append(digest, 40, second.substr(40)).ok());
  EXPECT_TRUE(blobs->Finish(digest, 60).ok());
  EXPECT_EQ(blobs->bytes(), 60);
}

TEST_F(BlobsTest, TheDiskKeepsItsReserve) {
  auto blobs = *Blobs::Open(dir_ + "/blobs", {.reserve_bytes = int64_t{1} << 60});
  EXPECT_EQ(blobs->Append(std::string(64, 'a'), 0, "x").status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(BlobsTest, CollectKeepsWhatIsNeededAndWhatIsYoung) {
  auto blobs = Open();
  std::set<std::string> needed, garbage, young;
  for (int i = 0; i < 60; ++i) {
    const std::string digest = Put(*blobs, Bytes(10 + i, 'f'));
    (i % 3 == 0 ? needed : i % 3 == 1 ? garbage : young).insert(digest);
    if (i % 3 != 2) MakeOld(PathOf(digest), 3600);
  }
  const std::string part = std::string(64, 'a'), old_part = std::string(64, 'b');
  ASSERT_TRUE(blobs->Append(part, 0, "part").ok());
  ASSERT_TRUE(blobs->Append(old_part, 0, "part").ok());
  MakeOld(PathOf(part) + ".part", 3600);
  MakeOld(PathOf(old_part) + ".part", 25 * 3600);
  // One that was garbage is asked for: somebody is about to name it.
  const std::string asked = *garbage.begin();
  EXPECT_TRUE(blobs->Stat(asked)->complete);
  const auto removed = blobs->Collect(needed, absl::Minutes(10));
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_EQ(removed->blobs, 19 + 1);
  for (const auto* kept : {&needed, &young}) {
    for (const std::string& digest : *kept) EXPECT_TRUE(blobs->Stat(digest)->complete);
  }
  for (const std::string& digest : garbage)
    EXPECT_EQ(blobs->Stat(digest)->complete, digest == asked);
  EXPECT_EQ(blobs->Stat(part)->bytes, 4);
  EXPECT_EQ(blobs->Stat(old_part)->bytes, 0);
  EXPECT_EQ(Open()->bytes(), blobs->bytes());
}

TEST_F(BlobsTest, WritersOfOneDigestHelpEachOther) {
  auto blobs = Open();
  const std::string bytes = Bytes(1 << 20, 'g'), digest = spec::Sha256Hex(bytes);
  std::atomic<int64_t> written = 0;
  const auto writer = [&](size_t piece) {
    for (;;) {
      const auto have = blobs->Stat(digest);
      ASSERT_TRUE(have.ok());
      if (have->complete) return;
      const std::string next = bytes.substr(static_cast<size_t>(have->bytes), piece);
      if (next.empty()) {
        ASSERT_TRUE(blobs->Finish(digest, 1 << 20).ok());
        continue;
      }
      if (blobs->Append(digest, have->bytes, next).ok())
        written += static_cast<int64_t>(next.size());
    }
  };
  std::thread a(writer, 4096), b(writer, 5000), c(writer, 777);
  for (std::thread* t : {&a, &b, &c}) t->join();
  EXPECT_EQ(*blobs->Read(digest, 0, 2 << 20), bytes);
  EXPECT_EQ(blobs->bytes(), 1 << 20);
  EXPECT_GE(written, 1 << 20);
}

}  // namespace
}  // namespace plumb::store
