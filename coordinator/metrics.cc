#include "coordinator/metrics.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace plumb::coordinator {
namespace {

void Family(std::string* out, absl::string_view name, absl::string_view type,
            absl::string_view help) {
  absl::StrAppend(out, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

template <typename T>
void One(std::string* out, absl::string_view name, absl::string_view type, absl::string_view help,
         T value) {
  Family(out, name, type, help);
  absl::StrAppend(out, name, " ", value, "\n");
}

// Label values: backslash, quote and newline are escaped.
std::string Escaped(absl::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void Metrics::Committed(absl::Duration took, int64_t changes, int64_t points) {
  const int64_t us = absl::ToInt64Microseconds(took);
  ++commits_;
  changes_ += changes;
  points_ += points;
  commit_us_ += us;
  for (int64_t longest = longest_us_; us > longest;) {
    if (longest_us_.compare_exchange_weak(longest, us)) break;
  }
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), absl::ToDoubleSeconds(took));
  ++by_time_[static_cast<size_t>(bucket - kBounds.begin())];
}

void Metrics::SnapshotTaken(absl::Time when, absl::Duration took) {
  last_snapshot_ = absl::ToUnixSeconds(when);
  snapshot_us_ = absl::ToInt64Microseconds(took);
}

std::string Metrics::Exposition(const std::string& cluster, const std::string& version) const {
  std::string out;
  Family(&out, "plumb_build_info", "gauge", "Constant 1; the version is a label.");
  absl::StrAppend(&out, "plumb_build_info{version=\"", Escaped(version), "\"} 1\n");
  One(&out, "plumb_uptime_seconds", "gauge", "Since the server started.",
      absl::ToDoubleSeconds(uptime()));
  One(&out, "plumb_requests_accepted_total", "counter", "Events taken into the inbox.",
      accepted_.load());
  One(&out, "plumb_requests_refused_total", "counter",
      "Events refused because the inbox was full or the server stopped.", refused_.load());
  One(&out, "plumb_commit_failures_total", "counter", "Transactions that were rolled back.",
      commit_failures_.load());
  One(&out, "plumb_changes_total", "counter", "Changes of rows that were committed.",
      changes_.load());
  One(&out, "plumb_points_total", "counter", "Measured points that were committed.",
      points_.load());
  Family(&out, "plumb_commit_duration_seconds", "histogram",
         "Time of a durable transaction, its sync included.");
  int64_t n = 0;
  for (size_t i = 0; i < by_time_.size(); ++i) {
    n += by_time_[i];
    absl::StrAppend(&out, "plumb_commit_duration_seconds_bucket{le=\"",
                    i < kBounds.size() ? absl::StrCat(kBounds[i]) : "+Inf", "\"} ", n, "\n");
  }
  absl::StrAppend(&out, "plumb_commit_duration_seconds_sum ",
                  static_cast<double>(commit_us_.load()) / 1e6,
                  "\nplumb_commit_duration_seconds_count ", n, "\n");
  One(&out, "plumb_commit_longest_seconds", "gauge", "The longest transaction since the start.",
      absl::ToDoubleSeconds(longest_commit()));
  One(&out, "plumb_snapshot_last_success_timestamp_seconds", "gauge",
      "When the last verified snapshot was finished; 0: none yet.", last_snapshot_.load());
  One(&out, "plumb_snapshot_duration_seconds", "gauge", "How long that took, checks included.",
      static_cast<double>(snapshot_us_.load()) / 1e6);
  One(&out, "plumb_snapshot_failures_total", "counter", "Snapshots that could not be made.",
      snapshot_failures_.load());
  return out + cluster;
}

std::string ClusterExposition(const core::Core& core, core::Now now) {
  std::string out;
  std::map<std::string, int64_t> states;
  int64_t slots = 0, used = 0, quarantined = 0;
  for (const core::Core::WorkerView& w : core.Workers(now)) {
    ++states[std::string(Name(w.row.state))];
    quarantined += w.quarantined > absl::ZeroDuration();
    if (w.row.state != WorkerState::kConnected) continue;
    slots += w.row.slots;
    used += w.used;
  }
  Family(&out, "plumb_workers", "gauge", "Workers by state.");
  for (const auto& [state, n] : states)
    absl::StrAppend(&out, "plumb_workers{state=\"", state, "\"} ", n, "\n");
  One(&out, "plumb_workers_quarantined", "gauge", "Workers that get nothing for now.", quarantined);
  One(&out, "plumb_slots", "gauge", "Slots of connected workers.", slots);
  One(&out, "plumb_slots_used", "gauge", "Of those, taken.", used);
  One(&out, "plumb_stages_waiting", "gauge", "Stages that could run, given room.", core.waiting());
  One(&out, "plumb_incarnation", "gauge", "The cluster's incarnation.", core.incarnation());
  Family(&out, "plumb_user_slots", "gauge", "Slots taken, by user.");
  Family(&out, "plumb_user_slot_seconds", "gauge", "Slot-seconds had, or levelled up to, by user.");
  std::string taken, had;
  for (const core::Core::UserView& u : core.Users()) {
    const std::string label = absl::StrCat("{user=\"", Escaped(u.row.name), "\"} ");
    absl::StrAppend(&taken, "plumb_user_slots", label, u.slots, "\n");
    absl::StrAppend(&had, "plumb_user_slot_seconds", label,
                    static_cast<double>(u.row.consumed_us) / 1e6, "\n");
  }
  // A family's samples follow its header.
  const size_t second = out.find("# HELP plumb_user_slot_seconds");
  out.insert(second, taken);
  return out + had;
}

}  // namespace plumb::coordinator
