// The session with the coordinator: registered, reported to, polled, taken up again.
#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "trainer/spec/stage_settings.h"
#include "worker/agent_thread.h"
#include "worker/devices.h"

#ifndef PLUMB_VERSION
#define PLUMB_VERSION "0.1.0"
#endif

namespace plumb::worker {
namespace {

using std::chrono::milliseconds;

constexpr int kProtocol = 1;
constexpr int kPollWaitMs = 20'000;
constexpr int64_t kReportBytes = 900 << 10;  // facts in one Report; with states and one fact
                                             // of 1 MiB (a record) it stays under 3 MiB
constexpr int64_t kLogBytesPerReport = 100 << 10;
constexpr milliseconds kBackoffMost{5'000};

}  // namespace

void Agent::ReportSoon(milliseconds delay) {
  report_due_ = std::min(report_due_, Clock::now() + delay);
}

void Agent::Talk() {
  const Clock::time_point now = Clock::now();
  if (now < talk_after_) return;
  if (client_.connection() == 0 || broken_) {
    if (!client_.Connect()) {
      BackOff("no address in " + options_.server);
      return;
    }
    broken_ = register_pending_ = report_pending_ = poll_pending_ = false;
    for (auto& [key, attempt] : attempts_) attempt->DoubtAck();
    report_due_ = now;
  }
  if (session_ == 0) {
    if (!register_pending_ && (Settled() || now >= settle_deadline_)) Register();
    return;
  }
  if (!poll_pending_ && !drain_said_) {
    v1::PollRequest request;
    request.set_session_id(session_);
    request.set_generation(generation_);
    request.set_cluster(workspace_.known().cluster);
    request.set_wait_ms(kPollWaitMs);
    client_.Poll(request);
    poll_pending_ = true;
  }
  if (!report_pending_ && now >= report_due_) Report();
}

int64_t Agent::RemainingMs() const {
  if (options_.until_unix_seconds == 0) return 0;
  const auto now =
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch());
  return std::max<int64_t>(1, options_.until_unix_seconds * 1000 - now.count());
}

void Agent::Register() {
  v1::RegisterWorkerRequest request;
  request.set_worker_name(ValidUtf8(options_.name));
  request.set_protocol_min(kProtocol);
  request.set_protocol_max(kProtocol);
  request.set_build(PLUMB_VERSION);
  request.set_slots(options_.slots);
  request.set_host(ValidUtf8(HostName()));
  request.set_known_cluster(workspace_.known().cluster);
  request.set_known_incarnation(workspace_.known().incarnation);
  request.set_known_cluster_time_us(workspace_.known().cluster_time_us);
  request.set_known_run(workspace_.known().run);
  for (const v1::Device& device : devices_) *request.add_devices() = device;
  request.set_memory_bytes(options_.memory_bytes > 0 ? options_.memory_bytes
                                                     : MemoryForTrials(devices_));
  std::set<std::string> labels(options_.labels.begin(), options_.labels.end());
  if (CountGpus(devices_) > 0) labels.insert(kCudaLabel);
  if (options_.allow_commands) labels.insert(spec::kCommandsLabel);
  for (const auto& [name, path] : options_.trainers) labels.insert(spec::kTrainerLabel + name);
  for (const std::string& label : labels) request.add_labels(label);
  if (!options_.gang_address.empty()) {
    // Who listens on loopback is reached from its own machine alone.
    const bool loopback = options_.gang_address.starts_with("127.") ||
                          options_.gang_address == "::1" || options_.gang_address == "localhost";
    request.set_gang(loopback ? "host " + ValidUtf8(HostName()) : "net");
  }
  request.set_remaining_ms(RemainingMs());
  for (const auto& [key, attempt] : attempts_) *request.add_attempts() = attempt->State(false);
  client_.Register(request);
  register_pending_ = true;
}

void Agent::Report() {
  v1::ReportRequest request;
  request.set_session_id(session_);
  request.set_generation(generation_);
  request.set_draining(desired_.draining);
  request.set_remaining_ms(RemainingMs());
  request.set_cluster(workspace_.known().cluster);
  request.set_known_incarnation(workspace_.known().incarnation);
  request.set_known_cluster_time_us(workspace_.known().cluster_time_us);
  request.set_known_run(workspace_.known().run);
  int64_t log_budget = kLogBytesPerReport, budget = kReportBytes;
  for (const auto& [key, attempt] : attempts_) {
    const bool with_log = attempt->LogBytes() <= log_budget;
    if (with_log) log_budget -= attempt->LogBytes();
    *request.add_attempts() = attempt->State(with_log);
  }
  for (const auto& [key, attempt] : attempts_) {
    if (budget <= 0) break;
    if (!attempt->HasSomethingToSend()) continue;
    *request.add_batches() = attempt->Batch(budget);
    budget -= static_cast<int64_t>(request.batches(request.batches_size() - 1).ByteSizeLong());
  }
  if (desired_.draining && attempts_.empty()) drain_said_ = true;
  client_.Report(request);
  report_pending_ = true;
  report_due_ = Clock::now() + report_interval_;
}

void Agent::OnDone(CoordinatorClient::Done<v1::RegisterWorkerResponse>& done) {
  if (done.connection != client_.connection()) return;
  register_pending_ = false;
  if (!done.status.ok()) {
    const auto code = done.status.error_code();
    if (code == grpc::StatusCode::FAILED_PRECONDITION ||
        code == grpc::StatusCode::INVALID_ARGUMENT) {
      Fatal(absl::FailedPreconditionError(
          absl::StrCat("the coordinator refuses this worker: ", done.status.error_message())));
    } else {
      Broken("register", done.status);
    }
    return;
  }
  const v1::RegisterWorkerResponse& r = done.response;
  if (r.protocol() != kProtocol) {
    Fatal(absl::FailedPreconditionError(absl::StrCat("the coordinator chose protocol ",
                                                     r.protocol(), ", this worker speaks ",
                                                     kProtocol, ": install one release on both")));
    return;
  }
  if (!workspace_.known().cluster.empty() && r.cluster() != workspace_.known().cluster &&
      !LeaveCluster())
    return;
  session_ = r.session_id();
  generation_ = 0;
  desired_.known = false;
  takes_blobs_ = r.blobs();
  blobs_.Open(session_, takes_blobs_);
  if (r.report_interval_ms() > 0) report_interval_ = milliseconds(r.report_interval_ms());
  if (const absl::Status s =
          workspace_.Join({r.cluster(), r.incarnation(), r.cluster_time_us(), r.run()});
      !s.ok()) {
    spdlog::warn("{}", std::string(s.message()));
  }
  spdlog::info("worker {}: session {} with the coordinator at {}, {} slots", options_.name,
               session_, client_.address(), options_.slots);
  for (auto& [key, attempt] : attempts_) attempt->DoubtAck();
  Heard();
  report_due_ = Clock::now();
}

void Agent::OnDone(CoordinatorClient::Done<v1::ReportResponse>& done) {
  if (done.connection != client_.connection()) return;
  report_pending_ = false;
  if (!done.status.ok()) {
    Broken("report", done.status);
    return;
  }
  Heard();
  workspace_.Heard(done.response.cluster_time_us(), done.response.run());
  if (done.response.report_interval_ms() > 0)
    report_interval_ = milliseconds(done.response.report_interval_ms());
  bool more = false;
  for (const v1::BatchAck& ack : done.response.acks()) {
    for (auto& [key, attempt] : attempts_) {
      if (key.stage != ack.stage_id() || key.number != ack.attempt()) continue;
      if (ack.fenced()) continue;  // the next desired state drops it
      const int64_t before = attempt->acked_checkpoint;
      attempt->OnAck(ack.through_seq());
      if (attempt->acked_checkpoint > before) Acknowledged(*attempt);
      more |= attempt->HasSomethingToSend() &&
              (attempt->phase == Phase::kEnded || attempt->pending_bytes() > kReportBytes / 2);
    }
  }
  report_due_ = more ? Clock::now() : std::min(report_due_, Clock::now() + report_interval_);
  drain_heard_ = drain_said_;
}

void Agent::OnDone(CoordinatorClient::Done<v1::PollResponse>& done) {
  if (done.connection != client_.connection()) return;
  poll_pending_ = false;
  if (!done.status.ok()) {
    if (done.status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED)
      Broken("poll", done.status);
    return;
  }
  reachable_ = true;  // but what cannot be reported (a full disk) is still tried ever more rarely
  const v1::PollResponse& r = done.response;
  if (r.generation() < generation_ || (r.generation() == generation_ && desired_.known)) return;
  generation_ = r.generation();
  desired_.known = true;
  desired_.attempts.clear();
  desired_.bundles.clear();
  desired_.members.clear();
  desired_.unready.clear();
  desired_.programs.clear();
  assignments_.clear();
  for (const v1::Assignment& a : r.assignments()) {
    desired_.attempts.push_back(KeyOf(a));
    assignments_[KeyOf(a)] = a;
    if (a.bundle_rows() > 1) desired_.bundles[KeyOf(a)] = a.bundle();
    if (std::string program = ProgramOf(a); !program.empty())
      desired_.programs[KeyOf(a)] = std::move(program);
    if (a.first_rank() == 0) continue;
    desired_.members.insert(KeyOf(a));
    if (a.rendezvous().empty()) desired_.unready.insert(KeyOf(a));
    // The same assignment says more than it did.
    const auto it = attempts_.find(KeyOf(a));
    if (it == attempts_.end() || it->second->phase != Phase::kWaiting || !it->second->assignment)
      continue;
    it->second->assignment->set_rendezvous(a.rendezvous());
    it->second->assignment->set_gang_secret(a.gang_secret());
  }
  desired_.preempt_stages = {r.preempt_stage_ids().begin(), r.preempt_stage_ids().end()};
  reconcile_ = true;
}

bool Agent::LeaveCluster() {
  for (const auto& [key, attempt] : attempts_) {
    if (attempt->phase == Phase::kEnded || attempt->phase == Phase::kWaiting) continue;
    Fatal(absl::FailedPreconditionError(
        absl::StrCat("trainers in ", workspace_.dir(), " still run for another database than ",
                     client_.address(),
                     " serves: give this worker another --dir, or remove the "
                     "folder to give their work up")));
    return false;
  }
  attempts_.clear();
  started_.clear();
  assignments_.clear();
  return true;
}

void Agent::Heard() {
  backoff_ = kBackoffFirst;
  reachable_ = true;
}

void Agent::Broken(const char* call, const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::FAILED_PRECONDITION:
      Fatal(absl::FailedPreconditionError(absl::StrCat("another worker named ", options_.name,
                                                       " has taken over (", status.error_message(),
                                                       "): give each worker its own --name")));
      return;
    case grpc::StatusCode::NOT_FOUND:
      session_ = 0;
      break;
    default:
      break;
  }
  broken_ = true;
  BackOff(absl::StrCat(call, ": ", status.error_message()));
}

void Agent::BackOff(const std::string& why) {
  if (reachable_)
    spdlog::warn("worker {}: coordinator not reached ({}); trainers go on", options_.name, why);
  reachable_ = false;
  const double jitter = std::uniform_real_distribution<>(0.5, 1.0)(random_);
  talk_after_ = Clock::now() +
                milliseconds(static_cast<int64_t>(static_cast<double>(backoff_.count()) * jitter));
  backoff_ = std::min(kBackoffMost, milliseconds(backoff_.count() * 8 / 5));
}

void Agent::Fatal(absl::Status status) {
  fatal_ = std::move(status);
  session_ = 0;
  talk_after_ = Clock::time_point::max();
}

}  // namespace plumb::worker
