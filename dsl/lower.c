/* See lower.h and dsl.h.  A stage is lowered between the stream that reaches it and the stream that leaves
 * it; an edge is made when both of its ends are known.  One fd has one edge and one edge joins two
 * nodes, so a stage that is used twice (a named pipeline) is lowered twice: with everything the same
 * every time, so are its bytes. */
#include "dsl/lower.h"
#include "dsl/files.h"
#include "dsl/print.h"
#include "dsl/settings.h"
#include "proto/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What leaves a stage: up to two fds of one node that write to the same place. */
struct stream {
    uint32_t node; /* GRAPH_NONE: nothing comes */
    int fd[2];
    int fds;
    bool seekable; /* it is one regular file, wanted as such */
};
#define NO_STREAM ((struct stream){.node = GRAPH_NONE})

/* What a stage stands in. */
struct place {
    uint32_t parent;
    bool merge, drain;
    struct graph_settings set;
    const char *shell;      /* of `with shell=`, or NULL */
    const char *out[64];    /* of `with out=` */
    uint32_t out_count;
    const struct written *skip; /* this output is read here instead of being written */
    int depth;
};

struct lower {
    struct resolver *r;
    struct graph *g;
    struct err *e;
    bool stdin_made;
    uint32_t last; /* whose status is that of the pipeline lowered last */
    unsigned renamed;  /* outputs under a name of ours */
    struct stream late[GRAPH_FDS_MAX]; /* what >( ) prints, behind the statement's own */
    size_t late_count;
    struct made {
        const char *path;
        uint32_t sink;
    } *made; /* the sinks of written files; in the resolver's arena */
    size_t made_count;
};

static int lower_pipeline(struct lower *w, struct pipeline *l, struct stream in, struct place at,
                          struct stream *out);

#define FAIL(w, at, hint, ...) text_fail((w)->r->text, at, (w)->e, hint, __VA_ARGS__)

/* ---- growing the graph -------------------------------------------------------------------------- */

/* A ceiling of the graph, told with a place. */
static int refused(struct lower *w, size_t at)
{
    char text[300];
    snprintf(text, sizeof text, "%.280s", w->e->text);
    return FAIL(w, at, NULL, "%s", text);
}

static const char *keep(struct lower *w, const char *text)
{
    return text ? arena_string(&w->g->arena, text) : NULL;
}

static int add_node(struct lower *w, uint32_t kind, size_t at, const struct place *place, uint32_t *out)
{
    *out = graph_add_node(w->g, kind, w->e);
    if (*out == GRAPH_NONE)
        return refused(w, at);
    struct graph_node *n = &w->g->node[*out];
    n->parent = place->parent;
    n->merge = place->merge;
    n->drain = place->drain;
    text_place(w->r->text, at, &n->line, &n->column);
    return 0;
}

/* Join what comes to one fd of a node. */
static int join(struct lower *w, struct stream s, uint32_t to, int fd, size_t at)
{
    if (s.node == GRAPH_NONE)
        return 0;
    uint32_t edge = graph_add_edge(w->g, s.node, to, w->e);
    if (edge == GRAPH_NONE)
        return refused(w, at);
    w->g->edge[edge].seekable = s.seekable && fd == 0;
    for (int i = 0; i < s.fds; i++)
        if (graph_set_fd(w->g, s.node, s.fd[i], edge, w->e) < 0)
            return refused(w, at);
    return graph_set_fd(w->g, to, fd, edge, w->e) < 0 ? refused(w, at) : 0;
}

static struct stream one(uint32_t node, int fd)
{
    return (struct stream){.node = node, .fd = {fd}, .fds = 1};
}

static int add_sink(struct lower *w, enum graph_sink_kind kind, const char *path, size_t at,
                    const struct place *place, uint32_t *out)
{
    struct place outside = *place;
    outside.drain = false;
    if (add_node(w, GRAPH_SINK, at, &outside, out) < 0)
        return -1;
    struct graph_node *n = &w->g->node[*out];
    n->sink = kind;
    n->path = path ? keep(w, path) : n->path;
    n->holes = path && strchr(path, GRAPH_HOLE);
    n->label = kind == GRAPH_SINK_FILE || kind == GRAPH_SINK_APPEND ? n->path : "";
    return n->path || !path ? 0 : resolve_no_memory(w->r);
}

static int add_source(struct lower *w, const struct graph_segment *segment, uint32_t count, size_t at,
                      const struct place *place, uint32_t *out)
{
    if (add_node(w, GRAPH_SOURCE, at, place, out) < 0)
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

static int add_file(struct lower *w, const char *name, const char *path, size_t at, uint32_t *out)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return FAIL(w, at, NULL, "%.200s: it was there a moment ago and is gone", path);
    struct graph_file f = {.name = name,
                           .path = path,
                           .size_bytes = (uint64_t)st.st_size,
                           .inode = st.st_ino,
                           .mtime_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec,
                           .mode = st.st_mode};
    *out = graph_add_file(w->g, &f, w->e);
    return *out == GRAPH_NONE ? refused(w, at) : 0;
}

