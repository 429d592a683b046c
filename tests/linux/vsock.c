// A program for both ends of vsock in a Linux guest, static, as the initramfs has no other that speaks it:
//   vsock echo PORT           sends back what comes on each connection, until it is killed
//   vsock many PORT N BYTES   N connections to that port of the host at once, BYTES each way on each; all must come back right
//   vsock storm PORT N        N connections, one after the other, a byte each way
//   vsock hold PORT           one connection, which it reads until it ends, and says how
#include <errno.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
  printf("vsock: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_vm address(unsigned cid, unsigned port) {
  struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
  return to;
}

static int connect_host(unsigned port) {
  const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  const struct timeval patience = {.tv_sec = 300};  // 2 s are nothing where the processor is emulated
  if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof patience) != 0) die("setsockopt");
  const struct sockaddr_vm to = address(VMADDR_CID_HOST, port);
  if (connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) die("connect");
  return fd;
}

static unsigned char pattern(unsigned seed, size_t position) {
  return (unsigned char)((position * 7 + seed * 13) % 251);
}

static void echo_one(int fd) {
  char data[4096];
  ssize_t got;
  while ((got = read(fd, data, sizeof data)) > 0) {
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t now = write(fd, data + sent, (size_t)(got - sent));
      if (now <= 0) exit(1);
      sent += now;
    }
  }
  exit(0);
}

static void echo(unsigned port) {
  const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  const struct sockaddr_vm at = address(VMADDR_CID_ANY, port);
  if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 256) != 0) die("listen");
  printf("vsock: listens\n");
  for (;;) {
    const int connection = accept(fd, NULL, NULL);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    if (connection < 0) die("accept");
    if (fork() == 0) {
      close(fd);
      echo_one(connection);
    }
    close(connection);
  }
}

// Sends and reads at the same time.
static int exchange(int fd, unsigned seed, size_t bytes) {
  size_t sent = 0, read_bytes = 0;
  unsigned char data[4096];
  while (read_bytes < bytes) {
    struct pollfd entry = {.fd = fd, .events = (short)(POLLIN | (sent < bytes ? POLLOUT : 0))};
    if (poll(&entry, 1, 300000) <= 0) return 2;
    if ((entry.revents & POLLOUT) != 0 && sent < bytes) {
      const size_t piece = bytes - sent < sizeof data ? bytes - sent : sizeof data;
      for (size_t i = 0; i < piece; i++) data[i] = pattern(seed, sent + i);
      const ssize_t now = send(fd, data, piece, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (now > 0) sent += (size_t)now;
      if (now < 0 && errno != EAGAIN) return 3;
      if (sent == bytes) shutdown(fd, SHUT_WR);
    }
    if ((entry.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      const ssize_t got = recv(fd, data, sizeof data, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN)) return 4;
      for (ssize_t i = 0; i < got; i++) {
        if (data[i] != pattern(seed, read_bytes + (size_t)i)) return 5;
      }
      if (got > 0) read_bytes += (size_t)got;
    }
  }
  return read(fd, data, 1) == 0 ? 0 : 6;  // and then the end
}

static int many(unsigned port, unsigned count, size_t bytes) {
  for (unsigned i = 0; i < count; i++) {
    if (fork() == 0) exit(exchange(connect_host(port), i, bytes));
  }
  unsigned good = 0;
  int status = 0;
  while (wait(&status) > 0) {
    if (status == 0) {
      good++;
    } else {
      printf("vsock: one ended with %#x\n", (unsigned)status);
    }
  }
  printf("vsock: %u of %u came back right\n", good, count);
  return good != count;
}

static int storm(unsigned port, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    const int fd = connect_host(port);
    char byte = (char)i;
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1 || byte != (char)i) die("storm");
    close(fd);
  }
  printf("vsock: %u connections\n", count);
  return 0;
}

static int hold(unsigned port) {
  const int fd = connect_host(port);
  char byte = 0;
  printf("vsock: holds\n");
  const ssize_t got = read(fd, &byte, 1);
  printf("vsock: what was held ended: %s\n", got < 0 ? strerror(errno) : got == 0 ? "the end" : "a byte");
  return 0;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const unsigned port = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
  const unsigned count = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
  const size_t bytes = argc > 4 ? (size_t)atoi(argv[4]) : 0;
  if (argc > 2 && strcmp(argv[1], "echo") == 0) echo(port);
  if (argc > 4 && strcmp(argv[1], "many") == 0) return many(port, count, bytes);
  if (argc > 3 && strcmp(argv[1], "storm") == 0) return storm(port, count);
  if (argc > 2 && strcmp(argv[1], "hold") == 0) return hold(port);
  return 2;
}
