// What the parts of the keeper share: keeper.cc says what it is, and what it is given and told.
#ifndef OSTREE_TS_KEEPER_H
#define OSTREE_TS_KEEPER_H

#include <climits>
#include <cstddef>
#include <sys/types.h>

// <sys/mount.h> and <linux/mount.h> cannot both be included with every C library.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*);
extern "C" int umount2(const char*, int);

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
  // KiB that the kernel reads ahead in files of the session; its own choice when empty.
  const char* read_ahead = "";
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
  // The daemon is started before it is known for what.
  bool later = false;
};

// Where a tmpfs of the session is mounted.
constexpr char kUpper[] = "/proc/self/fd/4/upper";

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
  // The memory of the upper, which outlives the daemon.
  int arena = -1;
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

extern Keeper keeper;

// keeper-state.cc: words, and what is written into the session's folder.
__attribute__((format(printf, 1, 2))) void Log(const char* format, ...);
__attribute__((format(printf, 1, 2))) void Fail(const char* format, ...);
void Tell(int socket, const char* line);
bool SendDescriptor(int socket, int fd);
int ReceiveDescriptor(int socket);
void TellLauncher(const char* first, const char* rest);
long NowMs();
void Record(const char* ended);
void RemoveFolder();

// keeper-find.cc: this session's mounts.
struct Mount {
  long id = -1;
  unsigned major = 0, minor = 0;
  char path[PATH_MAX + 1] = "";
};
bool FindMount(bool (*wanted)(const Mount&), Mount* found);
bool IsNew(const Mount& mount);
bool IsOurs(const Mount& mount);
bool IsMounted();

// keeper-mount.cc: mounts and detaches.
void WriteFile(const char* path, const char* text);
bool MountSession();
const char* Detach();

// keeper-places.cc: namespaces, lowers and the upper.
int FirstSpare();
void HardenLowers();
void CloseLowers();
bool OpenUpper();
bool EnterNamespaces();

// keeper.cc
bool Parse(int count, char** arguments);

// keeper-daemon.cc: starts the daemon.
bool StartDaemon();

// keeper-later.cc: learns for what, and tells the daemon.
void AwaitSession();
bool HandOver();

// keeper-watch.cc: waits for whatever may happen, until the end.
[[noreturn]] void Watch();
[[noreturn]] void GiveUp();

#endif
