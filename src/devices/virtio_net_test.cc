#include "devices/virtio_net.h"

#include <gtest/gtest.h>

#include <cstring>

#include "testing/net_host.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::FakeNet;
using strato::testing::kTestMac;
using strato::testing::NetHost;

constexpr uint64_t kMs = 1'000'000;
constexpr size_t kHeader = sizeof(NetHeader);

// For the station `to`, with bytes that tell the places apart.
std::vector<std::byte> frame_to(const MacAddress& to, size_t bytes, uint8_t seed = 1) {
  std::vector<std::byte> frame(bytes);
  for (size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>((seed + i) % 251);
  std::memcpy(frame.data(), to.data(), to.size());
  return frame;
}
std::vector<std::byte> frame_of(size_t bytes, uint8_t seed = 1) {
  return frame_to(kTestMac, bytes, seed);
}
std::vector<std::byte> tagged(uint16_t vlan) {
  std::vector<std::byte> frame = frame_of(64);
  const be16 words[] = {uint16_t{0x8100}, vlan};
  std::memcpy(frame.data() + 12, words, sizeof(words));
  return frame;
}

class NetTest : public ::testing::Test {
 protected:
  void make(const NetHost::Options& options = {}) { host = std::make_unique<NetHost>(options); }
  FakeNet& net() { return *host->net; }
  FakeDriver& receive() { return host->receive(); }
  FakeDriver& transmit() { return host->transmit(); }
  const NetShared& counters() { return host->device->shared(); }

  NetHeader header_at(const FakeDriver::Submitted& sent) {
    NetHeader header;
    std::memcpy(&header, receive().bytes_at(sent.addresses[0], kHeader).data(), kHeader);
    return header;
  }
  std::vector<std::byte> got(const FakeDriver::Submitted& sent, size_t bytes) {
    return receive().bytes_at(sent.addresses[0] + kHeader, bytes);
  }
  // Whether a frame like this reaches the guest.
  bool passes(const std::vector<std::byte>& frame) {
    receive().chain().writable(2000).submit();
    net().put(frame);
    host->ring();
    const bool passed = !receive().take_used().empty();
    EXPECT_EQ(net().waiting(), 0U);
    return passed;
  }
  void transmit_frame(const NetHeader& header, std::span<const std::byte> frame) {
    transmit().chain().readable_obj(header).readable(frame).submit();
    host->ring();
  }

  std::unique_ptr<NetHost> host;
};

// --- to the guest

TEST_F(NetTest, AFrameOfTheHostIsInTheGuestsBufferWithItsHeader) {
  make();
  host->start();
  const auto buffer = receive().chain().writable(2000).submit();
  host->ring();
  host->line.take();
  NetHeader header{};
  header.flags = kNetHeaderNeedsChecksum;
  header.csum_start = 34;
  net().put(frame_of(1514), 0, header);
  host->turn();
  EXPECT_EQ(receive().take_used(), (std::vector<FakeDriver::Used>{{buffer.id, 1526}}));
  EXPECT_EQ(got(buffer, 1514), frame_of(1514));
  EXPECT_EQ(header_at(buffer).flags, kNetHeaderNeedsChecksum);
  EXPECT_EQ(header_at(buffer).csum_start.get(), 34);
  EXPECT_EQ(header_at(buffer).num_buffers.get(), 1);
  EXPECT_EQ(host->line.take(), 1);
}

TEST_F(NetTest, AFrameShorterThanWhatIsLookedAtArrives) {
  make();
  host->start();
  const auto buffer = receive().chain().writable(14 + 12).submit();
  net().put(frame_of(14));
  host->ring();
  EXPECT_EQ(receive().take_used(), (std::vector<FakeDriver::Used>{{buffer.id, 26}}));
  EXPECT_EQ(got(buffer, 14), frame_of(14));
}

TEST_F(NetTest, FramesOfOneRoundAreOneInterrupt) {
  make();
  host->start();
  for (int i = 0; i < 20; ++i) receive().chain().writable(2000).submit();
  host->ring();
  host->line.take();
  for (uint8_t i = 0; i < 20; ++i) net().put(frame_of(100, i));
  host->turn();
  EXPECT_EQ(receive().take_used().size(), 20U);
  EXPECT_EQ(host->line.take(), 1);
}

TEST_F(NetTest, ALongFrameFillsSeveralBuffersWithMergeableOnes) {
  for (const bool packed : {false, true}) {
    make({.packed = packed});
    host->start();
    std::vector<FakeDriver::Submitted> buffers;
    for (int i = 0; i < 60; ++i) buffers.push_back(receive().chain().writable(1536).submit());
    for (uint8_t round = 0; round < 2; ++round) {
      if (round == 1) {
        for (int i = 0; i < 4; ++i) buffers.push_back(receive().chain().writable(1536).submit());
      }
      const size_t bytes = round == 0 ? 20000 : 1536 * 4 - 12;
      net().put(frame_of(bytes, round));
      host->ring();
      const size_t count = round == 0 ? 14 : 4;
      const std::vector<FakeDriver::Used> used = receive().take_used();
      ASSERT_EQ(used.size(), count);
      EXPECT_EQ(header_at(buffers[0]).num_buffers.get(), count);
      std::vector<std::byte> all;
      for (size_t i = 0; i < count; ++i) {
        EXPECT_EQ(used[i].id, buffers[i].id);
        const std::vector<std::byte> part = receive().bytes_at(buffers[i].addresses[0], used[i].len);
        all.insert(all.end(), part.begin(), part.end());
      }
      all.erase(all.begin(), all.begin() + kHeader);
      EXPECT_EQ(all, frame_of(bytes, round));
      buffers.erase(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(count));
    }
  }
}

TEST_F(NetTest, AFrameThatFindsTooFewBuffersWaitsForMore) {
  make();
  host->start();
  const auto first = receive().chain().writable(100).submit();
  host->ring();
  net().put(frame_of(1000));
  host->turn();
  EXPECT_TRUE(receive().take_used().empty());
  for (int i = 0; i < 5; ++i) receive().chain().writable(200).submit();
  host->ring();
  const std::vector<FakeDriver::Used> used = receive().take_used();
  ASSERT_EQ(used.size(), 6U);
  EXPECT_EQ(used[0], (FakeDriver::Used{first.id, 100}));
  EXPECT_EQ(used[5].len, 1012 - 100 - 800);
  EXPECT_EQ(header_at(first).num_buffers.get(), 6);
}

TEST_F(NetTest, WithoutMergeableBuffersAFrameThatDoesNotFitIsLostAndTheBufferStays) {
  make();
  host->start(kNetFeatureMergeBuffers);
  const auto buffer = receive().chain().writable(500).submit();
  receive().chain().writable(2000).submit();
  net().put(frame_of(1000));
  net().put(frame_of(400));
  host->ring();
  EXPECT_EQ(receive().take_used(), (std::vector<FakeDriver::Used>{{buffer.id, 412}}));
  EXPECT_EQ(got(buffer, 400), frame_of(400));
  EXPECT_EQ(header_at(buffer).num_buffers.get(), 1);
  EXPECT_EQ(counters().lost_frames, 1U);
}

TEST_F(NetTest, BuffersThatHoldNoHeaderAreRefusedAndGoBack) {
  make();
  host->start();
  receive().chain().writable(11).submit();
  receive().chain().raw(receive().allocate(16), 0, kDescWrite).submit();
  const auto buffer = receive().chain().writable(200).submit();
  net().put(frame_of(100));
  host->ring();
  const std::vector<FakeDriver::Used> used = receive().take_used();
  ASSERT_EQ(used.size(), 3U);
  EXPECT_EQ(used[0].len, 0U);
  EXPECT_EQ(used[1].len, 0U);
  EXPECT_EQ(used[2], (FakeDriver::Used{buffer.id, 112}));
  EXPECT_EQ(counters().refused_requests, 2U);
}

TEST_F(NetTest, AWrongBufferBehindGoodOnesWaitsForItsTurn) {
  make();
  host->start();
  const auto first = receive().chain().writable(500).submit();
  const auto wrong = receive().chain().writable(3).submit();
  const auto last = receive().chain().writable(2000).submit();
  net().put(frame_of(1000, 1));  // needs more than the first, and finds a wrong one
  net().put(frame_of(100, 2));
  net().put(frame_of(100, 3));
  host->ring();
  EXPECT_EQ(receive().take_used(), (std::vector<FakeDriver::Used>{{first.id, 112}, {wrong.id, 0}, {last.id, 112}}));
  EXPECT_EQ(got(first, 100), frame_of(100, 2));
  EXPECT_EQ(got(last, 100), frame_of(100, 3));
  EXPECT_EQ(counters().lost_frames, 1U);
}

TEST_F(NetTest, ARingOfBuffersThatIsTooShortForAFrameLosesItAndServesTheNext) {
  make({.queue_size = 16});
  host->start();
  for (int i = 0; i < 16; ++i) receive().chain().writable(12).submit();
  net().put(frame_of(60000));
  net().put(frame_of(100));
  host->ring();
  EXPECT_EQ(counters().lost_frames, 1U);
  EXPECT_EQ(receive().take_used().size(), 10U);
}

TEST_F(NetTest, ABufferInAThousandPiecesIsFilled) {
  make();
  host->start();
  FakeDriver::Request request = receive().chain();
  for (int i = 0; i < 1026; ++i) request.writable(1);
  const auto buffer = request.indirect().submit();
  net().put(frame_of(1014));
  host->ring();
  ASSERT_EQ(receive().take_used(), (std::vector<FakeDriver::Used>{{buffer.id, 1026}}));
  std::vector<std::byte> all;
  for (const uint64_t address : buffer.addresses) all.push_back(receive().bytes_at(address, 1)[0]);
  all.erase(all.begin(), all.begin() + kHeader);
  EXPECT_EQ(all, frame_of(1014));
}

TEST_F(NetTest, TheLongestFrameOfAllArrivesThroughOneShortAndOneLongBuffer) {
  make();
  host->start();
  receive().chain().writable(64).submit();
  const auto rest = receive().chain().writable(kMaxFrameBytes).submit();
  net().put(frame_of(kMaxFrameBytes));
  host->ring();
  const std::vector<FakeDriver::Used> used = receive().take_used();
  ASSERT_EQ(used.size(), 2U);
  EXPECT_EQ(used[1].len, kMaxFrameBytes + 12 - 64);
  const std::vector<std::byte> whole = frame_of(kMaxFrameBytes);
  EXPECT_EQ(receive().bytes_at(rest.addresses[0], used[1].len),
            std::vector<std::byte>(whole.begin() + 52, whole.end()));
}

TEST_F(NetTest, WithoutBuffersTheHostIsNotAskedAndNobodyIsWoken) {
  make();
  host->start();
  net().put(frame_of(100));
  host->turn();
  EXPECT_FALSE(net().listening());
  EXPECT_EQ(net().waiting(), 1U);
  receive().chain().writable(2000).submit();
  EXPECT_TRUE(receive().take_kick());
  host->ring();
  EXPECT_EQ(receive().take_used().size(), 1U);
  EXPECT_FALSE(net().listening());  // the buffer has gone
}

TEST_F(NetTest, ABrokenRingStopsTheQueueAndAResetMendsIt) {
  make();
  host->start();
  receive().publish(9999);
  net().put(frame_of(100));
  host->ring();
  EXPECT_TRUE(receive().take_used().empty());
  host->reset();
  receive().reset();
  receive().chain().writable(2000).submit();
  host->start();
  EXPECT_EQ(receive().take_used().size(), 1U);
}

// --- to the host

TEST_F(NetTest, AFrameOfTheGuestReachesTheHost) {
  make();
  host->start();
  transmit().chain().readable_obj(NetHeader{}).readable(frame_of(1514)).submit();
  host->ring();
  EXPECT_EQ(transmit().take_used().size(), 1U);
  const std::vector<FakeNet::Frame> sent = net().take_sent();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].bytes, frame_of(1514));
  EXPECT_EQ(host->line.take(), 1);
}

