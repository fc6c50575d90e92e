// Lines of the command socket, in this process, with the no-op engine.
#include "trainer/protocol/commands.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/protocol/temp_dir.h"
#include "trainer/protocol/journal_sink.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using testing::TempDir;

class CommandsTest : public ::testing::Test {
 protected:
  json Say(const std::string& line) { return json::parse(commands_.Answer(line)); }
  std::vector<std::string> Events() {
    std::vector<std::string> names;
    JournalReader reader(dir_.path());
    for (const auto& e : reader.Read()) names.push_back(e.json["event"]);
    return names;
  }
  TempDir dir_;
  JournalWriter journal_{dir_.path()};
  JournalSink sink_{journal_};
  std::unique_ptr<Engine> engine_ = MakeNoopEngine(sink_);
  Commands commands_{journal_, sink_, *engine_};
};

const char kOpen[] =
    R"({"n":1,"command":"open","bundle":"b","capacity":2,"data_dir":"","threads":1})";

TEST_F(CommandsTest, NumbersThatAreNoIntegersAreRefused) {
  for (const std::string n : {"1e300", "true", "1.5", "18446744073709551615", "\"1\"", "null"}) {
    const json answer =
        Say(R"({"n":)" + n +
            R"(,"command":"open","bundle":"b","capacity":1,"data_dir":"","threads":1})");
    EXPECT_EQ(answer["ok"], false) << n;
    EXPECT_THAT(answer["error"].get<std::string>(), ::testing::HasSubstr("n: an integer")) << n;
    EXPECT_EQ(Say(R"({"n":1,"command":"open","bundle":"b","capacity":)" + n +
                  R"(,"data_dir":"","threads":1})")["ok"],
              false)
        << n;
  }
  EXPECT_EQ(Say(R"({"command":"hello"})")["last_n"], 0);
  EXPECT_TRUE(Events().empty());
}

// Copying and writing such a value takes stack for every level.
TEST_F(CommandsTest, DeepLinesAreRefused) {
  const std::string deep = std::string(2'000'000, '[') + std::string(2'000'000, ']');
  EXPECT_EQ(Say(R"({"command":"hello","n":)" + deep + "}")["ok"], false);
  Say(kOpen);
  EXPECT_EQ(Say(R"({"n":2,"command":"add_row","row":"1.1.1","kind":"pretrain","config":)" + deep +
                "}")["ok"],
            false);
}

TEST_F(CommandsTest, LiveRowIsNotAddedAgain) {
  Say(kOpen);
  EXPECT_TRUE(Say(
      R"({"n":2,"command":"add_row","row":"1.1.1","kind":"noop","stage":{"seconds":60}})")["ok"]);
  EXPECT_FALSE(Say(R"({"n":3,"command":"add_row","row":"1.1.1","kind":"noop"})")["ok"]);
  // Nor is it ended by a config that another one of its name came with.
  EXPECT_FALSE(Say(
      R"({"n":3,"command":"add_row","row":"1.1.1","kind":"pretrain","config":{"modle":1}})")["ok"]);
  EXPECT_THAT(Events(), ::testing::ElementsAre("opened", "row_started"));
  EXPECT_EQ(Say(R"({"command":"hello"})")["last_n"], 2);
}

}  // namespace
}  // namespace plumb::trainer
