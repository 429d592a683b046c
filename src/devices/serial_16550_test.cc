#include "devices/serial_16550.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "base/thread.h"
#include "state/format.h"
#include "testing/fake_chardev.h"
#include "testing/fake_irq_line.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

// Register offsets and bits as in the data sheet, on purpose not taken from the code under test.
constexpr uint64_t kData = 0;
constexpr uint64_t kIer = 1;
constexpr uint64_t kIir = 2;
constexpr uint64_t kFcr = 2;
constexpr uint64_t kLcr = 3;
constexpr uint64_t kMcr = 4;
constexpr uint64_t kLsr = 5;
constexpr uint64_t kMsr = 6;
constexpr uint64_t kScr = 7;

class Serial16550Test : public ::testing::Test {
 protected:
  std::unique_ptr<Serial16550> make(std::optional<Serial16550State> state = std::nullopt) {
    auto made = Serial16550::create({.name = "serial0", .chardev = chardev, .irq = irq}, std::move(state));
    EXPECT_TRUE(made);
    return *std::move(made);
  }
  uint8_t in(uint64_t offset) {
    std::array<std::byte, 1> out{};
    serial->read(offset, out);
    return std::to_integer<uint8_t>(out[0]);
  }
  void out(uint64_t offset, uint8_t value) {
    const std::array data{std::byte{value}};
    serial->write(offset, data);
  }

  FakeChardev chardev;
  FakeIrqLine irq;
  std::unique_ptr<Serial16550> serial = make();
};

TEST_F(Serial16550Test, RegistersAfterPowerOn) {
  EXPECT_EQ(in(kData), 0x00);
  EXPECT_EQ(in(kIer), 0x00);
  EXPECT_EQ(in(kIir), 0x01);
  EXPECT_EQ(in(kLcr), 0x00);
  EXPECT_EQ(in(kMcr), 0x00);
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kMsr), 0xb0);
  EXPECT_EQ(in(kScr), 0x00);
  EXPECT_EQ(irq.take_pulses(), 0);
}

TEST_F(Serial16550Test, WrittenBytesComeOutInOrderAndTheTransmitterIsAlwaysReady) {
  for (const char c : std::string("boot")) out(kData, static_cast<uint8_t>(c));
  EXPECT_EQ(chardev.output, "boot");
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(irq.take_pulses(), 0);  // no interrupt was enabled
}

TEST_F(Serial16550Test, DivisorLatchHidesDataAndInterruptEnable) {
  out(kIer, 0x05);
  out(kLcr, 0x83);
  EXPECT_EQ(in(kData), 12);
  EXPECT_EQ(in(kIer), 0);
  out(kData, 0x01);
  out(kIer, 0x02);
  EXPECT_EQ(in(kData), 0x01);
  EXPECT_EQ(in(kIer), 0x02);
  EXPECT_EQ(chardev.output, "");
  out(kLcr, 0x03);
  EXPECT_EQ(in(kIer), 0x05);
  EXPECT_EQ(serial->state().divisor, 0x0201);
}

TEST_F(Serial16550Test, ScratchKeepsWhatIsWrittenAndIerItsLowHalf) {
  out(kScr, 0xa5);
  out(kIer, 0xff);
  EXPECT_EQ(in(kScr), 0xa5);
  EXPECT_EQ(in(kIer), 0x0f);
}

TEST_F(Serial16550Test, EnablingTheTransmitterInterruptRaisesItAtOnceAndReadingIirTakesItBack) {
  out(kIer, 0x02);
  EXPECT_EQ(irq.take_pulses(), 1);
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x01);
  // Linux's test for a working THRE interrupt: off, on, and it must be there again.
  out(kIer, 0x00);
  out(kIer, 0x02);
  EXPECT_EQ(irq.take_pulses(), 1);
  EXPECT_EQ(in(kIir), 0x02);
}

TEST_F(Serial16550Test, EachWrittenByteIsAnEdgeWhenTheTransmitterInterruptIsOn) {
  out(kIer, 0x02);
  in(kIir);
  irq.take_pulses();
  out(kData, 'a');
  out(kData, 'b');
  EXPECT_EQ(irq.take_pulses(), 2);
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(Serial16550Test, WithoutFifoOneByteIsTakenAndTheRestWaitsAtTheChardev) {
  out(kIer, 0x01);
  EXPECT_EQ(chardev.type("xyz"), 1U);
  EXPECT_EQ(irq.take_pulses(), 1);
  EXPECT_EQ(in(kIir), 0x04);
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(chardev.type("yz"), 0U);
  EXPECT_EQ(chardev.resumes, 0);
  EXPECT_EQ(in(kData), 'x');
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kIir), 0x01);
  EXPECT_EQ(chardev.type("yz"), 1U);
}

