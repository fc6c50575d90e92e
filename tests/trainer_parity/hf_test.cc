// Models of Hugging Face transformers (hf/make_hf_fixtures.py), their config and weights brought in
// by interchange: the same logits, loss and gradients.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "interchange/hf_config.h"
#include "interchange/hf_tensors.h"
#include "interchange/weight_files.h"
#include "trainer/model.h"
#include "trainer/ops/ops.h"

namespace plumb {
namespace {

using interchange::Link;

struct Fixture {
  interchange::WeightFiles file;
  interchange::HfConfig config;
  interchange::TensorMap map;
  at::Tensor ids, targets;  // [1, B, T] int64; a target of -1 is not scored

  static Fixture Read(const std::string& name) {
    Fixture f{interchange::WeightFiles::OpenFile(
        std::string(PLUMB_SOURCE_DIR) + "/tests/trainer_parity/hf/" + name + ".safetensors")};
    const auto errors =
        interchange::ConfigFromHf(nlohmann::json::parse(f.file.metadata().at("config")), &f.config);
    EXPECT_TRUE(errors.empty()) << spec::Format(errors);
    if (!errors.empty()) return f;
    f.map = interchange::HfTensors(f.config.model_type, f.config.spec.model);
    std::vector<int64_t> shape = f.file.tensors().at("input_ids").entry.shape;
    shape.insert(shape.begin(), 1);
    f.ids = at::tensor(f.file.Read<int64_t>("input_ids"), at::kLong).view(shape);
    f.targets = at::full_like(f.ids, -1);
    const int64_t T = shape[2];
    f.targets.narrow(2, 0, T - 1).copy_(f.ids.narrow(2, 1, T - 1));
    return f;
  }
  // Their tensor of a link under the name that the fixture has.
  std::string Their(const std::string& name) const {
    if (file.tensors().count(name) > 0) return name;
    for (const auto& [theirs, other] : map.aliases) {
      if (theirs == name && file.tensors().count(other) > 0) return other;
    }
    throw std::out_of_range("the fixture has no " + name);
  }
};

struct Difference {
  double absolute = 0, relative = 0;  // the latter to the largest magnitude of the tensor
  void Take(const double* a, const std::vector<double>& expected) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double d = std::abs(a[i] - expected[i]);
      worst = std::isnan(d) ? INFINITY : std::max(worst, d);
      largest = std::max(largest, std::abs(expected[i]));
    }
    absolute = std::max(absolute, worst);
    relative = std::max(relative, worst / largest);
  }
};

struct Outcome {
  Difference logits, loss, gradients;
  std::string worst;  // the tensor of the worst gradient
};

// `leaves` hold the fixture's weights and, after backward, `gradient(name)` what was found.
template <typename Gradient>
Outcome Compare(const Fixture& f, const trainer::ParameterView& leaves, const Gradient& gradient) {
  const spec::ModelSpec& m = f.config.spec.model;
  const trainer::ForwardTables tables(m, f.ids.size(2), at::kCPU);
  const at::Tensor logits = trainer::Forward(m, tables, leaves, f.ids);  // [1, B*T, V]
  // Backward may overwrite them.
  const at::Tensor seen = logits.detach().to(at::kDouble).clone();
  const at::Tensor sum = trainer::ops::CrossEntropySum(logits, f.targets.view({1, -1}));
  const double count = static_cast<double>((f.targets >= 0).sum().item<int64_t>());
  const at::Tensor loss = sum.sum() / count;
  loss.backward();

  Outcome out;
  out.logits.Take(seen.data_ptr<double>(), f.file.Read<double>("logits"));
  const double loss_value = loss.item<double>();
  out.loss.Take(&loss_value, f.file.Read<double>("loss"));
  // Ours to theirs, tensor by tensor of theirs.
  std::map<std::string, std::vector<double>> theirs;
  for (const Link& link : f.map.links) {
    const std::string name = f.Their(link.theirs);
    auto& target = theirs[name];
    target.resize(static_cast<size_t>(f.file.tensors().at(name).entry.size()), NAN);
    const at::Tensor g = gradient(link.ours).to(at::kDouble).contiguous();
    interchange::MoveToTheirs(link, g.data_ptr<double>(), target.data());
  }
  for (const auto& [name, found] : theirs) {
    const double before = out.gradients.relative;
    out.gradients.Take(found.data(), f.file.Read<double>("grad." + name));
    if (out.gradients.relative > before) out.worst = name;
  }
  return out;
}

