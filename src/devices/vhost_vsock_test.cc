#include "devices/vhost_vsock.h"

#include <gtest/gtest.h>

#include <vector>

#include "devices/virtio_vsock.h"
#include "devices/virtio_vsock_packet.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/fake_kernel_vhost.h"
#include "testing/queues_host.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::FakeKernelVhost;
using strato::testing::QueuesHost;

constexpr size_t kQueues = 3;
constexpr size_t kEvents = 2;

class VhostVsockTest : public ::testing::Test, protected QueuesHost<VhostVsock> {
 protected:
  VhostVsockTest() : QueuesHost(8 * kMiB) {
    kernel.offered |= 1 << 1;
    for (size_t index = 0; index < kQueues; ++index) {
      add_driver({.size = 16, .base = (index + 1) * kMiB, .limit = (index + 2) * kMiB});
    }
    make(std::nullopt);
  }
  ~VhostVsockTest() override {
    reset();
    device.reset();
  }

  void make(const std::optional<VhostVsockState>& state) {
    device.reset();
    kernel.owned = false;
    device = VhostVsock::create(
        {.name = "vsock0",
         .guest_cid = 42,
         .vhost = *KernelVhost::create(
             {.name = "vsock0", .port = kernel.port(), .memory = ram.map(), .rings = VhostVsock::kRings})},
        state);
  }
  FakeDriver::Submitted give_event_buffer() {
    const auto sent = drivers[kEvents]->chain().writable(sizeof(VsockEvent)).submit();
    ring(kEvents);
    return sent;
  }

  FakeKernelVhost kernel;
};

TEST_F(VhostVsockTest, TheDriverSeesItsContextIdAndWhatTheKernelCanDo) {
  EXPECT_EQ(device->config().load<VsockConfig>(0).guest_cid.get(), 42U);
  EXPECT_EQ(device->features(), 3 | kFeatureIndirect | kFeatureEventIdx);
  kernel.offered &= ~uint64_t{2};
  make(std::nullopt);
  EXPECT_EQ(device->features(), 1 | kFeatureIndirect | kFeatureEventIdx);
}

TEST_F(VhostVsockTest, PacketsMoveWhenBothOfTheirQueuesAreThere) {
  device->start(device->features() | kFeatureVersion1);
  EXPECT_EQ(kernel.features & 1, 0U);  // the kernel has no bit for it
  start_queues(0, 1);
  EXPECT_EQ(kernel.running, 0);
  start_queues(1, 1);
  EXPECT_EQ(kernel.running, 1);
  EXPECT_EQ(doorbells[0]->take_rings() + doorbells[1]->take_rings(), 2);
  start_queues(2, 1);
}

TEST_F(VhostVsockTest, APauseStopsTheKernelAndTellsNobodyOfAReset) {
  start();
  give_event_buffer();
  drivers[0]->chain().writable(64).submit();
  ASSERT_TRUE(kernel.serve(0, {}));
  const std::vector<Queue> queues = stop();
  EXPECT_EQ(kernel.running, 0);
  ASSERT_EQ(queues.size(), kQueues);
  EXPECT_EQ(queues[0].progress().next_used, 1);
  start_queues(0, kQueues);
  EXPECT_EQ(kernel.running, 1);
  EXPECT_TRUE(drivers[kEvents]->take_used().empty());
}

TEST_F(VhostVsockTest, AfterARestoreTheDriverHearsThatItsConnectionsAreGoneBeforePacketsMove) {
  start();
  (void)stop();
  const auto state = *state::from_bytes<VhostVsockState>(*device->save());
  EXPECT_TRUE(state.driver_running);
  reset();
  for (const auto& driver : drivers) driver->reset();
  make(state);
  start();
  EXPECT_EQ(kernel.running, 0);
  const auto buffer = give_event_buffer();
  EXPECT_EQ(drivers[kEvents]->take_used(), (std::vector<FakeDriver::Used>{{buffer.id, sizeof(VsockEvent)}}));
  EXPECT_EQ(kernel.running, 0);
  give_event_buffer();
  EXPECT_EQ(kernel.running, 1);
  EXPECT_TRUE(drivers[kEvents]->take_used().empty());
  // And once more.
  (void)stop();
  EXPECT_TRUE(state::from_bytes<VhostVsockState>(*device->save())->driver_running);
}

TEST_F(VhostVsockTest, AfterAResetTheKernelHasNothingAndNoDriverRuns) {
  start();
  reset();
  EXPECT_EQ(kernel.running, 0);
  EXPECT_FALSE(state::from_bytes<VhostVsockState>(*device->save())->driver_running);
  for (const auto& driver : drivers) driver->reset();
  start();
  EXPECT_EQ(kernel.running, 1);
}

TEST_F(VhostVsockTest, FeaturesThatTheKernelRefusesStopTheQueues) {
  kernel.failures[VHOST_SET_FEATURES] = EINVAL;
  device->start(kFeatureVersion1);
  EXPECT_FALSE(device
                   ->start_queue(0, {.queue = *Queue::create(ram.memory(), drivers[0]->config()),
                                     .interrupt = line,
                                     .doorbell = *doorbells[0],
                                     .loop = *loop})
                   .has_value());
}

TEST(VhostVsockStateTest, SurvivesATrip) {
  strato::testing::check_state(VhostVsockState{.driver_running = true});
}

}  // namespace
}  // namespace strato::virtio