TEST_F(NetTest, AHeaderInPiecesIsOneHeader) {
  make();
  host->start();
  NetHeader header{};
  header.flags = kNetHeaderNeedsChecksum;
  header.csum_start = 14;
  header.csum_offset = 6;
  const auto bytes = std::as_bytes(std::span(&header, 1));
  const std::vector<std::byte> frame = frame_of(60);
  transmit()
      .chain()
      .readable(bytes.first(5))
      .readable(bytes.subspan(5))
      .readable(std::span(frame).first(3))
      .readable(std::span(frame).subspan(3))
      .submit();
  host->ring();
  const std::vector<FakeNet::Frame> sent = net().take_sent();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].bytes, frame);
  EXPECT_EQ(sent[0].header.csum_offset.get(), 6);
}

TEST_F(NetTest, AFullHostHoldsFramesBackAndNoneIsLost) {
  make();
  host->start();
  net().take_only(2);
  for (uint8_t i = 0; i < 5; ++i) transmit().chain().readable_obj(NetHeader{}).readable(frame_of(60, i)).submit();
  host->ring();
  EXPECT_EQ(transmit().take_used().size(), 2U);
  host->ring();
  EXPECT_EQ(transmit().take_used().size(), 0U);
  net().take_only(10);
  host->turn();
  EXPECT_EQ(transmit().take_used().size(), 3U);
  const std::vector<FakeNet::Frame> sent = net().take_sent();
  ASSERT_EQ(sent.size(), 5U);
  EXPECT_EQ(sent[4].bytes, frame_of(60, 4));
  EXPECT_EQ(counters().lost_frames, 0U);
}

