/* Decides which worker gets which stages.
 *
 *   the client's process has a worker   it gets everything, sources and sinks too
 *   otherwise                           the worker with most free slots gets the programs (for tests they are spread
 *                                       over all workers); sources and sinks stay with the client
 *
 * Until it is over a job holds min(its stages on a worker, the worker's free slots) slots.  Stages that stream into each
 * other must run at the same time, so they are one part even if they are more than the slots.
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

/* The worker in the client's process, if the job is to run there.  Parts that go on elsewhere have their ends at the
 * client; then all of the job stays with the fleet. */
static struct peer_state *local_of(const struct job *j)
{
    return j->parts_left && !j->local ? NULL : place_local(j->client);
}

bool place_possible(const struct core *c, const struct job *j)
{
    const struct peer_state *local = local_of(j);
    return local ? fleet_free_slots(local) > 0 : fleet_most_free(c, j) != NULL;
}

/* A worker, and the part that it gets. */
struct place {
    struct peer_state *worker;
    uint32_t part;
};

/* The node that leads its stage: the others of the stage are placed with it. */
static uint32_t leader_of(const struct graph_stages *s, uint32_t node)
{
    const struct graph_stage *stage = s->of_node[node] == GRAPH_NONE ? NULL : &s->stage[s->of_node[node]];
    return !stage ? node : stage->author != GRAPH_NONE ? stage->author : s->node[stage->first];
}

static bool leads(const struct job *j, const struct graph_stages *s, uint32_t node)
{
    return graph_is_stage(&j->graph->node[node]) && leader_of(s, node) == node;
}

static uint32_t count_leads(const struct job *j, const struct graph_stages *s, bool nowhere)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        count += leads(j, s, i) && (!nowhere || j->node[i].part == NOWHERE);
    return count;
}

/* A broadcast is placed where its bytes are made.  If that is the client, it stays where it was placed first. */
static void place_broadcasts(struct job *j, uint32_t first)
{
    const struct graph *g = j->graph;
    for (uint32_t i = 0; i < g->node_count; i++) {
        uint32_t at = i;
        while (g->node[at].kind == GRAPH_BROADCAST)
            at = g->edge[graph_fd_of(&g->node[at], 0)->edge].from;
        if (g->node[i].kind != GRAPH_BROADCAST)
            continue;
        if (j->node[at].part != AT_CLIENT)
            j->node[i].part = j->node[at].part;
        else if (j->node[i].part == AT_CLIENT || j->node[i].part == NOWHERE)
            j->node[i].part = first;
    }
}

/* The part of a writer that must be beside this node, or NOWHERE: SIGPIPE is to meet the writer at the same byte each time
 * (flow.h), which only works if both are in one part. */
static uint32_t beside_writer(const struct job *j, const struct graph_stages *s, uint32_t node)
{
    const struct graph *g = j->graph;
    const struct graph_node *n = &g->node[node];
    for (uint32_t i = 0; i < n->fd_count && s->of_node[node] == GRAPH_NONE; i++) {
        const struct graph_edge *edge = &g->edge[n->fd[i].edge];
        if (edge->to == node && s->exact[n->fd[i].edge] && j->node[edge->from].part < j->part_count)
            return j->node[edge->from].part;
    }
    return NOWHERE;
}

/* Deal out the stages that are NOWHERE in turn, so that neighbours differ if there are two workers; but the nodes of one
 * stage in blocks stay together. */
static void deal(struct job *j, const struct graph_stages *s, const struct place *place, size_t places, bool local)
{
    uint32_t turn = 0;
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        if (!graph_is_stage(&j->graph->node[i])) {
            if (local)
                j->node[i].part = place[0].part;
        } else if (leads(j, s, i) && j->node[i].part == NOWHERE) {
            uint32_t beside = beside_writer(j, s, i);
            j->node[i].part = beside != NOWHERE ? beside : place[turn++ % places].part;
            j->part[j->node[i].part].slots++;
        }
    }
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (s->of_node[i] != GRAPH_NONE)
            j->node[i].part = j->node[leader_of(s, i)].part;
    place_broadcasts(j, place[0].part);
}

