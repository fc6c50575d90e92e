#include "data/nfc.h"

#include <unicode/normalizer2.h>

#include "data/dataset.h"

namespace plumb::data {

std::string Nfc(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = icu::Normalizer2::getNFCInstance(error);
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  if (U_SUCCESS(error)) {
    normalizer->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())),
                              sink, nullptr, error);
  }
  if (U_FAILURE(error))
    throw DataError("text cannot be normalised: " + std::string(u_errorName(error)));
  return out;
}

}  // namespace plumb::data
