/* `map ... merge M`: the outputs of the tasks are combined by a tree of merges.  M gets `fan` neighbours of one level, as
 * file operands or end to end on stdin, and its output is an item of the next level.  Which items are neighbours follows
 * from their numbers alone.  M begins as soon as its parts are there, so that what is kept is bounded.  When all tasks have
 * ended, what is left over at the end of a level goes up unchanged if it is one item, and merged if it is several.  See
 * tasks.h. */
#include "worker/tasks.h"

#include "base/spool.h"
#include "proto/holes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define FAN_MAX     1024
#define LEVEL_BITS  40 /* a merge's number has its level above these bits, so all merges have different random numbers */

/* An item of the tree: the output of a task or a merge, now or later. */
struct merge_item {
    struct merge_item *next;
    struct blocks *b;
    uint32_t level;
    uint64_t number; /* its number in its level */
    int out;         /* owned: the output; -1: not there yet */
    int said;        /* owned: the stderr of merges from here down; -1: nothing */
    struct run *run; /* the merge that makes it */
    struct task_failure failure;
};

static uint32_t fan_of(const struct blocks *b)
{
    uint32_t fan = b->t->graph->node[b->stage->author].set.fan;
    return fan == 0 ? GRAPH_FAN_DEFAULT : fan < 2 ? 2 : fan > FAN_MAX ? FAN_MAX : fan;
}

static const uint32_t *nodes_of(const struct blocks *b)
{
    return b->node + b->stage->count;
}

static void item_free(struct merge_item *i)
{
    fd_close(&i->out);
    fd_close(&i->said);
    free(i);
}

/* ---- one merge */

struct merge {
    struct run *run;
    const char **name; /* the names of its parts in /job */
    uint32_t count;
    struct merge_item *item;
};

static struct region_words merge_words(void *owner, uint32_t node)
{
    struct merge *m = owner;
    const struct graph_node *n = &m->item->b->t->graph->node[node];
    struct arena *a = &m->run->arena;
    const struct holes h = {m->name, m->count, 0};
    const char **word = arena_array(a, (size_t)n->argc * m->count + 1, sizeof *word);
    uint32_t count = 0;
    for (uint32_t i = 0; word && i < n->argc; i++) {
        bool many = holes_has(n->argv[i]) && n->kind != GRAPH_SHELL;
        for (uint32_t k = 0; k < (many ? m->count : 1); k++) {
            struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
            if (n->kind == GRAPH_SHELL)
                holes_fill_shell(n->argv[i], &h, &b);
            else
                holes_fill(n->argv[i], &h, k, &b);
            word[count] = b.failed ? NULL : arena_string(a, b.data ? b.data : "");
            buf_clear(&b);
            if (!word[count++])
                return (struct region_words){NULL, 0};
        }
    }
    return (struct region_words){word, word ? count : 0};
}

static bool names_parts(const struct blocks *b)
{
    for (uint32_t i = 0; i < b->stage->merge_count; i++)
        if (b->t->graph->node[nodes_of(b)[i]].holes)
            return true;
    return false;
}

/* The ends that the programs of the merge body read from and write to. */
static uint32_t ends_of(const struct merge *m, struct region_end *list, const struct box_source *source)
{
    const struct blocks *b = m->item->b;
    const struct graph *g = b->t->graph;
    bool named = names_parts(b);
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->stage->merge_count; i++) {
        const struct graph_node *n = &g->node[nodes_of(b)[i]];
        for (uint32_t k = 0; k < n->fd_count; k++) {
            const struct graph_edge *edge = &g->edge[n->fd[k].edge];
            const struct graph_node *from = &g->node[edge->from], *to = &g->node[edge->to];
            bool in = from->kind == GRAPH_SOURCE && from->segment_count &&
                      from->segment[0].kind == GRAPH_SEGMENT_STDIN;
            struct region_end end = {.edge = n->fd[k].edge, .fd = -1, .channel = GRAPH_NONE};
            end.how = !in ? REGION_FILE : named ? REGION_NOTHING : REGION_FEED;
            if (in && !named) {
                end.source = source;
                end.source_count = m->count;
            } else if (to->kind == GRAPH_SINK && to->sink == GRAPH_SINK_STDOUT) {
                end.fd = m->run->out;
            } else if (to->kind == GRAPH_SINK && to->sink == GRAPH_SINK_STDERR) {
                end.fd = m->run->task->errors[i];
            }
            if (in || end.fd >= 0)
                list[count++] = end;
        }
    }
    return count;
}

