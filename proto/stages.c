/* See stages.h. */
#include "proto/stages.h"

#include "proto/combine.h"
#include "proto/flow.h"

#include <string.h>

/* The edge at a node's descriptor, GRAPH_NONE: none. */
static uint32_t edge_at(const struct graph_node *n, int fd)
{
    const struct graph_fd *f = graph_fd_of(n, fd);
    return f ? f->edge : GRAPH_NONE;
}

/* May the planner cut it?  It must read only stdin (or its files) and write only stdout. */
static bool can_be_cut(const struct graph_node *n)
{
    const struct graph_split *s = &n->split;
    if (n->kind != GRAPH_COMMAND || s->cut == GRAPH_CUT_NONE || n->parent != GRAPH_NONE)
        return false;
    for (uint32_t i = 0; i < n->fd_count; i++)
        if (n->fd[i].fd > 1)
            return false;
    uint32_t in = edge_at(n, 0);
    if (in == GRAPH_NONE)
        return s->file_count > 0;
    return !s->file_count; /* else its writer needs a reader, even one that leaves at once */
}

static uint64_t source_bytes(const struct graph *g, const struct graph_node *source)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < source->segment_count; i++) {
        const struct graph_segment *s = &source->segment[i];
        if (s->kind == GRAPH_SEGMENT_STDIN)
            return UINT64_MAX;
        bytes += s->kind == GRAPH_SEGMENT_FILE ? g->file[s->file].size_bytes : s->text.size;
    }
    return bytes;
}

static uint64_t files_bytes(const struct graph *g, const struct graph_node *n)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n->split.file_count; i++)
        bytes += g->file[n->split.file[i]].size_bytes;
    return bytes;
}

bool split_joins_files(const struct graph_node *n)
{
    const struct graph_split *s = &n->split;
    static const char hole[] = {GRAPH_HOLE, '{', '\0'};
    bool last = s->cut == GRAPH_CUT_FILES && s->block_argc > 1 && !strcmp(s->block_argv[s->block_argc - 1], hole) &&
                !strcmp(s->block_argv[0], n->argv[0]);
    for (uint32_t i = 0; last && i + 1 < s->block_argc; i++)
        last = !strchr(s->block_argv[i], GRAPH_HOLE);
    return last;
}

/* Its runs may be of one file each. */
static bool has_small_files(const struct graph *g, const struct graph_node *n)
{
    uint32_t count = n->split.file_count;
    return !split_joins_files(n) && count > 1 && count <= GRAPH_FILES_ONCE && files_bytes(g, n) / count < GRAPH_FILE_MIN;
}

/* The size of its input, if that can be known.  For a stream it is not known; but what commands of the table make of a
 * small file is small. */
static uint64_t input_bytes(const struct graph *g, const struct graph_node *n)
{
    const struct graph_node *at = n;
    while (!at->split.file_count) {
        uint32_t in = edge_at(at, 0);
        if (in == GRAPH_NONE)
            return 0;
        const struct graph_node *from = &g->node[g->edge[in].from];
        if (from->kind == GRAPH_SOURCE) {
            uint64_t bytes = source_bytes(g, from);
            return at == n || bytes < GRAPH_SPLIT_MIN ? bytes : UINT64_MAX;
        }
        if (from->kind != GRAPH_COMMAND || from->split.cut == GRAPH_CUT_NONE)
            return UINT64_MAX;
        at = from;
    }
    uint64_t bytes = files_bytes(g, at);
    return at == n || bytes < GRAPH_SPLIT_MIN ? bytes : UINT64_MAX;
}

static bool is_small(const struct graph *g, const struct graph_node *n)
{
    return input_bytes(g, n) < GRAPH_SPLIT_MIN && !(split_joins_files(n) && n->split.file_count > GRAPH_FILES_RUN);
}

/* Bytes that pass inside a stage are not looked at: so bytes that spoil `n` must not be able to occur there. */
static bool stays_clean(const struct graph *g, const struct graph_stages *out, const struct graph_stage *s,
                        const struct graph_node *n)
{
    const struct slice *spoils = &n->split.spoils;
    bool clean = spoils->size == 0 || (spoils->size == 1 && !*(const char *)spoils->data);
    for (uint32_t i = 0; clean && spoils->size && i < s->count; i++)
        clean = !g->node[out->node[s->first + i]].split.makes_zeros;
    return clean;
}

