/* Results of runs of submitted jobs, for the case that such a job begins again because its keeper was killed, or the
 * scheduler and a part of the job with it.  The keeper still has the inputs and submits the job again, under the same number.
 * Runs that this worker did, or had others do, are then taken from here, range by range, and only the rest is run.
 *
 * What must stay true: a result is taken only for the very same bytes, of the same stage of the same graph, and only by the
 * process that noted it, so under the same image.  No result is needed: what was not noted, for want of room or because it
 * ended in an unusual way, is run again.
 *
 * Before: blocks_runs.c notes results, blocks.c takes them.  The scheduler is told of which jobs there are results (HOLDS),
 * and gives those jobs to this worker if it can. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"

#include <stdbool.h>
#include <stdint.h>

#define PAST_JOBS_MAX   1000                  /* statements of jobs; each has a file */
#define PAST_RUNS_MAX   (1u << 20)            /* of all jobs together */
#define PAST_FILES_MAX  1000                  /* outputs that are kept as files of their own */
#define PAST_SMALL_MAX  (64u << 10)           /* smaller ones are copied into the job's file */
#define PAST_BYTES_MAX  ((uint64_t)4 << 30)   /* of outputs; and no more than a quarter of the free space */
#define PAST_INPUT_MAX  ((uint64_t)128 << 20) /* input of a run, which is read once more for its digest */
#define PAST_NS         ((uint64_t)600 * 1000000000) /* how long results are kept when an attempt was stopped, */
#define PAST_ENDED_NS   ((uint64_t)60 * 1000000000)  /* or has ended, as its job may still begin again */

struct agent;
struct blocks;
struct run;
struct past; /* the results that a worker holds */
struct past_job;

struct past *past_new(struct agent *a, struct err *e);
void past_free(struct past *p);
void past_tick(struct past *p);
void past_tell(struct past *p);   /* tell a new scheduler of all jobs */
void past_forget(struct past *p); /* forget all: what programs see has changed */

/* A submitted job's attempt begins; and is over.  NULL: no results of it are noted. */
struct past_job *past_join(struct past *p, uint64_t number, struct graph *g);
void past_leave(struct past_job *j, bool ended);

/* A run has ended as it should, and nothing of it was passed on yet: note its result. */
void past_note(struct run *r);
/* The size of the noted run that began where the next run of this stage begins; 0: there is none. */
uint64_t past_size(const struct blocks *b);
/* r, in no list, is to be that run.  1: its result was taken, though its programs' ends were not reported; 0: it is another
 * run. */
int past_take(struct run *r, struct err *e);
void past_drop(const struct blocks *b); /* forget the run that past_size found: it is run again */
