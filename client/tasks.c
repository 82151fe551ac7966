/* See client.h.  The outputs of a map's or reduce's tasks.  Their names are those of the body's sinks, with the holes
 * filled from the name of the task's file, or with the number of its partition.  Which of them come to be is known only
 * when their tasks have ended. */
#include "client/client.h"

#include "proto/holes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NAME_BYTES_MAX 4096

/* The source node whose files the map runs its tasks on. */
static const struct graph_node *source_of(const struct graph *g, uint32_t map)
{
    const struct graph_fd *in = graph_fd_of(&g->node[map], 0);
    const struct graph_node *from = in ? &g->node[g->edge[in->edge].from] : NULL;
    return from && g->node[map].per_file && from->kind == GRAPH_SOURCE ? from : NULL;
}

char *tasks_output_name(const struct graph *g, uint32_t map, uint32_t sink, uint64_t task, struct err *e)
{
    const struct graph_node *from = source_of(g, map);
    const struct graph_segment *one = from && task < from->segment_count ? &from->segment[task] : NULL;
    const char *name = one && one->kind == GRAPH_SEGMENT_FILE ? g->file[one->file].name : "";
    struct buf out = BUF_INIT(NAME_BYTES_MAX);
    const struct graph_node *n = &g->node[map];
    if (n->kind == GRAPH_REDUCE ? task >= n->into : !*name) {
        err_set(e, ERR_PROTO, "a worker sent a file of a task that is not there");
        return NULL;
    }
    holes_fill(g->node[sink].path, &(struct holes){&name, 1, task + 1}, 0, &out);
    if (out.failed)
        err_set(e, ERR_INPUT, "the output name `%.200s` of '%.200s' is longer than %d bytes", g->node[sink].path, name,
                NAME_BYTES_MAX);
    char *text = out.failed ? NULL : buf_take(&out);
    buf_clear(&out);
    return text;
}

/* Checks before the job starts that the directories which tasks will write into exist: a mistake is reported now, not after
 * hours. */
int tasks_check_outputs(struct zpipe_job *j, uint32_t sink, struct err *e)
{
    const struct graph *g = j->whole;
    const struct graph_node *n = &g->node[g->node[sink].parent], *from = source_of(g, g->node[sink].parent);
    uint32_t count = j->held ? 0 : n->kind == GRAPH_REDUCE ? n->into : from ? from->segment_count : 0; /* a keeper (held) makes the directories itself */
    for (uint32_t i = 0; i < count; i++) {
        char *name = tasks_output_name(g, g->node[sink].parent, sink, i, e), path[2 * NAME_BYTES_MAX + 2];
        if (!name)
            return -1;
        snprintf(path, sizeof path, "%s%s%s", name[0] == '/' ? "" : j->directory, name[0] == '/' ? "" : "/", name);
        *strrchr(path, '/') = '\0';
        int r = access(*path ? path : "/", W_OK | X_OK);
        if (r < 0)
            err_sys(e, "cannot write '%.1000s'", name);
        free(name);
        if (r < 0)
            return -1;
    }
    return 0;
}
