// Unicode's Normalization Form C, by ICU.
#pragma once

#include <string>
#include <string_view>

namespace plumb::data {

std::string Nfc(std::string_view text);  // throws DataError

}  // namespace plumb::data
