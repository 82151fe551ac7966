/* Jobs that go on when the scheduler was killed and started again.  The new scheduler remembers no job.  But workers still
 * run their parts, and say so (REMAINS), and clients bring their jobs once more (SUBMIT), with the number and token that
 * they had.  Where the two fit and all stages of the job are there, the job goes on as if nothing had happened (GO_ON).
 * Nothing of it runs twice, and its bytes never stopped, as they do not pass the scheduler; only its routes are sent once
 * more, since the last ones may not have arrived.  If something is missing, because a worker was lost meanwhile or a part
 * had ended, what remains is told to STOP and the job begins again.
 *
 * What must stay true: a remnant holds a slot of its worker until it goes on or has STOPPED.  A job waits at most CLAIM_NS
 * for its remnants, and a remnant REMNANT_NS for its job.  A worker first says how many remnants it has, so that their
 * slots are not given away before it has named them.  Only the client whose job it was knows the job's token.
 *
 * Before: submit.c, and core.c for REMAINS.  Next: place.c, which puts it where it is. */
#include "scheduler/state.h"

#include <stdlib.h>
#include <string.h>

static bool remains_fit(const struct remnant *r, const struct job *j)
{
    return r->job == j->was && memcmp(r->token, j->token, sizeof r->token) == 0;
}

static void remnant_free(struct remnant *r)
{
    list_remove(&r->at);
    list_remove(&r->of_worker);
    free(r->node);
    free(r);
}

static void tell_stop(struct core *c, const struct peer_state *worker, uint64_t job, uint32_t attempt)
{
    struct msg m = {.type = MSG_STOP, .stop = {job, attempt, "its job does not go on from here"}};
    core_send(c, worker->link, &m);
}

/* Tell the worker to stop a remnant, which holds its slot until it has. */
static void stop(struct core *c, uint64_t now, struct remnant *r)
{
    list_remove(&r->at);
    list_add(&c->leaving, &r->at);
    r->since_ns = now;
    r->told = true;
    tell_stop(c, r->worker, r->job, r->attempt);
}

static struct remnant *find(const struct peer_state *worker, uint64_t job, uint32_t attempt)
{
    for (struct list *l = worker->remnants.next; l != &worker->remnants; l = l->next) {
        struct remnant *r = LIST_OF(l, remnant, of_worker);
        if (r->job == job && r->attempt == attempt)
            return r;
    }
    return NULL;
}

bool remains_stopped(struct core *c, struct peer_state *worker, uint64_t job, uint32_t attempt)
{
    struct remnant *r = find(worker, job, attempt);
    if (!r)
        return false;
    remnant_free(r);
    fleet_release(c, worker, 1, 0);
    return true;
}

bool remains_any(const struct peer_state *w)
{
    return w->untold || !list_empty(&w->remnants);
}

void remains_lose_worker(struct peer_state *worker)
{
    while (!list_empty(&worker->remnants))
        remnant_free(LIST_OF(worker->remnants.next, remnant, of_worker));
}

/* ---- a job and what remains of it */

/* Was some of this remnant begun again elsewhere, without its worker having been told? */
static bool is_outdated(const struct remnant *r, struct remnant *const *all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; all[i]->attempt > r->attempt && k < all[i]->node_count; k++)
            for (uint32_t n = 0; n < r->node_count; n++)
                if (all[i]->node[k] == r->node[n])
                    return true;
    return false;
}

/* All remnants of the job that are not outdated, one per part; gives.  NULL: none, or no memory. */
static struct remnant **gather(const struct core *c, const struct job *j, uint32_t *count)
{
    uint32_t room = j->graph->node_count + 1, all = 0;
    struct remnant **kept = calloc(2 * (size_t)room, sizeof *kept), **found = kept ? kept + room : NULL;
    *count = 0;
    for (struct list *l = c->remnants.next; kept && l != &c->remnants && all < room; l = l->next)
        if (remains_fit(LIST_OF(l, remnant, at), j))
            found[all++] = LIST_OF(l, remnant, at);
    for (uint32_t i = 0; i < all; i++)
        if (!is_outdated(found[i], found, all))
            kept[(*count)++] = found[i];
    if (!*count) {
        free(kept);
        return NULL;
    }
    return kept;
}

static void say_accept(struct core *c, const struct job *j)
{
    struct msg m = {.type = MSG_ACCEPT, .accept = {j->request, j->number}};
    core_send(c, j->client->link, &m);
}

/* Let the job go on under the number that its workers and its client know.  false: something of it has not come, and
 * nothing was done. */
static bool go_on(struct core *c, uint64_t now, struct job *j)
{
    uint32_t count;
    struct remnant **found = gather(c, j, &count);
    bool named = found && table_put(&c->jobs_by_number, j->was, j), whole = named && place_remnants(c, j, found, count);
    if (named)
        table_remove(&c->jobs_by_number, whole ? j->number : j->was);
    if (whole)
        j->number = j->was;
    struct err e;
    int told = whole ? place_tell_again(c, j, &e) : 0; /* before GO_ON asks the workers what broke meanwhile */
    for (uint32_t i = 0; whole && i < count; i++) {
        struct msg m = {.type = MSG_GO_ON, .go_on = {j->was, found[i]->attempt}};
        core_send(c, found[i]->worker->link, &m);
        remnant_free(found[i]);
    }
    c->slots_freed = c->lend_again = c->slots_freed || whole; /* what else its workers have free is now known */
    free(found);
    if (!whole)
        return false;
    say_accept(c, j);
    bool done = job_step(c, now, j, JOB_PLACED, NULL);
    if (told < 0)
        job_fail(c, now, j, 125, &e);
    return done;
}

