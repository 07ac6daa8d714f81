// What the parts of the runner share.
#ifndef OSTREE_TS_RUNNER_H
#define OSTREE_TS_RUNNER_H

#include <cstddef>

constexpr int kWords = 3;
constexpr int kFailed = 125;

// A line for who started the runner.
__attribute__((format(printf, 1, 2))) void Say(const char* format, ...);
// Says what cannot be done, and why (errno), and ends the process.
[[noreturn]] void Fail(const char* what, const char* name = "");

// Takes an operation, with its words, from `words`, of which there are `count`. @returns how many it has, 0 when it makes no
// sense.
size_t AddOperation(char** words, size_t count);
// Does what was added, in a mount namespace of its own.
void Arrange();

#endif
