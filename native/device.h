// Replies to /dev/fuse, from any thread.
#ifndef OSTREE_TS_DEVICE_H
#define OSTREE_TS_DEVICE_H

#include "statistics.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

// struct fuse_out_header.
struct OutHeader {
  uint32_t length;
  int32_t error;
  uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

// The start of struct fuse_in_header. `pid` is a thread; 0 where there is none.
struct InHeader {
  uint32_t length;
  uint32_t opcode;
  uint64_t unique;
  uint64_t node;
  uint32_t uid;
  uint32_t gid;
  uint32_t pid;
};

// What is remembered of a request until it is answered.
struct Pending {
  uint64_t unique = 0;
  uint64_t since = 0;
  uint32_t opcode = 0;
};

class Device {
 public:
  Device(int fd, Statistics& statistics) : fd_(fd), statistics_(statistics) {}

  int fd() const { return fd_; }

  // One message, its OutHeader first. @returns 0 or -errno; 0 too when the request is gone (ENOENT:
  // aborted). A reply that the kernel does not accept becomes EIO, so that nobody waits for ever.
  int Reply(const Pending& request, uint64_t unique, const iovec* parts, int count) {
    return Sent(request, unique, Write(parts, count));
  }

  // As above, for a body of its own.
  int Reply(const Pending& request, OutHeader header, uint8_t* body) {
    const iovec parts[2] = {{&header, sizeof header}, {body, header.length - sizeof header}};
    return Reply(request, header.unique, parts, parts[1].iov_len == 0 ? 1 : 2);
  }

  // As above, of a message that is in a pipe, where the kernel leaves what it does not accept.
  int ReplyFrom(const Pending& request, const OutHeader& header, int pipe) {
    ssize_t written = 0;
    do {
      written = splice(pipe, nullptr, fd_, nullptr, header.length, 0);
    } while (written < 0 && errno == EINTR);
    return Sent(request, header.unique, written < 0 ? -errno : 0);
  }

  // @returns 0 or -errno.
  int Write(const iovec* parts, int count) {
    ssize_t written = 0;
    do {
      written = writev(fd_, parts, count);
    } while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : 0;
  }

  void Fail(uint64_t unique) {
    OutHeader header{sizeof(OutHeader), -EIO, unique};
    const iovec part{&header, sizeof header};
    Write(&part, 1);
  }

  Statistics& statistics() { return statistics_; }

 private:
  int Sent(const Pending& request, uint64_t unique, int status) {
    if (unique == request.unique) statistics_.Answered(request.opcode, request.since);
    if (status == 0 || status == -ENOENT) return 0;
    if (status == -ENODEV) return status;
    statistics_.Add(Statistics::kRefused);
    Fail(unique);
    return status;
  }

  int fd_;
  Statistics& statistics_;
};

#endif
