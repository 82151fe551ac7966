/* See client.h.  In a cluster the client sends the bytes that it holds and receives those that are for it.  For each route
 * that the scheduler names there is one carry, between a port (or an input file) and a stream of a worker.
 *
 * A route that is named once more belongs to a part of the job that runs again.  What we send starts again at its first
 * byte; what we receive continues where it was.  So every input must be readable twice: files are opened anew, and for a
 * stdin that is no file, all that was read is kept in an unnamed file until the job is over. */
#include "client/client.h"

#include "base/fds.h"
#include "base/gather.h"
#include "base/grow.h"
#include "base/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAMS_MAX (1u << 24) /* of one job, including streams that were started again */

/* Called from inside the carry, which therefore cannot be freed here: serve_reap does that, from the loop. */
static void carry_ended(void *owner, struct carry *c, enum carry_end end, const struct err *why)
{
    struct zpipe_job *j = owner;
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct client_stream *s = &j->stream[i];
        if (s->carry != c)
            continue;
        s->ended = s->reap = true;
        if (end != CARRY_FAILED || j->stream_why.code)
            continue;
        j->stream_why = *why;
        errno = why->sys;
        if (s->in && s->name.what == MSG_EDGE && why->sys)
            graph_write_failed(j->graph, s->name.index, &j->stream_why);
        else if (s->in)
            err_wrap(&j->stream_why, "what `%.200s` writes",
                     j->graph->node[s->name.what == MSG_EDGE ? j->graph->edge[s->name.index].from : s->name.index]
                         .label);
        if (s->in && why->code == ERR_PROTO && j->again_why[0]) {
            struct err said = j->stream_why;
            err_set(&j->stream_why, said.code, "%.600s; it ran again since %.300s", said.text, j->again_why);
        }
    }
}

static void was_read(void *owner, struct carry *c, size_t which, const void *data, size_t size)
{
    struct zpipe_job *j = owner;
    struct stdin_copy *k = &j->kept;
    for (uint32_t i = 0; i < j->stream_count; i++) {
        if (j->stream[i].carry != c || j->stream[i].live != which || k->copy < 0)
            continue;
        k->ended |= size == 0;
        if (fd_write_all(k->copy, data, size) == 0)
            continue;
        err_sys(&k->why, "no copy of stdin could be kept");
        fd_close(&k->copy);
    }
}

static const struct carry_events events = {carry_ended, was_read};

static int open_file(const struct graph_file *f, struct err *e)
{
    struct stat s;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, &s) < 0) {
        err_sys(e, "cannot open the input '%s'", f->path);
        fd_close(&fd);
    } else if (f->inode && (s.st_ino != f->inode || (uint64_t)s.st_size != f->size_bytes ||
                            (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec != f->mtime_ns)) {
        err_set(e, ERR_INPUT, "the input '%s' changed since the job was submitted", f->path);
        fd_close(&fd);
    }
    return fd;
}

/* Called before the first byte of stdin is read. */
static void keep_stdin(struct stdin_copy *k, uint32_t node, int from)
{
    struct stat s;
    k->begun = true;
    k->node = node;
    k->from = fstat(from, &s) == 0 && S_ISREG(s.st_mode) ? lseek(from, 0, SEEK_CUR) : -1;
    k->file = k->from >= 0;
    if (!k->file)
        k->copy = spool_open(&k->why);
}

static int add_fd(int *fds, size_t *count, int fd)
{
    if (fd < 0)
        return -1;
    fds[(*count)++] = fd;
    return 0;
}

