/* A job's life.  Whatever happens to a job is an event in one table.  An empty cell is an event that cannot happen in
 * this state: the message that claims it is refused.  First the job's state is updated, then the action runs.  Whether
 * the job is over is decided in one place, job_settle, which may be called at any time.
 *
 * What must stay true: a job in SENT, RUNNING, AGAIN or STOPPING has parts left, and every part left holds
 * its slots; one in QUEUED or CLAIMED has none; a job becomes OVER once, and that is where its one RESULT is sent. */
#include "scheduler/state.h"

#include <assert.h>
#include <stdlib.h>

typedef void act(struct core *c, uint64_t now, struct job *j, const struct msg *m);
static act nothing, tell, note_task, stop_parts, say_verdict, say_failure, evict_parts, wait_again, wait_anew, give_up_claim;

static const struct job_cell {
    enum job_state next;
    act *act; /* NULL: cannot happen */
} cells[JOB_STATES][JOB_EVENTS] = {
    [JOB_QUEUED] =
        {
            [JOB_PLACED] = {JOB_SENT, nothing},
            [JOB_FAILED] = {JOB_OVER,
                            say_failure}, /* no worker came for too long, or none can ever run it */
            [JOB_CANCELLED] = {JOB_OVER, say_failure},
            [JOB_ORPHANED] = {JOB_OVER, nothing},
        },
    [JOB_CLAIMED] =
        {
            [JOB_PLACED] = {JOB_SENT, nothing},      /* it goes on */
            [JOB_UNPLACED] = {JOB_QUEUED, wait_anew}, /* it does not go on */
            [JOB_CANCELLED] = {JOB_OVER, give_up_claim},
            [JOB_ORPHANED] = {JOB_OVER, nothing},
        },
    [JOB_SENT] =
        {
            [JOB_STARTED] = {JOB_RUNNING, nothing},
            [JOB_TASK] = {JOB_RUNNING, note_task},
            [JOB_MOVED] = {JOB_RUNNING, tell},
            [JOB_LOST] = {JOB_AGAIN, nothing},
            [JOB_FAILED] = {JOB_STOPPING, stop_parts},
            [JOB_CANCELLED] = {JOB_STOPPING, stop_parts},
            [JOB_ORPHANED] = {JOB_STOPPING, stop_parts},
            [JOB_STOPPED] = {JOB_OVER, say_verdict},
        },
    [JOB_RUNNING] =
        {
            [JOB_STARTED] = {JOB_RUNNING, nothing}, /* from other workers */
            [JOB_TASK] = {JOB_RUNNING, note_task},
            [JOB_MOVED] = {JOB_RUNNING, tell},
            [JOB_LOST] = {JOB_AGAIN, nothing},
            [JOB_FAILED] = {JOB_STOPPING, stop_parts},
            [JOB_CANCELLED] = {JOB_STOPPING, stop_parts},
            [JOB_ORPHANED] = {JOB_STOPPING, stop_parts},
            [JOB_STOPPED] = {JOB_OVER, say_verdict},
        },
    [JOB_AGAIN] =
        {
            [JOB_STARTED] = {JOB_AGAIN, nothing}, /* from parts that go on */
            [JOB_TASK] = {JOB_AGAIN, note_task},
            [JOB_MOVED] = {JOB_AGAIN, tell},
            [JOB_LOST] = {JOB_AGAIN, nothing},
            [JOB_PLACED] = {JOB_SENT, nothing},
            [JOB_UNPLACED] = {JOB_QUEUED, wait_again},
            [JOB_FAILED] = {JOB_STOPPING, stop_parts},
            [JOB_CANCELLED] = {JOB_STOPPING, stop_parts},
            [JOB_ORPHANED] = {JOB_STOPPING, stop_parts},
            [JOB_OVERDUE] = {JOB_AGAIN, evict_parts},
        },
    [JOB_STOPPING] =
        {
            /* late but harmless: sent before the worker read STOP */
            [JOB_STARTED] = {JOB_STOPPING, nothing},
            [JOB_TASK] = {JOB_STOPPING, note_task},
            [JOB_MOVED] = {JOB_STOPPING, tell},
            /* the first reason stands */
            [JOB_LOST] = {JOB_STOPPING, nothing},
            [JOB_FAILED] = {JOB_STOPPING, nothing},
            [JOB_CANCELLED] = {JOB_STOPPING, nothing},
            [JOB_ORPHANED] = {JOB_STOPPING, nothing},
            [JOB_STOPPED] = {JOB_OVER, say_failure},
            [JOB_OVERDUE] = {JOB_STOPPING, evict_parts},
        },
    [JOB_OVER] = {{0}}, /* no message can name it any more */
};

