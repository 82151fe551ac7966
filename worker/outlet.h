/* Passes on the output of a stage in blocks, in order: to a program that reads it as a stream, to a sink of this process,
 * to another process, or to the next stage in blocks.  What is put in are stretches of files, which a pump of the box
 * copies, so their bytes do not pass through this process.
 *
 * Small outputs in memory are gathered, up to OUTLET_GATHER_MAX bytes and for OUTLET_GATHER_NS, into one stretch.
 *
 * At most OUTLET_AHEAD stretches are with the pump; the others wait here.  How much waits is what keeps a stage from
 * getting far ahead of its reader. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "worker/inlet.h"
#include "worker/regions.h"

#define OUTLET_AHEAD 16 /* the kernel limits how many descriptors a user may have in flight */
#define OUTLET_GATHER_MAX (64u << 10)
#define OUTLET_GATHER_NS  2000000u /* the longest that gathered bytes wait */

struct attempt;
struct attempt_route;
struct region_end;
struct outlet;
struct outlet_events {
    void (*moved)(void *owner); /* there is room for more */
    void (*left)(void *owner);  /* the reader wants no more */
    void (*ended)(void *owner); /* once: all bytes are where they should go, or the outlet was left or stopped */
    void (*failed)(void *owner, const struct err *why);
};

struct outlet {
    struct agent *agent;
    const struct outlet_events *events;
    void *owner;
    struct region_end *main;    /* the end of the program of the main region that reads the output; set by the owner */
    /* exactly one of these three is used */
    struct inlet *inlet;        /* of the next stage in blocks */
    const struct region_watch *region; /* a region that has a FEED channel with `more` */
    struct region_watch copy;   /* a region of our own that copies to a sink */
    uint32_t channel;
    struct attempt *of;         /* the attempt of the stream or sink that is filled; NULL */
    struct attempt_route *remote; /* its stream to another process; NULL */
    uint32_t edge;              /* the edge to its sink; GRAPH_NONE */
    struct buf gathered;        /* small outputs, which come after the stretches that wait */
    struct loop_timer gather;   /* runs while `gathered` is not empty */
    struct stretch *waiting;    /* owned; [first, count) */
    uint32_t first, count, room;
    uint64_t sent, done;        /* stretches */
    uint64_t bytes, moved;      /* bytes: put in; moved: arrived */
    bool nowhere, closed, end_sent, left, over;
    bool copied, relayed;       /* the copy to a sink has ended; a relay behind it may still have bytes; */
    bool unread;                /* its reader has left before it had all */
    bool inside;                /* in the midst of a piece of the inlet's */
    void (*grown)(void *owner); /* the inlet has more, or has ended */
    void *reader;
};

void outlet_init(struct outlet *o, struct agent *a, const struct outlet_events *ev, void *owner);
/* Copy everything to a descriptor; borrowed for the call. */
int outlet_to_fd(struct outlet *o, int fd, struct err *e);
/* Send everything over a stream to another process, which ends when all is out.  route NULL: refused. */
int outlet_to_route(struct outlet *o, struct attempt *t, struct attempt_route *route, struct err *e);
/* Connect the outlet to `main`, or to whatever else reads this edge of the attempt; GRAPH_NONE: nothing does. */
int outlet_open(struct outlet *o, struct attempt *t, uint32_t edge, struct err *e);

/* Put in a stretch of a file.  Takes fd, also on failure.  It is dropped if the outlet was left or has ended. */
int outlet_put(struct outlet *o, int fd, uint64_t offset, uint64_t size, struct err *e);
int outlet_put_bytes(struct outlet *o, struct slice bytes, struct err *e); /* at most OUTLET_GATHER_MAX */
void outlet_piece_ended(struct outlet *o); /* if the next stage reads in pieces: all that was put in since the last call is one piece */
int outlet_close(struct outlet *o, struct err *e); /* everything was put in */
uint64_t outlet_backlog(const struct outlet *o);   /* bytes that were put in and have not arrived */
uint32_t outlet_waiting(const struct outlet *o);   /* stretches that the pump does not have yet */
void outlet_stop(struct outlet *o);                /* the job is being stopped */

/* News of a channel of the main region; false: the channel is not this outlet's. */
bool outlet_main_moved(struct outlet *o, uint32_t channel, uint64_t bytes, uint64_t sources);
bool outlet_main_ended(struct outlet *o, uint32_t channel, int sys, bool reading);
void outlet_leave(struct outlet *o); /* the next stage wants no more */
void outlet_clear(struct outlet *o);
