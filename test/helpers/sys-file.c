// Commands of the test hand that are a system call on files, names and attributes.
#define _GNU_SOURCE
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAPS 64

static struct {
  unsigned char *at;
  size_t length;
  int fd; // a copy, for the file's size
} maps[MAPS];

// open SLOT PATH FLAGS [MODE]
static long do_open(int argc, char **argv) {
  const struct place at = place(argv[1]);
  const int mode = argc > 3 ? (int)number(argv[3]) : 0;
  return keep(argv[0], openat(at.dirfd, at.path, (int)number(argv[2]) | O_CLOEXEC, mode));
}

// reopen SLOT NEW FLAGS: the same file by way of /proc/self/fd
static long do_reopen(int argc, char **argv) {
  (void)argc;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", slot(argv[0]));
  return keep(argv[1], open(path, (int)number(argv[2]) | O_CLOEXEC));
}

static long do_close(int argc, char **argv) {
  (void)argc;
  const int fd = empty(argv[0]);
  if (fd < 0) {
    errno = EBADF;
    return -1;
  }
  return close(fd);
}

// read SLOT LENGTH / pread SLOT OFFSET LENGTH
static long do_pread(int argc, char **argv) {
  const size_t length = (size_t)number(argv[argc - 1]);
  // Aligned, for O_DIRECT.
  void *into = NULL;
  if (posix_memalign(&into, 4096, length + 4096)) return -1;
  const ssize_t got = argc > 2 ? pread(slot(argv[0]), into, length, number(argv[1])) : read(slot(argv[0]), into, length);
  if (got >= 0) {
    say(" ");
    say_bytes(into, (size_t)got);
  }
  const int error = errno;
  free(into);
  errno = error;
  return got;
}

// write SLOT DATA / pwrite SLOT OFFSET DATA
static long do_pwrite(int argc, char **argv) {
  const struct bytes bytes = data(argv[argc - 1]);
  void *from = NULL;
  if (posix_memalign(&from, 4096, bytes.length + 4096)) return -1;
  memcpy(from, bytes.data, bytes.length);
  const ssize_t put =
      argc > 2 ? pwrite(slot(argv[0]), from, bytes.length, number(argv[1])) : write(slot(argv[0]), from, bytes.length);
  const int error = errno;
  free(from);
  errno = error;
  if (put >= 0) say(" %zd", put);
  return put;
}

static long do_lseek(int argc, char **argv) {
  (void)argc;
  const off_t at = lseek(slot(argv[0]), number(argv[1]), (int)number(argv[2]));
  if (at >= 0) say(" %lld", (long long)at);
  return at < 0 ? -1 : 0;
}

static long do_truncate(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return at.flags ? ftruncate(at.dirfd, number(argv[1])) : truncate(at.path, number(argv[1]));
}

// resize PATH SIZE: truncate(2), but not to the size there is, which stamps the times on some file systems
static long do_resize(int argc, char **argv) {
  (void)argc;
  struct stat s;
  if (stat(argv[0], &s)) return -1;
  if (S_ISREG(s.st_mode) && s.st_size == number(argv[1])) {
    say(" same");
    return 0;
  }
  return truncate(argv[0], number(argv[1]));
}

static int emulate_zero_range;
static long do_emulate(int argc, char **argv) {
  (void)argc;
  emulate_zero_range = strcmp(argv[0], "zero-range") == 0;
  return 0;
}

// fallocate SLOT MODE OFFSET LENGTH. tmpfs has no ZERO_RANGE: `emulate zero-range` makes it of what it has.
static long do_fallocate(int argc, char **argv) {
  (void)argc;
  const int fd = slot(argv[0]), mode = (int)number(argv[1]);
  const off_t offset = number(argv[2]), length = number(argv[3]);
  const int done = fallocate(fd, mode, offset, length);
  if (done == 0 || errno != EOPNOTSUPP || !emulate_zero_range || !(mode & FALLOC_FL_ZERO_RANGE)) return done;
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) < 0) return -1;
  return fallocate(fd, mode & FALLOC_FL_KEEP_SIZE, offset, length);
}

