#include "devices/virtio_console.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "state/format.h"
#include "testing/fake_chardev.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::GuestRam;

constexpr size_t kInput0 = 0;
constexpr size_t kOutput0 = 1;
constexpr size_t kControlIn = 2;
constexpr size_t kControlOut = 3;
constexpr size_t kInput1 = 4;
constexpr size_t kOutput1 = 5;
constexpr size_t kQueues = 6;

// A console as port 0, a serial port as port 1; a driver for all of their queues.
class ConsoleTest : public ::testing::Test {
 protected:
  ConsoleTest() {
    for (size_t i = 0; i < kQueues; ++i) {
      const uint64_t base = 0x10000 + i * 0x20000;
      drivers.emplace_back(ram, FakeDriver::Options{.size = 16, .base = base, .limit = base + 0x20000});
    }
  }
  ~ConsoleTest() override {
    if (console != nullptr) reset();
  }

  void make(uint32_t max_ports = 2, const std::optional<ConsoleState>& state = std::nullopt) {
    Result<std::unique_ptr<Console>> made = try_make(max_ports, state);
    ASSERT_TRUE(made.has_value()) << made.error().text();
    console = *std::move(made);
  }
  Result<std::unique_ptr<Console>> try_make(uint32_t max_ports, const std::optional<ConsoleState>& state) {
    Console::Args args{.name = "serial", .max_ports = max_ports};
    args.ports.push_back({.id = "con", .number = 0, .is_console = true, .chardev = tty});
    if (max_ports > 1) args.ports.push_back({.id = "agent", .number = 1, .name = "org.agent", .chardev = socket});
    return Console::create(std::move(args), state);
  }
  void start_queues() {
    for (size_t i = 0; i < console->queue_sizes().size(); ++i) {
      start(i, *Queue::create(ram.memory(), drivers[i].config()));
    }
  }
  void start(size_t index, Queue queue) {
    ASSERT_TRUE(
        console
            ->start_queue(index,
                          {.queue = std::move(queue), .interrupt = line, .doorbell = doorbells[index], .loop = *loop})
            .has_value());
    turn();
  }
  std::map<size_t, Queue> stop_queues() {
    std::map<size_t, Queue> back;
    for (size_t i = 0; i < console->queue_sizes().size(); ++i) {
      console->stop_queue(i, [&back, i](Queue queue) { back.emplace(i, std::move(queue)); });
    }
    turn();
    console->pause([] {});
    return back;
  }
  // A device with the other's state goes on with its queues.
  void save_and_restore() {
    std::map<size_t, Queue> queues = stop_queues();
    for (const auto& [index, queue] : queues) EXPECT_EQ(queue.unfinished(), 0U) << index;
    const Result<std::vector<std::byte>> saved = console->save();
    ASSERT_TRUE(saved.has_value());
    console.reset();
    make(2, *state::from_bytes<ConsoleState>(*saved));
    EXPECT_EQ(*console->save(), *saved);
    console->resume();
    console->start(kAll);
    for (auto& [index, queue] : queues) start(index, std::move(queue));
  }
  // A driver that has said that it is ready, and both ports.
  void start_multiport() {
    make();
    console->start(kAll);
    start_queues();
    give_control_buffers(16);
    say(0, ConsoleEvent::DeviceReady, 1);
    say(0, ConsoleEvent::PortReady, 1);
    say(1, ConsoleEvent::PortReady, 1);
    say(0, ConsoleEvent::PortOpen, 1);
    say(1, ConsoleEvent::PortOpen, 1);
    heard();
  }
  void turn() {
    while (loop->run_once(0) != 0) {
    }
  }
  void ring(size_t queue) {
    doorbells[queue].ring();
    turn();
  }
  void reset() {
    bool done = false;
    console->reset([&done] { done = true; });
    turn();
    EXPECT_TRUE(done);
  }

