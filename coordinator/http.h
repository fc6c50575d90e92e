// A small HTTP/1.1 server for programs that watch: GET only, loopback only, one request at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace plumb::coordinator {

class HttpServer {
 public:
  struct Reply {
    int status = 404;
    std::string type = "text/plain; charset=utf-8";
    std::string body = "not found\n";
  };
  // `handle` runs on the server's own thread, with the path of the request.
  using Handler = std::function<Reply(const std::string& path)>;

  // "127.0.0.1:PORT"; port 0: any free one. Refuses other hosts, and takes no request whose Host
  // header is not a loopback name (a page in a browser on this machine).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& listen,
                                                           Handler handle);
  virtual ~HttpServer() = default;  // answers what came, ends
  virtual std::string address() const = 0;
};

}  // namespace plumb::coordinator
