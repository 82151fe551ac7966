/* How a daemon ends.  SIGTERM, SIGINT and SIGHUP (unless that is ignored, by nohup) end it in order; a crash ends it at once.  Each
 * is logged with its reason, as a daemon that is gone without a word leaves its operator nothing to go by.  What cannot be seen
 * from inside is SIGKILL: see note_life in scheduler/daemon.c. */
#pragma once
#include "base/loop.h"

struct ending {
    struct loop_signal signal[3];
    void (*run)(void *owner);
    void *owner;
};

/* Calls run for each such signal, until ending_stop.  Borrows `e` until then. */
void ending_start(struct loop *l, struct ending *e, void (*run)(void *owner), void *owner);
void ending_stop(struct loop *l, struct ending *e);
