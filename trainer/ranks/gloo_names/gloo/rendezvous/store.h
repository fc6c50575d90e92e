// See gloo/algorithm.h beside this folder.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo::rendezvous {
// A base in ProcessGroupGloo.hpp, of a class that is only made inside LibTorch's library.
class Store {
 public:
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys,
                    const std::chrono::milliseconds& limit) = 0;

 protected:
  virtual ~Store();
};
}  // namespace gloo::rendezvous
