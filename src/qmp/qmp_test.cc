#include <fmt/format.h>
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
  Result<> set_link(std::string_view name, bool up) override {
    if (name != "net0") return std::unexpected(Error::not_found("there is no network device"));
    links.push_back(up);
    return {};
  }
  Result<> set_block_rates(std::string_view name, const IoRates& rates) override {
    if (name != "disk0") return std::unexpected(Error::not_found(fmt::format("there is no disk '{}'", name)));
    disk_rates = rates;
    return {};
  }
  Result<IoRates> group_rates(std::string_view id) const override {
    if (id != "g") return std::unexpected(Error::not_found(fmt::format("there is no throttle-group '{}'", id)));
    return rates_of_g;
  }
  Result<> set_group_rates(std::string_view id, const IoRates& rates) override {
    EXPECT_EQ(id, "g");
    rates_of_g = rates;
    return {};
  }

  std::optional<uint64_t> balloon_actual() const override { return balloon_bytes; }
  Result<> set_balloon(uint64_t bytes) override {
    balloon_bytes = bytes;
    return {};
  }
  Result<GuestStats> guest_stats(std::string_view id) const override {
    if (id != "b") return std::unexpected(Error::not_found(fmt::format("there is no balloon '{}'", id)));
    return GuestStats{.values = {{"stat-free-memory", 5}, {"stat-swap-in", std::nullopt}}, .last_update_s = 77};
  }
  Result<uint32_t> stats_interval_s(std::string_view id) const override {
    if (id != "b") return std::unexpected(Error::not_found(fmt::format("there is no balloon '{}'", id)));
    return interval_s;
  }
  Result<> set_stats_interval(std::string_view id, uint32_t seconds) override {
    if (id != "b") return std::unexpected(Error::not_found(fmt::format("there is no balloon '{}'", id)));
    interval_s = seconds;
    return {};
  }

  std::vector<MemoryDeviceInfo> memory_devices() const override { return memory; }
  Result<> set_requested_memory(std::string_view id, uint64_t bytes) override {
    for (MemoryDeviceInfo& device : memory) {
      if (device.id != id) continue;
      if (bytes > device.most_bytes) return std::unexpected(Error::invalid(fmt::format("{} bytes: too many", bytes)));
      device.requested_bytes = bytes;
      return {};
    }
    return std::unexpected(Error::not_found(fmt::format("there is no memory device '{}'", id)));
  }

  RunState state = RunState::Running;
  std::vector<MemoryDeviceInfo> memory{};
  std::optional<uint64_t> balloon_bytes{};
  uint32_t interval_s = 0;
  Reply held_reply;
  std::string directory;
  uint64_t disk_bytes = 0;
  std::vector<bool> links;
  IoRates disk_rates{};
  IoRates rates_of_g{};
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

