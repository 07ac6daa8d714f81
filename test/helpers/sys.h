// What the files of the test hand share. See sys.c.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

// One command: arguments without the command's name. Returns >= 0, or -1 with errno set.
typedef long (*handler)(int argc, char **argv);

struct command {
  const char *name;
  int arguments; // at least so many
  handler run;
};

extern const struct command FILE_COMMANDS[];
extern const struct command WATCH_COMMANDS[];
extern const struct command TREE_COMMANDS[];

// A path argument: "a/b", "@3" (the file open in slot 3) or "@3/a" (relative to it).
struct place {
  int dirfd;
  const char *path; // "" for "@3"
  int flags;        // AT_EMPTY_PATH for "@3"
};
struct place place(char *argument);

// The descriptor in a slot; -1, which makes any call fail with EBADF, when it is empty.
int slot(const char *argument);
// Takes the descriptor out of a slot.
int empty(const char *argument);
// Puts a descriptor (>= 0) into a slot, closing what was there; passes -1 through.
long keep(const char *argument, int fd);

// A number (decimal, 0 octal, 0x) or names joined by '|'.
long long number(const char *argument);

// Bytes of a data argument, freed by the next call: "=text" with %XX (no NUL), ":hex", "#seed:length" noise,
// "*byte:length" repeated.
struct bytes {
  const unsigned char *data;
  size_t length;
};
struct bytes data(char *argument);

// Appends to the answer.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Appends a string with %XX for what is not printable.
void say_escaped(const void *text, size_t length);
// Appends bytes: "=..." when short, else "#length:hash".
void say_bytes(const void *bytes, size_t length);

// SHA-256 of a file's `size` bytes in hex (65 with NUL); -1 with errno.
int sha256_file(int fd, char *hex);
