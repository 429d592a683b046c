// Both ends of a load, static, in a Linux guest and on its host:
//   flow serve ADDRESS...           the other end of all of these, until it is killed
//   flow out ADDRESS SECONDS        bytes to it, one stream
//   flow in ADDRESS SECONDS         bytes from it
//   flow connects ADDRESS SECONDS   connections one after the other, a question and an answer each
//   flow packets-out ADDRESS SECONDS   small datagrams as fast as they go; those count that arrive
//   flow packets-in ADDRESS SECONDS
//   flow count-out ADDRESS N        N numbered datagrams: each has to arrive, once, in its place
//   flow count-in ADDRESS N
// ADDRESS: tcp:IP:PORT, vsock:CID:PORT (serve: CID of any), unix:PATH; datagrams are UDP beside a tcp one, which says when, and how far. The first five
// print how many a second and how many; count prints the longest time without progress, in beats: 10 ms in which this machine ran.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { kPiece = 64 * 1024, kBatch = 32, kWindow = 6 * kBatch, kPayload = 18, kPatience = 600, kAddresses = 4 };
enum What { kSink, kSource, kAnswer, kPacketsIn, kPacketsOut, kCountIn, kCountOut };  // as the server sees it

struct Request {
  uint32_t what;
  uint32_t port;  // of our datagrams
  uint64_t value;
};

static void die(const char *what) {
  fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void check(int good, const char *what) {
  if (!good) die(what);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void write_all(int fd, const void *data, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t wrote = write(fd, (const char *)data + done, size - done);
    check(wrote > 0, "write");
    done += (size_t)wrote;
  }
}

static void read_all(int fd, void *data, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t got = read(fd, (char *)data + done, size - done);
    check(got > 0, "the other end");
    done += (size_t)got;
  }
}

// An address as text makes one of three families.
union Address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_vm vm;
  struct sockaddr_un un;
};

static socklen_t parse(const char *text, union Address *out) {
  memset(out, 0, sizeof *out);
  char host[64];
  unsigned port = 0, cid = 0;
  if (sscanf(text, "tcp:%63[^:]:%u", host, &port) == 2) {
    out->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    check(inet_pton(AF_INET, host, &out->in.sin_addr) == 1, text);
    return sizeof out->in;
  }
  if (sscanf(text, "vsock:%u:%u", &cid, &port) == 2) {
    out->vm = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    return sizeof out->vm;
  }
  check(strncmp(text, "unix:", 5) == 0 && strlen(text + 5) < sizeof out->un.sun_path, text);
  out->un.sun_family = AF_UNIX;
  strcpy(out->un.sun_path, text + 5);
  return sizeof out->un;
}

static int dial(const char *text) {
  union Address to;
  const socklen_t size = parse(text, &to);
  const int fd = socket(to.any.sa_family, SOCK_STREAM, 0);
  check(fd >= 0, "socket");
  const struct timeval patience = {.tv_sec = kPatience};  // 2 s are nothing where the processor is emulated
  if (to.any.sa_family == AF_VSOCK) setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof patience);
  check(connect(fd, &to.any, size) == 0, text);
  return fd;
}

static void ask(int fd, enum What what, uint64_t value, uint32_t port) {
  const struct Request request = {.what = what, .port = port, .value = value};
  write_all(fd, &request, sizeof request);
}

static void print_rate(uint64_t count, double seconds) {
  printf("%.1f %" PRIu64 "\n", (double)count / seconds, count);
}

// Streams.

static void send_for(int fd, double seconds) {
  static char data[kPiece];
  for (const double end = now() + seconds; now() < end;) write_all(fd, data, sizeof data);
  shutdown(fd, SHUT_WR);
}

static uint64_t receive_to_end(int fd) {
  static char data[kPiece];
  uint64_t total = 0;
  ssize_t got;
  while ((got = read(fd, data, sizeof data)) > 0) total += (uint64_t)got;
  check(got == 0, "read");
  return total;
}

// Datagrams.

// A socket of its own port, towards the other end of the stream.
static int datagram_socket(int control, uint32_t *port) {
  struct sockaddr_in at;
  socklen_t size = sizeof at;
  check(getsockname(control, (struct sockaddr *)&at, &size) == 0 && at.sin_family == AF_INET, "datagrams want tcp");
  at.sin_port = 0;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  check(fd >= 0 && bind(fd, (struct sockaddr *)&at, size) == 0, "datagram socket");
  const int room = 1 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  check(getsockname(fd, (struct sockaddr *)&at, &size) == 0, "getsockname");
  *port = ntohs(at.sin_port);
  return fd;
}

static void datagrams_to(int fd, int control, uint32_t port) {
  struct sockaddr_in to;
  socklen_t size = sizeof to;
  check(getpeername(control, (struct sockaddr *)&to, &size) == 0, "getpeername");
  to.sin_port = htons((uint16_t)port);
  check(connect(fd, (struct sockaddr *)&to, size) == 0, "connect datagrams");
}