/* Leave and enter a state: keeps the lists that belong to states. */
static void leave(struct core *c, struct job *j)
{
    if (j->state == JOB_QUEUED)
        wait_remove(c, j);
    else if (j->state == JOB_STOPPING || j->state == JOB_AGAIN || j->state == JOB_CLAIMED)
        list_remove(&j->timed);
}

static void enter(struct core *c, uint64_t now, struct job *j)
{
    if (j->state == JOB_STOPPING || j->state == JOB_AGAIN) {
        j->since_ns = now;
        list_add(&c->stopping, &j->timed);
    } else if (j->state == JOB_OVER) {
        list_to_end(&c->over, &j->at);
        table_remove(&c->jobs_by_number, j->number);
        c->job_count--;
        if (j->quota)
            j->quota->jobs--;
        quota_settle(c, j->quota);
        j->quota = NULL;
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

void job_settle(struct core *c, uint64_t now, struct job *j)
{
    if (j->state == JOB_AGAIN && j->again_left == 0)
        job_resume(c, now, j);
    else if (j->parts_left == 0)
        job_step(c, now, j, JOB_STOPPED, NULL); /* refused by the table if the job waits, or is over already */
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

/* A stage that reached a limit has ended like any other, so the rest of the job comes to its end, too; then the job fails
 * (verdict.c). */
static void note_task(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)now;
    const struct msg_task *t = &m->task;
    struct job_node *n = &j->node[t->node];
    n->ended = true;
    n->end = t->end;
    n->status = t->status;
    n->early_stop = t->early_stop;
    tell(c, now, j, m);
    uint32_t kind = j->graph->node[t->node].kind;
    if (t->end != MSG_END_LIMIT || kind == GRAPH_MAP || kind == GRAPH_REDUCE /* its tasks tell of their limits */ || !t->text[0] ||
        t->node > j->limit_node)
        return;
    j->limit_node = t->node;
    err_set(&j->limit, ERR_LIMIT, "%s", t->text);
}

static void stop_parts(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)m;
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct msg stop = {.type = MSG_STOP, .stop = {j->number, j->part[i].attempt, j->why.text}};
        if (j->part[i].worker && !j->part[i].again) /* STOP was sent for the others */
            core_send(c, j->part[i].worker->link, &stop);
    }
    for (uint32_t i = 0; i < j->part_count; i++)
        lend_want(c, &j->part[i], 0);
    job_settle(c, now, j);
}

static void say_result(struct core *c, const struct job *j, uint32_t status, bool ended)
{
    struct msg m = {.type = MSG_RESULT,
                    .result = {.request = j->request,
                               .job = j->number,
                               .status = status,
                               .commit = !j->failed,
                               .code = j->failed ? (uint32_t)j->why.code : 0,
                               .text = j->failed ? j->why.text : "",
                               .ended = ended}};
    if (j->client)
        core_send(c, j->client->link, &m);
}

static void say_verdict(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)now, (void)m;
    say_result(c, j, verdict(j), true);
}

static void say_failure(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)now, (void)m;
    assert(j->failed);
    say_result(c, j, j->status, false);
}

static void wait_again(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)m;
    wait_add_first(c, now, j);
}

static void wait_anew(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)m;
    remains_give_up(c, now, j);
    wait_add(c, now, j);
}

static void give_up_claim(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    remains_give_up(c, now, j);
    say_failure(c, now, j, m);
}

/* A worker that does not end what it was told to stop gets no more work: drop it. */
static void evict_parts(struct core *c, uint64_t now, struct job *j, const struct msg *m)
{
    (void)m;
    bool all = j->state == JOB_STOPPING;
    for (uint32_t i = 0; i < j->part_count; i++)
        j->part[i].late = all || j->part[i].again;
    for (uint32_t i = 0; i < j->part_count; i++) /* losing one worker can make other parts stop, and those were not told before */
        if (j->part[i].worker && j->part[i].late)
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

/* Find the job by its number or, before the client knows that, by the client's own number.  A client can only name its own
 * jobs. */
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

/* The part has STOPPED or its worker was lost: it has no worker any more. */
static void part_end(struct core *c, struct part *p)
{
    lend_part_over(c, p);
    list_remove(&p->at);
    p->worker = NULL;
    p->job->parts_left--;
    p->job->again_left -= p->again;
}

static struct part *part_of(const struct job *j, const struct peer_state *worker, uint32_t attempt)
{
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].worker == worker && j->part[i].attempt == attempt)
            return &j->part[i];
    return NULL;
}

