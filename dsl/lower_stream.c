/* The graph's edges: sources, sinks, and what redirections make of a stage's fds 0, 1 and 2.  Redirections are applied from
 * left to right, as in sh; a file that was opened and then replaced by another is made, empty. */
#include "dsl/lower_inside.h"
#include "dsl/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- growing the graph ------------------------------------------------------------------- */

/* Add the place in the text to a message about a ceiling of the graph. */
int lower_refused(struct lower *w, size_t at)
{
    char text[300];
    snprintf(text, sizeof text, "%.280s", w->e->text);
    return FAIL(w, at, NULL, "%s", text);
}

const char *lower_keep(struct lower *w, const char *text)
{
    return text ? arena_string(&w->g->arena, text) : NULL;
}

int lower_add_node(struct lower *w, uint32_t kind, size_t at, const struct place *place,
                   uint32_t *out)
{
    *out = graph_add_node(w->g, kind, w->e);
    if (*out == GRAPH_NONE)
        return lower_refused(w, at);
    struct graph_node *n = &w->g->node[*out];
    n->parent = place->parent;
    n->merge = place->merge;
    n->drain = place->drain;
    text_place(w->r->text, at, &n->line, &n->column);
    return 0;
}

/* Connect a stream to one fd of a node. */
int lower_join(struct lower *w, struct stream s, uint32_t to, int fd, size_t at)
{
    if (s.node == GRAPH_NONE)
        return 0;
    uint32_t edge = graph_add_edge(w->g, s.node, to, w->e);
    if (edge == GRAPH_NONE)
        return lower_refused(w, at);
    w->g->edge[edge].seekable = s.seekable && fd == 0;
    for (int i = 0; i < s.fds; i++)
        if (graph_set_fd(w->g, s.node, s.fd[i], edge, w->e) < 0)
            return lower_refused(w, at);
    return graph_set_fd(w->g, to, fd, edge, w->e) < 0 ? lower_refused(w, at) : 0;
}

struct stream lower_one(uint32_t node, int fd)
{
    return (struct stream){.node = node, .fd = {fd}, .fds = 1};
}

int lower_add_sink(struct lower *w, enum graph_sink_kind kind, const char *path, size_t at,
                   const struct place *place, uint32_t *out)
{
    struct place outside = *place;
    outside.drain = false;
    if (lower_add_node(w, GRAPH_SINK, at, &outside, out) < 0)
        return -1;
    struct graph_node *n = &w->g->node[*out];
    n->sink = kind;
    n->path = path ? lower_keep(w, path) : n->path;
    n->holes = path && strchr(path, GRAPH_HOLE);
    n->label = kind == GRAPH_SINK_FILE || kind == GRAPH_SINK_APPEND ? n->path : "";
    return n->path || !path ? 0 : resolve_no_memory(w->r);
}

int lower_add_source(struct lower *w, const struct graph_segment *segment, uint32_t count,
                     size_t at, const struct place *place, uint32_t *out)
{
    if (lower_add_node(w, GRAPH_SOURCE, at, place, out) < 0)
        return -1;
    struct graph_segment *copy = arena_array(&w->g->arena, count + 1, sizeof *copy);
    if (!copy)
        return resolve_no_memory(w->r);
    for (uint32_t i = 0; i < count; i++) {
        copy[i] = segment[i];
        if (copy[i].text.size &&
            !(copy[i].text.data = arena_bytes(&w->g->arena, copy[i].text.data, copy[i].text.size)))
            return resolve_no_memory(w->r);
    }
    w->g->node[*out].segment = copy;
    w->g->node[*out].segment_count = count;
    return 0;
}

int lower_add_file(struct lower *w, const char *name, const char *path, size_t at, uint32_t *out)
{
    struct stat st;
    char link[GRAPH_LINK_MAX + 1] = "";
    if (stat(path, &st) < 0) { /* perhaps a link that leads nowhere */
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n < 0 || lstat(path, &st) < 0 || !S_ISLNK(st.st_mode))
            return FAIL(w, at, NULL, "%.200s: it was there a moment ago and is gone", path);
        link[n] = '\0';
    }
    struct graph_file f = {.name = name,
                           .path = path,
                           .size_bytes = (uint64_t)st.st_size,
                           .inode = st.st_ino,
                           .mtime_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec,
                           .mode = st.st_mode,
                           .link = link};
    *out = graph_add_file(w->g, &f, w->e);
    return *out == GRAPH_NONE ? lower_refused(w, at) : 0;
}

/* The file that a source reads.  No program opens it by its name, so a name with `..` can simply be made absolute. */
int lower_source_file(struct lower *w, const char *word, const struct written *from, size_t at,
                      struct graph_segment *out)
{
    char *name = arena_alloc(w->r->arena, strlen(word) + 2);
    const char *path = uses_path(w->r, word);
    if (!name || !path)
        return resolve_no_memory(w->r);
    bool clean = path_normal(word, name);
    *out = (struct graph_segment){.kind = GRAPH_SEGMENT_FILE};
    if (from)
        return lower_awaited(w, from, clean ? name : path, at, &out->file);
    char *real = clean ? NULL : realpath(path, NULL);
    int result = lower_add_file(w, clean ? name : real ? real : path, path, at, &out->file);
    free(real);
    return result;
}

