// The two threads of the owner loop, asked by others at once. No gRPC: ThreadSanitizer sees all.
#include "coordinator/owner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "coordinator/snapshots.h"
#include "store/read.h"
#include "tests/protocol/temp_dir.h"

namespace plumb::coordinator {
namespace {

constexpr int kThreads = 4;
constexpr int kSweeps = 25;

std::unique_ptr<Owner> StartOwner(const std::string& path) {
  absl::StatusOr<std::unique_ptr<store::Store>> store = store::Store::Open(path, 1);
  EXPECT_TRUE(store.ok()) << store.status();
  absl::StatusOr<std::unique_ptr<Owner>> owner =
      Owner::Start(*std::move(store), {}, [](const core::Core::Cursor&) {});
  EXPECT_TRUE(owner.ok()) << owner.status();
  return *std::move(owner);
}

core::SubmitSweep Sweep(const std::string& request) {
  return {.sweep = {.name = "s", .request_id = request, .sweep_yaml = "sweep: s", .trials = 1}};
}

// While others submit, some register and hold polls, some read, and copies of the file are taken.
// The server stops in the middle of it: every call is answered once, and what was accepted is in
// the file.
TEST(Owner, EveryCallOfManyThreadsIsAnsweredOnceThoughItStopsMeanwhile) {
  const testing::TempDir dir;
  const std::string path = dir / "plumb.db";
  std::filesystem::create_directory(dir / "copies");
  std::atomic<int64_t> called = 0, answered = 0, accepted = 0;
  {
    const std::unique_ptr<Owner> owner = StartOwner(path);
    const Snapshots snapshots({.dir = dir / "copies", .every = absl::Milliseconds(20), .keep = 2},
                              path, &owner->metrics());
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kSweeps; ++i) {
          called += 4;
          owner->Post(Sweep(absl::StrCat(t, ".", i)), [&](absl::StatusOr<core::Answer> a) {
            accepted += a.ok();
            ++answered;
          });
          owner->Post(core::RegisterWorker{.worker = {.name = absl::StrCat("w", t), .slots = 1}},
                      [&, owner = owner.get()](absl::StatusOr<core::Answer> a) {
                        ++answered;
                        const auto* r = a.ok() ? std::get_if<core::Registered>(&*a) : nullptr;
                        if (r == nullptr) return;
                        ++called;
                        owner->Poll(r->session, 0, absl::Milliseconds(5),
                                    [&](absl::StatusOr<Owner::Desired>) { ++answered; });
                      });
          owner->Read([&](const core::Core& core,
                          core::Now now) { EXPECT_FALSE(ClusterExposition(core, now).empty()); },
                      [&](absl::Status) { ++answered; });
          owner->Poll(SessionId{1}, 0, absl::Milliseconds(1),
                      [&](absl::StatusOr<Owner::Desired>) { ++answered; });
          EXPECT_FALSE(owner->metrics().Exposition("", "v").empty());
          EXPECT_GE(owner->committed(), absl::ZeroDuration());
        }
      });
    }
    while (accepted < kThreads * kSweeps / 2) std::this_thread::yield();
    std::thread other([&] { owner->Stop(); });
    owner->Stop();
    other.join();
    for (std::thread& t : threads) t.join();
    EXPECT_TRUE(owner->fatal().ok()) << owner->fatal();
  }
  EXPECT_EQ(answered, called);
  absl::StatusOr<store::Reader> reader = store::Reader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(static_cast<int64_t>(reader->Sweeps(1000, 1000)->size()), accepted);
}

}  // namespace
}  // namespace plumb::coordinator
