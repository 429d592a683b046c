#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/socket_address.h"
#include "chardev/stream_chardev.h"
#include "event/timer.h"

namespace strato {

// A unix or TCP stream socket. A server has one client at a time, others wait until it has gone; a client tries again
// after a while, at the start and whenever the connection is lost.
class SocketChardev final : public StreamChardev {
 public:
  static constexpr uint64_t kRetryNs = 1'000'000'000;  // unless said otherwise

  struct Args {
    SocketAddress address;
    bool server = false;
    bool wait = false;             // server: open() returns when the first client is there; blocks the calling thread
    uint64_t retry_ns = kRetryNs;  // client: between two attempts; 0: there is only one
  };
  static Result<std::unique_ptr<SocketChardev>> open(EventLoop& loop, const Args& args);

  // The port that a TCP server got when it asked for 0.
  const SocketAddress& socket_address() const { return listening_ ? listening_->address() : address_; }

 private:
  SocketChardev(EventLoop& loop, const Args& args);
  Result<> listen(bool wait);
  void accept_next();
  void try_to_connect();
  void finish_connecting();
  void try_later();
  void use(UniqueFd connection);
  void lost();

  EventLoop& loop_;
  const SocketAddress address_;
  const uint64_t retry_ns_;
  std::optional<ListeningSocket> listening_;  // server only
  Watch listen_watch_;
  UniqueFd connecting_;  // client only
  Watch connect_watch_;
  Timer retry_;
};

}  // namespace strato