bool remains_claim(struct core *c, uint64_t now, struct job *j, const struct msg_submit *m)
{
    if (!m->was || m->was > c->first_number || m->token.size != sizeof j->token || table_get(&c->jobs_by_number, m->was) ||
        place_local(j->client))
        return false;
    j->state = JOB_CLAIMED;
    j->was = m->was;
    memcpy(j->token, m->token.data, sizeof j->token);
    j->since_ns = now;
    list_add(&c->claims, &j->timed);
    go_on(c, now, j);
    return true;
}

/* The job does not go on: its remnants are stopped, and it gets a new number. */
void remains_give_up(struct core *c, uint64_t now, struct job *j)
{
    struct list *next;
    for (struct list *l = c->remnants.next; l != &c->remnants; l = next) {
        next = l->next;
        if (remains_fit(LIST_OF(l, remnant, at), j))
            stop(c, now, LIST_OF(l, remnant, at));
    }
    say_accept(c, j);
}

/* ---- what workers say */

static struct remnant *remnant_new(struct core *c, uint64_t now, struct peer_state *worker, const struct msg_remains *m)
{
    struct remnant *r = m->node_count ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return NULL;
    *r = (struct remnant){.worker = worker, .job = m->job, .attempt = m->attempt, .node_count = m->node_count, .since_ns = now,
                          .node = malloc(m->node_count * sizeof *r->node)};
    if (!r->node) {
        free(r);
        return NULL;
    }
    memcpy(r->node, m->node, m->node_count * sizeof *r->node);
    memcpy(r->token, m->token.data, sizeof r->token);
    list_init(&r->at);
    list_init(&r->of_worker);
    list_add(&c->remnants, &r->at);
    list_add(&worker->remnants, &r->of_worker);
    fleet_take(c, worker, 1, 0);
    return r;
}

/* The worker of an older attempt came first and the job goes on with that; now a newer attempt is named. */
static void see_newer(struct core *c, uint64_t now, const struct msg_remains *m)
{
    struct job *j = table_get(&c->jobs_by_number, m->job);
    bool theirs = j && m->token.size == sizeof j->token && memcmp(m->token.data, j->token, sizeof j->token) == 0;
    uint32_t part = theirs && m->node_count && m->node[0] < j->graph->node_count ? j->node[m->node[0]].part : NOWHERE;
    if (theirs && part < j->part_count && j->part[part].worker && j->part[part].attempt < m->attempt && part_outdated(c, now, &j->part[part], m->attempt))
        job_settle(c, now, j);
}

void remains_told(struct core *c, struct peer_state *worker, uint32_t parts)
{
    uint32_t fewer = parts < worker->untold ? parts : worker->untold;
    worker->untold -= fewer;
    if (fewer)
        fleet_release(c, worker, fewer, 0);
}

void remains_hear(struct core *c, uint64_t now, struct peer_state *worker, const struct msg_remains *m)
{
    if (find(worker, m->job, m->attempt) || job_has_part(c, worker, m->job, m->attempt)) {
        core_refuse_message(c); /* said before */
        return;
    }
    remains_told(c, worker, 1);
    see_newer(c, now, m);
    bool earlier = m->job <= c->first_number && !table_get(&c->jobs_by_number, m->job);
    struct remnant *r = m->token.size == MSG_TOKEN_BYTES && worker->used < worker->slots ? remnant_new(c, now, worker, m) : NULL;
    if (!r) {
        tell_stop(c, worker, m->job, m->attempt);
        return;
    }
    if (!earlier || !worker->data_url[0]) { /* it keeps its slot until it has stopped */
        stop(c, now, r);
        return;
    }
    for (struct list *l = c->claims.next, *next; l != &c->claims; l = next) {
        next = l->next;
        if (LIST_OF(l, job, timed)->was == m->job)
            go_on(c, now, LIST_OF(l, job, timed));
    }
}

/* ---- time */

void remains_expire(struct core *c, uint64_t now)
{
    while (!list_empty(&c->claims) && now >= LIST_OF(c->claims.next, job, timed)->since_ns + CLAIM_NS)
        job_step(c, now, LIST_OF(c->claims.next, job, timed), JOB_UNPLACED, NULL);
    while (!list_empty(&c->remnants) && now >= LIST_OF(c->remnants.next, remnant, at)->since_ns + REMNANT_NS)
        stop(c, now, LIST_OF(c->remnants.next, remnant, at));
    while (!list_empty(&c->leaving) && now >= LIST_OF(c->leaving.next, remnant, at)->since_ns + STOP_NS)
        core_evict(c, now, LIST_OF(c->leaving.next, remnant, at)->worker, "it did not end a job that it was told to stop");
}

static uint64_t earlier_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t remains_deadline(const struct core *c)
{
    uint64_t next = UINT64_MAX;
    if (!list_empty(&c->claims))
        next = LIST_OF(c->claims.next, job, timed)->since_ns + CLAIM_NS;
    if (!list_empty(&c->remnants))
        next = earlier_of(next, LIST_OF(c->remnants.next, remnant, at)->since_ns + REMNANT_NS);
    if (!list_empty(&c->leaving))
        next = earlier_of(next, LIST_OF(c->leaving.next, remnant, at)->since_ns + STOP_NS);
    return next;
}
