/* zpipe_replay: a record (proto/record.h) is a small job of its own, which is run here like any other.  What it prints and
 * how it ends are compared with what was kept.  A record may come from anywhere, so its graph is checked before anything
 * runs, and it makes no file. */
#include "client/client.h"

#include "base/fds.h"
#include "base/grow.h"
#include "base/spool.h"
#include "proto/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_MAX (1u << 20) /* lines of stderr that are sorted for the comparison */

struct replay {
    char *path; /* owned: the record's directory */
    struct arena arena;
    struct record record;
    char scratch[64]; /* the job's directory; it is empty in the end.  "": none */
    const char *label[GRAPH_NODES_MAX]; /* for each program, in the arena */
    uint32_t status[GRAPH_NODES_MAX];
    bool ended[GRAPH_NODES_MAX];
    int out, err; /* what the job prints; -1: not open */
    struct buf verdict;
    bool same;
};

/* ---- what was kept */

static int open_part(const struct replay *r, const char *name, uint64_t max, struct stat *s, struct err *e)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", r->path, name);
    int fd = n < (int)sizeof path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : (errno = ENAMETOOLONG, -1);
    if (fd < 0 || fstat(fd, s) < 0) {
        err_sys(e, "the record's file '%s'", path);
        fd_close(&fd);
    } else if (!S_ISREG(s->st_mode) || (uint64_t)s->st_size > max) {
        err_set(e, ERR_INPUT, "the record is damaged: '%s' is no file of at most %llu bytes", path, (unsigned long long)max);
        fd_close(&fd);
    }
    return fd;
}

static int read_record(struct replay *r, struct err *e)
{
    struct stat s;
    int fd = open_part(r, "task", RECORD_TASK_MAX, &s, e);
    char *bytes = fd < 0 ? NULL : arena_alloc(&r->arena, (size_t)s.st_size + 1);
    if (fd >= 0 && !bytes)
        err_nomem(e);
    ssize_t n = bytes ? fd_read_all(fd, bytes, (size_t)s.st_size) : -1;
    if (bytes && n < 0)
        err_sys(e, "cannot read the record '%s'", r->path);
    fd_close(&fd);
    if (n < 0)
        return -1;
    if (record_decode((struct slice){bytes, (size_t)n}, &r->arena, &r->record, e) == 0)
        return 0;
    return err_wrap(e, "the record '%s' is damaged", r->path);
}

/* ---- its graph: programs, what they read, and what they print */

static bool is_program(const struct graph_node *n)
{
    return n->kind == GRAPH_COMMAND || n->kind == GRAPH_SHELL;
}

static bool may_stand(const struct graph_node *n, bool program)
{
    bool ends = (n->kind == GRAPH_SOURCE) ||
                (n->kind == GRAPH_SINK && n->sink != GRAPH_SINK_FILE && n->sink != GRAPH_SINK_APPEND);
    for (uint32_t i = 0; i < n->segment_count; i++)
        ends &= n->segment[i].kind != GRAPH_SEGMENT_STDIN;
    return n->parent == GRAPH_NONE && !n->phase && (program ? is_program(n) && n->split.cut == GRAPH_CUT_NONE : ends);
}

static int check_nodes(struct replay *r, const struct graph *g, struct err *e)
{
    bool right = !g->expect_count && r->record.end_count <= g->node_count && r->record.end_count;
    for (uint32_t i = 0; right && i < g->node_count; i++)
        right = may_stand(&g->node[i], i < r->record.end_count);
    for (uint32_t i = 0; right && i < r->record.end_count; i++)
        if (!(r->label[i] = arena_string(&r->arena, g->node[i].label)))
            return err_nomem(e);
    return right ? 0 : err_set(e, ERR_INPUT, "the record '%s' is damaged: its graph is that of no task", r->path);
}

