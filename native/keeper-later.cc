// A keeper that is started with --later: its daemon begins at once, as its start takes longest, and both learn for which
// session when the launcher knows.
//
// From the launcher: two numbers of 32 bits, how many descriptors and how many bytes of arguments; each descriptor with a
// byte; the arguments, each with its NUL. The descriptors are the log, then those from kFolder on, in their order. To
// the daemon, over its seqpacket socket: its argument; then, each with a byte, the log, the session's folder, and the
// lowers, the upper's folder and its work directory, those that there are.
#include "keeper.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr uint32_t kDescriptorsMax = 250;
constexpr uint32_t kBytesMax = 60'000;
constexpr int kArgumentsMax = 600;

bool ReadAll(void* into, size_t length) {
  for (char* at = static_cast<char*>(into); length > 0;) {
    const ssize_t more = read(kLauncher, at, length);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) return false;
    at += more;
    length -= static_cast<size_t>(more);
  }
  return true;
}

// Out of the way of the places to be filled.
void MoveAway(int* fd) {
  const int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FirstSpare());
  close(*fd);
  *fd = moved;
}

// Words are those of `text`, which stays.
bool ParseWords(char* text, size_t length) {
  static char* arguments[kArgumentsMax + 1];
  static char program[] = "keeper";
  int count = 0;
  arguments[count++] = program;
  for (char* at = text; at < text + length && count < kArgumentsMax; at += strlen(at) + 1) {
    arguments[count++] = at;
  }
  arguments[count] = nullptr;
  return count < kArgumentsMax && Parse(count, arguments);
}

bool Receive() {
  static char text[kBytesMax + 1];
  static int given[kDescriptorsMax];
  uint32_t header[2];
  if (!ReadAll(header, sizeof header)) return false;
  const auto [count, length] = header;
  if (count < 1 || count > kDescriptorsMax || length > kBytesMax) return false;
  for (uint32_t at = 0; at < count; at++) {
    given[at] = ReceiveDescriptor(kLauncher);
    if (given[at] < 0) return false;
  }
  if (!ReadAll(text, length) || !ParseWords(text, length)) return false;
  const int places = FirstSpare() - kFolder;
  if (static_cast<int>(count) != 1 + places) return false;
  int* const own[] = {&keeper.stream, &keeper.packets, &keeper.arena, &keeper.signals};
  for (int* each : own) MoveAway(each);
  for (uint32_t at = 0; at < count; at++) MoveAway(&given[at]);
  dup2(given[0], 1);
  dup2(given[0], 2);
  for (int place = 0; place < places; place++) dup3(given[1 + place], kFolder + place, O_CLOEXEC);
  for (uint32_t at = 0; at < count; at++) close(given[at]);
  return true;
}

}  // namespace

// Waits for the launcher, which may also end without a session.
void AwaitSession() {
  if (Receive()) return;
  kill(keeper.daemon, SIGKILL);
  while (waitpid(keeper.daemon, nullptr, 0) < 0 && errno == EINTR) continue;
  _exit(0);
}

bool HandOver() {
  HardenLowers();
  const char* words = keeper.options.daemon[2];
  bool sent = send(keeper.packets, words, strlen(words), MSG_NOSIGNAL) >= 0 &&
              SendDescriptor(keeper.packets, 2) && SendDescriptor(keeper.packets, kFolder);
  for (int given = kFirstLower; sent && given < FirstSpare(); given++) {
    sent = SendDescriptor(keeper.packets, given);
  }
  CloseLowers();
  // Its end is told by SIGCHLD.
  if (!sent && errno != EPIPE && errno != ECONNRESET) {
    return Fail("cannot tell the daemon for what it is: %s", strerror(errno)), false;
  }
  return true;
}
