// Commands of the test hand about directories as streams, events, and the process itself.
#define _GNU_SOURCE
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long do_cd(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return at.flags ? fchdir(at.dirfd) : chdir(at.path);
}
static long do_umask(int argc, char **argv) {
  (void)argc;
  umask((mode_t)number(argv[0]));
  return 0;
}
static long do_chroot(int argc, char **argv) {
  (void)argc;
  return chroot(argv[0]) || chdir("/") ? -1 : 0;
}

// as UID GID [GROUP...]: effective ids, so that `as 0 0` leads back
static long do_as(int argc, char **argv) {
  gid_t groups[32];
  int count = 0;
  for (int i = 2; i < argc && count < 32; i++) groups[count++] = (gid_t)number(argv[i]);
  if (setresuid((uid_t)-1, 0, (uid_t)-1) || setgroups((size_t)count, groups)) return -1;
  if (setresgid((gid_t)-1, (gid_t)number(argv[1]), (gid_t)-1)) return -1;
  if (setresuid((uid_t)-1, (uid_t)number(argv[0]), (uid_t)-1)) return -1;
  // Or /proc/self/fd would be root's.
  return prctl(PR_SET_DUMPABLE, 1);
}

// clock: now, as the kernel stamps files
static long do_clock(int argc, char **argv) {
  (void)argc;
  (void)argv;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  say(" %lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
  return 0;
}

// tick: waits until the kernel's file clock has moved on, so that two stamps differ
static long do_tick(int argc, char **argv) {
  (void)argc;
  (void)argv;
  struct timespec start, now;
  clock_gettime(CLOCK_REALTIME_COARSE, &start);
  do {
    nanosleep(&(struct timespec){0, 1000000}, NULL);
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (now.tv_sec == start.tv_sec && now.tv_nsec == start.tv_nsec);
  return 0;
}

// drop [WHAT]: the kernel forgets pages (1), names and inodes (2), or both (3), of every file system
static long do_drop(int argc, char **argv) {
  const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const ssize_t put = write(fd, argc > 0 ? argv[0] : "3", 1);
  close(fd);
  return put < 0 ? -1 : 0;
}

struct linux_dirent64 {
  uint64_t d_ino;
  int64_t d_off;
  unsigned short d_reclen;
  unsigned char d_type;
  char d_name[];
};

// readdir SLOT BUFFER-SIZE: one getdents64; name/type/ino of each
static long do_readdir(int argc, char **argv) {
  (void)argc;
  static char buffer[1 << 20];
  const long got = syscall(SYS_getdents64, slot(argv[0]), buffer, (size_t)number(argv[1]));
  for (long at = 0; at < got;) {
    const struct linux_dirent64 *entry = (void *)(buffer + at);
    say(" ");
    say_escaped(entry->d_name, strlen(entry->d_name));
    say("/%d/%llu/%lld", entry->d_type, (unsigned long long)entry->d_ino, (long long)entry->d_off);
    at += entry->d_reclen;
  }
  return got;
}

// list PATH: names, sorted
static int entry_order(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static long do_list(int argc, char **argv) {
  (void)argc;
  struct dirent **entries;
  const struct place at = place(argv[0]);
  const int count = scandirat(at.dirfd, at.flags ? "." : at.path, &entries, NULL, entry_order);
  if (count < 0) return -1;
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
      say(" ");
      say_escaped(name, strlen(name));
    }
    free(entries[i]);
  }
  free(entries);
  return 0;
}

// makefiles DIR COUNT: f0, f1, ...
static long do_makefiles(int argc, char **argv) {
  (void)argc;
  const int dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return -1;
  const long count = (long)number(argv[1]);
  for (long i = 0; i < count; i++) {
    char name[32];
    snprintf(name, sizeof name, "f%ld", i);
    const int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0) {
      const int error = errno;
      close(dir);
      errno = error;
      return -1;
    }
    close(fd);
  }
  return close(dir);
}

