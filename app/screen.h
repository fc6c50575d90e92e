// Lines that are drawn again and again in one place of a terminal.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "app/signals.h"
#include "app/table.h"

namespace plumb::app {

class Screen {
 public:
  // Draws over what it drew before.
  void Draw(const std::vector<std::string>& lines) {
    std::string out;
    if (drawn_ > 0) out += absl::StrCat("\x1b[", drawn_, "F");
    const int width = TerminalWidth();
    for (const std::string& line : lines) out += Shorten(line, width) + "\x1b[K\n";
    out += "\x1b[J";
    std::fputs(out.c_str(), stdout);
    std::fflush(stdout);
    drawn_ = static_cast<int>(lines.size());
  }

 private:
  int drawn_ = 0;
};

}  // namespace plumb::app
