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
// With --private the mount is in a namespace of its own, with --user in a user namespace of its own as well, and with
// --join in those of another keeper. The daemon stays outside.
//
// To the launcher, once: "up\n" or "failed WHY\n"; before that, with --user, "map\n", when it is to map our ids and to
// answer with a byte. From the daemon: "ready\n", "failed WHY\n", "unmount\n". To the
// daemon: "mounted\n" (the device is in the seqpacket socket by then), "detached\n", "stays WHY\n". One that mounts by
// itself is told "mount\n" instead, and says "mounted\n".
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// <sys/mount.h> and <linux/mount.h> cannot both be included with every C library.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*);
extern "C" int umount2(const char*, int);

namespace {

constexpr char kType[] = "fuse.ostree-ts";
constexpr int kLauncher = 3, kFolder = 4, kRegistry = 5, kMountpoint = 6, kFirstLower = 7;
constexpr int kDetach = 2, kNoFollow = 8;  // MNT_DETACH, UMOUNT_NOFOLLOW
constexpr int kReadyMs = 60'000;
constexpr int kAnswerMs = 20'000;
constexpr int kLockMs = 2'000, kLockPollUs = 5'000;
constexpr unsigned kTreeRecursive = 0x8000;  // AT_RECURSIVE
constexpr int kMlockOnFault = 4;  // MCL_ONFAULT
// More mounts than this below one place are not shown.
constexpr int kBelowMax = 256;
constexpr int kIoFlusher = 57;    // PR_SET_IO_FLUSHER

struct Options {
  const char* name = "";
  // Read from the descriptors: names of any bytes.
  char registry[PATH_MAX] = "";
  char mountpoint[PATH_MAX] = "";
  // Empty: mount(2). Otherwise the fusermount3 to use.
  const char* fusermount = "";
  // The same twice: MS_* for mount(2), words for fusermount3, each after a comma.
  unsigned long flags = 0;
  const char* words = "";
  // The SELinux label of everything in the mount; empty: none is given.
  const char* context = "";
  // The mount is read-only, its filesystem is not: who copies the namespace can have it writable there.
  bool transient = false;
  int lowers = 0;
  // The upper is a directory: given, or a tmpfs of so many bytes that is mounted in the session's folder.
  bool has_upper = false;
  // Its work directory is given as well; otherwise it is in the upper's folder.
  bool has_work = false;
  unsigned long long tmpfs_bytes = 0;
  // It was left by a daemon that died: it is there already, and stays whatever happens now.
  bool attach = false;
  // Ends when the launcher does.
  bool foreground = false;
  // What the upper holds stays when the session ends.
  bool keep = false;
  // Namespaces of our own: a mount namespace, a user namespace; or those of this process.
  bool own_mounts = false;
  bool own_users = false;
  pid_t join = 0;
  // Paths of mounts that the session would cover.
  const char* below[kBelowMax] = {};
  int below_count = 0;
  // The daemon mounts by itself, in this namespace; nothing is handed to it.
  bool daemon_mounts = false;
  char** daemon = nullptr;
};

enum class Phase { kStarting, kProbing, kServing, kDetached };

struct Keeper {
  Options options;
  Phase phase = Phase::kStarting;
  pid_t daemon = 0;
  bool daemon_lives = false;
  pid_t prober = 0;
  int signals = -1;
  int mountinfo = -1;
  int fusermount = -1;
  // The daemon gets a namespace of its own, and lowers of which it can change nothing.
  bool is_root = false;
  // The mount namespace that we came from, when it is not the one we are in.
  int origin = -1;
  int device = -1;
  int stream = -1;
  int packets = -1;
  // The upper's folder, locked; open as long as we live.
  int upper = -1;
  bool launcher_waits = true;
  // What the launcher is told when the start fails.
  char why[512] = "";
  // Of the mounted filesystem, once known.
  unsigned major = 0, minor = 0;
  long mount_id = -1;
  char input[256] = "";
  size_t input_length = 0;
};

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

void TellLauncher(const char* first, const char* rest) {
  if (!keeper.launcher_waits) return;
  keeper.launcher_waits = false;
  char line[600];
  snprintf(line, sizeof line, "%s%s\n", first, rest);
  Tell(kLauncher, line);
}

// The path of a descriptor.
void PathOf(int fd, char (&path)[PATH_MAX]) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = '\0';
}

void WriteFile(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = write(fd, text, strlen(text));
  close(fd);
}

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

constexpr char kUpper[] = "/proc/self/fd/4/upper";

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