bool job_has_part(const struct core *c, const struct peer_state *worker, uint64_t job, uint32_t attempt)
{
    const struct job *j = table_get(&c->jobs_by_number, job);
    return j && part_of(j, worker, attempt);
}

/* Two peers name different attempts of one part.  This happens when a worker seemed lost, so that its part was begun again
 * elsewhere, and then the scheduler was killed.  If that worker came to us first we took its attempt for the job's, but the
 * part's readers and writers follow the newer one; or the newer one came first, and a reader had not been told of it yet. */
bool part_outdated(struct core *c, uint64_t now, struct part *p, uint32_t attempt)
{
    struct job *j = p->job;
    if (p->attempt > j->earlier || attempt == p->attempt || (attempt > p->attempt && attempt - p->attempt > UNHEARD_MAX))
        return false;
    j->attempt = attempt > j->attempt ? attempt : j->attempt; /* the next attempt will be newer still */
    if (!p->again)
        part_repeat(c, now, p);
    return true;
}

/* The part that runs this node, if its worker is this one. */
static struct part *part_of_node(const struct job *j, const struct peer_state *worker, uint32_t node)
{
    uint32_t i = node < j->graph->node_count ? j->node[node].part : NOWHERE;
    return i < j->part_count && j->part[i].worker == worker ? &j->part[i] : NULL;
}

