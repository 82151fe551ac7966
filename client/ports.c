/* See client.h.  Gives every source of stdin and every sink of a job's graph a descriptor of this process.  A worker in the
 * same process uses the descriptor itself; for a worker elsewhere serve.c carries the bytes.  So no other file needs to
 * know where a job runs. */
#include "client/client.h"

#include "base/fds.h"
#include "base/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define GIVE_BYTES 65536

static void give(struct loop_fd *w, int events)
{
    (void)events;
    struct sink_pipe *s = w->owner;
    struct zpipe_job *j = s->job;
    char bytes[GIVE_BYTES];
    ssize_t n = read(s->read, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        s->give(j->io.owner, bytes, (size_t)n);
        return;
    }
    loop_fd_stop(j->z->loop, w);
    fd_close(&s->read);
    s->open = false;
    client_job_settle(j);
}

static int open_sink(struct zpipe_job *j, struct sink_pipe *s, int fd,
                     void (*function)(void *, const void *, size_t), int *out, struct err *e)
{
    *s = (struct sink_pipe){.read = -1, .write = -1, .give = function, .job = j};
    *out = fd;
    if (fd >= 0 || !function)
        return 0;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, "cannot make a pipe");
    s->read = ends[0];
    s->write = *out = ends[1];
    fcntl(s->read, F_SETFL, O_NONBLOCK);
    s->watch.run = give;
    s->watch.owner = s;
    s->open = true;
    loop_fd_start(j->z->loop, &s->watch, s->read, LOOP_READ);
    return 0;
}

static int open_feed(struct zpipe_job *j, int *out, struct err *e)
{
    int ends[2];
    *out = j->io.stdin_fd;
    if (*out >= 0 || !j->io.feed)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) /* a socket: send() raises no SIGPIPE */
        return err_sys(e, "cannot make a socket pair");
    j->feed_read = *out = ends[0];
    j->feed_write = ends[1];
    return 0;
}

bool ports_read_stdin(const struct graph_node *n)
{
    for (uint32_t i = 0; i < n->segment_count; i++)
        if (n->segment[i].kind == GRAPH_SEGMENT_STDIN)
            return true;
    return false;
}

static bool made_in_job(const struct graph *g, uint32_t sink)
{
    for (uint32_t i = 0; i < g->node_count; i++)
        for (uint32_t k = 0; k < g->node[i].output_count; k++)
            if (g->node[i].output[k].sink == sink)
                return true;
    return false;
}

/* A named pipeline that is only there for a `check` prints into an unnamed file. */
static int open_checks(struct zpipe_job *j, struct err *e)
{
    const struct graph *g = j->whole;
    j->check = calloc((size_t)g->expect_count + 1, sizeof *j->check);
    if (!j->check)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->expect_count; i++)
        j->check[i] = (struct check){g->expect[i].node, -1};
    for (uint32_t i = 0; i < g->expect_count; i++)
        if (g->node[g->expect[i].node].sink == GRAPH_SINK_NULL && (j->check[i].fd = spool_open(e)) < 0)
            return -1;
    return 0;
}

/* Open the unnamed files in which named pipelines pass bytes to a later phase. */
static int open_passed(struct zpipe_job *j, struct err *e)
{
    const struct graph *g = j->whole;
    j->passed = calloc((size_t)g->file_count + 1, sizeof *j->passed);
    if (!j->passed)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->file_count; i++) {
        if (!g->file[i].passed)
            continue;
        struct passed *p = &j->passed[j->passed_count++];
        *p = (struct passed){g->file[i].passed - 1, spool_open(e)};
        if (p->fd < 0)
            return -1;
    }
    return 0;
}

int ports_passed(const struct zpipe_job *j, uint32_t node)
{
    for (uint32_t i = 0; i < j->passed_count; i++)
        if (j->passed[i].node == node)
            return j->passed[i].fd;
    return -1;
}

static int open_outputs(struct zpipe_job *j, struct err *e)
{
    const struct graph *g = j->whole;
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        if (n->kind != GRAPH_SINK || (n->sink != GRAPH_SINK_FILE && n->sink != GRAPH_SINK_APPEND))
            continue;
        if (graph_is_task_sink(n)) {
            if (tasks_check_outputs(j, i, e) < 0)
                return -1;
            continue;
        }
        struct output *o = output_add(j, i, n->path, e);
        if (!o)
            return -1;
        o->append = n->sink == GRAPH_SINK_APPEND;
        o->made_in_job = made_in_job(g, i);
        o->made = !o->made_in_job;
    }
    return 0;
}

