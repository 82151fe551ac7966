/* See graph.h: what must hold before anybody acts on a graph.  Every rule is one function over one
 * node or edge; all of it is linear in the graph's size. */
#include "proto/combine.h"
#include "proto/graph.h"
#include "proto/key.h"

#include <stdlib.h>
#include <string.h>

static bool is_process(const struct graph_node *n)
{
    return n->kind != GRAPH_SOURCE && n->kind != GRAPH_SINK && n->kind != GRAPH_BROADCAST;
}

/* Is it a valid name under which a program sees a file: absolute or below /job, and not leading out of it? */
static bool good_name(const char *name)
{
    if (!name[0] || !strcmp(name, "/") || !strncmp(name, "//", 2))
        return false;
    const char *at = name + (name[0] == '/');
    while (*at) {
        size_t size = strcspn(at, "/");
        if (size == 2 && at[0] == '.' && at[1] == '.')
            return false;
        at += size;
        while (*at == '/')
            at++;
    }
    return true;
}

/* Is each hole's byte followed by a valid letter?  See graph.h. */
static bool good_holes(const char *text)
{
    for (const char *at = strchr(text, GRAPH_HOLE); at; at = strchr(at + 1, GRAPH_HOLE))
        if (!at[1] || !strchr("./db#{", at[1]))
            return false;
    return true;
}

static int check_strings(const char *const *list, uint32_t count, bool variable, const char *what,
                         const struct graph_node *n, struct err *e)
{
    if (count > GRAPH_WORDS_MAX)
        return err_set(e, ERR_LIMIT, "%s `%.60s` has more than %d %s (GRAPH_WORDS_MAX)",
                       n ? "stage" : "the job", n ? n->label : "", GRAPH_WORDS_MAX, what);
    for (uint32_t i = 0; i < count; i++)
        if ((n && n->holes && !good_holes(list[i])) ||
            (variable && (list[i][0] == '=' || !strchr(list[i], '='))))
            return err_set(e, ERR_INPUT, "%s `%.60s` has the bad entry '%.60s' among its %s",
                           n ? "stage" : "the job", n ? n->label : "", list[i], what);
    return 0;
}

static int check_combine(const struct graph_split *s, struct err *e)
{
    struct combine *c = s->combine == GRAPH_COMBINE_NATIVE ? combine_new(s->combine_text, e) : NULL;
    combine_free(c);
    return s->combine != GRAPH_COMBINE_NATIVE || c ? 0 : -1;
}

/* The checks of a stage in blocks.  A stage that is cut writes to stdout only. */
/* Checks the words of a block, whose holes are names of `file`.  -1: they are impossible. */
static int check_block(const struct graph_split *s, const char *const *argv, uint32_t argc,
                       bool named)
{
    uint32_t holes = 0;
    for (uint32_t i = 0; i < argc; i++) {
        if (!good_holes(argv[i]))
            return -1;
        holes += strchr(argv[i], GRAPH_HOLE) != NULL;
    }
    return (holes && !s->file_count) || (named && !holes) || (argc && !argv[0][0]) ? -1 : 0;
}

int graph_check_split(const struct graph *g, const struct graph_node *n, struct err *e)
{
    const struct graph_split *s = &n->split;
    bool command = s->combine == GRAPH_COMBINE_RERUN || s->combine == GRAPH_COMBINE_MERGE;
    if (s->cut == GRAPH_CUT_NONE)
        return s->file_count || s->block_argc || s->rest_argc || s->combine_argc || s->order_argc
                   ? err_set(e, ERR_INPUT, "stage `%.60s` is whole and has blocks", n->label)
                   : 0;
    if (n->kind != GRAPH_COMMAND || graph_makes(n) || graph_fd_of(n, 2))
        return err_set(e, ERR_INPUT, "stage `%.60s` cannot be cut", n->label);
    if (s->cut >= GRAPH_CUTS || s->run >= GRAPH_RUNS || s->combine >= GRAPH_COMBINES ||
        s->cut_step == 0 || s->ok_status == 0 || (s->file_count && !s->block_argc) ||
        (s->run != GRAPH_RUN_EACH) != (s->rest_argc > 0) ||
        (s->cut == GRAPH_CUT_FILES && (!s->file_count || s->run != GRAPH_RUN_EACH)) ||
        command != (s->combine_argc > 0) || (s->order_argc && s->combine != GRAPH_COMBINE_MERGE) ||
        (s->seam.size && (s->cut != GRAPH_CUT_LINES || s->cut_step > 1 || s->run != GRAPH_RUN_EACH)) ||
        (s->combine == GRAPH_COMBINE_NATIVE) != (s->combine_text[0] != '\0'))
        return err_set(e, ERR_INPUT, "stage `%.60s` is cut in a way that cannot be", n->label);
    for (uint32_t i = 0; i < s->file_count; i++)
        if (s->file[i] >= g->file_count || graph_is_link(&g->file[s->file[i]]))
            return err_set(e, ERR_INPUT, "stage `%.60s` is cut from file %u of %u", n->label,
                           s->file[i], g->file_count);
    if (check_block(s, s->block_argv, s->block_argc, s->cut == GRAPH_CUT_FILES) < 0 ||
        check_block(s, s->rest_argv, s->rest_argc, false) < 0 ||
        (s->combine_argc && !s->combine_argv[0][0]) || (s->order_argc && !s->order_argv[0][0]))
        return err_set(e, ERR_INPUT, "stage `%.60s` has bad words for its blocks", n->label);
    return check_combine(s, e);
}