TEST_F(Serial16550Test, FifoTakesSixteenAndAsksForMoreOnceWhenHalfIsRead) {
  out(kFcr, 0x01);
  EXPECT_EQ(chardev.type("0123456789abcdefgh"), 16U);
  EXPECT_EQ(chardev.type("gh"), 0U);
  for (const char c : std::string("0123456")) EXPECT_EQ(in(kData), c);
  EXPECT_EQ(chardev.resumes, 0);
  EXPECT_EQ(in(kData), '7');
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(in(kData), '8');
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("gh"), 2U);
  for (const char c : std::string("9abcdefgh")) EXPECT_EQ(in(kData), c);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Serial16550Test, IirSaysTriggerLevelOrTimeout) {
  out(kIer, 0x01);
  out(kFcr, 0x81);  // level 8
  chardev.type("1234567");
  EXPECT_EQ(in(kIir), 0xcc);
  chardev.type("8");
  EXPECT_EQ(in(kIir), 0xc4);
  in(kData);
  EXPECT_EQ(in(kIir), 0xcc);
}

TEST_F(Serial16550Test, InterruptsArePresentedByPriority) {
  out(kIer, 0x0f);
  out(kMcr, 0x10);  // loopback: three input lines fall
  out(kData, 'a');
  out(kData, 'b');  // overrun, there is no FIFO
  EXPECT_EQ(in(kIir), 0x06);
  EXPECT_EQ(in(kLsr), 0x63);
  EXPECT_EQ(in(kIir), 0x04);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x00);
  EXPECT_EQ(in(kMsr), 0x0b);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(Serial16550Test, ReceivedByteIsPresentedBeforeTheTransmitterAndDoesNotEatItsInterrupt) {
  out(kIer, 0x03);
  chardev.type("k");
  EXPECT_EQ(in(kIir), 0x04);
  in(kData);
  EXPECT_EQ(in(kIir), 0x02);
}

TEST_F(Serial16550Test, EveryArrivalPulsesSoThatALostEdgeHeals) {
  out(kIer, 0x01);
  out(kFcr, 0x01);
  chardev.type("a");
  chardev.type("b");
  EXPECT_EQ(irq.take_pulses(), 2);
}

TEST_F(Serial16550Test, EnablingTheReceiveInterruptWithDataWaitingPulses) {
  chardev.type("a");
  EXPECT_EQ(irq.take_pulses(), 0);
  out(kIer, 0x01);
  EXPECT_EQ(irq.take_pulses(), 1);
}

TEST_F(Serial16550Test, LinuxLoopbackProbeSeesItsOutputsAsInputs) {
  out(kMcr, 0x1a);
  EXPECT_EQ(in(kMsr) & 0xf0, 0x90);
  out(kMcr, 0x15);
  EXPECT_EQ(in(kMsr) & 0xf0, 0x60);
}

TEST_F(Serial16550Test, LoopbackSendsNothingOutAndLetsNothingIn) {
  out(kFcr, 0x01);
  out(kMcr, 0x10);
  for (int i = 0; i < 17; ++i) out(kData, static_cast<uint8_t>(i));
  EXPECT_EQ(chardev.output, "");
  EXPECT_EQ(chardev.type("key"), 0U);
  EXPECT_EQ(in(kLsr), 0x63);  // the seventeenth was one too many
  for (int i = 0; i < 16; ++i) EXPECT_EQ(in(kData), i);
  EXPECT_EQ(chardev.resumes, 0);
  out(kMcr, 0x00);
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("key"), 3U);
}

TEST_F(Serial16550Test, ModemDeltasStayUntilRead) {
  out(kMcr, 0x10);
  EXPECT_EQ(in(kMsr), 0x0b);
  EXPECT_EQ(in(kMsr), 0x00);
  out(kMcr, 0x14);  // ring begins: no delta
  EXPECT_EQ(in(kMsr), 0x40);
  out(kMcr, 0x10);  // ring ends
  EXPECT_EQ(in(kMsr), 0x04);
}