static int run_programs(struct merge *m, struct merge_item *part, struct err *e)
{
    struct blocks *b = m->item->b;
    struct arena *a = &m->run->arena;
    uint32_t fds = 0, at = 0;
    for (uint32_t i = 0; i < b->stage->merge_count; i++)
        fds += b->t->graph->node[nodes_of(b)[i]].fd_count;
    struct box_source *source = arena_array(a, m->count, sizeof *source);
    struct box_file *file = arena_array(a, m->count, sizeof *file);
    struct region_end *end = arena_array(a, (size_t)fds + 1, sizeof *end);
    m->name = arena_array(a, m->count, sizeof *m->name);
    if (!source || !file || !end || !m->name)
        return err_nomem(e);
    for (struct merge_item *p = part; at < m->count; p = p->next, at++) {
        char *name = arena_alloc(a, 32);
        if (!name)
            return err_nomem(e);
        snprintf(name, 32, ".zpipe-part-%u", at);
        m->name[at] = name;
        source[at] = (struct box_source){.fd = p->out};
        if (blocks_size_of(p->out, &source[at].size, e) < 0)
            return -1;
        file[at] = (struct box_file){.name = name, .fd = spool_reader(p->out, e)};
        if (file[at].fd < 0)
            break;
    }
    struct region region = {.arena = a};
    struct region_scope scope = {.node = nodes_of(b), .count = b->stage->merge_count, .end = end,
                                 .end_count = ends_of(m, end, source), .stderr_fd = m->run->task->errors,
                                 .block = m->run->number + 1, .part = file,
                                 .part_count = names_parts(b) ? m->count : 0, .words = merge_words, .owner = m};
    int result = at < m->count ? -1 : region_build(b->t, &scope, &region, e);
    if (result == 0)
        result = agent_run_region(b->t->agent, &m->run->watch, &region.plan, e);
    region_close(&region);
    for (uint32_t i = 0; i < at; i++)
        close(file[i].fd);
    return result;
}

/* Append the contents of `from` to *to. */
static int append(int *to, int from, struct err *e)
{
    uint64_t size;
    off_t at = 0;
    if (from < 0 || blocks_size_of(from, &size, e) < 0)
        return from < 0 ? 0 : -1;
    if (size && *to < 0 && (*to = spool_open(e)) < 0)
        return -1;
    while ((uint64_t)at < size)
        if (sendfile(*to, from, &at, (size_t)(size - (uint64_t)at)) <= 0)
            return spool_write_failed(e);
    return 0;
}

static void merge_task_ended(void *owner, uint32_t task, const struct box_result *end)
{
    struct merge_item *i = owner;
    if (i->b->state != ENDED)
        tasks_note(i->run, task, end);
    for (uint32_t k = 0; k < end->made_count; k++)
        if (end->made[k].fd >= 0)
            close(end->made[k].fd);
}

static void merge_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    struct merge_item *i = owner;
    struct err e;
    (void)channel;
    if (!sys || sys == EPIPE || i->b->state == ENDED)
        return;
    errno = sys;
    err_sys(&e, reading ? "cannot read what a task wrote" : "cannot write to a merge");
    blocks_fail(i->b, &e);
}

static void merge_ended(void *owner)
{
    struct merge_item *i = owner;
    struct blocks *b = i->b;
    struct run *r = i->run;
    struct err e;
    b->running--;
    agent_end_run(b->t->agent, b->run_memory);
    i->out = r->out;
    r->out = -1;
    i->failure = r->task->failure;
    for (uint32_t k = 0; b->state != ENDED && k < b->stage->merge_count; k++)
        if (append(&i->said, r->task->errors[k], &e) < 0)
            blocks_fail(b, &e);
    i->run = NULL;
    run_free(r);
    if (b->state == ENDED)
        tasks_drop_merges(b);
    else
        blocks_step(b);
    attempt_settle(b->t);
}

static const struct region_events merge_events = {
    .task_ended = merge_task_ended, .pump_ended = merge_pump_ended, .ended = merge_ended};

static int new_run(struct merge_item *i, struct err *e)
{
    struct blocks *b = i->b;
    uint32_t count = b->stage->merge_count;
    struct run *r = run_new(b, e);
    if (r && run_open_out(r, e) < 0) {
        run_free(r);
        return -1;
    }
    struct task *t = r ? arena_alloc(&r->arena, sizeof *t) : NULL;
    int *numbers = t ? arena_array(&r->arena, 2 * (size_t)count + 1, sizeof *numbers) : NULL;
    if (!numbers) {
        if (r)
            run_free(r), err_nomem(e);
        return -1;
    }
    *t = (struct task){.errors = numbers, .status = numbers + count, .first = b->stage->count, .count = count};
    for (uint32_t k = 0; k < count; k++)
        t->errors[k] = -1;
    r->task = t;
    r->number = ((uint64_t)i->level << LEVEL_BITS) + i->number;
    r->watch.events = &merge_events;
    r->watch.owner = i;
    i->run = r;
    for (uint32_t k = 0; k < count; k++)
        if ((t->errors[k] = b->tasks->said_out ? blocks_dup(r->out, e) : spool_open(e)) < 0)
            return -1;
    return 0;
}

