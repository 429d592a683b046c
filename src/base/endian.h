// Wire integers: byte arrays without alignment or host order, so that a struct of them is the wire format itself.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>

namespace strato {

template <class T, std::endian kOrder>
class WireInteger {
 public:
  WireInteger() = default;
  constexpr WireInteger(T value) { set(value); }  // NOLINT(google-explicit-constructor): an assignment reads like one

  // memcpy and byteswap: g++ 12 folds that to one load, shift-and-or stays four byte loads.
  constexpr T get() const {
    const T raw = std::bit_cast<T>(bytes_);
    return kOrder == std::endian::native ? raw : std::byteswap(raw);
  }
  constexpr void set(T value) {
    bytes_ =
        std::bit_cast<std::array<uint8_t, sizeof(T)>>(kOrder == std::endian::native ? value : std::byteswap(value));
  }
  friend constexpr bool operator==(const WireInteger& a, const WireInteger& b) { return a.bytes_ == b.bytes_; }

 private:
  std::array<uint8_t, sizeof(T)> bytes_{};
};

using le16 = WireInteger<uint16_t, std::endian::little>;
using le32 = WireInteger<uint32_t, std::endian::little>;
using le64 = WireInteger<uint64_t, std::endian::little>;
using be16 = WireInteger<uint16_t, std::endian::big>;
using be32 = WireInteger<uint32_t, std::endian::big>;
using be64 = WireInteger<uint64_t, std::endian::big>;
static_assert(sizeof(le64) == 8 && alignof(le64) == 1);

}  // namespace strato
