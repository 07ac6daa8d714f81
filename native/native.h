// The addon's surface and the few helpers its files share.
//
// A function makes one system call and returns what the kernel said: >= 0, or -errno. Types are
// checked by src/native.ts; here a wrong one only must not corrupt memory. A missing or wrong
// number reads as -1, which as an fd is EBADF. There are no globals: main thread and workers may
// all load the addon.
#ifndef OSTREE_TS_NATIVE_H
#define OSTREE_TS_NATIVE_H

#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <napi.h>
#include <unistd.h>

using Info = Napi::CallbackInfo;

inline int32_t Int(const Info& info, size_t index) {
  int32_t value = -1;
  napi_get_value_int32(info.Env(), info[index], &value);
  return value;
}

inline uint32_t Uint(const Info& info, size_t index) {
  uint32_t value = 0;
  napi_get_value_uint32(info.Env(), info[index], &value);
  return value;
}

// An offset or a size.
inline int64_t Long(const Info& info, size_t index) {
  int64_t value = -1;
  napi_get_value_int64(info.Env(), info[index], &value);
  return value;
}

inline Napi::Value Result(napi_env env, int64_t value) {
  napi_value result = nullptr;
  if (value == static_cast<int32_t>(value)) {
    napi_create_int32(env, static_cast<int32_t>(value), &result);
  } else {
    napi_create_int64(env, value, &result);
  }
  return Napi::Value(env, result);
}

// What a system call wrapper returned, as a result: -1 becomes -errno.
inline Napi::Value Called(const Info& info, int64_t returned) {
  return Result(info.Env(), returned < 0 ? -errno : returned);
}

// A byte string (latin1, one char a byte) as the kernel wants it. One that is too long, or has a
// NUL in it, stays too long for the kernel as well: it answers ENAMETOOLONG (ERANGE for the name of
// an attribute).
class ByteString {
 public:
  ByteString(napi_env env, napi_value value) {
    napi_get_value_string_latin1(env, value, data_, sizeof data_, &length_);
    data_[length_] = '\0';
    if (memchr(data_, '\0', length_) != nullptr) {
      length_ = sizeof data_ - 1;
      memset(data_, '.', length_);
      data_[length_] = '\0';
    }
  }
  ByteString(const Info& info, size_t index) : ByteString(info.Env(), info[index]) {}

  const char* c_str() const { return data_; }
  bool empty() const { return length_ == 0; }

 private:
  size_t length_ = 0;
  char data_[PATH_MAX + 1];
};

// The memory of a typed array; empty when the value is none.
template <typename T>
struct Span {
  T* data = nullptr;
  size_t length = 0;

  Span(napi_env env, napi_value value) {
    void* memory = nullptr;
    size_t count = 0;
    napi_typedarray_type type = napi_int8_array;
    if (napi_get_typedarray_info(env, value, &type, &count, &memory, nullptr, nullptr) != napi_ok) {
      return;
    }
    const size_t size = type == napi_float64_array  ? sizeof(double)
                        : type == napi_uint32_array ? sizeof(uint32_t)
                                                    : 1;
    if (size < sizeof(T)) return;
    data = static_cast<T*>(memory);
    length = count;
  }
  Span(const Info& info, size_t index) : Span(info.Env(), info[index]) {}
};

// Closes what it holds; keeps errno.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ < 0) return;
    const int saved = errno;
    close(fd_);
    errno = saved;
  }

  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// Repeats a system call while a signal interrupts it.
template <typename Call>
auto Retried(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// For kernels without the calls that take an fd: runs `call` on the /proc/self/fd link of the file
// itself, never of what a symlink points at. @returns its result or -errno; ENOENT without /proc.
template <typename Call>
int64_t ThroughProc(int dirfd, const ByteString& path, Call call) {
  const Fd file(path.empty() ? -1 : openat(dirfd, path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!path.empty() && file.get() < 0) return -errno;
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", path.empty() ? dirfd : file.get());
  const int64_t result = call(link);
  return result < 0 ? -errno : result;
}

// syscalls.cc: files, by descriptors and names. Each is documented in src/native.ts.
// The first is openBeneath for C++. @returns -1 with errno when it fails.
int OpenedBeneath(int dirfd, const char* path, uint32_t flags, uint32_t mode);
Napi::Value OpenBeneath(const Info& info);
Napi::Value Open(const Info& info);
Napi::Value Close(const Info& info);
Napi::Value Dup(const Info& info);
Napi::Value Dup2(const Info& info);
Napi::Value Statx(const Info& info);
Napi::Value StatMany(const Info& info);
Napi::Value Readlinkat(const Info& info);
Napi::Value Mkdirat(const Info& info);
Napi::Value Mknodat(const Info& info);
Napi::Value Symlinkat(const Info& info);
Napi::Value Linkat(const Info& info);
Napi::Value Unlinkat(const Info& info);
Napi::Value Renameat2(const Info& info);
Napi::Value Fchmodat(const Info& info);
Napi::Value Fchownat(const Info& info);
Napi::Value Utimensat(const Info& info);
Napi::Value Fstatfs(const Info& info);
Napi::Value OfdLock(const Info& info);
Napi::Value Flock(const Info& info);
Napi::Value GetInodeFlags(const Info& info);
Napi::Value SetInodeFlags(const Info& info);

// contents.cc
Napi::Value Pread(const Info& info);
Napi::Value Pwrite(const Info& info);
Napi::Value PwriteRange(const Info& info);
Napi::Value CopyRange(const Info& info);
Napi::Value CloneFile(const Info& info);
Napi::Value Lseek(const Info& info);
Napi::Value Ftruncate(const Info& info);
Napi::Value Fallocate(const Info& info);
Napi::Value Fsync(const Info& info);
Napi::Value Syncfs(const Info& info);

// directory.cc
Napi::Value ListDirectory(const Info& info);
Napi::Value PackDirectory(const Info& info);
Napi::Value EncodeDirents(const Info& info);

// xattr.cc
Napi::Value Getxattr(const Info& info);
Napi::Value Listxattr(const Info& info);
Napi::Value Setxattr(const Info& info);
Napi::Value Removexattr(const Info& info);

// process.cc: memory, events, the process itself.
Napi::Value Memfd(const Info& info);
Napi::Value Eventfd(const Info& info);
Napi::Value Wake(const Info& info);
void Now(const Info& info);
Napi::Value PrctlIoFlusher(const Info& info);
Napi::Value Exit(const Info& info);
Napi::Value Mlockall(const Info& info);
Napi::Value RaiseNofile(const Info& info);

// mounts.cc
Napi::Value DetachedReadonlyBind(const Info& info);
Napi::Value DetachedWritableBind(const Info& info);
Napi::Value DetachedTmpfs(const Info& info);
Napi::Value BindReadonlyOver(const Info& info);
Napi::Value Umount2(const Info& info);
Napi::Value EnterEmptyRoot(const Info& info);

// sockets.cc
Napi::Value ReceiveMessage(const Info& info);
Napi::Value SendMessage(const Info& info);
Napi::Value SendDatagram(const Info& info);

// channel.cc: the class Channel, as in src/native-channel.ts, and the device's own ioctls.
Napi::Function DefineChannel(Napi::Env env);
Napi::Value BackingOpen(const Info& info);
Napi::Value BackingClose(const Info& info);

// read-ahead.cc: the class ReadAhead, as in src/native.ts.
Napi::Function DefineReadAhead(Napi::Env env);

#endif
