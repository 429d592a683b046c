#include "devices/pl011.h"

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

// Register offsets and bits as in the manual, on purpose not taken from the code under test.
constexpr uint64_t kDr = 0x00;
constexpr uint64_t kRsr = 0x04;
constexpr uint64_t kFr = 0x18;
constexpr uint64_t kIlpr = 0x20;
constexpr uint64_t kIbrd = 0x24;
constexpr uint64_t kFbrd = 0x28;
constexpr uint64_t kLcrH = 0x2c;
constexpr uint64_t kCr = 0x30;
constexpr uint64_t kIfls = 0x34;
constexpr uint64_t kImsc = 0x38;
constexpr uint64_t kRis = 0x3c;
constexpr uint64_t kMis = 0x40;
constexpr uint64_t kIcr = 0x44;
constexpr uint64_t kDmacr = 0x48;

class Pl011Test : public ::testing::Test {
 protected:
  std::unique_ptr<Pl011> make(std::optional<Pl011State> state = std::nullopt) {
    auto made = Pl011::create({.name = "serial0", .chardev = chardev, .irq = irq}, std::move(state));
    EXPECT_TRUE(made);
    return *std::move(made);
  }
  uint32_t in(uint64_t offset, size_t bytes = 4) {
    std::array<std::byte, 8> data;
    data.fill(std::byte{0xee});
    serial->read(offset, std::span(data).first(bytes));
    return static_cast<uint32_t>(to_register_value(std::span(data).first(bytes)));
  }
  void out(uint64_t offset, uint64_t value, size_t bytes = 4) {
    std::array<std::byte, 8> data{};
    from_register_value(value, data);
    serial->write(offset, std::span(data).first(bytes));
  }
  // As Linux opens the port: FIFOs on, levels at a half, receiver and transmitter on, receive interrupts.
  void open() {
    out(kLcrH, 0x70);
    out(kCr, 0x301);
    out(kImsc, 0x050);
  }

  FakeChardev chardev;
  FakeIrqLine irq;
  std::unique_ptr<Pl011> serial = make();
};

