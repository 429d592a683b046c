#include "virtio/config_space.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace strato::virtio {

void ConfigSpace::make_writable(size_t offset, size_t bytes) {
  STRATO_ASSERT(offset <= size() && bytes <= size() - offset);
  std::fill_n(writable_.begin() + static_cast<ptrdiff_t>(offset), bytes, true);
}

void ConfigSpace::load_bytes(size_t offset, std::span<std::byte> out) const {
  STRATO_ASSERT(offset <= size() && out.size() <= size() - offset);
  read(offset, out);
}

void ConfigSpace::store_bytes(size_t offset, std::span<const std::byte> data) {
  STRATO_ASSERT(offset <= size() && data.size() <= size() - offset);
  MutexLock lock(mutex_);
  const auto place = bytes_.begin() + static_cast<ptrdiff_t>(offset);
  if (std::ranges::equal(data, std::span(place, data.size()))) return;
  std::ranges::copy(data, place);
  ++generation_;
}

void ConfigSpace::notify_driver() {
  if (on_notify_) on_notify_();
}

void ConfigSpace::read(uint64_t offset, std::span<std::byte> out) const {
  std::ranges::fill(out, std::byte{0});
  if (offset >= size()) return;
  MutexLock lock(mutex_);
  std::memcpy(out.data(), bytes_.data() + offset, std::min<uint64_t>(out.size(), bytes_.size() - offset));
}

bool ConfigSpace::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset >= size()) return false;
  MutexLock lock(mutex_);
  bool any = false;
  const size_t inside = std::min<uint64_t>(data.size(), bytes_.size() - offset);
  for (size_t i = 0; i < inside; ++i) {
    if (!writable_[offset + i]) continue;
    bytes_[offset + i] = data[i];
    any = true;
  }
  return any;
}

uint32_t ConfigSpace::generation() const {
  MutexLock lock(mutex_);
  return generation_;
}

void ConfigSpace::set_generation(uint32_t generation) {
  MutexLock lock(mutex_);
  generation_ = generation;
}

}  // namespace strato::virtio
