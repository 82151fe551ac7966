/* A share: bytes that one side writes and one or several readers read, each at its own pace.  It is used for a BROADCAST,
 * for an edge that must be a spool (proto/flow.h), and for an edge into the body of a map or reduce, which all tasks read.
 * The bytes are kept once, as stretches of files.  A stream is written to an unlinked file; space that all readers have read
 * is given back.
 *
 * If one reader leaves the others are not affected; when all have left the writer is told.  If no reader can be waiting for
 * another one, the writer is made to wait for the slowest, as with a pipe, only later. */
#pragma once
#include "worker/attempt.h"

struct share;

/* Make the shares that this worker needs; call when its stages in blocks exist. */
int shares_make(struct attempt *t, struct err *e);
uint32_t share_ends(const struct share *s); /* how many ends it has with the main region, at most */
int share_meet_main(struct share *s, struct region_end *end, uint32_t *count, struct err *e);
int share_start(struct share *s, struct err *e);
void share_stop(struct share *s);
bool share_over(const struct share *s);
/* News of a channel of the main region; false: the channel is not this share's. */
bool share_moved(struct share *s, uint32_t channel, uint64_t bytes, uint64_t sources);
bool share_pump_ended(struct share *s, uint32_t channel, int sys, bool reading);
void share_free(struct share *s);
