/* A job's life: see enum job_state in state.h.  Every event first updates the job, then one function,
 * job_settle, looks whether it is over; doing that twice is harmless. */
#include "scheduler/state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void job_free(struct job *j)
{
    graph_free(j->graph);
    free(j->bytes);
    free(j->port);
    free(j->node);
    free(j->part);
    free(j);
}

/* Nothing is said to a client that has gone. */
static void tell_client(struct core *c, uint64_t client, const struct msg *m)
{
    if (core_peer(c, client))
        core_send(c, client, m, (struct slice){"", 0});
}

static void send_result(struct core *c, uint64_t client, uint64_t request, uint64_t job, uint32_t status,
                        bool commit, const struct err *why)
{
    struct msg m = {.type = MSG_RESULT,
                    .result = {request, job, status, commit, (uint32_t)why->code, why->code ? why->text : ""}};
    tell_client(c, client, &m);
}

static bool is_process(const struct graph_node *n)
{
    return n->kind == GRAPH_COMMAND || n->kind == GRAPH_SHELL;
}

/* The last stage's status of the statement that ends at `last`; with pipefail that of the last stage that
 * failed, one that an early stop ended counting as 0. */
static uint32_t statement_status(const struct job *j, uint32_t first, uint32_t last)
{
    uint32_t status = j->node[last].status;
    for (uint32_t i = last + 1; j->graph->pipefail && status == 0 && i-- > first;) {
        const struct graph_node *n = &j->graph->node[i];
        if (is_process(n) && !n->drain && !j->node[i].early_stop)
            status = j->node[i].status;
    }
    return j->graph->node[last].negate ? status == 0 : status;
}

/* That of the first statement, in order, that is not 0. */
static uint32_t job_status(const struct job *j)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        if (!j->graph->node[i].ends || !is_process(&j->graph->node[i]))
            continue;
        uint32_t status = statement_status(j, first, i);
        if (status)
            return status;
        first = i + 1;
    }
    return 0;
}

/* A limit of ours, or a sandbox that failed, is no result of the programs'. */
static void judge(struct job *j)
{
    for (uint32_t i = 0; i < j->graph->node_count && !j->why.code; i++) {
        const struct job_node *n = &j->node[i];
        if (!is_process(&j->graph->node[i]))
            continue;
        if (!n->ended) {
            j->status = 125;
            err_set(&j->why, ERR_BUG, "no worker told how `%.200s` ended", j->graph->node[i].label);
        } else if (n->end == MSG_END_LIMIT) {
            j->status = 124;
            err_set(&j->why, ERR_LIMIT, "`%.200s` reached a limit", j->graph->node[i].label);
        } else if (n->end == MSG_END_FAILED || n->end == MSG_END_KILLED) {
            j->status = 125;
            err_set(&j->why, ERR_IO, "the sandbox of `%.200s` failed", j->graph->node[i].label);
        }
    }
}

static void settle(struct core *c, struct job *j)
{
    if (j->state == JOB_OVER || j->state == JOB_QUEUED)
        return;
    for (uint32_t i = 0; i < j->part_count; i++)
        if (!j->part[i].gone)
            return;
    if (j->state == JOB_RUNNING)
        judge(j);
    bool good = !j->why.code;
    j->state = JOB_OVER;
    c->stats.jobs_done++;
    send_result(c, j->client, j->request, j->number, good ? job_status(j) : j->status, good, &j->why);
}

static void release(struct core *c, struct part *p)
{
    if (p->gone)
        return;
    p->gone = true;
    struct peer_state *w = core_peer(c, p->link);
    if (w && !PLANTED(1))
        w->used -= p->slots;
}

void job_fail(struct core *c, struct job *j, uint32_t status, const struct err *why)
{
    if (j->state == JOB_OVER || j->state == JOB_STOPPING)
        return;
    j->status = status;
    j->why = *why;
    j->state = JOB_STOPPING;
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct msg m = {.type = MSG_STOP, .stop = {j->number, 1, why->text}};
        if (!j->part[i].gone && !PLANTED(2))
            core_send(c, j->part[i].link, &m, (struct slice){"", 0});
    }
    settle(c, j);
}

