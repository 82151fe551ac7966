/* Receives the bytes of one edge for a reader that keeps them: a stage in blocks cuts its input, and may have to read it
 * again.  The bytes are held by an inlet; an intake fills it.  They come from a program of the main region or from another
 * process, through a spool, or are files already.
 *
 * A writer that gets far ahead of what the reader has used is made to wait. */
#pragma once
#include "worker/inlet.h"
#include "worker/regions.h"

struct attempt;
struct attempt_route;
struct outlet;
struct region_end;

#define INTAKE_AHEAD_MAX (256u << 20) /* bytes of a stream that may be spooled ahead of what was used */

struct intake {
    struct attempt *t;
    uint32_t edge;        /* GRAPH_NONE: no edge, and something else fills the inlet */
    struct inlet *inlet;  /* borrowed */
    void (*grown)(void *owner); /* the inlet has more, or has ended */
    void *owner;
    int spool;               /* the file for a stream's bytes; -1: none */
    uint64_t bytes;          /* bytes of the stream that have come */
    bool ended;
    bool aside;              /* the owner has filled the inlet itself: of the stream it is told only `bytes` */
    uint64_t aside_bytes;    /* how many bytes the stream should have then */
    struct region_end *main; /* the end of the program in the main region that writes the edge */
    struct region_watch copy; /* a region that copies into the spool */
    struct attempt_route *remote; /* the route, if the bytes come from another process; NULL */
    struct outlet *writer;   /* the outlet of the stage in blocks that writes the edge */
    bool held;
    bool endless; /* the writer must never be made to wait: see proto/flow.h */
};

void intake_init(struct intake *k, struct attempt *t, uint32_t edge, struct inlet *in, void (*grown)(void *),
                 void *owner);
/* Fill in the end at which the intake meets the main region: *count is 0 or 1; it must stay where it is. */
int intake_meet_main(struct intake *k, struct region_end *end, uint32_t *count, struct err *e);
int intake_open(struct intake *k, struct err *e);
void intake_hold(struct intake *k, uint64_t used); /* used: bytes of the stream that are used; makes the writer wait, or go on */
void intake_stop(struct intake *k);                /* its writer may stop */
bool intake_over(const struct intake *k);
/* News of a channel of the main region; false: the channel is not this edge's. */
bool intake_moved(struct intake *k, uint32_t channel, uint64_t bytes);
bool intake_pump_ended(struct intake *k, uint32_t channel, int sys, bool reading);
void intake_clear(struct intake *k); /* does not clear the inlet */
