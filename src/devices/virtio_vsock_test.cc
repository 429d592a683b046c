#include "devices/virtio_vsock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <string>
#include <string_view>

#include "testing/state_checks.h"
#include "testing/vsock_fixture.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::VsockFixture;

constexpr uint32_t kPort = 52;         // of the host
constexpr uint32_t kGuestPort = 1024;  // of the guest

std::string counted(size_t bytes) {
  std::string text(bytes, ' ');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 7 % 251);
  return text;
}

// A device with a driver that has given buffers, unless the test makes its own.
class VsockTest : public VsockFixture, public ::testing::Test {
 protected:
  VsockTest() : VsockFixture({.size = 64}) {}

  void begin(size_t receive_buffers = 16) {
    make();
    start();
    give_buffers(receive_buffers);
  }
  // "op host guest flags" of each packet that came, and the payload.
  std::vector<std::string> told() {
    std::vector<std::string> out;
    for (const Packet& packet : heard()) {
      out.push_back(std::to_string(static_cast<int>(packet.op)) + " " + std::to_string(packet.host) + " " +
                    std::to_string(packet.guest) + " " + std::to_string(packet.flags) +
                    (packet.payload.empty() ? "" : " " + packet.payload));
    }
    return out;
  }
  // What came as payload, however it was cut; buffers go back.
  std::string payload() {
    std::string all;
    for (const Packet& packet : heard()) {
      all += packet.payload;
      give_buffers(1);
    }
    return all;
  }
  // The guest connects to a program.
  UniqueFd connect_to_host(uint32_t guest_port = 7) {
    UniqueFd listener = listen_program(kPort);
    say({.op = VsockOp::Request, .host = kPort, .guest = guest_port});
    EXPECT_EQ(told(), (std::vector<std::string>{"2 52 " + std::to_string(guest_port) + " 0"}));
    UniqueFd program = accept_program(listener);
    EXPECT_TRUE(program.valid());
    return program;
  }
  // A program connects to the guest, which accepts. Sets the host port.
  UniqueFd connect_to_guest(uint32_t& host_port) {
    UniqueFd program = connect_program();
    program_sends(program, "CONNECT 1024\n");
    const std::vector<Packet> packets = heard();
    EXPECT_EQ(packets.size(), 1U);
    EXPECT_EQ(packets.at(0).op, VsockOp::Request);
    EXPECT_EQ(packets.at(0).guest, kGuestPort);
    host_port = packets.at(0).host;
    say({.op = VsockOp::Response, .host = host_port, .guest = kGuestPort});
    EXPECT_EQ(program_reads(program), "OK " + std::to_string(host_port) + "\n");
    return program;
  }
};

TEST_F(VsockTest, TheDriverReadsItsContextId) {
  make();
  EXPECT_EQ(device->config().load<VsockConfig>(0).guest_cid.get(), 42U);
  EXPECT_EQ(device->queue_sizes().size(), 3U);
  EXPECT_EQ(device->type(), DeviceType::Vsock);
}

// --- the guest connects

TEST_F(VsockTest, AGuestReachesTheProgramThatListensAtItsPort) {
  begin();
  UniqueFd program = connect_to_host();
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "hello"});
  EXPECT_EQ(program_reads(program), "hello");
  program_sends(program, "hi there");
  EXPECT_EQ(told(), (std::vector<std::string>{"5 52 7 0 hi there"}));
  EXPECT_GE(line.take(), 2);
}

TEST_F(VsockTest, APortWhereNobodyListensIsRefused) {
  begin();
  say({.op = VsockOp::Request, .host = 99, .guest = 7});
  EXPECT_EQ(told(), (std::vector<std::string>{"3 99 7 0"}));
}

TEST_F(VsockTest, AProgramThatDoesNotAcceptRefusesTheNextOnes) {
  begin();
  UniqueFd listener = listen_program(kPort, 1);
  for (uint32_t i = 0; i < 4; ++i) say({.op = VsockOp::Request, .host = kPort, .guest = i});
  EXPECT_EQ(told(), (std::vector<std::string>{"2 52 0 0", "2 52 1 0", "3 52 2 0", "3 52 3 0"}));
}

