// Strong ids: a TrialId is not a StageId, and neither is an int64.
#pragma once

#include <compare>
#include <cstdint>

namespace plumb {

template <typename Tag>
struct Id {
  int64_t value = 0;  // 0: none; ids given by the database start at 1
  auto operator<=>(const Id&) const = default;
  explicit operator bool() const { return value != 0; }
};

using SweepId = Id<struct SweepTag>;
using CellId = Id<struct CellTag>;
using TrialId = Id<struct TrialTag>;
using StageId = Id<struct StageTag>;
using WorkerId = Id<struct WorkerTag>;
using SessionId = Id<struct SessionTag>;

// One execution of a stage; `number` is the fencing token within the cluster's incarnation.
struct AttemptId {
  StageId stage;
  int64_t number = 0;
  auto operator<=>(const AttemptId&) const = default;
};

}  // namespace plumb
