// The runner: runs one command where a private session is mounted, and ends everything that it started.
//
//   runner PARENT users|mounts
//
// On descriptor 4, each word ended by NUL, so that any bytes may be in it: KEEPER [OPERATION...] -- COMMAND [ARGUMENT...].
// It may be started before they are known, and ends without a word when none comes.
//
// Three processes: the runner itself, a child of PARENT, enters the namespaces of KEEPER and makes a process namespace;
// its child is the first process of that, arranges the mounts that OPERATIONs ask for in a mount namespace of its own, and
// waits; the child of that is COMMAND. Each is killed when its parent ends, and with the first process the kernel ends all
// others of the namespace.
//
// When all three standard streams are a terminal, the first process and COMMAND are a process group of their own, which
// gets the terminal: a shell wants a number of its group that it can see. Otherwise they stay in the caller's, since
// there may be others of a pipeline in it, who want the terminal, too.
//
// Operations, in this order: what is taken from outside, the new root, what is put into it.
//   tree SOURCE TARGET ro|rw      SOURCE, and what is mounted below it, is to be seen at TARGET
//   new TYPE TARGET OPTIONS       a new filesystem at TARGET; OPTIONS are key=value, separated by commas
//   root DIRECTORY                the root of COMMAND
//   offer SOURCE TARGET           the file SOURCE is to be seen, read-only, at TARGET, if that is a file
//   dir TARGET                    made, unless it is there
//   file TARGET CONTENT           made
//   link TARGET CONTENT           a symlink
//   cd DIRECTORY                  where COMMAND starts
//   set NAME=VALUE                in the environment of COMMAND
//
// On descriptor 3, lines: "failed WHAT: WHY", "exec ERRNO WHY" (COMMAND cannot be run), "started", "stopped", "continued".
// Exits as COMMAND did: its code, or 128 and the signal.
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// <sys/mount.h> and <linux/mount.h> cannot both be included with every C library.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*);
extern "C" int umount2(const char*, int);

namespace {

constexpr int kWords = 3, kInput = 4;
constexpr int kFailed = 125;
constexpr int kDetach = 2;  // MNT_DETACH
constexpr unsigned long kRecursive = 16384, kSlave = 1UL << 19;
constexpr unsigned kTreeRecursive = 0x8000;  // AT_RECURSIVE
constexpr int kOperationsMax = 64;
// More than the kernel takes for a program.
constexpr size_t kInputMax = 8 << 20;
// What is passed on, unless it comes from the terminal: then COMMAND has had it, too.
constexpr int kPassed[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM};

__attribute__((format(printf, 1, 2))) void Say(const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  const int wanted = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  size_t used = wanted < 0 ? 0 : static_cast<size_t>(wanted);
  if (used > sizeof line - 2) used = sizeof line - 2;
  line[used++] = '\n';
  [[maybe_unused]] const ssize_t written = write(kWords, line, used);
}

[[noreturn]] void Fail(const char* what, const char* name = "") {
  Say("failed cannot %s%s: %s", what, name, strerror(errno));
  _exit(kFailed);
}

struct Operation {
  char** words;
  // The mount that is put at words[2].
  int tree = -1;
};

// The first process leads a process group of its own.
bool own_group = false;

Operation operations[kOperationsMax];
int operation_count = 0;

bool Is(const Operation& operation, const char* kind) {
  return strcmp(operation.words[0], kind) == 0;
}

// Words of each kind of operation, itself counted.
int WordsOf(const char* kind) {
  if (strcmp(kind, "tree") == 0 || strcmp(kind, "new") == 0) return 4;
  if (strcmp(kind, "file") == 0 || strcmp(kind, "link") == 0) return 3;
  if (strcmp(kind, "offer") == 0) return 3;
  constexpr const char* kOfTwo[] = {"root", "cd", "dir", "set"};
  for (const char* of_two : kOfTwo) {
    if (strcmp(kind, of_two) == 0) return 2;
  }
  return 0;
}

int TakeTree(const char* source, bool read_only) {
  const int tree =
      static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, source,
                               OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | kTreeRecursive));
  if (tree < 0) Fail("bind ", source);
  mount_attr change{};
  change.attr_set = MOUNT_ATTR_RDONLY;
  if (read_only && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | kTreeRecursive, &change,
                           sizeof change) < 0) {
    Fail("make read-only: ", source);
  }
  return tree;
}