static int check_process(const struct graph *g, const struct graph_node *n, struct err *e)
{
    if ((n->kind == GRAPH_COMMAND && n->argc < 1) || (n->kind == GRAPH_SHELL && n->argc != 1))
        return err_set(e, ERR_INPUT, "stage `%.60s` has no command", n->label);
    if (n->kind == GRAPH_SHELL && strcmp(n->shell, "sh") && strcmp(n->shell, "bash"))
        return err_set(e, ERR_INPUT, "stage `%.60s` names the shell '%.20s'", n->label, n->shell);
    if (n->kind == GRAPH_COMMAND && !n->argv[0][0])
        return err_set(e, ERR_INPUT, "a stage has an empty command name");
    for (uint32_t i = 0; i < n->file_count; i++)
        if (n->file[i] >= g->file_count)
            return err_set(e, ERR_INPUT, "stage `%.60s` names file %u of %u", n->label, n->file[i],
                           g->file_count);
    for (uint32_t i = 0; i < n->output_count; i++) {
        const struct graph_output *o = &n->output[i];
        const struct graph_node *sink = o->sink < g->node_count ? &g->node[o->sink] : NULL;
        if (!good_name(o->name) || o->name[0] == '/' || !sink || sink->kind != GRAPH_SINK ||
            sink->sink != GRAPH_SINK_FILE || sink->fd_count)
            return err_set(e, ERR_INPUT, "stage `%.60s` has a bad output '%.60s'", n->label,
                           o->name);
    }
    for (uint32_t i = 0; i < n->keep_count; i++)
        if (!good_name(n->keep[i]) || n->keep[i][0] == '/' ||
            (i && strcmp(n->keep[i - 1], n->keep[i]) >= 0))
            return err_set(e, ERR_INPUT, "stage `%.60s` has a bad output '%.60s'", n->label,
                           n->keep[i]);
    if ((uint64_t)n->argc + n->envc + n->output_count + n->out_glob_count + n->keep_count +
            n->split.block_argc + n->split.rest_argc + n->split.combine_argc + n->split.order_argc >
        GRAPH_WORDS_MAX)
        return err_set(
            e, ERR_LIMIT,
            "stage `%.60s` has more than %d words, variables and outputs (GRAPH_WORDS_MAX)",
            n->label, GRAPH_WORDS_MAX);
    struct key key;
    if (n->kind == GRAPH_REDUCE && (key_parse(n->key, -1, &key, NULL) < 0 || n->into == 0 || n->into > GRAPH_INTO_MAX ||
                                    n->key_separator < -1 || n->key_separator > 255))
        return err_set(e, ERR_INPUT,
                       "a reduce has a key, a separator or a number of partitions that cannot be");
    if (n->kind == GRAPH_MAP &&
        (n->record >= GRAPH_RECORDS || n->record_count == 0 ||
         ((n->record == GRAPH_RECORD_START || n->record == GRAPH_RECORD_END) &&
          !n->record_text.size) ||
         n->record_text.size > GRAPH_RECORD_TEXT_MAX ||
         (n->record == GRAPH_RECORD_START && memchr(n->record_text.data, '\n', n->record_text.size))))
        return err_set(e, ERR_INPUT, "the records of `%.60s` cannot be: their text is empty, longer than %d bytes, or "
                       "several lines", n->label, GRAPH_RECORD_TEXT_MAX);
    if (n->recorded_last && ((n->kind != GRAPH_MAP && n->kind != GRAPH_REDUCE) || !n->recorded_first || n->recorded_last < n->recorded_first ||
                             n->recorded_last - n->recorded_first >= GRAPH_RECORDED_MAX))
        return err_set(e, ERR_INPUT, "`%.60s` cannot have its tasks %llu to %llu recorded: it must be a map or reduce, and at most %d of them",
                       n->label, (unsigned long long)n->recorded_first, (unsigned long long)n->recorded_last, GRAPH_RECORDED_MAX);
    if (check_strings(n->argv, n->argc, false, "words", n, e) < 0 ||
        check_strings(n->env, n->envc, true, "variables", n, e) < 0 ||
        graph_check_split(g, n, e) < 0)
        return -1;
    if (n->word_globs > n->out_glob_count)
        return err_set(e, ERR_INPUT, "`%.60s` has %u output patterns, and %u of words", n->label, n->out_glob_count, n->word_globs);
    return check_strings(n->out_glob, n->out_glob_count, false, "output patterns", n, e);
}

