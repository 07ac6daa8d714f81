// /dev/fuse as one JavaScript thread sees it: a request at a time in one memory, its reply in another.
#include "linger.h"
#include "loans.h"
#include "native.h"
#include "pool.h"
#include "relay.h"

#include <memory>
#include <poll.h>
#include <sys/ioctl.h>

namespace {

// The largest read that the kernel asks for: max_pages_limit pages.
constexpr size_t kLargestRead = 1024 * 1024;
constexpr size_t kPage = 4096;
constexpr unsigned kWakeCheckInterval = 32;
// Reads of a disk that are looked at again while other requests come, and that are given to the pool.
constexpr uint64_t kBegunNs = 50'000;
constexpr uint64_t kHandedOverNs = 300'000;
// FUSE_READ of linux/fuse.h.
constexpr uint32_t kRead = 15;

size_t PageUp(size_t size) { return (size + kPage - 1) / kPage * kPage; }

// An ArrayBuffer of `pages`, which live until both sides are done with them.
Napi::ArrayBuffer Shared(Napi::Env env, const std::shared_ptr<Pages>& pages, size_t size) {
  auto* const holder = new std::shared_ptr<Pages>(pages);
  return Napi::ArrayBuffer::New(
      env, pages->data(), size,
      [](Napi::Env, void*, std::shared_ptr<Pages>* held) { delete held; }, holder);
}

class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Channel",
                       {InstanceMethod<&Channel::Receive>("receive"),
                        InstanceMethod<&Channel::ReplyAndReceive>("replyAndReceive"),
                        InstanceMethod<&Channel::Send>("send"),
                        InstanceMethod<&Channel::ReplySegmentsAndReceive>("replySegmentsAndReceive"),
                        InstanceMethod<&Channel::SendSegments>("sendSegments"),
                        InstanceMethod<&Channel::Notify>("notify"),
                        InstanceMethod<&Channel::IsAsked>("isAsked"),
                        InstanceMethod<&Channel::Drain>("drain"),
                        InstanceMethod<&Channel::Close>("close")});
  }

  ~Channel() override { End(); }

  explicit Channel(const Info& info) : Napi::ObjectWrap<Channel>(info) {
    const Napi::Env env = info.Env();
    const Napi::Object options = info[0].ToObject();
    const auto number = [&](const char* name) { return options.Get(name).ToNumber().Int64Value(); };
    wake_ = static_cast<int>(number("wakeFd"));
    const auto fd = static_cast<int>(number("fd"));
    if (options.Has("memoryFd")) memory_ = static_cast<int>(number("memoryFd"));
    const auto request_bytes = static_cast<size_t>(number("requestBytes"));
    const auto threads = static_cast<size_t>(number("threads"));
    data_bytes_ = PageUp(std::max(kLargestRead, request_bytes));

    request_ = std::make_shared<Pages>(PageUp(request_bytes));
    reply_ = std::make_shared<Pages>(data_bytes_ + kPage);
    const auto counters = std::make_shared<Pages>(PageUp(Statistics::kBytes));
    data_ = Pages(data_bytes_);
    if (request_->data() == nullptr || reply_->data() == nullptr || counters->data() == nullptr ||
        data_.data() == nullptr) {
      Napi::Error::New(env, "no memory for a channel").ThrowAsJavaScriptException();
      return;
    }
    // Next() counts on it; the keeper, who shares the device, never reads it.
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(wake_, F_SETFL, fcntl(wake_, F_GETFL) | O_NONBLOCK);
    statistics_ = std::make_unique<Statistics>(counters);
    device_ = std::make_unique<Device>(fd, *statistics_);
    pool_ = std::make_unique<Pool>(*device_, threads, data_bytes_);
    notifier_ = std::make_unique<Notifier>(*device_, *pool_, wake_);
    relay_ = std::make_unique<Relay>(*device_, memory_);

    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("request", Shared(env, request_, request_->size()));
    self.Set("reply", Shared(env, reply_, reply_->size()));
    self.Set("statistics", Shared(env, counters, Statistics::kBytes));
  }

 private:
  Napi::Value Receive(const Info& info) { return Result(info.Env(), Next()); }

  Napi::Value ReplyAndReceive(const Info& info) {
    Answer(Uint(info, 0));
    return Result(info.Env(), Next());
  }

  Napi::Value Send(const Info& info) { return Result(info.Env(), Answer(Uint(info, 0))); }

  Napi::Value ReplySegmentsAndReceive(const Info& info) {
    AnswerSegments(Span<double>(info, 0), Uint(info, 1));
    return Result(info.Env(), Next());
  }

  Napi::Value SendSegments(const Info& info) {
    return Result(info.Env(), AnswerSegments(Span<double>(info, 0), Uint(info, 1)));
  }

  Napi::Value Notify(const Info& info) {
    const Span<uint8_t> message(info, 0);
    if (closed()) return Result(info.Env(), -EBADF);
    const bool wakes = info[1].ToBoolean();
    return Result(info.Env(), notifier_->Push({message.data, message.data + message.length}, wakes));
  }

  Napi::Value IsAsked(const Info& info) {
    pollfd wanted[2] = {{device_->fd(), POLLIN, 0}, {wake_, POLLIN, 0}};
    return Napi::Boolean::New(info.Env(), poll(wanted, 2, 0) != 0);
  }

  void Drain(const Info&) {
    if (closed()) return;
    HandOver();
    pool_->WaitFor(pool_->LastTicket());
  }

  void Close(const Info&) { End(); }

  void End() {
    if (closed()) return;
    HandOver();
    notifier_.reset();
    pool_.reset();
  }

  bool closed() const { return notifier_ == nullptr; }

  int64_t Next();
  bool FinishBegun();
  void Attend();
  void HandOver();
  bool Woken();
  int Answer(uint32_t length);
  int AnswerSegments(Span<double> triples, uint32_t count);
  bool Arrange(Span<double> triples, uint32_t count);
  bool Begin(uint64_t unique, std::vector<Segment>& waiting, size_t length, bool last_waits);

  int wake_ = -1;
  // Never blocks, so it is read without asking for that, which memory files do not know: 0.3 us.
  int memory_ = -1;
  unsigned since_wake_check_ = 0;
  size_t data_bytes_ = 0;
  Linger linger_;
  std::shared_ptr<Pages> request_;
  std::shared_ptr<Pages> reply_;
  // Of the reply at hand.
  std::vector<Segment> segments_;
  // Where segments are read to; goes with a job, and the pool gives another.
  Pages data_;
  Pending current_;
  // Replies that wait for reads which the kernel has begun; the oldest first.
  std::vector<Job> begun_;
  // In order of construction: each needs those before it until it is gone.
  std::unique_ptr<Statistics> statistics_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Notifier> notifier_;
  std::unique_ptr<Relay> relay_;
};

