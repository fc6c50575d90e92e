// A general compressor as a yardstick for bits per byte.
#pragma once

#include <cstdint>
#include <string_view>

namespace plumb::data {

// Bits that xz -9e (LZMA2) adds for each byte of `text` after it has seen `primer` (which may be
// empty): the size of the stream up to the end of the text, less that up to the end of the primer,
// flushed there; no container around it. The dictionary holds both whole. Throws DataError when
// memory is short.
double CompressorBitsPerByte(std::string_view primer, std::string_view text);

}  // namespace plumb::data
