#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/thread.h"
#include "chardev/escape_filter.h"
#include "chardev/file_chardev.h"
#include "chardev/pty_chardev.h"
#include "chardev/socket_chardev.h"
#include "chardev/stdio_chardev.h"
#include "chardev/stream_chardev.h"
#include "chardev/terminal.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// A device that takes input while it has room.
class FakeDevice final : public ChardevHandler {
 public:
  size_t input_room() override { return room; }
  void on_input(std::span<const std::byte> data) override {
    EXPECT_FALSE(data.empty());
    EXPECT_LE(data.size(), room);
    for (const std::byte byte : data) input.push_back(static_cast<char>(byte));
    room -= data.size();
  }
  void on_writable() override { ++writable; }
  void on_connection(bool connected) override { connections.push_back(connected); }
  void on_resize(TerminalSize size) override { sizes.push_back(size); }

  std::string input;
  size_t room = SIZE_MAX;
  int writable = 0;
  std::vector<bool> connections;
  std::vector<TerminalSize> sizes;
};

struct FdPair {
  UniqueFd first;
  UniqueFd second;
};

FdPair make_pipe() {
  std::array<int, 2> fds{};
  EXPECT_EQ(::pipe2(fds.data(), O_CLOEXEC), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void put(int fd, std::string_view text) {
  EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

// What there is to read now.
std::string take(int fd) {
  std::string all;
  std::array<char, 4096> buffer;
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  while (::poll(&entry, 1, 0) == 1) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got <= 0) break;
    all.append(buffer.data(), static_cast<size_t>(got));
  }
  return all;
}

class TempDir {
 public:
  TempDir() {
    std::string pattern = ::testing::TempDir() + "strato-chardev-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    for (const std::string& name : made_) ::unlink(name.c_str());
    ::rmdir(path_.c_str());
  }
  std::string file(const std::string& name) {
    made_.push_back(path_ + "/" + name);
    return made_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> made_;
};

std::string contents(const std::string& path) {
  const Result<std::vector<std::byte>> read = read_file(path, 1 << 20, "test file");
  EXPECT_TRUE(read);
  return read ? std::string(reinterpret_cast<const char*>(read->data()), read->size()) : "";
}

class ChardevTest : public ::testing::Test {
 protected:
  ChardevTest() : loop_ptr(*EventLoop::create("test", clock)), loop(*loop_ptr) { ::signal(SIGPIPE, SIG_IGN); }

  // Serves until nothing is left to do.
  void settle() {
    while (loop.run_once(0) > 0) {
    }
  }
  // Serves until `done` holds; what never comes shows as a failure after ten seconds.
  template <class Done>
  void serve_until(Done done) {
    for (int round = 0; round < 1000 && !done(); ++round) loop.run_once(10'000'000);
    EXPECT_TRUE(done());
  }
  std::unique_ptr<StdioChardev> open_stdio(int in_fd, int out_fd) {
    auto made = StdioChardev::open(loop, {.in_fd = in_fd, .out_fd = out_fd, .on_quit = [this] { ++quits; }});
    EXPECT_TRUE(made);
    return *std::move(made);
  }

  ManualClock clock;
  std::unique_ptr<EventLoop> loop_ptr;
  EventLoop& loop;
  FakeDevice device;
  int quits = 0;
};

// --- stdio ---

TEST_F(ChardevTest, OutputReachesThePipeWithoutALoopRound) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  EXPECT_EQ(chardev->write(bytes("hello")), 5U);
  EXPECT_EQ(take(out.first.get()), "hello");
}

TEST_F(ChardevTest, TheSharedFileDescriptionOfStdoutStaysBlocking) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  chardev->put(bytes("x"));
  EXPECT_EQ(::fcntl(out.second.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(in.first.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(ChardevTest, StalledReaderBlocksNobodyAndMemoryIsBounded) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  const std::string block(1000, 'a');
  for (int i = 0; i < 1000; ++i) chardev->put(bytes(block));
  const auto pipe_size = static_cast<uint64_t>(::fcntl(out.second.get(), F_GETPIPE_SZ));
  EXPECT_GE(chardev->dropped_bytes(), 1'000'000 - pipe_size - Chardev::kMaxPendingBytes);
  uint64_t received = 0;
  serve_until([&] {
    received += take(out.first.get()).size();
    return received + chardev->dropped_bytes() == 1'000'000;
  });
}

TEST_F(ChardevTest, WhatWaitedComesInOrderOnceTheReaderGoesOn) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  chardev->attach(&device);
  std::string sent;
  size_t taken = 1;
  while (taken > 0) {
    const std::string block(777, static_cast<char>('a' + sent.size() % 26));
    taken = chardev->write(bytes(block));
    sent += block.substr(0, taken);
  }
  EXPECT_EQ(device.writable, 0);
  std::string received;
  serve_until([&] {
    received += take(out.first.get());
    return received.size() >= sent.size();
  });
  EXPECT_EQ(received, sent);
  EXPECT_EQ(device.writable, 1);
  EXPECT_EQ(chardev->dropped_bytes(), 0U);
}

TEST_F(ChardevTest, WaitingOutputIsWrittenWhenTheChardevGoes) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  auto chardev = open_stdio(in.first.get(), out.second.get());
  const std::string block(60'000, 'b');
  size_t sent = chardev->write(bytes(block));
  sent += chardev->write(bytes(block));  // more than a pipe holds
  ASSERT_EQ(sent, 120'000U);
  std::string received = take(out.first.get());
  chardev.reset();
  received += take(out.first.get());
  EXPECT_EQ(received.size(), 120'000U);
}

TEST_F(ChardevTest, ReaderThatHasGoneCostsOutputOnly) {
  const FdPair in = make_pipe();
  FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  out.first.reset();
  chardev->put(bytes("lost"));
  chardev->put(bytes("too"));
  EXPECT_EQ(chardev->dropped_bytes(), 7U);
}

TEST_F(ChardevTest, PipedInputComesAsTheDeviceHasRoom) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  device.room = 3;
  put(in.second.get(), "abcdef");
  chardev->attach(&device);
  settle();
  EXPECT_EQ(device.input, "abc");
  device.room = 10;
  chardev->resume_input();
  settle();
  EXPECT_EQ(device.input, "abcdef");
}

TEST_F(ChardevTest, InputThatWaitsInAPipeSurvivesItsWriter) {
  FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  device.room = 0;
  chardev->attach(&device);
  put(in.second.get(), "late");
  in.second.reset();
  settle();
  device.room = 10;
  chardev->resume_input();
  settle();
  EXPECT_EQ(device.input, "late");
}

TEST_F(ChardevTest, EndOfInputIsNotAnEndOfOutput) {
  FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  chardev->attach(&device);
  in.second.reset();
  settle();
  EXPECT_EQ(loop.run_once(0), 0U);  // and no busy loop
  chardev->put(bytes("still here"));
  EXPECT_EQ(take(out.first.get()), "still here");
  EXPECT_EQ(quits, 0);
}

TEST_F(ChardevTest, EscapeKeysMeanNothingInAPipe) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  chardev->attach(&device);
  put(in.second.get(), "\x01x");
  settle();
  EXPECT_EQ(device.input, "\x01x");
  EXPECT_EQ(quits, 0);
}

TEST_F(ChardevTest, DevNullAsStdinAndStdout) {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const auto chardev = open_stdio(null.get(), null.get());
  chardev->attach(&device);
  chardev->put(bytes("gone"));
  settle();
  EXPECT_EQ(loop.run_once(0), 0U);
  EXPECT_EQ(device.input, "");
  EXPECT_EQ(chardev->dropped_bytes(), 0U);
}

TEST_F(ChardevTest, FilesAsStdinAndStdout) {
  TempDir dir;
  const std::string in_path = dir.file("in");
  const std::string out_path = dir.file("out");
  const std::string script(5000, 's');
  {
    const UniqueFd in(::open(in_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    put(in.get(), script);
  }
  const UniqueFd in(::open(in_path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd out(::open(out_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  put(out.get(), "before ");  // our parent's output in the same file
  const auto chardev = open_stdio(in.get(), out.get());
  device.room = 2000;
  chardev->attach(&device);
  settle();
  EXPECT_EQ(device.input.size(), 2000U);
  device.room = 9000;
  chardev->resume_input();
  chardev->resume_input();
  settle();
  EXPECT_EQ(device.input, script);
  chardev->put(bytes("guest"));
  EXPECT_EQ(contents(out_path), "before guest");
}

TEST_F(ChardevTest, SocketsAsStdinAndStdout) {
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  const UniqueFd ours(fds[0]);
  const UniqueFd theirs(fds[1]);
  const auto chardev = open_stdio(ours.get(), ours.get());
  chardev->attach(&device);
  put(theirs.get(), "in");
  settle();
  EXPECT_EQ(device.input, "in");
  const std::string block(8192, 'c');
  for (int i = 0; i < 200; ++i) chardev->put(bytes(block));  // would block here without MSG_DONTWAIT
  EXPECT_GT(chardev->dropped_bytes(), 0U);
  EXPECT_EQ(::fcntl(ours.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(ChardevTest, ClosedStdoutIsAnErrorThatNamesTheDescriptor) {
  const FdPair in = make_pipe();
  const auto made = StdioChardev::open(loop, {.in_fd = in.first.get(), .out_fd = 987, .on_quit = nullptr});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().text(), ::testing::HasSubstr("file descriptor 987"));
}

TEST_F(ChardevTest, ManyThreadsWriteWhileTheLoopFlushes) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(in.first.get(), out.second.get());
  size_t received = 0;
  std::atomic<int> running{3};
  {
    std::vector<Thread> writers;
    for (int t = 0; t < 3; ++t) {
      writers.push_back(*Thread::start("writer", [&] {
        for (int i = 0; i < 20'000; ++i) chardev->put(bytes("0123456789"));
        --running;
      }));
    }
    while (running > 0) {
      loop.run_once(0);
      received += take(out.first.get()).size();
    }
  }
  serve_until([&] {
    received += take(out.first.get()).size();
    return received + chardev->dropped_bytes() == 600'000;
  });
}

// --- escape keys ---

class EscapeFilterTest : public ::testing::Test {
 protected:
  std::string filter(std::string text) {
    const auto kept = escapes.filter(std::as_writable_bytes(std::span(text)));
    return text.substr(0, kept.size());
  }
  int quits = 0;
  int helps = 0;
  EscapeFilter escapes{{.on_quit = [this] { ++quits; }, .on_help = [this] { ++helps; }}};
};

TEST_F(EscapeFilterTest, OrdinaryKeysPass) {
  EXPECT_EQ(filter("ls\r\x03"), "ls\r\x03");
}

TEST_F(EscapeFilterTest, CtrlAXEndsAndCtrlAHHelpsAndNeitherReachesTheGuest) {
  EXPECT_EQ(filter("a\x01xb\x01hc"), "abc");
  EXPECT_EQ(quits, 1);
  EXPECT_EQ(helps, 1);
}

TEST_F(EscapeFilterTest, CtrlATwiceSendsOne) {
  EXPECT_EQ(filter("\x01\x01x"), "\x01x");
  EXPECT_EQ(quits, 0);
}

TEST_F(EscapeFilterTest, EscapeMayBeSplitOverTwoReads) {
  EXPECT_EQ(filter("a\x01"), "a");
  EXPECT_EQ(filter("xb"), "b");
  EXPECT_EQ(quits, 1);
}

// A device that, as the UART, asks for more only when it has once answered that there is no room.
class SmallDevice final : public ChardevHandler {
 public:
  size_t input_room() override {
    const size_t room = 16 - held;
    refused = refused || room == 0;
    return room;
  }
  void on_input(std::span<const std::byte> data) override {
    for (const std::byte byte : data) input.push_back(static_cast<char>(byte));
    held += data.size();
  }

  std::string input;
  size_t held = 0;
  bool refused = false;
};

TEST_F(ChardevTest, FilteredInputOfMoreThanTheDeviceHoldsArrivesWhole) {
  FdPair pipe = make_pipe();
  StreamChardev::Hooks hooks;
  hooks.filter = [](std::span<std::byte> data) { return data; };
  StreamChardev chardev(loop, "test", std::move(hooks));
  ASSERT_TRUE(chardev.open(*ByteFd::own(std::move(pipe.first)), nullptr));
  SmallDevice small;
  chardev.attach(&small);
  const std::string text = "echo a line that is longer than sixteen bytes; echo more";

  put(pipe.second.get(), text.substr(0, 40));
  settle();
  put(pipe.second.get(), text.substr(40));
  for (int drained = 0; drained < 10; ++drained) {
    settle();
    small.held = 0;
    if (std::exchange(small.refused, false)) chardev.resume_input();
  }

  EXPECT_EQ(small.input, text);
  chardev.attach(nullptr);
}

// --- terminal ---

struct Tty {
  Tty() : master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    EXPECT_EQ(::grantpt(master.get()), 0);
    EXPECT_EQ(::unlockpt(master.get()), 0);
    slave = UniqueFd(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_TRUE(slave.valid());
  }
  termios mode() const {
    termios now{};
    EXPECT_EQ(::tcgetattr(slave.get(), &now), 0);
    return now;
  }
  bool raw() const { return (mode().c_lflag & (ICANON | ECHO | ISIG)) == 0; }
  bool cooked() const { return (mode().c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG); }

  UniqueFd master;
  UniqueFd slave;
};

TEST(TerminalTest, IsRawWhileTheGuardLivesAndThenAsBefore) {
  const Tty tty;
  const termios before = tty.mode();
  {
    const auto guard = Terminal::make_raw(tty.slave.get());
    ASSERT_TRUE(guard && *guard);
    EXPECT_TRUE(tty.raw());
  }
  const termios after = tty.mode();
  EXPECT_EQ(after.c_lflag, before.c_lflag);
  EXPECT_EQ(after.c_iflag, before.c_iflag);
  EXPECT_EQ(after.c_oflag, before.c_oflag);
}

TEST(TerminalTest, PipeIsNoTerminal) {
  const FdPair pipe = make_pipe();
  const auto guard = Terminal::make_raw(pipe.first.get());
  ASSERT_TRUE(guard);
  EXPECT_FALSE(*guard);
}

// Runs `end` in a child that has made the terminal raw; how the child ended comes back.
template <class End>
int ended_raw(const Tty& tty, End end) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGABRT, SIGTERM}) ::signal(number, SIG_DFL);  // a sanitizer's are not ours
    const auto guard = Terminal::make_raw(tty.slave.get());
    if (!guard || !*guard || !tty.raw()) ::_exit(99);
    end();
    ::_exit(98);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(TerminalTest, FatalSignalsGiveItBackAndStillKill) {
  const Tty tty;
  for (const int number : {SIGSEGV, SIGABRT, SIGTERM}) {
    const int status = ended_raw(tty, [number] { ::raise(number); });
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), number);
    EXPECT_TRUE(tty.cooked()) << "signal " << number;
  }
}

TEST(TerminalTest, ExitGivesItBack) {
  const Tty tty;
  const int status = ended_raw(tty, [] { ::exit(3); });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_TRUE(tty.cooked());
}

TEST_F(ChardevTest, EscapeKeysWorkOnATerminalEvenWhenTheGuestReadsNothing) {
  const Tty tty;
  const FdPair out = make_pipe();
  const auto chardev = open_stdio(tty.slave.get(), out.second.get());
  device.room = 2;
  chardev->attach(&device);
  put(tty.master.get(), "abcd");
  serve_until([&] { return device.input == "ab"; });
  put(tty.master.get(), "\x01h\x01x");
  serve_until([&] { return quits == 1; });
  EXPECT_THAT(take(out.first.get()), ::testing::HasSubstr("Ctrl-A X"));
  device.room = 10;
  chardev->resume_input();
  settle();
  EXPECT_EQ(device.input, "abcd");  // what waited was not lost
}

TEST_F(ChardevTest, TheSizeOfATerminalIsKnownAndItsChangesAreTold) {
  const Tty tty;
  const FdPair out = make_pipe();
  winsize size{};
  size.ws_col = 80;
  size.ws_row = 25;
  ASSERT_EQ(::ioctl(tty.master.get(), TIOCSWINSZ, &size), 0);
  const auto chardev = open_stdio(tty.slave.get(), out.second.get());
  chardev->attach(&device);
  EXPECT_EQ(chardev->terminal_size(), (TerminalSize{.columns = 80, .rows = 25}));
  size.ws_col = 132;
  ASSERT_EQ(::ioctl(tty.master.get(), TIOCSWINSZ, &size), 0);
  ASSERT_EQ(::kill(::getpid(), SIGWINCH), 0);  // as the kernel does for the terminal that controls us
  serve_until([&] { return !device.sizes.empty(); });
  EXPECT_EQ(device.sizes.back(), (TerminalSize{.columns = 132, .rows = 25}));
  chardev->attach(nullptr);
}

TEST_F(ChardevTest, APipeHasNoTerminalSize) {
  const FdPair in = make_pipe();
  const FdPair out = make_pipe();
  EXPECT_EQ(open_stdio(in.first.get(), out.second.get())->terminal_size(), std::nullopt);
}

TEST_F(ChardevTest, TerminalThatIsNotReadBlocksNobody) {
  const Tty tty;
  const auto chardev = open_stdio(tty.slave.get(), tty.slave.get());
  const std::string block(1000, 'a');
  for (int i = 0; i < 300; ++i) chardev->put(bytes(block));
  EXPECT_GT(chardev->dropped_bytes(), 100'000U);
}

// --- file, null, log ---

TEST_F(ChardevTest, FileIsEmptiedAndPrivate) {
  TempDir dir;
  const std::string path = dir.file("console");
  {
    const UniqueFd old(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    put(old.get(), "an older and longer text");
  }
  const auto chardev = open_file_chardev(loop, path);
  ASSERT_TRUE(chardev);
  (*chardev)->attach(&device);
  (*chardev)->put(bytes("new"));
  settle();
  EXPECT_EQ(contents(path), "new");
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(ChardevTest, FileInNoFolderIsAnErrorThatNamesIt) {
  const auto chardev = open_file_chardev(loop, "/nonexistent/console");
  ASSERT_FALSE(chardev);
  EXPECT_THAT(chardev.error().text(), ::testing::HasSubstr("/nonexistent/console"));
}

TEST_F(ChardevTest, FullDiskLosesOutputAndNothingElse) {
  const auto chardev = open_file_chardev(loop, "/dev/full");
  ASSERT_TRUE(chardev);
  (*chardev)->put(bytes("12345"));
  EXPECT_EQ((*chardev)->dropped_bytes(), 5U);
}

TEST_F(ChardevTest, NullTakesEverything) {
  EXPECT_EQ(make_null_chardev()->write(bytes("12345")), 5U);
}

// --- pty ---

TEST_F(ChardevTest, PtyCarriesBothDirectionsAndSurvivesItsUser) {
  const auto made = open_pty_chardev(loop);
  ASSERT_TRUE(made);
  Chardev& chardev = **made;
  chardev.attach(&device);
  ASSERT_THAT(chardev.address(), ::testing::StartsWith("pty:/dev/pts/"));
  const std::string path = chardev.address().substr(4);
  chardev.put(bytes("early\r\n"));  // before anybody looks
  for (const std::string text : {"one", "two"}) {
    const UniqueFd user(::open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_TRUE(user.valid());
    put(user.get(), text);
    serve_until([&] { return device.input == text; });
    device.input.clear();
    chardev.put(bytes(text));
    EXPECT_THAT(take(user.get()), ::testing::EndsWith(text));
  }
  EXPECT_EQ(chardev.dropped_bytes(), 0U);
}

// --- sockets ---

UniqueFd connect_to(const SocketAddress& address) {
  Result<UniqueFd> fd = start_connecting(address);
  EXPECT_TRUE(fd);
  return fd ? *std::move(fd) : UniqueFd();
}

TEST_F(ChardevTest, UnixServerServesOneClientAfterTheOther) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_TRUE(made);
  SocketChardev& chardev = **made;
  chardev.attach(&device);
  struct stat info{};
  ASSERT_EQ(::stat(address.path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  chardev.put(bytes("nobody"));
  EXPECT_EQ(chardev.dropped_bytes(), 6U);

  UniqueFd first = connect_to(address);
  const UniqueFd second = connect_to(address);
  put(first.get(), "1");
  put(second.get(), "2");
  serve_until([&] { return device.input == "1"; });
  chardev.put(bytes("to first"));
  EXPECT_EQ(take(first.get()), "to first");
  first.reset();
  serve_until([&] { return device.input == "12"; });
  EXPECT_EQ(device.connections, (std::vector<bool>{true, false, true}));

  made->reset();
  EXPECT_NE(::stat(address.path.c_str(), &info), 0);
}

TEST_F(ChardevTest, ClientThatLeavesIsNoticedEvenWhenTheGuestReadsNothing) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_TRUE(made);
  device.room = 0;
  (*made)->attach(&device);
  UniqueFd first = connect_to(address);
  put(first.get(), "unread");
  serve_until([&] { return (*made)->connected(); });
  settle();
  first.reset();
  serve_until([&] { return !(*made)->connected(); });
}

TEST_F(ChardevTest, WhatASlowClientOfASocketLeavesWaitingReachesItInOrder) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_TRUE(made);
  (*made)->attach(&device);
  const UniqueFd client = connect_to(address);
  serve_until([&] { return (*made)->connected(); });
  std::string sent;
  size_t taken = 0;
  do {
    const std::string block(1000, static_cast<char>('a' + sent.size() / 1000 % 26));
    taken = (*made)->write(bytes(block));
    sent += block.substr(0, taken);
    settle();
  } while (taken == 1000);
  std::string received;
  serve_until([&] {
    received += take(client.get());
    return received.size() == sent.size();
  });
  EXPECT_EQ(received, sent);
  EXPECT_EQ(device.writable, 1);
  put(client.get(), "and input");
  serve_until([&] { return device.input == "and input"; });
  EXPECT_EQ((*made)->dropped_bytes(), 0U);
}

TEST_F(ChardevTest, LastWordsOfAClientThatLeftReachTheDeviceBeforeThoseOfTheNext) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_TRUE(made);
  SmallDevice small;
  (*made)->attach(&small);
  const std::string words(5000, 'w');
  UniqueFd first = connect_to(address);
  put(first.get(), words);
  const UniqueFd second = connect_to(address);
  put(second.get(), "next");
  serve_until([&] { return (*made)->connected(); });
  first.reset();
  serve_until([&] {
    small.held = 0;
    if (std::exchange(small.refused, false)) (*made)->resume_input();
    return small.input.size() == words.size() + 4;
  });
  EXPECT_EQ(small.input, words + "next");
  (*made)->attach(nullptr);
}

TEST_F(ChardevTest, OfAClientThatLeftNotMoreIsKeptThanTheLimit) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_TRUE(made);
  device.room = 0;
  (*made)->attach(&device);
  const std::string words(100'000, 'w');
  for (int client = 0; client < 4; ++client) {
    UniqueFd fd = connect_to(address);
    serve_until([&] { return (*made)->connected(); });
    put(fd.get(), words);
    settle();
    fd.reset();
    serve_until([&] { return !(*made)->connected(); });
  }
  device.room = SIZE_MAX;
  (*made)->resume_input();
  settle();
  EXPECT_EQ(device.input.size(), StreamChardev::kMaxLastWordsBytes);
}

TEST_F(ChardevTest, StaleSocketIsReplacedButAFileIsNot) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  {
    auto stale = ListeningSocket::open(address);
    ASSERT_TRUE(stale);
    ASSERT_EQ(::link(address.path.c_str(), dir.file("kept").c_str()), 0);
  }
  ASSERT_EQ(::rename(dir.file("kept").c_str(), address.path.c_str()), 0);
  EXPECT_TRUE(SocketChardev::open(loop, {.address = address, .server = true}));

  const UniqueFd file(::open(address.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  const auto refused = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::Exists);
}

TEST_F(ChardevTest, AUsedPathIsKeptWhenAsked) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  {
    auto theirs = ListeningSocket::open(address, {.backlog = 0});
    ASSERT_TRUE(theirs);
    for (int i = 0; i < 3; ++i) {  // also when its backlog is full
      const auto refused = ListeningSocket::open(address, {.keep_used_path = true});
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code(), ErrorCode::Busy);
      const UniqueFd waiting = start_connecting(address).value_or(UniqueFd());
    }
    ASSERT_EQ(::link(address.path.c_str(), dir.file("kept").c_str()), 0);
  }
  EXPECT_TRUE(ListeningSocket::open(address, {.keep_used_path = true}));  // nothing is there
  ASSERT_EQ(::rename(dir.file("kept").c_str(), address.path.c_str()), 0);
  EXPECT_TRUE(ListeningSocket::open(address, {.keep_used_path = true}));  // a stale one
}

TEST_F(ChardevTest, OurSocketIsNotRemovedWhenAnotherTookItsPlace) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto ours = SocketChardev::open(loop, {.address = address, .server = true});
  auto theirs = SocketChardev::open(loop, {.address = address, .server = true});
  ASSERT_TRUE(ours && theirs);
  ours->reset();
  EXPECT_EQ(::access(address.path.c_str(), F_OK), 0);
}

TEST_F(ChardevTest, ClientTriesEverySecondUntilTheServerIsThere) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address});
  ASSERT_TRUE(made);
  (*made)->attach(&device);
  settle();
  auto server = ListeningSocket::open(address);
  ASSERT_TRUE(server);
  clock.advance_ns(SocketChardev::kRetryNs - 1);
  settle();
  EXPECT_FALSE((*made)->connected());
  clock.advance_ns(1);
  serve_until([&] { return (*made)->connected(); });

  UniqueFd peer = server->accept();
  ASSERT_TRUE(peer.valid());
  put(peer.get(), "hi");
  serve_until([&] { return device.input == "hi"; });
  peer.reset();
  serve_until([&] { return !(*made)->connected(); });
  clock.advance_ns(SocketChardev::kRetryNs);
  serve_until([&] { return (*made)->connected(); });
}

TEST_F(ChardevTest, ClientWithoutReconnectTriesOnce) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  auto made = SocketChardev::open(loop, {.address = address, .retry_ns = 0});
  ASSERT_TRUE(made);
  auto server = ListeningSocket::open(address);
  ASSERT_TRUE(server);
  clock.advance_ns(1000 * SocketChardev::kRetryNs);
  settle();
  EXPECT_FALSE((*made)->connected());
}

TEST_F(ChardevTest, TcpServerOnTheLoopback) {
  auto made = SocketChardev::open(loop, {.address = {.path = "", .host = "127.0.0.1", .port = 0}, .server = true});
  ASSERT_TRUE(made) << made.error().text();
  (*made)->attach(&device);
  const SocketAddress address = (*made)->socket_address();
  EXPECT_NE(address.port, 0);
  const UniqueFd client = connect_to(address);
  serve_until([&] { return (*made)->connected(); });
  put(client.get(), "tcp");
  serve_until([&] { return device.input == "tcp"; });
  (*made)->put(bytes("back"));
  std::string received;
  serve_until([&] {
    received += take(client.get());
    return received == "back";
  });
}

TEST_F(ChardevTest, WaitingServerReturnsWithItsFirstClient) {
  TempDir dir;
  const SocketAddress address{.path = dir.file("s"), .host = "", .port = 0};
  // The client keeps trying until the server listens.
  const Thread client = *Thread::start("client", [&address] {
    for (Result<UniqueFd> fd = start_connecting(address); !fd; fd = start_connecting(address)) ::sched_yield();
  });
  const auto made = SocketChardev::open(loop, {.address = address, .server = true, .wait = true});
  ASSERT_TRUE(made);
  EXPECT_TRUE((*made)->connected());
}

TEST_F(ChardevTest, WrongAddressesAreRefusedByName) {
  const auto name = SocketChardev::open(loop, {.address = {.path = "", .host = "localhost", .port = 1}});
  ASSERT_FALSE(name);
  EXPECT_THAT(name.error().text(), ::testing::HasSubstr("'localhost' is not a numeric IP address"));
  const auto longer = SocketChardev::open(loop, {.address = {.path = std::string(108, 'p'), .host = "", .port = 0}});
  ASSERT_FALSE(longer);
  EXPECT_THAT(longer.error().text(), ::testing::HasSubstr("longer than 107 bytes"));
}

}  // namespace
}  // namespace strato
