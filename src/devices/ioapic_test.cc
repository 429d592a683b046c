#include "devices/ioapic.h"

#include <gtest/gtest.h>

#include <vector>

#include "state/format.h"
#include "testing/manual_clock.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

// Remembers what reached the guest.
class FakeMessage final : public MessageInterrupt {
 public:
  explicit FakeMessage(std::vector<MsiMessage>& delivered) : delivered_(delivered) {}
  void raise() override {
    pending_ = true;
    if (!masked_) deliver();
  }
  int fd() const override { return -1; }
  void mask() override { masked_ = true; }
  void unmask() override {
    masked_ = false;
    deliver();
  }
  bool pending() const override { return pending_; }
  Result<> set_message(const MsiMessage& message) override {
    if (refuse) return std::unexpected(Error::busy("no route"));
    message_ = message;
    return {};
  }
  void drop_pending() override { pending_ = false; }
  bool refuse = false;

 private:
  void deliver() {
    if (pending_) delivered_.push_back(message_);
    pending_ = false;
  }
  std::vector<MsiMessage>& delivered_;
  MsiMessage message_;
  bool masked_ = true;
  bool pending_ = false;
};

constexpr uint32_t kMasked = 1 << 16;
constexpr uint32_t kPin3 = 0x10 + 2 * 3;

class IoapicTest : public ::testing::Test {
 protected:
  void make(const std::optional<IoapicState>& state = std::nullopt) {
    Ioapic::Args args{.name = "ioapic1", .id = 1, .loop = *loop_, .pins = {}};
    args.pins.resize(6);
    for (const uint32_t pin : {3, 5}) {
      auto message = std::make_unique<FakeMessage>(delivered_);
      if (pin == 3) message_ = message.get();
      args.pins[pin] = std::move(message);
    }
    Result<std::unique_ptr<Ioapic>> made = Ioapic::create(std::move(args), state);
    ASSERT_TRUE(made.has_value());
    ioapic_ = *std::move(made);
  }
  void SetUp() override {
    make();
    ioapic_->resume();
  }
  void write_at(uint64_t offset, uint32_t value) {
    std::array<std::byte, 4> data;
    from_register_value(value, data);
    ioapic_->write(offset, data);
  }
  void write(uint32_t reg, uint32_t value) {
    write_at(0, reg);
    write_at(0x10, value);
  }
  uint32_t read(uint32_t reg) {
    write_at(0, reg);
    std::array<std::byte, 4> out;
    ioapic_->read(0x10, out);
    return static_cast<uint32_t>(to_register_value(out));
  }
  void open_pin3() {
    write(kPin3 + 1, 2U << 24);
    write(kPin3, 0x31);
  }
  std::vector<MsiMessage> take() { return std::exchange(delivered_, {}); }
  void turn() { loop_->run_once(0); }
  IoapicState saved() { return *state::from_bytes<IoapicState>(*ioapic_->save()); }

  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  std::vector<MsiMessage> delivered_;
  FakeMessage* message_ = nullptr;
  std::unique_ptr<Ioapic> ioapic_;
};