// Undoes the octal escapes of mountinfo, in place.
void Unescape(char* text) {
  char* to = text;
  for (const char* from = text; *from != '\0'; to++) {
    if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != '\0' && from[3] != '\0') {
      *to = static_cast<char>((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
      from += 4;
    } else {
      *to = *from++;
    }
  }
  *to = '\0';
}

struct Mount {
  long id = -1;
  unsigned major = 0, minor = 0;
  char path[PATH_MAX + 1] = "";
};

// Finds the last of this session's mounts for which `wanted` says yes. The last one is the topmost of a path. Device
// numbers are used again, so the name and the owner count as well: as long as we live, the name is ours.
bool FindMount(bool (*wanted)(const Mount&), Mount* found) {
  static char named[160];
  static const int named_length =
      snprintf(named, sizeof named, "%s %s ", kType, keeper.options.name);
  static char owner[40];
  snprintf(owner, sizeof owner, ",user_id=%u,", getuid());
  // Static, as the stack is locked memory too; the size bounds the longest line: four paths, escaped.
  static char buffer[4 * 4 * PATH_MAX];
  static Mount mount;
  size_t held = 0;
  bool any = false;
  if (lseek(keeper.mountinfo, 0, SEEK_SET) < 0) return false;
  for (;;) {
    const ssize_t more = read(keeper.mountinfo, buffer + held, sizeof buffer - 1 - held);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) return any;
    held += static_cast<size_t>(more);
    buffer[held] = '\0';
    char* line = buffer;
    while (char* end = strchr(line, '\n')) {
      *end = '\0';
      // id parent major:minor root mountpoint options... - type source options
      char* dash = strstr(line, " - ");
      int path_at = 0;
      if (dash != nullptr && sscanf(line, "%ld %*d %u:%u %*s %n", &mount.id, &mount.major,
                                    &mount.minor, &path_at) == 3) {
        *dash = '\0';
        char* path = line + path_at;
        if (char* space = strchr(path, ' ')) *space = '\0';
        snprintf(mount.path, sizeof mount.path, "%s", path);
        Unescape(mount.path);
        const bool is_named = strncmp(dash + 3, named, static_cast<size_t>(named_length)) == 0;
        if (is_named && strstr(dash + 3, owner) != nullptr && wanted(mount)) {
          *found = mount;
          any = true;
        }
      }
      line = end + 1;
    }
    held = strlen(line);
    memmove(buffer, line, held + 1);
    if (held >= sizeof buffer - 1) held = 0;
  }
}

bool IsNew(const Mount& mount) { return strcmp(mount.path, keeper.options.mountpoint) == 0; }

bool IsOurs(const Mount& mount) {
  return mount.major == keeper.major && mount.minor == keeper.minor;
}

bool IsMounted() {
  static Mount mount;
  return keeper.minor != 0 && FindMount(IsOurs, &mount);
}

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

// Sends or receives one descriptor with one message.
bool SendDescriptor(int socket, int fd) {
  char byte = 'd';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

int ReceiveDescriptor(int socket) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0) return -1;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
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
    _exit(result);
  }
  for (int at = 0; at < keeper.options.below_count; at++) close(trees[at]);
  keeper.phase = Phase::kProbing;
  return keeper.prober > 0;
}

// Replaces a lower by a private, read-only copy of its mount that is in no namespace: nothing can write through it, and
// what is mounted below it later is not seen. Where this is not permitted the directory itself serves.
void Harden(int lower) {
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

// The first descriptor that is neither given nor handed on.
int FirstSpare() {
  return kFirstLower + keeper.options.lowers + (keeper.options.has_upper ? 1 : 0) +
         (keeper.options.has_work ? 1 : 0);
}

bool IsMountpoint(const char* path) {
  struct stat there, folder;
  return stat(path, &there) == 0 && fstat(kFolder, &folder) == 0 && there.st_dev != folder.st_dev;
}

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

// Becomes the daemon: given descriptors in their places, a namespace of its own, and nothing else of ours.
[[noreturn]] void BecomeDaemon(int stream, int packets, int arena) {
  // Above everything given, so that nothing is overwritten before it has been moved.
  const int spare = FirstSpare();
  const int folder = fcntl(kFolder, F_DUPFD_CLOEXEC, spare);
  dup2(stream, 3);
  dup2(packets, 4);
  dup2(arena, 5);
  dup2(folder, 6);
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
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(keeper.options.daemon[0], keeper.options.daemon);
  Log("cannot run %s: %s", keeper.options.daemon[0], strerror(errno));
  _exit(127);
}

bool StartDaemon() {
  int streams[2], packets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, streams) < 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets) < 0) {
    return Fail("cannot make a socket: %s", strerror(errno)), false;
  }
  const int arena = memfd_create("ostree-ts", MFD_CLOEXEC);
  if (arena < 0) return Fail("cannot make the session's memory: %s", strerror(errno)), false;
  for (int lower = 0; lower < keeper.options.lowers; lower++) {
    if (keeper.is_root) Harden(kFirstLower + lower);
  }
  keeper.stream = streams[0];
  keeper.packets = packets[0];
  keeper.daemon = fork();
  if (keeper.daemon == 0) {
    // Out of the way of the places to be filled.
    const int spare = FirstSpare();
    BecomeDaemon(fcntl(streams[1], F_DUPFD, spare), fcntl(packets[1], F_DUPFD, spare),
                 fcntl(arena, F_DUPFD, spare));
  }
  close(streams[1]);
  close(packets[1]);
  // The arena stays open here: the memory of the upper outlives the daemon. The lowers would only hold their mounts.
  for (int lower = 0; lower < keeper.options.lowers; lower++) close(kFirstLower + lower);
  if (keeper.daemon < 0) return Fail("cannot fork: %s", strerror(errno)), false;
  keeper.daemon_lives = true;
  return true;
}