static int check_source(const struct graph *g, const struct graph_node *n, struct err *e)
{
    for (uint32_t i = 0; i < n->segment_count; i++)
        if (n->segment[i].kind >= GRAPH_SEGMENTS ||
            (n->segment[i].kind == GRAPH_SEGMENT_FILE && n->segment[i].file >= g->file_count))
            return err_set(e, ERR_INPUT, "a source names something that is not there");
    if (n->fd_count != 1 || n->fd[0].fd != 1)
        return err_set(e, ERR_INPUT, "a source has not exactly one end");
    return 0;
}

static int check_sink(const struct graph_node *n, struct err *e)
{
    bool file = n->sink == GRAPH_SINK_FILE || n->sink == GRAPH_SINK_APPEND;
    if (n->sink >= GRAPH_SINKS || (file && !n->path[0]))
        return err_set(e, ERR_INPUT, "a sink goes nowhere");
    if (n->fd_count > 1 || (n->fd_count == 1 && n->fd[0].fd != 0))
        return err_set(e, ERR_INPUT, "a sink has more than one end");
    return 0;
}

static int check_broadcast(const struct graph *g, uint32_t i, struct err *e)
{
    const struct graph_node *n = &g->node[i];
    bool right = n->parent == GRAPH_NONE && n->fd_count > 1 && graph_fd_of(n, 0);
    for (uint32_t k = 0; right && k < n->fd_count; k++)
        right = (n->fd[k].fd == 0 ? g->edge[n->fd[k].edge].to : g->edge[n->fd[k].edge].from) == i;
    return right ? 0 : err_set(e, ERR_INPUT, "a broadcast has not one end to read and some to write");
}

static int check_node(const struct graph *g, uint32_t i, struct err *e)
{
    const struct graph_node *n = &g->node[i];
    if (n->kind >= GRAPH_KINDS || n->set.fail >= GRAPH_FAILS)
        return err_set(e, ERR_INPUT, "stage %u is of no known kind", i);
    if (n->parent != GRAPH_NONE &&
        (n->parent >= g->node_count || n->parent == i ||
         (g->node[n->parent].kind != GRAPH_MAP && g->node[n->parent].kind != GRAPH_REDUCE) ||
         g->node[n->parent].parent != GRAPH_NONE))
        return err_set(e, ERR_INPUT, "stage `%.60s` stands in a body that cannot be", n->label);
    if (n->merge && (n->parent == GRAPH_NONE || g->node[n->parent].kind != GRAPH_MAP))
        return err_set(e, ERR_INPUT, "stage `%.60s` merges for no map", n->label);
    if (n->fd_count > GRAPH_FDS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d descriptors in one stage (GRAPH_FDS_MAX)",
                       GRAPH_FDS_MAX);
    for (uint32_t k = 0; k < n->fd_count; k++) {
        if (n->fd[k].edge >= g->edge_count || n->fd[k].fd < 0 || n->fd[k].fd > 255)
            return err_set(e, ERR_INPUT, "stage `%.60s` has an end of no edge", n->label);
        for (uint32_t m = 0; m < k; m++)
            if (n->fd[m].fd == n->fd[k].fd)
                return err_set(e, ERR_INPUT, "stage `%.60s` has descriptor %d twice", n->label,
                               n->fd[k].fd);
    }
    return n->kind == GRAPH_SOURCE      ? check_source(g, n, e)
           : n->kind == GRAPH_SINK      ? check_sink(n, e)
           : n->kind == GRAPH_BROADCAST ? check_broadcast(g, i, e)
                                        : check_process(g, n, e);
}