/* An input that lies in the record. */
static int place_input(struct replay *r, struct graph *g, struct graph_file *f, struct err *e)
{
    const char *name = f->path + sizeof RECORD_FILES - 1;
    char path[PATH_MAX], whole[PATH_MAX];
    uint32_t input;
    struct stat s;
    if (!record_file_name(name, &input) || input == UINT32_MAX)
        return err_set(e, ERR_INPUT, "the record '%s' is damaged: it has an input that cannot be", r->path);
    int fd = open_part(r, name, RECORD_BYTES_MAX, &s, e);
    if (fd < 0)
        return -1;
    fchmod(fd, (f->mode & 0777) | 0400); /* the input may be a script, so it needs its mode; if the file is not ours, its mode must do */
    close(fd);
    if ((uint64_t)s.st_size != f->size_bytes)
        return err_set(e, ERR_INPUT, "the record is damaged: '%s/%s' has %lld bytes, and had %llu", r->path, name, (long long)s.st_size,
                       (unsigned long long)f->size_bytes);
    if (snprintf(path, sizeof path, "%s/%s", r->path, name) >= (int)sizeof path || !realpath(path, whole))
        return err_sys(e, "the record's file '%s'", path);
    f->path = arena_string(&g->arena, whole);
    f->inode = s.st_ino;
    f->mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
    return f->path ? 0 : err_nomem(e);
}

