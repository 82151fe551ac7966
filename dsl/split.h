/* How the commands of a graph may run in blocks: fills every COMMAND's `split`, or its `why`, from the table of commands.
 * A command that is not known for sure runs whole. */
#pragma once
#include "base/err.h"

struct commands;
struct graph;

int split_graph(struct graph *g, struct commands *c, struct err *e);
