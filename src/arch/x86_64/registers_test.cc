#include "arch/x86_64/registers.h"

#include <gtest/gtest.h>

#include "arch/x86_64/msr.h"

namespace strato::arch {
namespace {

TEST(EntryRegisters, PvhStartsIn32BitProtectedModeWithoutPaging) {
  boot::BootEntry entry;
  entry.protocol = boot::Pvh32Entry{.entry = 0x100'0000, .start_info = 0x6000};
  entry.gdt = 0x500;
  entry.gdt_limit = 31;
  kvm_sregs before{};
  before.apic_base = 0xfee0'0900;
  before.efer = 0x500;
  const kvm_sregs sregs = entry_sregs(before, entry);
  const kvm_regs regs = entry_regs(entry);

  EXPECT_EQ(regs.rip, 0x100'0000U);
  EXPECT_EQ(regs.rbx, 0x6000U);
  EXPECT_EQ(regs.rflags, 2U);
  EXPECT_EQ(sregs.cr0, 0x11U);
  EXPECT_EQ(sregs.cr4, 0U);
  EXPECT_EQ(sregs.efer, 0U);
  EXPECT_EQ(sregs.apic_base, 0xfee0'0900U);
  EXPECT_EQ(sregs.cs.limit, 0xffff'ffffU);
  EXPECT_EQ(sregs.cs.db, 1);
  EXPECT_EQ(sregs.cs.l, 0);
  EXPECT_EQ(sregs.cs.type, 0xb);
  EXPECT_EQ(sregs.ss.type, 3);
  EXPECT_EQ(sregs.tr.limit, 0x67U);
  EXPECT_EQ(sregs.tr.s, 0);
  EXPECT_EQ(sregs.gdt.base, 0x500U);
  EXPECT_EQ(sregs.gdt.limit, 31);
}

TEST(EntryRegisters, Linux64StartsInLongModeOnTheGivenPageTables) {
  boot::BootEntry entry;
  entry.protocol = boot::Linux64Entry{.entry = 0x10'0200, .zero_page = 0x7000, .stack = 0x8ff0, .page_tables = 0x9000};
  const kvm_sregs sregs = entry_sregs({}, entry);
  const kvm_regs regs = entry_regs(entry);

  EXPECT_EQ(regs.rip, 0x10'0200U);
  EXPECT_EQ(regs.rsi, 0x7000U);
  EXPECT_EQ(regs.rsp, 0x8ff0U);
  EXPECT_EQ(regs.rbp, 0x8ff0U);
  EXPECT_EQ(sregs.cr0, 0x8000'0011U);
  EXPECT_EQ(sregs.cr3, 0x9000U);
  EXPECT_EQ(sregs.cr4, 0x20U);
  EXPECT_EQ(sregs.efer, 0x500U);
  EXPECT_EQ(sregs.cs.l, 1);
  EXPECT_EQ(sregs.cs.db, 0);
  EXPECT_EQ(sregs.cs.selector, 0x10);
  EXPECT_EQ(sregs.ds.selector, 0x18);
}

TEST(ResetRegisters, AreThoseOfAProcessorAfterItsResetPin) {
  const kvm_sregs sregs = reset_sregs(true);
  EXPECT_EQ(sregs.cs.base + reset_regs(0).rip, 0xffff'fff0U);
  EXPECT_EQ(sregs.cr0, 0x6000'0010U);
  EXPECT_EQ(sregs.apic_base, 0xfee0'0900U);
  EXPECT_EQ(reset_sregs(false).apic_base, 0xfee0'0800U);
  EXPECT_EQ(reset_regs(0x800f12).rdx, 0x800f12U);
}

TEST(ResetRegisters, TheLocalApicIsOffAndMasked) {
  const kvm_lapic_state lapic = reset_lapic(3, 0x5'0014);
  EXPECT_EQ(lapic_register(lapic, 0x20), 0x0300'0000U);
  EXPECT_EQ(lapic_register(lapic, 0x30), 0x5'0014U);
  EXPECT_EQ(lapic_register(lapic, 0xf0), 0xffU);
  for (uint32_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) EXPECT_EQ(lapic_register(lapic, lvt), 0x1'0000U) << lvt;
}

TEST(LocalInterrupts, AreThePicAndTheNmi) {
  kvm_lapic_state lapic = reset_lapic(0, 0x5'0014);
  wire_local_interrupts(lapic);
  EXPECT_EQ(lapic_register(lapic, 0x350), 0x700U);
  EXPECT_EQ(lapic_register(lapic, 0x360), 0x400U);
}

TEST(FirmwareMsrs, TurnMemoryTypesOn) {
  const std::vector<kvm_msr_entry> values = firmware_msrs(false);
  ASSERT_EQ(values.size(), 2U);
  EXPECT_EQ(values[0].index, 0x1a0U);
  EXPECT_EQ(values[0].data, 0x1801U);
  EXPECT_EQ(values[1].index, 0x2ffU);
  EXPECT_EQ(values[1].data, 0x806U);
  EXPECT_EQ(firmware_msrs(true)[0].data, 1U);
}

TEST(ResetMsrs, AreOnlyThoseThatTheHostHas) {
  const std::vector<kvm_msr_entry> values = reset_msrs({msr::kPat, msr::kKvmSystemTimeNew, 0x1234});
  ASSERT_EQ(values.size(), 2U);
  EXPECT_EQ(values[0].index, msr::kKvmSystemTimeNew);
  EXPECT_EQ(values[0].data, 0U);
  EXPECT_EQ(values[1].data, 0x0007'0406'0007'0406U);
}

}  // namespace
}  // namespace strato::arch
