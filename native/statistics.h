// Counters of a channel, in memory that JavaScript reads as a BigUint64Array. The layout is STATISTICS
// in src/native-channel.ts.
#ifndef OSTREE_TS_STATISTICS_H
#define OSTREE_TS_STATISTICS_H

#include "pages.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <ctime>
#include <memory>

class Statistics {
 public:
  enum Counter : size_t { kPooled, kCrowded, kRefused, kNotified, kUnnotified, kRelayed, kWaited };

  static constexpr size_t kCounters = 8;
  static constexpr size_t kOpcodes = 64;
  static constexpr size_t kBuckets = 40;
  static constexpr size_t kRow = 2 + kBuckets;
  static constexpr size_t kBytes = (kCounters + kOpcodes * kRow) * sizeof(uint64_t);

  explicit Statistics(std::shared_ptr<Pages> memory)
      : memory_(std::move(memory)), values_(reinterpret_cast<uint64_t*>(memory_->data())) {}

  // Nanoseconds of a clock that never goes back.
  static uint64_t Now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
  }

  void Add(Counter counter) { Increase(counter, 1); }

  // A request came in. Opcodes that we do not know (there are none yet) share row 0.
  void Received(uint32_t opcode) { Increase(Row(opcode), 1); }

  // Its reply went out.
  void Answered(uint32_t opcode, uint64_t since) {
    const uint64_t elapsed = Now() - since;
    const size_t bucket = elapsed == 0 ? 0 : static_cast<size_t>(std::bit_width(elapsed)) - 1;
    Increase(Row(opcode) + 1, elapsed);
    Increase(Row(opcode) + 2 + std::min(bucket, kBuckets - 1), 1);
  }

 private:
  static size_t Row(uint32_t opcode) {
    return kCounters + (opcode < kOpcodes ? opcode : 0) * kRow;
  }

  // The threads of the pool count too.
  void Increase(size_t index, uint64_t by) {
    std::atomic_ref(values_[index]).fetch_add(by, std::memory_order_relaxed);
  }

  std::shared_ptr<Pages> memory_;
  uint64_t* values_;
};

#endif
