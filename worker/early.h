/* ATTACHes that came before what they are about: a reader is told where its stream is at the same time as we are told to run what
 * writes it.  They wait, with the credit that followed, until that is here.
 *
 * What must stay true: whoever may connect can fill no more than his key's share, and then loses his own; nobody else's. */
#pragma once
#include "base/err.h"
#include "proto/carry.h"

#define EARLY_MAX         16384
#define EARLY_PER_KEY_MAX 4096

struct early {
    struct stream_name name;
    uint8_t token[MSG_TOKEN_BYTES];
    uint64_t link, upto_bytes;
    uint64_t key; /* how whose link it is begins; 0: there are no keys */
    bool left;    /* it wants no more, already */
};

struct early_list { /* zeroed is empty */
    struct early item[EARLY_MAX]; /* oldest first */
    uint32_t count;
};

/* Of a key with EARLY_PER_KEY_MAX of them, or where there are EARLY_MAX, the oldest goes: its RUN never came. */
void early_keep(struct early_list *l, uint64_t link, struct slice key, const struct msg_attach *m);
/* What came over this link; NULL: nothing. */
struct early *early_of(struct early_list *l, const struct stream_name *name, uint64_t link);
/* The first of this name, out of the list.  false: there is none any more. */
bool early_take(struct early_list *l, const struct stream_name *name, struct early *out);
void early_forget(struct early_list *l, uint64_t link); /* it is gone */
