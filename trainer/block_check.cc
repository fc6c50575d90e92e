#include "trainer/block_check.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/spec/block_manifest.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

constexpr int64_t kTexts = 3, kLength = 12, kVocabulary = 61;

// Waits for `arguments`; its output goes to stderr.
void Run(std::vector<std::string> arguments) {
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(2, 1);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw std::runtime_error("it does not build: " + arguments[0] + " " + arguments[1] +
                             " failed (what it said is above)");
}

spec::ModelSpec SmallModel(const std::string& folder) {
  const bool causal = spec::ReadBlockManifest(folder).causal;
  const nlohmann::json config = {
      {"model", {{"block_plugin", folder}, {"n_layers", 2}, {"d_model", 24}, {"n_heads", 4}}},
      {"data", {{"tokenizer", "ids:" + std::to_string(kVocabulary)}, {"seq_len", kLength}}},
      {"train",
       {{"steps", 1}, {"batch_tokens", kLength}, {"objective", causal ? "causal" : "mlm"}}}};
  spec::TrialSpec s;
  if (const auto errors = spec::ParseResolved(config.dump(), &s); !errors.empty())
    throw std::runtime_error(spec::Format(errors));
  return s.model;
}

at::Tensor Tokens(int64_t rows, uint64_t key) {
  at::Tensor t = at::empty({rows, kTexts, kLength}, at::kLong);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data_ptr<int64_t>()[i] = static_cast<int64_t>(CounterRandom(key).Bits(i) % kVocabulary);
  return t;
}

// Weights in float64, gains moved off 0 and 1.
ParameterView Drawn(const spec::ModelSpec& m) {
  Bundle bundle(m, kLength, 1, at::kCPU);
  bundle.Add(1);
  ParameterView out;
  for (const auto& [name, t] : bundle.arena().View(0, 1)) {
    at::Tensor noise =
        at::empty_like(t, t.options().dtype(at::kDouble), at::MemoryFormat::Contiguous);
    const CounterRandom random(HashOf(name));
    for (int64_t i = 0; i < noise.numel(); ++i) noise.data_ptr<double>()[i] = random.Normal(i);
    out[name] = (t.to(at::kDouble) + 0.1 * noise).contiguous().requires_grad_(true);
  }
  return out;
}

at::Tensor Loss(const spec::ModelSpec& m, const ParameterView& w) {
  const at::Tensor ids = Tokens(1, 1), targets = Tokens(1, 2);
  const at::Tensor logits = Forward(m, ForwardTables(m, kLength, at::kCPU), w, ids);
  return -at::log_softmax(logits, -1).gather(2, targets.reshape({1, -1, 1})).mean();
}

BlockCheck Counts(const spec::ModelSpec& m) {
  Bundle bundle(m, kLength, 1, at::kCPU);
  bundle.Add(1);
  int64_t held = 0, of_block = 0;
  for (const auto& [name, t] : bundle.arena().View(0, 1)) held += t.numel();
  for (const spec::Parameter& p : bundle.arena().layout().parameters)
    if (p.layer == 0) of_block += p.size();
  return {"counts",
          std::to_string(of_block) + " parameters and " +
              std::to_string(spec::BlockFlopsPerToken(m, kLength)) +
              " FLOPs a token in a block (d 24, H 4, T 12)",
          held == spec::CountParameters(m).total};
}

BlockCheck ForwardPass(const spec::ModelSpec& m) {
  Bundle bundle(m, kLength, 1, at::kCPU);
  bundle.Add(1);
  const double loss = bundle.Step(Tokens(1, 1), Tokens(1, 2), {{.lr = 0}}).loss[0];
  const double uniform = std::log(static_cast<double>(kVocabulary));
  return {"forward",
          "first loss " + std::to_string(loss) + ", of a uniform guess " + std::to_string(uniform),
          std::abs(loss - uniform) < 0.1 * uniform};
}

// A later token must not move an earlier position's logits by a bit.
BlockCheck Causality(const spec::ModelSpec& m) {
  Bundle bundle(m, kLength, 1, at::kCPU);
  bundle.Add(1);
  const at::Tensor ids = Tokens(1, 1).narrow(1, 0, 1).contiguous();
  const at::Tensor before = bundle.Logits(0, ids);
  for (int64_t at = kLength - 1; at > 0; --at) {
    at::Tensor other = ids.clone();
    other[0][0][at] = (other[0][0][at] + 1) % kVocabulary;
    const at::Tensor after = bundle.Logits(0, other);
    if (!at::equal(before.narrow(1, 0, at), after.narrow(1, 0, at))) {
      return {"causality", "the token at position " + std::to_string(at) + " changes earlier ones"};
    }
    if (at::equal(before.narrow(1, at, 1), after.narrow(1, at, 1)))
      return {"causality", "the token at position " + std::to_string(at) + " changes nothing"};
  }
  return {"causality", "no token changes an earlier position", true};
}