TEST_F(NetTest, AQueueThatCannotBeAttachedIsNotServedAndComesBackAllTheSame) {
  make();
  net().refuse_to_attach(true);
  host->start();
  receive().chain().writable(2000).submit();
  transmit_frame({}, frame_of(60));
  EXPECT_TRUE(transmit().take_used().empty());
  net().refuse_to_attach(false);
  host->go_on(host->stop());
  EXPECT_EQ(transmit().take_used().size(), 1U);
}

TEST_F(NetTest, FramesThatTheHostRefusesAreCountedAndTheDriverGoesOn) {
  make();
  host->start();
  net().lose_frames(true);
  transmit_frame({}, frame_of(60));
  net().lose_frames(false);
  transmit_frame({}, frame_of(60));
  EXPECT_EQ(transmit().take_used().size(), 2U);
  EXPECT_EQ(counters().lost_frames, 1U);
  EXPECT_EQ(counters().sent_frames, 1U);
}

TEST_F(NetTest, WrongFramesAreRefusedAndTheQueueLivesOn) {
  make();
  host->start();
  NetHeader no_size{};
  no_size.flags = kNetHeaderNeedsChecksum;
  no_size.csum_start = 14;
  no_size.gso_type = kNetGsoTcp4;
  transmit_frame(no_size, frame_of(3000));
  NetHeader past_the_end{};
  past_the_end.flags = kNetHeaderNeedsChecksum;
  past_the_end.csum_start = 59;
  transmit_frame(past_the_end, frame_of(60));
  transmit_frame({}, frame_of(13));
  transmit().chain().readable(frame_of(11)).submit();
  transmit().chain().writable(100).submit();
  transmit().chain().readable_obj(NetHeader{}).raw(0x100000, kMaxFrameBytes + 1, 0).submit();
  FakeDriver::Request pieces = transmit().chain().readable_obj(NetHeader{});
  for (int i = 0; i < 1024; ++i) pieces.raw(0x100000, 1, 0);
  pieces.indirect().submit();
  host->ring();
  EXPECT_EQ(transmit().take_used().size(), 7U);
  EXPECT_EQ(counters().refused_requests, 7U);
  EXPECT_TRUE(net().take_sent().empty());
  transmit_frame({}, frame_of(60));
  EXPECT_EQ(net().take_sent().size(), 1U);
}

