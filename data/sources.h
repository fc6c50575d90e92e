// Where documents come from: files and folders of text, or the files of Debian packages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace plumb::data {

struct Document {
  std::string name;  // its path, for messages
  std::string text;  // valid UTF-8 without NUL, not blank
  int part = 0;      // of a mixed corpus; else 0
};

struct Collection {
  std::vector<Document> documents;
  std::vector<Source> sources;
  std::string description;
  int64_t unreadable = 0;  // files skipped: not UTF-8, or with a NUL
};

// A corpus made of the files that Debian packages installed.
struct PackageCorpus {
  std::string name, description;
  std::vector<std::string> packages;
  std::string prefix, suffix;  // of the paths taken
  bool manual_pages = false;   // gzipped groff, of which the Japanese lines are kept
};
const std::vector<PackageCorpus>& PackageCorpora();

// Reads the corpus `name`. `system_root` is "/", or a folder into which packages and dpkg's
// database were unpacked. Throws DataError naming the apt-get command where a package is missing.
Collection ReadPackages(const PackageCorpus& corpus, const std::string& system_root);

// Reads files and folders (recursively; hidden files are left out): each file is a document; in a
// ".jsonl" file each line's "text" is. Throws DataError naming the file that is not text.
Collection ReadText(const std::vector<std::string>& paths);

}  // namespace plumb::data
