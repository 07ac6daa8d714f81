// System calls on the contents of open files.
#include "native.h"

#include <algorithm>
#include <fcntl.h>
#include <linux/fs.h>
#include <memory>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

namespace {

int64_t WriteAll(int fd, const uint8_t* data, size_t length, int64_t offset) {
  size_t done = 0;
  while (done < length) {
    const ssize_t count = Retried([&] {
      return pwrite(fd, data + done, length - done, offset + static_cast<int64_t>(done));
    });
    if (count < 0) return -errno;
    // Regular files never do this; better an error than a loop for ever.
    if (count == 0) return -EIO;
    done += static_cast<size_t>(count);
  }
  return static_cast<int64_t>(length);
}

// What was copied before a failure counts.
int64_t Copied(int64_t done, int64_t rest) {
  if (rest >= 0) return done + rest;
  return done > 0 ? done : rest;
}

// Where sendfile(2) refuses, too.
int64_t CopyThroughMemory(int in, int64_t offset_in, int out, int64_t offset_out, int64_t length) {
  constexpr int64_t kChunk = 128 * 1024;
  const auto buffer = std::make_unique_for_overwrite<uint8_t[]>(
      static_cast<size_t>(std::min(length, kChunk)));
  int64_t done = 0;
  while (done < length) {
    const auto want = static_cast<size_t>(std::min(length - done, kChunk));
    const ssize_t count = Retried([&] { return pread(in, buffer.get(), want, offset_in + done); });
    if (count < 0) return Copied(done, -errno);
    if (count == 0) break;
    const int64_t written =
        WriteAll(out, buffer.get(), static_cast<size_t>(count), offset_out + done);
    if (written < 0) return Copied(done, written);
    done += count;
  }
  return done;
}

// Where copy_file_range(2) refuses: different file systems, or one that cannot. A gibibyte onto a tmpfs takes 0.75 of the time
// that it takes through memory. Moves the position of `out`, which nothing here goes by.
int64_t CopyElsewhere(int in, int64_t offset_in, int out, int64_t offset_out, int64_t length) {
  if (lseek(out, offset_out, SEEK_SET) < 0) return -errno;
  int64_t done = 0;
  while (done < length) {
    off_t from = offset_in + done;
    const ssize_t count =
        Retried([&] { return sendfile(out, in, &from, static_cast<size_t>(length - done)); });
    if (count < 0 && errno != EINVAL && errno != ENOSYS) return Copied(done, -errno);
    if (count <= 0) break;
    done += count;
  }
  // That was all, or no file system for it: reading tells.
  if (done == length) return done;
  const int64_t rest =
      CopyThroughMemory(in, offset_in + done, out, offset_out + done, length - done);
  return Copied(done, rest);
}

}  // namespace

Napi::Value Pread(const Info& info) {
  const int fd = Int(info, 0);
  const Span<uint8_t> into(info, 1);
  const int64_t offset = Long(info, 2);
  return Called(info, Retried([&] { return pread(fd, into.data, into.length, offset); }));
}

Napi::Value Pwrite(const Info& info) {
  const Span<uint8_t> from(info, 1);
  return Result(info.Env(), WriteAll(Int(info, 0), from.data, from.length, Long(info, 2)));
}

Napi::Value PwriteRange(const Info& info) {
  const Span<uint8_t> from(info, 1);
  const auto start = static_cast<uint64_t>(Long(info, 2));
  const auto length = static_cast<uint64_t>(Long(info, 3));
  if (start > from.length || length > from.length - start) return Result(info.Env(), -EINVAL);
  return Result(info.Env(), WriteAll(Int(info, 0), from.data + start, length, Long(info, 4)));
}

Napi::Value CopyRange(const Info& info) {
  const int in = Int(info, 0);
  const int out = Int(info, 2);
  loff_t offset_in = Long(info, 1);
  loff_t offset_out = Long(info, 3);
  const int64_t length = Long(info, 4);
  int64_t done = 0;
  while (done < length) {
    const ssize_t count = Retried([&] {
      return syscall(SYS_copy_file_range, in, &offset_in, out, &offset_out,
                     static_cast<size_t>(length - done), 0);
    });
    if (count > 0) {
      done += count;
      continue;
    }
    // 0 can be EOF or a file system that only pretends to copy: reading tells.
    if (count < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS &&
        errno != ETXTBSY) {
      return Result(info.Env(), Copied(done, -errno));
    }
    const int64_t rest = CopyElsewhere(in, offset_in, out, offset_out, length - done);
    return Result(info.Env(), Copied(done, rest));
  }
  return Result(info.Env(), done);
}

Napi::Value CloneFile(const Info& info) {
  return Called(info, ioctl(Int(info, 1), FICLONE, Int(info, 0)));
}

Napi::Value Lseek(const Info& info) {
  return Called(info, lseek(Int(info, 0), Long(info, 1), Int(info, 2)));
}

Napi::Value Ftruncate(const Info& info) {
  return Called(info, Retried([&] { return ftruncate(Int(info, 0), Long(info, 1)); }));
}

Napi::Value Fallocate(const Info& info) {
  const int fd = Int(info, 0);
  const int mode = Int(info, 1);
  const int64_t offset = Long(info, 2);
  const int64_t length = Long(info, 3);
  return Called(info, Retried([&] { return fallocate(fd, mode, offset, length); }));
}

Napi::Value Fsync(const Info& info) {
  const int fd = Int(info, 0);
  const bool data_only = info[1].ToBoolean();
  return Called(info, Retried([&] { return data_only ? fdatasync(fd) : fsync(fd); }));
}

Napi::Value Syncfs(const Info& info) { return Called(info, syncfs(Int(info, 0))); }