/* Add the descriptors of stdin: first the copy, if the stream was started again, then stdin itself, whose index is *live. */
static int add_stdin(struct zpipe_job *j, uint32_t node, int from, int *fds, size_t *count, size_t *live,
                     struct err *e)
{
    struct stdin_copy *k = &j->kept;
    bool first = !k->begun;
    if (first)
        keep_stdin(k, node, from);
    else if (k->node != node)
        return err_set(e, ERR_INPUT, "stdin was read by two stages and cannot be read again");
    else if (!k->file && k->copy < 0)
        return *e = k->why, -1;
    if (!first && !k->file && add_fd(fds, count, spool_reader(k->copy, e)) < 0)
        return -1;
    if (!first && k->ended)
        return 0;
    int fd = fcntl(from, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || (!first && k->file && lseek(fd, k->from, SEEK_SET) < 0)) {
        err_sys(e, "cannot read stdin");
        fd_close(&fd);
        return -1;
    }
    *live = *count;
    return add_fd(fds, count, fd);
}

/* A segment that is a file, or the text of a heredoc. */
static int add_readable(struct zpipe_job *j, const struct graph_segment *one, struct gather *g, int *fds, size_t *count, struct err *e)
{
    const struct graph_file *f = one->kind == GRAPH_SEGMENT_FILE ? &j->graph->file[one->file] : NULL;
    int fd = f ? open_file(f, e) : spool_of(one->text, e);
    enum gathered how = fd < 0 ? GATHERED_FAILED : gather_file(g, &fd, f ? f->size_bytes : 0, f ? f->path : "", e);
    return how == GATHERED_ON ? 0 : how == GATHERED_FAILED ? -1 : add_fd(fds, count, fd);
}

/* The descriptors behind a source, in order. */
static int open_source(struct zpipe_job *j, uint32_t node, int *fds, size_t *count, size_t *live, struct err *e)
{
    const struct graph_node *n = &j->graph->node[node];
    struct gather g = gather_begin(n->segment_count);
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < n->segment_count; i++) {
        const struct graph_segment *one = &n->segment[i];
        int from = one->kind == GRAPH_SEGMENT_STDIN ? port_of(j, node) : -1;
        if (one->kind != GRAPH_SEGMENT_STDIN)
            r = add_readable(j, one, &g, fds, count, e);
        else if (from >= 0 && *live == SIZE_MAX)
            r = add_stdin(j, node, from, fds, count, live, e);
        if (one->kind == GRAPH_SEGMENT_STDIN)
            g = gather_begin(n->segment_count);
    }
    if (r == 0 && !*count && add_fd(fds, count, open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
        r = err_sys(e, "cannot open /dev/null");
    while (r < 0 && *count)
        close(fds[--*count]);
    return r;
}

/* A descriptor of our own for the port that bytes go to.  A pipe or terminal is opened anew, so that making it non-blocking
 * does not affect other processes that share it. */
static int writer_of(int port, struct err *e)
{
    struct stat s;
    int fd = -1;
    if (port < 0)
        return -1;
    if (fstat(port, &s) == 0 && (S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode)))
        fd = fd_reopen(port, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        fd = fcntl(port, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        err_sys(e, "cannot write to descriptor %d", port);
    return fd;
}

static void lines_ended(struct lines *l)
{
    struct zpipe_job *j = l->owner;
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct client_stream *s = &j->stream[i];
        if (s->lines != l)
            continue;
        fd_close(&s->lines_to);
        uint32_t node = s->name.index;
        if (j->said[node] && j->end[node].status && !j->held)
            hints_said(j, node, serve_said(j, node)); /* the stage's end came first, when these last lines were still missing */
    }
    client_job_settle(j);
}

const char *serve_said(const struct zpipe_job *j, uint32_t node)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        const struct client_stream *s = &j->stream[i];
        if (s->lines && s->name.index == node && s->lines->from < 0 && s->lines->tail.data)
            return s->lines->tail.data;
    }
    return "";
}

/* A stage's stderr: pass it on to the port in whole lines. */
static int stderr_stream(struct zpipe_job *j, struct client_stream *s, struct err *e)
{
    int ends[2], port = port_of(j, GRAPH_NONE);
    s->lines = calloc(1, sizeof *s->lines);
    if (!s->lines)
        return err_nomem(e);
    if (port >= 0 && (s->lines_to = fcntl(port, F_DUPFD_CLOEXEC, 3)) < 0)
        return err_sys(e, "cannot write to descriptor %d", port);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return err_sys(e, "cannot make a socket pair");
    lines_start(s->lines, j->z->loop, ends[0], s->lines_to, lines_ended, j);
    return ends[1];
}

