#include "trainer/ranks/rank_process.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/checkpoint.h"
#include "trainer/counter_random.h"
#include "trainer/mixed_order.h"
#include "trainer/process_usage.h"
#include "trainer/ranks/board.h"
#include "trainer/ranks/channel.h"
#include "trainer/ranks/collective.h"
#include "trainer/ranks/door.h"
#include "trainer/samples.h"
#include "trainer/spec/parse.h"
#include "trainer/timing.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;

// Rank 0 listens before anybody is told where.
constexpr std::chrono::seconds kKnocking(20);

// Waits for the next message; none once rank 0 is gone.
std::optional<json> Hear(Channel& channel) {
  for (;;) {
    if (auto message = channel.Next()) return message;
    if (!channel.Fill(/*wait=*/true)) return std::nullopt;
  }
}

class Rank {
 public:
  explicit Rank(const json& load)
      : spec_(SpecOf(load)),
        rank_(load.at("rank")),
        ranks_(load.at("ranks")),
        dataset_(data::Dataset::Open(load.at("data_dir"))),
        order_(OrderOf(spec_, dataset_)),
        host_(load.at("address")),
        // On GPUs, one a rank.
        device_(spec_.numerics.device == spec::DeviceKind::kCuda
                    ? at::Device(at::kCUDA, load.at("device").get<c10::DeviceIndex>())
                    : at::Device(at::kCPU)),
        bundle_(spec_.model, std::max(spec_.data.seq_len, spec_.eval.seq_len), 1, device_) {
    at::set_num_threads(load.at("threads").get<int>());
    bundle_.Add(spec_.seed.init, spec_.model);
    const json& c = load.at("checkpoint");
    if (!c.is_null())
      LoadCheckpoint({c.at("path"), c.at("digest"), c.at("step"), c.at("resume")}, bundle_.arena(),
                     0);
    const int64_t T = spec_.data.seq_len, B = spec_.train.batch_tokens / T;
    ids_ = at::empty({1, B, T}, at::kLong), targets_ = at::empty({1, B, T}, at::kLong);
  }

  json Do(const json& command, Channel& channel) {
    const std::string what = command.at("do");
    if (what == "join") {
      const auto timeout = static_cast<int64_t>(1000 * spec_.execution.rank_timeout_seconds);
      RemoteBoard board(channel);
      group_ = Collective::Join(board, rank_, ranks_, device_, std::chrono::milliseconds(timeout),
                                host_);
      return nullptr;  // rank 0 joins too, and knows
    }
    if (what == "digest") return {{"digest", WeightsDigest(bundle_.arena(), 0)}};
    const double cpu = CpuSeconds();
    const int64_t step = command.at("step");
    const RowUpdate update = what == "time" ? TimingUpdate(spec_, step) : UpdateOf(spec_, step + 1);
    // The whole batch: which tokens are scored in it is part of this rank's loss too.
    FillBatch(spec_, dataset_, order_, step, ids_.data_ptr<int64_t>(),
              targets_.data_ptr<int64_t>());
    bundle_.Step(ids_.to(device_), targets_.to(device_), {update}, spec_.execution.micro_batch,
                 nullptr, group_.get());
    return {{"cpu_seconds", CpuSeconds() - cpu}, {"peak_bytes", PeakBytes()}};
  }

 private:
  static spec::TrialSpec SpecOf(const json& load) {
    spec::TrialSpec spec;
    const auto errors = spec::ParseResolved(load.at("config").dump(), &spec);
    if (!errors.empty()) throw std::runtime_error(spec::Format(errors));
    return spec;
  }

  const spec::TrialSpec spec_;
  const int64_t rank_, ranks_;
  const data::Dataset dataset_;
  const MixedOrder order_;
  const std::string host_;
  const at::Device device_;
  Bundle bundle_;
  std::unique_ptr<Collective> group_;
  at::Tensor ids_, targets_;
};

// `here`: what another machine than rank 0's has in its own place; null on the same one.
void Serve(Channel& channel, const json& here) {
  auto load = Hear(channel);
  if (!load) return;
  if (!here.is_null()) {
    for (const char* own : {"data_dir", "address", "device"}) (*load)[own] = here.at(own);
    json& checkpoint = load->at("checkpoint");
    if (!checkpoint.is_null()) checkpoint["path"] = here.at("checkpoint");
  }
  Rank rank(*load);
  if (!channel.Send({{"loaded", true}})) return;
  while (const auto command = Hear(channel)) {
    const json answer = rank.Do(*command, channel);
    if (!answer.is_null() && !channel.Send(answer)) return;
  }
}

}  // namespace

std::string WeightsDigest(Arena& arena, int64_t k) {
  const at::Tensor row = arena.weights().select(0, k).detach().cpu().contiguous();
  const auto* bytes = static_cast<const unsigned char*>(row.data_ptr());
  uint64_t digest = row.nbytes();
  for (size_t i = 0; i < row.nbytes(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i, std::min(sizeof word, row.nbytes() - i));
    digest = Mix(digest ^ word);
  }
  return std::to_string(digest);
}

int RankMain(int argc, char** argv) {
  // Before anything else: without rank 0 there is nothing to do, not even in the middle of a step.
  // Had it ended before this line, the channel would be at its end.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "plumb-rank");  // the program's file is called exe on this way here
  // Who stops the trial asks rank 0, which may need this rank to the end of its step.
  for (int ignored : {SIGTERM, SIGINT, SIGHUP}) signal(ignored, SIG_IGN);
  if (argc < 3) {
    std::fprintf(stderr, "plumb-trainer %s: started by rank 0 of a trial only\n", kRankArgument);
    return 2;
  }
  const std::string to = argv[2];
  std::unique_ptr<Channel> channel;
  json last, here;
  int code = 1;
  try {
    if (to.starts_with("tcp:")) {
      const char* secret = std::getenv(kRankSecret);
      if (argc < 6 || secret == nullptr) throw std::runtime_error("no secret, or nothing to go by");
      here = json::parse(argv[5]);
      const int fd = Knock(to.substr(4), secret, std::atoll(argv[3]), kKnocking);
      unsetenv(kRankSecret);
      channel = std::make_unique<Channel>(fd);
    } else {
      channel = std::make_unique<Channel>(std::atoi(argv[2]));
    }
    Serve(*channel, here);
    std::_Exit(0);  // no destructor of the group waits for ranks that are gone
  } catch (const RankLost& e) {
    last = {{"lost", e.what()}};
    code = kRankLost;
  } catch (const std::bad_alloc&) {
    last = {{"failed", "out of memory"}, {"out_of_memory", true}};
    code = kRankOutOfMemory;
  } catch (const c10::OutOfMemoryError& e) {
    last = {{"failed", e.what_without_backtrace()}, {"out_of_memory", true}};
    code = kRankOutOfMemory;
  } catch (const c10::Error& e) {
    last = {{"failed", e.what_without_backtrace()}};
  } catch (const std::exception& e) {
    last = {{"failed", e.what()}};
  }
  if (channel != nullptr) channel->Send(last);
  if (here.contains("words") && last.contains("failed")) {
    const std::string words = last["failed"];
    if (write(here["words"], words.data(), std::min<size_t>(words.size(), 4000)) < 0) {
    }
  }
  std::fprintf(stderr, "rank %s: %s\n", argc > 3 ? argv[3] : "", last.dump().c_str());
  std::_Exit(code);
}

}  // namespace plumb::trainer
