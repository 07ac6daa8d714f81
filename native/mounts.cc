// Mounts and the root of the process. Through syscall(2): glibc has these from 2.36 only.
#include "native.h"

#include <linux/mount.h>
#include <string>
#include <sys/syscall.h>

extern "C" int umount2(const char* target, int flags) noexcept;
extern "C" int mount(const char* source, const char* target, const char* type, unsigned long flags,
                     const void* data) noexcept;

namespace {

// sys/mount.h clashes with linux/mount.h in some glibc versions, so these come from neither.
constexpr int kMntDetach = 2;
constexpr unsigned long kMsRec = 16384;
constexpr unsigned long kMsPrivate = 1UL << 18;

// A new tmpfs, mounted nowhere. @returns its mount's fd, which is an O_PATH one, or -1.
int DetachedMount(const char* mode, const char* bytes, bool readonly) {
  const Fd context(static_cast<int>(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (context.get() < 0) return -1;
  const auto configure = [&](unsigned command, const char* key, const char* value) {
    return syscall(SYS_fsconfig, context.get(), command, key, value, 0);
  };
  if (configure(FSCONFIG_SET_STRING, "mode", mode) < 0 ||
      configure(FSCONFIG_SET_STRING, "size", bytes) < 0 ||
      configure(FSCONFIG_SET_STRING, "source", "ostree-ts") < 0 ||
      (readonly && configure(FSCONFIG_SET_FLAG, "ro", nullptr) < 0) ||
      configure(FSCONFIG_CMD_CREATE, nullptr, nullptr) < 0) {
    return -1;
  }
  const unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                              (readonly ? MOUNT_ATTR_RDONLY : 0);
  return static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, attributes));
}

}  // namespace

namespace {

// The directory again, in a detached mount of its own with other attributes. @returns an fd of that mount, or -1.
int DetachedTree(int directory, const mount_attr& attributes) {
  const int tree = static_cast<int>(syscall(SYS_open_tree, directory, "",
                                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  if (tree < 0 ||
      syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0) {
    return tree;
  }
  const int reason = errno;
  close(tree);
  errno = reason;
  return -1;
}

// open_tree(2) gives an O_PATH fd, of no use for getdents64. The mount lives as long as any file in it is open.
Napi::Value DetachedBind(const Info& info, const mount_attr& attributes) {
  const Fd tree(DetachedTree(Int(info, 0), attributes));
  if (tree.get() < 0) return Called(info, -1);
  return Called(info, openat(tree.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

Napi::Value DetachedReadonlyBind(const Info& info) {
  // Reads through a read-only mount change no atime either. (Asking for noatime as well is refused in a
  // user namespace.)
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  return DetachedBind(info, attributes);
}

Napi::Value DetachedWritableBind(const Info& info) {
  mount_attr attributes{};
  attributes.attr_clr = MOUNT_ATTR_RDONLY;
  if (info[1].ToBoolean()) {
    attributes.attr_set = MOUNT_ATTR_NOATIME;
    attributes.attr_clr |= MOUNT_ATTR__ATIME;
  }
  return DetachedBind(info, attributes);
}

Napi::Value DetachedTmpfs(const Info& info) {
  const std::string bytes = std::to_string(Int(info, 0));
  const Fd mount(DetachedMount("0700", bytes.c_str(), false));
  if (mount.get() < 0) return Called(info, -1);
  return Called(info, openat(mount.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

Napi::Value BindReadonlyOver(const Info& info) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  // Otherwise what is mounted over it later would be mounted over its origin as well.
  attributes.propagation = kMsPrivate;
  const Fd tree(DetachedTree(Int(info, 0), attributes));
  if (tree.get() < 0) return Called(info, -1);
  return Called(info, syscall(SYS_move_mount, tree.get(), "", AT_FDCWD,
                              ByteString(info, 1).c_str(), MOVE_MOUNT_F_EMPTY_PATH));
}

Napi::Value Umount2(const Info& info) {
  return Called(info, umount2(ByteString(info, 0).c_str(), Int(info, 1)));
}

Napi::Value EnterEmptyRoot(const Info& info) {
  // pivot_root(2) refuses shared mounts, and nothing of this may reach another namespace.
  if (mount(nullptr, "/", nullptr, kMsRec | kMsPrivate, nullptr) < 0) return Called(info, -1);
  const Fd before(open(".", O_PATH | O_CLOEXEC));
  const Fd root(DetachedMount("0555", "4096", true));
  if (root.get() < 0) return Called(info, -1);
  // Stacked on "/" itself, so that no directory is needed. pivot_root(".", ".") then swaps the two,
  // for every thread of the process, and leaves the old root on top, to be detached.
  if (syscall(SYS_move_mount, root.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
      fchdir(root.get()) < 0) {
    return Called(info, -1);
  }
  if (syscall(SYS_pivot_root, ".", ".") < 0) {
    const int reason = errno;
    umount2(".", kMntDetach);
    if (fchdir(before.get()) < 0) return Called(info, -1);
    return Result(info.Env(), -reason);
  }
  if (umount2(".", kMntDetach) < 0) return Called(info, -1);
  return Called(info, chdir("/"));
}