/* An input that is not in the record but was read where it lay: type, size and time must be unchanged. */
static int look_at(struct graph_file *f, struct err *e)
{
    struct stat s;
    if (graph_is_link(f))
        return 0; /* what it says is in the record */
    if (stat(f->path, &s) < 0)
        return err_sys(e, "the task had the input '%.500s'", f->path);
    if ((s.st_mode & S_IFMT) != (f->mode & S_IFMT) ||
        (S_ISREG(s.st_mode) && ((uint64_t)s.st_size != f->size_bytes ||
                                (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec != f->mtime_ns)))
        return err_set(e, ERR_INPUT, "the input '%.500s' changed since the task ran", f->path);
    f->inode = s.st_ino;
    return 0;
}

static struct graph *load(struct replay *r, struct err *e)
{
    if (read_record(r, e) < 0)
        return NULL;
    struct graph *g = graph_decode(r->record.graph.data, r->record.graph.size, e);
    if (!g) {
        err_wrap(e, "the record '%s' is damaged", r->path);
        return NULL;
    }
    int bad = check_nodes(r, g, e);
    for (uint32_t i = 0; bad == 0 && i < g->file_count; i++) {
        struct graph_file *f = &g->file[i];
        f->awaited = false;
        f->passed = 0;
        bad = strncmp(f->path, RECORD_FILES, sizeof RECORD_FILES - 1) ? look_at(f, e) : place_input(r, g, f, e);
    }
    g->timed = g->timed_posix = false;
    if (bad == 0)
        return g;
    graph_free(g);
    return NULL;
}

/* ---- the run */

static void on_event(void *owner, const struct zpipe_event *event)
{
    struct replay *r = owner;
    if (event->kind != ZPIPE_TASK || event->node >= r->record.end_count)
        return;
    r->status[event->node] = (uint32_t)event->status;
    r->ended[event->node] = true;
}

/* Runs the graph.  Returns its status; -1: it could not be run. */
static int run(struct replay *r, struct zpipe *z, struct graph *g, struct err *e)
{
    struct zpipe_submission s = {.text = r->record.what,
                                 .split_bytes = ZPIPE_SPLIT_NEVER,
                                 .io = {.stdin_fd = -1, .stdout_fd = r->out, .stderr_fd = r->err, .on_event = on_event, .owner = r}};
    char *directory = strdup(r->scratch);
    if (!directory) {
        graph_free(g);
        return err_nomem(e);
    }
    struct zpipe_job *j = client_job_start(z, g, directory, &s, CLIENT_DROPS, e);
    if (!j)
        return -1;
    int status = zpipe_wait(j, NULL);
    if (status == ZPIPE_STATUS_FAILED && j->why.code) {
        *e = j->why;
        status = -1;
    }
    zpipe_job_free(j);
    return status;
}

/* ---- the comparison */

static void differs(struct replay *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void differs(struct replay *r, const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    buf_text(&r->verdict, r->same ? "different: " : "; ");
    buf_text(&r->verdict, text ? text : "");
    r->same = false;
    free(text);
}

/* Reads all of the file; the caller frees the result.  NULL: failed, see e. */
static char *read_all(int fd, size_t *size, struct err *e)
{
    struct stat s;
    char *bytes = NULL;
    if (fstat(fd, &s) < 0)
        err_sys(e, "cannot look at what the task printed");
    else if (!(bytes = malloc((size_t)s.st_size + 1)))
        err_nomem(e);
    for (*size = 0; bytes && *size < (size_t)s.st_size;) {
        ssize_t n = pread(fd, bytes + *size, (size_t)s.st_size - *size, (off_t)*size);
        if (n <= 0) {
            err_sys(e, "cannot read what the task printed");
            free(bytes);
            return NULL;
        }
        *size += (size_t)n;
    }
    return bytes;
}

static int by_line(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    size_t size = x->size < y->size ? x->size : y->size;
    int order = size ? memcmp(x->data, y->data, size) : 0;
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* The lines of the text, sorted; the caller frees the result.  NULL: there are none, there are too many, or there is no
 * memory. */
static struct slice *sorted_lines(const char *text, size_t size, uint32_t *count)
{
    struct slice *list = NULL;
    uint32_t room = 0;
    for (*count = 0; size; ++*count) {
        const char *end = memchr(text, '\n', size);
        size_t one = end ? (size_t)(end - text) + 1 : size;
        if (!grow(&list, &room, *count, LINES_MAX, sizeof *list)) {
            free(list);
            return NULL;
        }
        list[*count] = (struct slice){text, one};
        text += one;
        size -= one;
    }
    if (list)
        qsort(list, *count, sizeof *list, by_line);
    return list;
}

/* Several programs write to stderr in any order, so only the sorted lines are compared. */
static bool same_lines(const char *a, const char *b, size_t size)
{
    uint32_t n, m;
    struct slice *x = sorted_lines(a, size, &n), *y = sorted_lines(b, size, &m);
    bool same = x && y && n == m;
    for (uint32_t i = 0; same && i < n; i++)
        same = slice_equal(x[i], y[i]);
    free(x);
    free(y);
    return same;
}

static int compare_part(struct replay *r, const char *name, const char *what, int fd, bool any_order, size_t *bytes, struct err *e)
{
    struct stat s;
    size_t had = 0, has = 0, at = 0;
    int kept = open_part(r, name, RECORD_BYTES_MAX, &s, e);
    char *then = kept < 0 ? NULL : read_all(kept, &had, e), *now = then ? read_all(fd, &has, e) : NULL;
    fd_close(&kept);
    bool good = now;
    while (good && at < had && at < has && then[at] == now[at])
        at++;
    bool whole = at == had && at == has;
    if (good && !whole && !(any_order && had == has && same_lines(then, now, had)))
        differs(r, "%s from its byte %zu on: %zu bytes then, %zu now", what, at + 1, had, has);
    *bytes = had;
    free(then);
    free(now);
    return good ? 0 : -1;
}

static void compare_ends(struct replay *r)
{
    const struct record *k = &r->record;
    for (uint32_t i = 0; i < k->end_count; i++) {
        const struct record_end *then = &k->end[i];
        if (!r->ended[i])
            differs(r, "`%.100s` did not end", r->label[i]);
        else if (then->status != r->status[i])
            differs(r, "`%.100s` ended with status %u then, %u now", r->label[i], then->status, r->status[i]);
    }
}

/* Adds how this host and these programs differ from those of the record: that may explain a difference. */
static void compare_hosts(struct replay *r, const char *const *word)
{
    char host[1024], program[65];
    record_host(host, sizeof host);
    if (r->record.host[0] && strcmp(host, r->record.host))
        buf_printf(&r->verdict, "; it was kept with %s, and this is %s", r->record.host, host);
    for (uint32_t i = 0; i < r->record.end_count; i++) {
        record_program(word[i], program);
        if (strcmp(program, r->record.end[i].program))
            buf_printf(&r->verdict, "; the program of `%.100s` is another one here", r->label[i]);
    }
}

static int compare(struct replay *r, int status, const char *const *word, struct err *e)
{
    const struct record *k = &r->record;
    size_t out, err;
    r->same = !k->lost;
    if (k->lost) {
        buf_printf(&r->verdict, "it ended with status %d here; there is nothing to compare that with", status);
    } else {
        if (compare_part(r, "out", "stdout", r->out, false, &out, e) < 0 ||
            compare_part(r, "err", "stderr", r->err, k->end_count > 1, &err, e) < 0)
            return -1;
        compare_ends(r);
        if (r->same)
            buf_printf(&r->verdict, "same bytes: %zu of stdout, %zu of stderr", out, err);
        for (uint32_t i = 0; r->same && i < k->end_count; i++)
            buf_printf(&r->verdict, "%s %u", i ? "," : k->end_count > 1 ? "; statuses" : "; status", k->end[i].status);
    }
    compare_hosts(r, word);
    return 0;
}

/* ---- */

static int pass_on(int from, int to, struct err *e)
{
    size_t size;
    char *bytes = to < 0 ? NULL : read_all(from, &size, e);
    int r = to < 0 ? 0 : !bytes ? -1 : fd_write_all(to, bytes, size) < 0 ? err_sys(e, "cannot write what the task printed") : 0;
    free(bytes);
    return r;
}

/* For each program the word by which it is found. */
static const char *const *words_of(struct replay *r, const struct graph *g, struct err *e)
{
    const char **word = arena_array(&r->arena, (size_t)r->record.end_count + 1, sizeof *word);
    for (uint32_t i = 0; word && i < r->record.end_count; i++) {
        const struct graph_node *n = &g->node[i];
        word[i] = arena_string(&r->arena, n->kind == GRAPH_SHELL ? n->shell : n->argv[0]);
        if (!word[i])
            word = NULL;
    }
    if (!word)
        err_nomem(e);
    return word;
}

/* 1: the same; 0: not the same; -1: failed. */
static int replay(struct replay *r, struct zpipe *z, int stdout_fd, int stderr_fd, struct err *e)
{
    struct graph *g = load(r, e);
    if (!g)
        return -1;
    const char *const *word = words_of(r, g, e);
    snprintf(r->scratch, sizeof r->scratch, "/tmp/zpipe-replay-XXXXXX");
    if (!mkdtemp(r->scratch)) {
        r->scratch[0] = '\0';
        err_sys(e, "cannot make a directory in /tmp");
        word = NULL;
    }
    if (!word || (r->out = spool_open(e)) < 0 || (r->err = spool_open(e)) < 0) {
        graph_free(g);
        return -1;
    }
    int status = run(r, z, g, e);
    if (pass_on(r->out, stdout_fd, status < 0 ? NULL : e) < 0 || pass_on(r->err, stderr_fd, status < 0 ? NULL : e) < 0)
        return -1;
    if (status < 0 && r->record.lost) {
        buf_printf(&r->verdict, "it took its sandbox with it here, too: %.600s", e->text);
        return 0;
    }
    return status < 0 || compare(r, status, word, e) < 0 ? -1 : r->same;
}

int zpipe_replay(struct zpipe *z, const char *record, const char *records, int stdout_fd, int stderr_fd,
                 char verdict[ZPIPE_VERDICT_BYTES], struct zpipe_error *error)
{
    struct err e = {0};
    int result = -1;
    struct replay *r = calloc(1, sizeof *r);
    if (!r)
        err_nomem(&e);
    else if (!z->embedded)
        err_set(&e, ERR_INPUT, "a record is run here, not in a cluster");
    else if ((r->path = record_find(record, records, &e))) {
        r->arena = ARENA_INIT(4 * (size_t)RECORD_TASK_MAX);
        r->verdict = BUF_INIT(ZPIPE_VERDICT_BYTES - 1);
        r->out = r->err = -1;
        result = replay(r, z, stdout_fd, stderr_fd, &e);
        snprintf(verdict, ZPIPE_VERDICT_BYTES, "%s", r->verdict.data ? r->verdict.data : "");
        fd_close(&r->out);
        fd_close(&r->err);
        if (r->scratch[0])
            rmdir(r->scratch);
        buf_clear(&r->verdict);
        arena_clear(&r->arena);
        free(r->path);
    }
    free(r);
    return result < 0 ? client_error(error, &e) : result;
}