/* Make the new parts.  Room for one part per stage is enough, since each part has at least one. */
static int new_parts(struct job *j, struct place *place, size_t places, uint32_t room, struct err *e)
{
    if (!j->part && !(j->part = calloc(room, sizeof *j->part)))
        return err_nomem(e);
    bool *used = calloc(room, sizeof *used);
    if (!used)
        return err_nomem(e);
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part < room)
            used[j->node[i].part] = true;
    uint32_t at = 0;
    for (size_t i = 0; i < places; i++) {
        while (used[at])
            at++;
        place[i].part = at;
        j->part[at] = (struct part){.job = j, .worker = place[i].worker, .attempt = j->attempt};
        list_init(&j->part[at].at);
        lend_init(&j->part[at++]);
    }
    j->part_count = at > j->part_count ? at : j->part_count;
    free(used);
    return 0;
}

/* Choose the workers for the stages that are NOWHERE; gives. */
static struct place *choose(const struct core *c, struct job *j, struct peer_state *local, uint32_t max,
                            size_t *count, struct err *e)
{
    struct peer_state *one = local ? local : fleet_most_free(c, j), **many = &one;
    *count = 1;
    if (local && *j->wish) {
        err_set(e, ERR_UNSUPPORTED, "image=%.100s names an image of a cluster's workers, and this job runs here", j->wish);
        return NULL;
    }
    if (!local)
        job_bind(j, one);
    if (j->spread && !local && !(many = fleet_list(c, j, max, count))) {
        err_nomem(e);
        return NULL;
    }
    struct place *place = calloc(*count, sizeof *place);
    for (size_t i = 0; place && i < *count; i++)
        place[i].worker = many[i];
    if (many != &one)
        free(many);
    if (!place)
        err_nomem(e);
    return place;
}

static struct slice key_of(const struct peer_state *p, struct arena *a)
{
    const char *key = p->has_key ? arena_bytes(a, p->key, MSG_KEY_BYTES) : NULL;
    return key ? (struct slice){key, MSG_KEY_BYTES} : (struct slice){"", 0};
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
        .attempt = j->attempt,
        .token = {arena_bytes(&a->arena, j->token, sizeof j->token), sizeof j->token},
        .node = node,
        .admit = admit,
        .client = {"", 0}};
    if (!admit || !node || !run.token.data) {
        action_forget(c, a);
        return err_nomem(e);
    }
    if (routes_make(j, j->attempt, part, local, &a->arena, &run.route, &run.route_count, e) < 0) {
        action_forget(c, a);
        return -1;
    }
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part == part)
            node[run.node_count++] = i;
    if (j->client)
        run.client = key_of(j->client, &a->arena);
    run.held = j->held;
    run.deaths = part_deaths(j, part);
    run.bad = j->bad && j->node[j->bad - 1].part == part ? j->bad : 0;
    run.bad_number = j->bad_number;
    run.bad_why = run.bad ? arena_string(&a->arena, j->bad_why.text) : "";
    if (!run.bad_why) {
        action_forget(c, a);
        return err_nomem(e);
    }
    for (uint32_t i = 0; i < j->part_count; i++)
        if (i != part && j->part[i].worker && j->part[i].worker->has_key)
            admit[run.admit_count++] = key_of(j->part[i].worker, &a->arena);
    a->out.msg = (struct msg){.type = MSG_RUN, .run = run};
    a->bulk = bytes_share(j->bytes);
    *out = a;
    return 0;
}

/* Make a ROUTE message for the client, or for a worker whose part reads from a new one. */
static int new_route(struct core *c, struct job *j, uint32_t attempt, uint32_t side, struct action **out, struct err *e)
{
    bool client = side == AT_CLIENT;
    struct action *a = action_new(c, client ? j->client->link : j->part[side].worker->link, e);
    if (!a)
        return -1;
    struct msg_route_list list = {
        .job = j->number,
        .attempt = attempt,
        .token = {arena_bytes(&a->arena, j->token, sizeof j->token), sizeof j->token},
        .reader = client ? 0 : j->part[side].attempt,
        .why = arena_string(&a->arena, j->why.code ? j->why.text : "")};
    int r = list.token.data && list.why ? 0 : err_nomem(e);
    if (r == 0)
        r = routes_make(j, attempt, side, false, &a->arena, &list.route, &list.route_count, e);
    if (r < 0 || (!client && !list.route_count)) {
        action_forget(c, a);
        *out = NULL;
        return r;
    }
    a->out.msg = (struct msg){.type = MSG_ROUTE, .route = list};
    *out = a;
    return 0;
}

