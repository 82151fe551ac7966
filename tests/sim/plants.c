/* See plants.h. */
#include "tests/sim/plants.h"

#include "scheduler/state.h"

int plant;
const char *const plant_names[PLANTS + 1] = {
    "none",
    "slots are sometimes not given back",
    "STOP is never sent",
    "RESULT is sent twice",
    "jobs wait for a worker for ever",
    "anybody may cancel any job",
    "every status is 0",
    "slots are never recalled",
    "what a lost lender lent stays lent",
    "who reads is not told of the new writer",
    "who writes to a lost stage does not write again",
    "what is there already is not dropped", /* planted in sim.c */
    "what stopped stages say counts",
    "a stage is tried without end",
    [14] = "questions that a keeper did not answer are forgotten with it",
    [15] = "a submitted job gives up when there is no worker",
    [16] = "who waits for a keeper is not told of one that comes",
    [17] = "a worker that is drained is given work as before",
    [18] = "a worker that is drained is never sent away",
    [19] = "a worker that is drained is sent away at once",
    [20] = "who shall stop is told so again and again",
    [21] = "what remains of a job is never told to stop",
    [22] = "what goes on is not told that it does",
    [23] = "what remains of any job is taken for that of any other",
    [24] = "the worker that comes back first has the newest attempt",
    [25] = "a job goes on with any image",
    [26] = "slots of any image are lent",
    [27] = "memory is sometimes not given back",
    [28] = "memory of slots that are lent is not counted",
    [29] = "what an earlier scheduler began needs no memory",
    [30] = "a client that stands still is taken for gone",
    [31] = "of the blocks that were at work any is named",
    [32] = "the block after the one that was at work is named",
    [33] = "who wants slots is sometimes forgotten",
};

static bool lends;

