/* See client.h.  The files that a stage left in /job come as one stream, from a worker in this process or elsewhere.  Each
 * is written to an invisible file, and from then on is one of the job's outputs.  A worker is not trusted: a file that
 * neither the stage's words nor `with out=` select is refused. */
#include "client/client.h"

#include "base/fds.h"
#include "base/kept.h"
#include "proto/made.h"
#include "proto/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES  262144
#define BEGUN_BYTES (1u << 20) /* each time that so many have come they are sent to the disk */

/* The sink of the output that the graph has under this name, or GRAPH_NONE. */
static uint32_t named_sink(const struct graph_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->output_count; i++)
        if (!strcmp(n->output[i].name, name))
            return n->output[i].sink;
    return GRAPH_NONE;
}

static struct output *output_of(struct zpipe_job *j, uint32_t sink)
{
    for (uint32_t i = 0; i < j->output_count; i++)
        if (j->output[i].node == sink)
            return &j->output[i];
    return NULL;
}

/* Does another stage make a file at the same path?  In one phase that is an error; in two, the later phase's file replaces
 * the earlier one. */
static bool is_taken(struct zpipe_job *j, struct output *o)
{
    for (uint32_t i = 0; i < j->output_count; i++) {
        struct output *other = &j->output[i];
        if (other == o || !other->path || !o->path || strcmp(other->path, o->path) || other->replaced ||
            (!other->made && other->made_in_job))
            continue;
        if (other->phase == o->phase)
            return true;
        (other->phase < o->phase ? other : o)->replaced = true;
    }
    return false;
}

/* The files of a map's tasks are named SINK/TASK and must come in order, so none can come twice. */
static struct output *begin_task_file(struct made_reader *m, const struct made_file *f, struct err *e)
{
    struct zpipe_job *j = m->job;
    const struct graph *g = j->graph;
    unsigned long long task = 0;
    unsigned sink = GRAPH_NONE;
    int size = 0;
    bool good = sscanf(f->name, "%u/%llu%n", &sink, &task, &size) == 2 && !f->name[size] && sink < g->node_count &&
                g->node[sink].parent == m->node && graph_is_task_sink(&g->node[sink]) &&
                (m->task_next < task || (m->task_next == task && m->sink_next <= sink));
    char *path = good ? tasks_output_name(g, m->node, sink, task, e) : NULL;
    if (!good)
        err_set(e, ERR_PROTO, "a worker sent the file '%.100s', which `%.100s` does not make", f->name,
                g->node[m->node].label);
    if (!path)
        return NULL;
    m->task_next = task;
    m->sink_next = sink + 1;
    struct output *o = output_add(j, sink, path, e);
    free(path);
    if (o)
        o->append = g->node[sink].sink == GRAPH_SINK_APPEND;
    return o;
}

/* Does the stage see a symlink of this name?  What it writes through that comes under the name of the link's target, so a file of this name
 * has replaced the link. */
static bool replaces_link(const struct graph *g, const struct graph_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->file_count && name[0] != '/'; i++)
        if (graph_is_link(&g->file[n->file[i]]) && !strcmp(g->file[n->file[i]].name, name))
            return true;
    return false;
}

static int begin_file(struct made_reader *m, struct err *e)
{
    struct zpipe_job *j = m->job;
    const struct graph_node *n = &j->graph->node[m->node];
    if (j->graph->records && (n->kind == GRAPH_MAP || n->kind == GRAPH_REDUCE) &&
        !strncmp(m->file[m->at].name, RECORD_PREFIX, sizeof RECORD_PREFIX - 1))
        return record_file(m, &m->file[m->at], e);
    if (n->kind == GRAPH_MAP || n->kind == GRAPH_REDUCE) {
        struct output *task = begin_task_file(m, &m->file[m->at], e);
        if (!task)
            return -1;
        task->made = true;
        task->chosen = m->file[m->at].mode;
        m->fd = task->fd;
        m->left_bytes = m->file[m->at].size_bytes;
        return 0;
    }
    const struct made_file *f = &m->file[m->at];
    uint32_t sink = named_sink(n, f->name);
    const struct kept kept = {n->keep, n->keep_count, n->out_glob, n->out_glob_count};
    if (sink == GRAPH_NONE && !kept_fits(&kept, f->name))
        return err_set(e, ERR_PROTO, "a worker sent the file '%.200s', which `%.100s` does not keep", f->name,
                       n->label);
    struct output *o = sink == GRAPH_NONE ? output_add(j, GRAPH_NONE, f->name, e) : output_of(j, sink);
    if (!o)
        return sink == GRAPH_NONE ? -1 : err_set(e, ERR_BUG, "an output has no place");
    if (o->path && !o->made && replaces_link(j->graph, n, f->name) && output_in_link(j, o, f->name, e) < 0)
        return -1;
    o->made_in_job = true;
    if (o->made || is_taken(j, o))
        return err_set(e, ERR_INPUT, "two stages made the file '%.200s', and no output was put in place",
                       f->name);
    o->made = true;
    o->chosen = f->mode;
    m->fd = o->fd;
    m->left_bytes = f->size_bytes;
    return 0;
}

static int take_index(struct made_reader *m, struct err *e)
{
    struct slice rest = {m->index.data + MADE_PREFIX, m->index.size - MADE_PREFIX};
    if (made_unpack(rest, &m->arena, &m->file, &m->count, e) < 0)
        return -1;
    buf_clear(&m->index);
    return m->count ? begin_file(m, e) : 0;
}

