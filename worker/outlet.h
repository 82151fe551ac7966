/* Where the output of a stage in blocks goes, in order: to a program that reads it as a stream, to a sink
 * of this process, to another process, or into the next stage in blocks.  What is put in are stretches of
 * files; a pump of the box copies them, so none of their bytes pass through this process.
 *
 * Bytes that are few and in memory are gathered, at most OUTLET_GATHER_MAX and OUTLET_GATHER_NS, and then are a stretch
 * together.
 *
 * At most OUTLET_AHEAD stretches are with the pump; the others wait here, and how much waits is what
 * keeps a stage from running far ahead of whoever reads it. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "worker/inlet.h"
#include "worker/regions.h"

#define OUTLET_AHEAD 16 /* the kernel counts descriptors under way, per user */
#define OUTLET_GATHER_MAX (64u << 10)
#define OUTLET_GATHER_NS  2000000u /* nobody waits longer for what was put in */

struct attempt;
struct attempt_route;
struct region_end;
struct outlet;
struct outlet_events {
    void (*moved)(void *owner); /* there is more room */
    void (*left)(void *owner);  /* whoever reads wants no more */
    void (*ended)(void *owner); /* once: everything is where it should go, or it was left or stopped */
    void (*failed)(void *owner, const struct err *why);
};

struct outlet {
    struct agent *agent;
    const struct outlet_events *events;
    void *owner;
    struct region_end *main;    /* where a program of the main region reads it; the owner's to set */
    /* one of these three */
    struct inlet *inlet;        /* the next stage's */
    const struct region_watch *region; /* a FEED channel with `more` of it */
    struct region_watch copy;   /* a region of our own, which copies to a sink */
    uint32_t channel;
    struct attempt *of;         /* NULL, or whose stream to another process, or sink of this one, it fills: */
    struct attempt_route *remote; /* the former; NULL */
    uint32_t edge;              /* the latter; GRAPH_NONE */
    struct buf gathered;        /* what comes behind the stretches that wait */
    struct loop_timer gather;   /* while it is not empty */
    struct stretch *waiting;    /* owned; [first, count) */
    uint32_t first, count, room;
    uint64_t sent, done;        /* stretches */
    uint64_t bytes, moved;      /* put in, and where they should go */
    bool nowhere, closed, end_sent, left, over;
    bool inside;                /* a piece, of the inlet's */
    void (*grown)(void *owner); /* the inlet has more, or has ended */
    void *reader;
};

void outlet_init(struct outlet *o, struct agent *a, const struct outlet_events *ev, void *owner);
/* Copy to a descriptor; borrowed for the call. */
int outlet_to_fd(struct outlet *o, int fd, struct err *e);
/* Into a stream to another process, which has its end when all of it is out.  route NULL: refused. */
int outlet_to_route(struct outlet *o, struct attempt *t, struct attempt_route *route, struct err *e);
/* To `main`, or to whoever else reads this edge of the attempt; GRAPH_NONE: nobody does. */
int outlet_open(struct outlet *o, struct attempt *t, uint32_t edge, struct err *e);

/* Takes fd, also on failure.  A stretch that is left or over is dropped. */
int outlet_put(struct outlet *o, int fd, uint64_t offset, uint64_t size, struct err *e);
int outlet_put_bytes(struct outlet *o, struct slice bytes, struct err *e); /* at most OUTLET_GATHER_MAX */
void outlet_piece_ended(struct outlet *o); /* if the next stage takes pieces: what was put in since the last time is one */
int outlet_close(struct outlet *o, struct err *e); /* that was all */
uint64_t outlet_backlog(const struct outlet *o);   /* bytes put in that have not moved on */
uint32_t outlet_waiting(const struct outlet *o);   /* stretches that are not with the pump */
void outlet_stop(struct outlet *o);                /* the job is being stopped */

/* News of a channel of the main region; false: not of this outlet. */
bool outlet_main_moved(struct outlet *o, uint32_t channel, uint64_t bytes, uint64_t sources);
bool outlet_main_ended(struct outlet *o, uint32_t channel, int sys, bool reading);
void outlet_leave(struct outlet *o); /* the next stage wants no more */
void outlet_clear(struct outlet *o);
