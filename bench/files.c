// Load on a directory, static, in the guest of bench/fs:
//   files write FILE SECONDS      128 KiB after 128 KiB, past the page cache, from the start again after 64 MiB
//   files read FILE SECONDS       the same; FILE is there, and has 64 MiB
//   files metadata FOLDER SECONDS   files made, looked at and removed, one after the other
// Prints how much a second and how much: bytes, or operations.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kPiece = 128 * 1024, kFile = 64 * 1024 * 1024 };

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "files: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t stream(const char *path, int writes, double end) {
  const int fd = open(path, (writes ? O_WRONLY | O_CREAT : O_RDONLY) | O_DIRECT, 0600);
  void *data = aligned_alloc(4096, kPiece);
  check(fd >= 0 && data != NULL, path);
  memset(data, 0x5a, kPiece);
  uint64_t total = 0;
  for (; now() < end; total += kPiece) {
    const off_t at = (off_t)(total % kFile);
    const ssize_t moved = writes ? pwrite(fd, data, kPiece, at) : pread(fd, data, kPiece, at);
    check(moved == kPiece, writes ? "write" : "read");
  }
  close(fd);
  return total;
}

static uint64_t metadata(const char *folder, double end) {
  uint64_t total = 0;
  for (; now() < end; total += 3) {
    char path[256];
    struct stat status;
    snprintf(path, sizeof path, "%s/file%" PRIu64, folder, total);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    check(fd >= 0 && close(fd) == 0, "create");
    check(stat(path, &status) == 0, "stat");
    check(unlink(path) == 0, "unlink");
  }
  return total;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const double start = now(), end = start + atof(argv[3]);
  const uint64_t total = strcmp(argv[1], "metadata") == 0 ? metadata(argv[2], end) : stream(argv[2], strcmp(argv[1], "write") == 0, end);
  printf("%.1f %" PRIu64 "\n", (double)total / (now() - start), total);
  return 0;
}
