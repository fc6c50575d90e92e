// A stage for trials that are there: which of them a request means, and one event for each.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "coordinator/owner.h"
#include "plumb/v1/sweep_service.pb.h"
#include "store/read.h"

namespace plumb::coordinator {

// On the thread of `reader`. Each trial's stage is committed by itself: where the request is cut
// short, what was said is done, and asking again does the rest. `done` is called once, from here or
// from the store's thread; `response` and `owner` must outlive that.
void AddStages(const v1::AddStagesRequest& request, store::Reader& reader, Owner& owner,
               v1::AddStagesResponse* response, std::function<void(const absl::Status&)> done);

}  // namespace plumb::coordinator
