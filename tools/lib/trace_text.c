// trace_text OUTPUT SECONDS PROGRAM ARGUMENT...: runs the program one instruction at a time and writes where each of
// its threads was in the program's file, as hexadecimal offsets from its first byte, each once, in the order of the
// first visit. After SECONDS it is killed. For tools/text-order. An emulated or slow host does some 200,000 steps a
// second.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMaxText = 1 << 24 };

static unsigned long first_address(pid_t child) {
  char path[64];
  unsigned long address = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", child);
  FILE* maps = fopen(path, "r");
  if (maps == NULL || fscanf(maps, "%lx", &address) != 1) exit(1);
  fclose(maps);
  return address;
}

int main(int argc, char** argv) {
  static unsigned char seen[kMaxText];
  if (argc < 4) return 2;
  FILE* output = fopen(argv[1], "w");
  const pid_t child = fork();
  if (output == NULL || child < 0) return 1;
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execv(argv[3], argv + 3);
    _exit(127);
  }
  int status;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 1;
  ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
  const unsigned long base = first_address(child);
  const time_t end = time(NULL) + atoi(argv[2]);
  ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
  while (time(NULL) < end) {
    const pid_t thread = waitpid(-1, &status, __WALL | WNOHANG);
    if (thread == 0) continue;
    if (thread < 0) {
      if (errno == ECHILD) break;
      continue;
    }
    if (!WIFSTOPPED(status)) continue;
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, thread, NULL, &registers) == 0) {
      const unsigned long offset = registers.rip - base;
      if (offset < kMaxText && !seen[offset]) {
        seen[offset] = 1;
        fprintf(output, "%lx\n", offset);
      }
    }
    const int number = WSTOPSIG(status);
    ptrace(PTRACE_SINGLESTEP, thread, NULL, number == SIGTRAP || number == SIGSTOP ? 0 : number);
  }
  kill(child, SIGKILL);
  return fclose(output) == 0 ? 0 : 1;
}
