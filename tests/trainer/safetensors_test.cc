#include "trainer/files/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <fstream>

#include "tests/protocol/temp_dir.h"

namespace plumb::trainer {
namespace {

void WriteRaw(const std::string& path, const std::string& header, const std::string& data) {
  std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  uint64_t length = padded.size();
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << padded << data;
}

TEST(Safetensors, ReadsWhatItWrote) {
  testing::TempDir dir;
  std::vector<float> a = {1, -0.0f, 3e-42f, 4, 5, 6}, b = {7};
  WriteSafetensors(dir / "x", {{"b.weight", {{2, 3}, a.data()}}, {"a", {{}, b.data()}}});
  TensorFile file = TensorFile::Read(dir / "x");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors().at("b.weight").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file.tensors().at("b.weight").data, a.data(), 24), 0);
  EXPECT_EQ(*file.tensors().at("a").data, 7);
}

TEST(Safetensors, RefusesFilesThatDoNotAddUp) {
  const std::string eight(8, '\0');
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"({"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
           offsets + "}";
  };
  const struct {
    const char* what;
    std::string header, data;
  } cases[] = {
      {"size against shape", R"({"a":)" + entry("F32", "[3]", "[0,8]") + "}", eight},
      {"offset outside", R"({"a":)" + entry("F32", "[4]", "[0,16]") + "}", eight},
      {"data after the last", R"({"a":)" + entry("F32", "[1]", "[0,4]") + "}", eight},
      {"hole before", R"({"a":)" + entry("F32", "[1]", "[4,8]") + "}", eight},
      {"overlap",
       R"({"a":)" + entry("F32", "[2]", "[0,8]") + R"(,"b":)" + entry("F32", "[1]", "[4,8]") + "}",
       eight},
      {"a name twice",
       R"({"a":)" + entry("F32", "[1]", "[0,4]") + R"(,"a":)" + entry("F32", "[1]", "[4,8]") + "}",
       eight},
      {"another type", R"({"a":)" + entry("F16", "[4]", "[0,8]") + "}", eight},
      {"negative size", R"({"a":)" + entry("F32", "[-2]", "[0,8]") + "}", eight},
      {"a product that overflows",
       R"({"a":)" + entry("F32", "[4611686018427387904,4]", "[0,0]") + "}", ""},
      {"end before begin", R"({"a":)" + entry("F32", "[0]", "[8,0]") + "}", eight},
      {"not an object", "[1, 2]", ""},
      {"not JSON", "{\"a\":", ""},
      {"no offsets", R"({"a":{"dtype":"F32","shape":[2]}})", eight},
      {"deep nesting", std::string(100000, '['), ""},
  };
  testing::TempDir dir;
  for (const auto& c : cases) {
    WriteRaw(dir / "x", c.header, c.data);
    EXPECT_THROW(TensorFile::Read(dir / "x"), std::runtime_error) << c.what;
  }
  WriteRaw(dir / "x", R"({"a":)" + entry("F32", "[2]", "[0,8]") + "}", eight);
  EXPECT_NO_THROW(TensorFile::Read(dir / "x")) << "the cases above differ from a good file";
}

TEST(Safetensors, RefusesATruncatedFileAtEveryLength) {
  testing::TempDir dir;
  std::vector<float> a = {1, 2, 3};
  WriteSafetensors(dir / "x", {{"a", {{3}, a.data()}}});
  std::ifstream in(dir / "x", std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  for (size_t n = 0; n < whole.size(); ++n) {
    std::ofstream(dir / "y", std::ios::binary) << whole.substr(0, n);
    ASSERT_THROW(TensorFile::Read(dir / "y"), std::runtime_error) << n << " bytes";
  }
  EXPECT_THROW(TensorFile::Read(dir / "absent"), std::runtime_error);
}

}  // namespace
}  // namespace plumb::trainer
