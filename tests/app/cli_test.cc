// The real binary, and a database of a small sweep.
#include "tests/app/cli.h"

#include <gmock/gmock.h>

#include "trainer/files/safetensors.h"

namespace plumb::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CliTest : public CliFixture {
 protected:
  // 2 x 2 cells, two seeds; (2, 64) has a diverged seed; an A/A control of (1, 32).
  void MakeDatabase() {
    std::string sql = SweepSql("hand", "sweep: hand", 9);
    int trial = 0;
    const auto add = [&](int cell, int layers, int width, int seed, bool aa,
                         const std::string& state, const std::string& value) {
      Trial one{.id = ++trial,
                .cell = cell,
                .layers = layers,
                .width = width,
                .seed = seed,
                .replicate = seed % 100,
                .aa = aa,
                .state = state};
      if (!value.empty()) one.points = {{100, value}};
      sql += Sql(one);
      const std::string t = std::to_string(trial);
      sql += "INSERT INTO series VALUES (" + t + "2, " + t + ", 'val/bits_per_byte', -1, 1);";
      sql += "INSERT INTO measurement VALUES (" + t + "2, 10, 5.0), (" + t + "2, 50, 3.5), (" + t +
             "2, 100, 3.0);";
    };
    int cell = 0;
    for (int layers : {1, 2}) {
      for (int width : {32, 64}) {
        ++cell;
        const std::string l = std::to_string(layers), w = std::to_string(width);
        sql += CellSql(cell, "n_layers=" + l + " d_model=" + w,
                       "{\"model.n_layers\": " + l + ", \"model.d_model\": " + w + "}");
        const double base = 2 + 0.5 * layers - width / 128.0;
        for (int seed : {0, 1}) {
          const bool diverged = layers == 2 && width == 64 && seed == 1;
          add(cell, layers, width, seed, false, diverged ? "diverged" : "succeeded",
              diverged ? "" : std::to_string(base + 0.01 * seed));
        }
      }
    }
    add(1, 1, 32, 100, true, "succeeded", "2.275");
    Execute(sql);
  }
};

TEST_F(CliTest, EveryCommandsHelpLeadsWithAnExample) {
  for (const char* command : {"up",
                              "demo",
                              "server",
                              "worker",
                              "worker start",
                              "worker list",
                              "sweep",
                              "sweep plan",
                              "sweep submit",
                              "sweep list",
                              "sweep show",
                              "sweep watch",
                              "sweep cancel",
                              "trial",
                              "trial list",
                              "trial show",
                              "trial lineage",
                              "trial logs",
                              "trial explain",
                              "trial cancel",
                              "trial retry",
                              "trial generate",
                              "trial topk",
                              "trial attention",
                              "trial routes",
                              "trial painters",
                              "trial finetune",
                              "trial linearity",
                              "trial pruning",
                              "trial tasks",
                              "trial probes",
                              "stage",
                              "stage list",
                              "stage show",
                              "stage retry",
                              "stage run",
                              "schema stages",
                              "plot",
                              "plot grid",
                              "plot curves",
                              "plot linearity",
                              "plot pruning",
                              "plot probes",
                              "compare",
                              "query",
                              "export",
                              "export csv",
                              "export jsonl",
                              "doctor",
                              "data",
                              "data prepare",
                              "data list",
                              "data show",
                              "schema trial",
                              "schema sweep",
                              "completion",
                              "version",
                              "init"}) {
    const Ran r = Plumb(std::string(command) + " --help");
    EXPECT_EQ(r.code, 0) << command;
    EXPECT_THAT(r.out, StartsWith("Example:\n  ")) << command;
    EXPECT_THAT(r.out, HasSubstr("plumb")) << command;
  }
}

TEST_F(CliTest, AnUnknownCommandOrOptionIsBadUsageAndNamesTheNearest) {
  Ran r = Plumb("sweep sumbit x.yaml");
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("did you mean plumb sweep submit?"));
  r = Plumb("plot grid --seris x");
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("did you mean --series?"));
  EXPECT_EQ(Plumb("sweep submit").code, 2);
  EXPECT_EQ(Plumb("sweep list -o jsn").code, 5) << "there is no server to ask first";
}

TEST_F(CliTest, WithoutAServerTheErrorSaysHowToStartOne) {
  const Ran r = Plumb("worker list");
  EXPECT_EQ(r.code, 5);
  EXPECT_THAT(r.err, HasSubstr("plumb up"));
  EXPECT_THAT(Plumb("sweep list --server 127.0.0.1:1").code, 5);
}

