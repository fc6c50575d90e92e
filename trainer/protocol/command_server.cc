#include "trainer/protocol/command_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "trainer/protocol/unix_socket.h"

namespace plumb::trainer {
namespace {

constexpr char kSocketName[] = "trainer.sock";
constexpr size_t kMaxLine = 16 << 20;
constexpr int kSendPatienceMs = 1000;

}  // namespace

CommandServer::CommandServer(const std::string& dir)
    : dir_(dir), listener_(ListenInFolder(dir, kSocketName)) {
  if (listener_ < 0) {
    throw std::runtime_error("cannot listen at " + dir + "/" + kSocketName + ": " +
                             std::strerror(errno));
  }
}

CommandServer::~CommandServer() {
  Drop();
  close(listener_);
  unlink((dir_ + "/" + kSocketName).c_str());
}

void CommandServer::Drop() {
  if (connection_ >= 0) close(connection_);
  connection_ = -1;
  buffer_.clear();
}

std::vector<std::string> CommandServer::Receive() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EINTR) continue;
      break;
    }
    Drop();
    connection_ = fd;
  }
  std::vector<std::string> lines;
  while (connection_ >= 0) {
    char chunk[64 << 10];
    const ssize_t n = recv(connection_, chunk, sizeof chunk, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n <= 0 || buffer_.size() > kMaxLine) {
      Drop();
      break;
    }
    buffer_.append(chunk, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = buffer_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      lines.push_back(buffer_.substr(begin, end - begin));
    }
    buffer_.erase(0, begin);
  }
  return lines;
}

void CommandServer::Send(const std::string& line) {
  const std::string text = line + "\n";
  size_t done = 0;
  while (connection_ >= 0 && done < text.size()) {
    const ssize_t n = send(connection_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (n >= 0) {
      done += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait = {connection_, POLLOUT, 0};
      if (poll(&wait, 1, kSendPatienceMs) == 0) Drop();
    } else if (errno != EINTR) {
      Drop();
    }
  }
}

}  // namespace plumb::trainer
