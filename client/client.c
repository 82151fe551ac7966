/* See client.h.  The connection.  Its other end is a scheduler inside this process or a cluster's scheduler over TCP; for
 * everything here both are a peer with which messages are exchanged. */
#include "client/client.h"

#include "base/instance.h"
#include "base/log.h"
#include "base/spool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEARTBEAT_NS    ((uint64_t)MSG_HEARTBEAT_MS * 1000000u)
#define CLIENT_AGAIN_NS ((uint64_t)100000000)

int client_error(struct zpipe_error *to, const struct err *from)
{
    if (to) {
        to->code = from->code;
        to->sys = from->sys;
        memcpy(to->text, from->text, sizeof to->text);
    }
    return -1;
}

_Static_assert(sizeof ((struct zpipe_error *)0)->text == ERR_TEXT_MAX, "the public error holds any of ours");
_Static_assert((int)ZPIPE_BUG == (int)ERR_BUG, "the public codes are the library's");

const char *zpipe_version(void)
{
    return ZPIPE_VERSION;
}

void zpipe_set_log_level(int level)
{
    log_set_level(level < LOG_ERROR ? LOG_ERROR : level > LOG_DEBUG ? LOG_DEBUG : (enum log_level)level);
}

char *zpipe_plain(char *text, bool lines)
{
    return err_plain(text, lines);
}

int zpipe_file(struct zpipe_error *error)
{
    struct err e;
    int fd = spool_open(&e);
    return fd < 0 ? client_error(error, &e) : fd;
}

static struct zpipe_job *job_of(struct zpipe *z, uint64_t number, uint64_t request)
{
    struct zpipe_job *j = z->jobs;
    while (j && !(number && j->number == number) && !(request && j->request == request))
        j = j->next;
    return j;
}

static void lose(struct zpipe *z, const struct err *why)
{
    if (z->lost)
        return;
    z->lost = true;
    z->why = *why;
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        client_job_fail(j, why);
}

static void go_away(struct zpipe *z, const struct err *why)
{
    z->away = true;
    z->away_ns = loop_clock_ns();
    z->why = *why;
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        if (!j->result_here && !j->plan_only)
            client_job_say(j, "zpipe: %s; the job goes on if the scheduler is back within %d s\n", why->text,
                           (int)(CLIENT_WAIT_NS / 1000000000));
}

/* Only the connection broke, or is back.  The session below (proto/session.h) delivers what either side sent meanwhile. */
static void on_away(void *owner, struct peer *p, bool away, const struct err *why)
{
    (void)p;
    struct zpipe *z = owner;
    if (!away)
        z->away = false;
    else if (!z->lost && !z->away)
        go_away(z, why);
}

/* The scheduler is gone.  Its workers go on, so wait for a scheduler to come back.  It is given the jobs once more, and
 * finds what still runs by the job's number and token.  Where something is missing the job begins again: the client has its
 * graph, its inputs and how far its outputs got, so output that is written again is compared and dropped up to there. */
static void part(struct zpipe *z, const struct err *why)
{
    if (z->keeper && !z->lost) {
        if (why->code == ERR_DENIED && !z->welcomed) { /* this key was never accepted as a keeper's */
            lose(z, why);
            return;
        }
        if (!z->away)
            log_warn("scheduler_lost", "why=\"%s\"", why->text);
        z->away = true;
        z->why = *why;
        for (struct zpipe_job *j = z->jobs; j; j = j->next)
            j->accepted = false;
        loop_timer_start(z->loop, &z->again, CLIENT_AGAIN_NS, 0);
        return;
    }
    if (z->lost)
        return;
    /* Our job may run already, even if the scheduler has not answered yet. */
    bool at_work = false, there = z->welcomed || (z->scheduler && peer_through(z->scheduler));
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        at_work |= !j->result_here && !j->plan_only;
    if (!z->cluster[0] || !(there || z->away) || !at_work || (z->away && loop_clock_ns() - z->away_ns >= CLIENT_WAIT_NS)) {
        struct err first = z->away ? z->why : *why;
        lose(z, &first);
        return;
    }
    if (!z->away)
        go_away(z, why);
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        j->accepted = false;
    loop_timer_start(z->loop, &z->again, CLIENT_AGAIN_NS, 0);
}

