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

#include "store/store.h"

namespace plumb::app {

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

  std::string dir_, db_;
};

}  // namespace plumb::app
