// Copies of the database, its chain of events, and where it may lie.
#include "store/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/event_chain.h"
#include "store/migrations.h"
#include "store/store.h"

namespace plumb::store {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class BackupTest : public ::testing::Test {
 protected:
  BackupTest() {
    std::string pattern = (fs::temp_directory_path() / "plumb-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    path_ = dir_ + "/plumb.db";
  }
  ~BackupTest() override {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  std::unique_ptr<Store> Open() {
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path_, 1);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static absl::Status Say(Store& store, const std::string& detail, absl::Duration at) {
    return store.Commit(
        at, std::vector<Change>{AppendEvent{{.time_us = 5, .kind = "said", .detail = detail}}});
  }
  // As somebody with another program would.
  void ByHand(const std::string& sql) {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kReadWrite);
    ASSERT_TRUE(db->Execute("DROP TRIGGER IF EXISTS event_is_never_updated; DROP TRIGGER IF EXISTS "
                            "event_is_never_deleted;")
                    .ok());
    const absl::Status s = db->Execute(sql);
    ASSERT_TRUE(s.ok()) << s;
  }
  absl::Status Chain() {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kReadOnly);
    return CheckEventChain(*db);
  }
  std::string dir_, path_;
};

TEST_F(BackupTest, EventsAreAChainThatGoesOnOverRestartsAndFailedCommits) {
  for (int i = 0; i < 3; ++i) {
    const auto store = Open();
    ASSERT_TRUE(Say(*store, absl::StrCat("a", i), absl::Seconds(i)).ok());
    // What is rolled back leaves no gap.
    EXPECT_FALSE(
        store
            ->Commit(absl::Seconds(i), std::vector<Change>{AppendEvent{{.kind = "lost"}},
                                                           InsertStage{{.id = StageId{1}}}})
            .ok());
    ASSERT_TRUE(Say(*store, absl::StrCat("b", i), absl::Seconds(i)).ok());
  }
  EXPECT_TRUE(Chain().ok()) << Chain();
  absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kReadOnly);
  EXPECT_EQ(ReadEventHead(*db)->id, 6);
}

TEST_F(BackupTest, EventHashIsSha256OverTheHashBeforeAndTheColumns) {
  // printf 'before\0007\0005\000said\0001\0002\0003\0004\0006\000text\000' | sha256sum
  EXPECT_EQ(EventHash("before", 7,
                      {.time_us = 5,
                       .kind = "said",
                       .sweep = SweepId{1},
                       .trial = TrialId{2},
                       .stage = StageId{3},
                       .attempt = 4,
                       .worker = WorkerId{6},
                       .detail = "text"}),
            "70a8995bb9c97ca9f56fd62941e9440e9b649341b5227da83a8c7d6bdb830e2f");
}

TEST_F(BackupTest, AChangedARemovedAndACutOffEventAreFound) {
  for (const auto& [sql, found] : std::vector<std::pair<std::string, std::string>>{
           {"UPDATE event SET detail = 'other' WHERE id = 2", "event 2 is not as it was written"},
           {"DELETE FROM event WHERE id = 2", "after event 1 comes event 3"},
           {"DELETE FROM event WHERE id = 4", "ends at event 3, the last one written was 4"},
           {"INSERT INTO event (id, time_us, kind, detail, hash) VALUES (5, 1, 'x', '', '')",
            "event 5 is not as it was written"}}) {
    {
      const auto store = Open();
      for (int i = 0; i < 4; ++i)
        ASSERT_TRUE(Say(*store, absl::StrCat("e", i), absl::Seconds(1)).ok());
    }
    ASSERT_TRUE(Chain().ok());
    ByHand(sql);
    EXPECT_THAT(std::string(Chain().message()), HasSubstr(found)) << sql;
    EXPECT_THAT(Check(path_)->damage, SizeIs(1));
    for (const char* suffix : {"", "-wal", "-shm", ".mark", ".incarnation"})
      fs::remove(path_ + suffix);
  }
}

