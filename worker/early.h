/* ATTACHes that came before their streams exist: a reader is told where its stream is at the same time as we are told to run
 * its writer.  They wait here, with the credit that followed, until the stream exists.
 *
 * What must stay true: a peer can fill only the share of its key, and then loses its own entries, not those of others. */
#pragma once
#include "base/err.h"
#include "proto/carry.h"

#define EARLY_MAX         16384
#define EARLY_PER_KEY_MAX 4096

struct early {
    struct stream_name name;
    uint8_t token[MSG_TOKEN_BYTES];
    uint64_t link, upto_bytes;
    uint64_t key; /* the first bytes of the key of the link; 0: there are no keys */
    bool left;    /* the reader has already said that it wants no more */
};

struct early_list { /* zeroed is empty */
    struct early item[EARLY_MAX]; /* oldest first */
    uint32_t count;
};

/* Keep an ATTACH.  If its key has EARLY_PER_KEY_MAX entries, or there are EARLY_MAX, the oldest one goes: its RUN never
 * came. */
void early_keep(struct early_list *l, uint64_t link, struct slice key, const struct msg_attach *m);
/* The entry with this name that came over this link; NULL: none. */
struct early *early_of(struct early_list *l, const struct stream_name *name, uint64_t link);
/* Take the first entry with this name out of the list.  false: there is none. */
bool early_take(struct early_list *l, const struct stream_name *name, struct early *out);
void early_forget(struct early_list *l, uint64_t link); /* the link is gone */