void __real_fleet_release(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void __wrap_fleet_release(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void __wrap_fleet_release(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes)
{
    if (plant != 1 || core_random(c) % 8)
        __real_fleet_release(c, worker, slots, plant == 27 && core_random(c) % 8 == 0 ? 0 : memory_bytes);
}

void __real_fleet_take(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void __wrap_fleet_take(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes);
void __wrap_fleet_take(struct core *c, struct peer_state *worker, uint32_t slots, uint64_t memory_bytes)
{
    __real_fleet_take(c, worker, slots, plant == 28 && lends ? 0 : memory_bytes);
}

void __real_lend_step(struct core *c);
void __wrap_lend_step(struct core *c);
void __wrap_lend_step(struct core *c)
{
    lends = true;
    if (plant == 33 && core_random(c) % 8 == 0)
        c->lend_again = false;
    __real_lend_step(c);
    lends = false;
}

bool __real_remains_any(const struct peer_state *w);
bool __wrap_remains_any(const struct peer_state *w);
bool __wrap_remains_any(const struct peer_state *w)
{
    return plant != 29 && __real_remains_any(w);
}

void __real_core_send(struct core *c, uint64_t link, const struct msg *m);
void __wrap_core_send(struct core *c, uint64_t link, const struct msg *m);
void __wrap_core_send(struct core *c, uint64_t link, const struct msg *m)
{
    if ((plant == 2 && m->type == MSG_STOP) || (plant == 7 && m->type == MSG_RECALL) || (plant == 22 && m->type == MSG_GO_ON))
        return;
    __real_core_send(c, link, m);
    if (plant == 3 && m->type == MSG_RESULT)
        __real_core_send(c, link, m);
    for (int i = 0; plant == 20 && m->type == MSG_STOP && i < 8; i++)
        __real_core_send(c, link, m);
}

void __real_wait_expire(struct core *c, uint64_t now);
void __wrap_wait_expire(struct core *c, uint64_t now);
void __wrap_wait_expire(struct core *c, uint64_t now)
{
    struct list *l = c->clients.next;
    struct peer_state *p = LIST_OF(l, peer_state, at);
    if (plant == 30 && l != &c->clients && !p->keeps && now > p->heard_ns + 30 * SECOND_NS)
        core_evict(c, now, p, "it was silent for long");
    if (plant != 4)
        __real_wait_expire(c, now);
}

void __real_job_cancel(struct core *c, uint64_t now, struct peer_state *p,
                       const struct msg_cancel *m);
void __wrap_job_cancel(struct core *c, uint64_t now, struct peer_state *p,
                       const struct msg_cancel *m);
void __wrap_job_cancel(struct core *c, uint64_t now, struct peer_state *p,
                       const struct msg_cancel *m)
{
    const struct job *j = m->job ? table_get(&c->jobs_by_number, m->job) : NULL;
    __real_job_cancel(c, now, plant == 5 && j && j->client ? j->client : p, m);
}

void __real_job_bind(struct job *j, const struct peer_state *w);
void __wrap_job_bind(struct job *j, const struct peer_state *w);
void __wrap_job_bind(struct job *j, const struct peer_state *w)
{
    if (plant != 25 || !j->bound)
        __real_job_bind(j, w);
}

bool __real_job_may_have(const struct job *j, const struct peer_state *w);
bool __wrap_job_may_have(const struct job *j, const struct peer_state *w);
bool __wrap_job_may_have(const struct job *j, const struct peer_state *w)
{
    return plant == 25 ? !job_shuns(j, w) : __real_job_may_have(j, w);
}

bool __real_workers_alike(const struct peer_state *a, const struct peer_state *b);
bool __wrap_workers_alike(const struct peer_state *a, const struct peer_state *b);
bool __wrap_workers_alike(const struct peer_state *a, const struct peer_state *b)
{
    return plant == 26 || __real_workers_alike(a, b);
}

uint32_t __real_verdict(struct job *j);
uint32_t __wrap_verdict(struct job *j);
uint32_t __wrap_verdict(struct job *j)
{
    uint32_t status = __real_verdict(j);
    return plant == 6 ? 0 : status;
}

void __real_lend_lose_worker(struct core *c, struct peer_state *lender);
void __wrap_lend_lose_worker(struct core *c, struct peer_state *lender);
void __wrap_lend_lose_worker(struct core *c, struct peer_state *lender)
{
    if (plant != 8)
        __real_lend_lose_worker(c, lender);
}

void __real_action_queue(struct core *c, struct action *a);
void __wrap_action_queue(struct core *c, struct action *a);
void __wrap_action_queue(struct core *c, struct action *a)
{
    if (plant == 9 && a->out.msg.type == MSG_ROUTE && a->out.msg.route.reader)
        action_forget(c, a);
    else
        __real_action_queue(c, a);
}

void __real_job_resume(struct core *c, uint64_t now, struct job *j);
void __wrap_job_resume(struct core *c, uint64_t now, struct job *j);
void __wrap_job_resume(struct core *c, uint64_t now, struct job *j)
{
    for (uint32_t i = 0; plant == 10 && i < j->part_count; i++)
        j->part[i].again &= j->part[i].blamed;
    __real_job_resume(c, now, j);
}

void __real_job_worker_message(struct core *c, uint64_t now, struct peer_state *worker, const struct msg *m);
void __wrap_job_worker_message(struct core *c, uint64_t now, struct peer_state *worker, const struct msg *m);
void __wrap_job_worker_message(struct core *c, uint64_t now, struct peer_state *worker, const struct msg *m)
{
    struct job *j = plant == 12 && m->type == MSG_TASK ? table_get(&c->jobs_by_number, m->task.job) : NULL;
    uint32_t part = j && m->task.node < j->graph->node_count ? j->node[m->task.node].part : NOWHERE;
    bool again = part < NOWHERE && j->part[part].again;
    if (again)
        j->part[part].again = false;
    __real_job_worker_message(c, now, worker, m);
    if (again)
        j->part[part].again = true;
}

void __real_part_lose(struct core *c, uint64_t now, struct part *p, bool killed, const struct err *why);
void __wrap_part_lose(struct core *c, uint64_t now, struct part *p, bool killed, const struct err *why);
void __wrap_part_lose(struct core *c, uint64_t now, struct part *p, bool killed, const struct err *why)
{
    for (uint32_t i = 0; plant == 13 && i < p->job->graph->node_count; i++)
        p->job->node[i].tries = p->job->node[i].kills = 0;
    __real_part_lose(c, now, p, killed, why);
}

bool __real_part_begins(const struct part *p, const struct msg_begins *m);
bool __wrap_part_begins(const struct part *p, const struct msg_begins *m);
bool __wrap_part_begins(const struct part *p, const struct msg_begins *m)
{
    struct msg_begins other = *m;
    other.number += plant == 32;
    bool noted = __real_part_begins(p, &other);
    for (uint32_t i = 0; plant == 31 && i < m->node; i++)
        p->job->node[i].begun = 0;
    return noted;
}

void __real_held_lose_keeper(struct core *c, struct peer_state *keeper);
void __wrap_held_lose_keeper(struct core *c, struct peer_state *keeper);
void __wrap_held_lose_keeper(struct core *c, struct peer_state *keeper)
{
    if (plant == 14)
        held_forget_asked(keeper);
    __real_held_lose_keeper(c, keeper);
}

void __real_wait_add(struct core *c, uint64_t now, struct job *j);
void __wrap_wait_add(struct core *c, uint64_t now, struct job *j);
void __wrap_wait_add(struct core *c, uint64_t now, struct job *j)
{
    if (plant == 15)
        j->held = 0;
    __real_wait_add(c, now, j);
}

void __real_held_keeper_came(struct core *c);
void __wrap_held_keeper_came(struct core *c);
void __wrap_held_keeper_came(struct core *c)
{
    if (plant != 16)
        __real_held_keeper_came(c);
}

void __real_fleet_drain(struct core *c, struct peer_state *w);
void __wrap_fleet_drain(struct core *c, struct peer_state *w);
void __wrap_fleet_drain(struct core *c, struct peer_state *w)
{
    if (plant != 17)
        __real_fleet_drain(c, w);
}

void __real_drain_step(struct core *c, uint64_t now);
void __wrap_drain_step(struct core *c, uint64_t now);
void __wrap_drain_step(struct core *c, uint64_t now)
{
    struct msg m = {.type = MSG_DRAINED, .drained = {"it was drained"}};
    for (struct list *l = c->workers.next; plant == 19 && l != &c->workers; l = l->next) {
        struct peer_state *w = LIST_OF(l, peer_state, at);
        if (w->draining)
            __real_core_send(c, w->link, &m);
    }
    if (plant != 18)
        __real_drain_step(c, now);
}

void __real_remains_expire(struct core *c, uint64_t now);
void __wrap_remains_expire(struct core *c, uint64_t now);
void __wrap_remains_expire(struct core *c, uint64_t now)
{
    if (plant != 21)
        __real_remains_expire(c, now);
}

bool __real_place_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count);
bool __wrap_place_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count);
bool __wrap_place_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count)
{
    if (plant == 23 && count == 1)
        ((struct remnant **)(uintptr_t)found)[0] = LIST_OF(c->remnants.next, remnant, at);
    return __real_place_remnants(c, j, found, count);
}

bool __real_part_outdated(struct core *c, uint64_t now, struct part *p, uint32_t attempt);
bool __wrap_part_outdated(struct core *c, uint64_t now, struct part *p, uint32_t attempt);
bool __wrap_part_outdated(struct core *c, uint64_t now, struct part *p, uint32_t attempt)
{
    return plant != 24 && __real_part_outdated(c, now, p, attempt);
}
