/* See usage.c. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#define USAGE_THREADS_MAX 65536 /* threads that are looked at in one walk */

struct usage {
    uint64_t bytes_in, bytes_out; /* bytes read and written by system calls, also by processes that have ended */
    uint64_t cpu_ns;              /* also of processes that have ended */
    uint32_t threads;             /* threads that live, or that nobody has waited for yet */
    pid_t *tid;                   /* their numbers, if asked for */
    uint32_t room;
};

/* Counts everything below the process `init`, but not `init` itself.  usage_count: threads only, with their numbers (gives;
 * NULL when there was no room for them). */
void usage_look(pid_t init, struct usage *u);
uint32_t usage_count(pid_t init, pid_t **tid);
