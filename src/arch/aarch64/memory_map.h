// Where things lie in the address space of an aarch64 machine (docs/decisions/0012-aarch64-memory-map.md). Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "boot/platform_tables.h"

namespace strato::arch {

// GICv2 and GICv3 share the distributor's place; the rest belongs to one of them.
inline constexpr uint64_t kDistributor = 0x0800'0000;
inline constexpr uint64_t kDistributorBytes = 0x1'0000;
inline constexpr uint64_t kGicV2DistributorBytes = 0x1000;
inline constexpr uint64_t kGicV2CpuInterface = 0x0801'0000;
inline constexpr uint64_t kGicV2CpuInterfaceBytes = 0x2000;
inline constexpr uint64_t kIts = 0x0808'0000;
inline constexpr uint64_t kItsBytes = 0x2'0000;
inline constexpr uint64_t kRedistributors = 0x080a'0000;
inline constexpr uint64_t kRedistributorBytes = 0x2'0000;  // of one vCPU
inline constexpr uint64_t kStealTime = 0x090a'0000;
inline constexpr uint64_t kStealTimeBytes = 0x1'0000;  // 64 KiB: one page of any host
inline constexpr uint64_t kStealTimeStructBytes = 64;  // DEN0057A §4.2
inline constexpr uint64_t kVirtioMmio = 0x0a00'0000;
inline constexpr uint64_t kMoreRedistributors = 0x3e00'0000;
inline constexpr uint64_t kRam = 0x4000'0000;

// As many as fit between the ITS and the serial port.
inline constexpr uint32_t kFirstRedistributors = 123;

// INTIDs that the controller is created with; those from 32 on are wired (GSI = INTID - 32).
inline constexpr uint32_t kInterrupts = 192;
inline constexpr uint32_t kFirstSpi = 32;
// PPIs, as INTIDs.
inline constexpr uint32_t kPmuInterrupt = 23;

// The regions of the redistributors of `cpus` vCPUs, in the order of the vCPUs.
std::vector<boot::AddressRange> redistributor_regions(uint32_t cpus);

// Bits of guest-physical addresses that a machine needs whose memory ends at `memory_end`, at least as many as KVM asks
// for.
uint32_t address_bits(uint64_t memory_end);
// The same, of a host that has `host_bits`. Error: it has fewer than the machine needs.
Result<uint32_t> address_bits(uint64_t memory_end, uint32_t host_bits);

}  // namespace strato::arch