/* Begin to merge `count` items from *at on into one of the next level.  1: begun; 0: not now. */
static int begin(struct blocks *b, struct merge_item **at, uint32_t count, struct err *e)
{
    if (!agent_begin_run(b->t->agent, queue_slots(b), b->t->graph->width, b->run_memory))
        return 0;
    struct merge_item *i = calloc(1, sizeof *i), *part = *at;
    if (!i)
        return agent_end_run(b->t->agent, b->run_memory), err_nomem(e);
    *i = (struct merge_item){.b = b, .level = part->level + 1, .number = part->number / fan_of(b), .out = -1, .said = -1};
    int r = new_run(i, e);
    struct merge m = {.run = i->run, .count = count, .item = i};
    if (r == 0)
        r = run_programs(&m, part, e);
    for (uint32_t k = 0; r == 0 && k < count; k++, part = part->next)
        r = append(&i->said, part->said, e);
    if (r < 0) {
        agent_end_run(b->t->agent, b->run_memory);
        if (i->run && i->run->watch.id)
            agent_stop_region(b->t->agent, &i->run->watch);
        else if (i->run)
            run_free(i->run);
        if (!i->run || !i->run->watch.id)
            item_free(i);
        return -1;
    }
    b->running++;
    for (uint32_t k = 0; k < count; k++) {
        part = *at;
        *at = part->next;
        b->tasks->leaves_kept -= part->level == 0;
        if (part->failure.is && !i->failure.is)
            b->tasks->merge_failure = b->tasks->merge_failure.is ? b->tasks->merge_failure : part->failure;
        item_free(part);
    }
    i->next = *at;
    *at = i;
    return 1;
}

/* ---- the tree */

/* How many items from i on are complete, without a gap, in i's group. */
static uint32_t ready(const struct merge_item *i, uint32_t fan)
{
    const struct merge_item *first = i;
    uint32_t count = 0;
    for (; i && !i->run && i->level == first->level && i->number == first->number + count &&
           i->number / fan == first->number / fan;
         i = i->next)
        count++;
    return count;
}

int tasks_merge_add(struct blocks *b, int out, struct err *e)
{
    struct merge_item *i = calloc(1, sizeof *i), **last = &b->tasks->tree;
    if (!i) {
        close(out);
        return err_nomem(e);
    }
    *i = (struct merge_item){.b = b, .number = b->tasks->leaves++, .out = out, .said = -1};
    while (*last)
        last = &(*last)->next;
    *last = i;
    b->tasks->leaves_kept++;
    return 0;
}

/* Merge groups that are complete. */
int tasks_merge_step(struct blocks *b, struct err *e)
{
    uint32_t fan = fan_of(b);
    int r = 1;
    for (struct merge_item **at = &b->tasks->tree; r > 0 && *at; at = &(*at)->next)
        if ((*at)->number % fan == 0 && ready(*at, fan) == fan)
            r = begin(b, at, fan, e);
    return r < 0 ? -1 : 0;
}

/* All tasks have ended: merge what is left over, from the lowest level up.  1: one item is left, and it is complete. */
static int finish(struct blocks *b, struct err *e)
{
    uint32_t fan = fan_of(b);
    for (;;) {
        struct merge_item **at = &b->tasks->tree, *i = *at;
        if (!i)
            return 1;
        if (!i->next && !i->run && i->level)
            return 1;
        while (ready(*at, fan) == 0 || (*at)->number % fan || (*at)->next) {
            uint32_t count = ready(*at, fan);
            struct merge_item *behind = *at;
            for (uint32_t k = 0; k < count; k++)
                behind = behind->next;
            if (count && !behind)
                break;
            at = &(*at)->next;
            if (!*at)
                return 0; /* the last one is being merged */
        }
        uint32_t count = ready(*at, fan);
        if ((*at)->number % fan)
            return 0; /* its neighbours are being merged */
        if (count > 1 || (*at == b->tasks->tree && !(*at)->level))
            return begin(b, at, count, e) < 0 ? -1 : 0;
        b->tasks->leaves_kept -= (*at)->level == 0;
        (*at)->level++;
        (*at)->number /= fan;
    }
}

int tasks_merge_end(struct blocks *b, struct err *e)
{
    if (tasks_merge_step(b, e) < 0)
        return -1;
    int r = finish(b, e);
    struct merge_item *i = b->tasks->tree;
    if (r <= 0 || !i)
        return r;
    b->tasks->tree = NULL;
    int out = i->out, said = i->said;
    i->out = i->said = -1;
    struct task_failure failure = b->tasks->merge_failure.is ? b->tasks->merge_failure : i->failure;
    item_free(i);
    if (!b->tasks->failure.is)
        b->tasks->failure = failure;
    if (failure.is && !b->tasks->status)
        b->tasks->status = failure.status;
    r = said >= 0 ? tasks_say(b, said, e) : 0;
    if (r == 0 && !failure.is)
        return blocks_put(b, out, e) < 0 ? -1 : 1;
    close(out);
    return r < 0 ? -1 : 1;
}

void tasks_drop_merges(struct blocks *b)
{
    struct merge_item **at = &b->tasks->tree;
    while (*at) {
        struct merge_item *i = *at;
        if (i->run) {
            agent_stop_region(b->t->agent, &i->run->watch);
            at = &i->next;
            continue;
        }
        *at = i->next;
        item_free(i);
    }
}

void tasks_free_merges(struct blocks *b)
{
    while (b->tasks->tree) {
        struct merge_item *i = b->tasks->tree;
        b->tasks->tree = i->next;
        if (i->run)
            run_free(i->run);
        item_free(i);
    }
}
