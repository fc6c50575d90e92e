// One place for an attempt: a trainer's process, its journal, and what runs there.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trainer/protocol/journal.h"
#include "worker/trainer_process.h"
#include "worker/workspace.h"

namespace plumb::worker {

struct Slot {
  Slot(int index, const std::string& dir, const std::string& guard_path)
      : index(index),
        process(dir, guard_path),
        mark(ReadMark(dir)),
        reader(dir + "/journal", mark.position) {}

  const int index;
  TrainerProcess process;
  JournalMark mark;  // as written
  trainer::JournalReader reader;
  std::string bundle;    // open at the trainer once what was sent is applied
  bool leaving = false;  // its trainer was asked to shut down: another program is wanted
  bool settled = true;   // false: found alive, and not yet heard what it runs
  bool unread = true;    // the journal may have grown
  std::chrono::steady_clock::time_point mark_time;
};

}  // namespace plumb::worker
