#include "trainer/protocol/journal.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "tests/protocol/temp_dir.h"
#include "trainer/protocol/journal_sink.h"

namespace plumb::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempDir;

std::vector<int64_t> Seqs(const std::vector<JournalEvent>& events) {
  std::vector<int64_t> seqs;
  for (const JournalEvent& e : events) seqs.push_back(e.seq);
  return seqs;
}

void AppendText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::app) << text;
}

TEST(Journal, NumbersEventsFromOneAndReadsThemBack) {
  TempDir dir;
  JournalWriter writer(dir.path());
  EXPECT_EQ(writer.Append({{"event", "a"}}), 1);
  EXPECT_EQ(writer.Append({{"event", "b"}}), 2);
  JournalReader reader(dir.path());
  const auto events = reader.Read();
  ASSERT_THAT(Seqs(events), ElementsAre(1, 2));
  EXPECT_EQ(events[1].json["event"], "b");
  EXPECT_THAT(reader.Read(), IsEmpty());
  writer.Append({{"event", "c"}});
  EXPECT_THAT(Seqs(reader.Read()), ElementsAre(3));
}

TEST(Journal, TornLineIsIgnoredByReadersAndCutOffByTheNextWriter) {
  TempDir dir;
  JournalWriter(dir.path()).Append({{"event", "a"}});
  AppendText(dir / "00000001.jsonl", R"({"seq":2,"event":"to)");
  JournalReader reader(dir.path());
  EXPECT_THAT(Seqs(reader.Read()), ElementsAre(1));
  JournalWriter writer(dir.path());
  EXPECT_EQ(writer.Append({{"event", "b"}}), 2);
  const auto events = reader.Read();
  ASSERT_THAT(Seqs(events), ElementsAre(2));
  EXPECT_EQ(events[0].json["event"], "b");
}

TEST(Journal, ContinuesNumbersAcrossSegmentsAndWriters) {
  TempDir dir;
  for (int round = 0; round < 3; ++round) {
    JournalWriter writer(dir.path(), 100);
    for (int i = 0; i < 4; ++i) writer.Append({{"event", "e"}, {"text", std::string(40, 'x')}});
  }
  EXPECT_GT(JournalSegments(dir.path()).size(), 2u);
  JournalReader reader(dir.path());
  EXPECT_THAT(Seqs(reader.Read()), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
}

TEST(Journal, ReadsOnFromAnyPositionHoweverSmallTheBudget) {
  TempDir dir;
  JournalWriter writer(dir.path(), 200);
  for (int i = 0; i < 20; ++i) writer.Append({{"event", "e"}, {"text", std::string(50, 'x')}});
  std::vector<int64_t> seqs;
  JournalPosition position;
  for (;;) {
    JournalReader reader(dir.path(), position);
    const auto events = reader.Read(10);
    if (events.empty()) break;
    for (int64_t seq : Seqs(events)) seqs.push_back(seq);
    position = events.back().end;
  }
  ASSERT_EQ(seqs.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(seqs[i], i + 1);
}

TEST(Journal, TrimmedSegmentsAreGoneAndTheNumberingIsNot) {
  TempDir dir;
  {
    JournalWriter writer(dir.path(), 60);
    for (int i = 0; i < 5; ++i) writer.Append({{"event", "e"}, {"text", std::string(60, 'x')}});
  }
  JournalReader reader(dir.path());
  reader.Read();
  TrimJournal(dir.path(), reader.position());
  EXPECT_THAT(JournalSegments(dir.path()), ElementsAre(5));
  EXPECT_EQ(JournalWriter(dir.path()).last_seq(), 5);
}

TEST(Journal, SegmentWithoutACompleteLineDoesNotLetTheOneBeforeItGo) {
  TempDir dir;
  JournalWriter(dir.path()).Append({{"event", "e"}});
  AppendText(dir / "00000002.jsonl", "{\"seq\":");
  TrimJournal(dir.path(), {2, 0});
  EXPECT_THAT(JournalSegments(dir.path()), ElementsAre(1, 2));
  EXPECT_EQ(JournalWriter(dir.path()).last_seq(), 1);
}

TEST(Journal, LinesWithANumberThatIsNoneAreSkippedByReadersAndWriters) {
  TempDir dir;
  JournalWriter(dir.path()).Append({{"event", "e"}});
  for (const char* seq :
       {"\"7\"", "1e300", "null", "[2]", "-5", "9223372036854775807", "18446744073709551615"})
    AppendText(dir / "00000001.jsonl",
               std::string(R"({"seq":)") + seq + R"(,"event":"no"})" + "\n");
  EXPECT_EQ(JournalWriter(dir.path()).Append({{"event", "f"}}), 2);
  JournalReader reader(dir.path());
  EXPECT_THAT(Seqs(reader.Read()), ElementsAre(1, 2));
}

TEST(Journal, ReaderWhoseSegmentWasDeletedGoesOnWithTheNext) {
  TempDir dir;
  JournalWriter writer(dir.path(), 10);
  for (int i = 0; i < 3; ++i) writer.Append({{"event", "e"}});
  JournalReader reader(dir.path(), {1, 0});
  std::filesystem::remove(dir / "00000001.jsonl");
  EXPECT_THAT(Seqs(reader.Read()), ElementsAre(2, 3));
}

TEST(Journal, BadUtf8DoesNotStopTheJournal) {
  TempDir dir;
  JournalWriter writer(dir.path());
  writer.Append({{"event", "row_ended"}, {"cause", "\xff\xfe"}});
  JournalReader reader(dir.path());
  EXPECT_THAT(Seqs(reader.Read()), ElementsAre(1));
}

TEST(JournalSink, KeepsNonFiniteValuesAndSplitsManyDocuments) {
  TempDir dir;
  JournalWriter writer(dir.path());
  JournalSink sink(writer);
  sink.Points("r", 3,
              {{.name = "a", .value = std::nan("")},
               {.name = "b", .value = -INFINITY},
               {.name = "c", .value = 0.1}});
  sink.Documents("r", "val", std::vector<DocumentScore>(4500));
  JournalReader reader(dir.path());
  const auto events = reader.Read();
  ASSERT_EQ(events.size(), 4u);
  const auto& values = events[0].json["values"];
  EXPECT_TRUE(std::isnan(NumberFromJson(values[0][3])));
  EXPECT_EQ(NumberFromJson(values[1][3]), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(NumberFromJson(values[2][3]), 0.1);
  EXPECT_EQ(events[3].json["scores"].size(), 500u);
}

}  // namespace
}  // namespace plumb::trainer
