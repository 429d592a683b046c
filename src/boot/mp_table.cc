#include "boot/mp_table.h"

#include <algorithm>

#include "base/endian.h"
#include "boot/x86_layout.h"

namespace strato::boot {
namespace {

constexpr uint8_t kSpecRevision = 4;  // 1.4
constexpr uint32_t kMaxApicId = 254;  // 255 is the broadcast
constexpr uint8_t kAllApics = 0xff;
constexpr uint8_t kApicVersion = 0x14;
constexpr uint8_t kIoApicVersion = 0x11;
constexpr uint8_t kIsaBus = 0;
constexpr uint32_t kIsaIrqs = 256;  // the bus irq has 8 bits
constexpr size_t kHeaderBytes = 44;
constexpr size_t kPointerBytes = 16;

// §4.3.1 to §4.3.5.
enum EntryType : uint8_t { kProcessor = 0, kBus = 1, kIoApic = 2, kIoInterrupt = 3, kLocalInterrupt = 4 };
enum InterruptType : uint8_t { kInt = 0, kNmi = 1, kExtInt = 3 };

class Entries {
 public:
  void add_processor(const Processor& cpu, bool is_boot_cpu) {
    constexpr uint8_t kEnabled = 1;
    constexpr uint8_t kBootProcessor = 2;
    constexpr uint32_t kSignature = 0x600;   // family 6; kernels ask CPUID
    constexpr uint32_t kFpuAndApic = 0x201;  // of CPUID leaf 1 EDX
    out_.u8(kProcessor).u8(static_cast<uint8_t>(cpu.id)).u8(kApicVersion);
    out_.u8(static_cast<uint8_t>((cpu.enabled ? kEnabled : 0) | (is_boot_cpu ? kBootProcessor : 0)));
    out_.u32(kSignature).u32(kFpuAndApic).zeros(8);
    ++count_;
  }
  void add_isa_bus() {
    out_.u8(kBus).u8(kIsaBus).text("ISA", 6, ' ');
    ++count_;
  }
  void add_io_apic(const IoApic& io_apic) {
    constexpr uint8_t kEnabled = 1;
    out_.u8(kIoApic).u8(io_apic.id).u8(kIoApicVersion).u8(kEnabled).u32(io_apic.address);
    ++count_;
  }
  void add_interrupt(EntryType entry, InterruptType type, uint8_t bus_irq, uint8_t apic, uint8_t pin) {
    constexpr uint16_t kAsTheBusDoes = 0;  // ISA: edge, active high
    out_.u8(entry).u8(type).u16(kAsTheBusDoes).u8(kIsaBus).u8(bus_irq).u8(apic).u8(pin);
    ++count_;
  }

  uint16_t count() const { return count_; }
  const ByteWriter& bytes() const { return out_; }

 private:
  ByteWriter out_;
  uint16_t count_ = 0;
};

Entries make_entries(const PlatformTables& platform) {
  Entries entries;
  for (const Processor& cpu : platform.cpus) {
    if (cpu.id <= kMaxApicId) entries.add_processor(cpu, &cpu == &platform.cpus.front());
  }
  entries.add_isa_bus();
  for (const IoApic& io_apic : platform.ioapics) entries.add_io_apic(io_apic);
  for (const IoApic& io_apic : platform.ioapics) {
    for (uint32_t pin = 0; pin < io_apic.pins && io_apic.gsi_base + pin < kIsaIrqs; ++pin) {
      entries.add_interrupt(kIoInterrupt, kInt, static_cast<uint8_t>(io_apic.gsi_base + pin), io_apic.id,
                            static_cast<uint8_t>(pin));
    }
  }
  const auto boot_apic = static_cast<uint8_t>(std::min(platform.cpus.front().id, uint64_t{kAllApics}));
  entries.add_interrupt(kLocalInterrupt, kExtInt, 0, boot_apic, 0);
  entries.add_interrupt(kLocalInterrupt, kNmi, 0, kAllApics, 1);
  return entries;
}

// §4.1.
Bytes floating_pointer(uint64_t table_address) {
  constexpr size_t kChecksumAt = 10;
  ByteWriter out;
  out.text("_MP_", 4).u32(static_cast<uint32_t>(table_address)).u8(kPointerBytes / 16).u8(kSpecRevision);
  out.zeros(6);  // checksum; a table is present; no IMCR: virtual wire mode
  out.patch(kChecksumAt, checksum(out.view()));
  return out.take();
}

}  // namespace

MpTable build_mp_table(const PlatformTables& platform) {
  STRATO_ASSERT(!platform.cpus.empty());
  const Entries entries = make_entries(platform);
  const size_t table_bytes = kHeaderBytes + entries.bytes().size();
  STRATO_ASSERT(table_bytes <= x86::kLargeMpTableEnd - x86::kLargeMpTable);

  // §4.2.
  constexpr size_t kChecksumAt = 7;
  ByteWriter out;
  out.text("PCMP", 4).u16(static_cast<uint16_t>(table_bytes)).u8(kSpecRevision).u8(0);
  out.text("STRATO", 8, ' ').text("VIRT", 12, ' ').zeros(6);  // no OEM table
  out.u16(entries.count()).u32(platform.local_apic_address).zeros(4);
  out.bytes(entries.bytes().view());
  out.patch(kChecksumAt, checksum(out.view()));

  const bool fits_the_ebda = table_bytes <= x86::kEbdaEnd - x86::kEbda - kPointerBytes;
  MpTable result;
  result.table_address = fits_the_ebda ? x86::kEbda + kPointerBytes : x86::kLargeMpTable;
  result.pointer = floating_pointer(result.table_address);
  result.table = out.take();
  return result;
}

}  // namespace strato::boot
