/* Which commands of a graph run in blocks, and together: a *stage* is a chain of commands, each of which
 * reads what the one before wrote for the same block, so that a block passes the whole chain in sandboxes
 * joined directly.  The scheduler places and shows stages by this, a worker runs them by it; whatever is
 * in no stage runs once and streams. */
#pragma once
#include "proto/graph.h"

struct graph_stage {
    uint32_t first, count;     /* its nodes, in graph_stages.node; the last one's combine is the stage's */
    uint32_t cut;              /* enum graph_cut: where its input may be cut */
    bool no_zeros;             /* a zero byte in its input spoils it, for what follows its first node */
    uint32_t in_edge;          /* its input; GRAPH_NONE: split.file of its first node */
    uint32_t out_edge;         /* the last node's stdout; GRAPH_NONE: nobody reads it */
};

struct graph_stages {
    struct graph_stage *stage; /* in text order */
    uint32_t count;
    uint32_t *node;
    uint32_t *of_node; /* per node: its stage, or GRAPH_NONE */
};

/* Everything in the arena. */
int graph_stages(const struct graph *g, struct arena *a, struct graph_stages *out, struct err *e);

/* Bytes of a stage's input, UINT64_MAX: not known before it was read. */
uint64_t graph_stage_bytes(const struct graph *g, const struct graph_stages *s, uint32_t stage);
