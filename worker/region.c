/* Translates an attempt's part of the graph into a region for zpipe-box: one task per command, one channel per
 * edge.  Which kind of channel an edge becomes is decided only here:
 *
 *   both ends are programs here        a channel inside the box
 *   from a SOURCE here                 the file itself if it may be sought in, else a pump feeds it
 *   to a SINK here (embedded)          the descriptor itself if it is only good for writing (a file, a
 *                                      pipe), else a pump drains it
 *   one end on another worker/client   we hold the other end and carry it over a stream
 *   a stage's stderr                   we hold the reading end
 *   output of a block's programs       kept by the box, or written to a file of ours
 *
 * Before: attempt.c.  Next: sandbox/box.c. */
#include "worker/attempt.h"
#include "worker/local.h"
#include "worker/shared.h"

#include "base/fds.h"
#include "base/gather.h"
#include "base/grow.h"
#include "base/spool.h"
#include "proto/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define OPEN_SPARE 1024 /* descriptors that zpipe and its sandboxes need besides a sandbox's files */

#define OPENED_MAX      (1u << 20) /* in a region; the host's limit is lower */
#define EPOCH_DEFAULT_S 946684800 /* 2000-01-01T00:00:00Z */

struct builder {
    struct attempt *t;
    const struct region_scope *scope;
    struct region *r;
    struct box_task *task;
    struct box_channel *channel;
    uint32_t channel_room;
    struct err *e;
};

static int keep_open(struct builder *b, int fd)
{
    struct region *r = b->r;
    if (!grow(&r->opened, &r->opened_room, r->opened_count, OPENED_MAX, sizeof *r->opened)) {
        close(fd);
        return err_nomem(b->e);
    }
    r->opened[r->opened_count++] = fd;
    return 0;
}

void region_close(struct region *r)
{
    for (uint32_t i = 0; i < r->opened_count; i++)
        close(r->opened[i]);
    free(r->opened);
    r->opened = NULL;
    r->opened_count = r->opened_room = 0;
}

static struct box_channel *add_channel(struct builder *b, enum box_channel_end end, uint32_t *index)
{
    struct box_region *r = &b->r->plan;
    if (r->channel_count == b->channel_room) {
        err_set(b->e, ERR_LIMIT, "more than %u channels", b->channel_room);
        return NULL;
    }
    *index = r->channel_count++;
    struct box_channel *c = &b->channel[*index];
    *c = (struct box_channel){.end = end,
                              .lines = b->t->graph->line_reads,
                              .sink = -1,
                              .caller_fd = -1};
    return c;
}

int region_open_file(const struct attempt *t, const struct graph_file *f, struct err *e)
{
    if (agent_data(t->agent)) {
        int shared = shared_open(agent_shared(t->agent), f);
        return shared < 0 ? err_set(e, ERR_INPUT, "the input '%s' changed since the job began", f->path) : shared;
    }
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s) < 0) {
        err_sys(e, "cannot open the input '%s'", f->path);
        fd_close(&fd);
        return -1;
    }
    if (f->inode && (s.st_ino != f->inode || (uint64_t)s.st_size != f->size_bytes)) {
        close(fd);
        return err_set(e, ERR_INPUT, "the input '%s' changed since the job was submitted", f->path);
    }
    return fd;
}

/* Open a file that a SOURCE names.  The source of a body, in a cluster: its bytes have been fetched, like those of other
 * files. */
static int open_input(struct builder *b, uint32_t source, uint32_t file)
{
    const struct attempt_route *route = attempt_route_of(b->t, MSG_FILE, file, b->t->elsewhere ? GRAPH_NONE : source);
    bool here = !route || route->r.via == MSG_VIA_PATH;
    return here ? region_open_file(b->t, &b->t->graph->file[file], b->e) : spool_reader(route->spool, b->e);
}

