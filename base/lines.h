/* A stage's stderr on its way to a descriptor of the same process: whole lines, at most LINES_BYTES_MAX,
 * then a count of what was left out. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/given.h"
#include "base/loop.h"

#define LINES_BYTES_MAX (1u << 20) /* of one stage */
#define LINES_LINE_MAX  65536      /* a longer line is passed in pieces */
#define LINES_TAIL_MAX  2048       /* kept for the report */

struct lines {
    struct loop *loop;
    struct loop_fd watch, room;
    int from, to;      /* from is owned and non-blocking, -1 once all went out; to is borrowed, -1: only keep the tail */
    int own;           /* `to` opened anew; -1: it cannot be */
    struct buf waiting; /* what `to` has not taken */
    bool over;         /* all has come */
    struct buf part;   /* a line that has not ended */
    struct buf tail;   /* the last bytes that went out */
    uint64_t passed, dropped;
    struct given *given; /* borrowed: what of it went out before is compared and dropped; NULL: it never begins anew */
    struct err differs;  /* code 0: it did not */
    bool torn;           /* its writer is being killed, and writes all of it again: a line that has not ended does not count */
    bool fallen;         /* its writer's sandbox has: what comes is said of that, and is dropped */
    bool (*has_fallen)(struct lines *l); /* asked after each read; NULL: it does not */
    void (*ended)(struct lines *l); /* once, when the last writer is gone */
    void *owner;
};

/* Takes from. */
void lines_start(struct lines *l, struct loop *loop, int from, int to, void (*ended)(struct lines *),
                 void *owner);
void lines_clear(struct lines *l);
