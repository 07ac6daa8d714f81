// The program that does the benchmark's work: `work NAME ARGUMENTS` prints "NANOSECONDS SUM".
#include "work.h"

static const struct {
  const char *name;
  int args;
  int (*run)(char **args);
  const char *usage;
} kWork[] = {
    {"walk", 1, walk, "DIR: lstat of everything below"},
    {"list", 2, list, "TIMES DIR...: names of directories; the time is for one"},
    {"small", 4, small, "DIR DIRS FILES PROCESSES: open, read, close of DIR/dNNN/fNNN"},
    {"small-parts", 4, small_parts, "DIR DIRS FILES PROCESSES: the same, each of them a part of the directories"},
    {"make", 3, make, "DIR FILES BYTES: create, write, close of DIR/NNN"},
    {"look", 2, look, "DIR FILES: lstat of DIR/NNN"},
    {"drop", 2, drop, "DIR FILES: unlink of DIR/NNN"},
    {"seqread", 2, seqread, "FILE TIMES"},
    {"seqwrite", 2, seqwrite, "FILE BYTES"},
    {"check", 1, check, "FILE: whether it holds what seqwrite writes"},
    {"randread", 2, randread, "FILE READS: of one page each"},
    {"mapread", 2, mapread, "FILE TIMES: a word of each page through mmap"},
    {"poke", 2, poke, "FILE OFFSET: overwrites one byte"},
    {"evict", 1, evict, "PATH...: drops the contents of all files there from memory, after an lstat"},
    {"ready", 1, ready, "BYTES: takes so much free memory and gives it back"},
    {"move", 2, move, "FROM TO: rename(2), or mv where that is refused"},
    {"execute", 2, execute, "PROGRAM TIMES"},
    {"run", 3, run, "USR|- DIR|- COMMAND...: with USR as /usr and in DIR; sums up what it prints"},
    {"floor", 1, show_floor, "TIMES: nanoseconds of a system call, and of a byte to another process and back"},
    {"grow-tree", 3, grow_tree, "DIR WIDTH FILES: WIDTH x 10 x 10 directories of FILES empty files"},
    {"grow-small", 3, grow_small, "DIR DIRS FILES [BYTES]: what `small` reads; of these bytes each, or of different sizes"},
    {"grow-flat", 2, grow_flat, "DIR FILES: one directory of small files"},
    {"grow-big", 2, grow_big, "FILE BYTES: what `seqread` and `randread` read"},
};

int main(int count, char **words) {
  for (size_t i = 0; count > 1 && i < sizeof kWork / sizeof kWork[0]; i++) {
    if (strcmp(words[1], kWork[i].name) != 0) continue;
    if (count - 2 >= kWork[i].args) return kWork[i].run(words + 2);
    fprintf(stderr, "work %s %s\n", kWork[i].name, kWork[i].usage);
    return 2;
  }
  fprintf(stderr, "work: one of\n");
  for (size_t i = 0; i < sizeof kWork / sizeof kWork[0]; i++) {
    fprintf(stderr, "  %s %s\n", kWork[i].name, kWork[i].usage);
  }
  return 2;
}
