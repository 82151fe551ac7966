/* Turns a resolved tree into a graph.  What a graph cannot express is refused with one sentence and its place in the text. */
#pragma once
#include "dsl/resolve.h"

struct graph;

/* Gives a graph that graph_check has passed, or NULL with the message in e. */
struct graph *lower_tree(struct resolver *r, struct err *e);
