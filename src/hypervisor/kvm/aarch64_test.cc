#include "hypervisor/kvm/aarch64.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

TEST(Arm64IrqLine, NamesASharedInterruptByItsIntid) {
  EXPECT_EQ(irq_line_number(0), 0x0100'0020U);
  EXPECT_EQ(irq_line_number(159), 0x0100'00bfU);
}

TEST(Arm64DefaultIrqRoutes, LeadEachGsiToTheSharedInterruptOfItsNumber) {
  const std::vector<kvm_irq_routing_entry> routes = default_irq_routes(192);
  ASSERT_EQ(routes.size(), 160U);
  EXPECT_EQ(routes[159].gsi, 159U);
  EXPECT_EQ(routes[159].type, static_cast<uint32_t>(KVM_IRQ_ROUTING_IRQCHIP));
  EXPECT_EQ(routes[159].u.irqchip.irqchip, 0U);
  EXPECT_EQ(routes[159].u.irqchip.pin, 159U);
}

TEST(Arm64RegisterBytes, AreInTheId) {
  EXPECT_EQ(register_bytes(KVM_REG_ARM64 | KVM_REG_SIZE_U32), 4U);
  EXPECT_EQ(register_bytes(KVM_REG_ARM64 | KVM_REG_SIZE_U64), 8U);
  EXPECT_EQ(register_bytes(KVM_REG_ARM64 | KVM_REG_SIZE_U2048), 256U);
}

}  // namespace
}  // namespace strato
