#include "trainer/ranks/collective.h"

#define USE_C10D_GLOO 1  // as LibTorch's own build says
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#if defined(PLUMB_CUDA) && __has_include(<nccl.h>)
#define PLUMB_NCCL 1
#define USE_C10D_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <algorithm>
#include <vector>

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

c10::intrusive_ptr<c10d::Backend> Connect(const std::string& path, int rank, int ranks,
                                          at::Device device, std::chrono::milliseconds timeout) {
  auto store = c10::make_intrusive<c10d::FileStore>(path, ranks);
  store->setTimeout(timeout);
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
  // Ranks are processes of one machine; the name of the host may lead anywhere.
  options->devices.push_back(
      c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1", /*lazyInit=*/false));
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

std::unique_ptr<Collective> Collective::Join(const std::string& store, int64_t rank, int64_t ranks,
                                             at::Device device, std::chrono::milliseconds timeout) {
  return OrLost([&] {
    auto group = std::make_unique<Group>();
    group->backend = Connect(store, static_cast<int>(rank), static_cast<int>(ranks), device,
                             std::min(timeout, kConnecting));
    std::unique_ptr<Collective> out(new Collective(rank, ranks, std::move(group)));
    out->Sum(at::zeros({1}, at::TensorOptions().device(device)));  // all are there
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
