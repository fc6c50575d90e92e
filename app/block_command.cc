// plumb block new|test.
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "app/children.h"
#include "app/commands.h"
#include "app/example_block.h"
#include "app/exit_code.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

bool IsName(const std::string& name) {
  for (const char c : name) {
    if (!std::islower(static_cast<unsigned char>(c)) &&
        !std::isdigit(static_cast<unsigned char>(c)) && c != '_')
      return false;
  }
  return !name.empty();
}

}  // namespace

int NewBlock(const Context& context, const BlockArgs& args) {
  if (!IsName(args.name)) {
    return Finish(absl::InvalidArgumentError(
        absl::StrCat("\"", args.name, "\": a name has lower-case letters, digits and _")));
  }
  const fs::path folder = fs::absolute(fs::path(args.dir) / args.name).lexically_normal();
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  if (!fs::create_directory(folder, error)) {
    return Finish(absl::AlreadyExistsError(
        absl::StrCat(folder.string(), error ? " cannot be made: " + error.message()
                                            : " is there already; give another name")));
  }
  const auto write = [&](const char* name, const char* text) {
    std::ofstream out(folder / name, std::ios::binary);
    out << absl::StrReplaceAll(text, {{"gated_mean", args.name}});
    return static_cast<bool>(out.flush());
  };
  if (!write("block.json", kBlockJson) || !write("block.cc", kBlockSource) ||
      !write("CMakeLists.txt", kBlockCMake)) {
    return Finish(absl::InternalError(absl::StrCat("writing into ", folder.string(), " failed")));
  }
  std::printf("%s: block.json, block.cc, CMakeLists.txt\nchange them, then: plumb block test %s\n",
              folder.c_str(), folder.c_str());
  return kDone;
}

int TestBlock(const Context& context, const BlockArgs& args) {
  const std::string trainer =
      args.trainer.empty() ? (fs::path(ThisProgram()).parent_path() / "plumb-trainer").string()
                           : args.trainer;
  std::fflush(nullptr);
  execl(trainer.c_str(), trainer.c_str(), "block-test", args.name.c_str(), nullptr);
  return Finish(
      absl::NotFoundError(absl::StrCat(trainer, " cannot be run; give another with --trainer")));
}

}  // namespace plumb::app
