/* What would run, and why a stage is not parallel: one row for each node of the graph that does something. */
#include "scheduler/state.h"

#include "proto/lent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *class_of(const struct graph_node *n)
{
    static const char *const names[GRAPH_KINDS] = {
        [GRAPH_COMMAND] = "stream", [GRAPH_SHELL] = "opaque", [GRAPH_SOURCE] = "source",
        [GRAPH_SINK] = "output",    [GRAPH_MAP] = "map",      [GRAPH_REDUCE] = "reduce",
        [GRAPH_BROADCAST] = "broadcast"};
    return n->split.cut == GRAPH_CUT_NONE ? names[n->kind] : graph_class(n);
}

/* Describe where the stage's input may be cut, and how the outputs of blocks are combined. */
static void split_texts(const struct graph_node *n, bool ranges, struct buf *cut, struct buf *combine)
{
    static const char *const cuts[GRAPH_CUTS] = {"none", "bytes", "lines", "nuls", "files"};
    const struct graph_split *s = &n->split;
    if (ranges) {
        buf_text(cut, "key ranges");
        buf_text(combine, "concat, by the key ranges of the sort");
        return;
    }
    buf_text(cut, cuts[s->cut]);
    if (s->cut_step > 1)
        buf_printf(cut, " %" PRIu64, s->cut_step);
    if (s->cut == GRAPH_CUT_NONE)
        return;
    if (s->order_argc)
        buf_text(combine, "by key range: ");
    for (uint32_t i = 0; i < s->combine_argc && !combine->failed; i++)
        buf_printf(combine, "%s%s", i ? " " : "", s->combine_argv[i]);
    if (s->combine == GRAPH_COMBINE_NATIVE)
        buf_text(combine, s->combine_text);
    else if (!s->combine_argc)
        buf_text(combine, s->combine == GRAPH_COMBINE_REVERSE ? "reverse" : "concat");
}

/* Keep the collected text in the arena, cut off at the length that a message allows. */
static const char *keep_text(struct arena *a, struct buf *b)
{
    const char *text = arena_bytes(a, b->data, b->size);
    buf_clear(b);
    return text;
}