TEST_F(Serial16550Test, FifoControlClearsTheReceiverByCommandAndByChange) {
  out(kFcr, 0x01);
  chardev.type("abc");
  out(kFcr, 0x03);
  EXPECT_EQ(in(kLsr), 0x60);
  chardev.type("abc");
  out(kFcr, 0xc0);  // enable bit clear: FIFO off, the rest of the value means nothing
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(Serial16550Test, ClearingAFullFifoLetsInputGoOn) {
  out(kFcr, 0x01);
  chardev.type("0123456789abcdef");
  EXPECT_EQ(chardev.type("g"), 0U);
  out(kFcr, 0x03);
  EXPECT_EQ(chardev.resumes, 1);
}

TEST_F(Serial16550Test, OtherWidthsReadOnesAndWriteNothing) {
  std::array<std::byte, 2> word{};
  serial->read(kLsr, word);
  EXPECT_THAT(word, ::testing::Each(std::byte{0xff}));
  serial->write(kData, word);
  EXPECT_EQ(chardev.output, "");
}

TEST_F(Serial16550Test, OutputThatFindsNoRoomIsLostAndCounted) {
  chardev.room = 2;
  for (const char c : std::string("abcd")) out(kData, static_cast<uint8_t>(c));
  EXPECT_EQ(chardev.output, "ab");
  EXPECT_EQ(chardev.dropped_bytes(), 2U);
  EXPECT_EQ(in(kLsr), 0x60);  // the guest need not know
}

TEST_F(Serial16550Test, ResetIsPowerOn) {
  out(kIer, 0x0f);
  out(kFcr, 0xc1);
  out(kScr, 0x55);
  chardev.type("0123456789abcdef");
  EXPECT_EQ(chardev.type("g"), 0U);
  bool done = false;
  serial->reset([&done] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_EQ(serial->state(), Serial16550State{});
  EXPECT_EQ(chardev.resumes, 1);
}

TEST_F(Serial16550Test, PausedPortTakesNoInputAndAsksForItAfterwards) {
  serial->pause([] {});
  EXPECT_EQ(chardev.type("a"), 0U);
  serial->resume();
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("a"), 1U);
}

// --- state ---

Serial16550State full_state() {
  return {.ier = 0x05,
          .fcr = 0x81,
          .lcr = 0x13,
          .mcr = 0x0b,
          .scr = 0x42,
          .divisor = 1,
          .lsr_errors = 0x02,
          .msr_deltas = 0x0b,
          .thre_pending = 1,
          .rx = {'a', 'b', 'c'}};
}

TEST(Serial16550StateTest, KeepsTheRulesOfSavedState) {
  testing::check_state(full_state());
}

TEST_F(Serial16550Test, SaveAndRestoreGiveTheSameState) {
  serial = make(full_state());
  const auto saved = serial->save();
  ASSERT_TRUE(saved);
  const auto read_back = state::from_bytes<Serial16550State>(*saved);
  ASSERT_TRUE(read_back);
  EXPECT_EQ(*read_back, full_state());
  EXPECT_EQ(in(kData), 'a');
}

TEST_F(Serial16550Test, SavedInTheMiddleOfATransmissionItGoesOnAfterTheRestore) {
  // A guest that sends by interrupt has written a byte and waits for the edge; the edge went to a machine that is gone.
  out(kIer, 0x02);
  in(kIir);
  out(kData, 'a');
  serial->pause([] {});
  const Serial16550State saved = serial->state();
  irq.take_pulses();

  serial = make(saved);
  serial->resume();

  EXPECT_EQ(irq.take_pulses(), 1);
  EXPECT_EQ(in(kIir), 0x02);
  out(kData, 'b');
  EXPECT_EQ(irq.take_pulses(), 1);
  EXPECT_EQ(chardev.output, "ab");
}

TEST_F(Serial16550Test, RestoredPortWithNothingPendingStaysSilent) {
  serial = make(Serial16550State{.ier = 0x0f});
  serial->resume();
  EXPECT_EQ(irq.take_pulses(), 0);
}

TEST_F(Serial16550Test, ImpossibleStateIsRefused) {
  const Serial16550::Args args{.name = "serial0", .chardev = chardev, .irq = irq};
  const std::vector<Serial16550State> impossible = {
      {.ier = 0x10},        {.fcr = 0x02},        {.mcr = 0x20},          {.lsr_errors = 0x01},
      {.lsr_errors = 0x80}, {.msr_deltas = 0x10}, {.thre_pending = 0x02}, {.rx = std::vector<uint8_t>(17)},
  };
  for (const Serial16550State& state : impossible) {
    EXPECT_FALSE(Serial16550::create(args, state)) << state::to_bytes(state).size();
  }
}

TEST_F(Serial16550Test, DetachesFromItsChardevWhenItGoes) {
  serial.reset();
  EXPECT_EQ(chardev.handler, nullptr);
}

TEST_F(Serial16550Test, RegistersAreSafeFromSeveralThreads) {
  chardev.room = 0;
  const auto hammer = [this](uint64_t offset) {
    for (int i = 0; i < 5000; ++i) {
      std::array<std::byte, 1> byte{std::byte{static_cast<uint8_t>(i)}};
      if (offset != kData) serial->write(offset, byte);  // FakeChardev is for one thread
      serial->read(i % 8, byte);
    }
  };
  {
    const Thread a = *Thread::start("a", [&] { hammer(kIer); });
    const Thread b = *Thread::start("b", [&] { hammer(kMcr); });
    const Thread c = *Thread::start("c", [&] { hammer(kFcr); });
  }
  EXPECT_LE(serial->state().rx.size(), 16U);
}

}  // namespace
}  // namespace strato