static struct client_stream *add_stream(struct zpipe_job *j, struct err *e)
{
    if (!grow(&j->stream, &j->stream_room, j->stream_count, STREAMS_MAX, sizeof *j->stream)) {
        err_nomem(e);
        return NULL;
    }
    j->stream[j->stream_count] = (struct client_stream){.lines_to = -1};
    return &j->stream[j->stream_count++];
}

static int send_source(struct zpipe_job *j, struct client_stream *s, const struct graph_edge *edge,
                       const struct graph_file *f, struct err *e)
{
    uint32_t room = edge ? 2 * j->graph->node[edge->from].segment_count + 1 : 1;
    int *fds = calloc(room, sizeof *fds);
    size_t count = 0;
    s->live = SIZE_MAX;
    int r = !fds   ? err_nomem(e)
            : edge ? open_source(j, edge->from, fds, &count, &s->live, e)
                   : add_fd(fds, &count, open_file(f, e));
    if (r == 0)
        s->carry = carry_out(j->z->loop, fds, count, &s->name, &events, j, e);
    free(fds);
    return s->carry ? 0 : -1;
}

static int make_carry(struct zpipe_job *j, struct client_stream *s, const struct msg_route *r, struct err *e)
{
    struct graph *g = j->graph;
    const struct graph_edge *edge = r->what == MSG_EDGE ? &g->edge[r->index] : NULL;
    if (r->what == MSG_FILE || (edge && g->node[edge->from].kind == GRAPH_SOURCE))
        return send_source(j, s, edge, edge ? NULL : &g->file[r->index], e);
    int fd;
    s->in = true;
    struct err none = {0};
    if (r->what == MSG_STDERR)
        fd = stderr_stream(j, s, &none);
    else
        fd = writer_of(port_of(j, edge ? edge->to : r->index), &none);
    if (none.code) {
        *e = none;
        return -1;
    }
    s->carry = carry_in(j->z->loop, fd, &s->name, &events, j, e);
    return s->carry ? 0 : -1;
}

/* The existing stream of a route that is named again; or a new one. */
static struct client_stream *stream_for(struct zpipe_job *j, const struct stream_name *name, struct err *e)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct stream_name was = j->stream[i].name;
        was.attempt = name->attempt;
        was.job = name->job; /* a new scheduler may have given the job another number */
        if (stream_name_equal(&was, name))
            return &j->stream[i];
    }
    return add_stream(j, e);
}

/* Do we have this stream already, in this attempt or a newer one?  Then a new scheduler repeats what an earlier one said:
 * the stream stays where it is, and if its other side is lost we report that. */
static bool is_known(const struct zpipe_job *j, const struct stream_name *name)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct stream_name was = j->stream[i].name;
        bool newer = was.attempt >= name->attempt;
        was.attempt = name->attempt;
        if (newer && stream_name_equal(&was, name))
            return true;
    }
    return false;
}

static int serve(struct zpipe_job *j, const struct msg_route_list *m, const struct msg_route *r, struct err *e)
{
    struct stream_name name = {m->job, m->attempt, r->what, r->index, r->node};
    if (is_known(j, &name))
        return 0;
    struct peer *p = client_link_to(j->z, r->url, r->key, e);
    struct client_stream *s = p ? stream_for(j, &name, e) : NULL;
    if (!s)
        return -1;
    s->name = name;
    s->peer = p;
    if (!s->in) {
        carry_free(s->carry);
        s->carry = NULL;
        s->ended = s->reap = false;
        if (make_carry(j, s, r, e) < 0) {
            s->ended = true;
            return -1;
        }
    }
    struct msg attach = {.type = MSG_ATTACH,
                         .attach = {m->job, m->attempt, m->token, r->what, r->index, r->node}};
    if (peer_send(p, 0, &attach, (struct slice){0}, e) < 0)
        return -1;
    s->ended = false;
    return s->in ? carry_again(s->carry, p, 0, &name, e) : carry_bind(s->carry, p, 0, e);
}

