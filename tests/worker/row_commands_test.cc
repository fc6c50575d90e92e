#include "worker/row_commands.h"

#include <gmock/gmock.h>

namespace plumb::worker {
namespace {

using ::testing::HasSubstr;

TEST(RowCommands, StageThatNeedsAModelIsRefusedWithoutOne) {
  v1::Assignment a;
  for (const char* kind : {"probe", "painters", "finetune", "evaluate"}) {
    a.set_kind(kind);
    const auto commands = CommandsFor(a, "1.2.1", "", "/none", "/tmp/c");
    EXPECT_EQ(commands.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(commands.status().message()), HasSubstr("left no checkpoint"));
  }
}

TEST(RowCommands, NoopGoesIntoTheSharedBundleWithItsSettings) {
  v1::Assignment a;
  a.set_kind("noop");
  a.set_stage_json(R"({"records": 2})");
  const auto commands = CommandsFor(a, "1.2.1", "", "/none", "/tmp/c");
  ASSERT_TRUE(commands.ok()) << commands.status();
  ASSERT_EQ(commands->commands.size(), 2u);
  EXPECT_EQ(commands->commands[1]["stage"], nlohmann::json({{"records", 2}}));
  EXPECT_TRUE(commands->commands[1]["checkpoint"].is_null());
}

TEST(RowCommands, RowsOfABundleOpenItOnceForAllOfThem) {
  v1::Assignment a;
  a.set_kind("noop");
  a.set_incarnation(3);
  a.set_bundle(17);
  a.set_bundle_rows(4);
  auto first = CommandsFor(a, "3.2.1", "noop", "/none", "/tmp/c");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->bundle, "b3.17");
  ASSERT_EQ(first->commands.size(), 3u);  // closes the other one first
  EXPECT_EQ(first->commands[1]["capacity"], 4);
  auto second = CommandsFor(a, "3.5.1", first->bundle, "/none", "/tmp/c");
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_EQ(second->commands.size(), 1u);
  EXPECT_EQ(second->commands[0]["command"], "add_row");
}

}  // namespace
}  // namespace plumb::worker
