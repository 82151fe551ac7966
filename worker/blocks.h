/* One stage of an attempt that runs in blocks: its input is cut, runs of adjacent blocks pass its chain of
 * commands in sandboxes of their own, several at once, and what they write is put together in order.
 *
 *   DEALING    only of a reduce: the lines of its input are dealt out to partitions, which are then its blocks
 *   CUTTING    runs are started as there is input, room and leave
 *   COMBINING  all have ended; what they wrote is being made one
 *   WHOLE      a block was spoilt (a status that its command must not have, or words on stderr): the
 *              chain runs once, on everything, and what was given away already is compared and dropped
 *   ENDED      everything was put into the outlet, or nobody wants it
 *
 * Before: attempt.c.  Next: inlet.c (what is cut, and where), outlet.c (where it goes), region.c. */
#pragma once
#include "base/err.h"
#include "worker/attempt.h"

/* Is this stage, of t->stages, worth cutting as things are here? */
bool blocks_wanted(const struct attempt *t, const struct graph_stage *s);
struct blocks *blocks_new(struct attempt *t, const struct graph_stage *s, struct err *e);
/* Its last node also runs once, in the attempt's main region, with the outputs of all blocks as stdin:
 * its words there; else count 0. */
struct region_words blocks_rerun(const struct blocks *b);
/* How that ended says nothing of what the blocks found: its status is theirs, as of every stage. */
void blocks_amend(const struct attempt *t, uint32_t node, struct box_result *r);
/* A node that does: its stderr's stream elsewhere is that of the blocks, or of the whole. */
bool blocks_reruns(const struct attempt *t, uint32_t node);
uint32_t blocks_last_node(const struct blocks *b);
/* Does a node of this worker run in the main region? */
bool blocks_main_runs(const struct attempt *t, uint32_t node);
/* What the main region needs to know: at most two ends, which must stay where they are. */
int blocks_meet_main(struct blocks *b, struct region_end *end, uint32_t *count, struct err *e);
int blocks_start(struct blocks *b, struct err *e);
void blocks_step(struct blocks *b);
void blocks_tell_progress(const struct blocks *b);
void blocks_stop(struct blocks *b);
bool blocks_over(const struct blocks *b);
/* News of a channel of the main region; false: not of this stage. */
bool blocks_moved(struct blocks *b, uint32_t channel, uint64_t bytes, uint64_t sources);
bool blocks_pump_ended(struct blocks *b, uint32_t channel, int sys, bool reading);
void blocks_free(struct blocks *b);