// --- the link

TEST_F(NetTest, ALinkThatIsDownLosesFramesBothWaysAndTheDriverIsTold) {
  make();
  host->start();
  EXPECT_EQ(host->status(), kNetStatusLinkUp);
  host->config_changes = 0;
  host->device->set_link(false);
  EXPECT_EQ(host->status(), 0);
  EXPECT_EQ(host->config_changes, 1);
  host->device->set_link(false);
  EXPECT_EQ(host->config_changes, 1);
  receive().chain().writable(2000).submit();
  net().put(frame_of(100, 1));
  transmit_frame({}, frame_of(60));
  EXPECT_EQ(net().waiting(), 0U);
  EXPECT_TRUE(net().take_sent().empty());
  EXPECT_EQ(transmit().take_used().size(), 1U);
  EXPECT_EQ(counters().lost_frames, 2U);
  host->device->set_link(true);
  EXPECT_EQ(host->status(), kNetStatusLinkUp);
  net().put(frame_of(100, 2));
  host->turn();
  EXPECT_EQ(receive().take_used().size(), 1U);
}

TEST_F(NetTest, ABackEndWhoseHostHasGoneIsALinkThatIsDown) {
  make();
  host->start();
  net().set_link(false);
  EXPECT_EQ(host->status(), 0);
  host->device->set_link(true);  // what the user wants is not enough
  EXPECT_EQ(host->status(), 0);
  net().set_link(true);
  EXPECT_EQ(host->status(), kNetStatusLinkUp);
}

