// Many workers in one process, over real sockets: each its own connection, session, long poll and
// reports, as a worker's agent has, with points that are made up on the spot instead of trained.
//   plumb-load-bench SERVER --workers N --slots S --seconds T [--points P | --rate R] [--die F]
// SERVER is "file:PATH" of the server's address. With --points each attempt always has one batch of
// P points under way; with --rate all attempts together make R points a second, sent with the
// reports at the interval that the server asks for. --die: this part of the workers falls silent
// after a quarter of the time. Time is taken after --settle seconds (5). Follows the server through
// restarts. Prints JSON lines; the last ones, {"stage", "attempt", "points"}, say what of each
// attempt was acknowledged.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "plumb/v1/worker_service.grpc.pb.h"

namespace plumb {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

struct Options {
  std::string server;
  int workers = 32, slots = 64;
  double seconds = 60, rate = 0, die = 0, settle = 5;
  int points = 0;
};

// Runs what is due, on two threads.
class Timer {
 public:
  Timer() {
    for (std::thread& t : threads_) t = std::thread([this] { Loop(); });
  }
  void At(Clock::time_point when, std::function<void()> what) {
    std::lock_guard lock(mutex_);
    queue_.push({when, next_++, std::move(what)});
    changed_.notify_one();
  }
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

 private:
  struct Entry {
    Clock::time_point when;
    int64_t order;
    std::function<void()> what;
    bool operator<(const Entry& o) const {
      return std::tie(o.when, o.order) < std::tie(when, order);
    }
  };
  void Loop() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (queue_.empty()) {
        changed_.wait(lock);
      } else if (queue_.top().when > Clock::now()) {
        changed_.wait_until(lock, queue_.top().when);
      } else {
        auto what = std::move(const_cast<Entry&>(queue_.top()).what);
        queue_.pop();
        lock.unlock();
        what();
        lock.lock();
      }
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::priority_queue<Entry> queue_;
  int64_t next_ = 0;
  bool stop_ = false;
  std::thread threads_[2];
};

struct Totals {
  std::atomic<int64_t> acked = 0, reports = 0, failures = 0, refused = 0;
  std::atomic<int64_t> there = 0;  // workers whose last call was answered
  std::mutex mutex;
  std::vector<double> report_ms;
};

class LoadWorker : public std::enable_shared_from_this<LoadWorker> {
 public:
  LoadWorker(int index, const Options& options, Timer& timer, Totals& totals)
      : index_(index), o_(options), timer_(timer), totals_(totals), random_(index) {}

  void Start() {
    std::lock_guard lock(mutex_);
    Connect();
  }
  void FallSilent() {
    std::lock_guard lock(mutex_);
    dead_ = true;
    There(false);
  }
  bool dead() const { return dead_; }
  template <typename F>
  void ForEachAttempt(F f) {
    std::lock_guard lock(mutex_);
    for (const auto& [stage, a] : attempts_) f(stage, a.number, a.acked_points);
  }

 private:
  struct Attempt {
    int64_t incarnation = 0, number = 0;
    int64_t seq = 0, acked_seq = 0;  // of batches; each is one fact
    int64_t points = 0;              // made and in batches up to `seq`
    int64_t step = 0, acked_points = 0;
    int64_t under_way = 0;  // points of batch `seq`, if it is not acknowledged
  };

  template <typename Request, typename Response, typename Method, typename Done>
  void Call(Method method, const Request& request, int deadline_ms, Done done) {
    struct State {
      grpc::ClientContext context;
      Request request;
      Response response;
    };
    auto state = std::make_shared<State>();
    state->request = request;
    state->context.set_deadline(std::chrono::system_clock::now() + milliseconds(deadline_ms));
    auto self = shared_from_this();
    (stub_->async()->*method)(&state->context, &state->request, &state->response,
                              [self, state, done, life = life_](const grpc::Status& status) {
                                std::lock_guard lock(self->mutex_);
                                if (life != self->life_ || self->dead_) return;
                                if (!status.ok()) {
                                  self->Broken(status);
                                  return;
                                }
                                self->There(true);
                                done(state->response);
                              });
  }

  void There(bool there) {
    if (there != there_) totals_.there += there ? 1 : -1;
    there_ = there;
  }