/* After the files of one task of a map comes the index of the next task. */
static void next_index(struct made_reader *m)
{
    uint32_t kind = m->job->graph->node[m->node].kind;
    if ((kind != GRAPH_MAP && kind != GRAPH_REDUCE) || m->at < m->count)
        return;
    if (m->record)
        record_whole(m);
    m->file = NULL;
    m->count = m->at = 0;
    arena_clear(&m->arena);
}

/* Go on to the next file when one is complete; empty files are complete at once. */
static int go_on(struct made_reader *m, struct err *e)
{
    while (m->at < m->count && !m->left_bytes)
        if (++m->at < m->count && begin_file(m, e) < 0)
            return -1;
    next_index(m);
    return 0;
}

/* Some bytes of the file are written.  They begin their way to the disk, so that at the end little is left to be waited for. */
static void begin_sync(const struct made_reader *m, size_t part)
{
    uint64_t end = m->file[m->at].size_bytes - m->left_bytes, begun = (end - part) / BEGUN_BYTES * BEGUN_BYTES;
    if (end - begun >= BEGUN_BYTES)
        (void)!sync_file_range(m->fd, (off_t)begun, (off_t)(end - begun), SYNC_FILE_RANGE_WRITE);
}

static int take(struct made_reader *m, const char *data, size_t size, struct err *e)
{
    while (size) {
        size_t part;
        uint32_t rest;
        if (!m->file) {
            size_t want = MADE_PREFIX;
            if (m->index.size >= MADE_PREFIX && made_size(m->index.data, &rest, e) < 0)
                return -1;
            if (m->index.size >= MADE_PREFIX)
                want += rest;
            part = want - m->index.size < size ? want - m->index.size : size;
            buf_add(&m->index, data, part);
            if (m->index.failed)
                return err_nomem(e);
            if (m->index.size == want && want > MADE_PREFIX && take_index(m, e) < 0)
                return -1;
        } else {
            part = m->left_bytes < size ? (size_t)m->left_bytes : size;
            if (!part)
                return err_set(e, ERR_PROTO, "a worker sent more files than it had announced");
            bool written = fd_write_all(m->fd, data, part) == 0;
            if (!written && m->record)
                record_broke(m);
            else if (!written)
                return err_sys(e, "cannot write '%.200s'", m->file[m->at].name);
            m->left_bytes -= part;
            if (written)
                begin_sync(m, part);
        }
        data += part;
        size -= part;
        if (m->file && go_on(m, e) < 0)
            return -1;
    }
    return 0;
}

static void reader_end(struct made_reader *m)
{
    if (m->read >= 0)
        loop_fd_stop(m->job->z->loop, &m->watch);
    fd_close(&m->read);
    record_drop(m);
    buf_clear(&m->index);
}

static void readable(struct loop_fd *w, int events)
{
    (void)events;
    struct made_reader *m = w->owner;
    struct zpipe_job *j = m->job;
    struct err e;
    static char bytes[READ_BYTES]; /* static, because there is only one thread */
    ssize_t n = read(m->read, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool partial = m->index.size || m->at < m->count;
    int r = n < 0             ? err_sys(&e, "cannot read the files of a stage")
            : n > 0           ? take(m, bytes, (size_t)n, &e)
            : partial         ? err_set(&e, ERR_PROTO, "the files of a stage did not all come")
                              : 0;
    if (n > 0 && r == 0)
        return;
    reader_end(m);
    if (r < 0)
        client_job_fail(j, &e);
    client_job_settle(j);
}

int made_read(int from, struct arena *a, const struct made_file **file, uint32_t *count, struct err *e)
{
    uint32_t size;
    char prefix[MADE_PREFIX], *rest = NULL;
    ssize_t n = fd_read_all(from, prefix, sizeof prefix);
    if (n == 0)
        return 0; /* there are none */
    if (n != MADE_PREFIX || made_size(prefix, &size, e) < 0 || !(rest = malloc((size_t)size + 1)) ||
        fd_read_all(from, rest, size) != (ssize_t)size) {
        free(rest);
        return err_set(e, ERR_PROTO, "the keeper sent files without an index");
    }
    int r = made_unpack((struct slice){rest, size}, a, file, count, e);
    free(rest);
    return r;
}

int made_open(struct zpipe_job *j, struct err *e)
{
    const struct graph *g = j->graph;
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->node_count; i++)
        count += graph_sends_files(g, i);
    j->made = calloc((size_t)count + 1, sizeof *j->made);
    if (!j->made)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->node_count; i++) {
        int pair[2];
        if (!graph_sends_files(g, i))
            continue;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
            return err_sys(e, "cannot make a socket pair");
        struct made_reader *m = &j->made[j->made_count++];
        *m = (struct made_reader){.node = i,
                                  .read = pair[0],
                                  .write = pair[1],
                                  .job = j,
                                  .index = BUF_INIT(MADE_PREFIX + MADE_INDEX_MAX),
                                  .arena = ARENA_INIT(4 * MADE_INDEX_MAX)};
        m->watch.run = readable;
        m->watch.owner = m;
        loop_fd_start(j->z->loop, &m->watch, m->read, LOOP_READ);
        j->port[j->port_count++] = (struct port){i, m->write};
    }
    return 0;
}

bool made_drained(const struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->made_count; i++)
        if (j->made[i].read >= 0)
            return false;
    return true;
}

void made_release(struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->made_count; i++)
        fd_close(&j->made[i].write);
}

void made_close(struct zpipe_job *j)
{
    made_release(j);
    for (uint32_t i = 0; i < j->made_count; i++) {
        reader_end(&j->made[i]);
        arena_clear(&j->made[i].arena);
    }
    free(j->made);
    j->made = NULL;
    j->made_count = 0;
}
