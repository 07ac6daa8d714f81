// Listing of directories: the hot path of a cold walk.
#include "native.h"

#include <algorithm>
#include <dirent.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <vector>

namespace {

// struct linux_dirent64 of getdents64(2): d_ino@0 d_off@8 d_reclen@16 d_type@18 d_name@19.
constexpr size_t kBufferBytes = 128 * 1024;
// Of a part: 800 names of 20 bytes, which are listed while who reads them looks at as many.
constexpr size_t kPartBytes = 32 * 1024;

struct Entries {
  // All names, each followed by '/': the one byte besides NUL that no name has.
  std::string names;
  // Where each ends in it, its '/' included.
  std::vector<uint32_t> ends;
  std::vector<uint8_t> types;
  std::vector<uint32_t> inos;
  // One of them takes more than 48 bits.
  bool has_large = false;
  // Nothing comes after them.
  bool is_last = false;
};

uint8_t TypeOf(int fd, const char* name) {
  struct stat result;
  if (fstatat(fd, name, &result, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) return DT_UNKNOWN;
  return static_cast<uint8_t>(IFTODT(result.st_mode));
}

// Appends what one call lists. @returns how many bytes that were, 0 at the end.
long ReadSome(int fd, Entries& entries, size_t buffer_bytes) {
  // Kept: fresh pages for each of a walk's directories take longer than to list it.
  thread_local const auto buffer = std::make_unique_for_overwrite<char[]>(kBufferBytes);
  const long length = syscall(SYS_getdents64, fd, buffer.get(), buffer_bytes);
  if (length < 0) return -errno;
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
    entries.ends.push_back(static_cast<uint32_t>(entries.names.size()));
    entries.types.push_back(type == DT_UNKNOWN ? TypeOf(fd, name) : type);
    entries.inos.push_back(static_cast<uint32_t>(ino));
    entries.inos.push_back(static_cast<uint32_t>(ino >> 32));
    entries.has_large = entries.has_large || ino >> 48 != 0;
  }
  return length;
}

int64_t ReadAll(int fd, Entries& entries) {
  if (lseek(fd, 0, SEEK_SET) < 0) return -errno;
  for (;;) {
    const long length = ReadSome(fd, entries, kBufferBytes);
    if (length <= 0) return length;
  }
}

// A buffer is not filled quite; one that is half empty is likely to be the last.
int64_t ReadPart(int fd, Entries& entries) {
  for (;;) {
    const long length = ReadSome(fd, entries, kPartBytes);
    if (length < 0) return length;
    entries.is_last = length == 0;
    if (entries.is_last || length > static_cast<long>(kPartBytes / 2)) return 0;
  }
}

// struct fuse_dirent: ino@0 off@8 namelen@16 type@20, then the name, padded to 8 bytes.
constexpr size_t kDirentBytes = 24;

size_t DirentSize(size_t name_length) { return (kDirentBytes + name_length + 7) & ~size_t{7}; }

Napi::Uint8Array Bytes(Napi::Env env, const void* from, size_t length) {
  auto bytes = Napi::Uint8Array::New(env, length);
  if (length > 0) memcpy(bytes.Data(), from, length);
  return bytes;
}

Napi::Uint32Array Words(Napi::Env env, const std::vector<uint32_t>& from) {
  auto words = Napi::Uint32Array::New(env, from.size());
  if (!from.empty()) memcpy(words.Data(), from.data(), from.size() * sizeof(uint32_t));
  return words;
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

// What a packed listing says besides.
constexpr uint32_t kHasLarge = 1;
constexpr uint32_t kIsLast = 2;

template <typename Item>
uint8_t* Put(uint8_t* at, const std::vector<Item>& items) {
  return std::copy_n(reinterpret_cast<const uint8_t*>(items.data()), items.size() * sizeof(Item), at);
}

}  // namespace

Napi::Value ListDirectory(const Info& info) {
  const Napi::Env env = info.Env();
  Entries entries;
  const int64_t status = ReadAll(Int(info, 0), entries);
  if (status < 0) return Result(env, status);
  Napi::Object listing = Napi::Object::New(env);
  listing.Set("names", Split(env, entries.names));
  listing.Set("types", Bytes(env, entries.types.data(), entries.types.size()));
  listing.Set("inos", Words(env, entries.inos));
  return listing;
}

// In one piece: an object with four arrays takes longer to make than a small directory to list.
Napi::Value PackDirectory(const Info& info) {
  const Napi::Env env = info.Env();
  Entries entries;
  const int64_t status = ReadPart(Int(info, 0), entries);
  if (status < 0) return Result(env, status);
  const auto count = static_cast<uint32_t>(entries.types.size());
  const std::vector<uint32_t> head{
      count, (entries.has_large ? kHasLarge : 0) | (entries.is_last ? kIsLast : 0)};
  const size_t words = head.size() + entries.inos.size() + entries.ends.size();
  Napi::ArrayBuffer packed = Napi::ArrayBuffer::New(
      env, words * sizeof(uint32_t) + entries.types.size() + entries.names.size());
  auto* at = static_cast<uint8_t*>(packed.Data());
  at = Put(Put(Put(Put(at, head), entries.inos), entries.ends), entries.types);
  std::copy_n(entries.names.data(), entries.names.size(), at);
  return packed;
}

Napi::Value EncodeDirents(const Info& info) {
  const Span<uint8_t> into(info, 0);
  auto at = static_cast<size_t>(Uint(info, 1));
  const size_t limit = std::min<size_t>(Uint(info, 2), into.length);
  const Span<uint8_t> names(info, 3);
  const Span<uint32_t> ends(info, 4);
  const Span<uint8_t> types(info, 5);
  const Span<double> doubles(info, 6);
  // Otherwise halves, two to a number.
  const Span<uint32_t> halves(info, 6);
  const size_t from = Uint(info, 7);
  const auto cookie = static_cast<uint64_t>(Long(info, 8));
  const size_t numbers = doubles.data != nullptr ? doubles.length : halves.length / 2;
  const size_t count = std::min({ends.length, types.length, numbers});
  size_t index = from;
  for (; index < count; index++) {
    const size_t start = index == 0 ? 0 : ends.data[index - 1];
    // Each name is followed by one byte that is not its own.
    if (ends.data[index] <= start || ends.data[index] > names.length) break;
    const size_t length = ends.data[index] - 1 - start;
    const size_t size = DirentSize(length);
    if (at + size > limit) break;
    uint8_t* const entry = into.data + at;
    memset(entry + size - 8, 0, 8);
    const auto ino = doubles.data != nullptr
                         ? static_cast<uint64_t>(doubles.data[index])
                         : halves.data[2 * index] | uint64_t{halves.data[2 * index + 1]} << 32;
    const uint64_t offset = cookie + (index - from);
    const auto name_length = static_cast<uint32_t>(length);
    const uint32_t type = types.data[index];
    memcpy(entry, &ino, sizeof ino);
    memcpy(entry + 8, &offset, sizeof offset);
    memcpy(entry + 16, &name_length, sizeof name_length);
    memcpy(entry + 20, &type, sizeof type);
    memcpy(entry + kDirentBytes, names.data + start, length);
    at += size;
  }
  return Result(info.Env(), static_cast<int64_t>(at));
}