/* Do a stage's outputs end lines where its blocks do?  What one command has joined (`tr -d '\n'`), none behind it takes apart again. */
static bool ends_lines(const struct graph *g, const struct graph_stages *out, const struct graph_stage *s)
{
    bool ends = true;
    for (uint32_t i = 0; ends && i < s->count; i++)
        ends = g->node[out->node[s->first + i]].split.ends_lines;
    return ends;
}

/* May `n` take, block by block, what a stage with this last node writes? */
static bool can_follow(const struct graph *g, const struct graph_stages *out, const struct graph_stage *stage,
                       const struct graph_node *last, const struct graph_node *n)
{
    const struct graph_split *s = &n->split;
    /* A cut at any byte can be moved to line ends; a cut at multiples of so many bytes cannot. */
    uint64_t step = g->node[out->node[stage->first]].split.cut_step;
    bool lines = stage->cut == GRAPH_CUT_LINES || (stage->cut == GRAPH_CUT_BYTES && step == 1);
    bool ends_meet = last->split.combine == GRAPH_COMBINE_CONCAT || (stage->ranges && stage->count == 1);
    if (!ends_meet || !can_be_cut(n) || s->run != GRAPH_RUN_EACH ||
        s->cut_step != 1 || s->seam.size || s->file_count || !s->empty_ok)
        return false;
    /* Bytes that pass inside a stage are not counted. */
    if (s->combine == GRAPH_COMBINE_NATIVE && combine_counts_input(s->combine_text))
        return false;
    return s->cut == GRAPH_CUT_BYTES || (s->cut == GRAPH_CUT_LINES && lines && ends_lines(g, out, stage));
}

/* `sort | head`: the lines that it takes of the merged blocks, it would also take of each single block. */
static bool picks_from(const struct graph_split *merges, const struct graph_node *n)
{
    bool records = (merges->cut == GRAPH_CUT_NULS) == (n->split.cut == GRAPH_CUT_NULS);
    return n->split.picks && n->split.combine == GRAPH_COMBINE_RERUN && records && can_be_cut(n) && !n->split.file_count &&
           merges->combine == GRAPH_COMBINE_MERGE && merges->order_argc;
}

static void follow(const struct graph *g, struct graph_stages *out, struct graph_stage *s, uint32_t node)
{
    for (;;) {
        const struct graph_node *n = &g->node[node];
        out->of_node[node] = out->count;
        s->joins = s->count;
        out->node[s->first + s->count++] = node;
        s->out_edge = edge_at(n, 1);
        if (s->out_edge == GRAPH_NONE || n->set.output_bytes) /* a limit is for what it writes as one: the worker counts only what a stage writes */
            return;
        uint32_t to = g->edge[s->out_edge].to;
        if (out->of_node[to] == GRAPH_NONE && picks_from(&n->split, &g->node[to])) {
            out->of_node[to] = out->count;
            out->node[s->first + s->count++] = to;
            s->out_edge = edge_at(&g->node[to], 1);
            return;
        }
        if (out->of_node[to] != GRAPH_NONE || !can_follow(g, out, s, n, &g->node[to]) ||
            !stays_clean(g, out, s, &g->node[to]))
            return;
        s->no_zeros |= g->node[to].split.spoils.size > 0;
        if (s->cut == GRAPH_CUT_BYTES && g->node[to].split.cut != GRAPH_CUT_BYTES)
            s->cut = g->node[to].split.cut;
        node = to;
    }
}

/* May the command before it be cut, so that both may belong to one stage? */
static bool comes_first(const struct graph *g, const struct graph_node *n)
{
    uint32_t in = n->split.file_count ? GRAPH_NONE : edge_at(n, 0);
    if (in == GRAPH_NONE)
        return true;
    const struct graph_node *from = &g->node[g->edge[in].from];
    return !can_be_cut(from) || input_bytes(g, from) < GRAPH_SPLIT_MIN;
}

/* `map ./slow | head -1` must end with the first task's output, not wait until there are enough tasks to fill a block. */
static bool waits_in_vain(const struct graph *g, const struct graph_node *n)
{
    uint32_t in = edge_at(n, 0);
    uint32_t kind = in == GRAPH_NONE ? GRAPH_SOURCE : g->node[g->edge[in].from].kind;
    return n->split.stops_early && (kind == GRAPH_MAP || kind == GRAPH_REDUCE);
}

