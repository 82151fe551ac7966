/* Decides how a job's bytes travel, once it is known what runs where.  Whoever holds bytes serves them: none of them pass
 * the scheduler.
 *
 * A worker in the client's own process uses the client's descriptors and paths.  Otherwise workers listen at their data
 * ports: the client connects to them for its sources, files, stderr and outputs, and of two workers the one that reads
 * connects to the one that writes.  An edge inside one part needs no route.  So a stream is started again exactly when
 * the part whose worker listens for it is. */
#include "scheduler/state.h"

#include <string.h>

struct routes {
    struct msg_route *list; /* NULL: count only */
    uint32_t count;
    const struct job *job;
    uint32_t attempt; /* the attempt whose streams are listed */
    struct arena *arena; /* holds URLs and keys, once for each worker */
    struct near {
        const char *url;
        struct slice key;
    } * near; /* per part */
};

uint64_t routes_count_max(const struct graph *g)
{
    uint64_t count = g->edge_count + 2 * (uint64_t)g->node_count;
    for (uint32_t i = 0; i < g->node_count; i++)
        count += (uint64_t)g->node[i].file_count + g->node[i].segment_count;
    return count;
}

static void add(struct routes *r, struct msg_route route)
{
    if (r->list) {
        route.url = route.url ? route.url : "";
        route.key = route.key.data ? route.key : (struct slice){"", 0};
        r->list[r->count] = route;
    }
    r->count++;
}

/* ---- in one process */

static int32_t port_fd(const struct job *j, uint32_t node)
{
    for (uint32_t i = 0; i < j->port_count; i++)
        if (j->port[i].node == node)
            return j->port[i].fd;
    return -1;
}

static void local_edges(struct routes *r)
{
    const struct graph *g = r->job->graph;
    for (uint32_t i = 0; i < g->edge_count; i++) {
        uint32_t from = g->edge[i].from, to = g->edge[i].to;
        uint32_t end = g->node[from].kind == GRAPH_SOURCE ? from
                       : g->node[to].kind == GRAPH_SINK   ? to
                                                          : GRAPH_NONE;
        if (end != GRAPH_NONE && g->node[end].parent == GRAPH_NONE)
            add(r, (struct msg_route){.what = MSG_EDGE,
                                      .index = i,
                                      .node = GRAPH_NONE,
                                      .via = MSG_VIA_FD,
                                      .fd = port_fd(r->job, end)});
    }
}

static void local_node(struct routes *r, uint32_t i)
{
    const struct graph_node *n = &r->job->graph->node[i];
    for (uint32_t k = 0; k < n->file_count; k++)
        if (!graph_is_link(&r->job->graph->file[n->file[k]])) /* all of it is in the graph */
            add(r,
                (struct msg_route){
                    .what = MSG_FILE, .index = n->file[k], .node = i, .via = MSG_VIA_PATH, .fd = -1});
    if (!graph_is_stage(n))
        return;
    if (graph_sends_files(r->job->graph, i))
        add(r, (struct msg_route){.what = MSG_OUTPUT,
                                  .index = i,
                                  .node = i,
                                  .via = MSG_VIA_FD,
                                  .fd = port_fd(r->job, i)});
    if (!graph_fd_of(n, 2)) /* otherwise its stderr is an edge */
        add(r, (struct msg_route){.what = MSG_STDERR,
                                  .index = i,
                                  .node = i,
                                  .via = MSG_VIA_FD,
                                  .fd = port_fd(r->job, GRAPH_NONE)});
}

/* ---- between processes */

/* Add the route of a stream between `listener`, a part, and whatever connects to it, if the side that asks is one of the
 * two. */
static void stream(struct routes *r, uint32_t side, uint32_t listener, uint32_t connector,
                   struct msg_route route)
{
    route.fd = -1;
    if (r->job->part[listener].attempt != r->attempt)
        return; /* the stream goes on as it is */
    if (side == listener) {
        route.via = MSG_VIA_LISTEN;
        add(r, route);
    } else if (side == connector) {
        route.via = MSG_VIA_CONNECT;
        route.url = r->near[listener].url;
        route.key = r->near[listener].key;
        add(r, route);
    }
}

static void remote_edges(struct routes *r, uint32_t side)
{
    const struct job *j = r->job;
    for (uint32_t i = 0; i < j->graph->edge_count; i++) {
        uint32_t from = j->node[j->graph->edge[i].from].part;
        uint32_t to = j->node[j->graph->edge[i].to].part;
        struct msg_route route = {.what = MSG_EDGE, .index = i, .node = GRAPH_NONE};
        if (from == to)
            continue;
        if (from == AT_CLIENT)
            stream(r, side, to, AT_CLIENT, route);
        else
            stream(r, side, from, to, route);
    }
}

static void remote_node(struct routes *r, uint32_t side, uint32_t i)
{
    const struct graph_node *n = &r->job->graph->node[i];
    uint32_t at = r->job->node[i].part;
    for (uint32_t k = 0; k < n->file_count; k++)
        if (!graph_is_link(&r->job->graph->file[n->file[k]]))
            stream(r, side, at, AT_CLIENT,
                   (struct msg_route){.what = MSG_FILE, .index = n->file[k], .node = i});
    /* Each task of a body reads the files that the body reads. */
    for (uint32_t k = 0; n->parent != GRAPH_NONE && k < n->segment_count; k++)
        if (n->segment[k].kind == GRAPH_SEGMENT_FILE)
            stream(r, side, at, AT_CLIENT,
                   (struct msg_route){.what = MSG_FILE, .index = n->segment[k].file, .node = i});
    if (!graph_is_stage(n))
        return;
    if (graph_sends_files(r->job->graph, i))
        stream(r, side, at, AT_CLIENT,
               (struct msg_route){.what = MSG_OUTPUT, .index = i, .node = i});
    if (!graph_fd_of(n, 2))
        stream(r, side, at, AT_CLIENT,
               (struct msg_route){.what = MSG_STDERR, .index = i, .node = i});
}

/* ---- in either case */

static void walk(struct routes *r, uint32_t side, bool local)
{
    r->count = 0;
    if (local)
        local_edges(r);
    else
        remote_edges(r, side);
    for (uint32_t i = 0; i < r->job->graph->node_count; i++) {
        if (local)
            local_node(r, i);
        else
            remote_node(r, side, i);
    }
}

static int near_make(struct routes *r, struct err *e)
{
    const struct job *j = r->job;
    r->near = arena_array(r->arena, j->part_count, sizeof *r->near);
    for (uint32_t i = 0; r->near && i < j->part_count; i++) {
        const struct peer_state *w = j->part[i].worker;
        if (!w)
            continue; /* no one will ask for it */
        const char *key = arena_bytes(r->arena, w->data_key, MSG_KEY_BYTES);
        r->near[i].url = arena_string(r->arena, w->data_url);
        r->near[i].key = (struct slice){key, w->has_data_key ? MSG_KEY_BYTES : 0};
        if (!key || !r->near[i].url)
            return err_nomem(e);
    }
    return r->near ? 0 : err_nomem(e);
}

int routes_make(const struct job *j, uint32_t attempt, uint32_t side, bool local, struct arena *a,
                const struct msg_route **list, uint32_t *count, struct err *e)
{
    struct routes r = {.job = j, .attempt = attempt, .arena = a};
    if (near_make(&r, e) < 0)
        return -1;
    walk(&r, side, local);
    uint32_t counted = r.count;
    r.list = arena_array(a, counted + 1, sizeof *r.list);
    if (!r.list)
        return err_nomem(e);
    walk(&r, side, local);
    *list = r.list;
    *count = r.count;
    return 0;
}
