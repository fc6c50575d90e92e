#include "interchange/tensor_map.h"

namespace plumb::interchange {
namespace {

// fn(index in ours, index in theirs) for every element the link shares.
template <typename Fn>
void ForEach(const Link& link, const Fn& fn) {
  const int64_t outputs = link.ours_shape.back();
  int64_t inputs = 1;
  for (size_t i = 0; i + 1 < link.ours_shape.size(); ++i) inputs *= link.ours_shape[i];
  const int64_t their_outputs =
      link.transposed ? link.theirs_shape.front() : link.theirs_shape.back();
  for (const Run& run : link.runs) {
    for (int64_t i = 0; i < inputs; ++i) {
      for (int64_t o = 0; o < run.count; ++o) {
        const int64_t theirs = run.theirs + o;
        fn(i * outputs + run.ours + o,
           link.transposed ? theirs * inputs + i : i * their_outputs + theirs);
      }
    }
  }
}

}  // namespace

template <typename T>
void MoveToOurs(const Link& link, const T* theirs, T* ours) {
  ForEach(link, [&](int64_t a, int64_t b) { ours[a] = theirs[b]; });
}
template <typename T>
void MoveToTheirs(const Link& link, const T* ours, T* theirs) {
  ForEach(link, [&](int64_t a, int64_t b) { theirs[b] = ours[a]; });
}

template void MoveToOurs(const Link&, const float*, float*);
template void MoveToOurs(const Link&, const double*, double*);
template void MoveToOurs(const Link&, const int64_t*, int64_t*);
template void MoveToTheirs(const Link&, const float*, float*);
template void MoveToTheirs(const Link&, const double*, double*);
template void MoveToTheirs(const Link&, const int64_t*, int64_t*);

}  // namespace plumb::interchange
