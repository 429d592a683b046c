#include "state/reader.h"

namespace strato::state {

Result<std::span<const std::byte>> Reader::take(uint64_t bytes) {
  if (bytes > rest_.size()) {
    return std::unexpected(Error::invalid(fmt::format("{} bytes wanted, {} are there", bytes, rest_.size())));
  }
  const std::span<const std::byte> taken = rest_.first(bytes);
  rest_ = rest_.subspan(bytes);
  return taken;
}

Result<std::span<const std::byte>> Reader::take_sized() {
  const uint32_t bytes = STRATO_TRY(number<uint32_t>());
  return take(bytes);
}

Result<> Reader::expect_kind(Kind wanted) {
  const uint8_t kind = STRATO_TRY(number<uint8_t>());
  if (kind == static_cast<uint8_t>(wanted)) return {};
  return std::unexpected(
      Error::invalid(fmt::format("its kind is {}, kind {} is wanted", kind, static_cast<uint8_t>(wanted))));
}

Result<> Reader::charge(uint64_t count, uint64_t bytes_each) {
  if (count > budget_->memory_bytes / bytes_each) {
    return std::unexpected(
        Error::invalid(fmt::format("{} times {} bytes are more memory than this state may take", count, bytes_each)));
  }
  budget_->memory_bytes -= count * bytes_each;
  return {};
}

Result<> Reader::enter() {
  if (budget_->depth == 0) return std::unexpected(Error::invalid("nested too deeply"));
  --budget_->depth;
  return {};
}

}  // namespace strato::state