  void say(uint32_t port, ConsoleEvent event, uint16_t value) {
    drivers[kControlOut]
        .chain()
        .readable_obj(ConsoleControl{.id = port, .event = static_cast<uint16_t>(event), .value = value})
        .submit();
    ring(kControlOut);
    drivers[kControlOut].take_used();
  }
  void give_control_buffers(size_t count, uint32_t bytes = 64) {
    for (size_t i = 0; i < count; ++i) {
      const auto sent = drivers[kControlIn].chain().writable(bytes).submit();
      control_buffers[sent.id] = sent.addresses[0];
    }
    ring(kControlIn);
  }
  // What the device has said since, as "event port value rest", and gives the buffers back.
  std::vector<std::string> heard() {
    std::vector<std::string> out;
    size_t taken = 0;
    for (const FakeDriver::Used& used : drivers[kControlIn].take_used()) {
      ++taken;
      const uint64_t address = control_buffers[static_cast<uint16_t>(used.id)];
      if (used.len < sizeof(ConsoleControl)) continue;
      const auto control = drivers[kControlIn].load<ConsoleControl>(address);
      std::string rest;
      for (const std::byte byte :
           drivers[kControlIn].bytes_at(address + sizeof(ConsoleControl), used.len - sizeof(ConsoleControl))) {
        rest.push_back(static_cast<char>(byte));
      }
      out.push_back(std::to_string(control.event.get()) + " " + std::to_string(control.id.get()) + " " +
                    std::to_string(control.value.get()) + (rest.empty() ? "" : " " + rest));
    }
    give_control_buffers(taken);
    return out;
  }
  void give_buffers(size_t queue, size_t count, uint32_t bytes) {
    for (size_t i = 0; i < count; ++i) {
      const auto sent = drivers[queue].chain().writable(bytes).submit();
      buffers[queue][sent.id] = sent.addresses[0];
    }
    ring(queue);
  }
  // What came into the buffers of a receive queue.
  std::string received(size_t queue) {
    std::string text;
    for (const FakeDriver::Used& used : drivers[queue].take_used()) {
      for (const std::byte byte : drivers[queue].bytes_at(buffers[queue][static_cast<uint16_t>(used.id)], used.len)) {
        text.push_back(static_cast<char>(byte));
      }
    }
    return text;
  }
  void send(size_t queue, std::string_view text) {
    drivers[queue].chain().readable(std::as_bytes(std::span(text.data(), text.size()))).submit();
    ring(queue);
  }
  // As the transport does it.
  void write_config(size_t offset, std::vector<uint8_t> data) {
    ASSERT_TRUE(console->config().write(offset, std::as_bytes(std::span(data))));
    console->config_written(offset, data.size());
  }
  static std::string counted(size_t bytes) {
    std::string text(bytes, ' ');
    for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 7 % 251);
    return text;
  }

  static constexpr uint64_t kAll = kFeatureVersion1 | kConsoleFeatureSize | kConsoleFeatureMultiport;

  ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram{kMiB};
  std::vector<FakeDriver> drivers;
  std::array<FakeDoorbell, kQueues> doorbells;
  FakeVector line;
  FakeChardev tty;
  FakeChardev socket;
  std::unique_ptr<Console> console;
  std::map<uint16_t, uint64_t> control_buffers;
  std::map<size_t, std::map<uint16_t, uint64_t>> buffers;
};

// --- without MULTIPORT

TEST_F(ConsoleTest, OnePortIsAConsoleWithTwoQueuesAndNoControl) {
  make(1);
  EXPECT_EQ(console->queue_sizes().size(), 2U);
  EXPECT_EQ(console->features() & kConsoleFeatureMultiport, 0U);
  console->start(kFeatureVersion1);
  start_queues();
  give_buffers(kInput0, 2, 64);
  EXPECT_EQ(tty.type("hello"), 5U);
  turn();
  EXPECT_EQ(received(kInput0), "hello");
  send(kOutput0, "hi there");
  EXPECT_EQ(tty.output, "hi there");
  EXPECT_GE(line.take(), 2);
}

TEST_F(ConsoleTest, ADriverWithoutMultiportHasPortZeroOnly) {
  make(2);
  console->start(kFeatureVersion1);
  start_queues();
  give_buffers(kInput0, 1, 64);
  give_buffers(kInput1, 1, 64);
  give_control_buffers(1);
  say(0, ConsoleEvent::DeviceReady, 1);
  tty.type("a");
  socket.type("b");
  turn();
  EXPECT_EQ(received(kInput0), "a");
  EXPECT_EQ(received(kInput1), "");
  EXPECT_TRUE(heard().empty());
}

