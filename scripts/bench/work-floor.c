// The machine itself: what it takes, below which no filesystem in a process of its own can go; its memory.
#define _GNU_SOURCE
#include "work.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
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

// A virtual machine that gives free memory back to its host gets it again at some milliseconds a mebibyte, for which whoever
// comes first would pay. No more than is free, so that nothing has to go for it.
int ready(char **args) {
  struct sysinfo machine;
  if (sysinfo(&machine) != 0) die("sysinfo");
  const uint64_t most = (uint64_t)machine.freeram * machine.mem_unit / 4 * 3;
  const uint64_t wanted = number(args[0]);
  const size_t length = (size_t)(wanted < most ? wanted : most) / PAGE * PAGE;
  const uint64_t start = now_ns();
  void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  munmap(memory, length);
  return report(now_ns() - start, 0);
}
