/* See tasks.h.  Runs a task: connects its programs to the SOURCEs and SINKs of the body.  stdin is the block; stdout is the
 * run's; stderr is each program's own, so that it is printed in the order of the programs, whenever they wrote it
 * (tasks_kept.c). */
#include "worker/tasks.h"

#include "worker/deal.h"

#include "base/spool.h"
#include "proto/holes.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOST_STATUS 125

/* ---- the file of a task */

static const struct graph_file *file_of(const struct run *r)
{
    return r->file == GRAPH_NONE ? NULL : &r->b->t->graph->file[r->file];
}

/* Open the task's file. */
static int file_reader(const struct run *r, struct err *e)
{
    return r->in >= 0 ? spool_reader(r->in, e) : region_open_file(r->b->t, file_of(r), e);
}

/* Make a file again of the part of the streamed input that is this task's. */
static int copy_file(struct run *r, struct err *e)
{
    const struct blocks *b = r->b;
    const struct graph_file *f = file_of(r);
    r->in = spool_open(e);
    if (r->in < 0)
        return -1;
    fchmod(r->in, (f->mode & 0777) | 0400);
    if (!f->size_bytes)
        return 0;
    struct box_source from = {b->intake.spool, b->file_at[r->from], f->size_bytes};
    struct box_channel c = {.end = BOX_COPY, .source = &from, .source_count = 1, .sink = r->in};
    r->task->copying = true;
    return agent_run_region(b->t->agent, &r->watch, &(struct box_region){.channel = &c, .channel_count = 1}, e);
}

/* ---- words */

/* Fill the holes of `count` texts, in the run's arena; NULL: no memory. */
static const char *const *fill_all(struct run *r, const char *const *text, uint32_t count, bool shell)
{
    const struct graph_file *f = file_of(r);
    const char *name = f ? f->name : "";
    const struct holes h = {&name, 1, r->number + 1};
    const char **word = arena_array(&r->arena, (size_t)count + 1, sizeof *word);
    for (uint32_t i = 0; word && i < count; i++) {
        struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
        if (shell)
            holes_fill_shell(text[i], &h, &b);
        else
            holes_fill(text[i], &h, 0, &b);
        word[i] = b.failed ? NULL : arena_string(&r->arena, b.data ? b.data : "");
        buf_clear(&b);
        if (!word[i])
            return NULL;
    }
    return word;
}

struct region_words tasks_words(void *owner, uint32_t node)
{
    struct run *r = owner;
    const struct graph_node *n = &r->b->t->graph->node[node];
    if (!n->holes)
        return (struct region_words){n->argv, n->argc};
    const char *const *word = fill_all(r, n->argv, n->argc, n->kind == GRAPH_SHELL);
    return (struct region_words){word, word ? n->argc : 0};
}

/* The names of its outputs in /job; task_start has filled their holes. */
static struct region_words task_outputs(void *owner, uint32_t node)
{
    struct run *r = owner;
    for (uint32_t i = 0; i < r->b->stage->count; i++)
        if (r->b->node[i] == node)
            return (struct region_words){r->task->output[i], blocks_node(r->b, i)->output_count};
    return (struct region_words){NULL, 0};
}

int tasks_fill_outputs(struct run *r, struct err *e)
{
    uint32_t count = r->b->stage->count;
    r->task->output = arena_array(&r->arena, (size_t)count + 1, sizeof *r->task->output);
    for (uint32_t i = 0; r->task->output && i < count; i++) {
        const struct graph_node *n = blocks_node(r->b, i);
        const char **name = arena_array(&r->arena, (size_t)n->output_count + 1, sizeof *name);
        for (uint32_t k = 0; name && k < n->output_count; k++)
            name[k] = n->output[k].name;
        if (!name || !(r->task->output[i] = fill_all(r, name, n->output_count, false)))
            return err_nomem(e);
    }
    return r->task->output ? 0 : err_nomem(e);
}

/* ---- where its streams come from and go to */

struct ends {
    struct run *r;
    struct region_end *list;
    uint32_t count;
    int *opened; /* to be closed once the region has them */
    uint32_t opened_count;
};

static int keep(struct ends *s, int fd)
{
    if (fd >= 0)
        s->opened[s->opened_count++] = fd;
    return fd;
}

