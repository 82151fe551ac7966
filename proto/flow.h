/* How the bytes of a graph must be able to flow, so that programs which wait for each other do not wait for ever, and stop
 * only for reasons that are the same in every run.
 *
 * A program waits for the writer of what it reads, and, when an edge is full, for the reader of what it writes.  Could such
 * waits form a circle?  One edge alone makes no circle, so it would be a circle of the graph with the directions of its
 * edges ignored.  The graph has no circle with directions, so some node in it has both of its edges going out: a *fork*.
 * The circle of waits leaves the fork along one of these two edges, so the fork waits there for a reader.  Hence no circle
 * can close if edges that leave a fork can always be written: these edges are *spools*, bounded only by the disk.  (One
 * spool in each circle is not enough: there must be one for each way round, and the two edges of a fork are just that.) */
#pragma once
#include "base/arena.h"
#include "proto/graph.h"

struct graph_flow {
    bool *spool; /* per edge: its writer must never have to wait */
};

/* Allocates in the arena; takes time linear in the graph's size. */
int graph_flow(const struct graph *g, struct arena *a, struct graph_flow *out, struct err *e);

/* On which edges can it show how far a writer came before its reader left?  It shows in files that the writer leaves, and in
 * what it writes elsewhere (`tee f | head -1`), and so in all that follows, up to a command that reads everything before
 * it writes.  On these edges SIGPIPE must meet the writer at the same byte each time.  For an unknown program that holds if
 * it has a file open for writing, as any of its words may name one. */
enum graph_exact { GRAPH_EXACT_NOT, GRAPH_EXACT_IF_FILES, GRAPH_EXACT_ALWAYS };
int graph_exact(const struct graph *g, struct arena *a, uint8_t **exact, struct err *e); /* per edge */
/* May node `n`, or one further down the stream, end before all of n's input was read? */
bool graph_may_be_left(const struct graph *g, uint32_t n);
