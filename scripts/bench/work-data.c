// Workloads on the contents of large files.
#define _GNU_SOURCE
#include "work.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>

// As cat(1) and cp(1) do.
#define CHUNK (128 * 1024)
// More might not be there.
#define MOST_WARMED ((size_t)2 << 30)

static unsigned char chunk[CHUNK];

static int open_file(const char *path, int flags) {
  const int fd = open(path, flags | O_CLOEXEC, 0644);
  if (fd < 0) die(path);
  return fd;
}

// Makes so much memory ready to be taken. A virtual machine may have given unused memory back to its host: who takes it first
// waits for the host, many times longer than for what is measured, whoever that is.
static void warm_memory(size_t bytes) {
  if (bytes > MOST_WARMED) bytes = MOST_WARMED;
  void *const map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (map != MAP_FAILED) munmap(map, bytes);
}

static size_t size_of(const char *path) {
  struct stat stat;
  if (lstat(path, &stat) != 0) die(path);
  return (size_t)stat.st_size;
}

static void fill(uint64_t offset) {
  for (size_t at = 0; at < CHUNK; at += 8) {
    const uint64_t word = word_at(offset + at);
    memcpy(chunk + at, &word, 8);
  }
}

// A page's first word tells whether it is that page.
static uint64_t first_word(const unsigned char *page) {
  uint64_t word = 0;
  memcpy(&word, page, 8);
  return word;
}

// Reads everything. @returns the sum of the first words of all pages, and the size.
static uint64_t read_through(const char *path) {
  const int fd = open_file(path, O_RDONLY);
  uint64_t seen = 0;
  uint64_t offset = 0;
  for (;;) {
    const ssize_t length = read(fd, chunk, CHUNK);
    if (length < 0) die(path);
    if (length == 0) break;
    for (size_t at = 0; at + 8 <= (size_t)length; at += PAGE) {
      if ((offset + at) % PAGE == 0) seen += first_word(chunk + at);
    }
    offset += (uint64_t)length;
  }
  close(fd);
  return seen + offset;
}

int seqread(char **args) {
  const uint64_t times = number(args[1]);
  uint64_t seen = 0;
  warm_memory(size_of(args[0]));
  const uint64_t start = now_ns();
  for (uint64_t time = 0; time < times; time++) seen = read_through(args[0]);
  return report((now_ns() - start) / times, seen);
}

static void write_through(const char *path, uint64_t bytes, int refills) {
  const int fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  fill(0);
  for (uint64_t offset = 0; offset < bytes;) {
    if (refills) fill(offset);
    const size_t want = bytes - offset < CHUNK ? (size_t)(bytes - offset) : CHUNK;
    const ssize_t length = write(fd, chunk, want);
    if (length <= 0) die(path);
    offset += (uint64_t)length;
  }
  if (close(fd) != 0) die(path);
}

int seqwrite(char **args) {
  const uint64_t bytes = number(args[1]);
  // For who keeps what the kernel has, too.
  warm_memory(2 * bytes);
  const uint64_t start = now_ns();
  write_through(args[0], bytes, 0);
  return report(now_ns() - start, bytes);
}

int check(char **args) {
  const int fd = open_file(args[0], O_RDONLY);
  static unsigned char read_back[CHUNK];
  fill(0);
  uint64_t seen = 0;
  ssize_t length;
  while ((length = read(fd, read_back, CHUNK)) > 0) {
    if (memcmp(read_back, chunk, (size_t)length) != 0) die("other bytes than were written");
    seen += (uint64_t)length;
  }
  if (length < 0) die(args[0]);
  return report(0, seen);
}

int randread(char **args) {
  const int fd = open_file(args[0], O_RDONLY);
  const uint64_t reads = number(args[1]);
  struct stat stat;
  if (fstat(fd, &stat) != 0) die(args[0]);
  const uint64_t pages = (uint64_t)stat.st_size / PAGE;
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < reads; i++) {
    const uint64_t offset = word_at(i) % pages * PAGE;
    if (pread(fd, chunk, PAGE, (off_t)offset) != PAGE) die(args[0]);
    if (first_word(chunk) != word_at(offset)) die("another page than was asked for");
  }
  return report(now_ns() - start, reads);
}

int mapread(char **args) {
  const int fd = open_file(args[0], O_RDONLY);
  const uint64_t times = number(args[1]);
  struct stat stat;
  if (fstat(fd, &stat) != 0) die(args[0]);
  const size_t size = (size_t)stat.st_size;
  uint64_t seen = 0;
  const uint64_t start = now_ns();
  for (uint64_t time = 0; time < times; time++) {
    const unsigned char *const map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) die("mmap");
    seen = 0;
    for (size_t at = 0; at + 8 <= size; at += PAGE) seen += first_word(map + at);
    munmap((void *)map, size);
  }
  return report((now_ns() - start) / times, seen);
}

int poke(char **args) {
  const off_t offset = (off_t)number(args[1]);
  unsigned char byte = 0x5a;
  warm_memory(size_of(args[0]));
  const uint64_t start = now_ns();
  const int fd = open_file(args[0], O_WRONLY);
  if (pwrite(fd, &byte, 1, offset) != 1) die(args[0]);
  if (close(fd) != 0) die(args[0]);
  const uint64_t elapsed = now_ns() - start;
  // That byte, and its neighbour, which must still be the old one.
  const int again = open_file(args[0], O_RDONLY);
  unsigned char two[2];
  if (pread(again, two, 2, offset) != 2 || two[0] != 0x5a) die("the byte is not there");
  return report(elapsed, two[1]);
}

// Files that were asked to go from memory, the pages that were there, and those that did not go.
static struct {
  uint64_t files, pages, kept;
} evicted;

static uint64_t resident(void *map, size_t size, unsigned char *pages) {
  if (mincore(map, size, pages) != 0) die("mincore");
  uint64_t count = 0;
  for (size_t i = 0; i < (size + PAGE - 1) / PAGE; i++) count += pages[i] & 1;
  return count;
}

static int evict_one(const char *path, const struct stat *stat, int type, struct FTW *at) {
  (void)at;
  if (type != FTW_F || stat->st_size == 0) return 0;
  const size_t size = (size_t)stat->st_size;
  const int fd = open_file(path, O_RDONLY);
  void *const map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
  unsigned char *const pages = malloc((size + PAGE - 1) / PAGE);
  if (map == MAP_FAILED || pages == NULL) die(path);
  evicted.files++;
  evicted.pages += resident(map, size, pages);
  if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) die(path);
  evicted.kept += resident(map, size, pages);
  free(pages);
  munmap(map, size);
  close(fd);
  return 0;
}

int evict(char **args) {
  for (char **path = args; *path != NULL; path++) {
    if (nftw(*path, evict_one, 64, FTW_PHYS) != 0) die(*path);
  }
  // One that somebody is just looking at may stay.
  if (evicted.kept * 100 <= evicted.pages) return report(0, evicted.files);
  fprintf(stderr, "%llu of %llu pages stayed in memory\n", (unsigned long long)evicted.kept,
          (unsigned long long)evicted.pages);
  return 1;
}

int grow_big(char **args) {
  const uint64_t start = now_ns();
  write_through(args[0], number(args[1]), 1);
  return report(now_ns() - start, 0);
}