static int check_edge(const struct graph *g, uint32_t i, struct err *e)
{
    const struct graph_edge *edge = &g->edge[i];
    if (edge->from >= g->node_count || edge->to >= g->node_count || edge->from == edge->to)
        return err_set(e, ERR_INPUT, "edge %u joins nothing", i);
    const struct graph_node *from = &g->node[edge->from], *to = &g->node[edge->to];
    if (from->kind == GRAPH_SINK || to->kind == GRAPH_SOURCE)
        return err_set(e, ERR_INPUT, "edge %u runs backwards", i);
    if (from->parent != GRAPH_NONE && (from->parent != to->parent || from->merge != to->merge))
        return err_set(e, ERR_INPUT, "edge %u leaves the body of a map or reduce", i);
    uint32_t writes = 0, reads = 0;
    for (uint32_t k = 0; k < from->fd_count; k++)
        writes += from->fd[k].edge == i;
    for (uint32_t k = 0; k < to->fd_count; k++)
        reads += to->fd[k].edge == i;
    if (writes < 1 || reads != 1)
        return err_set(e, ERR_INPUT, "edge %u from `%.60s` to `%.60s` is not joined at both ends",
                       i, from->label, to->label);
    if (edge->seekable && !(from->kind == GRAPH_SOURCE && from->segment_count == 1 &&
                            from->segment[0].kind == GRAPH_SEGMENT_FILE && is_process(to)))
        return err_set(e, ERR_INPUT, "edge %u wants to seek in what is no file", i);
    return 0;
}

/* Checks that every fd's edge has its node at one end. */
static int check_ends(const struct graph *g, struct err *e)
{
    for (uint32_t i = 0; i < g->node_count; i++)
        for (uint32_t k = 0; k < g->node[i].fd_count; k++) {
            const struct graph_edge *edge = &g->edge[g->node[i].fd[k].edge];
            if (edge->from != i && edge->to != i)
                return err_set(e, ERR_INPUT, "stage `%.60s` has an end of somebody else's edge",
                               g->node[i].label);
        }
    return 0;
}

/* Kahn: take away nodes without inputs until none is left; what remains is a cycle. */
static int check_cycles(const struct graph *g, struct err *e)
{
    uint32_t *inputs = calloc((size_t)g->node_count + 1, sizeof *inputs);
    uint32_t *ready = calloc((size_t)g->node_count + 1, sizeof *ready);
    uint32_t count = 0, taken = 0;
    int r = 0;
    if (!inputs || !ready) {
        r = err_nomem(e);
        goto out;
    }
    for (uint32_t i = 0; i < g->edge_count; i++)
        inputs[g->edge[i].to]++;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (!inputs[i])
            ready[count++] = i;
    while (taken < count) {
        uint32_t node = ready[taken++];
        const struct graph_node *n = &g->node[node];
        for (uint32_t k = 0; k < n->fd_count; k++) {
            const struct graph_edge *edge = &g->edge[n->fd[k].edge];
            bool again = false; /* two descriptors may write to one edge */
            for (uint32_t m = 0; m < k; m++)
                again |= n->fd[m].edge == n->fd[k].edge;
            if (edge->from == node && !again && --inputs[edge->to] == 0)
                ready[count++] = edge->to;
        }
    }
    if (taken != g->node_count)
        r = err_set(e, ERR_INPUT, "the graph has a cycle");
out:
    free(inputs);
    free(ready);
    return r;
}

/* Indices of files, sorted by what programs see: equal names stand together. */
static int by_name(const void *a, const void *b, void *graph)
{
    const struct graph *g = graph;
    return strcmp(g->file[*(const uint32_t *)a].name, g->file[*(const uint32_t *)b].name);
}

static bool same_file(const struct graph_file *a, const struct graph_file *b)
{
    if (graph_is_link(a) || graph_is_link(b))
        return !strcmp(a->link, b->link);
    return !strcmp(a->path, b->path) ||
           (a->inode == b->inode && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns);
}

/* In a stage one name is one file.  name[i] is a number for the name of file i; seen[name] is the file that had the name in
 * the list of node by[name]. */
static int check_file_names(const struct graph *g, struct err *e)
{
    uint32_t count = g->file_count;
    uint32_t *room = calloc(4 * (size_t)count + 1, sizeof *room);
    uint32_t *order = room, *name = room + count, *seen = name + count, *by = seen + count;
    int r = 0;
    if (!room)
        return err_nomem(e);
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, count, sizeof *order, by_name, (void *)(uintptr_t)g);
    for (uint32_t i = 1; i < count; i++)
        name[order[i]] =
            by_name(&order[i - 1], &order[i], (void *)(uintptr_t)g) ? i : name[order[i - 1]];
    for (uint32_t i = 0; i < g->node_count && r == 0; i++)
        for (uint32_t k = 0; k < g->node[i].file_count && r == 0; k++) {
            uint32_t file = g->node[i].file[k], n = name[file];
            if (by[n] == i + 1 && !same_file(&g->file[seen[n]], &g->file[file]))
                r = err_set(e, ERR_INPUT, "stage `%.60s` has two files named '%.200s'",
                            g->node[i].label, g->file[file].name);
            seen[n] = file;
            by[n] = i + 1;
        }
    free(room);
    return r;
}

