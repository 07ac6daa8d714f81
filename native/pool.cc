#include "pool.h"
#include "loans.h"
#include "signals.h"

#include <algorithm>
#include <cstring>
#include <sys/eventfd.h>

namespace {

constexpr int64_t kPage = 4096;
constexpr size_t kBuffersPerThread = 2;
constexpr size_t kLongestQueue = 65536;

}  // namespace

Outcome Fill(Segment& segment, uint8_t* data, bool wait) {
  uint8_t* const into = data + segment.at;
  while (segment.fd >= 0 && segment.done < segment.length) {
    const iovec rest{into + segment.done, segment.length - segment.done};
    const int64_t offset = segment.offset + static_cast<int64_t>(segment.done);
    ssize_t count = preadv2(segment.fd, &rest, 1, offset, wait ? 0 : RWF_NOWAIT);
    // Memory files need no such promise and do not know it.
    if (count < 0 && errno == EOPNOTSUPP && !wait) count = preadv(segment.fd, &rest, 1, offset);
    if (count == 0) break;
    if (count > 0) {
      segment.done += static_cast<size_t>(count);
      // What is missing from memory is missing by pages: this is the end of the file.
      if ((offset + count) % kPage != 0) break;
    } else if (errno == EAGAIN && !wait) {
      return Outcome::kWouldBlock;
    } else if (errno != EINTR) {
      return Outcome::kFailed;
    }
  }
  memset(into + segment.done, 0, segment.length - segment.done);
  return Outcome::kDone;
}

Pool::Pool(Device& device, size_t threads, size_t buffer_bytes)
    : device_(device), buffer_bytes_(buffer_bytes), buffers_(threads * kBuffersPerThread) {
  const SignalsBlocked blocked;
  for (size_t index = 0; index < threads; index++) {
    threads_.emplace_back([this] { Run(); });
  }
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::optional<Pages> Pool::TakeBuffer() {
  const std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    Pages buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  if (made_ == buffers_) return std::nullopt;
  Pages buffer(buffer_bytes_);
  if (buffer.data() == nullptr) return std::nullopt;
  made_++;
  return buffer;
}

void Pool::GiveBack(Pages buffer) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(buffer));
}

void Pool::Admit(Job& job) {
  const std::lock_guard lock(mutex_);
  job.ticket = ++tickets_;
  in_flight_.push_back(job.ticket);
}

bool Pool::TryFinish(Job& job) {
  if (!Reply(job, false)) return false;
  const std::lock_guard lock(mutex_);
  Retire(job);
  return true;
}

void Pool::Submit(Job job) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  work_.notify_one();
}

uint64_t Pool::LastTicket() {
  const std::lock_guard lock(mutex_);
  return tickets_;
}

void Pool::WaitFor(uint64_t ticket) {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] {
    return std::ranges::none_of(in_flight_, [&](uint64_t other) { return other <= ticket; });
  });
}

void Pool::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Job job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    Reply(job, true);
    lock.lock();
    Retire(job);
  }
}

void Pool::Retire(Job& job) {
  free_.push_back(std::move(job.data));
  std::erase(in_flight_, job.ticket);
  finished_.notify_all();
}

// Reads what is missing and replies. @returns false when that would have to wait, and is not to.
bool Pool::Reply(Job& job, bool wait) {
  bool failed = false;
  for (Segment& segment : job.segments) {
    if (failed) break;
    const Outcome outcome = Fill(segment, job.data.data(), wait);
    if (outcome == Outcome::kWouldBlock) return false;
    failed = outcome == Outcome::kFailed;
  }
  for (const Segment& segment : job.segments) Loans::Return(segment.fd);
  size_t length = job.length;
  if (job.last_waits) length = job.segments.back().at + job.segments.back().done;
  const OutHeader header{static_cast<uint32_t>(sizeof(OutHeader) + (failed ? 0 : length)),
                         failed ? -EIO : 0, job.request.unique};
  device_.Reply(job.request, header, job.data.data());
  return true;
}

Notifier::Notifier(Device& device, Pool& pool, int wake)
    : device_(device), pool_(pool), wake_(wake) {
  const SignalsBlocked blocked;
  thread_ = std::thread([this] { Run(); });
}

Notifier::~Notifier() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

int Notifier::Push(std::vector<uint8_t> message, bool wakes) {
  const uint64_t after = pool_.LastTicket();
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() == kLongestQueue) return -EAGAIN;
    queue_.push_back({std::move(message), after, wakes});
  }
  work_.notify_one();
  return 0;
}

void Notifier::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Message message = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    pool_.WaitFor(message.after);
    const iovec whole{message.bytes.data(), message.bytes.size()};
    // ENOENT: the kernel does not know the inode or the name, so there was nothing to forget.
    const int status = device_.Write(&whole, 1);
    device_.statistics().Add(status == 0 || status == -ENOENT ? Statistics::kNotified
                                                              : Statistics::kUnnotified);
    if (message.wakes) eventfd_write(wake_, 1);
    lock.lock();
  }
}
