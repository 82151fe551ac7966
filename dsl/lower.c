/* See lower.h and dsl.h.  Lowering turns each stage into nodes, given the stream that flows into it, and returns the stream
 * that flows out.  An edge is made once both of its ends are known.  Each fd has one edge, and each edge joins two nodes. */
#include "dsl/lower.h"
#include "dsl/lower_inside.h"
#include "dsl/settings.h"
#include "dsl/split.h"

#include <string.h>

/* ---- <( ) and >( ) ----------------------------------------------------------------------- */

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
    for (const struct item *i = s->odd ? NULL : s->item; i; i = i->next)
        if (i->pipeline && pipeline_holes(i->pipeline))
            return true;
    return pipeline_holes(s->body);
}

/* <(p): connect the pipeline's output to fd N of the node.  In a body, a pipeline that does not depend on the task runs
 * once, outside the body. */
static int lower_in(struct lower *w, struct item *i, uint32_t node, struct place at)
{
    struct stream out;
    uint32_t empty;
    at.piped = true;
    bool own = i->pipeline->stage->from == STDIN_OWN || i->pipeline->stage->from == STDIN_JOB;
    at.drain = true;
    if (at.parent != GRAPH_NONE && own && !pipeline_holes(i->pipeline)) {
        at.parent = GRAPH_NONE;
        at.merge = false;
    }
    if (lower_pipeline(w, i->pipeline, NO_STREAM, at, &out) < 0)
        return -1;
    if (out.node == GRAPH_NONE) {
        if (lower_add_source(w, NULL, 0, i->at, &at, &empty) < 0)
            return -1;
        out = lower_one(empty, 1);
    }
    out.seekable = false;
    return lower_join(w, out, node, i->fd, i->at);
}

/* >(p): connect fd N of the node to the pipeline's input. */
static int lower_out(struct lower *w, struct item *i, uint32_t node, struct place at)
{
    struct stream out;
    at.drain = true;
    if (lower_pipeline(w, i->pipeline, lower_one(node, i->fd), at, &out) < 0)
        return -1;
    if (out.node == GRAPH_NONE)
        return 0;
    if (at.piped || at.parent != GRAPH_NONE || w->late_count == GRAPH_FDS_MAX)
        return FAIL(w, i->at, "write >( … > FILE )",
                    "the output of this >( ) would go into the pipe, in no fixed order");
    w->late[w->late_count++] = out;
    return 0;
}

static int lower_substs(struct lower *w, struct stage *s, uint32_t node, const struct place *at)
{
    for (struct item *i = s->odd ? NULL : s->item; i; i = i->next) {
        if (i->kind != ITEM_SUBST)
            continue;
        if ((i->out ? lower_out(w, i, node, *at) : lower_in(w, i, node, *at)) < 0)
            return -1;
    }
    return 0;
}

/* ---- stages ------------------------------------------------------------------------------ */

/* A stage that is one process. */
static int lower_process(struct lower *w, struct stage *s, struct stream in, const struct place *at,
                         struct stream *out)
{
    struct table t;
    uint32_t node;
    if (s->from == STDIN_JOB && lower_stdin(w, at, s->start, &in) < 0)
        return -1;
    if (lower_table(w, s, in, at, &t) < 0 ||
        lower_add_node(w, s->text ? GRAPH_SHELL : GRAPH_COMMAND, s->start, at, &node) < 0)
        return -1;
    if (lower_join(w, t.in, node, 0, s->start) < 0 || lower_settings(w, node, at) < 0 ||
        lower_files(w, s, node) < 0 || lower_outputs(w, s, node, at) < 0 ||
        (at->parent == GRAPH_NONE && lower_keep_words(w, s, node) < 0) ||
        lower_words(w, s, node, at) < 0 || lower_label(w, s, node) < 0)
        return -1;
    if (lower_substs(w, s, node, at) < 0)
        return -1;
    return lower_apply(w, &t, node, s->start, at, out);
}

