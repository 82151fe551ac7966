/* Files of clients that are read in place: those below directories that this host has in common with its clients (`zpipe
 * worker --shared`).  Nothing of them is sent, neither by the client nor by one worker to another. */
#pragma once
#include "proto/graph.h"

/* list: PATHs with colons between.  Returns a read-only descriptor of the very file that the client has at this path.  -1:
 * the path is below none of these directories, or the file there is not the client's or may not be read by everybody; then
 * it is to be sent like any other file. */
int shared_open(const char *list, const struct graph_file *f);
