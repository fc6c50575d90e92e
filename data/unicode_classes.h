// What the rules of tokenizers ask of a character, without ICU, which the trainer does not link.
#pragma once

namespace plumb::data {

// By its general category: L*, N*; white space as Unicode has it.
enum class CharacterClass { kOther, kLetter, kNumber, kSpace };
CharacterClass ClassOf(char32_t c);  // kOther for what is no code point

// Whether it stays as it is in Normalization Form C whatever stands beside it.
bool PlainInNfc(char32_t c);

}  // namespace plumb::data