/* This name is a file that an earlier statement makes: the present statement runs in a phase after that one. */
int lower_awaited(struct lower *w, const struct written *from, const char *name, size_t at, uint32_t *out)
{
    if (from->append)
        return FAIL(w, at, "name the pipeline that makes it, and write <(NAME)",
                    "%.200s is appended to by this job, and whole only when it ends", from->word);
    for (const struct made *m = w->made; m; m = m->next)
        if (m->phase >= w->phase && strcmp(m->path, from->path) == 0)
            w->phase = m->phase + 1;
    if (w->phase > PHASES_MAX)
        return FAIL(w, at, NULL, "more than %d statements wait for each other", PHASES_MAX);
    char *path = arena_alloc(w->r->arena, strlen(from->path) + 2);
    if (!path)
        return resolve_no_memory(w->r);
    path[0] = '/'; /* two slashes: not the file that exists now */
    strcpy(path + 1, from->path);
    struct graph_file f = {.name = name, .path = path, .mode = S_IFREG | 0644, .awaited = true};
    *out = graph_add_file(w->g, &f, w->e);
    return *out == GRAPH_NONE ? lower_refused(w, at) : 0;
}

int lower_note_made(struct lower *w, const char *path, uint32_t sink)
{
    struct made *m = arena_alloc(w->r->arena, sizeof *m);
    if (!m)
        return resolve_no_memory(w->r);
    *m = (struct made){.next = w->made, .path = path, .sink = sink};
    w->made = m;
    return 0;
}

int lower_note_sink(struct lower *w, const char *word, uint32_t sink)
{
    const char *path = uses_path(w->r, word);
    return path ? lower_note_made(w, path, sink) : -1;
}

/* ---- where streams come from ------------------------------------------------------------- */

int lower_stdin(struct lower *w, const struct place *at, size_t where, struct stream *out)
{
    struct graph_segment s = {.kind = GRAPH_SEGMENT_STDIN};
    struct place outside = *at;
    uint32_t node;
    outside.drain = false;
    if (w->stdin_made && at->parent == GRAPH_NONE)
        return FAIL(w, where, "keep it in a file first",
                    "only one stage can read the stdin of the job");
    w->stdin_made = w->stdin_made || at->parent == GRAPH_NONE;
    if (lower_add_source(w, &s, 1, where, &outside, &node) < 0)
        return -1;
    *out = lower_one(node, 1);
    return 0;
}

static int redir_stream(struct lower *w, const struct redir *d, const struct place *at,
                        struct stream *out)
{
    struct graph_segment s = {.kind = GRAPH_SEGMENT_TEXT, .text = d->bytes};
    struct place outside = *at;
    uint32_t node;
    outside.drain = false;
    if (d->kind == REDIR_IN) {
        if (lower_source_file(w, d->target, d->from, d->word->start, &s) < 0)
            return -1;
    }
    if (lower_add_source(w, &s, 1, d->at, &outside, &node) < 0)
        return -1;
    *out = lower_one(node, 1);
    out->seekable = d->kind == REDIR_IN;
    return 0;
}

/* Nobody reads this stream: end its writer early with a `true` that reads nothing, as the loss of a pipe's reader would. */
int lower_stop(struct lower *w, struct stream s, size_t at, const struct place *place)
{
    struct place unread = *place;
    uint32_t node, sink;
    unread.drain = true;
    if (s.node == GRAPH_NONE)
        return 0;
    if (w->g->node[s.node].kind == GRAPH_SOURCE) {
        if (lower_add_sink(w, GRAPH_SINK_NULL, NULL, at, place, &sink) < 0)
            return -1;
        s.seekable = false;
        return lower_join(w, s, sink, 0, at);
    }
    if (lower_add_node(w, GRAPH_COMMAND, at, &unread, &node) < 0 ||
        lower_join(w, s, node, 0, at) < 0)
        return -1;
    const char **argv = arena_array(&w->g->arena, 2, sizeof *argv);
    if (!argv)
        return resolve_no_memory(w->r);
    argv[0] = "true";
    w->g->node[node].argv = argv;
    w->g->node[node].argc = 1;
    w->g->node[node].label = "true";
    w->g->node[node].set = place->set;
    if (lower_add_sink(w, GRAPH_SINK_NULL, NULL, at, place, &sink) < 0)
        return -1;
    return lower_join(w, lower_one(node, 1), sink, 0, at);
}

/* ---- redirections ------------------------------------------------------------------------ */

/* Does the other of stdout and stderr append to the same file (`>> log 2>> log`)?  Each writes at the file's end, so both
 * can have the same sink. */
static bool appends_too(const struct lower *w, const struct stage *s, const struct redir *d)
{
    const struct redir *other = NULL;
    for (const struct redir *o = s->redir; o != d; o = o->next)
        if (o->fd == 3 - d->fd)
            other = o;
    if (!other || other->kind != REDIR_APPEND || d->kind != REDIR_APPEND)
        return false;
    const char *a = uses_path(w->r, other->target), *b = uses_path(w->r, d->target);
    return a && b && strcmp(a, b) == 0;
}

