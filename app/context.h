// What every command knows from the global options.
#pragma once

#include <string>

namespace plumb::app {

struct Context {
  std::string server;           // --server or PLUMB_SERVER; "": by the database's address file
  std::string db = "plumb.db";  // --db
  bool db_given = false;
  std::string format = "table";  // -o
};

}  // namespace plumb::app