TEST_F(BackupTest, EventsAreNeitherUpdatedNorDeletedByWhoeverWrites) {
  const auto store = Open();
  ASSERT_TRUE(Say(*store, "e", absl::Seconds(1)).ok());
  for (const char* sql : {"UPDATE event SET detail = ''", "DELETE FROM event"}) {
    const absl::Status s = store->database().Execute(sql);
    EXPECT_THAT(std::string(s.message()), HasSubstr("append-only"));
  }
}

TEST_F(BackupTest, OldEventsAreChainedByTheMigrationInTheirOrder) {
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(db->Execute(Migrations()[i]).ok());
    ASSERT_TRUE(
        db->Execute(absl::StrCat(
                        "PRAGMA application_id = ", kApplicationId,
                        "; PRAGMA user_version = 4; INSERT INTO cluster (id, incarnation, starts, "
                        "cluster_time_us, create_time_us, uid) VALUES (1, 1, 1, 0, 0, 'u');"
                        "INSERT INTO event (id, time_us, kind, detail) VALUES (3, 1, 'old', 'a'), "
                        "(7, 2, 'old', 'b');"))
            .ok());
  }
  absl::StatusOr<std::string> copy = MigrateWithBackup(path_, 1);
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(*copy, path_ + ".schema-4");
  EXPECT_EQ(Check(*copy)->schema, 4);
  const absl::StatusOr<Report> report = Check(path_);
  EXPECT_EQ(report->schema, report->newest_schema);
  EXPECT_TRUE(report->damage.empty());
  const auto store = Open();
  ASSERT_TRUE(Say(*store, "new", absl::Seconds(1)).ok());
  EXPECT_TRUE(Chain().ok()) << Chain();
  EXPECT_EQ(*MigrateWithBackup(path_ + "2", 1).status().message().data(),
            'n');  // no database there
}