// The end of a start that failed: nothing is left.
[[noreturn]] void GiveUp() {
  if (const char* why = Detach()) Log("cannot unmount: %s", why);
  if (keeper.daemon_lives) kill(keeper.daemon, SIGKILL);
  if (keeper.prober > 0) kill(keeper.prober, SIGKILL);
  if (keeper.device >= 0) close(keeper.device);
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) continue;
  if (!keeper.options.attach) RemoveFolder();
  TellLauncher("failed ", keeper.why);
  _exit(1);
}

// The daemon has ended, with `status` as of wait(2).
[[noreturn]] void DaemonEnded(int status) {
  const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  char ended[96];
  if (WIFSIGNALED(status)) {
    snprintf(ended, sizeof ended, "ended signal %d %ld\n", WTERMSIG(status), time(nullptr));
  } else {
    snprintf(ended, sizeof ended, "ended exit %d %ld\n", WEXITSTATUS(status), time(nullptr));
  }
  if (keeper.phase == Phase::kStarting || keeper.phase == Phase::kProbing) {
    if (WIFSIGNALED(status)) {
      Fail("the daemon was killed by signal %d (%s) as it started", WTERMSIG(status),
           strsignal(WTERMSIG(status)));
    } else {
      Fail("the daemon ended with exit code %d as it started", WEXITSTATUS(status));
    }
    GiveUp();
  }
  const bool was_mounted = IsMounted();
  const bool was_detached = keeper.phase == Phase::kDetached;
  const char* why = Detach();
  // Only now, so that whoever waits for an answer finds the base when told that there is none.
  close(keeper.device);
  if (was_detached || (clean && !was_mounted)) {
    if (clean && keeper.options.keep) {
      snprintf(ended, sizeof ended, "ended kept 0 %ld\n", time(nullptr));
      Record(ended);
    } else {
      RemoveFolder();
    }
    _exit(0);
  }
  if (WIFSIGNALED(status)) {
    Log("the daemon was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    Log("the daemon ended with exit code %d", WEXITSTATUS(status));
  }
  if (why != nullptr) Log("cannot unmount: %s", why);
  Record(ended);
  _exit(1);
}

void Reap() {
  int status = 0;
  for (;;) {
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    if (pid == keeper.daemon) {
      keeper.daemon_lives = false;
      DaemonEnded(status);
    }
    if (pid != keeper.prober) continue;
    keeper.prober = 0;
    if (keeper.phase != Phase::kProbing) continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      Fail("the mount does not answer: %s",
           WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "no reply");
      GiveUp();
    }
    keeper.phase = Phase::kServing;
    Record("");
    TellLauncher("up", "");
    if (!keeper.options.foreground) close(kLauncher);
  }
}

// Takes the mount away; the daemon goes on until the last user of a file has gone.
void Unmount() {
  if (keeper.phase == Phase::kStarting || keeper.phase == Phase::kProbing) {
    Fail("interrupted");
    GiveUp();
  }
  if (const char* why = Detach()) {
    Log("cannot unmount: %s", why);
    char line[400];
    snprintf(line, sizeof line, "stays %s\n", why);
    Tell(keeper.stream, line);
    return;
  }
  Record("");
  Tell(keeper.stream, "detached\n");
}

void FromDaemon(char* line) {
  if (strcmp(line, "unmount") == 0) return Unmount();
  if (strncmp(line, "failed ", 7) == 0) return Fail("%s", line + 7);
  if (keeper.phase != Phase::kStarting) return;
  const bool ready = strcmp(line, "ready") == 0;
  if (ready && keeper.options.daemon_mounts) return Tell(keeper.stream, "mount\n");
  if (ready || strcmp(line, "mounted") == 0) {
    if (!MountSession()) GiveUp();
  }
}

