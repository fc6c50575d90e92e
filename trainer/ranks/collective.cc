#include "trainer/ranks/collective.h"

#define USE_C10D_GLOO 1  // as LibTorch's own build says
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#if defined(PLUMB_CUDA) && __has_include(<nccl.h>)
#define PLUMB_NCCL 1
#define USE_C10D_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include "trainer/ranks/board.h"

namespace plumb::trainer {
namespace {

// Longest wait for the others to connect, who have all said that they are about to: a rank that
// dies in these moments is noticed by nothing else.
constexpr std::chrono::milliseconds kConnecting(20'000);

// c10d's errors are c10::Error, Gloo's its own kinds of std::exception.
template <typename Fn>
auto OrLost(Fn fn) {
  try {
    return fn();
  } catch (const c10::Error& e) {
    throw RankLost(e.what_without_backtrace());
  } catch (const std::exception& e) {
    throw RankLost(e.what());
  }
}

// A rendezvous as c10d wants it, for as long as it is there.
class Store : public c10d::Store {
 public:
  using Place = std::shared_ptr<std::atomic<Rendezvous*>>;  // null: over
  Store(Place place, std::chrono::milliseconds limit)
      : c10d::Store(limit), place_(std::move(place)) {}

  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::make_intrusive<Store>(place_, timeout_);
  }
  using c10d::Store::set;
  void set(const std::string& key, const Word& word) override { There().Set(key, word); }
  Word get(const std::string& key) override { return There().Get(key, timeout_); }
  bool check(const std::vector<std::string>& keys) override {
    if (place_->load() == nullptr) return false;  // NCCL's watchdog asks now and then
    return std::all_of(keys.begin(), keys.end(), [&](const auto& k) { return There().Has(k); });
  }
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& limit) override {
    for (const std::string& key : keys) There().Get(key, limit);
  }
  int64_t add(const std::string&, int64_t) override { return Refuse("add"); }
  bool deleteKey(const std::string&) override { return Refuse("deleteKey") != 0; }
  int64_t getNumKeys() override { return Refuse("getNumKeys"); }

 private:
  Rendezvous& There() {
    Rendezvous* const there = *place_;
    if (there == nullptr) throw std::logic_error("the rendezvous is over");
    return *there;
  }
  int64_t Refuse(const char* what) {
    throw std::logic_error(std::string("a rendezvous has no ") + what);
  }
  const Place place_;
};

c10::intrusive_ptr<c10d::Backend> Connect(c10::intrusive_ptr<c10d::Store> store, int rank,
                                          int ranks, at::Device device,
                                          std::chrono::milliseconds timeout, std::string host) {
  if (device.is_cuda()) {
#ifdef PLUMB_NCCL
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, ranks, options);
#else
    throw RankLost("this trainer was built without NCCL");
#endif
  }
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->threads = 1;  // one sum at a time
  // Said and not asked for: what the machine's own name leads to may be anything.
  options->devices.push_back(
      c10d::ProcessGroupGloo::createDeviceForHostname(host, /*lazyInit=*/false));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, ranks, options);
}

}  // namespace

struct Collective::Group {
  c10::intrusive_ptr<c10d::Backend> backend;
};

Collective::Collective(int64_t rank, int64_t ranks, std::unique_ptr<Group> group)
    : rank_(rank), ranks_(ranks), group_(std::move(group)) {}
Collective::~Collective() = default;

bool Collective::Supports(at::DeviceType device) {
#ifdef PLUMB_NCCL
  if (device == at::kCUDA) return true;
#endif
  return device == at::kCPU;
}

std::unique_ptr<Collective> Collective::Join(Rendezvous& rendezvous, int64_t rank, int64_t ranks,
                                             at::Device device, std::chrono::milliseconds timeout,
                                             const std::string& host) {
  return OrLost([&] {
    auto group = std::make_unique<Group>();
    const auto place = std::make_shared<std::atomic<Rendezvous*>>(&rendezvous);
    const auto limit = std::min(timeout, kConnecting);
    const auto store = c10::make_intrusive<Store>(place, limit);
    group->backend =
        Connect(store, static_cast<int>(rank), static_cast<int>(ranks), device, limit, host);
    std::unique_ptr<Collective> out(new Collective(rank, ranks, std::move(group)));
    out->Sum(at::zeros({1}, at::TensorOptions().device(device)));  // all are there
    *place = nullptr;
    out->group_->backend->setTimeout(timeout);
    return out;
  });
}

void Collective::Sum(at::Tensor t) {
  OrLost([&] {
    std::vector<at::Tensor> tensors = {t};
    group_->backend->allreduce(tensors)->wait();
  });
}

}  // namespace plumb::trainer
