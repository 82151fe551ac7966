/* A job's life.  Whatever happens to a job is an event in one table; an empty cell cannot happen
 * there: the message that claimed it is refused.  First the job is updated, then it acts; whether
 * it is over is looked at in one place, job_settle, and looking twice is harmless.
 *
 * What must stay true: a job in SENT, RUNNING or STOPPING has parts left, and every part left holds
 * its slots; a job becomes OVER once, and that is where its one RESULT is sent. */
#include "scheduler/state.h"

#include <assert.h>
#include <stdlib.h>

typedef void act(struct core *c, uint64_t now, struct job *j, const struct msg *m);
static act nothing, tell, note_task, stop_parts, say_verdict, say_failure, evict_parts;

static const struct job_cell {
    enum job_state next;
    act *act; /* NULL: cannot happen */
} cells[JOB_STATES][JOB_EVENTS] = {
    [JOB_QUEUED] =
        {
            [JOB_PLACED] = {JOB_SENT, nothing},
            [JOB_FAILED] = {JOB_OVER,
                            say_failure}, /* no worker for too long, or none can ever run it */
            [JOB_CANCELLED] = {JOB_OVER, say_failure},
            [JOB_ORPHANED] = {JOB_OVER, nothing},
        },
    [JOB_SENT] =
        {
            [JOB_STARTED] = {JOB_RUNNING, nothing},
            [JOB_TASK] = {JOB_RUNNING, note_task},
            [JOB_MOVED] = {JOB_RUNNING, tell},
            [JOB_FAILED] = {JOB_STOPPING, stop_parts},
            [JOB_CANCELLED] = {JOB_STOPPING, stop_parts},
            [JOB_ORPHANED] = {JOB_STOPPING, stop_parts},
            [JOB_STOPPED] = {JOB_OVER, say_verdict},
        },
    [JOB_RUNNING] =
        {
            [JOB_STARTED] = {JOB_RUNNING, nothing}, /* its other workers */
            [JOB_TASK] = {JOB_RUNNING, note_task},
            [JOB_MOVED] = {JOB_RUNNING, tell},
            [JOB_FAILED] = {JOB_STOPPING, stop_parts},
            [JOB_CANCELLED] = {JOB_STOPPING, stop_parts},
            [JOB_ORPHANED] = {JOB_STOPPING, stop_parts},
            [JOB_STOPPED] = {JOB_OVER, say_verdict},
        },
    [JOB_STOPPING] =
        {
            /* late but harmless: sent before STOP was read */
            [JOB_STARTED] = {JOB_STOPPING, nothing},
            [JOB_TASK] = {JOB_STOPPING, note_task},
            [JOB_MOVED] = {JOB_STOPPING, tell},
            /* the first reason stands */
            [JOB_FAILED] = {JOB_STOPPING, nothing},
            [JOB_CANCELLED] = {JOB_STOPPING, nothing},
            [JOB_ORPHANED] = {JOB_STOPPING, nothing},
            [JOB_STOPPED] = {JOB_OVER, say_failure},
            [JOB_OVERDUE] = {JOB_STOPPING, evict_parts},
        },
    [JOB_OVER] = {{0}}, /* nobody can name it any more */
};

/* What belongs to being in a state: membership in the lists of those that wait. */
static void leave(struct core *c, struct job *j)
{
    if (j->state == JOB_QUEUED)
        wait_remove(c, j);
    else if (j->state == JOB_STOPPING)
        list_remove(&j->timed);
}

static void enter(struct core *c, uint64_t now, struct job *j)
{
    if (j->state == JOB_STOPPING) {
        j->since_ns = now;
        list_add(&c->stopping, &j->timed);
    } else if (j->state == JOB_OVER) {
        list_to_end(&c->over, &j->at);
        table_remove(&c->jobs_by_number, j->number);
        c->job_count--;
        c->stats.jobs_done++;
        c->graph_bytes -= j->bytes->size;
        if (j->client) {
            list_remove(&j->of_client);
            table_remove(&j->client->requests, j->request);
            j->client->graph_bytes -= j->bytes->size;
        }
    }
}

bool job_step(struct core *c, uint64_t now, struct job *j, enum job_event event,
              const struct msg *m)
{
    const struct job_cell *cell = &cells[j->state][event];
    if (!cell->act)
        return false;
    if (cell->next != j->state) {
        leave(c, j);
        j->state = cell->next;
        enter(c, now, j);
    }
    cell->act(c, now, j, m);
    return true;
}

static void job_settle(struct core *c, uint64_t now, struct job *j)
{
    if (j->parts_left == 0)
        job_step(c, now, j, JOB_STOPPED, NULL); /* refused where it is over already */
}