/* The file that a source reads.  Nobody opens it by name, so a name that goes up is made absolute. */
static int source_file(struct lower *w, const char *word, size_t at, struct graph_segment *out)
{
    char *name = arena_alloc(w->r->arena, strlen(word) + 2);
    const char *path = uses_path(w->r, word);
    if (!name || !path)
        return resolve_no_memory(w->r);
    bool clean = path_normal(word, name);
    char *real = clean ? NULL : realpath(path, NULL);
    *out = (struct graph_segment){.kind = GRAPH_SEGMENT_FILE};
    int result = add_file(w, clean ? name : real ? real : path, path, at, &out->file);
    free(real);
    return result;
}

/* ---- where streams come from -------------------------------------------------------------------- */

static int stdin_stream(struct lower *w, const struct place *at, size_t where, struct stream *out)
{
    struct graph_segment s = {.kind = GRAPH_SEGMENT_STDIN};
    struct place outside = *at;
    uint32_t node;
    outside.drain = false;
    if (w->stdin_made && at->parent == GRAPH_NONE)
        return FAIL(w, where, "keep it in a file first", "only one stage can read the stdin of the job");
    w->stdin_made = w->stdin_made || at->parent == GRAPH_NONE;
    if (add_source(w, &s, 1, where, &outside, &node) < 0)
        return -1;
    *out = one(node, 1);
    return 0;
}

/* An output of a statement above, computed once more. */
static int written_stream(struct lower *w, const struct written *from, const char *name, size_t at,
                          const struct place *place, struct stream *out)
{
    if (!from->pipeline || from->append || place->parent != GRAPH_NONE || place->depth > 8)
        return FAIL(w, at, "name the pipeline that makes it, and write <(NAME)",
                    "%.200s is written by this job, which cannot open it by name", name);
    struct place inner = *place;
    inner.skip = from;
    inner.drain = true;
    inner.depth++;
    return lower_pipeline(w, from->pipeline, NO_STREAM, inner, out);
}

static int redir_stream(struct lower *w, const struct redir *d, const struct place *at,
                        struct stream *out)
{
    struct graph_segment s = {.kind = GRAPH_SEGMENT_TEXT, .text = d->bytes};
    struct place outside = *at;
    uint32_t node;
    outside.drain = false;
    if (d->kind == REDIR_IN) {
        if (d->from)
            return written_stream(w, d->from, d->target, d->word->start, at, out);
        if (source_file(w, d->target, d->word->start, &s) < 0)
            return -1;
    }
    if (add_source(w, &s, 1, d->at, &outside, &node) < 0)
        return -1;
    *out = one(node, 1);
    out->seekable = d->kind == REDIR_IN;
    return 0;
}

/* Nobody reads this: its writer is stopped, as in a pipe whose reader is gone. */
static int stop_stream(struct lower *w, struct stream s, size_t at, const struct place *place)
{
    struct place unread = *place;
    uint32_t node, sink;
    unread.drain = true;
    if (s.node == GRAPH_NONE)
        return 0;
    if (w->g->node[s.node].kind == GRAPH_SOURCE) {
        if (add_sink(w, GRAPH_SINK_NULL, NULL, at, place, &sink) < 0)
            return -1;
        s.seekable = false;
        return join(w, s, sink, 0, at);
    }
    if (add_node(w, GRAPH_COMMAND, at, &unread, &node) < 0 || join(w, s, node, 0, at) < 0)
        return -1;
    const char **argv = arena_array(&w->g->arena, 2, sizeof *argv);
    if (!argv)
        return resolve_no_memory(w->r);
    argv[0] = "true";
    w->g->node[node].argv = argv;
    w->g->node[node].argc = 1;
    w->g->node[node].label = "true";
    w->g->node[node].set = place->set;
    if (add_sink(w, GRAPH_SINK_NULL, NULL, at, place, &sink) < 0)
        return -1;
    return join(w, one(node, 1), sink, 0, at);
}

/* ---- redirections ------------------------------------------------------------------------------- */

/* Where an output fd points: the next stage, the stage's stderr, or a sink. */
enum { TO_OUT = -1, TO_ERR = -2 };

struct table {
    struct stream in;
    int64_t to[3];                     /* of fd 1 and 2: TO_... or a sink's node */
    uint32_t opened[GRAPH_FDS_MAX];    /* files: all must come to be, used or not */
    size_t opened_count;
    bool in_given; /* fd 0 is not what came */
};

static int note_sink(struct lower *w, const char *word, uint32_t sink)
{
    const char *path = uses_path(w->r, word);
    if (!path)
        return -1;
    if (w->made_count < WRITTEN_MAX)
        w->made[w->made_count++] = (struct made){path, sink};
    return 0;
}

static int open_out(struct lower *w, struct table *t, const struct redir *d, const struct place *at)
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
    if (at->skip && at->skip->at == d->word->start && d->fd == 1) {
        t->to[1] = TO_OUT;
        return 0;
    }
    uint32_t sink;
    bool null = strcmp(d->target, "/dev/null") == 0;
    enum graph_sink_kind kind = null                       ? GRAPH_SINK_NULL
                                : d->kind == REDIR_APPEND ? GRAPH_SINK_APPEND
                                                          : GRAPH_SINK_FILE;
    if (add_sink(w, kind, null ? NULL : d->target, d->at, at, &sink) < 0)
        return -1;
    t->to[d->fd] = sink;
    if (null)
        return 0;
    if (t->opened_count == GRAPH_FDS_MAX)
        return FAIL(w, d->at, NULL, "one stage has more than %d redirections", GRAPH_FDS_MAX);
    t->opened[t->opened_count++] = sink;
    return note_sink(w, d->target, sink);
}