/* Blocks are read ahead, as far as there are slots.  Where it shows how much was read, a command that may stop early must
 * stream instead. */
static bool shows_reading(const struct graph *g, const uint8_t *exact, uint32_t node)
{
    uint32_t in = edge_at(&g->node[node], 0);
    return in != GRAPH_NONE && exact[in] == GRAPH_EXACT_ALWAYS && graph_may_be_left(g, node);
}

/* Can its blocks be ranges of keys, as its writer sorts?  Lines that are the same are equal to any sort, so they are never
 * in two ranges. */
static bool takes_ranges(const struct graph *g, const struct graph_stages *out, const struct graph_node *n)
{
    uint32_t in = edge_at(n, 0), from = in == GRAPH_NONE ? in : g->edge[in].from;
    if (!n->split.groups || from == GRAPH_NONE || out->of_node[from] == GRAPH_NONE)
        return false;
    const struct graph_stage *s = &out->stage[out->of_node[from]];
    const struct graph_split *sorts = &g->node[from].split;
    bool records = (sorts->cut == GRAPH_CUT_NULS) == (n->split.cut == GRAPH_CUT_NULS);
    return s->author == GRAPH_NONE && s->out_edge == in && sorts->combine == GRAPH_COMBINE_MERGE && sorts->order_argc && records;
}

static void start(const struct graph *g, struct graph_stages *out, uint32_t *nodes, uint32_t node)
{
    const struct graph_node *n = &g->node[node];
    if (out->of_node[node] != GRAPH_NONE || !can_be_cut(n) || waits_in_vain(g, n) || shows_reading(g, out->exact, node) ||
        (!g->split_bytes && (is_small(g, n) || has_small_files(g, n))))
        return;
    struct graph_stage *s = &out->stage[out->count];
    *s = (struct graph_stage){.first = *nodes, .author = GRAPH_NONE, .cut = n->split.cut};
    s->in_edge = n->split.file_count ? GRAPH_NONE : edge_at(n, 0);
    s->ranges = takes_ranges(g, out, n);
    follow(g, out, s, node);
    *nodes += s->count;
    out->count++;
}

/* Where the author of the map allows cuts. */
static uint32_t cut_of(const struct graph_node *n)
{
    static const uint32_t cuts[GRAPH_RECORDS] = {
        [GRAPH_RECORD_LINES] = GRAPH_CUT_LINES,           [GRAPH_RECORD_BYTES] = GRAPH_CUT_BYTES,
        [GRAPH_RECORD_PARAGRAPH] = GRAPH_CUT_PARAGRAPHS, [GRAPH_RECORD_START] = GRAPH_CUT_STARTS,
        [GRAPH_RECORD_END] = GRAPH_CUT_ENDS};
    return n->per_file || n->kind == GRAPH_REDUCE ? GRAPH_CUT_FILES : cuts[n->record];
}

/* Collect the programs of a body. */
static uint32_t take_body(const struct graph *g, struct graph_stages *out, uint32_t author, bool merge,
                          uint32_t *nodes)
{
    uint32_t before = *nodes;
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        if (n->parent != author || n->merge != merge)
            continue;
        out->of_node[i] = out->count;
        if (n->kind == GRAPH_COMMAND || n->kind == GRAPH_SHELL)
            out->node[(*nodes)++] = i;
    }
    return *nodes - before;
}

static void take_author(const struct graph *g, struct graph_stages *out, uint32_t *nodes, uint32_t node)
{
    const struct graph_node *n = &g->node[node];
    struct graph_stage *s = &out->stage[out->count];
    *s = (struct graph_stage){.first = *nodes, .author = node, .cut = cut_of(n), .in_edge = edge_at(n, 0),
                              .out_edge = edge_at(n, 1)};
    out->of_node[node] = out->count;
    s->count = take_body(g, out, node, false, nodes);
    s->merge_count = take_body(g, out, node, true, nodes);
    out->count++;
}

/* A stage of light commands only costs more than it brings, unless another stage in blocks takes its outputs as they are, or
 * its blocks are ranges of keys, which are there already. */
