/* Run a program, or a function, under the task filter with the answers served here: a sandbox
 * without a root of its own, for tests of the filter, the answers and the shim.  It has its own
 * user, mount and pid namespace; the program is pid 2; /lib64 holds the shim. */
#pragma once
#include "sandbox/notify.h"

#include <stdbool.h>

#define GUARDED_OUTPUT_MAX 65536
#define GUARDED_SECONDS    600 /* a program that runs longer is killed, and the result says so */

struct guarded {
    const char *const *argv; /* NULL: call `body` instead of an exec */
    int (*body)(void);       /* returns the exit status */
    const char *input;       /* what its stdin brings, by a unix socket; NULL: stdin is /dev/null */
    bool opens, no_shim;
    uint64_t seed, stream;
    int64_t epoch_s;
};

struct guarded_result {
    int status; /* 0 to 255, 128 + n for signal n, -1 for a failed harness or a time-out */
    char output[GUARDED_OUTPUT_MAX]; /* stdout and stderr */
    struct notify_report report;
    uint64_t opened; /* notified openat calls */
};

/* Fails the calling test when the sandbox cannot be made. */
void guarded_run(const struct guarded *g, struct guarded_result *r);

/* False: this host does not let us make a user namespace, so skip the test. */
bool guarded_possible(void);

/* Passes a listener from the process that installed the filter to the one that answers: the first shows its number, and
 * waits until the other has taken it.  Returns 0 or a descriptor; -1 with errno. */
int guarded_pair(int link[2]); /* taker, shower */
int guarded_show(int link, int listener);
int guarded_take(int link);

/* If we are root: runs this test program again as user and group 65534, and returns its exit status; else 0. */
int guarded_as_nobody(void);
