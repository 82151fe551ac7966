/* The files that a stage left in /job.  Those that the job keeps are sent to the client as one stream, by a route of the
 * attempt or, in the client's own process, by a descriptor; the others are reported by name. */
#include "worker/attempt.h"
#include "worker/local.h"

#include "base/fds.h"
#include "base/spool.h"
#include "proto/made.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES_PER_TURN (256u << 10)
#define DROPPED_NAMES       8 /* files that are reported by name */

/* Copies a stage's files to a descriptor of this process (embedded mode). */
struct attempt_copy {
    struct attempt_copy *next;
    struct attempt *t;
    int *from; /* owned, to be copied one after the other; -1: closed */
    uint32_t count, at;
    off_t offset; /* in from[at] */
    struct given *given;
    int to;       /* owned: a duplicate, a socket */
    struct loop_fd watch;
};

static void close_all(int *fd, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        fd_close(&fd[i]);
}

static void copy_end(struct attempt_copy *c)
{
    loop_fd_stop(agent_loop(c->t->agent), &c->watch);
    close_all(c->from, c->count);
    fd_close(&c->to);
    c->t->moving--;
}

static void copy_more(struct loop_fd *w, int events)
{
    (void)events;
    struct attempt_copy *c = w->owner;
    struct attempt *t = c->t;
    struct err e;
    static char bytes[COPY_BYTES_PER_TURN]; /* static, because there is only one thread */
    ssize_t n = pread(c->from[c->at], bytes, sizeof bytes, c->offset), sent = n;
    struct slice s = {bytes, n > 0 ? (size_t)n : 0};
    int bad = n > 0 && c->given ? given_drop(c->given, &s, &e) : 0;
    if (!bad && s.size)
        sent = send(c->to, s.data, s.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (!bad && sent > 0 && s.size && c->given)
        bad = given_add(c->given, s.data, (size_t)sent, &e);
    if (bad) {
        copy_end(c);
        attempt_fail(t, &e);
        return;
    }
    c->offset += n > 0 ? n - (ssize_t)s.size : 0; /* bytes that were dropped count, too */
    c->offset += sent > 0 && s.size ? sent : 0;
    n = sent;
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    c->offset = 0;
    if (n == 0 && ++c->at < c->count)
        return;
    int why = n < 0 ? errno : 0;
    copy_end(c);
    if (why && why != EPIPE) { /* the client has its own reason if it reads no more */
        errno = why;
        err_sys(&e, "cannot hand over the files of a stage");
        attempt_fail(t, &e);
        return;
    }
    attempt_settle(t);
}

static int copy_start(struct attempt *t, int *from, uint32_t count, struct attempt_route *route, struct err *e)
{
    struct attempt_copy *c = arena_alloc(&t->arena, sizeof *c);
    if (!c)
        return err_nomem(e);
    *c = (struct attempt_copy){.next = t->copies, .t = t, .from = from, .count = count};
    c->given = local_given(t, route);
    c->to = fcntl(route->r.fd, F_DUPFD_CLOEXEC, 3);
    if (c->to < 0)
        return err_sys(e, "cannot duplicate a descriptor");
    c->watch.run = copy_more;
    c->watch.owner = c;
    t->copies = c;
    t->moving++;
    loop_fd_start(agent_loop(t->agent), &c->watch, c->to, LOOP_WRITE);
    return 0;
}

/* Make the index of proto/made.h, as a file. */
static int index_of(struct attempt *t, const struct box_result *r, uint32_t count, struct err *e)
{
    struct buf index = BUF_INIT(MADE_PREFIX + MADE_INDEX_MAX);
    struct made_file *file = arena_array(&t->arena, count, sizeof *file);
    struct stat s;
    int fd = -1;
    count = 0;
    for (uint32_t i = 0; file && i < r->made_count; i++) {
        const struct box_made *f = &r->made[i];
        if (f->fd < 0 || fstat(f->fd, &s) < 0)
            continue;
        file[count++] = (struct made_file){f->name, f->mode & 0777, (uint64_t)s.st_size};
    }
    if (!file)
        err_nomem(e);
    else if (made_pack(file, count, &index, e) == 0)
        fd = spool_of((struct slice){index.data, index.size}, e);
    buf_clear(&index);
    return fd;
}

/* Send what the stage left to the client, as one stream.  Takes the `count` descriptors. */
static int send_made(struct attempt *t, uint32_t node, const struct box_result *r, uint32_t count,
                     struct err *e)
{
    struct attempt_route *route = attempt_route_of(t, MSG_OUTPUT, node, GRAPH_NONE);
    bool here = route && route->r.via == MSG_VIA_FD;
    uint32_t files = 0;
    if (here && !count)
        return 0;
    int *fd = arena_array(&t->arena, (size_t)count + 1, sizeof *fd);
    for (uint32_t i = 0; i < r->made_count; i++) {
        if (fd && r->made[i].fd >= 0)
            fd[++files] = r->made[i].fd;
        else if (r->made[i].fd >= 0)
            close(r->made[i].fd);
    }
    if (!fd)
        return err_nomem(e);
    fd[0] = count ? index_of(t, r, count, e) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd[0] < 0 && !count)
        err_sys(e, "cannot open '/dev/null'");
    if (!route || route->carry)
        err_set(e, ERR_PROTO, "the files of a stage have no route");
    else if (fd[0] >= 0 && !here)
        return attempt_carry_files(t, route, fd, files + 1, e);
    else if (fd[0] >= 0 && copy_start(t, fd, files + 1, route, e) == 0)
        return 0;
    close_all(fd, files + 1);
    return -1;
}