  void Connect() {
    ++life_;
    std::string address = o_.server;
    if (address.starts_with("file:")) {
      const std::string path = address.substr(5);
      address.clear();
      std::ifstream(path) >> address;
    }
    if (address.empty()) {
      Later(milliseconds(100), [this] { Connect(); });
      return;
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = v1::WorkerService::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
    if (session_ == 0) {
      Register();
    } else {
      Poll();
      Report();
    }
  }

  void Later(milliseconds wait, std::function<void()> what) {
    timer_.At(Clock::now() + wait,
              [self = shared_from_this(), what = std::move(what), life = life_] {
                std::lock_guard lock(self->mutex_);
                if (life == self->life_ && !self->dead_) what();
              });
  }

  void Broken(const grpc::Status& status) {
    ++totals_.failures;
    There(false);
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) session_ = 0;
    if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) ++totals_.refused;
    ++life_;  // what is under way no longer counts
    backoff_ = std::min(backoff_ * 8 / 5, milliseconds(5000));
    Later(milliseconds(backoff_.count() / 2 +
                       static_cast<int64_t>(random_() % static_cast<uint64_t>(backoff_.count()))),
          [this] { Connect(); });
  }

  void Register() {
    v1::RegisterWorkerRequest request;
    request.set_worker_name("load" + std::to_string(index_));
    request.set_protocol_min(1);
    request.set_protocol_max(1);
    request.set_build("load");
    request.set_host("load");
    request.set_slots(o_.slots);
    request.set_known_cluster(cluster_);
    request.set_known_incarnation(incarnation_);
    request.set_known_cluster_time_us(cluster_time_);
    request.set_known_run(run_);
    for (const auto& [stage, a] : attempts_) *request.add_attempts() = StateOf(stage, a);
    Call<v1::RegisterWorkerRequest, v1::RegisterWorkerResponse>(
        static_cast<void (v1::WorkerService::Stub::async::*)(
            grpc::ClientContext*, const v1::RegisterWorkerRequest*, v1::RegisterWorkerResponse*,
            std::function<void(grpc::Status)>)>(&v1::WorkerService::Stub::async::RegisterWorker),
        request, 30'000, [this](const v1::RegisterWorkerResponse& r) {
          session_ = r.session_id();
          cluster_ = r.cluster();
          incarnation_ = r.incarnation();
          cluster_time_ = r.cluster_time_us();
          run_ = r.run();
          interval_ = milliseconds(std::max<int64_t>(1, r.report_interval_ms()));
          generation_ = 0;
          backoff_ = milliseconds(100);
          Poll();
          // Spread over the interval, or all would speak at once for ever.
          Later(milliseconds(
                    static_cast<int64_t>(random_() % static_cast<uint64_t>(interval_.count()))),
                [this] { Report(); });
        });
  }

  void Poll() {
    v1::PollRequest request;
    request.set_session_id(session_);
    request.set_generation(generation_);
    request.set_cluster(cluster_);
    request.set_wait_ms(30'000);
    Call<v1::PollRequest, v1::PollResponse>(
        static_cast<void (v1::WorkerService::Stub::async::*)(
            grpc::ClientContext*, const v1::PollRequest*, v1::PollResponse*,
            std::function<void(grpc::Status)>)>(&v1::WorkerService::Stub::async::Poll),
        request, 45'000, [this](const v1::PollResponse& r) {
          const bool news = r.generation() > generation_;
          generation_ = r.generation();
          std::map<int64_t, Attempt> now;
          for (const v1::Assignment& a : r.assignments()) {
            const auto it = attempts_.find(a.stage_id());
            if (it != attempts_.end() && it->second.number == a.attempt()) {
              now[a.stage_id()] = it->second;
            } else {
              now[a.stage_id()] = {.incarnation = a.incarnation(), .number = a.attempt()};
            }
          }
          attempts_ = std::move(now);
          if (news && !reporting_ && o_.points > 0) Report();
          Poll();
        });
  }

  static v1::AttemptState StateOf(int64_t stage, const Attempt& a) {
    v1::AttemptState out;
    out.set_incarnation(a.incarnation);
    out.set_stage_id(stage);
    out.set_attempt(a.number);
    out.set_step(a.step);
    return out;
  }

  void Report() {
    if (reporting_ == life_) return;
    reporting_ = life_;
    const Clock::time_point now = Clock::now();
    v1::ReportRequest request;
    request.set_session_id(session_);
    request.set_generation(generation_);
    request.set_cluster(cluster_);
    request.set_known_incarnation(incarnation_);
    request.set_known_cluster_time_us(cluster_time_);
    request.set_known_run(run_);
    const double passed = std::min(60.0, Seconds(now - made_));
    made_ = now;
    if (o_.rate > 0 && !attempts_.empty()) owed_ += passed * o_.rate / o_.workers;
    for (auto& [stage, a] : attempts_) {
      *request.add_attempts() = StateOf(stage, a);
      if (a.under_way == 0) {
        int64_t n = o_.points;
        if (o_.rate > 0) {
          n = static_cast<int64_t>(owed_ / static_cast<double>(attempts_.size()));
        }
        if (n > 0) {
          a.under_way = n;
          ++a.seq;
        }
      }
      if (a.under_way == 0) continue;
      v1::AttemptBatch* batch = request.add_batches();
      batch->set_incarnation(a.incarnation);
      batch->set_stage_id(stage);
      batch->set_attempt(a.number);
      batch->set_first_seq(a.seq);
      batch->set_last_seq(a.seq);
      v1::SeriesPoints* series = batch->add_series();
      series->set_name("train/loss");
      series->set_layer(-1);
      series->set_definition_version(1);
      for (int64_t i = 1; i <= a.under_way; ++i) {
        v1::Point* p = series->add_points();
        p->set_step(a.step + i);
        p->set_value(1.0 / static_cast<double>(a.step + i));
      }
    }
    if (o_.rate > 0 && !attempts_.empty())
      owed_ -= std::floor(owed_ / static_cast<double>(attempts_.size())) *
               static_cast<double>(attempts_.size());
    ++totals_.reports;
    Call<v1::ReportRequest, v1::ReportResponse>(
        static_cast<void (v1::WorkerService::Stub::async::*)(
            grpc::ClientContext*, const v1::ReportRequest*, v1::ReportResponse*,
            std::function<void(grpc::Status)>)>(&v1::WorkerService::Stub::async::Report),
        request, 30'000, [this, now](const v1::ReportResponse& r) {
          backoff_ = milliseconds(100);
          reporting_ = 0;
          cluster_time_ = r.cluster_time_us();
          run_ = r.run();
          if (r.report_interval_ms() > 0) interval_ = milliseconds(r.report_interval_ms());
          int64_t acked = 0;
          for (const v1::BatchAck& ack : r.acks()) {
            const auto it = attempts_.find(ack.stage_id());
            if (it == attempts_.end() || it->second.number != ack.attempt() || ack.fenced())
              continue;
            Attempt& a = it->second;
            if (a.under_way > 0 && ack.through_seq() >= a.seq) {
              a.acked_seq = a.seq;
              a.step += a.under_way;
              a.acked_points += a.under_way;
              acked += a.under_way;
              a.under_way = 0;
            }
          }
          totals_.acked += acked;
          {
            std::lock_guard lock(totals_.mutex);
            totals_.report_ms.push_back(1e3 * Seconds(Clock::now() - now));
          }
          if (o_.points > 0 && acked > 0) {
            Report();
          } else {
            Later(interval_, [this] { Report(); });
          }
        });
  }

  const int index_;
  const Options& o_;
  Timer& timer_;
  Totals& totals_;
  std::mutex mutex_;
  std::mt19937_64 random_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  int64_t life_ = 0;       // of the connection: answers of an earlier one are ignored
  int64_t reporting_ = 0;  // the life that has a report under way
  std::atomic<bool> dead_ = false;
  bool there_ = false;
  std::string cluster_;
  int64_t session_ = 0, generation_ = 0, incarnation_ = 0, cluster_time_ = 0;
  int64_t run_ = 0;
  milliseconds interval_{1000}, backoff_{100};
  std::map<int64_t, Attempt> attempts_;
  Clock::time_point made_ = Clock::now();
  double owed_ = 0;
};

