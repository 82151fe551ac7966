/* Named pipelines, and what goes from one phase of a job to a later one.
 *
 * A named pipeline without a source of its own is a filter: it is lowered once for each use, like a program.
 * One with a source is computed once: if more than one use wants its bytes, all read them from a BROADCAST.  The
 * exception is a source that consists only of files, which costs nothing to have twice. */
#include "dsl/lower_inside.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct shared *shared_of(const struct lower *w, const struct definition *d)
{
    struct shared *h = w->shared;
    while (h && h->name != d)
        h = h->next;
    return h;
}

/* ---- how many uses want the bytes of a named pipeline */

static void count_uses(struct lower *w, const struct pipeline *l, bool drain);

/* If a filter is used twice, each use of a named pipeline inside it counts twice; more than two are treated as two. */
static void count_use(struct lower *w, const struct definition *d, bool drain)
{
    struct shared *h = shared_of(w, d);
    h->uses++;
    h->counts |= !drain;
    if (h->uses == 1 || (!d->source && h->uses == 2))
        count_uses(w, d->pipeline, false);
}

static void count_uses(struct lower *w, const struct pipeline *l, bool drain)
{
    for (const struct stage *s = l ? l->stage : NULL; s; s = s->next) {
        if (s->kind == STAGE_NAME)
            count_use(w, s->definition, drain);
        for (const struct item *i = s->odd ? NULL : s->item; i; i = i->next)
            count_uses(w, i->pipeline, true);
        count_uses(w, s->body, drain);
        count_uses(w, s->merge, drain);
    }
}

int lower_names(struct lower *w)
{
    for (const struct definition *d = w->r->tree->definition; d; d = d->next) {
        struct shared *h = arena_alloc(w->r->arena, sizeof *h);
        if (!h)
            return resolve_no_memory(w->r);
        *h = (struct shared){.next = w->shared, .name = d, .node = GRAPH_NONE};
        w->shared = h;
    }
    for (const struct statement *s = w->r->tree->statement; s; s = s->next) {
        const struct definition *d = s->kind == STATEMENT_CHECK ? lower_checked(w, s) : NULL;
        if (d)
            count_use(w, d, true);
        else if (s->kind == STATEMENT_PIPELINE)
            count_uses(w, s->pipeline, false);
    }
    return 0;
}

void lower_define(struct lower *w, const struct definition *d, const struct place *at)
{
    shared_of(w, d)->at = *at;
}

const struct definition *lower_checked(const struct lower *w, const struct statement *s)
{
    const char *name = word_literal(s->name, w->r->arena);
    for (const struct definition *d = w->r->tree->definition; name && d; d = d->next)
        if (d->at < s->start && strcmp(d->name, name) == 0)
            return d;
    return NULL;
}

/* ---- the uses */

bool lower_is_shared(const struct lower *w, const struct definition *d, const struct place *at)
{
    const struct shared *h = shared_of(w, d);
    return d->source && h->uses > 1 && at->parent == GRAPH_NONE && !h->files;
}

static bool only_files(const struct graph_node *n)
{
    bool files = n->kind == GRAPH_SOURCE;
    for (uint32_t i = 0; i < n->segment_count; i++)
        files = files && n->segment[i].kind != GRAPH_SEGMENT_STDIN;
    return files;
}

static int add_broadcast(struct lower *w, struct shared *h, struct stream in, size_t at, const struct place *place)
{
    if (lower_add_node(w, GRAPH_BROADCAST, at, place, &h->node) < 0)
        return -1;
    w->g->node[h->node].label = lower_keep(w, h->name->name);
    if (!w->g->node[h->node].label)
        return resolve_no_memory(w->r);
    in.seekable = false;
    return lower_join(w, in, h->node, 0, at);
}