int NewFilesystem(const char* type, char* options) {
  const int context = static_cast<int>(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
  if (context < 0) Fail("mount a new ", type);
  syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", type, 0);
  for (char* rest = options; char* pair = strtok_r(rest, ",", &rest);) {
    char* value = strchr(pair, '=');
    if (value != nullptr) *value++ = '\0';
    const unsigned command = value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    if (syscall(SYS_fsconfig, context, command, pair, value, 0) < 0) Fail("mount a new ", type);
  }
  if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) {
    Fail("mount a new ", type);
  }
  unsigned attributes = MOUNT_ATTR_NOSUID;
  if (strcmp(type, "devpts") == 0) attributes |= MOUNT_ATTR_NOEXEC;
  if (strcmp(type, "proc") == 0) attributes |= MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;
  const int tree = static_cast<int>(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes));
  if (tree < 0) Fail("mount a new ", type);
  close(context);
  return tree;
}

// Makes `root` the root, with nothing of the old one left.
void EnterRoot(const char* root) {
  if (chdir(root) < 0) Fail("enter ", root);
  // The old root ends up on top of the new one, and is taken off.
  if (syscall(SYS_pivot_root, ".", ".") < 0) Fail("change the root to ", root);
  if (umount2(".", kDetach) < 0 || chdir("/") < 0) Fail("leave the old root");
}

void MakeFile(const char* path, const char* content) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) Fail("make ", path);
  const size_t length = strlen(content);
  if (write(fd, content, length) != static_cast<ssize_t>(length)) Fail("write ", path);
  close(fd);
}

// Where a mount goes there must be something; what there is not is made.
void Put(const Operation& operation) {
  const char* target = operation.words[2];
  struct stat what, there;
  if (Is(operation, "offer") && (stat(target, &there) < 0 || !S_ISREG(there.st_mode))) return;
  if (fstatat(operation.tree, "", &what, AT_EMPTY_PATH) < 0) Fail("look at what goes to ", target);
  if (stat(target, &there) < 0) {
    if (S_ISDIR(what.st_mode)) {
      if (mkdir(target, 0755) < 0) Fail("make ", target);
    } else {
      MakeFile(target, "");
    }
  }
  if (syscall(SYS_move_mount, operation.tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
    Fail("mount at ", target);
  }
  close(operation.tree);
}

// A process that ends with its parent, and whose parent is still there.
void EndWith(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kFailed);
}

