#include "arch/aarch64/gic_registers.h"

#include <fmt/format.h>

#include <string_view>

namespace strato::arch::gic {
namespace {

constexpr uint64_t kAll = 0xffff'ffff;

// Offsets of the GIC architecture, the same in GICv2's distributor, GICv3's and the second frame of a redistributor.
constexpr uint32_t kIgroupr = 0x080;
constexpr uint32_t kIsenabler = 0x100;
constexpr uint32_t kIcenabler = 0x180;
constexpr uint32_t kIspendr = 0x200;
constexpr uint32_t kIcpendr = 0x280;
constexpr uint32_t kIsactiver = 0x300;
constexpr uint32_t kIcactiver = 0x380;
constexpr uint32_t kIpriorityr = 0x400;
constexpr uint32_t kItargetsr = 0x800;
constexpr uint32_t kIcfgr = 0xc00;
constexpr uint32_t kCpendsgir = 0xf10;
constexpr uint32_t kSpendsgir = 0xf20;
constexpr uint32_t kIrouter = 0x6000;

constexpr uint32_t kPrivate = 32;  // INTIDs of each vCPU's own

// Appends the registers of the interrupts from `first` up to `end` of one kind, `bits` for each interrupt.
struct Bank {
  std::vector<Register>& out;
  std::string_view prefix;
  uint32_t frame;  // offset of the frame in which they lie
  uint32_t first;
  uint32_t end;

  void plain(std::string_view name, uint32_t offset, uint32_t bits, uint64_t set_at_reset = 0) const {
    each(bits, [&](uint32_t number) {
      out.push_back({.offset = frame + offset + 4 * number,
                     .name = fmt::format("{}_{}{}", prefix, name, number),
                     .set_at_reset = set_at_reset});
    });
  }
  // Writing only sets bits, and another register clears them.
  void set_and_clear(std::string_view name, uint32_t set, uint32_t clear, uint32_t bits = 1) const {
    each(bits, [&](uint32_t number) {
      out.push_back({.offset = frame + set + 4 * number,
                     .name = fmt::format("{}_{}{}", prefix, name, number),
                     .before = Before{.offset = frame + clear + 4 * number, .value = kAll}});
    });
  }

