// A hand for the tests: carries out one system call for each line it reads, and answers with one line.
//
// The tests are TypeScript, but what they must try is the kernel's interface, which Node shows only in part. A line is
// a command and its arguments, separated by blanks, with %XX for any other byte ('' is the empty string). The answer is
// "ok" and what there is to tell, or the name of the errno. Descriptors and mappings live in numbered slots, so a
// script says the same thing on every file system. Answers are written when no further line is waiting: a script can
// be sent as a whole, or a line at a time.
#define _GNU_SOURCE
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 4096

static int slots[SLOTS];
static char *answer;
static size_t answer_length, answer_room;

#define NAMED(x) {#x, x}
static const struct {
  const char *name;
  long long value;
} NAMES[] = {
    NAMED(O_RDONLY), NAMED(O_WRONLY), NAMED(O_RDWR), NAMED(O_CREAT), NAMED(O_EXCL), NAMED(O_TRUNC),
    NAMED(O_APPEND), NAMED(O_DIRECT), NAMED(O_DIRECTORY), NAMED(O_NOFOLLOW), NAMED(O_NOATIME),
    NAMED(O_PATH), NAMED(O_TMPFILE), NAMED(O_SYNC), NAMED(O_NONBLOCK),
    NAMED(S_IFREG), NAMED(S_IFDIR), NAMED(S_IFLNK), NAMED(S_IFCHR), NAMED(S_IFBLK), NAMED(S_IFIFO), NAMED(S_IFSOCK),
    NAMED(SEEK_SET), NAMED(SEEK_CUR), NAMED(SEEK_END), NAMED(SEEK_DATA), NAMED(SEEK_HOLE),
    NAMED(RENAME_NOREPLACE), NAMED(RENAME_EXCHANGE), NAMED(RENAME_WHITEOUT),
    NAMED(FALLOC_FL_KEEP_SIZE), NAMED(FALLOC_FL_PUNCH_HOLE), NAMED(FALLOC_FL_ZERO_RANGE),
    NAMED(FALLOC_FL_COLLAPSE_RANGE), NAMED(FALLOC_FL_INSERT_RANGE),
    NAMED(PROT_READ), NAMED(PROT_WRITE), NAMED(PROT_EXEC), NAMED(MAP_SHARED), NAMED(MAP_PRIVATE),
    NAMED(MS_SYNC), NAMED(MS_ASYNC), NAMED(MS_INVALIDATE),
    NAMED(XATTR_CREATE), NAMED(XATTR_REPLACE),
    NAMED(LOCK_SH), NAMED(LOCK_EX), NAMED(LOCK_NB), NAMED(LOCK_UN),
    NAMED(F_RDLCK), NAMED(F_WRLCK), NAMED(F_UNLCK),
    NAMED(F_SETLK), NAMED(F_GETLK), NAMED(F_OFD_SETLK), NAMED(F_OFD_GETLK), NAMED(F_GETFL), NAMED(F_SETFL),
    NAMED(F_ADD_SEALS), NAMED(F_SETLEASE), NAMED(F_GETLEASE),
    NAMED(IN_ACCESS), NAMED(IN_MODIFY), NAMED(IN_ATTRIB), NAMED(IN_CLOSE_WRITE), NAMED(IN_OPEN), NAMED(IN_CREATE),
    NAMED(IN_DELETE), NAMED(IN_DELETE_SELF), NAMED(IN_MOVED_FROM), NAMED(IN_MOVED_TO), NAMED(IN_MOVE_SELF),
    NAMED(FS_IOC_GETFLAGS), NAMED(FS_IOC_SETFLAGS), NAMED(FS_IOC_FSGETXATTR), NAMED(FS_IOC_FSSETXATTR),
    NAMED(FS_IOC_GETVERSION), NAMED(FIFREEZE), NAMED(FITRIM), NAMED(FICLONE),
    NAMED(AT_SYMLINK_FOLLOW), NAMED(AT_EMPTY_PATH), NAMED(AT_EACCESS), NAMED(AT_SYMLINK_NOFOLLOW),
    NAMED(R_OK), NAMED(W_OK), NAMED(X_OK), NAMED(F_OK),
    NAMED(FS_IMMUTABLE_FL), NAMED(FS_APPEND_FL),
};

long long number(const char *argument) {
  long long value = 0;
  char text[256];
  snprintf(text, sizeof text, "%s", argument);
  char *rest = NULL;
  for (char *word = strtok_r(text, "|", &rest); word; word = strtok_r(NULL, "|", &rest)) {
    char *end;
    const long long digits = strtoll(word, &end, 0);
    if (*end == 0) {
      value |= digits;
      continue;
    }
    size_t i = 0;
    while (i < sizeof NAMES / sizeof *NAMES && strcmp(NAMES[i].name, word) != 0) i++;
    if (i == sizeof NAMES / sizeof *NAMES) {
      fprintf(stderr, "sys: no such constant: %s\n", word);
      exit(2);
    }
    value |= NAMES[i].value;
  }
  return value;
}

static long slot_index(const char *argument) {
  const long index = strtol(argument, NULL, 10);
  if (index < 0 || index >= SLOTS) {
    fprintf(stderr, "sys: no such slot: %s\n", argument);
    exit(2);
  }
  return index;
}

int slot(const char *argument) { return slots[slot_index(argument)]; }

int empty(const char *argument) {
  const int fd = slot(argument);
  slots[slot_index(argument)] = -1;
  return fd;
}

