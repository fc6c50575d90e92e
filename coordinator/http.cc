#include "coordinator/http.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace plumb::coordinator {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

constexpr int kPatienceSeconds = 2;

bool IsLoopbackName(absl::string_view host) {
  if (const size_t colon = host.rfind(':'); colon != host.npos && !absl::EndsWith(host, "]"))
    host = host.substr(0, colon);
  return host.empty() || host == "127.0.0.1" || host == "localhost" || host == "[::1]";
}

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(asio::ip::address_v4 host, uint16_t port, Handler handle)
      : acceptor_(io_, tcp::endpoint(host, port)), handle_(std::move(handle)) {
    address_ = absl::StrCat("127.0.0.1:", acceptor_.local_endpoint().port());
    thread_ = std::thread([this] { Run(); });
  }
  ~HttpServerImpl() override {
    // Wakes the accept.
    shutdown(acceptor_.native_handle(), SHUT_RDWR);
    thread_.join();
  }
  std::string address() const override { return address_; }

 private:
  void Run() {
    for (;;) {
      beast::error_code error;
      tcp::socket socket(io_);
      acceptor_.accept(socket, error);
      if (error) return;
      // One who says nothing must not keep the others waiting.
      timeval patience = {.tv_sec = kPatienceSeconds, .tv_usec = 0};
      setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      setsockopt(socket.native_handle(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
      Serve(socket);
      socket.shutdown(tcp::socket::shutdown_both, error);
    }
  }

  void Serve(tcp::socket& socket) {
    beast::error_code error;
    beast::flat_buffer buffer(16 << 10);
    http::request_parser<http::empty_body> parser;
    parser.header_limit(8 << 10);
    http::read_header(socket, buffer, parser, error);
    if (error) return;
    const auto& request = parser.get();
    const auto host = request[http::field::host];
    Reply reply;
    if (!IsLoopbackName(absl::string_view(host.data(), host.size()))) {
      reply = {.status = 403, .body = "this server answers to loopback names only\n"};
    } else if (request.method() != http::verb::get && request.method() != http::verb::head) {
      reply = {.status = 405, .body = "GET only\n"};
    } else {
      const auto target = request.target();
      std::string path(target.data(), target.size());
      reply = handle_(path.substr(0, path.find('?')));
    }
    http::response<http::string_body> response(static_cast<http::status>(reply.status),
                                               request.version());
    response.set(http::field::content_type, reply.type);
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    response.keep_alive(false);
    response.body() = std::move(reply.body);
    response.prepare_payload();
    if (request.method() == http::verb::head) response.body().clear();
    http::write(socket, response, error);
  }

  asio::io_context io_;
  tcp::acceptor acceptor_;
  const Handler handle_;
  std::string address_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& listen,
                                                              Handler handle) {
  const size_t colon = listen.rfind(':');
  const std::string host = listen.substr(0, colon);
  uint32_t port = 0;
  if (colon == std::string::npos || (host != "127.0.0.1" && host != "localhost") ||
      !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics: \"", listen,
                     "\" is not 127.0.0.1:PORT; until there are tokens metrics are served to this "
                     "machine only"));
  }
  try {
    return std::make_unique<HttpServerImpl>(asio::ip::address_v4::loopback(),
                                            static_cast<uint16_t>(port), std::move(handle));
  } catch (const std::exception& e) {  // Asio throws; statuses begin here
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen, ": ", e.what()));
  }
}

}  // namespace plumb::coordinator