static int by_made_name(const void *a, const void *b)
{
    return strcmp((*(const struct box_made *const *)a)->name, (*(const struct box_made *const *)b)->name);
}

/* May the name, which a program chose, be shown as part of a command? */
static bool is_plain(const char *name)
{
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") == strlen(name);
}

/* What a stage left, of one kind; sorted. */
struct left {
    const struct box_made **made;
    uint32_t count;
};

static struct left left_of(struct arena *a, const struct box_result *r, unsigned kinds, bool kept)
{
    struct left l = {arena_array(a, (size_t)r->made_count + 1, sizeof *l.made), 0};
    for (uint32_t i = 0; l.made && i < r->made_count; i++)
        if ((kinds >> r->made[i].kind & 1) && (r->made[i].fd >= 0) == kept)
            l.made[l.count++] = &r->made[i];
    if (l.count)
        qsort(l.made, l.count, sizeof *l.made, by_made_name);
    return l;
}

/* "`LABEL` left `a`, `b` and more" */
static void tell_names(struct buf *text, const struct graph_node *n, const char *verb, const struct left *l)
{
    char name[ERR_NAME_MAX];
    buf_printf(text, "%s`%.200s` %s ", text->size ? "\n" : "", n->label, verb);
    for (uint32_t i = 0; i < l->count && i < DROPPED_NAMES; i++)
        buf_printf(text, "%s`%s`", i ? ", " : "", err_name(l->made[i]->name, name));
    buf_text(text, l->count > DROPPED_NAMES ? " and more" : "");
}

static void tell_dropped_files(const struct left *l, const struct graph *g, const struct graph_node *n, struct buf *text)
{
    const char *it = l->count > 1 ? "them" : "it";
    const struct graph_node *author = n->parent == GRAPH_NONE ? NULL : &g->node[n->parent];
    tell_names(text, n, "left", l);
    if (!author)
        buf_printf(text, ", dropped because no word of the stage names %s; `with out='%s' { ... }` around it keeps %s", it,
                   l->count > 1 || !is_plain(l->made[0]->name) ? "PATTERN" : l->made[0]->name, it);
    else
        buf_printf(text, ", dropped as are all files of such tasks; a name with a hole in it%s keeps one per task",
                   author->kind == GRAPH_REDUCE ? ", as in `> {#}.out`,"
                   : author->per_file           ? ", as in `> {/}.out`,"
                                                : " and `map per file`, as in `map per file { ... > {/}.out }`,");
}

/* Sentences about what is not as sh would leave it: for one name, for several, and what to do. */
static const struct {
    enum box_made_kind kind;
    bool kept;
    const char *before[2], *behind[2];
} differs[] = {
    {BOX_MADE_LINK, true, {"made the link", "made the links"}, {"kept as a file of its own", "kept as files of their own"}},
    {BOX_MADE_NOWHERE, false, {"left the link", "left the links"},
     {"dropped: it leads to no file of the stage's; make it outside of zpipe",
      "dropped: they lead to no file of the stage's; make them outside of zpipe"}},
    {BOX_MADE_DIRECTORY, false, {"left the empty directory", "left the empty directories"},
     {"dropped: a job makes files; make it outside of zpipe", "dropped: a job makes files; make them outside of zpipe"}},
    {BOX_MADE_SPECIAL, false, {"left the fifo or socket", "left the fifos or sockets"},
     {"dropped: a job makes files; make it outside of zpipe", "dropped: a job makes files; make them outside of zpipe"}},
    {BOX_MADE_GONE, false, {"removed or renamed", "removed or renamed"},
     {"which is still there: a job takes nothing away; remove it outside of zpipe",
      "which are still there: a job takes nothing away; remove them outside of zpipe"}},
};

void attempt_tell_dropped(struct arena *a, const struct graph *g, const struct graph_node *n,
                          const struct box_result *r, struct buf *text)
{
    struct left l = left_of(a, r, 1 << BOX_MADE_FILE | 1 << BOX_MADE_LINK, false);
    if (l.count)
        tell_dropped_files(&l, g, n, text);
    for (size_t i = 0; i < sizeof differs / sizeof *differs; i++) {
        l = left_of(a, r, 1u << differs[i].kind, differs[i].kept);
        if (!l.count)
            continue;
        tell_names(text, n, differs[i].before[l.count > 1], &l);
        buf_printf(text, ", %s", differs[i].behind[l.count > 1]);
    }
}

void attempt_take_made(struct attempt *t, uint32_t node, const struct box_result *r, struct buf *text)
{
    const struct graph_node *n = &t->graph->node[node];
    struct err e;
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < r->made_count; i++)
        wanted += r->made[i].fd >= 0;
    attempt_tell_dropped(&t->arena, t->graph, n, r, text);
    bool sends = n->kind != GRAPH_MAP && n->kind != GRAPH_REDUCE && graph_makes(n) && t->state != ATTEMPT_STOPPING;
    for (uint32_t i = 0; i < r->made_count && !sends; i++)
        if (r->made[i].fd >= 0)
            close(r->made[i].fd);
    if (sends && send_made(t, node, r, wanted, &e) < 0)
        attempt_fail(t, &e);
}

void attempt_drop_made(struct attempt *t)
{
    for (struct attempt_copy *c = t->copies; c; c = c->next)
        if (c->to >= 0)
            copy_end(c);
}
