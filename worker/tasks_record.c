/* The record of a task, to run it again alone: see proto/record.h.  A task has one if it failed, or if it was asked for.
 * The task's programs are in a graph of their own, with the words, limits and random streams that they had.  What they read
 * is sent along, or named if it is a file of the client's.
 *
 * The record is sent after the files that tasks made (tasks_made.c) and in the same way, as stretches of files, so no byte
 * of it is copied here.  See tasks.h. */
#include "worker/tasks.h"

#include "base/log.h"
#include "proto/made.h"
#include "proto/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One file of the record: borrowed stretches of files. */
struct piece {
    const char *name; /* in the maker's arena */
    const struct box_source *from;
    uint32_t count;
    uint64_t bytes;
};

struct maker {
    struct run *r;
    struct graph *g;
    struct arena arena;
    uint32_t *edge; /* per edge of the job's graph: its number in the record's graph, or GRAPH_NONE */
    struct piece in[RECORD_INPUTS_MAX], out, err;
    uint32_t in_count;
    uint64_t bytes;
    struct err *e;
};

static const struct graph *job_of(const struct maker *m)
{
    return m->r->b->t->graph;
}

/* ---- what the task read and wrote */

static int add_piece(struct maker *m, struct piece *p, const char *name, const struct box_source *from, uint32_t count)
{
    struct box_source *copy = arena_array(&m->arena, (size_t)count + 1, sizeof *copy);
    char *own = arena_string(&m->arena, name);
    if (!copy || !own)
        return err_nomem(m->e);
    *p = (struct piece){own, copy, count, 0};
    for (uint32_t i = 0; i < count; i++) {
        copy[i] = from[i];
        p->bytes += from[i].size;
    }
    m->bytes += p->bytes;
    return 0;
}

/* Adds one more input with these bytes.  Returns its number as a file of the graph, or GRAPH_NONE. */
static uint32_t add_input(struct maker *m, const struct box_source *from, int count)
{
    char name[16], path[64];
    if (count < 0 || m->in_count == RECORD_INPUTS_MAX) {
        err_set(m->e, ERR_LIMIT, "what it read is in more pieces than a record holds");
        return GRAPH_NONE;
    }
    snprintf(name, sizeof name, "in.%u", m->in_count);
    snprintf(path, sizeof path, "%s%s", RECORD_FILES, name);
    if (add_piece(m, &m->in[m->in_count], name, from, (uint32_t)count) < 0)
        return GRAPH_NONE;
    uint64_t size = m->in[m->in_count++].bytes;
    return graph_add_file(m->g, &(struct graph_file){.name = name, .path = path, .size_bytes = size, .mode = S_IFREG | 0400},
                          m->e);
}

static int whole_file(int fd, struct box_source *out, struct err *e)
{
    *out = (struct box_source){.fd = fd};
    return fd < 0 ? 0 : blocks_size_of(fd, &out->size, e) < 0 ? -1 : 1;
}

/* Adds what the task wrote.  Called before the run's output is passed on. */
static int add_written(struct maker *m)
{
    struct run *r = m->r;
    struct box_source *from = arena_array(&m->arena, (size_t)r->task->count + 1, sizeof *from);
    uint32_t count = 0;
    int n = from ? whole_file(r->out, from, m->e) : err_nomem(m->e);
    if (n < 0 || add_piece(m, &m->out, "out", from, (uint32_t)n) < 0)
        return -1;
    if (r->out < 0) { /* the box has kept the output, and r->kept is what it wrote */
        m->out.bytes = r->kept.size;
        m->bytes += r->kept.size;
    }
    for (uint32_t i = 0; i < r->task->count && !r->b->tasks->said_out; i++) {
        if ((n = whole_file(r->task->errors[i], &from[count], m->e)) < 0)
            return -1;
        count += (uint32_t)n;
    }
    return add_piece(m, &m->err, "err", from, count);
}

/* ---- the record's graph */

/* Adds a file of the job's graph, which the client has. */
static uint32_t same_file(struct maker *m, uint32_t file)
{
    return graph_add_file(m->g, &job_of(m)->file[file], m->e);
}

