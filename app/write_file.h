// Files that appear whole.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace plumb::app {

absl::Status WriteFile(const std::string& path, const std::string& text);

}  // namespace plumb::app
