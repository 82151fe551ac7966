/* See agent.h.  Turns messages into calls on attempts and back; decides nothing about them.
 *
 * A stream's ATTACH may arrive before the RUN it belongs to (it comes over another link), or before the
 * descriptor it will be joined with exists: it waits in `early`, with the credit that followed it, until
 * agent_claim finds it. */
#include "worker/agent.h"
#include "worker/memory.h"

#include "base/instance.h"
#include "base/log.h"
#include "worker/attempt.h"
#include "worker/borrow.h"
#include "worker/image.h"
#include "worker/lend.h"
#include "worker/local.h"
#include "worker/past.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BOXES_LOST_MAX 3 /* one after the other, with no task that ends */
#define EARLY_MAX   4096
#define KEPT_MAX    64 /* jobs that begin anew at once */
#define HEARTBEAT_NS ((uint64_t)MSG_HEARTBEAT_MS * 1000000u)
#define AWAY_MAX_NS  ((uint64_t)60 * 1000000000) /* what runs goes on so long without a scheduler, as clients wait for one */
#define REJOIN_NS    ((uint64_t)100000000)

struct early {
    struct stream_name name;
    uint8_t token[MSG_TOKEN_BYTES];
    uint64_t link, upto_bytes;
    bool left;
};

struct data_link { /* to another worker's data port */
    char *url;
    struct peer *peer;
    bool lost;
};

struct agent {
    struct loop *loop;
    struct net *net;
    char name[128], data_listen[256], advertise[256];
    uint32_t slots;
    uint64_t memory_bytes, memory_used; /* that is for tasks; that what runs here needs */
    const char *image_name; /* borrowed from the options; NULL: none was given */
    const char *shared;     /* likewise; "" */
    bool bare;              /* tasks run behind no wall */
    struct image image;     /* of a daemon */
    struct image_look *look; /* at it, while one is on */
    struct box *box;
    struct loop_fd box_watch;
    bool box_lost;
    uint32_t boxes_lost; /* since a task has ended */
    struct peer *scheduler;
    char scheduler_url[300]; /* what is too long for an address is refused as that */
    bool welcomed;           /* it was, once */
    bool away;               /* the scheduler is gone: */
    uint64_t away_ns;        /* since then; 0: it has welcomed us since */
    struct loop_timer rejoin;/* when what cannot go on has stopped, we try again */
    struct peer *data; /* our data port, NULL in embedded mode */
    struct loop_timer heartbeat;
    struct loop_hook reaper;
    uint64_t pings, region_ids;
    struct region_watch *regions; /* that run */
    uint32_t runs;                /* of blocks, of all attempts */
    bool runs_freed;
    struct attempt *attempts;
    uint32_t attempt_count;
    struct local *kept[KEPT_MAX]; /* of attempts that begin anew; NULL: none */
    uint32_t kept_next;
    struct past *past;    /* of submitted jobs; NULL in embedded mode */
    struct lender lender; /* of our slots to others' attempts */
    bool others_first;    /* when a slot is free next */
    struct early early[EARLY_MAX];
    uint32_t early_count;
    struct data_link links[AGENT_LINKS_MAX];
    uint32_t link_count;
    void (*ready)(void *owner); /* NULL: it was called */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
    bool gone;
};

const char *agent_name(const struct agent *a)
{
    return a->name;
}

const char *agent_shared(const struct agent *a)
{
    return a->shared;
}

struct loop *agent_loop(struct agent *a)
{
    return a->loop;
}

struct box *agent_box(struct agent *a)
{
    return a->box;
}

struct peer *agent_data(const struct agent *a)
{
    return a->data;
}

struct past *agent_past(const struct agent *a)
{
    return a->past;
}

struct net *agent_net(const struct agent *a)
{
    return a->net;
}

void agent_keep_local(struct agent *a, struct local *l)
{
    local_free(a->kept[a->kept_next]);
    a->kept[a->kept_next] = l;
    a->kept_next = (a->kept_next + 1) % KEPT_MAX;
}

struct local *agent_take_local(struct agent *a, uint64_t job)
{
    struct local *found = NULL;
    for (uint32_t i = 0; i < KEPT_MAX && !found; i++)
        if (a->kept[i] && local_job(a->kept[i]) == job) {
            found = a->kept[i];
            a->kept[i] = NULL;
        }
    return found;
}

