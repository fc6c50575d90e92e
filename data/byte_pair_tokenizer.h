// Byte-level BPE, as GPT-2, GPT-NeoX and OLMo have it, from the files of Hugging Face tokenizers.
// Ids are those of their encode(text, add_special_tokens=False).
//
// Words are cut by GPT-2's rule: a contraction, or letters, or digits, or other signs, each with
// the space before it; or white space. Letters, digits and white space are Unicode's. A
// tokenizer with another rule, normaliser or model is refused by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/tokenizer.h"

namespace plumb::data {

// Text in Normalization Form C.
using Normalize = std::string (*)(std::string_view);
// Text that is in it already comes back, other text is refused (DataError): it takes tables that
// only plumb_prepare has (data/nfc.h).
std::string PlainNfc(std::string_view text);

// From the text of tokenizer.json. The separator is `separator` ("": <|endoftext|>, or else the
// only special token there is). `where` names the file in messages; throws DataError.
std::unique_ptr<Tokenizer> BytePairTokenizer(const std::string& tokenizer_json,
                                             const std::string& where,
                                             const std::string& separator = "",
                                             Normalize nfc = PlainNfc);

// From the texts of vocab.json and merges.txt: GPT-2's settings.
std::unique_ptr<Tokenizer> BytePairTokenizer(const std::string& vocab_json,
                                             const std::string& merges_txt,
                                             const std::string& where,
                                             const std::string& separator);

}  // namespace plumb::data