TEST_F(CliTest, AMissingDatabaseIsNotFound) {
  EXPECT_EQ(Plumb("query 'SELECT 1' --db nothing.db").code, 3);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/nothing.db"));
}

TEST_F(CliTest, ACopyIsMadeCheckedAndPutBackAndEventsAreRead) {
  MakeDatabase();
  EXPECT_EQ(Plumb("server backup copy.db --db r.db").code, 0);
  EXPECT_NE(Plumb("server backup copy.db --db r.db").code, 0);  // it is there
  const Ran checked = Plumb("server check --db copy.db -o json");
  ASSERT_EQ(checked.code, 0) << checked.err;
  const auto report = nlohmann::json::parse(checked.out);
  EXPECT_EQ(report["sound"], true);
  EXPECT_EQ(report["schema"], report["newest_schema"]);
  const Ran restored = Plumb("server restore copy.db --db r.db");
  EXPECT_EQ(restored.code, 0) << restored.err;
  EXPECT_THAT(restored.out, HasSubstr("r.db.replaced-"));
  Execute("SELECT 1");  // opened as a server does
  const Ran events = Plumb("events --db r.db --kind 'incarnation*' -o json");
  ASSERT_EQ(events.code, 0) << events.err;
  ASSERT_EQ(nlohmann::json::parse(events.out).size(), 1u);
  EXPECT_EQ(Plumb("server migrate --db r.db").code, 0);
  EXPECT_EQ(Plumb("events --db r.db --since yesterday").code, 2);
  // A damaged one says so with its exit code.
  std::string bytes = Slurp(dir_ + "/copy.db");
  for (size_t i = 4096; i < 8192; ++i) bytes[i] = '\xff';
  std::ofstream(dir_ + "/copy.db", std::ios::binary) << bytes;
  const Ran damaged = Plumb("server check --db copy.db");
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("is damaged"));
  EXPECT_NE(Plumb("server restore copy.db --db r.db").code, 0);
}

TEST_F(CliTest, QueryPrintsOneJsonValue) {
  MakeDatabase();
  const Ran r = Plumb(
      "query 'SELECT trial_id, state, test_bits_per_byte FROM v_trial ORDER BY 1' --db r.db -o "
      "json");
  ASSERT_EQ(r.code, 0) << r.err;
  const auto j = nlohmann::json::parse(r.out);
  ASSERT_EQ(j.size(), 9u);
  EXPECT_EQ(j[0]["test_bits_per_byte"], 2.25);
  EXPECT_TRUE(j[7]["test_bits_per_byte"].is_null());
}

TEST_F(CliTest, QueryRefusesEverythingButReadingAndChangesNothing) {
  MakeDatabase();
  const std::string before = Slurp(db_);
  for (const char* sql :
       {"DELETE FROM trial", "UPDATE trial SET state = 1", "INSERT INTO cluster VALUES (1,1,1,1,1)",
        "DROP TABLE trial", "CREATE TABLE x (a)", "ATTACH 'y.db' AS y",
        "PRAGMA journal_mode = DELETE", "PRAGMA user_version = 7", "VACUUM", "BEGIN",
        "SELECT load_extension('x')", "REINDEX"}) {
    const Ran r = Plumb("query --db r.db \"" + std::string(sql) + "\"");
    EXPECT_EQ(r.code, 4) << sql << r.err;
  }
  EXPECT_EQ(Plumb("query --db r.db 'SELECT 1; DELETE FROM trial'").code, 2);
  EXPECT_EQ(Plumb("query --db r.db 'SELEC 1'").code, 2);
  EXPECT_EQ(Slurp(db_), before);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/y.db"));
}

TEST_F(CliTest, QuerySaysWhereAFileIsOlderThanAView) {
  MakeDatabase();
  EXPECT_THAT(Plumb("query --db r.db 'SELECT * FROM v_tasks'").err,
              Not(HasSubstr("plumb server migrate")));
  {
    absl::StatusOr<store::Database> db =
        store::Database::Open(db_, store::Database::Mode::kReadWrite);
    ASSERT_TRUE(db.ok()) << db.status();
    ASSERT_TRUE(db->Execute("DROP VIEW v_task; PRAGMA user_version = 13").ok());
  }
  const Ran r = Plumb("query --db r.db 'SELECT * FROM v_task'");
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("no such table: v_task"));
  EXPECT_THAT(r.err, HasSubstr("the file has schema 13"));
  EXPECT_THAT(r.err, HasSubstr("plumb server migrate"));
}

