/* What comes along one edge to somebody who keeps it, and what is kept: a stage in blocks cuts its input and
 * may have to read it again.  The bytes are an inlet's; here is who fills that: a program of the main region
 * or another process by way of a spool, or whoever has files already, with those.
 *
 * A writer who gets far ahead of what is used of the input is made to wait. */
#pragma once
#include "worker/inlet.h"
#include "worker/regions.h"

struct attempt;
struct attempt_route;
struct outlet;
struct region_end;

#define INTAKE_AHEAD_MAX (256u << 20) /* bytes of a stream that were spooled and not used */

struct intake {
    struct attempt *t;
    uint32_t edge;        /* GRAPH_NONE: none, and somebody else fills the inlet */
    struct inlet *inlet;  /* borrowed */
    void (*grown)(void *owner); /* the inlet has more, or has ended */
    void *owner;
    int spool;               /* of a stream; -1: none */
    uint64_t bytes;          /* that came of it */
    bool ended;
    bool aside;              /* the inlet was filled by the owner: of the stream only `bytes` is told */
    uint64_t aside_bytes;    /* and so many are right */
    struct region_end *main; /* where a program of the main region writes it */
    struct region_watch copy; /* fills the spool from elsewhere */
    struct attempt_route *remote; /* from another process; NULL */
    struct outlet *writer;   /* whose output it is */
    bool held;
    bool endless; /* the writer never waits: proto/flow.h */
};

void intake_init(struct intake *k, struct attempt *t, uint32_t edge, struct inlet *in, void (*grown)(void *),
                 void *owner);
/* What the main region needs to know: *count is 0 or 1 ends, which must stay where they are. */
int intake_meet_main(struct intake *k, struct region_end *end, uint32_t *count, struct err *e);
int intake_open(struct intake *k, struct err *e);
void intake_hold(struct intake *k, uint64_t used); /* bytes of the stream */
void intake_stop(struct intake *k);                /* whoever writes it need not go on */
bool intake_over(const struct intake *k);
/* News of a channel of the main region; false: not of this edge. */
bool intake_moved(struct intake *k, uint32_t channel, uint64_t bytes);
bool intake_pump_ended(struct intake *k, uint32_t channel, int sys, bool reading);
void intake_clear(struct intake *k); /* not the inlet */
