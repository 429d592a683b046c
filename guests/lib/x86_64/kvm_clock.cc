// KVM's paravirtual clock. Spec: Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW.
#include "cpu.h"
#include "lib/timer.h"

namespace guest {
namespace {

constexpr uint32_t kSystemTimeMsr = 0x4b564d01;
constexpr uint64_t kEnable = 1;

struct alignas(64) TimeInfo {
  volatile uint32_t version;  // odd while the host writes
  uint32_t pad;
  volatile uint64_t tsc_timestamp;
  volatile uint64_t system_time;
  volatile uint32_t tsc_to_system_mul;
  volatile int8_t tsc_shift;
  volatile uint8_t flags;
  uint8_t pad2[2];
};
static_assert(sizeof(TimeInfo) == 64);

TimeInfo info;
bool enabled = false;

}  // namespace

bool init_clock() {
  if ((cpuid(1).ecx >> 31) == 0 || cpuid(0x40000000).ebx != 0x4b4d564b || (cpuid(0x40000001).eax & 8) == 0)
    return false;
  wrmsr(kSystemTimeMsr, reinterpret_cast<uint64_t>(&info) | kEnable);
  enabled = true;
  return true;
}

uint64_t clock_ns() {
  if (!enabled) return 0;
  for (;;) {
    const uint32_t version = info.version;
    uint64_t delta = rdtsc() - info.tsc_timestamp;
    const int shift = info.tsc_shift;
    delta = shift >= 0 ? delta << shift : delta >> -shift;
    const auto scaled = static_cast<uint64_t>((static_cast<unsigned __int128>(delta) * info.tsc_to_system_mul) >> 32);
    const uint64_t now = info.system_time + scaled;
    if ((version & 1) == 0 && version == info.version) return now;
  }
}

}  // namespace guest
