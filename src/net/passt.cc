#include "net/passt.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/endian.h"
#include "base/log.h"

namespace strato {
namespace {

constexpr int kPasstSocket = 3;  // its number there
constexpr size_t kMaxLine = 512;

// RFC 826, for IPv4 on Ethernet, behind the length of a frame on a stream.
struct ArpFrame {
  be32 length;
  uint8_t to[6];
  uint8_t from[6];
  be16 ethertype;
  be16 hardware;
  be16 protocol;
  uint8_t hardware_bytes;
  uint8_t protocol_bytes;
  be16 operation;
  uint8_t sender[6];
  uint8_t sender_address[4];
  uint8_t target[6];
  uint8_t target_address[4];
};
constexpr size_t kArpBytes = 42;
static_assert(sizeof(ArpFrame) == sizeof(be32) + kArpBytes);
constexpr uint16_t kArp = 0x0806;
constexpr uint16_t kArpRequest = 1;

// Who has this address? From nobody's, as a station asks before it has one.
ArpFrame question_about(const std::array<uint8_t, 4>& address) {
  ArpFrame frame{};
  constexpr uint8_t kOurs[6] = {0x02, 0, 0, 0, 0, 0x01};
  frame.length = be32(kArpBytes);
  std::memset(frame.to, 0xff, sizeof(frame.to));
  std::memcpy(frame.from, kOurs, sizeof(kOurs));
  frame.ethertype = be16(kArp);
  frame.hardware = be16(1);
  frame.protocol = be16(0x0800);
  frame.hardware_bytes = sizeof(frame.sender);
  frame.protocol_bytes = sizeof(frame.sender_address);
  frame.operation = be16(kArpRequest);
  std::memcpy(frame.sender, kOurs, sizeof(kOurs));
  std::memcpy(frame.target_address, address.data(), address.size());
  return frame;
}

class SpawnActions {
 public:
  SpawnActions() { STRATO_ASSERT(::posix_spawn_file_actions_init(&actions_) == 0); }
  ~SpawnActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

// As a program expects to be started, whatever we have blocked or ignored.
class SpawnAttributes {
 public:
  SpawnAttributes() {
    STRATO_ASSERT(::posix_spawnattr_init(&attributes_) == 0);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    // Ctrl-C at our terminal is for us: what we end in an orderly way needs its network until then.
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

bool wait_readable(int fd, int limit_ms) {
  pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&waiting, 1, limit_ms);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

}  // namespace

Result<std::unique_ptr<Passt>> Passt::start(EventLoop& loop, Args args) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return std::unexpected(Error::from_errno("socketpair"));
  }
  UniqueFd ours(ends[0]);
  UniqueFd its(ends[1]);
  std::unique_ptr<Passt> passt(new Passt(std::move(args)));
  STRATO_TRY(passt->spawn(its.get()));
  its.reset();  // so that we see when it has gone
  STRATO_TRY(passt->wait_for_answer(ours.get()));
  passt->net_ = STRATO_TRY(StreamNet::adopt(loop, passt->args_.name, std::move(ours), passt->args_.on_disconnect));
  STRATO_TRY(passt->watch(loop));
  return passt;
}

Result<> Passt::spawn(int socket) {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) return std::unexpected(Error::from_errno("pipe"));
  messages_ = UniqueFd(pipe_ends[0]);
  const UniqueFd its_messages(pipe_ends[1]);
  // Above the numbers that it is to have, since one dup2(2) could close what the next one needs.
  const UniqueFd high_socket(::fcntl(socket, F_DUPFD_CLOEXEC, kPasstSocket + 1));
  const UniqueFd high_messages(::fcntl(its_messages.get(), F_DUPFD_CLOEXEC, kPasstSocket + 1));
  if (!high_socket.valid() || !high_messages.valid()) return std::unexpected(Error::from_errno("fcntl"));

