#include "hypervisor/kvm/x86_64.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace strato {
namespace {

TEST(DefaultIrqRoutes, LeadTheFirst16ToPicAndIoApicAndTheRestToTheIoApic) {
  const std::vector<kvm_irq_routing_entry> routes = default_irq_routes();
  ASSERT_EQ(routes.size(), 40U);
  const auto count = [&routes](uint32_t gsi, uint32_t chip, uint32_t pin) {
    return std::ranges::count_if(routes, [=](const auto& entry) {
      return entry.gsi == gsi && entry.u.irqchip.irqchip == chip && entry.u.irqchip.pin == pin;
    });
  };
  EXPECT_EQ(count(4, KVM_IRQCHIP_IOAPIC, 4), 1);
  EXPECT_EQ(count(4, KVM_IRQCHIP_PIC_MASTER, 4), 1);
  EXPECT_EQ(count(12, KVM_IRQCHIP_PIC_SLAVE, 4), 1);
  EXPECT_EQ(count(23, KVM_IRQCHIP_IOAPIC, 23), 1);
  EXPECT_EQ(count(23, KVM_IRQCHIP_PIC_SLAVE, 7), 0);
}

}  // namespace
}  // namespace strato