struct Batch {
  struct mmsghdr messages[kBatch];
  struct iovec pieces[kBatch];
  union {
    uint64_t number;
    char bytes[kPayload];
  } data[kBatch];
};

static struct Batch *batch(void) {
  static struct Batch b;
  for (int i = 0; i < kBatch; i++) {
    b.pieces[i] = (struct iovec){.iov_base = b.data[i].bytes, .iov_len = kPayload};
    b.messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &b.pieces[i], .msg_iovlen = 1}};
  }
  return &b;
}

// Sends the first of the batch; those that there is no room for are lost, or it waits.
static void send_batch(int fd, struct Batch *b, unsigned count) {
  for (unsigned sent = 0; sent < count;) {
    const int now_sent = sendmmsg(fd, b->messages + sent, count - sent, 0);
    if (now_sent > 0) sent += (unsigned)now_sent;
    check(now_sent > 0 || errno == ENOBUFS || errno == ECONNREFUSED, "sendmmsg");
  }
}

static void blast(int fd, int control, double seconds) {
  struct Batch *b = batch();
  for (const double end = now() + seconds; now() < end;) send_batch(fd, b, kBatch);
  write_all(control, "e", 1);
}

// Counts until the other end has said that it was all, and nothing more is there.
static uint64_t swallow(int fd, int control) {
  struct Batch *b = batch();
  uint64_t total = 0;
  for (int ended = 0;;) {
    struct pollfd entries[] = {{.fd = fd, .events = POLLIN}, {.fd = control, .events = POLLIN}};
    const int ready = poll(entries, ended ? 1 : 2, ended ? 300 : kPatience * 1000);
    check(ready >= 0, "poll");
    if (ready == 0) {
      check(ended, "nothing comes");
      return total;
    }
    if ((entries[0].revents & POLLIN) != 0) {
      const int got = recvmmsg(fd, b->messages, kBatch, MSG_DONTWAIT, NULL);
      if (got > 0) total += (uint64_t)got;
    } else if (!ended && entries[1].revents != 0) {
      char byte;
      read_all(control, &byte, 1);
      ended = 1;
    }
  }
}

// Beats are counted by a process of its own: time in which this machine stood still has none.
static volatile uint64_t *begin_beats(void) {
  volatile uint64_t *beats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  check(beats != MAP_FAILED, "mmap");
  const pid_t parent = getpid();
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) {
    while (getppid() == parent) {
      usleep(10000);
      (*beats)++;
    }
    _exit(0);
  }
  return beats;
}

struct Progress {
  volatile uint64_t *beats;
  uint64_t last, longest;
};

static void progress(struct Progress *p) {
  const uint64_t at = *p->beats;
  if (at - p->last > p->longest) p->longest = at - p->last;
  p->last = at;
}

static uint64_t wait_for_acknowledgement(int control, struct Progress *p) {
  struct pollfd entry = {.fd = control, .events = POLLIN};
  check(poll(&entry, 1, kPatience * 1000) == 1, "no progress");
  uint64_t arrived = 0;
  read_all(control, &arrived, sizeof arrived);
  progress(p);
  return arrived;
}

// At most a window on the way, which neither end's queues overflow: so none is lost but by the device.
static uint64_t send_numbered(int fd, int control, uint64_t count) {
  struct Batch *b = batch();
  struct Progress p = {.beats = begin_beats()};
  uint64_t sent = 0, arrived = 0;
  while (arrived < count) {
    if (sent < count && sent - arrived + kBatch <= kWindow) {
      unsigned some = 0;
      for (; some < kBatch && sent < count; some++) b->data[some].number = sent++;
      send_batch(fd, b, some);
    } else {
      arrived = wait_for_acknowledgement(control, &p);
    }
  }
  return p.longest;
}

static void misplaced(int fd, struct Batch *b, uint64_t wanted, uint64_t came) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  int late = 0;
  while (!late && poll(&entry, 1, 2000) == 1) {
    const int got = recvmmsg(fd, b->messages, kBatch, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++) late |= b->data[i].number == wanted;
  }
  fprintf(stderr, "flow: %" PRIu64 " came in the place of %" PRIu64 ", which came %s\n", came, wanted, late ? "later" : "never");
  exit(1);
}

static uint64_t receive_numbered(int fd, int control, uint64_t count) {
  struct Batch *b = batch();
  struct Progress p = {.beats = begin_beats()};
  uint64_t next = 0, said = 0;
  while (next < count) {
    struct pollfd entries[] = {{.fd = fd, .events = POLLIN}, {.fd = control, .events = 0}};
    const int ready = poll(entries, 2, kPatience * 1000);
    check(ready > 0 && entries[1].revents == 0, "no progress");
    const int got = recvmmsg(fd, b->messages, kBatch, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++, next++) {
      if (b->messages[i].msg_len != kPayload || b->data[i].number != next) misplaced(fd, b, next, b->data[i].number);
    }
    progress(&p);
    if (next - said >= kBatch || next == count) {
      said = next;
      write_all(control, &said, sizeof said);
    }
  }
  return p.longest;
}

