// A pipe for what goes from one file to another without entering this process.
#ifndef OSTREE_TS_PIPE_H
#define OSTREE_TS_PIPE_H

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <unistd.h>

class Pipe {
 public:
  Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() { Close(); }

  // Has room for so many bytes, in pages that need not be whole. @returns whether there is such a pipe: the kernel gives ordinary
  // users none of more than /proc/sys/fs/pipe-max-size. Tried once.
  bool Open(size_t bytes) {
    if (tried_) return out_ >= 0;
    tried_ = true;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    out_ = ends[0];
    in_ = ends[1];
    if (fcntl(in_, F_SETPIPE_SZ, static_cast<int>(bytes)) < 0) Close();
    return out_ >= 0;
  }

  int in() const { return in_; }
  int out() const { return out_; }

 private:
  void Close() {
    if (out_ < 0) return;
    close(out_);
    close(in_);
    out_ = in_ = -1;
  }

  bool tried_ = false;
  int out_ = -1;
  int in_ = -1;
};

#endif
