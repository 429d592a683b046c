#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qmp/commands.h"
#include "qmp/framer.h"
#include "qmp/json.h"

namespace strato::qmp {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class FakeMachine : public MachineControl {
 public:
  RunState run_state() const override { return state; }
  void stop(Reply reply) override { held_reply = std::move(reply); }
  void cont(Reply reply) override { reply(std::unexpected(Error::busy("the guest has shut down"))); }
  void quit() override { quits = answers_before_quit ? *answers_before_quit : -1; }
  void save(std::string to, Reply reply) override {
    directory = std::move(to);
    reply({});
  }
  MigrationStatus migration_status() const override { return MigrationStatus::None; }
  Result<> resize_block(std::string_view name, uint64_t bytes) override {
    if (name != "disk0") return std::unexpected(Error::not_found("there is no disk"));
    disk_bytes = bytes;
    return {};
  }

  RunState state = RunState::Running;
  Reply held_reply;
  std::string directory;
  uint64_t disk_bytes = 0;
  int quits = -2;
  const int* answers_before_quit = nullptr;
};

struct CommandsTest : ::testing::Test {
  std::string run(std::string_view request) {
    std::string answer = "(none)";
    execute(machine, request, [&answer](std::string text) { answer = std::move(text); });
    return answer;
  }
  FakeMachine machine;
};

TEST_F(CommandsTest, StatusHasQemusShape) {
  EXPECT_EQ(run(R"({"execute":"query-status"})"),
            R"({"return":{"running":true,"singlestep":false,"status":"running"}})");
  machine.state = RunState::Prelaunch;
  EXPECT_EQ(run(R"({"execute":"query-status"})"),
            R"({"return":{"running":false,"singlestep":false,"status":"prelaunch"}})");
}

TEST_F(CommandsTest, IdOfAnyKindIsEchoed) {
  EXPECT_THAT(run(R"({"execute":"query-version","id":"a\"b"})"), HasSubstr(R"("id":"a\"b"})"));
  EXPECT_THAT(run(R"({"execute":"query-version","id":7})"), HasSubstr(R"("id":7})"));
  EXPECT_THAT(run(R"({"execute":"nonsense","id":{"x":[1]}})"), HasSubstr(R"("id":{"x":[1]}})"));
}

TEST_F(CommandsTest, UnknownCommandIsCommandNotFound) {
  EXPECT_EQ(run(R"({"execute":"device_dance"})"),
            R"({"error":{"class":"CommandNotFound","desc":"The command device_dance has not been found"}})");
}

TEST_F(CommandsTest, BadRequestsSayWhatIsWrong) {
  EXPECT_THAT(run("hello"), HasSubstr("JSON: invalid token"));
  EXPECT_THAT(run(R"({"execute":1})"), HasSubstr("'execute'"));
  EXPECT_THAT(run(R"({"execute":"stop","extra":1})"), HasSubstr("'extra'"));
  EXPECT_THAT(run(R"({"execute":"stop","arguments":[]})"), HasSubstr("must be an object"));
  EXPECT_THAT(run(R"({"execute":"stop","arguments":{"now":true}})"), HasSubstr("unexpected argument 'now'"));
  EXPECT_THAT(run(R"({"execute":"migrate","arguments":{}})"), HasSubstr("missing argument 'uri'"));
  EXPECT_THAT(run(R"({"execute":"migrate","arguments":{"uri":3}})"), HasSubstr("'uri' must be a string"));
  EXPECT_THAT(run(R"({"execute":"migrate","arguments":{"uri":"ftp:x"}})"), HasSubstr("'ftp:x'"));
}

TEST_F(CommandsTest, ADiskIsResizedByEitherName) {
  EXPECT_EQ(run(R"({"execute":"block_resize","arguments":{"device":"disk0","size":1048576}})"), R"({"return":{}})");
  EXPECT_EQ(machine.disk_bytes, 1048576U);
  EXPECT_EQ(run(R"({"execute":"block_resize","arguments":{"node-name":"disk0","size":512}})"), R"({"return":{}})");
  EXPECT_EQ(machine.disk_bytes, 512U);
  EXPECT_THAT(run(R"({"execute":"block_resize","arguments":{"device":"x","size":512}})"), HasSubstr("DeviceNotFound"));
  EXPECT_THAT(run(R"({"execute":"block_resize","arguments":{"size":512}})"), HasSubstr("needs 'device'"));
  EXPECT_THAT(run(R"({"execute":"block_resize","arguments":{"device":"disk0","size":-1}})"), HasSubstr("needs"));
  EXPECT_THAT(run(R"({"execute":"block_resize","arguments":{"device":"disk0","size":"1G"}})"),
              HasSubstr("'size' must be a whole number"));
}

