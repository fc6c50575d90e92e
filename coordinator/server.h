// The coordinator as a program: database, owner loop, gRPC services.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/blobs.h"
#include "coordinator/snapshots.h"

namespace plumb::coordinator {

struct ServerOptions {
  std::string db_path = "plumb.db";
  std::string listen =
      "127.0.0.1:0";      // loopback only; port 0: any free one. Anything else is refused
  std::string data_root;  // prepared corpora (data::DefaultRoot() where empty)
  // Silence after which a worker's attempts are lost, in cluster time.
  absl::Duration lease = absl::Seconds(60);
  absl::Duration report_interval = absl::Seconds(1);
  int max_failures = 3;  // attempts that may fail or be lost without progress
  int strikes = 3;  // trials in a row that end without progress on a worker until its quarantine
  absl::Duration retry_backoff = absl::Seconds(1);  // doubles, at most 1 minute
  // How long a suggester has for an answer before another is told of a newer history.
  absl::Duration suggestion_stands = absl::Seconds(30);
  SnapshotOptions snapshots;
  BlobServiceOptions blobs;
  bool grants = true;   // false: gives nothing to workers, only answers
  std::string metrics;  // "127.0.0.1:PORT" serves /metrics and /healthz; "": nothing
};

class Server {
 public:
  // Opens or creates the database (one server per file, by lock; refuses a newer schema), recovers,
  // listens, and writes
  // "<db_path>.address" ("127.0.0.1:PORT\n") so that clients and workers on this machine find it.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  virtual ~Server() = default;
  virtual std::string address() const = 0;
  virtual std::string metrics_address() const = 0;  // "": none
  // Stops granting, commits what is queued, removes the address file, ends. Idempotent; any thread.
  virtual void Shutdown() = 0;
  // Returns after Shutdown, or with the error that made the server stop (a failed fsync, a corrupt
  // file).
  virtual absl::Status Wait() = 0;
};

}  // namespace plumb::coordinator