/* What a SOURCE consists of, as descriptors to be read one after the other from where they are; *terminal: one of them is one. */
static int open_source(struct builder *b, uint32_t node, int stdin_fd, struct box_source *fds, uint32_t *count, bool *terminal)
{
    const struct graph_node *n = &b->t->graph->node[node];
    struct gather g = gather_begin(n->segment_count);
    for (uint32_t i = 0; i < n->segment_count; i++) {
        const struct graph_segment *one = &n->segment[i];
        const struct graph_file *f = one->kind == GRAPH_SEGMENT_FILE ? &b->t->graph->file[one->file] : NULL;
        if (one->kind == GRAPH_SEGMENT_STDIN) {
            *terminal |= stdin_fd >= 0 && isatty(stdin_fd);
            if (stdin_fd >= 0)
                fds[(*count)++] = (struct box_source){.fd = stdin_fd, .offset = BOX_ALL};
            g = gather_begin(n->segment_count);
            continue;
        }
        int fd = f ? open_input(b, node, one->file) : spool_of(one->text, b->e);
        if (fd < 0)
            return -1;
        enum gathered how = gather_file(&g, &fd, f ? f->size_bytes : 0, f ? f->path : "", b->e);
        if (how == GATHERED_FAILED)
            return -1;
        if (how == GATHERED_ON)
            continue;
        if (keep_open(b, fd) < 0)
            return -1;
        fds[(*count)++] = (struct box_source){.fd = fd, .offset = BOX_ALL};
    }
    return 0;
}

static bool is_dev_null(const struct stat *s)
{
    return S_ISCHR(s->st_mode) && s->st_rdev == makedev(1, 3);
}

/* May a program get this descriptor of ours itself?  Only if the program can use it in one direction only: a terminal or a
 * socket is open both ways. */
static bool may_pass(int fd, int access, const struct stat *s)
{
    int flags = fcntl(fd, F_GETFL);
    bool writes = access == O_WRONLY && (S_ISFIFO(s->st_mode) || (S_ISCHR(s->st_mode) && !isatty(fd)));
    return flags >= 0 && (flags & O_ACCMODE) == access && (S_ISREG(s->st_mode) || writes);
}

/* The reading end of an edge whose SOURCE is on this worker. */
static int feed(struct builder *b, uint32_t edge, struct box_port *port)
{
    struct graph *g = b->t->graph;
    const struct graph_node *source = &g->node[g->edge[edge].from];
    struct attempt_route *route = attempt_route_of(b->t, MSG_EDGE, edge, GRAPH_NONE);
    int stdin_fd = route ? route->r.fd : -1;
    struct stat s;
    if (source->segment_count == 1) {
        const struct graph_segment *one = &source->segment[0];
        if (one->kind == GRAPH_SEGMENT_FILE && g->edge[edge].seekable) {
            port->file = open_input(b, g->edge[edge].from, one->file);
            return port->file < 0 || keep_open(b, port->file) < 0 ? -1 : 0;
        }
        if (one->kind == GRAPH_SEGMENT_STDIN) {
            if (stdin_fd < 0 || fstat(stdin_fd, &s) < 0 || is_dev_null(&s))
                return 0; /* /dev/null */
            if (may_pass(stdin_fd, O_RDONLY, &s)) {
                port->file = stdin_fd;
                return 0;
            }
        }
    }
    struct box_source *fds = arena_array(b->r->arena, source->segment_count, sizeof *fds);
    if (!fds)
        return err_nomem(b->e);
    uint32_t count = 0, index;
    bool terminal = false;
    if (open_source(b, g->edge[edge].from, stdin_fd, fds, &count, &terminal) < 0)
        return -1;
    if (!count)
        return 0;
    struct box_channel *c = add_channel(b, BOX_FEED, &index);
    if (!c)
        return -1;
    c->source = fds;
    c->source_count = count;
    c->lines |= terminal;
    port->channel = (int32_t)index;
    return 0;
}