TEST_F(Pl011Test, RegistersAfterReset) {
  EXPECT_EQ(in(kDr), 0x000U);
  EXPECT_EQ(in(kRsr), 0x00U);
  EXPECT_EQ(in(kFr), 0x097U);
  EXPECT_EQ(in(kIlpr), 0x00U);
  EXPECT_EQ(in(kIbrd), 0x0000U);
  EXPECT_EQ(in(kFbrd), 0x00U);
  EXPECT_EQ(in(kLcrH), 0x00U);
  EXPECT_EQ(in(kCr), 0x0300U);
  EXPECT_EQ(in(kIfls), 0x12U);
  EXPECT_EQ(in(kImsc), 0x000U);
  EXPECT_EQ(in(kRis), 0x000U);
  EXPECT_EQ(in(kMis), 0x000U);
  EXPECT_EQ(in(kIcr), 0x000U);
  EXPECT_EQ(in(kDmacr), 0x00U);
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl011Test, IdentityIsThatOfAPl011WithASixteenByteFifo) {
  const std::array<uint32_t, 8> wanted{0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(in(0xfe0 + 4 * i), wanted[i]) << i;
  EXPECT_EQ(in(0xff0, 1), 0x0dU);
  out(0xfe0, 0x55);
  EXPECT_EQ(in(0xfe0), 0x11U);
}

TEST_F(Pl011Test, EarlyConsoleWritesWithoutSettingAnythingUp) {
  for (const char c : std::string("boot")) {
    EXPECT_EQ(in(kFr) & 0x28, 0U);  // neither full nor busy
    out(kDr, static_cast<uint8_t>(c), 1);
  }
  EXPECT_EQ(chardev.output, "boot");
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl011Test, StoresWhatHasNoEffectAndNoMoreBitsThanThereAre) {
  out(kIlpr, 0xffff'ffff);
  out(kIbrd, 0xffff'ffff);
  out(kFbrd, 0xffff'ffff);
  out(kCr, 0xffff'ffff);
  out(kIfls, 0xffff'ffff);
  out(kImsc, 0xffff'ffff);
  out(kDmacr, 0xffff'ffff);
  EXPECT_EQ(in(kIlpr), 0xffU);
  EXPECT_EQ(in(kIbrd), 0xffffU);
  EXPECT_EQ(in(kFbrd), 0x3fU);
  EXPECT_EQ(in(kCr), 0xff87U);
  EXPECT_EQ(in(kIfls), 0x3fU);
  EXPECT_EQ(in(kImsc), 0x7ffU);
  EXPECT_EQ(in(kDmacr), 0x07U);
}

TEST_F(Pl011Test, ReadOnlyRegistersKeepTheirValue) {
  for (const uint64_t offset : {kFr, kRis, kMis}) out(offset, 0xffff'ffff);
  EXPECT_EQ(in(kFr), 0x097U);
  EXPECT_EQ(in(kRis), 0U);
  EXPECT_EQ(serial->state(), Pl011State{});
}

TEST_F(Pl011Test, AccessesOfOneTwoAndFourBytes) {
  out(kIbrd, 0x1234, 2);
  EXPECT_EQ(in(kIbrd, 4), 0x1234U);
  EXPECT_EQ(in(kIbrd, 2), 0x1234U);
  EXPECT_EQ(in(kIbrd, 1), 0x34U);
  out(kIbrd, 0xff56, 1);
  EXPECT_EQ(in(kIbrd), 0x0056U);
}

TEST_F(Pl011Test, OddOffsetsAndWidthsReadZerosAndWriteNothing) {
  const Pl011State before = serial->state();
  for (const auto& [offset, bytes] :
       {std::pair<uint64_t, size_t>{kDr, 8}, {kDr, 3}, {kDr + 1, 1}, {kDr + 2, 2}, {kCr + 2, 4}, {0xfe1, 1}}) {
    EXPECT_EQ(in(offset, bytes), 0U) << offset;
    out(offset, 0xffff'ffff'ffff'ffff, bytes);
  }
  for (const uint64_t reserved : {0x08, 0x14, 0x1c, 0x4c, 0x80, 0x8c, 0xfdc}) {
    EXPECT_EQ(in(reserved), 0U) << reserved;
    out(reserved, 0xffff'ffff);
  }
  EXPECT_EQ(in(0x1000), 0U);  // the bus lets none through
  EXPECT_EQ(serial->state(), before);
  EXPECT_EQ(chardev.output, "");
}

// --- receiving

TEST_F(Pl011Test, InputWaitsAtTheChardevUntilTheReceiverIsOn) {
  EXPECT_EQ(chardev.type("early"), 0U);
  out(kCr, 0x201);
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("early"), 1U);  // no FIFO yet
  out(kCr, 0x101);
  EXPECT_EQ(chardev.type("y"), 0U);
}

TEST_F(Pl011Test, WithoutFifoOneByteIsTakenAndReadingItTakesTheInterruptsBack) {
  out(kCr, 0x301);
  out(kImsc, 0x010);
  EXPECT_EQ(chardev.type("xyz"), 1U);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kRis), 0x050U);
  EXPECT_EQ(in(kMis), 0x010U);
  EXPECT_EQ(in(kFr), 0x0c7U);  // full, not empty
  EXPECT_EQ(in(kDr), uint32_t{'x'});
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kRis), 0U);
  EXPECT_EQ(in(kFr), 0x097U);
  EXPECT_EQ(chardev.type("yz"), 1U);
}

TEST_F(Pl011Test, FifoTakesSixteenAndAsksForMoreOnceWhenHalfIsRead) {
  open();
  EXPECT_EQ(chardev.type("0123456789abcdefgh"), 16U);
  EXPECT_EQ(in(kFr) & 0x50, 0x40U);
  EXPECT_EQ(chardev.type("gh"), 0U);
  chardev.resumes = 0;
  for (const char c : std::string("0123456")) EXPECT_EQ(in(kDr), static_cast<uint32_t>(c));
  EXPECT_EQ(chardev.resumes, 0);
  EXPECT_EQ(in(kDr), uint32_t{'7'});
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(in(kDr), uint32_t{'8'});
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("gh"), 2U);
  for (const char c : std::string("9abcdefgh")) EXPECT_EQ(in(kDr), static_cast<uint32_t>(c));
  EXPECT_EQ(in(kFr), 0x097U);
}

TEST_F(Pl011Test, ReceiveInterruptComesAtItsLevelAndGoesBelowIt) {
  const std::array<size_t, 8> levels{2, 4, 8, 12, 14, 14, 14, 14};  // the last three are reserved
  for (uint32_t select = 0; select < 8; ++select) {
    open();
    out(kIfls, select << 3);
    out(kImsc, 0x010);
    const std::string text(levels[select], 'x');
    chardev.type(text.substr(1));
    EXPECT_FALSE(irq.level()) << select;
    chardev.type("x");
    EXPECT_TRUE(irq.level()) << select;
    in(kDr);
    EXPECT_FALSE(irq.level()) << select;
    out(kLcrH, 0x60);  // empties it
  }
}

TEST_F(Pl011Test, TimeoutTellsOfWhatStaysBelowTheLevelAndEndsWithTheLastByte) {
  open();
  chardev.type("ab");
  EXPECT_EQ(in(kMis), 0x040U);
  EXPECT_TRUE(irq.level());
  in(kDr);
  EXPECT_TRUE(irq.level());
  in(kDr);
  EXPECT_EQ(in(kMis), 0U);
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl011Test, ClearedTimeoutComesBackWithTheNextByteInOrOut) {
  open();
  chardev.type("abc");
  out(kIcr, 0x040);
  EXPECT_FALSE(irq.level());
  chardev.type("d");
  EXPECT_TRUE(irq.level());
  out(kIcr, 0x040);
  in(kDr);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl011Test, UnmaskingAnInterruptThatIsThereRaisesTheLine) {
  out(kCr, 0x301);
  chardev.type("a");
  EXPECT_FALSE(irq.level());
  out(kImsc, 0x040);
  EXPECT_TRUE(irq.level());
  out(kImsc, 0x000);
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl011Test, SwitchingTheFifoEmptiesItAndLetsInputGoOn) {
  open();
  chardev.type("0123456789abcdef");
  EXPECT_EQ(chardev.type("g"), 0U);
  chardev.resumes = 0;
  out(kLcrH, 0x60);
  EXPECT_EQ(in(kRis), 0U);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kFr), 0x097U);
  EXPECT_EQ(chardev.resumes, 1);
}

TEST_F(Pl011Test, InputThatWasUnderWayWhenTheFifoWentOffIsAnOverrun) {
  out(kCr, 0x301);
  out(kImsc, 0x400);
  serial->on_input(std::as_bytes(std::span("ab", 2)));
  EXPECT_EQ(in(kRsr), 0x08U);
  EXPECT_EQ(in(kMis), 0x400U);
  EXPECT_TRUE(irq.level());
  out(kIcr, 0x400);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kDr), 0x861U);
  EXPECT_EQ(in(kRsr), 0x08U);
  out(kRsr, 0);
  EXPECT_EQ(in(kRsr), 0x00U);
  chardev.type("c");
  EXPECT_EQ(in(kDr), 0x063U);
}

// --- sending

TEST_F(Pl011Test, TransmitInterruptComesWithAByteAndNotWithTheMask) {
  out(kCr, 0x301);
  out(kImsc, 0x020);
  EXPECT_FALSE(irq.level());
  out(kDr, 'a');
  EXPECT_TRUE(irq.level());
  out(kIcr, 0x020);
  EXPECT_FALSE(irq.level());
  out(kDr, 'b');
  EXPECT_TRUE(irq.level());
  out(kImsc, 0x000);  // Linux has nothing more to send
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kRis), 0x020U);
  EXPECT_EQ(chardev.output, "ab");
}

