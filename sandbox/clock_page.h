/* A page of each process's own memory with the logical clock, so that a look at it needs no system call: the
 * shim makes it, its vDSO reads and moves it, zpipe-box takes it over at each call that has to do with
 * time, and puts back what has become of it.  Seen by the shim, which has no C library.
 *
 * It is the process's memory, for it to spoil: zpipe-box takes nothing from it but how late it is. */
#pragma once
#include <stdint.h>

/* Above the place where mappings begin, below the farthest that a stack of 8 MiB reaches; behind the loader (SHIM_LOADER_AT), within the 2 MiB of one
 * page table, of which each process has its own. */
#define CLOCK_PAGE_AT    0x7ffff9100000ull
#define CLOCK_PAGE_BYTES 4096
/* At its head; and, behind the arguments of a call that looks at a clock: there is a page, not yet written. */
#define CLOCK_PAGE_MARK 0x6b636f6c63657069ull

#define CLOCK_STEP_NS 10000      /* that pass with each look */
#define CLOCK_BOOT_S  1000ll     /* the machine's age at the epoch: CLOCK_MONOTONIC's start */

/* At its end: where the program begins, until it has begun (shim.c). */
#define CLOCK_PAGE_ENTRY (CLOCK_PAGE_AT + CLOCK_PAGE_BYTES - sizeof(uint64_t))

struct clock_page {
    uint64_t mark;
    uint64_t now_ns;  /* since the epoch */
    uint64_t due_ns;  /* a look that would reach it is a system call: a timer rings */
    int64_t epoch_s;
};
