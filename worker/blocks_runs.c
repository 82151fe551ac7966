/* Runs: some adjacent blocks that pass the chain together, or outputs of such runs being merged.  See blocks.h. */
#include "worker/tasks.h"

#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void run_free(struct run *r)
{
    r->orphan = r->rests;
    if (r->orphan) { /* it is freed when its region has ended */
        r->next = r->b->orphans;
        r->b->orphans = r;
        return;
    }
    for (struct run *p = r->part, *next; p; p = next) {
        next = p->next;
        run_free(p);
    }
    for (uint32_t i = 0; i < r->placed_count; i++)
        close(r->placed[i].fd);
    spool_close(&r->out);
    fd_close(&r->in); /* it may be a user's file, whose disk does not matter */
    if (r->b->way->free_run)
        r->b->way->free_run(r);
    arena_clear(&r->arena);
    free(r);
}

/* Kill the runs that are under way; they are freed when they have ended. */
void runs_drop(struct blocks *b)
{
    keys_drop(b);
    if (b->tasks)
        tasks_drop_merges(b);
    struct run **at = &b->run;
    b->run_last = NULL;
    b->away = b->waiting = 0;
    borrows_drop(b);
    copies_drop(b);
    while (*at) {
        struct run *r = *at;
        if (r->ended || !r->watch.id) {
            *at = r->next;
            b->held--;
            run_free(r);
            continue;
        }
        agent_stop_region(b->t->agent, &r->watch);
        b->run_last = r;
        at = &r->next;
    }
}

void runs_pop(struct blocks *b)
{
    struct run *r = b->run;
    b->run = r->next;
    if (!b->run)
        b->run_last = NULL;
    b->held--;
    run_free(r);
}

void runs_add(struct blocks *b, struct run *r)
{
    if (b->run_last)
        b->run_last->next = r;
    else
        b->run = r;
    b->run_last = r;
    b->held++;
}

void runs_reverse(struct blocks *b)
{
    struct run *list = NULL;
    b->run_last = b->run;
    while (b->run) {
        struct run *r = b->run;
        b->run = r->next;
        r->next = list;
        list = r;
    }
    b->run = list;
}

/* ---- runs */

struct region_words run_words(void *run, uint32_t node)
{
    struct run *r = run;
    struct blocks *b = r->b;
    const struct graph_node *n = &b->t->graph->node[node];
    const struct graph_split *s = node == b->node[0] ? b->head : &n->split;
    if (r->merge.count)
        return r->merge;
    bool other = (s->run == GRAPH_RUN_FIRST && !r->first) || (s->run == GRAPH_RUN_LAST && !r->last);
    struct region_words w = other           ? (struct region_words){s->rest_argv, s->rest_argc}
                            : s->block_argc ? (struct region_words){s->block_argv, s->block_argc}
                                            : (struct region_words){n->argv, n->argc};
    if (!s->file_count)
        return w;
    /* {} is the name of the file that the block is of; for a run of several the last word is, and each one is a word. */
    const char *name = b->t->graph->file[r->file].name;
    uint32_t several = run_has_files(r) ? (uint32_t)(r->to - r->from) : 0;
    const char **word = arena_array(&r->arena, w.count + several, sizeof *word);
    for (uint32_t i = 0; word && i < several; i++)
        word[w.count - 1 + i] = b->t->graph->file[inlet_file(&b->in, r->from + i)].name;
    for (uint32_t i = 0; word && i < w.count - (several > 0); i++) {
        const char *hole = strchr(w.word[i], GRAPH_HOLE);
        word[i] = w.word[i];
        if (!hole)
            continue;
        size_t size = strlen(w.word[i]) + strlen(name) + 1;
        char *text = arena_alloc(&r->arena, size);
        if (!text)
            return (struct region_words){0};
        snprintf(text, size, "%.*s%s%s", (int)(hole - w.word[i]), w.word[i], name, hole + 2);
        word[i] = text;
    }
    return word ? (struct region_words){word, w.count - (several > 0) + several} : (struct region_words){0};
}

