/* See local.h. */
#include "worker/local.h"

#include "base/fds.h"
#include "worker/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RELAY_BYTES  (256u << 10) /* read at once, and the size asked for its pipe */
#define RELAY_NARROW (256u << 10) /* so many bytes pass before its pipe is made so large */

struct local_route {
    struct given given;
    bool file;   /* programs write to this file themselves, from offset `from` on */
    off_t from;  /* for stdin: the offset where reading began */
    off_t stood; /* the offset that it had; for a file that is appended to this need not be its end */
};

/* A relay: passes the bytes of programs on to a descriptor of the client's. */
struct relay {
    struct relay *next;
    struct attempt *t;
    struct attempt_route *route;
    struct local_route *l;
    int from, write; /* our pipe; `write` stays open until all programs have started, so that it has no end before */
    int to;          /* an open file of our own, if possible, so that nobody's terminal becomes non-blocking */
    int old;         /* for a file: reads what was written before; -1 */
    off_t old_bytes, old_seen;
    bool socket, fifo;
    uint64_t narrow; /* for a fifo: bytes that pass before our pipe is made larger */
    struct loop_fd in, out;
    char *bytes;
    size_t at, size; /* the bytes that wait for room */
    void (*passed)(void *owner, bool left);
    void *owner;
};

struct local {
    uint64_t job;
    uint32_t route_count;
    bool counts, again;
    const char *why_not; /* why it may not begin again; NULL: it may */
    struct relay *relays;
    struct local_route route[];
};

static bool is_dev_null(const struct stat *s)
{
    return S_ISCHR(s->st_mode) && s->st_rdev == makedev(1, 3);
}

static struct local_route *route_in(const struct attempt *t, const struct attempt_route *route)
{
    return &t->local->route[route - t->route];
}

/* ---- the begin */

/* The descriptor of a route that brings stdin; -1: it brings something else. */
static int stdin_of(const struct attempt *t, const struct attempt_route *route, struct stat *s)
{
    const struct graph *g = t->graph;
    const struct graph_node *n = route->r.what == MSG_EDGE ? &g->node[g->edge[route->r.index].from] : NULL;
    bool reads = false;
    for (uint32_t i = 0; n && n->kind == GRAPH_SOURCE && i < n->segment_count; i++)
        reads |= n->segment[i].kind == GRAPH_SEGMENT_STDIN;
    return reads && route->r.fd >= 0 && fstat(route->r.fd, s) == 0 ? route->r.fd : -1;
}

static int seek_inputs(struct attempt *t, bool first, struct err *e)
{
    struct stat s;
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct local_route *l = &t->local->route[i];
        int fd = stdin_of(t, &t->route[i], &s);
        if (fd < 0 || !S_ISREG(s.st_mode))
            continue;
        if (first)
            l->from = lseek(fd, 0, SEEK_CUR);
        else if (lseek(fd, l->from, SEEK_SET) < 0)
            return err_sys(e, "cannot read stdin again");
    }
    return 0;
}

int local_begin(struct attempt *t, struct err *e)
{
    if (agent_data(t->agent) || t->elsewhere)
        return 0;
    t->local = agent_take_local(t->agent, t->job);
    if (t->local && t->local->route_count != t->route_count)
        return err_set(e, ERR_BUG, "job %llu began anew as another", (unsigned long long)t->job);
    bool first = !t->local;
    if (first && t->number > 1)
        return err_set(e, ERR_LIMIT, "too many jobs began anew: what this one had given away is forgotten");
    if (first) {
        t->local = calloc(1, sizeof *t->local + t->route_count * sizeof t->local->route[0]);
        if (!t->local)
            return err_nomem(e);
        t->local->job = t->job;
        t->local->route_count = t->route_count;
    }
    t->local->again = false;
    for (uint32_t i = 0; i < t->route_count; i++)
        if (given_begin(&t->local->route[i].given, e) < 0)
            return -1;
    return seek_inputs(t, first, e);
}

/* Why it may not begin again, as a phrase; NULL: it may. */
static const char *find_why_not(const struct attempt *t)
{
    const struct graph *g = t->graph;
    struct stat s;
    for (uint32_t i = 0; i < t->route_count; i++) {
        const struct attempt_route *route = &t->route[i];
        bool sink = route->r.what == MSG_EDGE && g->node[g->edge[route->r.index].to].kind == GRAPH_SINK;
        int fd = stdin_of(t, route, &s);
        if (fd >= 0 && !S_ISREG(s.st_mode) && !is_dev_null(&s))
            return "its stdin is no file and cannot be read again; `< FILE` can";
        fd = sink ? route->r.fd : -1;
        if (fd >= 0 && fstat(fd, &s) == 0 && S_ISCHR(s.st_mode) && !is_dev_null(&s) && !isatty(fd))
            return "it prints to a device";
    }
    for (uint32_t i = 0; i < g->file_count; i++)
        if (g->file[i].mode && !S_ISREG(g->file[i].mode) && !S_ISDIR(g->file[i].mode) && !graph_is_link(&g->file[i]))
            return "one of its inputs is no file and cannot be read again";
    return NULL;
}