/* The files that program n may open, and the task's own file if it is a task per file. */
static const uint32_t *same_files(struct maker *m, const struct graph_node *n, uint32_t *count)
{
    uint32_t *list = arena_array(&m->g->arena, (size_t)n->file_count + 2, sizeof *list), own = m->r->file;
    *count = n->file_count;
    if (!list)
        return err_nomem(m->e), NULL;
    memcpy(list, n->file, n->file_count * sizeof *list);
    if (blocks_per_file(m->r->b) && own != GRAPH_NONE)
        list[(*count)++] = own;
    for (uint32_t i = 0; i < *count; i++)
        if ((list[i] = same_file(m, list[i])) == GRAPH_NONE)
            return NULL;
    return list;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the files that program i leaves.  They are named so that their directories are made; the files are dropped. */
static const char *const *names_left(struct maker *m, uint32_t i, uint32_t *count)
{
    const struct graph_node *n = blocks_node(m->r->b, i);
    const char **name = arena_array(&m->g->arena, (size_t)n->output_count + 1, sizeof *name);
    *count = 0;
    if (!name)
        return err_nomem(m->e), NULL;
    memcpy(name, m->r->task->output[i], n->output_count * sizeof *name);
    qsort(name, n->output_count, sizeof *name, by_text);
    for (uint32_t k = 0; k < n->output_count; k++)
        if (!*count || strcmp(name[*count - 1], name[k]))
            name[(*count)++] = name[k];
    return name;
}

/* Adds program i.  Nodes are added before edges, and programs before sources and sinks, so program i is node i. */
static int add_program(struct maker *m, uint32_t i)
{
    const struct run *r = m->r;
    uint32_t node = r->b->node[i], files, kept;
    const struct graph_node *from = &job_of(m)->node[node];
    struct region_words w = tasks_words(m->r, node);
    const uint32_t *file = same_files(m, from, &files);
    const char *const *keep = names_left(m, i, &kept);
    if (!w.count || !file || !keep)
        return w.count ? -1 : err_nomem(m->e);
    uint32_t to = graph_add_node(m->g, from->kind, m->e);
    if (to == GRAPH_NONE)
        return -1;
    struct graph_node *n = &m->g->node[to];
    n->negate = from->negate;
    n->ends = i + 1 == r->task->count;
    n->label = from->label;
    n->line = from->line;
    n->column = from->column;
    n->argv = w.word;
    n->argc = w.count;
    n->env = from->env;
    n->envc = from->envc;
    n->shell = from->shell;
    n->file = file;
    n->file_count = files;
    n->keep = keep;
    n->keep_count = kept;
    n->set = from->set;
    n->set.fail = GRAPH_FAIL_SH;
    n->stream = 1 + (node | (r->number + 1) << 32);
    return 0;
}

/* Adds a SOURCE of these segments. */
static uint32_t add_source(struct maker *m, const struct graph_segment *segment, uint32_t count)
{
    uint32_t node = graph_add_node(m->g, GRAPH_SOURCE, m->e);
    struct graph_segment *copy = node == GRAPH_NONE ? NULL : arena_array(&m->g->arena, (size_t)count + 1, sizeof *copy);
    if (node == GRAPH_NONE)
        return node;
    if (!copy)
        return err_nomem(m->e), GRAPH_NONE;
    memcpy(copy, segment, count * sizeof *copy);
    m->g->node[node].segment = copy;
    m->g->node[node].segment_count = count;
    return node;
}

static struct box_source stretches[SOURCES_MAX]; /* static, because there is only one thread */

/* Adds the source for the task's block, which is sent along, or for the file that the task is for, which the client has. */
static uint32_t add_block(struct maker *m, bool *seekable)
{
    struct run *r = m->r;
    struct graph_segment s = {.kind = GRAPH_SEGMENT_FILE};
    *seekable = blocks_per_file(r->b);
    if (*seekable && r->file == GRAPH_NONE) {
        *seekable = false;
        return add_source(m, &s, 0);
    }
    s.file = *seekable ? same_file(m, r->file) : add_input(m, stretches, run_sources(r, stretches, SOURCES_MAX));
    return s.file == GRAPH_NONE ? GRAPH_NONE : add_source(m, &s, 1);
}

/* Adds the source for an edge that comes from outside of the body: each task reads all of it. */
static uint32_t add_outside(struct maker *m, uint32_t edge)
{
    const struct inlet *in = m->r->b->t->joint[edge].reader->inlet;
    struct graph_segment s = {.kind = GRAPH_SEGMENT_FILE};
    s.file = add_input(m, stretches, inlet_sources(in, 0, in->bytes, stretches, SOURCES_MAX));
    return s.file == GRAPH_NONE ? GRAPH_NONE : add_source(m, &s, 1);
}

static uint32_t add_own_source(struct maker *m, const struct graph_node *source)
{
    struct graph_segment *list = arena_array(&m->arena, (size_t)source->segment_count + 1, sizeof *list);
    if (!list)
        return err_nomem(m->e), GRAPH_NONE;
    for (uint32_t i = 0; i < source->segment_count; i++) {
        list[i] = source->segment[i];
        if (list[i].kind == GRAPH_SEGMENT_FILE && (list[i].file = same_file(m, list[i].file)) == GRAPH_NONE)
            return GRAPH_NONE;
    }
    return add_source(m, list, source->segment_count);
}

/* Adds the source of an edge that comes from no program of the task. */
static uint32_t source_of(struct maker *m, uint32_t edge, bool *seekable)
{
    const struct graph *g = job_of(m);
    const struct graph_node *from = &g->node[g->edge[edge].from];
    *seekable = g->edge[edge].seekable;
    if (from->parent == GRAPH_NONE)
        return add_outside(m, edge);
    return tasks_reads_block(from) ? add_block(m, seekable) : add_own_source(m, from);
}

/* Adds the sink of an edge that goes to no program of the task.  What goes into a file is dropped. */
static uint32_t sink_of(struct maker *m, uint32_t edge)
{
    const struct graph *g = job_of(m);
    const struct graph_node *from = &g->node[g->edge[edge].to];
    uint32_t to = graph_add_node(m->g, GRAPH_SINK, m->e);
    if (to != GRAPH_NONE)
        m->g->node[to].sink = graph_is_task_sink(from) ? GRAPH_SINK_NULL : from->sink;
    return to;
}

static uint32_t program_of(const struct maker *m, uint32_t node)
{
    const struct blocks *b = m->r->b;
    for (uint32_t i = 0; i < m->r->task->count; i++)
        if (b->node[i] == node)
            return i;
    return GRAPH_NONE;
}

/* Connects one end of program i.  The edge is added with the first of its two ends. */
static int add_end(struct maker *m, uint32_t i, const struct graph_fd *fd)
{
    const struct graph_edge *old = &job_of(m)->edge[fd->edge];
    bool writes = program_of(m, old->from) == i, seekable = false;
    uint32_t other = program_of(m, writes ? old->to : old->from), *edge = &m->edge[fd->edge];
    bool ours = other != GRAPH_NONE;
    if (*edge == GRAPH_NONE) {
        if (!ours)
            other = writes ? sink_of(m, fd->edge) : source_of(m, fd->edge, &seekable);
        if (other != GRAPH_NONE)
            *edge = graph_add_edge(m->g, writes ? i : other, writes ? other : i, m->e);
        if (*edge == GRAPH_NONE)
            return -1;
        m->g->edge[*edge].seekable = seekable;
        if (!ours && graph_set_fd(m->g, other, writes ? 0 : 1, *edge, m->e) < 0)
            return -1;
    }
    return graph_set_fd(m->g, i, fd->fd, *edge, m->e);
}

static int make_graph(struct maker *m)
{
    const struct graph *g = job_of(m);
    uint32_t programs = m->r->task->count;
    m->g = graph_new(m->e);
    m->edge = arena_array(&m->arena, (size_t)g->edge_count + 1, sizeof *m->edge);
    if (!m->g || !m->edge)
        return m->g ? err_nomem(m->e) : -1;
    for (uint32_t i = 0; i < g->edge_count; i++)
        m->edge[i] = GRAPH_NONE;
    m->g->env = g->env;
    m->g->envc = g->envc;
    m->g->pipefail = g->pipefail;
    m->g->line_reads = g->line_reads;
    for (uint32_t i = 0; i < programs; i++)
        if (add_program(m, i) < 0)
            return -1;
    for (uint32_t i = 0; i < programs; i++)
        for (uint32_t k = 0; k < blocks_node(m->r->b, i)->fd_count; k++)
            if (add_end(m, i, &blocks_node(m->r->b, i)->fd[k]) < 0)
                return -1;
    return 0;
}

/* ---- the record */

static const struct record_end *list_ends(struct maker *m)
{
    const struct run *r = m->r;
    struct record_end *list = arena_array(&m->arena, (size_t)r->task->count + 1, sizeof *list);
    for (uint32_t i = 0; list && i < r->task->count; i++) {
        const struct graph_node *n = &m->g->node[i];
        char *digest = arena_alloc(&m->arena, 65);
        if (!digest)
            return NULL;
        record_program(n->kind == GRAPH_SHELL ? n->shell : n->argv[0], digest);
        list[i] = (struct record_end){attempt_status(&r->result[i]), digest};
    }
    return list;
}

/* Makes the record's file `task`.  If the record is lost on the way, another worker of the job may have to send it again,
 * so it says nothing that another worker would say otherwise: not which worker ran the task and, for one that ended well,
 * not on what host. */
static int make_task(struct maker *m)
{
    const struct run *r = m->r;
    struct blocks *b = r->b;
    struct buf graph = BUF_INIT(GRAPH_BYTES_MAX), bytes = BUF_INIT(RECORD_TASK_MAX);
    char host[1024] = "";
    int fd = -1;
    const struct task_failure *failure = &r->task->failure;
    const struct task_failure well = {.program = r->task->first + r->task->count - 1, .status = r->status, .number = r->number, .file = r->file};
    if (failure->is)
        record_host(host, sizeof host);
    struct record record = {.node = b->stage->author,
                            .number = r->number,
                            .what = tasks_sentence(b, failure->is ? failure : &well),
                            .host = host,
                            .lost = failure->end == BOX_FAILED,
                            .end = list_ends(m),
                            .end_count = r->task->count};
    if (record.end ? graph_encode(m->g, &graph, m->e) == 0 : err_nomem(m->e) == 0) {
        record.graph = (struct slice){graph.data, graph.size};
        if (record_encode(&record, &bytes, m->e) == 0)
            fd = spool_of((struct slice){bytes.data, bytes.size}, m->e);
    }
    buf_clear(&graph);
    buf_clear(&bytes);
    return fd;
}

static int put_piece(struct blocks *b, const struct piece *p, struct err *e)
{
    for (uint32_t i = 0; i < p->count; i++) {
        int fd = blocks_dup(p->from[i].fd, e);
        if (fd < 0 || tasks_put_stretch(b, fd, p->from[i].offset, p->from[i].size, e) < 0)
            return -1;
    }
    return 0;
}

static int put_kept(struct run *r, struct err *e)
{
    int fd = r->out >= 0 || !r->kept.size ? -1 : spool_of(r->kept, e);
    return r->out >= 0 || !r->kept.size ? 0 : fd < 0 ? -1 : tasks_put_made(r->b, fd, e);
}

/* Sends the index of the record's files, then their bytes in the same order. */
static int put_all(struct maker *m, int task)
{
    struct blocks *b = m->r->b;
    struct buf index = BUF_INIT(MADE_PREFIX + MADE_INDEX_MAX);
    struct made_file file[RECORD_INPUTS_MAX + 3];
    char name[RECORD_INPUTS_MAX + 3][sizeof RECORD_PREFIX + 16];
    const struct piece *pieces[RECORD_INPUTS_MAX + 3];
    struct box_source own;
    uint32_t count = 0;
    if (whole_file(task, &own, m->e) < 0)
        return close(task), -1;
    for (uint32_t i = 0; i < m->in_count; i++)
        pieces[count++] = &m->in[i];
    pieces[count++] = &m->out;
    pieces[count++] = &m->err;
    for (uint32_t i = 0; i <= count; i++) {
        snprintf(name[i], sizeof name[i], "%s%s", RECORD_PREFIX, i ? pieces[i - 1]->name : "task");
        file[i] = (struct made_file){name[i], 0600, i ? pieces[i - 1]->bytes : own.size};
    }
    int at = made_pack(file, count + 1, &index, m->e) < 0 ? -1 : spool_of((struct slice){index.data, index.size}, m->e);
    buf_clear(&index);
    if (at < 0)
        return close(task), -1;
    if (tasks_put_made(b, at, m->e) < 0)
        return close(task), -1;
    if (tasks_put_made(b, task, m->e) < 0)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        if (put_piece(b, pieces[i], m->e) < 0 || (pieces[i] == &m->out && put_kept(m->r, m->e) < 0))
            return -1;
    return 0;
}

int tasks_record(struct run *r, struct err *e)
{
    struct maker m = {.r = r, .arena = ARENA_INIT(RUN_ARENA_MAX), .e = e};
    int task = -1, result = tasks_fill_outputs(r, e);
    if (result == 0)
        result = make_graph(&m);
    if (result == 0)
        result = add_written(&m);
    if (result == 0 && m.bytes > RECORD_BYTES_MAX)
        result = err_set(e, ERR_LIMIT, "its %llu bytes are more than a record holds (RECORD_BYTES_MAX)", (unsigned long long)m.bytes);
    if (result == 0)
        result = task = make_task(&m);
    if (result >= 0)
        result = put_all(&m, task);
    if (result < 0 && e->code == ERR_LIMIT) { /* the failure of the job is reported without a record */
        log_info("no_record", "job=%llu task=%llu why=\"%s\"", (unsigned long long)r->b->t->job, (unsigned long long)r->number, e->text);
        result = 0;
    }
    graph_free(m.g);
    arena_clear(&m.arena);
    return result;
}
