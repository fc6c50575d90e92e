#include <gtest/gtest.h>

#include "data/shard_writer.h"
#include "tests/data/texts.h"

namespace plumb::data {
namespace {

class ShardTest : public testing::TestWithParam<int64_t> {};  // vocabulary

TEST_P(ShardTest, GivesBackWhatWasWritten) {
  TempDir dir;
  const int64_t last = GetParam() - 1;
  const std::vector<std::vector<int64_t>> documents = {{5, 6, last}, {}, {9}};
  ShardWriter writer(dir.path(), Split::kVal, GetParam());
  for (const auto& d : documents) writer.Add(1, d, 10 + static_cast<int64_t>(d.size()), 7);
  const SplitInfo info = writer.Finish();
  EXPECT_EQ(info.tokens, 7);
  EXPECT_EQ(info.documents, 3);
  EXPECT_EQ(info.bytes, 34);
  EXPECT_EQ(info.characters, 21);

  const Shard shard = Shard::Open(dir / "val.bin");
  ASSERT_EQ(shard.tokens(), 7);
  ASSERT_EQ(shard.documents(), 3);
  int64_t tokens[7];
  shard.Copy(0, 7, tokens);
  EXPECT_EQ(std::vector<int64_t>(tokens, tokens + 7),
            (std::vector<int64_t>{1, 5, 6, last, 1, 1, 9}));
  EXPECT_EQ(shard.DocumentBegin(1), 4);
  EXPECT_EQ(shard.DocumentBegin(2), 5);
  EXPECT_EQ(shard.DocumentBegin(3), 7);
  EXPECT_EQ(shard.DocumentBytes(0), 13);
  EXPECT_EQ(shard.DocumentBytes(1), 10);
  const std::vector<int64_t> document_of = {0, 0, 0, 0, 1, 2, 2};
  for (int64_t t = 0; t < 7; ++t) EXPECT_EQ(shard.DocumentOf(t), document_of[t]) << t;
}

TEST_P(ShardTest, IsRefusedTruncatedAtEveryLength) {
  TempDir dir;
  ShardWriter writer(dir.path(), Split::kVal, GetParam());
  writer.Add(1, {2, 3}, 2, 2);
  writer.Add(1, {4}, 1, 1);
  writer.Finish();
  const std::string bin = Read(dir / "val.bin"), docs = Read(dir / "val.docs");
  for (size_t size = bin.size(); size-- > 0;) {
    std::filesystem::resize_file(dir / "val.bin", size);
    EXPECT_THROW(Shard::Open(dir / "val.bin"), DataError) << "val.bin of " << size << " bytes";
  }
  Write(dir / "val.bin", bin);
  for (size_t size = docs.size(); size-- > 0;) {
    std::filesystem::resize_file(dir / "val.docs", size);
    EXPECT_THROW(Shard::Open(dir / "val.bin"), DataError) << "val.docs of " << size << " bytes";
  }
  Write(dir / "val.docs", docs);
  EXPECT_NO_THROW(Shard::Open(dir / "val.bin"));
  Write(dir / "val.bin", bin + "x");
  EXPECT_THROW(Shard::Open(dir / "val.bin"), DataError);
}

INSTANTIATE_TEST_SUITE_P(BothWidths, ShardTest, testing::Values(256, 65536, 65537));

TEST(Shard, ReadsOutsideItThrow) {
  TempDir dir;
  ShardWriter writer(dir.path(), Split::kVal, 256);
  writer.Add(0, {1, 2}, 2, 2);
  writer.Finish();
  const Shard shard = Shard::Open(dir / "val.bin");
  int64_t out[4];
  EXPECT_THROW(shard.Copy(2, 2, out), DataError);
  EXPECT_THROW(shard.Copy(-1, 1, out), DataError);
  EXPECT_THROW(shard.Copy(1, INT64_MAX, out), DataError);
  EXPECT_THROW(shard.Token(3), DataError);
  EXPECT_THROW(shard.DocumentOf(3), DataError);
  EXPECT_THROW(shard.DocumentBytes(1), DataError);
}

TEST(Shard, TokensOutsideTheVocabularyAreNotWritten) {
  TempDir dir;
  ShardWriter writer(dir.path(), Split::kVal, 256);
  EXPECT_THROW(writer.Add(0, {256}, 1, 1), DataError);
  EXPECT_THROW(writer.Add(0, {-1}, 1, 1), DataError);
}

TEST(Shard, ReadsNanoGptsHeaderlessFileAsOneDocument) {
  TempDir dir;
  Write(dir / "val.bin", std::string("\x01\x00\x02\x01\xff\xff", 6));
  const Shard shard = Shard::Open(dir / "val.bin");
  ASSERT_EQ(shard.tokens(), 3);
  EXPECT_EQ(shard.Token(1), 0x102);
  EXPECT_EQ(shard.Token(2), 65535);
  EXPECT_EQ(shard.documents(), 1);
  EXPECT_EQ(shard.DocumentBegin(1), 3);
}

TEST(Shard, DocumentsOutOfOrderAreRefused) {
  TempDir dir;
  ShardWriter writer(dir.path(), Split::kVal, 256);
  writer.Add(0, {1, 2}, 2, 2);
  writer.Add(0, {3}, 1, 1);
  writer.Finish();
  std::string docs = Read(dir / "val.docs");
  for (const char begin : {0, 5, 9}) {  // the second begins at 3 of 5
    docs[8 + 16] = begin;
    Write(dir / "val.docs", docs);
    EXPECT_THROW(Shard::Open(dir / "val.bin"), DataError) << int{begin};
  }
}

}  // namespace
}  // namespace plumb::data