/* ---- submitting */

static struct job *job_new(const struct msg_submit *m, struct slice graph, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        err_nomem(e);
        return NULL;
    }
    j->graph = graph_decode(graph.data, graph.size, e);
    if (!j->graph)
        goto refuse;
    j->bytes = malloc(graph.size + 1);
    j->port = calloc((size_t)m->port_count + 1, sizeof *j->port);
    j->node = calloc((size_t)j->graph->node_count + 1, sizeof *j->node);
    j->part = calloc((size_t)j->graph->node_count + 1, sizeof *j->part);
    if (!j->bytes || !j->port || !j->node || !j->part) {
        err_nomem(e);
        goto refuse;
    }
    memcpy(j->bytes, graph.data, graph.size);
    j->size = graph.size;
    if (m->port_count)
        memcpy(j->port, m->port, m->port_count * sizeof *j->port);
    j->port_count = m->port_count;
    j->request = m->request;
    j->spread = m->flags & MSG_SUBMIT_SPREAD;
    return j;
refuse:
    job_free(j);
    return NULL;
}

void job_submit(struct core *c, uint64_t now, struct peer_state *client, const struct msg_submit *m,
                struct slice graph)
{
    struct err e = {0};
    struct job *j = NULL;
    for (struct job *o = c->jobs; o; o = o->next)
        if (o->client == client->link && o->request == m->request)
            return; /* said before */
    if (client->jobs == CORE_JOBS_QUEUED_PER_CLIENT_MAX || c->job_count == CORE_JOBS_MAX)
        err_set(&e, ERR_LIMIT, "the scheduler has as many jobs as it takes (CORE_JOBS_MAX, "
                               "CORE_JOBS_QUEUED_PER_CLIENT_MAX)");
    else
        j = job_new(m, graph, &e);
    if (j && m->flags & MSG_SUBMIT_PLAN_ONLY) {
        plan_send(c, client->link, m->request, j->graph);
        job_free(j);
        return;
    }
    const char *refusal = j ? plan_refusal(j->graph) : NULL;
    if (refusal)
        err_set(&e, ERR_UNSUPPORTED, "%s", refusal);
    if (!j || refusal) {
        send_result(c, client->link, m->request, 0, 125, false, &e);
        if (j)
            job_free(j);
        return;
    }
    j->client = client->link;
    j->number = ++c->next_job;
    j->queued_ns = now;
    for (size_t i = 0; i < sizeof j->token; i += sizeof(uint64_t)) {
        uint64_t r = core_random(c);
        memcpy(j->token + i, &r, sizeof r);
    }
    *c->jobs_end = j;
    c->jobs_end = &j->next;
    c->job_count++;
    client->jobs++;
    c->stats.jobs_accepted++;
    struct msg accept = {.type = MSG_ACCEPT, .accept = {m->request, j->number}};
    core_send(c, client->link, &accept, (struct slice){"", 0});
}

static struct job *find(struct core *c, uint64_t number)
{
    struct job *j = c->jobs;
    while (j && j->number != number)
        j = j->next;
    return j;
}

void job_cancel(struct core *c, struct peer_state *client, const struct msg_cancel *m)
{
    struct job *j = c->jobs;
    struct err e;
    while (j && !(j->client == client->link && (m->job ? j->number == m->job : j->request == m->request)))
        j = j->next;
    if (!j || j->state == JOB_OVER)
        return;
    err_set(&e, ERR_CANCELLED, "%s", m->text);
    job_fail(c, j, 125, &e);
}

/* ---- what workers say */

static struct part *part_of(struct job *j, uint64_t link)
{
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].link == link && !j->part[i].gone)
            return &j->part[i];
    return NULL;
}

