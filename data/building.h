// A folder that appears whole or not at all.
#pragma once

#include <string>

namespace plumb::data {

// Built beside `place` under a hidden name; removed on destruction unless it was put in place. An
// older folder there is exchanged in one step and removed. Throws DataError.
class Building {
 public:
  explicit Building(const std::string& place);
  Building(const Building&) = delete;
  Building& operator=(const Building&) = delete;
  ~Building();

  const std::string& dir() const { return dir_; }
  void Write(const std::string& name, const std::string& content);  // forced to disk
  void Place();                                                     // once, last

 private:
  std::string place_, dir_;
};

}  // namespace plumb::data
