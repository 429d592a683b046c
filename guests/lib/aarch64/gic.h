// GICv2 and GICv3, with a GICv3's LPIs. Spec: IHI 0048 (GICv2), IHI 0069 (GICv3).
#pragma once
#include <cstdint>

namespace guest {

void serve_interrupt();  // from the vector

// A software generated interrupt (0 to 15) to the processor of these affinity fields.
void send_sgi(uint64_t mpidr, uint32_t number);

inline constexpr uint32_t kFirstLpi = 8192;
using LpiHandler = void (*)(uint32_t number);
void set_lpi_handler(LpiHandler handler);

// This processor's redistributor: GICv3 only, once its interrupt controller is set up.
uint64_t redistributor();

}  // namespace guest
