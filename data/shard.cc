#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "data/dataset.h"
#include "data/shard_format.h"

namespace plumb::data {
namespace {

// A whole file mapped read-only; an empty file maps to nothing.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw DataError(path + ": cannot be opened: " + std::strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
      close(fd);
      throw DataError(path + ": is not a regular file");
    }
    size_ = static_cast<size_t>(info.st_size);
    if (size_ > 0) {
      void* p = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
      const int error = errno;
      close(fd);
      if (p == MAP_FAILED) throw DataError(path + ": cannot be mapped: " + std::strerror(error));
      data_ = static_cast<const uint8_t*>(p);
    } else {
      close(fd);
    }
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
  }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// memcpy, because the tokens behind an odd header need not be aligned.
template <typename T>
T Load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

constexpr char kRemedy[] = "; prepare the corpus again (plumb data prepare)";

}  // namespace

struct Shard::Map {
  explicit Map(const std::string& bin_path) : path(bin_path), bin(bin_path) {}

  std::string path;
  MappedFile bin;
  std::unique_ptr<MappedFile> docs;  // null: one document
  const uint8_t* tokens = nullptr;
  int64_t count = 0;
  int64_t documents = 0;
  int width = 2;  // bytes of a token

  int64_t Token(int64_t i) const {
    return width == 2 ? int64_t{Load<uint16_t>(tokens + 2 * i)}
                      : int64_t{Load<uint32_t>(tokens + 4 * i)};
  }
  uint64_t Record(int64_t document, int field) const {
    return Load<uint64_t>(docs->data() + 8 + 16 * document + 8 * field);
  }
  void ReadHeader();
  void ReadDocuments(const std::string& docs_path);
};

void Shard::Map::ReadHeader() {
  const int32_t magic = bin.size() >= 4 ? Load<int32_t>(bin.data()) : 0;
  if (magic != kMagicUint16 && magic != kMagicUint32) {  // nanoGPT's headerless uint16
    if (bin.size() % 2 != 0) {
      throw DataError(path +
                      ": neither a token shard (no magic number) nor headerless uint16 (odd size)" +
                      kRemedy);
    }
    tokens = bin.data();
    count = static_cast<int64_t>(bin.size() / 2);
    return;
  }
  if (bin.size() < kHeaderBytes) {
    throw DataError(path + ": truncated within its header of " + std::to_string(kHeaderBytes) +
                    " bytes" + kRemedy);
  }
  width = magic == kMagicUint16 ? 2 : 4;
  const int32_t version = Load<int32_t>(bin.data() + 4);
  if (version != VersionOf(width)) {
    throw DataError(path + ": version " + std::to_string(version) + " where " +
                    std::to_string(VersionOf(width)) + " is known" + kRemedy);
  }
  count = Load<int32_t>(bin.data() + 8);
  const auto present = static_cast<int64_t>(bin.size() - kHeaderBytes);
  if (count < 0 || count * width != present) {
    throw DataError(path + ": its header says " + std::to_string(count) + " tokens of " +
                    std::to_string(width) + " bytes, but " + std::to_string(present) +
                    " bytes follow" + kRemedy);
  }
  tokens = bin.data() + kHeaderBytes;
}

