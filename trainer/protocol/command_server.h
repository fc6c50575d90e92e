// The trainer's end of the command socket: lines in, lines out, one connection at a time.
#pragma once

#include <string>
#include <vector>

namespace plumb::trainer {

class CommandServer {
 public:
  explicit CommandServer(
      const std::string& dir);  // listens at DIR/trainer.sock; throws where it cannot
  ~CommandServer();             // removes the socket file
  CommandServer(const CommandServer&) = delete;
  CommandServer& operator=(const CommandServer&) = delete;

  // Readable when Receive() has something to do; connection() is −1 without one.
  int listener() const { return listener_; }
  int connection() const { return connection_; }

  // Accepts (a new connection ends the old one, whose unread bytes are lost) and returns the
  // complete lines that have arrived. Does not block. A line over 16 MiB ends the connection.
  std::vector<std::string> Receive();
  // Answers on the connection that is open; without one, or when the peer does not read, the answer
  // is lost and the peer asks again.
  void Send(const std::string& line);

 private:
  void Drop();

  const std::string dir_;
  int listener_ = -1;
  int connection_ = -1;
  std::string buffer_;
};

}  // namespace plumb::trainer
