// The keeper: mounts a session, watches its daemon, and takes the mount away when the daemon is gone.
//
// A program of its own, linked statically and without a C++ runtime, since it must go on when the tree that holds every
// other program is the very thing that has died. It lives in the namespace where the mount is; the daemon gets one of
// its own. Once the mount is up it opens no path but that of the mountpoint and executes nothing but a fusermount3
// that it has opened before.
//
// Descriptors given:  1, 2 the log   3 a socket to the launcher   4 the session's folder   5 the folder above it
//                     6 the mountpoint (O_PATH)   7... the lowers (O_PATH), then the upper's folder, if it is on disk,
//                     then its work directory, if that is elsewhere
// and handed on:      1, 2 the log   3 stream socket to here   4 seqpacket socket for the device   5 the arena
//                     6 the session's folder   7... the lowers, then the upper's folder, if there is one, then its
//                     work directory, if that is elsewhere
//
// With --later NODE DAEMON it is given the socket alone, and the rest by messages: keeper-later.cc.
//
// With --private the mount is in a namespace of its own, with --user in a user namespace of its own as well, and with
// --join in those of another keeper. The daemon stays outside.
//
// To the launcher, once: "up\n" or "failed WHY\n"; before that, with --user, "map\n", when it is to map our ids and to
// answer with a byte. From the daemon: "ready\n", "failed WHY\n", "unmount\n". To the
// daemon: "mounted\n" (the device is in the seqpacket socket by then), "detached\n", "stays WHY\n". One that mounts by
// itself is told "mount\n" instead, and says "mounted\n".
#include "keeper.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// The path of a descriptor.
void PathOf(int fd, char (&path)[PATH_MAX]) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = '\0';
}

}  // namespace

bool Parse(int count, char** arguments) {
  for (int at = 1; at < count; at++) {
    char* word = arguments[at];
    char* value = strchr(word, '=');
    if (strcmp(word, "--") == 0) {
      keeper.options.daemon = arguments + at + 1;
      return at + 1 < count;
    }
    value = value == nullptr ? word + strlen(word) : value + 1;
    if (strncmp(word, "--name=", 7) == 0) keeper.options.name = value;
    if (strncmp(word, "--fusermount=", 13) == 0) keeper.options.fusermount = value;
    if (strncmp(word, "--lowers=", 9) == 0) keeper.options.lowers = atoi(value);
    if (strcmp(word, "--upper") == 0) keeper.options.has_upper = true;
    if (strncmp(word, "--tmpfs=", 8) == 0) {
      keeper.options.has_upper = true;
      keeper.options.tmpfs_bytes = strtoull(value, nullptr, 10);
    }
    if (strcmp(word, "--work") == 0) keeper.options.has_work = true;
    if (strcmp(word, "--attach") == 0) keeper.options.attach = true;
    if (strcmp(word, "--foreground") == 0) keeper.options.foreground = true;
    if (strcmp(word, "--keep") == 0) keeper.options.keep = true;
    if (strcmp(word, "--private") == 0) keeper.options.own_mounts = true;
    if (strcmp(word, "--user") == 0) keeper.options.own_users = true;
    if (strncmp(word, "--below=", 8) == 0 && keeper.options.below_count < kBelowMax) {
      keeper.options.below[keeper.options.below_count++] = value;
    }
    if (strncmp(word, "--join=", 7) == 0) keeper.options.join = atoi(value);
    if (strcmp(word, "--daemon-mounts") == 0) keeper.options.daemon_mounts = true;
    if (strncmp(word, "--flags=", 8) == 0) keeper.options.flags = strtoul(value, nullptr, 10);
    if (strncmp(word, "--options=", 10) == 0) keeper.options.words = value;
    if (strncmp(word, "--read-ahead=", 13) == 0) keeper.options.read_ahead = value;
    if (strcmp(word, "--transient") == 0) keeper.options.transient = true;
    if (strncmp(word, "--context=", 10) == 0) keeper.options.context = value;
  }
  return false;
}

void WriteFile(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = write(fd, text, strlen(text));
  close(fd);
}

namespace {

// What is to be true of the daemon as well comes first.
void Begin() {
  setsid();
  umask(077);
  if (chdir("/") < 0) _exit(1);
  prctl(PR_SET_NAME, "ostree-ts-keep");
  const int last = keeper.options.later ? kLauncher + 1 : FirstSpare();
  for (int given = kLauncher; given < last; given++) fcntl(given, F_SETFD, FD_CLOEXEC);
  syscall(SYS_close_range, last, ~0U, 0);
  // Held free for the upper, while other files are opened.
  if (keeper.options.tmpfs_bytes > 0) dup3(kFolder, FirstSpare() - 1, O_CLOEXEC);

  sigset_t heeded;
  sigemptyset(&heeded);
  constexpr int kHeeded[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
  for (const int number : kHeeded) sigaddset(&heeded, number);
  sigprocmask(SIG_BLOCK, &heeded, nullptr);
  keeper.signals = signalfd(-1, &heeded, SFD_CLOEXEC | SFD_NONBLOCK);
  keeper.is_root = geteuid() == 0;
  // All three are refused to ordinary users, and the session works without them.
  WriteFile("/proc/self/oom_score_adj", "-1000");
  prctl(kIoFlusher, 1, 0, 0, 0);
  mlockall(MCL_CURRENT | MCL_FUTURE | kMlockOnFault);
}

}  // namespace

int main(int count, char** arguments) {
  keeper.options.later = count == 4 && strcmp(arguments[1], "--later") == 0;
  if (keeper.options.later) {
    keeper.options.daemon = arguments + 2;
  } else if (!Parse(count, arguments)) {
    fputs("keeper: started by ostree-ts unlock, not by hand\n", stderr);
    return 2;
  }
  Begin();
  if (keeper.options.later) {
    if (!StartDaemon()) return 1;
    AwaitSession();
  }
  PathOf(kRegistry, keeper.options.registry);
  PathOf(kMountpoint, keeper.options.mountpoint);
  // Opened now: it shows this namespace for ever, whatever covers /proc later.
  keeper.mountinfo = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
  if (keeper.mountinfo < 0) {
    Fail("cannot read /proc/self/mountinfo: %s", strerror(errno));
    GiveUp();
  }
  if (keeper.options.fusermount[0] != '\0') {
    keeper.fusermount = open(keeper.options.fusermount, O_PATH | O_CLOEXEC);
    if (keeper.fusermount < 0) {
      Fail("cannot open %s: %s", keeper.options.fusermount, strerror(errno));
      GiveUp();
    }
  }
  if (keeper.options.has_upper && !OpenUpper()) GiveUp();
  if (!(keeper.options.later ? HandOver() : StartDaemon())) GiveUp();
  Record("");
  if (!EnterNamespaces()) GiveUp();
  Watch();
}