/* Has the edge's writer a limit of output?  In a file the kernel enforces it; elsewhere a pump must count. */
static bool is_counted(const struct builder *b, uint32_t edge)
{
    const struct graph *g = b->t->graph;
    return g->node[g->edge[edge].from].set.output_bytes != 0;
}

/* Let a pump copy the edge's bytes to fd, and count them. */
static int pump_to(struct builder *b, uint32_t edge, int fd)
{
    struct box_channel *c = add_channel(b, BOX_DRAIN, &b->r->channel_of_edge[edge]);
    if (!c)
        return -1;
    c->sink = fd;
    return 0;
}

/* The writing end of an edge whose SINK is on this worker. */
static int drain(struct builder *b, uint32_t edge, struct box_port *port)
{
    struct attempt_route *route = attempt_route_of(b->t, MSG_EDGE, edge, GRAPH_NONE);
    int fd, own;
    struct stat s;
    if (local_sink(b->t, route, &fd, &own, b->e) < 0 || (own >= 0 && keep_open(b, own) < 0))
        return -1;
    if (fd < 0 && is_counted(b, edge) && (fd = open("/dev/null", O_WRONLY | O_CLOEXEC)) >= 0 && keep_open(b, fd) < 0)
        return -1;
    if (fd < 0 || fstat(fd, &s) < 0 || (is_dev_null(&s) && !is_counted(b, edge)))
        return 0; /* /dev/null */
    if ((S_ISREG(s.st_mode) || !is_counted(b, edge)) && may_pass(fd, O_WRONLY, &s)) {
        port->file = fd;
        return 0;
    }
    uint32_t *index = &b->r->channel_of_edge[edge];
    if (*index == GRAPH_NONE && pump_to(b, edge, fd) < 0)
        return -1;
    port->channel = (int32_t)*index;
    port->null = is_dev_null(&s);
    return 0;
}

bool region_wants_lines(const struct graph *g, uint32_t edge)
{
    uint32_t from = edge == GRAPH_NONE ? GRAPH_SOURCE : g->node[g->edge[edge].from].kind;
    return (from == GRAPH_MAP || from == GRAPH_REDUCE) && g->node[g->edge[edge].to].split.stops_early;
}

static int remote(struct builder *b, uint32_t edge, struct box_port *port)
{
    struct attempt *t = b->t;
    uint32_t index = b->r->channel_of_edge[edge];
    struct attempt_route *route = attempt_route_of(t, MSG_EDGE, edge, GRAPH_NONE);
    if (!route)
        return err_set(b->e, ERR_PROTO, "edge %u of the job has no route", edge);
    if (port->write && index == GRAPH_NONE && is_counted(b, edge)) {
        int fd;
        if (attempt_carry_pair(t, route, true, &fd, b->e) < 0 || keep_open(b, fd) < 0 || pump_to(b, edge, fd) < 0)
            return -1;
        index = b->r->channel_of_edge[edge];
    }
    if (route->spool >= 0) { /* a seekable input, which has been fetched */
        int fd = spool_reader(route->spool, b->e);
        if (fd < 0 || keep_open(b, fd) < 0)
            return -1;
        port->file = fd;
        return 0;
    }
    if (index == GRAPH_NONE) {
        if (!add_channel(b, port->write ? BOX_REMOTE_READER : BOX_REMOTE_WRITER, &index))
            return -1;
        b->r->channel_of_edge[edge] = index;
        b->channel[index].lines |= region_wants_lines(t->graph, edge);
        route->channel = index;
    }
    port->channel = (int32_t)index;
    return 0;
}

/* An edge between two programs, the first of which has a limit of output: one pump takes and counts the bytes, a second
 * channel brings them to the reader. */
