// Host programs that want to reach the guest: each connects to a unix socket, writes "CONNECT <port>\n" and is handed
// on. Threads: the loop's. Limits:  kMaxLine bytes of a line, kMaxGreeters programs that have not finished theirs:
// beyond that the one that has
//          been silent for longest has to go.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace strato::virtio {

// The port of "CONNECT <port>", without its newline.
std::optional<uint32_t> parse_vsock_connect(std::string_view line);

class VsockListener {
 public:
  static constexpr size_t kMaxLine = 32;
  static constexpr size_t kMaxGreeters = 128;

  // What a program sent behind its line is still in the socket.
  using OnConnect = std::move_only_function<void(UniqueFd socket, uint32_t port)>;
  // The socket outlives us. Does not run yet.
  VsockListener(std::string name, EventLoop& loop, const ListeningSocket& listening, OnConnect on_connect);

  // While it does not run, programs wait.
  void set_running(bool running);
  // Once more after something was freed: the host may have refused a descriptor before.
  void accept_waiting();
  // All whose line is not finished are turned away.
  void drop_greeters() { greeters_.clear(); }
  size_t greeters() const { return greeters_.size(); }

 private:
  struct Greeter {
    UniqueFd socket{};
    Watch watch{};  // goes before the socket
    std::array<char, kMaxLine> line{};
    size_t bytes = 0;
  };
  enum class Line : uint8_t { Unfinished, Finished, Bad };

  void add(UniqueFd socket);
  void listen_to(uint64_t number);
  static Line read_line(Greeter& greeter);

  const std::string name_;
  EventLoop& loop_;
  const ListeningSocket& listening_;
  OnConnect on_connect_;
  bool running_ = false;
  bool waiting_ = true;                   // somebody may be
  std::map<uint64_t, Greeter> greeters_;  // in the order in which they came
  uint64_t next_greeter_ = 0;
  Watch watch_;
};

}  // namespace strato::virtio