/* Does the map get files only?  Its tasks are one for each file. */
static bool reads_files(const struct graph *g, const struct graph_node *map)
{
    const struct graph_fd *in = graph_fd_of(map, 0);
    const struct graph_node *from = in ? &g->node[g->edge[in->edge].from] : NULL;
    bool files = from && from->kind == GRAPH_SOURCE;
    for (uint32_t i = 0; files && i < from->segment_count; i++)
        files = from->segment[i].kind == GRAPH_SEGMENT_FILE;
    return files;
}

/* Checks that each named output of a stage has a sink of its own, and that every map and reduce has a body. */
static int check_owners(const struct graph *g, struct err *e)
{
    bool *taken = calloc((size_t)g->node_count + 1, sizeof *taken);
    int r = 0;
    if (!taken)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->node[i].parent != GRAPH_NONE && !g->node[i].merge)
            taken[g->node[i].parent] = true;
    for (uint32_t i = 0; i < g->node_count && r == 0; i++) {
        const struct graph_node *n = &g->node[i];
        if ((n->kind == GRAPH_MAP || n->kind == GRAPH_REDUCE) && !taken[i])
            r = err_set(e, ERR_INPUT, "stage `%.60s` has an empty body", n->label);
        else if (n->kind == GRAPH_MAP && n->per_file && !reads_files(g, n))
            r = err_set(e, ERR_INPUT, "stage `%.60s` has a task per file and reads no files", n->label);
        for (uint32_t k = 0; is_process(n) && k < n->output_count && r == 0; k++) {
            if (taken[n->output[k].sink])
                r = err_set(e, ERR_INPUT, "two outputs go to one sink, '%.60s' among them",
                            n->output[k].name);
            taken[n->output[k].sink] = true;
        }
    }
    free(taken);
    return r;
}

static bool good_digest(const char *hex)
{
    return strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
}

int graph_check(const struct graph *g, struct err *e)
{
    if (g->node_count > GRAPH_NODES_MAX || g->edge_count > GRAPH_EDGES_MAX ||
        g->file_count > GRAPH_FILES_MAX)
        return err_set(
            e, ERR_LIMIT,
            "the graph is larger than GRAPH_NODES_MAX, GRAPH_EDGES_MAX or GRAPH_FILES_MAX");
    for (uint32_t i = 0; i < g->file_count; i++)
        if (!good_name(g->file[i].name) || g->file[i].path[0] != '/')
            return err_set(e, ERR_INPUT, "the input '%.200s' has a name that cannot be",
                           g->file[i].name);
    for (uint32_t i = 0; i < g->file_count; i++)
        if (graph_is_link(&g->file[i]) != (g->file[i].link[0] != '\0') || (graph_is_link(&g->file[i]) && g->file[i].awaited))
            return err_set(e, ERR_INPUT, "the input '%.200s' is a symbolic link that says nothing, or says something and is none",
                           g->file[i].name);
    for (uint32_t i = 0; i < g->node_count; i++)
        for (uint32_t k = 0; k < g->node[i].segment_count; k++)
            if (g->node[i].segment[k].kind == GRAPH_SEGMENT_FILE && g->node[i].segment[k].file < g->file_count &&
                graph_is_link(&g->file[g->node[i].segment[k].file]))
                return err_set(e, ERR_INPUT, "a source reads the symbolic link '%.200s'", g->file[g->node[i].segment[k].file].name);
    if (check_strings(g->env, g->envc, true, "variables", NULL, e) < 0)
        return -1;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (check_node(g, i, e) < 0)
            return -1;
    for (uint32_t i = 0; i < g->edge_count; i++)
        if (check_edge(g, i, e) < 0)
            return -1;
    for (uint32_t i = 0; i < g->expect_count; i++)
        if (g->expect[i].node >= g->node_count || g->node[g->expect[i].node].kind != GRAPH_SINK ||
            !good_digest(g->expect[i].sha256))
            return err_set(e, ERR_INPUT, "a check names no output or no digest");
    if (check_ends(g, e) < 0 || check_owners(g, e) < 0 || check_file_names(g, e) < 0)
        return -1;
    return check_cycles(g, e);
}
