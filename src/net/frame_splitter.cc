#include "net/frame_splitter.h"

#include <cstring>

#include "base/assert.h"

namespace strato {

static_assert(FrameSplitter::kBufferBytes >= sizeof(FrameSplitter::Length) + kMaxFrameBytes);

std::span<std::byte> FrameSplitter::room() {
  if (begin_ != 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.get() + end_, kBufferBytes - end_};
}

void FrameSplitter::filled(size_t bytes) {
  STRATO_ASSERT(bytes <= kBufferBytes - end_);
  end_ += bytes;
}

FrameSplitter::State FrameSplitter::next(std::span<const std::byte>& frame) {
  const size_t there = end_ - begin_;
  if (there < sizeof(Length)) return State::NeedsMore;
  Length length;
  std::memcpy(&length, buffer_.get() + begin_, sizeof(length));
  if (length.get() > kMaxFrameBytes) return State::TooLong;
  if (there - sizeof(Length) < length.get()) return State::NeedsMore;
  frame = {buffer_.get() + begin_ + sizeof(Length), length.get()};
  begin_ += sizeof(Length) + length.get();
  return State::Frame;
}

}  // namespace strato
