#include "boot/acpi_table.h"

#include <utility>

#include "base/assert.h"

namespace strato::boot::acpi {
namespace {

constexpr size_t kLengthAt = 4;
constexpr size_t kChecksumAt = 9;
constexpr uint8_t kByteAccess = 1;
constexpr uint8_t kDwordAccess = 3;

}  // namespace

// Signature, length, revision, checksum, OEM id, OEM table id, OEM revision, creator id and revision.
ByteWriter begin_table(std::string_view signature, uint8_t revision) {
  ByteWriter out;
  out.text(signature, 4).u32(0).u8(revision).u8(0);
  out.text("STRATO", 6).text("VIRT", 4).text(signature, 4).u32(1).text("STRT", 4).u32(1);
  STRATO_ASSERT(out.size() == kHeaderBytes);
  return out;
}

Bytes end_table(ByteWriter out) {
  out.patch(kLengthAt, le32(static_cast<uint32_t>(out.size())));
  out.patch(kChecksumAt, checksum(out.view()));
  return out.take();
}

GenericAddress byte_port(uint16_t port) {
  return {.space = std::to_underlying(Space::SystemIo),
          .bit_width = 8,
          .bit_offset = 0,
          .access_size = kByteAccess,
          .address = port};
}

GenericAddress dword_register(uint64_t address) {
  return {.space = std::to_underlying(Space::SystemMemory),
          .bit_width = 32,
          .bit_offset = 0,
          .access_size = kDwordAccess,
          .address = address};
}

}  // namespace strato::boot::acpi