static int inside_counted(struct builder *b, uint32_t edge)
{
    uint32_t index;
    int ends[2];
    struct box_source *source = arena_array(b->r->arena, 1, sizeof *source);
    if (!source)
        return err_nomem(b->e);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(b->e, "cannot make a pipe");
    *source = (struct box_source){.fd = ends[0], .offset = BOX_ALL};
    bool kept[2] = {keep_open(b, ends[0]) == 0, keep_open(b, ends[1]) == 0}; /* registered to be closed, or closed now */
    struct box_channel *c = kept[0] && kept[1] && pump_to(b, edge, ends[1]) == 0 ? add_channel(b, BOX_FEED, &index) : NULL;
    if (!c)
        return -1;
    c->source = source;
    c->source_count = 1;
    return 0;
}

static int inside(struct builder *b, uint32_t edge, struct box_port *port)
{
    uint32_t *index = &b->r->channel_of_edge[edge];
    bool counted = is_counted(b, edge);
    if (*index == GRAPH_NONE && counted && inside_counted(b, edge) < 0)
        return -1;
    if (*index == GRAPH_NONE) {
        struct box_channel *c = add_channel(b, BOX_INSIDE, index);
        if (!c)
            return -1;
        uint8_t exact = b->t->stages.exact ? b->t->stages.exact[edge] : GRAPH_EXACT_NOT;
        c->exact = exact != GRAPH_EXACT_NOT;
        c->if_files = exact == GRAPH_EXACT_IF_FILES;
    }
    port->channel = (int32_t)*index + (counted && !port->write); /* the reader's channel is the one after the writer's */
    return 0;
}

static bool is_at(const struct region_end *end, uint32_t node, int fd, uint32_t edge, bool write)
{
    bool writes = end->how == REGION_DRAIN || end->how == REGION_KEEP;
    if (end->how != REGION_FILE && write != writes)
        return false;
    return end->edge != GRAPH_NONE ? end->edge == edge : fd == 0 && end->node == node;
}

/* The scope's region_end for a program's descriptor, or NULL; edge GRAPH_NONE: the descriptor has no edge. */
static struct region_end *end_of(const struct region_scope *s, uint32_t node, int fd, uint32_t edge, bool write)
{
    for (uint32_t i = 0; i < s->end_count; i++)
        if (is_at(&s->end[i], node, fd, edge, write))
            return &s->end[i];
    return NULL;
}

static int at_end(struct builder *b, struct region_end *end, struct box_port *port)
{
    if (end->how == REGION_NOTHING)
        return 0;
    if (end->how == REGION_FILE) {
        port->file = end->fd;
        return 0;
    }
    bool feed = end->how == REGION_FEED;
    if (end->channel == GRAPH_NONE) {
        bool kept = end->how == REGION_KEEP;
        struct box_channel *c = add_channel(b, feed ? BOX_FEED : kept ? BOX_KEEP : BOX_DRAIN, &end->channel);
        if (!c)
            return -1;
        c->source = end->source;
        c->source_count = end->source_count;
        c->more = feed && end->more;
        c->lines |= feed && end->lines;
        c->sink = feed || kept ? -1 : end->fd;
        c->tell = !feed && !kept;
    }
    port->channel = (int32_t)end->channel;
    return 0;
}

static int add_port(struct builder *b, uint32_t node, const struct graph_fd *f, struct box_port *port)
{
    struct graph *g = b->t->graph;
    const struct graph_edge *edge = &g->edge[f->edge];
    *port = (struct box_port){.fd = f->fd, .write = edge->from == node, .channel = -1, .file = -1};
    uint32_t other = port->write ? edge->to : edge->from;
    struct region_end *end = end_of(b->scope, node, f->fd, f->edge, port->write);
    if (end)
        return at_end(b, end, port);
    if (!b->t->here[other])
        return remote(b, f->edge, port);
    switch (g->node[other].kind) {
    case GRAPH_SOURCE:
        return feed(b, f->edge, port);
    case GRAPH_SINK:
        return drain(b, f->edge, port);
    default:
        return inside(b, f->edge, port);
    }
}

