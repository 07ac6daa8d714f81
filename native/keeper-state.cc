// What the keeper says, and what it writes into the session's folder.
#include "keeper.h"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

Keeper keeper;

__attribute__((format(printf, 1, 2))) void Log(const char* format, ...) {
  char text[1024];
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  size_t used = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  used += static_cast<size_t>(snprintf(text + used, sizeof text - used, ".%03ldZ keeper: ",
                                       now.tv_nsec / 1'000'000));
  va_list arguments;
  va_start(arguments, format);
  const int wanted = vsnprintf(text + used, sizeof text - used - 1, format, arguments);
  va_end(arguments);
  used += static_cast<size_t>(wanted < 0 ? 0 : wanted);
  if (used > sizeof text - 2) used = sizeof text - 2;
  text[used++] = '\n';
  [[maybe_unused]] const ssize_t written = write(2, text, used);
}

long NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// Remembers the first reason for which the start fails.
__attribute__((format(printf, 1, 2))) void Fail(const char* format, ...) {
  if (keeper.why[0] != '\0') return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(keeper.why, sizeof keeper.why, format, arguments);
  va_end(arguments);
  Log("%s", keeper.why);
}

void Tell(int socket, const char* line) {
  send(socket, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
}

namespace {

// A byte, with room for one descriptor.
struct Parcel {
  char byte = 'd';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};

  Parcel() {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
};

}  // namespace

bool SendDescriptor(int socket, int fd) {
  Parcel parcel;
  cmsghdr* header = CMSG_FIRSTHDR(&parcel.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &parcel.message, MSG_NOSIGNAL) == 1;
}

// Returns -1 when no descriptor comes with the next byte.
int ReceiveDescriptor(int socket) {
  Parcel parcel;
  ssize_t received = -1;
  do {
    received = recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return -1;
  const cmsghdr* header = CMSG_FIRSTHDR(&parcel.message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

void TellLauncher(const char* first, const char* rest) {
  if (!keeper.launcher_waits) return;
  keeper.launcher_waits = false;
  char line[600];
  snprintf(line, sizeof line, "%s%s\n", first, rest);
  Tell(kLauncher, line);
}

namespace {

// Field 22 of /proc/PID/stat: with the pid it names a process for ever. 0 when there is none.
unsigned long long StartTime(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char* at = strrchr(text, ')');
  // The third field follows the name.
  for (int field = 2; at != nullptr && field < 22; field++) at = strchr(at + 1, ' ');
  return at == nullptr ? 0 : strtoull(at + 1, nullptr, 10);
}

}  // namespace

// Writes what only the keeper knows into the session's folder, in one piece: a `key values` pair a line.
void Record(const char* ended) {
  static unsigned long long own = 0, daemons = 0;
  if (own == 0) own = StartTime(getpid());
  if (daemons == 0 && keeper.daemon > 0) daemons = StartTime(keeper.daemon);
  char text[512];
  const int length = snprintf(
      text, sizeof text, "keeper %d %llu\ndaemon %d %llu\ndevice %u:%u\nmount %ld\nphase %s\n%s",
      getpid(), own, keeper.daemon, daemons, keeper.major, keeper.minor, keeper.mount_id,
      keeper.phase == Phase::kDetached  ? "detached"
      : keeper.phase == Phase::kServing ? "serving"
                                        : "starting",
      ended);
  const int fd = openat(kFolder, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return Log("cannot write the session's state: %s", strerror(errno));
  const bool whole = write(fd, text, static_cast<size_t>(length)) == length;
  close(fd);
  if (!whole || renameat(kFolder, "state.new", kFolder, "state") < 0) {
    Log("cannot write the session's state: %s", strerror(errno));
  }
}

// Removes the session's folder: its end.
void RemoveFolder() {
  if (keeper.options.tmpfs_bytes > 0) {
    // It was mounted there.
    if (keeper.origin >= 0) setns(keeper.origin, CLONE_NEWNS);
    if (keeper.upper >= 0) close(keeper.upper);
    umount2(kUpper, kDetach | kNoFollow);
    unlinkat(kFolder, "upper", AT_REMOVEDIR);
  }
  unlinkat(kFolder, "root", AT_REMOVEDIR);
  const int fd = openat(kFolder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* folder = fd < 0 ? nullptr : fdopendir(fd);
  if (folder != nullptr) {
    while (const dirent* entry = readdir(folder)) unlinkat(kFolder, entry->d_name, 0);
    closedir(folder);
  }
  unlinkat(kRegistry, keeper.options.name, AT_REMOVEDIR);
  // Goes only when no other session is left in it.
  rmdir(keeper.options.registry);
}
