// report: prints what a guest sees, one `key=value` a line, then powers off. `report=end` is the last line.
//   entry, boot.version, memmap.N=START SIZE TYPE, probe.N (top of RAM range N is writable memory), cmdline,
//   initrd.size, initrd.sum cpuid.LEAF.SUBLEAF=EAX EBX ECX EDX, hypervisor, hypervisor.signature rsdp, acpi.SIG=ADDRESS
//   length N checksum ok|bad, madt.N=..., mp.pointer, mp.table
// Words: no-probe (do not write to RAM).
#include "acpi.h"
#include "apic.h"
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/serial.h"

using namespace guest;

namespace {

Text ok_or_bad(bool good) {
  return good ? Text("ok") : Text("bad");
}

// The last 8 bytes of a range keep what is written to them.
bool is_memory(const MemoryRange& range) {
  auto* word = reinterpret_cast<volatile uint64_t*>(map_window(range.start + range.size - 8));
  const uint64_t old = *word;
  *word = 0x5aa5'0123'4567'89ab;
  const bool kept = *word == 0x5aa5'0123'4567'89ab;
  *word = old;
  return kept;
}

// Little-endian 64-bit words, the last one filled up with zeros, added up modulo 2^64.
uint64_t word_sum(uint64_t address, uint64_t len) {
  uint64_t sum = 0;
  uint64_t i = 0;
  for (; len - i >= 8; i += 8) sum += at<uint64_t>(address, i);
  for (uint32_t shift = 0; i < len; i++, shift += 8) sum += static_cast<uint64_t>(at<uint8_t>(address, i)) << shift;
  return sum;
}

void report_boot() {
  const BootInfo& boot = boot_info();
  print_line("entry=", boot.pvh ? Text("pvh") : Text("64bit"));
  print_line("boot.version=", Hex{boot.version});
  print_line("boot.address=", Hex{boot.address});
  for (size_t i = 0; i < boot.range_count; i++) {
    const MemoryRange& r = boot.ranges[i];
    print_line("memmap.", i, "=", Hex{r.start}, " ", Hex{r.size}, " ", uint64_t{r.type});
    if (r.type == 1 && r.size >= 8 && !has_word("no-probe")) print_line("probe.", i, "=", ok_or_bad(is_memory(r)));
  }
  print_line("cmdline=", boot.command_line);
  print_line("initrd.size=", boot.initrd_size);
  print_line("initrd.address=", Hex{boot.initrd});
  print_line("initrd.sum=", Hex{word_sum(boot.initrd, boot.initrd_size)});
}

void report_leaf(uint32_t leaf, uint32_t subleaf) {
  const CpuidResult r = cpuid(leaf, subleaf);
  print_line("cpuid.", Hex{leaf}, ".", uint64_t{subleaf}, "=", Hex{r.eax}, " ", Hex{r.ebx}, " ", Hex{r.ecx}, " ",
             Hex{r.edx});
}

// Leaf 4, 0x8000001d: type 0 ends the list. Leaf 0xb, 0x1f: level type 0 (ECX bits 15:8) ends it. The ending one is
// printed as well.
void report_list(uint32_t leaf, bool levels) {
  for (uint32_t i = 0; i < 8; i++) {
    report_leaf(leaf, i);
    const CpuidResult r = cpuid(leaf, i);
    if ((levels ? r.ecx & 0xff00 : r.eax & 0x1f) == 0) return;
  }
}

void report_text(Text key, CpuidResult r, bool with_eax, bool dx_before_cx) {
  char text[16] = {};
  size_t len = 0;
  const uint32_t words[4] = {r.eax, r.ebx, dx_before_cx ? r.edx : r.ecx, dx_before_cx ? r.ecx : r.edx};
  for (size_t i = with_eax ? 0 : 1; i < 4; i++) {
    for (uint32_t shift = 0; shift < 32; shift += 8) text[len++] = static_cast<char>(words[i] >> shift);
  }
  while (len > 0 && text[len - 1] == '\0') len--;
  print_line(key, "=", Text(text, len));
}

void report_cpu() {
  const CpuidResult vendor = cpuid(0);
  report_text("cpu.vendor", vendor, false, true);
  report_leaf(1, 0);
  if (vendor.eax >= 4) report_list(4, false);
  if (vendor.eax >= 0xb) report_list(0xb, true);
  if (vendor.eax >= 0x1f) report_list(0x1f, true);
  const uint32_t extended = cpuid(0x80000000).eax;
  print_line("cpuid.max=", Hex{vendor.eax}, " ", Hex{extended});
  if (extended >= 0x80000001) report_leaf(0x80000001, 0);
  if (extended >= 0x80000008) report_leaf(0x80000008, 0);
  if (extended >= 0x8000001d && (cpuid(0x80000001).ecx & (1u << 22)) != 0) report_list(0x8000001d, false);
  if (extended >= 0x8000001e) report_leaf(0x8000001e, 0);
  const bool hypervisor = (cpuid(1).ecx >> 31) != 0;
  print_line("hypervisor=", hypervisor ? Text("yes") : Text("no"));
  if (hypervisor) {
    report_leaf(0x40000000, 0);
    report_leaf(0x40000001, 0);
    report_text("hypervisor.signature", cpuid(0x40000000), false, false);
  }
  print_line("apic.id=", uint64_t{apic_id()});
  print_line("apic.base=", Hex{rdmsr(0x1b)});
  print_line("ioapic.version=", Hex{ioapic_version()});
}

void report_table(uint64_t address) {
  const uint32_t len = at<uint32_t>(address, 4);
  print_line("acpi.", Text(reinterpret_cast<const char*>(address), 4), "=", Hex{address}, " length ", uint64_t{len},
             " checksum ", ok_or_bad(byte_sum(address, len) == 0));
}

size_t madt_index = 0;
void report_madt_entry(uint8_t type, uint64_t entry, uint8_t len) {
  const size_t i = madt_index++;
  switch (type) {
    case 0:
      print_line("madt.", i, "=lapic uid ", uint64_t{at<uint8_t>(entry, 2)}, " id ", uint64_t{at<uint8_t>(entry, 3)},
                 " flags ", Hex{at<uint32_t>(entry, 4)});
      return;
    case 1:
      print_line("madt.", i, "=ioapic id ", uint64_t{at<uint8_t>(entry, 2)}, " address ", Hex{at<uint32_t>(entry, 4)},
                 " gsi ", uint64_t{at<uint32_t>(entry, 8)});
      return;
    case 9:
      print_line("madt.", i, "=x2apic uid ", uint64_t{at<uint32_t>(entry, 12)}, " id ",
                 uint64_t{at<uint32_t>(entry, 4)}, " flags ", Hex{at<uint32_t>(entry, 8)});
      return;
    default:
      print_line("madt.", i, "=type ", uint64_t{type}, " length ", uint64_t{len});
  }
}

void report_acpi() {
  const uint64_t rsdp = find_rsdp();
  if (rsdp == 0) {
    print_line("rsdp=none");
    return;
  }
  const bool extended = at<uint8_t>(rsdp, 15) >= 2;
  const bool good = byte_sum(rsdp, 20) == 0 && (!extended || byte_sum(rsdp, 36) == 0);
  print_line("rsdp=", Hex{rsdp}, " revision ", uint64_t{at<uint8_t>(rsdp, 15)}, " checksum ", ok_or_bad(good));
  visit_tables(rsdp, report_table);
  const uint64_t madt = find_table(rsdp, "APIC");
  if (madt != 0) visit_madt(madt, report_madt_entry);
}

void report_mp() {
  const uint64_t pointer = find_mp_pointer();
  if (pointer == 0) {
    print_line("mp.pointer=none");
    return;
  }
  const size_t pointer_len = at<uint8_t>(pointer, 8) * 16;
  print_line("mp.pointer=", Hex{pointer}, " checksum ", ok_or_bad(byte_sum(pointer, pointer_len) == 0));
  const uint64_t table = at<uint32_t>(pointer, 4);
  const uint16_t len = at<uint16_t>(table, 4);
  print_line("mp.table=", Hex{table}, " length ", uint64_t{len}, " checksum ", ok_or_bad(byte_sum(table, len) == 0),
             " entries ", uint64_t{at<uint16_t>(table, 34)});
}

}  // namespace

void guest_main() {
  init_apic(false);
  report_boot();
  report_cpu();
  report_acpi();
  report_mp();
  report_progress(2);
  print_line("report=end");
}