static void add_result(struct blocks *b, uint32_t i, const struct box_result *r)
{
    struct box_result *s = &b->sum[i];
    if (!b->seen[i]) {
        *s = (struct box_result){.end = r->end, .status = r->status, .signal = r->signal, .limit = "",
                                 .text = "", .certified = true, .uncertified_why = "", .cold_why = ""};
        b->seen[i] = true;
    }
    if (r->status < s->status)
        s->status = r->status;
    s->cpu_user_ns += r->cpu_user_ns;
    s->cpu_sys_ns += r->cpu_sys_ns;
    s->wall_ns += r->wall_ns;
    if (r->memory_peak_bytes > s->memory_peak_bytes)
        s->memory_peak_bytes = r->memory_peak_bytes;
    s->certified &= r->certified;
}

static bool as_it_should(const struct blocks *b, const struct run *r, uint32_t i, const struct box_result *end)
{
    uint32_t ok = r->merge.count ? 1 : blocks_node(b, i)->split.ok_status;
    return end->end == BOX_EXITED && end->status >= 0 && end->status < 32 && (ok >> end->status & 1);
}

/* `head` has read what it wants of this block, so its writer was ended by SIGPIPE, as in sh. */
static bool was_left(const struct blocks *b, uint32_t i, const struct box_result *end)
{
    return b->last->stops_early && i + 1 < b->stage->count && end->end == BOX_SIGNALLED && end->signal == SIGPIPE;
}

void run_task_ended(struct run *r, uint32_t task, const struct box_result *end)
{
    struct blocks *b = r->b;
    uint32_t i = r->merge.count ? b->stage->joins : task;
    struct stat said;
    if (i + 1 == b->stage->count)
        r->status = end->end == BOX_EXITED ? end->status : -1;
    bool left = was_left(b, i, end);
    if (left) {
        r->result[i].end = BOX_EXITED;
        r->result[i].status = 0;
    }
    if (!left && !as_it_should(b, r, i, end)) {
        struct err why;
        err_set(&why, ERR_INPUT, "`%.200s` ended with %s %d on a block", blocks_node(b, i)->label,
                end->end == BOX_SIGNALLED ? "signal" : "status", end->end == BOX_SIGNALLED ? end->signal : end->status);
        blocks_spoil(b, why.text);
    } else if (fstat(b->errors, &said) < 0 || said.st_size) {
        blocks_spoil(b, "a block wrote to stderr");
    }
}

/* Give back the slot when the last program has ended.  Taking down the sandboxes takes the kernel longer than making new
 * ones, but no CPU.  A merge's output is complete then; a run's input may yet turn out to be unreadable. */
static void rest(struct run *r)
{
    struct blocks *b = r->b;
    if (b->way->goes_on || ++r->tasks_ended < run_program_count(r) || b->resting == RESTING_MAX)
        return;
    r->rests = true;
    b->resting++;
    agent_end_run(b->t->agent, b->run_memory);
    if (r->merge.count && !r->is_copy && !r->lost && b->state != ENDED && b->state != WHOLE)
        run_complete(r);
}

uint32_t run_program_count(const struct run *r)
{
    return r->merge.count ? 1 : r->b->stage->count;
}

struct box_result *run_result(const struct run *r, uint32_t i)
{
    return &r->result[r->merge.count ? r->b->stage->joins : i];
}

void run_note(struct run *r, uint32_t i, const struct box_result *end)
{
    const char *cold = arena_string(&r->arena, end->cold_why);
    struct box_result *to = run_result(r, i);
    *to = *end;
    to->cold_why = cold ? cold : "";
}

/* Not the program's doing: its sandbox could not be made, or was killed. */
static bool is_lost(const struct run *r, const struct box_result *end)
{
    const struct run *copy = r->is_copy ? r : r->copy;
    bool may = copy ? !copy->is_audit : !r->merge.count && r->b->state == CUTTING;
    return may && end->end == BOX_FAILED;
}