void Shard::Map::ReadDocuments(const std::string& docs_path) {
  if (!std::filesystem::exists(docs_path)) {
    documents = count > 0 ? 1 : 0;
    return;
  }
  docs = std::make_unique<MappedFile>(docs_path);
  const uint64_t size = docs->size();
  const uint64_t n = size >= 8 ? Load<uint64_t>(docs->data()) : 0;
  if (size < 8 || (size - 8) % 16 != 0 || n != (size - 8) / 16) {
    throw DataError(docs_path + ": " + std::to_string(size) + " bytes do not hold the " +
                    std::to_string(n) + " documents it says" + kRemedy);
  }
  documents = static_cast<int64_t>(n);
  if ((n == 0) != (count == 0)) {
    throw DataError(docs_path + ": " + std::to_string(n) + " documents for " +
                    std::to_string(count) + " tokens" + kRemedy);
  }
  uint64_t previous = 0;
  for (int64_t d = 0; d < documents; ++d) {
    const uint64_t first = Record(d, 0);
    const bool in_order = d == 0 ? first == 0 : first > previous;
    if (!in_order || first >= static_cast<uint64_t>(count) || Record(d, 1) > uint64_t{1} << 62) {
      throw DataError(docs_path + ": document " + std::to_string(d) + " begins at token " +
                      std::to_string(first) + " of " + std::to_string(count) +
                      ", out of order or out of range" + kRemedy);
    }
    previous = first;
  }
}

Shard::Shard(std::shared_ptr<const Map> map)
    : map_(std::move(map)), documents_(map_->documents), tokens_(map_->count) {}
Shard::Shard(Shard&&) noexcept = default;
Shard& Shard::operator=(Shard&&) noexcept = default;
Shard::~Shard() = default;

Shard Shard::Open(const std::string& bin_path) {
  auto map = std::make_unique<Map>(bin_path);
  map->ReadHeader();
  map->ReadDocuments(std::filesystem::path(bin_path).replace_extension(".docs").string());
  return Shard(std::move(map));
}

Shard Shard::Documents(int64_t first, int64_t count) const {
  if (first < 0 || count < 0 || count > documents_ - first) {
    throw DataError(map_->path + ": documents [" + std::to_string(first) + ", +" +
                    std::to_string(count) + ") asked of " + std::to_string(documents_));
  }
  Shard view(map_);
  view.first_document_ = first_document_ + first;
  view.documents_ = count;
  view.first_token_ = first_token_ + DocumentBegin(first);
  view.tokens_ = DocumentBegin(first + count) - DocumentBegin(first);
  return view;
}

int64_t Shard::tokens() const { return tokens_; }
int64_t Shard::documents() const { return documents_; }

int64_t Shard::Token(int64_t i) const {
  int64_t token;
  Copy(i, 1, &token);
  return token;
}

void Shard::Copy(int64_t begin, int64_t count, int64_t* out) const {
  const Map& m = *map_;
  if (begin < 0 || count < 0 || begin > tokens_ || count > tokens_ - begin) {
    throw DataError(m.path + ": tokens [" + std::to_string(begin) + ", +" + std::to_string(count) +
                    ") asked of " + std::to_string(tokens_));
  }
  for (int64_t i = 0; i < count; ++i) out[i] = m.Token(first_token_ + begin + i);
}

int64_t Shard::DocumentBegin(int64_t document) const {
  const Map& m = *map_;
  if (document < 0 || document > documents_) {
    throw DataError(m.path + ": document " + std::to_string(document) + " asked of " +
                    std::to_string(documents_));
  }
  if (document == documents_) return tokens_;
  return m.docs == nullptr
             ? 0
             : static_cast<int64_t>(m.Record(first_document_ + document, 0)) - first_token_;
}

int64_t Shard::DocumentBytes(int64_t document) const {
  const Map& m = *map_;
  if (document < 0 || document >= documents_) {
    throw DataError(m.path + ": document " + std::to_string(document) + " asked of " +
                    std::to_string(documents_));
  }
  return m.docs == nullptr ? 0 : static_cast<int64_t>(m.Record(first_document_ + document, 1));
}

int64_t Shard::DocumentOf(int64_t token) const {
  if (token < 0 || token >= tokens_) {
    throw DataError(map_->path + ": token " + std::to_string(token) + " asked of " +
                    std::to_string(tokens_));
  }
  int64_t low = 0, high = documents_;  // DocumentBegin(low) <= token < DocumentBegin(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (DocumentBegin(middle) <= token ? low : high) = middle;
  }
  return low;
}

}  // namespace plumb::data
