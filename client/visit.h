/* At a keeper, as a client: one connection to its data port, for one submitted job.  visit.c asks the scheduler where that
 * is, connects, and turns the loop until `over`; deposit.c and attach.c are what is done there. */
#pragma once
#include "client/client.h"

struct visit;
struct visit_events {
    void (*kept)(struct visit *v, const struct msg_kept *m);
    void (*stream)(struct visit *v, const struct msg *m, struct slice bulk); /* CREDIT, DATA or LEAVE of this job */
};

struct visit {
    struct zpipe *z;
    const struct visit_events *ev;
    void *owner;
    struct client_place place;
    struct peer *peer;
    bool over;
    struct err why; /* code 0: it went well */
};

/* Asks, and connects; visit_close also when it fails. */
int visit_open(struct visit *v, struct zpipe *z, uint32_t what, uint64_t job, struct err *e);
struct stream_name visit_stream(const struct visit *v, uint32_t what);
int visit_attach(struct visit *v, uint32_t what, struct err *e);
int visit_say(struct visit *v, const struct msg_kept *m, struct err *e);
/* Bytes of a stream, into a file: what cannot be kept ends the visit. */
void visit_keep(struct visit *v, struct stream_receiver *from, int spool, struct slice bytes);
void visit_end(struct visit *v, const struct err *why); /* why NULL: it went well */
/* Until it is over, or `stop` says so: then ERR_CANCELLED.  stop NULL: never. */
int visit_run(struct visit *v, bool (*stop)(void *owner), void *owner, struct err *e);
void visit_close(struct visit *v);
