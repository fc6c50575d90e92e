// From what should be and what is to what to do: a pure function, asked again after every change.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "worker/attempt.h"

namespace plumb::worker {

struct Desired {
  std::vector<AttemptKey> attempts;
  std::set<int64_t> preempt_stages;
  bool known = false;  // false: the coordinator has not spoken in this session; nothing is stopped
                       // or forgotten
  bool draining = false;                  // the worker is leaving
  std::map<AttemptKey, int64_t> bundles;  // of attempts that share a trainer
  // Parts of gangs whose rank 0 is elsewhere: they end with it, and are not asked to before.
  std::set<AttemptKey> members;
  std::set<AttemptKey> unready;                // of those, where rank 0 is not known yet
  std::map<AttemptKey, std::string> programs;  // trainers that they need, by name; else ""
};

struct LocalAttempt {
  AttemptKey key;
  Phase phase = Phase::kWaiting;
  Stop stop = Stop::kNone;
  int slot = -1;  // of what was handed to a trainer
};

struct SlotView {
  bool free = false;  // may take an attempt now
  // The trainer that runs there, by name; absent: none.
  std::optional<std::string> program = std::nullopt;
};

struct Action {
  enum Kind {
    kTake,     // a new attempt: remember it, so that it is reported
    kStart,    // hand it to the trainer of `slot`
    kPreempt,  // ask for a checkpoint and the end
    kCancel,   // ask for the end
    kAbandon,  // it never began: it ends as preempted
    kForget,   // ended and no longer wanted
  };
  Kind kind;
  AttemptKey key;
  int slot = -1;
  auto operator<=>(const Action&) const = default;
};

// Rules: an attempt that is not desired is cancelled, and forgotten once it has ended; a desired
// one that has ended is kept and reported; one that waits, and is not unready, starts where its
// bundle runs, or else, in the order of its key, in the first free slot where its trainer runs, or
// none does, or another that is then to leave.
std::vector<Action> Reconcile(const Desired& desired, const std::vector<LocalAttempt>& local,
                              const std::vector<SlotView>& slots);

}  // namespace plumb::worker
