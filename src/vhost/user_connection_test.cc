#include "vhost/user_connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <string>

#include "base/thread.h"
#include "testing/user_device_fixture.h"

namespace strato::vhost {
namespace {

using strato::testing::FakeBackEnd;
using strato::testing::UserDeviceFixture;
using ::testing::HasSubstr;
using Answer = FakeBackEnd::Answer;

constexpr uint32_t kReplyFlags = kUserVersion | kUserReply;

class UserConnectionTest : public ::testing::Test, protected UserDeviceFixture {
 protected:
  // What this request is answered with instead.
  void answer(UserRequest request, Answer answer) {
    back_end.lie = [request, answer = std::move(answer)](UserRequest asked, const Answer&) -> std::optional<Answer> {
      if (asked != request) return std::nullopt;
      return answer;
    };
  }
  std::string failure(const UserNeeds& needs = {.queues = 2}) {
    const Result<UserConnection> connection = handshake(needs);
    return connection ? "none" : connection.error().text();
  }
};

TEST_F(UserConnectionTest, KnowsWhatTheBackEndOffers) {
  back_end.config[3] = std::byte{42};
  const Result<UserConnection> connection =
      handshake({.features = virtio::kFeatureVersion1, .queues = 2, .config_bytes = 8});
  ASSERT_TRUE(connection.has_value());
  EXPECT_EQ(connection->features, back_end.features);
  EXPECT_TRUE(connection->confirms);
  EXPECT_EQ(connection->config.size(), 8U);
  EXPECT_EQ(connection->config[3], std::byte{42});
  EXPECT_EQ(back_end.count(UserRequest::SetOwner), 1U);
}

TEST_F(UserConnectionTest, AsksForNothingThatTheBackEndDoesNotKnow) {
  back_end.protocol = 0;
  const Result<UserConnection> connection = handshake({.queues = 2});
  ASSERT_TRUE(connection.has_value());
  EXPECT_FALSE(connection->confirms);
  EXPECT_EQ(back_end.count(UserRequest::GetQueueNum), 0U);
}

TEST_F(UserConnectionTest, WaitsForConfirmationsWhenNothingElseIsAsked) {
  back_end.protocol = kUserProtocolReplyAck;
  ASSERT_TRUE(handshake({.queues = 2}).has_value());
  EXPECT_EQ(back_end.count(UserRequest::SetOwner), 1U);
}

TEST_F(UserConnectionTest, TakesOfTheProtocolOnlyWhatItKnows) {
  back_end.protocol = ~uint64_t{0};
  ASSERT_TRUE(handshake({.queues = 2}).has_value());
  for (const FakeBackEnd::Received& one : back_end.received) {
    if (one.request != UserRequest::SetProtocolFeatures) continue;
    EXPECT_EQ(one.payload, FakeBackEnd::bytes_of(le64(kUserProtocolMq | kUserProtocolReplyAck)));
  }
}

TEST_F(UserConnectionTest, RefusesABackEndThatLacksAFeature) {
  back_end.features = kUserFeatureProtocol;
  EXPECT_THAT(failure({.features = virtio::kFeatureVersion1}), HasSubstr("lacks features 0x100000000"));
}

TEST_F(UserConnectionTest, RefusesABackEndWithoutProtocolFeatures) {
  back_end.features = virtio::kFeatureVersion1;
  EXPECT_THAT(failure(), HasSubstr("lacks features 0x40000000"));
}

TEST_F(UserConnectionTest, RefusesABackEndWithTooFewQueuesOrMoreThanThereCanBe) {
  for (const uint64_t queues : {uint64_t{0}, uint64_t{1}}) {
    back_end.queue_count = queues;
    EXPECT_THAT(failure(), HasSubstr("queues, and 2 are needed"));
  }
  back_end.queue_count = ~uint64_t{0};
  EXPECT_THAT(failure(), HasSubstr("it says that it has 18446744073709551615 queues"));
}

TEST_F(UserConnectionTest, RefusesABackEndWithoutAConfigurationThatIsNeeded) {
  back_end.protocol = kUserProtocolMq;
  EXPECT_THAT(failure({.config_bytes = 8}), HasSubstr("CONFIG"));
}

TEST_F(UserConnectionTest, AShortAnswerIsWaitedForAndThenTheEnd) {
  Answer half = FakeBackEnd::answer(UserRequest::GetFeatures, le64(0));
  half.bytes.resize(14);
  answer(UserRequest::GetFeatures, half);
  EXPECT_THAT(failure(), HasSubstr("no answer to request 1"));
  EXPECT_FALSE(back_end.connected());
}

TEST_F(UserConnectionTest, NoAnswerIsTheEnd) {
  answer(UserRequest::GetProtocolFeatures, {});
  EXPECT_THAT(failure(), HasSubstr("no answer to request 15"));
}

TEST_F(UserConnectionTest, AnAnswerOfAnotherSizeIsTheEnd) {
  answer(UserRequest::GetFeatures, FakeBackEnd::raw(UserRequest::GetFeatures, kReplyFlags, std::vector<std::byte>(4)));
  EXPECT_THAT(failure(), HasSubstr("of 4 bytes to request 1, which has one of 8"));
  answer(UserRequest::GetFeatures,
         FakeBackEnd::raw(UserRequest::GetFeatures, kReplyFlags, std::vector<std::byte>(4096)));
  EXPECT_THAT(failure(), HasSubstr("of 4096 bytes"));
  Answer huge = FakeBackEnd::raw(UserRequest::GetFeatures, kReplyFlags, {});
  std::memset(huge.bytes.data() + 8, 0xff, 4);
  answer(UserRequest::GetFeatures, huge);
  EXPECT_THAT(failure(), HasSubstr("of 4294967295 bytes"));
}

TEST_F(UserConnectionTest, AnAnswerToAnotherRequestIsTheEnd) {
  answer(UserRequest::GetFeatures, FakeBackEnd::answer(UserRequest::GetQueueNum, le64(0)));
  EXPECT_THAT(failure(), HasSubstr("answer 17"));
}

TEST_F(UserConnectionTest, AnAnswerThatIsNoneIsTheEnd) {
  for (const uint32_t flags : {kUserVersion, kUserReply, kUserReply | 2}) {
    answer(UserRequest::GetFeatures, FakeBackEnd::raw(UserRequest::GetFeatures, flags, std::vector<std::byte>(8)));
    EXPECT_THAT(failure(), HasSubstr("answer 1 with flags"));
  }
}

TEST_F(UserConnectionTest, DescriptorsThatNobodyAskedForAreClosed) {
  const UniqueFd sent(::eventfd(0, EFD_CLOEXEC));
  Answer with_fds = FakeBackEnd::answer(UserRequest::GetFeatures, le64(back_end.features));
  with_fds.fds = {sent.get(), sent.get()};
  answer(UserRequest::GetFeatures, with_fds);
  const int before = UniqueFd(::dup(sent.get())).get();
  EXPECT_THAT(failure(), HasSubstr("descriptors that nobody asked for"));
  turn();
  EXPECT_EQ(UniqueFd(::dup(sent.get())).get(), before);
}

TEST_F(UserConnectionTest, AConfigurationOtherThanAskedForIsTheEnd) {
  std::vector<std::byte> payload = FakeBackEnd::bytes_of(UserConfigHeader{.offset = 0, .bytes = 64, .flags = 0});
  payload.resize(payload.size() + 64);
  answer(UserRequest::GetConfig, FakeBackEnd::raw(UserRequest::GetConfig, kReplyFlags, payload));
  EXPECT_THAT(failure({.config_bytes = 8}), HasSubstr("of 76 bytes to request 24, which has one of 20"));
  payload.resize(20);
  answer(UserRequest::GetConfig, FakeBackEnd::raw(UserRequest::GetConfig, kReplyFlags, payload));
  EXPECT_THAT(failure({.config_bytes = 8}), HasSubstr("64 bytes of configuration"));
}

TEST_F(UserConnectionTest, ABackEndThatRefusesIsNamedWithTheRequest) {
  answer(UserRequest::SetOwner, FakeBackEnd::answer(UserRequest::SetOwner, le64(1)));
  EXPECT_THAT(failure(), HasSubstr("it refuses request 3"));
}

TEST_F(UserConnectionTest, ABackEndThatClosesIsTheEnd) {
  back_end.lie = [this](UserRequest request, const Answer&) -> std::optional<Answer> {
    if (request == UserRequest::GetProtocolFeatures) back_end.die();
    return std::nullopt;
  };
  EXPECT_THAT(failure(), HasSubstr("closed the connection"));
}

TEST(ConnectToBackEndTest, WaitsForTheWholeExchange) {
  const MonotonicClock clock;
  FakeBackEnd back_end;
  std::atomic<bool> stop{false};
  Result<Thread> thread = Thread::start("back end", [&] {
    while (!stop) back_end.step();
  });
  ASSERT_TRUE(thread.has_value());
  const Result<UserConnection> connection = connect_to_back_end(back_end.address(), "fs0", {.queues = 2}, clock);
  stop = true;
  thread->join();
  ASSERT_TRUE(connection.has_value()) << connection.error().text();
  EXPECT_TRUE(connection->confirms);
}

TEST(ConnectToBackEndTest, NobodyThereIsAnErrorThatNamesTheSocket) {
  const MonotonicClock clock;
  const Result<UserConnection> connection =
      connect_to_back_end({.path = "/nowhere/fs.sock", .host = {}}, "fs0", {}, clock);
  ASSERT_FALSE(connection.has_value());
  EXPECT_THAT(connection.error().text(), HasSubstr("/nowhere/fs.sock"));
}

}  // namespace
}  // namespace strato::vhost
