/* Files that nobody else can see and that vanish with their last descriptor: unlinked at birth, so that
 * `kill -9` leaves none. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* An empty one on disk, in $TMPDIR, else /var/tmp, else /tmp: readable and writable, close-on-exec. */
int spool_open(struct err *e);

/* One that holds these bytes (in memory: for heredocs), opened at 0. */
int spool_of(struct slice bytes, struct err *e);

/* A second descriptor for the same bytes, read-only, at 0, with an offset of its own. */
int spool_reader(int spool, struct err *e);