// Reads at once and polls only when nothing is there: 13.2 us a round trip against 13.5 with poll first,
// and one call less when requests queue. A blocking read that a signal ends gains 0.3 us more, for a
// signal handler and a helper thread: not worth it.
int64_t Channel::Next() {
  linger_.Begin();
  for (;;) {
    // Requests without a gap must not keep a wake-up waiting.
    if (++since_wake_check_ >= kWakeCheckInterval && Woken()) {
      HandOver();
      return 0;
    }
    const ssize_t length = read(device_->fd(), request_->data(), request_->size());
    if (length > 0) {
      InHeader header;
      memcpy(&header, request_->data(), sizeof header);
      current_ = {header.unique, Statistics::Now(), header.opcode};
      statistics_->Received(header.opcode);
      linger_.Met(header.pid);
      if (!begun_.empty()) Attend();
      return length;
    }
    if (errno == EAGAIN) {
      if (FinishBegun()) {
        linger_.Met();
        continue;
      }
      if (linger_.Again(!begun_.empty())) continue;
      HandOver();
      const uint64_t since = Statistics::Now();
      pollfd wanted[2] = {{device_->fd(), POLLIN, 0}, {wake_, POLLIN, 0}};
      if (poll(wanted, 2, -1) < 0 && errno != EINTR) return -errno;
      if (wanted[1].revents != 0 && Woken()) return 0;
      linger_.Slept(Statistics::Now() - since);
    } else if (errno != EINTR && errno != ENOENT) {
      // ENOENT: the request was aborted before we could take it.
      return -errno;
    }
  }
}

// Replies to what has been read meanwhile. @returns whether there was anything.
bool Channel::FinishBegun() {
  return std::erase_if(begun_, [this](Job& job) { return pool_->TryFinish(job); }) > 0;
}

// Sees to the reads that are under way before another request is served: one that is no read may take long.
void Channel::Attend() {
  const uint64_t waited = current_.since - begun_.front().request.since;
  if (waited > kBegunNs) FinishBegun();
  if (current_.opcode != kRead || waited > kHandedOverNs) HandOver();
}

