// Workloads on names: walking, listing, many small files.
#define _GNU_SOURCE
#include "work.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SMALL_MAX 65536

static uint64_t walk_into(int fd, uint64_t *seen) {
  DIR *dir = fdopendir(fd);
  if (dir == NULL) die("fdopendir");
  const struct dirent *entry;
  while ((entry = readdir(dir)) != NULL) {
    const char *name = entry->d_name;
    if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))) continue;
    struct stat stat;
    if (fstatat(fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0) die(name);
    *seen += hash_text(name) ^ stat.st_mode;
    if (!S_ISDIR(stat.st_mode)) {
      // Directories have sizes of their own on each file system.
      *seen += (uint64_t)stat.st_size;
      continue;
    }
    const int child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (child < 0) die(name);
    walk_into(child, seen);
  }
  closedir(dir);
  return *seen;
}

int walk(char **args) {
  uint64_t seen = 0;
  const uint64_t start = now_ns();
  const int fd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) die(args[0]);
  walk_into(fd, &seen);
  return report(now_ns() - start, seen);
}

int list(char **args) {
  const uint64_t times = number(args[0]);
  uint64_t seen = 0;
  uint64_t listings = 0;
  const uint64_t start = now_ns();
  for (uint64_t time = 0; time < times; time++) {
    for (char **path = args + 1; *path != NULL; path++, listings++) {
      DIR *dir = opendir(*path);
      if (dir == NULL) die(*path);
      const struct dirent *entry;
      while ((entry = readdir(dir)) != NULL) seen += hash_text(entry->d_name);
      closedir(dir);
    }
  }
  return report((now_ns() - start) / listings, seen / times);
}

// Every `step`th directory from `first` on.
static uint64_t read_small(int root, uint64_t first, uint64_t step, uint64_t dirs, uint64_t files) {
  static unsigned char buffer[SMALL_MAX];
  uint64_t seen = 0;
  char name[64];
  for (uint64_t dir = first; dir < dirs; dir += step) {
    for (uint64_t file = 0; file < files; file++) {
      snprintf(name, sizeof name, "d%03u/f%03u", (unsigned)dir, (unsigned)file);
      const int fd = openat(root, name, O_RDONLY | O_CLOEXEC);
      if (fd < 0) die(name);
      const ssize_t length = read(fd, buffer, sizeof buffer);
      if (length < 0) die(name);
      // The first and the last word: summing up all of them would be measured, too.
      seen += (uint64_t)length + sum_words(buffer, length < 8 ? (size_t)length : 8);
      if (length >= 8) seen += sum_words(buffer + length - 8, 8);
      close(fd);
    }
  }
  return seen;
}

static int read_by_processes(char **args, bool each_a_part) {
  const int root = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) die(args[0]);
  const uint64_t dirs = number(args[1]);
  const uint64_t files = number(args[2]);
  const uint64_t processes = number(args[3]);
  if (processes <= 1) {
    const uint64_t start = now_ns();
    const uint64_t seen = read_small(root, 0, 1, dirs, files);
    return report(now_ns() - start, seen);
  }
  uint64_t *const shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) die("mmap");
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < processes; i++) {
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child > 0) continue;
    shared[i] = each_a_part ? read_small(root, i, processes, dirs, files) : read_small(root, 0, 1, dirs, files);
    _exit(0);
  }
  uint64_t seen = 0;
  for (uint64_t i = 0; i < processes; i++) {
    int status = 0;
    if (wait(&status) < 0 || status != 0) die("a reader");
  }
  const uint64_t elapsed = now_ns() - start;
  for (uint64_t i = 0; i < processes; i++) seen += shared[i];
  return report(elapsed, seen);
}

int small(char **args) { return read_by_processes(args, false); }

int small_parts(char **args) { return read_by_processes(args, true); }

static int open_new(const char *path) {
  if (mkdir(path, 0755) != 0) die(path);
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

int make(char **args) {
  static unsigned char data[SMALL_MAX];
  const uint64_t files = number(args[1]);
  const size_t bytes = (size_t)number(args[2]);
  if (bytes > sizeof data) die("too many bytes");
  for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)('a' + i % 26);
  const int dir = open_new(args[0]);
  char name[32];
  const uint64_t start = now_ns();
  for (uint64_t file = 0; file < files; file++) {
    snprintf(name, sizeof name, "%06u", (unsigned)file);
    const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) die(name);
    if (write(fd, data, bytes) != (ssize_t)bytes) die(name);
    if (close(fd) != 0) die(name);
  }
  return report(now_ns() - start, files);
}

int look(char **args) {
  const uint64_t files = number(args[1]);
  const int dir = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) die(args[0]);
  uint64_t seen = 0;
  char name[32];
  const uint64_t start = now_ns();
  for (uint64_t file = 0; file < files; file++) {
    snprintf(name, sizeof name, "%06u", (unsigned)file);
    struct stat stat;
    if (fstatat(dir, name, &stat, AT_SYMLINK_NOFOLLOW) != 0) die(name);
    seen += (uint64_t)stat.st_size + stat.st_mode;
  }
  return report(now_ns() - start, seen);
}

int drop(char **args) {
  const uint64_t files = number(args[1]);
  const int dir = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) die(args[0]);
  char name[32];
  const uint64_t start = now_ns();
  for (uint64_t file = 0; file < files; file++) {
    snprintf(name, sizeof name, "%06u", (unsigned)file);
    if (unlinkat(dir, name, 0) != 0) die(name);
  }
  const uint64_t elapsed = now_ns() - start;
  // Nothing may be left in it.
  if (rmdir(args[0]) != 0) die(args[0]);
  return report(elapsed, files);
}