static int feed(struct ends *s, struct region_end *end, const struct box_source *from, int count, struct err *e)
{
    struct box_source *list = count < 0 ? NULL : arena_array(&s->r->arena, (size_t)count + 1, sizeof *list);
    if (count < 0)
        return err_set(e, ERR_LIMIT, "what one block reads is in more than %d pieces", SOURCES_MAX);
    if (!list)
        return err_nomem(e);
    for (int i = 0; i < count; i++)
        list[i] = from[i];
    end->how = count ? REGION_FEED : REGION_NOTHING;
    end->source = list;
    end->source_count = (uint32_t)count;
    return 0;
}

/* An end that reads from outside of the body: each task reads all of it. */
static int end_of_outside(struct ends *s, uint32_t edge, struct region_end *end, struct err *e)
{
    static struct box_source from[SOURCES_MAX];
    const struct inlet *in = s->r->b->t->joint[edge].reader->inlet;
    return feed(s, end, from, inlet_sources(in, 0, in->bytes, from, SOURCES_MAX), e);
}

/* An end that reads a SOURCE of the body: the block in place of stdin, and what else the source names. */
static int end_of_source(struct ends *s, const struct graph_node *source, struct region_end *end, struct err *e)
{
    static struct box_source from[SOURCES_MAX];
    if (blocks_per_file(s->r->b)) {
        end->how = file_of(s->r) ? REGION_FILE : REGION_NOTHING;
        end->fd = end->how == REGION_FILE ? keep(s, file_reader(s->r, e)) : -1;
        return end->how == REGION_FILE && end->fd < 0 ? -1 : 0;
    }
    int count = 0;
    for (uint32_t i = 0; i < source->segment_count; i++)
        if (source->segment[i].kind == GRAPH_SEGMENT_STDIN)
            count = run_sources(s->r, from, SOURCES_MAX);
    return feed(s, end, from, count, e);
}

bool tasks_reads_block(const struct graph_node *n)
{
    for (uint32_t i = 0; n->kind == GRAPH_SOURCE && i < n->segment_count; i++)
        if (n->segment[i].kind == GRAPH_SEGMENT_STDIN)
            return true;
    return false;
}

/* Set the end of one descriptor of program i, if it is not decided by the graph. */
static int end_of_fd(struct ends *s, uint32_t i, const struct graph_fd *f, struct err *e)
{
    const struct graph *g = s->r->b->t->graph;
    const struct graph_edge *edge = &g->edge[f->edge];
    bool writes = edge->from == s->r->b->node[i];
    const struct graph_node *other = &g->node[writes ? edge->to : edge->from];
    struct region_end *end = &s->list[s->count];
    *end = (struct region_end){.how = REGION_FILE, .edge = f->edge, .fd = -1, .channel = GRAPH_NONE};
    if (!writes && other->parent == GRAPH_NONE) {
        s->count++;
        return end_of_outside(s, f->edge, end, e);
    }
    if (!writes && tasks_reads_block(other)) {
        s->count++;
        return end_of_source(s, other, end, e);
    }
    if (writes && graph_is_task_sink(other))
        end->fd = tasks_made_fd(s->r, edge->to);
    s->count += end->fd >= 0 || (writes && tasks_end_of(s->r, i, other, end));
    return 0;
}

static int start_programs(struct run *r, struct err *e)
{
    struct blocks *b = r->b;
    const struct graph *g = b->t->graph;
    uint32_t room = 0;
    for (uint32_t i = 0; i < b->stage->count; i++)
        room += g->node[b->node[i]].fd_count;
    struct ends s = {.r = r, .list = arena_array(&r->arena, (size_t)room + 1, sizeof *s.list),
                     .opened = arena_array(&r->arena, (size_t)room + 2, sizeof *s.opened)};
    struct region region = {.arena = &r->arena};
    struct box_file named = {.fd = -1};
    const struct graph_file *f = file_of(r);
    int result = s.list && s.opened ? 0 : err_nomem(e);
    for (uint32_t i = 0; result == 0 && i < b->stage->count; i++)
        for (uint32_t k = 0; result == 0 && k < g->node[b->node[i]].fd_count; k++)
            result = end_of_fd(&s, i, &g->node[b->node[i]].fd[k], e);
    if (f && result == 0) {
        named.name = f->name;
        bool by_path = r->in < 0 && !agent_data(b->t->agent);
        named.path = by_path ? f->path : NULL;
        named.fd = by_path ? -1 : keep(&s, file_reader(r, e));
        result = !named.path && named.fd < 0 ? -1 : 0;
    }
    struct region_scope scope = {.node = b->node, .count = b->stage->count, .end = s.list, .end_count = s.count, .expected = run_expected(r),
                                 .stderr_fd = r->task->errors, .stderr_kept = r->task->said, .block = r->number + 1, .part = &named,
                                 .part_count = f != NULL, .part_holes = true, .words = tasks_words, .outputs = task_outputs, .owner = r};
    r->task->end = s.list;
    r->task->end_count = s.count;
    if (result == 0)
        result = region_build(b->t, &scope, &region, e);
    region.plan.after = r->behind ? r->behind->watch.id : 0;
    if (result == 0)
        result = agent_run_region(b->t->agent, &r->watch, &region.plan, e);
    region_close(&region);
    for (uint32_t i = 0; i < s.opened_count; i++)
        close(s.opened[i]);
    return result;
}

