/* A client's connection to a keeper's data port, for one submitted job.  visit.c asks the scheduler where the keeper is,
 * connects, and turns the loop until `over`.  deposit.c, attach.c and fetch.c say what happens on the connection. */
#pragma once
#include "client/client.h"

struct visit;
struct visit_events {
    void (*kept)(struct visit *v, const struct msg_kept *m);
    void (*stream)(struct visit *v, const struct msg *m, struct slice bulk); /* a CREDIT, DATA or LEAVE for this job */
};

struct visit {
    struct zpipe *z;
    const struct visit_events *ev;
    void *owner;
    const char *remedy; /* what to do when the keeper is lost, as the end of a sentence; or NULL */
    struct client_place place;
    struct peer *peer;
    bool over;
    struct err why; /* code 0: it succeeded */
};

/* Asks the scheduler and connects.  Call visit_close even if this fails. */
int visit_open(struct visit *v, struct zpipe *z, uint32_t what, uint64_t job, struct err *e);
struct stream_name visit_stream(const struct visit *v, uint32_t what);
int visit_attach(struct visit *v, uint32_t what, struct err *e);
int visit_say(struct visit *v, const struct msg_kept *m, struct err *e);
/* Writes bytes of a stream to the file `spool`; a failure ends the visit. */
void visit_keep(struct visit *v, struct stream_receiver *from, int spool, struct slice bytes);
void visit_end(struct visit *v, const struct err *why); /* why NULL: it succeeded */
/* Runs until the visit is over, or until `stop` returns true: then ERR_CANCELLED.  stop NULL: it is never asked. */
int visit_run(struct visit *v, bool (*stop)(void *owner), void *owner, struct err *e);
void visit_close(struct visit *v);