/* ---- actions */

static void nothing(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)c, (void)now, (void)j, (void)m;
}

static void tell(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)now;
    if (j->client)
        core_send(c, j->client->link, m);
}

static void note_task(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    const struct msg_task *t = &m->task;
    struct job_node *n = &j->node[t->node];
    n->ended = true;
    n->end = t->end;
    n->status = t->status;
    n->early_stop = t->early_stop;
    tell(c, now, j, m);
    bool limit = t->end == MSG_END_LIMIT;
    if (!limit && t->end != MSG_END_FAILED)
        return;
    if (limit && graph_fail_of(&j->graph->node[t->node]) == GRAPH_FAIL_GO)
        return; /* a result like any other */
    struct err e;
    err_set(&e, limit ? ERR_LIMIT : ERR_IO, "%s", t->text);
    if (!t->text[0])
        err_set(&e, e.code, limit ? "`%.200s` reached a limit" : "the sandbox of `%.200s` failed",
                j->graph->node[t->node].label);
    job_fail(c, now, j, limit ? 124 : 125, &e);
}

static void stop_parts(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)m;
    struct msg stop = {.type = MSG_STOP, .stop = {j->number, JOB_ATTEMPT, j->why.text}};
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].worker)
            core_send(c, j->part[i].worker->link, &stop);
    for (uint32_t i = 0; i < j->part_count; i++)
        lend_want(c, &j->part[i], 0);
    job_settle(c, now, j);
}

static void say_result(struct core *c, const struct job *j, uint32_t status)
{
    struct msg m = {.type = MSG_RESULT,
                    .result = {.request = j->request,
                               .job = j->number,
                               .status = status,
                               .commit = !j->failed,
                               .code = j->failed ? (uint32_t)j->why.code : 0,
                               .text = j->failed ? j->why.text : ""}};
    if (j->client)
        core_send(c, j->client->link, &m);
}

static void say_verdict(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)now, (void)m;
    say_result(c, j, verdict(j));
}

static void say_failure(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)now, (void)m;
    assert(j->failed);
    say_result(c, j, j->status);
}

/* A worker that cannot end what it runs is not to be given more. */
static void evict_parts(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)m;
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].worker)
            core_evict(c, now, j->part[i].worker, "it did not end a job that it was told to stop");
}

/* ---- events */

static void blame(struct job *j, uint32_t status, const struct err *why)
{
    if (j->failed)
        return;
    j->failed = true;
    j->status = status;
    j->why = *why;
}

void job_fail(struct core *c, uint64_t now, struct job *j, uint32_t status, const struct err *why)
{
    blame(j, status, why);
    job_step(c, now, j, JOB_FAILED, NULL);
}

/* By its number or, before that is known, by the client's.  Only the client's own can be found. */
void job_cancel(struct core *c, uint64_t now, struct peer_state *client, const struct msg_cancel *m)
{
    struct job *j =
        m->job ? table_get(&c->jobs_by_number, m->job) : table_get(&client->requests, m->request);
    if (!j || j->client != client) {
        core_refuse_message(c);
        return;
    }
    struct err e;
    err_set(&e, ERR_CANCELLED, "%s", m->text);
    blame(j, 125, &e);
    job_step(c, now, j, JOB_CANCELLED, NULL);
}

static void release(struct core *c, struct part *p)
{
    lend_part_over(c, p);
    list_remove(&p->at);
    fleet_release(c, p->worker, p->slots);
    p->worker = NULL;
    p->job->parts_left--;
}

static struct part *part_of(const struct job *j, const struct peer_state *worker)
{
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].worker == worker)
            return &j->part[i];
    return NULL;
}

struct claim { /* what a worker's message is about */
    uint64_t job;
    uint32_t attempt;
    enum job_event event;
};

static bool claim_of(const struct msg *m, struct claim *out)
{
    switch (m->type) {
    case MSG_STARTED:
        *out = (struct claim){m->started.job, m->started.attempt, JOB_STARTED};
        return true;
    case MSG_TASK:
        *out = (struct claim){m->task.job, m->task.attempt, JOB_TASK};
        return true;
    case MSG_PROGRESS: /* it names no attempt */
        *out = (struct claim){m->progress.job, JOB_ATTEMPT, JOB_MOVED};
        return true;
    case MSG_BLOCK:
        *out = (struct claim){m->block.job, m->block.attempt, JOB_MOVED};
        return true;
    case MSG_FAIL:
        *out = (struct claim){m->fail.job, m->fail.attempt, JOB_FAILED};
        return true;
    case MSG_STOPPED:
        *out = (struct claim){m->stopped.job, m->stopped.attempt, JOB_STOPPED};
        return true;
    default:
        return false;
    }
}