// --- the host connects

TEST_F(VsockTest, AProgramReachesTheGuestAndIsToldItsPort) {
  begin();
  uint32_t port = 0;
  UniqueFd program = connect_to_guest(port);
  EXPECT_EQ(port, 1U << 30);
  program_sends(program, "question");
  EXPECT_EQ(payload(), "question");
  say({.op = VsockOp::ReadWrite, .host = port, .guest = kGuestPort, .payload = "answer"});
  EXPECT_EQ(program_reads(program), "answer");
}

TEST_F(VsockTest, WhatAProgramSendsBehindItsLineIsNotLost) {
  begin();
  UniqueFd program = connect_program();
  program_sends(program, "CONNECT 1024\nearly");
  EXPECT_EQ(told(), (std::vector<std::string>{"1 1073741824 1024 0"}));
  say({.op = VsockOp::Response, .host = 1U << 30, .guest = kGuestPort});
  EXPECT_EQ(told(), (std::vector<std::string>{"5 1073741824 1024 0 early"}));
}

TEST_F(VsockTest, ALineMayComeInPieces) {
  begin();
  UniqueFd program = connect_program();
  for (const char letter : std::string_view("CONNECT 10")) program_sends(program, std::string_view(&letter, 1));
  EXPECT_TRUE(told().empty());
  program_sends(program, "24\n");
  EXPECT_EQ(told(), (std::vector<std::string>{"1 1073741824 1024 0"}));
}

TEST_F(VsockTest, AGuestThatDoesNotListenEndsTheProgramsConnection) {
  begin();
  UniqueFd program = connect_program();
  program_sends(program, "CONNECT 1024\n");
  told();
  say({.op = VsockOp::Reset, .host = 1U << 30, .guest = kGuestPort});
  EXPECT_TRUE(program_sees_end(program));
}

TEST_F(VsockTest, AProgramThatDoesNotWaitForTheAnswerIsReset) {
  begin();
  UniqueFd program = connect_program();
  program_sends(program, "CONNECT 1024\n");
  program.reset();
  turn();
  EXPECT_EQ(told(), (std::vector<std::string>{"1 1073741824 1024 0", "3 1073741824 1024 0"}));
}

TEST_F(VsockTest, WrongLinesAreTurnedAway) {
  begin();
  for (const std::string_view words :
       {"\n", "CONNECT\n", "CONNECT \n", "connect 5\n", "CONNECT 4294967296\n", "CONNECT 5 \n", "CONNECT 5\r\n",
        "CONNECT -1\n", "CONNECT +1\n", "CONNECT 0x10\n", "GET / HTTP/1.1\n",
        "CONNECT 00000000000000000000000000000005\n"}) {
    UniqueFd program = connect_program();
    program_sends(program, words);
    EXPECT_TRUE(program_sees_end(program)) << words;
  }
  EXPECT_TRUE(told().empty());
}

TEST_F(VsockTest, ALineWithoutEndIsTurnedAwayAtItsLimit) {
  begin();
  UniqueFd patient = connect_program();
  program_sends(patient, std::string(31, 'x'));
  EXPECT_FALSE(program_sees_end(patient));
  program_sends(patient, "x");
  EXPECT_TRUE(program_sees_end(patient));
  UniqueFd big = connect_program();
  program_sends(big, std::string(1 << 20, 'x'));
  EXPECT_TRUE(program_sees_end(big));
}

TEST_F(VsockTest, ProgramsThatSayNothingDoNotKeepOthersAway) {
  begin();
  std::vector<UniqueFd> silent;
  for (size_t i = 0; i < VsockListener::kMaxGreeters + 1; ++i) {
    silent.push_back(connect_program());
    turn();
  }
  EXPECT_TRUE(program_sees_end(silent[0]));
  EXPECT_FALSE(program_sees_end(silent[1]));
  uint32_t port = 0;
  EXPECT_TRUE(connect_to_guest(port).valid());
}

