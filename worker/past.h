/* What the runs of submitted jobs came to, for when such a job begins anew: its keeper was killed, or the scheduler and
 * something of the job with it.  The keeper has its inputs still and submits it again, with the number that it had; what this worker
 * ran, or had others run, is then taken from here, range by range, and only the rest is run.
 *
 * What must stay true: a result is taken only for the very same bytes, of the same stage of the same graph, and only by the process
 * that noted it, so under the same image.  Nothing of it is needed: what was not noted, for want of room or because
 * it ended in an unusual way, is run again.
 *
 * Before: blocks_runs.c notes, blocks.c takes.  The scheduler is told which jobs there are something of (HOLDS), and gives them to
 * this worker if it can. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"

#include <stdbool.h>
#include <stdint.h>

#define PAST_JOBS_MAX   1000                  /* statements of jobs; each has a file */
#define PAST_RUNS_MAX   (1u << 20)            /* of all of them */
#define PAST_FILES_MAX  1000                  /* outputs that are kept as the files that they are */
#define PAST_SMALL_MAX  (64u << 10)           /* smaller ones are copied into the job's file */
#define PAST_BYTES_MAX  ((uint64_t)4 << 30)   /* of outputs, and no more than a quarter of what is free there */
#define PAST_INPUT_MAX  ((uint64_t)128 << 20) /* of a run: it is read once more, for its digest */
#define PAST_NS         ((uint64_t)600 * 1000000000) /* it is kept so long when an attempt was stopped, */
#define PAST_ENDED_NS   ((uint64_t)60 * 1000000000)  /* or has come to its end: its job may yet begin anew */

struct agent;
struct blocks;
struct run;
struct past; /* of a worker */
struct past_job;

struct past *past_new(struct agent *a, struct err *e);
void past_free(struct past *p);
void past_tick(struct past *p);
void past_tell(struct past *p);   /* to a scheduler that is new */
void past_forget(struct past *p); /* what programs see has changed */

/* A submitted job's attempt begins, and is over.  NULL: nothing of it is noted. */
struct past_job *past_join(struct past *p, uint64_t number, struct graph *g);
void past_leave(struct past_job *j, bool ended);

/* A run has ended as it must, and nothing of it was given away. */
void past_note(struct run *r);
/* How many bytes that run had which began where the next one of this stage begins; 0: there is none. */
uint64_t past_size(const struct blocks *b);
/* r, in no list, is that run: 1: here is what it came to, though its ends have not been told; 0: it was another. */
int past_take(struct run *r, struct err *e);
void past_drop(const struct blocks *b); /* what past_size found: it is run again */
