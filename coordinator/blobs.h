// Checkpoints at the coordinator: the gRPC service over store/blobs.h, and the thread that removes
// what is no longer needed. Neither uses the owner thread but to ask, every few seconds, whether a
// session is current.
//
//   Needed is the last checkpoint of every stage that may be granted again or that others start
//   from: all but cancelled, diverged and infeasible ones. (A failed or stopped one may be
//   retried.)
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/owner.h"
#include "plumb/v1/blob_service.grpc.pb.h"
#include "store/blobs.h"

namespace plumb::coordinator {

struct BlobServiceOptions {
  int64_t quota_bytes = int64_t{100} << 30;  // 0: no blobs
  int64_t reserve_bytes = int64_t{1} << 30;
  // A blob comes before the commit that names it: longer than an upload (worker/blobs.h) and a
  // lease.
  absl::Duration grace = absl::Minutes(20);
  absl::Duration collect_every = absl::Minutes(1);
  std::string data_root;  // whose corpora workers may fetch; "": none
};

// Digests of the manifests that `db_path`'s stages need and of the files that those name; a
// manifest that is not in `blobs` names nothing.
absl::StatusOr<std::set<std::string>> NeededBlobs(const std::string& db_path, store::Blobs& blobs);

// `owner` outlives it. Its own threads do the I/O; Stop, then gRPC's Shutdown, then its end.
class BlobServer {
 public:
  static absl::StatusOr<std::unique_ptr<BlobServer>> Start(Owner* owner, const std::string& db_path,
                                                           const BlobServiceOptions& options);
  virtual ~BlobServer() = default;
  virtual grpc::Service* service() = 0;
  virtual void
  Stop() = 0;  // calls are refused from now on; what is under way is answered. Idempotent
};

}  // namespace plumb::coordinator
