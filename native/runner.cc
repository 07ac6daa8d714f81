// The runner: runs one command where a private session is mounted, and ends everything that it started.
//
//   runner PARENT users|mounts
//
// On descriptor 4, each word ended by NUL, so that any bytes may be in it: KEEPER [OPERATION...] -- COMMAND [ARGUMENT...].
// It may be started before they are known, and ends without a word when none comes.
//
// Three processes: the runner itself, a child of PARENT, enters the namespaces of KEEPER and makes a process namespace;
// its child is the first process of that, arranges the mounts that OPERATIONs ask for in a mount namespace of its own, and
// waits; the child of that is COMMAND. Each is killed when its parent ends, and with the first process the kernel ends all
// others of the namespace.
//
// When all three standard streams are a terminal, the first process and COMMAND are a process group of their own, which
// gets the terminal: a shell wants a number of its group that it can see. Otherwise they stay in the caller's, since
// there may be others of a pipeline in it, who want the terminal, too.
//
// Operations: runner-operations.cc.
//
// On descriptor 3, lines: "failed WHAT: WHY", "exec ERRNO WHY" (COMMAND cannot be run), "started", "stopped", "continued".
// Exits as COMMAND did: its code, or 128 and the signal.
#include "runner.h"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void Say(const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  const int wanted = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  size_t used = wanted < 0 ? 0 : static_cast<size_t>(wanted);
  if (used > sizeof line - 2) used = sizeof line - 2;
  line[used++] = '\n';
  [[maybe_unused]] const ssize_t written = write(kWords, line, used);
}

void Fail(const char* what, const char* name) {
  Say("failed cannot %s%s: %s", what, name, strerror(errno));
  _exit(kFailed);
}

namespace {

constexpr int kInput = 4;
// More than the kernel takes for a program.
constexpr size_t kInputMax = 8 << 20;
// What is passed on, unless it comes from the terminal: then COMMAND has had it, too.
constexpr int kPassed[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM};

// The first process leads a process group of its own.
bool own_group = false;

// Killed when its parent ends; which may have happened before this could be asked for.
void EndWith(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kFailed);
}

// The same for a parent outside of the process namespace, which has no number there; `pidfd` is readable when it has ended.
void EndWithOutsider(int pidfd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  pollfd ended{pidfd, POLLIN, 0};
  if (poll(&ended, 1, 0) != 0) _exit(kFailed);
  close(pidfd);
}

