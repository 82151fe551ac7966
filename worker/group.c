/* A group of programs that run once, joined by streams: its region in the box, and what its programs write to stderr.  See
 * attempt.h. */
#include "worker/attempt.h"
#include "worker/blocks.h"
#include "worker/local.h"

#include <fcntl.h>

#define GROUP_ARENA_MAX (256u << 20)

static void lines_ended(struct lines *l)
{
    struct group *g = l->owner;
    uint32_t task = (uint32_t)(l - g->lines);
    g->t->moving--;
    g->said[task] = true;
    if (l->differs.code)
        attempt_doubt(g->t, &l->differs);
    attempt_said(g->t, g->region.node_of_task[task], l->tail.data);
    attempt_settle(g->t);
}

static bool has_fallen(struct lines *l)
{
    const struct group *g = l->owner;
    return agent_box_gone(g->t->agent);
}

/* A shell that lost one of its processes says so, maybe before we are told of the loss.  When zpipe-box is asked it looks at all processes of the
 * task.  Of a task that lost one it says nothing: it ends it. */
static bool asks(struct lines *l)
{
    const struct group *g = l->owner;
    uint32_t node = g->region.node_of_task[l - g->lines];
    return l->given && g->t->state == ATTEMPT_RUNNING && group_runs(g) && !g->t->report[node].ended &&
           box_look(agent_box(g->t->agent), g->watch.id, NULL) == 0;
}

static void answer(struct group *g, bool well)
{
    for (uint32_t i = 0; g->lines && i < g->region.plan.task_count; i++)
        lines_answer(&g->lines[i], well);
}

static void on_task_ended(void *owner, uint32_t task, const struct box_result *r)
{
    struct group *g = owner;
    struct attempt *t = g->t;
    uint32_t node = g->region.node_of_task[task];
    struct box_result told = *r;
    if (r->end == BOX_FAILED && !r->sys) {
        attempt_task_lost(t, node, r->text);
        return;
    }
    lines_answer(&g->lines[task], true);
    if (g != &t->main || !blocks_ran_whole(t, node)) {
        blocks_amend(t, node, &told);
        attempt_node_ended(t, node, &told, r->end == BOX_SIGNALLED && r->signal == SIGPIPE);
    }
    if (g->said[task])
        attempt_said(t, node, g->lines[task].tail.data);
}

static void on_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    struct group *g = owner;
    if (g->pump_ended && g->pump_ended(g, channel, sys, reading))
        return;
    attempt_pump_failed(g->t, sys, reading);
}

static void on_moved(void *owner, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    struct group *g = owner;
    if (g->moved)
        g->moved(g, channel, bytes, sources);
}

static void on_bytes(void *owner, uint32_t task, uint64_t in, uint64_t out)
{
    struct group *g = owner;
    struct msg m = {.type = MSG_PROGRESS,
                    .progress = {g->t->job, g->region.node_of_task[task], in, out, true}};
    lines_answer(&g->lines[task], true);
    if (g->t->state == ATTEMPT_RUNNING)
        attempt_say(g->t, &m);
}

static void on_ended(void *owner)
{
    struct group *g = owner;
    answer(g, true);
    if (g->ended)
        g->ended(g);
    attempt_settle(g->t);
}

static int own_fd(int fd)
{
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Begin to serve the channels whose other end we hold: edges that go over streams, and each stage's stderr. */
static int begin_streams(struct group *g, struct err *e)
{
    struct attempt *t = g->t;
    const struct box_region *plan = &g->region.plan;
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct attempt_route *route = &t->route[i];
        if (route->group != g || route->channel == GRAPH_NONE)
            continue;
        const struct box_channel *c = &plan->channel[route->channel];
        if (attempt_carry(t, route, c->caller_fd, c->end == BOX_REMOTE_READER, e) < 0)
            return -1;
    }
    for (uint32_t i = 0; i < plan->task_count; i++) {
        const struct box_task *task = &plan->task[i];
        uint32_t node = g->region.node_of_task[i];
        const struct box_port *last = &task->port[task->port_count - 1];
        g->said[i] = true;
        if (graph_fd_of(&t->graph->node[node], 2))
            continue;
        struct attempt_route *route = attempt_route_of(t, MSG_STDERR, node, GRAPH_NONE);
        int fd = plan->channel[last->channel].caller_fd;
        bool elsewhere = route && route->r.via != MSG_VIA_FD;
        bool taken = elsewhere && g == &t->main && blocks_reruns(t, node);
        if (elsewhere && !taken) {
            if (attempt_carry(t, route, fd, true, e) < 0)
                return -1;
            continue;
        }
        own_fd(fd);
        t->moving++;
        g->said[i] = false;
        lines_start(&g->lines[i], agent_loop(t->agent), fd, route && !taken ? route->r.fd : -1, lines_ended, g);
        g->lines[i].given = local_given(t, route);
        g->lines[i].has_fallen = has_fallen;
        g->lines[i].asks = asks;
    }
    return 0;
}

int group_run(struct group *g, struct attempt *t, const struct region_scope *scope, struct err *e)
{
    static const struct region_events events = {.task_ended = on_task_ended, .pump_ended = on_pump_ended,
                                                .moved = on_moved, .bytes = on_bytes, .ended = on_ended};
    g->t = t;
    g->arena = ARENA_INIT(GROUP_ARENA_MAX);
    g->region.arena = &g->arena;
    g->watch.events = &events;
    g->watch.owner = g;
    g->lines = arena_array(&g->arena, (size_t)scope->count + 1, sizeof *g->lines);
    g->said = arena_array(&g->arena, (size_t)scope->count + 1, sizeof *g->said);
    if (!g->lines || !g->said)
        return err_nomem(e);
    for (uint32_t i = 0; i < scope->count; i++)
        g->lines[i].from = -1;
    int r = region_build(t, scope, &g->region, e);
    for (uint32_t i = 0; i < t->route_count; i++)
        if (t->route[i].channel != GRAPH_NONE && !t->route[i].group)
            t->route[i].group = g;
    if (r == 0)
        r = agent_run_region(t->agent, &g->watch, &g->region.plan, e);
    region_close(&g->region);
    return r < 0 ? -1 : begin_streams(g, e);
}

void group_tear(struct group *g)
{
    for (uint32_t i = 0; g->lines && i < g->region.plan.task_count; i++)
        g->lines[i].torn = true;
    answer(g, false);
}

void group_fall(struct group *g)
{
    for (uint32_t i = 0; g->lines && i < g->region.plan.task_count; i++)
        g->lines[i].fallen = true;
    answer(g, false);
}

bool group_runs(const struct group *g)
{
    return g->watch.id != 0;
}

void group_clear(struct group *g)
{
    for (uint32_t i = 0; g->lines && i < g->region.plan.task_count; i++)
        lines_clear(&g->lines[i]);
    arena_clear(&g->arena);
    g->lines = NULL;
}