// copyrange IN OFFSET OUT OFFSET LENGTH
static long do_copyrange(int argc, char **argv) {
  (void)argc;
  off_t from = number(argv[1]), to = number(argv[3]);
  size_t left = (size_t)number(argv[4]);
  size_t total = 0;
  while (left > 0) {
    const ssize_t moved = copy_file_range(slot(argv[0]), &from, slot(argv[2]), &to, left, 0);
    if (moved < 0 && total == 0) return -1;
    if (moved <= 0) break;
    total += (size_t)moved;
    left -= (size_t)moved;
  }
  say(" %zu", total);
  return 0;
}

// sendfile OUT IN OFFSET LENGTH
static long do_sendfile(int argc, char **argv) {
  (void)argc;
  off_t from = number(argv[2]);
  const ssize_t moved = sendfile(slot(argv[0]), slot(argv[1]), &from, (size_t)number(argv[3]));
  if (moved >= 0) say(" %zd", moved);
  return moved;
}

static long do_fsync(int argc, char **argv) {
  (void)argc;
  return fsync(slot(argv[0]));
}
static long do_fdatasync(int argc, char **argv) {
  (void)argc;
  return fdatasync(slot(argv[0]));
}
static long do_syncfs(int argc, char **argv) {
  (void)argc;
  return syncfs(slot(argv[0]));
}

static long do_mkdir(int argc, char **argv) {
  const struct place at = place(argv[0]);
  return mkdirat(at.dirfd, at.path, argc > 1 ? (mode_t)number(argv[1]) : 0755);
}
static long do_rmdir(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return unlinkat(at.dirfd, at.path, AT_REMOVEDIR);
}
static long do_unlink(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return unlinkat(at.dirfd, at.path, 0);
}

// mknod PATH MODE [MAJOR MINOR]
static long do_mknod(int argc, char **argv) {
  const struct place at = place(argv[0]);
  const dev_t device = argc > 3 ? makedev((unsigned)number(argv[2]), (unsigned)number(argv[3])) : 0;
  return mknodat(at.dirfd, at.path, (mode_t)number(argv[1]), device);
}

static long do_symlink(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[1]);
  return symlinkat(argv[0], at.dirfd, at.path);
}
static long do_readlink(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  char target[4200];
  const ssize_t length = readlinkat(at.dirfd, at.path, target, sizeof target);
  if (length >= 0) {
    say(" ");
    say_escaped(target, (size_t)length);
  }
  return length;
}

// link OLD NEW [FLAGS]; OLD may be "@slot", as for O_TMPFILE
static long do_link(int argc, char **argv) {
  const struct place from = place(argv[0]), to = place(argv[1]);
  const int flags = argc > 2 ? (int)number(argv[2]) : 0;
  return linkat(from.dirfd, from.path, to.dirfd, to.path, flags | from.flags);
}

// rename OLD NEW [FLAGS]
static long do_rename(int argc, char **argv) {
  const struct place from = place(argv[0]), to = place(argv[1]);
  if (argc <= 2) return renameat(from.dirfd, from.path, to.dirfd, to.path);
  return renameat2(from.dirfd, from.path, to.dirfd, to.path, (unsigned)number(argv[2]));
}

static long do_chmod(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  const mode_t mode = (mode_t)number(argv[1]);
  return at.flags ? fchmod(at.dirfd, mode) : fchmodat(at.dirfd, at.path, mode, 0);
}
// chown PATH UID GID: symlinks are not followed
static long do_chown(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return fchownat(at.dirfd, at.path, (uid_t)number(argv[1]), (gid_t)number(argv[2]), at.flags | AT_SYMLINK_NOFOLLOW);
}

static void parse_time(char *text, struct timespec *time) {
  time->tv_sec = 0;
  time->tv_nsec = 0;
  if (strcmp(text, "now") == 0) time->tv_nsec = UTIME_NOW;
  else if (strcmp(text, "omit") == 0) time->tv_nsec = UTIME_OMIT;
  else {
    char *end;
    time->tv_sec = strtoll(text, &end, 10);
    if (*end == '.') time->tv_nsec = strtol(end + 1, NULL, 10);
  }
}

