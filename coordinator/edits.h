// Requests that touch many trials or rows one after the other: retry, tags, import, removal. On a
// thread of their own, each waiting for its commits; the rest of the server goes on between them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/owner.h"
#include "coordinator/task_thread.h"
#include "plumb/v1/sweep_service.pb.h"
#include "store/read.h"

namespace plumb::coordinator {

class Edits {
 public:
  // Goes on at once with what is half removed. `owner` must outlive it.
  Edits(Owner* owner, std::string db_path);
  ~Edits() { Stop(); }
  void Stop();  // before the owner's

  // Any thread; `done` is called once, with what the request comes to. `request` and `response`
  // must be there until then.
  using Done = std::function<void(absl::Status)>;
  template <typename Request, typename Response>
  void Post(absl::Status (Edits::*method)(const Request&, Response*), const Request* request,
            Response* response, Done done) {
    const bool posted = thread_.Post(
        [this, method, request, response, done] { done((this->*method)(*request, response)); },
        /*limit=*/256);
    if (!posted) done(absl::UnavailableError("the server is busy or stopping; try again"));
  }

  absl::Status RetrySweep(const v1::RetrySweepRequest& request, v1::RetrySweepResponse* response);
  absl::Status Annotate(const v1::AnnotateRequest& request, v1::AnnotateResponse* response);
  absl::Status RemoveSweeps(const v1::RemoveSweepsRequest& request,
                            v1::RemoveSweepsResponse* response);
  absl::Status RemoveTrials(const v1::RemoveTrialsRequest& request,
                            v1::RemoveTrialsResponse* response);
  // imports.cc
  absl::Status ImportSweep(const v1::ImportSweepRequest& request,
                           v1::ImportSweepResponse* response);
  absl::Status ImportTrials(const v1::ImportTrialsRequest& request,
                            v1::ImportTrialsResponse* response);

 private:
  absl::StatusOr<store::Reader*> Reads();
  // Applied and committed.
  absl::StatusOr<core::Answer> Do(core::Event event);
  // Rows of trials that nobody has any more, a little a transaction.
  absl::Status Purge();

  Owner* const owner_;
  const std::string db_path_;
  std::optional<store::Reader> reader_;  // the thread's
  std::atomic<bool> stopping_ = false;
  TaskThread thread_;  // last
};

}  // namespace plumb::coordinator
