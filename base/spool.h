/* Files that nobody else can see and that vanish with their last descriptor: unlinked at birth, so that
 * `kill -9` leaves none. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* Where they are from now on, in this process: a directory that is there.  Else they are in $TMPDIR, if that is set and can
 * be used; else in a directory of zpipe's in the user's cache ($XDG_CACHE_HOME, else ~/.cache), if there is one; else
 * in /var/tmp, else in /tmp. */
int spool_place(const char *directory, struct err *e);
/* What spool_place was told, as a whole path; NULL: nothing. */
const char *spool_chosen(void);
/* zpipe's directory in the user's cache, made if need be; false: there is none. */
bool spool_cache(char *path, size_t size);
/* An empty one on disk: readable and writable, close-on-exec. */
int spool_open(struct err *e);

/* A write to one failed, with errno: says so, where they are, and what to do. */
int spool_write_failed(struct err *e);
/* Is the file system of this one full?  Whoever wrote to it may have lost bytes, and need not say so. */
bool spool_is_full(int spool);

/* One that holds these bytes (in memory: for heredocs), opened at 0. */
int spool_of(struct slice bytes, struct err *e);

/* A second descriptor for the same bytes, read-only, at 0, with an offset of its own. */
int spool_reader(int spool, struct err *e);
