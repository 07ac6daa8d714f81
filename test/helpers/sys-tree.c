// Commands of the test hand that read whole trees. The walk holds directories by descriptor, so depth is no limit.
#define _GNU_SOURCE
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

// SHA-256, FIPS 180-4.
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(uint32_t *h, const unsigned char *p) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++)
    w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
           (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 64; i++) {
    const uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
    const uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += t1;
    s[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

int sha256_file(int fd, char *hex) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  static unsigned char buffer[1 << 18];
  uint64_t total = 0;
  size_t filled = 0;
  for (;;) {
    const ssize_t got = pread(fd, buffer + filled, sizeof buffer - 128 - filled, (off_t)total);
    if (got < 0) return -1;
    total += (uint64_t)got;
    filled += (size_t)got;
    size_t at = 0;
    for (; at + 64 <= filled; at += 64) sha256_block(h, buffer + at);
    memmove(buffer, buffer + at, filled -= at);
    if (got == 0) break;
  }
  buffer[filled++] = 0x80;
  while (filled % 64 != 56) buffer[filled++] = 0;
  for (int i = 7; i >= 0; i--) buffer[filled++] = (unsigned char)(total * 8 >> (8 * i));
  for (size_t at = 0; at < filled; at += 64) sha256_block(h, buffer + at);
  for (int i = 0; i < 8; i++) sprintf(hex + 8 * i, "%08x", h[i]);
  return 0;
}

// What a walk knows: the first path of every inode, and what to print.
struct seen {
  uint64_t dev, ino;
  char *path;
};
static struct seen *table;
static size_t table_size, table_used;

static struct seen *find_seen(uint64_t dev, uint64_t ino) {
  for (size_t i = (ino * 0x9e3779b97f4a7c15u + dev) & (table_size - 1);; i = (i + 1) & (table_size - 1))
    if (!table[i].path || (table[i].dev == dev && table[i].ino == ino)) return &table[i];
}

static const char *first_path(uint64_t dev, uint64_t ino, const char *path) {
  if (2 * (table_used + 1) > table_size) {
    struct seen *old = table;
    const size_t old_size = table_size;
    table_size = old_size ? 2 * old_size : 4096;
    table = calloc(table_size, sizeof *table);
    for (size_t i = 0; i < old_size; i++)
      if (old[i].path) *find_seen(old[i].dev, old[i].ino) = old[i];
    free(old);
  }
  struct seen *at = find_seen(dev, ino);
  if (at->path) return at->path;
  *at = (struct seen){dev, ino, strdup(path)};
  table_used++;
  return NULL;
}

static void forget_seen(void) {
  for (size_t i = 0; i < table_size; i++) free(table[i].path);
  free(table);
  table = NULL;
  table_size = table_used = 0;
}

static struct {
  int exact;        // everything that a host could see change, atime apart
  long long since;  // mtimes from then on are "now": two trees are never changed at one instant
  dev_t dev;
  long count;
  char path[1 << 20]; // grows far past PATH_MAX: trees may be that deep
} walk;

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void say_xattrs(int dirfd, const char *name, mode_t mode) {
  char link[4400];
  static char names[70000], value[70000];
  snprintf(link, sizeof link, "/proc/self/fd/%d/%s", dirfd, name);
  const ssize_t length = llistxattr(link, names, sizeof names);
  if (length < 0) {
    if (errno != EOPNOTSUPP) say(" xattrs=%s", strerrorname_np(errno));
    return;
  }
  (void)mode;
  char *list[4096];
  size_t count = 0;
  for (char *at = names; at < names + length && count < 4096; at += strlen(at) + 1) list[count++] = at;
  qsort(list, count, sizeof *list, by_name);
  for (size_t i = 0; i < count; i++) {
    const ssize_t size = lgetxattr(link, list[i], value, sizeof value);
    say(" xattr:");
    say_escaped(list[i], strlen(list[i]));
    if (size < 0) say("=%s", strerrorname_np(errno));
    else say_bytes(value, (size_t)size);
  }
}

// mtimes of fifos and devices are left out where trees are compared: the kernel stamps what is written through them on
// some file systems, never on FUSE.
static void say_mtime(const struct stat *s) {
  if (!walk.exact && (S_ISFIFO(s->st_mode) || S_ISCHR(s->st_mode) || S_ISBLK(s->st_mode))) return;
  if (!walk.exact && s->st_mtim.tv_sec >= walk.since) say(" mtime=now");
  else say(" mtime=%lld.%09ld", (long long)s->st_mtim.tv_sec, s->st_mtim.tv_nsec);
}

static void say_entry(int dirfd, const char *name, const struct stat *s, unsigned char type, uint64_t dino) {
  const char *TYPES = "?pc?d?b?-?l?s???";
  say_escaped(walk.path, strlen(walk.path));
  say(" type=%c mode=%04o uid=%u gid=%u nlink=%lu", TYPES[s->st_mode >> 12], s->st_mode & 07777, s->st_uid, s->st_gid, (unsigned long)s->st_nlink);
  if (!S_ISDIR(s->st_mode)) say(" size=%lld", (long long)s->st_size);
  if (S_ISCHR(s->st_mode) || S_ISBLK(s->st_mode)) say(" rdev=%u:%u", major(s->st_rdev), minor(s->st_rdev));
  say_mtime(s);
  if (walk.exact)
    say(" ctime=%lld.%09ld ino=%llu blocks=%lld bytes=%lld", (long long)s->st_ctim.tv_sec, s->st_ctim.tv_nsec,
        (unsigned long long)s->st_ino, (long long)s->st_blocks, (long long)s->st_size);
  const char *first = first_path(s->st_dev, s->st_ino, walk.path);
  if (first) {
    say(" same=");
    say_escaped(first, strlen(first));
  }
  if (s->st_dev != walk.dev) say(" dev-differs");
  if (type != DT_UNKNOWN && type != s->st_mode >> 12) say(" d_type=%d", type);
  if (dino != s->st_ino) say(" d_ino-differs");
  if (S_ISLNK(s->st_mode)) {
    char target[4200];
    const ssize_t length = readlinkat(dirfd, name, target, sizeof target);
    say(" target=");
    if (length >= 0) say_escaped(target, (size_t)length);
    else say("%s", strerrorname_np(errno));
  }
  if (S_ISREG(s->st_mode) && s->st_size == 0) {
    say(" empty");
  } else if (S_ISREG(s->st_mode) && !first) {
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
    if (fd < 0 && errno == EPERM) fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char hex[65];
    if (fd < 0 || sha256_file(fd, hex) < 0) say(" sha256=%s", strerrorname_np(errno));
    else say(" sha256=%s", hex);
    if (fd >= 0) close(fd);
  }
  say_xattrs(dirfd, name, s->st_mode);
  say("\n");
  walk.count++;
}

struct entry {
  char *name;
  uint64_t ino;
  unsigned char type;
};
static int by_entry(const void *a, const void *b) {
  return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

// Takes over `fd`.
static void walk_directory(int fd, size_t length) {
  DIR *dir = fdopendir(fd);
  if (!dir) {
    say_escaped(walk.path, length);
    say(" unreadable=%s\n", strerrorname_np(errno));
    close(fd);
    return;
  }
  struct entry *entries = NULL;
  size_t count = 0, capacity = 0;
  errno = 0;
  for (struct dirent *entry; (entry = readdir(dir));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (count == capacity) entries = realloc(entries, (capacity = 2 * capacity + 16) * sizeof *entries);
    entries[count++] = (struct entry){strdup(entry->d_name), entry->d_ino, entry->d_type};
  }
  if (errno) say("%s readdir=%s\n", walk.path, strerrorname_np(errno));
  qsort(entries, count, sizeof *entries, by_entry);
  for (size_t i = 0; i < count; i++) {
    const size_t longer = length + 1 + strlen(entries[i].name);
    if (longer + 1 > sizeof walk.path) break;
    if (length) walk.path[length] = '/';
    strcpy(walk.path + length + (length > 0), entries[i].name);
    struct stat s;
    if (i > 0 && strcmp(entries[i - 1].name, entries[i].name) == 0) {
      say_escaped(walk.path, strlen(walk.path));
      say(" listed-twice=%llu,%llu\n", (unsigned long long)entries[i - 1].ino, (unsigned long long)entries[i].ino);
    }
    if (fstatat(dirfd(dir), entries[i].name, &s, AT_SYMLINK_NOFOLLOW)) {
      say_escaped(walk.path, strlen(walk.path));
      say(" stat=%s\n", strerrorname_np(errno));
    } else {
      say_entry(dirfd(dir), entries[i].name, &s, entries[i].type, entries[i].ino);
      if (S_ISDIR(s.st_mode)) {
        const int child = openat(dirfd(dir), entries[i].name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
        walk_directory(child, strlen(walk.path));
      }
    }
    walk.path[length] = 0;
  }
  for (size_t i = 0; i < count; i++) free(entries[i].name);
  free(entries);
  closedir(dir);
}

// tree PATH SINCE|exact: a line an entry, in byte order, depth first, after "ok"; an empty line ends it. With `exact`,
// everything (ctime, inode numbers, blocks) is told; else what two equal trees have in common, with mtimes of SINCE
// (seconds) and later as "now". The first line is the root's, with path ".".
static long do_tree(int argc, char **argv) {
  (void)argc;
  const int fd = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  struct stat s;
  if (fstat(fd, &s)) return -1;
  walk.exact = strcmp(argv[1], "exact") == 0;
  walk.since = walk.exact ? 0 : number(argv[1]);
  walk.dev = s.st_dev;
  walk.count = 0;
  say("\n");
  strcpy(walk.path, ".");
  say_entry(fd, ".", &s, DT_UNKNOWN, s.st_ino);
  walk.path[0] = 0;
  walk_directory(fd, 0);
  forget_seen();
  return 0;
}

// since SECONDS: for `look`, as SINCE for `tree`
static long do_since(int argc, char **argv) {
  (void)argc;
  walk.since = number(argv[0]);
  return 0;
}

// look PATH: what stat(2) says of a file, as far as two equal files have it in common
static long do_look(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  struct stat s;
  const int failed = at.flags ? fstat(at.dirfd, &s) : fstatat(at.dirfd, at.path, &s, AT_SYMLINK_NOFOLLOW);
  if (failed) return -1;
  say(" mode=%o uid=%u gid=%u nlink=%lu rdev=%u:%u", s.st_mode, s.st_uid, s.st_gid, (unsigned long)s.st_nlink,
      major(s.st_rdev), minor(s.st_rdev));
  if (!S_ISDIR(s.st_mode)) say(" size=%lld", (long long)s.st_size);
  say_mtime(&s);
  return 0;
}

// count PATH: walks and lstats everything below; tells how many entries
static long count_below(int dirfd_of, const char *name) {
  const int fd = openat(dirfd_of, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  DIR *dir = fdopendir(fd);
  long count = 0;
  for (struct dirent *entry; (entry = readdir(dir));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat s;
    if (fstatat(fd, entry->d_name, &s, AT_SYMLINK_NOFOLLOW)) continue;
    count++;
    if (S_ISDIR(s.st_mode)) {
      const long more = count_below(fd, entry->d_name);
      if (more > 0) count += more;
    }
  }
  closedir(dir);
  return count;
}
static long do_count(int argc, char **argv) {
  (void)argc;
  const long count = count_below(AT_FDCWD, argv[0]);
  if (count >= 0) say(" %ld", count);
  return count;
}

const struct command TREE_COMMANDS[] = {
    {"tree", 2, do_tree},
    {"count", 1, do_count},
    {"since", 1, do_since},
    {"look", 1, do_look},
    {NULL, 0, NULL},
};
