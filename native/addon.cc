// Registers the addon's functions under the names src/native.ts gives them.
#include "native.h"

namespace {

template <Napi::Value (*function)(const Info&)>
void Add(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<function>(exports.Env(), name));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Channel", DefineChannel(env));
  exports.Set("ReadAhead", DefineReadAhead(env));
  Add<BackingOpen>(exports, "backingOpen");
  Add<BackingClose>(exports, "backingClose");
  Add<OpenBeneath>(exports, "openBeneath");
  Add<Open>(exports, "open");
  Add<Close>(exports, "close");
  Add<Dup>(exports, "dup");
  Add<Dup2>(exports, "dup2");
  Add<Statx>(exports, "statx");
  Add<StatMany>(exports, "statMany");
  Add<ListDirectory>(exports, "listDirectory");
  Add<PackDirectory>(exports, "packDirectory");
  Add<EncodeDirents>(exports, "encodeDirents");
  Add<Readlinkat>(exports, "readlinkat");
  Add<Pread>(exports, "pread");
  Add<Pwrite>(exports, "pwrite");
  Add<PwriteRange>(exports, "pwriteRange");
  Add<CopyRange>(exports, "copyRange");
  Add<CloneFile>(exports, "cloneFile");
  Add<Lseek>(exports, "lseek");
  Add<Ftruncate>(exports, "ftruncate");
  Add<Fallocate>(exports, "fallocate");
  Add<Fsync>(exports, "fsync");
  Add<Syncfs>(exports, "syncfs");
  Add<Mkdirat>(exports, "mkdirat");
  Add<Mknodat>(exports, "mknodat");
  Add<Symlinkat>(exports, "symlinkat");
  Add<Linkat>(exports, "linkat");
  Add<Unlinkat>(exports, "unlinkat");
  Add<Renameat2>(exports, "renameat2");
  Add<Fchmodat>(exports, "fchmodat");
  Add<Fchownat>(exports, "fchownat");
  Add<Utimensat>(exports, "utimensat");
  Add<Fstatfs>(exports, "fstatfs");
  Add<OfdLock>(exports, "ofdLock");
  Add<Flock>(exports, "flock");
  Add<GetInodeFlags>(exports, "getInodeFlags");
  Add<SetInodeFlags>(exports, "setInodeFlags");
  Add<Getxattr>(exports, "getxattr");
  Add<Listxattr>(exports, "listxattr");
  Add<Setxattr>(exports, "setxattr");
  Add<Removexattr>(exports, "removexattr");
  Add<Memfd>(exports, "memfd");
  Add<Eventfd>(exports, "eventfd");
  Add<Wake>(exports, "wake");
  exports.Set("now", Napi::Function::New<Now>(env, "now"));
  Add<PrctlIoFlusher>(exports, "prctlIoFlusher");
  Add<Exit>(exports, "exit");
  Add<Mlockall>(exports, "mlockall");
  Add<RaiseNofile>(exports, "raiseNofile");
  Add<DetachedReadonlyBind>(exports, "detachedReadonlyBind");
  Add<DetachedWritableBind>(exports, "detachedWritableBind");
  Add<DetachedTmpfs>(exports, "detachedTmpfs");
  Add<BindReadonlyOver>(exports, "bindReadonlyOver");
  Add<Umount2>(exports, "umount2");
  Add<EnterEmptyRoot>(exports, "enterEmptyRoot");
  Add<ReceiveMessage>(exports, "receiveMessage");
  Add<SendMessage>(exports, "sendMessage");
  Add<SendDatagram>(exports, "sendDatagram");
  return exports;
}

}  // namespace

NODE_API_MODULE(ostree_ts, Init)
