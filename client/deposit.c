/* zpipe_deposit: submits a job to a keeper, with all its inputs except those on directories that the keeper shares with us.
 * The text is parsed here, where its names and globs mean something; the keeper gets the graph. */
#include "client/visit.h"

#include "base/fds.h"
#include "base/spool.h"
#include "proto/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct deposit {
    struct visit visit;
    struct zpipe *z;
    struct graph *graph;
    char *directory;
    int in;              /* owned: a copy of all of stdin, or -1 */
    uint64_t in_bytes;
    struct buf record;   /* including its prefix */
    uint32_t *carried, carried_count;
    struct stream_sender *sender;
    uint32_t at;         /* what is sent now.  0: the record; then the carried files; then stdin */
    int fd;              /* the file that is sent now */
    uint64_t left_bytes; /* how much of it is left */
};

/* ---- what cannot be submitted */

static bool goes_up(const char *path)
{
    for (const char *at = path; *at; at += strcspn(at, "/"), at += *at == '/')
        if (!strncmp(at, "..", 2) && (!at[2] || at[2] == '/'))
            return true;
    return false;
}

static int check_node(const struct graph_node *n, struct err *e)
{
    bool file = n->kind == GRAPH_SINK && (n->sink == GRAPH_SINK_FILE || n->sink == GRAPH_SINK_APPEND);
    if (file && n->sink == GRAPH_SINK_APPEND)
        return err_set(e, ERR_UNSUPPORTED,
                       "`>> %.200s` cannot be submitted: whoever takes the output twice would append it twice; write to a file of its "
                       "own with `>`",
                       n->path);
    if (file && (n->path[0] == '/' || goes_up(n->path)))
        return err_set(e, ERR_UNSUPPORTED,
                       "`> %.200s` cannot be submitted: only files below the working directory are kept for whoever attaches", n->path);
    return 0;
}

static int check_file(const struct deposit *d, const struct graph_file *f, struct err *e)
{
    size_t size = strlen(d->directory);
    const char *path = f->path + 1;
    if (f->awaited && !f->passed && (strncmp(path, d->directory, size) || (path[size] != '/' && size > 1)))
        return err_set(e, ERR_UNSUPPORTED,
                       "'%.200s' cannot be read in a submitted job: a statement above makes it, outside of the working directory",
                       path);
    return 0;
}

static int check_graph(const struct deposit *d, struct err *e)
{
    for (uint32_t i = 0; i < d->graph->node_count; i++)
        if (check_node(&d->graph->node[i], e) < 0)
            return -1;
    for (uint32_t i = 0; i < d->graph->file_count; i++)
        if (check_file(d, &d->graph->file[i], e) < 0)
            return -1;
    return 0;
}

/* ---- stdin: read to its end first, for it may be slow, and the keeper must know its size */

static bool reads_stdin(const struct graph *g)
{
    for (uint32_t i = 0; i < g->node_count; i++)
        for (uint32_t k = 0; k < g->node[i].segment_count; k++)
            if (g->node[i].segment[k].kind == GRAPH_SEGMENT_STDIN)
                return true;
    return false;
}

