/* Files that nobody else can see and that disappear with their last descriptor.  They are unlinked when they are made, so
 * `kill -9` leaves none. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* Sets the directory in which this process makes them from now on; it must exist.  Otherwise they are in $TMPDIR, if that
 * is set and usable; else in zpipe's directory in the user's cache ($XDG_CACHE_HOME, else ~/.cache), if there is one; else
 * in /var/tmp, else in /tmp. */
int spool_place(const char *directory, struct err *e);
/* The directory given to spool_place, as a whole path; NULL: none was given. */
const char *spool_chosen(void);
/* zpipe's directory in the user's cache, which is made if it does not exist; false: there is none. */
bool spool_cache(char *path, size_t size);
/* Makes an empty one on disk: readable and writable, close-on-exec. */
int spool_open(struct err *e);

/* Fills e after a failed write to one (errno is set): says where they are, and what to do. */
int spool_write_failed(struct err *e);
/* Is this one's file system full?  A program that wrote to it may have lost bytes without saying so. */
bool spool_is_full(int spool);
/* Was one seen to be full since then (CLOCK_MONOTONIC)?  What ran meanwhile may have failed for want of room, also if there is some
 * again.  0: is this one full now? */
bool spool_was_full(int spool, uint64_t since_ns);
void spool_note(int sys); /* a write to one failed for this reason */
/* Closes one, and notes whether it was full until then: its bytes may be the room that there is afterwards. */
void spool_close(int *spool);

/* Makes one that holds these bytes (in memory: for heredocs), with its offset at 0. */
int spool_of(struct slice bytes, struct err *e);

/* A second descriptor for the same bytes, read-only, at 0, with an offset of its own. */
int spool_reader(int spool, struct err *e);
