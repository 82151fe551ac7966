/* See flow.h. */
#include "proto/flow.h"

#include "proto/combine.h"

/* The graph without directions: for each node the edges that touch it. */
struct web {
    const struct graph *g;
    uint32_t *first; /* per node, and one more: where its edges begin in `edge` */
    uint32_t *edge;
    uint32_t *from, *to; /* the two ends of each edge */
};

/* A depth-first walk.  Per node: when the node was met; how far back one gets from it without the edge by which it was met;
 * that edge; and which of its edges comes next. */
struct walk {
    uint32_t *met, *back, *by, *at, *path;
    uint32_t count;
};

/* An edge from outside into a body counts, in the graph outside, as one into the MAP or REDUCE. */
static uint32_t end_of(const struct graph *g, uint32_t node, uint32_t other)
{
    uint32_t parent = g->node[node].parent;
    return parent != GRAPH_NONE && g->node[other].parent != parent ? parent : node;
}

static int make_web(const struct graph *g, struct arena *a, struct web *w, struct err *e)
{
    *w = (struct web){.g = g,
                      .first = arena_array(a, (size_t)g->node_count + 1, sizeof *w->first),
                      .edge = arena_array(a, 2 * (size_t)g->edge_count + 1, sizeof *w->edge),
                      .from = arena_array(a, (size_t)g->edge_count + 1, sizeof *w->from),
                      .to = arena_array(a, (size_t)g->edge_count + 1, sizeof *w->to)};
    if (!w->first || !w->edge || !w->from || !w->to)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->edge_count; i++) {
        w->from[i] = end_of(g, g->edge[i].from, g->edge[i].to);
        w->to[i] = end_of(g, g->edge[i].to, g->edge[i].from);
        w->first[w->from[i]]++;
        w->first[w->to[i]]++;
    }
    for (uint32_t i = 0, sum = 0; i <= g->node_count; i++) { /* where the edges of each node end */
        sum += w->first[i];
        w->first[i] = sum;
    }
    for (uint32_t i = 0; i < g->edge_count; i++) { /* and, counting down, where they begin */
        w->edge[--w->first[w->from[i]]] = i;
        w->edge[--w->first[w->to[i]]] = i;
    }
    return 0;
}

/* One step of the walk, at the end of its path. */
static uint32_t step(const struct web *w, struct walk *k, bool *bridge, uint32_t length)
{
    uint32_t node = k->path[length - 1];
    if (k->at[node] == w->first[node + 1]) { /* all edges of this node were seen */
        if (length > 1) {
            uint32_t before = k->path[length - 2];
            bridge[k->by[node]] = k->back[node] > k->met[before];
            if (k->back[node] < k->back[before])
                k->back[before] = k->back[node];
        }
        return length - 1;
    }
    uint32_t edge = w->edge[k->at[node]++];
    uint32_t other = w->from[edge] == node ? w->to[edge] : w->from[edge];
    if (edge == k->by[node])
        return length;
    if (k->met[other]) {
        if (k->met[other] < k->back[node])
            k->back[node] = k->met[other];
        return length;
    }
    k->met[other] = k->back[other] = ++k->count;
    k->by[other] = edge;
    k->path[length] = other;
    return length + 1;
}

/* Find the edges that are in no circle. */
static int find_bridges(const struct web *w, struct arena *a, bool *bridge, struct err *e)
{
    uint32_t nodes = w->g->node_count;
    uint32_t *room = arena_array(a, 5 * (size_t)nodes + 1, sizeof *room);
    if (!room)
        return err_nomem(e);
    struct walk k = {room, room + nodes, room + 2 * (size_t)nodes, room + 3 * (size_t)nodes,
                     room + 4 * (size_t)nodes, 0};
    for (uint32_t i = 0; i < nodes; i++)
        k.at[i] = w->first[i];
    for (uint32_t i = 0; i < nodes; i++) {
        if (k.met[i])
            continue;
        k.met[i] = k.back[i] = ++k.count;
        k.by[i] = GRAPH_NONE;
        k.path[0] = i;
        for (uint32_t length = 1; length > 0;)
            length = step(w, &k, bridge, length);
    }
    return 0;
}

int graph_flow(const struct graph *g, struct arena *a, struct graph_flow *out, struct err *e)
{
    struct web w;
    bool *bridge = arena_array(a, (size_t)g->edge_count + 1, sizeof *bridge);
    uint32_t *leave = arena_array(a, (size_t)g->node_count + 1, sizeof *leave);
    out->spool = arena_array(a, (size_t)g->edge_count + 1, sizeof *out->spool);
    if (!bridge || !leave || !out->spool)
        return err_nomem(e);
    if (make_web(g, a, &w, e) < 0 || find_bridges(&w, a, bridge, e) < 0)
        return -1;
    for (uint32_t i = 0; i < g->edge_count; i++)
        leave[w.from[i]] += !bridge[i];
    for (uint32_t i = 0; i < g->edge_count; i++)
        out->spool[i] = !bridge[i] && leave[w.from[i]] > 1;
    return 0;
}