/* The stderr of the scope's i-th program, when no edge of the graph is for it. */
static int add_stderr(struct builder *b, uint32_t i, struct box_port *port)
{
    const struct region_scope *s = b->scope;
    int fd = s->stderr_fd ? s->stderr_fd[i] : -1;
    uint32_t index;
    *port = (struct box_port){.fd = 2, .write = true, .channel = -1, .file = fd};
    if (fd >= 0)
        return 0;
    struct box_channel *c = add_channel(b, s->stderr_kept ? BOX_KEEP : BOX_REMOTE_READER, &index);
    if (!c)
        return -1;
    if (s->stderr_kept)
        s->stderr_kept[i] = index;
    c->lines = !s->stderr_kept;
    port->channel = (int32_t)index;
    return 0;
}

static int add_ports(struct builder *b, uint32_t index, struct box_task *task)
{
    uint32_t node = b->scope->node[index];
    const struct graph_node *n = &b->t->graph->node[node];
    struct box_port *port = arena_array(b->r->arena, n->fd_count + 3, sizeof *port);
    if (!port)
        return err_nomem(b->e);
    task->port = port;
    for (uint32_t i = 0; i < n->fd_count; i++)
        if (add_port(b, node, &n->fd[i], &port[task->port_count++]) < 0)
            return -1;
    for (int fd = 0; fd < 2; fd++) {
        if (graph_fd_of(n, fd))
            continue;
        struct box_port *p = &port[task->port_count++];
        struct region_end *end = fd == 0 ? end_of(b->scope, node, 0, GRAPH_NONE, false) : NULL;
        *p = (struct box_port){.fd = fd, .write = fd == 1, .channel = -1, .file = -1};
        if (end && at_end(b, end, p) < 0)
            return -1;
    }
    if (!graph_fd_of(n, 2))
        return add_stderr(b, index, &port[task->port_count++]);
    return 0;
}

/* Which files in a node's /job are outputs. */
static int node_kept(const struct graph_node *n, struct arena *a, struct kept *out, struct err *e)
{
    const char **name = arena_array(a, (size_t)n->output_count + n->keep_count, sizeof *name);
    if (!name)
        return err_nomem(e);
    for (uint32_t i = 0; i < n->output_count; i++)
        name[i] = n->output[i].name;
    for (uint32_t i = 0; i < n->keep_count; i++)
        name[n->output_count + i] = n->keep[i];
    kept_sort(name, n->output_count + n->keep_count);
    *out = (struct kept){name, n->output_count + n->keep_count, n->out_glob, n->out_glob_count};
    return 0;
}

/* Does the program get a writable copy of this input?  It does where it might change the file, while there is room, and
 * always where the file is named as an output. */
static bool wants_copy(const struct graph_node *n, const struct kept *k, const struct graph_file *f,
                       uint64_t *room)
{
    const char *name = strncmp(f->name, "/job/", 5) ? f->name : f->name + 5;
    if (!S_ISREG(f->mode) || name[0] == '/' || !kept_fits(k, name))
        return false;
    bool named = f->size_bytes <= *room;
    *room -= named ? f->size_bytes : 0;
    for (uint32_t i = 0; i < n->output_count; i++)
        named |= !strcmp(n->output[i].name, name);
    for (uint32_t i = 0; i < n->out_glob_count; i++)
        named |= !strcmp(n->out_glob[i], name);
    return named;
}

/* A sandbox's files are all open while it is made. */
static int check_open(uint32_t count, struct err *e)
{
    struct rlimit may;
    if (count < OPEN_SPARE || getrlimit(RLIMIT_NOFILE, &may) < 0 || count + OPEN_SPARE <= may.rlim_cur)
        return 0;
    return err_set(e, ERR_LIMIT, "a sandbox of %u files needs as many open, and this process may have %llu: raise the hard limit (ulimit -Hn), or give "
                   "the command fewer files at a time (`xargs -n 1000`)", count, (unsigned long long)may.rlim_cur);
}

