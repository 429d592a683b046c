// Checks of a file system, as POSIX and Linux's manual pages have it: `posix DIR` prints a line for each that fails, and in the end how many there were.
// It runs as root; what needs another user is done by a child that is user 65534.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int checks, failures;

static void check(const char *name, int right) {
  ++checks;
  if (right) return;
  ++failures;
  printf("posix: fails: %s (%s)\n", name, strerror(errno));
}
#define IS(name, condition) (errno = 0, check(name, (condition) != 0))
// The call fails, and with this error.
#define ERR(name, call, error) (errno = 0, check(name, (long)(call) == -1 && errno == (error)))

static struct stat st;
static char buf[70000], big[70000];

static int make(const char *path, const char *text) {
  const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
  if (fd < 0) return -1;
  const ssize_t n = write(fd, text, strlen(text));
  return close(fd) == 0 && n == (ssize_t)strlen(text) ? 0 : -1;
}
static int holds(const char *path, const char *text) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  const ssize_t n = read(fd, buf, sizeof buf);
  close(fd);
  return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}
static ino_t inode(const char *path) { return lstat(path, &st) == 0 ? st.st_ino : 0; }
static mode_t mode(const char *path) { return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0xffff; }
static long links(const char *path) { return lstat(path, &st) == 0 ? (long)st.st_nlink : -1; }
static long size_of(const char *path) { return lstat(path, &st) == 0 ? (long)st.st_size : -1; }
static int there(const char *path) { return lstat(path, &st) == 0; }
static int entries(const char *path) {
  DIR *dir = opendir(path);
  int n = 0;
  if (!dir) return -1;
  while (readdir(dir)) ++n;
  closedir(dir);
  return n;
}
// What `call` does as another user: 0, or its error.
static int as_nobody(int (*call)(void)) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) || setuid(65534)) _exit(255);
    _exit(call() == -1 ? errno : 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void creating(void) {
  int fd;
  IS("O_CREAT makes a file", (fd = open("f", O_CREAT | O_RDWR, 0640)) >= 0);
  IS("a new file is empty", fstat(fd, &st) == 0 && st.st_size == 0);
  IS("a new file is a regular one", S_ISREG(st.st_mode));
  IS("a new file has the mode asked for", (st.st_mode & 07777) == 0640);
  IS("a new file has one link", st.st_nlink == 1);
  IS("a new file is its maker's", st.st_uid == 0 && st.st_gid == 0);
  close(fd);
  ERR("O_EXCL refuses what is there", open("f", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
  IS("O_EXCL makes what is not there", (fd = open("x", O_CREAT | O_EXCL | O_RDWR, 0600)) >= 0 && close(fd) == 0);
  ERR("open without O_CREAT needs a file", open("none", O_RDWR), ENOENT);
  ERR("open below a file", open("f/x", O_RDONLY), ENOTDIR);
  ERR("open in no directory", open("none/x", O_CREAT | O_RDWR, 0600), ENOENT);
  ERR("O_DIRECTORY refuses a file", open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
  ERR("a directory cannot be written", open(".", O_WRONLY), EISDIR);
  umask(027);
  IS("umask takes bits away", (fd = open("masked", O_CREAT | O_RDWR, 0666)) >= 0 && close(fd) == 0 && mode("masked") == 0640);
  IS("umask and mkdir", mkdir("masked.d", 0777) == 0 && mode("masked.d") == 0750);
  umask(0);
  IS("mode 0 for root", (fd = open("zero", O_CREAT | O_RDWR, 0)) >= 0 && mode("zero") == 0 && close(fd) == 0);
  IS("root opens mode 0", (fd = open("zero", O_RDWR)) >= 0 && close(fd) == 0);
  IS("creat truncates", make("t", "content") == 0 && (fd = creat("t", 0600)) >= 0 && close(fd) == 0 && size_of("t") == 0);
  IS("creat leaves the mode of a file that is there", mode("t") == 0644);
  IS("O_TRUNC truncates", make("t", "content") == 0 && (fd = open("t", O_WRONLY | O_TRUNC)) >= 0 && close(fd) == 0 && size_of("t") == 0);
  memset(big, 'n', 256);
  big[255] = 0;
  IS("a name of 255 bytes", make(big, "long") == 0 && holds(big, "long") && unlink(big) == 0);
  big[255] = 'n';
  big[256] = 0;
  ERR("a name of 256 bytes", open(big, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
  memset(big, 'p', 4200);
  big[4200] = 0;
  ERR("a path of 4200 bytes", open(big, O_RDONLY), ENAMETOOLONG);
  ERR("an empty path", open("", O_RDONLY), ENOENT);
  IS("a name with a space", make("a b", "1") == 0 && holds("a b", "1"));
  IS("a name with a new line", make("a\nb", "2") == 0 && holds("a\nb", "2"));
  IS("a name in UTF-8", make("\xc3\xa4\xe2\x82\xac", "3") == 0 && holds("\xc3\xa4\xe2\x82\xac", "3"));
  IS("a name that is no UTF-8", make("\xff\xfe", "4") == 0 && holds("\xff\xfe", "4"));
  IS("a name that begins with a dot", make(".hidden", "5") == 0 && holds(".hidden", "5"));
  IS("names differ by case", make("case", "low") == 0 && make("CASE", "up") == 0 && holds("case", "low") && holds("CASE", "up"));
  IS("O_TMPFILE has no name", (fd = open(".", O_TMPFILE | O_RDWR, 0600)) >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
  if (fd >= 0) close(fd);
}

static void data(void) {
  int fd;
  IS("write and read back", make("d", "0123456789") == 0 && holds("d", "0123456789"));
  IS("size after a write", size_of("d") == 10);
  fd = open("d", O_RDWR);
  IS("read moves on", read(fd, buf, 4) == 4 && read(fd, buf + 4, 4) == 4 && memcmp(buf, "01234567", 8) == 0);
  IS("a read at the end is short", read(fd, buf, 10) == 2);
  IS("a read past the end is empty", read(fd, buf, 10) == 0);
  IS("a read of nothing", read(fd, buf, 0) == 0);
  IS("lseek to the start", lseek(fd, 0, SEEK_SET) == 0 && read(fd, buf, 1) == 1 && buf[0] == '0');
  IS("lseek onwards", lseek(fd, 2, SEEK_CUR) == 3);
  IS("lseek from the end", lseek(fd, -1, SEEK_END) == 9 && read(fd, buf, 1) == 1 && buf[0] == '9');
  ERR("lseek before the start", lseek(fd, -1, SEEK_SET), EINVAL);
  IS("lseek past the end", lseek(fd, 100, SEEK_SET) == 100);
  IS("a write there leaves a hole", write(fd, "x", 1) == 1 && size_of("d") == 101);
  IS("a hole reads as zeros", pread(fd, buf, 90, 10) == 90 && buf[0] == 0 && memcmp(buf, buf + 1, 89) == 0);
  IS("pread does not move", lseek(fd, 5, SEEK_SET) == 5 && pread(fd, buf, 1, 0) == 1 && lseek(fd, 0, SEEK_CUR) == 5);
  IS("pwrite does not move", pwrite(fd, "Z", 1, 0) == 1 && lseek(fd, 0, SEEK_CUR) == 5);
  ERR("pread before the start", pread(fd, buf, 1, -1), EINVAL);
  struct iovec out[] = {{"abc", 3}, {"", 0}, {"defg", 4}};
  IS("writev", lseek(fd, 0, SEEK_SET) == 0 && writev(fd, out, 3) == 7);
  struct iovec in[] = {{buf, 2}, {buf + 2, 5}};
  IS("readv", lseek(fd, 0, SEEK_SET) == 0 && readv(fd, in, 2) == 7 && memcmp(buf, "abcdefg", 7) == 0);
  IS("preadv", preadv(fd, in, 2, 1) == 7 && memcmp(buf, "bcdefg", 6) == 0);
  IS("pwritev", pwritev(fd, out, 3, 200) == 7 && size_of("d") == 207);
  close(fd);
  fd = open("d", O_RDONLY);
  ERR("no write where only read", write(fd, "x", 1), EBADF);
  ERR("no ftruncate where only read", ftruncate(fd, 0), EINVAL);
  close(fd);
  fd = open("d", O_WRONLY);
  ERR("no read where only write", read(fd, buf, 1), EBADF);
  close(fd);
  make("a", "start");
  fd = open("a", O_WRONLY | O_APPEND);
  IS("O_APPEND", write(fd, "-one", 4) == 4 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "-two", 4) == 4 && holds("a", "start-one-two"));
  IS("O_APPEND after another wrote", truncate("a", 5) == 0 && write(fd, "!", 1) == 1 && holds("a", "start!"));
  close(fd);
  for (size_t i = 0; i < sizeof big; ++i) big[i] = (char)(i * 7 % 251);
  fd = open("l", O_CREAT | O_TRUNC | O_RDWR, 0600);
  int whole = 1;
  for (int i = 0; i < 30; ++i) whole &= write(fd, big, sizeof big) == (ssize_t)sizeof big;
  IS("two megabytes are written", whole && fstat(fd, &st) == 0 && st.st_size == 30 * (off_t)sizeof big);
  lseek(fd, 0, SEEK_SET);
  for (int i = 0; i < 30; ++i) whole &= read(fd, buf, sizeof buf) == (ssize_t)sizeof buf && memcmp(buf, big, sizeof big) == 0;
  IS("and read back", whole);
  IS("fsync", fsync(fd) == 0);
  IS("fdatasync", fdatasync(fd) == 0);
  IS("blocks are accounted for", fstat(fd, &st) == 0 && st.st_blocks >= 30 * (blkcnt_t)sizeof big / 512 / 2);
  close(fd);
  fd = open("d", O_RDWR | O_SYNC);
  IS("O_SYNC writes", fd >= 0 && write(fd, "s", 1) == 1);
  close(fd);
  const int one = open("d", O_RDWR), two = open("d", O_RDONLY);
  IS("one descriptor sees what another wrote", pwrite(one, "seen", 4, 50) == 4 && pread(two, buf, 4, 50) == 4 && memcmp(buf, "seen", 4) == 0);
  const int three = dup(one);
  IS("dup shares the position", lseek(one, 33, SEEK_SET) == 33 && lseek(three, 0, SEEK_CUR) == 33);
  close(one), close(two), close(three);
  const int from = open("l", O_RDONLY), to = open("copy", O_CREAT | O_TRUNC | O_RDWR, 0600);
  IS("copy_file_range", copy_file_range(from, NULL, to, NULL, 5000, 0) == 5000 && pread(to, buf, 5000, 0) == 5000 && memcmp(buf, big, 5000) == 0);
  close(from), close(to);
}

static void sizes(void) {
  int fd;
  make("s", "0123456789");
  IS("truncate shortens", truncate("s", 4) == 0 && holds("s", "0123"));
  IS("truncate lengthens with zeros", truncate("s", 8) == 0 && (fd = open("s", O_RDONLY)) >= 0 && read(fd, buf, 9) == 8 && memcmp(buf, "0123\0\0\0\0", 8) == 0 && close(fd) == 0);
  IS("truncate to nothing", truncate("s", 0) == 0 && size_of("s") == 0);
  ERR("truncate to less than nothing", truncate("s", -1), EINVAL);
  ERR("truncate a directory", truncate(".", 0), EISDIR);
  ERR("truncate what is not there", truncate("none", 0), ENOENT);
  fd = open("s", O_RDWR);
  IS("ftruncate", ftruncate(fd, 1000) == 0 && size_of("s") == 1000);
  IS("ftruncate to 5 GiB", ftruncate(fd, 5LL << 30) == 0 && size_of("s") == 5LL << 30);
  IS("a write at 5 GiB", pwrite(fd, "far", 3, (5LL << 30) - 3) == 3 && pread(fd, buf, 3, (5LL << 30) - 3) == 3 && memcmp(buf, "far", 3) == 0);
  IS("a sparse file has few blocks", fstat(fd, &st) == 0 && st.st_blocks < 1000);
  ftruncate(fd, 0);
  IS("fallocate", fallocate(fd, 0, 0, 8192) == 0 && size_of("s") == 8192);
  IS("fallocate that keeps the size", fallocate(fd, FALLOC_FL_KEEP_SIZE, 8192, 8192) == 0 && size_of("s") == 8192);
  IS("a punched hole reads as zeros", pwrite(fd, big, 8192, 0) == 8192 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 && pread(fd, buf, 1, 100) == 1 && buf[0] == 0);
  IS("and nothing else does", pread(fd, buf, 10, 4096) == 10 && memcmp(buf, big + 4096, 10) == 0);
  IS("posix_fallocate", posix_fallocate(fd, 0, 20000) == 0 && size_of("s") == 20000);
  IS("SEEK_END after that", lseek(fd, 0, SEEK_END) == 20000);
  IS("SEEK_DATA", lseek(fd, 0, SEEK_DATA) >= 0);
  IS("SEEK_HOLE", lseek(fd, 0, SEEK_HOLE) > 0);
  close(fd);
}

static void linking(void) {
  int fd;
  make("one", "linked");
  IS("link", link("one", "two") == 0 && holds("two", "linked"));
  IS("a link is the same file", inode("one") == inode("two"));
  IS("and counted", links("one") == 2);
  IS("a write by one name is read by the other", make("one", "changed") == 0 && holds("two", "changed"));
  IS("unlink leaves the other", unlink("one") == 0 && holds("two", "changed") && links("two") == 1);
  ERR("link to what is not there", link("none", "three"), ENOENT);
  make("one", "1");
  ERR("link over what is there", link("one", "two"), EEXIST);
  ERR("link to a directory", link(".", "dirlink"), EPERM);
  ERR("unlink what is not there", unlink("none"), ENOENT);
  ERR("unlink below a file", unlink("one/x"), ENOTDIR);
  mkdir("dir", 0755);
  IS("unlink refuses a directory", unlink("dir") == -1 && (errno == EISDIR || errno == EPERM));
  fd = open("one", O_RDWR);
  IS("an unlinked file is still read", unlink("one") == 0 && !there("one") && pread(fd, buf, 1, 0) == 1 && buf[0] == '1');
  IS("and written", pwrite(fd, "still", 5, 0) == 5 && pread(fd, buf, 5, 0) == 5 && memcmp(buf, "still", 5) == 0);
  IS("and has no link", fstat(fd, &st) == 0 && st.st_nlink == 0);
  IS("and is resized", ftruncate(fd, 3) == 0 && fstat(fd, &st) == 0 && st.st_size == 3);
  IS("its name can be used again", make("one", "new") == 0 && pread(fd, buf, 3, 0) == 3 && memcmp(buf, "sti", 3) == 0);
  close(fd);
  IS("symlink", symlink("two", "soft") == 0 && holds("soft", "changed"));
  IS("lstat sees the link", lstat("soft", &st) == 0 && S_ISLNK(st.st_mode) && st.st_size == 3);
  IS("stat sees the file", stat("soft", &st) == 0 && S_ISREG(st.st_mode));
  IS("readlink", readlink("soft", buf, sizeof buf) == 3 && memcmp(buf, "two", 3) == 0);
  IS("readlink into little room", readlink("soft", buf, 2) == 2);
  ERR("readlink of a file", readlink("two", buf, sizeof buf), EINVAL);
  ERR("symlink over what is there", symlink("x", "soft"), EEXIST);
  ERR("O_NOFOLLOW refuses a link", open("soft", O_RDONLY | O_NOFOLLOW), ELOOP);
  IS("a link that leads nowhere can be made", symlink("nowhere", "dangling") == 0);
  ERR("and not opened", open("dangling", O_RDONLY), ENOENT);
  IS("but created through", (fd = open("dangling", O_CREAT | O_RDWR, 0600)) >= 0 && close(fd) == 0 && there("nowhere"));
  symlink("loop", "loop");
  ERR("a link to itself", open("loop", O_RDONLY), ELOOP);
  IS("a link to a directory is followed", symlink("dir", "softdir") == 0 && make("softdir/in", "inside") == 0 && holds("dir/in", "inside"));
  IS("a link by an absolute path is read as it is", symlink("/absolute/path", "abs") == 0 && readlink("abs", buf, sizeof buf) == 14);
  IS("unlink takes the link, not the file", unlink("soft") == 0 && there("two"));
  memset(big, 's', 1000);
  big[1000] = 0;
  IS("a link of 1000 bytes", symlink(big, "longlink") == 0 && readlink("longlink", buf, sizeof buf) == 1000);
  IS("a link to a link of the same inode", link("abs", "abs2") == 0 && inode("abs") == inode("abs2"));
  IS("linkat by descriptor's path", (fd = open(".", O_RDONLY)) >= 0 && linkat(fd, "two", fd, "three", 0) == 0 && close(fd) == 0 && holds("three", "changed"));
}

static void renaming(void) {
  make("from", "moved");
  const ino_t before = inode("from");
  IS("rename", rename("from", "to") == 0 && !there("from") && holds("to", "moved"));
  IS("rename keeps the file", inode("to") == before);
  make("other", "other");
  IS("rename replaces", rename("to", "other") == 0 && holds("other", "moved") && !there("to"));
  ERR("rename of what is not there", rename("none", "to"), ENOENT);
  ERR("rename to no directory", rename("other", "none/to"), ENOENT);
  IS("rename to itself", rename("other", "other") == 0 && holds("other", "moved"));
  link("other", "same");
  IS("rename to a link of itself does nothing", rename("other", "same") == 0 && there("other") && there("same"));
  mkdir("d1", 0755), mkdir("d2", 0755);
  make("d1/file", "x");
  IS("rename of a directory", rename("d1", "d3") == 0 && holds("d3/file", "x"));
  IS("a directory replaces an empty one", rename("d3", "d2") == 0 && holds("d2/file", "x") && !there("d3"));
  mkdir("d4", 0755);
  make("d4/y", "y");
  IS("but not a full one", rename("d2", "d4") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
  ERR("a directory does not replace a file", rename("d2", "other"), ENOTDIR);
  ERR("a file does not replace a directory", rename("other", "d2"), EISDIR);
  ERR("a directory does not go below itself", rename("d2", "d2/below"), EINVAL);
  IS("rename into a directory", rename("other", "d2/other") == 0 && holds("d2/other", "moved"));
  IS("rename of a symbolic link", symlink("d2", "sl") == 0 && rename("sl", "sl2") == 0 && readlink("sl2", buf, 10) == 2);
  make("p", "p"), make("q", "q");
  ERR("RENAME_NOREPLACE refuses", renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_NOREPLACE), EEXIST);
  IS("RENAME_NOREPLACE moves", renameat2(AT_FDCWD, "p", AT_FDCWD, "p2", RENAME_NOREPLACE) == 0 && holds("p2", "p"));
  IS("RENAME_EXCHANGE", renameat2(AT_FDCWD, "p2", AT_FDCWD, "q", RENAME_EXCHANGE) == 0 && holds("p2", "q") && holds("q", "p"));
  ERR("RENAME_EXCHANGE needs both", renameat2(AT_FDCWD, "p2", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT);
  const int fd = open("q", O_RDWR);
  IS("an open file is renamed", rename("q", "q2") == 0 && pwrite(fd, "w", 1, 0) == 1 && holds("q2", "w"));
  make("r", "r");
  IS("an open file is replaced, and lives on", rename("r", "q2") == 0 && pread(fd, buf, 1, 0) == 1 && buf[0] == 'w' && holds("q2", "r"));
  close(fd);
}

static void directories(void) {
  char name[64];
  IS("mkdir", mkdir("m", 0711) == 0 && lstat("m", &st) == 0 && S_ISDIR(st.st_mode));
  IS("mkdir has the mode asked for", (st.st_mode & 07777) == 0711);
  IS("a new directory has two links", st.st_nlink == 2);
  IS("a new directory is empty but for two", entries("m") == 2);
  IS("a directory in it is a third link", mkdir("m/sub", 0755) == 0 && links("m") == 3);
  ERR("mkdir over what is there", mkdir("m", 0755), EEXIST);
  ERR("mkdir in no directory", mkdir("none/m", 0755), ENOENT);
  make("file", "");
  ERR("mkdir below a file", mkdir("file/m", 0755), ENOTDIR);
  ERR("rmdir of a full one", rmdir("m"), ENOTEMPTY);
  IS("rmdir", rmdir("m/sub") == 0 && links("m") == 2);
  ERR("rmdir of a file", rmdir("file"), ENOTDIR);
  ERR("rmdir of what is not there", rmdir("none"), ENOENT);
  ERR("rmdir of dot", rmdir("m/."), EINVAL);
  ERR("rmdir of dot dot", rmdir("m/.."), ENOTEMPTY);
  ERR("opendir of a file", open("file", O_DIRECTORY), ENOTDIR);
  ERR("a directory is not read as a file", read(open("m", O_RDONLY), buf, 10), EISDIR);
  IS("dot and dot dot", lstat("m/.", &st) == 0 && st.st_ino == inode("m") && inode("m/..") == inode("."));
  int all = 1;
  for (int i = 0; i < 200; ++i) {
    snprintf(name, sizeof name, "m/entry%d-of-a-directory-that-takes-several-answers", i);
    all &= make(name, "") == 0;
  }
  IS("two hundred files", all);
  IS("are all read", entries("m") == 202);
  static char seen[200];
  DIR *dir = opendir("m");
  long place = 0;
  int n = 0, twice = 0, number = 0;
  struct dirent *entry;
  while (dir && (entry = readdir(dir))) {
    if (sscanf(entry->d_name, "entry%d", &number) == 1) twice |= seen[number]++;
    if (++n == 100) place = telldir(dir);
  }
  IS("each once", !twice);
  seekdir(dir, place);
  for (n = 0; readdir(dir); ++n) {}
  IS("seekdir goes back", n == 102);
  rewinddir(dir);
  for (n = 0; readdir(dir); ++n) {}
  IS("rewinddir goes back", n == 202);
  rewinddir(dir);
  for (n = 0; (entry = readdir(dir));) n += entry->d_type == DT_REG;
  IS("types are told", n == 200);
  rewinddir(dir);
  int right = 1;
  for (n = 0; n < 20 && (entry = readdir(dir)); ++n) {
    snprintf(name, sizeof name, "m/%.50s", entry->d_name);
    if (entry->d_name[0] != '.') right &= lstat(name, &st) == 0 && st.st_ino == entry->d_ino;
  }
  IS("inode numbers of readdir are those of stat", right);
  closedir(dir);
  dir = opendir("m");
  while ((entry = readdir(dir)))
    if (entry->d_name[0] != '.') unlinkat(dirfd(dir), entry->d_name, 0);
  closedir(dir);
  IS("all can be removed while they are read", entries("m") == 2);
  IS("chdir and back", chdir("m") == 0 && make("here", "x") == 0 && chdir("..") == 0 && there("m/here"));
  const int fd = open("m", O_RDONLY);
  IS("openat", (n = openat(fd, "here", O_RDONLY)) >= 0 && close(n) == 0);
  IS("fstatat", fstatat(fd, "here", &st, 0) == 0 && st.st_size == 1);
  IS("mkdirat", mkdirat(fd, "at", 0755) == 0 && there("m/at"));
  IS("unlinkat of a directory", unlinkat(fd, "at", AT_REMOVEDIR) == 0 && !there("m/at"));
  IS("symlinkat and readlinkat", symlinkat("t", fd, "sl") == 0 && readlinkat(fd, "sl", buf, 10) == 1);
  IS("renameat", renameat(fd, "here", fd, "there") == 0 && there("m/there"));
  IS("faccessat", faccessat(fd, "there", R_OK, 0) == 0);
  IS("fchdir", fchdir(fd) == 0 && there("there") && chdir("..") == 0);
  unlink("m/there"), unlink("m/sl");
  IS("an open directory is removed", rmdir("m") == 0 && fstat(fd, &st) == 0);
  ERR("and nothing is made in it", openat(fd, "late", O_CREAT | O_RDWR, 0600), ENOENT);
  close(fd);
  IS("deep directories", ({
       int deep = 1;
       for (int i = 0; i < 40; ++i) deep &= mkdir("deeper", 0755) == 0 && chdir("deeper") == 0;
       deep &= make("bottom", "b") == 0;
       for (int i = 0; i < 40; ++i) deep &= chdir("..") == 0;
       deep;
     }));
  IS("fsync of a directory", (n = open(".", O_RDONLY)) >= 0 && fsync(n) == 0 && close(n) == 0);
}

static int open_secret(void) { return open("perm/secret", O_RDONLY); }
static int write_readable(void) { return open("perm/readable", O_WRONLY); }
static int read_readable(void) { return open("perm/readable", O_RDONLY); }
static int into_closed(void) { return open("closed/file", O_RDONLY); }
static int list_closed(void) { return open("unlisted", O_RDONLY); }
static int through_unlisted(void) { return open("unlisted/file", O_RDONLY); }
static int make_in_perm(void) { return open("perm/mine", O_CREAT | O_WRONLY, 0600); }
static int make_in_open(void) { return open("open/mine", O_CREAT | O_WRONLY, 0600); }
static int unlink_sticky(void) { return unlink("sticky/roots"); }
static int rename_sticky(void) { return rename("sticky/roots", "sticky/stolen"); }
static int unlink_open(void) { return unlink("open/roots"); }
static int chmod_other(void) { return chmod("perm/readable", 0777); }
static int chown_other(void) { return chown("open/mine", 0, 0); }
static int chmod_mine(void) { return chmod("open/mine", 0644); }
static int utimes_other(void) { return utimensat(AT_FDCWD, "perm/readable", (struct timespec[]){{1, 0}, {1, 0}}, 0); }
static int group_read(void) { return open("perm/groups", O_RDONLY); }
static int truncate_other(void) { return truncate("perm/readable", 0); }
static int access_secret(void) { return access("perm/secret", R_OK); }
static int access_readable(void) { return access("perm/readable", R_OK); }
static int write_suid(void) {
  const int fd = open("open/suid", O_WRONLY);
  return fd < 0 ? -1 : (int)write(fd, "x", 1) - 1;
}
static int is_owner(void) { return stat("open/mine", &st) == 0 && st.st_uid == 65534 && st.st_gid == 65534 ? 0 : -1; }
static int run_script(void) { return access("perm/readable", X_OK); }

static void permissions(void) {
  mkdir("perm", 0755), mkdir("open", 0777), mkdir("closed", 0700), mkdir("unlisted", 0711), mkdir("sticky", 01777);
  make("perm/secret", "s"), chmod("perm/secret", 0600), make("perm/readable", "r"), make("closed/file", "c"), make("unlisted/file", "u");
  make("sticky/roots", "r"), make("open/roots", "r"), make("perm/groups", "g");
  IS("another's secret", as_nobody(open_secret) == EACCES);
  IS("another's file is not written", as_nobody(write_readable) == EACCES);
  IS("but read", as_nobody(read_readable) == 0);
  IS("not executed", as_nobody(run_script) == EACCES);
  IS("a closed directory", as_nobody(into_closed) == EACCES);
  IS("a directory that is not listed", as_nobody(list_closed) == EACCES);
  IS("but gone through", as_nobody(through_unlisted) == 0);
  IS("nothing is made in another's directory", as_nobody(make_in_perm) == EACCES);
  IS("but in an open one", as_nobody(make_in_open) == 0);
  IS("whose file it is then", as_nobody(is_owner) == 0);
  IS("the sticky bit keeps from unlinking", as_nobody(unlink_sticky) == EPERM || errno == EACCES);
  IS("and from renaming", as_nobody(rename_sticky) == EPERM);
  IS("without it an open directory does not", as_nobody(unlink_open) == 0);
  IS("chmod of another's", as_nobody(chmod_other) == EPERM);
  IS("chmod of one's own", as_nobody(chmod_mine) == 0 && mode("open/mine") == 0644);
  IS("chown to another", as_nobody(chown_other) == EPERM);
  IS("times of another's", as_nobody(utimes_other) == EPERM);
  IS("truncate of another's", as_nobody(truncate_other) == EACCES);
  IS("access says so", as_nobody(access_secret) == EACCES && as_nobody(access_readable) == 0);
  IS("the group reads", chmod("perm/groups", 0640) == 0 && chown("perm/groups", 0, 65534) == 0 && as_nobody(group_read) == 0);
  IS("another group does not", chown("perm/groups", 0, 0) == 0 && as_nobody(group_read) == EACCES);
  make("c", "");
  IS("chmod", chmod("c", 0751) == 0 && mode("c") == 0751);
  IS("chmod with suid, sgid and sticky", chmod("c", 07755) == 0 && mode("c") == 07755);
  int fd = open("c", O_RDWR);
  IS("fchmod", fchmod(fd, 0600) == 0 && mode("c") == 0600);
  IS("fchown", fchown(fd, 1000, 1001) == 0 && lstat("c", &st) == 0 && st.st_uid == 1000 && st.st_gid == 1001);
  IS("chown of the group alone", chown("c", (uid_t)-1, 7) == 0 && lstat("c", &st) == 0 && st.st_uid == 1000 && st.st_gid == 7);
  close(fd);
  ERR("chmod of what is not there", chmod("none", 0600), ENOENT);
  ERR("chown of what is not there", chown("none", 0, 0), ENOENT);
  IS("lchown of a link", symlink("c", "cl") == 0 && lchown("cl", 5, 6) == 0 && lstat("cl", &st) == 0 && st.st_uid == 5 && stat("cl", &st) == 0 && st.st_uid == 1000);
  make("suid", "x");
  IS("chown takes suid away", chmod("suid", 06755) == 0 && chown("suid", 1, 1) == 0 && (mode("suid") & 06000) == 0);
  make("open/suid", "x"), chmod("open/suid", 06777);
  IS("a write by another takes suid away", as_nobody(write_suid) == 0 && (mode("open/suid") & 04000) == 0);
  mkdir("sgid", 0777), chown("sgid", 0, 123), chmod("sgid", 02777);
  IS("a directory with sgid gives its group", make("sgid/f", "") == 0 && lstat("sgid/f", &st) == 0 && st.st_gid == 123);
  IS("and its bit to directories", mkdir("sgid/d", 0755) == 0 && (mode("sgid/d") & 02000) != 0);
  IS("access of root", access("perm/secret", R_OK | W_OK) == 0);
  ERR("access of what is not there", access("none", F_OK), ENOENT);
}

static int later(struct timespec a, struct timespec b) { return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec); }
static void tick(void) { nanosleep(&(struct timespec){0, 30000000}, NULL); }

static void times(void) {
  struct stat before;
  make("time", "t");
  const struct timespec past[] = {{1000000000, 123456789}, {1100000000, 987654321}};
  IS("utimensat", utimensat(AT_FDCWD, "time", past, 0) == 0 && stat("time", &st) == 0 && st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 1100000000);
  IS("with nanoseconds", st.st_atim.tv_nsec == 123456789 && st.st_mtim.tv_nsec == 987654321);
  const struct timespec omit[] = {{0, UTIME_OMIT}, {1200000000, 0}};
  IS("UTIME_OMIT", utimensat(AT_FDCWD, "time", omit, 0) == 0 && stat("time", &st) == 0 && st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 1200000000);
  const struct timespec now[] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  IS("UTIME_NOW", utimensat(AT_FDCWD, "time", now, 0) == 0 && stat("time", &st) == 0 && st.st_mtim.tv_sec > 1200000000);
  const struct timespec early[] = {{-100, 0}, {-100, 0}};
  IS("before 1970", utimensat(AT_FDCWD, "time", early, 0) == 0 && stat("time", &st) == 0 && st.st_mtim.tv_sec == -100);
  int fd = open("time", O_RDWR);
  IS("futimens", futimens(fd, past) == 0 && stat("time", &st) == 0 && st.st_mtim.tv_sec == 1100000000);
  IS("of a link itself", symlink("time", "timelink") == 0 && utimensat(AT_FDCWD, "timelink", omit, AT_SYMLINK_NOFOLLOW) == 0 && lstat("timelink", &st) == 0 && st.st_mtim.tv_sec == 1200000000 && stat("time", &st) == 0 && st.st_mtim.tv_sec == 1100000000);
  tick();
  IS("a write changes mtime and ctime", fstat(fd, &before) == 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0 && stat("time", &st) == 0 && later(st.st_mtim, before.st_mtim) && later(st.st_ctim, before.st_ctim));
  tick();
  IS("ftruncate changes mtime", fstat(fd, &before) == 0 && ftruncate(fd, 0) == 0 && stat("time", &st) == 0 && later(st.st_mtim, before.st_mtim));
  tick();
  IS("chmod changes ctime alone", stat("time", &before) == 0 && chmod("time", 0600) == 0 && stat("time", &st) == 0 && later(st.st_ctim, before.st_ctim) && !later(st.st_mtim, before.st_mtim));
  tick();
  IS("link changes ctime", stat("time", &before) == 0 && link("time", "time2") == 0 && stat("time", &st) == 0 && later(st.st_ctim, before.st_ctim));
  close(fd);
  mkdir("timed", 0755);
  stat("timed", &before);
  tick();
  IS("a new entry changes the directory's mtime", make("timed/f", "") == 0 && stat("timed", &st) == 0 && later(st.st_mtim, before.st_mtim));
  before = st;
  tick();
  IS("and so does its end", unlink("timed/f") == 0 && stat("timed", &st) == 0 && later(st.st_mtim, before.st_mtim));
  struct statx sx;
  IS("statx", statx(AT_FDCWD, "time", 0, STATX_BASIC_STATS, &sx) == 0 && sx.stx_size == 0 && (sx.stx_mask & STATX_SIZE) != 0);
}

static void special(void) {
  IS("mkfifo", mkfifo("fifo", 0640) == 0 && lstat("fifo", &st) == 0 && S_ISFIFO(st.st_mode) && (st.st_mode & 0777) == 0640);
  const pid_t child = fork();
  if (child == 0) {
    const int out = open("fifo", O_WRONLY);
    _exit(write(out, "through", 7) == 7 ? 0 : 1);
  }
  int fd = open("fifo", O_RDONLY);
  IS("a pipe carries", read(fd, buf, 10) == 7 && memcmp(buf, "through", 7) == 0);
  close(fd);
  waitpid(child, NULL, 0);
  ERR("a pipe without a reader", open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
  IS("mknod of a character device", mknod("null", S_IFCHR | 0666, 0x103) == 0 && lstat("null", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0x103);
  IS("mknod of a block device", mknod("block", S_IFBLK | 0600, 0x700) == 0 && lstat("block", &st) == 0 && S_ISBLK(st.st_mode));
  IS("mknod of a file", mknod("plain", S_IFREG | 0600, 0) == 0 && lstat("plain", &st) == 0 && S_ISREG(st.st_mode));
  const int sock = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  IS("a socket is bound", bind(sock, (struct sockaddr *)&address, sizeof address) == 0 && lstat("socket", &st) == 0 && S_ISSOCK(st.st_mode));
  const int peer = socket(AF_UNIX, SOCK_STREAM, 0);
  IS("and connected to", listen(sock, 1) == 0 && connect(peer, (struct sockaddr *)&address, sizeof address) == 0);
  ERR("a socket is not opened", open("socket", O_RDWR), ENXIO);
  ERR("a socket's name is taken", bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address), EADDRINUSE);
  close(sock), close(peer);
  IS("special files are removed", unlink("fifo") == 0 && unlink("null") == 0 && unlink("socket") == 0);
  struct statvfs vfs;
  IS("statvfs", statvfs(".", &vfs) == 0 && vfs.f_bsize > 0 && vfs.f_blocks > 0 && vfs.f_namemax == 255);
}

static void mapping(void) {
  int fd = open("map", O_CREAT | O_TRUNC | O_RDWR, 0600);
  ftruncate(fd, 10000);
  pwrite(fd, "mapped", 6, 0);
  char *shared = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  IS("mmap shared", shared != MAP_FAILED && memcmp(shared, "mapped", 6) == 0);
  if (shared != MAP_FAILED) {
    memcpy(shared + 5000, "by memory", 9);
    IS("msync", msync(shared, 10000, MS_SYNC) == 0);
    IS("a store is read", pread(fd, buf, 9, 5000) == 9 && memcmp(buf, "by memory", 9) == 0);
    IS("a write is seen", pwrite(fd, "by write", 8, 100) == 8 && memcmp(shared + 100, "by write", 8) == 0);
    IS("behind the end of the file there are zeros", shared[10001 < 12288 ? 10001 : 0] == 0);
    munmap(shared, 10000);
  }
  char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  IS("mmap private", private != MAP_FAILED && (private[0] = 'X') && pread(fd, buf, 1, 0) == 1 && buf[0] == 'm');
  if (private != MAP_FAILED) munmap(private, 4096);
  close(fd);
  fd = open("map", O_RDONLY);
  ERR("no writable shared map of a file only read", mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
  char *kept = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  IS("a map outlives descriptor and name", kept != MAP_FAILED && unlink("map") == 0 && memcmp(kept, "mapped", 6) == 0);
}

static void locking(void) {
  const int one = open("lock", O_CREAT | O_RDWR, 0600), two = open("lock", O_RDWR);
  IS("flock", flock(one, LOCK_EX) == 0);
  ERR("flock by another", flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  IS("flock shared after the end", flock(one, LOCK_UN) == 0 && flock(two, LOCK_SH) == 0 && flock(one, LOCK_SH | LOCK_NB) == 0);
  flock(one, LOCK_UN), flock(two, LOCK_UN);
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
  IS("a record is locked", fcntl(one, F_SETLK, &range) == 0);
  const pid_t child = fork();
  if (child == 0) {
    struct flock probe = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1};
    const int taken = fcntl(two, F_SETLK, &probe) == -1 && (errno == EAGAIN || errno == EACCES);
    probe.l_start = 30;
    _exit(taken && fcntl(two, F_SETLK, &probe) == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  IS("for other processes, and only that part", status == 0);
  struct flock own = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
  IS("not for the same process", fcntl(two, F_GETLK, &own) == 0 && own.l_type == F_UNLCK);
  struct flock ofd = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
  IS("a lock of the open file", fcntl(one, F_OFD_SETLK, &ofd) == 0);
  ERR("also against the same process", fcntl(two, F_OFD_SETLK, &ofd), EAGAIN);
  close(one), close(two);
}

static void attributes(void) {
  make("xattr", "");
  IS("setxattr", setxattr("xattr", "user.test", "value", 5, 0) == 0);
  IS("getxattr", getxattr("xattr", "user.test", buf, sizeof buf) == 5 && memcmp(buf, "value", 5) == 0);
  IS("listxattr", listxattr("xattr", buf, sizeof buf) == 10 && memcmp(buf, "user.test", 10) == 0);
  ERR("XATTR_CREATE refuses what is there", setxattr("xattr", "user.test", "v", 1, XATTR_CREATE), EEXIST);
  ERR("XATTR_REPLACE refuses what is not there", setxattr("xattr", "user.none", "v", 1, XATTR_REPLACE), ENODATA);
  ERR("getxattr into little room", getxattr("xattr", "user.test", buf, 2), ERANGE);
  ERR("getxattr of what is not there", getxattr("xattr", "user.none", buf, 2), ENODATA);
  IS("removexattr", removexattr("xattr", "user.test") == 0 && listxattr("xattr", buf, sizeof buf) == 0);
}

int main(int argc, char **argv) {
  static void (*const groups[])(void) = {creating, data,    sizes,   linking, renaming, directories,
                                         permissions, times, special, mapping, locking,  attributes};
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  umask(0);
  if (argc != 2 || chdir(argv[1]) != 0) return 2;
  for (size_t i = 0; i < sizeof groups / sizeof *groups; ++i) {
    char name[16];
    snprintf(name, sizeof name, "group%zu", i);
    if (mkdir(name, 0755) != 0 || chdir(name) != 0) return 2;
    printf("posix: %s after %d checks\n", name, checks);
    groups[i]();
    if (chdir("..") != 0) return 2;
  }
  printf("posix: %d checks, %d fail\n", checks, failures);
  return 0;
}
