// Listing of directories: the hot path of a cold walk.
#include "native.h"

#include <dirent.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <vector>

namespace {

// struct linux_dirent64 of getdents64(2): d_ino@0 d_off@8 d_reclen@16 d_type@18 d_name@19.
constexpr size_t kBufferBytes = 128 * 1024;

struct Entries {
  // All names, each followed by '/': the one byte besides NUL that no name has.
  std::string names;
  std::vector<uint8_t> types;
  std::vector<uint32_t> inos;
};

uint8_t TypeOf(int fd, const char* name) {
  struct stat result;
  if (fstatat(fd, name, &result, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) return DT_UNKNOWN;
  return static_cast<uint8_t>(IFTODT(result.st_mode));
}

int64_t ReadEntries(int fd, Entries& entries) {
  if (lseek(fd, 0, SEEK_SET) < 0) return -errno;
  const auto buffer = std::make_unique_for_overwrite<char[]>(kBufferBytes);
  for (;;) {
    const long length = syscall(SYS_getdents64, fd, buffer.get(), kBufferBytes);
    if (length < 0) return -errno;
    if (length == 0) return 0;
    for (long at = 0; at < length;) {
      const char* record = buffer.get() + at;
      uint64_t ino = 0;
      uint16_t record_length = 0;
      memcpy(&ino, record, sizeof ino);
      memcpy(&record_length, record + 16, sizeof record_length);
      at += record_length;
      const char* name = record + 19;
      if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))) continue;
      const auto type = static_cast<uint8_t>(record[18]);
      entries.names.append(name).push_back('/');
      entries.types.push_back(type == DT_UNKNOWN ? TypeOf(fd, name) : type);
      entries.inos.push_back(static_cast<uint32_t>(ino));
      entries.inos.push_back(static_cast<uint32_t>(ino >> 32));
    }
  }
}

// One string and one call of split: 0.35 ms for 10,000 names, against 3.5 ms for a string made for each.
Napi::Value Split(Napi::Env env, const std::string& names) {
  if (names.empty()) return Napi::Array::New(env);
  napi_value joined = nullptr;
  napi_create_string_latin1(env, names.data(), names.size() - 1, &joined);
  const Napi::Value text(env, joined);
  return text.ToObject().Get("split").As<Napi::Function>().Call(text,
                                                                {Napi::String::New(env, "/")});
}

}  // namespace

Napi::Value ListDirectory(const Info& info) {
  const Napi::Env env = info.Env();
  Entries entries;
  const int64_t status = ReadEntries(Int(info, 0), entries);
  if (status < 0) return Result(env, status);

  const size_t count = entries.types.size();
  auto types = Napi::Uint8Array::New(env, count);
  auto inos = Napi::Uint32Array::New(env, 2 * count);
  if (count > 0) {
    memcpy(types.Data(), entries.types.data(), count);
    memcpy(inos.Data(), entries.inos.data(), 2 * count * sizeof(uint32_t));
  }
  Napi::Object listing = Napi::Object::New(env);
  listing.Set("names", Split(env, entries.names));
  listing.Set("types", types);
  listing.Set("inos", inos);
  return listing;
}