/* Put a new run in its place, which waits for a slot. */
static void run_again(struct run *r)
{
    struct blocks *b = r->b;
    struct err e, why;
    struct run *again = run_like(r, &e);
    if (!again) {
        blocks_fail(b, &e);
        return;
    }
    again->tries = r->tries;
    again->seen = r->seen;
    if (r->copy) { /* which goes on */
        again->copy = r->copy;
        again->copy->of = again;
    }
    run_replace(r, again);
    err_set(&why, ERR_IO, "%s", r->lost);
    log_info("sandbox_lost", "job=%llu run=%llu why=\"%s\"", (unsigned long long)b->t->job, (unsigned long long)r->number, r->lost);
    b->away++;
    lent_back(again, agent_name(b->t->agent), &why);
    run_free(r);
}

/* The run's programs write to files of ours.  They may not report that a write failed; and if they do, it is not their
 * failure.  There may be room again by now, as another run has ended. */
int run_check_room(struct run *r, struct err *e)
{
    for (uint32_t i = 0; i < run_outputs(r->b); i++) {
        int fd = *run_output(r, i);
        if (fd >= 0 && spool_was_full(fd, r->began_ns)) {
            errno = ENOSPC;
            return spool_write_failed(e);
        }
    }
    return 0;
}

static void task_ended(void *owner, uint32_t task, const struct box_result *end)
{
    struct run *r = owner;
    struct err e;
    if (!r->ended && r->b->state != ENDED && r->b->state != WHOLE) {
        run_note(r, task, end);
        if (is_lost(r, end))
            r->lost = arena_string(&r->arena, end->text);
        else if (run_check_room(r, &e) < 0)
            blocks_fail(r->b, &e);
        else if (!r->lost)
            r->b->way->task_ended(r, task, end);
    }
    for (uint32_t k = 0; k < end->made_count; k++)
        if (end->made[k].fd >= 0)
            close(end->made[k].fd);
    rest(r);
}

static void run_kept(void *owner, uint32_t channel, const struct box_kept *k)
{
    struct run *r = owner;
    struct err e;
    if (r->b->way->kept(r, channel, k, &e) < 0 && r->b->state != ENDED)
        blocks_fail(r->b, &e);
}

static void run_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    struct run *r = owner;
    struct err e;
    (void)channel;
    if (!pump_broke(sys, reading) || r->b->state == ENDED || r->b->state == WHOLE)
        return;
    errno = sys;
    err_sys(&e, reading ? "cannot read an input" : "cannot write to a block's programs");
    blocks_fail(r->b, &e);
}

uint64_t run_bytes_in(const struct run *r)
{
    const struct blocks *b = r->b;
    uint64_t bytes = 0;
    if (!run_is_file(b) || r->file == GRAPH_NONE)
        return r->to - r->from;
    if (!run_has_files(r))
        return b->t->graph->file[r->file].size_bytes;
    for (uint64_t at = r->from; at < r->to; at++)
        bytes += b->t->graph->file[inlet_file(&b->in, at)].size_bytes;
    return bytes;
}

/* Send a BLOCK message, for a job that asked for them. */
static void tell_of(const struct run *r)
{
    const struct blocks *b = r->b;
    const struct box_result *last = &r->result[b->stage->count - 1];
    bool author = b->stage->author != GRAPH_NONE;
    struct stat out = {0};
    struct msg m = {.type = MSG_BLOCK,
                    .block = {.job = b->t->job,
                              .attempt = b->t->number,
                              .node = author ? b->stage->author : b->node[0],
                              .last = author ? b->stage->author : b->node[b->stage->count - 1],
                              .number = r->number,
                              .status = attempt_status(last),
                              .signal = (uint32_t)last->signal,
                              .bytes_in = run_bytes_in(r),
                              .certified = true,
                              .cold = "",
                              .worker = r->worker ? r->worker : agent_name(b->t->agent)}};
    if (!b->t->graph->tell_blocks || r->merge.count)
        return;
    if (r->out >= 0 && fstat(r->out, &out) == 0)
        m.block.bytes_out = (uint64_t)out.st_size;
    else
        m.block.bytes_out = r->kept.size;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        const struct box_result *one = &r->result[i];
        m.block.cpu_user_us += one->cpu_user_ns / 1000;
        m.block.cpu_sys_us += one->cpu_sys_ns / 1000;
        m.block.certified &= one->certified;
        if (one->cold_why && *one->cold_why)
            m.block.cold = one->cold_why;
        if (one->wall_ns / 1000 > m.block.wall_us)
            m.block.wall_us = one->wall_ns / 1000;
        if (one->memory_peak_bytes > m.block.memory_peak_bytes)
            m.block.memory_peak_bytes = one->memory_peak_bytes;
    }
    attempt_say(b->t, &m);
}

