// Blocks against a float64 reference written from their formulas (blocks/make_block_fixtures.py):
// logits, loss and every gradient.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "interchange/weight_files.h"
#include "trainer/model.h"
#include "trainer/ops/ops.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parse.h"

namespace plumb {
namespace {

std::string Folder() { return std::string(PLUMB_SOURCE_DIR) + "/tests/trainer_parity/blocks"; }

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(Folder())) {
    if (e.path().extension() == ".safetensors") names.push_back(e.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Blocks : public ::testing::TestWithParam<std::string> {
 protected:
  Blocks()
      : file_(interchange::WeightFiles::OpenFile(Folder() + "/" + GetParam() + ".safetensors")) {
    const auto errors = spec::ParseResolved(file_.metadata().at("fields"), &spec_);
    EXPECT_TRUE(errors.empty()) << spec::Format(errors);
  }
  at::Tensor Read(const std::string& name) const {
    const std::vector<double> values = file_.Read<double>(name);
    return at::tensor(values, at::kDouble).view(file_.tensors().at(name).entry.shape);
  }
  at::Tensor ReadIds(const std::string& name) const {
    std::vector<int64_t> shape = file_.tensors().at(name).entry.shape;
    shape.insert(shape.begin(), 1);
    return at::tensor(file_.Read<int64_t>(name), at::kLong).view(shape);
  }
  static double Relative(const at::Tensor& got, const at::Tensor& expected) {
    const double largest = expected.abs().max().item<double>();
    const double off = (got.to(at::kDouble) - expected).abs().max().item<double>();
    return largest == 0 ? off : off / largest;
  }
  void Compare(at::ScalarType type, double logits_tolerance, double gradient_tolerance) {
    const spec::ParameterLayout layout = spec::LayoutOf(spec_.model);
    trainer::ParameterView leaves;
    size_t theirs = 0;
    for (const auto& [name, entry] : file_.tensors()) theirs += name.starts_with("w.");
    ASSERT_EQ(theirs, layout.parameters.size());
    for (const spec::Parameter& p : layout.parameters) {
      const at::Tensor w = Read("w." + p.name);
      ASSERT_EQ(w.sizes(), at::IntArrayRef(p.shape)) << p.name;
      leaves[p.name] = w.unsqueeze(0).to(type).clone();
      leaves[p.name].requires_grad_(p.trainable);
    }
    const at::Tensor ids = ReadIds("ids"), targets = ReadIds("targets");
    const trainer::ForwardTables tables(spec_.model, ids.size(2), at::kCPU);
    trainer::Extras extras{.training = true};
    const at::Tensor logits = trainer::Forward(spec_.model, tables, leaves, ids, &extras);
    const at::Tensor expected = Read("logits");
    EXPECT_LE(Relative(logits.detach().view(expected.sizes()).clone(), expected), logits_tolerance);
    const double scored = static_cast<double>((targets >= 0).sum().item<int64_t>());
    const at::Tensor loss =
        trainer::ops::CrossEntropySum(logits, targets.view({1, -1})).sum() / scored;
    EXPECT_NEAR(loss.item<double>(), Read("loss").item<double>(),
                logits_tolerance * loss.item<double>());
    loss.backward();
    for (const spec::Parameter& p : layout.parameters) {
      if (!p.trainable) continue;
      const at::Tensor g = leaves[p.name].grad(), e = Read("g." + p.name);
      if (e.abs().max().item<double>() == 0) {
        EXPECT_TRUE(!g.defined() || g.abs().max().item<double>() == 0) << p.name;
        continue;
      }
      ASSERT_TRUE(g.defined()) << p.name;
      // A key's bias moves no softmax: what is left is the rounding of its weight's gradient.
      double largest = e.abs().max().item<double>();
      // Nearly the same of a router's: its terms, one a token, have both signs and cancel.
      if (p.name.ends_with("attn.k.bias") ||
          (p.name.starts_with("router.") && p.name.ends_with(".bias"))) {
        const std::string weight = p.name.substr(0, p.name.size() - 4) + "weight";
        largest = std::max(largest, Read("g." + weight).abs().max().item<double>());
      }
      const double off = (g[0].to(at::kDouble) - e).abs().max().item<double>();
      EXPECT_LE(off / largest, gradient_tolerance) << p.name;
    }
  }

  const interchange::WeightFiles file_;
  spec::TrialSpec spec_;
};

TEST_P(Blocks, EqualTheReferenceInFloat64) { Compare(at::kDouble, 1e-12, 1e-11); }
TEST_P(Blocks, EqualTheReferenceInFloat32) { Compare(at::kFloat, 5e-6, 5e-5); }

INSTANTIATE_TEST_SUITE_P(Fixtures, Blocks, ::testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace plumb
