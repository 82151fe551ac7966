/* How much of the scheduler's room each key may have.  One key may be used by many processes, each a peer with bounds of
 * its own; together they could take every place.  A job that a keeper submits counts for the key that brought it. */
#include "scheduler/state.h"

#include <stdlib.h>
#include <string.h>

struct quota *quota_get(struct core *c, const uint8_t *key)
{
    uint64_t name;
    memcpy(&name, key, sizeof name); /* two keys with the same beginning, which nobody can find by chance, share one count */
    struct quota *q = table_get(&c->quotas, name);
    if (q || !(q = calloc(1, sizeof *q)))
        return q;
    q->name = name;
    if (table_put(&c->quotas, name, q))
        return q;
    free(q);
    return NULL;
}

void quota_settle(struct core *c, struct quota *q)
{
    if (!q || q->clients || q->jobs)
        return;
    table_remove(&c->quotas, q->name);
    free(q);
}

int quota_of_job(struct core *c, const struct peer_state *client, uint64_t held, struct quota **out, struct err *e)
{
    const struct held *h = client->keeps && held ? held_of(c, held) : NULL;
    const uint8_t *key = h && h->has_key ? h->key : client->has_key ? client->key : NULL;
    *out = key ? quota_get(c, key) : NULL;
    if (key && !*out)
        return err_nomem(e);
    if (*out && (*out)->jobs == CORE_JOBS_PER_KEY_MAX)
        return err_set(e, ERR_LIMIT, "%d jobs of this key are not over yet, and it is given no more (CORE_JOBS_PER_KEY_MAX)", CORE_JOBS_PER_KEY_MAX);
    return 0;
}

int quota_of_client(struct core *c, struct peer_state *p, struct err *e)
{
    if (p->role != MSG_CLIENT || p->keeps || !p->has_key)
        return 0;
    struct quota *q = quota_get(c, p->key);
    if (!q)
        return err_nomem(e);
    if (q->clients == CORE_CLIENTS_PER_KEY_MAX)
        return err_set(e, ERR_LIMIT, "%d clients with this key are connected, and no more are let in (CORE_CLIENTS_PER_KEY_MAX)", CORE_CLIENTS_PER_KEY_MAX);
    q->clients++;
    p->quota = q;
    return 0;
}
