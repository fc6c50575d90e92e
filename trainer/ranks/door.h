// How ranks on other machines come to rank 0: a TCP socket at rank 0's, and a secret that both have
// from the coordinator. Who does not prove that he has it is not let in, and so does rank 0 prove
// it to who comes. What is said afterwards is neither secret nor signed: the network between the
// machines must be one that is trusted, as for c10d's own sockets.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace plumb::trainer {

// One thread.
class Door {
 public:
  // Listens on `host`, a name or an address of this machine, at a port of the system's choice.
  // Throws std::runtime_error.
  explicit Door(const std::string& host);
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  const std::string& address() const { return address_; }  // "HOST:PORT", "[::1]:PORT"
  const std::string& secret() const { return secret_; }

  struct Guest {
    int64_t rank = 0;  // as it says
    int fd = -1;       // the caller's to close
  };
  // Who has proven that he is of this trial. Waits for the first of what happens, `limit` at most.
  std::vector<Guest> LetIn(std::chrono::milliseconds limit);

 private:
  struct Caller {
    int fd = -1;
    std::string nonce, said;
    std::chrono::steady_clock::time_point until;
  };
  const std::string secret_;
  std::string address_;
  int listener_ = -1;
  std::vector<Caller> callers_;
};

// The other side: rank `rank` comes to rank 0. Tries for as long as `patience`. Returns a connected
// socket; throws std::runtime_error.
int Knock(const std::string& address, const std::string& secret, int64_t rank,
          std::chrono::milliseconds patience);

}  // namespace plumb::trainer
