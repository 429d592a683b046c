// The host program's end of a vsock connection: a stream socket that never blocks, and what the program has not yet
// read. Threads: the loop's. Limits:  VsockConnection::kBufferBytes wait for a program that does not read; the buffer
// is there while any do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "devices/virtio_vsock_connection.h"
#include "event/event_loop.h"
#include "virtio/chain.h"

namespace strato::virtio {

class VsockStream {
 public:
  static constexpr size_t kBacklogBytes = VsockConnection::kBufferBytes;

  static Result<std::unique_ptr<VsockStream>> create(EventLoop& loop, UniqueFd socket);
  VsockStream(const VsockStream&) = delete;
  VsockStream& operator=(const VsockStream&) = delete;

  // What was found out of the socket has changed. The callback may do anything but destroy us.
  void on_event(std::move_only_function<void()> callback) { on_event_ = std::move(callback); }

  // --- to the program. None: it does not receive any more; else how many bytes have reached it now.
  // Takes all of the payload: what the socket does not take waits. At most kBacklogBytes together.
  std::optional<uint32_t> write(ChainReader payload);
  std::optional<uint32_t> flush();
  // The same for a few bytes of our own, before all others; false: they did not go out.
  bool greet(std::string_view text);
  uint32_t waiting_bytes() const { return waiting_bytes_; }
  // Returns how many bytes it was.
  uint32_t drop_waiting();
  // The program sees an end behind what waits.
  void end_writing();

  // --- from the program
  // Whether an attempt may give something: bytes, or the end.
  bool readable() const { return readable_; }
  enum class Read : uint8_t { Some, Later, End };
  // Into `payload`, which is not empty; sets `bytes`.
  Read read(ChainWriter payload, uint32_t& bytes);
  // The program cannot send any more.
  void end_reading();

  // The program has gone: there is something to read at most.
  bool hung_up() const { return hung_up_; }

 private:
  explicit VsockStream(UniqueFd socket) : socket_(std::move(socket)) {}
  void take_event(uint32_t events);
  void set_blocked(bool blocked);
  std::optional<uint32_t> failed(int os_errno);

  UniqueFd socket_;
  Watch watch_;  // edge triggered, so that nobody who does not read now is told again and again
  std::move_only_function<void()> on_event_;
  bool readable_ = false;
  bool blocked_ = false;  // the socket has taken what it could
  bool hung_up_ = false;
  bool end_due_ = false;
  // A ring of kBacklogBytes; null while nothing waits.
  std::unique_ptr<std::byte[]> waiting_;
  size_t first_waiting_ = 0;
  uint32_t waiting_bytes_ = 0;
};

}  // namespace strato::virtio