// --- emergency write

TEST_F(ConsoleTest, AnEmergencyWriteComesOutBeforeAnyDriverHasStarted) {
  make();
  EXPECT_NE(console->features() & kConsoleFeatureEmergencyWrite, 0U);
  write_config(8, {'h', 1, 2, 3});
  write_config(8, {'i'});
  EXPECT_EQ(tty.output, "hi");
  EXPECT_EQ(socket.output, "");
}

TEST_F(ConsoleTest, AnEmergencyWriteGoesBetweenWhatTheQueuesSend) {
  start_multiport();
  send(kOutput0, "a");
  write_config(8, {'!', 0, 0, 0});
  send(kOutput0, "b");
  EXPECT_EQ(tty.output, "a!b");
}

TEST_F(ConsoleTest, AnEmergencyWriteThatFindsNoRoomIsLost) {
  make();
  tty.room = 1;
  for (const uint8_t character : {'a', 'b', 'c'}) write_config(8, {character, 0, 0, 0});
  EXPECT_EQ(tty.output, "a");
  EXPECT_EQ(tty.dropped_bytes(), 2U);
}

TEST_F(ConsoleTest, OnlyTheFirstByteOfTheFieldIsACharacter) {
  make();
  write_config(9, {'x'});
  write_config(10, {'x', 'y'});
  EXPECT_EQ(tty.output, "");
  EXPECT_FALSE(console->config().write(0, std::as_bytes(std::span("12345678", 8))));
}

TEST_F(ConsoleTest, WithoutAPortZeroThereIsNoEmergencyWrite) {
  Console::Args args{.name = "serial", .max_ports = 2};
  args.ports.push_back({.id = "agent", .number = 1, .chardev = socket});
  console = *Console::create(std::move(args), std::nullopt);
  EXPECT_EQ(console->features() & kConsoleFeatureEmergencyWrite, 0U);
  EXPECT_FALSE(console->config().write(8, std::as_bytes(std::span("x", 1))));
}

// --- control

TEST_F(ConsoleTest, ThePortsIntroduceThemselves) {
  tty.size = TerminalSize{.columns = 0x4241, .rows = 0x4443};
  make();
  console->start(kAll);
  start_queues();
  give_control_buffers(16);
  EXPECT_TRUE(heard().empty());
  say(0, ConsoleEvent::DeviceReady, 1);
  EXPECT_EQ(heard(), (std::vector<std::string>{"1 0 1", "1 1 1"}));
  say(0, ConsoleEvent::PortReady, 1);
  EXPECT_EQ(heard(), (std::vector<std::string>{"4 0 1", "5 0 0 ABCD", "6 0 1"}));
  say(1, ConsoleEvent::PortReady, 1);
  EXPECT_EQ(heard(), (std::vector<std::string>{"7 1 1 org.agent", "6 1 1"}));
}

TEST_F(ConsoleTest, MessagesWaitForBuffersAndNoneIsForgotten) {
  make();
  console->start(kAll);
  start_queues();
  for (int i = 0; i < 100; ++i) say(0, ConsoleEvent::DeviceReady, 1);
  say(1, ConsoleEvent::PortReady, 1);
  std::vector<std::string> all;
  for (int i = 0; i < 10; ++i) {
    give_control_buffers(i == 0 ? 1 : 0);
    for (const std::string& message : heard()) all.push_back(message);
  }
  EXPECT_EQ(all, (std::vector<std::string>{"1 0 1", "1 1 1", "7 1 1 org.agent", "6 1 1"}));
}

TEST_F(ConsoleTest, ABufferThatIsTooShortCostsItsMessageOnly) {
  make();
  console->start(kAll);
  start_queues();
  give_control_buffers(1, 7);
  give_control_buffers(1);
  say(0, ConsoleEvent::DeviceReady, 1);
  EXPECT_EQ(heard(), (std::vector<std::string>{"1 1 1"}));
}

