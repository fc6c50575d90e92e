#include "interchange/weight_files.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "tests/protocol/temp_dir.h"

namespace plumb::interchange {
namespace {

void WriteRaw(const std::string& path, const std::string& header, const std::string& data) {
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const uint64_t length = padded.size();
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << padded << data;
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

TEST(WeightFiles, ReadsEveryTypeOfNumber) {
  plumb::testing::TempDir dir;
  const std::string data =
      Bytes<double>({0.1}) +
      // 1, -2, largest, smallest normal, smallest, infinity, and NaN
      Bytes<uint16_t>({0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0xFC00, 0x7E00}) +
      Bytes<uint16_t>({0x3F80, 0xC049}) + Bytes<int64_t>({7}) + std::string(1, 1);
  WriteRaw(dir / "x",
           R"({"d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
           R"("h":{"dtype":"F16","shape":[7],"data_offsets":[8,22]},)"
           R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[22,26]},)"
           R"("i":{"dtype":"I64","shape":[],"data_offsets":[26,34]},)"
           R"("m":{"dtype":"BOOL","shape":[1],"data_offsets":[34,35]},)"
           R"("__metadata__":{"k":"v"}})",
           data);
  const WeightFiles f = WeightFiles::OpenFile(dir / "x");
  EXPECT_EQ(f.metadata().at("k"), "v");
  EXPECT_EQ(f.Read<double>("d"), std::vector<double>{0.1});
  EXPECT_EQ(f.Read<float>("d"), std::vector<float>{0.1f});
  std::vector<float> h = f.Read<float>("h");
  EXPECT_TRUE(std::isnan(h.back()));
  h.pop_back();
  EXPECT_EQ(h, (std::vector<float>{1, -2, 65504, 0x1p-14f, 0x1p-24f, -INFINITY}));
  EXPECT_EQ(f.Read<float>("b"), (std::vector<float>{1, -3.140625f}));
  EXPECT_EQ(f.Read<int64_t>("i"), std::vector<int64_t>{7});
  EXPECT_THROW(f.Read<float>("m"), std::runtime_error);
  EXPECT_THROW(f.Read<float>("absent"), std::out_of_range);
}

TEST(WeightFiles, ReadsShardsAndRefusesAnIndexThatIsWrong) {
  plumb::testing::TempDir dir;
  const std::vector<float> a = {1, 2}, b = {3};
  trainer::WriteSafetensors(dir / "one.safetensors", {{"a", {{2}, a.data()}}});
  trainer::WriteSafetensors(dir / "two.safetensors", {{"b", {{1}, b.data()}}});
  const auto index = [&](const std::string& text) {
    std::ofstream(dir / "model.safetensors.index.json") << text;
    return WeightFiles::OpenFolder(dir.path());
  };
  const WeightFiles f = index(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  EXPECT_EQ(f.Read<float>("a"), a);
  EXPECT_EQ(f.Read<float>("b"), b);
  for (const char* wrong :
       {R"({"weight_map":{"a":"two.safetensors"}})", R"({"weight_map":{"a":"../one.safetensors"}})",
        R"({"weight_map":{"a":"three.safetensors"}})", R"({"weight_map":{"a":3}})", R"({})", "{"}) {
    EXPECT_THROW(index(wrong), std::runtime_error) << wrong;
  }
  plumb::testing::TempDir empty;
  EXPECT_THROW(WeightFiles::OpenFolder(empty.path()), std::runtime_error);
}

}  // namespace
}  // namespace plumb::interchange
