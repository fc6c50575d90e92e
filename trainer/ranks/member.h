// A gang's ranks on a machine that has not rank 0: processes that go to rank 0 and do as it says
// (trainer/ranks/rank_process.h). This trainer only starts them, sees them end and ends them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "trainer/protocol/engine.h"

namespace plumb::trainer {

// One thread, the process's first (trainer/ranks/gang.h).
class Member {
 public:
  // `request.gang` has a rendezvous. Throws std::runtime_error.
  Member(const RowRequest& request, const std::string& data_dir);
  ~Member();  // no process is left
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  const std::string& row() const { return row_; }
  struct End {
    RowOutcome outcome = RowOutcome::kSucceeded;  // that: rank 0 has let all go, or is gone
    std::string cause;
  };
  // Waits, `limit` at most, for its end: that of all ranks, or the first that went wrong.
  std::optional<End> Wait(std::chrono::milliseconds limit);

 private:
  struct Process {
    int64_t rank = 0;
    pid_t pid = 0;   // 0: reaped
    int words = -1;  // what it says before it ends with an error; at its end when it has ended
  };
  void Kill();

  const std::string row_;
  std::vector<Process> processes_;
};

}  // namespace plumb::trainer