void run_count(struct run *r)
{
    struct blocks *b = r->b;
    for (uint32_t i = 0; b->sum && i < run_program_count(r); i++)
        add_result(b, r->merge.count ? b->stage->joins : i, run_result(r, i));
}

void run_complete(struct run *r)
{
    struct blocks *b = r->b;
    struct err e;
    r->ended = true;
    queue_note(r);
    if (twice_ended(r, &e) < 0) {
        blocks_fail(b, &e);
        return;
    }
    struct stat out;
    if (b->read_again && !r->merge.count && r->out >= 0 && fstat(r->out, &out) == 0) {
        b->kept_in += run_bytes_in(r);
        b->kept_out += (uint64_t)out.st_size;
    }
    tell_of(r);
    run_count(r);
    past_note(r);
    blocks_step(b);
}

static void run_ended(void *owner)
{
    struct run *r = owner;
    struct blocks *b = r->b;
    bool dropped = b->state == ENDED || b->state == WHOLE;
    if (!dropped && !r->lost && b->way->goes_on && b->way->goes_on(r))
        return;
    b->running--;
    b->resting -= r->rests;
    queue_leave(r);
    r->rests = false;
    if (r->orphan) {
        struct run **at = &b->orphans;
        while (*at != r)
            at = &(*at)->next;
        *at = r->next;
        run_free(r);
        if (!dropped)
            blocks_step(b);
    } else if (r->is_copy) {
        copy_ended(r);
    } else if (dropped) {
        r->ended = true;
        runs_drop(b);
    } else if (r->ended) {
        blocks_step(b);
    } else if (r->lost) {
        run_again(r);
        blocks_step(b);
    } else {
        run_complete(r);
    }
    attempt_settle(b->t);
}

const struct region_events run_events = {
    .task_ended = task_ended, .pump_ended = run_pump_ended, .kept = run_kept, .ended = run_ended};

bool run_is_file(const struct blocks *b)
{
    return b->stage->author != GRAPH_NONE ? blocks_per_file(b) : b->rule.cut == GRAPH_CUT_FILES;
}

int run_sources(const struct run *r, struct box_source *out, uint32_t max)
{
    if (r->placed_count)
        memcpy(out, r->placed, r->placed_count * sizeof *out);
    if (r->placed_count)
        return (int)r->placed_count;
    if (r->in < 0)
        return inlet_sources(&r->b->in, r->from, r->to, out, max);
    out[0] = (struct box_source){r->in, 0, r->to - r->from};
    return 1;
}

uint32_t run_outputs(const struct blocks *b)
{
    return 1 + (b->way->outputs ? b->way->outputs(b) : 0);
}

int *run_output(struct run *r, uint32_t i)
{
    return i ? r->b->way->output(r, i - 1) : &r->out;
}

struct run *run_new(struct blocks *b, struct err *e)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r) {
        err_nomem(e);
        return NULL;
    }
    *r = (struct run){.b = b, .arena = ARENA_INIT(RUN_ARENA_MAX), .file = GRAPH_NONE, .in = -1, .out = -1};
    r->watch.events = &run_events;
    r->watch.owner = r;
    if ((r->result = arena_array(&r->arena, b->stage->count, sizeof *r->result)))
        return r;
    err_nomem(e);
    run_free(r);
    return NULL;
}

