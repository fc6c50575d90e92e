// What is wrong with a sweep file, and where.
#pragma once

#include <string>
#include <vector>

namespace plumb::sweeps {

// Both from 1; columns count characters, not bytes.
struct Position {
  int line = 1;
  int column = 1;
  friend auto operator<=>(const Position&, const Position&) = default;
};

struct Problem {
  Position at;
  std::string message;  // names the fix
};

// Every problem in the order of the file, as "file:line:column: message", the source line, and a
// caret under the column; in a text with included files, those of the file it was written in
// (sweeps/include.h). Of several problems at one place only the first given is kept: the others
// follow from it.
std::string FormatProblems(std::vector<Problem> problems, const std::string& file_name,
                           const std::string& source);

}  // namespace plumb::sweeps