static int add_files(struct builder *b, uint32_t node, struct box_task *task, const struct kept *k)
{
    struct graph *g = b->t->graph;
    const struct graph_node *n = &g->node[node];
    const struct region_scope *s = b->scope;
    bool beside = s->beside && node == s->node[0];
    uint32_t count = beside ? s->beside_count + s->own_count : n->file_count;
    struct box_file *file = arena_array(b->r->arena, count + s->part_count, sizeof *file);
    uint64_t room = GRAPH_COPY_BYTES_MAX;
    if (!file)
        return err_nomem(b->e);
    if (check_open(count, b->e) < 0)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = !beside ? n->file[i] : i < s->beside_count ? s->beside[i] : s->own[i - s->beside_count];
        const struct graph_file *f = &g->file[index];
        /* For a run that we do for another worker, one route serves all nodes, and its own input has none. */
        struct attempt_route *route = attempt_route_of(b->t, MSG_FILE, index, b->t->elsewhere ? GRAPH_NONE : node);
        struct box_file *one = &file[task->file_count];
        if (graph_is_link(f)) {
            *one = (struct box_file){.name = f->name, .link = f->link, .fd = -1};
            task->file_count++;
            continue;
        }
        if (S_ISDIR(f->mode) && (b->t->elsewhere || (route && route->r.via != MSG_VIA_PATH))) { /* the files in it come by themselves */
            *one = (struct box_file){.name = f->name, .directory = true, .fd = -1};
            task->file_count++;
            continue;
        }
        if (!route && b->t->elsewhere)
            continue;
        if (!route)
            return err_set(b->e, ERR_PROTO, "the input '%s' has no route", f->name);
        bool here = route->r.via == MSG_VIA_PATH;
        *one = (struct box_file){.name = f->name, .path = here ? f->path : NULL, .fd = -1};
        if (!here) {
            one->fd = spool_reader(route->spool, b->e);
            if (one->fd < 0 || keep_open(b, one->fd) < 0)
                return -1;
        }
        /* of one that may not be read there is no copy; the program is to find that out itself */
        one->copy = wants_copy(n, k, f, &room) && !(one->path && access(one->path, R_OK) < 0 && errno == EACCES);
        task->file_count++;
    }
    for (uint32_t i = 0; i < s->part_count && (n->holes || !s->part_holes); i++)
        file[task->file_count++] = s->part[i];
    task->file = file;
    return 0;
}

static bool same_variable(const char *a, const char *b)
{
    size_t size = strcspn(a, "=");
    return strncmp(a, b, size) == 0 && b[size] == '=';
}

/* The environment: the reference's, then --env, then the stage's own; the last value of a name counts. */
static int add_env(struct builder *b, const struct graph_node *n, struct box_task *task)
{
    static const char *const base[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C",
                                       "TZ=UTC", "PWD=/job"};
    const struct graph *g = b->t->graph;
    const struct {
        const char *const *list;
        uint32_t count;
    } parts[] = {{base, sizeof base / sizeof *base}, {g->env, g->envc}, {n->env, n->envc}};
    const char **env =
        arena_array(b->r->arena, (size_t)parts[0].count + g->envc + n->envc + 1, sizeof *env);
    if (!env)
        return err_nomem(b->e);
    uint32_t count = 0;
    for (size_t p = 0; p < 3; p++) {
        for (uint32_t i = 0; i < parts[p].count; i++) {
            uint32_t at = 0;
            while (at < count && !same_variable(parts[p].list[i], env[at]))
                at++;
            env[at] = parts[p].list[i];
            count += at == count;
        }
    }
    task->env = env;
    return 0;
}

