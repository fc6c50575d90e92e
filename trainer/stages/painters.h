// Other orders of a trained model's blocks (Sun et al. 2024, "Transformer Layers as Painters",
// arXiv 2407.09298).
#pragma once

#include <string>

#include "trainer/model.h"

namespace plumb::trainer {

// Of T blocks, those up to N = start_layer and from T - N on run as trained. Between them lie the
// M = T - 2N - 1 middle blocks N + 1 … T - N - 1:
//   baseline         as trained                  skip             not at all
//   middle_repeat    block T / 2, M times        reverse          from the last to the first
//   random           shuffled by `seed`          parallel         all on one input, outputs
//   averaged looped_parallel  parallel `repeat` times, each on the mean of the one before
// and of the whole model, i = start_layer:
//   skip_one         without block i             switch_two       blocks i and i + 1 in turn
// Throws std::invalid_argument where N >= T / 2 (block T / 2 would run twice), or there is no such
// block.
LayerSchedule PainterSchedule(const std::string& variant, int64_t n_layers, int64_t start_layer,
                              int64_t repeat, int64_t seed);

}  // namespace plumb::trainer