TEST_F(VsockTest, ProgramsWaitUntilThereIsADriver) {
  make();
  UniqueFd program = connect_program();
  program_sends(program, "CONNECT 1024\n");
  start();
  EXPECT_FALSE(program_sees_end(program));
  give_buffers(1);
  EXPECT_EQ(told(), (std::vector<std::string>{"1 1073741824 1024 0"}));
}

// --- data

TEST_F(VsockTest, AFloodToTheGuestArrivesWholeWithinItsCredit) {
  begin();
  UniqueFd program = connect_to_host();
  say({.op = VsockOp::CreditUpdate, .host = kPort, .guest = 7, .buf_alloc = 10'000});
  const std::string data = counted(1'000'000);
  std::string got;
  size_t sent = 0;
  uint32_t forwarded = 0;
  for (int i = 0; i < 10'000 && got.size() < data.size(); ++i) {
    sent += program_sends(program, std::string_view(data).substr(sent));
    got += payload();
    ASSERT_LE(got.size() - forwarded, 10'000U);
    if (forwarded == got.size()) continue;
    forwarded = static_cast<uint32_t>(got.size());
    say({.op = VsockOp::CreditUpdate, .host = kPort, .guest = 7, .buf_alloc = 10'000, .fwd_cnt = forwarded});
  }
  EXPECT_EQ(got, data);
}

TEST_F(VsockTest, WithoutCreditNothingGoesAndItIsAskedForOnce) {
  begin();
  UniqueFd listener = listen_program(kPort);
  say({.op = VsockOp::Request, .host = kPort, .guest = 7, .buf_alloc = 0});
  UniqueFd program = accept_program(listener);
  program_sends(program, "abc");
  program_sends(program, "def");
  EXPECT_EQ(told(), (std::vector<std::string>{"2 52 7 0", "7 52 7 0"}));
  say({.op = VsockOp::CreditUpdate, .host = kPort, .guest = 7, .buf_alloc = 4});
  EXPECT_EQ(told(), (std::vector<std::string>{"5 52 7 0 abcd", "7 52 7 0"}));
}

TEST_F(VsockTest, AProgramThatDoesNotReadCostsItsGuestTheCreditAndNobodyElse) {
  begin(60);
  UniqueFd slow = connect_to_host(7);
  UniqueFd quick = connect_to_host(8);
  const std::string piece = counted(65536);
  std::string all;
  // Until the socket and our buffer are full.
  uint32_t forwarded = 0;
  while (all.size() - forwarded < VsockConnection::kBufferBytes) {
    const auto part = std::string_view(piece).substr(0, VsockConnection::kBufferBytes - (all.size() - forwarded));
    say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = part});
    all += part;
    say({.op = VsockOp::CreditRequest, .host = kPort, .guest = 7});
    for (const Packet& packet : heard()) forwarded = packet.fwd_cnt;
    give_buffers(4);
    ASSERT_LT(all.size(), 4'000'000U);
  }
  EXPECT_EQ(all.size() - forwarded, VsockConnection::kBufferBytes);
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 8, .payload = "quick"});
  EXPECT_EQ(program_reads(quick), "quick");
  EXPECT_EQ(program_reads(slow), all);
  const std::vector<Packet> after = heard();
  ASSERT_FALSE(after.empty());
  EXPECT_EQ(after.back().op, VsockOp::CreditUpdate);
}

TEST_F(VsockTest, MoreThanOurCreditResetsTheConnection) {
  begin();
  UniqueFd program = connect_to_host();
  const std::string piece = counted(65536);
  for (int i = 0; i < 16; ++i) say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = piece});
  const std::vector<std::string> all = told();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.back(), "3 52 7 0");
  program_reads(program);
  EXPECT_TRUE(program_sees_end(program));
}

