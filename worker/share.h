/* Bytes that one side of an edge writes and one or several read, each at its own pace: a BROADCAST, an edge that
 * must be a spool (proto/flow.h), or one into the body of a map or reduce, whose tasks all read it.  They are kept once, as stretches of files; what comes as a stream comes
 * into an unlinked file, of which what all have read is given back.
 *
 * A reader that leaves is no matter to the others; when all have left, so does the writer.  Where no reader can
 * be waiting for another, the writer waits for the slowest as before a pipe, only longer. */
#pragma once
#include "worker/attempt.h"

struct share;

/* Those that this worker needs: when its stages in blocks are there. */
int shares_make(struct attempt *t, struct err *e);
uint32_t share_ends(const struct share *s); /* at most, with the main region */
int share_meet_main(struct share *s, struct region_end *end, uint32_t *count, struct err *e);
int share_start(struct share *s, struct err *e);
void share_stop(struct share *s);
bool share_over(const struct share *s);
/* News of a channel of the main region; false: not of this one. */
bool share_moved(struct share *s, uint32_t channel, uint64_t bytes, uint64_t sources);
bool share_pump_ended(struct share *s, uint32_t channel, int sys, bool reading);
void share_free(struct share *s);
