// The real binary in a folder of its own, and a database there that the store made.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "store/store.h"

namespace plumb::app {

// Named, so that a column more changes no test.
inline constexpr char kTrialColumns[] =
    "id, key, fusion_key, config_json, state, n_layers, d_model, n_heads, n_kv_heads, head_dim, "
    "d_ff, vocab_size, norm, position, mlp, tied_head, corpus, tokenizer, seq_len, batch_tokens, "
    "steps, lr, seed_init, seed_data, params_total, params_non_embedding, params_embedding, "
    "flops_per_token, tokens, flops, create_time_us";

inline std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class CliFixture : public ::testing::Test {
 protected:
  struct Ran {
    int code;
    std::string out, err;
  };

  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "plumb-cli-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    db_ = dir_ + "/r.db";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // In the test's folder, without a terminal.
  Ran Plumb(const std::string& arguments) {
    const std::string command = "cd '" + dir_ + "' && unset PLUMB_SERVER && PLUMB_DATA='" + dir_ +
                                "/data' '" PLUMB_BINARY_DIR "/bin/plumb' " + arguments +
                                " >out 2>err </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, Slurp(dir_ + "/out"),
            Slurp(dir_ + "/err")};
  }

  // Makes r.db where it is not there, and runs the statements.
  void Execute(const std::string& sql) {
    auto db = store::Store::Open(db_, 0);
    ASSERT_TRUE(db.ok()) << db.status();
    const absl::Status s = (*db)->database().Execute(sql);
    ASSERT_TRUE(s.ok()) << s;
  }

  // A trial of sweep 1 that trained to step 100, with points of its test/bits_per_byte.
  struct Trial {
    int id, cell, layers = 1, width = 32, seed = 0, replicate = 0;
    bool aa = false;
    std::string state = "succeeded";
    std::vector<std::pair<int, std::string>> points;  // step, value or NULL
  };
  static std::string Sql(const Trial& trial) {
    const std::string t = std::to_string(trial.id);
    const std::string seed = std::to_string(trial.seed);
    std::string sql =
        "INSERT INTO trial (" + std::string(kTrialColumns) + ") VALUES (" + t + ", 'k" + t +
        "', 'f', '{}', '" + trial.state + "', " + std::to_string(trial.layers) + ", " +
        std::to_string(trial.width) +
        ", 1, 1, 16, 64, 256, 'rmsnorm', 'rope', 'swiglu', 0, 'c', 'bytes', 64, 1024, 100, "
        "0.001, " +
        seed + ", " + seed + ", 1000, 500, 500, 3000, 102400, 3.072e8, 0);";
    sql +=
        "INSERT INTO sweep_trial (sweep_id, idx, cell_id, trial_id, replicate, aa, shared, tune) "
        "VALUES (1, " +
        std::to_string(trial.id - 1) + ", " + std::to_string(trial.cell) + ", " + t + ", " +
        std::to_string(trial.replicate) + ", " + (trial.aa ? "1" : "0") + ", 0, 0);";
    sql +=
        "INSERT INTO stage (id, trial_id, name, kind, parent_id, settings_json, state, priority, "
        "target_step, step, attempts, failures, not_before_ct_us, threads, checkpoint_step, "
        "checkpoint_path, checkpoint_digest, reason) VALUES (" +
        t + ", " + t + ", 'pretrain', 'pretrain', NULL, '{}', '" + trial.state +
        "', 0, 100, 100, 1, 0, 0, 1, -1, NULL, NULL, '');";
    sql += "INSERT INTO series VALUES (" + t + "1, " + t + ", 'test/bits_per_byte', -1, 1);";
    for (const auto& [step, value] : trial.points) {
      sql += "INSERT INTO measurement VALUES (" + t + "1, " + std::to_string(step) + ", " + value +
             ");";
    }
    return sql;
  }
  static std::string SweepSql(const std::string& name, const std::string& yaml, int trials) {
    return "INSERT INTO sweep (id, name, state, request_id, request_hash, sweep_yaml, objective, "
           "trials, cursor, create_time_us, end_time_us) VALUES (1, '" +
           name + "', 'completed', 'r', 'h', '" + yaml + "', 'test/bits_per_byte', " +
           std::to_string(trials) + ", " + std::to_string(trials) + ", 0, 1);";
  }
  static std::string CellSql(int id, const std::string& name, const std::string& axes_json) {
    return "INSERT INTO cell (id, sweep_id, idx, name, axes_json, flags_json) VALUES (" +
           std::to_string(id) + ", 1, " + std::to_string(id - 1) + ", '" + name + "', '" +
           axes_json + "', '[]');";
  }

  std::string dir_, db_;
};

}  // namespace plumb::app
