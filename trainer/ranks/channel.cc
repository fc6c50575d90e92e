#include "trainer/ranks/channel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace plumb::trainer {

Channel::~Channel() { close(fd_); }

bool Channel::Send(const nlohmann::json& message) {
  std::string line = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  while (!line.empty()) {
    const ssize_t n = send(fd_, line.data(), line.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    line.erase(0, static_cast<size_t>(n));
  }
  return true;
}

bool Channel::Fill(bool wait) {
  for (;;) {
    char chunk[16 << 10];
    const ssize_t n = recv(fd_, chunk, sizeof chunk, wait ? 0 : MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (n <= 0) return false;
    in_.append(chunk, static_cast<size_t>(n));
    wait = false;
  }
}

std::optional<nlohmann::json> Channel::Next() {
  const size_t end = in_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  auto message = nlohmann::json::parse(in_.substr(0, end), nullptr, false);
  in_.erase(0, end + 1);
  if (!message.is_object()) message = nlohmann::json::object();
  return message;
}

}  // namespace plumb::trainer
