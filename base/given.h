/* How much of a stream was given away, for a stream that may have to begin again.  What comes again is compared by its
 * digest and dropped.  Zeroed: a stream of which nothing was given away. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct running_digest;

/* For messages: why a stream may differ the second time.  Either the program is not deterministic, or a shell reported a
 * child that was killed from outside before the task was stopped, and then no program is at fault. */
#define GIVEN_DIFFERS "it is not deterministic, or reported a process of its own that was killed from outside"

struct given {
    uint64_t bytes;                /* bytes given away */
    struct running_digest *digest; /* digest of these; NULL: none */
    struct running_digest *again;  /* while the stream comes again: digest of its first `seen` bytes */
    uint64_t seen;
};

int given_begin(struct given *g, struct err *e); /* the stream begins, for the first time or again */
/* Removes from `bytes` what was given away before; ERR_BUG: it differs. */
int given_drop(struct given *g, struct slice *bytes, struct err *e);
int given_add(struct given *g, const void *data, size_t size, struct err *e); /* these bytes went out: nothing is left to be dropped */
int given_end(const struct given *g, struct err *e); /* the stream has ended; ERR_BUG: it was longer before */
void given_clear(struct given *g);
