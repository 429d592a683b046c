#include "hypervisor/kvm/irq_router.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace strato {
namespace {

// 40 wired routes, of which two of each of the first 16 GSIs.
std::vector<kvm_irq_routing_entry> wired_routes() {
  std::vector<kvm_irq_routing_entry> routes(40);
  for (uint32_t i = 0; i < 40; ++i) {
    routes[i].gsi = i < 24 ? i : i - 24;
    routes[i].type = KVM_IRQ_ROUTING_IRQCHIP;
    routes[i].u.irqchip = {.irqchip = i < 24 ? 1U : 0U, .pin = routes[i].gsi};
  }
  return routes;
}

class IrqRouterTest : public ::testing::Test {
 protected:
  IrqRouter make(uint32_t route_limit = 64) {
    return IrqRouter(
        [this](const std::vector<kvm_irq_routing_entry>& entries) -> Result<> {
          ++calls_;
          if (refuse_) return std::unexpected(Error::invalid("refused"));
          kernel_ = entries;
          return {};
        },
        wired_routes(), 24, route_limit);
  }
  const kvm_irq_routing_entry* message(uint32_t gsi) const {
    const auto place = std::ranges::find_if(
        kernel_, [gsi](const auto& entry) { return entry.gsi == gsi && entry.type == KVM_IRQ_ROUTING_MSI; });
    return place == kernel_.end() ? nullptr : &*place;
  }

  std::vector<kvm_irq_routing_entry> kernel_;
  int calls_ = 0;
  bool refuse_ = false;
};

TEST_F(IrqRouterTest, NothingIsSetBeforeTheFirstMessage) {
  IrqRouter router = make();
  ASSERT_TRUE(router.allocate_message_gsi().has_value());
  EXPECT_EQ(calls_, 0);
}

TEST_F(IrqRouterTest, AMessageRouteKeepsTheWiredOnes) {
  IrqRouter router = make();
  const uint32_t gsi = *router.allocate_message_gsi();
  EXPECT_EQ(gsi, 24U);
  ASSERT_TRUE(router.set_message(gsi, {.address = 0x1'fee0'1000, .data = 0x4030}).has_value());

  ASSERT_EQ(kernel_.size(), 41U);
  const kvm_irq_routing_entry* entry = message(gsi);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->u.msi.address_lo, 0xfee0'1000U);
  EXPECT_EQ(entry->u.msi.address_hi, 1U);
  EXPECT_EQ(entry->u.msi.data, 0x4030U);
  EXPECT_EQ(entry->flags, 0U);
}

TEST_F(IrqRouterTest, ADeviceIdIsPassedOn) {
  IrqRouter router = make();
  const uint32_t gsi = *router.allocate_message_gsi();
  ASSERT_TRUE(router.set_message(gsi, {.address = 0x8090000, .data = 1, .device_id = 0x18}).has_value());
  EXPECT_EQ(message(gsi)->flags, uint32_t{KVM_MSI_VALID_DEVID});
  EXPECT_EQ(message(gsi)->u.msi.devid, 0x18U);
}

TEST_F(IrqRouterTest, SeveralRoutesAreOneCallAndNoChangeIsNone) {
  IrqRouter router = make();
  const uint32_t first = *router.allocate_message_gsi();
  const uint32_t second = *router.allocate_message_gsi();
  const MsiMessage message{.address = 0xfee0'0000, .data = 1};
  ASSERT_TRUE(router.update({{first, message}, {second, message}}).has_value());
  EXPECT_EQ(calls_, 1);
  ASSERT_TRUE(router.update({{first, message}, {second, message}}).has_value());
  EXPECT_EQ(calls_, 1);
  ASSERT_TRUE(router.update({{first, std::nullopt}}).has_value());
  EXPECT_EQ(calls_, 2);
  EXPECT_EQ(this->message(first), nullptr);
  EXPECT_NE(this->message(second), nullptr);
}

TEST_F(IrqRouterTest, ARefusedUpdateChangesNothing) {
  IrqRouter router = make();
  const uint32_t gsi = *router.allocate_message_gsi();
  ASSERT_TRUE(router.set_message(gsi, {.address = 0xfee0'0000, .data = 1}).has_value());
  refuse_ = true;
  EXPECT_FALSE(router.set_message(gsi, {.address = 0xfee0'0000, .data = 2}).has_value());
  const std::vector<kvm_irq_routing_entry> table = router.table();
  EXPECT_EQ(table.back().u.msi.data, 1U);
}

TEST_F(IrqRouterTest, AReleasedGsiIsGivenAgainWithoutItsRoute) {
  IrqRouter router = make();
  const uint32_t gsi = *router.allocate_message_gsi();
  ASSERT_TRUE(router.set_message(gsi, {.address = 0xfee0'0000, .data = 1}).has_value());
  router.release_message_gsi(gsi);
  EXPECT_EQ(router.table().size(), 40U);
  EXPECT_EQ(*router.allocate_message_gsi(), gsi);
}

TEST_F(IrqRouterTest, TheLimitCountsRoutesAndNumbers) {
  IrqRouter router = make(42);  // 40 wired routes, 2 messages
  EXPECT_TRUE(router.allocate_message_gsi().has_value());
  EXPECT_TRUE(router.allocate_message_gsi().has_value());
  const Result<uint32_t> third = router.allocate_message_gsi();
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().code(), ErrorCode::Unsupported);
}

}  // namespace
}  // namespace strato