void agent_step_soon(struct agent *a)
{
    a->runs_freed = true;
}

uint32_t agent_width(const struct agent *a, uint32_t width)
{
    return width ? width : a->slots;
}

/* One job may be told to be wider than this worker; others do not get more by that. */
bool agent_begin_run(struct agent *a, uint32_t running, uint32_t width, uint64_t memory_bytes)
{
    uint32_t own = agent_width(a, width);
    if (running >= own || (a->runs >= a->slots && !width))
        return false;
    if (running && memory_bytes && (a->memory_used > a->memory_bytes || memory_bytes > a->memory_bytes - a->memory_used))
        return false; /* the first one has what the scheduler has kept for it, or it would never be begun */
    a->runs++;
    agent_take_memory(a, memory_bytes);
    return true;
}

void agent_end_run(struct agent *a, uint64_t memory_bytes)
{
    a->runs--;
    agent_give_memory(a, memory_bytes);
    a->runs_freed = true;
}

void agent_take_memory(struct agent *a, uint64_t bytes)
{
    a->memory_used += bytes;
}

void agent_give_memory(struct agent *a, uint64_t bytes)
{
    a->memory_used -= bytes;
    a->runs_freed |= bytes != 0;
}

int agent_run_region(struct agent *a, struct region_watch *w, struct box_region *r, struct err *e)
{
    w->id = ++a->region_ids;
    if (box_run(a->box, w->id, r, e) < 0) {
        w->id = 0;
        return -1;
    }
    w->next = a->regions;
    a->regions = w;
    return 0;
}

bool agent_box_gone(const struct agent *a)
{
    struct pollfd p = {.fd = box_fd(a->box)};
    return poll(&p, 1, 0) != 0;
}

void agent_stop_region(struct agent *a, const struct region_watch *w)
{
    box_stop(a->box, w->id, NULL); /* if it is gone, `lost` ends all regions */
}

static void lose(struct agent *a, const struct err *why)
{
    if (a->gone)
        return;
    a->gone = true;
    if (a->lost)
        a->lost(a->owner, why);
    else
        log_error("worker_lost", "why=\"%s\"", why->text);
}

/* What runs here goes on, if it can, until a scheduler is there that knows of it. */
static void part(struct agent *a, const struct err *why)
{
    if (a->gone || a->away)
        return;
    if (!a->data || !a->welcomed) {
        lose(a, why);
        return;
    }
    log_warn("scheduler_lost", "why=\"%s\"", why->text);
    a->away = true;
    a->away_ns = a->away_ns ? a->away_ns : loop_clock_ns();
    attempts_pause(a->attempts);
    lender_end_all(&a->lender);
    loop_timer_start(a->loop, &a->rejoin, REJOIN_NS, REJOIN_NS);
}

void agent_send(struct agent *a, const struct msg *m)
{
    struct err e;
    if (!a->gone && !a->away && peer_send(a->scheduler, 0, m, (struct slice){0}, &e) < 0)
        part(a, &e);
}

int agent_send_data(struct agent *a, uint64_t link, const struct msg *m)
{
    return peer_send(a->data, link, m, (struct slice){0}, NULL);
}

static struct attempt *find_attempt(struct agent *a, uint64_t job, uint32_t number)
{
    struct attempt *t = a->attempts;
    while (t && (t->job != job || t->number != number))
        t = t->next;
    return t;
}

/* ---- the scheduler's link */

static void on_run(struct agent *a, const struct msg_run *run, struct slice graph)
{
    struct err e;
    if (find_attempt(a, run->job, run->attempt))
        return; /* a repeated RUN changes nothing */
    struct attempt *t = NULL;
    if (a->attempt_count == AGENT_ATTEMPTS_MAX)
        err_set(&e, ERR_LIMIT, "worker '%s' already runs %u attempts", a->name, a->attempt_count);
    else
        t = attempt_new(a, run, graph, &e);
    if (!t) {
        struct msg m = {.type = MSG_FAIL,
                        .fail = {run->job, run->attempt, (uint32_t)e.code, e.text, false}};
        agent_send(a, &m);
        m = (struct msg){.type = MSG_STOPPED, .stopped = {run->job, run->attempt, run->attempt}};
        agent_send(a, &m);
        return;
    }
    net_admit(a->net, MSG_CLIENT, run->client, NULL);
    for (uint32_t i = 0; i < run->admit_count; i++)
        net_admit(a->net, MSG_WORKER, run->admit[i], NULL);
    t->next = a->attempts;
    a->attempts = t;
    a->attempt_count++;
    attempt_begin(t);
}