// Gives the reads that take longer to the pool, whose threads wait for them.
void Channel::HandOver() {
  for (Job& job : begun_) {
    statistics_->Add(Statistics::kPooled);
    pool_->Submit(std::move(job));
  }
  begun_.clear();
}

// Whether somebody wrote to the eventfd, which is 0 again then.
bool Channel::Woken() {
  since_wake_check_ = 0;
  uint64_t count = 0;
  return read(wake_, &count, sizeof count) > 0;
}

int Channel::Answer(uint32_t length) {
  OutHeader header;
  memcpy(&header, reply_->data(), sizeof header);
  const iovec whole{reply_->data(), std::min<size_t>(length, reply_->size())};
  return device_->Reply(current_, header.unique, &whole, 1);
}

int Channel::AnswerSegments(Span<double> triples, uint32_t count) {
  OutHeader header;
  memcpy(&header, reply_->data(), sizeof header);
  header.error = 0;
  bool failed = !Arrange(triples, count);
  if (!failed && relay_->Reply(current_, header.unique, segments_)) return 0;
  size_t length = 0;
  bool last_waits = false;
  std::vector<Segment> waiting;
  for (Segment& segment : segments_) {
    if (failed) break;
    length = segment.at + segment.length;
    const Outcome outcome = Fill(segment, data_.data(), segment.fd == memory_);
    const bool last = &segment == &segments_.back();
    failed = outcome == Outcome::kFailed;
    if (outcome == Outcome::kWouldBlock) {
      waiting.push_back(segment);
      last_waits = last;
    } else if (last && segment.fd >= 0) {
      length = segment.at + segment.done;
    }
  }
  if (!failed && !waiting.empty()) {
    if (Begin(header.unique, waiting, length, last_waits)) return 0;
    for (Segment& segment : waiting) {
      failed = failed || Fill(segment, data_.data(), true) == Outcome::kFailed;
    }
    if (last_waits) length = waiting.back().at + waiting.back().done;
  }
  if (failed) header.error = -EIO;
  header.length = static_cast<uint32_t>(sizeof header + (failed ? 0 : length));
  return device_->Reply(current_, header, data_.data());
}

// Puts the segments of a reply one after another. @returns whether there are so many, and room for all of them.
bool Channel::Arrange(Span<double> triples, uint32_t count) {
  segments_.clear();
  if (triples.length / 3 < count) return false;
  size_t at = 0;
  for (uint32_t index = 0; index < count; index++) {
    const double* triple = triples.data + 3 * index;
    const auto length = static_cast<size_t>(triple[2]);
    if (length > data_bytes_ - at) return false;
    segments_.push_back({static_cast<int>(triple[0]), static_cast<int64_t>(triple[1]), length, at});
    at += length;
  }
  return true;
}

// Keeps a reply whose reads would block: the first try has made the kernel begin with them, and a fast disk needs less time
// than it takes to have another thread wait for it. @returns false when the pool has no room.
bool Channel::Begin(uint64_t unique, std::vector<Segment>& waiting, size_t length, bool last_waits) {
  std::optional<Pages> buffer;
  if (!closed()) buffer = pool_->TakeBuffer();
  if (!buffer) {
    statistics_->Add(Statistics::kCrowded);
    return false;
  }
  statistics_->Add(Statistics::kWaited);
  for (const Segment& segment : waiting) Loans::Lend(segment.fd);
  Job job;
  job.segments = std::move(waiting);
  job.request = current_;
  job.request.unique = unique;
  job.length = length;
  job.last_waits = last_waits;
  job.data = std::exchange(data_, std::move(*buffer));
  pool_->Admit(job);
  begun_.push_back(std::move(job));
  return true;
}

}  // namespace

Napi::Function DefineChannel(Napi::Env env) { return Channel::Define(env); }

// struct fuse_backing_map and its ioctls, since 7.40 of linux/fuse.h.
struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
static_assert(sizeof(BackingMap) == 16);

Napi::Value BackingOpen(const Info& info) {
  const BackingMap map{Int(info, 1), 0, 0};
  return Called(info, ioctl(Int(info, 0), _IOW(229, 1, BackingMap), &map));
}

Napi::Value BackingClose(const Info& info) {
  const uint32_t id = Uint(info, 1);
  return Called(info, ioctl(Int(info, 0), _IOW(229, 2, uint32_t), &id));
}
