// Some sweeps of a database as a database of its own, to hand to somebody.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::store {

struct Extracted {
  int64_t sweeps = 0, trials = 0, points = 0, events = 0;
};

// Makes `dest`, which must not exist: the same schema, the same ids, of `sweeps` (none: all) and
// what belongs to them alone; the moment of one read transaction, while a server may be writing.
// What ran waits in it, its attempts are lost. Events are numbered and chained anew, after one that
// says of which chain they are. `dest` appears when it is complete and verified. NotFound for a
// sweep that is not there.
absl::StatusOr<Extracted> Extract(const std::string& path, const std::string& dest,
                                  const std::vector<int64_t>& sweeps, int64_t wall_us);

}  // namespace plumb::store
