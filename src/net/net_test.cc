#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/assert.h"
#include "net/frame_splitter.h"
#include "net/stream_net.h"
#include "net/tap.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

std::vector<std::byte> frame_of(size_t bytes, uint8_t seed) {
  std::vector<std::byte> frame(bytes);
  for (size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>((seed + i) % 251);
  return frame;
}

std::vector<std::byte> on_wire(std::span<const std::byte> frame) {
  const be32 length(static_cast<uint32_t>(frame.size()));
  std::vector<std::byte> bytes(sizeof(length));
  std::memcpy(bytes.data(), &length, sizeof(length));
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

// --- FrameSplitter

class SplitterTest : public ::testing::Test {
 protected:
  void feed(std::span<const std::byte> bytes) {
    const std::span<std::byte> room = splitter.room();
    STRATO_ASSERT(bytes.size() <= room.size());
    std::ranges::copy(bytes, room.begin());
    splitter.filled(bytes.size());
  }
  std::vector<std::byte> next() {
    std::span<const std::byte> frame;
    EXPECT_EQ(splitter.next(frame), FrameSplitter::State::Frame);
    return {frame.begin(), frame.end()};
  }
  FrameSplitter::State state() {
    std::span<const std::byte> frame;
    return splitter.next(frame);
  }
  FrameSplitter splitter;
};

TEST_F(SplitterTest, FramesComeOutAsTheyWentIn) {
  std::vector<std::byte> bytes = on_wire(frame_of(60, 1));
  const std::vector<std::byte> second = on_wire(frame_of(1514, 2));
  bytes.insert(bytes.end(), second.begin(), second.end());
  feed(bytes);
  EXPECT_EQ(next(), frame_of(60, 1));
  EXPECT_EQ(next(), frame_of(1514, 2));
  EXPECT_EQ(state(), FrameSplitter::State::NeedsMore);
}

TEST_F(SplitterTest, AFrameMayComeByteByByte) {
  for (const std::byte byte : on_wire(frame_of(20, 3))) {
    EXPECT_EQ(state(), FrameSplitter::State::NeedsMore);
    feed({&byte, 1});
  }
  EXPECT_EQ(next(), frame_of(20, 3));
}

TEST_F(SplitterTest, TheLongestFrameFitsAlsoBehindAnother) {
  feed(on_wire(frame_of(100, 1)));
  const std::vector<std::byte> longest = on_wire(frame_of(kMaxFrameBytes, 4));
  feed(std::span(longest).first(50));
  EXPECT_EQ(next(), frame_of(100, 1));
  feed(std::span(longest).subspan(50));
  EXPECT_EQ(next(), frame_of(kMaxFrameBytes, 4));
}

TEST_F(SplitterTest, ALongerFrameEndsTheStream) {
  const be32 length(static_cast<uint32_t>(kMaxFrameBytes + 1));
  feed(std::as_bytes(std::span(&length, 1)));
  EXPECT_EQ(state(), FrameSplitter::State::TooLong);
  EXPECT_EQ(state(), FrameSplitter::State::TooLong);
}

TEST_F(SplitterTest, AnEmptyFrameIsOne) {
  feed(on_wire({}));
  EXPECT_EQ(next(), std::vector<std::byte>());
}

// --- StreamNet

class StreamNetTest : public ::testing::Test {
 protected:
  StreamNetTest() {
    char path[] = "/tmp/stream_net_XXXXXX";
    STRATO_ASSERT(::mkdtemp(path) != nullptr);
    folder = path;
    address.path = folder + "/socket";
  }
  ~StreamNetTest() override {
    detach();
    net.reset();
    std::filesystem::remove_all(folder);
  }

  // Frames that nobody takes are announced again and again.
  void turn() {
    for (int i = 0; i < 10 && loop->run_once(0) != 0; ++i) {
    }
  }
  void attach() {
    receiver = *net->attach_receiver(0, *loop, [this] { ++frames_announced; });
    sender = *net->attach_sender(0, *loop, [this] { ++room_announced; });
    receiver->listen(true);
    turn();
  }
  void detach() {
    receiver.reset();
    sender.reset();
  }
  // Our end of a pair of sockets is the peer.
  void adopt() {
    std::array<int, 2> ends{};
    STRATO_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    peer = UniqueFd(ends[0]);
    net = *StreamNet::adopt(*loop, "net0", UniqueFd(ends[1]));
    net->on_link([this] { links.push_back(net->link_up()); });
  }
  void peer_sends(std::span<const std::byte> bytes) {
    STRATO_ASSERT(::send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    turn();
  }
  std::vector<std::byte> peer_reads(size_t bytes) {
    std::vector<std::byte> out(bytes);
    const ssize_t got = ::recv(peer.get(), out.data(), bytes, MSG_DONTWAIT);
    out.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return out;
  }
  // In pieces of odd sizes. Empty: there was none.
  std::vector<std::byte> receive() {
    NetHeader header{};
    header.flags = 0xff;
    std::vector<std::byte> first(30);
    std::vector<std::byte> rest(kMaxFrameBytes);
    const std::array<iovec, 3> room = {
        {{&header, sizeof(header)}, {first.data(), first.size()}, {rest.data(), rest.size()}}};
    const size_t got = receiver->receive(room);
    if (got == 0) return {};
    EXPECT_EQ(header.flags, 0);
    first.insert(first.end(), rest.begin(), rest.end());
    first.resize(got - sizeof(header));
    return first;
  }
  NetSender::Sent send(std::span<const std::byte> frame) {
    NetHeader header{};
    auto* data = const_cast<std::byte*>(frame.data());
    const std::array<iovec, 3> pieces = {{{&header, sizeof(header)}, {data, 10}, {data + 10, frame.size() - 10}}};
    return sender->send(pieces);
  }

  ManualClock clock{0};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  std::string folder;
  SocketAddress address;
  std::unique_ptr<StreamNet> net;
  std::unique_ptr<NetReceiver> receiver;
  std::unique_ptr<NetSender> sender;
  UniqueFd peer;
  std::vector<bool> links;
  int frames_announced = 0;
  int room_announced = 0;
};

using Sent = NetSender::Sent;

TEST_F(StreamNetTest, FramesGoBothWays) {
  adopt();
  EXPECT_TRUE(net->link_up());
  attach();
  EXPECT_EQ(send(frame_of(60, 1)), Sent::Yes);
  EXPECT_EQ(peer_reads(1000), on_wire(frame_of(60, 1)));
  const int before = frames_announced;
  peer_sends(on_wire(frame_of(1514, 2)));
  EXPECT_GT(frames_announced, before);
  EXPECT_EQ(receive(), frame_of(1514, 2));
  EXPECT_EQ(receive(), std::vector<std::byte>());
}

TEST_F(StreamNetTest, AFrameThatComesBeforeTheConnectionReachesTheSenderWaitsForIt) {
  adopt();
  sender = *net->attach_sender(0, *loop, [this] { ++room_announced; });
  EXPECT_EQ(send(frame_of(60, 1)), Sent::Later);
  turn();
  EXPECT_EQ(room_announced, 1);
  EXPECT_EQ(send(frame_of(60, 1)), Sent::Yes);
  EXPECT_EQ(peer_reads(1000), on_wire(frame_of(60, 1)));
}

TEST_F(StreamNetTest, AFrameShorterThanAnEthernetHeaderIsDropped) {
  adopt();
  attach();
  peer_sends(on_wire(frame_of(13, 1)));
  peer_sends(on_wire(frame_of(14, 2)));
  EXPECT_EQ(receive(), frame_of(14, 2));
}

TEST_F(StreamNetTest, HalvesOfFramesSurviveAPause) {
  adopt();
  attach();
  const std::vector<std::byte> incoming = on_wire(frame_of(100, 1));
  peer_sends(std::span(incoming).first(50));
  EXPECT_EQ(receive(), std::vector<std::byte>());
  // The socket takes one of these in part at some time.
  int sent = 0;
  while (send(frame_of(60000, 7)) == Sent::Yes) ++sent;
  detach();
  turn();
  attach();
  peer_sends(std::span(incoming).subspan(50));
  EXPECT_EQ(receive(), frame_of(100, 1));
  std::vector<std::byte> all;
  for (;;) {
    const std::vector<std::byte> some = peer_reads(100000);
    if (some.empty()) break;
    all.insert(all.end(), some.begin(), some.end());
    turn();
  }
  ASSERT_EQ(all.size(), static_cast<size_t>(sent) * 60004);
  for (int i = 0; i < sent; ++i) {
    const auto one = std::span(all).subspan(static_cast<size_t>(i) * 60004, 60004);
    EXPECT_TRUE(std::ranges::equal(one, on_wire(frame_of(60000, 7))));
  }
}

TEST_F(StreamNetTest, AFullSocketMakesTheSenderWaitAndSaysWhenThereIsRoom) {
  adopt();
  attach();
  while (send(frame_of(1514, 1)) == Sent::Yes) {
  }
  room_announced = 0;
  turn();
  EXPECT_EQ(room_announced, 0);
  while (!peer_reads(100000).empty()) turn();
  EXPECT_GT(room_announced, 0);
  EXPECT_EQ(send(frame_of(1514, 1)), Sent::Yes);
}

TEST_F(StreamNetTest, APeerThatGoesIsALinkThatIsDown) {
  adopt();
  attach();
  peer.reset();
  turn();
  EXPECT_EQ(receive(), std::vector<std::byte>());
  turn();
  EXPECT_EQ(links, (std::vector<bool>{false}));
  EXPECT_EQ(send(frame_of(60, 1)), Sent::No);
  EXPECT_EQ(receive(), std::vector<std::byte>());
  // Nobody is woken by it for ever.
  EXPECT_EQ(loop->run_once(0), 0U);
}

TEST_F(StreamNetTest, APeerThatGoesIsNoticedByWhoWantsNoFrames) {
  adopt();
  attach();
  receiver->listen(false);
  peer_sends(on_wire(frame_of(60, 1)));
  EXPECT_EQ(frames_announced, 1);  // when it was attached
  peer.reset();
  turn();
  EXPECT_EQ(links, (std::vector<bool>{false}));
  EXPECT_EQ(loop->run_once(0), 0U);
}

TEST_F(StreamNetTest, APeerThatAnnouncesTooLongAFrameIsLeft) {
  adopt();
  attach();
  const be32 length(uint32_t{0xffffffff});
  peer_sends(std::as_bytes(std::span(&length, 1)));
  EXPECT_EQ(receive(), std::vector<std::byte>());
  turn();
  EXPECT_FALSE(net->link_up());
  std::array<char, 1> byte{};
  EXPECT_EQ(::recv(peer.get(), byte.data(), 1, MSG_DONTWAIT), 0);
}

TEST_F(StreamNetTest, AServerTakesOneClientAfterTheOther) {
  net = *StreamNet::open(*loop, {.name = "net0", .address = address, .server = true});
  net->on_link([this] { links.push_back(net->link_up()); });
  attach();
  EXPECT_FALSE(net->link_up());
  EXPECT_EQ(send(frame_of(60, 1)), Sent::No);
  for (uint8_t round = 0; round < 2; ++round) {
    peer = *start_connecting(address);
    turn();
    EXPECT_TRUE(net->link_up());
    peer_sends(on_wire(frame_of(60, round)));
    EXPECT_EQ(receive(), frame_of(60, round));
    EXPECT_EQ(send(frame_of(70, round)), Sent::Yes);
    EXPECT_EQ(peer_reads(1000), on_wire(frame_of(70, round)));
    peer.reset();
    turn();
    receive();
    turn();
  }
  EXPECT_EQ(links, (std::vector<bool>{true, false, true, false}));
}

TEST_F(StreamNetTest, AClientWithoutAServerIsAnErrorOrTriesAgain) {
  const Result<std::unique_ptr<StreamNet>> refused = StreamNet::open(*loop, {.name = "net0", .address = address});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().text().find(address.path), std::string::npos);

  net = *StreamNet::open(*loop, {.name = "net0", .address = address, .retry_ns = kSecond});
  attach();
  EXPECT_FALSE(net->link_up());
  {
    const ListeningSocket server = *ListeningSocket::open(address);
    clock.advance_ns(kSecond);
    turn();
    EXPECT_TRUE(net->link_up());
    peer = server.accept();
    peer_sends(on_wire(frame_of(60, 1)));
    EXPECT_EQ(receive(), frame_of(60, 1));
    peer.reset();
    turn();
    receive();
    turn();
    EXPECT_FALSE(net->link_up());
  }
  const ListeningSocket server = *ListeningSocket::open(address);
  clock.advance_ns(kSecond);
  turn();
  EXPECT_TRUE(net->link_up());
}

// --- Tap: what can be seen without one; tests/linux has the rest

TEST(TapTest, WhatIsNoTapIsRefusedByItsNumber) {
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  const Result<std::unique_ptr<Tap>> tap = Tap::adopt(std::array{fd});
  ASSERT_FALSE(tap.has_value());
  EXPECT_NE(tap.error().text().find("not a tap interface"), std::string::npos);
  EXPECT_EQ(::close(fd), 0);  // it did not become ours
  EXPECT_FALSE(Tap::adopt(std::array{1 << 20}).has_value());
}

TEST(TapTest, ANameThatIsTooLongIsRefused) {
  const Result<std::unique_ptr<Tap>> tap = Tap::open("sixteen-bytes-00", 1);
  ASSERT_FALSE(tap.has_value());
  EXPECT_NE(tap.error().text().find("1 to 15 bytes"), std::string::npos);
}

}  // namespace
}  // namespace strato
