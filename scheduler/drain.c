/* Workers that are to leave: they get no new work, what they run may end, and then they are told to end.  This needs the
 * scheduler's own key; clients own jobs, not machines. */
#include "scheduler/state.h"

#include <string.h>

int drain_ask(struct core *c, const struct peer_state *p, const struct msg_ask *m, struct err *e)
{
    bool found = false;
    if (!c->has_owner || !p->has_key || memcmp(p->key, c->owner, sizeof c->owner))
        return err_set(e, ERR_DENIED,
                       "only the scheduler's own key may drain a worker: give the command on the scheduler's machine, with --keys and "
                       "its directory");
    for (struct list *l = c->workers.next; l != &c->workers; l = l->next) {
        struct peer_state *w = LIST_OF(l, peer_state, at);
        if (strcmp(w->name, m->name))
            continue;
        found = true;
        if (w->draining)
            continue;
        c->draining++;
        fleet_drain(c, w);
        lend_recall_all(c, w, "its worker is drained");
    }
    return found ? 0 : err_set(e, ERR_NOENT, "no worker '%.100s' is connected: `zpipe status` lists them", m->name);
}

void drain_step(struct core *c, uint64_t now)
{
    struct list *next;
    if (!c->draining)
        return;
    for (struct list *l = c->workers.next; l != &c->workers; l = next) {
        struct peer_state *w = LIST_OF(l, peer_state, at);
        struct msg m = {.type = MSG_DRAINED, .drained = {"it was drained"}};
        next = l->next;
        if (!w->draining || w->used || !w->settled)
            continue;
        core_send(c, w->link, &m);
        core_forget(c, now, w, "it was drained");
    }
}
