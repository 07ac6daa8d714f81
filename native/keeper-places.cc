// Where things are: the lowers, the upper, and the namespaces that the session is mounted in.
#include "keeper.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// The first descriptor that is neither given nor handed on.
int FirstSpare() {
  return kFirstLower + keeper.options.lowers + (keeper.options.has_upper ? 1 : 0) +
         (keeper.options.has_work ? 1 : 0);
}

// Replaces a lower by a private, read-only copy of its mount that is in no namespace: nothing can write through it, and
// what is mounted below it later is not seen. Where this is not permitted the directory itself serves.
static void Harden(int lower) {
  const int tree = static_cast<int>(
      syscall(SYS_open_tree, lower, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (tree < 0) return Log("lower is not bound read-only: open_tree: %s", strerror(errno));
  mount_attr change{};
  change.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
  change.attr_clr = MOUNT_ATTR__ATIME;
  change.propagation = MS_PRIVATE;
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &change, sizeof change) < 0) {
    Log("lower is not bound read-only: mount_setattr: %s", strerror(errno));
  } else {
    dup3(tree, lower, O_CLOEXEC);
  }
  close(tree);
}

void HardenLowers() {
  if (!keeper.is_root) return;
  for (int lower = 0; lower < keeper.options.lowers; lower++) Harden(kFirstLower + lower);
}

// The daemon has them: here they would only hold their mounts.
void CloseLowers() {
  for (int lower = 0; lower < keeper.options.lowers; lower++) close(kFirstLower + lower);
}

namespace {

// Opens a file of /proc/PID.
int OpenOf(pid_t pid, const char* name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  return open(path, O_RDONLY | O_CLOEXEC);
}

// Enters the namespaces of another keeper, the first of its kind.
bool Join(pid_t pid) {
  const int users = keeper.options.own_users ? OpenOf(pid, "ns/user") : -1;
  const int mounts = OpenOf(pid, "ns/mnt");
  const bool entered = (users < 0 || setns(users, CLONE_NEWUSER) == 0) && mounts >= 0 &&
                       setns(mounts, CLONE_NEWNS) == 0;
  if (!entered) Fail("cannot enter the namespaces of %d: %s", pid, strerror(errno));
  if (users >= 0) close(users);
  if (mounts >= 0) close(mounts);
  return entered;
}

// Makes the namespaces that the session is mounted in. Mounts of the host arrive there, and nothing gets out.
bool Separate() {
  if (unshare(CLONE_NEWNS | (keeper.options.own_users ? CLONE_NEWUSER : 0)) < 0) {
    return Fail("cannot make a %s namespace: %s", keeper.options.own_users ? "user" : "mount",
                strerror(errno)),
           false;
  }
  if (keeper.options.own_users) {
    Tell(kLauncher, "map\n");
    pollfd answer{kLauncher, POLLIN, 0};
    char byte;
    if (poll(&answer, 1, kAnswerMs) <= 0 || recv(kLauncher, &byte, 1, 0) != 1) {
      return Fail("nobody maps the ids of the user namespace"), false;
    }
  }
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0) return true;
  return Fail("cannot separate the mounts: %s", strerror(errno)), false;
}

}  // namespace

// Goes where the session is to be mounted. What was opened before is not of that namespace.
bool EnterNamespaces() {
  if (!keeper.options.own_mounts) return true;
  struct stat given, found;
  keeper.origin = OpenOf(getpid(), "ns/mnt");
  if (!(keeper.options.join > 0 ? Join(keeper.options.join) : Separate())) return false;
  const int place = open(keeper.options.mountpoint, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (place < 0 || fstat(place, &found) < 0 || fstat(kMountpoint, &given) < 0 ||
      given.st_dev != found.st_dev || given.st_ino != found.st_ino) {
    return Fail("cannot find %s again", keeper.options.mountpoint), false;
  }
  dup3(place, kMountpoint, O_CLOEXEC);
  close(place);
  close(keeper.mountinfo);
  keeper.mountinfo = OpenOf(getpid(), "mountinfo");
  return true;
}

namespace {

bool IsMountpoint(const char* path) {
  struct stat there, folder;
  return stat(path, &there) == 0 && fstat(kFolder, &folder) == 0 && there.st_dev != folder.st_dev;
}

}  // namespace

// Opens the folder of an upper that is a directory, in its place after the lowers, and locks it.
bool OpenUpper() {
  const int place = kFirstLower + keeper.options.lowers;
  if (keeper.options.tmpfs_bytes > 0) {
    if (keeper.options.attach) {
      if (!IsMountpoint(kUpper)) return Fail("what the session held is gone"), false;
    } else {
      char options[80];
      snprintf(options, sizeof options, "size=%llu,mode=0700", keeper.options.tmpfs_bytes);
      if (mkdirat(kFolder, "upper", 0700) < 0 ||
          mount(keeper.options.name, kUpper, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0) {
        return Fail("cannot mount a tmpfs for the session: %s", strerror(errno)), false;
      }
    }
    const int opened = open(kUpper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) return Fail("cannot open the session's tmpfs: %s", strerror(errno)), false;
    if (opened != place) {
      dup3(opened, place, O_CLOEXEC);
      close(opened);
    }
  }
  keeper.upper = place;
  // A session whose mount has just gone, unmounted by others, holds it for a moment.
  const long until = NowMs() + kLockMs;
  int result = flock(place, LOCK_EX | LOCK_NB);
  while (result < 0 && errno == EWOULDBLOCK && NowMs() < until) {
    usleep(kLockPollUs);
    result = flock(place, LOCK_EX | LOCK_NB);
  }
  if (result == 0) return true;
  if (errno == EWOULDBLOCK) return Fail("the upper is in use by another session"), false;
  return Fail("cannot lock the upper: %s", strerror(errno)), false;
}
