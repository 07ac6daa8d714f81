// Memory files, events, clocks and the limits of the process.
#include "native.h"

#include <ctime>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

// Newer than the headers of old distributions.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

Napi::Value Memfd(const Info& info) {
  const ByteString name(info, 0);
  int fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  // Before 6.3 there is no such flag.
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  return Called(info, fd);
}

Napi::Value Eventfd(const Info& info) { return Called(info, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

Napi::Value Wake(const Info& info) {
  const uint64_t one = 1;
  const ssize_t written = write(Int(info, 0), &one, sizeof one);
  // EAGAIN: the counter is full, so a wake-up is pending anyway.
  if (written < 0 && errno != EAGAIN) return Called(info, written);
  return Result(info.Env(), 0);
}

void Now(const Info& info) {
  const Span<double> out(info, 0);
  timespec time{};
  clock_gettime(info[1].ToBoolean() ? CLOCK_REALTIME_COARSE : CLOCK_REALTIME, &time);
  if (out.length < 2) return;
  out.data[0] = static_cast<double>(time.tv_sec);
  out.data[1] = static_cast<double>(time.tv_nsec);
}

Napi::Value PrctlIoFlusher(const Info& info) {
  return Called(info, prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
}

Napi::Value Exit(const Info& info) { _exit(Int(info, 0)); }

Napi::Value Mlockall(const Info& info) {
  return Called(info, mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
}

Napi::Value RaiseNofile(const Info& info) {
  rlimit limit{};
  int status = getrlimit(RLIMIT_NOFILE, &limit);
  if (status == 0) {
    limit.rlim_cur = limit.rlim_max;
    status = setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (status < 0) return Called(info, status);
  return Result(info.Env(), static_cast<int64_t>(limit.rlim_cur));
}