 private:
  template <class Add>
  void each(uint32_t bits, Add&& add) const {
    const uint32_t in_register = 32 / bits;
    for (uint32_t number = first / in_register; number * in_register < end; ++number) add(number);
  }
};

// What there is of interrupts in every version. Linux makes all of them group 1 in a GICv3.
void add_interrupts(const Bank& bank, uint8_t version) {
  bank.plain("IGROUPR", kIgroupr, 1, version == 3 ? kAll : 0);
  // Edge or level decides what becomes of "pending".
  bank.plain("ICFGR", kIcfgr, 2);
  bank.plain("IPRIORITYR", kIpriorityr, 8);
  bank.set_and_clear("ISPENDR", kIspendr, kIcpendr);
  bank.set_and_clear("ISACTIVER", kIsactiver, kIcactiver);
  bank.set_and_clear("ISENABLER", kIsenabler, kIcenabler);
}

constexpr uint32_t system(uint32_t op0, uint32_t op1, uint32_t crn, uint32_t crm, uint32_t op2) {
  return op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}
static_assert(system(3, 0, 12, 12, 4) == kIccControl);

std::vector<Register> cpu_interface_v2() {
  std::vector<Register> registers{{.offset = 0x04, .name = "GICC_PMR"},
                                  {.offset = 0x08, .name = "GICC_BPR"},
                                  {.offset = 0x1c, .name = "GICC_ABPR"}};
  for (uint32_t n = 0; n < 4; ++n) registers.push_back({.offset = 0xd0 + 4 * n, .name = fmt::format("GICC_APR{}", n)});
  registers.push_back({.offset = 0x00, .name = "GICC_CTLR"});
  return registers;
}

}  // namespace

std::vector<Register> distributor(uint8_t version, uint32_t interrupts) {
  // The revision of KVM's model decides what the others mean. Then the switch (of both groups, and SGIs without active
  // state): while it is off, KVM leaves pending interrupts where they are and does not look for them again when it goes
  // on.
  std::vector<Register> registers{{.offset = 0x008, .name = "GICD_IIDR", .kept_at_reset = kAll},
                                  {.offset = 0x000, .name = "GICD_CTLR", .kept_at_reset = kAll & ~uint64_t{0x103}}};
  const Bank shared{.out = registers, .prefix = "GICD", .frame = 0, .first = kPrivate, .end = interrupts};
  if (version == 2) {
    shared.plain("ITARGETSR", kItargetsr, 8);
  } else {
    // The upper halves are the highest affinity field, which KVM's vCPUs have as 0.
    for (uint32_t interrupt = kPrivate; interrupt < interrupts; ++interrupt) {
      registers.push_back({.offset = kIrouter + 8 * interrupt, .name = fmt::format("GICD_IROUTER{}", interrupt)});
    }
  }
  add_interrupts(shared, version);
  return registers;
}

std::vector<Register> per_cpu(uint8_t version) {
  std::vector<Register> registers;
  if (version == 2) {
    const Bank banked{.out = registers, .prefix = "GICD", .frame = 0, .first = 0, .end = kPrivate};
    add_interrupts(banked, version);
    for (uint32_t n = 0; n < 4; ++n) {
      registers.push_back({.offset = kSpendsgir + 4 * n,
                           .name = fmt::format("GICD_SPENDSGIR{}", n),
                           .before = Before{.offset = kCpendsgir + 4 * n, .value = kAll}});
    }
    return registers;
  }
  const Bank own{.out = registers, .prefix = "GICR", .frame = 0x1'0000, .first = 0, .end = kPrivate};
  add_interrupts(own, version);
  // Not writable while LPIs are on.
  constexpr Before kLpisOff{.offset = 0x00, .value = 0};
  registers.push_back({.offset = 0x70, .name = "GICR_PROPBASER", .before = kLpisOff});
  registers.push_back({.offset = 0x74, .name = "GICR_PROPBASER, high"});
  registers.push_back({.offset = 0x78, .name = "GICR_PENDBASER"});
  registers.push_back({.offset = 0x7c, .name = "GICR_PENDBASER, high"});
  registers.push_back({.offset = 0x00, .name = "GICR_CTLR"});
  return registers;
}

std::vector<Register> cpu_interface(uint8_t version, uint64_t control) {
  if (version == 2) return cpu_interface_v2();
  // GICv3 §12.2.5: PRIbits.
  const uint64_t priority_bits = (control >> 8 & 7) + 1;
  const uint32_t active = priority_bits > 6 ? 4 : priority_bits == 6 ? 2 : 1;
  constexpr uint64_t kCbprAndEoiMode = 3;
  std::vector<Register> registers{
      {.offset = system(3, 0, 12, 12, 5), .name = "ICC_SRE_EL1", .kept_at_reset = kAll},
      {.offset = kIccControl, .name = "ICC_CTLR_EL1", .kept_at_reset = kAll & ~kCbprAndEoiMode},
      {.offset = system(3, 0, 4, 6, 0), .name = "ICC_PMR_EL1"},
      {.offset = system(3, 0, 12, 8, 3), .name = "ICC_BPR0_EL1"},
      {.offset = system(3, 0, 12, 12, 3), .name = "ICC_BPR1_EL1"}};
  for (uint32_t n = 0; n < active; ++n) {
    registers.push_back({.offset = system(3, 0, 12, 8, 4 + n), .name = fmt::format("ICC_AP0R{}_EL1", n)});
    registers.push_back({.offset = system(3, 0, 12, 9, n), .name = fmt::format("ICC_AP1R{}_EL1", n)});
  }
  registers.push_back({.offset = system(3, 0, 12, 12, 6), .name = "ICC_IGRPEN0_EL1"});
  registers.push_back({.offset = system(3, 0, 12, 12, 7), .name = "ICC_IGRPEN1_EL1"});
  return registers;
}

std::vector<Register> its() {
  // CBASER sets both command pointers to 0.
  std::vector<Register> registers{{.offset = 0x04, .name = "GITS_IIDR", .kept_at_reset = kAll},
                                  {.offset = 0x80, .name = "GITS_CBASER"},
                                  {.offset = 0x90, .name = "GITS_CREADR"},
                                  {.offset = 0x88, .name = "GITS_CWRITER"}};
  for (uint32_t n = 0; n < 8; ++n) {
    registers.push_back({.offset = 0x100 + 8 * n, .name = fmt::format("GITS_BASER{}", n)});
  }
  return registers;
}

Register its_control() {
  return {.offset = 0x00, .name = "GITS_CTLR"};
}

uint64_t attribute_v3(uint64_t mpidr, uint32_t offset) {
  const uint64_t affinity = (mpidr >> 32 & 0xff) << 24 | (mpidr & 0xff'ffff);
  return affinity << 32 | offset;
}

uint64_t attribute_levels(uint64_t mpidr, uint32_t first) {
  // Bits 10 to 31 say what about the interrupts: 0 is the level of the line.
  return attribute_v3(mpidr, first);
}

}  // namespace strato::arch::gic
