// tokenizer.json and its companions, as Hugging Face tokenizers reads them, for the tokenizers of
// Plumb's corpora. Torch-free.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace plumb::data {

// Files by name, to be written beside a model. The texts encode to the same ids there as here.
using TokenizerFiles = std::map<std::string, std::string>;

// Of "bytes": 256 tokens and no merge; token 0 separates documents.
TokenizerFiles HfBytesTokenizer();
// Whether the text of a tokenizer.json is of that tokenizer, whoever has written it again.
bool IsHfBytesTokenizer(const std::string& tokenizer_json);

// Of a SentencePiece model given as the bytes of its file: tokenizer.model as it is, and a
// tokenizer.json of the same merges. Throws DataError for a model that is not BPE with identity
// normalisation and byte fallback, whose ids another program would not reproduce; `where` names it.
TokenizerFiles HfSentencePieceTokenizer(std::string_view model, const std::string& where);

}  // namespace plumb::data
