/* Submitted jobs.  Their client is a keeper: it holds inputs and outputs, and submits the job, as any client does.  So
 * running and running again are not a matter of this file.  It handles what other clients ask: which such jobs there are
 * (keepers say so when they connect, and at each change), and to be let in at the keeper's data port: to bring a job, to
 * take its output, or to read its log.  The keeper knows all of this, and tells a scheduler that was started again.
 *
 * The keeper also says whose job it is; a client sees and ends only the jobs of its own key. */
#include "scheduler/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void held_remove(struct core *c, struct held *h)
{
    table_remove(&c->held, h->number);
    list_remove(&h->at);
    list_remove(&h->of_keeper);
    h->keeper->held_count--;
    free(h);
}

static void say_no(struct core *c, uint64_t link, uint64_t request, const struct err *why)
{
    struct msg m = {.type = MSG_ANSWER, .answer = {.request = request, .code = (uint32_t)why->code, .text = why->text}};
    if (table_get(&c->peers, link))
        core_send(c, link, &m);
}

static void asked_free(struct peer_state *keeper, struct asked *q)
{
    list_remove(&q->at);
    keeper->asked_count--;
    free(q);
}

void held_forget_asked(struct peer_state *keeper)
{
    while (!list_empty(&keeper->asked))
        asked_free(keeper, LIST_OF(keeper->asked.next, asked, at));
}

void held_lose_keeper(struct core *c, struct peer_state *keeper)
{
    while (!list_empty(&keeper->held))
        held_remove(c, LIST_OF(keeper->held.next, held, of_keeper));
    if (keeper->keeps)
        c->keeper_lost_ns = c->event_ns;
    while (!list_empty(&keeper->asked)) { /* what it has not answered is asked again: of another one, or of it when it is back */
        struct asked q = *LIST_OF(keeper->asked.next, asked, at);
        struct peer_state *p = table_get(&c->peers, q.link);
        struct msg_ask m = {.request = q.request, .what = q.what, .job = q.job, .name = ""};
        asked_free(keeper, LIST_OF(keeper->asked.next, asked, at));
        if (p && p != keeper)
            status_answer(c, c->event_ns, p, &m);
    }
}

bool held_is_theirs(const struct held *h, const struct peer_state *p)
{
    return h->has_key == p->has_key && !memcmp(h->key, p->key, sizeof p->key);
}

struct held *held_of(const struct core *c, uint64_t number)
{
    return table_get(&c->held, number);
}

static struct held *held_new(struct core *c, struct peer_state *keeper, uint64_t number)
{
    struct held *h = keeper->held_count < HELD_MAX ? calloc(1, sizeof *h) : NULL;
    if (!h || !table_put(&c->held, number, h)) {
        free(h);
        return NULL;
    }
    h->number = number;
    h->keeper = keeper;
    list_init(&h->at);
    list_init(&h->of_keeper);
    list_add(&c->helds, &h->at);
    list_add(&keeper->held, &h->of_keeper);
    keeper->held_count++;
    return h;
}

static void add_waiting(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m)
{
    list_add(&c->bringing, &p->bringing);
    p->bring_request = m->request;
    p->bring_what = m->what;
    p->bring_job = m->job;
    p->bring_ns = now;
}

/* Takes it out of the list; gives what it asked. */
static struct msg_ask take_waiting(struct peer_state *p)
{
    list_remove(&p->bringing);
    return (struct msg_ask){.request = p->bring_request, .what = p->bring_what, .job = p->bring_job, .name = ""};
}

/* A keeper has told of the job: whoever waited for that is answered. */
static void came(struct core *c, uint64_t now, uint64_t job)
{
    struct list *next;
    for (struct list *l = c->bringing.next; l != &c->bringing; l = next) {
        struct peer_state *p = LIST_OF(l, peer_state, bringing);
        next = l->next;
        if (p->bring_what == MSG_ASK_KEEP || p->bring_job != job)
            continue;
        struct msg_ask m = take_waiting(p);
        status_answer_now(c, now, p, &m);
    }
}

void held_tell(struct core *c, uint64_t now, struct peer_state *keeper, const struct msg_held *m)
{
    struct held *h = held_of(c, m->job);
    if (!keeper->keeps || !m->job || (h && h->keeper != keeper) || (!h && m->gone)) {
        core_refuse_message(c);
        return;
    }
    if (m->gone) {
        held_remove(c, h);
        return;
    }
    if (!h && !(h = held_new(c, keeper, m->job))) {
        core_refuse_message(c); /* the job exists all the same, but nobody can ask for it */
        return;
    }
    if ((h->has_key = m->key.size == MSG_KEY_BYTES))
        memcpy(h->key, m->key.data, MSG_KEY_BYTES);
    snprintf(h->state, sizeof h->state, "%s", m->state);
    snprintf(h->text, sizeof h->text, "%s", m->text);
    uint64_t age_ns = m->age_ms > now / 1000000 ? now : m->age_ms * 1000000;
    h->since_ns = now - age_ns;
    came(c, now, m->job);
}

/* The keeper with the fewest jobs; among equals, the one with the oldest link. */
static struct peer_state *best_keeper(const struct core *c)
{
    struct peer_state *best = NULL;
    for (const struct list *l = c->clients.next; l != &c->clients; l = l->next) {
        struct peer_state *p = LIST_OF(l, peer_state, at);
        if (p->keeps && p->data_url[0] && p->held_count < HELD_MAX &&
            (!best || p->held_count < best->held_count ||
             (p->held_count == best->held_count && p->link < best->link)))
            best = p;
    }
    return best;
}

