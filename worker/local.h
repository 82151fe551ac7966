/* An attempt in the client's own process that may have to begin again, because one of its sandboxes was killed.  Its inputs
 * are read again.  Output that was already written to descriptors of the client comes again, and is compared and dropped.
 * So it must be known how much was written:
 *
 *   a file                           by its offset and contents; programs write to it directly
 *   a pipe, a terminal, a socket     by a relay of ours, which counts; programs write to a pipe to the relay
 *   stderr, the files of stages      by the code that passes them on in any case
 *
 * If an input cannot be read again nothing is counted, and the job fails with a sentence that says so. */
#pragma once
#include "base/given.h"
#include "worker/attempt.h"

struct local;

/* Call first; after an earlier attempt it continues with what that left. */
int local_begin(struct attempt *t, struct err *e);
/* Call before anything starts. */
void local_decide(struct attempt *t);
/* The descriptor for the writer of an edge, or of a stage's files; -1: nowhere.  It is borrowed; or it is *own, which the
 * caller closes once the box has it; *own -1: not. */
int local_sink(struct attempt *t, struct attempt_route *route, int *fd, int *own, struct err *e);
/* Call `passed` once, when all that goes through the route's relay was passed on, or its reader has left before that.  false: the
 * route has no relay. */
bool local_when_passed(struct attempt *t, const struct attempt_route *route, void (*passed)(void *owner, bool left), void *owner);
void local_started(struct attempt *t);
/* The record of what was written for a route by code that passes it on itself; NULL: not needed. */
struct given *local_given(struct attempt *t, const struct attempt_route *route);
/* A sandbox was lost: the attempt fails, to begin again, or with the reason why it cannot. */
void local_lost(struct attempt *t, struct err *why);
bool local_again(const struct attempt *t); /* will it begin again? */
void local_stop(struct attempt *t);        /* write nothing more */
uint64_t local_job(const struct local *l);
void local_free(struct local *l);

/* Kept by the agent between two attempts of a job. */
void agent_keep_local(struct agent *a, struct local *l);
struct local *agent_take_local(struct agent *a, uint64_t job);