TEST_F(IoapicTest, HasTheRegistersThatADriverLooksFor) {
  EXPECT_EQ(read(0), 1U << 24);
  EXPECT_EQ(read(1), 0x003f'0011U);
  EXPECT_EQ(read(2), 1U << 24);
  EXPECT_EQ(read(3), 0U);
  EXPECT_EQ(read(0x10), kMasked);
  EXPECT_EQ(read(0x11), 0U);
  EXPECT_EQ(read(0x10 + 2 * 63), kMasked);
  EXPECT_EQ(read(0x90), 0U);
  EXPECT_EQ(read(0xff), 0U);
  write(0, 0xffff'ffff);
  EXPECT_EQ(read(0), 0x0f00'0000U);
  write(1, 0);
  EXPECT_EQ(read(1), 0x003f'0011U);
}

TEST_F(IoapicTest, ReadOnlyBitsOfAnEntryStayZero) {
  write(0x10, 0xffff'ffff);
  write(0x11, 0xffff'ffff);
  EXPECT_EQ(read(0x10), 0x0001'afffU);
  EXPECT_EQ(read(0x11), 0xff00'0000U);
}

TEST_F(IoapicTest, AnEdgeBecomesTheMessageOfItsEntry) {
  open_pin3();
  ioapic_->line(3).raise();
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'2000, .data = 0x31}}));
  write(kPin3, kMasked);
  write(kPin3 + 1, 0xff00'0000);
  write(kPin3, 0x41 | 1 << 8 | 1 << 11);  // lowest priority, logical
  ioapic_->line(3).raise();
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfeef'f004, .data = 0x141}}));
}

TEST_F(IoapicTest, AnEdgeDuringMaskingIsDeliveredLaterAndOnce) {
  open_pin3();
  write(kPin3, 0x31 | kMasked);
  ioapic_->line(3).raise();
  ioapic_->line(3).raise();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  EXPECT_TRUE(ioapic_->line(3).pending());
  write(kPin3 + 1, 4U << 24);
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  write(kPin3, 0x32);
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'4000, .data = 0x32}}));
}

TEST_F(IoapicTest, AnEdgeBetweenTheWordsOfARewriteGoesToTheWholeNewEntry) {
  open_pin3();
  write(kPin3 + 1, 4U << 24);
  ioapic_->line(3).raise();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  write(kPin3, 0x32);
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'4000, .data = 0x32}}));
}

TEST_F(IoapicTest, ARewriteThatStopsAfterTheUpperWordEndsByItself) {
  open_pin3();
  write(kPin3 + 1, 4U << 24);
  turn();
  ioapic_->line(3).raise();
  clock_.advance_ns(Ioapic::kRewriteNs - 1);
  turn();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  clock_.advance_ns(1);
  turn();
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'4000, .data = 0x31}}));
}

TEST_F(IoapicTest, EachRewriteHasItsOwnTime) {
  open_pin3();
  write(0x10 + 2 * 5, 0x51);
  write(0x10 + 2 * 5 + 1, 1U << 24);
  turn();
  clock_.advance_ns(Ioapic::kRewriteNs - 1);
  write(kPin3 + 1, 4U << 24);
  ioapic_->line(3).raise();
  ioapic_->line(5).raise();
  clock_.advance_ns(1);
  turn();
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'1000, .data = 0x51}}));
  clock_.advance_ns(Ioapic::kRewriteNs - 1);
  turn();
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'4000, .data = 0x31}}));
}

TEST_F(IoapicTest, TheSameUpperWordAgainHoldsNothing) {
  open_pin3();
  write(kPin3 + 1, 2U << 24);
  ioapic_->line(3).raise();
  EXPECT_EQ(take().size(), 1U);
}

TEST_F(IoapicTest, ADeviceThatUnmasksDoesNotUndoTheGuestsMask) {
  open_pin3();
  write(kPin3, 0x31 | kMasked);
  ioapic_->line(3).mask();
  ioapic_->line(3).raise();
  ioapic_->line(3).unmask();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  ioapic_->line(3).mask();
  write(kPin3, 0x31);
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  ioapic_->line(3).unmask();
  EXPECT_EQ(take().size(), 1U);
}

TEST_F(IoapicTest, AMessageThatTheHostRefusesLosesNoEdge) {
  message_->refuse = true;
  open_pin3();
  ioapic_->line(3).raise();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  message_->refuse = false;
  write(kPin3, 0x31);
  EXPECT_EQ(take().size(), 1U);
}

TEST_F(IoapicTest, AResetMasksAllAndForgetsEdges) {
  open_pin3();
  write(kPin3, 0x31 | kMasked);
  ioapic_->line(3).raise();
  write(0, 0);
  bool done = false;
  ioapic_->reset([&done] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_EQ(read(kPin3), kMasked);
  EXPECT_EQ(read(kPin3 + 1), 0U);
  EXPECT_EQ(read(0), 1U << 24);
  open_pin3();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
}

TEST_F(IoapicTest, APendingEdgeIsSavedAndDeliveredAfterTheRestore) {
  open_pin3();
  write(kPin3, 0x31 | kMasked);
  ioapic_->line(3).raise();
  const IoapicState state = saved();
  EXPECT_EQ(state.pending, 1U << 3);
  make(state);
  EXPECT_EQ(saved(), state);
  ioapic_->resume();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  write(kPin3, 0x31);
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'2000, .data = 0x31}}));
}

TEST_F(IoapicTest, HalfARewriteIsSavedAndEndsAfterTheRestore) {
  open_pin3();
  write(kPin3 + 1, 4U << 24);
  ioapic_->line(3).raise();
  const IoapicState state = saved();
  EXPECT_EQ(state.rewriting, 1U << 3);
  make(state);
  ioapic_->resume();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  clock_.advance_ns(Ioapic::kRewriteNs);
  turn();
  EXPECT_EQ(take(), (std::vector<MsiMessage>{{.address = 0xfee0'4000, .data = 0x31}}));
}

TEST_F(IoapicTest, NothingReachesTheGuestBeforeItRuns) {
  open_pin3();
  make(saved());
  ioapic_->line(3).raise();
  EXPECT_EQ(take(), std::vector<MsiMessage>());
  ioapic_->resume();
  EXPECT_EQ(take().size(), 1U);
}

TEST_F(IoapicTest, AnEdgeWhereNobodyIsIsRefused) {
  IoapicState state = saved();
  state.pending = 1;
  Ioapic::Args args{.name = "ioapic1", .loop = *loop_, .pins = {}};
  EXPECT_EQ(Ioapic::create(std::move(args), state).error().text(), "ioapic1: an edge on pin 0, where nobody is");
}

TEST(IoapicStateTest, IsAState) {
  IoapicState state{.select = 0x16, .id = 1 << 24, .pending = 8, .rewriting = 32};
  state.entries[3] = uint64_t{2} << 56 | 0x31;
  testing::check_state(state);
}

}  // namespace
}  // namespace strato