void Unblock() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// What a shell would say of a process that has ended.
int CodeOf(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Gives the terminal to a process group, from wherever we are.
void GiveTerminal(pid_t group) {
  signal(SIGTTOU, SIG_IGN);
  tcsetpgrp(0, group);
  signal(SIGTTOU, SIG_DFL);
}

// The job that we are goes on: with the terminal, if it is in the foreground now.
void Continue(pid_t first) {
  if (!own_group) return;
  if (tcgetpgrp(0) == getpgrp()) GiveTerminal(first);
  kill(-first, SIGCONT);
}

// Waits for `child`, passing signals on to it. With `is_first`, everything else that ends is waited for, too, and
// whether the child stands still is told. Returns its wait status.
int Watch(pid_t child, const sigset_t& heeded, bool is_first) {
  for (;;) {
    int status = 0;
    for (;;) {
      const pid_t pid = waitpid(-1, &status, WNOHANG | (is_first ? WUNTRACED | WCONTINUED : 0));
      if (pid <= 0) break;
      if (pid != child) continue;
      if (WIFSTOPPED(status)) {
        Say("stopped");
      } else if (WIFCONTINUED(status)) {
        Say("continued");
      } else {
        return status;
      }
    }
    siginfo_t signal{};
    if (sigwaitinfo(&heeded, &signal) < 0 || signal.si_signo == SIGCHLD) continue;
    if (signal.si_signo == SIGCONT && !is_first) Continue(child);
    // A signal of the terminal went to the whole process group.
    if (signal.si_code <= 0 || signal.si_signo == SIGCONT) kill(child, signal.si_signo);
  }
}

// The first process of the process namespace.
[[noreturn]] void First(char** command, const sigset_t& heeded, bool has_terminal) {
  if (own_group) {
    setpgid(0, 0);
    if (has_terminal) GiveTerminal(getpgrp());
  }
  Arrange();
  // Closed by a successful exec.
  int pair[2];
  if (pipe2(pair, O_CLOEXEC) < 0) Fail("make a pipe");
  const pid_t child = fork();
  if (child < 0) Fail("fork");
  if (child == 0) {
    Unblock();
    execvp(command[0], command);
    const int why = errno;
    [[maybe_unused]] const ssize_t written = write(pair[1], &why, sizeof why);
    _exit(why == ENOENT ? 127 : 126);
  }
  close(pair[1]);
  int why = 0;
  if (read(pair[0], &why, sizeof why) == sizeof why) {
    Say("exec %d %s", why, strerror(why));
  } else {
    Say("started");
  }
  close(pair[0]);
  _exit(CodeOf(Watch(child, heeded, true)));
}

// In whose namespaces, what is to be done, and the command; nullptr when it makes no sense.
char** Read(const char** keeper) {
  char* text = static_cast<char*>(malloc(kInputMax));
  size_t length = 0, count = 0;
  for (;;) {
    const ssize_t more = text == nullptr ? -1 : read(kInput, text + length, kInputMax - length);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return nullptr;
    if (more == 0) break;
    length += static_cast<size_t>(more);
  }
  close(kInput);
  if (length == 0) _exit(0);
  for (size_t at = 0; at < length; at++) count += text[at] == '\0' ? 1 : 0;
  char** words = static_cast<char**>(calloc(count + 1, sizeof(char*)));
  if (words == nullptr || text[length - 1] != '\0') return nullptr;
  char* next = text;
  for (size_t at = 0; at < count; at++, next += strlen(next) + 1) words[at] = next;
  *keeper = words[0];
  for (size_t at = 1; at < count;) {
    if (strcmp(words[at], "--") == 0) return at + 1 < count ? words + at + 1 : nullptr;
    const size_t size = AddOperation(words + at, count - at);
    if (size == 0) return nullptr;
    at += size;
  }
  return nullptr;
}

void Enter(const char* keeper, const char* kind, int type) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/ns/%s", keeper, kind);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, type) < 0) Fail("enter the session's namespace: ", path);
  close(fd);
}

}  // namespace

int main(int count, char** arguments) {
  const char* keeper = nullptr;
  char** command = count == 3 ? Read(&keeper) : nullptr;
  if (command == nullptr) {
    fputs("runner: started by ostree-ts run, not by hand\n", stderr);
    return kFailed;
  }
  fcntl(kWords, F_SETFD, FD_CLOEXEC);
  syscall(SYS_close_range, kWords + 1, ~0U, 0);
  sigset_t heeded;
  sigemptyset(&heeded);
  sigaddset(&heeded, SIGCHLD);
  sigaddset(&heeded, SIGCONT);
  for (const int number : kPassed) sigaddset(&heeded, number);
  sigprocmask(SIG_BLOCK, &heeded, nullptr);
  const pid_t group = getpgrp();
  const bool has_terminal = tcgetpgrp(0) == group;
  own_group = isatty(0) && isatty(1) && isatty(2);

  if (strcmp(arguments[2], "users") == 0) Enter(keeper, "user", CLONE_NEWUSER);
  Enter(keeper, "mnt", CLONE_NEWNS);
  EndWith(atoi(arguments[1]));
  const int self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  if (self < 0) Fail("watch itself");
  if (unshare(CLONE_NEWPID) < 0) Fail("make a process namespace");
  const pid_t first = fork();
  if (first < 0) Fail("fork");
  if (first == 0) {
    EndWithOutsider(self);
    First(command, heeded, has_terminal);
  }
  close(self);
  const int status = Watch(first, heeded, false);
  // Of a job in the background, somebody else has the terminal now.
  const pid_t foreground = tcgetpgrp(0);
  const bool is_ours = foreground == first || (foreground > 0 && kill(-foreground, 0) < 0);
  if (has_terminal && is_ours) GiveTerminal(group);
  return CodeOf(status);
}