/* `cat F...` at the start: a SOURCE node with segments, no process. */
static int lower_source(struct lower *w, struct stage *s, const struct place *at,
                        struct stream *out)
{
    struct table t;
    uint32_t node, count = 0, words = 0;
    struct stream own = NO_STREAM;
    if (lower_table(w, s, NO_STREAM, at, &t) < 0)
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
        const struct written *from = written_awaited(w->r, v->text, true);
        if (lower_source_file(w, v->text, from, place, &list[count++]) < 0)
            return -1;
    }
    if (!words && s->from == STDIN_JOB)
        list[count++] = (struct graph_segment){.kind = GRAPH_SEGMENT_STDIN};
    bool stdin_used = s->from == STDIN_JOB && (took || !words);
    if (stdin_used && w->stdin_made)
        return FAIL(w, s->start, "keep it in a file first",
                    "only one stage can read the stdin of the job");
    w->stdin_made = w->stdin_made || stdin_used;
    if (!words && t.in.node != GRAPH_NONE)
        own = t.in;
    else if (lower_stop(w, t.in, s->start, at) < 0)
        return -1;
    if (own.node == GRAPH_NONE) {
        struct place outside = *at;
        outside.drain = false;
        if (lower_add_source(w, list, count, s->start, &outside, &node) < 0 ||
            lower_label(w, s, node) < 0)
            return -1;
        own = lower_one(node, 1);
    }
    own.seekable = false;
    *out = t.to[1] == TO_OUT ? own : NO_STREAM;
    return t.to[1] == TO_OUT ? 0 : lower_join(w, own, (uint32_t)t.to[1], 0, s->start);
}

static int lower_simple(struct lower *w, struct stage *s, struct stream in, struct place at,
                        struct stream *out)
{
    return s->source ? lower_source(w, s, &at, out) : lower_process(w, s, in, &at, out);
}

static bool has_status(const struct graph_node *n)
{
    return n->kind != GRAPH_SOURCE && n->kind != GRAPH_SINK && n->kind != GRAPH_BROADCAST;
}

/* Apply a redirection of stderr that was written behind a block to the stages in it. */
static int block_stderr(struct lower *w, struct stage *s, struct table *t, uint32_t from,
                        const struct place *at, struct stream *out)
{
    uint32_t count = 0, only = GRAPH_NONE;
    for (uint32_t i = from; i < w->g->node_count; i++) {
        const struct graph_node *n = &w->g->node[i];
        if (n->parent != at->parent || n->drain != at->drain || graph_fd_of(n, 2) || !has_status(n))
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
        if (n->parent != at->parent || n->drain != at->drain || graph_fd_of(n, 2) || !has_status(n))
            continue;
        if (count > 1 && lower_add_sink(w, GRAPH_SINK_NULL, NULL, s->start, at, &sink) < 0)
            return -1;
        if (lower_join(w, lower_one(i, 2), sink, 0, s->start) < 0)
            return -1;
    }
    return 0;
}

/* Lower the pipeline that the block holds or the name stands for. */
static int lower_inner(struct lower *w, struct stage *s, struct stream in, const struct table *t,
                       const struct place *inner, struct stream *out)
{
    if (s->kind != STAGE_NAME)
        return lower_pipeline(w, s->body, in, *inner, out);
    if (lower_is_shared(w, s->definition, inner) && t->to[2] != TO_ERR)
        return FAIL(w, s->start, "redirect it where the name is defined",
                    "%.100s is computed once for all its uses, and its stderr cannot be redirected at one",
                    s->definition->name);
    return lower_named(w, s->definition, in, *inner, s->start, out);
}