/* Make the message for this part: RUN, ROUTE or none. */
static int new_word(struct core *c, struct job *j, uint32_t part, bool local, struct action **out, struct err *e)
{
    *out = NULL;
    if (!j->part[part].worker)
        return 0;
    return j->part[part].attempt == j->attempt ? new_run(c, j, part, local, out, e)
                                               : new_route(c, j, j->attempt, part, out, e);
}

/* Queue all messages or none: a job that only some of its workers know would have to be taken back. */
static int send_all(struct core *c, struct job *j, bool local, struct err *e)
{
    uint32_t count = j->part_count + !local, made = 0, sent = 0;
    struct action **a = calloc(count, sizeof *a);
    int r = a ? 0 : err_nomem(e);
    for (; r == 0 && made < count; made += r == 0)
        r = made < j->part_count ? new_word(c, j, made, local, &a[made], e)
                                 : new_route(c, j, j->attempt, AT_CLIENT, &a[made], e);
    for (uint32_t i = 0; r == 0 && i < made; i++)
        r = a[i] ? action_check(&a[i]->out.msg, e) : 0;
    for (; r == 0 && sent < made; sent++)
        if (a[sent])
            action_queue(c, a[sent]);
    for (uint32_t i = sent; i < made; i++)
        if (a[i])
            action_forget(c, a[i]);
    free(a);
    return r;
}

/* Undo the placement, as if the job had never been placed. */
static void take_back(struct job *j, const struct place *place, size_t places)
{
    for (size_t i = 0; i < places; i++)
        j->part[place[i].part].worker = NULL;
}

static void take_slots(struct core *c, struct job *j, const struct place *place, size_t places)
{
    for (size_t i = 0; i < places; i++) {
        struct part *p = &j->part[place[i].part];
        uint32_t room = fleet_free_slots(p->worker);
        p->slots = p->slots == 0 ? 1 : p->slots < room ? p->slots : room;
        p->memory_bytes = memory_of_part(j, place[i].part, &p->run_bytes);
        fleet_take(c, p->worker, p->slots, p->memory_bytes);
        list_add(&p->worker->parts, &p->at);
        j->parts_left++;
    }
}

static int place(struct core *c, struct job *j, const struct graph_stages *s, struct err *e)
{
    struct peer_state *local = local_of(j);
    uint32_t all = count_leads(j, s, false), nowhere = count_leads(j, s, true);
    size_t places;
    struct place *place = choose(c, j, local, nowhere ? nowhere : 1, &places, e);
    int r = place ? 0 : -1;
    j->local = local != NULL;
    j->attempt++;
    if (r == 0)
        r = new_parts(j, place, places, all ? all : 1, e);
    if (r == 0) {
        deal(j, s, place, places, local != NULL);
        r = send_all(c, j, local != NULL, e);
        if (r == 0)
            take_slots(c, j, place, places);
        else
            take_back(j, place, places);
    }
    free(place);
    return r;
}

int job_place(struct core *c, struct job *j, struct err *e)
{
    struct arena a = ARENA_INIT(STAGES_ARENA_MAX);
    struct graph_stages stages;
    int r = graph_stages(j->graph, &a, &stages, e);
    if (r == 0)
        r = place(c, j, &stages, e);
    arena_clear(&a);
    return r;
}

/* ---- jobs that run already, from an earlier scheduler */

/* Put each node where the remnants say; false: a node is named twice. */
static bool note_places(struct job *j, struct remnant *const *found, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!job_may_have(j, found[i]->worker) || !workers_alike(found[i]->worker, found[0]->worker))
            return false;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < found[i]->node_count; k++) {
            uint32_t node = found[i]->node[k];
            if (node >= j->graph->node_count || j->node[node].part < count)
                return false;
            j->node[node].part = i;
        }
    return true;
}

