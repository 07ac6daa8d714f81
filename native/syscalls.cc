// System calls on files that Node lacks, or gives only by path.
#include "loans.h"
#include "native.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

namespace {

// Newer than the headers of old distributions; the same on every architecture.
constexpr long kFchmodat2 = 452;

// The fields of STAT in src/native.ts, in its order.
constexpr size_t kStatFields = 24;
constexpr size_t kStatErrno = 23;

void WriteStat(const struct statx& from, double* out) {
  *out++ = from.stx_mode;
  *out++ = from.stx_nlink;
  *out++ = from.stx_uid;
  *out++ = from.stx_gid;
  *out++ = from.stx_rdev_major;
  *out++ = from.stx_rdev_minor;
  *out++ = static_cast<uint32_t>(from.stx_ino);
  *out++ = static_cast<uint32_t>(from.stx_ino >> 32);
  *out++ = static_cast<double>(from.stx_size);
  *out++ = static_cast<double>(from.stx_blocks);
  *out++ = from.stx_blksize;
  for (const statx_timestamp* time :
       {&from.stx_atime, &from.stx_mtime, &from.stx_ctime, &from.stx_btime}) {
    *out++ = static_cast<double>(time->tv_sec);
    *out++ = time->tv_nsec;
  }
  *out++ = from.stx_dev_major;
  *out++ = from.stx_dev_minor;
  *out++ = static_cast<double>(from.stx_mnt_id);
  *out++ = static_cast<uint32_t>(from.stx_attributes);
  *out = 0;
}

int64_t StatOne(int dirfd, const char* path, int flags, double* out) {
  struct statx result;
  const long status = syscall(SYS_statx, dirfd, path, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                              STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &result);
  if (status < 0) {
    out[kStatErrno] = errno;
    return -errno;
  }
  WriteStat(result, out);
  return 0;
}

// An empty path means the fd itself.
int EmptyPath(const ByteString& path) { return path.empty() ? AT_EMPTY_PATH : 0; }

}  // namespace

int OpenedBeneath(int dirfd, const char* path, uint32_t flags, uint32_t mode) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  // openat2(2) refuses mode bits where nothing is created.
  if ((how.flags & O_CREAT) != 0 || (how.flags & O_TMPFILE) == O_TMPFILE) how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  // EAGAIN: a rename or mount elsewhere raced with the walk, and RESOLVE_BENEATH could not be sure.
  long fd = 0;
  for (int attempt = 0; attempt < 32; attempt++) {
    fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return static_cast<int>(fd);
}

Napi::Value OpenBeneath(const Info& info) {
  const ByteString path(info, 1);
  return Called(info, OpenedBeneath(Int(info, 0), path.c_str(), Uint(info, 2), Uint(info, 3)));
}

Napi::Value Open(const Info& info) {
  const ByteString path(info, 0);
  const int flags = Int(info, 1) | O_CLOEXEC;
  const mode_t mode = Uint(info, 2);
  return Called(info, Retried([&] { return open(path.c_str(), flags, mode); }));
}

Napi::Value Close(const Info& info) { return Called(info, Loans::Close(Int(info, 0))); }

Napi::Value Dup(const Info& info) { return Called(info, fcntl(Int(info, 0), F_DUPFD_CLOEXEC, 0)); }

Napi::Value Dup2(const Info& info) { return Called(info, dup2(Int(info, 0), Int(info, 1))); }

Napi::Value Statx(const Info& info) {
  const ByteString path(info, 1);
  const Span<double> out(info, 3);
  if (out.length < kStatFields) return Result(info.Env(), -EINVAL);
  return Result(info.Env(), StatOne(Int(info, 0), path.c_str(), Int(info, 2), out.data));
}

Napi::Value StatMany(const Info& info) {
  const napi_env env = info.Env();
  const int dirfd = Int(info, 0);
  const uint32_t from = Uint(info, 2);
  const uint32_t count = Uint(info, 3);
  const Span<double> out(info, 4);
  if (out.length / kStatFields < count) return Result(env, -EINVAL);
  for (uint32_t index = 0; index < count; index++) {
    // A scope each 64 names would save memory that is gone a moment later anyway.
    napi_value name = nullptr;
    if (napi_get_element(env, info[1], from + index, &name) != napi_ok) return Result(env, -EINVAL);
    StatOne(dirfd, ByteString(env, name).c_str(), 0, out.data + index * kStatFields);
  }
  return Result(env, count);
}

Napi::Value Readlinkat(const Info& info) {
  const ByteString path(info, 1);
  char target[PATH_MAX];
  const ssize_t length = readlinkat(Int(info, 0), path.c_str(), target, sizeof target);
  if (length < 0) return Called(info, length);
  napi_value result = nullptr;
  napi_create_string_latin1(info.Env(), target, static_cast<size_t>(length), &result);
  return Napi::Value(info.Env(), result);
}