// utimens PATH ATIME MTIME: each SEC.NSEC (nanoseconds as a plain number), now, or omit; symlinks are not followed
static long do_utimens(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  struct timespec times[2];
  parse_time(argv[1], &times[0]);
  parse_time(argv[2], &times[1]);
  if (at.flags) return futimens(at.dirfd, times);
  return utimensat(at.dirfd, at.path, times, AT_SYMLINK_NOFOLLOW);
}

// stat PATH: symlinks are not followed
static long do_stat(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  struct stat s;
  const int failed = at.flags ? fstat(at.dirfd, &s) : fstatat(at.dirfd, at.path, &s, AT_SYMLINK_NOFOLLOW);
  if (failed) return -1;
  say(" mode=%o nlink=%lu uid=%u gid=%u size=%lld ino=%llu dev=%u:%u rdev=%u:%u blocks=%lld blksize=%ld", s.st_mode,
      (unsigned long)s.st_nlink, s.st_uid, s.st_gid, (long long)s.st_size, (unsigned long long)s.st_ino, major(s.st_dev),
      minor(s.st_dev), major(s.st_rdev), minor(s.st_rdev), (long long)s.st_blocks, (long)s.st_blksize);
  say(" atime=%lld.%09ld mtime=%lld.%09ld ctime=%lld.%09ld", (long long)s.st_atim.tv_sec, s.st_atim.tv_nsec,
      (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec, (long long)s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
  return 0;
}

// statx PATH: birth time and mount attributes
static long do_statx(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  struct statx s;
  if (statx(at.dirfd, at.path, at.flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &s)) return -1;
  say(" mask=%x mode=%o size=%llu btime=%lld.%09u", s.stx_mask, s.stx_mode, (unsigned long long)s.stx_size,
      (long long)s.stx_btime.tv_sec, s.stx_btime.tv_nsec);
  return 0;
}

// access PATH MODE
static long do_access(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return faccessat(at.dirfd, at.path, (int)number(argv[1]), AT_EACCESS);
}

// getxattr PATH NAME [BUFFER-SIZE]
static long do_getxattr(int argc, char **argv) {
  const struct place at = place(argv[0]);
  static char value[70000];
  const size_t size = argc > 2 ? (size_t)number(argv[2]) : sizeof value;
  const ssize_t length =
      at.flags ? fgetxattr(at.dirfd, argv[1], value, size) : lgetxattr(at.path, argv[1], value, size);
  if (length < 0) return -1;
  if (size == 0) {
    say(" %zd", length);
  } else {
    say(" ");
    say_bytes(value, (size_t)length);
  }
  return 0;
}

static int by_string(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// listxattr PATH [BUFFER-SIZE]: names, sorted
static long do_listxattr(int argc, char **argv) {
  const struct place at = place(argv[0]);
  static char names[70000];
  const size_t size = argc > 1 ? (size_t)number(argv[1]) : sizeof names;
  const ssize_t length = at.flags ? flistxattr(at.dirfd, names, size) : llistxattr(at.path, names, size);
  if (length < 0) return -1;
  if (size == 0) {
    say(" %zd", length);
    return 0;
  }
  char *list[4096];
  size_t count = 0;
  for (char *name = names; name < names + length && count < 4096; name += strlen(name) + 1) list[count++] = name;
  qsort(list, count, sizeof *list, by_string);
  for (size_t i = 0; i < count; i++) {
    say(" ");
    say_escaped(list[i], strlen(list[i]));
  }
  return 0;
}

// setxattr PATH NAME DATA [FLAGS]
static long do_setxattr(int argc, char **argv) {
  const struct place at = place(argv[0]);
  const struct bytes value = data(argv[2]);
  const int flags = argc > 3 ? (int)number(argv[3]) : 0;
  if (at.flags) return fsetxattr(at.dirfd, argv[1], value.data, value.length, flags);
  return lsetxattr(at.path, argv[1], value.data, value.length, flags);
}
static long do_removexattr(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  return at.flags ? fremovexattr(at.dirfd, argv[1]) : lremovexattr(at.path, argv[1]);
}

static size_t map_index(const char *argument) {
  const unsigned long index = strtoul(argument, NULL, 10);
  if (index >= MAPS) exit(2);
  return index;
}

// mmap MAP SLOT OFFSET LENGTH PROT FLAGS
static long do_mmap(int argc, char **argv) {
  (void)argc;
  const size_t i = map_index(argv[0]);
  const size_t length = (size_t)number(argv[3]);
  void *at = mmap(NULL, length, (int)number(argv[4]), (int)number(argv[5]), slot(argv[1]), number(argv[2]));
  if (at == MAP_FAILED) return -1;
  if (maps[i].at) {
    munmap(maps[i].at, maps[i].length);
    close(maps[i].fd);
  }
  maps[i].fd = fcntl(slot(argv[1]), F_DUPFD_CLOEXEC, 0);
  maps[i].at = at;
  maps[i].length = length;
  return 0;
}

static sigjmp_buf bus;
static void on_bus(int signal_number) {
  (void)signal_number;
  siglongjmp(bus, 1);
}

// mstore MAP OFFSET DATA / mload MAP OFFSET LENGTH: "ok SIGBUS" when the kernel says so; EBADF without a mapping
static long touch_map(int argc, char **argv, int store) {
  (void)argc;
  const size_t i = map_index(argv[0]);
  const size_t offset = (size_t)number(argv[1]);
  const struct bytes bytes = store ? data(argv[2]) : (struct bytes){NULL, (size_t)number(argv[2])};
  if (!maps[i].at || offset + bytes.length > maps[i].length) {
    errno = EBADF;
    return -1;
  }
  signal(SIGBUS, on_bus);
  if (sigsetjmp(bus, 1)) {
    say(" SIGBUS");
  } else if (store) {
    memcpy(maps[i].at + offset, bytes.data, bytes.length);
  } else {
    unsigned char *copy = malloc(bytes.length + 1);
    memcpy(copy, maps[i].at + offset, bytes.length);
    say(" ");
    say_bytes(copy, bytes.length);
    free(copy);
  }
  signal(SIGBUS, SIG_DFL);
  return 0;
}
static long do_mstore(int argc, char **argv) { return touch_map(argc, argv, 1); }
static long do_mload(int argc, char **argv) { return touch_map(argc, argv, 0); }

// mput MAP OFFSET DATA / mget MAP OFFSET LENGTH: as mstore with msync and the time stamped, and mload; but only within the file, since bytes
// past its end in the last page are nobody's: "ok beyond".
static long touch_inside(int argc, char **argv, int store) {
  const size_t i = map_index(argv[0]);
  const size_t length = store ? data(argv[2]).length : (size_t)number(argv[2]);
  struct stat s;
  if (maps[i].at && fstat(maps[i].fd, &s) == 0 && number(argv[1]) + (off_t)length > s.st_size) {
    say(" beyond");
    return 0;
  }
  if (touch_map(argc, argv, store) < 0) return -1;
  if (!store) return 0;
  if (msync(maps[i].at, maps[i].length, MS_SYNC)) return -1;
  // tmpfs does not see a store into a page that is mapped already. Whoever may store may not always stamp: root does it.
  const uid_t user = geteuid();
  setfsuid(0);
  futimens(maps[i].fd, NULL);
  setfsuid(user);
  return 0;
}
static long do_mput(int argc, char **argv) { return touch_inside(argc, argv, 1); }
static long do_mget(int argc, char **argv) { return touch_inside(argc, argv, 0); }

// msync MAP FLAGS
static long do_msync(int argc, char **argv) {
  (void)argc;
  const size_t i = map_index(argv[0]);
  return msync(maps[i].at, maps[i].length, (int)number(argv[1]));
}
static long do_munmap(int argc, char **argv) {
  (void)argc;
  const size_t i = map_index(argv[0]);
  if (!maps[i].at) {
    errno = EBADF;
    return -1;
  }
  const int done = munmap(maps[i].at, maps[i].length);
  close(maps[i].fd);
  maps[i].at = NULL;
  return done;
}

static long do_flock(int argc, char **argv) {
  (void)argc;
  return flock(slot(argv[0]), (int)number(argv[1]));
}

// lock SLOT COMMAND TYPE START LENGTH; F_GETLK tells the type found
static long do_lock(int argc, char **argv) {
  (void)argc;
  struct flock lock = {.l_type = (short)number(argv[2]), .l_whence = SEEK_SET, .l_start = number(argv[3]), .l_len = number(argv[4])};
  const int command = (int)number(argv[1]);
  if (fcntl(slot(argv[0]), command, &lock) < 0) return -1;
  if (command == F_GETLK || command == F_OFD_GETLK)
    say(" %s", lock.l_type == F_UNLCK ? "F_UNLCK" : lock.l_type == F_RDLCK ? "F_RDLCK" : "F_WRLCK");
  return 0;
}

// fcntl SLOT COMMAND ARGUMENT
static long do_fcntl(int argc, char **argv) {
  (void)argc;
  const int got = fcntl(slot(argv[0]), (int)number(argv[1]), (int)number(argv[2]));
  if (got >= 0) say(" %d", got);
  return got;
}

static long do_statfs(int argc, char **argv) {
  (void)argc;
  struct statfs s;
  if (statfs(argv[0], &s)) return -1;
  say(" type=%lx bsize=%ld frsize=%ld blocks=%llu bfree=%llu bavail=%llu files=%llu ffree=%llu namelen=%ld fsid=%x:%x",
      (long)s.f_type, (long)s.f_bsize, (long)s.f_frsize, (unsigned long long)s.f_blocks, (unsigned long long)s.f_bfree,
      (unsigned long long)s.f_bavail, (unsigned long long)s.f_files, (unsigned long long)s.f_ffree, (long)s.f_namelen,
      s.f_fsid.__val[0], s.f_fsid.__val[1]);
  return 0;
}

// ioctl SLOT REQUEST [VALUE]: the long that comes back
static long do_ioctl(int argc, char **argv) {
  long value[64] = {argc > 2 ? number(argv[2]) : 0};
  if (ioctl(slot(argv[0]), (unsigned long)number(argv[1]), value) < 0) return -1;
  say(" %lx", value[0]);
  return 0;
}

// bind PATH: a unix socket
static long do_bind(int argc, char **argv) {
  (void)argc;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[0]);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int failed = bind(fd, (struct sockaddr *)&address, sizeof address);
  const int error = errno;
  close(fd);
  errno = error;
  return failed;
}

// handle PATH: the file handle as type:hex
static long do_handle(int argc, char **argv) {
  (void)argc;
  struct {
    struct file_handle h;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle = {.h = {.handle_bytes = MAX_HANDLE_SZ}};
  int mount;
  if (name_to_handle_at(AT_FDCWD, argv[0], &handle.h, &mount, 0) < 0) return -1;
  say(" %d:", handle.h.handle_type);
  for (unsigned i = 0; i < handle.h.handle_bytes; i++) say("%02x", handle.bytes[i]);
  return 0;
}

// openhandle SLOT MOUNTPATH TYPE:HEX FLAGS
static long do_openhandle(int argc, char **argv) {
  (void)argc;
  struct {
    struct file_handle h;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle = {.h = {.handle_bytes = 0}};
  char *hex = strchr(argv[2], ':');
  handle.h.handle_type = atoi(argv[2]);
  for (hex++; hex[0] && hex[1]; hex += 2) {
    unsigned byte;
    sscanf(hex, "%2x", &byte);
    handle.bytes[handle.h.handle_bytes++] = (unsigned char)byte;
  }
  const int mount = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (mount < 0) return -1;
  const int fd = open_by_handle_at(mount, &handle.h, (int)number(argv[3]) | O_CLOEXEC);
  const int error = errno;
  close(mount);
  errno = error;
  return keep(argv[0], fd);
}

// sha256 PATH
static long do_sha256(int argc, char **argv) {
  (void)argc;
  const struct place at = place(argv[0]);
  const int fd = openat(at.dirfd, at.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -1;
  char hex[65];
  const int failed = sha256_file(fd, hex);
  const int error = errno;
  close(fd);
  errno = error;
  if (!failed) say(" %s", hex);
  return failed;
}

// holes SLOT [whole]: walks SEEK_DATA and SEEK_HOLE; "ok SIZE DATA-BYTES" (whole: without the latter, which file systems
// may round as they like), or what is wrong. Every hole must read as zeros.
static long do_holes(int argc, char **argv) {
  const int fd = slot(argv[0]);
  struct stat s;
  if (fstat(fd, &s)) return -1;
  if (!S_ISREG(s.st_mode)) {
    errno = EINVAL;
    return -1;
  }
  const off_t position = lseek(fd, 0, SEEK_CUR);
  off_t at = 0, stored = 0;
  while (at < s.st_size) {
    off_t begin = lseek(fd, at, SEEK_DATA);
    if (begin < 0 && errno != ENXIO) return -1;
    if (begin < 0) begin = s.st_size;
    if (begin < at || begin > s.st_size) {
      say(" data-at-%lld-after-%lld", (long long)begin, (long long)at);
      return 0;
    }
    for (off_t i = at; i < begin;) {
      char zeros[65536];
      const size_t want = begin - i < (off_t)sizeof zeros ? (size_t)(begin - i) : sizeof zeros;
      const ssize_t got = pread(fd, zeros, want, i);
      if (got <= 0) break;
      for (ssize_t k = 0; k < got; k++)
        if (zeros[k]) {
          say(" byte-in-hole-at-%lld", (long long)(i + k));
          return 0;
        }
      i += got;
    }
    if (begin == s.st_size) break;
    const off_t end = lseek(fd, begin, SEEK_HOLE);
    if (end <= begin || end > s.st_size) {
      say(" hole-at-%lld-after-%lld", (long long)end, (long long)begin);
      return 0;
    }
    stored += end - begin;
    at = end;
  }
  lseek(fd, position, SEEK_SET);
  say(" %lld", (long long)s.st_size);
  if (argc < 2) say(" %lld", (long long)stored);
  return 0;
}

const struct command FILE_COMMANDS[] = {
    {"open", 3, do_open}, {"reopen", 3, do_reopen}, {"close", 1, do_close}, {"read", 2, do_pread},
    {"pread", 3, do_pread}, {"write", 2, do_pwrite}, {"pwrite", 3, do_pwrite}, {"lseek", 3, do_lseek},
    {"truncate", 2, do_truncate}, {"resize", 2, do_resize}, {"emulate", 1, do_emulate}, {"fallocate", 4, do_fallocate},
    {"copyrange", 5, do_copyrange}, {"sendfile", 4, do_sendfile}, {"fsync", 1, do_fsync},
    {"fdatasync", 1, do_fdatasync}, {"syncfs", 1, do_syncfs}, {"mkdir", 1, do_mkdir}, {"rmdir", 1, do_rmdir},
    {"unlink", 1, do_unlink}, {"mknod", 2, do_mknod}, {"symlink", 2, do_symlink}, {"readlink", 1, do_readlink},
    {"link", 2, do_link}, {"rename", 2, do_rename}, {"chmod", 2, do_chmod}, {"chown", 3, do_chown},
    {"utimens", 3, do_utimens}, {"stat", 1, do_stat}, {"statx", 1, do_statx}, {"access", 2, do_access},
    {"getxattr", 2, do_getxattr}, {"listxattr", 1, do_listxattr}, {"setxattr", 3, do_setxattr},
    {"removexattr", 2, do_removexattr}, {"mmap", 6, do_mmap}, {"mstore", 3, do_mstore}, {"mload", 3, do_mload},
    {"mput", 3, do_mput}, {"mget", 3, do_mget},
    {"msync", 2, do_msync}, {"munmap", 1, do_munmap}, {"flock", 2, do_flock}, {"lock", 5, do_lock},
    {"fcntl", 3, do_fcntl}, {"statfs", 1, do_statfs}, {"ioctl", 2, do_ioctl}, {"bind", 1, do_bind},
    {"handle", 1, do_handle}, {"openhandle", 4, do_openhandle}, {"sha256", 1, do_sha256}, {"holes", 1, do_holes},
    {NULL, 0, NULL},
};
