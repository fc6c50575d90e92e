// What a program that called plumb learns from its exit status. One table for the whole command
// line.
#pragma once

#include "absl/status/status.h"

namespace plumb::app {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kBadUsage = 2;  // an argument or a sweep file that is wrong
inline constexpr int kNotFound = 3;
inline constexpr int kNotAllowed = 4;
inline constexpr int kUnreachable = 5;   // no server
inline constexpr int kConflict = 6;      // state or quota
inline constexpr int kTrialsFailed = 7;  // waited-for trials failed
inline constexpr int kTimeout = 8;
inline constexpr int kInterrupted = 130;

// absl's codes are gRPC's, number for number. A code that is not in the table is 1.
int ExitCode(absl::StatusCode code);

// Prints "plumb: <message>" to stderr unless ok, and returns the exit code.
int Finish(const absl::Status& status);

}  // namespace plumb::app