static int open_in(struct lower *w, struct table *t, const struct redir *d, const struct place *at)
{
    if (d->kind == REDIR_IN) {
        if (strcmp(d->target, "/dev/stdin") == 0 || strcmp(d->target, "/dev/fd/0") == 0)
            return 0;
        char itself[] = {GRAPH_HOLE, '{', 0};
        if (strcmp(d->target, itself) == 0)
            return 0; /* the task's file is its stdin */
        if (strchr(d->target, GRAPH_HOLE))
            return FAIL(w, d->word->start, "the task's own file is its stdin, and {} its name",
                        "a file to read cannot be named by a hole");
    }
    if (t->in_given && stop_stream(w, t->in, d->at, at) < 0)
        return -1;
    t->in_given = true;
    t->in = NO_STREAM;
    if (d->kind == REDIR_IN && strncmp(d->target, "/dev/", 5) == 0)
        return 0; /* /dev/null: nothing comes */
    return redir_stream(w, d, at, &t->in);
}

static int read_table(struct lower *w, struct stage *s, struct stream in, const struct place *at,
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
            result = open_out(w, t, d, at);
        if (result < 0)
            return -1;
    }
    if (s->join)
        t->to[2] = t->to[1];
    return t->in_given ? stop_stream(w, in, s->start, at) : 0;
}

/* A file that was opened and then left: it comes to be, empty. */
static int fill_unused(struct lower *w, const struct table *t, size_t where, const struct place *at)
{
    for (size_t i = 0; i < t->opened_count; i++) {
        uint32_t empty;
        if (t->to[1] == t->opened[i] || t->to[2] == t->opened[i])
            continue;
        if (add_source(w, NULL, 0, where, at, &empty) < 0 ||
            join(w, one(empty, 1), t->opened[i], 0, where) < 0)
            return -1;
    }
    return 0;
}

/* Give a node its fds 1 and 2; what is left for the next stage is *out. */
static int apply_table(struct lower *w, struct table *t, uint32_t node, size_t where,
                       const struct place *at, struct stream *out)
{
    uint32_t sink;
    *out = NO_STREAM;
    if (t->to[1] == TO_ERR) {
        if (add_sink(w, GRAPH_SINK_STDERR, NULL, where, at, &sink) < 0)
            return -1;
        t->to[1] = sink;
        if (t->to[2] == TO_ERR)
            t->to[2] = sink;
    }
    struct stream both = {.node = node, .fd = {1, 2}, .fds = 2};
    if (t->to[1] == t->to[2]) {
        if (t->to[1] == TO_OUT)
            *out = both;
        else if (join(w, both, (uint32_t)t->to[1], 0, where) < 0)
            return -1;
    } else {
        for (int fd = 1; fd <= 2; fd++)
            if (t->to[fd] == TO_OUT)
                *out = one(node, fd);
            else if (t->to[fd] != TO_ERR && join(w, one(node, fd), (uint32_t)t->to[fd], 0, where) < 0)
                return -1;
    }
    return fill_unused(w, t, where, at);
}

/* ---- nodes of programs -------------------------------------------------------------------------- */

