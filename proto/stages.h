/* Which commands of a graph run in blocks, and together, so that a block passes all of them in sandboxes
 * joined directly.  There are two kinds of such *stages*.  The planner makes one of a chain of commands
 * whose split says that they may be cut.  The author of a job makes one with `map` or `reduce`: its
 * commands are those of the body, joined as the graph says, its ends are the MAP's or REDUCE's.  The
 * scheduler places and shows stages by this, a worker runs them by it; whatever is in no stage runs once
 * and streams. */
#pragma once
#include "proto/graph.h"

struct graph_stage {
    uint32_t first, count;     /* its programs, in graph_stages.node */
    uint32_t joins;            /* of the planner's: which of them says how outputs of blocks become one: the last, or the one before, where
                                  the last picks from what that one merges: it runs in the blocks, and once behind the merge */
    uint32_t merge_count;      /* behind them there: those of the merge body */
    uint32_t author;           /* the MAP or REDUCE, or GRAPH_NONE: the planner */
    uint32_t cut;              /* enum graph_cut: where its input may be cut */
    bool ranges;               /* who writes to it sorts, in a stage: its blocks are that one's ranges of keys, each passes its first node as it
                                  stands, and what comes of them stands end to end */
    bool no_zeros;             /* a zero byte in its input spoils it, for what follows its first node */
    uint32_t in_edge;          /* its input; GRAPH_NONE: split.file of its first node */
    uint32_t out_edge;         /* its stdout; GRAPH_NONE: nobody reads it */
};

struct graph_stages {
    struct graph_stage *stage; /* in text order */
    uint32_t count;
    uint32_t *node;
    uint32_t *of_node; /* per node: its stage, or GRAPH_NONE; a MAP and all of its body are of one */
    const char **once; /* per node that may be cut and is in no stage: why it runs once; else "".  Static texts */
    uint8_t *exact;    /* per edge: enum graph_exact, flow.h */
};

/* Amounts of memory together; what is more than can be counted is as much as can be. */
uint64_t graph_add_memory(uint64_t a, uint64_t b);
/* What one run of it needs, as its commands declare: of its programs, or those of its merges, all at the same time. */
uint64_t stage_run_memory(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s);

/* Everything in the arena. */
int graph_stages(const struct graph *g, struct arena *a, struct graph_stages *out, struct err *e);
