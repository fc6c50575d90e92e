// Blocks from outside the tree, loaded once each and kept: code that ran may not be unloaded.
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>

#include "trainer/block_plugin.h"
#include "trainer/components/context.h"
#include "trainer/spec/block_manifest.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::trainer::components {
namespace {

using at::Tensor;
using ForwardFunction = void (*)(const block::Input*, Tensor*);

// By digest: a block that was built anew beside a running trial is another block, and the loader
// would hand out the old one under the old path.
ForwardFunction Load(const spec::ModelSpec& m) {
  static std::mutex loaded_mutex;
  static auto* const loaded = new std::map<std::string, ForwardFunction>;  // under loaded_mutex
  const std::lock_guard lock(loaded_mutex);
  ForwardFunction& forward = (*loaded)[m.block_digest];
  if (forward != nullptr) return forward;
  if (const std::string digest = spec::BlockDigest(m.block_plugin); digest != m.block_digest) {
    throw std::runtime_error(m.block_plugin + " has changed: its digest is " + digest +
                             ", the trial's " + m.block_digest);
  }
  const std::string path = spec::BlockLibrary(m.block_plugin);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(std::string("loading a block: ") + dlerror());
  const auto interface = reinterpret_cast<int (*)()>(dlsym(library, "PlumbBlockInterface"));
  const auto run = reinterpret_cast<ForwardFunction>(dlsym(library, "PlumbBlockForward"));
  if (interface == nullptr || run == nullptr)
    throw std::runtime_error(path + " has no PLUMB_BLOCK(function)");
  if (interface() != block::kInterface) {
    throw std::runtime_error(path + " was built for interface " + std::to_string(interface()) +
                             ", this trainer has " + std::to_string(block::kInterface) +
                             "; build it again: plumb block test " + m.block_plugin);
  }
  return forward = run;
}

}  // namespace

Tensor Plugin(const Context& c, const Tensor& x, int64_t l) {
  const spec::ModelSpec& m = c.m;
  block::Input in{.x = x.view({c.K, c.B, c.T, m.d_model}),
                  .layer = l,
                  .n_layers = m.n_layers,
                  .n_heads = m.n_heads,
                  .n_kv_heads = m.n_kv_heads,
                  .head_dim = m.head_dim,
                  .d_ff = m.d_ff,
                  .causal = m.causal};
  if (m.position == spec::PositionKind::kRope) {
    in.cos = c.tables.cos(c.T, x.scalar_type()), in.sin = c.tables.sin(c.T, x.scalar_type());
  }
  const std::string name = spec::BlockName(l);
  for (auto it = c.parameters.lower_bound(name);
       it != c.parameters.end() && it->first.starts_with(name); ++it) {
    in.parameters.emplace(it->first.substr(name.size()), it->second);
  }
  Tensor out;
  Load(m)(&in, &out);
  if (!out.defined() || !out.sizes().equals(in.x.sizes()) || out.scalar_type() != x.scalar_type()) {
    throw std::runtime_error(
        "block " + m.block_plugin + " returned " +
        (out.defined() ? c10::str(out.sizes(), " ", out.scalar_type()) : std::string("nothing")) +
        ", not " + c10::str(in.x.sizes(), " ", x.scalar_type()));
  }
  return out.reshape(x.sizes());
}

}  // namespace plumb::trainer::components