static int add_argv(struct builder *b, uint32_t node, struct box_task *task)
{
    const struct graph_node *n = &b->t->graph->node[node];
    struct region_words w = {n->argv, n->argc};
    if (b->scope->words)
        w = b->scope->words(b->scope->owner, node);
    const char **argv = arena_array(b->r->arena, (size_t)w.count + b->scope->part_count + 3, sizeof *argv);
    if (!argv)
        return err_nomem(b->e);
    uint32_t count = 0;
    if (n->kind == GRAPH_SHELL) {
        argv[count++] = n->shell;
        argv[count++] = "-c";
    }
    for (uint32_t i = 0; i < w.count; i++)
        argv[count++] = w.word[i];
    for (uint32_t i = 0; b->scope->part_words && i < b->scope->part_count; i++)
        argv[count++] = b->scope->part[i].name;
    task->argv = argv;
    return 0;
}

/* Is it the same task in each block, so that a template serves for all? */
static bool is_alike(const struct graph_node *n)
{
    bool alike = !n->holes;
    for (uint32_t i = 0; i < n->output_count; i++)
        alike &= !strchr(n->output[i].name, GRAPH_HOLE);
    return alike;
}

static int add_task(struct builder *b, uint32_t index)
{
    struct attempt *t = b->t;
    uint32_t node = b->scope->node[index];
    const struct graph_node *n = &t->graph->node[node];
    struct box_task *task = &b->task[b->r->plan.task_count];
    const struct graph_settings *s = &n->set;
    struct kept kept = {0};
    if (!b->scope->block && node_kept(n, b->r->arena, &kept, b->e) < 0)
        return -1;
    if (b->scope->outputs) {
        struct region_words w = b->scope->outputs(b->scope->owner, node);
        kept = (struct kept){.name = w.word, .name_count = w.count};
    }
    *task = (struct box_task){
        .output = kept.name,
        .output_count = kept.name_count,
        .out_glob = kept.pattern,
        .out_glob_count = kept.pattern_count,
        .limit = {.memory_bytes = s->memory_bytes,
                  .cpu_ns = s->cpu_ns,
                  .wall_ns = s->wall_ns,
                  .scratch_bytes = s->scratch_bytes,
                  .output_bytes = s->output_bytes,
                  .procs = s->procs,
                  .files = s->descriptors},
        .seed = s->seed,
        .stream = n->stream ? n->stream - 1 : node + (b->scope->block << 32),
        .epoch_s = s->epoch_set ? s->epoch_s : EPOCH_DEFAULT_S,
        .expected = is_alike(n) ? b->scope->expected : 0,
    };
    b->r->node_of_task[b->r->plan.task_count++] = node;
    if (add_argv(b, node, task) < 0 || add_env(b, n, task) < 0 || add_files(b, node, task, &kept) < 0)
        return -1;
    return add_ports(b, index, task);
}

int region_build(struct attempt *t, const struct region_scope *scope, struct region *r, struct err *e)
{
    struct graph *g = t->graph;
    struct builder b = {.t = t, .scope = scope, .r = r, .e = e};
    uint32_t edges = 0;
    for (uint32_t i = 0; i < scope->count; i++)
        edges += g->node[scope->node[i]].fd_count + 2; /* stdin and stderr may have channels without an edge */
    b.channel_room = edges;
    b.channel = arena_array(r->arena, (size_t)edges + 1, sizeof *b.channel);
    b.task = arena_array(r->arena, (size_t)scope->count + 1, sizeof *b.task);
    r->plan = (struct box_region){.task = b.task, .channel = b.channel};
    r->node_of_task = arena_array(r->arena, (size_t)scope->count + 1, sizeof *r->node_of_task);
    r->channel_of_edge = arena_array(r->arena, (size_t)g->edge_count + 1, sizeof *r->channel_of_edge);
    if (!b.channel || !b.task || !r->node_of_task || !r->channel_of_edge)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->edge_count; i++)
        r->channel_of_edge[i] = GRAPH_NONE;
    for (uint32_t i = 0; i < scope->count; i++)
        if (add_task(&b, i) < 0)
            return err_wrap(e, "stage `%s`", g->node[scope->node[i]].label);
    return 0;
}
