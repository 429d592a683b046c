// What all ACPI tables have in common.
// Spec: ACPI 6.3 §5.2.6 (header), §5.2.3.2 (generic address structure).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/endian.h"
#include "boot/byte_writer.h"

namespace strato::boot::acpi {

inline constexpr size_t kHeaderBytes = 36;

// A table that ends behind its header.
ByteWriter begin_table(std::string_view signature, uint8_t revision);
// Fills in length and checksum.
Bytes end_table(ByteWriter out);

enum class Space : uint8_t { SystemMemory = 0, SystemIo = 1 };
struct GenericAddress {
  uint8_t space, bit_width, bit_offset, access_size;
  le64 address;
};
static_assert(sizeof(GenericAddress) == 12);

GenericAddress byte_port(uint16_t port);
// A register of 32 bits.
GenericAddress dword_register(uint64_t address);

}  // namespace strato::boot::acpi
