/* See client.h.  A statement of a job file that reads what an earlier one makes waits until that is complete.  So the job
 * runs in phases, each a job of its own to the scheduler.  Nodes keep their numbers: in the graph of one phase, nodes of
 * other phases are unconnected sinks.  The outputs of all phases stay invisible until the last phase has ended; a later
 * phase reads them by a temporary name. */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

uint32_t phases_count(const struct graph *g)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < g->node_count; i++)
        last = g->node[i].phase > last ? g->node[i].phase : last;
    return last + 1;
}

/* Does each phase need a graph of its own?  Yes if there is more than one, or if a stage awaits a file: a named pipeline
 * that should make it may never be used, adds no phase then, and the stage gets the file that exists already. */
bool phases_wanted(const struct graph *g)
{
    for (uint32_t i = 0; i < g->file_count; i++)
        if (g->file[i].awaited)
            return true;
    return phases_count(g) > 1;
}

/* Look for a file that an earlier phase makes.  1: it exists; 0: it does not. */
static int find_awaited(struct zpipe_job *j, struct graph_file *f, struct err *e)
{
    struct stat s;
    const char *path = f->path + 1;
    char own[40];
    struct output *o = f->passed ? NULL : output_at(j, path);
    if (o && output_publish(o, e) < 0)
        return -1;
    if (f->passed)
        snprintf(own, sizeof own, "/proc/self/fd/%d", ports_passed(j, f->passed - 1));
    char *copy = arena_string(&j->graph->arena, o ? o->hidden : f->passed ? own : path);
    if (!copy)
        return err_nomem(e);
    if (j->held && !o && !f->passed)
        return 0; /* what lies under this name on the keeper's host has nothing to do with a submitted job */
    if (stat(copy, &s) < 0 || !S_ISREG(s.st_mode))
        return 0;
    f->path = copy;
    f->size_bytes = (uint64_t)s.st_size;
    f->inode = s.st_ino;
    f->mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
    f->mode = s.st_mode;
    return 1;
}

/* Whether the file can be read in this phase: 1 or 0; -1 with e. */
static int use_file(struct zpipe_job *j, uint32_t file, struct err *e)
{
    struct graph_file *f = &j->graph->file[file];
    if (!f->awaited)
        return 1;
    int found = find_awaited(j, f, e);
    if (found > 0)
        f->awaited = false;
    return found;
}

static int take_files(struct zpipe_job *j, struct graph_node *n, struct err *e)
{
    uint32_t *list = arena_array(&j->graph->arena, (size_t)n->file_count + 1, sizeof *list), count = 0;
    if (!list)
        return err_nomem(e);
    for (uint32_t i = 0; i < n->file_count; i++) {
        int found = use_file(j, n->file[i], e);
        if (found < 0)
            return -1;
        if (found)
            list[count++] = n->file[i];
        else /* not cut into blocks: the program itself is to complain about the missing file, once */
            n->split = (struct graph_split){.combine_text = "", .spoils = {"", 0}, .seam = {"", 0}};
    }
    n->file = list;
    n->file_count = count;
    for (uint32_t i = 0; i < n->segment_count; i++) {
        const struct graph_segment *s = &n->segment[i];
        int found = s->kind == GRAPH_SEGMENT_FILE ? use_file(j, s->file, e) : 1;
        if (found == 0)
            err_set(e, ERR_INPUT, "%.200s: no such file: the statement above that names it did not make it",
                    j->graph->file[s->file].name);
        if (found <= 0)
            return -1;
    }
    return 0;
}

static int take_edges(struct graph *g, const struct graph *whole, uint32_t phase, struct err *e)
{
    for (uint32_t i = 0; i < whole->edge_count; i++) {
        const struct graph_edge *edge = &whole->edge[i];
        if (whole->node[edge->from].phase != phase)
            continue;
        uint32_t number = graph_add_edge(g, edge->from, edge->to, e);
        if (number == GRAPH_NONE)
            return -1;
        g->edge[number].seekable = edge->seekable;
        const uint32_t ends[] = {edge->from, edge->to};
        for (size_t k = 0; k < 2; k++) {
            const struct graph_node *n = &whole->node[ends[k]];
            for (uint32_t m = 0; m < n->fd_count; m++)
                if (n->fd[m].edge == i && graph_set_fd(g, ends[k], n->fd[m].fd, number, e) < 0)
                    return -1;
        }
    }
    return 0;
}

/* The graph of one phase; borrows from the whole graph. */
static struct graph *graph_of(const struct graph *whole, uint32_t phase, struct err *e)
{
    struct graph *g = graph_new(e);
    for (uint32_t i = 0; g && i < whole->node_count; i++) {
        if (graph_add_node(g, GRAPH_SINK, e) == GRAPH_NONE)
            goto fail;
        struct graph_node *n = &g->node[i];
        n->sink = GRAPH_SINK_NULL;
        if (whole->node[i].phase == phase) {
            *n = whole->node[i];
            n->fd = NULL;
            n->fd_count = 0;
        }
    }
    if (!g)
        return NULL;
    g->file = arena_array(&g->arena, (size_t)whole->file_count + 1, sizeof *g->file);
    if (!g->file) {
        err_nomem(e);
        goto fail;
    }
    if (whole->file_count)
        memcpy(g->file, whole->file, whole->file_count * sizeof *g->file);
    g->file_count = whole->file_count;
    g->env = whole->env;
    g->envc = whole->envc;
    g->pipefail = whole->pipefail;
    g->line_reads = whole->line_reads;
    g->width = whole->width;
    g->split_bytes = whole->split_bytes;
    g->tell_blocks = whole->tell_blocks;
    g->records = whole->records;
    g->audit = whole->audit;
    if (take_edges(g, whole, phase, e) == 0)
        return g;
fail:
    graph_free(g);
    return NULL;
}

int phases_begin(struct zpipe_job *j, uint32_t phase, struct err *e)
{
    struct graph *g = graph_of(j->whole, phase, e);
    if (!g)
        return -1;
    if (j->graph != j->whole)
        graph_free(j->graph);
    j->graph = g;
    j->phase = phase;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (j->whole->node[i].phase == phase && take_files(j, &g->node[i], e) < 0)
            return -1;
    return 0;
}
