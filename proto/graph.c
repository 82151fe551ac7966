/* See graph.h: making and growing a graph.  Arrays grow by doubling inside the arena.  A graph is built once, so old copies
 * waste at most as much again. */
#include "proto/graph.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ARENA_MAX (512u << 20)

struct graph *graph_new(struct err *e)
{
    struct graph *g = calloc(1, sizeof *g);
    if (!g)
        err_nomem(e);
    else
        g->arena = ARENA_INIT(ARENA_MAX);
    return g;
}

void graph_free(struct graph *g)
{
    if (!g)
        return;
    arena_clear(&g->arena);
    free(g);
}

/* Makes room for one more item of `each` bytes: returns the array, or a copy with twice the room.  The arrays of a decoded
 * graph have no room to spare. */
static void *grow(struct graph *g, void *array, uint32_t count, uint32_t *room, size_t each)
{
    if (count < *room)
        return array;
    uint32_t more = count < 8 ? 16 : 2 * count;
    void *bigger = arena_array(&g->arena, more, each);
    if (!bigger)
        return NULL;
    if (count)
        memcpy(bigger, array, count * each);
    *room = more;
    return bigger;
}

uint32_t graph_add_node(struct graph *g, uint32_t kind, struct err *e)
{
    if (g->node_count == GRAPH_NODES_MAX) {
        err_set(e, ERR_LIMIT, "more than %d stages (GRAPH_NODES_MAX)", GRAPH_NODES_MAX);
        return GRAPH_NONE;
    }
    struct graph_node *node = grow(g, g->node, g->node_count, &g->node_room, sizeof *node);
    if (!node) {
        err_nomem(e);
        return GRAPH_NONE;
    }
    g->node = node;
    g->node[g->node_count] = (struct graph_node){.kind = kind,
                                                 .parent = GRAPH_NONE,
                                                 .label = "",
                                                 .shell = "",
                                                 .why = "",
                                                 .path = "",
                                                 .key = "",
                                                 .key_separator = -1,
                                                 .record_text = {"", 0},
                                                 .set = {.image = ""},
                                                 .split = {.combine_text = "", .spoils = {"", 0}, .seam = {"", 0}}};
    return g->node_count++;
}

uint32_t graph_add_edge(struct graph *g, uint32_t from, uint32_t to, struct err *e)
{
    if (g->edge_count == GRAPH_EDGES_MAX) {
        err_set(e, ERR_LIMIT, "more than %d edges (GRAPH_EDGES_MAX)", GRAPH_EDGES_MAX);
        return GRAPH_NONE;
    }
    struct graph_edge *edge = grow(g, g->edge, g->edge_count, &g->edge_room, sizeof *edge);
    if (!edge) {
        err_nomem(e);
        return GRAPH_NONE;
    }
    g->edge = edge;
    g->edge[g->edge_count] = (struct graph_edge){.from = from, .to = to};
    return g->edge_count++;
}

/* ---- files, found again by name and path: a table of indices + 1, at most half full */

static uint32_t *slot_of(struct graph *g, const char *name, const char *path, const char *link)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    const char *const texts[] = {name, path, link};
    for (size_t i = 0; i < 3; i++)
        for (const char *at = texts[i];; at++) {
            hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
            if (!*at)
                break;
        }
    for (uint32_t at = (uint32_t)(hash >> 20);; at++) {
        uint32_t *slot = &g->file_slot[at & (g->file_slots - 1)];
        const struct graph_file *f = *slot ? &g->file[*slot - 1] : NULL;
        if (!f || (!strcmp(f->name, name) && !strcmp(f->path, path) && !strcmp(f->link, link)))
            return slot;
    }
}

static int grow_slots(struct graph *g)
{
    uint32_t slots = g->file_slots ? g->file_slots : 64;
    while (slots < 2 * (g->file_count + 1))
        slots *= 2;
    if (slots == g->file_slots)
        return 0;
    uint32_t *slot = arena_array(&g->arena, slots, sizeof *slot);
    if (!slot)
        return -1;
    g->file_slot = slot;
    g->file_slots = slots;
    for (uint32_t i = 0; i < g->file_count; i++)
        *slot_of(g, g->file[i].name, g->file[i].path, g->file[i].link) = i + 1;
    return 0;
}

