// The known name that a mistyped one most likely meant.
#pragma once

#include <string>
#include <vector>

namespace plumb::app {

// Insertions, deletions, changes and swaps of neighbours that turn a into b.
int EditDistance(const std::string& a, const std::string& b);

// "" where nothing is near: more than a third of the letters (at least 2) would have to change.
std::string Nearest(const std::string& word, const std::vector<std::string>& names);

}  // namespace plumb::app