static int open_out(struct lower *w, struct table *t, const struct stage *s, const struct redir *d, const struct place *at)
{
    static const struct {
        const char *name;
        int fd;
    } same[] = {{"/dev/stdout", 1}, {"/dev/stderr", 2}, {"/dev/fd/1", 1}, {"/dev/fd/2", 2}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(d->target, same[i].name) == 0) {
            t->to[d->fd] = t->to[same[i].fd];
            return 0;
        }
    if (appends_too(w, s, d)) {
        t->to[d->fd] = t->to[3 - d->fd];
        return 0;
    }
    uint32_t sink;
    bool null = strcmp(d->target, "/dev/null") == 0;
    enum graph_sink_kind kind = null                      ? GRAPH_SINK_NULL
                                : d->kind == REDIR_APPEND ? GRAPH_SINK_APPEND
                                                          : GRAPH_SINK_FILE;
    if (lower_add_sink(w, kind, null ? NULL : d->target, d->at, at, &sink) < 0)
        return -1;
    t->to[d->fd] = sink;
    if (null)
        return 0;
    if (t->opened_count == GRAPH_FDS_MAX)
        return FAIL(w, d->at, NULL, "one stage has more than %d redirections", GRAPH_FDS_MAX);
    t->opened[t->opened_count++] = sink;
    return lower_note_sink(w, d->target, sink);
}

static int open_in(struct lower *w, struct table *t, const struct redir *d, const struct place *at)
{
    if (d->kind == REDIR_IN) {
        if (strcmp(d->target, "/dev/stdin") == 0 || strcmp(d->target, "/dev/fd/0") == 0)
            return 0;
        char itself[] = {GRAPH_HOLE, '{', 0};
        if (strcmp(d->target, itself) == 0)
            return 0; /* the task's file is its stdin already */
        if (strchr(d->target, GRAPH_HOLE))
            return FAIL(w, d->word->start, "the task's own file is its stdin, and {} its name",
                        "a file to read cannot be named by a hole");
    }
    if (t->in_given && lower_stop(w, t->in, d->at, at) < 0)
        return -1;
    t->in_given = true;
    t->in = NO_STREAM;
    if (d->kind == REDIR_IN && strncmp(d->target, "/dev/", 5) == 0)
        return 0; /* /dev/null: nothing flows in */
    return redir_stream(w, d, at, &t->in);
}

int lower_table(struct lower *w, struct stage *s, struct stream in, const struct place *at,
                struct table *t)
{
    *t = (struct table){.in = in, .to = {0, TO_OUT, TO_ERR}};
    for (const struct redir *d = s->redir; d; d = d->next) {
        int result = 0;
        if (d->kind == REDIR_DUP)
            t->to[d->fd] = t->to[d->dup];
        else if (d->fd == 0)
            result = open_in(w, t, d, at);
        else
            result = open_out(w, t, s, d, at);
        if (result < 0)
            return -1;
    }
    if (s->join)
        t->to[2] = t->to[1];
    return t->in_given ? lower_stop(w, in, s->start, at) : 0;
}

/* Make the files that were opened by a redirection which a later one replaced: they are made, empty. */
int lower_unused(struct lower *w, const struct table *t, size_t where, const struct place *at)
{
    for (size_t i = 0; i < t->opened_count; i++) {
        uint32_t empty;
        if (t->to[1] == t->opened[i] || t->to[2] == t->opened[i])
            continue;
        if (lower_add_source(w, NULL, 0, where, at, &empty) < 0 ||
            lower_join(w, lower_one(empty, 1), t->opened[i], 0, where) < 0)
            return -1;
    }
    return 0;
}

/* Connect a node's fds 1 and 2; *out is what flows on to the next stage. */
int lower_apply(struct lower *w, struct table *t, uint32_t node, size_t where,
                const struct place *at, struct stream *out)
{
    uint32_t sink;
    *out = NO_STREAM;
    if (t->to[1] == TO_ERR) {
        if (lower_add_sink(w, GRAPH_SINK_STDERR, NULL, where, at, &sink) < 0)
            return -1;
        t->to[1] = sink;
        if (t->to[2] == TO_ERR)
            t->to[2] = sink;
    }
    struct stream both = {.node = node, .fd = {1, 2}, .fds = 2};
    if (t->to[1] == t->to[2]) {
        if (t->to[1] == TO_OUT)
            *out = both;
        else if (lower_join(w, both, (uint32_t)t->to[1], 0, where) < 0)
            return -1;
    } else {
        for (int fd = 1; fd <= 2; fd++)
            if (t->to[fd] == TO_OUT)
                *out = lower_one(node, fd);
            else if (t->to[fd] != TO_ERR &&
                     lower_join(w, lower_one(node, fd), (uint32_t)t->to[fd], 0, where) < 0)
                return -1;
    }
    return lower_unused(w, t, where, at);
}
