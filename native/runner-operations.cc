// What a command is to see, arranged by the first process of its namespace.
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
#include "runner.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// <sys/mount.h> and <linux/mount.h> cannot both be included with every C library.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*);
extern "C" int umount2(const char*, int);

namespace {

constexpr int kDetach = 2;  // MNT_DETACH
constexpr unsigned long kRecursive = 16384, kSlave = 1UL << 19;
constexpr unsigned kTreeRecursive = 0x8000;  // AT_RECURSIVE
constexpr int kOperationsMax = 64;

struct Operation {
  char** words;
  // The mount that is put at words[2].
  int tree = -1;
};

Operation operations[kOperationsMax];
int operation_count = 0;

bool Is(const Operation& operation, const char* kind) {
  return strcmp(operation.words[0], kind) == 0;
}

// Words of each kind of operation, itself counted.
size_t WordsOf(const char* kind) {
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

}  // namespace

size_t AddOperation(char** words, size_t count) {
  const size_t size = WordsOf(words[0]);
  if (size > count || operation_count == kOperationsMax) return 0;
  if (size > 0) operations[operation_count++].words = words;
  return size;
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