TEST_F(Pl011Test, OutputThatFindsNoRoomIsLostAndCounted) {
  chardev.room = 2;
  for (const char c : std::string("abcd")) out(kDr, static_cast<uint8_t>(c));
  EXPECT_EQ(chardev.output, "ab");
  EXPECT_EQ(chardev.dropped_bytes(), 2U);
  EXPECT_EQ(in(kFr), 0x097U);  // the guest need not know
}

// --- loopback and modem lines

TEST_F(Pl011Test, LoopbackSendsNothingOutAndLetsNothingIn) {
  open();
  out(kCr, 0x381);
  for (uint32_t i = 0; i < 17; ++i) out(kDr, i);
  EXPECT_EQ(chardev.output, "");
  EXPECT_EQ(chardev.type("key"), 0U);
  EXPECT_EQ(in(kRsr), 0x08U);  // the seventeenth was one too many
  for (uint32_t i = 0; i < 16; ++i) EXPECT_EQ(in(kDr) & 0xff, i);
  chardev.resumes = 0;
  out(kCr, 0x301);
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("key"), 3U);
}

TEST_F(Pl011Test, LoopbackShowsTheOutputsAsInputsAndTheirChangesInterrupt) {
  out(kImsc, 0x00f);
  out(kCr, 0x0380);  // clear to send, data set ready and carrier fall
  EXPECT_EQ(in(kFr) & 0x107, 0x000U);
  EXPECT_EQ(in(kMis), 0x00eU);
  EXPECT_TRUE(irq.level());
  out(kIcr, 0x00f);
  EXPECT_FALSE(irq.level());
  const std::array<std::pair<uint32_t, std::pair<uint32_t, uint32_t>>, 4> lines{{
      {0x0800, {0x001, 0x002}},  // RTS: CTS
      {0x0400, {0x002, 0x008}},  // DTR: DSR
      {0x1000, {0x004, 0x004}},  // Out1: DCD
      {0x2000, {0x100, 0x001}},  // Out2: RI
  }};
  for (const auto& [output, shown] : lines) {
    out(kCr, 0x0380 | output);
    EXPECT_EQ(in(kFr) & 0x107, shown.first);
    EXPECT_EQ(in(kMis), shown.second);
    out(kCr, 0x0380);
    out(kIcr, 0x00f);
  }
}