int ports_open(struct zpipe_job *j, struct err *e)
{
    uint32_t nodes = j->whole->node_count;
    j->port = calloc(2 * (size_t)nodes + 1, sizeof *j->port);
    j->end = calloc((size_t)nodes + 1, sizeof *j->end);
    j->said = calloc((size_t)nodes + 1, sizeof *j->said);
    j->told = calloc((size_t)nodes + 1, sizeof *j->told);
    if (!j->port || !j->end || !j->said || !j->told)
        return err_nomem(e);
    if (open_feed(j, &j->in_fd, e) < 0 ||
        open_sink(j, &j->out, j->io.stdout_fd, j->io.on_stdout, &j->out_fd, e) < 0 ||
        open_sink(j, &j->err, j->io.stderr_fd, j->io.on_stderr, &j->err_fd, e) < 0)
        return -1;
    return open_checks(j, e) < 0 || open_passed(j, e) < 0 || open_outputs(j, e) < 0 ? -1 : 0;
}

static int sink_fd(const struct zpipe_job *j, uint32_t node)
{
    switch (j->graph->node[node].sink) {
    case GRAPH_SINK_STDOUT:
        return j->out_fd;
    case GRAPH_SINK_STDERR:
        return j->err_fd;
    case GRAPH_SINK_NULL:
        for (uint32_t i = 0; i < j->whole->expect_count; i++)
            if (j->check[i].node == node)
                return j->check[i].fd;
        return ports_passed(j, node);
    default:
        for (uint32_t i = 0; i < j->output_count; i++)
            if (j->output[i].node == node)
                return j->output[i].fd;
        return -1;
    }
}

int ports_begin(struct zpipe_job *j, struct err *e)
{
    const struct graph *g = j->graph;
    j->port_count = 0;
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        if (n->parent != GRAPH_NONE)
            continue; /* a node of a map's body: each task has its own */
        if (n->kind == GRAPH_SOURCE)
            j->port[j->port_count++] = (struct port){i, ports_read_stdin(n) ? j->in_fd : -1};
        else if (n->kind == GRAPH_SINK)
            j->port[j->port_count++] = (struct port){i, sink_fd(j, i)};
    }
    j->port[j->port_count++] = (struct port){GRAPH_NONE, j->err_fd};
    return made_open(j, e);
}

int port_of(const struct zpipe_job *j, uint32_t node)
{
    for (uint32_t i = 0; i < j->port_count; i++)
        if (j->port[i].node == node)
            return j->port[i].fd;
    return -1;
}

void ports_release(struct zpipe_job *j)
{
    fd_close(&j->out.write);
    fd_close(&j->err.write);
    fd_close(&j->feed_read);
    made_release(j);
}

bool ports_drained(const struct zpipe_job *j)
{
    bool last = j->phase + 1 == j->phases;
    return made_drained(j) && !(last && (j->out.open || j->err.open));
}

void ports_close(struct zpipe_job *j)
{
    ports_release(j);
    made_close(j);
    struct sink_pipe *const sinks[] = {&j->out, &j->err};
    for (int i = 0; i < 2; i++) {
        if (sinks[i]->open)
            loop_fd_stop(j->z->loop, &sinks[i]->watch);
        sinks[i]->open = false;
        fd_close(&sinks[i]->read);
    }
    fd_close(&j->feed_write);
    for (uint32_t i = 0; j->check && i < j->whole->expect_count; i++)
        fd_close(&j->check[i].fd);
    for (uint32_t i = 0; i < j->passed_count; i++)
        fd_close(&j->passed[i].fd);
}

ptrdiff_t zpipe_feed(struct zpipe_job *j, const void *data, size_t size, struct zpipe_error *error)
{
    struct err e;
    if (j->feed_write < 0) {
        err_set(&e, ERR_INPUT, "this job is not fed: set io.feed and stdin_fd -1");
        return client_error(error, &e);
    }
    ssize_t n = send(j->feed_write, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    err_sys(&e, "the job wants no more input");
    return client_error(error, &e);
}

void zpipe_feed_end(struct zpipe_job *j)
{
    fd_close(&j->feed_write);
}
