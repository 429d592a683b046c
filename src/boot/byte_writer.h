// Appends little-endian integers to bytes: the tables that firmware would have made are built with it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "base/endian.h"

namespace strato::boot {

using Bytes = std::vector<std::byte>;

class ByteWriter {
 public:
  ByteWriter() = default;
  explicit ByteWriter(Bytes start) : bytes_(std::move(start)) {}

  ByteWriter& u8(uint8_t value) {
    bytes_.push_back(std::byte{value});
    return *this;
  }
  ByteWriter& u16(uint16_t value) { return object(le16(value)); }
  ByteWriter& u32(uint32_t value) { return object(le32(value)); }
  ByteWriter& u64(uint64_t value) { return object(le64(value)); }
  ByteWriter& bytes(std::span<const std::byte> data) {
    bytes_.insert(bytes_.end(), data.begin(), data.end());
    return *this;
  }
  ByteWriter& zeros(size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
  }
  // `text`, filled up with `fill` to `width`; a longer one is our bug.
  ByteWriter& text(std::string_view text, size_t width, char fill = '\0') {
    STRATO_ASSERT(text.size() <= width);
    bytes(std::as_bytes(std::span(text)));
    bytes_.resize(bytes_.size() + (width - text.size()), static_cast<std::byte>(fill));
    return *this;
  }
  // A wire struct.
  template <class T>
  ByteWriter& object(const T& value) {
    return bytes(std::as_bytes(std::span(&value, 1)));
  }

  // Overwrites what was left open before.
  template <class T>
  void patch(size_t offset, const T& value) {
    const std::span<const std::byte> raw = std::as_bytes(std::span(&value, 1));
    STRATO_ASSERT(offset <= bytes_.size() && raw.size() <= bytes_.size() - offset);
    std::ranges::copy(raw, bytes_.begin() + static_cast<ptrdiff_t>(offset));
  }

  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> view() const { return bytes_; }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

// The byte that makes the sum of all of `data` zero: ACPI's and the MP specification's checksum.
inline uint8_t checksum(std::span<const std::byte> data) {
  uint8_t sum = 0;
  for (const std::byte b : data) sum = static_cast<uint8_t>(sum + std::to_integer<uint8_t>(b));
  return static_cast<uint8_t>(-sum);
}

}  // namespace strato::boot