TEST_F(CommandsTest, StopAnswersWhenTheMachineHasStopped) {
  EXPECT_EQ(run(R"({"execute":"stop"})"), "(none)");
  std::string answer;
  execute(machine, R"({"execute":"stop"})", [&answer](std::string text) { answer = std::move(text); });
  machine.held_reply({});
  EXPECT_EQ(answer, R"({"return":{}})");
}

TEST_F(CommandsTest, ErrorOfTheMachineIsTheAnswer) {
  EXPECT_EQ(run(R"({"execute":"cont"})"), R"({"error":{"class":"GenericError","desc":"the guest has shut down"}})");
}

TEST_F(CommandsTest, QuitAnswersBeforeItQuits) {
  int answers = 0;
  machine.answers_before_quit = &answers;
  execute(machine, R"({"execute":"quit"})", [&answers](const std::string&) { ++answers; });
  EXPECT_EQ(machine.quits, 1);
}

TEST_F(CommandsTest, MigrateSavesToTheDirectory) {
  EXPECT_EQ(run(R"({"execute":"migrate","arguments":{"uri":"file:/tmp/x"}})"), R"({"return":{}})");
  EXPECT_EQ(machine.directory, "/tmp/x");
}

TEST_F(CommandsTest, QueryCommandsListsItself) {
  EXPECT_THAT(run(R"({"execute":"query-commands"})"), HasSubstr(R"({"name":"query-commands"})"));
}

TEST(JsonTest, DeepNestingIsRefusedNotFollowed) {
  EXPECT_FALSE(parse_json(std::string(100'000, '[')).has_value());
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']')).has_value());
}

TEST(JsonTest, MemberThatIsThereTwiceIsRefused) {
  EXPECT_THAT(parse_json(R"({"a":1,"a":2})").error(), HasSubstr("duplicate object key"));
}

TEST(JsonTest, BytesThatAreNoTextDoNotReachAClient) {
  EXPECT_EQ(quote_json("a\xff\"b"), R"("a?\"b")");
}

TEST(GreetingTest, HasWhatKataWaitsFor) {
  EXPECT_THAT(greeting(), StartsWith(R"({"QMP":{"version":{"qemu":{"major":5,)"));
  EXPECT_TRUE(parse_json(greeting()).has_value());
}

TEST(EventTest, CarriesDataAndTime) {
  EXPECT_EQ(event_text("STOP", "", 1'000'002), R"({"event":"STOP","timestamp":{"seconds":1,"microseconds":2}})");
  EXPECT_EQ(event_text("RESET", R"({"guest":true})", 0),
            R"({"event":"RESET","data":{"guest":true},"timestamp":{"seconds":0,"microseconds":0}})");
}

TEST(FramerTest, RequestsComeWholeHoweverTheBytesArrive) {
  const std::string two = R"({"a":"}"} {"b":[{}]})";
  Framer framer;
  std::vector<std::string> seen;
  for (const char c : two) {
    framer.feed({&c, 1});
    while (auto request = framer.next()) seen.push_back(*request);
  }
  EXPECT_EQ(seen, (std::vector<std::string>{R"({"a":"}"})", R"({"b":[{}]})"}));
}

TEST(FramerTest, NoNewlineIsNeededAndManyComeAtOnce) {
  Framer framer;
  framer.feed("\r\n{\"x\":\"\\\"{\"}\n{}");
  EXPECT_EQ(framer.next(), R"({"x":"\"{"})");
  EXPECT_EQ(framer.next(), "{}");
  EXPECT_EQ(framer.next(), std::nullopt);
}

TEST(FramerTest, GarbageIsCutAtTheEndOfItsLine) {
  Framer framer;
  framer.feed("help me\n{}");
  EXPECT_EQ(framer.next(), "help me\n");
  EXPECT_EQ(framer.next(), "{}");
}

TEST(FramerTest, EndlessRequestOverflows) {
  Framer framer;
  framer.feed("{\"x\":\"" + std::string(Framer::kMaxRequestBytes, 'a'));
  EXPECT_EQ(framer.next(), std::nullopt);
  EXPECT_TRUE(framer.overflowed());
}

}  // namespace
}  // namespace strato::qmp
