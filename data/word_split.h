// GPT-2's rule for words, on UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace plumb::data {

// The rule as its tokenizer writes it.
inline constexpr char kGpt2Words[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Where the word that begins at `from` < text.size() ends. A byte that is not UTF-8 counts as a
// sign.
size_t WordEnd(std::string_view text, size_t from);

}  // namespace plumb::data
