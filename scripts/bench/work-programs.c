// Workloads that are other programs.
#define _GNU_SOURCE
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static void wait_for(pid_t child, const char *name) {
  int status = 0;
  if (waitpid(child, &status, 0) < 0) die("waitpid");
  if (status == 0) return;
  fprintf(stderr, "%s failed: %d\n", name, WIFEXITED(status) ? WEXITSTATUS(status) : -status);
  exit(1);
}

int execute(char **args) {
  const uint64_t times = number(args[1]);
  char *const words[] = {args[0], NULL};
  const uint64_t start = now_ns();
  for (uint64_t time = 0; time < times; time++) {
    pid_t child = 0;
    errno = posix_spawn(&child, args[0], NULL, NULL, words, environ);
    if (errno != 0) die(args[0]);
    wait_for(child, args[0]);
  }
  return report((now_ns() - start) / times, times);
}

int move(char **args) {
  char *const words[] = {"mv", "-T", args[0], args[1], NULL};
  const uint64_t start = now_ns();
  if (rename(args[0], args[1]) != 0) {
    if (errno != EXDEV && errno != ENOSYS) die("rename");
    pid_t child = 0;
    errno = posix_spawnp(&child, words[0], NULL, NULL, words, environ);
    if (errno != 0) die(words[0]);
    wait_for(child, words[0]);
  }
  const uint64_t elapsed = now_ns() - start;
  struct stat stat;
  if (lstat(args[0], &stat) == 0 || lstat(args[1], &stat) != 0) die("it did not move");
  return report(elapsed, 1);
}

// What this process sees as /usr becomes the tree at `path`.
static void enter(const char *path) {
  if (unshare(CLONE_NEWNS) != 0) die("unshare");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) die("mount");
  if (mount(path, "/usr", NULL, MS_BIND, NULL) != 0) die(path);
}

int run(char **args) {
  if (strcmp(args[0], "-") != 0) enter(args[0]);
  if (strcmp(args[1], "-") != 0 && chdir(args[1]) != 0) die(args[1]);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) die("pipe");
  fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  static unsigned char buffer[1 << 16];
  const uint64_t start = now_ns();
  pid_t child = 0;
  errno = posix_spawnp(&child, args[2], &actions, NULL, args + 2, environ);
  if (errno != 0) die(args[2]);
  close(ends[1]);
  uint64_t seen = 0;
  uint64_t total = 0;
  size_t held = 0;
  for (;;) {
    // Whole words only, wherever the writer cuts.
    const ssize_t length = read(ends[0], buffer + held, sizeof buffer - held);
    if (length < 0) die("read");
    if (length == 0) break;
    total += (uint64_t)length;
    held += (size_t)length;
    const size_t whole = held / 8 * 8;
    seen += sum_words(buffer, whole);
    memmove(buffer, buffer + whole, held - whole);
    held -= whole;
  }
  seen += sum_words(buffer, held) + total;
  wait_for(child, args[2]);
  return report(now_ns() - start, seen);
}