// drain DIR BUFFER-SIZE EVERY: reads the directory with a small buffer and removes every EVERYth name as it goes.
// Names must be f0, f1, ...: tells how many were seen once, and how many twice.
static long do_drain(int argc, char **argv) {
  (void)argc;
  static char buffer[1 << 16];
  static unsigned char seen[1 << 20];
  memset(seen, 0, sizeof seen);
  const int dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return -1;
  long once = 0, again = 0, removed = 0, got;
  const long every = (long)number(argv[2]);
  while ((got = syscall(SYS_getdents64, dir, buffer, (size_t)number(argv[1]))) > 0) {
    for (long at = 0; at < got;) {
      const struct linux_dirent64 *entry = (void *)(buffer + at);
      at += entry->d_reclen;
      if (entry->d_name[0] != 'f') continue;
      const long index = atol(entry->d_name + 1);
      if (seen[index]++) again++;
      else once++;
      if (every > 0 && once % every == 0 && unlinkat(dir, entry->d_name, 0) == 0) removed++;
    }
  }
  const int error = errno;
  close(dir);
  errno = error;
  if (got == 0) say(" once=%ld again=%ld removed=%ld", once, again, removed);
  return got;
}

// inotify SLOT / watch SLOT PATH MASK / events SLOT
static long do_inotify(int argc, char **argv) {
  (void)argc;
  return keep(argv[0], inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
}
static long do_watch(int argc, char **argv) {
  (void)argc;
  return inotify_add_watch(slot(argv[0]), argv[1], (uint32_t)number(argv[2]));
}
static long do_events(int argc, char **argv) {
  (void)argc;
  char buffer[65536] __attribute__((aligned(8)));
  const ssize_t got = read(slot(argv[0]), buffer, sizeof buffer);
  if (got < 0 && errno != EAGAIN) return -1;
  for (ssize_t at = 0; at < got;) {
    const struct inotify_event *event = (void *)(buffer + at);
    static const struct {
      uint32_t bit;
      const char *name;
    } BITS[] = {{IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"}, {IN_CREATE, "CREATE"},
                {IN_DELETE, "DELETE"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},
                {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"}, {IN_OPEN, "OPEN"}, {IN_ACCESS, "ACCESS"}};
    for (size_t i = 0; i < sizeof BITS / sizeof *BITS; i++)
      if (event->mask & BITS[i].bit) say(" %s", BITS[i].name);
    if (event->len) {
      say(":");
      say_escaped(event->name, strlen(event->name));
    }
    at += (ssize_t)(sizeof *event + event->len);
  }
  return 0;
}

// Starts a program with the ids in force, its standard streams closed to us; waits for exec, not for the end.
static pid_t start(char **argv) {
  int pipes[2];
  if (pipe2(pipes, O_CLOEXEC)) return -1;
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  const pid_t child = fork();
  if (child == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    if (uid != 0 && (setresgid(gid, gid, gid) || setresuid(uid, uid, uid))) _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    execv(argv[0], argv);
    const int error = errno;
    if (write(pipes[1], &error, sizeof error) < 0) _exit(126);
    _exit(127);
  }
  close(pipes[1]);
  int error = 0;
  const ssize_t got = child > 0 ? read(pipes[0], &error, sizeof error) : 0;
  close(pipes[0]);
  if (got == sizeof error) {
    waitpid(child, NULL, 0);
    errno = error;
    return -1;
  }
  return child;
}

// exec PROGRAM [ARGUMENT...]: its exit status
static long do_exec(int argc, char **argv) {
  (void)argc;
  const pid_t child = start(argv);
  if (child < 0) return -1;
  int status;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) say(" signal-%d", WTERMSIG(status));
  else say(" %d", WEXITSTATUS(status));
  return 0;
}

// spawn PROGRAM [ARGUMENT...]: leaves it running and tells its pid; kill PID ends it
static long do_spawn(int argc, char **argv) {
  (void)argc;
  const pid_t child = start(argv);
  if (child > 0) say(" %d", child);
  return child;
}
static long do_kill(int argc, char **argv) {
  (void)argc;
  const pid_t child = (pid_t)number(argv[0]);
  if (kill(child, SIGKILL)) return -1;
  return waitpid(child, NULL, 0) < 0 ? -1 : 0;
}

const struct command WATCH_COMMANDS[] = {
    {"cd", 1, do_cd}, {"umask", 1, do_umask}, {"chroot", 1, do_chroot}, {"as", 2, do_as}, {"clock", 0, do_clock},
    {"tick", 0, do_tick}, {"drop", 0, do_drop}, {"readdir", 2, do_readdir}, {"list", 1, do_list},
    {"makefiles", 2, do_makefiles}, {"drain", 3, do_drain}, {"inotify", 1, do_inotify}, {"watch", 3, do_watch},
    {"events", 1, do_events}, {"exec", 1, do_exec}, {"spawn", 1, do_spawn}, {"kill", 1, do_kill},
    {NULL, 0, NULL},
};