struct claim { /* the job, attempt and event that a worker's message is about */
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
    case MSG_PROGRESS: /* has no attempt */
        *out = (struct claim){m->progress.job, 0, JOB_MOVED};
        return true;
    case MSG_BLOCK:
        *out = (struct claim){m->block.job, m->block.attempt, JOB_MOVED};
        return true;
    case MSG_BEGINS:
        *out = (struct claim){m->begins.job, m->begins.attempt, JOB_MOVED};
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

/* A message about lent slots: what an owner could use, or what a lender gave back. */
static void loan_message(struct core *c, struct peer_state *worker, const struct msg *m)
{
    bool good = false;
    if (m->type == MSG_RETURNED) {
        good = lend_returned(c, worker, &m->returned);
    } else {
        struct job *j = table_get(&c->jobs_by_number, m->want.job);
        struct part *p = j ? part_of(j, worker, m->want.attempt) : NULL;
        if ((good = p && !p->again))
            lend_want(c, p, m->want.slots);
    }
    if (!good)
        core_refuse_message(c);
}

/* May this part report the end of this stage?  A stage ends once, and where it runs. */
static bool task_fits(const struct job *j, const struct part *p, const struct msg_task *t)
{
    return part_of_node(j, p->worker, t->node) == p && !j->node[t->node].ended;
}

/* A worker that works on something we do not know is told to end it.  One that has nothing left of it, or repeats itself,
 * needs no answer. */
static void not_theirs(struct core *c, const struct peer_state *worker, const struct claim *claim)
{
    core_refuse_message(c);
    if (claim->event == JOB_STOPPED || claim->event == JOB_MOVED)
        return;
    struct msg m = {.type = MSG_STOP, .stop = {claim->job, claim->attempt, "no such job is yours"}};
    core_send(c, worker->link, &m);
}

/* Is it a failure that would be the same on every worker? */
static bool is_final(uint32_t code)
{
    return code == ERR_INPUT || code == ERR_UNSUPPORTED || code == ERR_BUG;
}

/* If output came out differently the second time, say why the job ran again: the user needs to know that. */
static void tell_why_again(const struct job *j, struct err *e)
{
    struct err said = *e;
    if (e->code == ERR_BUG && j->why.code)
        err_set(e, said.code, "%.600s; it ran again since %.300s", said.text, j->why.text);
}

/* Something failed on that worker, which is for a person there to see to. */
static void name_worker(const struct part *p, struct err *e)
{
    if (!p->job->local && p->worker)
        err_wrap(e, "worker '%s'", p->worker->name);
}

static void on_fail(struct core *c, uint64_t now, struct part *p, const struct msg_fail *m)
{
    struct err e;
    err_set(&e, m->code ? (int)m->code : ERR_IO, "%s", m->text);
    tell_why_again(p->job, &e);
    if (is_final(m->code) || m->last)
        job_fail(c, now, p->job, 125, &e);
    else {
        name_worker(p, &e);
        part_lose(c, now, p, false, &e);
    }
}

/* A stage whose sandbox failed has not ended: it has not run. */
static void on_sandbox_failed(struct core *c, uint64_t now, struct part *p, const struct msg_task *t)
{
    struct err e;
    err_set(&e, ERR_IO, "%s", t->text);
    if (!t->text[0])
        err_set(&e, ERR_IO, "the sandbox of `%.200s` failed", p->job->graph->node[t->node].label);
    name_worker(p, &e);
    part_lose(c, now, p, false, &e);
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
    struct part *p = !j                          ? NULL
                     : m->type == MSG_PROGRESS ? part_of_node(j, worker, m->progress.node)
                                               : part_of(j, worker, claim.attempt);
    if (!p) {
        if (claim.event != JOB_STOPPED || !remains_stopped(c, worker, claim.job, claim.attempt))
            not_theirs(c, worker, &claim);
        return;
    }
    bool done = true;
    if (claim.event == JOB_STOPPED) {
        bool missed = !p->again && part_missed(p, m->stopped.heard);
        fleet_release(c, worker, p->slots, p->memory_bytes);
        part_end(c, p);
        if (missed)
            part_repeat(c, now, p);
    } else if (p->again) {
        done = false; /* STOP was sent for it, and it has not read that yet */
    } else if (claim.event == JOB_FAILED) {
        on_fail(c, now, p, &m->fail);
    } else if ((claim.event == JOB_TASK && !task_fits(j, p, &m->task)) ||
               (m->type == MSG_BLOCK && (part_of_node(j, worker, m->block.node) != p || part_of_node(j, worker, m->block.last) != p))) {
        done = false;
    } else if (m->type == MSG_BEGINS) {
        done = part_begins(p, &m->begins);
    } else if (claim.event == JOB_TASK && m->task.end == MSG_END_FAILED) {
        on_sandbox_failed(c, now, p, &m->task);
    } else {
        done = job_step(c, now, j, claim.event, m);
        j->begun |= done;
    }
    if (!done)
        core_refuse_message(c);
    job_settle(c, now, j);
}

void jobs_lose_client(struct core *c, uint64_t now, struct peer_state *client)
{
    struct err e;
    err_set(&e, ERR_GONE, "the client is gone");
    while (!list_empty(&client->jobs)) {
        struct job *j = LIST_OF(client->jobs.next, job, of_client);
        blame(j, 125, &e);
        if (j->state == JOB_QUEUED || j->state == JOB_CLAIMED) { /* such a job is over at once, which takes it out of the list */
            job_step(c, now, j, JOB_ORPHANED, NULL);
            continue;
        }
        list_remove(&j->of_client);
        j->client = NULL;
        job_step(c, now, j, JOB_ORPHANED, NULL);
    }
}

/* Handles one job at a time, and first takes all its parts from the worker: as soon as all are known the job may begin
 * again, and use its parts again. */
void jobs_lose_worker(struct core *c, uint64_t now, struct peer_state *worker, const char *why)
{
    struct err e;
    err_set(&e, ERR_GONE, "worker '%s' was lost while it ran the job: %s", worker->name, why);
    lend_lose_worker(c, worker);
    while (!list_empty(&worker->parts)) {
        struct job *j = LIST_OF(worker->parts.next, part, at)->job;
        for (uint32_t i = 0; i < j->part_count; i++) {
            struct part *p = &j->part[i];
            p->fell = p->worker == worker;
            if (p->fell)
                part_end(c, p);
        }
        for (uint32_t i = 0; i < j->part_count; i++)
            if (j->part[i].fell)
                part_lose(c, now, &j->part[i], true, &e);
        job_settle(c, now, j);
    }
}

void jobs_overdue(struct core *c, uint64_t now)
{
    while (!list_empty(&c->stopping)) {
        struct job *j = LIST_OF(c->stopping.next, job, timed);
        if (now < j->since_ns + STOP_NS)
            return;
        job_step(c, now, j, JOB_OVERDUE, NULL); /* after this no part is left, so the job is over */
    }
}

/* ---- the end */

void job_free(struct job *j)
{
    list_remove(&j->at);
    for (uint32_t i = 0; j->node && i < j->graph->node_count; i++)
        free(j->node[i].begun_text);
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
