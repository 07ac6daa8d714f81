// What the machine itself takes, below which no filesystem in a process of its own can go.
#include "work.h"

#include <sys/syscall.h>
#include <sys/wait.h>

// An empty system call, in nanoseconds.
static uint64_t system_call(uint64_t times) {
  const uint64_t start = now_ns();
  for (uint64_t time = 0; time < times; time++) syscall(SYS_getppid);
  return (now_ns() - start) / times;
}

// A byte to another process, and one back: what two processes that wait for each other take.
static uint64_t round_trip(uint64_t times) {
  int there[2];
  int back[2];
  char byte = 0;
  if (pipe(there) != 0 || pipe(back) != 0) die("pipe");
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
    _exit(0);
  }
  const uint64_t start = now_ns();
  for (uint64_t time = 0; time < times; time++) {
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) die("pipe");
  }
  const uint64_t elapsed = (now_ns() - start) / times;
  close(there[1]);
  waitpid(child, NULL, 0);
  return elapsed;
}

int show_floor(char **args) {
  const uint64_t times = number(args[0]);
  printf("%llu %llu\n", (unsigned long long)system_call(10 * times), (unsigned long long)round_trip(times));
  return 0;
}