static bool is_light(const struct graph *g, const struct graph_stages *out, const struct graph_stage *s)
{
    if (s->author != GRAPH_NONE || g->split_bytes || s->ranges)
        return false;
    for (uint32_t i = 0; i < s->count; i++)
        if (!g->node[out->node[s->first + i]].split.light)
            return false;
    return s->out_edge == GRAPH_NONE || out->of_node[g->edge[s->out_edge].to] == GRAPH_NONE ||
           g->node[out->node[s->first + s->count - 1]].split.combine != GRAPH_COMBINE_CONCAT;
}

static void drop_stage(const struct graph *g, struct graph_stages *out, uint32_t stage)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        if (out->of_node[i] == stage)
            out->of_node[i] = GRAPH_NONE;
        else if (out->of_node[i] != GRAPH_NONE && out->of_node[i] > stage)
            out->of_node[i]--;
    }
    out->count--;
    memmove(&out->stage[stage], &out->stage[stage + 1], (out->count - stage) * sizeof *out->stage);
}

/* Why this command could be cut and is not. */
static const char *why_once(const struct graph *g, const struct graph_stages *out, uint32_t node)
{
    const struct graph_node *n = &g->node[node];
    if (n->split.cut == GRAPH_CUT_NONE || n->parent != GRAPH_NONE || out->of_node[node] != GRAPH_NONE)
        return "";
    if (g->split_bytes == GRAPH_SPLIT_NEVER)
        return "`--split never`";
    if (g->line_reads)
        return "its lines are passed on as they come";
    if (!can_be_cut(n))
        return edge_at(n, 0) == GRAPH_NONE ? "it reads nothing" : "it has more than stdin and stdout";
    if (!g->split_bytes && is_small(g, n))
        return "its input is less than 256 KiB";
    if (!g->split_bytes && has_small_files(g, n))
        return "its files are less than 64 KiB on average";
    if (waits_in_vain(g, n))
        return "it may leave before the map has ended";
    if (shows_reading(g, out->exact, node))
        return "how far it reads would show";
    return "it does little more than pass its bytes on";
}

int graph_stages(const struct graph *g, struct arena *a, struct graph_stages *out, struct err *e)
{
    uint32_t nodes = 0;
    *out = (struct graph_stages){.stage = arena_array(a, (size_t)g->node_count + 1, sizeof *out->stage),
                                 .node = arena_array(a, (size_t)g->node_count + 1, sizeof *out->node),
                                 .of_node = arena_array(a, (size_t)g->node_count + 1, sizeof *out->of_node),
                                 .once = arena_array(a, (size_t)g->node_count + 1, sizeof *out->once)};
    if (!out->stage || !out->node || !out->of_node || !out->once)
        return err_nomem(e);
    if (graph_exact(g, a, &out->exact, e) < 0)
        return -1;
    for (uint32_t i = 0; i < g->node_count; i++)
        out->of_node[i] = GRAPH_NONE;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->node[i].kind == GRAPH_MAP || g->node[i].kind == GRAPH_REDUCE)
            take_author(g, out, &nodes, i);
    /* First take chains from their beginnings; then what no chain took. */
    for (int first = g->line_reads || g->split_bytes == GRAPH_SPLIT_NEVER ? -1 : 1; first >= 0; first--)
        for (uint32_t i = 0; i < g->node_count; i++)
            if (!first || (can_be_cut(&g->node[i]) && comes_first(g, &g->node[i])))
                start(g, out, &nodes, i);
    /* When a light stage is removed, its writer may turn out to be light, too. */
    for (uint32_t i = 0; i < out->count;) {
        bool light = is_light(g, out, &out->stage[i]);
        if (light)
            drop_stage(g, out, i);
        i = light ? 0 : i + 1;
    }
    for (uint32_t i = 0; i < g->node_count; i++)
        out->once[i] = why_once(g, out, i);
    return 0;
}

uint64_t graph_add_memory(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t stage_run_memory(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s)
{
    uint64_t programs = 0, merge = 0;
    for (uint32_t i = 0; i < s->count; i++)
        programs = graph_add_memory(programs, g->node[all->node[s->first + i]].set.memory_bytes);
    for (uint32_t i = 0; i < s->merge_count; i++)
        merge = graph_add_memory(merge, g->node[all->node[s->first + s->count + i]].set.memory_bytes);
    return programs > merge ? programs : merge;
}