TEST_F(VsockTest, ManyPiecesMakeOnePacket) {
  begin();
  UniqueFd program = connect_to_host();
  FakeDriver::Request request = drivers[kTransmit].chain();
  const std::string data = counted(1000);
  VsockHeader head = header({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = data});
  const auto bytes = std::as_bytes(std::span(&head, 1));
  request.readable(bytes.first(10)).readable(bytes.subspan(10));
  for (size_t i = 0; i < 40; ++i) request.readable(std::as_bytes(std::span(data)).subspan(i * 25, 25));
  request.indirect().submit();
  ring(kTransmit);
  EXPECT_EQ(program_reads(program), data);
}

TEST_F(VsockTest, ConnectionsTakeTurns) {
  begin(0);
  UniqueFd listener = listen_program(kPort);
  std::vector<UniqueFd> programs;
  for (uint32_t i = 0; i < 3; ++i) say({.op = VsockOp::Request, .host = kPort, .guest = i});
  give_buffers(3);
  told();
  for (uint32_t i = 0; i < 3; ++i) {
    programs.push_back(accept_program(listener));
    program_sends(programs.back(), std::string(20'000, static_cast<char>('a' + i)));
  }
  give_buffers(6);
  std::string order;
  for (const Packet& packet : heard()) order.push_back(packet.payload.at(0));
  EXPECT_EQ(order, "abcabc");
}

// --- ends

TEST_F(VsockTest, AProgramThatHalfClosesStillReads) {
  begin();
  UniqueFd program = connect_to_host();
  program_sends(program, "last words");
  ::shutdown(program.get(), SHUT_WR);
  turn();
  EXPECT_EQ(told(), (std::vector<std::string>{"5 52 7 0 last words", "4 52 7 2"}));
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "heard"});
  EXPECT_EQ(program_reads(program), "heard");
}

TEST_F(VsockTest, AGuestThatHalfClosesStillGets) {
  begin();
  UniqueFd program = connect_to_host();
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "last words"});
  say({.op = VsockOp::Shutdown, .host = kPort, .guest = 7, .flags = kVsockNoSend});
  EXPECT_EQ(program_reads(program), "last words");
  EXPECT_TRUE(program_sees_end(program));
  program_sends(program, "heard");
  EXPECT_EQ(told(), (std::vector<std::string>{"5 52 7 0 heard"}));
}

TEST_F(VsockTest, AGuestThatGetsNoMoreStopsTheProgram) {
  begin();
  UniqueFd program = connect_to_host();
  say({.op = VsockOp::Shutdown, .host = kPort, .guest = 7, .flags = kVsockNoReceive});
  EXPECT_EQ(program_sends(program, "x"), 0U);
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "but I talk"});
  EXPECT_EQ(program_reads(program), "but I talk");
}

TEST_F(VsockTest, AProgramThatLeavesIsTheEndBothWays) {
  begin();
  UniqueFd program = connect_to_host();
  program_sends(program, "bye");
  program.reset();
  turn();
  const std::vector<std::string> all = told();
  ASSERT_GE(all.size(), 2U);
  EXPECT_EQ(all.back(), "4 52 7 3");
  // What the guest still sends is lost, and breaks nothing.
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "too late"});
  EXPECT_TRUE(told().empty());
  say({.op = VsockOp::Reset, .host = kPort, .guest = 7});
  EXPECT_TRUE(told().empty());
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "unknown now"});
  EXPECT_EQ(told(), (std::vector<std::string>{"3 52 7 0"}));
}

TEST_F(VsockTest, AProgramThatReadsNoMoreIsTold) {
  begin();
  UniqueFd program = connect_to_host();
  ::shutdown(program.get(), SHUT_RD);
  turn();
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "x"});
  EXPECT_EQ(told(), (std::vector<std::string>{"4 52 7 1"}));
  program_sends(program, "but I talk");
  EXPECT_EQ(told(), (std::vector<std::string>{"5 52 7 0 but I talk"}));
}

