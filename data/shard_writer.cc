#include "data/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "data/shard_format.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {

ShardWriter::ShardWriter(const std::string& dir, Split split, int64_t vocab_size)
    : bin_path_(dir + "/" + Name(split) + ".bin"),
      docs_path_(dir + "/" + Name(split) + ".docs"),
      vocab_size_(vocab_size),
      width_(vocab_size <= 65536 ? 2 : 4),
      bin_(bin_path_, std::ios::binary) {
  WriteHeader();
}

void ShardWriter::WriteHeader() {
  int32_t header[kHeaderBytes / 4] = {width_ == 2 ? kMagicUint16 : kMagicUint32, VersionOf(width_),
                                      static_cast<int32_t>(info_.tokens)};
  bin_.write(reinterpret_cast<const char*>(header), sizeof header);
}

void ShardWriter::Append(int64_t token) {
  if (token < 0 || token >= vocab_size_) {
    throw DataError(bin_path_ + ": token " + std::to_string(token) + " outside the vocabulary of " +
                    std::to_string(vocab_size_));
  }
  const auto value = static_cast<uint32_t>(token);
  buffer_.append(reinterpret_cast<const char*>(&value),
                 width_);  // little-endian: the low bytes come first
}

void ShardWriter::Add(int64_t separator, const std::vector<int64_t>& tokens, int64_t bytes,
                      int64_t characters) {
  records_.push_back(static_cast<uint64_t>(info_.tokens));
  records_.push_back(static_cast<uint64_t>(bytes));
  Append(separator);
  for (const int64_t token : tokens) Append(token);
  info_.tokens += 1 + static_cast<int64_t>(tokens.size());
  info_.documents += 1;
  info_.bytes += bytes;
  info_.characters += characters;
  if (info_.tokens > std::numeric_limits<int32_t>::max()) {
    throw DataError(bin_path_ +
                    ": more tokens than a shard's header can count (2^31 - 1); use less text");
  }
  if (buffer_.size() > size_t{1} << 20) {
    bin_.write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    buffer_.clear();
  }
}

SplitInfo ShardWriter::Finish() {
  bin_.write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
  bin_.seekp(0);
  WriteHeader();
  bin_.close();
  const auto count = static_cast<uint64_t>(info_.documents);
  std::ofstream docs(docs_path_, std::ios::binary);
  docs.write(reinterpret_cast<const char*>(&count), 8);
  docs.write(reinterpret_cast<const char*>(records_.data()),
             static_cast<std::streamsize>(8 * records_.size()));
  docs.close();
  if (!bin_ || !docs) throw DataError(bin_path_ + ": cannot be written (is the disk full?)");
  ForceToDisk(bin_path_);
  ForceToDisk(docs_path_);
  info_.sha256 = spec::Sha256HexOfFile(bin_path_);
  docs_sha256_ = spec::Sha256HexOfFile(docs_path_);
  return info_;
}

void ForceToDisk(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = fd >= 0 && fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!done) throw DataError(path + ": cannot be forced to disk: " + std::strerror(error));
}

}  // namespace plumb::data
