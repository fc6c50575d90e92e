#include "worker/row_commands.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "data/manifest_json.h"
#include "tests/data/texts.h"

namespace plumb::worker {
namespace {

using ::testing::HasSubstr;

TEST(RowCommands, StageThatNeedsAModelIsRefusedWithoutOne) {
  v1::Assignment a;
  for (const char* kind : {"probe", "painters", "finetune", "evaluate"}) {
    a.set_kind(kind);
    const auto commands = CommandsFor(a, "1.2.1", "", {"/none", "/none"}, "/tmp/c");
    EXPECT_EQ(commands.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(commands.status().message()), HasSubstr("left no checkpoint"));
  }
}

TEST(RowCommands, NoopGoesIntoTheSharedBundleWithItsSettings) {
  v1::Assignment a;
  a.set_kind("noop");
  a.set_stage_json(R"({"records": 2})");
  const auto commands = CommandsFor(a, "1.2.1", "", {"/none", "/none"}, "/tmp/c");
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
  auto first = CommandsFor(a, "3.2.1", "noop", {"/none", "/none"}, "/tmp/c");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->bundle, "b3.17");
  ASSERT_EQ(first->commands.size(), 3u);  // closes the other one first
  EXPECT_EQ(first->commands[1]["capacity"], 4);
  auto second = CommandsFor(a, "3.5.1", first->bundle, {"/none", "/none"}, "/tmp/c");
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_EQ(second->commands.size(), 1u);
  EXPECT_EQ(second->commands[0]["command"], "add_row");
}

TEST(RowCommands, ATrainingBeginsWithWhatItsConfigNamesWhereNothingElseIsNamed) {
  v1::Assignment a;
  a.set_kind("pretrain");
  a.set_config_json(
      R"({"train": {"steps": 9}, "init": {"checkpoint": "/c/step-9", "digest": "d"}})");
  v1::Assignment resumed = a, probe = a, fork = a;
  fork.set_config_json(
      R"({"train": {"steps": 9}, "init": {"checkpoint": "/c/step-5", "digest": "d", "step": 5}})");
  BeginWith(&fork);
  EXPECT_EQ(fork.checkpoint_step(), 5);  // where a copy of it is named after
  EXPECT_FALSE(fork.resume());
  BeginWith(&a);
  EXPECT_EQ(a.checkpoint_step(), 0);
  EXPECT_EQ(a.checkpoint_path(), "/c/step-9");
  EXPECT_EQ(a.checkpoint_digest(), "d");
  EXPECT_FALSE(a.resume());
  resumed.set_checkpoint_path("/own/step-4");
  resumed.set_resume(true);
  BeginWith(&resumed);
  EXPECT_EQ(resumed.checkpoint_path(), "/own/step-4");
  EXPECT_TRUE(resumed.resume());
  probe.set_kind("probe");
  BeginWith(&probe);
  EXPECT_EQ(probe.checkpoint_path(), "");
}

// What FindCorpus reads of a corpus: its manifest.
void WriteManifest(const std::string& dir, const std::string& digest) {
  std::filesystem::create_directories(dir);
  data::Manifest m;
  m.corpus = "mine";
  m.vocab_size = 256;
  m.tokenizer = "bytes";
  m.digest = digest;
  std::ofstream(dir + "/manifest.json") << data::ManifestJson(m);
}

TEST(RowCommands, ACorpusIsThePreparedOneOfItsDigestOrTheOneFetched) {
  const data::TempDir dir;
  const CorpusRoots roots{.prepared = dir / "data", .fetched = dir / "corpora"};
  const CorpusName corpus{"mine", "bytes", std::string(64, 'a')};
  EXPECT_THAT(std::string(FindCorpus(corpus, roots).status().message()), HasSubstr("mine"));
  WriteManifest(roots.prepared + "/mine/bytes", std::string(64, 'b'));
  EXPECT_THAT(std::string(FindCorpus(corpus, roots).status().message()),
              HasSubstr("bbbbbbbb"));  // says which it found
  WriteManifest(roots.prepared + "/mine/bytes", corpus.digest);
  EXPECT_EQ(FindCorpus(corpus, roots).value(), roots.prepared + "/mine/bytes");
  WriteManifest(roots.prepared + "/mine/bytes", std::string(64, 'b'));
  const std::string fetched = roots.fetched + "/" + corpus.digest;
  WriteManifest(fetched, corpus.digest);
  EXPECT_FALSE(FindCorpus(corpus, roots).ok()) << "not whole until it says so";
  std::ofstream(fetched + "/DONE") << corpus.digest;
  EXPECT_EQ(FindCorpus(corpus, roots).value(), fetched);
}

}  // namespace
}  // namespace plumb::worker