void local_decide(struct attempt *t)
{
    if (!t->local || t->number > 1)
        return;
    t->local->why_not = find_why_not(t);
    t->local->counts = !t->local->why_not;
}

/* ---- relays */

static void relay_end(struct relay *r, bool left)
{
    if (r->from < 0)
        return;
    loop_fd_stop(agent_loop(r->t->agent), &r->in);
    loop_fd_stop(agent_loop(r->t->agent), &r->out);
    fd_close(&r->from);
    fd_close(&r->write);
    fd_close(&r->to);
    fd_close(&r->old);
    free(r->bytes);
    r->bytes = NULL;
    r->t->moving--;
    if (r->passed)
        r->passed(r->owner, left);
}

static const struct err *relay_names(const struct relay *r, struct err *e)
{
    const struct graph *g = r->t->graph;
    uint32_t node = r->route->r.what == MSG_EDGE ? g->edge[r->route->r.index].from : r->route->r.index;
    err_wrap(e, "what `%.200s` writes", g->node[node].label);
    return e;
}

/* Compare bytes with what is in the file already, and drop them. */
static int drop_old(struct relay *r, struct slice *bytes, struct err *e)
{
    static char was[RELAY_BYTES]; /* static, because there is only one thread */
    off_t left = r->old_bytes - r->old_seen;
    size_t size = (off_t)bytes->size < left ? bytes->size : (size_t)left;
    if (!size)
        return 0;
    if (pread(r->old, was, size, r->l->from + r->old_seen) != (ssize_t)size || memcmp(was, bytes->data, size))
        return err_set(e, ERR_BUG, "what it wrote the second time is not what the file has already: " GIVEN_DIFFERS);
    r->old_seen += (off_t)size;
    *bytes = (struct slice){(const char *)bytes->data + size, bytes->size - size};
    return 0;
}

static int is_short(const struct relay *r, struct err *e)
{
    return r->old_seen < r->old_bytes ? err_set(e, ERR_BUG, "the second time it wrote less: " GIVEN_DIFFERS) : 0;
}

