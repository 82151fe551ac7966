/* Files of clients that are read where they lie: below the directories that this host has as its clients have
 * them (`zpipe worker --shared`).  Nothing of them is sent, neither by the client nor by one worker to another. */
#pragma once
#include "proto/graph.h"

/* list: PATHs with colons between.  A descriptor of the very file that the client has at this path, read-only, or -1:
 * it is on none of these directories, is another one than the client's, or may not be read by everybody, and is to be
 * sent as any other. */
int shared_open(const char *list, const struct graph_file *f);