// Every parameter is reached, and the slope along each parameter's own gradient is that of the
// loss.
BlockCheck Gradients(const spec::ModelSpec& m) {
  const ParameterView w = Drawn(m);
  Loss(m, w).backward();
  double worst = 0;
  std::string where;
  for (const auto& [name, t] : w) {
    const at::Tensor g = t.grad();
    const double norm = g.defined() ? g.norm().item<double>() : 0;
    if (!(norm > 0)) return {"gradients", "none reaches " + name};
    at::NoGradGuard no_grad;
    const auto moved = [&](double by) {
      ParameterView other = w;
      other[name] = t.detach() + g * (by / norm);
      return Loss(m, other).item<double>();
    };
    const double step = 1e-5, slope = (moved(step) - moved(-step)) / (2 * step);
    const double error = std::abs(slope - norm) / norm;
    if (error > worst) worst = error, where = name;
  }
  char text[160];
  std::snprintf(text, sizeof text, "against differences in float64: at most %.1e relative (%s)",
                worst, where.c_str());
  return {"gradients", text, worst < 1e-4};
}

BlockCheck Array(const spec::ModelSpec& m) {
  const at::Tensor ids = at::cat({Tokens(1, 1), Tokens(1, 2), Tokens(1, 3)});
  const auto update = [](int64_t step) { return RowUpdate{.lr = 0.01, .step = step}; };
  Bundle together(m, kLength, 3, at::kCPU);
  for (int64_t seed : {1, 2, 3}) together.Add(seed);
  for (int64_t step = 1; step <= 3; ++step)
    together.Step(ids, ids, std::vector<RowUpdate>(3, update(step)));
  for (int64_t k = 0; k < 3; ++k) {
    Bundle alone(m, kLength, 1, at::kCPU);
    alone.Add(k + 1);
    for (int64_t step = 1; step <= 3; ++step)
      alone.Step(ids.narrow(0, k, 1), ids.narrow(0, k, 1), {update(step)});
    if (!at::equal(together.arena().weights()[k], alone.arena().weights()[0])) {
      return {"array", "row " + std::to_string(k) +
                           " of three is not what it is alone; sum per row in an order that does "
                           "not depend on K, or say \"array\": \"row_loop\""};
    }
  }
  return {"array",
          BatchingOf(m) == Batching::kBatched ? "three rows at once are those alone, bit for bit"
                                              : "a call a row, as block.json says",
          true};
}

}  // namespace

void BuildBlock(const std::string& folder) {
  spec::ReadBlockManifest(folder);  // the cheaper mistake first
  setenv("CMAKE_GENERATOR", "Ninja",
         /*overwrite=*/0);  // what script/setup installs; make may not be there
  Run({"cmake", "-S" + folder, "-B" + folder + "/build", "-DCMAKE_BUILD_TYPE=Release",
       "-DPLUMB_TORCH_DIR=" PLUMB_TORCH_DIR, "-DPLUMB_INCLUDE_DIR=" PLUMB_INCLUDE_DIR});
  Run({"cmake", "--build", folder + "/build"});
}

std::vector<BlockCheck> CheckBlock(const std::string& folder) {
  at::set_num_threads(1);
  const spec::ModelSpec m = SmallModel(folder);
  std::vector<BlockCheck> checks = {Counts(m), ForwardPass(m)};
  if (m.causal) checks.push_back(Causality(m));
  checks.push_back(Gradients(m));
  checks.push_back(Array(m));
  return checks;
}

int BlockTestMain(const std::string& given) {
  const std::string folder = std::filesystem::absolute(given).lexically_normal().string();
  BuildBlock(folder);
  bool passed = true;
  for (const BlockCheck& c : CheckBlock(folder)) {
    std::printf("%-6s %s: %s\n", c.passed ? "passed" : "FAILED", c.name.c_str(), c.found.c_str());
    passed = passed && c.passed;
  }
  if (passed) {
    std::printf("digest %s\nuse it: model.block_plugin: %s\n", spec::BlockDigest(folder).c_str(),
                folder.c_str());
  }
  return passed ? 0 : 1;
}

}  // namespace plumb::trainer
