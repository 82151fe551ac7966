/* See agent.h.  The data port, where other processes fetch and deliver streams, and our links to other data ports.
 *
 * A stream's ATTACH may arrive before its RUN, which comes over another link, or before the descriptor exists that it will
 * be connected to.  Then it waits in `early`, with the credit that followed it, until agent_claim finds it. */
#include "worker/agent_inside.h"

#include "base/log.h"
#include "worker/borrow.h"

#include <stdlib.h>
#include <string.h>

static void keep_early(struct agent *a, uint64_t link, const struct msg_attach *m)
{
    early_keep(&a->early, link, peer_link_key(a->data, link), m);
}

/* A message of a lender, or of a peer that claims to be one; clients never have a loan's token, nor a worker's key. */
static void on_borrowed(struct agent *a, struct attempt *t, uint64_t link, enum msg_role role,
                        const struct msg *m, struct slice bulk)
{
    if (m->type != MSG_ATTACH) {
        if (t)
            borrow_message(t, link, m, bulk);
    } else if (m->attach.what != MSG_LOAN || !(role & MSG_WORKER)) {
        peer_drop(a->data, link);
    } else if (!t || !borrow_attach(t, link, &m->attach)) {
        keep_early(a, link, &m->attach);
    }
}

/* A message over our data port: a link there may only speak of streams that were attached over it. */
static void on_data(void *owner, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m,
                    struct slice bulk)
{
    struct agent *a = owner;
    struct stream_name name;
    if (p != a->data && lender_message(&a->lender, p, m, bulk))
        return;
    if (m->type == MSG_DONE)
        name = (struct stream_name){m->done.job, m->done.attempt, MSG_LOAN, m->done.loan, GRAPH_NONE};
    else if (!carry_message_name(m, &name))
        return;
    if (name.what >= MSG_LOAN && p == a->data) {
        on_borrowed(a, agent_attempt(a, name.job, name.attempt), link, role, m, bulk);
        return;
    }
    if (m->type == MSG_ATTACH) {
        struct attempt *t = agent_attempt(a, name.job, name.attempt);
        if (p != a->data)
            return;
        struct attempt_route *r = t ? attempt_route_of(t, name.what, name.index, name.node) : NULL;
        if (t && (m->attach.token.size != sizeof t->token ||
                  memcmp(m->attach.token.data, t->token, sizeof t->token) != 0)) {
            log_warn("stream_refused", "job=%llu link=%llu", (unsigned long long)name.job,
                     (unsigned long long)link);
            peer_drop(p, link);
        } else if (r && r->carry && !carry_bound(r->carry)) {
            attempt_attach(t, p, link, &m->attach);
        } else if (!r || !r->carry) {
            keep_early(a, link, &m->attach);
        }
        return;
    }
    struct early *early = p == a->data ? early_of(&a->early, &name, link) : NULL;
    if (early) {
        if (m->type == MSG_CREDIT && m->credit.upto_bytes > early->upto_bytes)
            early->upto_bytes = m->credit.upto_bytes;
        early->left |= m->type == MSG_LEAVE;
        return;
    }
    struct attempt_route *r = NULL;
    for (struct attempt *t = a->attempts; t && !r; t = t->next)
        r = attempt_stream(t, &name, p == a->data);
    if (r)
        attempt_message(r, m, bulk);
}

int agent_claim(struct agent *a, struct carry *c, struct err *e)
{
    const struct stream_name *name = carry_name(c);
    struct attempt *t = agent_attempt(a, name->job, name->attempt);
    for (struct early was; early_take(&a->early, name, &was);) {
        if (t && memcmp(was.token, t->token, sizeof was.token) != 0)
            continue;
        if (carry_bound(c))
            continue;
        if (carry_bind(c, a->data, was.link, e) < 0)
            return -1;
        struct msg m = {.type = MSG_CREDIT,
                        .credit = {name->job, name->attempt, name->what, name->index, name->node,
                                   was.upto_bytes}};
        if (was.upto_bytes)
            carry_message(c, &m, (struct slice){0});
        m = (struct msg){.type = MSG_LEAVE,
                         .leave = {name->job, name->attempt, name->what, name->index, name->node, 0}};
        if (was.left)
            carry_message(c, &m, (struct slice){0});
    }
    return 0;
}

static void on_data_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    struct agent *a = owner;
    if (p == a->data && why->code == ERR_NOMEM)
        agent_lose(a, why);
    if (p == a->data) { /* the scheduler notices which streams go over our own data port */
        early_forget(&a->early, link);
        for (struct attempt *t = a->attempts; t; t = t->next)
            borrows_link_lost(t, link, why);
        return;
    }
    lender_link_lost(&a->lender, p);
    for (uint32_t i = 0; i < a->link_count; i++)
        if (a->links[i].peer == p)
            a->links[i].lost = true;
    for (struct attempt *t = a->attempts; t; t = t->next)
        attempt_streams_lost(t, peer_url(p), why->text);
}

const struct peer_events agent_data_events = {on_data, on_data_lost};

struct peer *agent_data_peer(struct agent *a, const char *url, struct slice key, struct err *e)
{
    uint32_t at = a->link_count;
    for (uint32_t i = 0; i < a->link_count; i++) {
        if (!a->links[i].lost && !strcmp(a->links[i].url, url))
            return a->links[i].peer;
        if (a->links[i].lost)
            at = i;
    }
    if (at == AGENT_LINKS_MAX) {
        err_set(e, ERR_LIMIT, "more than %d links to other workers", AGENT_LINKS_MAX);
        return NULL;
    }
    if (at < a->link_count) {
        peer_close(a->links[at].peer);
        free(a->links[at].url);
        a->links[at] = a->links[--a->link_count];
    }
    char *copy = strdup(url);
    if (!copy)
        err_nomem(e);
    struct peer *p = copy ? peer_connect(a->net, url, key, MSG_WORKER, MSG_WORKER, &agent_data_events, a, e)
                          : NULL;
    if (!p) {
        free(copy);
        return NULL;
    }
    a->links[a->link_count++] = (struct data_link){.url = copy, .peer = p};
    return p;
}
