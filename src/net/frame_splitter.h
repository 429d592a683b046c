// Cuts a byte stream into frames, each with its length in front as 4 bytes, big-endian (QEMU's -netdev stream).
// Pure: no socket.
// Limits: kMaxFrameBytes a frame; a longer one ends the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/endian.h"
#include "net/net_backend.h"

namespace strato {

class FrameSplitter {
 public:
  using Length = be32;
  // Two of the longest frames, so that a read takes many short ones.
  static constexpr size_t kBufferBytes = 128 * 1024 + 64;

  // Where the next bytes of the stream go; never empty after next() has said that there is no frame. filled() tells how
  // many came.
  std::span<std::byte> room();
  void filled(size_t bytes);

  enum class State : uint8_t { Frame, NeedsMore, TooLong };
  // Frame: `frame` is valid until room() is called the next time. TooLong: for good.
  State next(std::span<const std::byte>& frame);

 private:
  // Not touched before it is used.
  std::unique_ptr<std::byte[]> buffer_ = std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace strato
