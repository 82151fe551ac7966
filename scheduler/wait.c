/* Jobs that wait for a slot.  Each client has its own queue, and clients take turns: one that submits a thousand jobs
 * delays another's next job by one job, not by a thousand.  A keeper is one client for many users: in its queue these take
 * turns by rounds, in each of which every user has one job. */
#include "scheduler/state.h"

#include <string.h>

static bool same_owner(const struct held *a, const struct held *b)
{
    return a && b && a->has_key == b->has_key && !memcmp(a->key, b->key, sizeof a->key);
}

/* The job before which this one is queued.  Its round is the one after that of its owner's last job, or the current one. */
static struct list *place_of(const struct core *c, struct job *j)
{
    struct list *waiting = &j->client->waiting, *l = waiting->prev;
    const struct held *h = j->held ? held_of(c, j->held) : NULL;
    j->round = j->client->round;
    while (h && l != waiting && !same_owner(h, held_of(c, LIST_OF(l, job, wait)->held)))
        l = l->prev;
    if (h && l != waiting)
        j->round = LIST_OF(l, job, wait)->round + 1;
    for (l = waiting; l->prev != waiting && LIST_OF(l->prev, job, wait)->round > j->round;)
        l = l->prev;
    return l;
}

static void add(struct core *c, uint64_t now, struct job *j, struct list *before)
{
    struct peer_state *client = j->client;
    list_add(before, &j->wait);
    if (client->queued++ == 0)
        list_add(&c->turns, &client->turn);
    j->since_ns = now;
    list_add(&c->queued, &j->timed);
    c->stats.waiting++;
    c->slots_freed = c->lend_again = true;
    j->choosy = job_is_choosy(j);
    c->shunners += j->choosy;
    c->needy += j->memory_bytes != 0;
    c->repeated += j->again;
}

void wait_add(struct core *c, uint64_t now, struct job *j)
{
    add(c, now, j, place_of(c, j));
}

void wait_add_first(struct core *c, uint64_t now, struct job *j)
{
    j->round = j->client->round;
    add(c, now, j, j->client->waiting.next);
}

void wait_remove(struct core *c, struct job *j)
{
    list_remove(&j->wait);
    list_remove(&j->timed);
    if (--j->client->queued == 0)
        list_remove(&j->client->turn);
    c->stats.waiting--;
    c->lend_again = true;
    c->needy -= j->memory_bytes != 0;
    c->repeated -= j->again;
    if (j->choosy) {
        c->shunners--;
        c->slots_freed = true; /* jobs behind it may take what it could not have */
    }
}

static void start_first(struct core *c, uint64_t now, struct peer_state *client)
{
    struct job *j = LIST_OF(client->waiting.next, job, wait);
    struct err e;
    list_to_end(&c->turns, &client->turn);
    client->round = j->round;
    if (job_place(c, j, &e) < 0)
        job_fail(c, now, j, 125, &e);
    else
        job_step(c, now, j, JOB_PLACED, NULL);
}

bool wait_for_memory(const struct core *c, const struct job *j)
{
    return j->memory_bytes && c->event_ns >= j->since_ns + PATIENCE_NS && !place_local(j->client) && !place_possible(c, j) && fleet_serves(c, j);
}

/* Start jobs that can start.  It looks further than the first client only if some clients have a worker of their own, or
 * some jobs may not have every worker; otherwise what the first cannot have nobody can. */
void wait_start(struct core *c, uint64_t now)
{
    struct list *next;
    bool waits = false; /* some job waits for memory */
    if (!c->slots_freed)
        return;
    c->slots_freed = false;
    for (struct list *l = c->turns.next; l != &c->turns; l = next) {
        struct peer_state *client = LIST_OF(l, peer_state, turn);
        next = l->next;
        const struct job *j = LIST_OF(client->waiting.next, job, wait);
        if (waits && j->memory_bytes && !place_local(client))
            continue;
        if (place_possible(c, j)) {
            if (next == &c->turns)
                next = l; /* it is the last one in the list, so take it again if it has more jobs */
            start_first(c, now, client);
            if (next == l && !client->queued)
                break;
        } else if (!c->homes_at_work && !c->shunners) {
            break;
        }
        waits = waits || (client->queued && wait_for_memory(c, LIST_OF(client->waiting.next, job, wait)));
    }
}

/* Is there a worker for the job to wait for?  A job whose client has a worker in its own process waits for that one as long
 * as it takes, and a submitted job waits until there is any worker. */
static bool has_worker(const struct core *c, const struct job *j)
{
    return (j->held && !c->fleet.count) || place_local(j->client) || fleet_serves(c, j);
}

static const struct job *first_without_worker(const struct core *c)
{
    for (const struct list *l = c->queued.next; l != &c->queued; l = l->next) {
        const struct job *j = LIST_OF(l, job, timed);
        if (!has_worker(c, j))
            return j;
        if (c->fleet.count && !c->shunners)
            break;
    }
    return NULL;
}

bool wait_is_alone(const struct core *c)
{
    return c->event_ns > c->anybody_ns + LEASE_NS;
}

/* A worker cannot come while nobody does: that time does not count. */
static uint64_t deadline(const struct core *c, const struct job *j)
{
    bool empty = !c->fleet.count && c->fleet.empty_ns > j->since_ns;
    uint64_t since = empty ? c->fleet.empty_ns : j->since_ns;
    return (since > c->joined_ns ? since : c->joined_ns) + c->worker_wait_ns;
}

uint64_t wait_deadline(const struct core *c)
{
    const struct job *j = wait_is_alone(c) ? NULL : first_without_worker(c);
    return j ? deadline(c, j) : UINT64_MAX;
}

void wait_expire(struct core *c, uint64_t now)
{
    struct list *next;
    for (struct list *l = c->queued.next; l != &c->queued && !wait_is_alone(c) && (!c->fleet.count || c->shunners); l = next) {
        struct job *j = LIST_OF(l, job, timed);
        struct err e;
        next = l->next;
        if (now < deadline(c, j))
            break;
        if (has_worker(c, j))
            continue;
        job_say_nobody(c, j, &e);
        job_fail(c, now, j, 125, &e);
    }
}
