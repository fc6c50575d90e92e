// The server's log as JSON lines on stderr: its messages, and each event once it is committed, with
// the ids that `plumb events` shows. For log collectors; the database stays the source.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "domain/changes.h"

namespace plumb::coordinator {

// From now on, in this process. A message is {"time", "level", "message"}, an event {"time",
// "level", "event", "detail"} with those of "sweep", "request", "trial", "stage", "attempt",
// "worker" that it has.
void LogAsJson();

// Logs the events among what was committed, where LogAsJson was called. Any thread.
void LogEvents(absl::Span<const Change> committed);

}  // namespace plumb::coordinator
