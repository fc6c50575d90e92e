// Sweeps that are edited, shared and joined, by the real binary, with and without a server.
#include <gmock/gmock.h>
#include <signal.h>

#include <thread>

#include "tests/app/cli.h"

namespace plumb::app {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class EditCliTest : public CliFixture {
 protected:
  void TearDown() override {
    StopServer();
    CliFixture::TearDown();
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + "/" + name) << text;
  }
  void StartServer() {
    const std::string command = "cd '" + dir_ + "' || exit 1; '" PLUMB_BINARY_DIR "/bin/plumb'" +
                                " server --db r.db >server.log 2>&1 & echo $! >'" + dir_ + "/pid'";
    ASSERT_EQ(std::system(command.c_str()), 0);
    for (int i = 0; i < 600 && !std::filesystem::exists(db_ + ".address"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(std::filesystem::exists(db_ + ".address")) << Slurp(dir_ + "/server.log");
    pid_ = std::stoi(Slurp(dir_ + "/pid"));
  }
  void StopServer() {
    if (pid_ == 0) return;
    kill(pid_, SIGTERM);
    // Empty once it has ended, whoever waits for it.
    const std::string command_line = "/proc/" + std::to_string(pid_) + "/cmdline";
    for (int i = 0; i < 600 && !Slurp(command_line).empty(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(Slurp(command_line), "") << Slurp(dir_ + "/server.log");
    pid_ = 0;
  }
  json Json(const std::string& arguments) {
    const Ran r = Plumb(arguments + " -o json");
    EXPECT_EQ(r.code, 0) << arguments << ": " << r.err;
    return json::parse(r.out, nullptr, false);
  }
  static constexpr char kNoops[] =
      "sweep: n\nobjective: noop/value\n# how wide\naxes:\n  train.lr: [0.1, 0.2]   # rates\n"
      "replicates: 2\nstages: {run: {noop: {seconds: 0}}}\n";

  pid_t pid_ = 0;
};

TEST_F(EditCliTest, ASweepIsExtendedEditedForkedAndCompared) {
  StartServer();
  Write("n.yaml", kNoops);
  ASSERT_EQ(Plumb("sweep submit n.yaml --db r.db").code, 0);
  EXPECT_EQ(Json("sweep extend 1 --replicates 3 --dry-run --db r.db")["trials"], 2);
  EXPECT_EQ(Json("sweep extend 1 --replicates 3 --axis train.lr=0.3,0.4 --db r.db")["trials"], 8);
  EXPECT_EQ(Json("sweep show 1 --db r.db")["trials"], 12);
  EXPECT_THAT(Plumb("sweep show 1 --db r.db").out,
              HasSubstr("# how wide\naxes:\n  train.lr: [0.1, 0.2, 0.3, 0.4]\nreplicates: 3\n"));
  const Ran lost = Plumb("sweep extend 1 --replicates 1 --db r.db");
  EXPECT_EQ(lost.code, 2);
  EXPECT_THAT(lost.err, HasSubstr("loses 8 trials of cells that it keeps"));
  const json edited = Json("sweep edit 1 --drop train.lr=0.4 --reason slow --db r.db");
  EXPECT_EQ(edited["removed_cells"], json::array({"lr=0.4"}));
  EXPECT_EQ(edited["cancelled_stages"], 3);
  EXPECT_THAT(Plumb("events --kind 'sweep_*' --db r.db").out,
              HasSubstr("0 trials more, 1 cell taken out; slow; by "));

  ASSERT_EQ(Plumb("sweep fork 1 --set replicates=4 --set train.wd=1 -o bad.yaml --db r.db").code,
            2);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/bad.yaml"));
  ASSERT_EQ(Plumb("sweep fork 1 --set replicates=4 -o new.yaml --db r.db").code, 0);
  EXPECT_THAT(Slurp(dir_ + "/new.yaml"),
              testing::AllOf(HasSubstr("#plumb-fork {\"fork\":1,\"of\":\"n\""),
                             HasSubstr("sweep: n-fork\n"), HasSubstr("replicates: 4\n")));
  EXPECT_EQ(Plumb("sweep fork 1 -o new.yaml --db r.db").code, 6) << "it is there";
  ASSERT_EQ(Plumb("sweep submit new.yaml --db r.db").code, 0);
  EXPECT_EQ(Json("sweep show 2 --db r.db")["origin"]["fork"], 1);
  const json diff = Json("sweep diff 1 2 --db r.db");
  EXPECT_EQ(diff["replicates"]["b"], 4);
  EXPECT_EQ(diff["cells"]["only_a"], json::array({"lr=0.4"}));
  EXPECT_EQ(Json("sweep diff 2 new.yaml --db r.db")["equal"], true);
  EXPECT_THAT(Plumb("sweep retry 1 --db r.db").err, HasSubstr("has no trials that are failed"));
  EXPECT_EQ(Json("sweep retry 1 --state cancelled --cell lr=0.4 --db r.db")[0]["retried_trials"],
            3);
}

TEST_F(EditCliTest, ASweepDoesNotDifferFromItsFileWhateverItsControlIsCalled) {
  StartServer();
  Write("n.yaml", std::string(kNoops) + "aa: true\n");
  ASSERT_EQ(Plumb("sweep submit n.yaml --db r.db").code, 0);
  const json diff = Json("sweep diff 1 n.yaml --db r.db");
  EXPECT_EQ(diff["equal"], true) << diff;
  EXPECT_EQ(diff["trials"]["shared"], 8);
}

TEST_F(EditCliTest, TagsAndNotesWithoutAServer) {
  StartServer();
  Write("n.yaml", kNoops);
  ASSERT_EQ(Plumb("sweep submit n.yaml --db r.db").code, 0);
  StopServer();
  EXPECT_EQ(Json("sweep tag 1 +baseline old a/b --db r.db")[0]["tags"], "a/b,baseline,old");
  EXPECT_EQ(Json("sweep tag 1 -old --db r.db")[0]["tags"], "a/b,baseline");
  EXPECT_EQ(Json("sweep note 1 'the first' --db r.db")[0]["note"], "the first");
  EXPECT_EQ(Json("trial tag 1 pinned --db r.db")[0]["tags"], "pinned");
  EXPECT_EQ(Json("sweep list --tag baseline --db r.db").size(), 1u);
  EXPECT_EQ(Json("sweep list --tag other --db r.db").size(), 0u);
  EXPECT_EQ(Json("trial list --tag pinned --db r.db").size(), 1u);
  EXPECT_EQ(Json("sweep show 1 --db r.db")["note"], "the first");
  EXPECT_THAT(Plumb("query \"SELECT tags, note FROM v_sweep\" --db r.db").out,
              HasSubstr("a/b,baseline"));
  EXPECT_EQ(Json("sweep note 1 --clear --db r.db")[0]["note"], "");
  EXPECT_EQ(Plumb("sweep tag 9 x --db r.db").code, 3);
  EXPECT_EQ(Plumb("sweep tag 1 'a b' --db r.db").code, 2);
  EXPECT_FALSE(std::filesystem::exists(db_ + ".address"));
  EXPECT_EQ(Plumb("server check --db r.db").code, 0);
}

constexpr char kCsv[] =
    "method,seed,step,loss\n"
    "ours,0,10,3.0\nours,0,20,2.0\nours,1,20,2.1\nours,2,20,2.2\n"
    "theirs,0,20,2.5\ntheirs,1,20,2.6\ntheirs,2,20,2.8\n";
constexpr char kMapped[] = " --sweep other --axis method --metric loss=val/loss --db r.db";

TEST_F(EditCliTest, ForeignResultsAreComparedAndPlottedAndSaySo) {
  Write("t.csv", kCsv);
  const json first = Json(std::string("import csv t.csv") + kMapped);
  EXPECT_EQ(first[0]["trials"], 6);
  EXPECT_EQ(first[0]["there_before"], false);
  EXPECT_EQ(Json(std::string("import csv t.csv") + kMapped)[0]["there_before"], true);
  EXPECT_EQ(Json("sweep list --db r.db").size(), 1u);
  const Ran compare = Plumb("compare 1 --by method --baseline ours --db r.db");
  EXPECT_EQ(compare.code, 0) << compare.err;
  EXPECT_THAT(compare.out, HasSubstr("foreign"));
  EXPECT_THAT(compare.out, HasSubstr("theirs"));
  const Ran curves = Plumb("plot curves --series val/loss -o csv --db r.db");
  EXPECT_THAT(curves.out, HasSubstr("method=theirs (foreign)")) << curves.err;
  Write("g.csv", "n_layers,d_model,val/loss\n2,32,3\n2,64,2\n4,32,2.5\n4,64,1.5\n");
  ASSERT_EQ(Plumb("import csv g.csv --db r.db").code, 0);
  EXPECT_THAT(Plumb("plot grid --db r.db").out, HasSubstr("4 of 4 cells are foreign"));
  EXPECT_THAT(Plumb("query \"SELECT cell, n, is_foreign FROM v_cell\" --db r.db").out,
              HasSubstr("method=theirs          3           1"));
  EXPECT_THAT(Plumb("trial show 1 --db r.db").out, HasSubstr("foreign: not trained by Plumb"));
  EXPECT_EQ(Json("trial show 1 --db r.db")["origin"]["csv"], "t.csv");
}

TEST_F(EditCliTest, ATableWithBadRowsImportsNothing) {
  Write("t.csv", std::string(kCsv) + "ours,x,20,1\nours,3,20,high\n");
  const Ran r = Plumb(std::string("import csv t.csv") + kMapped);
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("nothing was imported; 2 problems:\nt.csv:9: seed: expected"));
  EXPECT_THAT(r.err, HasSubstr("t.csv:10: loss: expected a number"));
  EXPECT_FALSE(std::filesystem::exists(db_));
}

TEST_F(EditCliTest, DatabasesAreExportedAndJoined) {
  Write("t.csv", kCsv);
  ASSERT_EQ(Plumb(std::string("import csv t.csv") + kMapped).code, 0);
  ASSERT_EQ(Plumb("sweep tag 1 shared --db r.db").code, 0);
  StartServer();  // the export reads while it serves
  EXPECT_EQ(Json("export sqlite out.db --sweep 1 --db r.db")[0]["trials"], 6);
  EXPECT_EQ(Plumb("export sqlite out.db --sweep 1 --db r.db").code, 6);
  EXPECT_EQ(Plumb("export sqlite x.db --sweep 7 --db r.db").code, 3);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/x.db"));
  StopServer();
  EXPECT_EQ(Plumb("server check --db out.db").code, 0);
  EXPECT_THAT(Plumb("events --db out.db --kind exported").out, HasSubstr("sweeps 1 of cluster"));
  EXPECT_THAT(Plumb("sweep list --db out.db").out, HasSubstr("shared"));

  // Back where it comes from: it is there. Elsewhere: it is added, once.
  EXPECT_EQ(Json("import db out.db --db r.db")[0]["there_before"], true);
  const json added = Json("import db out.db --db new.db");
  EXPECT_EQ(added[0]["shared"], 0);
  EXPECT_EQ(Json("import db out.db --db new.db")[0]["there_before"], true);
  EXPECT_EQ(Json("sweep show 1 --db new.db")["origin"]["database"], "out.db");
  EXPECT_EQ(Json("query \"SELECT count(*) AS n FROM v_curve\" --db new.db")[0]["n"],
            Json("query \"SELECT count(*) AS n FROM v_curve\" --db r.db")[0]["n"]);

  // The same trials with another value: told, and not overwritten.
  std::string other = kCsv;
  other.replace(other.find("2.8"), 3, "2.9");
  Write("u.csv", other);
  ASSERT_EQ(
      Plumb("import csv u.csv --sweep other --axis method --metric loss=val/loss --db b.db").code,
      0);
  const json joined = Json("import db b.db --db r.db");
  EXPECT_EQ(joined[0]["shared"], 6);
  ASSERT_EQ(joined[0]["conflicts"].size(), 1u);
  EXPECT_EQ(joined[0]["conflicts"][0]["cell"], "method=theirs");
  EXPECT_EQ(joined[0]["conflicts"][0]["here"], "2.8 at step 20");
  EXPECT_EQ(Json("query \"SELECT count(*) AS n FROM trial\" --db r.db")[0]["n"], 6);
  EXPECT_EQ(Plumb("import db r.db --db r.db").code, 2);
  EXPECT_EQ(Plumb("server check --db r.db").code, 0);
}

TEST_F(EditCliTest, RemovalIsLookedAtFirst) {
  Write("t.csv", kCsv);
  ASSERT_EQ(Plumb(std::string("import csv t.csv") + kMapped).code, 0);
  const Ran dry = Plumb("sweep remove 1 --db r.db");
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("would go: sweep 1; 6 trials with 7 points"));
  EXPECT_THAT(dry.out, HasSubstr("for good: plumb sweep remove 1 --yes"));
  EXPECT_EQ(Json("sweep list --db r.db").size(), 1u);
  EXPECT_EQ(Json("server retain --older-than 90d --db r.db")["sweeps"].size(), 0u);
  EXPECT_EQ(Plumb("server retain --older-than soon --db r.db").code, 2);
  EXPECT_EQ(Json("trial remove 6 --yes --db r.db")["trials"], 1);
  EXPECT_EQ(Json("sweep remove 1 --yes --db r.db")["trials"], 5);
  EXPECT_EQ(Json("sweep list --db r.db").size(), 0u);
  EXPECT_EQ(Json("query \"SELECT count(*) AS n FROM measurement\" --db r.db")[0]["n"], 0);
  EXPECT_EQ(Plumb("server check --db r.db").code, 0);
}

TEST_F(EditCliTest, HelpLeadsWithAnExample) {
  for (const char* command :
       {"sweep extend", "sweep edit", "sweep retry", "sweep fork", "sweep diff", "sweep tag",
        "sweep note", "sweep remove", "trial tag", "trial note", "trial remove", "server retain",
        "export sqlite", "import", "import csv", "import stages", "import db"}) {
    const Ran r = Plumb(std::string(command) + " --help");
    EXPECT_EQ(r.code, 0) << command;
    EXPECT_THAT(r.out, testing::StartsWith("Example:\n  plumb " + std::string(command))) << command;
  }
}

}  // namespace
}  // namespace plumb::app
