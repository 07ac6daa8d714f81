// Mounts the session, by mount(2) or fusermount3, hands the device over, and takes the mount away.
#include "keeper.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// Runs the fusermount3 that was opened at the start, with `socket` as its channel (-1: none); its words go to `words`.
// Returns its exit status, or -1.
int Fusermount(const char* const* arguments, int socket, char* words, size_t size) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) < 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    char channel[40] = "_FUSE_COMMFD=";
    if (socket >= 0) {
      const int inherited = dup(socket);
      snprintf(channel, sizeof channel, "_FUSE_COMMFD=%d", inherited);
    }
    dup2(pipe_ends[1], 2);
    const char* environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", channel, nullptr};
    syscall(SYS_execveat, keeper.fusermount, "", arguments, environment, AT_EMPTY_PATH);
    _exit(127);
  }
  close(pipe_ends[1]);
  size_t used = 0;
  for (;;) {
    char rest[256];
    const bool full = used + 1 >= size;
    const ssize_t more = full ? read(pipe_ends[0], rest, sizeof rest)
                              : read(pipe_ends[0], words + used, size - 1 - used);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) break;
    if (!full) used += static_cast<size_t>(more);
  }
  words[used] = '\0';
  if (char* newline = strchr(words, '\n')) *newline = '\0';
  close(pipe_ends[0]);
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool MountAsRoot() {
  keeper.device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (keeper.device < 0) return Fail("cannot open /dev/fuse: %s", strerror(errno)), false;
  char options[PATH_MAX], target[40];
  const char* context = keeper.options.context;
  snprintf(options, sizeof options,
           "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions%s%s%s",
           keeper.device, getuid(), getgid(), context[0] == '\0' ? "" : ",context=\"", context,
           context[0] == '\0' ? "" : "\"");
  snprintf(target, sizeof target, "/proc/self/fd/%d", kMountpoint);
  if (mount(keeper.options.name, target, kType, keeper.options.flags, options) < 0) {
    return Fail("cannot mount at %s: %s", keeper.options.mountpoint, strerror(errno)), false;
  }
  // By its path: the descriptor is of what lies beneath. Nobody has written yet, as nothing is served.
  constexpr unsigned long kOnlyThisMount = MS_REMOUNT | MS_BIND | MS_RDONLY;
  if (!keeper.options.transient ||
      mount(nullptr, keeper.options.mountpoint, nullptr, kOnlyThisMount | keeper.options.flags,
            nullptr) == 0) {
    return true;
  }
  Fail("cannot make %s read-only: %s", keeper.options.mountpoint, strerror(errno));
  umount2(keeper.options.mountpoint, kDetach | kNoFollow);
  return false;
}

bool MountAsUser() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return false;
  char options[300], words[256];
  snprintf(options, sizeof options, "fsname=%s,subtype=ostree-ts,default_permissions%s",
           keeper.options.name, keeper.options.words);
  const char* arguments[] = {"fusermount3", "-o", options, "--", keeper.options.mountpoint, nullptr};
  const int status = Fusermount(arguments, pair[1], words, sizeof words);
  close(pair[1]);
  if (status == 0) keeper.device = ReceiveDescriptor(pair[0]);
  close(pair[0]);
  if (keeper.device >= 0) return true;
  Fail("cannot mount at %s: %s", keeper.options.mountpoint,
       words[0] != '\0' ? words : "fusermount3 failed");
  return false;
}

}  // namespace

