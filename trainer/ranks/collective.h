// The ranks of a trial as a group that sums tensors: c10d, by Gloo on CPUs (over the loopback
// device where they are of one machine) and by NCCL on GPUs.
//
//  1. All ranks get the same bits from Sum(), and the same again in any run with as many ranks: the
//     order of summation depends on the tensor's size and the number of ranks alone.
//  2. Once a call has thrown, the group is of no more use.
//
// One thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace plumb::trainer {

class Rendezvous;

// Another rank ended, or did not take part in time.
class RankLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Collective {
 public:
  // Whether this build can sum tensors of the device: CPUs always, GPUs with NCCL's header.
  static bool Supports(at::DeviceType device);
  // Waits until all `ranks` have called it with boards of one rendezvous, which is not used
  // afterwards. `device`: of the tensors. `host`: where the others reach this rank, on CPUs. Throws
  // RankLost where a rank is gone, or does not connect within 20 s or `timeout`, the longest wait
  // of a Sum(), whichever is shorter.
  static std::unique_ptr<Collective> Join(Rendezvous& rendezvous, int64_t rank, int64_t ranks,
                                          at::Device device, std::chrono::milliseconds timeout,
                                          const std::string& host = "127.0.0.1");
  ~Collective();
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  int64_t rank() const { return rank_; }
  int64_t ranks() const { return ranks_; }
  // Replaces `t`, contiguous and of one shape on all ranks, by the sum over the ranks. Throws
  // RankLost.
  void Sum(at::Tensor t);

 private:
  struct Group;
  Collective(int64_t rank, int64_t ranks, std::unique_ptr<Group> group);

  const int64_t rank_, ranks_;
  const std::unique_ptr<Group> group_;
};

}  // namespace plumb::trainer
