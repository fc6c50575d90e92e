#include "app/exit_code.h"

#include <cstdio>
#include <string>

namespace plumb::app {

int ExitCode(absl::StatusCode code) {
  switch (static_cast<int>(code)) {
    case 0:  // OK
      return kDone;
    case 1:  // CANCELLED
      return kInterrupted;
    case 3:   // INVALID_ARGUMENT
    case 11:  // OUT_OF_RANGE
      return kBadUsage;
    case 4:  // DEADLINE_EXCEEDED
      return kTimeout;
    case 5:  // NOT_FOUND
      return kNotFound;
    case 7:   // PERMISSION_DENIED
    case 16:  // UNAUTHENTICATED
      return kNotAllowed;
    case 6:   // ALREADY_EXISTS
    case 8:   // RESOURCE_EXHAUSTED
    case 9:   // FAILED_PRECONDITION
    case 10:  // ABORTED
      return kConflict;
    case 14:  // UNAVAILABLE
      return kUnreachable;
    default:  // UNKNOWN, UNIMPLEMENTED, INTERNAL, DATA_LOSS and what later versions add
      return kFailed;
  }
}

int Finish(const absl::Status& status) {
  if (!status.ok()) {
    std::fflush(stdout);
    std::fprintf(stderr, "plumb: %s\n", std::string(status.message()).c_str());
  }
  return ExitCode(status.code());
}

}  // namespace plumb::app