TEST_F(VsockTest, AGuestThatClosesGetsAResetAtOnceAndItsProgramStillReadsAll) {
  begin();
  UniqueFd listener = listen_program(kPort);
  say({.op = VsockOp::Request, .host = kPort, .guest = 7});
  UniqueFd program = accept_program(listener);
  const std::string data = counted(65536);
  for (int i = 0; i < 6; ++i) say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = data});
  told();
  say({.op = VsockOp::Shutdown, .host = kPort, .guest = 7, .flags = kVsockNeither});
  EXPECT_EQ(told(), (std::vector<std::string>{"3 52 7 0"}));
  // The ports are free again.
  say({.op = VsockOp::Request, .host = kPort, .guest = 7});
  EXPECT_EQ(told(), (std::vector<std::string>{"2 52 7 0"}));
  EXPECT_EQ(program_reads(program).size(), 6 * data.size());
  EXPECT_TRUE(program_sees_end(program));
}

TEST_F(VsockTest, AResetFromTheGuestEndsItForTheProgram) {
  begin();
  UniqueFd program = connect_to_host();
  say({.op = VsockOp::Reset, .host = kPort, .guest = 7});
  EXPECT_TRUE(program_sees_end(program));
  EXPECT_TRUE(told().empty());
}

// --- what is wrong

TEST_F(VsockTest, PacketsOfNoConnectionAreReset) {
  begin();
  say({.op = VsockOp::ReadWrite, .host = 1, .guest = 2, .payload = "x"});
  say({.op = VsockOp::Response, .host = 1, .guest = 3});
  say({.op = VsockOp::Shutdown, .host = 1, .guest = 4});
  say({.op = VsockOp::CreditUpdate, .host = 1, .guest = 5});
  say({.op = VsockOp::Reset, .host = 1, .guest = 6});
  EXPECT_EQ(told(), (std::vector<std::string>{"3 1 2 0", "3 1 3 0", "3 1 4 0", "3 1 5 0"}));
}

TEST_F(VsockTest, APacketThatLiesAboutItsLengthResetsItsConnection) {
  begin();
  UniqueFd program = connect_to_host();
  VsockHeader bad = header({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7});
  bad.len = 1000;
  say_raw(bad, "short");
  EXPECT_EQ(told(), (std::vector<std::string>{"3 52 7 0"}));
  EXPECT_TRUE(program_sees_end(program));
}

TEST_F(VsockTest, ForeignPacketsAreDropped) {
  begin();
  VsockHeader foreign = header({.op = VsockOp::Request, .host = kPort, .guest = 7});
  foreign.src_cid = 3;
  say_raw(foreign);
  foreign = header({.op = VsockOp::Request, .host = kPort, .guest = 7});
  foreign.dst_cid = 1;
  say_raw(foreign);
  drivers[kTransmit].chain().readable(std::vector<std::byte>(43)).submit();
  drivers[kTransmit].chain().writable(44).submit();
  ring(kTransmit);
  EXPECT_EQ(drivers[kTransmit].take_used().size(), 2U);
  EXPECT_TRUE(told().empty());
}

TEST_F(VsockTest, AnotherTypeIsRefusedInKindAndHarmsNoStream) {
  begin();
  UniqueFd program = connect_to_host();
  VsockHeader other = header({.op = VsockOp::Request, .host = kPort, .guest = 7});
  other.type = 2;
  say_raw(other);
  const std::vector<Packet> packets = heard();
  ASSERT_EQ(packets.size(), 1U);
  EXPECT_EQ(packets[0].op, VsockOp::Reset);
  EXPECT_EQ(packets[0].type, 2);
  program_sends(program, "alive");
  EXPECT_EQ(payload(), "alive");
}

