/* See client.h.  Graphs made node by node by a program: the same struct graph that the parser makes. */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct zpipe_graph {
    struct graph *g;  /* owned */
    char *directory;  /* owned, absolute */
};

static zpipe_node fail_node(struct zpipe_error *to, const struct err *e)
{
    client_error(to, e);
    return ZPIPE_NONE;
}

struct zpipe_graph *zpipe_graph_new(const char *directory, struct zpipe_error *error)
{
    struct err e = {0};
    struct zpipe_graph *b = calloc(1, sizeof *b);
    if (!b)
        err_nomem(&e);
    else if (!(b->directory = client_directory(directory, &e)) || !(b->g = graph_new(&e))) {
        zpipe_graph_free(b);
        b = NULL;
    }
    if (!b)
        client_error(error, &e);
    return b;
}

void zpipe_graph_free(struct zpipe_graph *b)
{
    if (!b)
        return;
    graph_free(b->g);
    free(b->directory);
    free(b);
}

static struct graph_node *add(struct zpipe_graph *b, uint32_t kind, const char *label, zpipe_node *n,
                              struct err *e)
{
    *n = graph_add_node(b->g, kind, e);
    if (*n == GRAPH_NONE)
        return NULL;
    struct graph_node *node = &b->g->node[*n];
    node->label = arena_string(&b->g->arena, label);
    if (!node->label) {
        err_nomem(e);
        return NULL;
    }
    return node;
}

zpipe_node zpipe_graph_command(struct zpipe_graph *b, const char *const *argv, struct zpipe_error *error)
{
    struct err e;
    zpipe_node n;
    uint32_t argc = 0;
    struct buf label = BUF_INIT(MSG_TEXT_MAX);
    if (!argv[0]) {
        err_set(&e, ERR_INPUT, "a command needs a program");
        return fail_node(error, &e);
    }
    for (; argv[argc]; argc++)
        buf_printf(&label, "%s%s", argc ? " " : "", argv[argc]);
    struct graph_node *node = add(b, GRAPH_COMMAND, label.data && !label.failed ? label.data : argv[0], &n, &e);
    buf_clear(&label);
    const char **copy = node ? arena_array(&b->g->arena, argc, sizeof *copy) : NULL;
    if (node && !copy)
        err_nomem(&e);
    for (uint32_t i = 0; copy && i < argc; i++)
        if (!(copy[i] = arena_string(&b->g->arena, argv[i]))) {
            err_nomem(&e);
            copy = NULL;
        }
    if (!copy)
        return fail_node(error, &e);
    node->argv = copy;
    node->argc = argc;
    node->ends = true; /* until something reads its output */
    return n;
}

static zpipe_node add_source(struct zpipe_graph *b, struct graph_segment segment, const char *label,
                             struct zpipe_error *error)
{
    struct err e;
    zpipe_node n;
    struct graph_node *node = add(b, GRAPH_SOURCE, label, &n, &e);
    struct graph_segment *copy = node ? arena_alloc(&b->g->arena, sizeof *copy) : NULL;
    if (!copy) {
        if (node)
            err_nomem(&e);
        return fail_node(error, &e);
    }
    *copy = segment;
    node->segment = copy;
    node->segment_count = 1;
    return n;
}

zpipe_node zpipe_graph_stdin(struct zpipe_graph *b, struct zpipe_error *error)
{
    return add_source(b, (struct graph_segment){.kind = GRAPH_SEGMENT_STDIN}, "stdin", error);
}

zpipe_node zpipe_graph_bytes(struct zpipe_graph *b, const void *data, size_t size, struct zpipe_error *error)
{
    struct err e;
    struct graph_segment s = {.kind = GRAPH_SEGMENT_TEXT};
    s.text = (struct slice){arena_bytes(&b->g->arena, data, size), size};
    if (!s.text.data) {
        err_nomem(&e);
        return fail_node(error, &e);
    }
    return add_source(b, s, "bytes", error);
}

static uint32_t add_file(struct zpipe_graph *b, const char *path, struct err *e)
{
    char whole[4096];
    struct stat s;
    if (path[0] == '/')
        snprintf(whole, sizeof whole, "%s", path);
    else if (snprintf(whole, sizeof whole, "%s/%s", b->directory, path) >= (int)sizeof whole) {
        err_set(e, ERR_INPUT, "the name '%s' is too long", path);
        return GRAPH_NONE;
    }
    if (stat(whole, &s) < 0) {
        err_sys(e, "cannot use the input '%s'", path);
        return GRAPH_NONE;
    }
    struct graph_file f = {.name = path,
                           .path = whole,
                           .size_bytes = (uint64_t)s.st_size,
                           .inode = s.st_ino,
                           .mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec,
                           .mode = s.st_mode};
    return graph_add_file(b->g, &f, e);
}

