// A file of one JSON object a line, read strictly: not UTF-8, a key given twice, anything that is
// no object is an error that names the line.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb::data {

class JsonLines {
 public:
  // Throws DataError, as all below. `like`: an object to show where a line is none.
  JsonLines(std::string path, std::string like, int64_t max_file_bytes = int64_t{1} << 30,
            int64_t max_line_bytes = int64_t{1} << 20);

  bool Next(nlohmann::json* object);  // false at the end; empty lines are passed over
  int64_t line() const { return line_; }
  // What is found wrong from here on stands in this line: of a file whose rows are read otherwise.
  void StandAt(int64_t line) { line_ = line; }
  [[noreturn]] void Wrong(const std::string& what) const;  // "path:line: what"

  // The value of a key that must be there. Text: not empty, without NUL, which separates texts
  // here.
  std::string Text(const nlohmann::json& object, const std::string& key) const;
  int64_t Integer(const nlohmann::json& object, const std::string& key, int64_t min,
                  int64_t max) const;

 private:
  nlohmann::json Parse(const std::string& text) const;

  const std::string path_, like_;
  const int64_t max_line_bytes_;
  std::ifstream in_;
  int64_t line_ = 0;
};

}  // namespace plumb::data
