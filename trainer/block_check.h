// `plumb-trainer block-test FOLDER`: builds a block from outside the tree and asks of it what the
// tree's own blocks are asked.
#pragma once

#include <string>
#include <vector>

namespace plumb::trainer {

struct BlockCheck {
  std::string name;   // "causality"
  std::string found;  // what was seen, or what was wrong
  bool passed = false;
};

// Runs cmake in `folder`/build against the LibTorch and the header that this program was built
// with. Throws std::runtime_error when it does not build; the compiler's words go to stderr.
void BuildBlock(const std::string& folder);

// Of a built block, in a model of two blocks: counts, forward, causality (where it says causal),
// gradients (float64, against differences), array (K = 3 against alone, bit for bit). Throws where
// the block cannot even be loaded.
std::vector<BlockCheck> CheckBlock(const std::string& folder);

// Both, told on standard output; returns an exit code.
int BlockTestMain(const std::string& folder);

}  // namespace plumb::trainer