TEST_F(NetTest, WhatHappensToTheLinkDuringAPauseIsToldAfterIt) {
  make();
  host->start();
  std::vector<Queue> stopped = host->stop();
  host->config_changes = 0;
  net().set_link(false);
  EXPECT_EQ(host->config_changes, 0);
  EXPECT_EQ(host->status(), kNetStatusLinkUp);
  host->go_on(std::move(stopped));
  EXPECT_EQ(host->config_changes, 1);
  EXPECT_EQ(host->status(), 0);
}

// --- control

TEST_F(NetTest, TheFilterFollowsTheDriver) {
  make();
  host->start();
  const MacAddress other = {0x52, 0x54, 0x00, 0x12, 0x34, 0x99};
  const MacAddress group = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};
  const MacAddress broadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  EXPECT_TRUE(passes(frame_to(other, 60)));  // promiscuous until the driver says something
  EXPECT_EQ(host->command(kNetControlReceive, NetFilter::kPromiscuous, uint8_t{0}), kNetControlOk);
  EXPECT_TRUE(passes(frame_of(60)));
  EXPECT_TRUE(passes(frame_to(broadcast, 60)));
  EXPECT_FALSE(passes(frame_to(other, 60)));
  EXPECT_FALSE(passes(frame_to(group, 60)));
  struct {
    le32 unicast_entries = 1;
    MacAddress unicast = {0x52, 0x54, 0x00, 0x12, 0x34, 0x99};
    le32 multicast_entries = 1;
    MacAddress multicast = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};
  } table;
  EXPECT_EQ(host->command(kNetControlMac, kNetControlMacTable, table), kNetControlOk);
  EXPECT_TRUE(passes(frame_to(other, 60)));
  EXPECT_TRUE(passes(frame_to(group, 60)));
  EXPECT_EQ(host->command(kNetControlReceive, NetFilter::kNoBroadcast, uint8_t{1}), kNetControlOk);
  EXPECT_FALSE(passes(frame_to(broadcast, 60)));
}

TEST_F(NetTest, ADriverMayTakeAnotherAddressButNoneThatNoStationCanHave) {
  make();
  host->start();
  const MacAddress mine = {0x02, 0, 0, 0, 0, 0x77};
  EXPECT_EQ(host->command(kNetControlMac, kNetControlMacAddress, mine), kNetControlOk);
  EXPECT_EQ(host->device->config().load<NetConfigSpace>(0).mac[5], 0x77);
  EXPECT_EQ(host->command(kNetControlMac, kNetControlMacAddress, MacAddress{0x01, 0, 0, 0, 0, 1}), kNetControlError);
  EXPECT_EQ(host->command(kNetControlMac, kNetControlMacAddress, MacAddress{}), kNetControlError);
  EXPECT_EQ(host->device->config().load<NetConfigSpace>(0).mac[5], 0x77);
  host->reset();
  EXPECT_EQ(host->device->config().load<NetConfigSpace>(0).mac[5], 0x56);
}

TEST_F(NetTest, VlansAreFilteredOnceTheyAreNegotiated) {
  make();
  host->start();
  EXPECT_FALSE(passes(tagged(5)));
  EXPECT_EQ(host->command(kNetControlVlan, kNetControlVlanAdd, le16(uint16_t{5})), kNetControlOk);
  EXPECT_TRUE(passes(tagged(5)));
  EXPECT_TRUE(passes(tagged(0x6005)));  // with a priority
  EXPECT_FALSE(passes(tagged(6)));
  EXPECT_EQ(host->command(kNetControlVlan, kNetControlVlanDelete, le16(uint16_t{5})), kNetControlOk);
  EXPECT_FALSE(passes(tagged(5)));
  EXPECT_EQ(host->command(kNetControlVlan, kNetControlVlanAdd, le16(uint16_t{4096})), kNetControlError);
}

