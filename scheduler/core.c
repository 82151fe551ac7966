/* See core.h.  Peers: who they are, how long they may be silent, and what they may say.
 *
 * A message that arrives here has passed the message table (proto/msg.c).  One that comes at a wrong moment, twice, or
 * about something that is not the sender's changes nothing and is counted.  Every event ends in the same way: jobs that
 * can start do, and jobs that are over are freed.
 *
 * A peer is known from its HELLO until its link ends, it says BYE, or it was silent for too long.  The last does not hold
 * for clients: a client may be stopped for as long as its user likes, and if its host is gone its link ends
 * (proto/peer.c).  Then the link is dropped, so that none of its messages can be taken for another peer's.
 *
 * Before: daemon.c.  Next: submit.c for what clients want, job.c for what workers say. */
#include "scheduler/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct core *core_new(const struct core_options *o, struct err *e)
{
    struct core *c = calloc(1, sizeof *c);
    if (!c) {
        err_nomem(e);
        return NULL;
    }
    c->random = o->seed;
    c->job_numbers = c->first_number = o->jobs;
    c->worker_wait_ns = (o->worker_wait_s ? o->worker_wait_s : CORE_WORKER_WAIT_S) * SECOND_NS;
    if ((c->has_owner = o->owner.size == sizeof c->owner))
        memcpy(c->owner, o->owner.data, sizeof c->owner);
    snprintf(c->url, sizeof c->url, "%s", o->url ? o->url : "");
    struct list *const lists[] = {&c->helds,   &c->bringing, &c->workers, &c->clients, &c->jobs, &c->over,
                                  &c->turns,   &c->queued,  &c->stopping, &c->wanting,
                                  &c->lent,    &c->returning, &c->claims,  &c->remnants, &c->leaving};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    return c;
}

static void peers_free(struct list *peers)
{
    while (!list_empty(peers)) {
        struct peer_state *p = LIST_OF(peers->next, peer_state, at);
        list_remove(&p->at);
        remains_lose_worker(p);
        if (p->home && --p->home->peers == 0)
            free(p->home);
        table_clear(&p->requests);
        held_forget_asked(p);
        free(p->shared);
        free(p->holds);
        free(p);
    }
}