/* A pipeline where a stage is expected: a with-block, or the name of a pipeline. */
static int lower_group(struct lower *w, struct stage *s, struct stream in, const struct place *outer,
                       const struct place *inner, struct stream *out)
{
    struct table t;
    struct stream made;
    if (lower_table(w, s, in, outer, &t) < 0)
        return -1;
    uint32_t from = w->g->node_count;
    struct place own = *inner;
    own.piped |= t.to[1] != TO_OUT;
    if (lower_inner(w, s, t.in, &t, &own, &made) < 0)
        return -1;
    bool both = t.to[1] == t.to[2] && t.to[2] != TO_ERR && t.to[2] != TO_OUT;
    if (both)
        t.to[2] = TO_OUT; /* `> f 2>&1`: one edge for both fds, possible if there is only one process */
    if (t.to[1] == TO_ERR) {
        uint32_t sink;
        if (lower_add_sink(w, GRAPH_SINK_STDERR, NULL, s->start, outer, &sink) < 0)
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
        return lower_unused(w, &t, s->start, outer);
    if (made.node == GRAPH_NONE) {
        uint32_t empty;
        if (lower_add_source(w, NULL, 0, s->start, outer, &empty) < 0)
            return -1;
        made = lower_one(empty, 1);
    }
    made.seekable = false;
    int64_t out_sink = t.to[1];
    if (lower_join(w, made, (uint32_t)out_sink, 0, s->start) < 0)
        return -1;
    return lower_unused(w, &t, s->start, outer);
}

static int apply_settings(struct lower *w, const struct setting *s, struct place *at)
{
    for (; s; s = s->next) {
        const char *value = lower_keep(w, s->value);
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
    if (!s->braced) /* `with` without braces: a |& behind it belongs to the stage */
        s->body->stage->join = s->join;
    struct stage plain = *s;
    plain.join = s->braced && s->join;
    return lower_group(w, &plain, in, &at, &inner, out);
}

static int lower_name(struct lower *w, struct stage *s, struct stream in, struct place at,
                      struct stream *out)
{
    if (s->from == STDIN_JOB && lower_stdin(w, &at, s->start, &in) < 0)
        return -1;
    return lower_group(w, s, in, &at, &at, out);
}

/* Lower a body, between a SOURCE that stands for the task's stdin and a SINK that stands for its stdout. */
static int lower_body(struct lower *w, struct pipeline *body, struct place at, size_t where)
{
    struct stream in, out;
    uint32_t sink;
    if (lower_stdin(w, &at, where, &in) < 0 || lower_pipeline(w, body, in, at, &out) < 0)
        return -1;
    if (out.node == GRAPH_NONE)
        return 0;
    if (lower_add_sink(w, GRAPH_SINK_STDOUT, NULL, where, &at, &sink) < 0)
        return -1;
    return lower_join(w, out, sink, 0, where);
}

static int node_record(struct lower *w, const struct stage *s, uint32_t node)
{
    static const uint32_t kinds[] = {
        [RECORD_LINES] = GRAPH_RECORD_LINES,
        [RECORD_BYTES] = GRAPH_RECORD_BYTES,
        [RECORD_PARAGRAPH] = GRAPH_RECORD_PARAGRAPH,
        [RECORD_START] = GRAPH_RECORD_START,
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
        n->key = lower_keep(w, word_literal(s->key, w->r->arena));
        n->key_separator = s->separator_byte;
        n->into = (uint32_t)s->into;
    }
    return n->key || s->kind != STAGE_REDUCE ? 0 : resolve_no_memory(w->r);
}

/* `map per file` has one task per file, so only files may flow into it. */
static bool comes_in_files(const struct lower *w, const struct stream *in)
{
    const struct graph_node *n = in->node == GRAPH_NONE ? NULL : &w->g->node[in->node];
    if (!n)
        return true;
    bool files = n->kind == GRAPH_SOURCE;
    for (uint32_t i = 0; i < n->segment_count; i++)
        files = files && n->segment[i].kind == GRAPH_SEGMENT_FILE;
    return files;
}

static int lower_map(struct lower *w, struct stage *s, struct stream in, struct place at,
                     struct stream *out)
{
    struct table t;
    uint32_t node;
    if (s->from == STDIN_JOB && lower_stdin(w, &at, s->start, &in) < 0)
        return -1;
    if (lower_table(w, s, in, &at, &t) < 0)
        return -1;
    bool no_files = s->per_file && !comes_in_files(w, &t.in);
    if (no_files && w->r->in->each_count && w->r->no_file)
        return FAIL(w, s->start,
                    *w->r->no_file == '-' ? "a file whose name begins with a dash is written ./-NAME"
                                          : "every FILE must be there, and be one that can be read",
                    "`:::` wants files, and `%.200s` is none", w->r->no_file);
    if (no_files)
        return FAIL(w, s->start, "as in cat FILE… | map per file …, where every FILE is there",
                    "`map per file` needs files before it");
    if (t.in.node == GRAPH_NONE) { /* nothing flows in: the map has one empty block */
        uint32_t empty;
        if (lower_add_source(w, NULL, 0, s->start, &at, &empty) < 0)
            return -1;
        t.in = lower_one(empty, 1);
    }
    if (lower_add_node(w, s->kind == STAGE_MAP ? GRAPH_MAP : GRAPH_REDUCE, s->start, &at, &node) <
        0)
        return -1;
    t.in.seekable = false;
    if (lower_join(w, t.in, node, 0, s->start) < 0 || lower_settings(w, node, &at) < 0 ||
        node_record(w, s, node) < 0 || lower_label(w, s, node) < 0)
        return -1;
    struct place body = at;
    body.parent = node;
    body.drain = false;
    if (lower_body(w, s->body, body, s->body->start) < 0)
        return -1;
    body.merge = true;
    if (s->merge && lower_body(w, s->merge, body, s->merge->start) < 0)
        return -1;
    if ((s->per_file || s->kind == STAGE_REDUCE) && lower_name_outputs(w, node, s->start) < 0)
        return -1;
    return lower_apply(w, &t, node, s->start, &at, out);
}

typedef int lower_stage(struct lower *w, struct stage *s, struct stream in, struct place at,
                        struct stream *out);

static lower_stage *const by_kind[] = {
    [STAGE_SIMPLE] = lower_simple, [STAGE_OPAQUE] = lower_simple, [STAGE_NAME] = lower_name,
    [STAGE_WITH] = lower_with,     [STAGE_MAP] = lower_map,       [STAGE_REDUCE] = lower_map,
};

/* The node whose status is the pipeline's: the last one with a status among those made since `from`. */
static uint32_t status_node(const struct lower *w, uint32_t from, const struct place *at)
{
    uint32_t found = GRAPH_NONE;
    for (uint32_t i = from; i < w->g->node_count; i++) {
        const struct graph_node *n = &w->g->node[i];
        if (has_status(n) && n->parent == at->parent && n->drain == at->drain)
            found = i;
    }
    return found;
}

/* Is its last stage a named pipeline that is used elsewhere too? */
static bool ends_shared(const struct lower *w, const struct pipeline *l, const struct place *at)
{
    const struct stage *s = l->stage;
    while (s->next)
        s = s->next;
    return s->kind == STAGE_NAME && lower_is_shared(w, s->definition, at);
}

int lower_pipeline(struct lower *w, struct pipeline *l, struct stream in, struct place at,
                   struct stream *out)
{
    uint32_t from = w->g->node_count;
    bool inner = false; /* the last stage is itself a pipeline, whose lowering has set w->last */
    for (struct stage *s = l->stage; s; s = s->next) {
        inner = s->kind == STAGE_NAME || s->kind == STAGE_WITH;
        from = w->g->node_count;
        struct place own = at;
        own.piped |= s->next != NULL;
        if (by_kind[s->kind](w, s, in, own, out) < 0)
            return -1;
        in = *out;
    }
    w->g->timed = w->g->timed || l->timed;
    w->g->timed_posix = w->g->timed_posix || l->timed_posix;
    if (!inner)
        w->last = status_node(w, from, &at);
    if (l->negate && ends_shared(w, l, &at))
        return FAIL(w, l->start, "put `| cat` behind the name",
                    "the status of a name that has other uses too cannot be turned around");
    if (l->negate && w->last != GRAPH_NONE)
        w->g->node[w->last].negate = !w->g->node[w->last].negate;
    return 0;
}

/* ---- statements -------------------------------------------------------------------------- */

static int print(struct lower *w, struct stream out, size_t at, const struct place *place)
{
    uint32_t sink;
    out.seekable = false;
    if (out.node != GRAPH_NONE &&
        (lower_add_sink(w, GRAPH_SINK_STDOUT, NULL, at, place, &sink) < 0 ||
         lower_join(w, out, sink, 0, at) < 0))
        return -1;
    return 0;
}

static int expect(struct lower *w, const struct statement *s, uint32_t sink)
{
    struct graph *g = w->g;
    struct graph_expect *list = arena_array(&g->arena, g->expect_count + 1, sizeof *list);
    const char *sha = lower_keep(w, s->sha256);
    if (!list || !sha)
        return resolve_no_memory(w->r);
    if (g->expect_count >= CHECKS_MAX)
        return FAIL(w, s->start, NULL, "there are more than %d checks", CHECKS_MAX);
    if (g->expect_count)
        memcpy(list, g->expect, g->expect_count * sizeof *list);
    uint32_t line, column;
    text_place(w->r->text, s->start, &line, &column);
    list[g->expect_count++] = (struct graph_expect){sink, sha, lower_keep(w, word_literal(s->name, w->r->arena)), line};
    if (!list[g->expect_count - 1].name)
        return resolve_no_memory(w->r);
    g->expect = list;
    return 0;
}

static int lower_check(struct lower *w, const struct statement *s, const struct place *at)
{
    const struct definition *d = lower_checked(w, s);
    if (d) {
        struct stream out;
        uint32_t sink;
        if (lower_named(w, d, NO_STREAM, *at, s->start, &out) < 0 ||
            lower_add_sink(w, GRAPH_SINK_NULL, NULL, s->start, at, &sink) < 0)
            return -1;
        out.seekable = false;
        return lower_join(w, out, sink, 0, s->start) < 0 ? -1 : expect(w, s, sink);
    }
    const char *name = word_literal(s->name, w->r->arena);
    const char *path = name ? uses_path(w->r, name) : NULL;
    for (const struct made *m = path ? w->made : NULL; m; m = m->next)
        if (m->sink != GRAPH_NONE && strcmp(m->path, path) == 0)
            return expect(w, s, m->sink);
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
        return print(w, out, s->start, at);
    case STATEMENT_DEFINE:
        lower_define(w, s->definition, at);
        return 0;
    case STATEMENT_ASSIGN:
        return 0;
    }
    return 0;
}

/* Apply --with NAME=VALUE and --env. */
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
        if (!(env[i] = lower_keep(w, in->env[i])))
            return resolve_no_memory(w->r);
    w->g->env = env;
    w->g->envc = (uint32_t)in->env_count;
    w->g->pipefail = in->pipefail;
    w->g->split_bytes = in->split_bytes;
    w->g->line_reads = in->line_reads;
    return 0;
}

