// killer PID STEP COUNT MS: follows a process, and kills it (SIGKILL) when it is about to make its COUNTth call of the kind
// STEP, or MS milliseconds later, or on SIGTERM, whichever comes first. Steps are the system calls by which a directory
// upper changes its host. Prints "ready" when it has begun; at the end "killed before STEP", "killed in STEP", "killed after
// STEP" or "killed before any", and "STEP COUNT" for each that was seen.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

// Newer than the headers of old distributions; the same on every architecture.
enum { FCHMODAT2 = 452, SETXATTRAT = 463, REMOVEXATTRAT = 466 };

// `argument` of the call, if it has to be `value`.
static struct step {
  const char *name;
  long number;
  int argument;
  unsigned long value;
  long seen;
} steps[] = {
    {"copy_file_range", SYS_copy_file_range, -1, 0, 0},
    {"fallocate", SYS_fallocate, -1, 0, 0},
    {"fchmodat2", FCHMODAT2, -1, 0, 0},
    {"fchownat", SYS_fchownat, -1, 0, 0},
    {"fsync", SYS_fsync, -1, 0, 0},
    {"ftruncate", SYS_ftruncate, -1, 0, 0},
    {"linkat", SYS_linkat, -1, 0, 0},
    {"mkdirat", SYS_mkdirat, -1, 0, 0},
    {"mknodat", SYS_mknodat, -1, 0, 0},
    {"openat2", SYS_openat2, -1, 0, 0},
    {"pwrite64", SYS_pwrite64, -1, 0, 0},
    {"removexattrat", REMOVEXATTRAT, -1, 0, 0},
    {"renameat2", SYS_renameat2, 4, 0, 0},
    {"renameat2-noreplace", SYS_renameat2, 4, 1, 0},
    {"renameat2-exchange", SYS_renameat2, 4, 2, 0},
    {"renameat2-whiteout", SYS_renameat2, 4, 4, 0},
    {"setxattrat", SETXATTRAT, -1, 0, 0},
    {"symlinkat", SYS_symlinkat, -1, 0, 0},
    {"unlinkat", SYS_unlinkat, -1, 0, 0},
    {"utimensat", SYS_utimensat, -1, 0, 0},
};
#define STEPS (sizeof steps / sizeof *steps)

static pid_t victim;
static volatile sig_atomic_t is_killed;

static void strike(int signal_number) {
  (void)signal_number;
  is_killed = 1;
  kill(victim, SIGKILL);
}

static struct step *step_of(pid_t thread, const struct __ptrace_syscall_info *info) {
  for (size_t i = 0; i < STEPS; i++) {
    if ((long)info->entry.nr != steps[i].number) continue;
    if (steps[i].argument >= 0 && info->entry.args[steps[i].argument] != steps[i].value) continue;
    if (steps[i].number == SYS_openat2) {
      unsigned long long flags = 0;
      struct iovec here = {&flags, sizeof flags}, there = {(void *)(uintptr_t)info->entry.args[2], sizeof flags};
      if (process_vm_readv(thread, &here, 1, &there, 1, 0) < 0 || !(flags & O_CREAT)) continue;
    }
    return &steps[i];
  }
  return NULL;
}

static void attach(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", victim);
  DIR *dir = opendir(path);
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    const pid_t thread = atoi(entry->d_name);
    if (thread == 0) continue;
    if (ptrace(PTRACE_SEIZE, thread, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE) < 0) {
      perror("seize");
      exit(1);
    }
    ptrace(PTRACE_INTERRUPT, thread, NULL, NULL);
  }
  if (dir) closedir(dir);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  victim = atoi(argv[1]);
  const long count = atol(argv[3]);
  const long ms = atol(argv[4]);
  attach();
  struct sigaction action = {.sa_handler = strike};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval timer = {{0, 0}, {ms / 1000, ms % 1000 * 1000}};
  if (ms > 0) setitimer(ITIMER_REAL, &timer, NULL);
  puts("ready");
  fflush(stdout);
  const struct step *last = NULL;
  pid_t last_thread = 0;
  const char *how = "before any";
  for (;;) {
    int status;
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0 && errno == EINTR) continue;
    if (thread < 0) break;
    if (!WIFSTOPPED(status)) continue;
    const int signal_number = WSTOPSIG(status);
    long deliver = 0;
    if (signal_number == (SIGTRAP | 0x80)) {
      struct __ptrace_syscall_info info;
      const long got = ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
      if (got > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY && !is_killed) {
        struct step *step = step_of(thread, &info);
        if (step) {
          last = step;
          last_thread = thread;
          how = "in";
          if (++step->seen == count && strcmp(step->name, argv[2]) == 0) {
            how = "before";
            strike(0);
          }
        }
      } else if (got > 0 && info.op == PTRACE_SYSCALL_INFO_EXIT && !is_killed && thread == last_thread) {
        how = "after";
      }
    } else if (status >> 16 == 0) {
      deliver = signal_number;
    }
    ptrace(PTRACE_SYSCALL, thread, NULL, deliver);
  }
  printf("killed %s%s%s\n", how, last ? " " : "", last ? last->name : "");
  for (size_t i = 0; i < STEPS; i++) {
    if (steps[i].seen > 0) printf("%s %ld\n", steps[i].name, steps[i].seen);
  }
  return 0;
}
