#include "trainer/checkpoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/trainer/specs.h"
#include "trainer/files/checkpoint_folder.h"
#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : arena(spec::LayoutOf(Tiny("llama").model), 2, at::kCPU) {
    arena.InitRow(0, 1);
    arena.m().normal_();
    arena.v().uniform_();
  }
  CheckpointRef Save(int64_t step, double smoothed = 2.5) {
    const SavedCheckpoint s = SaveCheckpoint(
        dir / "ck", arena, 0,
        {.step = step, .first_loss = 5.1, .smoothed_loss = smoothed, .wall_seconds = 1.0 / 3},
        "{}");
    EXPECT_GT(s.bytes, 0);
    return {s.path, s.digest, step, true};
  }
  std::vector<std::string> Folders() const {
    std::vector<std::string> out;
    for (const auto& e : fs::directory_iterator(dir / "ck")) out.push_back(e.path().filename());
    return out;
  }
  TempDir dir;
  Arena arena;
};

TEST_F(CheckpointTest, AnotherRowReadsTheSameBits) {
  const CheckpointRef ref = Save(7, std::nan(""));
  const RowProgress p = LoadCheckpoint(ref, arena, 1);
  EXPECT_EQ(p.step, 7);
  EXPECT_EQ(p.wall_seconds, 1.0 / 3);
  EXPECT_TRUE(std::isnan(p.smoothed_loss));
  for (const at::Tensor& t : {arena.weights(), arena.m(), arena.v()}) {
    for (const spec::Parameter& q : arena.layout().parameters)
      EXPECT_TRUE(at::equal(Slice(t, q, 0, 1), Slice(t, q, 1, 1))) << q.name;
  }
}

TEST_F(CheckpointTest, AParentsCheckpointGivesItsWeightsOnly) {
  CheckpointRef ref = Save(7);
  ref.resume = false;
  EXPECT_EQ(LoadCheckpoint(ref, arena, 1), RowProgress{});
  EXPECT_EQ(arena.m().select(0, 1).abs().sum().item<double>(), 0);
  EXPECT_TRUE(at::equal(arena.View(0, 1).at("embed.weight"), arena.View(1, 1).at("embed.weight")));
}

TEST_F(CheckpointTest, WeightsAloneCanBeStartedFromButNotResumed) {
  CheckpointContent content;
  const at::Tensor row = arena.weights().select(0, 0).contiguous();
  for (const spec::Parameter& p : arena.layout().parameters)
    content.weights[p.name] = {p.shape, row.data_ptr<float>() + p.offset};
  content.manifest_json = "{}";
  const std::string path = WriteCheckpointFolder(dir / "imported", content);
  EXPECT_EQ(LoadCheckpoint({path, "", 0, false}, arena, 1), RowProgress{});
  EXPECT_TRUE(at::equal(arena.View(0, 1).at("embed.weight"), arena.View(1, 1).at("embed.weight")));
  EXPECT_THAT(
      [&] {
        LoadCheckpoint({path, "", 0, true}, arena, 1);
      },
      testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr("not be resumed")));
}

// A database put back gives a stage's number, and with it its folder, to another trial.
TEST_F(CheckpointTest, AnotherTrialsCheckpointInItsFolderIsReplacedItsOwnIsKept) {
  CheckpointContent content;
  const std::vector<float> one = {1, 2}, other = {3, 4};
  content.step = 5;
  content.manifest_json = R"({"config": {"train": {"lr": 1}}, "progress": {"wall_seconds": 1}})";
  content.weights["w"] = {{2}, one.data()};
  const std::string path = WriteCheckpointFolder(dir / "shared", content);
  const std::string digest = spec::Sha256HexOfFile(path + "/manifest.json");
  content.manifest_json = R"({"config": {"train": {"lr": 1}}, "progress": {"wall_seconds": 2}})";
  EXPECT_EQ(WriteCheckpointFolder(dir / "shared", content), path);
  EXPECT_EQ(spec::Sha256HexOfFile(path + "/manifest.json"), digest);  // as it was told of
  content.manifest_json = R"({"config": {"train": {"lr": 2}}, "progress": {"wall_seconds": 2}})";
  content.weights["w"] = {{2}, other.data()};
  EXPECT_EQ(WriteCheckpointFolder(dir / "shared", content), path);
  EXPECT_NE(spec::Sha256HexOfFile(path + "/manifest.json"), digest);
  EXPECT_TRUE(IsIntact(path));
}

TEST_F(CheckpointTest, TheLastTwoAreKept) {
  for (int64_t step : {1, 2, 3, 4}) Save(step);
  EXPECT_THAT(Folders(), testing::UnorderedElementsAre("step-000000000003", "step-000000000004"));
}

TEST_F(CheckpointTest, WhatACrashLeftIsNoCheckpointAndIsSweptAway) {
  const CheckpointRef ref = Save(1);
  fs::create_directories(dir / "ck/step-000000000002.tmp-99");
  fs::create_directories(dir / "ck/step-000000000003");  // renamed, but the marker never came
  EXPECT_THROW(LoadCheckpoint({dir / "ck/step-000000000003", "", 3, true}, arena, 1),
               std::runtime_error);
  Save(4);
  EXPECT_THAT(Folders(), testing::UnorderedElementsAre("step-000000000001", "step-000000000004"));
}

TEST_F(CheckpointTest, DamageIsRefusedAndNamed) {
  const CheckpointRef ref = Save(1);
  EXPECT_THROW(LoadCheckpoint({ref.path, std::string(64, '0'), 1, true}, arena, 1),
               std::runtime_error);  // another manifest
  for (const char* file : {"weights.safetensors", "optimizer.safetensors"}) {
    const std::string path = ref.path + "/" + file;
    std::fstream f(path, std::ios::binary | std::ios::in | std::ios::out);
    f.seekg(-5, std::ios::end);
    const char old = static_cast<char>(f.get());
    f.seekp(-5, std::ios::end);
    f.put(static_cast<char>(old ^ 1));
    f.flush();
    EXPECT_THAT([&] { LoadCheckpoint(ref, arena, 1); },
                testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr(file)));
    f.seekp(-5, std::ios::end);
    f.put(old);
    f.flush();
    EXPECT_NO_THROW(LoadCheckpoint(ref, arena, 1));
  }
}

TEST_F(CheckpointTest, AnotherModelsCheckpointIsRefused) {
  const CheckpointRef ref = Save(1);
  Arena other(spec::LayoutOf(Tiny("gpt2").model), 1, at::kCPU);
  EXPECT_THROW(LoadCheckpoint(ref, other, 0), std::runtime_error);
}

}  // namespace
}  // namespace plumb::trainer