uint32_t graph_add_file(struct graph *g, const struct graph_file *f, struct err *e)
{
    if (grow_slots(g) < 0) {
        err_nomem(e);
        return GRAPH_NONE;
    }
    const char *link = f->link ? f->link : "";
    uint32_t *slot = slot_of(g, f->name, f->path, link);
    if (*slot)
        return *slot - 1;
    if (g->file_count == GRAPH_FILES_MAX) {
        err_set(e, ERR_LIMIT, "more than %d input files (GRAPH_FILES_MAX)", GRAPH_FILES_MAX);
        return GRAPH_NONE;
    }
    struct graph_file *file = grow(g, g->file, g->file_count, &g->file_room, sizeof *file);
    struct graph_file copy = *f;
    copy.name = arena_string(&g->arena, f->name);
    copy.path = arena_string(&g->arena, f->path);
    copy.link = arena_string(&g->arena, link);
    if (!file || !copy.name || !copy.path || !copy.link) {
        err_nomem(e);
        return GRAPH_NONE;
    }
    g->file = file;
    g->file[g->file_count++] = copy;
    *slot = g->file_count;
    return g->file_count - 1;
}

int graph_set_fd(struct graph *g, uint32_t node, int fd, uint32_t edge, struct err *e)
{
    if (node >= g->node_count)
        return err_set(e, ERR_BUG, "there is no stage %u", node);
    struct graph_node *n = &g->node[node];
    struct graph_fd *list = arena_array(&g->arena, (size_t)n->fd_count + 1, sizeof *list);
    uint32_t at = 0;
    if (!list)
        return err_nomem(e);
    for (; at < n->fd_count; at++)
        list[at] = n->fd[at];
    for (at = 0; at < n->fd_count && list[at].fd != fd; at++)
        ;
    if (at == n->fd_count && n->fd_count == GRAPH_FDS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d descriptors in one stage (GRAPH_FDS_MAX)",
                       GRAPH_FDS_MAX);
    list[at] = (struct graph_fd){fd, edge};
    n->fd_count += at == n->fd_count;
    n->fd = list;
    return 0;
}

const struct graph_fd *graph_fd_of(const struct graph_node *n, int fd)
{
    for (uint32_t i = 0; i < n->fd_count; i++)
        if (n->fd[i].fd == fd)
            return &n->fd[i];
    return NULL;
}

int graph_write_failed(const struct graph *g, uint32_t edge, struct err *e)
{
    const struct graph_node *to = edge == GRAPH_NONE ? NULL : &g->node[g->edge[edge].to];
    bool named = to && to->kind == GRAPH_SINK && (to->sink == GRAPH_SINK_FILE || to->sink == GRAPH_SINK_APPEND);
    return named ? err_sys(e, "cannot write '%s'", to->path) : err_sys(e, "cannot write the output");
}

bool graph_makes(const struct graph_node *n)
{
    return n->output_count || n->out_glob_count || n->keep_count;
}

bool graph_is_task_sink(const struct graph_node *n)
{
    return n->parent != GRAPH_NONE && n->kind == GRAPH_SINK &&
           (n->sink == GRAPH_SINK_FILE || n->sink == GRAPH_SINK_APPEND);
}

bool graph_is_link(const struct graph_file *f)
{
    return S_ISLNK(f->mode);
}

bool graph_sends_files(const struct graph *g, uint32_t node)
{
    const struct graph_node *n = &g->node[node];
    if (n->parent != GRAPH_NONE)
        return false;
    if (n->kind != GRAPH_MAP && n->kind != GRAPH_REDUCE)
        return graph_makes(n);
    if (g->records)
        return true;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->node[i].parent == node && graph_is_task_sink(&g->node[i]))
            return true;
    return false;
}