static void size_text(struct buf *b, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    buf_printf(b, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void source_detail(const struct graph *g, const struct graph_node *n, struct buf *b)
{
    uint64_t bytes = 0;
    uint32_t files = 0;
    bool in = false;
    for (uint32_t i = 0; i < n->segment_count; i++) {
        const struct graph_segment *s = &n->segment[i];
        in |= s->kind == GRAPH_SEGMENT_STDIN;
        files += s->kind == GRAPH_SEGMENT_FILE;
        bytes += s->kind == GRAPH_SEGMENT_FILE ? g->file[s->file].size_bytes : s->text.size;
    }
    if (in)
        buf_text(b, "stdin");
    if (files) {
        buf_printf(b, "%s%u file%s, ", in ? " and " : "", files, files == 1 ? "" : "s");
        size_text(b, bytes);
    } else if (!in) {
        buf_text(b, "text, ");
        size_text(b, bytes);
    }
}

/* For an edge that is not stdin or stdout: name the rows of the plan behind it, following their stdin or stdout from stage
 * to stage. */
static void edge_detail(const struct graph *g, const struct graph_node *n, const struct graph_fd *f, struct buf *b)
{
    bool reads = &g->node[g->edge[f->edge].to] == n;
    uint32_t first = UINT32_MAX, last = 0, at = reads ? g->edge[f->edge].from : g->edge[f->edge].to;
    for (uint32_t i = 0; i < g->node_count; i++) { /* ends, as there is no cycle */
        if (g->node[at].kind != GRAPH_SINK) {
            first = at < first ? at : first;
            last = at > last ? at : last;
        }
        const struct graph_fd *next = graph_fd_of(&g->node[at], reads ? 0 : 1);
        if (!next || g->node[at].kind == GRAPH_BROADCAST || g->node[at].kind == GRAPH_SOURCE ||
            g->node[at].kind == GRAPH_SINK)
            break;
        at = reads ? g->edge[next->edge].from : g->edge[next->edge].to;
    }
    if (first == UINT32_MAX) /* it leads to a sink, which only a graph built by a program can have there */
        first = last = at;
    buf_printf(b, "%sedge %d: stage%s %u", b->size ? ", " : "", f->fd, first < last ? "s" : "", first + 1);
    if (first < last)
        buf_printf(b, "-%u", last + 1);
}

/* How many tasks a map has at most; records that are longer than a block make them fewer.  0: not known, as when each
 * record is a block. */
static uint64_t tasks_of(const struct graph *g, const struct graph_node *n)
{
    const struct graph_fd *in = graph_fd_of(n, 0);
    const struct graph_node *from = in ? &g->node[g->edge[in->edge].from] : NULL;
    uint64_t bytes = 0, step = n->set.block_bytes ? n->set.block_bytes : g->split_bytes;
    if (!from || from->kind != GRAPH_SOURCE || (step == 1 && !n->per_file))
        return 0;
    if (n->per_file)
        return from->segment_count;
    for (uint32_t i = 0; i < from->segment_count; i++) {
        const struct graph_segment *s = &from->segment[i];
        if (s->kind == GRAPH_SEGMENT_STDIN)
            return 0;
        bytes += s->kind == GRAPH_SEGMENT_FILE ? g->file[s->file].size_bytes : s->text.size;
    }
    if (bytes == 0)
        return 1;
    if (step && step != GRAPH_SPLIT_NEVER)
        return bytes / step + (bytes % step != 0);
    return graph_nominal_count(bytes);
}

static void map_detail(const struct graph *g, uint32_t i, struct buf *b)
{
    const struct graph_node *n = &g->node[i];
    uint64_t tasks = tasks_of(g, n), fan = n->set.fan ? n->set.fan < 2 ? 2 : n->set.fan : GRAPH_FAN_DEFAULT;
    bool merges = false;
    for (uint32_t k = 0; k < g->node_count; k++)
        merges |= g->node[k].parent == i && g->node[k].merge;
    bool exact = n->per_file || !n->set.block_bytes;
    buf_printf(b, "author, per %s", n->per_file ? "file" : n->set.block_bytes == 1 ? "record" : "block");
    if (tasks)
        buf_printf(b, ", %s%s%" PRIu64, n->per_file ? "tasks" : "blocks", exact ? "=" : "<=", tasks);
    if (merges)
        buf_text(b, ", merge tree");
    for (bool first = true; merges && tasks && (first || tasks > 1); first = false) {
        if (first)
            buf_printf(b, " %" PRIu64, tasks);
        tasks = (tasks + fan - 1) / fan;
        buf_printf(b, "→%" PRIu64, tasks);
    }
}

static void detail(const struct graph *g, const struct graph_node *n, struct buf *b)
{
    static const char *const sinks[GRAPH_SINKS] = {"stdout", "stderr", "", "appended to ",
                                                   "/dev/null"};
    if (n->kind == GRAPH_SOURCE)
        source_detail(g, n, b);
    else if (n->kind == GRAPH_SINK)
        buf_printf(b, "%s%s", sinks[n->sink], n->path);
    else if (n->kind == GRAPH_BROADCAST)
        buf_printf(b, "to %u readers", n->fd_count - 1);
    else if (n->kind == GRAPH_REDUCE)
        buf_printf(b, "by %s partitions=%u", n->key, n->into);
    else if (n->kind == GRAPH_MAP)
        map_detail(g, (uint32_t)(n - g->node), b);
    else if (n->file_count)
        buf_printf(b, "%u input file%s", n->file_count, n->file_count == 1 ? "" : "s");
    for (uint32_t k = 0; k < n->fd_count && n->kind != GRAPH_BROADCAST; k++)
        if (n->fd[k].fd > 2)
            edge_detail(g, n, &n->fd[k], b);
}

/* Say why only one worker of a cluster can run the stage's blocks. */
static void stays_detail(const struct graph *g, const struct graph_stages *all, uint32_t i, struct buf *b)
{
    for (uint32_t k = 0; k < all->count; k++) {
        const struct graph_stage *s = &all->stage[k];
        bool is = s->author != GRAPH_NONE ? s->author == i : all->node[s->first] == i;
        const char *why = is ? stage_stays_why(g, all, s) : NULL;
        if (why)
            buf_printf(b, "%son one worker: %s", b->size ? ", " : "", why);
    }
}

static int row_make(const struct graph *g, const struct graph_stages *s, uint32_t i, struct arena *a, struct msg_plan_row *row,
                    struct err *e)
{
    const struct graph_node *n = &g->node[i];
    struct buf text = BUF_INIT(MSG_TEXT_MAX), where = BUF_INIT(MSG_TEXT_MAX),
               how = BUF_INIT(MSG_TEXT_MAX);
    detail(g, n, &text);
    stays_detail(g, s, i, &text);
    bool ranges = s->of_node[i] != GRAPH_NONE && s->stage[s->of_node[i]].ranges && s->node[s->stage[s->of_node[i]].first] == i;
    split_texts(n, ranges, &where, &how);
    const char *copy = keep_text(a, &text), *cut = keep_text(a, &where),
               *combine = keep_text(a, &how);
    /* The graph is freed before the message is sent. */
    const char *stage = arena_string(a, n->kind == GRAPH_SINK ? "" : n->label);
    const char *why = arena_string(a, *n->why ? n->why : s->once[i]);
    if (!copy || !cut || !combine || !stage || !why)
        return err_nomem(e);
    *row = (struct msg_plan_row){i, stage, class_of(n), why, copy, cut, combine};
    return 0;
}

int plan_send(struct core *c, uint64_t link, uint64_t request, const struct graph *g, struct err *e)
{
    struct action *a = action_new(c, link, e);
    if (!a)
        return -1;
    struct graph_stages stages;
    struct msg_plan_row *row = arena_array(&a->arena, (size_t)g->node_count + 1, sizeof *row);
    int r = row ? graph_stages(g, &a->arena, &stages, e) : err_nomem(e);
    for (uint32_t i = 0; r == 0 && i < g->node_count; i++)
        r = row_make(g, &stages, i, &a->arena, &row[i], e);
    a->out.msg = (struct msg){.type = MSG_PLAN, .plan = {request, row, g->node_count}};
    if (r < 0 || action_check(&a->out.msg, e) < 0) {
        action_forget(c, a);
        return -1;
    }
    action_queue(c, a);
    return 0;
}

const char *plan_refusal(const struct graph *g)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        if (n->merge && (graph_is_task_sink(n) || n->output_count))
            return "a `merge` cannot write files of its own: put the > after its closing brace";
        if (n->out_glob_count && (n->kind == GRAPH_MAP || n->kind == GRAPH_REDUCE || n->parent != GRAPH_NONE))
            return "`with out=` cannot be in force for a map or reduce: its tasks' outputs are what `>` names, as in "
                   "`map per file { ./p > {.}.out }`";
        if (n->holes && n->parent == GRAPH_NONE)
            return "`{}` stands for a file of a `map`: it means nothing outside of one";
    }
    return NULL;
}