/* ---- the functions of a map or reduce (struct blocks_way) */

static int prepare(struct run *r, struct err *e)
{
    uint32_t count = r->b->stage->count, sinks = r->b->tasks->sink_count;
    struct task *t = arena_alloc(&r->arena, sizeof *t);
    int *numbers = t ? arena_array(&r->arena, 2 * (size_t)count + sinks + 1, sizeof *numbers) : NULL;
    const char **dropped = numbers ? arena_array(&r->arena, (size_t)count + 1, sizeof *dropped) : NULL;
    if (!dropped)
        return err_nomem(e);
    *t = (struct task){.status = numbers, .errors = numbers + count, .made = numbers + 2 * (size_t)count,
                       .dropped = dropped, .count = count};
    for (uint32_t i = 0; i < count + sinks; i++)
        t->errors[i] = -1;
    for (uint32_t i = 0; i < count; i++)
        dropped[i] = NULL;
    r->task = t;
    return 0;
}

static uint32_t outputs(const struct blocks *b)
{
    return (b->tasks->said_out ? 0 : b->stage->count) + b->tasks->sink_count;
}

static int *output(struct run *r, uint32_t i)
{
    uint32_t said = r->b->tasks->said_out ? 0 : r->b->stage->count;
    return i < said ? &r->task->errors[i] : &r->task->made[i - said];
}

/* Take the files that a program left as outputs, or note a sentence about them. */
static int take_left(struct run *r, uint32_t task, const struct box_result *end, struct err *e)
{
    tasks_note_dropped(r, task, end);
    return tasks_take_made(r, task, end, e);
}

static const char **dropped(struct run *r, uint32_t task)
{
    return &r->task->dropped[task];
}

static int start(struct blocks *b, struct run *r, struct err *e)
{
    struct task *t = r->task;
    if (tasks_open_streams(r, e) < 0 || tasks_open_made(r, e) < 0 || tasks_fill_outputs(r, e) < 0 || (b->file_at && file_of(r) && copy_file(r, e) < 0))
        return -1;
    return t->copying ? 0 : start_programs(r, e);
}

static void task_ended(struct run *r, uint32_t task, const struct box_result *end)
{
    struct err e;
    if (take_left(r, task, end, &e) < 0)
        blocks_fail(r->b, &e);
    else
        tasks_note(r, task, end);
}

/* A task with which workers were lost ends its stage, in its turn, like one that failed: so it is kept, and can be looked
 * at alone. */
static bool gave_up(struct run *r, const struct err *why)
{
    struct blocks *b = r->b;
    struct err e;
    if (!b->t->graph->records || (!r->task && prepare(r, &e) < 0))
        return false;
    r->task->failure = (struct task_failure){.is = true, .end = BOX_FAILED, .status = LOST_STATUS, .limit = "",
                                             .text = arena_string(&b->t->arena, why->text), .number = r->number, .file = r->file};
    r->status = LOST_STATUS;
    r->ended = true;
    b->away--;
    agent_step_soon(b->t->agent);
    return true;
}

/* A task per file of a streamed input has two regions, so no other run can wait for one. */
static bool queues(const struct run *r)
{
    return !r->b->file_at;
}

static bool goes_on(struct run *r)
{
    struct err e;
    if (!r->task->copying)
        return false;
    r->task->copying = false;
    if (start_programs(r, &e) == 0)
        return true;
    blocks_fail(r->b, &e);
    return false;
}