/* We are the owner: somebody will ATTACH for it, or has already. */
static void on_lent(struct agent *a, const struct msg_lent *m)
{
    struct attempt *t = find_attempt(a, m->job, m->attempt);
    struct stream_name name = {m->job, m->attempt, MSG_LOAN, m->loan, GRAPH_NONE};
    if (!t)
        return;
    borrow_begin(t, m);
    for (uint32_t i = 0; i < a->early_count; i++) {
        struct early e = a->early[i];
        if (!stream_name_equal(&e.name, &name))
            continue;
        a->early[i--] = a->early[--a->early_count];
        struct msg_attach attach = {name.job, name.attempt, {e.token, sizeof e.token}, name.what, name.index, name.node};
        borrow_attach(t, e.link, &attach);
    }
}

static void on_scheduler(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                         const struct msg *m, struct slice bulk)
{
    (void)p, (void)link, (void)role;
    struct agent *a = owner;
    struct attempt *t;
    struct err e;
    switch (m->type) {
    case MSG_RUN:
        on_run(a, &m->run, bulk);
        break;
    case MSG_ROUTE:
        t = find_attempt(a, m->route.job, m->route.reader);
        if (t)
            attempt_reroute(t, &m->route);
        break;
    case MSG_GO_ON:
        t = find_attempt(a, m->go_on.job, m->go_on.attempt);
        if (t)
            attempt_go_on(t);
        break;
    case MSG_STOP:
        t = find_attempt(a, m->stop.job, m->stop.attempt);
        if (t) {
            attempt_stop(t);
            attempt_end_pause(t);
        } else { /* it ended meanwhile, or never came: either way nothing of it is here */
            struct msg gone = {.type = MSG_STOPPED, .stopped = {m->stop.job, m->stop.attempt, m->stop.attempt}};
            agent_send(a, &gone);
        }
        break;
    case MSG_LEND:
        lender_lend(&a->lender, &m->lend, bulk);
        break;
    case MSG_LENT:
        on_lent(a, &m->lent);
        break;
    case MSG_RECALL: /* as its lender, or as its owner */
        t = find_attempt(a, m->recall.job, m->recall.attempt);
        if (!lender_recall(&a->lender, &m->recall) && t)
            borrow_recalled(t, &m->recall);
        break;
    case MSG_REFUSE:
        err_set(&e, (int)m->refuse.code, "the scheduler refused this worker: %s", m->refuse.text);
        if (e.code == ERR_GONE) /* its lease ended: it begins another */
            part(a, &e);
        else
            lose(a, &e);
        break;
    case MSG_DRAINED:
        err_set(&e, ERR_NONE, "%s", m->drained.text);
        lose(a, &e);
        break;
    case MSG_BYE:
        err_set(&e, ERR_GONE, "the scheduler ended: %s", m->bye.text);
        part(a, &e);
        break;
    case MSG_WELCOME:
        a->welcomed = true;
        a->away_ns = 0;
        if (a->ready)
            a->ready(a->owner);
        a->ready = NULL;
        if (a->past)
            past_tell(a->past);
        break;
    default:
        break; /* PING: its arrival is what counts */
    }
}

static void on_scheduler_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p, (void)link;
    part(owner, why);
}

static int join(struct agent *a, struct err *e)
{
    static const struct peer_events events = {on_scheduler, on_scheduler_lost};
    a->scheduler = peer_connect(a->net, a->scheduler_url, (struct slice){0}, MSG_WORKER, MSG_SCHEDULER, &events,
                                a, e);
    if (!a->scheduler)
        return -1;
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION,
                              .role = MSG_WORKER,
                              .name = a->name,
                              .instance = process_instance(),
                              .image = a->image.id,
                              .domain = a->image.domain,
                              .slots = a->slots,
                              .memory_bytes = a->data ? a->memory_bytes : 0, /* in one process a job is never refused for it */
                              .data_url = a->data ? a->advertise : "",
                              .data_key = a->data ? net_public_key(a->net) : (struct slice){"", 0},
                              .shared = a->shared,
                              .remains = attempts_paused(a->attempts)}};
    return peer_send(a->scheduler, 0, &m, (struct slice){0}, e);
}

