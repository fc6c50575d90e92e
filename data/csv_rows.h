// A CSV file (RFC 4180: quoted fields, quotes doubled, line ends within quotes) whose first row
// names the columns.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace plumb::data {

class CsvRows {
 public:
  // Throws DataError, as Next: no such file, no header, a column named twice.
  explicit CsvRows(std::string path);

  bool Next(std::map<std::string, std::string>* row);  // false at the end; by column
  int64_t line() const { return line_; }               // that the row begins on, from 1

 private:
  bool Fields(std::vector<std::string>* out);
  [[noreturn]] void Wrong(const std::string& what) const;

  const std::string path_;
  std::ifstream in_;
  std::vector<std::string> columns_;
  int64_t line_ = 0, next_ = 1;
};

}  // namespace plumb::data
