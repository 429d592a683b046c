// startup_harness: starts one command and measures, in microseconds, exec to the first sight of a byte on its standard
// output, exec to its end, and the CPU time of the process. Prints one line of JSON. Native, because an interpreter's
// own start would drown what bench/startup compares.
//   startup_harness BYTE LINGER_MS COMMAND ARGUMENT...
// LINGER_MS: how long to wait for the end after the byte; then the command is killed ("killed":true, no end time).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kByteTimeoutMs = 20000;

int64_t now_us() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t to_us(const timeval& t) {
  return t.tv_sec * 1000000 + t.tv_usec;
}

bool wait_readable(int fd, int timeout_ms) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, timeout_ms) == 1;
}

// Time of the byte, 0 if it never came.
int64_t wait_for_byte(int fd, char wanted) {
  const int64_t deadline = now_us() + kByteTimeoutMs * 1000;
  while (now_us() < deadline && wait_readable(fd, kByteTimeoutMs)) {
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    const int64_t seen = now_us();
    if (n <= 0) return 0;
    if (memchr(buffer, wanted, static_cast<size_t>(n)) != nullptr) return seen;
  }
  return 0;
}

// The end of the child, whatever it still writes meanwhile; false after `timeout_ms`.
bool wait_for_end(int pid_fd, int out, int timeout_ms) {
  const int64_t deadline = now_us() + timeout_ms * 1000;
  bool open = true;
  for (int64_t left_us = timeout_ms * 1000; left_us > 0; left_us = deadline - now_us()) {
    pollfd p[2] = {{pid_fd, POLLIN, 0}, {open ? out : -1, POLLIN, 0}};
    if (poll(p, 2, static_cast<int>(left_us / 1000) + 1) < 0) return false;
    if ((p[0].revents & POLLIN) != 0) return true;
    char buffer[4096];
    if (p[1].revents != 0) open = read(out, buffer, sizeof(buffer)) > 0;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: startup_harness BYTE LINGER_MS COMMAND ARGUMENT...\n");
    return 2;
  }
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return 3;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);

  pid_t pid = 0;
  const int64_t start = now_us();
  if (const int error = posix_spawnp(&pid, argv[3], &actions, nullptr, argv + 3, environ); error != 0) {
    fprintf(stderr, "%s: %s\n", argv[3], strerror(error));
    return 3;
  }
  close(out[1]);
  const int64_t byte = wait_for_byte(out[0], argv[1][0]);
  const int pid_fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  const bool ended = byte != 0 && wait_for_end(pid_fd, out[0], atoi(argv[2]));
  const int64_t end = now_us();
  if (!ended) kill(pid, SIGKILL);
  int status = 0;
  rusage usage{};
  if (wait4(pid, &status, 0, &usage) != pid) return 3;
  if (byte == 0) {
    fprintf(stderr, "%s: no byte '%s' on standard output\n", argv[3], argv[1]);
    return 4;
  }
  printf("{\"byte_us\":%lld,\"exit_us\":%lld,\"cpu_us\":%lld,\"killed\":%s,\"exit_code\":%d}\n",
         static_cast<long long>(byte - start), static_cast<long long>(end - start),
         static_cast<long long>(to_us(usage.ru_utime) + to_us(usage.ru_stime)), ended ? "false" : "true",
         WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 0;
}
