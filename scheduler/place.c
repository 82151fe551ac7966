/* Which worker gets what, and how the bytes travel then.
 *
 *   a worker in the client's own process   everything, sources and sinks too; descriptors and paths as they are
 *   otherwise                              the programs, packed on the least busy worker or (for tests) spread;
 *                                          sources and sinks stay with the client, which connects to the
 *                                          workers; of two workers the reading one connects to the writing one
 *
 * A job holds min(its stages on a worker, the worker's slots) slots until it is over. */
#include "scheduler/state.h"

#include <stdlib.h>
#include <string.h>

static bool is_process(const struct graph_node *n)
{
    return n->kind == GRAPH_COMMAND || n->kind == GRAPH_SHELL;
}

static bool same_process(const struct peer_state *a, const struct peer_state *b)
{
    static const uint8_t none[16];
    return memcmp(a->instance, none, sizeof none) && !memcmp(a->instance, b->instance, sizeof none);
}

static uint32_t free_slots(const struct peer_state *w)
{
    return w->slots > w->used ? w->slots - w->used : 0;
}

/* ---- which worker */

static struct peer_state *local_worker(struct core *c, const struct peer_state *client)
{
    for (struct peer_state *p = c->peers; p; p = p->next)
        if (p->role == MSG_WORKER && same_process(p, client))
            return p;
    return NULL;
}

static struct peer_state *least_busy(struct core *c)
{
    struct peer_state *best = NULL;
    for (struct peer_state *p = c->peers; p; p = p->next)
        if (p->role == MSG_WORKER && free_slots(p) && p->data_url[0] && (!best || free_slots(p) > free_slots(best)))
            best = p;
    return best;
}

/* The nth worker with a free slot, counting round and round: neighbours differ when there are two. */
static struct peer_state *nth_free(struct core *c, uint32_t n)
{
    uint32_t count = 0;
    for (struct peer_state *p = c->peers; p; p = p->next)
        count += p->role == MSG_WORKER && free_slots(p) && p->data_url[0];
    if (!count)
        return NULL;
    n %= count;
    for (struct peer_state *p = c->peers; p; p = p->next)
        if (p->role == MSG_WORKER && free_slots(p) && p->data_url[0] && n-- == 0)
            return p;
    return NULL;
}

static void add_part(struct job *j, uint64_t link)
{
    for (uint32_t i = 0; i < j->part_count; i++) {
        if (j->part[i].link == link) {
            j->part[i].slots++;
            return;
        }
    }
    j->part[j->part_count++] = (struct part){.link = link, .slots = 1};
}

static bool choose(struct core *c, struct job *j, const struct peer_state *client)
{
    struct peer_state *local = local_worker(c, client), *one = local ? local : least_busy(c);
    uint32_t stage = 0;
    if (!one || !free_slots(one))
        return false;
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        if (!is_process(&j->graph->node[i])) {
            j->node[i].link = local ? local->link : 0;
            continue;
        }
        struct peer_state *w = j->spread && !local ? nth_free(c, stage) : one;
        j->node[i].link = w->link;
        add_part(j, w->link);
        stage++;
    }
    if (!j->part_count) /* sources and sinks alone: the worker still copies */
        add_part(j, one->link);
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct peer_state *w = core_peer(c, j->part[i].link);
        uint32_t room = free_slots(w);
        j->part[i].slots = j->part[i].slots < room ? j->part[i].slots : room;
        w->used += j->part[i].slots;
    }
    return true;
}

/* ---- how the bytes travel */

struct routes {
    struct msg_route *list; /* owned */
    uint32_t count, room;
};

/* Room for one more, or the process ends: see core_send. */
static void add(struct routes *r, struct msg_route route)
{
    if (r->count == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->list = realloc(r->list, r->room * sizeof *r->list);
        if (!r->list)
            abort();
    }
    route.url = route.url ? route.url : "";
    route.key = route.key.data ? route.key : (struct slice){"", 0};
    r->list[r->count++] = route;
}

static int32_t port_fd(const struct job *j, uint32_t node)
{
    for (uint32_t i = 0; i < j->port_count; i++)
        if (j->port[i].node == node)
            return j->port[i].fd;
    return -1;
}

