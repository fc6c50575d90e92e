#include "trainer/protocol/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace plumb::trainer {
namespace {

// Calls `use` with an address that reaches the folder through its open descriptor: short whatever
// the folder's path.
template <typename Use>
int WithAddress(const std::string& dir, const std::string& name, Use use) {
  const int folder = open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return -1;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int result = fd;
  if (fd >= 0) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = "/proc/self/fd/" + std::to_string(folder) + "/" + name;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (use(fd, folder, reinterpret_cast<const sockaddr*>(&address)) != 0) {
      const int error = errno;
      close(fd);
      errno = error;
      result = -1;
    }
  }
  const int error = errno;
  close(folder);
  errno = error;
  return result;
}

}  // namespace

int ListenInFolder(const std::string& dir, const std::string& name) {
  const std::string unready = name + ".new";
  return WithAddress(dir, unready, [&](int fd, int folder, const sockaddr* address) {
    unlinkat(folder, unready.c_str(), 0);
    if (bind(fd, address, sizeof(sockaddr_un)) != 0 || listen(fd, 4) != 0) return -1;
    return renameat(folder, unready.c_str(), folder, name.c_str());
  });
}

int ConnectInFolder(const std::string& dir, const std::string& name) {
  return WithAddress(dir, name, [](int fd, int, const sockaddr* address) {
    return connect(fd, address, sizeof(sockaddr_un));
  });
}

}  // namespace plumb::trainer
