#include "data/building.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "data/dataset.h"
#include "data/shard_writer.h"

namespace plumb::data {

namespace fs = std::filesystem;

Building::Building(const std::string& place) : place_(place) {
  const fs::path parent = fs::path(place).parent_path();
  std::error_code error;
  fs::create_directories(parent, error);
  dir_ = (parent / ".preparing-XXXXXX").string();
  if (error || mkdtemp(dir_.data()) == nullptr) {
    throw DataError(parent.string() + ": no folder can be made there (" +
                    (error ? error.message() : std::strerror(errno)) + "); choose another root");
  }
  // mkdtemp() shuts everyone else out; workers may run as another user.
  fs::permissions(dir_, fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec |
                            fs::perms::others_read | fs::perms::others_exec);
}

Building::~Building() {
  std::error_code ignored;
  fs::remove_all(dir_, ignored);
  fs::remove(fs::path(place_).parent_path(), ignored);  // the corpus' folder, if it is empty
}

void Building::Write(const std::string& name, const std::string& content) {
  const std::string path = dir_ + "/" + name;
  std::ofstream out(path, std::ios::binary);
  out << content;
  out.close();
  if (!out) throw DataError(path + ": cannot be written (is the disk full?)");
  ForceToDisk(path);
}

void Building::Place() {
  ForceToDisk(dir_);
  // Exchanged, so that there is no moment without the corpus; the destructor removes the old one.
  const unsigned flags = fs::exists(place_) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (renameat2(AT_FDCWD, dir_.c_str(), AT_FDCWD, place_.c_str(), flags) != 0) {
    throw DataError(place_ + ": cannot be put in place: " + std::strerror(errno));
  }
  ForceToDisk(fs::path(place_).parent_path().string());
}

}  // namespace plumb::data
