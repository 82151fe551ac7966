/* See agent.h.  The regions that run in this worker's zpipe-box; passes what is told of them to their owners. */
#include "worker/agent_inside.h"

#include "base/log.h"

#include <poll.h>
#include <unistd.h>

#define BOXES_LOST_MAX 3 /* in a row, without a task that ended */

uint32_t agent_lanes(const struct agent *a)
{
    return a->cpus < BOX_LANES_MAX ? a->cpus : BOX_LANES_MAX;
}

/* A region that waits for another is where that is. */
static unsigned choose_lane(const struct agent *a, const struct region_watch *w, uint64_t after)
{
    unsigned best = 1;
    if (after || !w->brief)
        return box_lane(after);
    for (unsigned i = 2; i <= agent_lanes(a); i++)
        if (a->in_lane[i] < a->in_lane[best])
            best = i;
    return best;
}

int agent_run_region(struct agent *a, struct region_watch *w, struct box_region *r, struct err *e)
{
    unsigned lane = choose_lane(a, w, r->after);
    w->id = (uint64_t)lane << BOX_LANE_SHIFT | ++a->region_ids;
    if (box_run(a->box, w->id, r, e) < 0) {
        w->id = 0;
        return -1;
    }
    a->in_lane[lane]++;
    w->next = a->regions;
    a->regions = w;
    return 0;
}

bool agent_box_gone(const struct agent *a)
{
    struct pollfd p = {.fd = box_fd(a->box)};
    return poll(&p, 1, 0) != 0;
}

void agent_stop_region(struct agent *a, const struct region_watch *w)
{
    box_stop(a->box, w->id, NULL); /* if the box is gone, `lost` ends all regions */
}

static struct region_watch *find_region(struct agent *a, uint64_t id)
{
    struct region_watch *w = a->regions;
    while (w && w->id != id)
        w = w->next;
    return w;
}

static void on_task_ended(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    struct agent *a = owner;
    struct region_watch *w = find_region(owner, region);
    a->boxes_lost = 0;
    if (w && w->events->task_ended)
        w->events->task_ended(w->owner, task, r);
    else
        for (uint32_t i = 0; i < r->made_count; i++)
            if (r->made[i].fd >= 0)
                close(r->made[i].fd);
}

static void on_pump_ended(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys,
                          bool reading)
{
    (void)bytes;
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->pump_ended)
        w->events->pump_ended(w->owner, channel, sys, reading);
}

static void on_kept(void *owner, uint64_t region, uint32_t channel, const struct box_kept *k)
{
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->kept)
        w->events->kept(w->owner, channel, k);
    else if (k->fd >= 0)
        close(k->fd);
}

static void on_moved(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->moved)
        w->events->moved(w->owner, channel, bytes, sources);
}

static void on_bytes(void *owner, uint64_t region, uint32_t task, uint64_t in, uint64_t out)
{
    struct region_watch *w = find_region(owner, region);
    if (w && w->events->bytes)
        w->events->bytes(w->owner, task, in, out);
}

static void on_region_ended(void *owner, uint64_t region)
{
    struct agent *a = owner;
    for (struct region_watch **at = &a->regions; *at; at = &(*at)->next) {
        struct region_watch *w = *at;
        if (w->id != region)
            continue;
        *at = w->next;
        a->in_lane[box_lane(w->id)]--;
        w->id = 0;
        w->events->ended(w->owner);
        return;
    }
}

/* The box was lost, with all that ran in it.  If the host refuses sandboxes, or one box after the other ends, nothing more
 * can be run here. */
static void on_box_lost(void *owner, const struct err *why)
{
    struct agent *a = owner;
    loop_fd_stop(a->loop, &a->box_watch);
    for (struct attempt *t = a->attempts; t; t = t->next)
        attempt_box_lost(t, why);
    lender_box_lost(&a->lender);
    while (a->regions)
        on_region_ended(a, a->regions->id);
    a->box_lost = why->code == ERR_GONE && ++a->boxes_lost <= BOXES_LOST_MAX;
    if (!a->box_lost)
        agent_lose(a, why);
    else
        log_warn("box_lost", "why=\"%s\"", why->text);
}

const struct box_events agent_box_events = {.task_ended = on_task_ended,
                                            .pump_ended = on_pump_ended,
                                            .kept = on_kept,
                                            .region_ended = on_region_ended,
                                            .bytes = on_bytes,
                                            .moved = on_moved,
                                            .lost = on_box_lost};

void agent_box_ready(struct loop_fd *w, int events)
{
    (void)events;
    struct agent *a = w->owner;
    struct err e;
    box_dispatch(a->box);
    if (!a->box_lost)
        return;
    a->box_lost = false;
    if (box_again(a->box, &e) < 0)
        agent_lose(a, &e);
    else
        loop_fd_start(a->loop, &a->box_watch, box_fd(a->box), LOOP_READ);
}
