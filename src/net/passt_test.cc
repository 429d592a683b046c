#include "net/passt.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <span>

#include "base/assert.h"
#include "base/file.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

// Answers the question, as passt does: length, Ethernet header, ARP.
constexpr std::string_view kAnswers = R"(head -c 46 <&3 >/dev/null
printf '\0\0\0\052\001\002\003\004\005\006\001\002\003\004\005\006\010\006' >&3
printf '\0\001\010\0\006\004\0\002AAAAAAAAAABBBBBBBBBB' >&3
)";

// What stands for passt in these tests is a script of the shell.
class PasstTest : public ::testing::Test {
 protected:
  PasstTest() {
    std::string pattern = ::testing::TempDir() + "passt-XXXXXX";
    folder = ::mkdtemp(pattern.data());
  }
  ~PasstTest() override {
    passt.reset();
    std::filesystem::remove_all(folder);
  }
  Result<std::unique_ptr<Passt>> start(std::string_view script) {
    const std::string program = folder + "/fake";
    {
      const UniqueFd file = *open_file(program, O_WRONLY | O_CREAT | O_TRUNC, "script", 0700);
      const std::string text = "#!/bin/sh\n" + std::string(script);
      STRATO_ASSERT(write_all(file.get(), std::as_bytes(std::span(text)), "script").has_value());
    }
    return Passt::start(*loop, {.name = "n",
                                .program = program,
                                .arguments = {"--one", "two words"},
                                .gateway = {10, 0, 2, 2},
                                .on_disconnect = [this] { ++disconnects; }});
  }
  void start_well(std::string_view rest) {
    Result<std::unique_ptr<Passt>> started = start(std::string(kAnswers).append(rest));
    ASSERT_TRUE(started.has_value()) << started.error().text();
    passt = *std::move(started);
  }
  std::string failure(std::string_view script) {
    const Result<std::unique_ptr<Passt>> started = start(script);
    return started ? "started" : started.error().text();
  }

  std::string folder;
  ManualClock clock{0};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  std::unique_ptr<Passt> passt;
  int disconnects = 0;
};

TEST_F(PasstTest, OneThatIsNotThereSaysWhatToInstall) {
  const Result<std::unique_ptr<Passt>> started = Passt::start(*loop, {.name = "n", .program = folder + "/none"});
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().text().find("apt install passt"), std::string::npos) << started.error().text();
}

TEST_F(PasstTest, OneThatEndsAtOnceIsAnErrorInItsOwnWords) {
  EXPECT_EQ(failure("echo 'Failed to send 3 bytes to syslog' >&2; echo 'No external interface' >&2; exit 1"),
            "passt has ended at once: No external interface");
  EXPECT_EQ(failure("exit 7"), "passt has ended at once: with code 7");
  EXPECT_EQ(failure("kill -9 $$"), "passt has ended at once: by signal 9");
}

TEST_F(PasstTest, OneThatAnswersSomethingElseIsRefused) {
  EXPECT_NE(failure("head -c 46 <&3 >/dev/null; head -c 200 /dev/zero >&3; cat <&3 >/dev/null").find("does not answer"),
            std::string::npos);
}

TEST_F(PasstTest, ItGetsItsArgumentsAndNoDescriptorOfOurs) {
  const int leaked = ::fcntl(STDIN_FILENO, F_DUPFD, 50);
  ASSERT_GE(leaked, 50);
  start_well("[ \"$#\" = 6 ] && [ \"$6\" = 'two words' ] && [ \"$4\" = 3 ] || exit 1\n[ ! -e /proc/$$/fd/" +
             std::to_string(leaked) + " ] || exit 1\nexec cat <&3 >/dev/null");
  ::close(leaked);
  ASSERT_NE(passt, nullptr);
  EXPECT_TRUE(passt->net().link_up());
  loop->run_once(0);
  EXPECT_EQ(disconnects, 0);
  EXPECT_NE(passt->pid(), 0);
}

TEST_F(PasstTest, ItEndsWithItsOwner) {
  start_well("exec cat <&3 >/dev/null");
  ASSERT_NE(passt, nullptr);
  const pid_t pid = passt->pid();
  EXPECT_EQ(::kill(pid, 0), 0);
  passt.reset();
  EXPECT_EQ(::kill(pid, 0), -1);  // reaped as well
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(PasstTest, WhenItHasEndedTheLinkIsDown) {
  start_well("exec cat <&3 >/dev/null");
  ASSERT_NE(passt, nullptr);
  int changes = 0;
  passt->net().on_link([&changes] { ++changes; });
  ASSERT_EQ(::kill(passt->pid(), SIGKILL), 0);
  while (passt->pid() != 0 || disconnects == 0) loop->run_once(std::nullopt);
  EXPECT_EQ(disconnects, 1);
  EXPECT_EQ(changes, 1);
  EXPECT_FALSE(passt->net().link_up());
}

}  // namespace
}  // namespace strato