static int read_stdin(struct deposit *d, int from, struct err *e)
{
    static char bytes[1 << 18];
    ssize_t n = 0;
    if (from < 0 || !reads_stdin(d->graph))
        return 0;
    if (isatty(from))
        return err_set(e, ERR_UNSUPPORTED, "a job that reads the terminal cannot be submitted: give it a file or a pipe as stdin");
    d->in = spool_open(e);
    if (d->in < 0)
        return -1;
    do {
        n = read(from, bytes, sizeof bytes);
        if (n > 0 && fd_write_all(d->in, bytes, (size_t)n) < 0)
            return err_sys(e, "cannot keep a copy of stdin");
        d->in_bytes += n > 0 ? (uint64_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0)
        return err_sys(e, "cannot read stdin");
    return lseek(d->in, 0, SEEK_SET) < 0 ? err_sys(e, "cannot read stdin again") : 0;
}

/* ---- the record */

static bool is_carried(const struct deposit *d, const struct graph_file *f)
{
    return S_ISREG(f->mode) && !f->awaited && !kept_shared_size(d->visit.place.shared, f->path);
}

static int make_record(struct deposit *d, const struct zpipe_submission *s, struct err *e)
{
    struct buf graph = BUF_INIT(GRAPH_BYTES_MAX);
    d->carried = calloc((size_t)d->graph->file_count + 1, sizeof *d->carried);
    if (!d->carried)
        return err_nomem(e);
    for (uint32_t i = 0; i < d->graph->file_count; i++)
        if (is_carried(d, &d->graph->file[i]))
            d->carried[d->carried_count++] = i;
    int r = graph_encode(d->graph, &graph, e);
    struct kept_job k = {.text = s->text,
                         .directory = d->directory,
                         .spread = s->spread,
                         .graph = {graph.data, graph.size},
                         .carried = d->carried,
                         .carried_count = d->carried_count,
                         .has_stdin = d->in >= 0,
                         .stdin_bytes = d->in_bytes};
    buf_add(&d->record, "\0\0\0\0", KEPT_PREFIX);
    if (r == 0)
        r = kept_encode(&k, &d->record, e);
    buf_clear(&graph);
    if (r == 0 && d->record.failed)
        r = err_nomem(e);
    if (r < 0)
        return -1;
    uint64_t size = d->record.size - KEPT_PREFIX;
    for (int i = 0; i < KEPT_PREFIX; i++)
        d->record.data[i] = (char)(size >> 8 * i);
    d->left_bytes = d->record.size;
    return 0;
}

/* ---- sending it */

static bool is_same(const struct graph_file *f, int fd)
{
    struct stat s;
    return fstat(fd, &s) == 0 && s.st_ino == f->inode && (uint64_t)s.st_size == f->size_bytes &&
           (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec == f->mtime_ns;
}

static const struct graph_file *file_at(const struct deposit *d)
{
    return d->at >= 1 && d->at <= d->carried_count ? &d->graph->file[d->carried[d->at - 1]] : NULL;
}

/* One part is sent.  Moves on to the next part that has bytes. */
static int next(struct deposit *d, struct err *e)
{
    const struct graph_file *f = file_at(d);
    if (f && !is_same(f, d->fd))
        return err_set(e, ERR_INPUT, "the input '%s' changed while it was submitted", f->path);
    fd_close(&d->fd);
    d->at++;
    f = file_at(d);
    if (f && (d->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0)
        return err_sys(e, "cannot open the input '%s'", f->path);
    d->left_bytes = f ? f->size_bytes : d->at == d->carried_count + 1 ? d->in_bytes : 0;
    return 0;
}

static int send_some(struct deposit *d, size_t most, struct err *e)
{
    static char bytes[MSG_DATA_BYTES];
    size_t size = most < sizeof bytes ? most : sizeof bytes;
    size = d->left_bytes < size ? (size_t)d->left_bytes : size;
    const void *from = bytes;
    if (d->at == 0)
        from = d->record.data + d->record.size - d->left_bytes;
    else if (fd_read_all(d->at <= d->carried_count ? d->fd : d->in, bytes, size) != (ssize_t)size)
        return err_set(e, ERR_INPUT, "the input '%s' became shorter while it was submitted",
                       file_at(d) ? file_at(d)->path : "stdin");
    d->left_bytes -= size;
    return stream_send(d->sender, from, size, e);
}

static void writable(void *owner)
{
    struct deposit *d = owner;
    struct err e;
    int r = 0;
    while (r == 0 && d->at <= d->carried_count + 1) {
        uint64_t window = stream_sender_window(d->sender);
        if (d->left_bytes && !window)
            return;
        r = d->left_bytes ? send_some(d, (size_t)(window < SIZE_MAX ? window : SIZE_MAX), &e) : next(d, &e);
        if (r == 0 && d->at > d->carried_count + 1)
            r = stream_send_end(d->sender, false, &e);
    }
    if (r < 0)
        visit_end(&d->visit, &e);
}

static void left(void *owner)
{
    (void)owner; /* the reason comes with KEPT */
}

static void on_kept(struct visit *v, const struct msg_kept *m)
{
    struct err e;
    if (m->code)
        err_set(&e, (int)m->code, "%s", m->text);
    visit_end(v, m->code ? &e : NULL);
}

static void on_stream(struct visit *v, const struct msg *m, struct slice bulk)
{
    (void)bulk;
    struct deposit *d = v->owner;
    struct err e;
    if (stream_sender_message(d->sender, m, &e) < 0)
        visit_end(v, &e);
}

static int send_all(struct deposit *d, struct err *e)
{
    static const struct stream_sender_events events = {writable, left, NULL};
    struct stream_name name = visit_stream(&d->visit, MSG_KEPT_IN);
    d->sender = stream_sender_new(d->visit.peer, 0, &name, &events, d, e);
    if (!d->sender || visit_attach(&d->visit, MSG_KEPT_IN, e) < 0)
        return -1;
    int r = visit_run(&d->visit, NULL, NULL, e);
    if (r < 0 && e->code == ERR_GONE)
        err_wrap(e, "whether the job was taken in is not known, but `zpipe status` tells");
    return r;
}

static int deposit(struct deposit *d, const struct zpipe_submission *s, struct err *e)
{
    static const struct visit_events events = {on_kept, on_stream};
    d->visit.ev = &events;
    d->visit.owner = d;
    struct buf told = BUF_INIT(CLIENT_TOLD_MAX);
    int r = client_job_prepare(d->z, d->graph, s, &told, e);
    if (told.size && s->io.stderr_fd >= 0)
        fd_write_all(s->io.stderr_fd, told.data, told.size);
    buf_clear(&told);
    if (r < 0 || check_graph(d, e) < 0 || read_stdin(d, s->io.stdin_fd, e) < 0)
        return -1;
    if (visit_open(&d->visit, d->z, MSG_ASK_KEEP, 0, e) < 0 || make_record(d, s, e) < 0)
        return -1;
    return send_all(d, e);
}

static void deposit_close(struct deposit *d)
{
    visit_close(&d->visit);
    stream_sender_free(d->sender);
    fd_close(&d->fd);
    fd_close(&d->in);
    buf_clear(&d->record);
    graph_free(d->graph);
    free(d->directory);
    free(d->carried);
}

int zpipe_deposit(struct zpipe *z, const struct zpipe_submission *s, uint64_t *job, struct zpipe_error *error)
{
    struct err e = {0};
    struct deposit d = {.z = z, .in = -1, .fd = -1, .record = BUF_INIT(KEPT_PREFIX + KEPT_BYTES_MAX)};
    struct client_text t;
    int r = client_text_open(&t, s, &e);
    if (r == 0 && !(d.graph = dsl_graph(&t.in, &e)))
        r = -1;
    d.directory = t.directory;
    t.directory = NULL;
    client_text_close(&t);
    if (r == 0)
        r = deposit(&d, s, &e);
    *job = d.visit.place.job;
    deposit_close(&d);
    return r < 0 ? client_error(error, &e) : 0;
}
