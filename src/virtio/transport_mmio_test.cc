#include "virtio/transport_mmio.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/thread.h"
#include "event/clock.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/fake_virtio_device.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"
#include "testing/state_checks.h"
#include "virtio/empty_device.h"
#include "virtio/mmio_guest.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::FakeVirtioDevice;
using strato::testing::GuestRam;

constexpr uint64_t kFeatures = kFeatureVersion1 | kFeatureIndirect | FakeVirtioDevice::kDeviceFeature;
constexpr uint32_t kAllOk = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk;

class TransportMmioTest : public ::testing::Test {
 protected:
  TransportMmio::Args args() {
    return {.name = "virtio_mmio0",
            .memory = ram_.map(),
            .interrupt = line_,
            .doorbells = {&fake_doorbells_[0], &fake_doorbells_[1]}};
  }
  TransportMmio::Plug plug(std::vector<uint16_t> sizes = {64, 64}, uint64_t rings = kRingFeatures) {
    auto made = std::make_unique<FakeVirtioDevice>(std::move(sizes), rings);
    device_ = made.get();
    return {.device = std::move(made), .loops = {loop_.get()}};
  }
  std::unique_ptr<TransportMmio> make(std::optional<TransportMmio::Plug> plugged,
                                      const std::optional<TransportMmioState>& state = std::nullopt) {
    Result<std::unique_ptr<TransportMmio>> made = TransportMmio::create(args(), std::move(plugged), state);
    EXPECT_TRUE(made.has_value()) << made.error().text();
    return *std::move(made);
  }
  // Both queues run.
  void start(uint64_t features = kFeatures) {
    ASSERT_TRUE(guest_.negotiate(features));
    ASSERT_TRUE(guest_.ready_queue(0, first_.config()));
    ASSERT_TRUE(guest_.ready_queue(1, second_.config()));
    guest_.driver_ok();
    ASSERT_EQ(guest_.status(), kAllOk);
    ASSERT_EQ(device_->running_queues(), 2U);
  }
  // After whatever went wrong: reset, and a good request.
  void expect_usable_after_reset() {
    guest_.reset();
    EXPECT_EQ(guest_.status(), 0U);
    first_.reset();
    second_.reset();
    start();
    first_.chain().writable(4).submit();
    EXPECT_TRUE(device_->serve(0));
    EXPECT_EQ(first_.take_used().size(), 1U);
  }
  uint64_t take_faults() {
    return transport_->guest_faults() - std::exchange(seen_faults_, transport_->guest_faults());
  }

  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  GuestRam ram_;
  FakeVector line_;
  std::array<FakeDoorbell, 2> fake_doorbells_;
  FakeDriver first_{ram_, {.size = 16, .base = 0x10000, .limit = 0x40000}};
  FakeDriver second_{ram_, {.size = 16, .base = 0x40000, .limit = 0x80000}};
  FakeVirtioDevice* device_ = nullptr;
  uint64_t seen_faults_ = 0;
  std::unique_ptr<TransportMmio> transport_ = make(plug());
  MmioGuest guest_{*transport_};
};

TEST_F(TransportMmioTest, IdentifiesItself) {
  EXPECT_EQ(guest_.read(0x00), 0x74726976U);
  EXPECT_EQ(guest_.read(0x04), 2U);
  EXPECT_EQ(guest_.read(kRegDeviceId), 4U);
  EXPECT_EQ(guest_.read(0x0c), 0U);
  EXPECT_EQ(guest_.status(), 0U);
}

TEST_F(TransportMmioTest, FeaturesAreSelectedByHalves) {
  EXPECT_EQ(guest_.device_features(), device_->features() | kFeatureVersion1);
  for (const uint32_t beyond : {2U, 3U, 0xffffffffU}) {
    guest_.write(kRegDeviceFeaturesSel, beyond);
    EXPECT_EQ(guest_.read(kRegDeviceFeatures), 0U);
  }
}

TEST_F(TransportMmioTest, AQueueIsStartedServedAndInterrupts) {
  start();
  EXPECT_EQ(device_->started_features(), kFeatures);
  first_.chain().writable(4).submit();
  guest_.write(kRegQueueNotify, 0);
  EXPECT_EQ(fake_doorbells_[0].take_rings(), 1);
  EXPECT_EQ(fake_doorbells_[1].take_rings(), 0);

  EXPECT_TRUE(device_->serve(0));
  EXPECT_EQ(line_.take(), 1);
  EXPECT_EQ(guest_.read(kRegInterruptStatus), kInterruptUsedBuffer);
  guest_.write(kRegInterruptAck, kInterruptUsedBuffer);
  EXPECT_EQ(guest_.read(kRegInterruptStatus), 0U);
  EXPECT_EQ(first_.take_used().size(), 1U);
  EXPECT_EQ(take_faults(), 0U);
}

