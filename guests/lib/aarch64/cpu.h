// Instructions that C++ has no words for: system registers, barriers, hypervisor calls, MMIO of an exact width.
#pragma once
#include <cstddef>
#include <cstdint>

namespace guest {

// Between stores, or loads, of memory that a device reads and writes as well.
inline void store_barrier() {
  asm volatile("dmb ishst" ::: "memory");
}
inline void load_barrier() {
  asm volatile("dmb ishld" ::: "memory");
}

// One access of exactly this width, and one that KVM can always describe: a single register, no write-back. What was
// stored before is there before a device hears of it, and what a device says is known before the next load.
template <typename T>
T mmio_read(uint64_t address) {
  uint64_t value;
  if constexpr (sizeof(T) == 1) {
    asm volatile("ldrb %w0, [%1]" : "=r"(value) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 2) {
    asm volatile("ldrh %w0, [%1]" : "=r"(value) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("ldr %w0, [%1]" : "=r"(value) : "r"(address) : "memory");
  } else {
    asm volatile("ldr %0, [%1]" : "=r"(value) : "r"(address) : "memory");
  }
  asm volatile("dmb oshld" ::: "memory");
  return static_cast<T>(value);
}
template <typename T>
void mmio_write(uint64_t address, T value) {
  asm volatile("dmb oshst" ::: "memory");
  const uint64_t bits = value;
  if constexpr (sizeof(T) == 1) {
    asm volatile("strb %w0, [%1]" ::"r"(bits), "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 2) {
    asm volatile("strh %w0, [%1]" ::"r"(bits), "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("str %w0, [%1]" ::"r"(bits), "r"(address) : "memory");
  } else {
    asm volatile("str %0, [%1]" ::"r"(bits), "r"(address) : "memory");
  }
}

// A field of a structure that the loader left in memory.
template <typename T>
T at(uint64_t base, uint64_t offset) {
  return mmio_read<T>(base + offset);
}

// `name`: as the assembler knows it, or s3_0_c12_c12_0 and the like.
#define GUEST_READ_REGISTER(name)                          \
  ({                                                       \
    uint64_t register_value;                               \
    asm volatile("mrs %0, " #name : "=r"(register_value)); \
    register_value;                                        \
  })
#define GUEST_WRITE_REGISTER(name, value) asm volatile("msr " #name ", %0; isb" ::"r"(uint64_t{value}) : "memory")

// The affinity fields.
inline uint64_t mpidr() {
  return GUEST_READ_REGISTER(mpidr_el1) & 0xff00ffffff;
}
// 0 for the one that started, else as start_others() counted.
inline uint64_t processor_index() {
  return GUEST_READ_REGISTER(tpidr_el0);
}
inline uint64_t counter() {
  asm volatile("isb" ::: "memory");
  return GUEST_READ_REGISTER(cntvct_el0);
}

inline void pause() {
  asm volatile("yield" ::: "memory");
}
inline void disable_interrupts() {
  asm volatile("msr daifset, #2" ::: "memory");
}
inline void enable_interrupts() {
  asm volatile("msr daifclr, #2; isb" ::: "memory");
}
// Sleeps until an interrupt was handled; call with interrupts disabled, returns so. Loses none: a pending one ends wfi.
inline void wait_for_interrupt() {
  asm volatile("dsb sy; wfi; msr daifclr, #2; isb; msr daifset, #2" ::: "memory");
}
[[noreturn]] inline void halt_forever() {
  for (;;) asm volatile("msr daifset, #2; wfi" ::: "memory");
}

// A call to the hypervisor by the conduit that the devicetree names. Spec: SMCCC DEN 0028.
uint64_t call_firmware(uint64_t function, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);

// The boot timeline: 1 at the kernel's entry, 2 where its first user program would begin.
inline void report_progress(uint8_t stage) {
  mmio_write<uint8_t>(0x09030000, stage);
}

// Where a device may be accessed without regard to alignment: as device memory the processor refuses that itself.
inline uint64_t any_alignment(uint64_t device) {
  return uint64_t{511} << 30 | device;
}

// Nothing lies here, unless there is more than 2 GiB of RAM. Mapped as memory.
inline constexpr uint64_t kHole = 0xd0000000;
// Nothing lies here either: between the devices of the board and the virtio-mmio windows. Mapped as device.
inline constexpr uint64_t kDeviceHole = 0x09f00000;
// 4 MiB of RAM that nobody uses, if there are 64 MiB.
inline constexpr uint64_t kSpareRam = 0x42000000;

// All of the RAM is mapped one to one already.
inline uint64_t map_window(uint64_t address) {
  return address;
}

}  // namespace guest
