// A Unix socket named by its folder, however long the folder's path is (a socket's own name holds
// 108 bytes).
#pragma once

#include <string>

namespace plumb::trainer {

// Both return a close-on-exec, non-blocking descriptor, or −1 with errno.
int ListenInFolder(const std::string& dir,
                   const std::string& name);  // replaces a stale socket file
int ConnectInFolder(const std::string& dir, const std::string& name);

}  // namespace plumb::trainer