/* Does a statement whose nodes begin at `first` write to the job's stdout? */
static bool prints(const struct graph *g, uint32_t first)
{
    for (uint32_t i = first; i < g->node_count; i++)
        if (g->node[i].kind == GRAPH_SINK && g->node[i].sink == GRAPH_SINK_STDOUT && g->node[i].parent == GRAPH_NONE)
            return true;
    return false;
}

static int lower_statements(struct lower *w)
{
    struct place at = {.parent = GRAPH_NONE, .set = {.image = ""}};
    if (apply_input(w, &at) < 0 || lower_names(w) < 0)
        return -1;
    uint32_t printed = 0; /* the first phase after those of all statements that have printed so far */
    w->r->statement = 0;
    for (struct statement *s = w->r->tree->statement; s; s = s->next) {
        const struct made *before = w->made;
        uint32_t first = w->g->node_count, edge = w->g->edge_count;
        w->phase = 0;
        if (lower_statement(w, s, &at) < 0)
            return -1;
        if (w->late_count == 1 && !prints(w->g, first) &&
            print(w, w->late[--w->late_count], s->start, &at) < 0)
            return -1;
        if (w->late_count || prints(w->g, first)) { /* statements that print run one after the other, in the order of the file */
            w->phase = w->phase < printed ? printed : w->phase;
            printed = w->phase + 1 + (w->late_count > 0);
        }
        for (uint32_t i = first; i < w->g->node_count; i++)
            w->g->node[i].phase = w->phase;
        for (struct made *m = w->made; m != before; m = m->next)
            m->phase = w->phase;
        if (w->late_count && lower_late(w, s->start) < 0)
            return -1;
        if (lower_hand_over(w, edge, s->start) < 0)
            return -1;
        w->r->statement++;
    }
    if (lower_names_differ(w) < 0)
        return -1;
    if (split_graph(w->g, w->r->commands, w->e) < 0)
        return lower_refused(w, 0);
    return graph_check(w->g, w->e) < 0 ? lower_refused(w, 0) : 0;
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
