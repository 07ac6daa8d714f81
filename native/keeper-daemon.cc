// Starts the daemon, with the descriptors that keeper.cc tells of.
#include "keeper.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

void RaiseLimit(__rlimit_resource_t resource) {
  rlimit limit{};
  if (getrlimit(resource, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(resource, &limit);
}

// Becomes the daemon: given descriptors in their places, a namespace of its own, and nothing else of ours.
[[noreturn]] void BecomeDaemon(int stream, int packets, int arena) {
  // Above everything given, so that nothing is overwritten before it has been moved.
  const int spare = FirstSpare();
  const int folder = keeper.options.later ? -1 : fcntl(kFolder, F_DUPFD_CLOEXEC, spare);
  dup2(stream, 3);
  dup2(packets, 4);
  dup2(arena, 5);
  if (folder < 0) {
    close(6);
  } else {
    dup2(folder, 6);
  }
  for (int lower = 0; lower < keeper.options.lowers; lower++) fcntl(kFirstLower + lower, F_SETFD, 0);
  if (keeper.upper >= 0) fcntl(keeper.upper, F_SETFD, 0);
  if (keeper.options.has_work) fcntl(keeper.upper + 1, F_SETFD, 0);
  syscall(SYS_close_range, spare, ~0U, 0);
  if (keeper.is_root && !keeper.options.daemon_mounts &&
      (unshare(CLONE_NEWNS) < 0 ||
       mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)) {
    Log("cannot make a mount namespace: %s", strerror(errno));
    _exit(126);
  }
  RaiseLimit(RLIMIT_NOFILE);
  // The files that it keeps changes in are not its caller's.
  const rlimit any{RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_FSIZE, &any) < 0) RaiseLimit(RLIMIT_FSIZE);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(keeper.options.daemon[0], keeper.options.daemon);
  Log("cannot run %s: %s", keeper.options.daemon[0], strerror(errno));
  _exit(127);
}

}  // namespace

bool StartDaemon() {
  int streams[2], packets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, streams) < 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets) < 0) {
    return Fail("cannot make a socket: %s", strerror(errno)), false;
  }
  keeper.arena = memfd_create("ostree-ts", MFD_CLOEXEC);
  if (keeper.arena < 0) {
    return Fail("cannot make the session's memory: %s", strerror(errno)), false;
  }
  HardenLowers();
  keeper.stream = streams[0];
  keeper.packets = packets[0];
  keeper.daemon = fork();
  if (keeper.daemon == 0) {
    // Out of the way of the places to be filled.
    const int spare = FirstSpare();
    BecomeDaemon(fcntl(streams[1], F_DUPFD, spare), fcntl(packets[1], F_DUPFD, spare),
                 fcntl(keeper.arena, F_DUPFD, spare));
  }
  close(streams[1]);
  close(packets[1]);
  CloseLowers();
  if (keeper.daemon < 0) return Fail("cannot fork: %s", strerror(errno)), false;
  keeper.daemon_lives = true;
  return true;
}