/* Are the remnants the whole job?  All stages must be there, each in one place, and no part without one. */
static bool are_whole(const struct job *j, const struct graph_stages *s, uint32_t count, struct part *part)
{
    const struct graph *g = j->graph;
    for (uint32_t i = 0; i < g->node_count; i++) {
        uint32_t lead = graph_is_stage(&g->node[i]) || s->of_node[i] != GRAPH_NONE ? leader_of(s, i) : GRAPH_NONE;
        bool there = j->node[i].part < count;
        if (lead != GRAPH_NONE ? !there || j->node[i].part != j->node[lead].part : there != (g->node[i].kind == GRAPH_BROADCAST))
            return false;
        if (leads(j, s, i))
            part[j->node[i].part].slots++;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!part[i].slots)
            return false;
    return true;
}

/* No reader may be newer than the writer it reads from.  If one is, its writer was begun again elsewhere, and this one has
 * not been told. */
static bool are_of_a_time(const struct job *j, struct remnant *const *found, uint32_t count)
{
    for (uint32_t i = 0; i < j->graph->edge_count; i++) {
        uint32_t from = j->node[j->graph->edge[i].from].part, to = j->node[j->graph->edge[i].to].part;
        if (from < count && to < count && found[from]->attempt < found[to]->attempt)
            return false;
    }
    return true;
}

/* Make the remnants the job's parts.  Each holds one slot of its worker already. */
static void take_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct part *p = &j->part[i];
        uint32_t room = 1 + fleet_free_slots(found[i]->worker), slots = p->slots < room ? p->slots : room;
        *p = (struct part){.job = j, .worker = found[i]->worker, .attempt = found[i]->attempt, .slots = slots};
        list_init(&p->at);
        lend_init(p);
        list_add(&p->worker->parts, &p->at);
        uint64_t room_bytes = p->worker->memory_bytes ? p->worker->memory_bytes - p->worker->memory_used : UINT64_MAX;
        p->memory_bytes = memory_of_part(j, i, &p->run_bytes);
        if (p->memory_bytes > room_bytes) /* the worker now gives less memory than before */
            p->memory_bytes = room_bytes;
        fleet_take(c, p->worker, slots - 1, p->memory_bytes);
        j->attempt = p->attempt > j->attempt ? p->attempt : j->attempt;
    }
    job_bind(j, found[0]->worker);
    j->earlier = j->attempt;
    j->begun = true;
    j->part_count = j->parts_left = count;
}

bool place_remnants(struct core *c, struct job *j, struct remnant *const *found, uint32_t count)
{
    struct arena a = ARENA_INIT(STAGES_ARENA_MAX);
    struct graph_stages stages;
    struct err e;
    struct part *part = calloc((size_t)j->graph->node_count + 1, sizeof *part);
    bool whole = part && graph_stages(j->graph, &a, &stages, &e) == 0 && note_places(j, found, count) &&
                 are_whole(j, &stages, count, part) && are_of_a_time(j, found, count);
    if (whole) {
        j->part = part;
        take_remnants(c, j, found, count);
    } else {
        for (uint32_t i = 0; i < j->graph->node_count; i++)
            j->node[i].part = graph_is_stage(&j->graph->node[i]) ? NOWHERE : AT_CLIENT;
        free(part);
    }
    arena_clear(&a);
    return whole;
}

/* The next greater attempt number among its parts; 0: there is none. */
static uint32_t attempt_after(const struct job *j, uint32_t attempt)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].attempt > attempt && (!next || j->part[i].attempt < next))
            next = j->part[i].attempt;
    return next;
}

static int tell_route(struct core *c, struct job *j, uint32_t attempt, uint32_t side, struct err *e)
{
    struct action *a = NULL;
    if (new_route(c, j, attempt, side, &a, e) < 0)
        return -1;
    if (a && action_check(&a->out.msg, e) < 0) {
        action_forget(c, a);
        return -1;
    }
    if (a)
        action_queue(c, a);
    return 0;
}

int place_tell_again(struct core *c, struct job *j, struct err *e)
{
    for (uint32_t attempt = 0; (attempt = attempt_after(j, attempt));) {
        for (uint32_t i = 0; i < j->part_count; i++)
            if (j->part[i].attempt < attempt && tell_route(c, j, attempt, i, e) < 0)
                return -1;
        if (tell_route(c, j, attempt, AT_CLIENT, e) < 0)
            return -1;
    }
    return 0;
}
