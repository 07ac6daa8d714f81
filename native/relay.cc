#include "relay.h"

#include <sys/syscall.h>

namespace {

// Shorter replies are copied twice in less time than it takes to hand on their pages.
constexpr size_t kLong = 128 * 1024;
// The most that an ordinary user's pipe holds.
constexpr size_t kPipeBytes = 1024 * 1024;
constexpr size_t kPage = 4096;
constexpr size_t kPagesMax = kPipeBytes / kPage;

// cachestat(2), since Linux 6.5.
#ifndef SYS_cachestat
constexpr long SYS_cachestat = 451;
#endif
struct CacheRange {
  uint64_t offset;
  uint64_t length;
};
struct CacheStat {
  uint64_t cached;
  uint64_t dirty;
  uint64_t writeback;
  uint64_t evicted;
  uint64_t recently_evicted;
};

// Where the file system does not know how to try, as with memory files, every read of ours is one that may wait.
bool CanReadByte(int fd, int64_t offset) {
  uint8_t byte;
  const iovec into{&byte, 1};
  const ssize_t count = preadv2(fd, &into, 1, offset, RWF_NOWAIT);
  return count == 1 || (count < 0 && errno == EOPNOTSUPP);
}

}  // namespace

bool Relay::Reply(const Pending& request, uint64_t unique, const std::vector<Segment>& segments) {
  size_t length = 0;
  size_t pages = 1;
  for (const Segment& segment : segments) {
    if (segment.fd < 0) return false;
    length += segment.length;
    pages += segment.length / kPage + 2;
  }
  if (length < kLong || pages > kPagesMax || !pipe_.Open(kPipeBytes)) return false;
  for (const Segment& segment : segments) {
    if (segment.fd != memory_ && !IsAtHand(segment)) return false;
  }
  const OutHeader header{static_cast<uint32_t>(sizeof(OutHeader) + length), 0, unique};
  if (!FillPipe(segments, header)) {
    Empty();
    return false;
  }
  device_.statistics().Add(Statistics::kRelayed);
  if (device_.ReplyFrom(request, header, pipe_.out()) != 0) Empty();
  return true;
}

// All its pages are in memory, and the last, of those that are being read the last to come, has been read.
bool Relay::IsAtHand(const Segment& segment) {
  if (segment.length == 0) return true;
  if (unknown_) return false;
  const auto first = static_cast<uint64_t>(segment.offset) / kPage;
  const auto last = (static_cast<uint64_t>(segment.offset) + segment.length - 1) / kPage;
  CacheRange range{first * kPage, (last - first + 1) * kPage};
  CacheStat found{};
  if (syscall(SYS_cachestat, segment.fd, &range, &found, 0) < 0) {
    unknown_ = true;
    return false;
  }
  return found.cached == last - first + 1 &&
         CanReadByte(segment.fd, segment.offset + static_cast<int64_t>(segment.length) - 1);
}

// @returns false when a file is shorter than was thought, or cannot be read like this.
bool Relay::FillPipe(const std::vector<Segment>& segments, const OutHeader& header) {
  if (write(pipe_.in(), &header, sizeof header) != sizeof header) return false;
  for (const Segment& segment : segments) {
    size_t done = 0;
    while (done < segment.length) {
      loff_t from = segment.offset + static_cast<int64_t>(done);
      const ssize_t count =
          splice(segment.fd, &from, pipe_.in(), nullptr, segment.length - done, SPLICE_F_NONBLOCK);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      done += static_cast<size_t>(count);
    }
  }
  return true;
}

void Relay::Empty() {
  uint8_t page[kPage];
  while (read(pipe_.out(), page, sizeof page) > 0) continue;
}
