// Descriptors that reads under way still need, though JavaScript may have no more use for them.
#ifndef OSTREE_TS_LOANS_H
#define OSTREE_TS_LOANS_H

#include <algorithm>
#include <mutex>
#include <unistd.h>
#include <vector>

// To share one, with what closes it knowing of that, takes no system call, as two descriptors of one file would.
class Loans {
 public:
  static void Lend(int fd) {
    const std::lock_guard lock(mutex_);
    const auto loan = Find(fd);
    if (loan == loans_.end()) {
      loans_.push_back({fd, 1, false});
    } else {
      loan->readers++;
    }
  }

  // Closes it, when that was asked for meanwhile.
  static void Return(int fd) {
    const std::lock_guard lock(mutex_);
    const auto loan = Find(fd);
    if (--loan->readers > 0) return;
    if (loan->closing) close(fd);
    loans_.erase(loan);
  }

  // For close(2), of what may be lent.
  static int Close(int fd) {
    const std::lock_guard lock(mutex_);
    const auto loan = Find(fd);
    if (loan == loans_.end()) return close(fd);
    loan->closing = true;
    return 0;
  }

 private:
  struct Loan {
    int fd;
    unsigned readers;
    bool closing;
  };

  static std::vector<Loan>::iterator Find(int fd) {
    return std::ranges::find(loans_, fd, &Loan::fd);
  }

  static inline std::mutex mutex_;
  // As many as there are reads under way, a few.
  static inline std::vector<Loan> loans_;
};

#endif