// Detaches every mount of this session in this namespace. Returns 0, or says why not.
const char* Detach() {
  static Mount mount;
  static char words[256];
  if (keeper.minor == 0 && keeper.options.daemon_mounts && FindMount(IsNew, &mount)) {
    // It has mounted, and did not come to say so.
    keeper.major = mount.major;
    keeper.minor = mount.minor;
  }
  // Bind mounts of the tree, and mounts on top of it, take a turn each.
  for (int turn = 0; turn < 64; turn++) {
    if (keeper.minor == 0 || !FindMount(IsOurs, &mount)) {
      if (keeper.phase != Phase::kStarting) keeper.phase = Phase::kDetached;
      return nullptr;
    }
    if (keeper.fusermount < 0) {
      if (umount2(mount.path, kDetach | kNoFollow) < 0) return strerror(errno);
    } else {
      const char* arguments[] = {"fusermount3", "-u", "-z", "--", mount.path, nullptr};
      if (Fusermount(arguments, -1, words, sizeof words) != 0) {
        return words[0] != '\0' ? words : "fusermount3 failed";
      }
    }
  }
  return "it does not go away";
}

namespace {

// What is mounted below the mountpoint is to be seen in the session, too, read-only: what is written there would stay.
void PutBack(const int (&trees)[kBelowMax]) {
  for (int at = 0; at < keeper.options.below_count; at++) {
    const char* path = keeper.options.below[at];
    mount_attr change{};
    change.attr_set = MOUNT_ATTR_RDONLY;
    if (syscall(SYS_mount_setattr, trees[at], "", AT_EMPTY_PATH | kTreeRecursive, &change,
                sizeof change) < 0 ||
        syscall(SYS_move_mount, trees[at], "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
      Log("%s is not seen in the session: %s", path, strerror(errno));
    }
  }
}

}  // namespace

// The daemon has loaded all it needs, or has mounted: mounts, hands over the device, and asks the mount for an answer.
bool MountSession() {
  int trees[kBelowMax];
  for (int at = 0; at < keeper.options.below_count; at++) {
    trees[at] =
        static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, keeper.options.below[at],
                                 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | kTreeRecursive));
  }
  const bool mounted = keeper.options.daemon_mounts ||
                       (keeper.fusermount < 0 ? MountAsRoot() : MountAsUser());
  close(kMountpoint);
  if (!mounted) return false;
  static Mount mount;
  if (!FindMount(IsNew, &mount)) {
    return Fail("cannot find the mount at %s", keeper.options.mountpoint), false;
  }
  keeper.major = mount.major;
  keeper.minor = mount.minor;
  keeper.mount_id = mount.id;
  if (!keeper.options.daemon_mounts) {
    if (!SendDescriptor(keeper.packets, keeper.device)) {
      return Fail("cannot hand over the device: %s", strerror(errno)), false;
    }
    Tell(keeper.stream, "mounted\n");
  }
  close(keeper.packets);
  keeper.packets = -1;

  // Only a process that may be killed asks the mount whether it answers. It opens a file as well: when OPEN has been
  // refused once, the kernel sends neither OPEN nor RELEASE again, and until then each new file costs a RELEASE.
  keeper.prober = fork();
  if (keeper.prober == 0) {
    // Or its own question would keep the connection alive when everybody else has gone, and wait for ever.
    close(keeper.device);
    struct statfs space;
    struct stat root;
    const bool answers = statfs(keeper.options.mountpoint, &space) == 0 &&
                         stat(keeper.options.mountpoint, &root) == 0;
    const int result = answers ? 0 : errno;
    const int unnamed = open(keeper.options.mountpoint, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (unnamed >= 0) {
      char path[32];
      snprintf(path, sizeof path, "/proc/self/fd/%d", unnamed);
      close(open(path, O_RDONLY | O_CLOEXEC));
    }
    if (answers) PutBack(trees);
    // Not before INIT, which may only take some of it away. Who may not say so, or has no /sys, reads with the default.
    if (answers && keeper.options.read_ahead[0] != '\0') {
      char path[64];
      snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", keeper.major, keeper.minor);
      WriteFile(path, keeper.options.read_ahead);
    }
    _exit(result);
  }
  for (int at = 0; at < keeper.options.below_count; at++) close(trees[at]);
  keeper.phase = Phase::kProbing;
  return keeper.prober > 0;
}