// --- life cycle

TEST_F(Pl011Test, ResetIsPowerOnAndLowersTheLine) {
  open();
  chardev.type("0123456789abcdef");
  EXPECT_TRUE(irq.level());
  bool done = false;
  serial->reset([&done] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_EQ(serial->state(), Pl011State{});
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl011Test, PausedPortTakesNoInputAndAsksForItAfterwards) {
  open();
  serial->pause([] {});
  EXPECT_EQ(chardev.type("a"), 0U);
  chardev.resumes = 0;
  serial->resume();
  EXPECT_EQ(chardev.resumes, 1);
  EXPECT_EQ(chardev.type("a"), 1U);
}

TEST_F(Pl011Test, DetachesFromItsChardevWhenItGoes) {
  serial.reset();
  EXPECT_EQ(chardev.handler, nullptr);
}

TEST_F(Pl011Test, RegistersAreSafeFromSeveralThreadsAndTheLineEndsAsTheRegistersSay) {
  chardev.room = 0;
  const auto hammer = [this](uint64_t offset) {
    for (int i = 0; i < 5000; ++i) {
      std::array<std::byte, 4> data{};
      from_register_value(static_cast<uint64_t>(i), data);
      serial->write(offset, data);
      serial->read(static_cast<uint64_t>(i % 16) * 4, data);
    }
  };
  out(kCr, 0x380);  // loopback: FakeChardev is for one thread
  {
    const Thread a = *Thread::start("a", [&] { hammer(kDr); });
    const Thread b = *Thread::start("b", [&] { hammer(kIcr); });
    const Thread c = *Thread::start("c", [&] { hammer(kImsc); });
    const Thread d = *Thread::start("d", [&] { hammer(kLcrH); });
  }
  EXPECT_LE(serial->state().rx.size(), 16U);
  EXPECT_EQ(irq.level(), (serial->state().ris & serial->state().imsc) != 0);
}

// --- state

Pl011State full_state() {
  return {.rsr = 0x08,
          .overrun = 1,
          .ilpr = 7,
          .ibrd = 13,
          .fbrd = 1,
          .lcr_h = 0x70,
          .cr = 0x0f01,
          .ifls = 0x09,
          .imsc = 0x050,
          .ris = 0x460,
          .dmacr = 2,
          .rx = {'a', 'b', 'c'}};
}

TEST(Pl011StateTest, KeepsTheRulesOfSavedState) {
  testing::check_state(full_state());
}

TEST_F(Pl011Test, SaveAndRestoreGiveTheSameStateAndRaiseTheLineAgain) {
  serial.reset();
  serial = make(full_state());
  const auto saved = serial->save();
  ASSERT_TRUE(saved);
  const auto read_back = state::from_bytes<Pl011State>(*saved);
  ASSERT_TRUE(read_back);
  EXPECT_EQ(*read_back, full_state());
  EXPECT_FALSE(irq.level());
  serial->resume();
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kDr), 0x861U);
}

TEST_F(Pl011Test, ResumeLowersALineThatWasSavedHigh) {
  irq.set(true);  // by whoever restored the interrupt controller
  serial->resume();
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl011Test, ImpossibleStateIsRefused) {
  const Pl011::Args args{.name = "serial0", .chardev = chardev, .irq = irq};
  const std::vector<Pl011State> impossible = {
      {.rsr = 0x01},
      {.overrun = 2},
      {.fbrd = 0x40},
      {.cr = 0x0308},
      {.ifls = 0x40},
      {.imsc = 0x800},
      {.ris = 0x080},
      {.ris = 0x800},
      {.dmacr = 0x08},
      {.ris = 0x010},
      {.ris = 0x040},
      {.rx = std::vector<uint8_t>(2)},
      {.lcr_h = 0x10, .rx = std::vector<uint8_t>(17)},
  };
  for (size_t i = 0; i < impossible.size(); ++i) EXPECT_FALSE(Pl011::create(args, impossible[i])) << i;
}

}  // namespace
}  // namespace strato