static void welcome(struct zpipe *z)
{
    bool again = z->away;
    z->welcomed = true;
    z->away = false;
    if (z->keeper)
        z->keeper->welcome(z->keeper->owner);
    for (struct zpipe_job *j = z->jobs; j && again; j = j->next)
        client_job_again(j);
}

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                       const struct msg *m, struct slice bulk)
{
    (void)p, (void)link, (void)role, (void)bulk;
    struct zpipe *z = owner;
    struct zpipe_job *j = NULL;
    struct err e;
    switch (m->type) {
    case MSG_ACCEPT:
        j = job_of(z, 0, m->accept.request);
        break;
    case MSG_PLAN:
        j = job_of(z, 0, m->plan.request);
        break;
    case MSG_ROUTE:
        j = job_of(z, m->route.job, 0);
        break;
    case MSG_TASK:
        j = job_of(z, m->task.job, 0);
        break;
    case MSG_PROGRESS:
        j = job_of(z, m->progress.job, 0);
        break;
    case MSG_BLOCK:
        j = job_of(z, m->block.job, 0);
        break;
    case MSG_RESULT:
        j = job_of(z, m->result.job, m->result.request);
        break;
    case MSG_ANSWER:
        client_answer(z, &m->answer);
        return;
    case MSG_WELCOME:
        welcome(z);
        return;
    case MSG_VISIT:
        if (z->keeper)
            z->keeper->visit(z->keeper->owner, &m->visit);
        return;
    case MSG_REFUSE:
        err_set(&e, (int)m->refuse.code, "the scheduler refused us: %s", m->refuse.text);
        if (z->keeper && (e.code == ERR_GONE || e.code == ERR_PROTO || e.code == ERR_LIMIT))
            part(z, &e); /* we were away for too long: connect again */
        else
            lose(z, &e);
        return;
    case MSG_BYE:
        err_set(&e, ERR_GONE, "the scheduler ended: %s", m->bye.text);
        part(z, &e);
        return;
    default:
        return;
    }
    if (j)
        client_job_message(j, m);
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p, (void)link;
    part(owner, why);
}

int client_send(struct zpipe *z, const struct msg *m, struct slice bulk, struct err *e)
{
    if (z->lost || !z->scheduler) {
        if (e)
            *e = z->why;
        return -1;
    }
    return peer_send(z->scheduler, 0, m, bulk, e);
}

static void beat(struct loop_timer *w)
{
    struct zpipe *z = w->owner;
    struct msg m = {.type = MSG_PING, .ping = {++z->pings}};
    client_send(z, &m, (struct slice){0}, NULL);
    for (struct zpipe_job *j = z->jobs, *next; j && z->cluster[0] && !z->keeper; j = next) {
        next = j->next;
        client_job_expire(j);
    }
}

/* ---- data links, in a cluster */

static void on_data(void *owner, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m,
                    struct slice bulk)
{
    (void)p, (void)link, (void)role;
    struct stream_name name;
    if (!carry_message_name(m, &name))
        return;
    struct zpipe_job *j = job_of(owner, name.job, 0);
    if (j)
        serve_message(j, &name, m, bulk);
}

/* A lost link to a worker is not the end of a job: the scheduler knows whether the worker still lives, and what to do. */
static void on_data_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)link;
    struct zpipe *z = owner;
    struct err e = *why;
    err_wrap(&e, "its data port at %s cannot be reached from the client", peer_url(p));
    for (uint32_t i = 0; i < z->link_count; i++)
        z->link[i].lost |= z->link[i].peer == p;
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        serve_link_lost(j, p, e.text);
}

/* The slot for a new link: one whose link was lost, or a new one. */
static struct client_link *link_place(struct zpipe *z, struct err *e)
{
    for (uint32_t i = 0; i < z->link_count; i++) {
        if (!z->link[i].lost)
            continue;
        peer_close(z->link[i].peer);
        free(z->link[i].url);
        return &z->link[i];
    }
    if (z->link_count == CLIENT_LINKS_MAX) {
        err_set(e, ERR_LIMIT, "more than %d workers", CLIENT_LINKS_MAX);
        return NULL;
    }
    struct client_link *grown = realloc(z->link, (z->link_count + 1) * sizeof *grown);
    if (!grown) {
        err_nomem(e);
        return NULL;
    }
    z->link = grown;
    return &z->link[z->link_count++];
}

struct peer *client_link_to(struct zpipe *z, const char *url, struct slice key, struct err *e)
{
    static const struct peer_events events = {on_data, on_data_lost};
    for (uint32_t i = 0; i < z->link_count; i++)
        if (!z->link[i].lost && !strcmp(z->link[i].url, url))
            return z->link[i].peer;
    char *copy = strdup(url);
    if (!copy)
        err_nomem(e);
    struct peer *p = !copy       ? NULL
                     : z->keeper ? peer_connect(z->net, url, key, MSG_CLIENT, MSG_WORKER, &events, z, e)
                                 : peer_connect_lasting(z->net, url, key, MSG_CLIENT, MSG_WORKER, &events, NULL, z, e);
    struct client_link *l = p ? link_place(z, e) : NULL;
    if (!l) {
        peer_close(p);
        free(copy);
        return NULL;
    }
    *l = (struct client_link){.url = copy, .peer = p};
    return p;
}

/* ---- streams that ended inside their own callback are freed from the loop */

static bool reap_pending(struct loop_hook *w)
{
    struct zpipe *z = w->owner;
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        if (serve_reapable(j))
            return true;
    return false;
}

static void reap(struct loop_hook *w)
{
    struct zpipe *z = w->owner;
    for (struct zpipe_job *j = z->jobs; j; j = j->next)
        if (serve_reapable(j))
            serve_reap(j);
}

/* ---- life */