Napi::Value Mkdirat(const Info& info) {
  return Called(info, mkdirat(Int(info, 0), ByteString(info, 1).c_str(), Uint(info, 2)));
}

Napi::Value Mknodat(const Info& info) {
  const dev_t device = makedev(Uint(info, 3), Uint(info, 4));
  return Called(info, mknodat(Int(info, 0), ByteString(info, 1).c_str(), Uint(info, 2), device));
}

Napi::Value Symlinkat(const Info& info) {
  const ByteString target(info, 0);
  return Called(info, symlinkat(target.c_str(), Int(info, 1), ByteString(info, 2).c_str()));
}

Napi::Value Linkat(const Info& info) {
  const ByteString from(info, 1);
  const ByteString to(info, 3);
  return Called(info,
                linkat(Int(info, 0), from.c_str(), Int(info, 2), to.c_str(), Int(info, 4)));
}

Napi::Value Unlinkat(const Info& info) {
  return Called(info, unlinkat(Int(info, 0), ByteString(info, 1).c_str(), Int(info, 2)));
}

Napi::Value Renameat2(const Info& info) {
  const ByteString from(info, 1);
  const ByteString to(info, 3);
  return Called(info, syscall(SYS_renameat2, Int(info, 0), from.c_str(), Int(info, 2), to.c_str(),
                              Uint(info, 4)));
}

Napi::Value Fchmodat(const Info& info) {
  const ByteString path(info, 1);
  const int dirfd = Int(info, 0);
  const mode_t mode = Uint(info, 2);
  const long status = syscall(kFchmodat2, dirfd, path.c_str(), mode,
                              AT_SYMLINK_NOFOLLOW | EmptyPath(path));
  if (status >= 0 || errno != ENOSYS) return Called(info, status);
  if (path.empty() && fchmod(dirfd, mode) == 0) return Result(info.Env(), 0);
  return Result(info.Env(), ThroughProc(dirfd, path, [&](const char* link) {
                  return chmod(link, mode);
                }));
}

Napi::Value Fchownat(const Info& info) {
  const ByteString path(info, 1);
  return Called(info, fchownat(Int(info, 0), path.c_str(), static_cast<uid_t>(Long(info, 2)),
                               static_cast<gid_t>(Long(info, 3)),
                               AT_SYMLINK_NOFOLLOW | EmptyPath(path)));
}

Napi::Value Utimensat(const Info& info) {
  const ByteString path(info, 1);
  const timespec times[2] = {{Long(info, 2), Long(info, 3)}, {Long(info, 4), Long(info, 5)}};
  return Called(info, utimensat(Int(info, 0), path.c_str(), times,
                                AT_SYMLINK_NOFOLLOW | EmptyPath(path)));
}

Napi::Value OfdLock(const Info& info) {
  struct flock lock {};
  lock.l_type = static_cast<short>(Int(info, 1));
  lock.l_whence = SEEK_SET;
  return Called(info, fcntl(Int(info, 0), F_OFD_SETLK, &lock));
}

Napi::Value Flock(const Info& info) {
  return Called(info, flock(Int(info, 0), LOCK_EX | LOCK_NB));
}

Napi::Value Fstatfs(const Info& info) {
  const Span<double> out(info, 1);
  if (out.length < 9) return Result(info.Env(), -EINVAL);
  struct statfs result;
  const int status = Retried([&] { return fstatfs(Int(info, 0), &result); });
  if (status < 0) return Called(info, status);
  size_t index = 0;
  for (const auto value :
       {static_cast<double>(result.f_type), static_cast<double>(result.f_bsize),
        static_cast<double>(result.f_blocks), static_cast<double>(result.f_bfree),
        static_cast<double>(result.f_bavail), static_cast<double>(result.f_files),
        static_cast<double>(result.f_ffree), static_cast<double>(result.f_namelen),
        static_cast<double>(result.f_flags)}) {
    out.data[index++] = value;
  }
  return Result(info.Env(), 0);
}

// The kernel reads and writes an int, whatever its header says.
Napi::Value GetInodeFlags(const Info& info) {
  int flags = 0;
  if (ioctl(Int(info, 0), FS_IOC_GETFLAGS, &flags) < 0) return Called(info, -1);
  return Result(info.Env(), flags);
}

Napi::Value SetInodeFlags(const Info& info) {
  const int flags = Int(info, 1);
  return Called(info, ioctl(Int(info, 0), FS_IOC_SETFLAGS, &flags));
}
