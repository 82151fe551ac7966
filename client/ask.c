/* See client.h.  Questions and requests to the scheduler that belong to no job of this connection: what runs, end a job,
 * drain a worker. */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>

/* A question that is being waited for, and its answer. */
struct question {
    uint64_t request;
    bool answered;
    int code;
    struct err why;
    struct zpipe_status *status;
    struct client_place *place; /* gets the answer about a keeper; NULL: the answer is a status */
};

/* A zpipe_status for the caller: its texts are in the arena, all freed at once. */
struct status {
    struct zpipe_status out;
    struct arena arena;
};

#define STATUS_BYTES_MAX (64u << 20)

static int copy(struct status *s, const struct msg_answer *m)
{
    struct arena *a = &s->arena;
    struct zpipe_status_job *job = arena_array(a, (size_t)m->job_count + 1, sizeof *job);
    struct zpipe_status_worker *worker = arena_array(a, (size_t)m->worker_count + 1, sizeof *worker);
    bool good = job && worker;
    for (uint32_t i = 0; good && i < m->job_count; i++) {
        const struct msg_job_row *r = &m->job[i];
        job[i] = (struct zpipe_status_job){.job = r->job,
                                           .state = arena_string(a, r->state),
                                           .text = arena_string(a, r->text),
                                           .workers = arena_string(a, r->workers),
                                           .attempt = r->attempt,
                                           .stages = r->stages,
                                           .stages_ended = r->ended,
                                           .age_ms = r->age_ms};
        good = job[i].state && job[i].text && job[i].workers;
    }
    for (uint32_t i = 0; good && i < m->worker_count; i++) {
        worker[i] = (struct zpipe_status_worker){arena_string(a, m->worker[i].name), m->worker[i].slots,
                                                 m->worker[i].used, m->worker[i].draining,
                                                 arena_string(a, m->worker[i].image), arena_string(a, m->worker[i].domain),
                                                 m->worker[i].memory_bytes, m->worker[i].memory_used_bytes};
        good = worker[i].name && worker[i].image && worker[i].domain;
    }
    s->out = (struct zpipe_status){job, m->job_count, worker, m->worker_count};
    return good ? 0 : -1;
}

static void take_place(struct client_place *p, const struct msg_answer *m)
{
    p->job = m->held;
    snprintf(p->url, sizeof p->url, "%s", m->url);
    snprintf(p->shared, sizeof p->shared, "%s", m->shared);
    snprintf(p->receipt, sizeof p->receipt, "%s", m->receipt);
    p->key_size = m->key.size == sizeof p->key ? sizeof p->key : 0;
    memcpy(p->key, m->key.data, p->key_size);
    memset(p->token, 0, sizeof p->token);
    memcpy(p->token, m->token.data, m->token.size < sizeof p->token ? m->token.size : sizeof p->token);
    p->taken_bytes = m->taken_bytes;
    p->receipt_from = m->receipt_from;
}

void client_answer(struct zpipe *z, const struct msg_answer *m)
{
    struct question *q = z->question;
    if (!q || m->request != q->request)
        return;
    q->answered = true;
    if (m->code) {
        err_set(&q->why, (int)m->code, "%s", m->text);
        return;
    }
    if (q->place) {
        take_place(q->place, m);
        return;
    }
    struct status *s = calloc(1, sizeof *s);
    if (!s) {
        err_nomem(&q->why);
        return;
    }
    s->arena = ARENA_INIT(STATUS_BYTES_MAX);
    q->status = &s->out;
    if (copy(s, m) < 0)
        err_nomem(&q->why);
}

/* Ask, and wait for the answer; q->why says what went wrong. */
static void put(struct zpipe *z, struct question *q, uint32_t what, uint64_t job, const char *name)
{
    struct msg m = {.type = MSG_ASK, .ask = {q->request = ++z->requests, what, job, name}};
    z->question = q;
    if (client_send(z, &m, (struct slice){0}, &q->why) == 0) {
        while (!q->answered && !z->lost && !z->away)
            loop_turn(z->loop, true);
        if (!q->answered)
            q->why = z->why;
    }
    if (!q->answered && q->why.code == ERR_GONE)
        err_wrap(&q->why, "the scheduler was lost while it was asked, ask again");
    z->question = NULL;
}

int client_ask_place(struct zpipe *z, uint32_t what, uint64_t job, struct client_place *out, struct err *e)
{
    struct question q = {.place = out};
    put(z, &q, what, job, "");
    if (q.why.code)
        *e = q.why;
    return q.why.code ? -1 : 0;
}

static int ask(struct zpipe *z, uint32_t what, uint64_t job, const char *name, struct zpipe_status **out, struct zpipe_error *error)
{
    struct question q = {0};
    put(z, &q, what, job, name);
    if (q.why.code) {
        zpipe_status_free(q.status);
        return client_error(error, &q.why);
    }
    *out = q.status;
    return 0;
}

struct zpipe_status *zpipe_status(struct zpipe *z, uint64_t job, struct zpipe_error *error)
{
    struct zpipe_status *s = NULL;
    return ask(z, MSG_ASK_STATUS, job, "", &s, error) < 0 ? NULL : s;
}

void zpipe_status_free(struct zpipe_status *out)
{
    struct status *s = (struct status *)out;
    if (s)
        arena_clear(&s->arena);
    free(s);
}

int zpipe_cancel_number(struct zpipe *z, uint64_t job, struct zpipe_error *error)
{
    struct zpipe_status *s = NULL;
    int r = ask(z, MSG_ASK_CANCEL, job, "", &s, error);
    zpipe_status_free(s);
    return r;
}

int zpipe_drain(struct zpipe *z, const char *worker, struct zpipe_error *error)
{
    struct zpipe_status *s = NULL;
    int r = ask(z, MSG_ASK_DRAIN, 0, worker, &s, error);
    zpipe_status_free(s);
    return r;
}