TEST_F(NetTest, WithoutTheFeatureVlansPass) {
  make();
  host->start(kNetFeatureControlVlan);
  EXPECT_TRUE(passes(tagged(5)));
}

TEST_F(NetTest, ACommandWithoutRoomForItsAnswerIsRefused) {
  make();
  host->start();
  host->control().chain().readable_obj(NetControlHeader{kNetControlReceive, 0}).readable_obj(uint8_t{0}).submit();
  host->ring();
  EXPECT_EQ(host->control().take_used().size(), 1U);
  EXPECT_EQ(counters().refused_requests, 1U);
  EXPECT_TRUE(host->device->shared().choices.filter.modes[NetFilter::kPromiscuous]);
}

TEST_F(NetTest, TheHostMayLeaveToTheGuestWhatItNegotiatedAndWants) {
  make();
  EXPECT_EQ(net().asked_offloads(), 0U);
  host->start(kNetFeatureGuestUso4);
  EXPECT_EQ(net().asked_offloads(), kNetChecksum | kNetTso4 | kNetTso6 | kNetTsoEcn);
  EXPECT_EQ(host->command(kNetControlGuestOffloads, kNetControlGuestOffloadsSet, le64(kNetFeatureGuestChecksum)),
            kNetControlOk);
  EXPECT_EQ(net().asked_offloads(), kNetChecksum);
  EXPECT_EQ(host->command(kNetControlGuestOffloads, kNetControlGuestOffloadsSet, le64(kNetFeatureGuestUso4)),
            kNetControlError);
  host->reset();
  EXPECT_EQ(net().asked_offloads(), 0U);
}

// --- queue pairs

TEST_F(NetTest, QueuePairsComeAndGoAsTheDriverAsks) {
  make({.pairs = 3});
  host->start();
  for (size_t pair = 0; pair < 3; ++pair) {
    for (int i = 0; i < 4; ++i) host->receive(pair).chain().writable(2000).submit();
  }
  host->ring();
  EXPECT_EQ(net().used_pairs(), 1U);
  EXPECT_FALSE(net().listening(1));
  EXPECT_EQ(host->command(kNetControlMultiQueue, kNetControlPairsSet, le16(uint16_t{3})), kNetControlOk);
  EXPECT_EQ(net().used_pairs(), 3U);
  EXPECT_TRUE(net().listening(2));
  net().put(frame_of(100), 2);
  host->turn();
  EXPECT_EQ(host->receive(2).take_used().size(), 1U);
  host->transmit(1).chain().readable_obj(NetHeader{}).readable(frame_of(60)).submit();
  host->ring();
  EXPECT_EQ(net().take_sent()[0].pair, 1U);
  EXPECT_EQ(host->command(kNetControlMultiQueue, kNetControlPairsSet, le16(uint16_t{1})), kNetControlOk);
  EXPECT_EQ(net().used_pairs(), 1U);
  EXPECT_FALSE(net().listening(2));
  for (const uint16_t wrong : {0, 4, 65535}) {
    EXPECT_EQ(host->command(kNetControlMultiQueue, kNetControlPairsSet, le16(wrong)), kNetControlError);
  }
  EXPECT_EQ(net().used_pairs(), 1U);
}

TEST_F(NetTest, WithoutMultiQueueTheControlQueueIsBehindTheFirstPair) {
  make({.pairs = 2});
  host->device->start((host->device->features() & ~kNetFeatureMultiQueue) | kFeatureVersion1);
  host->start_queue(2, *Queue::create(host->ram.memory(), host->control().config()));
  host->control()
      .chain()
      .readable_obj(NetControlHeader{kNetControlReceive, 0})
      .readable_obj(uint8_t{0})
      .writable(1)
      .submit();
  host->turn();
  host->doorbells[2]->ring();
  host->turn();
  EXPECT_EQ(host->control().take_used().size(), 1U);
  EXPECT_FALSE(host->device->shared().choices.filter.modes[NetFilter::kPromiscuous]);
}

// --- what is offered

