// Plans submitted sweeps and cuts them into slices, on a thread of its own: planning may take
// seconds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/owner.h"
#include "coordinator/task_thread.h"
#include "sweeps/plan.h"

namespace plumb::coordinator {

using PlanFn = std::function<absl::StatusOr<sweeps::SweepPlan>(const std::string& yaml,
                                                               const std::string& file_name)>;

class Planner {
 public:
  // The database at `db_path` exists already.
  Planner(PlanFn plan, std::string db_path)
      : plan_(std::move(plan)), db_path_(std::move(db_path)) {}
  ~Planner() { Stop(); }
  // Before the first call of the others; `owner` must outlive the last.
  void Attach(Owner* owner);

  using Done = std::function<void(absl::StatusOr<core::Submitted>)>;
  void Submit(std::string request_id, std::string yaml, std::string file_name, std::string user,
              Done done);
  // Owner's SliceFn: from the plan made at the submit, or, after a restart, made again from the
  // sweep's YAML.
  void AskForSlice(const core::Core::Cursor& at);
  void Stop() { thread_.Stop(); }

 private:
  using PlanPtr = std::shared_ptr<const sweeps::SweepPlan>;  // shared between the tasks that cut it
  void SubmitNow(const std::string& request_id, const std::string& yaml,
                 const std::string& file_name, const std::string& user, const Done& done);
  absl::StatusOr<core::MaterializeSlice> SliceNow(const core::Core::Cursor& at);

  const PlanFn plan_;
  const std::string db_path_;
  Owner* owner_ = nullptr;
  // Slices asked for before Attach.
  std::mutex attach_mutex_;
  std::vector<core::Core::Cursor> asked_;  // by attach_mutex_
  // The thread's.
  std::map<std::string, PlanPtr> plans_;  // by request_id and hash, until the last slice is cut
  TaskThread thread_;
};

}  // namespace plumb::coordinator
