/* See given.h. */
#include "base/given.h"

#include "base/digest.h"

#include <inttypes.h>
#include <string.h>

int given_begin(struct given *g, struct err *e)
{
    running_digest_free(g->again);
    g->again = NULL;
    g->seen = 0;
    if (g->bytes && !(g->again = running_digest_new()))
        return err_nomem(e);
    return 0;
}

static int differs(const struct given *g, struct err *e)
{
    return err_set(e, ERR_BUG,
                   "what it wrote the second time is not the %" PRIu64 " bytes that it had written before, which were given away: " GIVEN_DIFFERS,
                   g->bytes);
}

int given_drop(struct given *g, struct slice *bytes, struct err *e)
{
    uint8_t was[16], is[16];
    if (!g->again)
        return 0;
    uint64_t left = g->bytes - g->seen;
    size_t size = bytes->size < left ? bytes->size : (size_t)left;
    running_digest_add(g->again, bytes->data, size);
    g->seen += size;
    *bytes = (struct slice){(const char *)bytes->data + size, bytes->size - size};
    if (g->seen < g->bytes)
        return 0;
    running_digest_look(g->digest, was);
    running_digest_look(g->again, is);
    running_digest_free(g->again);
    g->again = NULL;
    return memcmp(was, is, sizeof was) ? differs(g, e) : 0;
}

int given_add(struct given *g, const void *data, size_t size, struct err *e)
{
    if (!g->digest && !(g->digest = running_digest_new()))
        return err_nomem(e);
    running_digest_add(g->digest, data, size);
    g->bytes += size;
    return 0;
}

int given_end(const struct given *g, struct err *e)
{
    return g->again ? differs(g, e) : 0;
}

void given_clear(struct given *g)
{
    running_digest_free(g->digest);
    running_digest_free(g->again);
    *g = (struct given){0};
}