static void local_routes(const struct job *j, struct routes *r)
{
    const struct graph *g = j->graph;
    for (uint32_t i = 0; i < g->edge_count; i++) {
        uint32_t from = g->edge[i].from, to = g->edge[i].to;
        uint32_t end = g->node[from].kind == GRAPH_SOURCE ? from : g->node[to].kind == GRAPH_SINK ? to : GRAPH_NONE;
        if (end != GRAPH_NONE)
            add(r, (struct msg_route){.what = MSG_EDGE, .index = i, .node = GRAPH_NONE, .fd = port_fd(j, end)});
    }
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        for (uint32_t k = 0; k < n->file_count; k++)
            add(r, (struct msg_route){
                       .what = MSG_FILE, .index = n->file[k], .node = i, .via = MSG_VIA_PATH, .fd = -1});
        for (uint32_t k = 0; k < n->output_count; k++)
            add(r, (struct msg_route){.what = MSG_OUTPUT,
                                      .index = n->output[k].sink,
                                      .node = i,
                                      .fd = port_fd(j, n->output[k].sink)});
        if (is_process(n) && !graph_fd_of(n, 2))
            add(r, (struct msg_route){
                       .what = MSG_STDERR, .index = i, .node = i, .fd = port_fd(j, GRAPH_NONE)});
    }
}

/* One stream between `listener`, a worker, and whoever connects to it (0: the client): a route for the side
 * that asks, if it is one of the two. */
static void stream(struct core *c, struct routes *r, uint64_t side, uint64_t listener, uint64_t connector,
                   struct msg_route route)
{
    const struct peer_state *w = core_peer(c, listener);
    route.fd = -1;
    if (side == listener) {
        route.via = MSG_VIA_LISTEN;
        add(r, route);
    } else if (side == connector && w) {
        route.via = MSG_VIA_CONNECT;
        route.url = w->data_url;
        route.key = (struct slice){w->data_key, w->has_data_key ? MSG_KEY_BYTES : 0};
        add(r, route);
    }
}

/* The routes of one side: a worker's link, or 0 for the client. */
static void remote_routes(struct core *c, const struct job *j, uint64_t side, struct routes *r)
{
    const struct graph *g = j->graph;
    for (uint32_t i = 0; i < g->edge_count; i++) {
        uint64_t from = j->node[g->edge[i].from].link, to = j->node[g->edge[i].to].link;
        struct msg_route route = {.what = MSG_EDGE, .index = i, .node = GRAPH_NONE};
        if (from != to)
            stream(c, r, side, from ? from : to, from ? to : 0, route);
    }
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        uint64_t at = j->node[i].link;
        if (!is_process(n))
            continue;
        for (uint32_t k = 0; k < n->file_count; k++)
            stream(c, r, side, at, 0, (struct msg_route){.what = MSG_FILE, .index = n->file[k], .node = i});
        for (uint32_t k = 0; k < n->output_count; k++)
            stream(c, r, side, at, 0, (struct msg_route){.what = MSG_OUTPUT, .index = n->output[k].sink, .node = i});
        if (!graph_fd_of(n, 2)) /* else it is an edge */
            stream(c, r, side, at, 0, (struct msg_route){.what = MSG_STDERR, .index = i, .node = i});
    }
}

/* ---- RUN and ROUTE */

static void send_run(struct core *c, const struct job *j, uint64_t link, bool local, const struct peer_state *client)
{
    struct routes r = {0};
    struct slice *admit = calloc((size_t)j->part_count + 1, sizeof *admit);
    uint32_t *node = calloc((size_t)j->graph->node_count + 1, sizeof *node), count = 0, admits = 0;
    if (!admit || !node)
        abort();
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].link == link)
            node[count++] = i;
    if (local)
        local_routes(j, &r);
    else
        remote_routes(c, j, link, &r);
    if (client->has_key)
        admit[admits++] = (struct slice){client->key, MSG_KEY_BYTES};
    for (uint32_t i = 0; i < j->part_count; i++) {
        const struct peer_state *w = core_peer(c, j->part[i].link);
        if (w && w->has_key && w->link != link)
            admit[admits++] = (struct slice){w->key, MSG_KEY_BYTES};
    }
    struct msg m = {.type = MSG_RUN,
                    .run = {.job = j->number,
                            .attempt = 1,
                            .token = {j->token, sizeof j->token},
                            .node = node,
                            .node_count = count,
                            .route = r.list,
                            .route_count = r.count,
                            .admit = admit,
                            .admit_count = admits}};
    core_send(c, link, &m, (struct slice){j->bytes, j->size});
    free(r.list);
    free(admit);
    free(node);
}

bool job_place(struct core *c, struct job *j)
{
    struct peer_state *client = core_peer(c, j->client);
    if (!client || !choose(c, j, client))
        return false;
    bool local = local_worker(c, client) != NULL;
    for (uint32_t i = 0; i < j->part_count; i++)
        send_run(c, j, j->part[i].link, local, client);
    if (local)
        return true;
    struct routes r = {0};
    remote_routes(c, j, 0, &r);
    struct msg m = {.type = MSG_ROUTE, .route = {j->number, 1, {j->token, sizeof j->token}, r.list, r.count}};
    core_send(c, j->client, &m, (struct slice){"", 0});
    free(r.list);
    return true;
}
