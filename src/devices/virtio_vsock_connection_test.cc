#include "devices/virtio_vsock_connection.h"

#include <gtest/gtest.h>

namespace strato::virtio {
namespace {

using Verdict = VsockConnection::Verdict;

VsockPacket packet(VsockOp op, uint32_t payload_bytes = 0, uint32_t forwarded_bytes = 0) {
  return {.op = op, .payload_bytes = payload_bytes, .buffer_bytes = 1000, .forwarded_bytes = forwarded_bytes};
}

// Takes what is due, and gives the header.
VsockHeader send_due(VsockConnection& connection, VsockOp expected) {
  VsockHeader header;
  EXPECT_EQ(connection.due(), expected);
  connection.send(expected, 0, header);
  return header;
}
VsockConnection open_connection() {
  VsockConnection connection(packet(VsockOp::Request));
  send_due(connection, VsockOp::Response);
  return connection;
}
void send_data(VsockConnection& connection, uint32_t bytes) {
  VsockHeader header;
  ASSERT_LE(bytes, connection.sendable_bytes());
  connection.send(VsockOp::ReadWrite, bytes, header);
}

TEST(VsockConnectionTest, AGuestsRequestIsAnsweredWithOurCredit) {
  VsockConnection connection(packet(VsockOp::Request));
  EXPECT_TRUE(connection.open());
  const VsockHeader header = send_due(connection, VsockOp::Response);
  EXPECT_EQ(header.buf_alloc.get(), 256U * 1024);
  EXPECT_EQ(header.fwd_cnt.get(), 0U);
  EXPECT_EQ(header.op.get(), 2);
  EXPECT_EQ(header.type.get(), 1);
  EXPECT_FALSE(connection.due().has_value());
  EXPECT_EQ(connection.sendable_bytes(), 1000U);
}

TEST(VsockConnectionTest, AHostsRequestIsOpenWhenTheGuestAnswers) {
  VsockConnection connection;
  EXPECT_FALSE(connection.takes_data());
  send_due(connection, VsockOp::Request);
  EXPECT_FALSE(connection.due().has_value());
  EXPECT_EQ(connection.take(packet(VsockOp::Response)), Verdict::Opened);
  EXPECT_EQ(connection.sendable_bytes(), 1000U);
}

TEST(VsockConnectionTest, AnAnswerToNoRequestIsAViolation) {
  VsockConnection unasked;
  EXPECT_EQ(unasked.take(packet(VsockOp::Response)), Verdict::Violation);
  VsockConnection connection = open_connection();
  EXPECT_EQ(connection.take(packet(VsockOp::Response)), Verdict::Violation);
}

TEST(VsockConnectionTest, DataAndEndsBeforeItIsOpenAreViolations) {
  VsockConnection connection;
  send_due(connection, VsockOp::Request);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Violation);
  EXPECT_EQ(connection.take(packet(VsockOp::Shutdown)), Verdict::Violation);
}

TEST(VsockConnectionTest, ASecondRequestIsAViolation) {
  VsockConnection connection = open_connection();
  EXPECT_EQ(connection.take(packet(VsockOp::Request)), Verdict::Violation);
}

// --- credit of the guest

TEST(VsockConnectionTest, SendingStopsAtTheGuestsCreditAndAsksForItOnce) {
  VsockConnection connection = open_connection();
  send_data(connection, 600);
  EXPECT_EQ(connection.sendable_bytes(), 400U);
  send_data(connection, 400);
  EXPECT_EQ(connection.sendable_bytes(), 0U);
  connection.want_credit();
  send_due(connection, VsockOp::CreditRequest);
  connection.want_credit();
  EXPECT_FALSE(connection.due().has_value());
  EXPECT_EQ(connection.take(packet(VsockOp::CreditUpdate, 0, 300)), Verdict::Nothing);
  EXPECT_EQ(connection.sendable_bytes(), 300U);
  connection.want_credit();
  EXPECT_EQ(connection.due(), VsockOp::CreditRequest);
}

TEST(VsockConnectionTest, ACountThatGoesBackOrBeyondWhatWasSentSaysNothing) {
  VsockConnection connection = open_connection();
  send_data(connection, 800);
  connection.take(packet(VsockOp::CreditUpdate, 0, 500));
  EXPECT_EQ(connection.sendable_bytes(), 700U);
  connection.take(packet(VsockOp::CreditUpdate, 0, 100));
  EXPECT_EQ(connection.sendable_bytes(), 700U);
  connection.take(packet(VsockOp::CreditUpdate, 0, 801));
  EXPECT_EQ(connection.sendable_bytes(), 700U);
  connection.take(packet(VsockOp::CreditUpdate, 0, 0xffffffff));
  EXPECT_EQ(connection.sendable_bytes(), 700U);
}

TEST(VsockConnectionTest, AGuestWithoutABufferGetsNothingAndOneWithAllOfItNoMoreThanAPacketHolds) {
  VsockConnection connection = open_connection();
  VsockPacket update = packet(VsockOp::CreditUpdate);
  update.buffer_bytes = 0;
  connection.take(update);
  EXPECT_EQ(connection.sendable_bytes(), 0U);
  update.buffer_bytes = 0xffffffff;
  connection.take(update);
  EXPECT_EQ(connection.sendable_bytes(), kMaxVsockPayload);
}

TEST(VsockConnectionTest, ABufferThatShrinksBelowWhatIsOnItsWayStopsUs) {
  VsockConnection connection = open_connection();
  send_data(connection, 800);
  VsockPacket update = packet(VsockOp::CreditUpdate);
  update.buffer_bytes = 700;
  connection.take(update);
  EXPECT_EQ(connection.sendable_bytes(), 0U);
}

TEST(VsockConnectionTest, TheCountsMayWrap) {
  VsockConnection connection = open_connection();
  uint32_t sent = 0;
  for (int i = 0; i < 100'000; ++i) {
    VsockPacket update = packet(VsockOp::CreditUpdate, 0, sent);
    update.buffer_bytes = kMaxVsockPayload;
    connection.take(update);
    ASSERT_EQ(connection.sendable_bytes(), kMaxVsockPayload);
    send_data(connection, kMaxVsockPayload - 1);
    sent += kMaxVsockPayload - 1;
    ASSERT_EQ(connection.sendable_bytes(), 1U);
  }
}

// --- our credit

TEST(VsockConnectionTest, MoreThanOurBufferIsAViolation) {
  VsockConnection connection = open_connection();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 65536)), Verdict::Data);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 0)), Verdict::Data);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Violation);
  connection.forwarded(2);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 2)), Verdict::Data);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Violation);
}

