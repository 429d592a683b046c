// mmio_access: reads and writes the registers of a virtio-mmio device by instructions that KVM cannot describe to the
// VMM (pairs, exclusives, write-back, SIMD), and some that it can. Prints `access.NAME=value V` (reads), `access.NAME=
// done` (writes) or `access.NAME=abort ESR`; then `magic=VALUE` as a plain read sees it, and `access=end`.
// Where a plain read gives magic number and version, so must each of these, or end in an abort of the guest.
#include "cpu.h"
#include "exceptions.h"
#include "lib/serial.h"
#include "lib/virtio_mmio.h"

using namespace guest;

namespace {

uint64_t base = 0;  // of the device: magic number and version, read-only
// At a multiple of 16: unaligned, the wide ones would be the processor's fault already.
uint64_t writable() {
  return base + VirtioMmio::kQueueSel;
}

// Each is one instruction on the device, so that it alone is left out when it faults. x1: the address; x2, x3: data.
#define GUEST_ACCESS(name, instruction)                                            \
  uint64_t name(uint64_t address) {                                                \
    register uint64_t x1 asm("x1") = address;                                      \
    register uint64_t x2 asm("x2") = 0;                                            \
    register uint64_t x3 asm("x3") = 0;                                            \
    asm volatile(".arch_extension simd\n" instruction "\n.arch_extension nosimd\n" \
                 : "+r"(x1), "+r"(x2), "+r"(x3)                                    \
                 :                                                                 \
                 : "x4", "memory");                                                \
    return x2;                                                                     \
  }
#define GUEST_SIMD_READ(name, instruction) GUEST_ACCESS(name, "movi v0.2d, #0\n" instruction "\nfmov x2, d0")

GUEST_ACCESS(ldr, "ldr w2, [x1]")
GUEST_ACCESS(ldrsw, "ldrsw x2, [x1]")
GUEST_ACCESS(ldar, "ldar w2, [x1]")
GUEST_ACCESS(ldp, "ldp w2, w3, [x1]")
GUEST_ACCESS(ldpsw, "ldpsw x2, x3, [x1]")
GUEST_ACCESS(ldnp, "ldnp w2, w3, [x1]")
GUEST_ACCESS(ldr_post_index, "ldr w2, [x1], #4")
GUEST_ACCESS(ldr_pre_index, "sub x1, x1, #4\nldr w2, [x1, #4]!")
GUEST_ACCESS(ldp_post_index, "ldp w2, w3, [x1], #8")
GUEST_ACCESS(ldxr, "ldxr w2, [x1]")
GUEST_ACCESS(ldaxr, "ldaxr w2, [x1]")
GUEST_SIMD_READ(ldr_s, "ldr s0, [x1]")
GUEST_SIMD_READ(ldr_q, "ldr q0, [x1]")
GUEST_SIMD_READ(ldp_d, "ldp d0, d1, [x1]")
GUEST_SIMD_READ(ld1, "ld1 {v0.4s}, [x1]")
GUEST_SIMD_READ(ld1_post_index, "ld1 {v0.4s}, [x1], #16")
GUEST_ACCESS(str, "str w2, [x1]")
GUEST_ACCESS(stlr, "stlr w2, [x1]")
GUEST_ACCESS(stp, "stp w2, w3, [x1]")
GUEST_ACCESS(stnp, "stnp w2, w3, [x1]")
GUEST_ACCESS(str_post_index, "str w2, [x1], #4")
GUEST_ACCESS(str_pre_index, "sub x1, x1, #4\nstr w2, [x1, #4]!")
GUEST_ACCESS(stp_pre_index, "sub x1, x1, #8\nstp w2, w3, [x1, #8]!")
GUEST_ACCESS(stxr, "ldxr w2, [x1]\nstxr w4, w3, [x1]")
GUEST_ACCESS(str_q, "movi v0.2d, #0\nstr q0, [x1]")
GUEST_ACCESS(str_s, "movi v0.2d, #0\nstr s0, [x1]")
GUEST_ACCESS(st1, "movi v0.2d, #0\nst1 {v0.4s}, [x1]")
GUEST_ACCESS(stp_d, "movi v0.2d, #0\nstp d0, d0, [x1]")
GUEST_ACCESS(dc_zva, "bic x1, x1, #0xff\ndc zva, x1")
GUEST_ACCESS(dc_civac, "dc civac, x1")
GUEST_ACCESS(prfm, "prfm pldl1keep, [x1]")
GUEST_ACCESS(ldr_unaligned, "add x1, x1, #2\nldr w2, [x1]")

struct Access {
  Text name;
  uint64_t (*run)(uint64_t address);
  bool reads;
};
const Access kAccesses[] = {
    {"ldr", ldr, true},
    {"ldrsw", ldrsw, true},
    {"ldar", ldar, true},
    {"ldp", ldp, true},
    {"ldpsw", ldpsw, true},
    {"ldnp", ldnp, true},
    {"ldr_post_index", ldr_post_index, true},
    {"ldr_pre_index", ldr_pre_index, true},
    {"ldp_post_index", ldp_post_index, true},
    {"ldxr", ldxr, true},
    {"ldaxr", ldaxr, true},
    {"ldr_s", ldr_s, true},
    {"ldr_q", ldr_q, true},
    {"ldp_d", ldp_d, true},
    {"ld1", ld1, true},
    {"ld1_post_index", ld1_post_index, true},
    {"str", str, false},
    {"stlr", stlr, false},
    {"stp", stp, false},
    {"stnp", stnp, false},
    {"str_post_index", str_post_index, false},
    {"str_pre_index", str_pre_index, false},
    {"stp_pre_index", stp_pre_index, false},
    {"stxr", stxr, false},
    {"str_q", str_q, false},
    {"str_s", str_s, false},
    {"st1", st1, false},
    {"stp_d", stp_d, false},
    {"dc_zva", dc_zva, false},
    {"dc_civac", dc_civac, false},
    {"prfm", prfm, false},
    {"ldr_unaligned", ldr_unaligned, true},
};

}  // namespace

void guest_main() {
  const VirtioMmio device = find_virtio_mmio();
  if (device.base == 0) return;
  base = device.base;
  GUEST_WRITE_REGISTER(cpacr_el1, 3 << 20);
  for (const Access& access : kAccesses) {
    begin_catching();
    const uint64_t value = access.run(access.reads ? base : writable());
    const Caught caught = end_catching();
    if (caught.any) {
      print_line("access.", access.name, "=abort ", Hex{caught.esr});
    } else if (access.reads) {
      print_line("access.", access.name, "=value ", Hex{value & 0xffffffff});
    } else {
      print_line("access.", access.name, "=done");
    }
  }
  print_line("magic=", Hex{device.read(VirtioMmio::kMagic)});
  print_line("access=end");
}