void core_free(struct core *c)
{
    if (!c)
        return;
    while (!list_empty(&c->jobs))
        job_free(LIST_OF(c->jobs.next, job, at));
    for (size_t i = 0; i < c->loans.room; i++)
        free(c->loans.slot[i].item);
    while (!list_empty(&c->helds))
        held_remove(c, LIST_OF(c->helds.next, held, at));
    peers_free(&c->workers);
    peers_free(&c->clients);
    table_clear(&c->peers);
    table_clear(&c->homes);
    for (size_t i = 0; i < c->quotas.room; i++)
        free(c->quotas.slot[i].item);
    table_clear(&c->quotas);
    table_clear(&c->jobs_by_number);
    table_clear(&c->loans);
    table_clear(&c->held);
    actions_free(c);
    free(c->fleet.heap);
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

void core_refuse_message(struct core *c)
{
    c->stats.refused++;
}

/* ---- homes */

static uint64_t home_key(const uint8_t *instance)
{
    uint64_t key;
    memcpy(&key, instance, sizeof key);
    return key;
}

/* Instances are 16 random bytes, and the first half is the key here.  If two instances have the same first half something
 * is wrong with one of them, so it gets no home. */
static int home_join(struct core *c, struct peer_state *p, struct slice instance, struct err *e)
{
    static const uint8_t none[16];
    if (instance.size != sizeof none || !memcmp(instance.data, none, sizeof none))
        return 0;
    struct home *h = table_get(&c->homes, home_key(instance.data));
    if (h && memcmp(h->instance, instance.data, sizeof h->instance) != 0)
        return 0;
    if (!h) {
        h = calloc(1, sizeof *h);
        if (!h)
            return err_nomem(e);
        memcpy(h->instance, instance.data, sizeof h->instance);
        if (!table_put(&c->homes, home_key(h->instance), h)) {
            free(h);
            return err_nomem(e);
        }
    }
    h->peers++;
    p->home = h;
    if (p->role == MSG_WORKER && p->slots && !h->worker) {
        h->worker = p;
        c->homes_at_work++;
    }
    return 0;
}

static void home_leave(struct core *c, struct peer_state *p)
{
    struct home *h = p->home;
    p->home = NULL;
    if (!h)
        return;
    if (h->worker == p) {
        h->worker = NULL;
        c->homes_at_work--;
        c->slots_freed = c->lend_again = true; /* its clients may use other workers now */
    }
    if (--h->peers == 0) {
        table_remove(&c->homes, home_key(h->instance));
        free(h);
    }
}

/* ---- peers */

static void refuse(struct core *c, uint64_t link, int code, const char *text)
{
    struct msg m = {.type = MSG_REFUSE, .refuse = {(uint32_t)code, text}};
    core_send(c, link, &m);
    core_drop(c, link);
}

void core_forget(struct core *c, uint64_t now, struct peer_state *p, const char *why)
{
    c->draining -= p->draining;
    table_remove(&c->peers, p->link);
    list_remove(&p->at);
    home_leave(c, p);
    if (p->role == MSG_WORKER) {
        c->stats.workers--;
        fleet_leave(c, now, p);
        remains_lose_worker(p);
        jobs_lose_worker(c, now, p, why);
    } else {
        list_remove(&p->bringing);
        held_lose_keeper(c, p);
        jobs_lose_client(c, now, p);
    }
    if (p->quota)
        p->quota->clients--;
    quota_settle(c, p->quota);
    table_clear(&p->requests);
    free(p->shared);
    free(p->holds);
    free(p);
}

void core_evict(struct core *c, uint64_t now, struct peer_state *p, const char *why)
{
    refuse(c, p->link, ERR_GONE, why);
    core_forget(c, now, p, why);
}

/* Copy a name for terminals: control characters are replaced. */
static void copy_name(char *to, size_t room, const char *from)
{
    snprintf(to, room, "%s", from);
    err_plain(to, false);
}

static struct peer_state *peer_new(uint64_t now, uint64_t link, enum msg_role role,
                                   struct slice key, const struct msg_hello *h)
{
    struct peer_state *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    bool keeps = role == MSG_KEEPER;
    *p = (struct peer_state){.link = link, .role = keeps ? MSG_CLIENT : role, .keeps = keeps, .heard_ns = now};
    struct list *const lists[] = {&p->at, &p->parts, &p->loans, &p->jobs, &p->waiting, &p->turn, &p->held, &p->bringing, &p->asked, &p->remnants};
    if (role != MSG_CLIENT && h->shared && *h->shared && !(p->shared = strdup(h->shared))) {
        free(p);
        return NULL;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    copy_name(p->name, sizeof p->name, h->name);
    copy_name(p->image, sizeof p->image, h->image);
    copy_name(p->domain, sizeof p->domain, h->domain ? h->domain : "");
    snprintf(p->data_url, sizeof p->data_url, "%s", h->data_url);
    if ((p->has_data_key = h->data_key.size == MSG_KEY_BYTES))
        memcpy(p->data_key, h->data_key.data, MSG_KEY_BYTES);
    if ((p->has_key = key.size == MSG_KEY_BYTES))
        memcpy(p->key, key.data, MSG_KEY_BYTES);
    if (role == MSG_WORKER) {
        p->slots = h->slots < CORE_SLOTS_MAX ? h->slots : CORE_SLOTS_MAX;
        p->memory_bytes = h->memory_bytes;
        p->used = p->untold = h->remains < p->slots ? h->remains : p->slots;
    }
    return p;
}

/* Admit a peer that said HELLO.  -1: nothing of it is kept. */
static int admit(struct core *c, uint64_t now, struct peer_state *p, struct slice instance,
                 struct err *e)
{
    if (!table_put(&c->peers, p->link, p)) {
        err_nomem(e);
        free(p->shared);
        free(p);
        return -1;
    }
    list_add(p->role == MSG_WORKER ? &c->workers : &c->clients, &p->at);
    c->stats.workers += p->role == MSG_WORKER;
    if (quota_of_client(c, p, e) < 0 || home_join(c, p, instance, e) < 0 || (p->role == MSG_WORKER && fleet_join(c, p, e) < 0)) {
        p->slots = 0; /* so that it is not counted in the fleet */
        core_forget(c, now, p, e->text);
        return -1;
    }
    return 0;
}

static void on_hello(struct core *c, uint64_t now, uint64_t link, enum msg_role role,
                     struct slice key, const struct msg_hello *h)
{
    struct err e;
    struct peer_state *p = NULL;
    if (h->version != MSG_VERSION)
        err_set(&e, ERR_UNSUPPORTED,
                "this scheduler speaks version %d of the protocol, you speak %u: update the older",
                MSG_VERSION, h->version);
    else if (h->role != (uint32_t)role || (role != MSG_WORKER && role != MSG_CLIENT && role != MSG_KEEPER))
        err_set(&e, ERR_DENIED, "this key is for another role than HELLO says");
    else if (c->peers.count == CORE_PEERS_MAX)
        err_set(&e, ERR_LIMIT, "the scheduler has as many peers as it can (CORE_PEERS_MAX)");
    else if (!(p = peer_new(now, link, role, key, h)))
        err_nomem(&e);
    if (!p || admit(c, now, p, h->instance, &e) < 0) {
        refuse(c, link, e.code, e.text);
        return;
    }
    struct msg m = {.type = MSG_WELCOME,
                    .welcome = {MSG_VERSION, link, MSG_HEARTBEAT_MS, MSG_LEASE_MS}};
    core_send(c, link, &m);
    if (p->keeps)
        held_keeper_came(c);
}

/* ---- events */

static void forgive(struct list *peers, uint64_t ns)
{
    for (struct list *l = peers->next; l != peers; l = l->next)
        LIST_OF(l, peer_state, at)->heard_ns += ns;
}

/* While there are peers an event is due every LOOK_NS, if only a tick.  If one comes much later we ourselves were not
 * running (a suspended machine, a debugger).  What peers said meanwhile has not been read yet, so that time does not count
 * as their silence. */
static void begin_event(struct core *c, uint64_t now)
{
    c->stats.events++;
    uint64_t due = c->event_ns + LOOK_NS;
    if (c->event_ns && now > due + LATE_NS) {
        forgive(&c->workers, now - due);
        forgive(&c->clients, now - due);
    }
    c->began_ns = c->event_ns ? c->began_ns : now;
    c->event_ns = now;
    c->slots_freed = c->slots_freed || c->repeated; /* jobs that may have run before wait for a worker, and that wait may be over */
}

static void heard(struct core *c, uint64_t now, struct peer_state *p)
{
    p->heard_ns = now;
    list_to_end(p->role == MSG_WORKER ? &c->workers : &c->clients, &p->at);
}

static void end_event(struct core *c, uint64_t now)
{
    wait_start(c, now);
    lend_step(c);
    drain_step(c, now);
    jobs_sweep(c);
}

static void dispatch(struct core *c, uint64_t now, struct peer_state *p, const struct msg *m,
                     struct slice bulk)
{
    switch (m->type) {
    case MSG_PING:
        p->settled = true;
        remains_told(c, p, p->untold);
        core_send(c, p->link, m);
        return;
    case MSG_BYE:
        core_forget(c, now, p, "it left");
        return;
    case MSG_SUBMIT:
        if (p->role == MSG_CLIENT)
            job_submit(c, now, p, &m->submit, bulk);
        else
            core_refuse_message(c);
        return;
    case MSG_CANCEL:
        if (p->role == MSG_CLIENT)
            job_cancel(c, now, p, &m->cancel);
        else
            core_refuse_message(c);
        return;
    case MSG_ASK:
        status_answer(c, now, p, &m->ask);
        return;
    case MSG_HELD:
        held_tell(c, now, p, &m->held);
        return;
    case MSG_VISITED:
        held_visited(c, p, &m->visited);
        return;
    case MSG_REMAINS:
        remains_hear(c, now, p, &m->remains);
        return;
    case MSG_HOLDS:
        fleet_holds(c, p, &m->holds);
        return;
    case MSG_LOST:
        job_lost_stream(c, now, p, &m->lost);
        return;
    default: /* a second HELLO is one of these */
        if (p->role == MSG_WORKER)
            job_worker_message(c, now, p, m);
        else
            core_refuse_message(c);
    }
}

void core_message(struct core *c, uint64_t now, uint64_t link, enum msg_role role, struct slice key,
                  const struct msg *m, struct slice bulk)
{
    struct peer_state *p = table_get(&c->peers, link);
    begin_event(c, now);
    if (wait_is_alone(c))
        c->joined_ns = now;
    c->anybody_ns = now;
    if (p) {
        heard(c, now, p);
        dispatch(c, now, p, m, bulk);
    } else if (m->type == MSG_HELLO) {
        on_hello(c, now, link, role, key, &m->hello);
    } else {
        core_refuse_message(c);
        refuse(c, link, ERR_PROTO, "say HELLO first: your lease ended, or you never had one");
    }
    end_event(c, now);
}

void core_lost(struct core *c, uint64_t now, uint64_t link)
{
    struct peer_state *p = table_get(&c->peers, link);
    begin_event(c, now);
    if (p)
        core_forget(c, now, p, "its connection ended");
    end_event(c, now);
}

/* ---- time */

static bool has_lease(const struct peer_state *p)
{
    return (p->role == MSG_WORKER || p->keeps) && (!p->home || p->home->peers < 2);
}

static void forget_silent(struct core *c, uint64_t now, struct list *peers, uint64_t patience)
{
    while (!list_empty(peers)) {
        struct peer_state *p = LIST_OF(peers->next, peer_state, at);
        if (now < p->heard_ns + patience)
            return;
        if (has_lease(p))
            core_evict(c, now, p, "it was silent for longer than its lease");
        else
            heard(c, now, p);
    }
}

void core_check_keys(struct core *c, uint64_t now, bool (*allowed)(void *owner, enum msg_role role, struct slice key),
                     void *owner)
{
    struct list *const lists[] = {&c->workers, &c->clients};
    begin_event(c, now);
    for (size_t i = 0; i < 2; i++)
        for (struct list *l = lists[i]->next, *next; l != lists[i]; l = next) {
            struct peer_state *p = LIST_OF(l, peer_state, at);
            next = l->next;
            if (p->has_key && !allowed(owner, p->keeps ? MSG_KEEPER : p->role, (struct slice){p->key, MSG_KEY_BYTES}))
                core_evict(c, now, p, "your key is not allowed any more");
        }
    end_event(c, now);
}

void core_tick(struct core *c, uint64_t now)
{
    begin_event(c, now);
    forget_silent(c, now, &c->workers, LEASE_NS);
    forget_silent(c, now, &c->clients, KEEPER_SILENT_NS);
    wait_expire(c, now);
    jobs_overdue(c, now);
    lend_overdue(c, now);
    held_expire(c, now);
    remains_expire(c, now);
    end_event(c, now);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t core_next_tick(const struct core *c)
{
    uint64_t next = earlier(earlier(held_deadline(c), remains_deadline(c)), earlier(wait_deadline(c), lend_deadline(c)));
    if (c->peers.count)
        next = earlier(next, c->event_ns + LOOK_NS);
    if (!list_empty(&c->workers))
        next = earlier(next, LIST_OF(c->workers.next, peer_state, at)->heard_ns + LEASE_NS);
    if (!list_empty(&c->clients))
        next = earlier(next, LIST_OF(c->clients.next, peer_state, at)->heard_ns + KEEPER_SILENT_NS);
    if (!list_empty(&c->stopping))
        next = earlier(next, LIST_OF(c->stopping.next, job, timed)->since_ns + STOP_NS);
    return next;
}

struct core_stats core_stats(const struct core *c)
{
    struct core_stats s = c->stats;
    s.running = c->job_count;
    s.clients = c->peers.count - s.workers;
    return s;
}