TEST_F(VsockTest, ADriverThatGivesNoBuffersStopsItselfAndLosesNoAnswer) {
  begin(0);
  for (uint32_t i = 0; i < 2 * VsockSwitch::kMaxRefusals; ++i) {
    if (drivers[kTransmit].free_slots() == 0) break;
    drivers[kTransmit].chain().readable_obj(header({.op = VsockOp::ReadWrite, .host = 1, .guest = i})).submit();
    if (i % 32 == 31) {
      ring(kTransmit);
      drivers[kTransmit].take_used();
    }
  }
  // 256 answers wait, and what the ring holds.
  size_t answers = 0;
  for (int i = 0; i < 40; ++i) {
    give_buffers(16);
    answers += heard().size();
  }
  EXPECT_GE(answers, VsockSwitch::kMaxRefusals);
  EXPECT_EQ(drivers[kTransmit].outstanding() - drivers[kTransmit].take_used().size(), 0U);
}

TEST_F(VsockTest, BuffersWithoutRoomGoBackEmpty) {
  begin(0);
  drivers[kReceive].chain().writable(44).submit();
  drivers[kReceive].chain().writable(10).submit();
  drivers[kReceive].chain().readable(std::vector<std::byte>(100)).submit();
  ring(kReceive);
  say({.op = VsockOp::Request, .host = 99, .guest = 7});
  const std::vector<FakeDriver::Used> used = drivers[kReceive].take_used();
  ASSERT_EQ(used.size(), 3U);
  for (const FakeDriver::Used& buffer : used) EXPECT_EQ(buffer.len, 0U);
  give_buffers(1);
  EXPECT_EQ(told(), (std::vector<std::string>{"3 99 7 0"}));
}

TEST_F(VsockTest, ABrokenQueueIsLeftAlone) {
  begin();
  UniqueFd program = connect_to_host();
  drivers[kReceive].publish(9999);
  ring(kReceive);
  for (int i = 0; i < 100; ++i) program_sends(program, counted(1000));
  EXPECT_TRUE(stop_queues()[0].broken());
}

// --- limits

TEST_F(VsockTest, BeyondTheLimitConnectionsAreRefusedAndALeaverMakesRoom) {
  const rlimit enough{.rlim_cur = 4096, .rlim_max = 4096};
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_GE(before.rlim_max, enough.rlim_cur);
  const rlimit raised{.rlim_cur = enough.rlim_cur, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &raised), 0);
  begin(32);
  UniqueFd listener = listen_program(kPort, 4096);
  const auto ask = [this](uint32_t guest_port) {
    say({.op = VsockOp::Request, .host = kPort, .guest = guest_port});
    give_buffers(1);
    return told();
  };
  for (uint32_t i = 0; i < VsockSwitch::kMaxConnections; ++i) {
    ASSERT_EQ(ask(i), (std::vector<std::string>{"2 52 " + std::to_string(i) + " 0"}));
  }
  EXPECT_EQ(ask(5000), (std::vector<std::string>{"3 52 5000 0"}));
  UniqueFd program = connect_program();
  program_sends(program, "CONNECT 1024\n");
  EXPECT_TRUE(program_sees_end(program));
  say({.op = VsockOp::Reset, .host = kPort, .guest = 500});
  EXPECT_EQ(ask(5000), (std::vector<std::string>{"2 52 5000 0"}));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(VsockTest, TenThousandConnectionsOneAfterTheOther) {
  begin(32);
  UniqueFd listener = listen_program(kPort);
  for (uint32_t i = 0; i < 10'000; ++i) {
    say({.op = VsockOp::Request, .host = kPort, .guest = i});
    UniqueFd program = accept_program(listener);
    ASSERT_TRUE(program.valid()) << i;
    say({.op = VsockOp::Shutdown, .host = kPort, .guest = i, .flags = kVsockNeither});
    ASSERT_TRUE(program_sees_end(program)) << i;
    ASSERT_EQ(heard().size(), 2U) << i;
    give_buffers(2);
  }
}

TEST_F(VsockTest, ADescriptorThatIsMissingIsARefusalAndNoMore) {
  begin();
  UniqueFd listener = listen_program(kPort);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd next(::dup(listener.get()));
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next.get()) + 1;
  UniqueFd program = connect_program();
  none.rlim_cur = static_cast<rlim_t>(program.get()) + 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  turn();
  say({.op = VsockOp::Request, .host = kPort, .guest = 7});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(told(), (std::vector<std::string>{"3 52 7 0"}));
  program_sends(program, "CONNECT 1024\n");
  ring(kTransmit);
  EXPECT_EQ(told(), (std::vector<std::string>{"1 1073741824 1024 0"}));
}