TEST_F(CliTest, QuerySaysWhenItCuts) {
  MakeDatabase();
  const Ran r = Plumb("query --db r.db 'SELECT * FROM measurement' --max-rows 3 -o csv");
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 4);
  EXPECT_THAT(r.err, HasSubstr("cut after 3 rows"));
  EXPECT_THAT(Plumb("query --db r.db 'SELECT * FROM sweep' --max-rows 1").err,
              Not(HasSubstr("cut")));
}

TEST_F(CliTest, QueryStopsAtItsDeadline) {
  MakeDatabase();
  const Ran r = Plumb(
      "query --db r.db --deadline 0.2 'WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
      "FROM r) SELECT count(*) FROM r'");
  EXPECT_EQ(r.code, 8);
  EXPECT_THAT(r.err, HasSubstr("--deadline"));
}

TEST_F(CliTest, MapCountsATrainingWhateverTheStageAfterItDid) {
  MakeDatabase();
  const std::string before = Plumb("plot grid --db r.db -o csv").out;
  Execute(
      "INSERT INTO stage (id, trial_id, name, kind, parent_id, settings_json, state, priority, "
      "target_step, step, attempts, failures, not_before_ct_us, threads, checkpoint_step, "
      "checkpoint_path, checkpoint_digest, reason) VALUES (100, 1, 'probe', 'probe', 1, '{}', "
      "'failed', 0, 1, 0, 1, 3, 0, 1, "
      "-1, NULL, NULL, ''); UPDATE trial SET state = 'failed' WHERE id = 1;"
      "INSERT INTO series VALUES (1000, 100, 'test/bits_per_byte', -1, 1);"
      "INSERT INTO measurement VALUES (1000, 5000, 9.0);");
  EXPECT_EQ(Plumb("plot grid --db r.db -o csv").out, before);
}

TEST_F(CliTest, TheMapShowsEveryCellItsSpreadAndTheDivergedSeed) {
  MakeDatabase();
  const Ran r = Plumb("plot grid --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("depth (n_layers)"));
  EXPECT_THAT(r.out, HasSubstr("* 2.0050 ±0.0050 *"));
  EXPECT_THAT(r.out, HasSubstr("1 of 2 diverged"));
  EXPECT_THAT(r.out, HasSubstr("means differ by 0.0200 on average"));
  EXPECT_THAT(r.out, Not(HasSubstr("\x1b")));
  const Ran svg = Plumb("plot grid --db r.db --out map.svg");
  EXPECT_EQ(svg.code, 0) << svg.err;
  EXPECT_THAT(Slurp(dir_ + "/map.svg"), HasSubstr("2.0050"));
  EXPECT_THAT(Plumb("plot grid --db r.db -o csv").out,
              HasSubstr("\nn_layers=1 d_model=64,64,1,2,2.005,"));
}

TEST_F(CliTest, CurvesLeaveOutTheControlAndNameTheSeriesThereAre) {
  MakeDatabase();
  const Ran csv = Plumb("plot curves --db r.db -o csv --x tokens");
  ASSERT_EQ(csv.code, 0) << csv.err;
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 1 + 8 * 3);
  EXPECT_THAT(csv.out, HasSubstr("\"n_layers=1 d_model=32\",0,0,102400,3\n"));
  const Ran near = Plumb("plot curves --db r.db --series val/bits_per_bite");
  EXPECT_EQ(near.code, 3);
  EXPECT_THAT(near.err, HasSubstr("did you mean val/bits_per_byte?"));
  EXPECT_EQ(Plumb("plot curves --db r.db --sweep 9").code, 3);
}