/* Of slots lent: what an owner could use, and what a lender gave back. */
static void loan_message(struct core *c, struct peer_state *worker, const struct msg *m)
{
    bool good = false;
    if (m->type == MSG_RETURNED) {
        good = lend_returned(c, worker, &m->returned);
    } else {
        struct job *j = table_get(&c->jobs_by_number, m->want.job);
        struct part *p = j && m->want.attempt == JOB_ATTEMPT ? part_of(j, worker) : NULL;
        if ((good = p != NULL))
            lend_want(c, p, m->want.slots);
    }
    if (!good)
        core_refuse_message(c);
}

/* The node that the message names must be the part's, and a stage ends once. */
static bool node_fits(const struct job *j, const struct part *p, const struct msg *m)
{
    uint32_t node = m->type == MSG_TASK ? m->task.node : m->type == MSG_BLOCK ? m->block.node : m->progress.node;
    return node < j->graph->node_count && j->node[node].part == (uint32_t)(p - j->part) &&
           !(m->type == MSG_TASK && j->node[node].ended);
}

/* A worker at work on what nobody knows of is told to end it; one that has nothing left, or repeats
 * itself, needs no answer. */
static void not_theirs(struct core *c, const struct peer_state *worker, const struct claim *claim)
{
    core_refuse_message(c);
    if (claim->event == JOB_STOPPED)
        return;
    struct msg m = {.type = MSG_STOP, .stop = {claim->job, claim->attempt, "no such job is yours"}};
    core_send(c, worker->link, &m);
}

void job_worker_message(struct core *c, uint64_t now, struct peer_state *worker,
                        const struct msg *m)
{
    struct claim claim;
    if (m->type == MSG_WANT || m->type == MSG_RETURNED) {
        loan_message(c, worker, m);
        return;
    }
    if (!claim_of(m, &claim)) {
        core_refuse_message(c);
        return;
    }
    struct job *j = table_get(&c->jobs_by_number, claim.job);
    struct part *p = j && claim.attempt == JOB_ATTEMPT ? part_of(j, worker) : NULL;
    if (!p) {
        not_theirs(c, worker, &claim);
        return;
    }
    if (claim.event == JOB_STOPPED) {
        release(c, p);
        job_settle(c, now, j);
    } else if (claim.event == JOB_FAILED) {
        struct err e;
        err_set(&e, m->fail.code ? (int)m->fail.code : ERR_IO, "%s", m->fail.text);
        job_fail(c, now, j, 125, &e);
    } else if ((claim.event != JOB_STARTED && !node_fits(j, p, m)) ||
               !job_step(c, now, j, claim.event, m)) {
        core_refuse_message(c);
    }
}

void jobs_lose_client(struct core *c, uint64_t now, struct peer_state *client)
{
    struct err e;
    err_set(&e, ERR_GONE, "the client is gone");
    while (!list_empty(&client->jobs)) {
        struct job *j = LIST_OF(client->jobs.next, job, of_client);
        blame(j, 125, &e);
        if (j->state == JOB_QUEUED) { /* over at once, and that unlinks it */
            job_step(c, now, j, JOB_ORPHANED, NULL);
            continue;
        }
        list_remove(&j->of_client);
        j->client = NULL;
        job_step(c, now, j, JOB_ORPHANED, NULL);
    }
}

void jobs_lose_worker(struct core *c, uint64_t now, struct peer_state *worker, const char *why)
{
    struct err e;
    err_set(&e, ERR_GONE, "worker '%s' was lost while it ran the job: %s", worker->name, why);
    lend_lose_worker(c, worker);
    while (!list_empty(&worker->parts)) {
        struct part *p = LIST_OF(worker->parts.next, part, at);
        lend_part_over(c, p);
        list_remove(&p->at);
        p->worker = NULL;
        p->job->parts_left--;
        job_fail(c, now, p->job, 125, &e);
        job_settle(c, now, p->job);
    }
}

void jobs_overdue(struct core *c, uint64_t now)
{
    while (!list_empty(&c->stopping)) {
        struct job *j = LIST_OF(c->stopping.next, job, timed);
        if (now < j->since_ns + STOP_NS)
            return;
        job_step(c, now, j, JOB_OVERDUE, NULL); /* no part is left then, so it is over */
    }
}

/* ---- the end */

void job_free(struct job *j)
{
    list_remove(&j->at);
    graph_free(j->graph);
    bytes_drop(j->bytes);
    free(j->port);
    free(j->node);
    free(j->part);
    free(j);
}

void jobs_sweep(struct core *c)
{
    while (!list_empty(&c->over))
        job_free(LIST_OF(c->over.next, job, at));
}
