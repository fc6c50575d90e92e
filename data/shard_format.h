// The numbers of a .bin shard, shared by its reader and its writer (layout: data/dataset.h; after
// llm.c's dataloader).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace plumb::data {

static_assert(std::endian::native == std::endian::little,
              "shards are little-endian and read in place");

inline constexpr int32_t kMagicUint16 = 20240520;
inline constexpr int32_t kMagicUint32 = 20240801;
inline constexpr size_t kHeaderBytes = 256 * 4;

constexpr int32_t VersionOf(int token_bytes) { return token_bytes == 2 ? 1 : 7; }

}  // namespace plumb::data