static void on_task(struct core *c, struct job *j, uint64_t link, const struct msg *m)
{
    const struct msg_task *t = &m->task;
    if (t->node >= j->graph->node_count || j->node[t->node].link != link || j->node[t->node].ended)
        return;
    struct job_node *n = &j->node[t->node];
    n->ended = true;
    n->end = t->end;
    n->status = t->status;
    n->early_stop = t->early_stop;
    tell_client(c, j->client, m);
    if (t->end == MSG_END_LIMIT || t->end == MSG_END_FAILED) {
        struct err e;
        err_set(&e, t->end == MSG_END_LIMIT ? ERR_LIMIT : ERR_IO, "%s", t->text);
        job_fail(c, j, t->end == MSG_END_LIMIT ? 124 : 125, &e);
    }
}

void job_worker_message(struct core *c, struct peer_state *worker, const struct msg *m)
{
    uint64_t number = m->type == MSG_TASK       ? m->task.job
                      : m->type == MSG_PROGRESS ? m->progress.job
                      : m->type == MSG_FAIL     ? m->fail.job
                      : m->type == MSG_STOPPED  ? m->stopped.job
                                                : 0;
    struct job *j = number ? find(c, number) : NULL;
    struct part *p = j && j->state != JOB_OVER ? part_of(j, worker->link) : NULL;
    struct err e;
    if (!p)
        return; /* late, repeated, or about a job that this worker does not have */
    switch (m->type) {
    case MSG_TASK:
        on_task(c, j, worker->link, m);
        break;
    case MSG_PROGRESS:
        tell_client(c, j->client, m);
        break;
    case MSG_FAIL:
        err_set(&e, (int)m->fail.code, "%s", m->fail.text);
        job_fail(c, j, 125, &e);
        break;
    case MSG_STOPPED:
        release(c, p);
        settle(c, j);
        break;
    default:
        break;
    }
}

void job_peer_lost(struct core *c, struct peer_state *p, const char *why)
{
    struct err e;
    for (struct job *j = c->jobs; j; j = j->next) {
        if (j->state == JOB_OVER)
            continue;
        if (p->role == MSG_CLIENT && j->client == p->link) {
            err_set(&e, ERR_GONE, "the client is gone");
            job_fail(c, j, 125, &e);
        }
        struct part *part = p->role == MSG_WORKER ? part_of(j, p->link) : NULL;
        if (!part || PLANTED(3))
            continue;
        part->gone = true;
        err_set(&e, ERR_GONE, "worker '%s' was lost while it ran the job: %s", p->name, why);
        job_fail(c, j, 125, &e);
        settle(c, j);
    }
}

/* ---- waiting, starting, ending */

static bool any_worker(const struct core *c)
{
    for (const struct peer_state *p = c->peers; p; p = p->next)
        if (p->role == MSG_WORKER && p->slots)
            return true;
    return false;
}

void jobs_start(struct core *c, uint64_t now)
{
    bool workers = any_worker(c);
    struct err e;
    for (struct job *j = c->jobs; j; j = j->next) {
        if (j->state != JOB_QUEUED)
            continue;
        if (workers && job_place(c, j)) {
            j->state = JOB_RUNNING;
        } else if (!workers && now >= j->queued_ns + NO_WORKER_NS) {
            err_set(&e, ERR_AGAIN, "no worker is connected to the scheduler: start one with `zpipe worker`");
            job_fail(c, j, 125, &e);
        } else if (workers) {
            j->queued_ns = now; /* it waits for a slot, which is no failure */
        }
    }
}

void jobs_sweep(struct core *c)
{
    struct job **at = &c->jobs;
    while (*at) {
        struct job *j = *at;
        if (j->state != JOB_OVER) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        c->job_count--;
        struct peer_state *client = core_peer(c, j->client);
        if (client)
            client->jobs--;
        job_free(j);
    }
    c->jobs_end = at;
}