// --- reset, pause, restore

TEST_F(VsockTest, AResetEndsAllConnectionsAndTheListenerLivesOn) {
  begin();
  UniqueFd first = connect_to_host(7);
  uint32_t port = 0;
  UniqueFd second = connect_to_guest(port);
  UniqueFd greeter = connect_program();
  turn();
  restart();
  EXPECT_TRUE(program_sees_end(first));
  EXPECT_TRUE(program_sees_end(second));
  EXPECT_TRUE(program_sees_end(greeter));
  give_buffers(4);
  EXPECT_TRUE(told().empty());
  EXPECT_TRUE(connect_to_guest(port).valid());
}

TEST_F(VsockTest, APauseKeepsConnectionsAndWhatComesMeanwhile) {
  begin();
  UniqueFd program = connect_to_host();
  std::vector<Queue> queues = stop_queues();
  program_sends(program, "while you slept");
  UniqueFd greeter = connect_program();
  program_sends(greeter, "CONNECT 1024\n");
  EXPECT_TRUE(told().empty());
  resume(std::move(queues));
  EXPECT_THAT(told(), ::testing::UnorderedElementsAre("5 52 7 0 while you slept", "1 1073741824 1024 0"));
  say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "good morning"});
  EXPECT_EQ(program_reads(program), "good morning");
}

TEST_F(VsockTest, APauseInTheMiddleOfAStallGoesOn) {
  begin();
  UniqueFd program = connect_to_host();
  const std::string data = counted(65536);
  for (int i = 0; i < 6; ++i) {
    say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = data});
    told();
    give_buffers(1);
  }
  std::vector<Queue> queues = stop_queues();
  const std::string first = program_reads(program);
  EXPECT_LT(first.size(), 6 * data.size());
  resume(std::move(queues));
  EXPECT_EQ(first.size() + program_reads(program).size(), 6 * data.size());
}

TEST_F(VsockTest, AfterARestoreTheDriverHearsThatItsConnectionsAreGone) {
  begin();
  give_event_buffers(2);
  UniqueFd program = connect_to_host();
  save_and_restore();
  EXPECT_TRUE(program_sees_end(program));
  const std::vector<FakeDriver::Used> events = drivers[kEvents].take_used();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].len, 4U);
  EXPECT_GE(line.take(), 1);
}

TEST_F(VsockTest, NothingGoesOnBeforeTheDriverHasTakenTheEvent) {
  begin();
  give_event_buffers(2);
  uint32_t port = 0;
  UniqueFd before = connect_to_guest(port);
  save_and_restore();
  UniqueFd program = connect_program();
  program_sends(program, "CONNECT 1024\n");
  say({.op = VsockOp::ReadWrite, .host = port, .guest = kGuestPort, .payload = "old"});
  EXPECT_TRUE(told().empty());
  EXPECT_EQ(drivers[kEvents].take_used().size(), 1U);
  give_event_buffers(1);
  drivers[kTransmit].take_used();
  // The number is not given out twice: the guest may still know it.
  EXPECT_EQ(told(), (std::vector<std::string>{"3 1073741824 1024 0", "1 1073741825 1024 0"}));
}

TEST_F(VsockTest, AnEventWaitsForItsBuffer) {
  begin();
  save_and_restore();
  EXPECT_TRUE(drivers[kEvents].take_used().empty());
  give_event_buffers(1, 3);
  EXPECT_EQ(drivers[kEvents].take_used(), (std::vector<FakeDriver::Used>{{.id = 0, .len = 0}}));
  give_event_buffers(1);
  EXPECT_EQ(drivers[kEvents].take_used().size(), 1U);
}

