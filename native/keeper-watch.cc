// Waits for the daemon, the launcher and signals, and for the end of any of them.
#include "keeper.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// The end of a start that failed: nothing is left.
[[noreturn]] void GiveUp() {
  if (const char* why = Detach()) Log("cannot unmount: %s", why);
  if (keeper.daemon_lives) kill(keeper.daemon, SIGKILL);
  if (keeper.prober > 0) kill(keeper.prober, SIGKILL);
  if (keeper.device >= 0) close(keeper.device);
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) continue;
  if (!keeper.options.attach) RemoveFolder();
  TellLauncher("failed ", keeper.why);
  _exit(1);
}

namespace {

// The daemon has ended, with `status` as of wait(2).
[[noreturn]] void DaemonEnded(int status) {
  const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  char ended[96];
  if (WIFSIGNALED(status)) {
    snprintf(ended, sizeof ended, "ended signal %d %ld\n", WTERMSIG(status), time(nullptr));
  } else {
    snprintf(ended, sizeof ended, "ended exit %d %ld\n", WEXITSTATUS(status), time(nullptr));
  }
  if (keeper.phase == Phase::kStarting || keeper.phase == Phase::kProbing) {
    if (WIFSIGNALED(status)) {
      Fail("the daemon was killed by signal %d (%s) as it started", WTERMSIG(status),
           strsignal(WTERMSIG(status)));
    } else {
      Fail("the daemon ended with exit code %d as it started", WEXITSTATUS(status));
    }
    GiveUp();
  }
  const bool was_mounted = IsMounted();
  const bool was_detached = keeper.phase == Phase::kDetached;
  const bool is_over = was_detached || (clean && !was_mounted);
  // First, so that whoever finds the base again is told why.
  if (!is_over) Record(ended);
  const char* why = Detach();
  // Only now, so that whoever waits for an answer finds the base when told that there is none.
  close(keeper.device);
  if (is_over) {
    if (clean && keeper.options.keep) {
      snprintf(ended, sizeof ended, "ended kept 0 %ld\n", time(nullptr));
      Record(ended);
    } else {
      RemoveFolder();
    }
    _exit(0);
  }
  if (WIFSIGNALED(status)) {
    Log("the daemon was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    Log("the daemon ended with exit code %d", WEXITSTATUS(status));
  }
  if (why != nullptr) Log("cannot unmount: %s", why);
  Record(ended);
  _exit(1);
}

void Reap() {
  int status = 0;
  for (;;) {
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    if (pid == keeper.daemon) {
      keeper.daemon_lives = false;
      DaemonEnded(status);
    }
    if (pid != keeper.prober) continue;
    keeper.prober = 0;
    if (keeper.phase != Phase::kProbing) continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      Fail("the mount does not answer: %s",
           WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "no reply");
      GiveUp();
    }
    keeper.phase = Phase::kServing;
    Record("");
    TellLauncher("up", "");
    if (!keeper.options.foreground) close(kLauncher);
  }
}

// Takes the mount away; the daemon goes on until the last user of a file has gone.
void Unmount() {
  if (keeper.phase == Phase::kStarting || keeper.phase == Phase::kProbing) {
    Fail("interrupted");
    GiveUp();
  }
  if (const char* why = Detach()) {
    Log("cannot unmount: %s", why);
    char line[400];
    snprintf(line, sizeof line, "stays %s\n", why);
    Tell(keeper.stream, line);
    return;
  }
  Record("");
  Tell(keeper.stream, "detached\n");
}

void FromDaemon(char* line) {
  if (strcmp(line, "unmount") == 0) return Unmount();
  if (strncmp(line, "failed ", 7) == 0) return Fail("%s", line + 7);
  if (keeper.phase != Phase::kStarting) return;
  const bool ready = strcmp(line, "ready") == 0;
  if (ready && keeper.options.daemon_mounts) return Tell(keeper.stream, "mount\n");
  if (ready || strcmp(line, "mounted") == 0) {
    if (!MountSession()) GiveUp();
  }
}

// Reads what the daemon says. Its end is told by SIGCHLD, not by this.
void Listen() {
  const ssize_t more = recv(keeper.stream, keeper.input + keeper.input_length,
                            sizeof keeper.input - 1 - keeper.input_length, MSG_DONTWAIT);
  if (more < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (more <= 0) {
    close(keeper.stream);
    keeper.stream = -1;
    return;
  }
  keeper.input_length += static_cast<size_t>(more);
  keeper.input[keeper.input_length] = '\0';
  char* line = keeper.input;
  while (char* end = strchr(line, '\n')) {
    *end = '\0';
    FromDaemon(line);
    line = end + 1;
  }
  keeper.input_length = strlen(line);
  memmove(keeper.input, line, keeper.input_length + 1);
  if (keeper.input_length >= sizeof keeper.input - 1) keeper.input_length = 0;
}

void Signalled() {
  signalfd_siginfo information{};
  while (read(keeper.signals, &information, sizeof information) == sizeof information) {
    if (information.ssi_signo == SIGCHLD) {
      Reap();
    } else {
      Log("signal %u", information.ssi_signo);
      Unmount();
    }
  }
}

}  // namespace

[[noreturn]] void Watch() {
  const long ready_by = NowMs() + kReadyMs;
  long answer_by = 0;
  for (;;) {
    long wait_ms = -1;
    if (keeper.phase == Phase::kStarting) wait_ms = ready_by - NowMs();
    if (keeper.phase == Phase::kProbing) {
      if (answer_by == 0) answer_by = NowMs() + kAnswerMs;
      wait_ms = answer_by - NowMs();
    }
    if (keeper.phase <= Phase::kProbing && wait_ms <= 0) {
      Fail(keeper.phase == Phase::kStarting ? "the daemon does not get ready"
                                            : "the mount does not answer");
      GiveUp();
    }
    const bool heed_launcher = keeper.launcher_waits || keeper.options.foreground;
    pollfd events[] = {{keeper.signals, POLLIN, 0},
                       {keeper.stream, POLLIN, 0},
                       {heed_launcher ? kLauncher : -1, POLLIN, 0}};
    if (poll(events, 3, static_cast<int>(wait_ms)) < 0) continue;
    // What the daemon said last comes before its end.
    if (events[1].revents != 0) Listen();
    if (events[0].revents != 0) Signalled();
    if (events[2].revents != 0) {
      keeper.launcher_waits = false;
      keeper.options.foreground = false;
      Unmount();
    }
  }
}
