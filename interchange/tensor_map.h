// Which of our parameters is which tensor of another layout: a rearrangement of outputs, without
// arithmetic, so that weights and gradients move by the same map, exactly, in both directions.
//
// A matrix is seen as inputs x outputs. Ours are [in, out]; theirs are [out, in] (`transposed`) or
// [in, out]. A vector is outputs alone. Tables of tokens or positions are moved as they are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb::interchange {

// `count` consecutive outputs, from `theirs` on in their tensor, from `ours` on in ours.
struct Run {
  int64_t ours = 0, theirs = 0, count = 0;
  friend bool operator==(const Run&, const Run&) = default;
};

// What a pair of tensors shares.
struct Link {
  std::string ours, theirs;
  std::vector<int64_t> ours_shape, theirs_shape;
  bool transposed = false;
  std::vector<Run> runs;
};

// Invariant: every element of our layout, and of every tensor of theirs named here, is in exactly
// one run, or in `zeros`, or in `copies`.
struct TensorMap {
  std::vector<Link> links;
  struct Zero {  // theirs alone; must hold zeros, for Plumb has no such parameter
    std::string theirs;
    std::vector<int64_t> shape;
  };
  std::vector<Zero> zeros;
  struct Copy {  // theirs alone; when it is there, it must equal another of theirs (tied heads)
    std::string theirs, of;
  };
  std::vector<Copy> copies;
  // Endings of names that other versions wrote and nothing needs (masks, angles).
  std::vector<std::string> ignored;
  // Other names of theirs: where `theirs` is not in a file, this may be.
  std::vector<std::pair<std::string, std::string>> aliases;  // theirs, other
};

// Copies the link's elements; the rest of the target is left as it is. Row-major buffers.
template <typename T>
void MoveToOurs(const Link& link, const T* theirs, T* ours);
template <typename T>
void MoveToTheirs(const Link& link, const T* ours, T* theirs);

}  // namespace plumb::interchange