static void rejoin(struct loop_timer *w)
{
    struct agent *a = w->owner;
    struct err e;
    for (struct attempt *t = a->attempts; t; t = t->next)
        if (!t->paused)
            return;
    if (a->lender.loans)
        return;
    loop_timer_stop(a->loop, w);
    peer_close(a->scheduler);
    a->scheduler = NULL;
    a->away = false;
    if (join(a, &e) < 0)
        lose(a, &e);
    else
        attempts_tell_remains(a->attempts);
}

/* A worker whose packages have changed is another one: what it runs is lost, and it joins anew.  One that is away has not told the
 * next scheduler what it runs: then it looks again. */
static void looked(void *owner, const struct image *now, const struct err *why)
{
    struct agent *a = owner;
    struct err e;
    bool changed = now && strcmp(now->id, a->image.id) != 0;
    if (!now)
        lose(a, why);
    else if (!a->away)
        a->image = *now;
    image_look_free(a->look);
    a->look = NULL;
    if (changed && !a->away) {
        past_forget(a->past);
        err_set(&e, ERR_GONE, "what programs see of this host has changed");
        part(a, &e);
    }
}

static void look_at_image(struct agent *a)
{
    struct err e;
    if (a->data && !a->away && !a->gone && !a->look && image_is_old(&a->image) && !(a->look = image_look(&a->image, a->loop, looked, a, &e)))
        lose(a, &e);
}

static void beat(struct loop_timer *w)
{
    struct agent *a = w->owner;
    struct msg m = {.type = MSG_PING, .ping = {++a->pings}};
    agent_send(a, &m);
    look_at_image(a);
    if (a->past)
        past_tick(a->past);
    for (struct attempt *t = a->attempts; t; t = t->next)
        attempt_look(t);
    for (struct attempt *t = a->attempts; t && a->away_ns && loop_clock_ns() - a->away_ns > AWAY_MAX_NS; t = t->next) {
        attempt_stop(t);
        attempt_end_pause(t);
    }
}

/* ---- data links */

static struct early *find_early(struct agent *a, const struct stream_name *name, uint64_t link)
{
    for (uint32_t i = 0; i < a->early_count; i++)
        if (a->early[i].link == link && stream_name_equal(&a->early[i].name, name))
            return &a->early[i];
    return NULL;
}

static void keep_early(struct agent *a, uint64_t link, const struct msg_attach *m)
{
    if (a->early_count == EARLY_MAX) {
        /* Those whose RUN never came: the oldest goes. */
        memmove(a->early, a->early + 1, (EARLY_MAX - 1) * sizeof *a->early);
        a->early_count--;
    }
    struct early *e = &a->early[a->early_count++];
    *e = (struct early){.name = {m->job, m->attempt, m->what, m->index, m->node}, .link = link};
    if (m->token.size == sizeof e->token)
        memcpy(e->token, m->token.data, sizeof e->token);
}

/* From a lender of ours, or somebody who says so: no client ever has a loan's token, nor a worker's key. */
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

/* The data port's own links only know streams that were attached over them. */
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
        on_borrowed(a, find_attempt(a, name.job, name.attempt), link, role, m, bulk);
        return;
    }
    if (m->type == MSG_ATTACH) {
        struct attempt *t = find_attempt(a, name.job, name.attempt);
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
    struct early *early = p == a->data ? find_early(a, &name, link) : NULL;
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
    struct attempt *t = find_attempt(a, name->job, name->attempt);
    for (uint32_t i = 0; i < a->early_count; i++) {
        struct early was = a->early[i];
        if (!stream_name_equal(&was.name, name))
            continue;
        a->early[i--] = a->early[--a->early_count];
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
        lose(a, why);
    if (p == a->data) { /* what streams go over it is the scheduler's to notice */
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

static const struct peer_events data_events = {on_data, on_data_lost};

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
    struct peer *p = copy ? peer_connect(a->net, url, key, MSG_WORKER, MSG_WORKER, &data_events, a, e)
                          : NULL;
    if (!p) {
        free(copy);
        return NULL;
    }
    a->links[a->link_count++] = (struct data_link){.url = copy, .peer = p};
    return p;
}

/* ---- the box */

static struct region_watch *find_region(struct agent *a, uint64_t id)
{
    struct region_watch *w = a->regions;
    while (w && w->id != id)
        w = w->next;
    return w;
}

static void on_task_ended(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    struct agent *a = owner;
    struct region_watch *w = find_region(owner, region);
    a->boxes_lost = 0;
    if (w && w->events->task_ended)
        w->events->task_ended(w->owner, task, r);
    else
        for (uint32_t i = 0; i < r->made_count; i++)
            if (r->made[i].fd >= 0)
                close(r->made[i].fd);
}

static void on_pump_ended(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys,
                          bool reading)
{
    (void)bytes;
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->pump_ended)
        w->events->pump_ended(w->owner, channel, sys, reading);
}

static void on_kept(void *owner, uint64_t region, uint32_t channel, const struct box_kept *k)
{
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->kept)
        w->events->kept(w->owner, channel, k);
    else if (k->fd >= 0)
        close(k->fd);
}

