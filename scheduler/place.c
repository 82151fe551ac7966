/* Which worker gets what.
 *
 *   a worker in the client's own process   everything, sources and sinks too
 *   otherwise                              the programs, on the worker with most free slots or (for
 * tests) spread; sources and sinks stay with the client
 *
 * A job holds min(its stages on a worker, the worker's free slots) slots until it is over: stages
 * that stream into each other must run at the same time, so more stages than slots still are one
 * part.
 *
 * Next: route.c for how the bytes travel then, and worker/agent.c for RUN. */
#include "scheduler/state.h"

#include "proto/stages.h"

#include <stdlib.h>

#define STAGES_ARENA_MAX (16u << 20)

struct peer_state *place_local(const struct peer_state *client)
{
    return client->home ? client->home->worker : NULL;
}

bool place_possible(const struct core *c, const struct peer_state *client)
{
    const struct peer_state *local = place_local(client);
    return local ? fleet_free_slots(local) > 0 : fleet_most_free(c) != NULL;
}

static uint32_t count_stages(const struct graph *g)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->node_count; i++)
        count += graph_is_stage(&g->node[i]);
    return count;
}

/* The node by which others of its stage are placed. */
static uint32_t leader_of(const struct graph_stages *s, uint32_t node)
{
    const struct graph_stage *stage = s->of_node[node] == GRAPH_NONE ? NULL : &s->stage[s->of_node[node]];
    return !stage ? node : stage->author != GRAPH_NONE ? stage->author : s->node[stage->first];
}

/* A broadcast is where its bytes are made. */
static void place_broadcasts(struct job *j)
{
    const struct graph *g = j->graph;
    for (uint32_t i = 0; i < g->node_count; i++) {
        uint32_t at = i;
        while (g->node[at].kind == GRAPH_BROADCAST)
            at = g->edge[graph_fd_of(&g->node[at], 0)->edge].from;
        if (g->node[i].kind == GRAPH_BROADCAST)
            j->node[i].part = j->node[at].part == AT_CLIENT ? 0 : j->node[at].part;
    }
}

/* Programs are dealt out in turn, so that neighbours differ where there are two workers; but those of one
 * stage in blocks stay together. */
static int deal(struct job *j, bool local, struct err *e)
{
    struct arena a = ARENA_INIT(STAGES_ARENA_MAX);
    struct graph_stages stages;
    uint32_t turn = 0;
    if (graph_stages(j->graph, &a, &stages, e) < 0) {
        arena_clear(&a);
        return -1;
    }
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        if (!graph_is_stage(&j->graph->node[i])) {
            if (local)
                j->node[i].part = 0;
        } else if (leader_of(&stages, i) == i) {
            j->node[i].part = turn++ % j->part_count;
            j->part[j->node[i].part].slots++;
        }
    }
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (stages.of_node[i] != GRAPH_NONE)
            j->node[i].part = j->node[leader_of(&stages, i)].part;
    place_broadcasts(j);
    arena_clear(&a);
    return 0;
}

static int choose(struct core *c, struct job *j, struct peer_state *local, struct err *e)
{
    struct peer_state *one = local ? local : fleet_most_free(c), **many = &one;
    uint32_t stages = count_stages(j->graph);
    size_t count = 1;
    if (j->spread && !local && !(many = fleet_list(c, stages ? stages : 1, &count)))
        return err_nomem(e);
    j->part = calloc(count, sizeof *j->part);
    if (!j->part) {
        if (many != &one)
            free(many);
        return err_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        j->part[i] = (struct part){.job = j, .worker = many[i]};
        list_init(&j->part[i].at);
        lend_init(&j->part[i]);
    }
    j->part_count = (uint32_t)count;
    if (many != &one)
        free(many);
    if (deal(j, local != NULL, e) == 0)
        return 0;
    free(j->part);
    j->part = NULL;
    j->part_count = 0;
    return -1;
}

static int new_run(struct core *c, struct job *j, uint32_t part, bool local, struct action **out,
                   struct err *e)
{
    struct action *a = action_new(c, j->part[part].worker->link, e);
    if (!a)
        return -1;
    struct slice *admit = arena_array(&a->arena, j->part_count + 1, sizeof *admit);
    uint32_t *node = arena_array(&a->arena, j->graph->node_count + 1, sizeof *node);
    struct msg_run run = {
        .job = j->number,
        .attempt = JOB_ATTEMPT,
        .token = {arena_bytes(&a->arena, j->token, sizeof j->token), sizeof j->token},
        .node = node,
        .admit = admit};
    if (!admit || !node || !run.token.data) {
        action_forget(c, a);
        return err_nomem(e);
    }
    if (routes_make(j, part, local, &a->arena, &run.route, &run.route_count, e) < 0) {
        action_forget(c, a);
        return -1;
    }
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part == part)
            node[run.node_count++] = i;
    for (uint32_t i = 0; i <= j->part_count; i++) { /* the last: the client */
        const struct peer_state *p = i < j->part_count ? j->part[i].worker : j->client;
        const char *key =
            i != part && p->has_key ? arena_bytes(&a->arena, p->key, MSG_KEY_BYTES) : NULL;
        if (key)
            admit[run.admit_count++] = (struct slice){key, MSG_KEY_BYTES};
    }
    a->out.msg = (struct msg){.type = MSG_RUN, .run = run};
    a->bulk = bytes_share(j->bytes);
    *out = a;
    return 0;
}

static int new_route(struct core *c, struct job *j, struct action **out, struct err *e)
{
    struct action *a = action_new(c, j->client->link, e);
    if (!a)
        return -1;
    struct msg_route_list list = {
        .job = j->number,
        .attempt = JOB_ATTEMPT,
        .token = {arena_bytes(&a->arena, j->token, sizeof j->token), sizeof j->token}};
    if (!list.token.data) {
        action_forget(c, a);
        return err_nomem(e);
    }
    if (routes_make(j, AT_CLIENT, false, &a->arena, &list.route, &list.route_count, e) < 0) {
        action_forget(c, a);
        return -1;
    }
    a->out.msg = (struct msg){.type = MSG_ROUTE, .route = list};
    *out = a;
    return 0;
}

/* All of them or none: a job that only one of its workers heard of would have to be taken back. */
static int send_all(struct core *c, struct job *j, bool local, struct err *e)
{
    uint32_t count = j->part_count + !local, made = 0, sent = 0;
    struct action **a = calloc(count, sizeof *a);
    int r = a ? 0 : err_nomem(e);
    for (; r == 0 && made < count; made += r == 0)
        r = made < j->part_count ? new_run(c, j, made, local, &a[made], e)
                                 : new_route(c, j, &a[made], e);
    for (uint32_t i = 0; r == 0 && i < made; i++)
        r = action_check(&a[i]->out.msg, e);
    for (; r == 0 && sent < made; sent++)
        action_queue(c, a[sent]);
    for (uint32_t i = sent; i < made; i++)
        action_forget(c, a[i]);
    free(a);
    return r;
}

int job_place(struct core *c, struct job *j, struct err *e)
{
    struct peer_state *local = place_local(j->client);
    if (choose(c, j, local, e) < 0)
        return -1;
    if (send_all(c, j, local != NULL, e) < 0) {
        free(j->part);
        j->part = NULL;
        j->part_count = 0;
        return -1;
    }
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct part *p = &j->part[i];
        uint32_t room = fleet_free_slots(p->worker);
        p->slots = p->slots == 0 ? 1 : p->slots < room ? p->slots : room;
        fleet_take(c, p->worker, p->slots);
        list_add(&p->worker->parts, &p->at);
    }
    j->parts_left = j->part_count;
    return 0;
}