TEST_F(NetTest, TheConfigurationSaysAddressStatusPairsAndMtu) {
  make({.pairs = 2, .mtu = 9000});
  const auto config = host->device->config().load<NetConfigSpace>(0);
  EXPECT_EQ(std::memcmp(config.mac, kTestMac.data(), 6), 0);
  EXPECT_EQ(config.status.get(), kNetStatusLinkUp);
  EXPECT_EQ(config.max_virtqueue_pairs.get(), 2);
  EXPECT_EQ(config.mtu.get(), 9000);
  EXPECT_NE(host->device->features() & kNetFeatureMtu, 0U);
  EXPECT_EQ(host->device->queue_sizes().size(), 5U);
}

TEST_F(NetTest, ABackEndWithoutOffloadsOffersNone) {
  const auto plain = std::make_shared<FakeNet>(1, 0);
  const std::unique_ptr<Net> device = *Net::create({.name = "n", .backend = plain, .mac = kTestMac}, std::nullopt);
  for (const uint64_t feature : {kNetFeatureChecksum, kNetFeatureGuestTso4, kNetFeatureHostUso,
                                 kNetFeatureControlGuestOffloads, kNetFeatureMultiQueue, kNetFeatureMtu}) {
    EXPECT_EQ(device->features() & feature, 0U);
  }
}

// --- limiters

TEST_F(NetTest, ALimiterMakesFramesOfTheGuestWait) {
  ManualClock clock{0};
  make({.transmit_limiter = std::make_shared<IoLimiter>(
            IoLimits{.operations = TokenBucket::Config{.size = 2, .refill_ns = 1000 * kMs}}, clock)});
  host->start();
  for (int i = 0; i < 3; ++i) transmit().chain().readable_obj(NetHeader{}).readable(frame_of(60)).submit();
  host->ring();
  EXPECT_EQ(net().take_sent().size(), 2U);
  clock.advance_ns(500 * kMs);
  host->clock.advance_ns(500 * kMs);
  host->turn();
  EXPECT_EQ(net().take_sent().size(), 1U);
}

TEST_F(NetTest, ALimiterMakesFramesOfTheHostWait) {
  ManualClock clock{0};
  make({.receive_limiter = std::make_shared<IoLimiter>(
            IoLimits{.bytes = TokenBucket::Config{.size = 1000, .refill_ns = 1000 * kMs}}, clock)});
  host->start();
  for (int i = 0; i < 5; ++i) receive().chain().writable(2000).submit();
  host->ring();
  for (int i = 0; i < 4; ++i) net().put(frame_of(500));
  host->turn();
  // The third pays for the second, and the bucket is empty.
  EXPECT_EQ(receive().take_used().size(), 3U);
  EXPECT_FALSE(net().listening());
  clock.advance_ns(500 * kMs);
  host->clock.advance_ns(500 * kMs);
  host->turn();
  EXPECT_EQ(receive().take_used().size(), 1U);
  EXPECT_EQ(counters().lost_frames, 0U);
}

// --- pause, save, restore, reset

TEST_F(NetTest, APauseInTheMiddleLosesNoBufferAndNoFrame) {
  for (const bool packed : {false, true}) {
    make({.packed = packed});
    host->start();
    for (int i = 0; i < 20; ++i) receive().chain().writable(1000).submit();
    host->ring();
    net().put(frame_of(5000, 1));  // so that several buffers are lent
    host->turn();
    EXPECT_EQ(receive().take_used().size(), 6U);
    net().take_only(0);
    transmit().chain().readable_obj(NetHeader{}).readable(frame_of(60, 7)).submit();
    host->ring();
    std::vector<Queue> stopped = host->stop();
    net().put(frame_of(5000, 2));
    net().take_only(10);
    host->go_on(std::move(stopped));
    EXPECT_EQ(receive().take_used().size(), 6U);
    EXPECT_EQ(net().take_sent().size(), 1U);
    EXPECT_EQ(counters().lost_frames, 0U);
  }
}