long keep(const char *argument, int fd) {
  if (fd < 0) return -1;
  const long index = slot_index(argument);
  if (slots[index] >= 0) close(slots[index]);
  slots[index] = fd;
  return 0;
}

struct place place(char *argument) {
  struct place at = {AT_FDCWD, argument, 0};
  if (argument[0] != '@') return at;
  char *end;
  const long index = strtol(argument + 1, &end, 10);
  if (index < 0 || index >= SLOTS) return at;
  at.dirfd = slots[index];
  at.path = *end == '/' ? end + 1 : "";
  if (*end != '/') at.flags = AT_EMPTY_PATH;
  return at;
}

struct bytes data(char *argument) {
  static unsigned char *buffer;
  free(buffer);
  buffer = NULL;
  struct bytes result = {(unsigned char *)argument + 1, strlen(argument) - (*argument != 0)};
  if (argument[0] == '=') return result;
  if (argument[0] == ':') {
    buffer = malloc(result.length / 2 + 1);
    result.length /= 2;
    for (size_t i = 0; i < result.length; i++) sscanf(argument + 1 + 2 * i, "%2hhx", &buffer[i]);
    result.data = buffer;
    return result;
  }
  char *end;
  unsigned long seed = strtoul(argument + 1, &end, 10);
  result.length = *end == ':' ? strtoul(end + 1, NULL, 10) : 0;
  buffer = malloc(result.length + 8);
  if (argument[0] == '*') {
    memset(buffer, (int)seed, result.length);
  } else {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < result.length; i += 8) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      memcpy(buffer + i, &state, 8);
    }
  }
  result.data = buffer;
  return result;
}

static void room(size_t more) {
  if (answer_length + more <= answer_room) return;
  answer_room = 2 * (answer_length + more) + 65536;
  answer = realloc(answer, answer_room);
  if (!answer) abort();
}

void say(const char *format, ...) {
  va_list list;
  va_start(list, format);
  room(4096);
  answer_length += (size_t)vsnprintf(answer + answer_length, 4096, format, list);
  va_end(list);
}

void say_escaped(const void *text, size_t length) {
  static const char HEX[] = "0123456789abcdef";
  const unsigned char *from = text;
  room(3 * length + 3);
  for (size_t i = 0; i < length; i++) {
    if (from[i] > ' ' && from[i] < 127 && from[i] != '%') {
      answer[answer_length++] = (char)from[i];
    } else {
      answer[answer_length++] = '%';
      answer[answer_length++] = HEX[from[i] >> 4];
      answer[answer_length++] = HEX[from[i] & 15];
    }
  }
}

void say_bytes(const void *bytes, size_t length) {
  if (length <= 96) {
    say("=");
    say_escaped(bytes, length);
    return;
  }
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
  say("#%zu:%016llx", length, (unsigned long long)hash);
}

// Turns %XX into bytes, in place; '' becomes the empty string.
static void unescape(char *word) {
  if (strcmp(word, "''") == 0) {
    *word = 0;
    return;
  }
  char *to = word;
  for (char *from = word; *from; from++) {
    unsigned byte;
    if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1) {
      *to++ = (char)byte;
      from += 2;
    } else {
      *to++ = *from;
    }
  }
  *to = 0;
}

static const struct command *find(const char *name) {
  const struct command *const tables[] = {FILE_COMMANDS, WATCH_COMMANDS, TREE_COMMANDS};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
    for (const struct command *c = tables[i]; c->name; c++)
      if (strcmp(c->name, name) == 0) return c;
  return NULL;
}

static void run(char *line) {
  char *argv[256];
  int argc = 0;
  char *rest = NULL;
  for (char *word = strtok_r(line, " ", &rest); word && argc < 255; word = strtok_r(NULL, " ", &rest)) argv[argc++] = word;
  argv[argc] = NULL;
  if (argc == 0 || argv[0][0] == ';') {
    say("-\n");
    return;
  }
  for (int i = 0; i < argc; i++) unescape(argv[i]);
  const struct command *command = find(argv[0]);
  if (!command || argc - 1 < command->arguments) {
    say("? %s\n", argv[0]);
    return;
  }
  const size_t start = answer_length;
  say("ok");
  errno = 0;
  if (command->run(argc - 1, argv + 1) < 0) {
    const int error = errno;
    answer_length = start;
    const char *name = strerrorname_np(error);
    say("%s", name ? name : "E?");
  }
  say("\n");
}

static void flush(void) {
  for (size_t done = 0; done < answer_length;) {
    const ssize_t written = write(1, answer + done, answer_length - done);
    if (written < 0 && errno != EINTR) exit(1);
    if (written > 0) done += (size_t)written;
  }
  answer_length = 0;
}

int main(void) {
  for (int i = 0; i < SLOTS; i++) slots[i] = -1;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  umask(0);

  size_t capacity = 1 << 20, filled = 0;
  char *input = malloc(capacity);
  for (;;) {
    if (filled == capacity) input = realloc(input, capacity *= 2);
    const ssize_t got = read(0, input + filled, capacity - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += (size_t)got;
    char *line = input;
    for (char *end; (end = memchr(line, '\n', filled - (size_t)(line - input))); line = end + 1) {
      *end = 0;
      run(line);
      if (answer_length > (1 << 20)) flush();
    }
    filled -= (size_t)(line - input);
    memmove(input, line, filled);
    flush();
  }
  return 0;
}
