#include "data/sources.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/manual_page.h"
#include "data/utf8.h"

namespace plumb::data {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  if (!in || in.bad()) throw DataError(path.string() + ": cannot be read");
  return std::move(text).str();
}

bool IsBlank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string::npos;
}

bool IsText(const std::string& text) {
  return text.find('\0') == std::string::npos && IsUtf8(text);
}

void CheckText(const std::string& text, const std::string& where) {
  if (text.find('\0') != std::string::npos) {
    throw DataError(
        where +
        ": holds a NUL character, which separates documents here; remove it (tr -d '\\000'), or "
        "leave the file out");
  }
  if (!IsUtf8(text)) {
    throw DataError(where +
                    ": is not UTF-8; convert it (iconv -f <encoding> -t UTF-8), or leave it out");
  }
}

void ReadJsonLines(const fs::path& path, std::vector<Document>* documents) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(path.string() + ": cannot be read");
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (IsBlank(line)) continue;
    const std::string where = path.string() + ":" + std::to_string(number);
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("text") || !json["text"].is_string()) {
      throw DataError(where + ": each line must be a JSON object with a string \"text\"");
    }
    std::string text = json["text"].get<std::string>();
    CheckText(text, where);
    if (!IsBlank(text)) documents->push_back({where, std::move(text)});
  }
}

void ReadTextFile(const fs::path& path, std::vector<Document>* documents) {
  if (path.extension() == ".jsonl") return ReadJsonLines(path, documents);
  std::string text = ReadFile(path);
  CheckText(text, path.string());
  if (!IsBlank(text)) documents->push_back({path.string(), std::move(text)});
}

void ReadFolder(const fs::path& folder, std::vector<Document>* documents) {
  std::vector<fs::path> files;
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator();
       ++it) {
    const bool hidden = it->path().filename().string().front() == '.';
    if (it->is_directory()) {
      if (hidden) it.disable_recursion_pending();
    } else if (it->is_regular_file() && !hidden) {
      files.push_back(it->path());
    }
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) ReadTextFile(file, documents);
}

// dpkg's list of the package's files; empty where it is not installed. Multi-arch packages carry
// their architecture.
std::vector<std::string> FilesOfPackage(const fs::path& root, const std::string& package) {
  const fs::path info = root / "var/lib/dpkg/info";
  fs::path list = info / (package + ".list");
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(info, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(package + ":", 0) == 0 && name.ends_with(".list")) list = entry.path();
  }
  std::vector<std::string> files;
  std::ifstream in(list);
  for (std::string line; std::getline(in, line);) files.push_back(line);
  return files;
}

std::string VersionOfPackage(const fs::path& root, const std::string& package) {
  std::ifstream in(root / "var/lib/dpkg/status");
  bool here = false;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("Package: ", 0) == 0) here = line == "Package: " + package;
    if (here && line.rfind("Version: ", 0) == 0) return line.substr(9);
  }
  return "unknown";
}

}  // namespace

const std::vector<PackageCorpus>& PackageCorpora() {
  static const auto& corpora = *new std::vector<PackageCorpus>{
      {.name = "python-docs-en",
       .description = "Documentation of Python 3.11, English reStructuredText (PSF licence)",
       .packages = {"python3.11-doc"},
       .prefix = "/usr/share/doc/python3.11/html/_sources/",
       .suffix = ".rst.txt"},
      {.name = "manpages-ja",
       .description = "Japanese manual pages, lines of Japanese only (free licences, per page)",
       .packages = {"manpages-ja", "manpages-ja-dev"},
       .prefix = "/usr/share/man/ja/",
       .suffix = ".gz",
       .manual_pages = true},
      {.name = "python-stdlib",
       .description = "Source of the Python 3.11 standard library (PSF licence)",
       .packages = {"libpython3.11-stdlib", "libpython3.11-minimal"},
       .prefix = "/usr/lib/python3.11/",
       .suffix = ".py"},
  };
  return corpora;
}

Collection ReadPackages(const PackageCorpus& corpus, const std::string& system_root) {
  Collection collection{.description = corpus.description};
  const fs::path root = system_root.empty() ? "/" : system_root;
  std::string install = "apt-get install -y --no-install-recommends";
  for (const std::string& package : corpus.packages) install += " " + package;
  for (const std::string& package : corpus.packages) {
    const std::vector<std::string> files = FilesOfPackage(root, package);
    if (files.empty()) {
      throw DataError("corpus " + corpus.name + " needs the Debian package " + package +
                      "; as root: " + install);
    }
    int64_t taken = 0;
    for (const std::string& file : files) {
      if (!file.starts_with(corpus.prefix) || !file.ends_with(corpus.suffix)) continue;
      const fs::path path = root / file.substr(1);
      std::error_code error;
      if (!fs::is_regular_file(fs::symlink_status(path, error))) continue;
      ++taken;
      std::string text =
          corpus.manual_pages ? JapaneseText(ReadGzip(path.string())) : ReadFile(path);
      if (!IsText(text)) {
        ++collection.unreadable;
      } else if (!IsBlank(text)) {
        collection.documents.push_back({file, std::move(text)});
      }
    }
    if (taken == 0) {
      throw DataError("corpus " + corpus.name + ": package " + package +
                      " is installed, but its files under " + corpus.prefix +
                      " are not there (a path-exclude in /etc/dpkg/dpkg.cfg.d keeps them out?); "
                      "remove that and, as root: apt-get install --reinstall " +
                      package);
    }
    collection.sources.push_back({package, VersionOfPackage(root, package)});
  }
  return collection;
}

Collection ReadText(const std::vector<std::string>& paths) {
  Collection collection;
  for (const std::string& path : paths) {
    const fs::file_status status = fs::status(path);
    if (!fs::exists(status)) throw DataError(path + ": no such file or folder");
    try {
      fs::is_directory(status) ? ReadFolder(path, &collection.documents)
                               : ReadTextFile(path, &collection.documents);
    } catch (const fs::filesystem_error& e) {
      throw DataError(e.path1().string() + ": " + e.code().message());
    }
    collection.sources.push_back({path, ""});
  }
  return collection;
}

}  // namespace plumb::data
