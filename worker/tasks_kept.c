/* What the programs of a task write to stdout and stderr is held here until the task has ended.  See tasks.h.
 *
 * A task that reads little is expected to write little: the box keeps its output for us (BOX_KEEP), and no file is made for
 * it.  A task that reads much writes its stdout into a spool from the beginning, so these bytes pass through no process of
 * ours; its stderr is expected to be small.  Streams that have several writers are spools, too. */
#include "worker/tasks.h"

#include <errno.h>
#include <unistd.h>

static bool is_sink(const struct graph_node *to, enum graph_sink_kind sink)
{
    return to->kind == GRAPH_SINK && to->sink == sink;
}

bool tasks_may_keep(const struct blocks *b)
{
    const struct graph *g = b->t->graph;
    uint32_t out = GRAPH_NONE;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        const struct graph_node *n = blocks_node(b, i);
        uint32_t said = GRAPH_NONE;
        for (uint32_t k = 0; k < n->fd_count; k++) {
            uint32_t edge = n->fd[k].edge;
            const struct graph_node *to = &g->node[g->edge[edge].to];
            uint32_t *one = is_sink(to, GRAPH_SINK_STDOUT) ? &out : is_sink(to, GRAPH_SINK_STDERR) ? &said : NULL;
            if (one && *one != GRAPH_NONE && *one != edge)
                return false;
            if (one)
                *one = edge;
        }
    }
    return !b->tasks->said_out;
}

/* Decided for all blocks alike where possible: blocks whose output the box keeps and blocks with a file are cloned from
 * different templates. */
static bool reads_little(const struct run *r)
{
    const struct blocks *b = r->b;
    uint64_t nominal = b->rule.block_bytes ? b->rule.block_bytes : b->rule.split_bytes;
    if (!run_is_file(b) && b->rule.step == 1 && b->rule.cut < GRAPH_CUTS)
        return nominal ? nominal <= KEPT_INPUT_MAX : !r->from && r->last; /* blocks grow */
    return run_bytes_in(r) <= KEPT_INPUT_MAX;
}

int tasks_open_streams(struct run *r, struct err *e)
{
    const struct blocks *b = r->b;
    struct task *t = r->task;
    t->keeps = b->tasks->may_keep && reads_little(r);
    if (b->tasks->may_keep && !(t->said = arena_array(&r->arena, t->count, sizeof *t->said)))
        return err_nomem(e);
    if (!t->keeps && run_open_out(r, e) < 0)
        return -1;
    for (uint32_t i = 0; i < t->count; i++)
        if (t->said)
            t->said[i] = GRAPH_NONE;
        else if ((t->errors[i] = b->tasks->said_out ? blocks_dup(r->out, e) : spool_open(e)) < 0)
            return -1;
    return 0;
}

bool tasks_end_of(struct run *r, uint32_t i, const struct graph_node *to, struct region_end *end)
{
    bool out = is_sink(to, GRAPH_SINK_STDOUT);
    if (!out && !is_sink(to, GRAPH_SINK_STDERR))
        return false;
    bool kept = out ? r->task->keeps : r->task->said != NULL;
    end->how = kept ? REGION_KEEP : REGION_FILE;
    end->fd = kept ? -1 : out ? r->out : r->task->errors[i];
    return true;
}

/* The descriptor for this channel's stream; NULL: there is none. */
static int *stream_of(struct run *r, uint32_t channel)
{
    const struct graph *g = r->b->t->graph;
    struct task *t = r->task;
    for (uint32_t i = 0; t->said && i < t->count; i++)
        if (t->said[i] == channel)
            return &t->errors[i];
    for (uint32_t k = 0; k < t->end_count; k++) {
        const struct graph_edge *edge = &g->edge[t->end[k].edge];
        if (t->end[k].how != REGION_KEEP || t->end[k].channel != channel)
            continue;
        if (is_sink(&g->node[edge->to], GRAPH_SINK_STDOUT))
            return &r->out;
        for (uint32_t i = 0; i < t->count; i++)
            if (r->b->node[i] == edge->from)
                return &t->errors[i];
    }
    return NULL;
}

/* Must the output be a file?  A merge reads it by name, and a copy of the run, perhaps by another worker, is compared with
 * it. */
static bool wants_file(const struct blocks *b)
{
    return b->stage->merge_count || b->t->graph->audit || agent_data(b->t->agent);
}

static int keep(struct run *r, int *stream, const struct box_kept *k, struct err *e)
{
    if (k->sys) {
        errno = k->sys;
        return spool_write_failed(e);
    }
    if (k->fd >= 0) {
        *stream = k->fd;
        return 0;
    }
    if (stream != &r->out || wants_file(r->b))
        return (*stream = spool_of((struct slice){k->data, (size_t)k->size}, e)) < 0 ? -1 : 0;
    r->kept = (struct slice){arena_bytes(&r->arena, k->data, (size_t)k->size), (size_t)k->size};
    return r->kept.data ? 0 : err_nomem(e);
}

int tasks_kept(struct run *r, uint32_t channel, const struct box_kept *k, struct err *e)
{
    int *stream = stream_of(r, channel);
    if (stream)
        return keep(r, stream, k, e);
    if (k->fd >= 0)
        close(k->fd);
    return 0;
}

int tasks_give_out(struct run *r, struct err *e)
{
    struct blocks *b = r->b;
    int out = r->out;
    r->out = -1;
    if (b->stage->merge_count) {
        if (out < 0 && (out = spool_of((struct slice){"", 0}, e)) < 0)
            return -1;
        return tasks_merge_add(b, out, e);
    }
    return out < 0 ? outlet_put_bytes(&b->out, r->kept, e) : blocks_put(b, out, e);
}
