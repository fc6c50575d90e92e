// SHA-256 (FIPS 180-4), for digests of configs, data and checkpoints. Here and not from a library
// because the trainer builds on a machine that has LibTorch and one JSON header
// (docs/decisions/0001-own-sha256.md).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace plumb::spec {

class Sha256 {
 public:
  Sha256();
  void Update(const void* data, size_t size);
  void Update(std::string_view s) { Update(s.data(), s.size()); }
  std::string HexDigest();  // ends the computation

 private:
  void Block(const uint8_t* p);
  std::array<uint32_t, 8> h_;
  std::array<uint8_t, 64> buffer_;
  size_t used_ = 0;
  uint64_t bytes_ = 0;
};

std::string Sha256Hex(std::string_view data);
std::string Sha256HexOfFile(
    const std::string& path);  // throws std::runtime_error when it cannot be read

}  // namespace plumb::spec
