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

}  // namespace
}  // namespace plumb::worker
