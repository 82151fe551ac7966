/* A stage that runs in blocks: its input is cut into runs of adjacent blocks, each run passes the stage's chain of
 * commands in sandboxes of its own, several runs at once, and their outputs are put together in order.
 *
 *   DEALING    only a reduce: the lines of its input are dealt out to partitions, which then are its blocks
 *   CUTTING    runs are started while there are input, room for outputs, and slots
 *   COMBINING  all runs have ended; their outputs are being combined
 *   WHOLE      a block was spoilt (its command ended with a status that is not in order, or wrote to stderr): the
 *              chain runs once, on the whole input; output that was given away before is compared and dropped
 *   ENDED      all output was put into the outlet, or nobody wants it
 *
 * Before: attempt.c.  Next: inlet.c (what is cut, and where), outlet.c (where it goes), region.c. */
#pragma once
#include "base/err.h"
#include "worker/attempt.h"

/* Is it worth running this stage of t->stages in blocks? */
bool blocks_wanted(const struct attempt *t, const struct graph_stage *s);
struct blocks *blocks_new(struct attempt *t, const struct graph_stage *s, struct err *e);
/* The words of its last node if that also runs once in the attempt's main region, with the outputs of all blocks as stdin;
 * else count 0. */
struct region_words blocks_rerun(const struct blocks *b);
/* The end of that program says nothing about what the blocks found: as in every stage, the status is the blocks'. */
void blocks_amend(const struct attempt *t, uint32_t node, struct box_result *r);
/* Does or did the node's command run whole after all?  Then it says itself how it ended, and that program, which still passes its output on,
 * does not: it may end later. */
bool blocks_ran_whole(const struct attempt *t, uint32_t node);
/* Does the node run in the main region, too, for its stage in blocks?  If its stderr goes to another process, the stream is
 * used by the blocks, or by the stage run whole. */
bool blocks_reruns(const struct attempt *t, uint32_t node);
uint32_t blocks_last_node(const struct blocks *b);
/* Does a node of this worker run in the main region? */
bool blocks_main_runs(const struct attempt *t, uint32_t node);
/* Fill in the ends at which the stage meets the main region: at most two, which must stay where they are. */
int blocks_meet_main(struct blocks *b, struct region_end *end, uint32_t *count, struct err *e);
int blocks_start(struct blocks *b, struct err *e);
void blocks_step(struct blocks *b);
void blocks_look(const struct blocks *b); /* now and then: tell of its progress, and see whether a run is late */
void blocks_stop(struct blocks *b);
struct group *blocks_group(struct blocks *b); /* its programs when it runs whole */
bool blocks_over(const struct blocks *b);
/* News of a channel of the main region; false: the channel is not this stage's. */
bool blocks_moved(struct blocks *b, uint32_t channel, uint64_t bytes, uint64_t sources);
bool blocks_pump_ended(struct blocks *b, uint32_t channel, int sys, bool reading);
void blocks_free(struct blocks *b);
