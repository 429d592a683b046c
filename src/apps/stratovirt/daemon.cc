#include "apps/stratovirt/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <span>

#include "base/file.h"

namespace strato {
namespace {

constexpr char kReady = '\0';  // no message begins with it

Result<> redirect_stdio() {
  UniqueFd null = STRATO_TRY(open_file("/dev/null", O_RDWR, "-daemonize"));
  for (int fd = 0; fd <= 2; ++fd) {
    if (::dup2(null.get(), fd) < 0) return std::unexpected(Error::from_errno("-daemonize: dup2"));
  }
  return {};
}

}  // namespace

Result<Daemon> Daemon::create(bool daemonize, const std::string& pidfile) {
  Daemon daemon;
  if (!daemonize) return daemon;
  if (!pidfile.empty()) {
    daemon.pidfile_ = STRATO_TRY(open_file(pidfile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, "-pidfile", 0600));
    daemon.pidfile_path_ = pidfile;
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::unexpected(Error::from_errno("-daemonize: pipe"));
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t first = ::fork();
  if (first < 0) return std::unexpected(Error::from_errno("-daemonize: fork"));
  if (first > 0) {
    daemon.is_launcher_ = true;
    daemon.pidfile_path_.clear();  // the child's business now
    daemon.pipe_ = std::move(read_end);
    return daemon;
  }
  // A second fork: the session's leader ends, so that no terminal can become ours.
  ::setsid();
  const pid_t second = ::fork();
  if (second != 0) ::_exit(second < 0 ? 1 : 0);
  daemon.pipe_ = std::move(write_end);
  return daemon;
}

Daemon::~Daemon() {
  if (!pidfile_path_.empty()) ::unlink(pidfile_path_.c_str());
}

int Daemon::wait_until_ready() {
  std::string message;
  char buffer[512];
  while (true) {
    const ssize_t n = ::read(pipe_.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    if (buffer[0] == kReady) return 0;
    message.append(buffer, static_cast<size_t>(n));
  }
  if (message.empty()) message = "stratovirt: -daemonize: the VM's process ended before the VM was ready\n";
  std::fputs(message.c_str(), stderr);
  return 1;
}

Result<> Daemon::ready() {
  if (!pipe_.valid()) return {};
  if (pidfile_.valid()) {
    const std::string pid = std::to_string(::getpid());
    STRATO_TRY(write_all(pidfile_.get(), std::as_bytes(std::span(pid)), "-pidfile"));
  }
  STRATO_TRY(redirect_stdio());
  const char ready = kReady;
  STRATO_TRY(write_all(pipe_.get(), std::as_bytes(std::span(&ready, 1)), "-daemonize"));
  pipe_.reset();
  return {};
}

void Daemon::failed(const Error& error) {
  const std::string message = fmt::format("stratovirt: {}\n", error.text());
  if (pipe_.valid()) {
    [[maybe_unused]] const Result<> written = write_all(pipe_.get(), std::as_bytes(std::span(message)), "-daemonize");
  } else {
    std::fputs(message.c_str(), stderr);
  }
}

}  // namespace strato
