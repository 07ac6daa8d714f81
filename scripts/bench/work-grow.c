// Makes the trees that are worked on. The same arguments make the same tree, times apart.
#define _GNU_SOURCE
#include "work.h"

#include <fcntl.h>
#include <sys/stat.h>

// Bytes of the largest small file.
#define LARGEST 8192

static int enter_new(int parent, const char *name) {
  if (mkdirat(parent, name, 0755) != 0) die(name);
  const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) die(name);
  return fd;
}

// Lines of text, so that git, tar and compilers have what they expect.
static void put_file(int dir, const char *name, size_t bytes, uint64_t seed) {
  static char text[LARGEST + 32];
  size_t length = 0;
  while (length < bytes) {
    length += (size_t)sprintf(text + length, "%016llx line\n", (unsigned long long)word_at(seed++));
  }
  const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) die(name);
  if (write(fd, text, bytes) != (ssize_t)bytes) die(name);
  close(fd);
}

int grow_tree(char **args) {
  const uint64_t width = number(args[1]);
  const uint64_t files = number(args[2]);
  const uint64_t start = now_ns();
  const int root = enter_new(AT_FDCWD, args[0]);
  char name[32];
  uint64_t made = 0;
  for (uint64_t i = 0; i < width; i++) {
    snprintf(name, sizeof name, "part-%u", (unsigned)i);
    const int part = enter_new(root, name);
    for (unsigned j = 0; j < 10; j++) {
      snprintf(name, sizeof name, "group-%u", j);
      const int group = enter_new(part, name);
      for (unsigned k = 0; k < 10; k++) {
        snprintf(name, sizeof name, "item-%u", k);
        const int item = enter_new(group, name);
        for (uint64_t file = 0; file < files; file++, made++) {
          snprintf(name, sizeof name, "file-%06x.dat", (unsigned)(made * 2654435761u & 0xffffff));
          // Empty, since nobody reads them, and of different modes, which the walk sums up.
          const mode_t mode = 0444 | (mode_t)(word_at(made) & 0333);
          if (mknodat(item, name, S_IFREG | mode, 0) != 0) die(name);
        }
        close(item);
      }
      close(group);
    }
    close(part);
  }
  return report(now_ns() - start, made);
}

int grow_small(char **args) {
  const uint64_t dirs = number(args[1]);
  const uint64_t files = number(args[2]);
  const uint64_t fixed = args[3] == NULL ? 0 : number(args[3]);
  if (fixed > LARGEST) die("too many bytes");
  const uint64_t start = now_ns();
  const int root = enter_new(AT_FDCWD, args[0]);
  char name[32];
  for (uint64_t i = 0; i < dirs; i++) {
    snprintf(name, sizeof name, "d%03u", (unsigned)i);
    const int dir = enter_new(root, name);
    for (uint64_t j = 0; j < files; j++) {
      snprintf(name, sizeof name, "f%03u", (unsigned)j);
      const uint64_t seed = i * files + j;
      const uint64_t bytes = fixed > 0 ? fixed : 512 + word_at(seed) % (LARGEST - 512);
      put_file(dir, name, bytes, seed << 16);
    }
    close(dir);
  }
  return report(now_ns() - start, dirs * files);
}

int grow_flat(char **args) {
  const uint64_t files = number(args[1]);
  const uint64_t start = now_ns();
  const int dir = enter_new(AT_FDCWD, args[0]);
  char name[32];
  for (uint64_t i = 0; i < files; i++) {
    snprintf(name, sizeof name, "package-%05u.list", (unsigned)i);
    put_file(dir, name, word_at(i) % 64, i);
  }
  return report(now_ns() - start, files);
}
