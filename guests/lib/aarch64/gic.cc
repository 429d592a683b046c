#include "gic.h"

#include "cpu.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/serial.h"
#include "machine.h"

namespace guest {
namespace {

enum Distributor : uint64_t {
  kControl = 0x000,
  kType = 0x004,
  kGroup = 0x080,
  kEnable = 0x100,
  kPriority = 0x400,
  kTargets = 0x800,
  kConfiguration = 0xc00,
  kSoftware = 0xf00,
  kRouter = 0x6000,
};
enum CpuInterface : uint64_t { kCpuControl = 0x00, kCpuMask = 0x04, kAcknowledge = 0x0c, kEnd = 0x10 };
enum Redistributor : uint64_t { kRedistributorType = 0x08, kWaker = 0x14, kSgiFrame = 0x10000 };
constexpr uint64_t kFrames = 0x20000;  // of one redistributor
constexpr uint32_t kFirstSpi = 32;
constexpr uint32_t kFirstSpecial = 1020;
constexpr uint8_t kUsualPriority = 0xa0;

Handler handlers[kFirstSpecial];
LpiHandler lpi_handler = nullptr;
bool distributor_ready = false;

bool is_v3() {
  return machine().gic_version == 3;
}

uint32_t read(uint64_t reg) {
  return mmio_read<uint32_t>(machine().distributor + reg);
}
void write(uint64_t reg, uint32_t value) {
  mmio_write<uint32_t>(machine().distributor + reg, value);
}

void wait_for_distributor() {
  while ((read(kControl) & (1u << 31)) != 0) pause();
}

void init_distributor() {
  const uint32_t words = (read(kType) & 31) + 1;
  if (is_v3()) {
    write(kControl, 0x10);  // affinity routing
    wait_for_distributor();
    for (uint32_t i = 1; i < words; i++) write(kGroup + 4 * i, ~uint32_t{0});
    write(kControl, 0x12);  // ... and group 1
    wait_for_distributor();
  } else {
    write(kControl, 1);
  }
  distributor_ready = true;
}

// The one of the processor's number is its own, if the regions are filled in the order of the devicetree: looked at
// first, as each look is an exit.
uint64_t redistributor_by_index(uint64_t index) {
  for (size_t region = 0; region < machine().redistributor_regions; region++) {
    const Area& area = machine().redistributors[region];
    if (index < area.size / kFrames) return area.base + index * kFrames;
    index -= area.size / kFrames;
  }
  return machine().redistributors[0].base;
}

uint64_t find_redistributor() {
  const uint64_t id = mpidr();
  const uint64_t affinity = (id & 0xffffff) | (id >> 32 & 0xff) << 24;  // as GICR_TYPER has it
  const uint64_t likely = redistributor_by_index(processor_index());
  if (mmio_read<uint64_t>(likely + kRedistributorType) >> 32 == affinity) return likely;
  for (size_t region = 0; region < machine().redistributor_regions; region++) {
    const Area& area = machine().redistributors[region];
    for (uint64_t at = area.base; at < area.base + area.size; at += kFrames) {
      const auto type = mmio_read<uint64_t>(at + kRedistributorType);
      if (type >> 32 == affinity) return at;
      if ((type & 16) != 0) break;  // the last one here
    }
  }
  print_line("error=no redistributor for ", Hex{id});
  power_off();
}

void init_redistributor() {
  const uint64_t own = find_redistributor();
  GUEST_WRITE_REGISTER(tpidr_el1, own);
  mmio_write<uint32_t>(own + kWaker, mmio_read<uint32_t>(own + kWaker) & ~uint32_t{2});
  while ((mmio_read<uint32_t>(own + kWaker) & 4) != 0) pause();
  mmio_write<uint32_t>(own + kSgiFrame + kGroup, ~uint32_t{0});
  GUEST_WRITE_REGISTER(s3_0_c12_c12_5, GUEST_READ_REGISTER(s3_0_c12_c12_5) | 1);  // ICC_SRE_EL1
  GUEST_WRITE_REGISTER(s3_0_c4_c6_0, 0xff);                                       // ICC_PMR_EL1
  GUEST_WRITE_REGISTER(s3_0_c12_c12_7, 1);                                        // ICC_IGRPEN1_EL1
}

// The frame that has the registers of this interrupt.
uint64_t frame_of(uint32_t number) {
  return is_v3() && number < kFirstSpi ? redistributor() + kSgiFrame : machine().distributor;
}

}  // namespace

void init_interrupt_controller() {
  if (machine().gic_version == 0) {
    print_line("error=no interrupt controller");
    power_off();
  }
  if (!distributor_ready) init_distributor();
  if (is_v3()) {
    init_redistributor();
  } else {
    mmio_write<uint32_t>(machine().cpu_interface + kCpuMask, 0xff);
    mmio_write<uint32_t>(machine().cpu_interface + kCpuControl, 1);
  }
}

void connect_interrupt(InterruptLine line, Handler handler) {
  const uint32_t number = line.number;
  if (number >= kFirstSpecial) return;
  handlers[number] = handler;
  const uint64_t frame = frame_of(number);
  mmio_write<uint8_t>(frame + kPriority + number, kUsualPriority);
  if (number >= 16) {
    const uint64_t word = frame + kConfiguration + number / 16 * 4;
    const uint32_t bit = 2u << number % 16 * 2;
    const auto old = mmio_read<uint32_t>(word);
    mmio_write<uint32_t>(word, line.edge ? old | bit : old & ~bit);
  }
  if (number >= kFirstSpi) {
    const uint64_t id = mpidr();
    if (is_v3()) {
      mmio_write<uint64_t>(machine().distributor + kRouter + uint64_t{number} * 8, id);
    } else {
      mmio_write<uint8_t>(machine().distributor + kTargets + number, static_cast<uint8_t>(1u << (id & 7)));
    }
  }
  mmio_write<uint32_t>(frame + kEnable + number / 32 * 4, 1u << number % 32);
}

void serve_interrupt() {
  uint32_t acknowledged;
  if (is_v3()) {
    acknowledged = static_cast<uint32_t>(GUEST_READ_REGISTER(s3_0_c12_c12_0));  // ICC_IAR1_EL1
    asm volatile("dsb sy" ::: "memory");
  } else {
    acknowledged = mmio_read<uint32_t>(machine().cpu_interface + kAcknowledge);
  }
  const uint32_t number = is_v3() ? acknowledged & 0xffffff : acknowledged & 0x3ff;  // a GICv2 adds an SGI's sender
  if (number < kFirstSpecial) {
    if (handlers[number] != nullptr) handlers[number]();
  } else if (number >= kFirstLpi) {
    if (lpi_handler != nullptr) lpi_handler(number);
  } else {
    return;  // spurious
  }
  if (is_v3()) {
    GUEST_WRITE_REGISTER(s3_0_c12_c12_1, acknowledged);  // ICC_EOIR1_EL1
  } else {
    mmio_write<uint32_t>(machine().cpu_interface + kEnd, acknowledged);
  }
}

void send_sgi(uint64_t target, uint32_t number) {
  store_barrier();
  if (!is_v3()) {
    write(kSoftware, 1u << (16 + (target & 7)) | number);
    return;
  }
  const uint64_t aff0 = target & 0xff;
  const uint64_t value = (target >> 32 & 0xff) << 48 | (aff0 >> 4) << 44 | (target >> 16 & 0xff) << 32 |
                         uint64_t{number} << 24 | (target >> 8 & 0xff) << 16 | uint64_t{1} << (aff0 & 15);
  asm volatile("dsb sy" ::: "memory");
  GUEST_WRITE_REGISTER(s3_0_c12_c11_5, value);  // ICC_SGI1R_EL1
}

void set_lpi_handler(LpiHandler handler) {
  lpi_handler = handler;
}

uint64_t redistributor() {
  return GUEST_READ_REGISTER(tpidr_el1);
}

}  // namespace guest
