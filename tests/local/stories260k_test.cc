// A real pretrained checkpoint, imported: its reference log-probabilities and its greedy text. The
// data is not part of the project; stories260k.sh says where it is looked for.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "interchange/hf_folder.h"
#include "tests/protocol/temp_dir.h"
#include "trainer/checkpoint.h"
#include "trainer/model.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// The model through the whole path: import, then what a child stage does with a checkpoint.
class Stories : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* dir = std::getenv("PLUMB_STORIES260K");
    if (dir == nullptr) return;
    dir_ = dir;
    plumb::testing::TempDir temporary;
    const interchange::Imported in = interchange::ImportHf(dir_, temporary.path());
    EXPECT_EQ(in.parameters, 260032);
    model_ = in.spec.model;
    arena_ = new trainer::Arena(spec::LayoutOf(model_), 1, at::kCPU);
    trainer::LoadCheckpoint({in.checkpoint, in.digest, 0, false}, *arena_, 0);
  }
  static void TearDownTestSuite() { delete arena_; }
  void SetUp() override {
    ASSERT_NE(arena_, nullptr)
        << "PLUMB_STORIES260K names the folder; see tests/local/stories260k.sh";
  }
  // [T, V] of one text.
  static at::Tensor Logits(const std::vector<int64_t>& ids) {
    const auto T = static_cast<int64_t>(ids.size());
    const trainer::ForwardTables tables(model_, T, at::kCPU);
    return trainer::Forward(model_, tables, arena_->View(0, 1),
                            at::tensor(ids, at::kLong).view({1, 1, T}))[0];
  }
  static std::string dir_;
  static spec::ModelSpec model_;
  static trainer::Arena* arena_;
};
std::string Stories::dir_;
spec::ModelSpec Stories::model_;
trainer::Arena* Stories::arena_ = nullptr;

TEST_F(Stories, HaveTheReferenceLogProbabilities) {
  const auto reference = nlohmann::json::parse(ReadText(dir_ + "/reference.json"));
  auto ids = reference.at("ids").get<std::vector<int64_t>>();
  const auto expected = reference.at("token_logprobs").get<std::vector<double>>();
  const at::Tensor all = Logits(ids);
  const at::Tensor log_p = at::log_softmax(all.to(at::kDouble), -1);
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double p = log_p[static_cast<int64_t>(i)][ids[i + 1]].item<double>();
    worst = std::max(worst, std::abs(p - expected[i]));
  }
  const auto logits = [&](const char* key, const at::Tensor& found) {
    const auto values = reference.at(key).get<std::vector<double>>();
    double difference = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference =
          std::max(difference, std::abs(found[static_cast<int64_t>(i)].item<double>() - values[i]));
    }
    return difference;
  };
  const double first = logits("logits_pos0", all[0]);
  const double last = logits("logits_last", all[all.size(0) - 1]);
  std::printf("log-probabilities of %zu tokens within %.1e, logits within %.1e and %.1e\n",
              expected.size(), worst, first, last);
  EXPECT_LE(worst, 5e-5);
  EXPECT_LE(first, 5e-5);
  EXPECT_LE(last, 5e-5);
}

// llama2.c's vocabulary file: the longest token's length, then score, length, bytes of each.
std::vector<std::string> Vocabulary(const std::string& path, int64_t n) {
  const std::string bytes = ReadText(path);
  std::vector<std::string> tokens;
  size_t at = 4;
  for (int64_t i = 0; i < n; ++i) {
    int32_t length = 0;
    std::memcpy(&length, bytes.data() + at + 4, 4);
    tokens.push_back(bytes.substr(at + 8, static_cast<size_t>(length)));
    at += 8 + static_cast<size_t>(length);
  }
  return tokens;
}

TEST_F(Stories, TellTheReferenceStory) {
  std::string expected = ReadText(dir_ + "/greedy_expected.txt");
  while (!expected.empty() && expected.back() == '\n') expected.pop_back();
  const auto tokens = Vocabulary(dir_ + "/tok512.bin", model_.vocab_size);
  std::vector<int64_t> ids = {1};
  std::string text;
  while (text.size() < expected.size() && ids.size() < 400) {
    const at::Tensor logits = Logits(ids);
    const int64_t next = logits[logits.size(0) - 1].argmax().item<int64_t>();
    std::string piece = tokens[static_cast<size_t>(next)];
    unsigned byte = 0;
    if (std::sscanf(piece.c_str(), "<0x%02X>", &byte) == 1) piece = static_cast<char>(byte);
    if (ids.back() == 1 && piece.front() == ' ') piece.erase(0, 1);
    text += piece;
    ids.push_back(next);
  }
  EXPECT_EQ(text, expected);
}

}  // namespace
}  // namespace plumb
