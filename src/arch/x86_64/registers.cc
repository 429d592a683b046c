#include "arch/x86_64/registers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <variant>

#include "arch/x86_64/msr.h"
#include "base/assert.h"
#include "boot/x86_layout.h"

namespace strato::arch {
namespace {

constexpr uint64_t kCr0Pe = 1U << 0;
constexpr uint64_t kCr0Et = 1U << 4;
constexpr uint64_t kCr0Nw = 1U << 29;
constexpr uint64_t kCr0Cd = 1U << 30;
constexpr uint64_t kCr0Pg = 1U << 31;
constexpr uint64_t kCr4Pae = 1U << 5;
constexpr uint64_t kEferLme = 1U << 8;
constexpr uint64_t kEferLma = 1U << 10;
constexpr uint64_t kRflagsReserved = 1U << 1;
constexpr uint64_t kApicBase = 0xfee0'0000;
constexpr uint64_t kApicBaseEnabled = 1U << 11;
constexpr uint64_t kApicBaseBootProcessor = 1U << 8;

// Segment types, SDM vol. 3A §3.4.5.1 and §3.5.
constexpr uint8_t kTypeLdt = 2;
constexpr uint8_t kTypeData = 3;    // read, write, accessed
constexpr uint8_t kTypeCode = 0xb;  // execute, read, accessed
constexpr uint8_t kTypeBusyTss = 0xb;

constexpr kvm_msr_entry msr_value(uint32_t index, uint64_t data) {
  kvm_msr_entry entry{};
  entry.index = index;
  entry.data = data;
  return entry;
}

kvm_segment flat(uint16_t selector, uint8_t type, bool long_mode) {
  kvm_segment segment{};
  segment.limit = 0xffff'ffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  segment.g = 1;
  segment.l = long_mode ? 1 : 0;
  segment.db = long_mode ? 0 : 1;
  return segment;
}

kvm_segment system_segment(uint16_t selector, uint8_t type, uint32_t limit) {
  kvm_segment segment{};
  segment.limit = limit;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  return segment;
}

kvm_segment real_mode(uint16_t selector, uint64_t base, uint8_t type) {
  kvm_segment segment{};
  segment.base = base;
  segment.limit = 0xffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  return segment;
}

}  // namespace

kvm_sregs entry_sregs(kvm_sregs sregs, const boot::BootEntry& entry) {
  const auto* linux64 = std::get_if<boot::Linux64Entry>(&entry.protocol);
  const bool long_mode = linux64 != nullptr;
  sregs.cs = flat(boot::x86::kCodeSelector, kTypeCode, long_mode);
  // In 64-bit mode a data segment's size bit does not matter; Linux's descriptors have it set.
  const kvm_segment data = flat(boot::x86::kDataSelector, kTypeData, false);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  sregs.tr = system_segment(boot::x86::kTssSelector, kTypeBusyTss, 0x67);
  sregs.gdt.base = entry.gdt;
  sregs.gdt.limit = entry.gdt_limit;
  sregs.idt.base = entry.idt;
  sregs.idt.limit = entry.idt_limit;
  sregs.cr0 = kCr0Pe | kCr0Et;
  sregs.cr2 = sregs.cr3 = sregs.cr4 = sregs.efer = 0;
  if (long_mode) {
    sregs.cr0 |= kCr0Pg;
    sregs.cr3 = linux64->page_tables;
    sregs.cr4 = kCr4Pae;
    sregs.efer = kEferLme | kEferLma;
  }
  return sregs;
}

kvm_regs entry_regs(const boot::BootEntry& entry) {
  kvm_regs regs{};
  regs.rflags = kRflagsReserved;
  if (const auto* pvh = std::get_if<boot::Pvh32Entry>(&entry.protocol)) {
    regs.rip = pvh->entry;
    regs.rbx = pvh->start_info;
  } else {
    const auto& linux64 = std::get<boot::Linux64Entry>(entry.protocol);
    regs.rip = linux64.entry;
    regs.rsi = linux64.zero_page;
    regs.rsp = regs.rbp = linux64.stack;
  }
  return regs;
}

kvm_sregs reset_sregs(bool boot_processor) {
  kvm_sregs sregs{};
  sregs.cs = real_mode(0xf000, 0xffff'0000, kTypeCode);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = real_mode(0, 0, kTypeData);
  sregs.tr = system_segment(0, kTypeBusyTss, 0xffff);
  sregs.ldt = system_segment(0, kTypeLdt, 0xffff);
  sregs.gdt.limit = sregs.idt.limit = 0xffff;
  sregs.cr0 = kCr0Cd | kCr0Nw | kCr0Et;
  sregs.apic_base = kApicBase | kApicBaseEnabled | (boot_processor ? kApicBaseBootProcessor : 0);
  return sregs;
}

kvm_regs reset_regs(uint32_t cpuid_signature) {
  kvm_regs regs{};
  regs.rip = 0xfff0;
  regs.rdx = cpuid_signature;
  regs.rflags = kRflagsReserved;
  return regs;
}

uint32_t lapic_register(const kvm_lapic_state& lapic, uint32_t offset) {
  STRATO_ASSERT(offset <= sizeof(lapic.regs) - sizeof(uint32_t));
  uint32_t value;
  std::memcpy(&value, lapic.regs + offset, sizeof(value));
  return value;
}

void set_lapic_register(kvm_lapic_state& lapic, uint32_t offset, uint32_t value) {
  STRATO_ASSERT(offset <= sizeof(lapic.regs) - sizeof(uint32_t));
  std::memcpy(lapic.regs + offset, &value, sizeof(value));
}

void wire_local_interrupts(kvm_lapic_state& lapic) {
  constexpr uint32_t kLint0 = 0x350;
  constexpr uint32_t kLint1 = 0x360;
  constexpr uint32_t kDeliverNmi = 4U << 8;
  constexpr uint32_t kDeliverExtInt = 7U << 8;
  set_lapic_register(lapic, kLint0, kDeliverExtInt);
  set_lapic_register(lapic, kLint1, kDeliverNmi);
}

// SDM vol. 3A §11.4.7.1.
kvm_lapic_state reset_lapic(uint32_t apic_id, uint32_t version) {
  constexpr uint32_t kMasked = 1U << 16;
  kvm_lapic_state lapic{};
  set_lapic_register(lapic, 0x20, apic_id << 24);
  set_lapic_register(lapic, 0x30, version);
  set_lapic_register(lapic, 0xe0, 0xffff'ffff);  // destination format
  set_lapic_register(lapic, 0xf0, 0xff);         // spurious vector, disabled by software
  for (uint32_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) set_lapic_register(lapic, lvt, kMasked);
  return lapic;
}

std::vector<kvm_msr_entry> firmware_msrs(bool pmu) {
  constexpr uint64_t kFastStrings = 1U << 0;
  constexpr uint64_t kNoBranchTrace = 1U << 11;
  constexpr uint64_t kNoPebs = 1U << 12;
  constexpr uint64_t kMtrrsOn = 1U << 11;
  constexpr uint64_t kWriteBack = 6;
  return {
      msr_value(msr::kMiscEnable, kFastStrings | (pmu ? 0 : kNoBranchTrace | kNoPebs)),
      // Off, Linux does without the page attribute table too.
      msr_value(msr::kMtrrDefType, kMtrrsOn | kWriteBack),
  };
}

std::vector<kvm_msr_entry> reset_msrs(const std::vector<uint32_t>& known) {
  // Those of KVM first: through them it writes into guest memory.
  static constexpr auto kValues = std::to_array<kvm_msr_entry>({
      msr_value(msr::kKvmAsyncPf, 0),
      msr_value(msr::kKvmAsyncPfInt, 0),
      msr_value(msr::kKvmStealTime, 0),
      msr_value(msr::kKvmPvEoi, 0),
      msr_value(msr::kKvmSystemTimeNew, 0),
      msr_value(msr::kKvmWallClockNew, 0),
      msr_value(msr::kKvmSystemTime, 0),
      msr_value(msr::kKvmWallClock, 0),
      msr_value(msr::kKvmPollControl, 1),
      msr_value(msr::kTscDeadline, 0),
      msr_value(msr::kTscAdjust, 0),
      msr_value(msr::kTsc, 0),
      msr_value(msr::kSpecCtrl, 0),
      msr_value(msr::kSysenterCs, 0),
      msr_value(msr::kSysenterEsp, 0),
      msr_value(msr::kSysenterEip, 0),
      msr_value(msr::kMcgStatus, 0),
      msr_value(msr::kPat, 0x0007'0406'0007'0406),
      msr_value(msr::kXss, 0),
      msr_value(msr::kStar, 0),
      msr_value(msr::kLstar, 0),
      msr_value(msr::kCstar, 0),
      msr_value(msr::kSyscallMask, 0),
      msr_value(msr::kKernelGsBase, 0),
      msr_value(msr::kTscAux, 0),
      msr_value(msr::kMtrrDefType, 0),
      msr_value(msr::kMiscEnable, 0),
  });
  std::vector<kvm_msr_entry> values;
  for (const kvm_msr_entry& value : kValues) {
    if (std::ranges::find(known, value.index) != known.end()) values.push_back(value);
  }
  return values;
}

}  // namespace strato::arch