TEST_F(ConsoleTest, BadControlMessagesAreGivenBackAndChangeNothing) {
  start_multiport();
  say(31, ConsoleEvent::PortReady, 1);
  say(5, ConsoleEvent::PortOpen, 1);
  say(1, ConsoleEvent::PortAdd, 1);
  drivers[kControlOut].chain().readable(std::vector<std::byte>(7)).submit();
  drivers[kControlOut].chain().writable(8).submit();
  ring(kControlOut);
  EXPECT_EQ(drivers[kControlOut].take_used().size(), 2U);
  EXPECT_TRUE(heard().empty());
  send(kOutput1, "still works");
  EXPECT_EQ(socket.output, "still works");
}

TEST_F(ConsoleTest, APortOpensAndClosesWithThePeerOfItsSocketButAConsoleIsAlwaysOpen) {
  start_multiport();
  socket.connect(false);
  tty.connect(false);
  turn();
  EXPECT_EQ(heard(), (std::vector<std::string>{"6 1 0"}));
  socket.connect(true);
  turn();
  EXPECT_EQ(heard(), (std::vector<std::string>{"6 1 1"}));
}

TEST_F(ConsoleTest, APeerThatCameAndLeftBeforeWeLookedWasThereAllTheSame) {
  start_multiport();
  socket.connect(false);
  turn();
  heard();
  socket.connect(true);
  socket.connect(false);
  turn();
  EXPECT_EQ(heard(), (std::vector<std::string>{"6 1 1", "6 1 0"}));
}

TEST_F(ConsoleTest, APeerThatWasReplacedBeforeWeLookedIsTwoMessages) {
  start_multiport();
  socket.connect(false);
  socket.connect(true);
  turn();
  EXPECT_EQ(heard(), (std::vector<std::string>{"6 1 0", "6 1 1"}));
}

// --- size

TEST_F(ConsoleTest, TheSizeOfTheTerminalIsInTheConfiguration) {
  tty.size = TerminalSize{.columns = 80, .rows = 25};
  make(1);
  int changes = 0;
  console->config().on_notify([&changes] { ++changes; });
  EXPECT_EQ(console->config().load<ConsoleConfig>(0).columns.get(), 80);
  EXPECT_EQ(console->config().load<ConsoleConfig>(0).max_ports.get(), 1U);
  tty.resize({.columns = 132, .rows = 50});
  EXPECT_EQ(console->config().load<ConsoleConfig>(0).columns.get(), 132);
  EXPECT_EQ(console->config().load<ConsoleConfig>(0).rows.get(), 50);
  EXPECT_EQ(changes, 1);
  tty.resize({.columns = 132, .rows = 50});
  EXPECT_EQ(changes, 1);
}

TEST_F(ConsoleTest, AResizeIsToldOnceAndOnlyTheLastOne) {
  start_multiport();
  tty.resize({.columns = 1, .rows = 1});
  tty.resize({.columns = 0x4142, .rows = 0x4344});
  turn();
  EXPECT_EQ(heard(), (std::vector<std::string>{"5 0 0 BADC"}));
}

// --- input

TEST_F(ConsoleTest, InputWaitsUntilTheGuestOpensThePort) {
  start_multiport();
  say(1, ConsoleEvent::PortOpen, 0);
  give_buffers(kInput1, 2, 64);
  socket.type("early");
  turn();
  EXPECT_EQ(received(kInput1), "");
  say(1, ConsoleEvent::PortOpen, 1);
  EXPECT_EQ(received(kInput1), "early");
}

