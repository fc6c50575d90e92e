// The alphabet of byte-level BPE: each byte as one printable character, so that a vocabulary is
// text. GPT-2's table: printable Latin-1 stands for itself, the rest for U+0100 and following.
#pragma once

#include <string>

namespace plumb::data {

// The character of a byte, UTF-8.
std::string ByteSymbol(unsigned char byte);

// The byte of a character, or -1.
int ByteOfSymbol(char32_t symbol);

}  // namespace plumb::data
