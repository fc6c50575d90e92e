// The real store under a simulated server.
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sim/storage.h"
#include "store/store.h"

namespace plumb::sim {
namespace {

class SqliteStorage : public Storage {
 public:
  explicit SqliteStorage(const std::string& folder)
      : path_(folder + "/plumb.db"), saved_(folder + "/saved.db") {}

  absl::Status Open() override {
    if (store_) return absl::FailedPreconditionError("another server has this database open");
    ASSIGN_OR_RETURN(store_, store::Store::Open(path_, 0));
    return absl::OkStatus();
  }
  void Close() override { store_.reset(); }
  absl::StatusOr<ClusterSnapshot> Load() override { return store_->Load(); }
  absl::Status Commit(absl::Duration cluster_time, absl::Span<const Change> changes) override {
    return store_->Commit(cluster_time, changes);
  }
  absl::StatusOr<std::map<std::string, TrialTree>> FindByKey(
      const std::vector<std::string>& keys) override {
    return store_->FindByKey(keys);
  }
  absl::StatusOr<std::optional<TrialTree>> Find(TrialId trial) override {
    return store_->Find(trial);
  }
  absl::StatusOr<std::vector<SweepTrialRow>> LinksOf(TrialId trial) override {
    return store_->LinksOf(trial);
  }
  absl::StatusOr<std::vector<TrunkRow>> FindTrunks(
      const std::set<std::string>& prefix_keys) override {
    return store_->FindTrunks(prefix_keys);
  }

  absl::Status Save() override {
    std::filesystem::remove(saved_);
    ASSIGN_OR_RETURN(store::Database db,
                     store::Database::Open(path_, store::Database::Mode::kReadOnly));
    return db.Execute(absl::StrCat("VACUUM INTO '", saved_, "'"));
  }
  absl::Status PutBack(bool alone) override {
    if (store_ || !std::filesystem::exists(saved_))
      return absl::FailedPreconditionError("nothing to put back");
    for (const char* tail : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + tail);
    if (alone) {
      std::filesystem::remove(path_ + ".incarnation");
      std::filesystem::remove(path_ + ".mark");
    }
    std::filesystem::copy_file(saved_, path_);
    return absl::OkStatus();
  }

  absl::StatusOr<Contents> Read() override {
    Contents out;
    ASSIGN_OR_RETURN(store::Database db,
                     store::Database::Open(path_, store::Database::Mode::kReadOnly));
    const auto each = [&](const char* sql, auto row) -> absl::Status {
      ASSIGN_OR_RETURN(store::Statement s, db.Prepare(sql));
      while (true) {
        ASSIGN_OR_RETURN(const bool more, s.Step());
        if (!more) return absl::OkStatus();
        row(s);
      }
    };
    using S = store::Statement;
    RETURN_IF_ERROR(
        each("SELECT incarnation, (SELECT count(*) FROM event) FROM cluster", [&](S& s) {
          out.incarnation = s.Int(0);
          out.events = s.Int(1);
        }));
    RETURN_IF_ERROR(each("SELECT id, state, trials, cursor FROM sweep", [&](S& s) {
      out.sweeps[SweepId{s.Int(0)}] = absl::StrCat(s.Text(1), " ", s.Int(2), " ", s.Int(3));
    }));
    RETURN_IF_ERROR(each("SELECT id, key, state FROM trial", [&](S& s) {
      out.trials[TrialId{s.Int(0)}] = {s.Text(1), s.Text(2)};
    }));
    RETURN_IF_ERROR(each("SELECT sweep_id, idx, trial_id FROM sweep_trial", [&](S& s) {
      out.links[{SweepId{s.Int(0)}, s.Int(1)}] = TrialId{s.Int(2)};
    }));
    RETURN_IF_ERROR(each(
        "SELECT id, trial_id, name, state, target_step, step, attempts, failures, checkpoint_step, "
        "checkpoint_digest FROM stage",
        [&](S& s) {
          out.stages[StageId{s.Int(0)}] = {TrialId{s.Int(1)}, s.Text(2), s.Text(3),
                                           s.Int(4),          s.Int(5),  s.Int(6),
                                           s.Int(7),          s.Int(8),  s.Text(9)};
        }));
    RETURN_IF_ERROR(
        each("SELECT stage_id, number, incarnation, worker_id, session_id, start_step, acked_seq, "
             "outcome "
             "FROM attempt",
             [&](S& s) {
               out.attempts[{StageId{s.Int(0)}, s.Int(1)}] = {s.Int(2), s.Int(3), s.Int(4),
                                                              s.Int(5), s.Int(6), s.Text(7)};
             }));
    RETURN_IF_ERROR(each(
        "SELECT s.stage_id, s.name, m.step, m.value FROM measurement m JOIN series s ON s.id = "
        "m.series_id",
        [&](S& s) {
          out.points[{StageId{s.Int(0)}, s.Text(1), s.Int(2)}] = s.Double(3);
        }));
    RETURN_IF_ERROR(each("SELECT stage_id, step, digest FROM checkpoint", [&](S& s) {
      out.checkpoints[{StageId{s.Int(0)}, s.Int(1)}] = s.Text(2);
    }));
    RETURN_IF_ERROR(each("SELECT id, name, state, session_id FROM worker", [&](S& s) {
      out.workers[WorkerId{s.Int(0)}] = {s.Text(1), s.Text(2), s.Int(3)};
    }));
    return out;
  }

 private:
  const std::string path_, saved_;
  std::unique_ptr<store::Store> store_;
};

}  // namespace

std::unique_ptr<Storage> MakeSqliteStorage(const std::string& folder) {
  return std::make_unique<SqliteStorage>(folder);
}

}  // namespace plumb::sim