zpipe_node zpipe_graph_file(struct zpipe_graph *b, const char *path, struct zpipe_error *error)
{
    struct err e;
    uint32_t file = add_file(b, path, &e);
    if (file == GRAPH_NONE)
        return fail_node(error, &e);
    return add_source(b, (struct graph_segment){.kind = GRAPH_SEGMENT_FILE, .file = file}, path, error);
}

static zpipe_node add_sink(struct zpipe_graph *b, enum graph_sink_kind kind, const char *path,
                           struct zpipe_error *error)
{
    struct err e;
    zpipe_node n;
    struct graph_node *node = add(b, GRAPH_SINK, path, &n, &e);
    if (!node)
        return fail_node(error, &e);
    node->sink = kind;
    node->path = kind == GRAPH_SINK_FILE ? node->label : "";
    return n;
}

zpipe_node zpipe_graph_stdout(struct zpipe_graph *b, struct zpipe_error *error)
{
    return add_sink(b, GRAPH_SINK_STDOUT, "stdout", error);
}

zpipe_node zpipe_graph_output(struct zpipe_graph *b, const char *path, struct zpipe_error *error)
{
    return add_sink(b, GRAPH_SINK_FILE, path, error);
}

int zpipe_graph_join(struct zpipe_graph *b, zpipe_node from, int from_fd, zpipe_node to, int to_fd,
                     struct zpipe_error *error)
{
    struct err e;
    struct graph *g = b->g;
    uint32_t edge = GRAPH_NONE;
    if (from >= g->node_count || to >= g->node_count)
        err_set(&e, ERR_INPUT, "there is no node %u", from >= g->node_count ? from : to);
    else
        edge = graph_add_edge(g, from, to, &e);
    if (edge == GRAPH_NONE || graph_set_fd(g, from, from_fd, edge, &e) < 0 ||
        graph_set_fd(g, to, to_fd, edge, &e) < 0)
        return client_error(error, &e);
    if (g->node[to].kind != GRAPH_SINK)
        g->node[from].ends = false;
    return 0;
}

int zpipe_graph_input(struct zpipe_graph *b, zpipe_node command, const char *path, struct zpipe_error *error)
{
    struct err e;
    struct graph *g = b->g;
    uint32_t file = GRAPH_NONE;
    if (command >= g->node_count || g->node[command].kind != GRAPH_COMMAND)
        err_set(&e, ERR_INPUT, "node %u is no command", command);
    else
        file = add_file(b, path, &e);
    if (file == GRAPH_NONE)
        return client_error(error, &e);
    struct graph_node *n = &g->node[command];
    uint32_t *files = arena_array(&g->arena, (size_t)n->file_count + 1, sizeof *files);
    if (!files) {
        err_nomem(&e);
        return client_error(error, &e);
    }
    if (n->file_count)
        memcpy(files, n->file, n->file_count * sizeof *files);
    files[n->file_count] = file;
    n->file = files;
    n->file_count++;
    return 0;
}

static struct graph *copy_of(const struct graph *g, struct err *e)
{
    struct buf bytes = BUF_INIT(GRAPH_BYTES_MAX);
    struct graph *copy = NULL;
    if (graph_check(g, e) == 0 && graph_encode(g, &bytes, e) == 0)
        copy = graph_decode(bytes.data, bytes.size, e);
    buf_clear(&bytes);
    return copy;
}

struct zpipe_job *zpipe_submit_graph(struct zpipe *z, struct zpipe_graph *b, const struct zpipe_submission *s,
                                     struct zpipe_error *error)
{
    struct err e = {0};
    struct zpipe_job *j = NULL;
    struct graph *g = copy_of(b->g, &e);
    char *directory = g ? strdup(b->directory) : NULL;
    if (directory) {
        g->pipefail = s->pipefail;
        g->line_reads = s->line_reads;
        j = client_job_start(z, g, directory, s, 0, &e);
    } else if (g) {
        graph_free(g);
        err_nomem(&e);
    }
    if (!j)
        client_error(error, &e);
    return j;
}