// The fixture's weights in our layout.
at::Tensor Ours(const Fixture& f, const spec::Parameter& p) {
  at::Tensor out = at::full(p.shape, NAN, at::kDouble);
  for (const Link& link : f.map.links) {
    if (link.ours != p.name) continue;
    const std::vector<double> theirs = f.file.Read<double>(f.Their(link.theirs));
    EXPECT_EQ(f.file.tensors().at(f.Their(link.theirs)).entry.shape, link.theirs_shape);
    interchange::MoveToOurs(link, theirs.data(), out.data_ptr<double>());
  }
  EXPECT_FALSE(out.isnan().any().item<bool>()) << p.name << " is not filled";
  return out;
}

class HfParity : public testing::TestWithParam<std::string> {};
class HfParity64 : public HfParity {};

TEST_P(HfParity, EveryTensorOfTheirsHasOnePlace) {
  const Fixture f = Fixture::Read(GetParam());
  std::map<std::string, std::vector<int64_t>> touched;
  const auto ones = [](const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return std::vector<int64_t>(static_cast<size_t>(n), 1);
  };
  for (const Link& link : f.map.links) {
    auto& theirs = touched[f.Their(link.theirs)];
    std::vector<int64_t> here(ones(link.theirs_shape).size(), 0);
    interchange::MoveToTheirs(link, ones(link.ours_shape).data(), here.data());
    theirs.resize(here.size());
    for (size_t i = 0; i < here.size(); ++i) theirs[i] += here[i];
  }
  for (const auto& zero : f.map.zeros) touched[zero.theirs] = ones(zero.shape);
  for (const auto& [name, place] : f.file.tensors()) {
    if (name == "input_ids" || name == "logits" || name == "loss" || name.rfind("grad.", 0) == 0)
      continue;
    EXPECT_EQ(touched[name], ones(place.entry.shape)) << name;
  }
}

TEST_P(HfParity64, LogitsAndAllGradientsTo1e10) {
  at::set_num_threads(1);
  const Fixture f = Fixture::Read(GetParam());
  trainer::ParameterView leaves;
  for (const spec::Parameter& p : spec::LayoutOf(f.config.spec.model).parameters)
    leaves[p.name] = Ours(f, p).unsqueeze(0).contiguous().requires_grad_(true);
  const Outcome out =
      Compare(f, leaves, [&](const std::string& name) { return leaves.at(name).grad(); });
  std::printf("%s float64: logits %.1e, gradients %.1e (%s)\n", GetParam().c_str(),
              out.logits.absolute, out.gradients.relative, out.worst.c_str());
  EXPECT_LE(out.logits.absolute, 1e-10);
  EXPECT_LE(out.logits.relative, 1e-10);
  EXPECT_LE(out.loss.relative, 1e-10);
  EXPECT_LE(out.gradients.absolute, 1e-10);
  EXPECT_LE(out.gradients.relative, 1e-10);
}

TEST_P(HfParity, LogitsAndAllGradientsInFloat32To2e5) {
  at::set_num_threads(1);
  const Fixture f = Fixture::Read(GetParam());
  trainer::Arena arena(spec::LayoutOf(f.config.spec.model), 1, at::kCPU);
  arena.weights().zero_();
  arena.grads().zero_();
  for (const spec::Parameter& p : arena.layout().parameters)
    arena.View(0, 1).at(p.name)[0].copy_(Ours(f, p));
  const Outcome out = Compare(f, arena.Leaves(0, 1), [&](const std::string& name) {
    return trainer::Slice(arena.grads(), arena.layout().at(name), 0, 1)[0];
  });
  std::printf("%s float32: logits %.1e, gradients %.1e (%s)\n", GetParam().c_str(),
              out.logits.relative, out.gradients.relative, out.worst.c_str());
  EXPECT_LE(out.logits.relative, 2e-5);
  EXPECT_LE(out.loss.relative, 2e-5);
  EXPECT_LE(out.gradients.relative, 2e-5);
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) { return info.param; }
const auto kModels = testing::Values("llama", "llama_gqa", "llama_bias", "mistral", "phi3", "gpt2",
                                     "gpt_neox", "gptj", "olmo2", "gemma2");
INSTANTIATE_TEST_SUITE_P(Models, HfParity, kModels, NameOf);
INSTANTIATE_TEST_SUITE_P(Models, HfParity64, kModels, NameOf);

}  // namespace
}  // namespace plumb