void Unblock() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// What a shell would say of a process that has ended.
int CodeOf(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Gives the terminal to a process group, from wherever we are.
void GiveTerminal(pid_t group) {
  signal(SIGTTOU, SIG_IGN);
  tcsetpgrp(0, group);
  signal(SIGTTOU, SIG_DFL);
}

// The job that we are goes on: with the terminal, if it is in the foreground now.
void Continue(pid_t first) {
  if (!own_group) return;
  if (tcgetpgrp(0) == getpgrp()) GiveTerminal(first);
  kill(-first, SIGCONT);
}

// Waits for `child`, passing signals on to it. With `is_first`, everything else that ends is waited for, too, and
// whether the child stands still is told. Returns its wait status.
int Watch(pid_t child, const sigset_t& heeded, bool is_first) {
  for (;;) {
    int status = 0;
    for (;;) {
      const pid_t pid = waitpid(-1, &status, WNOHANG | (is_first ? WUNTRACED | WCONTINUED : 0));
      if (pid <= 0) break;
      if (pid != child) continue;
      if (WIFSTOPPED(status)) {
        Say("stopped");
      } else if (WIFCONTINUED(status)) {
        Say("continued");
      } else {
        return status;
      }
    }
    siginfo_t signal{};
    if (sigwaitinfo(&heeded, &signal) < 0 || signal.si_signo == SIGCHLD) continue;
    if (signal.si_signo == SIGCONT && !is_first) Continue(child);
    // A signal of the terminal went to the whole process group.
    if (signal.si_code <= 0 || signal.si_signo == SIGCONT) kill(child, signal.si_signo);
  }
}

void Arrange() {
  if (unshare(CLONE_NEWNS) < 0 || mount(nullptr, "/", nullptr, kRecursive | kSlave, nullptr) < 0) {
    Fail("make a mount namespace");
  }
  for (int at = 0; at < operation_count; at++) {
    Operation& operation = operations[at];
    char** words = operation.words;
    if (Is(operation, "tree")) operation.tree = TakeTree(words[1], strcmp(words[3], "ro") == 0);
    if (Is(operation, "offer")) operation.tree = TakeTree(words[1], true);
    if (Is(operation, "new")) operation.tree = NewFilesystem(words[1], words[3]);
  }
  for (int at = 0; at < operation_count; at++) {
    const Operation& operation = operations[at];
    char** words = operation.words;
    if (Is(operation, "root")) EnterRoot(words[1]);
  }
  for (int at = 0; at < operation_count; at++) {
    const Operation& operation = operations[at];
    char** words = operation.words;
    if (operation.tree >= 0) Put(operation);
    if (Is(operation, "dir") && mkdir(words[1], 0755) < 0 && errno != EEXIST) {
      Fail("make ", words[1]);
    }
    if (Is(operation, "file")) MakeFile(words[1], words[2]);
    if (Is(operation, "link") && symlink(words[2], words[1]) < 0) Fail("make ", words[1]);
    if (Is(operation, "cd") && chdir(words[1]) < 0) Fail("enter ", words[1]);
    if (Is(operation, "set") && putenv(words[1]) != 0) Fail("set ", words[1]);
  }
}

// The first process of the process namespace.
[[noreturn]] void First(char** command, const sigset_t& heeded, bool has_terminal) {
  if (own_group) {
    setpgid(0, 0);
    if (has_terminal) GiveTerminal(getpgrp());
  }
  Arrange();
  // Closed by a successful exec.
  int pair[2];
  if (pipe2(pair, O_CLOEXEC) < 0) Fail("make a pipe");
  const pid_t child = fork();
  if (child < 0) Fail("fork");
  if (child == 0) {
    Unblock();
    execvp(command[0], command);
    const int why = errno;
    [[maybe_unused]] const ssize_t written = write(pair[1], &why, sizeof why);
    _exit(why == ENOENT ? 127 : 126);
  }
  close(pair[1]);
  int why = 0;
  if (read(pair[0], &why, sizeof why) == sizeof why) {
    Say("exec %d %s", why, strerror(why));
  } else {
    Say("started");
  }
  close(pair[0]);
  _exit(CodeOf(Watch(child, heeded, true)));
}

// In whose namespaces, what is to be done, and the command; nullptr when it makes no sense.
char** Read(const char** keeper) {
  char* text = static_cast<char*>(malloc(kInputMax));
  size_t length = 0, count = 0;
  for (;;) {
    const ssize_t more = text == nullptr ? -1 : read(kInput, text + length, kInputMax - length);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return nullptr;
    if (more == 0) break;
    length += static_cast<size_t>(more);
  }
  close(kInput);
  if (length == 0) _exit(0);
  for (size_t at = 0; at < length; at++) count += text[at] == '\0' ? 1 : 0;
  char** words = static_cast<char**>(calloc(count + 1, sizeof(char*)));
  if (words == nullptr || text[length - 1] != '\0') return nullptr;
  char* next = text;
  for (size_t at = 0; at < count; at++, next += strlen(next) + 1) words[at] = next;
  *keeper = words[0];
  for (size_t at = 1; at < count;) {
    if (strcmp(words[at], "--") == 0) return at + 1 < count ? words + at + 1 : nullptr;
    const size_t size = static_cast<size_t>(WordsOf(words[at]));
    if (size == 0 || at + size > count || operation_count == kOperationsMax) return nullptr;
    operations[operation_count++].words = words + at;
    at += size;
  }
  return nullptr;
}

void Enter(const char* keeper, const char* kind, int type) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/ns/%s", keeper, kind);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, type) < 0) Fail("enter the session's namespace: ", path);
  close(fd);
}

}  // namespace

int main(int count, char** arguments) {
  const char* keeper = nullptr;
  char** command = count == 3 ? Read(&keeper) : nullptr;
  if (command == nullptr) {
    fputs("runner: started by ostree-ts run, not by hand\n", stderr);
    return kFailed;
  }
  fcntl(kWords, F_SETFD, FD_CLOEXEC);
  syscall(SYS_close_range, kWords + 1, ~0U, 0);
  sigset_t heeded;
  sigemptyset(&heeded);
  sigaddset(&heeded, SIGCHLD);
  sigaddset(&heeded, SIGCONT);
  for (const int number : kPassed) sigaddset(&heeded, number);
  sigprocmask(SIG_BLOCK, &heeded, nullptr);
  const pid_t group = getpgrp();
  const bool has_terminal = tcgetpgrp(0) == group;
  own_group = isatty(0) && isatty(1) && isatty(2);

  if (strcmp(arguments[2], "users") == 0) Enter(keeper, "user", CLONE_NEWUSER);
  Enter(keeper, "mnt", CLONE_NEWNS);
  EndWith(atoi(arguments[1]));
  if (unshare(CLONE_NEWPID) < 0) Fail("make a process namespace");
  const pid_t first = fork();
  if (first < 0) Fail("fork");
  if (first == 0) {
    // Its parent is outside of the namespace: no number says which it is.
    EndWith(0);
    First(command, heeded, has_terminal);
  }
  const int status = Watch(first, heeded, false);
  // Of a job in the background, somebody else has the terminal now.
  const pid_t foreground = tcgetpgrp(0);
  const bool is_ours = foreground == first || (foreground > 0 && kill(-foreground, 0) < 0);
  if (has_terminal && is_ours) GiveTerminal(group);
  return CodeOf(status);
}