static int send_visit(struct core *c, const struct peer_state *p, struct peer_state *keeper, const struct msg_ask *m, struct err *e)
{
    struct asked *q = keeper->asked_count < ASKED_MAX ? malloc(sizeof *q) : NULL;
    if (!q)
        return keeper->asked_count < ASKED_MAX ? err_nomem(e) : err_set(e, ERR_AGAIN, "the keeper has %d questions to answer already (ASKED_MAX)", ASKED_MAX);
    *q = (struct asked){.link = p->link, .request = m->request, .job = m->job, .what = m->what};
    list_init(&q->at);
    list_add(&keeper->asked, &q->at);
    keeper->asked_count++;
    uint64_t token[MSG_TOKEN_BYTES / sizeof(uint64_t)];
    for (size_t i = 0; i < sizeof token / sizeof *token; i++)
        token[i] = core_random(c);
    struct msg visit = {.type = MSG_VISIT,
                        .visit = {p->link, m->request, m->what, m->what == MSG_ASK_KEEP ? ++c->job_numbers : m->job,
                                  {p->key, p->has_key ? MSG_KEY_BYTES : 0}, {token, sizeof token}}};
    core_send(c, keeper->link, &visit);
    return 0;
}

/* Wait for a keeper, as a job waits for a worker: so a user who starts a cluster need not wait between starting its parts. */
static int wait_for_keeper(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m, struct err *e)
{
    if (!list_empty(&p->bringing))
        return err_set(e, ERR_AGAIN, "this client waits for a keeper already");
    add_waiting(c, now, p, m);
    return 0;
}

bool held_wait(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m)
{
    uint64_t since = m->job <= c->first_number ? c->began_ns : c->keeper_lost_ns;
    bool may_come = m->job && m->job <= c->job_numbers && since && now < since + c->worker_wait_ns;
    if (!may_come || m->what == MSG_ASK_DRAIN || m->what == MSG_ASK_KEEP || held_of(c, m->job) || table_get(&c->jobs_by_number, m->job) ||
        !list_empty(&p->bringing))
        return false;
    add_waiting(c, now, p, m);
    return true;
}

void held_keeper_came(struct core *c)
{
    struct peer_state *keeper;
    struct list *next;
    for (struct list *l = c->bringing.next; l != &c->bringing && (keeper = best_keeper(c)); l = next) {
        struct peer_state *p = LIST_OF(l, peer_state, bringing);
        struct err e;
        next = l->next;
        if (p->bring_what != MSG_ASK_KEEP)
            continue;
        struct msg_ask m = take_waiting(p);
        if (send_visit(c, p, keeper, &m, &e) < 0)
            say_no(c, p->link, m.request, &e);
    }
}

uint64_t held_deadline(const struct core *c)
{
    return list_empty(&c->bringing) ? UINT64_MAX : LIST_OF(c->bringing.next, peer_state, bringing)->bring_ns + c->worker_wait_ns;
}

void held_expire(struct core *c, uint64_t now)
{
    while (now >= held_deadline(c)) {
        struct peer_state *p = LIST_OF(c->bringing.next, peer_state, bringing);
        struct msg_ask m = take_waiting(p);
        struct err e;
        if (m.what != MSG_ASK_KEEP) {
            status_answer_now(c, now, p, &m);
            continue;
        }
        err_set(&e, ERR_AGAIN,
                "no keeper is connected to the scheduler%s%s: start one with `zpipe keeper`, where there is room for inputs and outputs",
                c->url[0] ? " at " : "", c->url);
        say_no(c, p->link, m.request, &e);
    }
}

int held_ask(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m, struct err *e)
{
    bool keep = m->what == MSG_ASK_KEEP;
    struct held *h = keep ? NULL : held_of(c, m->job);
    if (!keep && (!h || !held_is_theirs(h, p)))
        return err_set(e, ERR_NOENT,
                       "no submitted job of yours has the number %llu: it was discarded, never was, or its keeper is away",
                       (unsigned long long)m->job);
    struct peer_state *keeper = keep ? best_keeper(c) : h->keeper;
    if (!keeper)
        return wait_for_keeper(c, now, p, m, e);
    return send_visit(c, p, keeper, m, e);
}

static struct asked *asked_of(const struct peer_state *keeper, uint64_t link, uint64_t request)
{
    for (struct list *l = keeper->asked.next; l != &keeper->asked; l = l->next)
        if (LIST_OF(l, asked, at)->link == link && LIST_OF(l, asked, at)->request == request)
            return LIST_OF(l, asked, at);
    return NULL;
}

/* Pass the keeper's answer on to the client that asked, if it is still there. */
void held_visited(struct core *c, struct peer_state *keeper, const struct msg_visited *m)
{
    struct peer_state *p = table_get(&c->peers, m->link);
    struct asked *q = asked_of(keeper, m->link, m->request);
    if (!q) {
        core_refuse_message(c); /* no one asked, or it was answered already */
        return;
    }
    asked_free(keeper, q);
    if (!p)
        return;
    struct msg answer = {.type = MSG_ANSWER,
                         .answer = {.request = m->request,
                                    .code = m->code,
                                    .text = m->text,
                                    .held = m->job,
                                    .url = keeper->data_url,
                                    .key = {keeper->data_key, keeper->has_data_key ? MSG_KEY_BYTES : 0},
                                    .token = m->token,
                                    .shared = keeper->shared ? keeper->shared : "",
                                    .taken_bytes = m->taken_bytes,
                                    .receipt = m->receipt,
                                    .receipt_from = m->receipt_from}};
    core_send(c, p->link, &answer);
}
