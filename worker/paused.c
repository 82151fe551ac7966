/* Attempts without a scheduler.  They go on, as their bytes go between workers and clients, which wait for a scheduler, too.
 * Their messages to the scheduler wait until one knows them again (GO_ON).  Then these are sent, and all earlier ones once
 * more, as they may have been lost with the old scheduler.  So an attempt that must tell of each block just once cannot go
 * on, and begins again.  And lent runs come back, as loans are the scheduler's.
 *
 * Before: agent.c.  The other side: scheduler/remains.c. */
#include "worker/attempt.h"
#include "worker/borrow.h"

#define REMAINS_ARENA_MAX (4u << 20)

static bool may_go_on(const struct attempt *t)
{
    return !t->local && !t->graph->tell_blocks && t->state != ATTEMPT_STOPPING && t->state != ATTEMPT_ENDED;
}

void attempts_pause(struct attempt *first)
{
    for (struct attempt *t = first; t; t = t->next) {
        if (t->paused)
            continue;
        t->paused = may_go_on(t);
        if (t->paused)
            borrows_end(t);
        else
            attempt_stop(t);
    }
}

static void tell_remains(struct attempt *t)
{
    struct arena a = ARENA_INIT(REMAINS_ARENA_MAX);
    uint32_t *node = arena_array(&a, t->graph->node_count, sizeof *node), count = 0;
    for (uint32_t i = 0; node && i < t->graph->node_count; i++)
        if (t->here[i] && (t->graph->node[i].kind != GRAPH_SOURCE || t->graph->node[i].parent != GRAPH_NONE)) /* otherwise the node is the client's */
            node[count++] = i;
    struct msg m = {.type = MSG_REMAINS, .remains = {t->job, t->number, {t->token, sizeof t->token}, node, count}};
    agent_send(t->agent, &m); /* without memory it names no node, and will be told to stop */
    arena_clear(&a);
}

uint32_t attempts_paused(const struct attempt *first)
{
    uint32_t count = 0;
    for (const struct attempt *t = first; t; t = t->next)
        count += t->paused;
    return count;
}

void attempts_tell_remains(struct attempt *first)
{
    for (struct attempt *t = first; t; t = t->next)
        if (t->paused)
            tell_remains(t);
}

static void say_stopped(struct attempt *t)
{
    struct msg m = {.type = MSG_STOPPED, .stopped = {t->job, t->number, t->heard}};
    t->reapable = true;
    attempt_say(t, &m);
}

void attempt_end_pause(struct attempt *t)
{
    bool ended = t->paused && t->state == ATTEMPT_ENDED;
    t->paused = false;
    if (ended)
        say_stopped(t);
}

static void say_lost(struct attempt *t, const struct attempt_route *route)
{
    const struct msg_route *r = &route->r;
    struct msg m = {.type = MSG_LOST,
                    .lost = {t->job, route->attempt, r->what, r->index, r->node, "it broke off while there was no scheduler"}};
    attempt_say(t, &m);
}

void attempt_go_on(struct attempt *t)
{
    bool failed = t->torn;
    if (!t->paused)
        return;
    t->paused = false;
    struct msg m = {.type = MSG_STARTED, .started = {t->job, t->number}};
    if (t->started)
        attempt_say(t, &m);
    for (uint32_t i = 0; t->report && i < t->graph->node_count; i++)
        if (t->report[i].sent)
            attempt_say(t, &t->report[i].m);
    for (uint32_t i = 0; i < t->route_count; i++)
        if (t->route[i].cut)
            say_lost(t, &t->route[i]);
    m = (struct msg){.type = MSG_FAIL, .fail = {t->job, t->number, ERR_GONE, "it failed while there was no scheduler", false}};
    if (failed)
        attempt_say(t, &m);
    if (t->state == ATTEMPT_ENDED)
        say_stopped(t);
    t->wanted = 0; /* slots of other workers must be asked for again */
    agent_step_soon(t->agent);
}