const char *graph_class(const struct graph_node *n)
{
    static const struct {
        const char *way, *class;
    } native[] = {{"columns", "reduce"},   {"first", "reduce"},  {"all", "reduce"},
                  {"join", "boundary"}, {"counts", "boundary"}, {"seams", "boundary"},
                  {"number", "offset"},    {"lines", "offset"},  {"bytes", "offset"}};
    const struct graph_split *s = &n->split;
    size_t size = strcspn(s->combine_text, " ");
    if (s->cut == GRAPH_CUT_NONE)
        return "whole";
    if (s->cut == GRAPH_CUT_FILES)
        return "files";
    if (s->run != GRAPH_RUN_EACH)
        return s->run == GRAPH_RUN_FIRST ? "first" : "last";
    for (size_t i = 0; s->combine == GRAPH_COMBINE_NATIVE && i < sizeof native / sizeof *native;
         i++)
        if (strlen(native[i].way) == size && memcmp(native[i].way, s->combine_text, size) == 0)
            return native[i].class;
    if (s->seam.size)
        return "boundary";
    return s->combine == GRAPH_COMBINE_REVERSE ? "reverse"
           : s->combine == GRAPH_COMBINE_RERUN ? "rerun"
           : s->combine == GRAPH_COMBINE_MERGE ? "merge"
           : s->cut_step > 1                   ? "aligned"
                                               : "stateless";
}

#define STEP_MIN (64u << 10)
#define STEP_MAX (4u << 20)
#define STEPS    8 /* blocks of each size; twice as many of the first size */

/* Powers of two: no block is more than an eighth of all up to its end, but the first ones. */
static uint64_t step_at(uint64_t at)
{
    uint64_t step = STEP_MIN;
    while (step < STEP_MAX && at > step * 2 * STEPS)
        step *= 2;
    return step;
}

uint64_t graph_nominal(uint64_t split_bytes, uint64_t at)
{
    uint64_t step = split_bytes ? split_bytes : step_at(at);
    return at > UINT64_MAX - step ? UINT64_MAX : (at + step - 1) / step * step;
}

uint64_t graph_nominal_count(uint64_t bytes)
{
    uint64_t count = 0, at = 0;
    for (; at < bytes && step_at(at + 1) < STEP_MAX; count++)
        at = graph_nominal(0, at + 1);
    return count + (at < bytes ? (bytes - at + STEP_MAX - 1) / STEP_MAX : 0);
}

bool graph_is_stage(const struct graph_node *n)
{
    return n->parent == GRAPH_NONE && n->kind != GRAPH_SOURCE && n->kind != GRAPH_SINK &&
           n->kind != GRAPH_BROADCAST;
}

enum graph_fail graph_fail_of(const struct graph_node *n)
{
    bool author = n->kind == GRAPH_MAP || n->kind == GRAPH_REDUCE || n->parent != GRAPH_NONE;
    return n->set.fail != GRAPH_FAIL_DEFAULT ? (enum graph_fail)n->set.fail
           : author                          ? GRAPH_FAIL_STOP
                                             : GRAPH_FAIL_SH;
}

uint32_t graph_status(const struct graph *g, struct graph_end (*end)(const void *owner, uint32_t node),
                      const void *owner)
{
    uint32_t first = 0; /* first node of the statement that ends at i */
    for (uint32_t i = 0; i < g->node_count; i++) {
        if (!g->node[i].ends || !graph_is_stage(&g->node[i]))
            continue;
        uint32_t status = end(owner, i).status;
        for (uint32_t k = i; g->pipefail && status == 0 && k-- > first;) {
            struct graph_end e = end(owner, k);
            if (graph_is_stage(&g->node[k]) && !g->node[k].drain && !e.early_stop)
                status = e.status;
        }
        status = g->node[i].negate ? status == 0 : status;
        if (status)
            return status;
        first = i + 1;
    }
    return 0;
}
