/* The files that tasks make: files that a redirection names with holes, and files that a program leaves in /job under such
 * a name.  They go to the client in the same way as the files of other stages (proto/made.h), but task by task, with one
 * index for the files of each task.  A file is called SINK/TASK there (the node of the body, and how many tasks came
 * before); the client makes its real name from these.  See tasks.h. */
#include "worker/tasks.h"

#include "base/spool.h"
#include "proto/made.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int tasks_find_sinks(struct blocks *b, struct err *e)
{
    const struct graph *g = b->t->graph;
    struct tasks *t = b->tasks;
    t->sink = arena_array(&b->t->arena, (size_t)g->node_count + 1, sizeof *t->sink);
    if (!t->sink)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->node[i].parent == b->stage->author && graph_is_task_sink(&g->node[i]))
            t->sink[t->sink_count++] = i;
    return 0;
}

static uint32_t index_of(const struct tasks *t, uint32_t sink)
{
    uint32_t k = 0;
    while (k < t->sink_count && t->sink[k] != sink)
        k++;
    return k;
}

/* A file that a redirection names exists afterwards, even if nobody writes there. */
int tasks_open_made(struct run *r, struct err *e)
{
    const struct tasks *t = r->b->tasks;
    for (uint32_t k = 0; k < t->sink_count; k++)
        if (r->b->t->graph->node[t->sink[k]].fd_count && (r->task->made[k] = spool_open(e)) < 0)
            return -1;
    return 0;
}

int tasks_made_fd(const struct run *r, uint32_t sink)
{
    const struct tasks *t = r->b->tasks;
    uint32_t k = index_of(t, sink);
    return k < t->sink_count ? r->task->made[k] : -1;
}

int tasks_take_made(struct run *r, uint32_t i, const struct box_result *end, struct err *e)
{
    const struct tasks *t = r->b->tasks;
    const struct graph_node *n = blocks_node(r->b, i);
    for (uint32_t k = 0; k < n->output_count; k++)
        for (uint32_t m = 0; m < end->made_count; m++) {
            uint32_t sink = index_of(t, n->output[k].sink);
            if (end->made[m].fd < 0 || sink == t->sink_count || r->task->made[sink] >= 0 ||
                strcmp(end->made[m].name, r->task->output[i][k]))
                continue;
            if ((r->task->made[sink] = blocks_dup(end->made[m].fd, e)) < 0)
                return -1;
        }
    return 0;
}

void tasks_note_dropped(struct run *r, uint32_t i, const struct box_result *end)
{
    struct buf text = BUF_INIT(MSG_TEXT_MAX);
    attempt_tell_dropped(&r->arena, r->b->t->graph, blocks_node(r->b, i), end, &text);
    r->task->dropped[i] = text.size ? arena_string(&r->arena, text.data) : NULL;
    buf_clear(&text);
}

/* The index of a task's files; -1: it cannot be made. */
static int make_index(const struct run *r, struct err *e)
{
    const struct tasks *t = r->b->tasks;
    struct arena a = ARENA_INIT(MADE_INDEX_MAX);
    struct buf index = BUF_INIT(MADE_PREFIX + MADE_INDEX_MAX);
    struct made_file *file = arena_array(&a, t->sink_count, sizeof *file);
    uint32_t count = 0;
    int fd = -1, bad = file ? 0 : err_nomem(e);
    for (uint32_t k = 0; !bad && k < t->sink_count; k++) {
        struct stat s;
        char *name = arena_alloc(&a, 40);
        if (r->task->made[k] < 0)
            continue;
        if (!name || fstat(r->task->made[k], &s) < 0) {
            bad = err_nomem(e);
            break;
        }
        snprintf(name, 40, "%u/%llu", t->sink[k], (unsigned long long)r->number);
        bool own = !r->b->t->graph->node[t->sink[k]].fd_count; /* a program made it, and chose its mode */
        file[count++] = (struct made_file){name, own ? s.st_mode & 0777 : 0, (uint64_t)s.st_size};
    }
    if (!bad && made_pack(file, count, &index, e) == 0)
        fd = spool_of((struct slice){index.data, index.size}, e);
    buf_clear(&index);
    arena_clear(&a);
    return fd;
}

int tasks_give_made(struct run *r, struct err *e)
{
    const struct tasks *t = r->b->tasks;
    bool any = false;
    for (uint32_t k = 0; k < t->sink_count; k++)
        any |= r->task->made[k] >= 0;
    if (!any)
        return 0;
    int index = make_index(r, e);
    if (index < 0 || tasks_put_made(r->b, index, e) < 0)
        return -1;
    for (uint32_t k = 0; k < t->sink_count; k++) {
        int fd = r->task->made[k];
        r->task->made[k] = -1;
        if (fd >= 0 && tasks_put_made(r->b, fd, e) < 0)
            return -1;
    }
    return 0;
}
