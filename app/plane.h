// The plane of depth and width that a sweep's shapes lie in, with lines of equal parameters and of
// equal FLOPs.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "sweeps/describe.h"
#include "sweeps/plan.h"

namespace plumb::app {

// For a terminal.
std::string PlaneText(const sweeps::SweepPlan& plan, const sweeps::PlanSummary& summary);
absl::Status DrawPlane(const sweeps::SweepPlan& plan, const sweeps::PlanSummary& summary,
                       const std::string& svg_file);

}  // namespace plumb::app
