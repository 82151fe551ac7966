/* See core.h.  Peers, time, and the queue of actions; a job's life is in job.c.  A message is looked up by
 * its type and its sender's role; everything else was refused by the message table before it came here,
 * and what comes in a wrong moment changes nothing. */
#include "scheduler/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACTION_BYTES_MAX (64u << 20)

struct core *core_new(const struct core_options *o, struct err *e)
{
    struct core *c = calloc(1, sizeof *c);
    if (!c) {
        err_nomem(e);
        return NULL;
    }
    c->random = o->seed;
    c->jobs_end = &c->jobs;
    c->last = &c->first;
    return c;
}

static void action_free(struct queued_action *q)
{
    if (!q)
        return;
    arena_clear(&q->arena);
    free(q->bulk);
    free(q);
}

void core_free(struct core *c)
{
    if (!c)
        return;
    while (c->peers) {
        struct peer_state *p = c->peers;
        c->peers = p->next;
        free(p);
    }
    while (c->jobs) {
        struct job *j = c->jobs;
        c->jobs = j->next;
        job_free(j);
    }
    while (c->first) {
        struct queued_action *q = c->first;
        c->first = q->next;
        action_free(q);
    }
    action_free(c->taken);
    free(c);
}

/* splitmix64 */
uint64_t core_random(struct core *c)
{
    uint64_t z = c->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

struct peer_state *core_peer(struct core *c, uint64_t link)
{
    struct peer_state *p = c->peers;
    while (p && p->link != link)
        p = p->next;
    return p;
}

/* ---- actions */

static struct queued_action *queue(struct core *c)
{
    struct queued_action *q = calloc(1, sizeof *q);
    if (!q)
        abort(); /* an action that cannot be remembered would be a lie to a peer: end, and restart clean */
    q->arena = ARENA_INIT(ACTION_BYTES_MAX);
    *c->last = q;
    c->last = &q->next;
    return q;
}

void core_send(struct core *c, uint64_t link, const struct msg *m, struct slice bulk)
{
    /* The message goes through its own wire form: that copies whatever it borrows. */
    struct queued_action *q = queue(c);
    struct buf bytes = BUF_INIT(MSG_BYTES_MAX);
    struct err e;
    q->action.kind = CORE_SEND;
    q->action.link = link;
    if (msg_encode(m, &bytes, &e) < 0 || msg_decode(bytes.data, bytes.size, &q->arena, &q->action.msg, &e) < 0)
        q->action.kind = CORE_DROP; /* too large for any frame: the link cannot be served */
    buf_clear(&bytes);
    if (bulk.size) {
        q->bulk = malloc(bulk.size);
        if (!q->bulk)
            abort();
        memcpy(q->bulk, bulk.data, bulk.size);
    }
    q->action.bulk = (struct slice){q->bulk ? q->bulk : "", bulk.size};
}

bool core_next_action(struct core *c, struct core_action *out)
{
    action_free(c->taken);
    struct queued_action *q = c->taken = c->first;
    if (!q)
        return false;
    c->first = q->next;
    if (!c->first)
        c->last = &c->first;
    *out = q->action;
    return true;
}

/* ---- peers */

static void refuse(struct core *c, uint64_t link, int code, const char *text)
{
    struct msg m = {.type = MSG_REFUSE, .refuse = {(uint32_t)code, text}};
    core_send(c, link, &m, (struct slice){"", 0});
    struct queued_action *q = queue(c);
    q->action.kind = CORE_DROP;
    q->action.link = link;
}

static void forget(struct core *c, struct peer_state *p, const char *why)
{
    for (struct peer_state **at = &c->peers; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    c->peer_count--;
    job_peer_lost(c, p, why);
    free(p);
}

static void on_hello(struct core *c, uint64_t now, uint64_t link, enum msg_role role, struct slice key,
                     const struct msg_hello *h)
{
    if (core_peer(c, link))
        return; /* said before */
    if (h->version != MSG_VERSION) {
        refuse(c, link, ERR_UNSUPPORTED, "this scheduler speaks another version: update the older of the two");
        return;
    }
    if (c->peer_count == CORE_PEERS_MAX) {
        refuse(c, link, ERR_LIMIT, "the scheduler has as many peers as it can (CORE_PEERS_MAX)");
        return;
    }
    struct peer_state *p = calloc(1, sizeof *p);
    if (!p) {
        refuse(c, link, ERR_NOMEM, "the scheduler is out of memory");
        return;
    }
    *p = (struct peer_state){.next = c->peers, .link = link, .role = role, .heard_ns = now};
    snprintf(p->name, sizeof p->name, "%s", h->name);
    snprintf(p->data_url, sizeof p->data_url, "%s", h->data_url);
    if (h->instance.size == sizeof p->instance)
        memcpy(p->instance, h->instance.data, sizeof p->instance);
    if ((p->has_data_key = h->data_key.size == MSG_KEY_BYTES))
        memcpy(p->data_key, h->data_key.data, MSG_KEY_BYTES);
    if ((p->has_key = key.size == MSG_KEY_BYTES))
        memcpy(p->key, key.data, MSG_KEY_BYTES);
    p->slots = role == MSG_WORKER ? h->slots : 0;
    c->peers = p;
    c->peer_count++;
    struct msg m = {.type = MSG_WELCOME, .welcome = {MSG_VERSION, link, MSG_HEARTBEAT_MS, MSG_LEASE_MS}};
    core_send(c, link, &m, (struct slice){"", 0});
}

void core_message(struct core *c, uint64_t now, uint64_t link, enum msg_role role, struct slice key,
                  const struct msg *m, struct slice bulk)
{
    struct peer_state *p = core_peer(c, link);
    c->stats.events++;
    if (p)
        p->heard_ns = now;
    if (m->type == MSG_HELLO)
        on_hello(c, now, link, role, key, &m->hello);
    else if (!p)
        refuse(c, link, ERR_PROTO, "say HELLO first: your lease ended, or you never had one");
    else if (m->type == MSG_PING)
        core_send(c, link, m, (struct slice){"", 0});
    else if (m->type == MSG_BYE)
        forget(c, p, m->bye.text);
    else if (m->type == MSG_SUBMIT && p->role == MSG_CLIENT)
        job_submit(c, now, p, &m->submit, bulk);
    else if (m->type == MSG_CANCEL && p->role == MSG_CLIENT)
        job_cancel(c, p, &m->cancel);
    else if (p->role == MSG_WORKER)
        job_worker_message(c, p, m);
    jobs_start(c, now);
    jobs_sweep(c);
}

void core_lost(struct core *c, uint64_t now, uint64_t link)
{
    struct peer_state *p = core_peer(c, link);
    c->stats.events++;
    if (p)
        forget(c, p, "its connection ended");
    jobs_start(c, now);
    jobs_sweep(c);
}

/* Two roles in one process share its fate: there is no lease to lose. */
static bool has_lease(const struct core *c, const struct peer_state *p)
{
    static const uint8_t none[16];
    if (!memcmp(p->instance, none, sizeof none))
        return true;
    for (const struct peer_state *o = c->peers; o; o = o->next)
        if (o != p && !memcmp(o->instance, p->instance, sizeof o->instance))
            return false;
    return true;
}

static uint64_t silent_at(const struct core *c, const struct peer_state *p)
{
    return !has_lease(c, p) ? UINT64_MAX : p->heard_ns + (p->role == MSG_WORKER ? LEASE_NS : CLIENT_SILENT_NS);
}

void core_tick(struct core *c, uint64_t now)
{
    c->stats.events++;
    for (struct peer_state *p = c->peers, *next; p; p = next) {
        next = p->next;
        if (silent_at(c, p) <= now)
            forget(c, p, "it was silent for longer than its lease");
    }
    jobs_start(c, now);
    jobs_sweep(c);
}

uint64_t core_next_tick(const struct core *c)
{
    uint64_t next = UINT64_MAX;
    for (const struct peer_state *p = c->peers; p; p = p->next)
        if (silent_at(c, p) < next)
            next = silent_at(c, p);
    for (const struct job *j = c->jobs; j; j = j->next)
        if (j->state == JOB_QUEUED && j->queued_ns + NO_WORKER_NS < next)
            next = j->queued_ns + NO_WORKER_NS;
    return next;
}

struct core_stats core_stats(const struct core *c)
{
    struct core_stats s = c->stats;
    for (const struct peer_state *p = c->peers; p; p = p->next)
        *(p->role == MSG_WORKER ? &s.workers : &s.clients) += 1;
    for (const struct job *j = c->jobs; j; j = j->next)
        s.running++;
    return s;
}
