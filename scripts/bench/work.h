// What the workloads of the benchmark share. Each times itself, so that starting a process is not
// measured, and sums up what it saw, so that work which was not done shows.
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

// Ends the program, with errno's reason.
static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// splitmix64: what stands at place `at` of a file, and the random numbers.
static inline uint64_t word_at(uint64_t at) {
  uint64_t z = at * 0x9e3779b97f4a7c15u + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// FNV-1a.
static inline uint64_t hash_text(const char *text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
  return hash;
}

// Sum of the 64-bit words of a buffer; a rest is padded with zeros. The order of words does not matter.
static inline uint64_t sum_words(const unsigned char *data, size_t length) {
  uint64_t sum = 0;
  for (size_t at = 0; at < length; at += 8) {
    uint64_t word = 0;
    memcpy(&word, data + at, length - at < 8 ? length - at : 8);
    sum += word;
  }
  return sum;
}

static inline uint64_t number(const char *text) { return strtoull(text, NULL, 10); }

// What every workload prints: nanoseconds, and what was seen.
static inline int report(uint64_t elapsed, uint64_t seen) {
  printf("%llu %llx\n", (unsigned long long)elapsed, (unsigned long long)seen);
  return 0;
}

// By files of workloads: each takes the arguments after its name.
int walk(char **args);
int list(char **args);
int small(char **args);
int small_parts(char **args);
int make(char **args);
int look(char **args);
int drop(char **args);
int seqread(char **args);
int seqwrite(char **args);
int check(char **args);
int randread(char **args);
int mapread(char **args);
int poke(char **args);
int evict(char **args);
int ready(char **args);
int move(char **args);
int execute(char **args);
int run(char **args);
int show_floor(char **args);
int grow_tree(char **args);
int grow_small(char **args);
int grow_flat(char **args);
int grow_big(char **args);

#endif