static void say_lost(struct zpipe_job *j, const struct client_stream *s, const char *why)
{
    const struct stream_name *n = &s->name;
    struct msg m = {.type = MSG_LOST, .lost = {n->job, n->attempt, n->what, n->index, n->node, why}};
    if (!j->result_here)
        client_send(j->z, &m, (struct slice){0}, NULL);
}

void serve_link_lost(struct zpipe_job *j, const struct peer *p, const char *why)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct client_stream *s = &j->stream[i];
        if (s->peer != p)
            continue;
        s->peer = NULL;
        if (!s->carry)
            continue;
        carry_cut(s->carry);
        say_lost(j, s, why);
    }
}

void serve_tell_lost(struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->stream_count; i++)
        if (!j->stream[i].peer && j->stream[i].carry)
            say_lost(j, &j->stream[i], "it broke off while no scheduler knew of it");
}

int serve_routes(struct zpipe_job *j, const struct msg_route_list *m, struct err *e)
{
    if (*m->why)
        snprintf(j->again_why, sizeof j->again_why, "%s", m->why);
    for (uint32_t i = 0; i < m->route_count; i++) {
        const struct msg_route *r = &m->route[i];
        uint32_t limit = r->what == MSG_EDGE   ? j->graph->edge_count
                         : r->what == MSG_FILE ? j->graph->file_count
                                               : j->graph->node_count;
        if (r->via != MSG_VIA_CONNECT || r->index >= limit)
            return err_set(e, ERR_PROTO, "the scheduler named a stream that cannot be");
        if (r->what == MSG_FILE && (S_ISDIR(j->graph->file[r->index].mode) || graph_is_link(&j->graph->file[r->index])))
            continue; /* the files in a directory have routes of their own, and what a link leads to was not asked for */
        if (serve(j, m, r, e) < 0)
            return -1;
    }
    return 0;
}

void serve_message(struct zpipe_job *j, const struct stream_name *name, const struct msg *m, struct slice bulk)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct client_stream *s = &j->stream[i];
        if (s->carry && stream_name_equal(&s->name, name)) {
            carry_message(s->carry, m, bulk);
            return;
        }
    }
}

/* Do all streams still have their other side? */
bool serve_attached(const struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->stream_count; i++)
        if (!j->stream[i].peer)
            return false;
    return true;
}

/* Has everything come that is for us? */
bool serve_done(const struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        const struct client_stream *s = &j->stream[i];
        if ((s->lines && s->lines->from >= 0) || (s->in && !s->ended))
            return false;
    }
    return true;
}

bool serve_reapable(const struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->stream_count; i++)
        if (j->stream[i].reap)
            return true;
    return false;
}

void serve_reap(struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        struct client_stream *s = &j->stream[i];
        if (!s->reap)
            continue;
        s->reap = false;
        if (s->in) {
            carry_rest(s->carry); /* if the worker sends it again, it is still compared */
            continue;
        }
        carry_free(s->carry);
        s->carry = NULL;
    }
    if (j->stream_why.code)
        client_job_fail(j, &j->stream_why);
    client_job_settle(j);
}

void serve_close(struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->stream_count; i++) {
        carry_free(j->stream[i].carry);
        if (j->stream[i].lines)
            lines_clear(j->stream[i].lines);
        fd_close(&j->stream[i].lines_to);
        free(j->stream[i].lines);
    }
    free(j->stream);
    j->stream = NULL;
    j->stream_count = j->stream_room = 0;
    fd_close(&j->kept.copy);
    j->kept = (struct stdin_copy){.copy = -1};
}