static void on_moved(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->moved)
        w->events->moved(w->owner, channel, bytes, sources);
}

static void on_bytes(void *owner, uint64_t region, uint32_t task, uint64_t in, uint64_t out)
{
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->bytes)
        w->events->bytes(w->owner, task, in, out);
}

static void on_region_ended(void *owner, uint64_t region)
{
    struct agent *a = owner;
    for (struct region_watch **at = &a->regions; *at; at = &(*at)->next) {
        struct region_watch *w = *at;
        if (w->id != region)
            continue;
        *at = w->next;
        w->id = 0;
        w->events->ended(w->owner);
        return;
    }
}

/* What ran there was lost with it.  Where the host refuses sandboxes, or one zpipe-box after the other ends, nothing more can be run here. */
static void on_box_lost(void *owner, const struct err *why)
{
    struct agent *a = owner;
    loop_fd_stop(a->loop, &a->box_watch);
    for (struct attempt *t = a->attempts; t; t = t->next)
        attempt_box_lost(t, why);
    lender_box_lost(&a->lender);
    while (a->regions)
        on_region_ended(a, a->regions->id);
    a->box_lost = why->code == ERR_GONE && ++a->boxes_lost <= BOXES_LOST_MAX;
    if (!a->box_lost)
        lose(a, why);
    else
        log_warn("box_lost", "why=\"%s\"", why->text);
}

static void box_ready(struct loop_fd *w, int events)
{
    (void)events;
    struct agent *a = w->owner;
    struct err e;
    box_dispatch(a->box);
    if (!a->box_lost)
        return;
    a->box_lost = false;
    if (box_again(a->box, &e) < 0)
        lose(a, &e);
    else
        loop_fd_start(a->loop, &a->box_watch, box_fd(a->box), LOOP_READ);
}

/* ---- life */

static bool reap_pending(struct loop_hook *w)
{
    struct agent *a = w->owner;
    for (struct attempt *t = a->attempts; t; t = t->next)
        if (t->reapable)
            return true;
    return lender_reapable(&a->lender) || (a->runs_freed && (a->attempts || a->lender.loans));
}

static void reap(struct loop_hook *w)
{
    struct agent *a = w->owner;
    struct err e;
    bool had = a->attempts || a->lender.loans;
    if (a->runs_freed) {
        a->runs_freed = false;
        a->others_first = !a->others_first;
        if (a->others_first)
            lender_step(&a->lender);
        for (struct attempt *t = a->attempts; t; t = t->next)
            attempt_step(t);
        lender_step(&a->lender);
    }
    lender_reap(&a->lender);
    for (struct attempt **link = &a->attempts; *link;) {
        struct attempt *t = *link;
        if (attempt_reap(t)) {
            *link = t->next;
            a->attempt_count--;
            attempt_free(t);
        } else {
            link = &t->next;
        }
    }
    /* A daemon's templates die with its last job; an embedded worker's, with the program. */
    if (had && !a->attempts && !a->lender.loans && a->data_listen[0])
        box_forget(a->box, &e);
}

/* Those that this process may use. */
static uint32_t count_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (uint32_t)CPU_COUNT(&set);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus > 0 ? (uint32_t)cpus : 1;
}