double At(std::vector<double>& v, double p) {
  if (v.empty()) return 0;
  const auto at = std::min(v.size() - 1, static_cast<size_t>(p * static_cast<double>(v.size())));
  std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(at), v.end());
  return v[at];
}

int Run(const Options& o) {
  Timer timer;
  Totals totals;
  std::vector<std::shared_ptr<LoadWorker>> workers;
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < o.workers; ++i) {
    workers.push_back(std::make_shared<LoadWorker>(i, o, timer, totals));
    // Not all in one moment: machines do not start so either.
    timer.At(begin + milliseconds(i / 2), [w = workers.back()] { w->Start(); });
  }
  const auto say = [&](const char* what, double seconds) {
    std::printf("{\"event\": \"%s\", \"at\": %.3f, \"seconds\": %.3f, \"acked\": %lld}\n", what,
                Seconds(Clock::now() - begin), seconds, static_cast<long long>(totals.acked));
    std::fflush(stdout);
  };
  while (totals.there < o.workers && Seconds(Clock::now() - begin) < 300)
    std::this_thread::sleep_for(milliseconds(10));
  say("registered", Seconds(Clock::now() - begin));
  // Once what was there to grant is granted, time is taken.
  std::this_thread::sleep_for(milliseconds(static_cast<int64_t>(1e3 * o.settle)));
  {
    std::lock_guard lock(totals.mutex);
    totals.report_ms.clear();
  }
  const Clock::time_point start = Clock::now();
  const int64_t acked_before = totals.acked, reports_before = totals.reports;
  bool died = o.die <= 0, away = false;
  int alive = o.workers;
  Clock::time_point away_since;
  while (Seconds(Clock::now() - start) < o.seconds || away) {
    std::this_thread::sleep_for(milliseconds(20));
    if (!died && Seconds(Clock::now() - start) > o.seconds / 4) {
      died = true;
      const int n = static_cast<int>(o.die * o.workers);
      for (int i = 0; i < n; ++i) workers[i * (o.workers / n)]->FallSilent();
      alive -= n;
      say("died", n);
    }
    const int64_t there = totals.there;
    if (!away && there < alive) {
      away = true;
      away_since = Clock::now();
    } else if (away && there >= alive) {
      away = false;
      say("all are back", Seconds(Clock::now() - away_since));
    }
    if (away && Seconds(Clock::now() - away_since) > 180) break;
  }
  const double seconds = Seconds(Clock::now() - start);
  const int64_t acked = totals.acked - acked_before, reports = totals.reports - reports_before;
  {
    std::lock_guard lock(totals.mutex);
    std::printf(
        "{\"event\": \"done\", \"seconds\": %.3f, \"points\": %lld, \"points_per_s\": %.0f, "
        "\"reports_per_s\": %.0f, \"report_ms_p50\": %.2f, \"report_ms_p99\": %.2f, "
        "\"failures\": %lld, \"refused\": %lld, \"there\": %lld}\n",
        seconds, static_cast<long long>(acked), static_cast<double>(acked) / seconds,
        static_cast<double>(reports) / seconds, At(totals.report_ms, 0.5),
        At(totals.report_ms, 0.99), static_cast<long long>(totals.failures),
        static_cast<long long>(totals.refused), static_cast<long long>(totals.there));
  }
  for (const auto& w : workers) {
    w->ForEachAttempt([&](int64_t stage, int64_t number, int64_t points) {
      if (!w->dead())
        std::printf("{\"stage\": %lld, \"attempt\": %lld, \"points\": %lld}\n",
                    static_cast<long long>(stage), static_cast<long long>(number),
                    static_cast<long long>(points));
    });
  }
  std::fflush(stdout);
  std::_Exit(0);  // with thousands of calls under way
}

}  // namespace
}  // namespace plumb

int main(int argc, char** argv) {
  plumb::Options o;
  if (argc > 1) o.server = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const double value = std::atof(argv[i + 1]);
    if (name == "--workers") o.workers = static_cast<int>(value);
    if (name == "--slots") o.slots = static_cast<int>(value);
    if (name == "--seconds") o.seconds = value;
    if (name == "--points") o.points = static_cast<int>(value);
    if (name == "--rate") o.rate = value;
    if (name == "--die") o.die = value;
    if (name == "--settle") o.settle = value;
  }
  if (o.server.empty()) {
    std::fprintf(stderr, "see bench/coordinator/load.cc; run script/bench coordinator\n");
    return 2;
  }
  return plumb::Run(o);
}