/* Write what waits, as far as there is room; 1: not all of it was written. */
static int relay_write(struct relay *r, struct err *e)
{
    while (r->size) {
        ssize_t n = r->socket ? send(r->to, r->bytes + r->at, r->size, MSG_DONTWAIT | MSG_NOSIGNAL)
                              : fd_write_quietly(r->to, r->bytes + r->at, r->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 1;
        if (n < 0)
            return err_sys(e, "cannot write the output");
        if (r->old < 0 && given_add(&r->l->given, r->bytes + r->at, (size_t)n, e) < 0)
            return -1; /* for a file, its end tells */
        r->at += (size_t)n;
        r->size -= (size_t)n;
    }
    return 0;
}

/* How much may be read now?  Whoever writes to the reader's pipe itself is held up when that is full, and gets SIGPIPE when the reader
 * leaves before it has taken what is beyond.  So nothing is read for which the pipe has no room, and our own pipe, which is on the way
 * as well, is a page, until so much has passed that its speed matters. */
static size_t relay_room(struct relay *r)
{
    struct pollfd p = {.fd = r->to, .events = POLLOUT};
    int there, size = r->fifo ? fcntl(r->to, F_GETPIPE_SZ) : -1;
    if (size < 0 || poll(&p, 1, 0) < 0 || (p.revents & POLLERR) || ioctl(r->to, FIONREAD, &there) < 0)
        return RELAY_BYTES; /* a write will tell */
    size_t room = !p.revents ? 0 : there <= size - PIPE_BUF ? (size_t)(size - there) : PIPE_BUF; /* what others spliced may count for more */
    return room < RELAY_BYTES ? room : RELAY_BYTES;
}

static void relay_widen(struct relay *r, size_t passed)
{
    if (r->narrow > passed) {
        r->narrow -= passed;
    } else if (r->narrow) {
        r->narrow = 0;
        fcntl(r->from, F_SETPIPE_SZ, RELAY_BYTES); /* as large as is allowed */
    }
}

static void relay_go_on(struct relay *r)
{
    struct loop *loop = agent_loop(r->t->agent);
    struct err e;
    int more = relay_write(r, &e);
    loop_fd_stop(loop, &r->in);
    loop_fd_stop(loop, &r->out);
    if (more == 0) {
        loop_fd_start(loop, &r->in, r->from, LOOP_READ);
    } else if (more > 0) {
        loop_fd_start(loop, &r->out, r->to, LOOP_WRITE);
    } else if (e.sys == EPIPE || e.sys == ECONNRESET) { /* the reader has left, so the relay leaves, too */
        relay_end(r, true);
        attempt_settle(r->t);
    } else {
        attempt_fail(r->t, relay_names(r, &e));
    }
}

static void relay_out(struct loop_fd *w, int events)
{
    (void)events;
    relay_go_on(w->owner);
}

static void relay_in(struct loop_fd *w, int events)
{
    (void)events;
    struct relay *r = w->owner;
    struct err e;
    size_t room = relay_room(r);
    if (!room) {
        loop_fd_stop(agent_loop(r->t->agent), &r->in);
        loop_fd_start(agent_loop(r->t->agent), &r->out, r->to, LOOP_WRITE);
        return;
    }
    ssize_t n = read(r->from, r->bytes, room);
    if ((n < 0 && (errno == EAGAIN || errno == EINTR)) || agent_box_gone(r->t->agent))
        return; /* a program that lost its sandbox may write anything; we will be told of the loss soon */
    struct slice s = {r->bytes, n > 0 ? (size_t)n : 0};
    int bad = n < 0 ? err_sys(&e, "cannot read a pipe") : 0;
    if (n == 0 && (given_end(&r->l->given, &e) < 0 || is_short(r, &e) < 0))
        attempt_doubt(r->t, relay_names(r, &e));
    if (n > 0 && (drop_old(r, &s, &e) < 0 || given_drop(&r->l->given, &s, &e) < 0))
        bad = -1;
    if (bad && r->t->state == ATTEMPT_RUNNING) {
        attempt_fail(r->t, relay_names(r, &e));
    } else if (n <= 0 || bad) {
        relay_end(r, false);
        attempt_settle(r->t);
    } else {
        r->at = (size_t)((const char *)s.data - r->bytes);
        r->size = s.size;
        relay_widen(r, (size_t)n);
        relay_go_on(r);
    }
}

/* Open it anew, as an open file of our own. */
static int open_own(int fd, const struct stat *s, int how)
{
    if (how == O_WRONLY && (S_ISREG(s->st_mode) || S_ISSOCK(s->st_mode)))
        return fcntl(fd, F_DUPFD_CLOEXEC, 3); /* it shares its owner's offset, or cannot be opened anew */
    return fd_reopen(fd, how | O_NONBLOCK | O_NOCTTY);
}

static struct relay *relay_new(struct attempt *t, struct attempt_route *route, int to, const struct stat *s,
                               struct err *e)
{
    int pair[2] = {-1, -1};
    struct relay *r = arena_alloc(&t->arena, sizeof *r);
    char *bytes = malloc(RELAY_BYTES);
    if (!r || !bytes || pipe2(pair, O_CLOEXEC) < 0) {
        int sys = errno;
        free(bytes);
        close(to);
        errno = sys;
        err_sys(e, "cannot make a pipe");
        return NULL;
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    bool fifo = S_ISFIFO(s->st_mode);
    fcntl(pair[0], F_SETPIPE_SZ, fifo ? 1 : RELAY_BYTES); /* a page, or as large as is allowed */
    *r = (struct relay){.next = t->local->relays, .t = t, .route = route, .l = route_in(t, route), .from = pair[0],
                        .write = pair[1], .to = to, .old = -1, .socket = S_ISSOCK(s->st_mode), .fifo = fifo,
                        .narrow = fifo ? RELAY_NARROW : 0, .bytes = bytes};
    r->in = (struct loop_fd){.run = relay_in, .owner = r};
    r->out = (struct loop_fd){.run = relay_out, .owner = r};
    t->local->relays = r;
    t->moving++;
    loop_fd_start(agent_loop(t->agent), &r->in, r->from, LOOP_READ);
    return r;
}

/* ---- sinks */

/* Is it the only output of the job that goes to this file? */
static bool is_alone(const struct attempt *t, const struct attempt_route *route, const struct stat *s)
{
    for (uint32_t i = 0; i < t->route_count; i++) {
        const struct msg_route *r = &t->route[i].r;
        struct stat other;
        bool gives = r->what == MSG_STDERR || (r->what == MSG_EDGE && t->graph->node[t->graph->edge[r->index].to].kind == GRAPH_SINK);
        if (&t->route[i] != route && gives && r->fd >= 0 && fstat(r->fd, &other) == 0 && other.st_ino == s->st_ino &&
            other.st_dev == s->st_dev)
            return false;
    }
    return true;
}

/* How many bytes programs of earlier attempts have written to a file. */
static off_t written(const struct local_route *l, int fd)
{
    off_t now = lseek(fd, 0, SEEK_CUR);
    return now == l->stood || now < l->from ? 0 : now - l->from;
}

static void note_file(const struct attempt *t, struct attempt_route *route, const struct stat *s)
{
    struct local_route *l = route_in(t, route);
    l->file = is_alone(t, route, s);
    l->stood = lseek(route->r.fd, 0, SEEK_CUR);
    l->from = fcntl(route->r.fd, F_GETFL) & O_APPEND ? s->st_size : l->stood;
}

static struct relay *relay_of(const struct attempt *t, const struct attempt_route *route)
{
    struct relay *r = t->local->relays;
    while (r && (r->route != route || r->from < 0))
        r = r->next;
    return r;
}

static int new_relay(struct attempt *t, struct attempt_route *route, const struct stat *s, off_t old, struct err *e)
{
    int from = old ? open_own(route->r.fd, s, O_RDONLY) : -1;
    int to = open_own(route->r.fd, s, O_WRONLY);
    if (to < 0 || (old && from < 0)) {
        t->local->counts = false;
        t->local->why_not = "its output cannot be opened a second time";
        fd_close(&to);
        fd_close(&from);
        return old ? err_set(e, ERR_INPUT, "what was written to a file cannot be looked at") : 0;
    }
    struct relay *r = relay_new(t, route, to, s, e);
    if (r) {
        r->old = from;
        r->old_bytes = old;
    } else {
        fd_close(&from);
    }
    return r ? 0 : -1;
}

/* One more writing end of its pipe. */
static int relay_writer(const struct relay *r, struct err *e)
{
    int fd = fd_reopen(r->from, O_WRONLY);
    return fd < 0 ? err_sys(e, "cannot open a pipe again") : fd;
}

int local_sink(struct attempt *t, struct attempt_route *route, int *fd, int *own, struct err *e)
{
    struct stat s;
    off_t old = 0;
    *fd = route ? route->r.fd : -1;
    *own = -1;
    if (*fd < 0 || !t->local || !t->local->counts || fstat(*fd, &s) < 0 || (S_ISCHR(s.st_mode) && !isatty(*fd)))
        return 0;
    struct local_route *l = route_in(t, route);
    if (S_ISREG(s.st_mode) && t->number == 1)
        note_file(t, route, &s);
    if (l->file && !(old = written(l, *fd)))
        return 0;
    if (!relay_of(t, route) && new_relay(t, route, &s, old, e) < 0)
        return -1;
    struct relay *r = relay_of(t, route);
    if (r && (*own = *fd = relay_writer(r, e)) < 0)
        return -1;
    if (r && t->started)
        fd_close(&r->write);
    return 0;
}

bool local_when_passed(struct attempt *t, const struct attempt_route *route, void (*passed)(void *owner, bool left), void *owner)
{
    struct relay *r = t->local && route ? relay_of(t, route) : NULL;
    if (r) {
        r->passed = passed;
        r->owner = owner;
    }
    return r;
}

void local_started(struct attempt *t)
{
    for (struct relay *r = t->local ? t->local->relays : NULL; r; r = r->next)
        fd_close(&r->write);
}

struct given *local_given(struct attempt *t, const struct attempt_route *route)
{
    return t->local && t->local->counts && route ? &route_in(t, route)->given : NULL;
}

/* ---- the end */

void local_lost(struct attempt *t, struct err *why)
{
    struct err was = *why;
    if (!t->local)
        return;
    t->local->again = t->local->counts;
    if (!t->local->again && t->local->why_not)
        err_set(why, ERR_INPUT, "%.600s, and is not run again: %s", was.text, t->local->why_not);
}

bool local_again(const struct attempt *t)
{
    return t->local && t->local->again;
}

void local_stop(struct attempt *t)
{
    for (struct relay *r = t->local ? t->local->relays : NULL; r; r = r->next) {
        r->passed = NULL; /* whoever waits for it is stopped, too */
        relay_end(r, false);
    }
    if (t->local)
        t->local->relays = NULL; /* they are in the attempt's arena */
}

uint64_t local_job(const struct local *l)
{
    return l->job;
}

void local_free(struct local *l)
{
    for (uint32_t i = 0; l && i < l->route_count; i++)
        given_clear(&l->route[i].given);
    free(l);
}