// The two ends.

static void serve_one(int control, struct Request request) {
  if (request.what == kSink) {
    const uint64_t total = receive_to_end(control);
    write_all(control, &total, sizeof total);
    return;
  }
  if (request.what == kSource) return send_for(control, (double)request.value);
  uint32_t port = 0;
  const int fd = datagram_socket(control, &port);
  datagrams_to(fd, control, request.port);
  write_all(control, &port, sizeof port);
  if (request.what == kPacketsOut) blast(fd, control, (double)request.value);
  if (request.what == kCountOut) send_numbered(fd, control, request.value);
  if (request.what == kCountIn) receive_numbered(fd, control, request.value);
  if (request.what == kPacketsIn) {
    const uint64_t total = swallow(fd, control);
    write_all(control, &total, sizeof total);
  }
}

static int serve(int count, char **texts) {
  struct pollfd entries[kAddresses];
  check(count <= kAddresses, "addresses");
  signal(SIGCHLD, SIG_IGN);
  for (int i = 0; i < count; i++) {
    union Address at;
    const socklen_t size = parse(texts[i], &at);
    entries[i] = (struct pollfd){.fd = socket(at.any.sa_family, SOCK_STREAM, 0), .events = POLLIN};
    const int yes = 1;
    setsockopt(entries[i].fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    check(entries[i].fd >= 0 && bind(entries[i].fd, &at.any, size) == 0 && listen(entries[i].fd, 128) == 0, texts[i]);
  }
  printf("flow: serves\n");
  for (;;) {
    check(poll(entries, (nfds_t)count, -1) > 0, "poll");
    for (int i = 0; i < count; i++) {
      if (entries[i].revents == 0) continue;
      const int control = accept(entries[i].fd, NULL, NULL);
      if (control < 0) continue;
      struct Request request;
      read_all(control, &request, sizeof request);
      if (request.what == kAnswer) {
        write_all(control, &request, sizeof request);
      } else if (fork() == 0) {
        signal(SIGCHLD, SIG_DFL);
        serve_one(control, request);
        exit(0);
      }
      close(control);
    }
  }
}

static void packets(const char *address, enum What what, uint64_t value) {
  const int control = dial(address);
  uint32_t port = 0, other = 0;
  const int fd = datagram_socket(control, &port);
  ask(control, what, value, port);
  read_all(control, &other, sizeof other);
  datagrams_to(fd, control, other);
  uint64_t total = 0;
  switch (what) {
    case kPacketsIn:
      blast(fd, control, (double)value);
      read_all(control, &total, sizeof total);
      break;
    case kPacketsOut:
      total = swallow(fd, control);
      break;
    default:
      printf("%" PRIu64 " in their places, at most %" PRIu64 " beats without one\n", value,
             what == kCountIn ? send_numbered(fd, control, value) : receive_numbered(fd, control, value));
      return;
  }
  print_rate(total, (double)value);
}

static void connects(const char *address, double seconds) {
  uint64_t count = 0;
  const double start = now();
  for (; now() - start < seconds; count++) {
    struct Request back;
    const int fd = dial(address);
    ask(fd, kAnswer, count, 0);
    read_all(fd, &back, sizeof back);
    check(back.value == count, "the answer");
    close(fd);
  }
  print_rate(count, now() - start);
}

static void out(const char *address, double seconds) {
  const int fd = dial(address);
  ask(fd, kSink, 0, 0);
  const double start = now();
  uint64_t total = 0;
  send_for(fd, seconds);
  read_all(fd, &total, sizeof total);
  print_rate(total, now() - start);
}

static void in(const char *address, uint64_t seconds) {
  const int fd = dial(address);
  const double start = now();
  ask(fd, kSource, seconds, 0);
  const uint64_t total = receive_to_end(fd);
  print_rate(total, now() - start);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  if (argc > 2 && strcmp(argv[1], "serve") == 0) return serve(argc - 2, argv + 2);
  if (argc != 4) return 2;
  const uint64_t value = strtoull(argv[3], NULL, 10);
  if (strcmp(argv[1], "out") == 0) out(argv[2], (double)value);
  if (strcmp(argv[1], "in") == 0) in(argv[2], value);
  if (strcmp(argv[1], "connects") == 0) connects(argv[2], (double)value);
  if (strcmp(argv[1], "packets-out") == 0) packets(argv[2], kPacketsIn, value);
  if (strcmp(argv[1], "packets-in") == 0) packets(argv[2], kPacketsOut, value);
  if (strcmp(argv[1], "count-out") == 0) packets(argv[2], kCountIn, value);
  if (strcmp(argv[1], "count-in") == 0) packets(argv[2], kCountOut, value);
  return 0;
}