TEST_F(NetTest, AResetWithFramesInFlightForgetsThem) {
  make();
  host->start();
  receive().chain().writable(100).submit();
  net().put(frame_of(5000, 1));  // waits for buffers
  net().take_only(0);
  transmit().chain().readable_obj(NetHeader{}).readable(frame_of(60)).submit();
  host->ring();
  host->reset();
  EXPECT_FALSE(net().attached());
  const std::vector<std::byte> memory = host->ram.bytes(0, 16 * kMiB);
  net().take_only(10);
  net().put(frame_of(100));
  host->ring();
  EXPECT_EQ(host->ram.bytes(0, 16 * kMiB), memory);
  receive().reset();
  transmit().reset();
  receive().chain().writable(2000).submit();
  host->start();
  EXPECT_EQ(receive().take_used().size(), 1U);
}

TEST_F(NetTest, ARestoredDeviceKeepsTheDriversChoicesAndAnnouncesItself) {
  make({.pairs = 2});
  host->start();
  host->command(kNetControlReceive, NetFilter::kPromiscuous, uint8_t{0});
  host->command(kNetControlMac, kNetControlMacAddress, MacAddress{0x02, 0, 0, 0, 0, 0x77});
  host->command(kNetControlVlan, kNetControlVlanAdd, le16(uint16_t{4095}));
  host->command(kNetControlMultiQueue, kNetControlPairsSet, le16(uint16_t{2}));
  host->command(kNetControlGuestOffloads, kNetControlGuestOffloadsSet, le64(kNetFeatureGuestChecksum));
  const uint64_t features = counters().features;
  std::vector<Queue> stopped = host->stop();
  const Result<std::vector<std::byte>> saved = host->device->save();
  ASSERT_TRUE(saved.has_value());
  host->device.reset();
  host->make(*state::from_bytes<NetState>(*saved));
  EXPECT_EQ(*host->device->save(), *saved);
  EXPECT_EQ(host->config_changes, 0);

  host->device->resume();
  host->device->start(features);
  for (size_t index = 0; index < 5; ++index) host->start_queue(index, std::move(stopped[index]));
  host->turn();
  EXPECT_EQ(net().used_pairs(), 2U);
  EXPECT_EQ(net().asked_offloads(), kNetChecksum);
  EXPECT_EQ(host->status(), kNetStatusLinkUp | kNetStatusAnnounce);
  EXPECT_EQ(host->config_changes, 1);
  EXPECT_FALSE(passes(frame_of(60)));  // not the address any more
  EXPECT_TRUE(passes(frame_to({0x02, 0, 0, 0, 0, 0x77}, 60)));
  EXPECT_EQ(host->command(kNetControlAnnounce, kNetControlAnnounceAck, std::span<const std::byte>()), kNetControlOk);
  EXPECT_EQ(host->status(), kNetStatusLinkUp);
}

TEST_F(NetTest, AStateThatNoDriverCanHaveMadeIsRefused) {
  const NetState good{.mac = kTestMac, .status = 1};
  const auto accepted = [](const NetState& state) {
    return Net::create({.name = "n", .backend = std::make_shared<FakeNet>(2), .mac = kTestMac, .multi_queue = true},
                       state)
        .has_value();
  };
  EXPECT_TRUE(accepted(good));
  const auto with = [&good](auto change) {
    NetState state = good;
    change(state);
    return state;
  };
  EXPECT_FALSE(accepted(with([](NetState& s) { s.pairs = 0; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.pairs = 3; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.mac[0] = 1; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.status = 4; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.modes = 0x40; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.vlans = {1, 2, 3}; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.unicast = {1, 2, 3}; })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.multicast.resize(65 * 6); })));
  EXPECT_FALSE(accepted(with([](NetState& s) { s.guest_offloads = kNetFeatureMac; })));
}

TEST(NetStateTest, ItsStateIsSavedWhole) {
  strato::testing::check_state(NetState{.mac = kTestMac,
                                        .status = 3,
                                        .link_wanted = false,
                                        .modes = 5,
                                        .unicast = {2, 0, 0, 0, 0, 1},
                                        .multicast = {1, 0, 0, 0, 0, 1},
                                        .unicast_overflow = true,
                                        .multicast_overflow = true,
                                        .vlans = {1, 2},
                                        .pairs = 4,
                                        .guest_offloads = 3,
                                        .receive_bytes = 1,
                                        .receive_frames = 2,
                                        .transmit_bytes = 3,
                                        .transmit_frames = 4});
}

}  // namespace
}  // namespace strato::virtio