struct run *run_like(const struct run *r, struct err *e)
{
    struct run *one = run_new(r->b, e);
    if (!one)
        return NULL;
    one->number = r->number;
    one->from = r->from;
    one->to = r->to;
    one->file = r->file;
    one->first = r->first;
    one->last = r->last;
    one->stays = run_has_files(r);
    if (!r->merge.count || run_merges(one, r->merge, r->source, r->source_count, e) == 0)
        return one;
    run_free(one);
    return NULL;
}

void run_replace(const struct run *r, struct run *by)
{
    struct blocks *b = r->b;
    struct run **at = &b->run;
    while (*at != r)
        at = &(*at)->next;
    *at = by;
    by->next = r->next;
    if (b->run_last == r)
        b->run_last = by;
}

int run_open_out(struct run *r, struct err *e)
{
    fd_close(&r->out);
    r->out = spool_open(e);
    return r->out < 0 ? -1 : 0;
}

/* The description of the region is not kept with the run, since thousands of runs may be held until they are merged. */
static int start(struct blocks *b, struct run *r, struct region_scope *scope, struct err *e)
{
    struct arena said = ARENA_INIT(RUN_ARENA_MAX);
    struct region region = {.arena = &said};
    int *errors = arena_array(&said, scope->count, sizeof *errors);
    if (!errors)
        return err_nomem(e);
    for (uint32_t i = 0; i < scope->count; i++)
        errors[i] = b->errors;
    scope->stderr_fd = errors;
    scope->words = run_words;
    scope->owner = r;
    scope->block = r->number + 1;
    if (scope->node[0] == b->node[0]) { /* a merge may be of the last command alone */
        scope->beside = b->beside;
        scope->beside_count = b->beside_count;
        if (run_is_file(b) && !r->merge.count && r->in < 0 && !(scope->own = run_files(r, &said, &scope->own_count))) {
            arena_clear(&said);
            return err_nomem(e);
        }
    }
    int result = region_build(b->t, scope, &region, e);
    if (result == 0)
        result = agent_run_region(b->t->agent, &r->watch, &region.plan, e);
    region_close(&region);
    arena_clear(&said);
    return result;
}

static int start_merge(struct blocks *b, struct run *r, struct err *e);

