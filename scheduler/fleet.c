/* The workers that anybody can reach, as a heap: most free slots first, then the oldest link, so
 * that the same events give the same choice.  Workers inside a client's process have no data port
 * and are not in it; their slots are counted all the same. */
#include "scheduler/state.h"

#include "base/grow.h"
#include "proto/kept.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FLEET_MAX (1u << 20) /* workers; the ceiling on links is lower (PEER_LINKS_MAX) */

uint32_t fleet_free_slots(const struct peer_state *worker)
{
    return worker->draining ? 0 : worker->slots - worker->used;
}

static bool before(const struct peer_state *a, const struct peer_state *b)
{
    uint32_t free_a = fleet_free_slots(a), free_b = fleet_free_slots(b);
    return free_a != free_b ? free_a > free_b : a->link < b->link;
}

static void put(struct core *c, struct peer_state *w, size_t rank)
{
    c->fleet.heap[rank] = w;
    w->rank = rank;
}

/* The worker's free slots have changed: move it to its place in the heap. */
static void settle(struct core *c, struct peer_state *w)
{
    size_t at = w->rank;
    while (at > 0 && before(w, c->fleet.heap[(at - 1) / 2])) {
        put(c, c->fleet.heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (size_t child; (child = 2 * at + 1) < c->fleet.count; at = child) {
        if (child + 1 < c->fleet.count && before(c->fleet.heap[child + 1], c->fleet.heap[child]))
            child++;
        if (!before(c->fleet.heap[child], w))
            break;
        put(c, c->fleet.heap[child], at);
    }
    put(c, w, at);
}

static bool reachable(const struct peer_state *w)
{
    return w->data_url[0] && w->slots;
}

int fleet_join(struct core *c, struct peer_state *w, struct err *e)
{
    c->slots_freed = c->lend_again = true;
    if (!reachable(w))
        return 0;
    if (!grow(&c->fleet.heap, &c->fleet.room, c->fleet.count, FLEET_MAX, sizeof *c->fleet.heap))
        return err_nomem(e);
    w->rank = c->fleet.count++;
    c->fleet.sharing += w->shared != NULL;
    settle(c, w);
    return 0;
}

void fleet_leave(struct core *c, uint64_t now, struct peer_state *w)
{
    if (!reachable(w))
        return;
    struct peer_state *last = c->fleet.heap[--c->fleet.count];
    c->fleet.sharing -= w->shared != NULL;
    if (last != w) {
        put(c, last, w->rank);
        settle(c, last);
    }
    if (!c->fleet.count)
        c->fleet.empty_ns = now;
}

void fleet_take(struct core *c, struct peer_state *w, uint32_t slots, uint64_t memory_bytes)
{
    if (w->memory_bytes) {
        assert(memory_bytes <= w->memory_bytes - w->memory_used);
        w->memory_used += memory_bytes;
    }
    assert(slots <= w->slots - w->used); /* a worker that drains may still tell late of what it runs */
    w->used += slots;
    if (reachable(w))
        settle(c, w);
}

void fleet_release(struct core *c, struct peer_state *w, uint32_t slots, uint64_t memory_bytes)
{
    assert(slots <= w->used);
    if (w->memory_bytes) {
        assert(memory_bytes <= w->memory_used);
        w->memory_used -= memory_bytes;
    }
    w->used -= slots;
    c->slots_freed = c->lend_again = true;
    if (reachable(w))
        settle(c, w);
}

void fleet_drain(struct core *c, struct peer_state *w)
{
    w->draining = true;
    c->lend_again = true;
    if (reachable(w))
        settle(c, w);
}

/* How many bytes of a job's input lie below these directories. */
static uint64_t bytes_in_place(const struct job *j, const char *shared)
{
    const struct graph *g = j->graph;
    uint64_t bytes = 0;
    for (uint32_t i = 0; shared && i < g->file_count && i < KEPT_IN_PLACE_MAX; i++)
        if (!g->file[i].awaited && kept_shared_size(shared, g->file[i].path))
            bytes += g->file[i].size_bytes;
    return bytes;
}

static uint32_t hold_of(const struct peer_state *w, uint64_t held)
{
    uint32_t i = 0;
    while (i < w->holds_count && w->holds[i] != held)
        i++;
    return i;
}

void fleet_holds(struct core *c, struct peer_state *w, const struct msg_holds *m)
{
    uint32_t i = hold_of(w, m->held);
    if (i < w->holds_count && !m->runs) {
        w->holds[i] = w->holds[--w->holds_count];
    } else if (i == w->holds_count && m->runs && i < HOLDS_MAX) {
        if (!w->holds && !(w->holds = malloc(HOLDS_MAX * sizeof *w->holds)))
            return; /* then other workers may get the job, and run all of it */
        w->holds[w->holds_count++] = m->held;
    }
    c->slots_freed = c->slots_freed || c->repeated;
}

static struct peer_state *holder_of(const struct core *c, const struct job *j)
{
    for (size_t i = 0; i < c->fleet.count; i++) {
        struct peer_state *w = c->fleet.heap[i];
        if (!w->draining && hold_of(w, j->held) < w->holds_count && job_may_have(j, w) && memory_could_fit(j, w))
            return w;
    }
    return NULL;
}

/* Does the job wait for the worker that may have results of it?  It waits until that worker has stopped what it ran of the
 * job before, or, if the scheduler was started just now, until it has come and said so. */
static bool waits_for_holder(const struct core *c, const struct job *j, struct peer_state **holder)
{
    *holder = j->again ? holder_of(c, j) : NULL;
    if (!*holder)
        return j->again && c->event_ns < c->began_ns + CLAIM_NS;
    if (fleet_free_slots(*holder) && memory_fits(j, *holder))
        return false;
    *holder = NULL;
    return c->event_ns < j->submitted_ns + HOLDER_NS;
}

struct peer_state *fleet_most_free(const struct core *c, const struct job *j)
{
    struct peer_state *holder;
    if (waits_for_holder(c, j, &holder) || holder)
        return holder;
    struct peer_state *most = NULL;
    const char *shared = NULL; /* of the worker looked at last, as most have the same: */
    uint64_t bytes = 0, most_bytes = 0;
    for (size_t i = 0; i < c->fleet.count; i++) {
        struct peer_state *w = c->fleet.heap[i];
        if (!fleet_free_slots(w) || !job_may_have(j, w) || !memory_fits(j, w))
            continue;
        if (!shared || !w->shared || strcmp(w->shared, shared) != 0)
            bytes = bytes_in_place(j, shared = w->shared);
        if (!most || bytes > most_bytes || (bytes == most_bytes && before(w, most))) {
            most = w;
            most_bytes = bytes;
        }
        if (!job_is_choosy(j) && !c->fleet.sharing)
            break; /* the first one is the best */
    }
    return most;
}

bool fleet_serves(const struct core *c, const struct job *j)
{
    for (size_t i = 0; i < c->fleet.count; i++)
        if (job_may_have(j, c->fleet.heap[i]) && memory_could_fit(j, c->fleet.heap[i]))
            return true;
    return false;
}

bool fleet_has_free(const struct core *c)
{
    return c->fleet.count && fleet_free_slots(c->fleet.heap[0]);
}

/* Search the heap; below a worker without free slots there are only workers without. */
static struct peer_state *lender_at(const struct core *c, size_t at, const struct peer_state *owner, uint64_t run_bytes)
{
    struct peer_state *w = at < c->fleet.count ? c->fleet.heap[at] : NULL;
    if (!w || !fleet_free_slots(w))
        return NULL;
    if (w != owner && workers_alike(w, owner) && memory_runs(w, run_bytes, 1))
        return w;
    w = lender_at(c, 2 * at + 1, owner, run_bytes);
    return w ? w : lender_at(c, 2 * at + 2, owner, run_bytes);
}

struct peer_state *fleet_lender(const struct core *c, const struct peer_state *owner, uint64_t run_bytes)
{
    return lender_at(c, 0, owner, run_bytes);
}

static int by_link(const void *a, const void *b)
{
    uint64_t x = (*(struct peer_state *const *)a)->link, y = (*(struct peer_state *const *)b)->link;
    return x < y ? -1 : x > y;
}

struct peer_state **fleet_list(const struct core *c, const struct job *j, size_t max, size_t *count)
{
    struct peer_state **list = calloc(c->fleet.count + 1, sizeof *list);
    *count = 0;
    if (!list)
        return NULL;
    for (size_t i = 0; i < c->fleet.count; i++)
        if (fleet_free_slots(c->fleet.heap[i]) && job_may_have(j, c->fleet.heap[i]) && memory_fits(j, c->fleet.heap[i]))
            list[(*count)++] = c->fleet.heap[i];
    qsort(list, *count, sizeof *list, by_link);
    if (*count > max)
        *count = max;
    return list;
}