TEST(VsockConnectionTest, TheGuestHearsOfSpaceOnceAQuarterIsFree) {
  VsockConnection connection = open_connection();
  connection.take(packet(VsockOp::ReadWrite, 65536));
  connection.forwarded(65535);
  EXPECT_FALSE(connection.due().has_value());
  connection.forwarded(1);
  EXPECT_EQ(send_due(connection, VsockOp::CreditUpdate).fwd_cnt.get(), 65536U);
}

TEST(VsockConnectionTest, APacketThatGoesAnywayTellsOfSpaceToo) {
  VsockConnection connection = open_connection();
  connection.take(packet(VsockOp::ReadWrite, 65536));
  connection.forwarded(65536);
  send_data(connection, 1);
  EXPECT_FALSE(connection.due().has_value());
}

TEST(VsockConnectionTest, AQuestionForOurCreditIsAnswered) {
  VsockConnection connection = open_connection();
  EXPECT_EQ(connection.take(packet(VsockOp::CreditRequest)), Verdict::Nothing);
  send_due(connection, VsockOp::CreditUpdate);
}

// --- ends

TEST(VsockConnectionTest, AGuestThatSendsNoMoreMayStillGet) {
  VsockConnection connection = open_connection();
  VsockPacket end = packet(VsockOp::Shutdown);
  end.flags = kVsockNoSend;
  EXPECT_EQ(connection.take(end), Verdict::Ended);
  EXPECT_EQ(connection.guest_ended(), kVsockNoSend);
  EXPECT_EQ(connection.sendable_bytes(), 1000U);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Violation);
}

TEST(VsockConnectionTest, AGuestThatGetsNoMoreMayStillSend) {
  VsockConnection connection = open_connection();
  VsockPacket end = packet(VsockOp::Shutdown);
  end.flags = kVsockNoReceive | 0xfffffffc;
  EXPECT_EQ(connection.take(end), Verdict::Ended);
  EXPECT_EQ(connection.guest_ended(), kVsockNoReceive);
  EXPECT_EQ(connection.sendable_bytes(), 0U);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Data);
}

TEST(VsockConnectionTest, EndsOfTheHostAddUpAndAreToldOnce) {
  VsockConnection connection = open_connection();
  connection.end_host(kVsockNoSend);
  EXPECT_EQ(send_due(connection, VsockOp::Shutdown).flags.get(), kVsockNoSend);
  connection.end_host(kVsockNoSend);
  EXPECT_FALSE(connection.due().has_value());
  EXPECT_EQ(connection.sendable_bytes(), 0U);
  connection.end_host(kVsockNoReceive);
  EXPECT_EQ(send_due(connection, VsockOp::Shutdown).flags.get(), kVsockNeither);
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Discard);
}

TEST(VsockConnectionTest, AnEndIsNotToldBeforeTheGuestHasAnswered) {
  VsockConnection connection;
  send_due(connection, VsockOp::Request);
  connection.end_host(kVsockNoSend);
  EXPECT_FALSE(connection.due().has_value());
  connection.take(packet(VsockOp::Response));
  EXPECT_EQ(connection.due(), VsockOp::Shutdown);
}

TEST(VsockConnectionTest, AFailedOneHasOnlyAResetToTell) {
  VsockConnection connection = open_connection();
  connection.end_host(kVsockNoSend);
  connection.take(packet(VsockOp::CreditRequest));
  connection.fail();
  EXPECT_EQ(connection.take(packet(VsockOp::ReadWrite, 1)), Verdict::Nothing);
  EXPECT_EQ(connection.take(packet(VsockOp::Request)), Verdict::Nothing);
  EXPECT_FALSE(connection.takes_data());
  send_due(connection, VsockOp::Reset);
  EXPECT_EQ(connection.take(packet(VsockOp::Reset)), Verdict::Gone);
}

}  // namespace
}  // namespace strato::virtio