static int keep_strings(struct lower *w, const struct value *v, const char *const **out, uint32_t *count)
{
    size_t n = 0;
    for (const struct value *i = v; i; i = i->next)
        n++;
    const char **list = arena_array(&w->g->arena, n + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    n = 0;
    for (; v; v = v->next)
        if (!(list[n++] = keep(w, v->text)))
            return resolve_no_memory(w->r);
    *out = list;
    *count = (uint32_t)n;
    return 0;
}

static bool refers(const struct value *v, const struct use *u)
{
    for (; v; v = v->next)
        if (v == u->value)
            return true;
    return false;
}

static int node_files(struct lower *w, const struct stage *s, uint32_t node)
{
    uint32_t count = 0;
    for (const struct use *u = s->input; u; u = u->next) {
        if (u->from)
            return FAIL(w, u->at, "name the pipeline that makes it, and write <(NAME)",
                        "%.200s is written by this job, which cannot open it by name", u->word);
        count++;
    }
    for (const struct use *u = w->r->with_file; u; u = u->next)
        count++;
    uint32_t *list = arena_array(&w->g->arena, count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    count = 0;
    const struct use *lists[] = {s->input, w->r->with_file};
    for (size_t l = 0; l < 2; l++)
        for (const struct use *u = lists[l]; u; u = u->next) {
            uint32_t file;
            bool known = false;
            if (add_file(w, u->name, u->path, u->at, &file) < 0)
                return -1;
            for (uint32_t i = count > 64 ? count - 64 : 0; i < count; i++)
                known = known || list[i] == file;
            if (!known)
                list[count++] = file;
        }
    w->g->node[node].file = list;
    w->g->node[node].file_count = count;
    return 0;
}

/* An output whose name is no name inside the working directory gets one of ours, in the word too. */
static int rename_output(struct lower *w, struct use *u)
{
    char name[40];
    snprintf(name, sizeof name, ".zpipe-out-%u", ++w->renamed);
    size_t keep_size = u->value ? strlen(u->value->text) - strlen(u->word) : 0;
    char *text = arena_alloc(w->r->arena, keep_size + sizeof name);
    u->name = arena_string(w->r->arena, name);
    if (!text || !u->name)
        return resolve_no_memory(w->r);
    if (u->value) {
        memcpy(text, u->value->text, keep_size);
        strcpy(text + keep_size, name);
        u->value->text = text;
    }
    return 0;
}

static bool inside(const char *name)
{
    return name[0] != '/' && strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0 &&
           !strstr(name, "/../") &&
           !(strlen(name) > 3 && strcmp(name + strlen(name) - 3, "/..") == 0);
}

static int node_outputs(struct lower *w, struct stage *s, uint32_t node, const struct place *at)
{
    uint32_t count = 0;
    for (struct use *u = s->output; u; u = u->next)
        count++;
    struct graph_output *list = arena_array(&w->g->arena, count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    count = 0;
    for (struct use *u = s->output; u; u = u->next) {
        uint32_t sink;
        if (!inside(u->name)) {
            if (!u->value || !refers(s->value, u))
                continue; /* a text for sh: the sandbox says that it cannot be written */
            if (rename_output(w, u) < 0)
                return -1;
        }
        if (add_sink(w, GRAPH_SINK_FILE, u->word, u->at, at, &sink) < 0 ||
            note_sink(w, u->word, sink) < 0)
            return -1;
        list[count++] = (struct graph_output){keep(w, u->name), sink};
        if (!list[count - 1].name)
            return resolve_no_memory(w->r);
    }
    w->g->node[node].output = list;
    w->g->node[node].output_count = count;
    return 0;
}

static int node_why(struct lower *w, const struct stage *s, uint32_t node)
{
    char text[120];
    uint32_t line, column;
    text_place(w->r->text, s->odd_at, &line, &column);
    if (s->builtin)
        snprintf(text, sizeof text, "`%.40s` is a builtin of sh", s->value ? s->value->text : ":");
    else
        snprintf(text, sizeof text, "`%.40s` at %u:%u", s->odd, line, column);
    w->g->node[node].why = keep(w, text);
    return w->g->node[node].why ? 0 : resolve_no_memory(w->r);
}

static int node_label(struct lower *w, const struct stage *s, uint32_t node)
{
    char *text = print_stage(w->r->text, w->r->tree, s);
    w->g->node[node].label = keep(w, text);
    free(text);
    return w->g->node[node].label ? 0 : resolve_no_memory(w->r);
}

static int node_settings(struct lower *w, uint32_t node, const struct place *at)
{
    struct graph_node *n = &w->g->node[node];
    n->set = at->set;
    const char **list = arena_array(&w->g->arena, at->out_count + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    for (uint32_t i = 0; i < at->out_count; i++)
        if (!(list[i] = keep(w, at->out[i])))
            return resolve_no_memory(w->r);
    n->out_glob = list;
    n->out_glob_count = at->out_count;
    return 0;
}

/* The words, or the text for sh. */
static int node_words(struct lower *w, const struct stage *s, uint32_t node, const struct place *at)
{
    struct graph_node *n = &w->g->node[node];
    const struct value text = {.text = s->text};
    bool holes = s->text && s->text_holes;
    for (const struct value *v = s->text ? NULL : s->value; v; v = v->next)
        holes = holes || v->hole;
    if (keep_strings(w, s->text ? &text : s->value, &n->argv, &n->argc) < 0 ||
        keep_strings(w, s->env, &n->env, &n->envc) < 0)
        return -1;
    for (const struct value *v = s->env; v; v = v->next)
        holes = holes || v->hole;
    n->holes = holes;
    if (!s->text)
        return 0;
    n->shell = at->shell ? keep(w, at->shell) : s->shell;
    return n->shell ? node_why(w, s, node) : resolve_no_memory(w->r);
}

/* ---- <( ) and >( ) ------------------------------------------------------------------------------ */

static bool stage_holes(const struct stage *s);

static bool pipeline_holes(const struct pipeline *l)
{
    for (const struct stage *s = l ? l->stage : NULL; s; s = s->next)
        if (stage_holes(s))
            return true;
    return false;
}

static bool stage_holes(const struct stage *s)
{
    if (s->text_holes)
        return true;
    for (const struct value *v = s->value; v; v = v->next)
        if (v->hole)
            return true;
    for (const struct redir *d = s->redir; d; d = d->next)
        if (d->target && strchr(d->target, GRAPH_HOLE))
            return true;
    for (const struct item *i = s->item; i; i = i->next)
        if (i->pipeline && pipeline_holes(i->pipeline))
            return true;
    return pipeline_holes(s->body);
}

/* <(p): its output at fd N of the node.  In a body, what does not depend on the task runs once. */
static int lower_in(struct lower *w, struct item *i, uint32_t node, struct place at)
{
    struct stream out;
    uint32_t empty;
    bool own = i->pipeline->stage->from == STDIN_OWN || i->pipeline->stage->from == STDIN_JOB;
    at.drain = true;
    if (at.parent != GRAPH_NONE && own && !pipeline_holes(i->pipeline)) {
        at.parent = GRAPH_NONE;
        at.merge = false;
    }
    if (lower_pipeline(w, i->pipeline, NO_STREAM, at, &out) < 0)
        return -1;
    if (out.node == GRAPH_NONE) {
        if (add_source(w, NULL, 0, i->at, &at, &empty) < 0)
            return -1;
        out = one(empty, 1);
    }
    out.seekable = false;
    return join(w, out, node, i->fd, i->at);
}

/* >(p): what the node writes to fd N. */
static int lower_out(struct lower *w, struct item *i, struct stage *s, uint32_t node, struct place at)
{
    struct stream out;
    at.drain = true;
    if (lower_pipeline(w, i->pipeline, one(node, i->fd), at, &out) < 0)
        return -1;
    if (out.node == GRAPH_NONE)
        return 0;
    bool end = !s->next && at.parent == GRAPH_NONE;
    for (const struct redir *d = s->redir; d; d = d->next)
        end = end && d->fd != 1;
    if (!end || w->late_count == GRAPH_FDS_MAX)
        return FAIL(w, i->at, "write >( … > FILE )",
                    "the output of this >( ) would go into the pipe, in no fixed order");
    w->late[w->late_count++] = out;
    return 0;
}

static int lower_substs(struct lower *w, struct stage *s, uint32_t node, const struct place *at)
{
    for (struct item *i = s->item; i; i = i->next) {
        if (i->kind != ITEM_SUBST)
            continue;
        if ((i->out ? lower_out(w, i, s, node, *at) : lower_in(w, i, node, *at)) < 0)
            return -1;
    }
    return 0;
}

/* ---- stages ------------------------------------------------------------------------------------- */

/* A stage that is one process. */
static int lower_process(struct lower *w, struct stage *s, struct stream in, const struct place *at,
                         struct stream *out)
{
    struct table t;
    uint32_t node;
    if (s->from == STDIN_JOB && stdin_stream(w, at, s->start, &in) < 0)
        return -1;
    if (read_table(w, s, in, at, &t) < 0 ||
        add_node(w, s->text ? GRAPH_SHELL : GRAPH_COMMAND, s->start, at, &node) < 0)
        return -1;
    if (join(w, t.in, node, 0, s->start) < 0 || node_settings(w, node, at) < 0 ||
        node_files(w, s, node) < 0 || node_outputs(w, s, node, at) < 0 ||
        node_words(w, s, node, at) < 0 || node_label(w, s, node) < 0)
        return -1;
    if (lower_substs(w, s, node, at) < 0)
        return -1;
    return apply_table(w, &t, node, s->start, at, out);
}

/* `cat F...` first: segments, no process. */
static int lower_source(struct lower *w, struct stage *s, const struct place *at, struct stream *out)
{
    struct table t;
    uint32_t node, count = 0, words = 0;
    struct stream own = NO_STREAM;
    if (read_table(w, s, NO_STREAM, at, &t) < 0)
        return -1;
    for (const struct value *v = s->value->next; v; v = v->next)
        words++;
    struct graph_segment *list = arena_array(w->r->arena, words + 1, sizeof *list);
    if (!list)
        return resolve_no_memory(w->r);
    bool took = false;
    for (const struct value *v = s->value->next; v; v = v->next) {
        size_t place = v->word ? v->word->start : s->start;
        if (strcmp(v->text, "-") == 0) {
            if (s->from == STDIN_JOB && !took)
                list[count++] = (struct graph_segment){.kind = GRAPH_SEGMENT_STDIN};
            took = true;
            continue;
        }
        const struct written *from = uses_written(w->r, v->text);
        if (from && words == 1) {
            if (written_stream(w, from, v->text, place, at, &own) < 0)
                return -1;
        } else if (from) {
            return FAIL(w, place, "name the pipeline that makes it", "%.200s is written by this job and "
                        "cannot be joined to other files here", v->text);
        } else if (source_file(w, v->text, place, &list[count++]) < 0) {
            return -1;
        }
    }
    if (!words && s->from == STDIN_JOB)
        list[count++] = (struct graph_segment){.kind = GRAPH_SEGMENT_STDIN};
    bool stdin_used = s->from == STDIN_JOB && (took || !words);
    if (stdin_used && w->stdin_made)
        return FAIL(w, s->start, "keep it in a file first", "only one stage can read the stdin of the job");
    w->stdin_made = w->stdin_made || stdin_used;
    if (!words && t.in.node != GRAPH_NONE)
        own = t.in;
    else if (stop_stream(w, t.in, s->start, at) < 0)
        return -1;
    if (own.node == GRAPH_NONE) {
        struct place outside = *at;
        outside.drain = false;
        if (add_source(w, list, count, s->start, &outside, &node) < 0 || node_label(w, s, node) < 0)
            return -1;
        own = one(node, 1);
    }
    own.seekable = false;
    *out = t.to[1] == TO_OUT ? own : NO_STREAM;
    return t.to[1] == TO_OUT ? 0 : join(w, own, (uint32_t)t.to[1], 0, s->start);
}

static int lower_simple(struct lower *w, struct stage *s, struct stream in, struct place at,
                        struct stream *out)
{
    return s->source ? lower_source(w, s, &at, out) : lower_process(w, s, in, &at, out);
}

/* The stages of a block: where their stderr goes when the block says so. */
static int block_stderr(struct lower *w, struct stage *s, struct table *t, uint32_t from,
                        const struct place *at, struct stream *out)
{
    uint32_t count = 0, only = GRAPH_NONE;
    for (uint32_t i = from; i < w->g->node_count; i++) {
        const struct graph_node *n = &w->g->node[i];
        if (n->parent != at->parent || n->drain != at->drain || graph_fd_of(n, 2) ||
            n->kind == GRAPH_SOURCE || n->kind == GRAPH_SINK)
            continue;
        only = i;
        count++;
    }
    if (t->to[2] == TO_ERR || count == 0)
        return 0;
    if (count == 1 && t->to[2] == TO_OUT && out->node == only && out->fds == 1) {
        out->fd[1] = 2;
        out->fds = 2;
        return 0;
    }
    if (t->to[2] == TO_OUT || (count > 1 && w->g->node[t->to[2]].sink != GRAPH_SINK_NULL))
        return FAIL(w, s->start, "redirect the stderr of each stage",
                    "the stderr of several stages cannot be redirected together");
    uint32_t last = w->g->node_count;
    for (uint32_t i = from; i < last; i++) {
        const struct graph_node *n = &w->g->node[i];
        uint32_t sink = (uint32_t)t->to[2];
        if (n->parent != at->parent || n->drain != at->drain || graph_fd_of(n, 2) ||
            n->kind == GRAPH_SOURCE || n->kind == GRAPH_SINK)
            continue;
        if (count > 1 && add_sink(w, GRAPH_SINK_NULL, NULL, s->start, at, &sink) < 0)
            return -1;
        if (join(w, one(i, 2), sink, 0, s->start) < 0)
            return -1;
    }
    return 0;
}

/* A pipeline in the place of a stage: a with-block, a name. */
static int lower_group(struct lower *w, struct stage *s, struct pipeline *body, struct stream in,
                       const struct place *outer, const struct place *inner, struct stream *out)
{
    struct table t;
    struct stream made;
    if (read_table(w, s, in, outer, &t) < 0)
        return -1;
    uint32_t from = w->g->node_count;
    if (lower_pipeline(w, body, t.in, *inner, &made) < 0)
        return -1;
    bool both = t.to[1] == t.to[2] && t.to[2] != TO_ERR && t.to[2] != TO_OUT;
    if (both)
        t.to[2] = TO_OUT; /* one edge for both, when there is one process */
    if (t.to[1] == TO_ERR) {
        uint32_t sink;
        if (add_sink(w, GRAPH_SINK_STDERR, NULL, s->start, outer, &sink) < 0)
            return -1;
        t.to[1] = sink;
    }
    if ((t.to[2] != TO_OUT || t.to[1] == TO_OUT || both) &&
        block_stderr(w, s, &t, from, outer, &made) < 0)
        return -1;
    if (t.to[2] == TO_OUT && t.to[1] != TO_OUT && !both)
        return FAIL(w, s->start, "redirect the stderr of the stage itself",
                    "here only stderr would go down the pipe");
    *out = t.to[1] == TO_OUT ? made : NO_STREAM;
    if (t.to[1] == TO_OUT)
        return fill_unused(w, &t, s->start, outer);
    if (made.node == GRAPH_NONE) {
        uint32_t empty;
        if (add_source(w, NULL, 0, s->start, outer, &empty) < 0)
            return -1;
        made = one(empty, 1);
    }
    made.seekable = false;
    int64_t out_sink = t.to[1];
    if (join(w, made, (uint32_t)out_sink, 0, s->start) < 0)
        return -1;
    return fill_unused(w, &t, s->start, outer);
}

static int apply_settings(struct lower *w, const struct setting *s, struct place *at)
{
    for (; s; s = s->next) {
        const char *value = keep(w, s->value);
        if (!value)
            return resolve_no_memory(w->r);
        setting_apply(&at->set, s->kind, value);
        if (strcmp(s->kind->name, "shell") == 0)
            at->shell = value;
        if (strcmp(s->kind->name, "out") == 0) {
            if (at->out_count == 64)
                return FAIL(w, s->word->start, NULL, "more than 64 `out=` are in force");
            at->out[at->out_count++] = value;
        }
    }
    return 0;
}

static int lower_with(struct lower *w, struct stage *s, struct stream in, struct place at,
                      struct stream *out)
{
    struct place inner = at;
    if (apply_settings(w, s->setting, &inner) < 0)
        return -1;
    if (!s->braced) /* a prefix: |& behind it is the stage's */
        s->body->stage->join = s->join;
    struct stage plain = *s;
    plain.join = s->braced && s->join;
    return lower_group(w, &plain, s->body, in, &at, &inner, out);
}

static int lower_name(struct lower *w, struct stage *s, struct stream in, struct place at,
                      struct stream *out)
{
    struct place inner = at;
    if (++inner.depth > DSL_DEPTH_MAX)
        return FAIL(w, s->start, NULL, "names stand for names more than %d deep", DSL_DEPTH_MAX);
    if (s->from == STDIN_JOB && stdin_stream(w, &at, s->start, &in) < 0)
        return -1;
    return lower_group(w, s, s->definition->pipeline, in, &at, &inner, out);
}

/* The body between a SOURCE of the task's stdin and a SINK of its stdout. */
static int lower_body(struct lower *w, struct pipeline *body, struct place at, size_t where)
{
    struct stream in, out;
    uint32_t sink;
    if (stdin_stream(w, &at, where, &in) < 0 || lower_pipeline(w, body, in, at, &out) < 0)
        return -1;
    if (out.node == GRAPH_NONE)
        return 0;
    if (add_sink(w, GRAPH_SINK_STDOUT, NULL, where, &at, &sink) < 0)
        return -1;
    return join(w, out, sink, 0, where);
}

static int node_record(struct lower *w, const struct stage *s, uint32_t node)
{
    static const uint32_t kinds[] = {
        [RECORD_LINES] = GRAPH_RECORD_LINES, [RECORD_BYTES] = GRAPH_RECORD_BYTES,
        [RECORD_PARAGRAPH] = GRAPH_RECORD_PARAGRAPH, [RECORD_START] = GRAPH_RECORD_START,
        [RECORD_END] = GRAPH_RECORD_END,
    };
    struct graph_node *n = &w->g->node[node];
    n->per_file = s->per_file;
    n->record = s->by ? kinds[s->record] : GRAPH_RECORD_LINES;
    n->record_count = s->count ? s->count : 1;
    if (s->record_text.size) {
        n->record_text.data = arena_bytes(&w->g->arena, s->record_text.data, s->record_text.size);
        n->record_text.size = s->record_text.size;
        if (!n->record_text.data)
            return resolve_no_memory(w->r);
    }
    if (s->kind == STAGE_REDUCE) {
        n->key = keep(w, word_literal(s->key, w->r->arena));
        n->key_separator = s->separator_byte;
        n->into = (uint32_t)s->into;
    }
    return n->key || s->kind != STAGE_REDUCE ? 0 : resolve_no_memory(w->r);
}

static int lower_map(struct lower *w, struct stage *s, struct stream in, struct place at,
                     struct stream *out)
{
    struct table t;
    uint32_t node;
    if (s->from == STDIN_JOB && stdin_stream(w, &at, s->start, &in) < 0)
        return -1;
    if (read_table(w, s, in, &at, &t) < 0)
        return -1;
    if (t.in.node == GRAPH_NONE) { /* one empty block */
        uint32_t empty;
        if (add_source(w, NULL, 0, s->start, &at, &empty) < 0)
            return -1;
        t.in = one(empty, 1);
    }
    if (add_node(w, s->kind == STAGE_MAP ? GRAPH_MAP : GRAPH_REDUCE, s->start, &at, &node) < 0)
        return -1;
    t.in.seekable = false;
    if (join(w, t.in, node, 0, s->start) < 0 || node_settings(w, node, &at) < 0 ||
        node_record(w, s, node) < 0 || node_label(w, s, node) < 0)
        return -1;
    struct place body = at;
    body.parent = node;
    body.drain = false;
    if (lower_body(w, s->body, body, s->body->start) < 0)
        return -1;
    body.merge = true;
    if (s->merge && lower_body(w, s->merge, body, s->merge->start) < 0)
        return -1;
    return apply_table(w, &t, node, s->start, &at, out);
}

typedef int lower_stage(struct lower *w, struct stage *s, struct stream in, struct place at,
                        struct stream *out);

static lower_stage *const by_kind[] = {
    [STAGE_SIMPLE] = lower_simple, [STAGE_OPAQUE] = lower_simple, [STAGE_NAME] = lower_name,
    [STAGE_WITH] = lower_with,     [STAGE_MAP] = lower_map,       [STAGE_REDUCE] = lower_map,
};

/* The node whose status is the pipeline's, made since `from`: that of its last stage. */
static uint32_t status_node(const struct lower *w, uint32_t from, const struct place *at)
{
    uint32_t found = GRAPH_NONE;
    for (uint32_t i = from; i < w->g->node_count; i++) {
        const struct graph_node *n = &w->g->node[i];
        if (n->kind != GRAPH_SOURCE && n->kind != GRAPH_SINK && n->parent == at->parent &&
            n->drain == at->drain)
            found = i;
    }
    return found;
}

static int lower_pipeline(struct lower *w, struct pipeline *l, struct stream in, struct place at,
                          struct stream *out)
{
    uint32_t from = w->g->node_count;
    for (struct stage *s = l->stage; s; s = s->next) {
        from = w->g->node_count;
        if (by_kind[s->kind](w, s, in, at, out) < 0)
            return -1;
        in = *out;
    }
    w->g->timed = w->g->timed || l->timed;
    w->g->timed_posix = w->g->timed_posix || l->timed_posix;
    w->last = status_node(w, from, &at);
    if (l->negate && w->last != GRAPH_NONE)
        w->g->node[w->last].negate = !w->g->node[w->last].negate;
    return 0;
}

/* ---- statements --------------------------------------------------------------------------------- */

static int finish(struct lower *w, struct stream out, size_t at, const struct place *place)
{
    uint32_t sink;
    out.seekable = false;
    if (out.node != GRAPH_NONE && (add_sink(w, GRAPH_SINK_STDOUT, NULL, at, place, &sink) < 0 ||
                                   join(w, out, sink, 0, at) < 0))
        return -1;
    for (size_t i = 0; i < w->late_count; i++)
        if (add_sink(w, GRAPH_SINK_STDOUT, NULL, at, place, &sink) < 0 ||
            join(w, w->late[i], sink, 0, at) < 0)
            return -1;
    w->late_count = 0;
    return 0;
}

static int expect(struct lower *w, const struct statement *s, uint32_t sink)
{
    struct graph *g = w->g;
    struct graph_expect *list = arena_array(&g->arena, g->expect_count + 1, sizeof *list);
    const char *sha = keep(w, s->sha256);
    if (!list || !sha)
        return resolve_no_memory(w->r);
    if (g->expect_count >= NAMES_MAX)
        return FAIL(w, s->start, NULL, "there are more than %d checks", NAMES_MAX);
    if (g->expect_count)
        memcpy(list, g->expect, g->expect_count * sizeof *list);
    list[g->expect_count++] = (struct graph_expect){sink, sha};
    g->expect = list;
    return 0;
}

static int lower_check(struct lower *w, const struct statement *s, const struct place *at)
{
    const char *name = word_literal(s->name, w->r->arena);
    for (const struct definition *d = w->r->tree->definition; name && d; d = d->next)
        if (d->at < s->start && strcmp(d->name, name) == 0) {
            struct stream out;
            uint32_t sink;
            if (lower_pipeline(w, d->pipeline, NO_STREAM, *at, &out) < 0 ||
                add_sink(w, GRAPH_SINK_NULL, NULL, s->start, at, &sink) < 0)
                return -1;
            out.seekable = false;
            return join(w, out, sink, 0, s->start) < 0 ? -1 : expect(w, s, sink);
        }
    const char *path = name ? uses_path(w->r, name) : NULL;
    for (size_t i = 0; path && i < w->made_count; i++)
        if (strcmp(w->made[i].path, path) == 0)
            return expect(w, s, w->made[i].sink);
    return FAIL(w, s->name->start, NULL, "%.100s is neither a name nor an output above this line",
                name ? name : "this");
}

static int lower_statement(struct lower *w, struct statement *s, struct place *at)
{
    struct stream out;
    switch (s->kind) {
    case STATEMENT_WITH:
        return apply_settings(w, s->setting, at);
    case STATEMENT_CHECK:
        return lower_check(w, s, at);
    case STATEMENT_PIPELINE:
        if (lower_pipeline(w, s->pipeline, NO_STREAM, *at, &out) < 0)
            return -1;
        if (w->last != GRAPH_NONE)
            w->g->node[w->last].ends = true;
        return finish(w, out, s->start, at);
    case STATEMENT_ASSIGN:
    case STATEMENT_DEFINE:
        return 0;
    }
    return 0;
}

/* --with NAME=VALUE and --env */
static int apply_input(struct lower *w, struct place *at)
{
    const struct dsl_input *in = w->r->in;
    for (size_t i = 0; i < in->with_count; i++) {
        const char *equals = strchr(in->with[i], '=');
        const struct setting_kind_of *k =
            equals ? setting_find(in->with[i], (size_t)(equals - in->with[i])) : NULL;
        struct setting s = {.kind = k, .value = k ? equals + 1 : NULL};
        struct word none = {0};
        s.word = &none;
        if (k && apply_settings(w, &s, at) < 0)
            return -1;
    }
    const char **env = arena_array(&w->g->arena, in->env_count + 1, sizeof *env);
    if (!env)
        return resolve_no_memory(w->r);
    for (size_t i = 0; i < in->env_count; i++)
        if (!(env[i] = keep(w, in->env[i])))
            return resolve_no_memory(w->r);
    w->g->env = env;
    w->g->envc = (uint32_t)in->env_count;
    w->g->pipefail = in->pipefail;
    w->g->line_reads = in->line_reads;
    return 0;
}

static int lower_statements(struct lower *w)
{
    struct place at = {.parent = GRAPH_NONE, .set = {.image = ""}};
    w->made = arena_array(w->r->arena, WRITTEN_MAX, sizeof *w->made);
    if (!w->made)
        return resolve_no_memory(w->r);
    if (apply_input(w, &at) < 0)
        return -1;
    w->r->statement = 0;
    for (struct statement *s = w->r->tree->statement; s; s = s->next) {
        if (lower_statement(w, s, &at) < 0)
            return -1;
        w->r->statement++;
    }
    return graph_check(w->g, w->e) < 0 ? refused(w, 0) : 0;
}

struct graph *lower_tree(struct resolver *r, struct err *e)
{
    struct lower w = {.r = r, .e = e, .g = graph_new(e)};
    if (!w.g)
        return NULL;
    if (lower_statements(&w) < 0) {
        graph_free(w.g);
        return NULL;
    }
    return w.g;
}