TEST_F(TransportMmioTest, APackedQueueRunsWhenItWasNegotiated) {
  FakeDriver packed(ram_, {.size = 10, .packed = true, .event_idx = true, .base = 0x80000});
  ASSERT_TRUE(guest_.negotiate(kFeatures | kFeaturePacked | kFeatureEventIdx));
  ASSERT_TRUE(guest_.ready_queue(0, packed.config()));
  guest_.driver_ok();
  packed.chain().writable(4).submit();
  EXPECT_TRUE(device_->serve(0));
  EXPECT_EQ(packed.take_used().size(), 1U);
  EXPECT_FALSE(device_->running(1));  // was not set up
}

TEST_F(TransportMmioTest, AFeatureThatTheUserDoesNotWantIsNotOffered) {
  TransportMmio::Plug without = plug();
  without.withheld_features = kFeaturePacked;
  transport_ = make(std::move(without));
  MmioGuest guest(*transport_);
  EXPECT_EQ(guest.device_features() & kRingFeatures, kFeatureIndirect | kFeatureEventIdx);
  EXPECT_FALSE(guest.negotiate(kFeatures | kFeaturePacked));
}

// --- Status ---

TEST_F(TransportMmioTest, OutOfOrderStatusIsRefused) {
  const uint32_t ack = kStatusAcknowledge;
  const uint32_t driver = ack | kStatusDriver;
  const std::vector<std::pair<uint32_t, uint32_t>> wrong = {
      {0, kStatusDriver},
      {0, kStatusFeaturesOk},
      {0, kStatusDriverOk},
      {ack, ack | kStatusFeaturesOk},
      {driver, driver | kStatusDriverOk},                      // without FEATURES_OK
      {driver, driver | kStatusFeaturesOk | kStatusDriverOk},  // not read back
      {driver, ack},                                           // backwards
      {driver, driver | 16},
      {driver, driver | 0x100},
      {driver, 0x80000000},
  };
  for (const auto& [before, after] : wrong) {
    guest_.reset();
    if (before != 0) guest_.write(kRegStatus, ack);
    if (before != 0) guest_.write(kRegStatus, before);
    guest_.set_driver_features(kFeatures);
    guest_.write(kRegStatus, after);
    EXPECT_EQ(guest_.status(), before) << before << " -> " << after;
    EXPECT_EQ(take_faults(), 1U) << before << " -> " << after;
    EXPECT_FALSE(device_->started_features().has_value());
  }
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, StatusGoesBackOnlyByAReset) {
  start();
  guest_.write(kRegStatus, kAllOk & ~kStatusDriverOk);
  EXPECT_EQ(guest_.status(), kAllOk);
  EXPECT_EQ(take_faults(), 1U);
  EXPECT_EQ(device_->resets, 0);
  expect_usable_after_reset();
  EXPECT_EQ(device_->resets, 1);
}

