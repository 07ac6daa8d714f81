// Replies made of pieces of files, read at once where that cannot block, else by a few threads.
#ifndef OSTREE_TS_POOL_H
#define OSTREE_TS_POOL_H

#include "device.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

// A piece of a reply: `length` bytes of `fd` from `offset`, to stand at `at` in the reply's data.
struct Segment {
  int fd;
  int64_t offset;
  size_t length;
  size_t at;
  size_t done = 0;
};

// A reply that waits for reads. The fds of its segments are lent to it.
struct Job {
  Pending request;
  Pages data;
  // Only what could not be read at once.
  std::vector<Segment> segments;
  // Bytes of data, if no file ends early.
  size_t length = 0;
  // The segment that ends the reply is among `segments`, so EOF in it makes the reply shorter.
  bool last_waits = false;
  uint64_t ticket = 0;
};

enum class Outcome { kDone, kWouldBlock, kFailed };

// Reads on until the segment is full or the file ends; the rest is cleared.
Outcome Fill(Segment& segment, uint8_t* data, bool wait);

class Pool {
 public:
  Pool(Device& device, size_t threads, size_t buffer_bytes);
  // Finishes what is queued.
  ~Pool();

  // A buffer for the caller, who gives one away with a job; none when all are in flight.
  std::optional<Pages> TakeBuffer();
  void GiveBack(Pages buffer);

  // Has a job counted as in flight: it has to be finished at once or given to Submit, soon.
  void Admit(Job& job);
  // Replies, if all of it can be read without waiting. @returns false when it cannot.
  bool TryFinish(Job& job);
  void Submit(Job job);

  // The number of the last job that was admitted.
  uint64_t LastTicket();
  // Waits until no job up to `ticket` is in flight.
  void WaitFor(uint64_t ticket);

 private:
  void Run();
  bool Reply(Job& job, bool wait);
  // With the lock held.
  void Retire(Job& job);

  Device& device_;
  const size_t buffer_bytes_;
  const size_t buffers_;
  size_t made_ = 0;
  uint64_t tickets_ = 0;
  bool stopping_ = false;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable finished_;
  // At most one job for each buffer.
  std::deque<Job> queue_;
  std::vector<uint64_t> in_flight_;
  std::vector<Pages> free_;
  std::vector<std::thread> threads_;
};

// Notifications to the kernel, which can wait for locks that only our replies release: so from a thread
// of their own.
class Notifier {
 public:
  // `wake`: an eventfd.
  Notifier(Device& device, Pool& pool, int wake);
  // Writes what is queued.
  ~Notifier();

  // With `wakes` the eventfd is written to when it is done. @returns 0, or -EAGAIN when too many wait.
  int Push(std::vector<uint8_t> message, bool wakes);

 private:
  struct Message {
    std::vector<uint8_t> bytes;
    uint64_t after;
    bool wakes;
  };

  void Run();

  Device& device_;
  Pool& pool_;
  int wake_;
  bool stopping_ = false;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Message> queue_;
  std::thread thread_;
};

#endif