uint32_t run_expected(const struct run *r)
{
    const struct blocks *b = r->b;
    uint64_t size = r->to - r->from, left = b->in.bytes - r->to, count = 1 + (size ? left / size : 0);
    bool alone = (b->head->run == GRAPH_RUN_FIRST && r->first) || (b->head->run == GRAPH_RUN_LAST && r->last);
    if (b->t->elsewhere || r->is_copy || b->head->file_count)
        return 0; /* this is the only run, or each run has words of its own */
    if (alone)
        return 1;
    if (run_is_file(b) || b->in.pieces)
        count = inlet_left(&b->in, r->from);
    return count < BOX_MANY && !b->in.ended ? 0 : count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

int run_start(struct blocks *b, struct run *r, struct err *e)
{
    if (r->merge.count)
        return start_merge(b, r, e);
    static struct box_source source[SOURCES_MAX];
    struct region_end end[2];
    uint32_t ends = 0;
    struct box_file named = {.fd = -1};
    bool file = run_is_file(b);
    if (run_open_out(r, e) < 0)
        return -1;
    int count = file ? 0 : run_sources(r, source, SOURCES_MAX);
    if (count < 0)
        return err_set(e, ERR_LIMIT, "one block is in more than %d pieces", SOURCES_MAX);
    if (count)
        end[ends++] = (struct region_end){.how = REGION_FEED, .edge = GRAPH_NONE, .node = b->node[0], .source = source,
                                          .source_count = (uint32_t)count, .channel = GRAPH_NONE};
    if (b->stage->out_edge != GRAPH_NONE)
        end[ends++] = (struct region_end){.how = REGION_FILE, .edge = b->stage->out_edge, .fd = r->out,
                                          .channel = GRAPH_NONE};
    struct region_scope scope = {.node = b->node, .count = b->stage->count, .end = end, .end_count = ends, .expected = run_expected(r)};
    if (file && r->in >= 0) {
        named = (struct box_file){.name = b->t->graph->file[r->file].name, .fd = spool_reader(r->in, e)};
        if (named.fd < 0)
            return -1;
        scope.part = &named;
        scope.part_count = 1;
    }
    int result = start(b, r, &scope, e);
    fd_close(&named.fd);
    return result;
}

/* ---- merging */

int run_merges(struct run *r, struct region_words by, const struct box_source *source, uint32_t count, struct err *e)
{
    r->merge = by;
    r->source = arena_array(&r->arena, count, sizeof *r->source);
    if (!r->source)
        return err_nomem(e);
    r->source_count = count;
    r->to = 0;
    for (uint32_t i = 0; i < count; i++) {
        r->source[i] = source[i];
        r->to += source[i].size;
    }
    return 0;
}

static int start_merge(struct blocks *b, struct run *r, struct err *e)
{
    uint32_t count = r->source_count;
    struct box_file *part = arena_array(&r->arena, count, sizeof *part);
    char(*name)[24] = arena_array(&r->arena, count, sizeof *name);
    uint32_t node = b->node[b->stage->joins];
    const struct graph_fd *out = graph_fd_of(&b->t->graph->node[node], 1);
    if (run_open_out(r, e) < 0)
        return -1;
    struct region_end end[] = {{.how = REGION_NOTHING, .node = node, .edge = GRAPH_NONE},
                               {.how = REGION_FILE, .edge = out ? out->edge : GRAPH_NONE, .fd = r->out}};
    if (!part || !name)
        return err_nomem(e);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name[i], sizeof name[i], ".zpipe-part-%u", i);
        part[i] = (struct box_file){.name = name[i], .fd = r->source[i].fd, .offset = r->source[i].offset,
                                    .size = r->source[i].size};
    }
    struct region_scope scope = {.node = &node, .count = 1, .end = end, .end_count = 1 + (out != NULL), .part = part,
                                 .part_count = count, .part_words = true};
    return start(b, r, &scope, e);
}

/* Merge the outputs of all its parts. */
static int merge_parts(struct blocks *b, struct run *r, struct err *e)
{
    struct box_source *piece = arena_array(&r->arena, r->part_count, sizeof *piece);
    uint32_t i = 0;
    if (!piece)
        return err_nomem(e);
    for (struct run *p = r->part; p; p = p->next)
        piece[i++].fd = p->out;
    struct region_words by = {b->tail->combine_argv, b->tail->combine_argc};
    return run_merges(r, by, piece, i, e) < 0 ? -1 : run_start(b, r, e);
}

/* Begin one level of the tree: merge up to MERGE_FAN neighbours into one. */
int runs_merge(struct blocks *b, struct err *e)
{
    struct run *list = b->run, *first = NULL, *last = NULL;
    uint32_t total = b->held, groups = (total + MERGE_FAN - 1) / MERGE_FAN, made = 0;
    b->run = b->run_last = NULL;
    b->held = 0;
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t upto = (uint32_t)((uint64_t)total * (g + 1) / groups);
        struct run *r = run_new(b, e);
        if (!r)
            break;
        struct run **at = &r->part;
        for (; made < upto; made++) {
            struct run *p = list;
            list = p->next;
            p->next = NULL;
            *at = p;
            at = &p->next;
            r->part_count++;
        }
        r->number = b->number++;
        if (first)
            last->next = r;
        else
            first = r;
        last = r;
        b->held++;
    }
    b->run = first;
    b->run_last = last;
    while (list) {
        struct run *p = list;
        list = p->next;
        run_free(p);
    }
    if (b->held < groups)
        return -1;
    for (struct run *r = first; r; r = r->next)
        if (agent_begin_run(b->t->agent, 0, UINT32_MAX, b->run_memory), merge_parts(b, r, e) < 0) {
            r->ended = true;
            agent_end_run(b->t->agent, b->run_memory);
            return -1;
        } else {
            b->running++;
        }
    return 0;
}
