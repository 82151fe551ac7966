/* A resolved tree to a graph.  What the graph cannot say is refused in one sentence with its place.
 */
#pragma once
#include "dsl/resolve.h"

struct graph;

/* Gives a graph that graph_check has passed, or NULL with the message in e. */
struct graph *lower_tree(struct resolver *r, struct err *e);
