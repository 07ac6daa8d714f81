// Waiting awake for a moment before going to sleep.
#ifndef OSTREE_TS_LINGER_H
#define OSTREE_TS_LINGER_H

#include "statistics.h"

#include <algorithm>
#include <sched.h>

// It pays while a program is at work: its next request comes before this thread would be asleep, and waking a processor that
// has gone idle takes longer than serving a request (on virtual machines, many times longer). When nothing came, so many of
// the next waits are spent asleep. Where several threads ask in turn, programs take longer with it than without
// (npm ci in bench/profile-2026-11-29.txt), for want of an idle processor as it seems.
class Linger {
 public:
  // Before each wait.
  void Begin() { since_ = 0; }

  // Whether to look once more before going to sleep. With reads under way, they are what is looked for.
  bool Again(bool reads) {
    if (alone_ < kAlone && !reads) return false;
    const uint64_t now = Statistics::Now();
    if (since_ == 0) {
      if (sleeps_to_come_ > 0) return sleeps_to_come_--, false;
      since_ = now;
    } else if (now - since_ >= kNs) {
      sleeps_ = std::min(2 * sleeps_ + 1, kSleepsMax);
      sleeps_to_come_ = sleeps_;
      since_ = 0;
      return false;
    }
    sched_yield();
    return true;
  }

  // What was waited for has come.
  void Met() {
    if (since_ != 0) sleeps_to_come_ = sleeps_ = 0;
    since_ = 0;
  }

  // The same, and it is a request of this thread; 0: the kernel's own, or of one that cannot be seen from here.
  void Met(uint32_t thread) {
    Met();
    if (thread == 0) return;
    alone_ = thread == thread_ ? std::min(alone_ + 1, kAloneMax) : alone_ - std::min(alone_, kOther);
    thread_ = thread;
  }

  // What has come after so long asleep would have been met: worth waiting for again.
  void Slept(uint64_t ns) {
    if (ns < kNs) sleeps_to_come_ = sleeps_ = 0;
  }

 private:
  static constexpr uint64_t kNs = 100'000;
  static constexpr unsigned kSleepsMax = 255;
  // Requests of the same thread one after another, at most; those that one of another thread counts as much as; enough.
  static constexpr unsigned kAloneMax = 16;
  static constexpr unsigned kOther = 4;
  static constexpr unsigned kAlone = 6;

  // When it began; 0 before.
  uint64_t since_ = 0;
  // Waits that go to sleep at once: after the last lingering in vain, and those of them still to come.
  unsigned sleeps_ = 0;
  unsigned sleeps_to_come_ = 0;
  // Whose request came last, and how long there has been no other.
  uint32_t thread_ = 0;
  unsigned alone_ = kAloneMax;
};

#endif
