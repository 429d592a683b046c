// Instructions that C++ has no words for: ports, MSRs, CPUID, MMIO of an exact width.
#pragma once
#include <cstddef>
#include <cstdint>

namespace guest {

inline void out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
inline void out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
inline uint8_t in8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint16_t in16(uint16_t port) {
  uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint32_t in32(uint16_t port) {
  uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

// One access of exactly this width. `address` is physical and below 4 GiB (mapped one to one), or from map_window().
template <typename T>
T mmio_read(uint64_t address) {
  T value;
  asm volatile("mov (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}
template <typename T>
void mmio_write(uint64_t address, T value) {
  asm volatile("mov %0, (%1)" ::"r"(value), "r"(address) : "memory");
}

// A field of a structure that the loader left in memory.
template <typename T>
T at(uint64_t base, uint64_t offset) {
  return mmio_read<T>(base + offset);
}

struct CpuidResult {
  uint32_t eax, ebx, ecx, edx;
};
inline CpuidResult cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidResult r;
  asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return r;
}

inline uint64_t rdmsr(uint32_t index) {
  uint32_t low;
  uint32_t high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return (static_cast<uint64_t>(high) << 32) | low;
}
inline void wrmsr(uint32_t index, uint64_t value) {
  asm volatile("wrmsr" ::"a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32)), "c"(index));
}
inline uint64_t rdtsc() {
  uint32_t low;
  uint32_t high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (static_cast<uint64_t>(high) << 32) | low;
}

inline void pause() {
  asm volatile("pause" ::: "memory");
}
inline void disable_interrupts() {
  asm volatile("cli" ::: "memory");
}
inline void enable_interrupts() {
  asm volatile("sti" ::: "memory");
}
// Sleeps until an interrupt was handled; call with interrupts disabled, returns so. Loses none: sti takes effect after
// hlt began.
inline void wait_for_interrupt() {
  asm volatile("sti; hlt; cli" ::: "memory");
}
[[noreturn]] inline void halt_forever() {
  for (;;) asm volatile("cli; hlt");
}

// Between stores, or loads, of memory that a device reads and writes as well. x86 keeps their order; the compiler has
// to.
inline void store_barrier() {
  asm volatile("" ::: "memory");
}
inline void load_barrier() {
  asm volatile("" ::: "memory");
}

// The boot timeline: 1 at the kernel's entry, 2 where its first user program would begin.
inline void report_progress(uint8_t stage) {
  out8(0x680, stage);
}

// Where a device may be accessed without regard to alignment.
inline uint64_t any_alignment(uint64_t device) {
  return device;
}

// Nothing lies here: between RAM's lower part (ends at 3 GiB) and the virtio-mmio window.
inline constexpr uint64_t kHole = 0xd0000000;
// 4 MiB of RAM that nobody uses, if there are 64 MiB.
inline constexpr uint64_t kSpareRam = 0x2000000;

// Makes the 2 MiB page at physical `address` visible; gives the virtual address of the same byte. The last call's
// window only.
uint64_t map_window(uint64_t address);

}  // namespace guest
