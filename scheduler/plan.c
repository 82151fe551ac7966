/* What would run, and why a stage is not parallel: one row per node of the graph that does something. */
#include "scheduler/state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *class_of(const struct graph_node *n)
{
    static const char *const names[GRAPH_KINDS] = {[GRAPH_COMMAND] = "stream", [GRAPH_SHELL] = "opaque",
                                                   [GRAPH_SOURCE] = "source",  [GRAPH_SINK] = "output",
                                                   [GRAPH_MAP] = "map",        [GRAPH_REDUCE] = "reduce"};
    return names[n->kind];
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

static void detail(const struct graph *g, const struct graph_node *n, struct buf *b)
{
    static const char *const sinks[GRAPH_SINKS] = {"stdout", "stderr", "", "appended to ", "/dev/null"};
    if (n->kind == GRAPH_SOURCE)
        source_detail(g, n, b);
    else if (n->kind == GRAPH_SINK)
        buf_printf(b, "%s%s", sinks[n->sink], n->path);
    else if (n->kind == GRAPH_REDUCE)
        buf_printf(b, "by %s partitions=%u", n->key, n->into);
    else if (n->kind == GRAPH_MAP)
        buf_text(b, n->per_file ? "per file" : "per block");
    else if (n->file_count)
        buf_printf(b, "%u input file%s", n->file_count, n->file_count == 1 ? "" : "s");
}

void plan_send(struct core *c, uint64_t link, uint64_t request, const struct graph *g)
{
    struct msg_plan_row *row = calloc((size_t)g->node_count + 1, sizeof *row);
    struct buf *text = calloc((size_t)g->node_count + 1, sizeof *text);
    if (!row || !text)
        abort();
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        text[i] = BUF_INIT(MSG_TEXT_MAX);
        detail(g, n, &text[i]);
        const char *stage = n->kind == GRAPH_SINK ? "" : n->label;
        row[i] = (struct msg_plan_row){i, stage, class_of(n), n->why, text[i].data ? text[i].data : ""};
    }
    struct msg m = {.type = MSG_PLAN, .plan = {request, row, g->node_count}};
    core_send(c, link, &m, (struct slice){"", 0});
    for (uint32_t i = 0; i < g->node_count; i++)
        buf_clear(&text[i]);
    free(text);
    free(row);
}

const char *plan_refusal(const struct graph *g)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        if (n->kind == GRAPH_MAP || n->parent != GRAPH_NONE)
            return "`map` and `merge` are understood and planned, but this version does not run them yet; "
                   "`zpipe plan` shows what they would do";
        if (n->kind == GRAPH_REDUCE)
            return "`reduce` is understood and planned, but this version does not run it yet; "
                   "`zpipe plan` shows what it would do";
        if (n->out_glob_count)
            return "`with out=PATTERN` is understood, but this version does not collect such files yet; name "
                   "them with `>`, `tee` or `-o`";
        for (uint32_t k = 0; k < n->fd_count; k++)
            if (n->fd[k].fd > 2)
                return "`<( )` and `>( )` are understood and planned, but this version does not run them yet; "
                       "`zpipe plan` shows what they would do";
    }
    if (g->expect_count)
        return "`check` is understood, but this version does not run it yet";
    return NULL;
}
