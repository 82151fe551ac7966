/* A stage's stderr on its way to a descriptor of the same process: whole lines, at most LINES_BYTES_MAX,
 * then a count of what was left out. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/given.h"
#include "base/loop.h"

#define LINES_BYTES_MAX (1u << 20) /* bytes for one stage */
#define LINES_LINE_MAX  65536      /* a longer line is passed in pieces */
#define LINES_TAIL_MAX  2048       /* bytes kept for the report */

struct lines {
    struct loop *loop;
    struct loop_fd watch, room;
    int from, to;      /* from is owned and non-blocking, -1 once all went out; to is borrowed, -1: only keep the tail */
    int own;           /* `to`, opened again; -1: that is not possible */
    struct buf waiting; /* what `to` has not taken yet */
    bool over;         /* everything has come */
    struct buf part;   /* a line that has not ended yet */
    struct buf tail;   /* the last bytes that went out */
    uint64_t passed, dropped;
    struct given *given; /* borrowed: what went out before, which is compared and dropped; NULL: the stream never begins again */
    struct err differs;  /* code 0: it does not differ */
    bool torn;           /* its writer is being killed and will write everything again, so an unfinished line does not count */
    bool fallen;         /* its writer's sandbox is lost: what comes is a consequence, and is dropped */
    struct buf held; /* what was read, and waits for lines_answer */
    bool (*asks)(struct lines *l); /* what was read is held until it is known that its writer was well; false: that is known.  NULL: it always is */
    bool (*has_fallen)(struct lines *l); /* asked after each read whether the sandbox is lost; NULL: it never is */
    void (*ended)(struct lines *l); /* called once, when the last writer is gone */
    void *owner;
};

/* Takes ownership of `from`. */
void lines_start(struct lines *l, struct loop *loop, int from, int to, void (*ended)(struct lines *),
                 void *owner);
void lines_answer(struct lines *l, bool well); /* what is held goes out; or is dropped */
void lines_clear(struct lines *l);