TEST_F(ConsoleTest, AFloodToAGuestThatReadsNothingStopsAtTheLimit) {
  start_multiport();
  const std::string flood = counted(100'000);
  size_t taken = 0;
  for (int i = 0; i < 100; ++i) {
    taken += socket.type(std::string_view(flood).substr(taken));
    turn();
  }
  EXPECT_EQ(taken, 2 * ConsolePort::kInputBytes);
  EXPECT_EQ(socket.type("more"), 0U);
  const int resumes = socket.resumes;
  std::string got;
  while (got.size() < taken) {
    give_buffers(kInput1, 1, 1000);
    got += received(kInput1);
  }
  EXPECT_EQ(got, flood.substr(0, taken));
  EXPECT_GT(socket.resumes, resumes);
}

TEST_F(ConsoleTest, ABufferWithoutRoomGoesBackEmptyAndLosesNothing) {
  start_multiport();
  drivers[kInput1].chain().readable(std::vector<std::byte>(8)).submit();
  give_buffers(kInput1, 1, 64);
  socket.type("whole");
  turn();
  EXPECT_EQ(received(kInput1), "whole");
}

TEST_F(ConsoleTest, InputIsSpreadOverSmallBuffersInOrder) {
  start_multiport();
  give_buffers(kInput1, 8, 3);
  socket.type("abcdefghij");
  turn();
  EXPECT_EQ(received(kInput1), "abcdefghij");
}

// --- output

TEST_F(ConsoleTest, ASerialPortHoldsTheDriverBackWhileItsReaderIsSlow) {
  start_multiport();
  socket.room = 5;
  send(kOutput1, "0123456789");
  send(kOutput1, "abc");
  EXPECT_EQ(socket.output, "01234");
  EXPECT_TRUE(drivers[kOutput1].take_used().empty());
  socket.drain(3);
  turn();
  EXPECT_EQ(socket.output, "01234567");
  socket.drain(1000);
  turn();
  EXPECT_EQ(socket.output, "0123456789abc");
  EXPECT_EQ(drivers[kOutput1].take_used().size(), 2U);
}

TEST_F(ConsoleTest, AConsoleDropsWhatASlowReaderHasNoRoomFor) {
  start_multiport();
  tty.room = 5;
  send(kOutput0, "0123456789");
  EXPECT_EQ(tty.output, "01234");
  EXPECT_EQ(tty.dropped_bytes(), 5U);
  EXPECT_EQ(drivers[kOutput0].take_used().size(), 1U);
}

TEST_F(ConsoleTest, APeerThatLeavesInTheMiddleOfAWriteFreesTheDriver) {
  start_multiport();
  socket.room = 5;
  send(kOutput1, "0123456789");
  socket.room = SIZE_MAX;  // nobody there: all is taken, and lost
  socket.connect(false);
  turn();
  EXPECT_EQ(drivers[kOutput1].take_used().size(), 1U);
}

TEST_F(ConsoleTest, ALongChainIsSentWholeInTurnsOfTheLoop) {
  start_multiport();
  const uint64_t piece = drivers[kOutput1].allocate(4096);
  auto chain = drivers[kOutput1].chain();
  for (int i = 0; i < 1000; ++i) chain.raw(piece, 4096, 0);
  chain.indirect().submit();
  doorbells[kOutput1].ring();
  loop->run_once(0);
  EXPECT_LE(socket.output.size(), ConsolePort::kRoundBytes);
  turn();
  EXPECT_EQ(socket.output.size(), 4'096'000U);
  EXPECT_EQ(drivers[kOutput1].take_used().size(), 1U);
}

TEST_F(ConsoleTest, AChainThatShrinksWhileItWaitsHarmsItsDriverOnly) {
  start_multiport();
  socket.room = 8;
  send(kOutput1, "0123456789");
  drivers[kOutput1].put_split_desc(0, drivers[kOutput1].allocate(2), 2, 0, 0);
  socket.drain(100);
  turn();
  EXPECT_EQ(socket.output, "01234567");
  EXPECT_EQ(drivers[kOutput1].take_used().size(), 1U);
  send(kOutput1, "next");
  EXPECT_EQ(socket.output, "01234567next");
}

TEST_F(ConsoleTest, EmptyAndWritableChainsGoBack) {
  start_multiport();
  drivers[kOutput1].chain().writable(100).submit();
  ring(kOutput1);
  EXPECT_EQ(drivers[kOutput1].take_used().size(), 1U);
  EXPECT_EQ(socket.output, "");
}

TEST_F(ConsoleTest, ABrokenRingEndsThatQueueOnly) {
  start_multiport();
  drivers[kOutput1].publish(9999);
  ring(kOutput1);
  send(kOutput0, "alive");
  EXPECT_EQ(tty.output, "alive");
}

// --- life cycle

TEST_F(ConsoleTest, NoByteIsLostOrDoubledByASaveInTheMiddle) {
  start_multiport();
  const std::string input = counted(20'000);
  const std::string output = counted(3000);
  size_t typed = 0;
  std::string got;
  socket.room = 777;
  send(kOutput1, output);
  while (got.size() < input.size()) {
    typed += socket.type(std::string_view(input).substr(typed));
    turn();
    typed += socket.type(std::string_view(input).substr(typed));
    save_and_restore();
    if (socket.output.size() < output.size()) socket.drain(500);
    give_buffers(kInput1, 3, 700);
    got += received(kInput1);
  }
  EXPECT_EQ(got, input);
  EXPECT_EQ(socket.output, output);
  EXPECT_TRUE(heard().empty());  // nothing new
}

TEST_F(ConsoleTest, PausedItTakesNoInput) {
  start_multiport();
  std::map<size_t, Queue> queues = stop_queues();
  EXPECT_EQ(socket.type("x"), 0U);
  const int resumes = socket.resumes;
  console->resume();
  EXPECT_EQ(socket.resumes, resumes + 1);
  EXPECT_EQ(socket.type("x"), 1U);
}

TEST_F(ConsoleTest, ARestoredDriverHearsWhatIsDifferentHere) {
  start_multiport();
  std::map<size_t, Queue> queues = stop_queues();
  const ConsoleState state = *state::from_bytes<ConsoleState>(*console->save());
  console.reset();
  socket.is_connected = false;
  tty.size = TerminalSize{.columns = 0x4142, .rows = 0x4344};
  make(2, state);
  int changes = 0;
  console->config().on_notify([&changes] { ++changes; });
  EXPECT_EQ(console->config().load<ConsoleConfig>(0).columns.get(), 0);
  console->resume();
  console->start(kAll);
  for (auto& [index, queue] : queues) start(index, std::move(queue));
  EXPECT_EQ(heard(), (std::vector<std::string>{"5 0 0 BADC", "6 1 0"}));
  EXPECT_EQ(changes, 1);
}

TEST_F(ConsoleTest, AResetForgetsTheDriverButNotTheInput) {
  start_multiport();
  socket.type("kept");
  turn();
  socket.room = 2;
  send(kOutput1, "lost");
  reset();
  for (FakeDriver& driver : drivers) driver.reset();
  socket.room = SIZE_MAX;
  socket.output.clear();
  console->start(kAll);
  start_queues();
  give_control_buffers(16);
  EXPECT_TRUE(heard().empty());
  say(0, ConsoleEvent::DeviceReady, 1);
  say(1, ConsoleEvent::PortReady, 1);
  EXPECT_EQ(heard(), (std::vector<std::string>{"1 0 1", "1 1 1", "7 1 1 org.agent", "6 1 1"}));
  give_buffers(kInput1, 1, 64);
  EXPECT_EQ(received(kInput1), "");
  say(1, ConsoleEvent::PortOpen, 1);
  EXPECT_EQ(received(kInput1), "kept");
  send(kOutput1, "new");
  EXPECT_EQ(socket.output, "new");
}

TEST_F(ConsoleTest, StatesOfOtherPortsAndOfTooMuchInputAreRefused) {
  make();
  const ConsoleState good = *state::from_bytes<ConsoleState>(*console->save());
  console.reset();
  ConsoleState bad = good;
  bad.ports[1].number = 2;
  EXPECT_FALSE(try_make(2, bad).has_value());
  bad = good;
  bad.ports.pop_back();
  EXPECT_FALSE(try_make(2, bad).has_value());
  bad = good;
  bad.ports[1].input.resize(2 * ConsolePort::kInputBytes + 1);
  EXPECT_FALSE(try_make(2, bad).has_value());
}

TEST(ConsoleStateTest, SavesEveryField) {
  strato::testing::check_state(ConsoleState{.device_ready = true,
                                            .columns = 80,
                                            .rows = 25,
                                            .ports = {{.number = 3,
                                                       .add_due = true,
                                                       .console_due = true,
                                                       .name_due = true,
                                                       .ready = true,
                                                       .guest_open = true,
                                                       .told_open = true,
                                                       .told_columns = 81,
                                                       .told_rows = 26,
                                                       .sent_bytes = 70000,
                                                       .input = {std::byte{1}, std::byte{2}}}}});
}

}  // namespace
}  // namespace strato::virtio
