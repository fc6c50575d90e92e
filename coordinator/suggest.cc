// The planner's part in searches: it asks for points, and judges those that come.
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/planner.h"
#include "domain/status_macros.h"

namespace plumb::coordinator {

// A suggester, a generation of a population, an edit, or the sweep's own advisor.
absl::StatusOr<std::vector<sweeps::PlannedTrial>> Planner::AddedBy(Kept& kept,
                                                                   const AdditionRow& addition) {
  const int64_t first = std::ssize(kept.plan.trials) + std::ssize(kept.added);
  if (kept.population) return kept.population->Take(addition, first, &kept.plan.cells);
  if (!kept.search || !SearchLog::Owns(addition)) return Added(kept, addition);
  return kept.search->Take(addition, first, &kept.plan.cells);
}

absl::Status Planner::CheckPriors(const sweeps::SweepPlan& plan) {
  if (plan.search == nullptr || plan.search->spec().prior.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(db_path_));
  for (const sweeps::SearchPrior& prior : plan.search->spec().prior) {
    const auto missing = [&](const std::string& what) {
      return absl::NotFoundError(absl::StrCat("prior: there is no sweep ", what,
                                              "; `plumb sweep list` shows those there are"));
    };
    if (prior.name.empty()) {
      if (!reader.Sweep(SweepId{prior.id}).ok()) return missing(absl::StrCat(prior.id));
    } else {
      ASSIGN_OR_RETURN(const SweepId id, reader.SweepByName(prior.name, SweepId{}));
      if (!id) return missing(absl::StrCat("named ", prior.name));
    }
  }
  return absl::OkStatus();
}

absl::Status Planner::AskForPoints(const core::Core::Cursor& at, Kept& kept, store::Reader& reader,
                                   core::AdviseSweep* advice) {
  SearchLog& log = *kept.search;
  RETURN_IF_ERROR(log.Look(at.sweep, reader));
  if (log.IsOpen() && log.Hopeless()) {
    const std::string why =
        "the last 100 suggestions were all refused (`plumb events` has the reasons); no more are "
        "asked for";
    SearchLog::Answer end = SearchLog::End(why);
    advice->additions.push_back(
        {.name = end.name, .payload_json = end.payload_json, .trials = 0, .why = why});
    desk_->Withdraw(at.sweep);
    return absl::OkStatus();
  }
  advice->open |= log.IsOpen();
  const int64_t wanted = log.Wanted();
  if (wanted > 0) {
    desk_->Offer(at.request_id + at.request_hash, log.Request(at.sweep, wanted));
  } else {
    desk_->Withdraw(at.sweep);
  }
  return absl::OkStatus();
}

void Planner::Suggest(v1::ReportSuggestionsRequest answer, SuggestDone done) {
  const bool posted = thread_.Post(
      [this, answer = std::move(answer), done] { SuggestNow(answer, done); }, /*limit=*/1024);
  if (!posted)
    done(absl::UnavailableError("too much waits to be planned, or the server stops; try again"));
}

void Planner::SuggestNow(const v1::ReportSuggestionsRequest& answer, const SuggestDone& done) {
  v1::ReportSuggestionsResponse response;
  const auto drop = [&](const std::string& why) {
    response.set_dropped(why);
    done(response);
  };
  const std::string late =
      "the request was answered before, or was made of an older history; poll again";
  if (!answer.error().empty()) {
    if (!desk_->Failed(answer.request_id(), answer.suggester(), answer.error()).ok())
      return drop(late);
    return done(response);
  }
  const std::optional<SuggestionDesk::Taken> taken = desk_->Take(answer.request_id());
  if (!taken) return drop(late);
  const auto plan = plans_.find(taken->plan);
  if (plan == plans_.end() || !plan->second->search || !plan->second->search->IsOpen() ||
      plan->second->search->next() != taken->first) {
    desk_->Withdraw(taken->sweep);
    desk_->Answered(taken->sweep, taken->first);
    return drop(late);
  }
  core::AdviseSweep event{.sweep = taken->sweep, .open = true};
  int64_t next = taken->first;
  if (answer.suggestions_size() > 0) {
    const SearchLog& log = *plan->second->search;
    const int64_t count =
        std::min<int64_t>({taken->count, answer.suggestions_size(), log.points() - log.taken()});
    const std::vector<v1::Suggestion> suggestions(answer.suggestions().begin(),
                                                  answer.suggestions().begin() + count);
    SearchLog::Answer judged = plan->second->search->Judge(suggestions, taken->first);
    next += count;
    std::string why = absl::StrCat("by ", answer.suggester());
    for (size_t i = 0; i < judged.refused.size(); ++i) {
      if (judged.refused[i].empty()) continue;
      v1::Refusal* refusal = response.add_refused();
      refusal->set_index(static_cast<int32_t>(i));
      refusal->set_reason(judged.refused[i]);
      if (response.refused_size() <= 5)
        absl::StrAppend(&why, "; number ", taken->first + static_cast<int64_t>(i),
                        " refused: ", judged.refused[i]);
    }
    response.set_taken(static_cast<int32_t>(count) - response.refused_size());
    for (int i = static_cast<int>(count); i < answer.suggestions_size(); ++i) {
      v1::Refusal* refusal = response.add_refused();
      refusal->set_index(i);
      refusal->set_reason(absl::StrCat("only ", count, " were asked for"));
    }
    event.additions.push_back({.name = std::move(judged.name),
                               .payload_json = std::move(judged.payload_json),
                               .trials = judged.trials,
                               .why = std::move(why)});
  }
  if (answer.exhausted()) {
    const std::string why = absl::StrCat(answer.suggester(), " has nothing left to suggest");
    SearchLog::Answer end = SearchLog::End(why);
    event.additions.push_back(
        {.name = end.name, .payload_json = end.payload_json, .trials = 0, .why = why});
    next = std::max(next, taken->first + 1);  // nothing is asked for again
  }
  owner_->Post(std::move(event), [this, done, response, sweep = taken->sweep,
                                  next](const absl::StatusOr<core::Answer>& written) {
    if (written.ok()) {
      desk_->Answered(sweep, next);
      done(response);
    } else if (written.status().code() == absl::StatusCode::kFailedPrecondition ||
               written.status().code() == absl::StatusCode::kNotFound) {
      desk_->Withdraw(sweep);
      desk_->Answered(sweep, next);
      v1::ReportSuggestionsResponse dropped;
      dropped.set_dropped(std::string(written.status().message()));
      done(dropped);
    } else {
      desk_->Refused(sweep);
      done(written.status());
    }
  });
}

}  // namespace plumb::coordinator