TEST_F(CommandsTest, ALinkIsSetByTheNamesOfQemuAndOfStratoVirt) {
  EXPECT_EQ(run(R"({"execute":"set_link","arguments":{"name":"net0","up":false}})"), R"({"return":{}})");
  EXPECT_EQ(run(R"({"execute":"netlink_set","arguments":{"id":"net0","up":true}})"), R"({"return":{}})");
  EXPECT_EQ(machine.links, (std::vector<bool>{false, true}));
  EXPECT_THAT(run(R"({"execute":"set_link","arguments":{"name":"x","up":true}})"), HasSubstr("DeviceNotFound"));
  EXPECT_THAT(run(R"({"execute":"netlink_set","arguments":{"name":"net0","up":true}})"), HasSubstr("'name'"));
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

// A request that sets a disk's limits, as QEMU wants it: with all six numbers.
TEST_F(CommandsTest, ABalloonIsAskedForAndSet) {
  for (const std::string_view request :
       {R"({"execute":"query-balloon"})", R"({"execute":"balloon","arguments":{"value":1048576}})"}) {
    EXPECT_EQ(run(request), R"({"error":{"class":"DeviceNotActive","desc":"No balloon device has been activated"}})");
  }
  machine.balloon_bytes = 5;
  EXPECT_EQ(run(R"({"execute":"balloon","arguments":{"value":1048576}})"), R"({"return":{}})");
  EXPECT_EQ(run(R"({"execute":"query-balloon"})"), R"({"return":{"actual":1048576}})");
  EXPECT_THAT(run(R"({"execute":"balloon","arguments":{"value":0}})"), HasSubstr("must be a number of bytes"));
  EXPECT_THAT(run(R"({"execute":"balloon","arguments":{"value":-4096}})"), HasSubstr("must be a number of bytes"));
  EXPECT_EQ(machine.balloon_bytes, 1048576U);
}

std::string property(std::string_view command, std::string_view name, std::string_view more = "",
                     std::string_view device = "b") {
  return fmt::format(R"({{"execute":"{}","arguments":{{"path":"/machine/peripheral/{}","property":"{}"{}}}}})", command,
                     device, name, more);
}

TEST_F(CommandsTest, ABalloonHasItsGuestsStatistics) {
  EXPECT_EQ(run(property("qom-get", "guest-stats")),
            R"({"return":{"stats":{"stat-free-memory":5,"stat-swap-in":-1},"last-update":77}})");
  EXPECT_EQ(run(property("qom-set", "guest-stats-polling-interval", R"(,"value":7)")), R"({"return":{}})");
  EXPECT_EQ(run(property("qom-get", "guest-stats-polling-interval")), R"({"return":7})");
  for (const std::string_view wrong : {"-1", "4294967296", "\"7\""}) {
    EXPECT_THAT(run(property("qom-set", "guest-stats-polling-interval", fmt::format(R"(,"value":{})", wrong))),
                HasSubstr("qom-set: 'value': must be 0 to 4294967295 seconds"));
  }
  EXPECT_THAT(run(property("qom-set", "guest-stats", R"(,"value":7)")), HasSubstr("property 'guest-stats'"));
  EXPECT_THAT(run(property("qom-get", "size")), HasSubstr("property 'size'"));
  EXPECT_THAT(run(property("qom-get", "guest-stats", "", "x")), HasSubstr("DeviceNotFound"));
  EXPECT_EQ(machine.interval_s, 7U);
}

struct MemoryCommandsTest : CommandsTest {
  MemoryCommandsTest() {
    machine.memory = {{.id = "v",
                       .memdev = "m",
                       .address = 0x1'0000'0000,
                       .block_bytes = 2097152,
                       .most_bytes = 1073741824,
                       .requested_bytes = 4194304,
                       .plugged_bytes = 2097152}};
  }
};

TEST_F(MemoryCommandsTest, TheyAreListedInQemusWordsAndInStratoVirts) {
  EXPECT_EQ(run(R"({"execute":"query-memory-devices"})"),
            R"({"return":[{"type":"virtio-mem","data":{"id":"v","memaddr":4294967296,"requested-size":4194304,)"
            R"("size":2097152,"max-size":1073741824,"block-size":2097152,"node":0,"memdev":"/objects/m"}}]})");
  EXPECT_EQ(run(R"({"execute":"get-viomem","arguments":{"id":"v"}})"),
            R"({"return":{"node":0,"size":1073741824,"block-size":2097152,"requested-size":4194304,)"
            R"("plugged-size":2097152}})");
  EXPECT_THAT(run(R"({"execute":"get-viomem","arguments":{"id":"x"}})"), HasSubstr("DeviceNotFound"));
  machine.memory.clear();
  EXPECT_EQ(run(R"({"execute":"query-memory-devices"})"), R"({"return":[]})");
}

TEST_F(MemoryCommandsTest, TheirPropertiesAreReadAndOneIsSet) {
  for (const auto& [name, value] : {std::pair("size", "2097152"), std::pair("requested-size", "4194304"),
                                    std::pair("block-size", "2097152"), std::pair("memaddr", "4294967296")}) {
    EXPECT_EQ(run(property("qom-get", name, "", "v")), fmt::format(R"({{"return":{}}})", value));
  }
  EXPECT_THAT(run(property("qom-get", "guest-stats", "", "v")), HasSubstr("property 'guest-stats'"));
  EXPECT_EQ(run(property("qom-set", "requested-size", R"(,"value":8388608)", "v")), R"({"return":{}})");
  EXPECT_EQ(machine.memory[0].requested_bytes, 8388608U);
  EXPECT_THAT(run(property("qom-set", "size", R"(,"value":0)", "v")), HasSubstr("only 'requested-size' can be set"));
  for (const std::string_view wrong : {"-1", "\"8M\"", "1.5"}) {
    EXPECT_THAT(run(property("qom-set", "requested-size", fmt::format(R"(,"value":{})", wrong), "v")),
                HasSubstr("qom-set: 'value': must be a number of bytes"));
  }
  EXPECT_THAT(run(property("qom-set", "requested-size", R"(,"value":2147483648)", "v")),
              HasSubstr("qom-set: requested-size: 2147483648 bytes: too many"));
  EXPECT_EQ(machine.memory[0].requested_bytes, 8388608U);
}

TEST_F(MemoryCommandsTest, ASizeOfStratoVirtsHasItsUnit) {
  const auto set = [this](std::string_view size, std::string_view id = "v") {
    return run(fmt::format(R"({{"execute":"set-viomem","arguments":{{"id":"{}","requested-size":"{}"}}}})", id, size));
  };
  EXPECT_EQ(set("512M"), R"({"return":{}})");
  EXPECT_EQ(machine.memory[0].requested_bytes, 536870912U);
  EXPECT_EQ(set("0"), R"({"return":{}})");
  EXPECT_EQ(machine.memory[0].requested_bytes, 0U);
  EXPECT_THAT(set("512"), HasSubstr("Invalid set-viomem arguments: 'requested-size': '512': must end in K, M or G"));
  for (const std::string_view wrong : {"", "M", "-1M", "99999999999G", "1X"}) {
    EXPECT_THAT(set(wrong), HasSubstr("Invalid set-viomem arguments: 'requested-size'")) << wrong;
  }
  EXPECT_THAT(set("2G"), HasSubstr("Invalid set-viomem arguments: 2147483648 bytes: too many"));
  EXPECT_THAT(set("2M", "x"), HasSubstr("DeviceNotFound"));
}

std::string throttle(std::string_view name, std::string_view more, int bps = 0, int iops = 0) {
  return fmt::format(R"({{"execute":"block_set_io_throttle","arguments":{{{},"bps":{},"bps_rd":0,"bps_wr":0,"iops":{},)"
                     R"("iops_rd":0,"iops_wr":0{}}}}})",
                     name, bps, iops, more);
}

TEST_F(CommandsTest, ADiskIsLimitedByEitherNameAndWithoutLimitsAgain) {
  EXPECT_EQ(
      run(throttle(R"("id":"disk0")", R"(,"bps_max":5000,"iops_max":20,"bps_max_length":1,"iops_size":0)", 1000, 10)),
      R"({"return":{}})");
  EXPECT_EQ(machine.disk_rates, (IoRates{.bytes = {1000, 5000}, .operations = {10, 20}}));
  EXPECT_EQ(run(throttle(R"("device":"disk0")", "", 0, 7)), R"({"return":{}})");
  EXPECT_EQ(machine.disk_rates, (IoRates{.bytes = {}, .operations = {7, 0}}));
  EXPECT_EQ(run(throttle(R"("id":"disk0")", "")), R"({"return":{}})");
  EXPECT_EQ(machine.disk_rates, IoRates{});
}

TEST_F(CommandsTest, LimitsOfADiskThatCannotBeAreRefusedByName) {
  const IoRates before{.bytes = {1, 2}, .operations = {3, 4}};
  machine.disk_rates = before;
  const std::string disk = R"("id":"disk0")";
  EXPECT_THAT(run(throttle(R"("id":"x")", "")), HasSubstr(R"("class":"DeviceNotFound","desc":"block_set_io_throttle: )"
                                                          R"(there is no disk 'x'")"));
  EXPECT_THAT(run(R"({"execute":"block_set_io_throttle","arguments":{"id":"disk0","bps":1}})"),
              HasSubstr("missing argument 'bps_rd'"));
  EXPECT_THAT(run(throttle(R"("bps_max":1)", "")), HasSubstr("needs 'id' or 'device'"));
  EXPECT_THAT(run(throttle(disk, R"(,"group":"g")")), HasSubstr("'group' is not supported"));
  EXPECT_THAT(run(throttle(disk, R"(,"iops_rd_max":5)")), HasSubstr("'iops_rd_max' is not supported"));
  EXPECT_THAT(run(throttle(disk, R"(,"bps_max_length":2)")), HasSubstr("'bps_max_length' is not supported"));
  EXPECT_THAT(run(throttle(disk, R"(,"iops_size":4096)")), HasSubstr("'iops_size' is not supported"));
  EXPECT_THAT(run(throttle(disk, R"(,"bps_max":5)")), HasSubstr("bps_max= needs bps="));
  EXPECT_THAT(run(throttle(disk, "", -1)), HasSubstr("'bps': -1: must be 0..1000000000000000"));
  EXPECT_THAT(run(throttle(disk, R"(,"bps_max":1000000000000001)", 1)), HasSubstr("'bps_max': 1000000000000001"));
  EXPECT_THAT(run(throttle(disk, R"(,"bps_maximum":1)")), HasSubstr("unexpected argument 'bps_maximum'"));
  EXPECT_EQ(machine.disk_rates, before);
}

TEST_F(CommandsTest, LimitsOfAGroupAreReadAndChangedOneByOne) {
  machine.rates_of_g = {.bytes = {1000, 5000}, .operations = {10, 20}};
  EXPECT_EQ(run(R"({"execute":"qom-set","arguments":{"path":"/objects/g","property":"limits",)"
                R"("value":{"iops-total":40,"iops-read":0}}})"),
            R"({"return":{}})");
  EXPECT_EQ(machine.rates_of_g, (IoRates{.bytes = {1000, 5000}, .operations = {40, 20}}));
  const std::string limits = run(R"({"execute":"qom-get","arguments":{"path":"/objects/g","property":"limits"}})");
  EXPECT_THAT(limits, HasSubstr(R"("bps-total":1000,"bps-total-max":5000,"bps-total-max-length":1)"));
  EXPECT_THAT(limits, HasSubstr(R"("iops-total":40,"iops-total-max":20)"));

  // What came out goes in again.
  const std::string value = limits.substr(limits.find(':') + 1, limits.rfind('}') - limits.find(':') - 1);
  EXPECT_EQ(run(R"({"execute":"qom-set","arguments":{"path":"/objects/g","property":"limits","value":)" + value + "}}"),
            R"({"return":{}})");
  EXPECT_EQ(machine.rates_of_g, (IoRates{.bytes = {1000, 5000}, .operations = {40, 20}}));
}

TEST_F(CommandsTest, PropertiesThatThereAreNotAreRefusedByName) {
  const auto set = [this](std::string_view path, std::string_view property, std::string_view value) {
    return run(fmt::format(R"({{"execute":"qom-set","arguments":{{"path":"{}","property":"{}","value":{}}}}})", path,
                           property, value));
  };
  const IoRates before{.bytes = {1, 2}, .operations = {3, 4}};
  machine.rates_of_g = before;
  EXPECT_THAT(set("/objects/x", "limits", "{}"),
              HasSubstr(R"("DeviceNotFound","desc":"qom-set: there is no throttle-group 'x'")"));
  EXPECT_THAT(set("/machine", "limits", "{}"),
              HasSubstr(R"("DeviceNotFound","desc":"qom-set: there is no '/machine'")"));
  EXPECT_THAT(set("/objects/g", "x-bps-total", "1"), HasSubstr("property 'x-bps-total': only 'limits'"));
  EXPECT_THAT(set("/objects/g", "limits", "7"), HasSubstr("'value' must be an object"));
  EXPECT_THAT(set("/objects/g", "limits", R"({"bps":7})"), HasSubstr("unexpected limit 'bps'"));
  EXPECT_THAT(set("/objects/g", "limits", R"({"bps-total":"7"})"), HasSubstr("'bps-total' must be a whole number"));
  EXPECT_THAT(set("/objects/g", "limits", R"({"iops-write":7})"), HasSubstr("'iops-write' is not supported"));
  EXPECT_THAT(set("/objects/g", "limits", R"({"iops-total":0})"), HasSubstr("iops-total-max= needs iops-total="));
  EXPECT_EQ(machine.rates_of_g, before);
  EXPECT_THAT(run(R"({"execute":"qom-get","arguments":{"path":"/objects/x","property":"limits"}})"),
              HasSubstr(R"("DeviceNotFound","desc":"qom-get: there is no throttle-group 'x'")"));
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

// At once, in two pieces, byte by byte: a request of the greatest size passes, one of a byte more never.
TEST(FramerTest, TheBoundOfARequestDoesNotDependOnHowItArrives) {
  for (const size_t piece : {size_t{1}, size_t{4096}, 2 * Framer::kMaxRequestBytes}) {
    for (const size_t extra : {0, 1}) {
      const std::string request = "{\"" + std::string(Framer::kMaxRequestBytes - 4 + extra, 'x') + "\"}";
      Framer framer;
      std::optional<std::string> got;
      for (size_t at = 0; at < request.size() && !got && !framer.overflowed(); at += piece) {
        framer.feed(std::string_view(request).substr(at, piece));
        got = framer.next();
      }
      EXPECT_EQ(got.has_value(), extra == 0) << piece;
      EXPECT_EQ(framer.overflowed(), extra == 1) << piece;
    }
  }
}

TEST(FramerTest, AfterAnOverflowNothingComesAnyMore) {
  Framer framer;
  framer.feed(std::string(Framer::kMaxRequestBytes + 1, 'x') + "\n{}");
  EXPECT_EQ(framer.next(), std::nullopt);
  framer.feed("{}");
  EXPECT_EQ(framer.next(), std::nullopt);
  EXPECT_TRUE(framer.overflowed());
}

TEST(FramerTest, BracketsThatDoNotMatchEndTheRequestForTheParser) {
  Framer framer;
  framer.feed("{\"a\":[}]{\"b\":1}");
  EXPECT_EQ(framer.next(), "{\"a\":[}]");
  EXPECT_EQ(framer.next(), "{\"b\":1}");
}

}  // namespace
}  // namespace strato::qmp
