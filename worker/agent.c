/* See agent.h.  The worker's life and its link to the scheduler: turns the scheduler's messages into calls on attempts and
 * the attempts' news into messages; decides nothing about attempts.  Links to and from data ports are in agent_data.c, news
 * from zpipe-box in agent_box.c. */
#include "worker/agent_inside.h"

#include "base/instance.h"
#include "base/log.h"
#include "worker/borrow.h"
#include "worker/memory.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEARTBEAT_NS ((uint64_t)MSG_HEARTBEAT_MS * 1000000u)
#define AWAY_MAX_NS  ((uint64_t)60 * 1000000000) /* how long attempts go on without a scheduler; clients wait for one as long */
#define REJOIN_NS    ((uint64_t)100000000)

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

bool agent_is_bare(const struct agent *a)
{
    return a->bare;
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
    a->kept_next = (a->kept_next + 1) % AGENT_KEPT_MAX;
}

struct local *agent_take_local(struct agent *a, uint64_t job)
{
    struct local *found = NULL;
    for (uint32_t i = 0; i < AGENT_KEPT_MAX && !found; i++)
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

/* A job may ask with -j for more blocks at once than this worker has slots; other jobs do not get more by that. */
bool agent_begin_run(struct agent *a, uint32_t running, uint32_t width, uint64_t memory_bytes)
{
    uint32_t own = agent_width(a, width);
    if (running >= own || (a->runs >= a->slots && !width))
        return false;
    if (running && memory_bytes && (a->memory_used > a->memory_bytes || memory_bytes > a->memory_bytes - a->memory_used))
        return false; /* the stage's first run may always begin: the scheduler has reserved memory for it */
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

void agent_lose(struct agent *a, const struct err *why)
{
    if (a->gone)
        return;
    a->gone = true;
    if (a->lost)
        a->lost(a->owner, why);
    else
        log_error("worker_lost", "why=\"%s\"", why->text);
}

/* The scheduler is gone: attempts that can go on do so, until there is a scheduler that knows of them. */
static void part(struct agent *a, const struct err *why)
{
    if (a->gone || a->away)
        return;
    if (!a->data || !a->welcomed) {
        agent_lose(a, why);
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

struct attempt *agent_attempt(struct agent *a, uint64_t job, uint32_t number)
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
    if (agent_attempt(a, run->job, run->attempt))
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
    t->next = a->attempts;
    a->attempts = t;
    a->attempt_count++;
    attempt_begin(t);
}

/* Our attempt may use slots of another worker: that worker will ATTACH for it, or already has. */
static void on_lent(struct agent *a, const struct msg_lent *m)
{
    struct attempt *t = agent_attempt(a, m->job, m->attempt);
    struct stream_name name = {m->job, m->attempt, MSG_LOAN, m->loan, GRAPH_NONE};
    if (!t)
        return;
    borrow_begin(t, m);
    for (struct early e; early_take(&a->early, &name, &e);) {
        struct msg_attach attach = {name.job, name.attempt, {e.token, sizeof e.token}, name.what, name.index, name.node};
        borrow_attach(t, e.link, &attach);
    }
}

static void on_stop(struct agent *a, const struct msg_stop *m)
{
    struct attempt *t = agent_attempt(a, m->job, m->attempt);
    if (t) {
        attempt_stop(t);
        attempt_end_pause(t);
    } else { /* the attempt ended meanwhile, or never came: either way nothing of it is here */
        struct msg gone = {.type = MSG_STOPPED, .stopped = {m->job, m->attempt, m->attempt}};
        agent_send(a, &gone);
    }
}

static void on_welcome(struct agent *a)
{
    a->welcomed = true;
    a->away_ns = 0;
    if (a->ready)
        a->ready(a->owner);
    a->ready = NULL;
    if (a->past)
        past_tell(a->past);
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
        t = agent_attempt(a, m->route.job, m->route.reader);
        if (t)
            attempt_reroute(t, &m->route);
        break;
    case MSG_GO_ON:
        t = agent_attempt(a, m->go_on.job, m->go_on.attempt);
        if (t)
            attempt_go_on(t);
        break;
    case MSG_STOP:
        on_stop(a, &m->stop);
        break;
    case MSG_LEND:
        lender_lend(&a->lender, &m->lend, bulk);
        break;
    case MSG_LENT:
        on_lent(a, &m->lent);
        break;
    case MSG_RECALL: /* said to the worker that lends the slots, or to the one that uses them */
        t = agent_attempt(a, m->recall.job, m->recall.attempt);
        if (!lender_recall(&a->lender, &m->recall) && t)
            borrow_recalled(t, &m->recall);
        break;
    case MSG_REFUSE:
        err_set(&e, (int)m->refuse.code, "the scheduler refused this worker: %s", m->refuse.text);
        if (e.code == ERR_GONE) /* the lease ended: join again */
            part(a, &e);
        else
            agent_lose(a, &e);
        break;
    case MSG_DRAINED:
        err_set(&e, ERR_NONE, "%s", m->drained.text);
        agent_lose(a, &e);
        break;
    case MSG_BYE:
        err_set(&e, ERR_GONE, "the scheduler ended: %s", m->bye.text);
        part(a, &e);
        break;
    case MSG_WELCOME:
        on_welcome(a);
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
                              .memory_bytes = a->data ? a->memory_bytes : 0, /* when embedded, no job is refused for want of memory */
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
        agent_lose(a, &e);
    else
        attempts_tell_remains(a->attempts);
}

/* The host was looked at again.  If its packages have changed this is another image: what runs is lost, and the worker
 * joins again.  A worker without a scheduler has not told the next one what it runs yet, so it looks before it does. */
static void looked(void *owner, const struct image *now, const struct err *why)
{
    struct agent *a = owner;
    struct err e;
    bool changed = now && strcmp(now->id, a->image.id) != 0;
    if (!now)
        agent_lose(a, why);
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
        agent_lose(a, &e);
}

static void beat(struct loop_timer *w)
{
    struct agent *a = w->owner;
    struct msg m = {.type = MSG_PING, .ping = {++a->pings}};
    agent_send(a, &m);
    look_at_image(a);
    if (a->data && !a->box_lost)
        box_ask(a->box, loop_clock_ns()); /* in a process of the user's own, he may stop what he likes */
    if (a->past)
        past_tick(a->past);
    for (struct attempt *t = a->attempts; t; t = t->next)
        attempt_look(t);
    for (struct attempt *t = a->attempts; t && a->away_ns && loop_clock_ns() - a->away_ns > AWAY_MAX_NS; t = t->next) {
        attempt_stop(t);
        attempt_end_pause(t);
    }
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
    /* Templates of a daemon are given up after its last job; those of an embedded worker go with the process. */
    if (had && !a->attempts && !a->lender.loans && a->data_listen[0])
        box_forget(a->box, &e);
}

/* The CPUs that this process may use. */
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
    a->cpus = count_cpus();
    a->slots = o->slots ? o->slots : a->cpus;
    a->memory_bytes = o->memory_bytes ? o->memory_bytes : memory_of_machine() / 100 * MEMORY_SHARE_PERCENT;
    a->image_name = o->image;
    a->shared = o->shared ? o->shared : "";
    a->bare = o->no_isolation;
    struct box_options box = {.program = o->box,
                              .isolation = o->no_isolation ? BOX_ISOLATION_NONE : BOX_ISOLATION_FULL,
                              .no_templates = o->no_templates};
    a->box = box_open(&box, &agent_box_events, a, e);
    if (!a->box) {
        free(a);
        return NULL;
    }
    a->box_watch.run = agent_box_ready;
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
        a->data = peer_listen(n, a->data_listen, MSG_WORKER, &agent_data_events, a, e);
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
    for (uint32_t i = 0; i < AGENT_KEPT_MAX; i++)
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