TEST_F(BackupTest, ACopyIsTakenWhileTheServerWritesAndIsOneMomentOfIt) {
  const auto store = Open();
  ASSERT_TRUE(Say(*store, "first", absl::Seconds(1)).ok());
  std::atomic<bool> stop = false;
  std::atomic<int> said = 1;
  std::thread writer([&] {
    while (!stop) {
      if (Say(*store, std::string(2000, 'x'), absl::Seconds(1)).ok()) ++said;
    }
  });
  for (int i = 0; i < 5; ++i) {
    while (said < 20 * (i + 1)) std::this_thread::yield();
    const std::string dest = absl::StrCat(dir_, "/copy", i, ".db");
    const absl::StatusOr<Copied> copied = Backup(path_, dest);
    ASSERT_TRUE(copied.ok()) << copied.status();
    EXPECT_TRUE(Check(dest)->damage.empty());
    std::ifstream sums(dest + ".sha256");
    std::string digest, name;
    sums >> digest >> name;
    EXPECT_EQ(digest, copied->sha256);
    EXPECT_EQ(name, absl::StrCat("copy", i, ".db"));
    EXPECT_FALSE(fs::exists(dest + "-wal"));
  }
  stop = true;
  writer.join();
  EXPECT_EQ(Backup(path_, dir_ + "/copy0.db").status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Backup(dir_ + "/no.db", dir_ + "/x.db").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(BackupTest, WhatIsPutBackIsANewIncarnationAndWhatWasThereIsKept) {
  const std::string copy = dir_ + "/copy.db";
  {
    const auto store = Open();
    ASSERT_TRUE(Say(*store, "before", absl::Seconds(1)).ok());
    ASSERT_TRUE(Backup(path_, copy).ok());
    ASSERT_TRUE(Say(*store, "after", absl::Seconds(2)).ok());
    // Not under a server.
    EXPECT_THAT(std::string(Restore(copy, path_, 1).status().message()),
                HasSubstr("another server has this database open"));
  }
  const absl::StatusOr<std::string> kept = Restore(copy, path_, 1'000'000);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_THAT(*kept, HasSubstr("plumb.db.replaced-19700101-000001"));
  EXPECT_EQ(Check(*kept)->rows.at(8), (std::pair<std::string, int64_t>("event", 2)));
  const auto store = Open();
  EXPECT_GT(store->incarnation(), 1);
  EXPECT_TRUE(Chain().ok()) << Chain();
}

TEST_F(BackupTest, ACopyPutBackOnAnotherMachineIsANewIncarnationToo) {
  const std::string copy = dir_ + "/copy.db";
  {
    const auto store = Open();
    ASSERT_TRUE(Backup(path_, copy).ok());
  }
  path_ = dir_ + "/elsewhere.db";
  ASSERT_EQ(*Restore(copy, path_, 1), "");
  EXPECT_GT(Open()->incarnation(), 1);
}

TEST_F(BackupTest, ADamagedCopyIsRefusedAndNothingIsChanged) {
  const std::string copy = dir_ + "/copy.db";
  {
    const auto store = Open();
    for (int i = 0; i < 50; ++i)
      ASSERT_TRUE(Say(*store, std::string(500, 'x'), absl::Seconds(1)).ok());
    ASSERT_TRUE(Backup(path_, copy).ok());
  }
  {
    std::fstream file(copy, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(5000);
    file.put('!');
  }
  EXPECT_THAT(std::string(Restore(copy, path_, 1).status().message()), HasSubstr("is not what"));
  fs::remove(copy + ".sha256");
  {
    std::fstream file(copy, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 * 3);
    file << std::string(4096 * 4, '\xff');
  }
  EXPECT_THAT(std::string(Restore(copy, path_, 1).status().message()), HasSubstr("is damaged"));
  EXPECT_EQ(Open()->incarnation(), 1);
}

TEST_F(BackupTest, OldSnapshotsGoAndOtherFilesStay) {
  const auto touch = [&](const std::string& name) { std::ofstream(dir_ + "/" + name) << "x"; };
  for (int i = 0; i < 5; ++i) {
    const std::string name = SnapshotName(absl::FromUnixSeconds(1'000'000 + i));
    touch(name);
    touch(name + ".sha256");
  }
  // Half a copy of a server that was killed two days ago, and one that is being made.
  const std::string dead = SnapshotName(absl::FromUnixSeconds(900'000)) + ".partial";
  const std::string made = SnapshotName(absl::FromUnixSeconds(1'000'009)) + ".partial";
  touch(dead);
  touch(made);
  std::filesystem::last_write_time(
      dir_ + "/" + dead, std::filesystem::file_time_type::clock::now() - std::chrono::hours(48));
  touch("mine.db");
  ASSERT_TRUE(PruneSnapshots(dir_, 2).ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/" + dead));
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/" + made));
  EXPECT_FALSE(fs::exists(dir_ + "/" + SnapshotName(absl::FromUnixSeconds(1'000'002))));
  EXPECT_TRUE(fs::exists(dir_ + "/" + SnapshotName(absl::FromUnixSeconds(1'000'003)) + ".sha256"));
  EXPECT_TRUE(fs::exists(dir_ + "/mine.db"));
}

TEST(LockTest, NetworkFileSystemsAreKnownByTheirNumbers) {
  EXPECT_STREQ(NetworkFileSystem(0x6969), "nfs");
  EXPECT_STREQ(NetworkFileSystem(0xff534d42), "smb");
  EXPECT_EQ(NetworkFileSystem(0xef53), nullptr);      // ext4
  EXPECT_EQ(NetworkFileSystem(0x01021994), nullptr);  // tmpfs
  EXPECT_TRUE(MustBeLocal("/tmp/plumb.db").ok());
}

}  // namespace
}  // namespace plumb::store