TEST_F(CliTest, ExportWritesTheViewsRowByRow) {
  MakeDatabase();
  const Ran r = Plumb("export jsonl --what curves --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  std::istringstream lines(r.out);
  std::string line;
  int n = 0;
  while (std::getline(lines, line)) {
    EXPECT_TRUE(nlohmann::json::parse(line).contains("series"));
    ++n;
  }
  EXPECT_EQ(n, 9 * 3 + 8);
  EXPECT_EQ(Plumb("export csv --what cells --db r.db --out c.csv").code, 0);
  const std::string csv = Slurp(dir_ + "/c.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 5);
  EXPECT_EQ(Plumb("export csv --what cels --db r.db").code, 2);
}

TEST_F(CliTest, TrialsAreListedFromTheFileWithoutAServer) {
  MakeDatabase();
  const Ran r = Plumb("trial list --db r.db --state diverged -o json");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(nlohmann::json::parse(r.out).size(), 1u);
  EXPECT_EQ(nlohmann::json::parse(Plumb("trial show 3 --db r.db -o json").out)["state"],
            "succeeded");
  EXPECT_EQ(Plumb("trial show 99 --db r.db").code, 3);
  EXPECT_EQ(nlohmann::json::parse(Plumb("sweep show --db r.db -o json").out)["name"], "hand");
}

// A Llama of one layer and width 4, all ones.
void WriteHfModel(const std::string& dir) {
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/config.json")
      << R"({"model_type": "llama", "vocab_size": 256, "hidden_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true})";
  const std::string layer = "model.layers.0.";
  std::map<std::string, std::vector<int64_t>> shapes = {{"model.embed_tokens.weight", {256, 4}},
                                                        {"model.norm.weight", {4}}};
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
    shapes[layer + norm + ".weight"] = {4};
  for (const char* part : {"q", "k", "v", "o"})
    shapes[layer + "self_attn." + part + "_proj.weight"] = {4, 4};
  for (const char* part : {"gate", "up"}) shapes[layer + "mlp." + part + "_proj.weight"] = {8, 4};
  shapes[layer + "mlp.down_proj.weight"] = {4, 8};
  const std::vector<float> ones(1024, 1.0f);
  std::map<std::string, trainer::FloatTensor> tensors;
  for (const auto& [name, shape] : shapes) tensors[name] = {shape, ones.data()};
  trainer::WriteSafetensors(dir + "/model.safetensors", tensors);
}

TEST_F(CliTest, ModelsComeInAndGoOut) {
  WriteHfModel(dir_ + "/hf");
  const Ran in = Plumb("model import hf --out start -o json");
  ASSERT_EQ(in.code, 0) << in.err;
  const auto j = nlohmann::json::parse(in.out);
  EXPECT_EQ(j["parameters"], 256 * 4 + 3 * 4 + 4 * 16 + 3 * 32);
  const auto checkpoint = j["checkpoint"].get<std::string>();

  const Ran out = Plumb("model export " + checkpoint + " --out again");
  ASSERT_EQ(out.code, 0) << out.err;
  EXPECT_THAT(out.out, HasSubstr("llama: "));
  EXPECT_EQ(Slurp(dir_ + "/again/model.safetensors").size(),
            std::filesystem::file_size(dir_ + "/hf/model.safetensors") + 32)
      << "the same tensors, and {\"format\": \"pt\"}";

  // The trial's checkpoint is found through the database; its corpus is bytes.
  MakeDatabase();
  auto db = store::Database::Open(db_, store::Database::Mode::kReadWrite);
  ASSERT_TRUE(db.ok());
  ASSERT_TRUE(db->Execute("UPDATE stage SET checkpoint_step = 0, checkpoint_path = '" + dir_ + "/" +
                          checkpoint + "' WHERE trial_id = 3")
                  .ok());
  const Ran trial = Plumb("model export --trial 3 --db r.db --out of-trial -o json");
  ASSERT_EQ(trial.code, 0) << trial.err;
  EXPECT_THAT(trial.out, HasSubstr("tokenizer.json"));
  EXPECT_EQ(Plumb("model export --trial 4 --db r.db --out x").code, 3) << "no checkpoint";
  EXPECT_EQ(Plumb("model export --out x").code, 2);
  const Ran again = Plumb("model import hf --out start");
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("choose another folder"));
}

TEST_F(CliTest, InitWritesAFileThatNamesWhatIsMissingAndIsNeverOverwritten) {
  EXPECT_EQ(Plumb("init s.yaml").code, 0);
  const Ran plan = Plumb("sweep plan s.yaml");  // no corpus in this folder
  EXPECT_NE(plan.code, 0);
  EXPECT_THAT(plan.err, HasSubstr("plumb data prepare python-docs-en"));
  EXPECT_EQ(Plumb("init s.yaml").code, 6);
  EXPECT_EQ(Plumb("sweep plan missing.yaml").code, 3);
}

