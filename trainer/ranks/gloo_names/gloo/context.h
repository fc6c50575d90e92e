// See gloo/algorithm.h.
#pragma once

#include <chrono>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);  // named in an inline body, never called here
};
}  // namespace gloo