TEST_F(TransportMmioTest, AfterFailedOnlyAResetHelps) {
  guest_.write(kRegStatus, kStatusAcknowledge);
  guest_.write(kRegStatus, kStatusAcknowledge | kStatusFailed);
  guest_.write(kRegStatus, kStatusAcknowledge | kStatusFailed | kStatusDriver);
  EXPECT_EQ(guest_.status(), kStatusAcknowledge | kStatusFailed);
  EXPECT_EQ(take_faults(), 1U);
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, FeaturesThatDoNotFitAreNotConfirmed) {
  EXPECT_FALSE(guest_.negotiate(kFeatures | uint64_t{1} << 40));  // not offered
  EXPECT_EQ(guest_.status(), kStatusAcknowledge | kStatusDriver);
  guest_.reset();
  EXPECT_FALSE(guest_.negotiate(kFeatures & ~kFeatureVersion1));
  guest_.reset();
  EXPECT_FALSE(guest_.negotiate(kFeatureVersion1 | FakeVirtioDevice::kNeedsFeature5));  // the device refuses
  EXPECT_EQ(take_faults(), 3U);
  // The driver may try again with less.
  guest_.set_driver_features(kFeatureVersion1);
  guest_.write(kRegStatus, kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  EXPECT_EQ(guest_.status(), kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, FeaturesAreFrozenAfterFeaturesOk) {
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  guest_.set_driver_features(kFeatureVersion1);
  EXPECT_EQ(take_faults(), 2U);
  guest_.driver_ok();
  EXPECT_EQ(device_->started_features(), kFeatures);
}

TEST_F(TransportMmioTest, FeatureBitsBeyond63AreRefused) {
  guest_.write(kRegDriverFeaturesSel, 2);
  guest_.write(kRegDriverFeatures, 0);
  EXPECT_EQ(take_faults(), 0U);
  guest_.write(kRegDriverFeatures, 1);
  EXPECT_EQ(take_faults(), 1U);
}

// --- Queue registers ---

TEST_F(TransportMmioTest, QueueRegistersWorkOnlyBetweenFeaturesOkAndDriverOk) {
  guest_.set_queue(0, first_.config());
  EXPECT_EQ(take_faults(), 7U);
  guest_.write(kRegQueueReady, 1);
  EXPECT_EQ(guest_.read(kRegQueueReady), 0U);
  EXPECT_EQ(take_faults(), 1U);

  start();
  guest_.set_queue(0, second_.config());
  EXPECT_EQ(take_faults(), 7U);
  first_.chain().writable(4).submit();
  EXPECT_TRUE(device_->serve(0));
  EXPECT_EQ(first_.take_used().size(), 1U);  // still the first one
}

TEST_F(TransportMmioTest, AReadyQueueIsFrozen) {
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  ASSERT_TRUE(guest_.ready_queue(0, first_.config()));
  guest_.write(kRegQueueNum, 4);
  EXPECT_EQ(take_faults(), 1U);
  guest_.write(kRegQueueReady, 0);
  EXPECT_EQ(guest_.read(kRegQueueReady), 0U);
  EXPECT_TRUE(guest_.ready_queue(0, second_.config()));
  EXPECT_EQ(take_faults(), 0U);
}

TEST_F(TransportMmioTest, AQueueThatIsNotSetUpAfterDriverOkStaysOut) {
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  guest_.driver_ok();
  EXPECT_FALSE(guest_.ready_queue(0, first_.config()));
  EXPECT_GE(take_faults(), 1U);
  EXPECT_EQ(device_->running_queues(), 0U);
}

TEST_F(TransportMmioTest, BadQueuesDoNotBecomeReady) {
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  for (const uint32_t size : {0U, 3U, 128U, 32769U, 0xffffffffU}) {
    QueueConfig config = first_.config();
    config.size = size;
    EXPECT_FALSE(guest_.ready_queue(0, config)) << size;
    EXPECT_EQ(take_faults(), 1U);
  }
  QueueConfig config = first_.config();
  config.desc = uint64_t{1} << 50;
  EXPECT_FALSE(guest_.ready_queue(0, config));
  config = first_.config();
  config.device = config.driver;
  EXPECT_FALSE(guest_.ready_queue(0, config));
  EXPECT_EQ(take_faults(), 2U);
  EXPECT_TRUE(guest_.ready_queue(0, first_.config()));
  guest_.write(kRegQueueReady, 2);
  EXPECT_EQ(guest_.read(kRegQueueReady), 1U);
  EXPECT_EQ(take_faults(), 1U);
}

TEST_F(TransportMmioTest, AnAbsentQueueReadsAsZeroAndTakesNothing) {
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  guest_.write(kRegQueueSel, 1);
  EXPECT_EQ(guest_.read(kRegQueueNumMax), 64U);
  for (const uint32_t index : {2U, 0xffffU, 0xffffffffU}) {
    guest_.write(kRegQueueSel, index);
    EXPECT_EQ(guest_.read(kRegQueueNumMax), 0U);
    EXPECT_FALSE(guest_.ready_queue(index, first_.config()));
    EXPECT_EQ(take_faults(), 8U);
  }
}

TEST_F(TransportMmioTest, NotifyingAnAbsentOrSleepingQueueRingsNothing) {
  guest_.write(kRegQueueNotify, 0);
  EXPECT_EQ(take_faults(), 1U);
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  ASSERT_TRUE(guest_.ready_queue(0, first_.config()));
  guest_.driver_ok();
  for (const uint32_t index : {1U, 2U, 0xffffffffU}) {
    guest_.write(kRegQueueNotify, index);
    EXPECT_EQ(take_faults(), 1U);
  }
  EXPECT_EQ(fake_doorbells_[0].take_rings() + fake_doorbells_[1].take_rings(), 0);
  guest_.write(kRegQueueNotify, 0);
  EXPECT_EQ(fake_doorbells_[0].take_rings(), 1);
}

TEST_F(TransportMmioTest, OneQueueIsStoppedAndTheOtherRuns) {
  start();
  guest_.write(kRegQueueSel, 0);
  guest_.write(kRegQueueReady, 0);
  EXPECT_EQ(guest_.read(kRegQueueReady), 0U);
  EXPECT_FALSE(device_->running(0));
  second_.chain().writable(4).submit();
  EXPECT_TRUE(device_->serve(1));
  EXPECT_EQ(second_.take_used().size(), 1U);
}

TEST_F(TransportMmioTest, AQueueThatTheDeviceCannotStartAsksForAReset) {
  device_->refuse_queues = true;
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  ASSERT_TRUE(guest_.ready_queue(0, first_.config()));
  guest_.driver_ok();
  EXPECT_EQ(guest_.status(), kAllOk | kStatusNeedsReset);
  device_->refuse_queues = false;
  expect_usable_after_reset();
}

// --- Interrupts, faults ---

TEST_F(TransportMmioTest, ABrokenQueueAsksForAReset) {
  start();
  first_.publish(9999);
  EXPECT_FALSE(device_->serve(0));
  EXPECT_EQ(guest_.status(), kAllOk | kStatusNeedsReset);
  EXPECT_EQ(guest_.read(kRegInterruptStatus), kInterruptConfigChange);
  EXPECT_EQ(line_.take(), 1);
  EXPECT_EQ(take_faults(), 1U);
  // The other one goes on until the driver resets.
  second_.chain().writable(4).submit();
  EXPECT_TRUE(device_->serve(1));
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, AQueueWhoseInterruptOthersRaiseAlwaysReadsAsUsed) {
  start();
  EXPECT_EQ(guest_.read(kRegInterruptStatus), 0U);
  EXPECT_EQ(device_->wiring(0).interrupt.fd(), line_.fd());
  EXPECT_EQ(guest_.read(kRegInterruptStatus), kInterruptUsedBuffer);
  guest_.write(kRegInterruptAck, 3);
  EXPECT_EQ(guest_.read(kRegInterruptStatus), kInterruptUsedBuffer);
  guest_.reset();
  EXPECT_EQ(guest_.read(kRegInterruptStatus), 0U);
}

TEST_F(TransportMmioTest, AMaskedInterruptStaysPending) {
  start();
  Interrupt& interrupt = device_->wiring(0).interrupt;
  interrupt.mask();
  interrupt.raise();
  EXPECT_TRUE(interrupt.pending());
  EXPECT_EQ(line_.take(), 0);
  interrupt.unmask();
  EXPECT_EQ(line_.take(), 1);
}

// --- Configuration ---

TEST_F(TransportMmioTest, ConfigurationIsReadInEveryWidth) {
  EXPECT_EQ(guest_.read_wide(kConfig, 1), 0x44U);
  EXPECT_EQ(guest_.read_wide(kConfig + 1, 1), 0x33U);
  EXPECT_EQ(guest_.read_wide(kConfig + 2, 2), 0x1122U);
  EXPECT_EQ(guest_.read_wide(kConfig, 4), 0x11223344U);
  EXPECT_EQ(guest_.read_wide(kConfig, 8), 0x11223344U);
  EXPECT_EQ(guest_.read_wide(kConfig + 8, 8), 0U);  // the last 4 are outside
  EXPECT_EQ(guest_.read_wide(kConfig + 0xff, 1), 0U);
  EXPECT_EQ(take_faults(), 0U);
}

TEST_F(TransportMmioTest, OnlyWritableConfigurationChanges) {
  guest_.write_wide(kConfig, 0xffffffff, 4);
  EXPECT_EQ(take_faults(), 1U);
  EXPECT_EQ(guest_.read_wide(kConfig, 4), 0x11223344U);
  guest_.write_wide(kConfig + 7, 0xaabbccdd, 4);  // bytes 8 and 9 of it are writable
  EXPECT_EQ(guest_.read_wide(kConfig + 4, 8), 0x0000'bbcc'0000'0000U);
  EXPECT_EQ(device_->take_config_writes(), (std::vector<std::pair<size_t, size_t>>{{7, 4}}));
  guest_.write_wide(kConfig + 12, 1, 1);
  guest_.write_wide(kConfig + 0xf8, 1, 8);
  EXPECT_EQ(take_faults(), 2U);
}

TEST_F(TransportMmioTest, AChangeOfTheDeviceShowsInGenerationAndInterrupt) {
  const uint32_t before = guest_.read(kRegConfigGeneration);
  device_->config().store(0, le32(7));
  device_->config().notify_driver();
  EXPECT_NE(guest_.read(kRegConfigGeneration), before);
  EXPECT_EQ(line_.take(), 0);  // no driver yet
  start();
  device_->config().store(0, le32(8));
  device_->config().notify_driver();
  EXPECT_EQ(line_.take(), 1);
  EXPECT_EQ(guest_.read(kRegInterruptStatus), kInterruptConfigChange);
  EXPECT_EQ(guest_.read(kConfig), 8U);
  const uint32_t now = guest_.read(kRegConfigGeneration);
  guest_.write_wide(kConfig + 8, 1, 1);
  EXPECT_EQ(guest_.read(kRegConfigGeneration), now);  // the driver's own change
}

TEST_F(TransportMmioTest, AReadDuringAChangeSeesOneGenerationOrTheNext) {
  std::atomic<bool> stop{false};
  const Thread changer = *Thread::start("changer", [&] {
    for (uint32_t i = 0; !stop; ++i) device_->config().store(0, le64(uint64_t{i} << 32 | i));
  });
  device_->config().store(0, le64(0));
  int whole = 0;
  for (int i = 0; i < 20000; ++i) {
    // §2.5.1: the driver repeats until the generation stands still.
    const uint32_t before = guest_.read(kRegConfigGeneration);
    const uint32_t low = guest_.read(kConfig);
    const uint32_t high = guest_.read(kConfig + 4);
    if (guest_.read(kRegConfigGeneration) != before) continue;
    ASSERT_EQ(low, high);
    ++whole;
  }
  stop = true;
  EXPECT_GT(whole, 0);
}

TEST_F(TransportMmioTest, SharedMemoryRegionsAreDescribed) {
  guest_.write(kRegShmSel, 1);
  EXPECT_EQ(guest_.read64(kRegShmBase), 0x123456789000U);
  EXPECT_EQ(guest_.read64(kRegShmLen), 0x200000000U);
  for (const uint32_t absent : {0U, 2U, 257U, 0xffffffffU}) {
    guest_.write(kRegShmSel, absent);
    EXPECT_EQ(guest_.read64(kRegShmLen), UINT64_MAX);
    EXPECT_EQ(guest_.read64(kRegShmBase), UINT64_MAX);
  }
}

// --- Widths ---

TEST_F(TransportMmioTest, RegistersOfOtherWidthsReadZeroAndIgnoreWrites) {
  start();
  for (const size_t bytes : {1, 2, 8}) {
    EXPECT_EQ(guest_.read_wide(0, bytes), 0U);
    EXPECT_EQ(guest_.read_wide(kRegStatus, bytes), 0U);
    guest_.write_wide(kRegStatus, 0, bytes);
    EXPECT_EQ(guest_.status(), kAllOk);
    EXPECT_EQ(take_faults(), 3U);
  }
  for (const uint64_t offset : {kRegStatus + 1, kRegStatus + 2, kRegStatus + 3}) {
    EXPECT_EQ(guest_.read_wide(offset, 4), 0U);
    guest_.write_wide(offset, 0, 4);
    EXPECT_EQ(take_faults(), 2U);
  }
  for (const size_t bytes : {3, 5, 7}) {
    EXPECT_EQ(guest_.read_wide(kConfig, bytes), 0U);
    guest_.write_wide(kConfig + 8, 0xff, bytes);
    EXPECT_EQ(take_faults(), 2U);
  }
  EXPECT_EQ(guest_.status(), kAllOk);
}

TEST_F(TransportMmioTest, NoOffsetOfTheWindowDoesHarm) {
  start();
  for (uint64_t offset = 0; offset < TransportMmio::kWindowBytes; ++offset) {
    for (const size_t bytes : {1, 2, 4, 8}) {
      if (offset + bytes > TransportMmio::kWindowBytes) continue;
      guest_.read_wide(offset, bytes);
      guest_.write_wide(offset, ~uint64_t{0}, bytes);
    }
  }
  expect_usable_after_reset();
}

// --- Reset ---

TEST_F(TransportMmioTest, AResetTakesEverythingBack) {
  start();
  first_.chain().writable(4).submit();
  ASSERT_TRUE(device_->hold(0));  // a request in flight
  guest_.reset();
  EXPECT_EQ(guest_.status(), 0U);
  EXPECT_EQ(device_->running_queues(), 0U);
  guest_.write(kRegQueueSel, 0);
  EXPECT_EQ(guest_.read(kRegQueueReady), 0U);
  EXPECT_EQ(guest_.read(kRegInterruptStatus), 0U);
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, TenThousandResetsWithRequestsInFlight) {
  for (int i = 0; i < 10000; ++i) {
    start();
    first_.chain().writable(4).submit();
    ASSERT_TRUE(device_->hold(0));
    guest_.reset();
    first_.reset();
    second_.reset();
  }
  EXPECT_EQ(take_faults(), 0U);
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, AResetReturnsOnlyWhenTheWorkersAreQuiet) {
  start();
  device_->hold_answers();
  std::atomic<bool> returned{false};
  {
    const Thread vcpu = *Thread::start("vcpu", [&] {
      guest_.reset();
      returned = true;
    });
    while (device_->waiting_answers() == 0) ::sched_yield();
    EXPECT_FALSE(returned);
    EXPECT_EQ(guest_.status(), kAllOk);  // registers answer meanwhile
    device_->release_answers();
  }
  EXPECT_TRUE(returned);
  EXPECT_EQ(guest_.status(), 0U);
}

TEST_F(TransportMmioTest, TwoVcpusThatResetAtOnceBothReturn) {
  start();
  device_->hold_answers();
  {
    const Thread one = *Thread::start("vcpu0", [&] { guest_.reset(); });
    const Thread two = *Thread::start("vcpu1", [&] { guest_.reset(); });
    while (device_->waiting_answers() == 0) ::sched_yield();
    device_->release_answers();
  }
  EXPECT_EQ(device_->resets, 1);
  expect_usable_after_reset();
}

TEST_F(TransportMmioTest, AMachineResetIsAsynchronous) {
  start();
  device_->hold_answers();
  bool done = false;
  transport_->reset([&done] { done = true; });
  EXPECT_FALSE(done);
  device_->release_answers();
  EXPECT_TRUE(done);
  EXPECT_EQ(guest_.status(), 0U);
}

// --- Slots ---

TEST_F(TransportMmioTest, AnEmptySlotHasNoDeviceUntilOneComes) {
  transport_ = make(std::nullopt);
  MmioGuest guest(*transport_);
  EXPECT_EQ(guest.read(0), 0x74726976U);
  EXPECT_EQ(guest.read(kRegDeviceId), 0U);
  for (uint64_t offset = 0; offset < TransportMmio::kWindowBytes; offset += 4) {
    guest.write(offset, 1);
    if (offset > 0x0c) {
      EXPECT_EQ(guest.read(offset), 0U) << offset;
    }
  }
  line_.take();
  ASSERT_TRUE(transport_->attach(plug()).has_value());
  EXPECT_EQ(guest.read(kRegDeviceId), 4U);
  EXPECT_EQ(line_.take(), 1);
  EXPECT_EQ(guest.read(kRegInterruptStatus), kInterruptConfigChange);
  EXPECT_TRUE(guest.negotiate(kFeatures));
  EXPECT_TRUE(guest.ready_queue(0, first_.config()));
}

TEST_F(TransportMmioTest, AnOccupiedSlotTakesNoSecondDevice) {
  FakeVirtioDevice* present = device_;
  EXPECT_EQ(transport_->attach(plug()).error().code(), ErrorCode::Exists);
  device_ = present;
  EXPECT_EQ(guest_.read(kRegDeviceId), 4U);
}

TEST_F(TransportMmioTest, ADeviceWithTooManyQueuesIsRefused) {
  transport_ = make(std::nullopt);
  EXPECT_EQ(transport_->attach(plug({8, 8, 8})).error().code(), ErrorCode::Unsupported);
}

// A slot with nothing in it yet: the device is there, its queues are not served.
TEST_F(TransportMmioTest, AnEmptyDeviceComesAliveUnderItsDriver) {
  const auto empty = [&] {
    return TransportMmio::Plug{
        .device = std::make_unique<EmptyDevice>(EmptyDevice::Args{.type = DeviceType::Entropy,
                                                                  .features = kRingFeatures,
                                                                  .queue_sizes = {64, 64},
                                                                  .config = std::vector<std::byte>(12)}),
        .loops = {loop_.get()}};
  };
  transport_ = make(empty());
  MmioGuest guest(*transport_);
  EXPECT_EQ(guest.read(kRegDeviceId), static_cast<uint32_t>(DeviceType::Entropy));
  ASSERT_TRUE(guest.negotiate(kFeatureVersion1));
  ASSERT_TRUE(guest.ready_queue(0, first_.config()));
  guest.driver_ok();
  EXPECT_EQ(guest.read(kConfig), 0U);
  first_.chain().writable(4).submit();
  guest.write(kRegQueueNotify, 0);
  const uint32_t generation = guest.read(kRegConfigGeneration);
  line_.take();

  std::unique_ptr<Device> old;
  transport_->replace(plug(), [&old](Result<std::unique_ptr<Device>> out) { old = *std::move(out); });
  EXPECT_NE(dynamic_cast<EmptyDevice*>(old.get()), nullptr);
  EXPECT_EQ(guest.read(kRegInterruptStatus), kInterruptConfigChange);
  EXPECT_EQ(line_.take(), 1);
  EXPECT_NE(guest.read(kRegConfigGeneration), generation);
  EXPECT_EQ(guest.read(kConfig), 0x11223344U);
  EXPECT_EQ(guest.status(), kAllOk);
  EXPECT_EQ(device_->started_features(), kFeatureVersion1);
  EXPECT_TRUE(device_->serve(0));  // the request that was there before
  EXPECT_EQ(first_.take_used().size(), 1U);

  // And empty again.
  std::unique_ptr<Device> out;
  transport_->replace(empty(), [&out](Result<std::unique_ptr<Device>> taken) { out = *std::move(taken); });
  EXPECT_EQ(out.get(), device_);
  EXPECT_FALSE(device_->started_features().has_value());
  EXPECT_EQ(guest.read(kConfig), 0U);
  EXPECT_EQ(guest.status(), kAllOk);
  EXPECT_EQ(take_faults(), 0U);
}

TEST_F(TransportMmioTest, ADeviceThatTheDriverCouldNotUseDoesNotReplaceAnother) {
  ASSERT_TRUE(guest_.negotiate(kFeatures | kFeatureEventIdx));
  ASSERT_TRUE(guest_.ready_queue(0, first_.config()));
  guest_.driver_ok();
  const auto refused = [&](TransportMmio::Plug other) {
    bool was_refused = false;
    transport_->replace(std::move(other),
                        [&](const Result<std::unique_ptr<Device>>& out) { was_refused = !out.has_value(); });
    return was_refused;
  };
  FakeVirtioDevice* const there = device_;
  EXPECT_TRUE(refused(plug({64})));
  EXPECT_TRUE(refused(plug({8, 64})));
  EXPECT_TRUE(refused(plug({64, 64}, kFeatureIndirect)));
  TransportMmio::Plug other_type{
      .device = std::make_unique<EmptyDevice>(EmptyDevice::Args{
          .type = DeviceType::Block, .features = ~uint64_t{0}, .queue_sizes = {64, 64}, .config = {}}),
      .loops = {loop_.get()}};
  EXPECT_TRUE(refused(std::move(other_type)));
  EXPECT_TRUE(there->running(0));
  EXPECT_EQ(line_.take(), 0);
}

TEST_F(TransportMmioTest, ADeviceReplacedDuringAPauseBeginsWithTheResume) {
  start();
  first_.chain().writable(4).submit();
  transport_->pause([] {});
  transport_->replace(plug(), [](const Result<std::unique_ptr<Device>>& out) { EXPECT_TRUE(out.has_value()); });
  EXPECT_EQ(device_->running_queues(), 0U);
  transport_->resume();
  EXPECT_EQ(device_->running_queues(), 2U);
  EXPECT_TRUE(device_->serve(0));
  EXPECT_EQ(first_.take_used().size(), 1U);
}

TEST_F(TransportMmioTest, ASlotThatNoDriverUsesIsReplacedQuietly) {
  transport_->replace(plug(), [](const Result<std::unique_ptr<Device>>& out) { EXPECT_TRUE(out.has_value()); });
  EXPECT_EQ(line_.take(), 0);
  start();
}

TEST_F(TransportMmioTest, ADetachedDeviceIsQuietAndTheSlotEmpty) {
  start();
  std::unique_ptr<Device> back;
  transport_->detach([&back](std::unique_ptr<Device> device) { back = std::move(device); });
  EXPECT_EQ(back.get(), device_);
  EXPECT_EQ(device_->running_queues(), 0U);
  EXPECT_EQ(guest_.read(kRegDeviceId), 0U);
  EXPECT_EQ(guest_.status(), 0U);
  back->config().notify_driver();  // nobody hears it
  guest_.write(kRegQueueNotify, 0);
  ASSERT_TRUE(transport_->attach(plug()).has_value());
  expect_usable_after_reset();
}

// --- Pause, save, restore ---

TEST_F(TransportMmioTest, APauseTakesTheQueuesAndAResumeGivesThemBack) {
  start();
  first_.chain().writable(4).submit();
  ASSERT_TRUE(device_->hold(0));
  bool paused = false;
  transport_->pause([&paused] { paused = true; });
  EXPECT_TRUE(paused);
  EXPECT_TRUE(device_->paused);
  EXPECT_EQ(device_->running_queues(), 0U);

  transport_->resume();
  EXPECT_FALSE(device_->paused);
  EXPECT_TRUE(device_->serve(0));  // the request in flight is there again
  EXPECT_EQ(first_.take_used().size(), 1U);
  EXPECT_EQ(guest_.status(), kAllOk);
}

TEST_F(TransportMmioTest, AQueueThatIsReadyBeforeDriverOkWaitsAlsoAfterAPause) {
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  ASSERT_TRUE(guest_.ready_queue(0, first_.config()));
  transport_->pause([] {});
  transport_->resume();
  EXPECT_FALSE(device_->running(0));
  guest_.driver_ok();
  EXPECT_TRUE(device_->running(0));
}

TEST_F(TransportMmioTest, APauseWaitsForTheDeviceWithoutAThread) {
  start();
  device_->hold_answers();
  bool paused = false;
  transport_->pause([&paused] { paused = true; });
  EXPECT_FALSE(paused);
  device_->release_answers();
  EXPECT_TRUE(paused);
}

TEST_F(TransportMmioTest, ARestoredTransportGoesOnInTheMiddleOfARequest) {
  start();
  for (int i = 0; i < 3; ++i) first_.chain().writable(4).submit();
  ASSERT_TRUE(device_->hold(0));
  device_->config().store(0, le32(5));
  transport_->pause([] {});
  const TransportMmioState saved = transport_->state();
  const std::vector<std::byte> bytes = *transport_->save();
  EXPECT_EQ(state::from_bytes<TransportMmioState>(bytes)->device, (std::vector<std::byte>{std::byte{0xd0}}));
  strato::testing::check_state(*state::from_bytes<TransportMmioState>(bytes));

  transport_ = make(plug(), *state::from_bytes<TransportMmioState>(bytes));
  MmioGuest guest(*transport_);
  EXPECT_EQ(transport_->state(), saved);
  EXPECT_EQ(device_->running_queues(), 0U);
  transport_->resume();
  EXPECT_EQ(device_->started_features(), kFeatures);
  EXPECT_EQ(guest.status(), kAllOk);
  EXPECT_TRUE(device_->serve(0));
  EXPECT_EQ(first_.take_used().size(), 3U);
}

TEST_F(TransportMmioTest, AnInterruptThatWasUnderWayComesAfterTheRestore) {
  start();
  first_.chain().writable(4).submit();
  EXPECT_TRUE(device_->serve(0));
  transport_->pause([] {});
  const TransportMmioState saved = transport_->state();
  line_.take();
  transport_ = make(plug(), saved);
  EXPECT_EQ(line_.take(), 0);
  transport_->resume();
  EXPECT_EQ(line_.take(), 1);
}

TEST_F(TransportMmioTest, ABrokenQueueStaysBrokenOverARestore) {
  start();
  first_.publish(9999);
  EXPECT_FALSE(device_->serve(0));
  transport_->pause([] {});
  const TransportMmioState saved = transport_->state();
  transport_ = make(plug(), saved);
  EXPECT_EQ(transport_->state(), saved);
  transport_->resume();
  MmioGuest guest(*transport_);
  EXPECT_EQ(guest.status(), kAllOk | kStatusNeedsReset);
  EXPECT_FALSE(device_->running(0));
  EXPECT_TRUE(device_->running(1));
  guest.reset();
  EXPECT_EQ(guest.status(), 0U);
}

TEST_F(TransportMmioTest, EveryStageOfNegotiationIsSavedAndRestored) {
  const auto round_trip = [this] {
    transport_->pause([] {});
    const TransportMmioState saved = transport_->state();
    transport_->resume();
    FakeVirtioDevice* present = device_;
    std::unique_ptr<TransportMmio> other = make(plug(), saved);
    device_ = present;
    EXPECT_EQ(other->state(), saved);
  };
  round_trip();
  guest_.write(kRegStatus, kStatusAcknowledge);
  guest_.write(kRegQueueSel, 1);
  guest_.write(kRegShmSel, 1);
  guest_.write(kRegDriverFeaturesSel, 1);
  guest_.write(kRegDeviceFeaturesSel, 1);
  round_trip();
  ASSERT_TRUE(guest_.negotiate(kFeatures));
  round_trip();
  guest_.set_queue(0, first_.config());
  round_trip();
  guest_.write(kRegQueueReady, 1);
  round_trip();
  guest_.driver_ok();
  round_trip();
}

TEST_F(TransportMmioTest, ImpossibleStateIsRefused) {
  start();
  transport_->pause([] {});
  const TransportMmioState good = transport_->state();
  const auto refused = [&](auto&& change) {
    TransportMmioState bad = good;
    change(bad);
    const auto made = TransportMmio::create(args(), plug(), bad);
    return !made.has_value();
  };
  EXPECT_FALSE(refused([](TransportMmioState&) {}));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.device_type = 2; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.status = kStatusDriverOk; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.status |= 16; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.status |= 0x100; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.status = kStatusAcknowledge; }));  // with ready queues
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.interrupt_status = 4; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.driver_features |= uint64_t{1} << 50; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.driver_features &= ~kFeatureVersion1; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.driver_features |= kFeaturePacked; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.queues.pop_back(); }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.queues.emplace_back(); }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.queues[0].config.size = 128; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.queues[0].config.desc = uint64_t{1} << 60; }));
  EXPECT_TRUE(refused([](TransportMmioState& s) { s.queues[0].progress.next_avail += 1; }));
  EXPECT_FALSE(TransportMmio::create(args(), std::nullopt, good).has_value());
}

