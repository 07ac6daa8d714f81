// Extended attributes of a file named by directory fd and path, or by an fd that may be O_PATH.
// Linux 6.13 brought calls that do it, O_PATH fds themselves excepted (EBADF). For those, and before, only
// paths and readable fds will do: we go by /proc/self/fd where it is there, else we open directories and,
// by name, regular files; there is no way to the rest then (EOPNOTSUPP).
#include "native.h"

#include <array>
#include <memory>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

namespace {

// Newer than the headers of old distributions; the same on every architecture.
constexpr long kSetxattrat = 463;
constexpr long kGetxattrat = 464;
constexpr long kListxattrat = 465;
constexpr long kRemovexattrat = 466;

// struct xattr_args of linux/xattr.h.
struct XattrArgs {
  alignas(8) uint64_t value;
  uint32_t size;
  uint32_t flags;
};

// XATTR_SIZE_MAX and XATTR_LIST_MAX: nothing is larger, so one retry is enough. The first try is
// small because the kernel clears as much as it is offered.
constexpr size_t kLargest = 65536;
constexpr size_t kFirstTry = 1024;

int AtFlags(const ByteString& path) {
  return AT_SYMLINK_NOFOLLOW | (path.empty() ? AT_EMPTY_PATH : 0);
}

// Opens a file by which f*xattr works; never a device, fifo or socket, whose open has effects.
int OpenPlain(int dirfd, const ByteString& path) {
  struct stat status;
  const char* name = path.empty() ? "." : path.c_str();
  if (fstatat(dirfd, path.c_str(), &status, AtFlags(path)) != 0) return -1;
  const bool regular = S_ISREG(status.st_mode) && !path.empty();
  if (!regular && !S_ISDIR(status.st_mode)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

// Whether the newer call is no help: there is none, or the fd is O_PATH.
bool NeedsOther(const ByteString& path) {
  return errno == ENOSYS || (errno == EBADF && path.empty());
}

// What older kernels offer. `on_path` gets a link of /proc/self/fd, `on_fd` an open file.
template <typename OnPath, typename OnFd>
int64_t Otherwise(int dirfd, const ByteString& path, OnPath on_path, OnFd on_fd) {
  if (path.empty()) {
    const int64_t result = on_fd(dirfd);
    if (result >= 0) return result;
    if (errno != EBADF || fcntl(dirfd, F_GETFD) < 0) return -errno;
  }
  if (access("/proc/self/fd", F_OK) == 0) return ThroughProc(dirfd, path, on_path);
  const Fd file(OpenPlain(dirfd, path));
  if (file.get() < 0) return -errno;
  const int64_t result = on_fd(file.get());
  return result < 0 ? -errno : result;
}

int64_t Get(int dirfd, const ByteString& path, const char* name, void* value, size_t size) {
  XattrArgs args{reinterpret_cast<uintptr_t>(value), static_cast<uint32_t>(size), 0};
  const long result =
      syscall(kGetxattrat, dirfd, path.c_str(), AtFlags(path), name, &args, sizeof args);
  if (result >= 0) return result;
  if (!NeedsOther(path)) return -errno;
  return Otherwise(
      dirfd, path, [&](const char* link) { return getxattr(link, name, value, size); },
      [&](int fd) { return fgetxattr(fd, name, value, size); });
}

int64_t List(int dirfd, const ByteString& path, char* list, size_t size) {
  const long result = syscall(kListxattrat, dirfd, path.c_str(), AtFlags(path), list, size);
  if (result >= 0) return result;
  if (!NeedsOther(path)) return -errno;
  return Otherwise(
      dirfd, path, [&](const char* link) { return listxattr(link, list, size); },
      [&](int fd) { return flistxattr(fd, list, size); });
}

int64_t Set(int dirfd, const ByteString& path, const char* name, Span<uint8_t> value, int flags) {
  XattrArgs args{reinterpret_cast<uintptr_t>(value.data), static_cast<uint32_t>(value.length),
                 static_cast<uint32_t>(flags)};
  const long result =
      syscall(kSetxattrat, dirfd, path.c_str(), AtFlags(path), name, &args, sizeof args);
  if (result >= 0) return result;
  if (!NeedsOther(path)) return -errno;
  return Otherwise(
      dirfd, path,
      [&](const char* link) { return setxattr(link, name, value.data, value.length, flags); },
      [&](int fd) { return fsetxattr(fd, name, value.data, value.length, flags); });
}

int64_t Remove(int dirfd, const ByteString& path, const char* name) {
  const long result = syscall(kRemovexattrat, dirfd, path.c_str(), AtFlags(path), name);
  if (result >= 0) return result;
  if (!NeedsOther(path)) return -errno;
  return Otherwise(
      dirfd, path, [&](const char* link) { return removexattr(link, name); },
      [&](int fd) { return fremovexattr(fd, name); });
}

// Calls `read(buffer, size)` with room for the usual, then for the largest, and hands what came to
// `make`.
template <typename Read, typename Make>
Napi::Value Fetch(Napi::Env env, Read read, Make make) {
  std::array<char, kFirstTry> small;
  int64_t length = read(small.data(), small.size());
  if (length >= 0) return make(small.data(), static_cast<size_t>(length));
  if (length != -ERANGE) return Result(env, length);
  const auto large = std::make_unique_for_overwrite<char[]>(kLargest);
  length = read(large.get(), kLargest);
  if (length < 0) return Result(env, length);
  return make(large.get(), static_cast<size_t>(length));
}

}  // namespace

Napi::Value Getxattr(const Info& info) {
  const Napi::Env env = info.Env();
  const int dirfd = Int(info, 0);
  const ByteString path(info, 1);
  const ByteString name(info, 2);
  return Fetch(
      env,
      [&](char* buffer, size_t size) { return Get(dirfd, path, name.c_str(), buffer, size); },
      [&](const char* value, size_t length) -> Napi::Value {
        auto result = Napi::Uint8Array::New(env, length);
        if (length > 0) memcpy(result.Data(), value, length);
        return result;
      });
}

Napi::Value Listxattr(const Info& info) {
  const Napi::Env env = info.Env();
  const int dirfd = Int(info, 0);
  const ByteString path(info, 1);
  return Fetch(
      env, [&](char* buffer, size_t size) { return List(dirfd, path, buffer, size); },
      [&](const char* list, size_t length) -> Napi::Value {
        Napi::Array names = Napi::Array::New(env);
        uint32_t index = 0;
        for (const char* name = list; name < list + length; name += strlen(name) + 1) {
          napi_value value = nullptr;
          napi_create_string_latin1(env, name, NAPI_AUTO_LENGTH, &value);
          napi_set_element(env, names, index++, value);
        }
        return names;
      });
}

Napi::Value Setxattr(const Info& info) {
  const ByteString path(info, 1);
  const ByteString name(info, 2);
  return Result(info.Env(), Set(Int(info, 0), path, name.c_str(), Span<uint8_t>(info, 3),
                                Int(info, 4)));
}

Napi::Value Removexattr(const Info& info) {
  const ByteString path(info, 1);
  const ByteString name(info, 2);
  return Result(info.Env(), Remove(Int(info, 0), path, name.c_str()));
}
