/* An attempt in the client's own process that may have to begin anew, since a sandbox at work was killed.  Its inputs are read
 * again; what it has given away, to descriptors of the client, comes again, and is compared and dropped.  So it must be known what was:
 *
 *   a file         by where it stands, and what is in it; programs have it as it is
 *   a pipe, a terminal, a socket     by a relay of ours, which counts; programs have a pipe to that
 *   stderr, the files of stages      by whoever passes them on anyway
 *
 * Where an input cannot be read again, nothing is counted, and the job fails with a sentence that says so. */
#pragma once
#include "base/given.h"
#include "worker/attempt.h"

struct local;

/* First of all; after an earlier attempt's end, with what that left. */
int local_begin(struct attempt *t, struct err *e);
/* It is known what streams: before anything starts. */
void local_decide(struct attempt *t);
/* Where the writer of an edge, or of a stage's files, writes to; -1: nowhere.  It is borrowed, or *own, for the caller to close
 * when the box has it; -1. */
int local_sink(struct attempt *t, struct attempt_route *route, int *fd, int *own, struct err *e);
void local_started(struct attempt *t);
/* What was given of a route by whoever passes it on himself; NULL: nobody asks. */
struct given *local_given(struct attempt *t, const struct attempt_route *route);
/* A sandbox was lost: the attempt fails, to begin anew, or with the reason why it cannot. */
void local_lost(struct attempt *t, struct err *why);
bool local_again(const struct attempt *t); /* it does */
void local_stop(struct attempt *t);        /* nothing more is given away */
uint64_t local_job(const struct local *l);
void local_free(struct local *l);

/* The agent's: from the end of one to the begin of the next. */
void agent_keep_local(struct agent *a, struct local *l);
struct local *agent_take_local(struct agent *a, uint64_t job);