// Reads what the daemon says. Its end is told by SIGCHLD, not by this.
void Listen() {
  const ssize_t more = recv(keeper.stream, keeper.input + keeper.input_length,
                            sizeof keeper.input - 1 - keeper.input_length, MSG_DONTWAIT);
  if (more < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (more <= 0) {
    close(keeper.stream);
    keeper.stream = -1;
    return;
  }
  keeper.input_length += static_cast<size_t>(more);
  keeper.input[keeper.input_length] = '\0';
  char* line = keeper.input;
  while (char* end = strchr(line, '\n')) {
    *end = '\0';
    FromDaemon(line);
    line = end + 1;
  }
  keeper.input_length = strlen(line);
  memmove(keeper.input, line, keeper.input_length + 1);
  if (keeper.input_length >= sizeof keeper.input - 1) keeper.input_length = 0;
}

void Signalled() {
  signalfd_siginfo information{};
  while (read(keeper.signals, &information, sizeof information) == sizeof information) {
    if (information.ssi_signo == SIGCHLD) {
      Reap();
    } else {
      Log("signal %u", information.ssi_signo);
      Unmount();
    }
  }
}

[[noreturn]] void Watch() {
  const long ready_by = NowMs() + kReadyMs;
  long answer_by = 0;
  for (;;) {
    long wait_ms = -1;
    if (keeper.phase == Phase::kStarting) wait_ms = ready_by - NowMs();
    if (keeper.phase == Phase::kProbing) {
      if (answer_by == 0) answer_by = NowMs() + kAnswerMs;
      wait_ms = answer_by - NowMs();
    }
    if (keeper.phase <= Phase::kProbing && wait_ms <= 0) {
      Fail(keeper.phase == Phase::kStarting ? "the daemon does not get ready"
                                            : "the mount does not answer");
      GiveUp();
    }
    const bool heed_launcher = keeper.launcher_waits || keeper.options.foreground;
    pollfd events[] = {{keeper.signals, POLLIN, 0},
                       {keeper.stream, POLLIN, 0},
                       {heed_launcher ? kLauncher : -1, POLLIN, 0}};
    if (poll(events, 3, static_cast<int>(wait_ms)) < 0) continue;
    // What the daemon said last comes before its end.
    if (events[1].revents != 0) Listen();
    if (events[0].revents != 0) Signalled();
    if (events[2].revents != 0) {
      keeper.launcher_waits = false;
      keeper.options.foreground = false;
      Unmount();
    }
  }
}

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
    if (strcmp(word, "--transient") == 0) keeper.options.transient = true;
    if (strncmp(word, "--context=", 10) == 0) keeper.options.context = value;
  }
  return false;
}

}  // namespace

int main(int count, char** arguments) {
  if (!Parse(count, arguments)) {
    fputs("keeper: started by ostree-ts unlock, not by hand\n", stderr);
    return 2;
  }
  setsid();
  umask(077);
  if (chdir("/") < 0) return 1;
  prctl(PR_SET_NAME, "ostree-ts-keep");
  for (int given = kLauncher; given < FirstSpare(); given++) {
    fcntl(given, F_SETFD, FD_CLOEXEC);
  }
  syscall(SYS_close_range, FirstSpare(), ~0U, 0);
  // Held free for the upper, while other files are opened.
  if (keeper.options.tmpfs_bytes > 0) dup3(kFolder, FirstSpare() - 1, O_CLOEXEC);

  sigset_t heeded;
  sigemptyset(&heeded);
  constexpr int kHeeded[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
  for (const int number : kHeeded) sigaddset(&heeded, number);
  sigprocmask(SIG_BLOCK, &heeded, nullptr);
  keeper.signals = signalfd(-1, &heeded, SFD_CLOEXEC | SFD_NONBLOCK);
  PathOf(kRegistry, keeper.options.registry);
  PathOf(kMountpoint, keeper.options.mountpoint);
  keeper.is_root = geteuid() == 0;
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
  // All three are refused to ordinary users, and the session works without them.
  WriteFile("/proc/self/oom_score_adj", "-1000");
  prctl(kIoFlusher, 1, 0, 0, 0);
  mlockall(MCL_CURRENT | MCL_FUTURE | kMlockOnFault);

  if (keeper.options.has_upper && !OpenUpper()) GiveUp();
  if (!StartDaemon()) GiveUp();
  Record("");
  if (!EnterNamespaces()) GiveUp();
  Watch();
}
