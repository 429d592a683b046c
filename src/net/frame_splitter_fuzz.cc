// A peer's stream in pieces of any size. Whatever comes: frames are those that a plain reading of the whole stream
// finds, in order, and there is room as long as more is needed.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/assert.h"
#include "net/frame_splitter.h"

namespace strato {
namespace {

// The stream, whose frames may be longer than the input that they are made of.
std::vector<std::byte> make_stream(FuzzedDataProvider& input) {
  std::vector<std::byte> stream;
  while (input.remaining_bytes() != 0 && stream.size() < 600'000) {
    const auto kind = input.ConsumeIntegral<uint8_t>();
    const uint32_t bytes = kind == 0xff ? input.ConsumeIntegral<uint32_t>()
                                        : input.ConsumeIntegralInRange<uint32_t>(0, kind < 0xc0 ? 200 : kMaxFrameBytes);
    const FrameSplitter::Length length(bytes);
    const auto raw = std::as_bytes(std::span(&length, 1));
    stream.insert(stream.end(), raw.begin(), raw.end());
    stream.resize(stream.size() + std::min<size_t>(bytes, kMaxFrameBytes), std::byte{kind});
  }
  return stream;
}

void run(FuzzedDataProvider& input) {
  std::vector<uint16_t> cuts;
  for (int i = 0; i < 8; ++i) cuts.push_back(input.ConsumeIntegral<uint16_t>());
  const std::vector<std::byte> stream = make_stream(input);
  FrameSplitter splitter;
  size_t given = 0;
  size_t expected = 0;
  for (size_t turn = 0;; ++turn) {
    std::span<const std::byte> frame;
    const FrameSplitter::State state = splitter.next(frame);
    const bool length_there = given - expected >= sizeof(FrameSplitter::Length);
    FrameSplitter::Length length(uint32_t{0});
    if (length_there) std::memcpy(&length, stream.data() + expected, sizeof(length));
    switch (state) {
      case FrameSplitter::State::TooLong:
        STRATO_ASSERT(length_there && length.get() > kMaxFrameBytes);
        return;
      case FrameSplitter::State::Frame: {
        STRATO_ASSERT(length_there && frame.size() == length.get());
        const auto wanted = std::span(stream).subspan(expected + sizeof(length), length.get());
        STRATO_ASSERT(std::ranges::equal(frame, wanted));
        expected += sizeof(length) + length.get();
        continue;
      }
      case FrameSplitter::State::NeedsMore:
        STRATO_ASSERT(!length_there || given - expected - sizeof(length) < length.get());
        break;
    }
    if (given == stream.size()) return;
    const std::span<std::byte> room = splitter.room();
    STRATO_ASSERT(!room.empty());
    const size_t bytes = std::min({room.size(), stream.size() - given, size_t{cuts[turn % cuts.size()]} + 1});
    std::memcpy(room.data(), stream.data() + given, bytes);
    splitter.filled(bytes);
    given += bytes;
  }
}

}  // namespace
}  // namespace strato

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  strato::run(input);
  return 0;
}