struct agent *agent_new(struct loop *l, const struct agent_options *o, struct err *e)
{
    static const struct box_events events = {.task_ended = on_task_ended,
                                             .pump_ended = on_pump_ended,
                                             .kept = on_kept,
                                             .region_ended = on_region_ended,
                                             .bytes = on_bytes,
                                             .moved = on_moved,
                                             .lost = on_box_lost};
    struct agent *a = calloc(1, sizeof *a);
    if (!a) {
        err_nomem(e);
        return NULL;
    }
    a->loop = l;
    a->lender.agent = a;
    if (o->name)
        snprintf(a->name, sizeof a->name, "%s", o->name);
    else if (gethostname(a->name, sizeof a->name - 1) < 0)
        snprintf(a->name, sizeof a->name, "worker");
    snprintf(a->data_listen, sizeof a->data_listen, "%s", o->data_listen ? o->data_listen : "");
    snprintf(a->advertise, sizeof a->advertise, "%s", o->advertise ? o->advertise : "");
    a->slots = o->slots ? o->slots : count_cpus();
    a->memory_bytes = o->memory_bytes ? o->memory_bytes : memory_of_machine() / 100 * MEMORY_SHARE_PERCENT;
    a->image_name = o->image;
    a->shared = o->shared ? o->shared : "";
    a->bare = o->no_isolation;
    struct box_options box = {.program = o->box,
                              .isolation = o->no_isolation ? BOX_ISOLATION_NONE : BOX_ISOLATION_FULL,
                              .no_templates = o->no_templates};
    a->box = box_open(&box, &events, a, e);
    if (!a->box) {
        free(a);
        return NULL;
    }
    a->box_watch.run = box_ready;
    a->box_watch.owner = a;
    loop_fd_start(l, &a->box_watch, box_fd(a->box), LOOP_READ);
    a->reaper = (struct loop_hook){.pending = reap_pending, .run = reap, .owner = a};
    loop_hook_start(l, &a->reaper, -1);
    return a;
}

int agent_start(struct agent *a, struct net *n, const char *scheduler_url, void (*ready)(void *owner),
                void (*lost)(void *owner, const struct err *why), void *owner, struct err *e)
{
    a->net = n;
    a->ready = ready;
    a->lost = lost;
    a->owner = owner;
    if (a->data_listen[0]) {
        a->data = peer_listen(n, a->data_listen, MSG_WORKER, &data_events, a, e);
        if (!a->data)
            return err_wrap(e, "the data port");
        if (!a->advertise[0])
            snprintf(a->advertise, sizeof a->advertise, "%s", peer_url(a->data));
    }
    if (a->data && !(a->past = past_new(a, e)))
        return -1;
    if (a->data && image_find(&a->image, a->image_name, a->bare, e) < 0)
        return -1;
    snprintf(a->scheduler_url, sizeof a->scheduler_url, "%s", scheduler_url);
    a->rejoin.run = rejoin;
    a->rejoin.owner = a;
    if (join(a, e) < 0)
        return -1;
    a->heartbeat.run = beat;
    a->heartbeat.owner = a;
    loop_timer_start(a->loop, &a->heartbeat, HEARTBEAT_NS, HEARTBEAT_NS);
    return 0;
}

void agent_free(struct agent *a)
{
    if (!a)
        return;
    a->lost = NULL;
    if (a->scheduler && !a->gone && !a->away) {
        struct msg m = {.type = MSG_BYE, .bye = {"the worker ends"}};
        agent_send(a, &m);
    }
    a->gone = true;
    loop_fd_stop(a->loop, &a->box_watch);
    loop_hook_stop(&a->reaper);
    loop_timer_stop(a->loop, &a->heartbeat);
    image_look_free(a->look);
    loop_timer_stop(a->loop, &a->rejoin);
    box_close(a->box);
    lender_clear(&a->lender);
    for (uint32_t i = 0; i < KEPT_MAX; i++)
        local_free(a->kept[i]);
    while (a->attempts) {
        struct attempt *t = a->attempts;
        a->attempts = t->next;
        attempt_free(t);
    }
    past_free(a->past);
    for (uint32_t i = 0; i < a->link_count; i++) {
        peer_close(a->links[i].peer);
        free(a->links[i].url);
    }
    peer_close(a->data);
    peer_close(a->scheduler);
    free(a);
}
