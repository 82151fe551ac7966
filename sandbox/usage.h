/* See usage.c. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#define USAGE_THREADS_MAX 65536 /* looked at in one walk */

struct usage {
    uint64_t bytes_in, bytes_out; /* read and written by calls, ended processes included */
    uint64_t cpu_ns;              /* likewise */
    uint32_t threads;             /* that live, or are not yet waited for */
};

/* All below the process `init`, itself without.  usage_count: threads only. */
void usage_look(pid_t init, struct usage *u);
uint32_t usage_count(pid_t init);