TEST_F(CliTest, PreparesPartsWithEitherTokenizer) {
  for (const char* part : {"en", "ja"}) {
    std::filesystem::create_directories(dir_ + "/" + part);
    for (int i = 0; i < 60; ++i) {
      std::ofstream out(dir_ + "/" + part + "/" + std::to_string(i) + ".txt");
      for (int w = 0; w < 60; ++w) {  // words of five letters, different in every file
        uint64_t letters = (i * 977 + w * 31 + part[0]) * 0x9e3779b97f4a7c15u;
        for (int l = 0; l < 5; ++l, letters >>= 9) out << static_cast<char>('a' + letters % 26);
        out << (w % 9 ? ' ' : '\n');
      }
    }
  }
  for (const char* tokenizer : {"bytes", "sentencepiece:300"}) {
    const std::string which = std::string(" --tokenizer ") + tokenizer;
    const Ran made = Plumb("data prepare both --part ja=ja --part en=en" + which);
    EXPECT_EQ(made.code, 0) << made.err;
    EXPECT_THAT(made.out, HasSubstr(tokenizer));
    EXPECT_THAT(Plumb("data show both" + which).out, HasSubstr("test/ja"));
  }
  EXPECT_THAT(Plumb("data list").out, HasSubstr("en,ja"));
  const Ran wrong = Plumb("data prepare x --text none --tokenizer sentencepiece:300");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("none: no such file"));
}

TEST_F(CliTest, PlanNamesTheLineOfAMistake) {
  std::ofstream(dir_ + "/bad.yaml")
      << "sweep: x\naxes: {model.n_layer: [1]}\nstages: {run: {noop: {seconds: 0}}}\n";
  const Ran r = Plumb("sweep plan bad.yaml");
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("bad.yaml:2:"));
}

TEST_F(CliTest, PlanShowsWhatIsTunedAndWhatIsIncluded) {
  std::filesystem::create_directories(dir_ + "/shared");
  std::ofstream(dir_ + "/shared/base.yaml")
      << "trial: {model: {d_model: 32}, data: {corpus: c, seq_len: 32}, train: {steps: 10, "
         "batch_tokens: 1024}}\n";
  std::ofstream(dir_ + "/tuned.yaml") << R"(include: shared/base.yaml
sweep: tuned
variants: {plain: {}, post: {model.norm_place: post}}
tune: {train.lr: {log: [1e-3, 1e-2], points: 3}, seeds: 2, stop: {asha: {rungs: [30%]}}}
replicates: 4
aa: plain
)";
  const Ran r = Plumb("sweep plan tuned.yaml --assume-tokens 1M");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out,
              HasSubstr("2 cells, 24 trials (12 that tune, 8 replicates of the winners, 4 of "
                        "the A/A control)"));
  EXPECT_THAT(r.out, HasSubstr("train.lr: 0.001, 0.003162, 0.01"));
  EXPECT_THAT(r.out, HasSubstr("asha at 30%, keep 1/3, stop"));
  const auto plan =
      nlohmann::json::parse(Plumb("sweep plan tuned.yaml --assume-tokens 1M -o json").out);
  EXPECT_EQ(plan["trials"], 24);
  EXPECT_EQ(plan["tune_trials"], 12);
  EXPECT_EQ(plan["tune"]["metric"], "tune/bits_per_byte");
  std::ofstream(dir_ + "/shared/base.yaml") << "trial: {model: {d_modle: 32}}\n";
  EXPECT_THAT(Plumb("sweep plan tuned.yaml").err, HasSubstr("shared/base.yaml:1:17: "));
}

TEST_F(CliTest, CompletionAsksTheProgram) {
  EXPECT_THAT(Plumb("completion bash").out, HasSubstr("__complete"));
  EXPECT_EQ(Plumb("__complete sweep s").out, "show\nsimulate\nsubmit\n");
  EXPECT_THAT(Plumb("__complete plot grid --s").out, HasSubstr("--series\n"));
  EXPECT_EQ(Plumb("completion fishh").code, 2);
}

TEST_F(CliTest, SchemaIsJson) {
  EXPECT_TRUE(nlohmann::json::parse(Plumb("schema trial").out).contains("properties"));
  EXPECT_THAT(Plumb("schema trial --reference").out, HasSubstr("model.d_model"));
  const auto sweep = nlohmann::json::parse(Plumb("schema sweep").out);
  EXPECT_TRUE(sweep["properties"].contains("variants"));
  EXPECT_TRUE(sweep["$defs"].contains("model.d_model"));
}

}  // namespace
}  // namespace plumb::app