/* Is the task to be kept, so that it can be run again alone? */
static bool is_recorded(const struct run *r)
{
    const struct graph *g = r->b->t->graph;
    const struct graph_node *n = &g->node[r->b->stage->author];
    bool asked = r->number + 1 >= n->recorded_first && r->number + 1 <= n->recorded_last;
    return g->records && (r->task->failure.is || asked);
}

static int give(struct blocks *b, struct run *r, struct err *e)
{
    struct tasks *t = b->tasks;
    if (is_recorded(r) && tasks_record(r, e) < 0)
        return -1;
    if (tasks_give_out(r, e) < 0)
        return -1;
    if (b->stage->merge_count && !r->task->failure.is && tasks_merge_step(b, e) < 0)
        return -1;
    for (uint32_t i = 0; i < b->stage->count && b->state != ENDED; i++) {
        int said = r->task->errors[i];
        r->task->errors[i] = -1;
        if (t->said_out)
            fd_close(&said);
        else if (tasks_say(b, said, e) < 0)
            return -1;
    }
    if (b->state != ENDED && tasks_give_made(r, e) < 0)
        return -1;
    for (uint32_t i = 0; i < b->stage->count && !t->dropped; i++)
        if (r->task->dropped[i])
            t->dropped = arena_string(&b->t->arena, r->task->dropped[i]);
    bool first = !t->any;
    t->any = true;
    /* The first status that is not 0; for a command whose status says what it found, the smallest. */
    bool finds = blocks_node(b, b->stage->count - 1)->split.ok_status & ~1u;
    if (first || (finds ? r->status < t->status : !t->status))
        t->status = r->status;
    t->failure = r->task->failure;
    return t->failure.is;
}

static int nothing(struct blocks *b, struct err *e)
{
    if (!agent_begin_run(b->t->agent, b->running, b->t->graph->width, b->run_memory))
        return 0;
    return blocks_begin(b, 0, HERE, e);
}

static int open_tasks(struct blocks *b, struct err *e)
{
    static const struct graph_split none = {.cut_step = 1, .combine_text = "", .spoils = {"", 0}};
    const struct graph *g = b->t->graph;
    const struct graph_node *n = &g->node[b->stage->author];
    const struct graph_fd *out = graph_fd_of(n, 1), *err = graph_fd_of(n, 2);
    b->head = b->tail = b->last = &none;
    b->rule.step = n->record_count;
    b->rule.split_bytes = g->split_bytes == GRAPH_SPLIT_NEVER ? 0 : g->split_bytes;
    b->rule.block_bytes = n->set.block_bytes;
    b->rule.text = n->record_text;
    b->tasks = calloc(1, sizeof *b->tasks);
    if (!b->tasks)
        return err_nomem(e);
    b->tasks->said_out = out && err && out->edge == err->edge;
    b->tasks->may_keep = tasks_may_keep(b);
    if (tasks_find_sinks(b, e) < 0)
        return -1;
    return n->kind == GRAPH_REDUCE && !b->t->elsewhere ? deal_open(b, e) : 0;
}

static void free_run(struct run *r)
{
    if (!r->task)
        return;
    for (uint32_t i = 0; i < r->task->count; i++)
        fd_close(&r->task->errors[i]);
    for (uint32_t k = 0; r->task->made && k < r->b->tasks->sink_count; k++)
        fd_close(&r->task->made[k]);
}

static void free_tasks(struct blocks *b)
{
    deal_free(b);
    if (!b->tasks)
        return;
    tasks_free_merges(b);
    outlet_clear(&b->tasks->said.out);
    outlet_clear(&b->tasks->made.out);
    lines_clear(&b->tasks->said.lines);
    free(b->tasks);
}

const struct blocks_way blocks_author = {.open = open_tasks,
                                         .prepare = prepare,
                                         .start = start,
                                         .outputs = outputs,
                                         .output = output,
                                         .take_left = take_left,
                                         .dropped = dropped,
                                         .task_ended = task_ended,
                                         .kept = tasks_kept,
                                         .goes_on = goes_on,
                                         .queues = queues,
                                         .gave_up = gave_up,
                                         .give = give,
                                         .nothing = nothing,
                                         .report = tasks_report,
                                         .stop = tasks_stop_streams,
                                         .free = free_tasks,
                                         .free_run = free_run};
