// Plans submitted sweeps and cuts them into slices, on a thread of its own: planning may take
// seconds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/contest.h"
#include "coordinator/owner.h"
#include "coordinator/population_log.h"
#include "coordinator/search_log.h"
#include "coordinator/suggestion_desk.h"
#include "coordinator/task_thread.h"
#include "plumb/v1/suggest_service.pb.h"
#include "store/read.h"
#include "sweeps/plan.h"

namespace plumb::coordinator {

using PlanFn = std::function<absl::StatusOr<sweeps::SweepPlan>(const std::string& yaml,
                                                               const std::string& file_name)>;

class Planner {
 public:
  // The database at `db_path` exists already.
  Planner(PlanFn plan, std::string db_path, SuggestionDesk* desk);
  ~Planner() { Stop(); }
  // Before the first call of the others; `owner` must outlive the last.
  void Attach(Owner* owner);

  using Done = std::function<void(absl::StatusOr<core::Submitted>)>;
  void Submit(std::string request_id, std::string yaml, std::string file_name, std::string user,
              Done done);
  struct Extend {
    std::string request_id, yaml, file_name, user, reason;
    SweepId sweep;
    bool may_remove = false, validate_only = false;
  };
  struct Extended {
    core::Extended answer;
    std::vector<std::string> new_cells, removed_cells;
  };
  using ExtendDone = std::function<void(absl::StatusOr<Extended>)>;
  void ExtendSweep(Extend request, ExtendDone done);
  // Owner's SliceFn: from the plan made at the submit, or, after a restart, made again from the
  // sweep's YAML.
  void AskForSlice(const core::Core::Cursor& at);
  // Owner's AdviseFn.
  void AskForAdvice(const Owner::Question& question);
  // suggest.cc: an answer of a suggester.
  using SuggestDone = std::function<void(absl::StatusOr<v1::ReportSuggestionsResponse>)>;
  void Suggest(v1::ReportSuggestionsRequest answer, SuggestDone done);
  void Stop() { thread_.Stop(); }

 private:
  struct Kept {
    sweeps::SweepPlan plan;
    std::vector<sweeps::PlannedTrial> added;  // by the first `additions` of the sweep's
    size_t additions = 0;
    std::optional<Contest> contest;
    std::optional<SearchLog> search;  // where the plan has one
    std::optional<PopulationLog> population;
    std::string yaml;           // as of the last edit among the additions
    std::set<int64_t> removed;  // cells that edits took out
  };
  void SubmitNow(const std::string& request_id, const std::string& yaml,
                 const std::string& file_name, const std::string& user, const Done& done);
  // At the sweep's state as it stands now.
  void ExtendFrom(std::shared_ptr<const Extend> request, int tries, ExtendDone done);
  absl::StatusOr<core::ExtendSweep> ExtendNow(const Extend& request, const core::Core::Cursor& at,
                                              Extended* out);
  absl::StatusOr<core::ExtendSweep> ExtendSearch(const Extend& request,
                                                 const core::Core::Cursor& at, const Kept& kept,
                                                 const sweeps::SweepPlan& newer,
                                                 const std::string& name);
  absl::StatusOr<std::vector<sweeps::PlannedTrial>> Added(Kept& kept, const AdditionRow& addition);
  static std::shared_ptr<Kept> Keep(sweeps::SweepPlan plan, std::string yaml);
  static Contest AllOf(const Kept& kept, const std::vector<AdditionRow>& additions);
  // The plan with the trials of the cursor's additions, kept from before or made again.
  absl::StatusOr<Kept*> PlanOf(const core::Core::Cursor& at);
  absl::StatusOr<core::MaterializeSlice> SliceNow(const core::Core::Cursor& at);
  absl::StatusOr<core::AdviseSweep> AdviceNow(const Owner::Question& question);
  // suggest.cc
  absl::StatusOr<std::vector<sweeps::PlannedTrial>> AddedBy(Kept& kept,
                                                            const AdditionRow& addition);
  // Lays out what the search lacks, or ends it.
  absl::Status AskForPoints(const core::Core::Cursor& at, Kept& kept, store::Reader& reader,
                            core::AdviseSweep* advice);
  // What the members of its population have come to.
  static absl::Status JudgeMembers(const core::Core::Cursor& at, Kept& kept, store::Reader& reader,
                                   core::AdviseSweep* advice);
  void SuggestNow(const v1::ReportSuggestionsRequest& answer, const SuggestDone& done);
  // NotFound for a sweep that `prior:` names and that is not there.
  absl::Status CheckPriors(const sweeps::SweepPlan& plan);

  const PlanFn plan_;
  const std::string db_path_;
  SuggestionDesk* const desk_;  // outlives it
  Owner* owner_ = nullptr;
  // Slices asked for before Attach.
  std::mutex attach_mutex_;
  std::vector<core::Core::Cursor> asked_;  // by attach_mutex_
  // The thread's.
  // By request_id and hash, until the last slice is cut and the sweep is not open any more.
  std::map<std::string, std::shared_ptr<Kept>> plans_;
  TaskThread thread_;
};

}  // namespace plumb::coordinator
