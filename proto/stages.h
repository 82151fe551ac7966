/* Which commands of a graph run in blocks together, so that a block passes all of them in sandboxes that are joined
 * directly.  There are two kinds of such *stages*.  The planner makes one of a chain of commands whose `split` says that
 * they may be cut.  The author of a job makes one with `map` or `reduce`: its commands are those of the body, joined as
 * the graph says, and its input and output are those of the MAP or REDUCE.  The scheduler places and shows stages by
 * this, and a worker runs them by it.  A command that is in no stage runs once and streams. */
#pragma once
#include "proto/graph.h"

struct graph_stage {
    uint32_t first, count;     /* its programs, in graph_stages.node */
    uint32_t joins;            /* for a stage of the planner's: the program that says how the blocks' outputs become one.  It is the last
                                  one; or the one before, if the last picks from what that one merges: then the last runs in the blocks,
                                  and once more behind the merge */
    uint32_t merge_count;      /* after them in graph_stages.node: the programs of the merge body */
    uint32_t author;           /* the MAP or REDUCE, or GRAPH_NONE: the planner */
    uint32_t cut;              /* enum graph_cut: where its input may be cut */
    bool ranges;               /* its writer is a stage that sorts, and its blocks are that stage's ranges of keys: each passes its first
                                  node whole, and the outputs are put end to end */
    bool no_zeros;             /* a zero byte in its input spoils it, because of the nodes after its first */
    uint32_t in_edge;          /* its input; GRAPH_NONE: split.file of its first node */
    uint32_t out_edge;         /* its stdout; GRAPH_NONE: it is not read */
};

struct graph_stages {
    struct graph_stage *stage; /* in text order */
    uint32_t count;
    uint32_t *node;
    uint32_t *of_node; /* per node: its stage, or GRAPH_NONE; a MAP and its whole body have the same */
    const char **once; /* per node: why it runs once though it could be cut; else "".  Static texts */
    uint8_t *exact;    /* per edge: enum graph_exact, flow.h */
};

/* Add amounts of memory; a sum that is too large to count is the largest number. */
uint64_t graph_add_memory(uint64_t a, uint64_t b);
/* The memory that one run of the stage needs, as its commands declare: all its programs together, or all those of a merge. */
uint64_t stage_run_memory(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s);

/* May one run of a stage that is cut between files read several?  Yes if its blocks run the command itself, and the file is
 * their last word: so they do to each of several files what the command did. */
bool split_joins_files(const struct graph_node *n);

/* Find the stages; everything is in the arena. */
int graph_stages(const struct graph *g, struct arena *a, struct graph_stages *out, struct err *e);
