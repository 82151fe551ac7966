/* A page in each process's own memory with the logical clock, so that reading it needs no system call.  The shim makes the
 * page, and its vDSO reads and moves the clock.  At each call that has to do with time zpipe-box reads the page, and writes
 * the clock back.  Also included by the shim, which has no C library.
 *
 * The process can spoil the page, as it is its own memory; so zpipe-box reads from it only how late it is. */
#pragma once
#include <stdint.h>

/* Above the address where mappings begin, and below the lowest that a stack of 8 MiB reaches; after the loader
 * (SHIM_LOADER_AT), within the 2 MiB of one page table, which each process has in any case. */
#define CLOCK_PAGE_AT    0x7ffff9100000ull
#define CLOCK_PAGE_BYTES 4096
/* At the head of the page.  After the arguments of a call that looks at a clock it means: there is a page, which is not
 * written yet. */
#define CLOCK_PAGE_MARK 0x6b636f6c63657069ull

#define CLOCK_STEP_NS 10000      /* the time that passes with each look */
#define CLOCK_BOOT_S  1000ll     /* the machine's age at the epoch: CLOCK_MONOTONIC's start */

/* At the end of the page: the address where the program begins, until it has begun (shim.c). */
#define CLOCK_PAGE_ENTRY (CLOCK_PAGE_AT + CLOCK_PAGE_BYTES - sizeof(uint64_t))

struct clock_page {
    uint64_t mark;
    uint64_t now_ns;  /* since the epoch */
    uint64_t due_ns;  /* a look that would reach it is a system call: a timer rings */
    int64_t epoch_s;
};