int lower_named(struct lower *w, const struct definition *d, struct stream in, struct place at, size_t where,
                struct stream *out)
{
    struct shared *h = shared_of(w, d);
    if (++at.depth > DSL_DEPTH_MAX)
        return FAIL(w, where, NULL, "names stand for names more than %d deep", DSL_DEPTH_MAX);
    if (d->source) { /* it is lowered with the settings of its definition, not of this use */
        struct place own = h->at;
        own.parent = at.parent;
        own.merge = at.merge;
        own.drain = at.drain;
        own.piped = at.piped;
        own.depth = at.depth;
        at = own;
    }
    if (!lower_is_shared(w, d, &at))
        return lower_pipeline(w, d->pipeline, in, at, out);
    if (h->node == GRAPH_NONE) {
        at.drain = !h->counts;
        at.piped = true;
        if (lower_pipeline(w, d->pipeline, NO_STREAM, at, out) < 0)
            return -1;
        h->last = w->last;
        h->files = out->node != GRAPH_NONE && only_files(&w->g->node[out->node]);
        if (h->files || out->node == GRAPH_NONE)
            return 0;
        h->statement = w->r->statement;
        if (add_broadcast(w, h, *out, where, &at) < 0)
            return -1;
    } else if (h->statement != w->r->statement && w->phase < w->g->node[h->node].phase) {
        w->phase = w->g->node[h->node].phase;
    }
    if (++h->readers == GRAPH_FDS_MAX)
        return FAIL(w, where, "put its output into a file first, and read that",
                    "%.100s is used more than %d times", d->name, GRAPH_FDS_MAX - 1);
    w->last = h->last;
    *out = lower_one(h->node, h->readers);
    return 0;
}

/* ---- from one phase to a later one */

/* Make what reaches this sink a file that a later phase can read. */
static int pass(struct lower *w, uint32_t sink, size_t at, struct graph_segment *out)
{
    char path[40];
    snprintf(path, sizeof path, "//zpipe-passed-%u", ++w->passed);
    struct graph_file f = {.name = path + 2, .path = path, .mode = S_IFREG | 0600, .awaited = true,
                           .passed = sink + 1};
    *out = (struct graph_segment){.kind = GRAPH_SEGMENT_FILE, .file = graph_add_file(w->g, &f, w->e)};
    return out->file == GRAPH_NONE ? lower_refused(w, at) : 0;
}

static const struct place outside = {.parent = GRAPH_NONE};

/* The reader is in a later phase, so replace the edge by a sink that keeps the bytes, and a source that the later phase
 * reads. */
static int hand_over(struct lower *w, uint32_t edge, size_t at)
{
    struct graph *g = w->g;
    uint32_t to = g->edge[edge].to, sink, source, number;
    struct graph_segment segment;
    if (lower_add_sink(w, GRAPH_SINK_NULL, NULL, at, &outside, &sink) < 0 || pass(w, sink, at, &segment) < 0 ||
        lower_add_source(w, &segment, 1, at, &outside, &source) < 0)
        return -1;
    number = graph_add_edge(g, source, to, w->e);
    if (number == GRAPH_NONE)
        return lower_refused(w, at);
    g->node[sink].phase = g->node[g->edge[edge].from].phase;
    g->node[source].phase = g->node[to].phase;
    g->edge[edge].to = sink;
    for (uint32_t i = 0; i < g->node[to].fd_count; i++)
        if (g->node[to].fd[i].edge == edge && graph_set_fd(g, to, g->node[to].fd[i].fd, number, w->e) < 0)
            return lower_refused(w, at);
    if (graph_set_fd(g, source, 1, number, w->e) < 0 || graph_set_fd(g, sink, 0, edge, w->e) < 0)
        return lower_refused(w, at);
    return 0;
}

int lower_hand_over(struct lower *w, uint32_t first_edge, size_t at)
{
    const struct graph *g = w->g;
    uint32_t last = g->edge_count;
    for (uint32_t i = first_edge; i < last; i++)
        if (g->node[g->edge[i].from].phase < g->node[g->edge[i].to].phase && hand_over(w, i, at) < 0)
            return -1;
    return 0;
}

/* What `>( )` prints comes after all that its statement prints, so it is printed in a phase of its own. */
int lower_late(struct lower *w, size_t at)
{
    struct graph_segment segment[GRAPH_FDS_MAX];
    uint32_t count = 0, sink, source, to;
    for (; count < w->late_count; count++) {
        if (lower_add_sink(w, GRAPH_SINK_NULL, NULL, at, &outside, &sink) < 0 ||
            lower_join(w, w->late[count], sink, 0, at) < 0 || pass(w, sink, at, &segment[count]) < 0)
            return -1;
        w->g->node[sink].phase = w->phase;
    }
    w->late_count = 0;
    if (lower_add_source(w, segment, count, at, &outside, &source) < 0 ||
        lower_add_sink(w, GRAPH_SINK_STDOUT, NULL, at, &outside, &to) < 0)
        return -1;
    w->g->node[source].phase = w->g->node[to].phase = w->phase + 1;
    return lower_join(w, lower_one(source, 1), to, 0, at);
}
