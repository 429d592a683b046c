// Resource descriptors of ACPI 6.3 §6.4.

#include <utility>

#include "base/checked.h"
#include "boot/aml.h"

namespace strato::boot::aml {

// §6.4.2.5 I/O port descriptor.
Term io_port(uint16_t base, uint8_t len_bytes) {
  ByteWriter out;
  out.u8(0x47).u8(1);  // decodes 16 bits
  out.u16(base).u16(base).u8(1).u8(len_bytes);
  return {out.take()};
}

// §6.4.3.4.
Term memory32_fixed(Access access, uint32_t base, uint32_t len_bytes) {
  ByteWriter out;
  out.u8(0x86).u16(9).u8(std::to_underlying(access)).u32(base).u32(len_bytes);
  return {out.take()};
}

// §6.4.3.5.1 QWord address space descriptor.
Term qword_memory(Access access, uint64_t base, uint64_t len_bytes) {
  STRATO_ASSERT(len_bytes != 0 && checked_add(base, len_bytes - 1));
  constexpr uint8_t kMemory = 0;
  constexpr uint8_t kMinFixed = 1 << 2;
  constexpr uint8_t kMaxFixed = 1 << 3;
  constexpr uint8_t kConsumer = 1;
  ByteWriter out;
  out.u8(0x8a).u16(0x2b).u8(kMemory).u8(kMinFixed | kMaxFixed | kConsumer).u8(std::to_underlying(access));
  out.u64(0).u64(base).u64(base + (len_bytes - 1)).u64(0).u64(len_bytes);  // granularity, min, max, translation
  return {out.take()};
}

// §6.4.3.6 Extended interrupt descriptor.
Term interrupt(Trigger trigger, Polarity polarity, uint32_t gsi) {
  constexpr uint8_t kConsumer = 1;
  ByteWriter out;
  out.u8(0x89).u16(6);
  out.u8(static_cast<uint8_t>(kConsumer | std::to_underlying(trigger) << 1 | std::to_underlying(polarity) << 2));
  out.u8(1).u32(gsi);
  return {out.take()};
}

Term resource_template(const Terms& resources) {
  ByteWriter content(encode(resources));
  // §6.4.2.9: a checksum of 0 counts as right.
  content.u8(0x79).u8(0);
  return buffer(content.view());
}

}  // namespace strato::boot::aml
