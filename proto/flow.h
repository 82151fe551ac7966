/* How the bytes of a graph must be able to flow, so that programs which wait for each other do not wait
 * forever, and stop for good reasons only.
 *
 * A program waits for whoever writes what it reads, and for whoever reads what it writes where that edge holds no
 * more.  Could such waits go round in a circle?  An edge makes no circle alone, so the circle is one of the graph's,
 * with directions left aside; and as the graph has none with them, somebody in it has both edges going out: a
 * *fork*.  The circle leaves the fork by one of the two, that is by a wait for its reader.  So none ever closes if
 * what leaves a fork can always be written: such edges are *spools*, without a ceiling but the disk's.  (One spool
 * in each circle would not do: it must be one for each way round, and two edges of a fork are one of each.) */
#pragma once
#include "base/arena.h"
#include "proto/graph.h"

struct graph_flow {
    bool *spool; /* per edge: nobody may have to wait to write it */
};

/* In the arena; linear in the graph's size. */
int graph_flow(const struct graph *g, struct arena *a, struct graph_flow *out, struct err *e);

/* Where may it be seen how far a program came before its reader left?  In files that it leaves, in what it writes
 * elsewhere (`tee f | head -1`), and so in all that comes behind it, up to a command that reads everything before it
 * writes.  There SIGPIPE must meet the writer at the same byte each time; of a program that nothing is known of, if it has a file
 * open for writing: any of its words may name one. */
enum graph_exact { GRAPH_EXACT_NOT, GRAPH_EXACT_IF_FILES, GRAPH_EXACT_ALWAYS };
int graph_exact(const struct graph *g, struct arena *a, uint8_t **exact, struct err *e); /* per edge */
/* May the reader of what node `n` writes, or one behind it, leave before it has read all of n's input? */
bool graph_may_be_left(const struct graph *g, uint32_t n);
