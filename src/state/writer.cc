#include "state/writer.h"

#include <limits>

namespace strato::state {

void Writer::put_bytes(std::span<const std::byte> data) {
  bytes_.insert(bytes_.end(), data.begin(), data.end());
}

void Writer::put_length(size_t length) {
  STRATO_ASSERT(length <= std::numeric_limits<uint32_t>::max());
  put(static_cast<uint32_t>(length));
}

size_t Writer::begin_sized() {
  put(uint32_t{0});
  return bytes_.size();
}

void Writer::end_sized(size_t start) {
  const size_t length = bytes_.size() - start;
  STRATO_ASSERT(length <= std::numeric_limits<uint32_t>::max());
  for (size_t i = 0; i < 4; ++i) bytes_[start - 4 + i] = static_cast<std::byte>(length >> (8 * i));
}

}  // namespace strato::state