// --- Vectors ---

TEST(QueueWiringTest, QueuesStartAndStopOneByOneOnVectorsOfTheirOwn) {
  // What a PCI transport will do: the device sees only Interrupt, Doorbell and loop.
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram;
  strato::testing::FakeVectors vectors(3);
  std::array<FakeDoorbell, 3> doorbells;
  FakeVirtioDevice device({8, 8, 8});
  device.start(kFeatures);
  std::vector<FakeDriver> drivers;
  for (uint64_t i = 0; i < 3; ++i) {
    drivers.emplace_back(ram, FakeDriver::Options{.size = 8, .base = 0x10000 * (i + 1), .limit = 0x10000 * (i + 2)});
    Queue queue = *Queue::create(ram.memory(), drivers[i].config());
    ASSERT_TRUE(device.start_queue(i, {std::move(queue), vectors[i], doorbells[i], *loop}).has_value());
  }
  for (FakeDriver& driver : drivers) driver.chain().writable(1).submit();
  vectors[1].mask();
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(device.serve(i));
  EXPECT_EQ(vectors[0].take(), 1);
  EXPECT_EQ(vectors[1].take(), 0);
  EXPECT_TRUE(vectors[1].pending());
  EXPECT_EQ(vectors[2].take(), 1);
  vectors[1].unmask();
  EXPECT_EQ(vectors[1].take(), 1);

  std::optional<Queue> back;
  device.stop_queue(1, [&back](Queue queue) { back = std::move(queue); });
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->progress().next_used, 1);
  EXPECT_TRUE(device.running(0));
  ASSERT_TRUE(device.start_queue(1, {*std::move(back), vectors[1], doorbells[1], *loop}).has_value());
  drivers[1].chain().writable(1).submit();
  EXPECT_TRUE(device.serve(1));
  EXPECT_EQ(drivers[1].take_used().size(), 2U);
}

}  // namespace
}  // namespace strato::virtio