  SpawnActions actions;
  ::posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(actions.get(), STDIN_FILENO, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(actions.get(), high_messages.get(), STDERR_FILENO);
  ::posix_spawn_file_actions_adddup2(actions.get(), high_socket.get(), kPasstSocket);
  // What our caller has opened for us is not for it.
  ::posix_spawn_file_actions_addclosefrom_np(actions.get(), kPasstSocket + 1);

  std::vector<std::string> words{args_.program, "--foreground", "--quiet", "--fd", std::to_string(kPasstSocket)};
  words.insert(words.end(), args_.arguments.begin(), args_.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const SpawnAttributes attributes;
  pid_t pid = 0;
  const int failed =
      ::posix_spawnp(&pid, args_.program.c_str(), actions.get(), attributes.get(), argv.data(), ::environ);
  if (failed != 0) {
    return std::unexpected(Error::from_errno(
        fmt::format("'{}' cannot be started: install passt (Debian: apt install passt), or use another "
                    "kind of -netdev",
                    args_.program),
        failed));
  }
  pid_ = pid;
  process_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process_.valid()) return std::unexpected(Error::from_errno("pidfd_open"));
  return {};
}

// It answers for the gateway as soon as it works, and never when it does not.
Result<> Passt::wait_for_answer(int socket) {
  const ArpFrame question = question_about(args_.gateway);
  if (::send(socket, &question, sizeof(question), MSG_NOSIGNAL) != sizeof(question)) {
    return std::unexpected(ended_at_start());
  }
  if (!wait_readable(socket, kStartLimitMs)) {
    return std::unexpected(Error::busy(fmt::format("passt has not answered within {} s", kStartLimitMs / 1000)));
  }
  // Whatever comes first is its; nobody else knows of us yet. The rest of a frame comes at once.
  ArpFrame answer{};
  const ssize_t got = ::recv(socket, &answer, sizeof(answer), MSG_WAITALL);
  if (got <= 0) return std::unexpected(ended_at_start());
  if (got != sizeof(answer) || answer.length.get() != kArpBytes || answer.ethertype.get() != kArp) {
    return std::unexpected(Error::invalid(fmt::format("'{}' does not answer as passt does", args_.program)));
  }
  return {};
}

Error Passt::ended_at_start() {
  wait_readable(process_.get(), kStartLimitMs);
  read_messages();
  return Error::invalid(fmt::format("passt has ended at once: {}", last_line_.empty() ? reap() : last_line_));
}

Result<> Passt::watch(EventLoop& loop) {
  message_watch_ = STRATO_TRY(loop.watch(messages_.get(), EPOLLIN, [this](uint32_t) { read_messages(); }));
  process_watch_ = STRATO_TRY(loop.watch(process_.get(), EPOLLIN, [this](uint32_t) {
    process_watch_.reset();
    read_messages();
    log(LogLevel::Warn, "{}: passt has ended: {}", args_.name, reap());
    net_->disconnect();
  }));
  return {};
}

void Passt::read_messages() {
  std::array<char, 512> piece;
  for (;;) {
    const ssize_t got = ::read(messages_.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) message_watch_.reset();
    if (got <= 0) return;
    for (const char c : std::string_view(piece.data(), static_cast<size_t>(got))) {
      if (c != '\n' && line_.size() < kMaxLine) {
        if (c >= ' ') line_ += c;
        continue;
      }
      // So it speaks of its own messages where no syslog is.
      if (!line_.empty() && !line_.starts_with("Failed to send")) {
        log_guest(LogLevel::Info, "{}: passt: {}", args_.name, line_);
        last_line_ = line_;
      }
      line_.clear();
    }
  }
}

// What became of it.
std::string Passt::reap() {
  const pid_t pid = std::exchange(pid_, 0);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return fmt::format("by signal {}", WTERMSIG(status));
  return fmt::format("with code {}", WEXITSTATUS(status));
}

Passt::~Passt() {
  process_watch_.reset();
  message_watch_.reset();
  net_.reset();
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);  // it has nothing to put in order
  (void)reap();
}

}  // namespace strato
