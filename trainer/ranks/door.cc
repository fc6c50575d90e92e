// What is said: rank 0 a nonce; the caller "RANK NONCE PROOF", of both nonces; rank 0 its own
// PROOF.
#include "trainer/ranks/door.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kLongest = 400;          // bytes that a caller may say before he is known
constexpr size_t kMostCallers = 256;      // at once, not yet known
constexpr milliseconds kManners(10'000);  // to say them in
constexpr milliseconds kAgain(200);       // between two tries
constexpr int kSilentSeconds = 30, kProbeSeconds = 10, kProbes = 3;

[[noreturn]] void Fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

std::string Nonce() {
  std::array<unsigned char, 16> bytes;
  for (size_t got = 0; got < bytes.size();) {
    const ssize_t n = getrandom(bytes.data() + got, bytes.size() - got, 0);
    if (n < 0 && errno != EINTR) Fail("getrandom");
    if (n > 0) got += static_cast<size_t>(n);
  }
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned char b : bytes) (out += kHex[b >> 4]) += kHex[b & 15];
  return out;
}

// HMAC in spirit: twice, so that nothing can be appended.
std::string Proof(const std::string& secret, const std::string& of) {
  return spec::Sha256Hex(secret + "/" + spec::Sha256Hex(secret + "/" + of));
}

bool Same(const std::string& a, const std::string& b) {  // in equal time, whatever differs
  if (a.size() != b.size()) return false;
  unsigned char differs = 0;
  for (size_t i = 0; i < a.size(); ++i) differs |= static_cast<unsigned char>(a[i] ^ b[i]);
  return differs == 0;
}

struct Addresses {
  explicit Addresses(const std::string& host, const std::string& port, int flags) {
    addrinfo hints = {};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &first); error != 0)
      throw std::runtime_error("no address for " + host + ": " + gai_strerror(error));
  }
  ~Addresses() { freeaddrinfo(first); }
  addrinfo* first = nullptr;
};

// Steps are short messages, and a machine that has lost its power says nothing.
void Tune(int fd) {
  const auto set = [&](int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kSilentSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kProbeSeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 1000 * (kSilentSeconds + kProbes * kProbeSeconds));
}

bool Say(int fd, const std::string& line) {
  const std::string text = line + "\n";
  return send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

// Not a byte past the line: what follows is the channel's.
bool Hear(int fd, Clock::time_point until, std::string* line) {
  line->clear();
  while (line->size() < kLongest) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now()).count();
    pollfd wait = {fd, POLLIN, 0};
    if (left <= 0 || (poll(&wait, 1, static_cast<int>(left)) <= 0 && errno != EINTR)) return false;
    char c;
    const ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return false;
    if (c == '\n') return true;
    *line += c;
  }
  return false;
}

}  // namespace

Door::Door(const std::string& host) : secret_(Nonce() + Nonce()) {
  const Addresses found(host, "0", AI_PASSIVE);
  listener_ = socket(found.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener_ < 0) Fail("socket");
  const auto refuse = [&](const std::string& what) {
    const int error = errno;
    close(listener_);
    errno = error;
    Fail(what);
  };
  if (bind(listener_, found.first->ai_addr, found.first->ai_addrlen) != 0)
    refuse("cannot listen on " + host + " (the worker's --gang-address must be this machine's)");
  if (listen(listener_, 64) != 0) refuse("listen");
  sockaddr_storage bound = {};
  socklen_t size = sizeof bound;
  if (getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    refuse("getsockname");
  const int port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                        : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  address_ =
      (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

Door::~Door() {
  for (const Caller& c : callers_) close(c.fd);
  close(listener_);
}

std::vector<Door::Guest> Door::LetIn(milliseconds limit) {
  std::vector<pollfd> fds = {{listener_, POLLIN, 0}};
  for (const Caller& c : callers_) fds.push_back({c.fd, POLLIN, 0});
  poll(fds.data(), fds.size(), static_cast<int>(limit.count()));
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) break;
    Tune(fd);
    Caller caller{.fd = fd, .nonce = Nonce(), .said = "", .until = Clock::now() + kManners};
    if (callers_.size() >= kMostCallers || !Say(fd, caller.nonce)) {
      close(fd);
      continue;
    }
    callers_.push_back(std::move(caller));
  }
  std::vector<Guest> in;
  std::erase_if(callers_, [&](Caller& c) {
    std::array<char, kLongest> bytes;
    const ssize_t n = recv(c.fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n > 0) c.said.append(bytes.data(), static_cast<size_t>(n));
    const bool over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
                      c.said.size() > kLongest || Clock::now() > c.until;
    if (!over && (c.said.empty() || c.said.back() != '\n')) return false;
    std::istringstream words(c.said);
    std::string rank, nonce, proof;
    words >> rank >> nonce >> proof;
    Guest guest{.fd = c.fd};
    const auto read = std::from_chars(rank.data(), rank.data() + rank.size(), guest.rank);
    if (!over && read.ec == std::errc() && !nonce.empty() &&
        Same(proof, Proof(secret_, "rank " + rank + " " + c.nonce + " " + nonce)) &&
        Say(c.fd, Proof(secret_, "rank 0 " + nonce))) {
      in.push_back(guest);
    } else {
      close(c.fd);
    }
    return true;
  });
  return in;
}

int Knock(const std::string& address, const std::string& secret, int64_t rank,
          milliseconds patience) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) throw std::runtime_error("no HOST:PORT: " + address);
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  const Clock::time_point deadline = Clock::now() + patience;
  std::string why = "no answer";
  for (;;) {
    try {
      const Addresses found(host, address.substr(colon + 1), AI_NUMERICSERV);
      for (const addrinfo* a = found.first; a != nullptr; a = a->ai_next) {
        const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) Fail("socket");
        const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
        pollfd wait = {fd, POLLOUT, 0};
        int error = 0;
        socklen_t size = sizeof error;
        if (connect(fd, a->ai_addr, a->ai_addrlen) != 0 && errno != EINPROGRESS) {
          why = std::strerror(errno);
        } else if (poll(&wait, 1, static_cast<int>(std::max<int64_t>(left, 1))) != 1 ||
                   getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
          why = error != 0 ? std::strerror(error) : "no answer";
        } else {
          fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
          Tune(fd);
          std::string theirs, proof;
          const std::string own = Nonce(), name = std::to_string(rank);
          if (Hear(fd, deadline, &theirs) &&
              Say(fd, name + " " + own + " " +
                          Proof(secret, "rank " + name + " " + theirs + " " + own)) &&
              Hear(fd, deadline, &proof) && Same(proof, Proof(secret, "rank 0 " + own)))
            return fd;
          why = "who answers there is not rank 0 of this trial";
        }
        close(fd);
      }
    } catch (const std::runtime_error& e) {
      why = e.what();
    }
    if (Clock::now() + kAgain >= deadline) {
      throw std::runtime_error("rank 0 cannot be reached at " + address + " (" + why +
                               "): is that the address of its machine, and open to this one "
                               "(--gang-address)?");
    }
    std::this_thread::sleep_for(kAgain);
  }
}

}  // namespace plumb::trainer