/* ---- how far a program came */

static bool is_program(const struct graph_node *n)
{
    return n->kind == GRAPH_COMMAND || n->kind == GRAPH_SHELL;
}

/* Does this edge show something of the program: is it neither its ordinary stderr nor /dev/null? */
static bool shows(const struct graph *g, uint32_t node, const struct graph_fd *f)
{
    const struct graph_edge *edge = &g->edge[f->edge];
    const struct graph_node *to = &g->node[edge->to];
    return edge->from == node && !(to->kind == GRAPH_SINK && (to->sink == GRAPH_SINK_NULL || to->sink == GRAPH_SINK_STDERR));
}

static enum graph_exact writes_beside(const struct graph *g, uint32_t node)
{
    const struct graph_node *n = &g->node[node];
    uint32_t first = GRAPH_NONE;
    if (!is_program(n))
        return GRAPH_EXACT_NOT;
    for (uint32_t i = 0; i < n->fd_count; i++) {
        if (!shows(g, node, &n->fd[i]))
            continue;
        if (first != GRAPH_NONE && first != n->fd[i].edge)
            return GRAPH_EXACT_ALWAYS;
        first = n->fd[i].edge;
    }
    return n->output_count || n->out_glob_count > n->word_globs ? GRAPH_EXACT_ALWAYS
           : n->keep_count || n->out_glob_count                 ? GRAPH_EXACT_IF_FILES
                                                                : GRAPH_EXACT_NOT;
}

/* Does it write nothing before it has read everything? */
static bool writes_last(const struct graph_node *n)
{
    const struct graph_split *s = &n->split;
    return n->kind == GRAPH_REDUCE ||
           (s->cut != GRAPH_CUT_NONE && (s->combine == GRAPH_COMBINE_MERGE || s->combine == GRAPH_COMBINE_REVERSE ||
                                         (s->combine == GRAPH_COMBINE_NATIVE && combine_adds(s->combine_text))));
}

/* Mark all edges that follow the nodes in `todo`, each of which was met. */
static void mark_behind(const struct graph *g, uint32_t *todo, uint32_t count, bool *met, enum graph_exact how, uint8_t *exact)
{
    while (count) {
        uint32_t node = todo[--count];
        const struct graph_node *n = &g->node[node];
        for (uint32_t i = 0; i < n->fd_count; i++) {
            uint32_t to = g->edge[n->fd[i].edge].to;
            if (!shows(g, node, &n->fd[i]))
                continue;
            if (!exact[n->fd[i].edge])
                exact[n->fd[i].edge] = (uint8_t)how;
            if (!met[to] && is_program(&g->node[to]) && !writes_last(&g->node[to]))
                todo[count++] = to;
            met[to] = true;
        }
    }
}

int graph_exact(const struct graph *g, struct arena *a, uint8_t **exact, struct err *e)
{
    uint32_t *todo = arena_array(a, (size_t)g->node_count + 1, sizeof *todo);
    bool *met = arena_array(a, (size_t)g->node_count + 1, sizeof *met);
    *exact = arena_array(a, (size_t)g->edge_count + 1, sizeof **exact);
    if (!todo || !met || !*exact)
        return err_nomem(e);
    for (int how = GRAPH_EXACT_ALWAYS; how > GRAPH_EXACT_NOT; how--) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < g->node_count; i++)
            if (!met[i] && writes_beside(g, i) == (enum graph_exact)how) {
                met[i] = true;
                todo[count++] = i;
            }
        mark_behind(g, todo, count, met, (enum graph_exact)how, *exact);
    }
    return 0;
}

bool graph_may_be_left(const struct graph *g, uint32_t n)
{
    for (uint32_t steps = 0; steps <= g->node_count; steps++) {
        const struct graph_node *at = &g->node[n];
        const struct graph_fd *out = graph_fd_of(at, 1);
        if (at->kind == GRAPH_SINK || writes_last(at))
            return false;
        if (at->kind == GRAPH_COMMAND ? at->split.cut == GRAPH_CUT_NONE || at->split.stops_early : at->kind != GRAPH_MAP)
            return true;
        if (!out)
            return false;
        n = g->edge[out->edge].to;
    }
    return true;
}