static void embedded_lost(void *owner, const struct err *why)
{
    lose(owner, why);
}

static int connect_scheduler(struct zpipe *z, struct err *e)
{
    static const struct peer_events events = {on_message, on_lost};
    enum msg_role role = z->keeper ? MSG_KEEPER : MSG_CLIENT;
    const char *url = z->cluster[0] ? z->cluster : EMBEDDED_URL;
    z->scheduler = z->keeper ? peer_connect(z->net, url, (struct slice){0}, role, MSG_SCHEDULER, &events, z, e)
                             : peer_connect_lasting(z->net, url, (struct slice){0}, role, MSG_SCHEDULER, &events, on_away, z, e);
    if (!z->scheduler)
        return -1;
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION,
                              .role = role,
                              .name = "zpipe",
                              .instance = process_instance(),
                              .image = "",
                              .data_url = z->keeper ? z->keeper->data_url : "",
                              .data_key = z->keeper ? net_public_key(z->net) : (struct slice){"", 0},
                              .shared = z->keeper ? z->keeper->shared : ""}};
    return client_send(z, &m, (struct slice){0}, e);
}

static void connect_again(struct loop_timer *w)
{
    struct zpipe *z = w->owner;
    struct err e;
    peer_close(z->scheduler);
    z->scheduler = NULL;
    if (connect_scheduler(z, &e) == 0)
        return;
    if (z->keeper)
        part(z, &e);
    else
        lose(z, &e);
}

static int connect_to(struct zpipe *z, const struct zpipe_options *o, struct err *e)
{
    bool cluster = o->cluster && o->cluster[0];
    if (o->store && spool_place(o->store, e) < 0)
        return -1;
    z->again = (struct loop_timer){.run = connect_again, .owner = z};
    if (!cluster) { /* this starts zpipe-box, which must happen before libzmq starts threads */
        z->no_isolation = o->no_isolation;
        struct embedded_options m = {o->box, o->slots, o->no_isolation, o->no_templates, embedded_lost, z};
        z->embedded = embedded_new(z->loop, &m, e);
        if (!z->embedded)
            return -1;
    } else if (!o->keys || !o->keys[0]) {
        return err_set(e, ERR_INPUT,
                       "the cluster at %s needs keys: set ZPIPE_KEYS or give --keys DIRECTORY", o->cluster);
    } else {
        snprintf(z->cluster, sizeof z->cluster, "%s", o->cluster);
    }
    struct net_options n = {.keys = cluster ? o->keys : NULL, .role = z->keeper ? MSG_KEEPER : MSG_CLIENT, .owner = o->owner};
    z->net = net_new(z->loop, &n, e);
    if (!z->net || (z->embedded && embedded_start(z->embedded, z->net, e) < 0))
        return -1;
    if (z->keeper && z->keeper->ready(z->keeper->owner, z, e) < 0)
        return -1;
    return connect_scheduler(z, e);
}

struct zpipe *client_open(const struct zpipe_options *options, struct client_keeper *k, struct err *e)
{
    struct zpipe *z = calloc(1, sizeof *z);
    if (!z) {
        err_nomem(e);
        return NULL;
    }
    z->keeper = k;
    z->loop = loop_new(e);
    if (!z->loop || connect_to(z, options, e) < 0) {
        zpipe_close(z);
        return NULL;
    }
    z->heartbeat.run = beat;
    z->heartbeat.owner = z;
    loop_timer_start(z->loop, &z->heartbeat, HEARTBEAT_NS, HEARTBEAT_NS);
    z->reaper = (struct loop_hook){.pending = reap_pending, .run = reap, .owner = z};
    loop_hook_start(z->loop, &z->reaper, -1);
    return z;
}

struct zpipe *zpipe_open(const struct zpipe_options *options, struct zpipe_error *error)
{
    static const struct zpipe_options defaults;
    struct err e = {0};
    struct zpipe *z = client_open(options ? options : &defaults, NULL, &e);
    if (!z)
        client_error(error, &e);
    return z;
}

void zpipe_turn(struct zpipe *z, bool wait)
{
    loop_turn(z->loop, wait);
}

void zpipe_close(struct zpipe *z)
{
    if (!z)
        return;
    while (z->jobs)
        zpipe_job_free(z->jobs);
    if (z->scheduler && !z->lost) {
        struct msg m = {.type = MSG_BYE, .bye = {"the client ends"}};
        client_send(z, &m, (struct slice){0}, NULL);
    }
    if (z->loop) {
        loop_timer_stop(z->loop, &z->heartbeat);
        loop_timer_stop(z->loop, &z->again);
        loop_hook_stop(&z->reaper);
    }
    for (uint32_t i = 0; i < z->link_count; i++) {
        peer_close(z->link[i].peer);
        free(z->link[i].url);
    }
    free(z->link);
    peer_close(z->scheduler);
    if (z->keeper)
        z->keeper->close(z->keeper->owner);
    embedded_free(z->embedded);
    net_free(z->net);
    loop_free(z->loop);
    free(z);
}
