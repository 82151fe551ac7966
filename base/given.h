/* How far a stream was given away that may have to begin anew: what comes again is compared, by its digest, and dropped.
 * Zeroed is a stream of which nothing was given. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct running_digest;

/* The second time it was another: why that can be.  A shell whose child was killed from outside may have said so before the task was
 * stopped, and no program has done wrong then. */
#define GIVEN_DIFFERS "it is not deterministic, or had told of a process of its that was killed from outside"

struct given {
    uint64_t bytes;                /* given away */
    struct running_digest *digest; /* of these; NULL: none */
    struct running_digest *again;  /* while it comes again: of the first `seen` */
    uint64_t seen;
};

int given_begin(struct given *g, struct err *e); /* its first byte comes, for the first time or once more */
/* What of it was given before is taken off `bytes`; ERR_BUG: it was another. */
int given_drop(struct given *g, struct slice *bytes, struct err *e);
int given_add(struct given *g, const void *data, size_t size, struct err *e); /* went out: nothing was left to be dropped */
int given_end(const struct given *g, struct err *e); /* nothing more comes; ERR_BUG: before, there was more */
void given_clear(struct given *g);
