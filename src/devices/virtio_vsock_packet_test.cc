#include "devices/virtio_vsock_packet.h"

#include <gtest/gtest.h>

namespace strato::virtio {
namespace {

constexpr uint64_t kCid = 42;

VsockHeader request() {
  VsockHeader header;
  header.src_cid = kCid;
  header.dst_cid = kVsockHostCid;
  header.src_port = 1000;
  header.dst_port = 2000;
  header.type = kVsockTypeStream;
  header.op = static_cast<uint16_t>(VsockOp::Request);
  header.buf_alloc = 4096;
  header.fwd_cnt = 7;
  return header;
}

TEST(VsockPacketTest, APacketIsSeenFromTheHost) {
  const auto packet = parse_vsock_packet(request(), 0, kCid);
  ASSERT_TRUE(packet.has_value());
  EXPECT_EQ(
      *packet,
      (VsockPacket{
          .op = VsockOp::Request, .ports = {.host = 2000, .guest = 1000}, .buffer_bytes = 4096, .forwarded_bytes = 7}));
}

TEST(VsockPacketTest, APacketOfAnotherContextIsNotAnswered) {
  VsockHeader header = request();
  header.src_cid = kCid + 1;
  EXPECT_EQ(parse_vsock_packet(header, 0, kCid).error().fault, VsockPacketFault::ForeignSource);
  EXPECT_FALSE(parse_vsock_packet(header, 0, kCid).error().answer.has_value());
  header = request();
  header.src_cid = kCid | uint64_t{1} << 32;
  EXPECT_EQ(parse_vsock_packet(header, 0, kCid).error().fault, VsockPacketFault::ForeignSource);
  header = request();
  header.dst_cid = 3;
  EXPECT_EQ(parse_vsock_packet(header, 0, kCid).error().fault, VsockPacketFault::ForeignDestination);
  EXPECT_FALSE(parse_vsock_packet(header, 0, kCid).error().answer.has_value());
}

TEST(VsockPacketTest, AnUnknownTypeIsAnsweredInKind) {
  VsockHeader header = request();
  header.type = 2;
  const auto packet = parse_vsock_packet(header, 0, kCid);
  ASSERT_FALSE(packet.has_value());
  EXPECT_EQ(packet.error().fault, VsockPacketFault::UnknownType);
  ASSERT_TRUE(packet.error().answer.has_value());
  EXPECT_EQ(packet.error().answer->ports, (VsockPorts{.host = 2000, .guest = 1000}));
  EXPECT_EQ(packet.error().answer->type, 2);
}

TEST(VsockPacketTest, AResetIsNeverAnswered) {
  VsockHeader header = request();
  header.type = 2;
  header.op = static_cast<uint16_t>(VsockOp::Reset);
  EXPECT_FALSE(parse_vsock_packet(header, 0, kCid).error().answer.has_value());
}

TEST(VsockPacketTest, UnknownOperationsAreRefused) {
  for (const uint16_t op : {uint16_t{0}, uint16_t{8}, uint16_t{0xffff}}) {
    VsockHeader header = request();
    header.op = op;
    const auto packet = parse_vsock_packet(header, 0, kCid);
    ASSERT_FALSE(packet.has_value());
    EXPECT_EQ(packet.error().fault, VsockPacketFault::UnknownOperation);
    EXPECT_TRUE(packet.error().answer.has_value());
  }
}

TEST(VsockPacketTest, ALengthBeyondTheChainOrTheLimitIsRefused) {
  VsockHeader header = request();
  header.op = static_cast<uint16_t>(VsockOp::ReadWrite);
  header.len = 100;
  EXPECT_TRUE(parse_vsock_packet(header, 100, kCid).has_value());
  EXPECT_EQ(parse_vsock_packet(header, 99, kCid).error().fault, VsockPacketFault::BeyondChain);
  header.len = kMaxVsockPayload;
  EXPECT_TRUE(parse_vsock_packet(header, 1 << 20, kCid).has_value());
  header.len = kMaxVsockPayload + 1;
  EXPECT_EQ(parse_vsock_packet(header, 1 << 20, kCid).error().fault, VsockPacketFault::TooLong);
  header.len = 0xffffffff;
  EXPECT_EQ(parse_vsock_packet(header, 1 << 20, kCid).error().fault, VsockPacketFault::TooLong);
}

}  // namespace
}  // namespace strato::virtio
