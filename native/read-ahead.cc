// Opens files that are likely to be read soon, and has the kernel read how they begin, while other requests are served.
#include "loans.h"
#include "native.h"
#include "signals.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <pthread.h>
#include <string>
#include <sys/uio.h>
#include <unordered_map>
#include <vector>

namespace {

// Files kept open for who reads them next, and batches that wait: what is later than that is too late.
constexpr size_t kKept = 128;
constexpr size_t kWaiting = 8;

struct Batch {
  uint32_t place;
  int dir;
  uint32_t flags;
  std::vector<std::string> names;
};

// A try that must not wait makes the kernel begin with what is missing. @returns whether it was.
bool BeginReading(int fd) {
  uint8_t byte;
  const iovec into{&byte, 1};
  return preadv2(fd, &into, 1, 0, RWF_NOWAIT) < 0 && errno == EAGAIN;
}

class ReadAhead : public Napi::ObjectWrap<ReadAhead> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "ReadAhead",
                       {InstanceMethod<&ReadAhead::Begin>("begin"),
                        InstanceMethod<&ReadAhead::Take>("take"),
                        InstanceMethod<&ReadAhead::Close>("close")});
  }

  explicit ReadAhead(const Info& info) : Napi::ObjectWrap<ReadAhead>(info) {}
  ~ReadAhead() override { End(); }

 private:
  using Key = std::pair<uint32_t, std::string>;
  struct Hash {
    size_t operator()(const Key& key) const { return std::hash<std::string>()(key.second) + key.first; }
  };

  Napi::Value Begin(const Info& info) {
    Batch batch{Uint(info, 0), Int(info, 1), Uint(info, 2), {}};
    const Napi::Array names = info[3].As<Napi::Array>();
    for (uint32_t index = 0; index < names.Length(); index++) {
      batch.names.emplace_back(ByteString(info.Env(), names.Get(index)).c_str());
    }
    const std::lock_guard lock(mutex_);
    if (batches_.size() < kWaiting && Start()) {
      Loans::Lend(batch.dir);
      batches_.push_back(std::move(batch));
      work_.notify_one();
    }
    return Result(info.Env(), missing_);
  }

  Napi::Value Take(const Info& info) {
    const Key key{Uint(info, 0), ByteString(info, 1).c_str()};
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(key);
    if (found == open_.end()) return Result(info.Env(), -ENOENT);
    const int fd = found->second;
    open_.erase(found);
    return Result(info.Env(), fd);
  }

  void Close(const Info&) { End(); }

  // A std::thread that cannot be made would end the session. @returns whether there is one.
  bool Start() {
    if (started_) return true;
    const SignalsBlocked blocked;
    const auto run = [](void* self) -> void* {
      static_cast<ReadAhead*>(self)->Run();
      return nullptr;
    };
    started_ = pthread_create(&thread_, nullptr, run, this) == 0;
    return started_;
  }

  void End() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_one();
    if (started_) pthread_join(thread_, nullptr);
    started_ = false;
    for (const Batch& batch : batches_) Loans::Return(batch.dir);
    batches_.clear();
    for (const auto& [key, fd] : open_) close(fd);
    open_.clear();
  }

  void Run() {
    pthread_setname_np(pthread_self(), "read-ahead");
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stopping_ || !batches_.empty(); });
      if (stopping_) return;
      const Batch batch = std::move(batches_.front());
      batches_.pop_front();
      for (const std::string& name : batch.names) {
        lock.unlock();
        const int fd = OpenedBeneath(batch.dir, name.c_str(), batch.flags, 0);
        const bool missed = fd >= 0 && BeginReading(fd);
        lock.lock();
        if (missed) missing_++;
        if (fd >= 0) Keep({batch.place, name}, fd);
      }
      Loans::Return(batch.dir);
    }
  }

  // With the lock held. What nobody took meanwhile goes.
  void Keep(Key key, int fd) {
    if (order_.size() == kKept) {
      const auto oldest = open_.find(order_.front());
      if (oldest != open_.end()) {
        close(oldest->second);
        open_.erase(oldest);
      }
      order_.pop_front();
    }
    if (open_.emplace(key, fd).second) order_.push_back(std::move(key));
    else close(fd);
  }

  std::mutex mutex_;
  std::condition_variable work_;
  bool stopping_ = false;
  // Files that were not in memory.
  int64_t missing_ = 0;
  std::deque<Batch> batches_;
  std::unordered_map<Key, int, Hash> open_;
  // Of those that were opened, the oldest first; some have been taken since.
  std::deque<Key> order_;
  bool started_ = false;
  pthread_t thread_{};
};

}  // namespace

Napi::Function DefineReadAhead(Napi::Env env) { return ReadAhead::Define(env); }
