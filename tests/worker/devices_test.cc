#include "worker/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace plumb::worker {
namespace {

using ::testing::HasSubstr;

v1::Device Device(const std::string& kind, const std::string& name, int64_t gib) {
  v1::Device d;
  d.set_kind(kind), d.set_name(name), d.set_memory_bytes(gib << 30);
  return d;
}

const std::vector<v1::Device> kMachine = {Device("cpu", "c", 100), Device("cuda", "a", 80),
                                          Device("cuda", "b", 40)};

TEST(Devices, AWorkerOfOneGpuHasThatOneAndTheCpu) {
  const auto one = ChooseGpu(kMachine, 1, "");
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->devices.size(), 2u);
  EXPECT_EQ(one->devices[1].name(), "b");
  EXPECT_EQ(one->visible, "1");
  EXPECT_EQ(MemoryForTrials(one->devices), (int64_t{40} << 30) / 10 * 9);
  EXPECT_EQ(CountGpus(one->devices), 1);
}

TEST(Devices, WithinWhatABatchSystemLeftVisible) {
  EXPECT_EQ(ChooseGpu(kMachine, 1, "4,6")->visible, "6");
  EXPECT_EQ(ChooseGpu(kMachine, 0, "GPU-1b2c,GPU-3d4e")->visible, "GPU-1b2c");
}

TEST(Devices, ANumberThatIsNotThereIsToldWhatIs) {
  EXPECT_THAT(std::string(ChooseGpu(kMachine, 2, "").status().message()),
              HasSubstr("2 GPUs, 0 to 1"));
  EXPECT_THAT(std::string(ChooseGpu({kMachine[0]}, 0, "").status().message()),
              HasSubstr("no GPU is seen"));
}

TEST(Devices, AMachineWithoutAGpuGivesItsOwnMemory) {
  EXPECT_EQ(MemoryForTrials({kMachine[0]}), (int64_t{100} << 30) / 10 * 9);
  EXPECT_EQ(MemoryForTrials(kMachine), (int64_t{120} << 30) / 10 * 9);
}

TEST(Devices, NoneIsListedWhereNoneIsVisible) {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_EQ(CountGpus(ListDevices()), 0);
  unsetenv("CUDA_VISIBLE_DEVICES");
}

}  // namespace
}  // namespace plumb::worker