TEST_F(VsockTest, ASecondRestoreIsAsTheFirst) {
  begin();
  give_event_buffers(4);
  for (int i = 0; i < 3; ++i) {
    uint32_t port = 0;
    UniqueFd program = connect_to_guest(port);
    EXPECT_EQ(port, (1U << 30) + static_cast<uint32_t>(i));
    save_and_restore();
    EXPECT_TRUE(program_sees_end(program));
    EXPECT_EQ(drivers[kEvents].take_used().size(), 1U);
    give_event_buffers(1);
    give_buffers(1);
  }
}

TEST_F(VsockTest, ARestoreBeforeTheDriverHasTakenTheEventTellsItAgain) {
  begin();
  give_event_buffers(4);
  save_and_restore();
  pause_and_resume();
  EXPECT_EQ(drivers[kEvents].take_used().size(), 1U);
  save_and_restore();
  EXPECT_EQ(drivers[kEvents].take_used().size(), 1U);
  give_event_buffers(1);
  uint32_t port = 0;
  EXPECT_TRUE(connect_to_guest(port).valid());
}

TEST_F(VsockTest, ADriverThatStartsAnewAfterARestoreNeedsNoEvent) {
  begin();
  give_event_buffers(2);
  save_and_restore();
  restart();
  give_event_buffers(2);
  give_buffers(4);
  EXPECT_TRUE(drivers[kEvents].take_used().empty());
  uint32_t port = 0;
  EXPECT_TRUE(connect_to_guest(port).valid());
}

TEST_F(VsockTest, AMachineThatWasSavedBeforeItsDriverStartedHasNothingToTell) {
  make();
  const Result<std::vector<std::byte>> saved = device->save();
  ASSERT_TRUE(saved.has_value());
  device.reset();
  make(*state::from_bytes<VsockState>(*saved));
  start();
  give_event_buffers(1);
  EXPECT_TRUE(drivers[kEvents].take_used().empty());
}

TEST_F(VsockTest, AStateWithAPortThatIsNotOursIsRefused) {
  EXPECT_FALSE(try_make(VsockState{.driver_running = true, .next_host_port = 1}).has_value());
  EXPECT_FALSE(try_make(VsockState{.driver_running = true, .next_host_port = 1U << 31}).has_value());
}

TEST_F(VsockTest, TheNumbersOfHostPortsStartAgainAtTheirEnd) {
  make(VsockState{.driver_running = false, .next_host_port = (1U << 31) - 1});
  start();
  give_buffers(8);
  uint32_t port = 0;
  UniqueFd last = connect_to_guest(port);
  EXPECT_EQ(port, (1U << 31) - 1);
  UniqueFd first = connect_to_guest(port);
  EXPECT_EQ(port, 1U << 30);
}

TEST(VsockStateTest, EachFieldIsSaved) {
  testing::check_state(VsockState{.driver_running = true, .next_host_port = 1U << 30});
}

// The same on packed rings, with notifications by event index.
TEST(VsockPackedTest, BothWaysAndARestoreOnPackedRings) {
  VsockFixture host({.size = 64, .packed = true, .event_idx = true});
  host.make();
  host.start();
  host.give_buffers(8);
  host.give_event_buffers(2);
  UniqueFd listener = host.listen_program(kPort);
  for (int i = 0; i < 3; ++i) {
    host.say({.op = VsockOp::Request, .host = kPort, .guest = 7});
    UniqueFd program = VsockFixture::accept_program(listener);
    ASSERT_TRUE(program.valid());
    host.say({.op = VsockOp::ReadWrite, .host = kPort, .guest = 7, .payload = "there"});
    EXPECT_EQ(host.program_reads(program), "there");
    host.program_sends(program, "back");
    const auto packets = host.heard();
    ASSERT_EQ(packets.size(), 2U);
    EXPECT_EQ(packets[1].payload, "back");
    host.give_buffers(2);
    host.save_and_restore();
    EXPECT_EQ(host.drivers[VsockFixture::kEvents].take_used().size(), 1U);
    host.give_event_buffers(1);
  }
}

}  // namespace
}  // namespace strato::virtio
