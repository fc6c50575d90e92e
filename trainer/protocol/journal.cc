#include "trainer/protocol/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <stdexcept>

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;

std::string SegmentPath(const std::string& dir, int64_t segment) {
  char name[32];
  std::snprintf(name, sizeof name, "/%08lld.jsonl", static_cast<long long>(segment));
  return dir + name;
}

[[noreturn]] void Fail(const std::string& what, const std::string& path) {
  throw std::runtime_error("journal: " + what + " " + path + ": " + std::strerror(errno));
}

// The file from `offset` on, at most `limit` bytes; empty where it cannot be opened.
std::string ReadFrom(const std::string& path, int64_t offset, int64_t limit) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string text;
  char buffer[64 << 10];
  while (static_cast<int64_t>(text.size()) < limit) {
    const size_t want = std::min<int64_t>(sizeof buffer, limit - static_cast<int64_t>(text.size()));
    const ssize_t n = pread(fd, buffer, want, offset + static_cast<int64_t>(text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return text;
}

int64_t FileSize(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

// The number of an event; 0 where it is none that a next one could follow.
int64_t SeqOf(const nlohmann::json& event) {
  if (!event.is_object()) return 0;
  const auto it = event.find("seq");
  if (it == event.end() || !it->is_number_integer()) return 0;
  const auto seq = it->get<int64_t>();
  return seq > 0 && seq < std::numeric_limits<int64_t>::max() ? seq : 0;
}

// The number of the last complete event of a segment; 0 where it has none.
int64_t LastSeq(const std::string& text) {
  size_t end = text.rfind('\n');
  while (end != std::string::npos) {
    const size_t before = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    const size_t begin = before == std::string::npos ? 0 : before + 1;
    const auto json = nlohmann::json::parse(text.begin() + static_cast<long>(begin),
                                            text.begin() + static_cast<long>(end), nullptr, false);
    if (const int64_t seq = SeqOf(json); seq > 0) return seq;
    end = before;
  }
  return 0;
}

}  // namespace

std::vector<int64_t> JournalSegments(const std::string& dir) {
  std::vector<int64_t> segments;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() == 14 && name.ends_with(".jsonl") &&
        std::all_of(name.begin(), name.begin() + 8, [](char c) { return c >= '0' && c <= '9'; })) {
      segments.push_back(std::stoll(name));
    }
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

JournalWriter::JournalWriter(std::string dir, int64_t segment_bytes)
    : dir_(std::move(dir)), segment_bytes_(segment_bytes) {
  fs::create_directories(dir_);
  const std::vector<int64_t> segments = JournalSegments(dir_);
  for (auto it = segments.rbegin(); it != segments.rend() && last_seq_ == 0; ++it) {
    last_seq_ = LastSeq(ReadFrom(SegmentPath(dir_, *it), 0, FileSize(SegmentPath(dir_, *it))));
  }
  OpenSegment(segments.empty() ? 1 : segments.back());
}

JournalWriter::~JournalWriter() {
  if (fd_ >= 0) close(fd_);
}

void JournalWriter::OpenSegment(int64_t segment) {
  const std::string path = SegmentPath(dir_, segment);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) Fail("cannot open", path);
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
  segment_ = segment;
  const std::string text = ReadFrom(path, 0, FileSize(path));
  const size_t newline = text.rfind('\n');
  size_ = newline == std::string::npos ? 0 : static_cast<int64_t>(newline) + 1;
  if (size_ != static_cast<int64_t>(text.size()) && ftruncate(fd_, size_) != 0)
    Fail("cannot cut", path);
}

int64_t JournalWriter::Append(const nlohmann::json& event) {
  if (size_ >= segment_bytes_) OpenSegment(segment_ + 1);
  std::string body = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string line = "{\"seq\":" + std::to_string(last_seq_ + 1) + (body == "{}" ? "" : ",") +
                     body.substr(1) + "\n";
  // One write per line: a reader that is woken by it finds the whole line.
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t n = write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      if (done > 0 && ftruncate(fd_, size_) != 0) Fail("cannot cut", SegmentPath(dir_, segment_));
      errno = error;
      Fail("cannot write", SegmentPath(dir_, segment_));
    }
    done += static_cast<size_t>(n);
  }
  size_ += static_cast<int64_t>(line.size());
  return ++last_seq_;
}

std::vector<JournalEvent> JournalReader::Read(int64_t max_bytes) {
  std::vector<JournalEvent> events;
  int64_t budget = max_bytes;
  while (budget > 0) {
    // The segments are listed before the file is read: a later segment seen now means that this one
    // is complete.
    const std::vector<int64_t> segments = JournalSegments(dir_);
    const auto next = std::upper_bound(segments.begin(), segments.end(), at_.segment);
    const bool present = std::binary_search(segments.begin(), segments.end(), at_.segment);
    if (!present) {
      if (next == segments.end()) return events;
      at_ = {*next, 0};
      continue;
    }
    const std::string path = SegmentPath(dir_, at_.segment);
    std::string text = ReadFrom(path, at_.offset, budget);
    size_t complete = text.rfind('\n');
    if (complete == std::string::npos &&
        static_cast<int64_t>(text.size()) == budget) {  // one long line
      text = ReadFrom(path, at_.offset, FileSize(path) - at_.offset);
      complete = text.find('\n');
    }
    if (complete == std::string::npos) {
      if (next == segments.end()) return events;
      at_ = {*next, 0};
      continue;
    }
    size_t begin = 0;
    while (begin <= complete) {
      const size_t end = text.find('\n', begin);
      JournalEvent event;
      event.begin = at_;
      at_.offset += static_cast<int64_t>(end + 1 - begin);
      event.end = at_;
      event.json = nlohmann::json::parse(text.begin() + static_cast<long>(begin),
                                         text.begin() + static_cast<long>(end), nullptr, false);
      begin = end + 1;
      event.seq = SeqOf(event.json);
      if (event.seq == 0) continue;
      events.push_back(std::move(event));
    }
    budget -= static_cast<int64_t>(complete) + 1;
    if (next == segments.end()) return events;
  }
  return events;
}

void TrimJournal(const std::string& dir, JournalPosition keep_from) {
  const std::vector<int64_t> segments = JournalSegments(dir);
  for (size_t i = 0; i + 1 < segments.size() && segments[i] < keep_from.segment; ++i) {
    const std::string later = SegmentPath(dir, segments[i + 1]);
    if (LastSeq(ReadFrom(later, 0, FileSize(later))) == 0) return;
    std::error_code ignored;
    fs::remove(SegmentPath(dir, segments[i]), ignored);
  }
}

}  // namespace plumb::trainer
