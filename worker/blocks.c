/* See blocks.h. */
#include "worker/blocks.h"

#include "base/digest.h"
#include "base/fds.h"
#include "base/spool.h"
#include "proto/combine.h"
#include "worker/inlet.h"
#include "worker/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_BYTES_MIN   (1u << 20)
#define RUN_BYTES_MAX   (16u << 20)
#define MERGE_BYTES_MAX (128u << 20) /* of what is merged afterwards: fewer, larger ones */
#define RUNS_PER_SLOT   4            /* at least, where the input is large enough: so that all end at once */
#define HELD_MAX        256          /* runs started and not put into the outlet, where they can be */
#define BACKLOG_MAX     (256u << 20) /* bytes in the outlet that nobody took yet */
#define INPUT_AHEAD_MAX (256u << 20) /* bytes of a stream that were spooled and not worked on */
#define SPOIL_AHEAD     (256u << 10) /* more than commands of the table read at once */
#define SOURCES_MAX     16384        /* pieces of input of one run */
#define RUN_ARENA_MAX   (64u << 20)
#define MERGE_FAN       16
#define PUT_BYTES_MIN   (1u << 20)   /* of a spool that is still being written */

enum state { CUTTING, COMBINING, WHOLE, ENDED };

struct run {
    struct run *next;
    struct blocks *b;
    struct arena arena;
    struct region_watch watch;
    uint64_t number, from, to;
    uint32_t tasks;
    struct run *part; /* of a merge: what it merges, owned */
    uint32_t part_count;
    int out;          /* spool */
    int status;       /* of the last command of the chain */
    bool first, last, ended;
};

/* A spool that a pump fills, for an inlet or as the way of a stream into the outlet. */
struct spooled {
    int fd;
    uint64_t bytes, taken;
};

struct blocks {
    struct attempt *t;
    const struct graph_stage *stage;
    const uint32_t *node; /* stage->count */
    const struct graph_split *head, *tail;
    enum state state;
    struct inlet in;
    struct outlet out;
    struct inlet_rule rule;
    uint64_t from, units, number; /* where the next run begins */
    uint64_t looked;              /* up to here nothing spoils */
    bool cut_all;
    struct run *run, *run_last; /* in order: running, or not put into the outlet */
    uint32_t held, running;
    struct combine *native; /* NULL: it is not needed */
    int errors; /* what blocks say on stderr: nothing */
    struct box_result *sum; /* per node of the chain */
    bool *seen;

    struct spooled input;        /* of a stream; fd -1: none */
    struct region_end *from_main, *to_main;
    struct region_watch copy;    /* fills it from elsewhere */
    struct blocks *reader;       /* the stage that reads ours */
    struct blocks *writer;       /* or whose output we read */

    struct group whole;
    uint64_t whole_fed, whole_used;
    struct spooled whole_out;
    struct running_digest *given; /* of what was put into the outlet, while blocks run */
    struct running_digest *again; /* of the same bytes, the second time */
    uint64_t given_bytes;
    bool held_input, stopping, reported, out_ended;
};

static void step(struct blocks *b);
static void hold_input(struct blocks *b);
static void spoil(struct blocks *b);

static void fail(struct blocks *b, const struct err *why)
{
    attempt_fail(b->t, why);
}

static const struct graph_node *node_of(const struct blocks *b, uint32_t i)
{
    return &b->t->graph->node[b->node[i]];
}

uint32_t blocks_last_node(const struct blocks *b)
{
    return b->node[b->stage->count - 1];
}

struct region_words blocks_rerun(const struct blocks *b)
{
    if (b->tail->combine != GRAPH_COMBINE_RERUN)
        return (struct region_words){NULL, 0};
    return (struct region_words){b->tail->combine_argv, b->tail->combine_argc};
}

/* What must be complete before anything of it can be given away. */
static bool waits_for_all(const struct blocks *b)
{
    switch (b->tail->combine) {
    case GRAPH_COMBINE_CONCAT:
    case GRAPH_COMBINE_NATIVE:
        return false;
    case GRAPH_COMBINE_RERUN:
        return !b->tail->stops_early;
    default:
        return true;
    }
}

/* ---- the end */

static bool nothing_runs(const struct blocks *b)
{
    return !b->running && !group_runs(&b->whole) && !b->copy.id;
}

bool blocks_over(const struct blocks *b)
{
    return b->state == ENDED && nothing_runs(b) && b->out_ended;
}

static void run_free(struct run *r)
{
    for (struct run *p = r->part, *next; p; p = next) {
        next = p->next;
        run_free(p);
    }
    fd_close(&r->out);
    arena_clear(&r->arena);
    free(r);
}

/* Those that run are killed, and freed when they have ended. */
static void drop_runs(struct blocks *b)
{
    struct run **at = &b->run;
    b->run_last = NULL;
    while (*at) {
        struct run *r = *at;
        if (r->ended) {
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

/* Whoever writes our input need not go on. */
static void stop_input(struct blocks *b)
{
    if (b->copy.id)
        agent_stop_region(b->t->agent, &b->copy);
    if (b->from_main && group_runs(&b->t->main) && !b->in.ended)
        box_break(agent_box(b->t->agent), b->t->main.watch.id, b->from_main->channel, NULL);
    if (b->writer)
        outlet_leave(&b->writer->out);
    b->in.ended = true;
}

/* Blocks that are not spoilt said nothing; a client elsewhere waits for the end of that. */
static void end_stderr(struct blocks *b, uint32_t node)
{
    struct attempt_route *route = attempt_route_of(b->t, MSG_STDERR, node, GRAPH_NONE);
    struct err e;
    if (!route || route->r.via == MSG_VIA_FD)
        return;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if ((fd < 0 ? err_sys(&e, "cannot open /dev/null") : attempt_carry(b->t, route, fd, true, &e)) < 0)
        fail(b, &e);
}

static void report(struct blocks *b, bool early)
{
    if (b->reported || b->stopping)
        return;
    b->reported = true;
    bool rerun = b->tail->combine == GRAPH_COMBINE_RERUN;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        struct box_result *r = &b->sum[i];
        if (rerun && i + 1 == b->stage->count)
            break; /* main tells it */
        if (early) {
            r->end = BOX_SIGNALLED;
            r->signal = SIGPIPE;
        }
        attempt_node_ended(b->t, b->node[i], r, early);
        attempt_said(b->t, b->node[i], NULL);
        end_stderr(b, b->node[i]);
    }
}

static void end(struct blocks *b)
{
    struct err e;
    if (b->state != WHOLE)
        report(b, false);
    b->state = ENDED;
    if (outlet_close(&b->out, &e) < 0)
        fail(b, &e);
    attempt_settle(b->t);
}

static void outlet_was_left(void *owner)
{
    struct blocks *b = owner;
    if (b->state == ENDED)
        return;
    if (b->state != WHOLE)
        report(b, true);
    if (group_runs(&b->whole)) {
        /* Its programs see a reader that left, as in sh. */
        b->whole_out.taken = UINT64_MAX;
        box_break(agent_box(b->t->agent), b->whole.watch.id, 0, NULL);
    }
    b->state = ENDED;
    drop_runs(b);
    stop_input(b);
}

static void outlet_ended(void *owner)
{
    struct blocks *b = owner;
    b->out_ended = true;
    attempt_settle(b->t);
}

static void outlet_has_room(void *owner)
{
    step(owner);
}

static void outlet_failed(void *owner, const struct err *why)
{
    fail(owner, why);
}

static const struct outlet_events outlet_events = {outlet_has_room, outlet_was_left, outlet_ended,
                                                   outlet_failed};

void blocks_stop(struct blocks *b)
{
    b->stopping = true;
    b->state = ENDED;
    drop_runs(b);
    if (b->copy.id)
        agent_stop_region(b->t->agent, &b->copy);
    if (group_runs(&b->whole))
        agent_stop_region(b->t->agent, &b->whole.watch);
    outlet_stop(&b->out);
}

void blocks_free(struct blocks *b)
{
    if (!b)
        return;
    while (b->run) {
        struct run *r = b->run;
        b->run = r->next;
        run_free(r);
    }
    combine_free(b->native);
    inlet_clear(&b->in);
    outlet_clear(&b->out);
    group_clear(&b->whole);
    running_digest_free(b->given);
    running_digest_free(b->again);
    fd_close(&b->whole_out.fd);
    fd_close(&b->input.fd);
    fd_close(&b->errors);
    free(b->sum);
    free(b->seen);
    free(b);
}

/* ---- giving away */

static int digest_range(struct running_digest *d, int fd, uint64_t from, uint64_t size, struct err *e)
{
    static char buffer[1 << 16];
    while (size) {
        size_t want = size < sizeof buffer ? (size_t)size : sizeof buffer;
        ssize_t n = pread(fd, buffer, want, (off_t)from);
        if (n <= 0)
            return err_sys(e, "cannot read a block's output again");
        running_digest_add(d, buffer, (size_t)n);
        from += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int size_of(int fd, uint64_t *size, struct err *e)
{
    struct stat s;
    if (fstat(fd, &s) < 0)
        return err_sys(e, "cannot look at a temporary file");
    *size = (uint64_t)s.st_size;
    return 0;
}

/* Takes fd.  While blocks can still be spoilt it is remembered what was given. */
static int put(struct blocks *b, int fd, struct err *e)
{
    uint64_t size;
    if (size_of(fd, &size, e) < 0 || (!waits_for_all(b) && digest_range(b->given, fd, 0, size, e) < 0)) {
        close(fd);
        return -1;
    }
    b->given_bytes += waits_for_all(b) ? 0 : size;
    return outlet_put(&b->out, fd, 0, size, e);
}

/* What a run wrote, made part of the whole by combine.c.  1: it cannot be. */
static int join_part(struct blocks *b, const struct run *r, int to, struct err *e)
{
    static char buffer[1 << 16];
    struct buf out = BUF_INIT(COMBINE_LINE_MAX + sizeof buffer);
    uint64_t lines = 0, at = 0;
    ssize_t n;
    if (combine_counts_lines(b->native) && inlet_lines(&b->in, r->from, r->to, &lines, e) < 0)
        return -1;
    int bad = combine_part(b->native, lines, r->to - r->from, &out, e);
    while (bad == 0 && (n = pread(r->out, buffer, sizeof buffer, (off_t)at)) > 0) {
        at += (uint64_t)n;
        bad = combine_add(b->native, buffer, (size_t)n, &out, e);
        if (out.failed || fd_write_all(to, out.data, out.size) < 0)
            break;
        buf_drop(&out, out.size);
    }
    bool wrote = bad == 0 && !out.failed && fd_write_all(to, out.data, out.size) == 0;
    buf_clear(&out);
    return bad ? 1 : wrote ? 0 : err_sys(e, "cannot write to a temporary file");
}

static int give(struct blocks *b, struct run *r, struct err *e)
{
    int fd = r->out;
    if (!b->native) {
        r->out = -1;
        return put(b, fd, e);
    }
    fd = spool_open(e);
    int joined = fd < 0 ? -1 : join_part(b, r, fd, e);
    if (joined == 0)
        return put(b, fd, e);
    fd_close(&fd);
    if (joined < 0)
        return -1;
    spoil(b);
    return 0;
}

static int give_end(struct blocks *b, struct err *e)
{
    struct buf out = BUF_INIT(COMBINE_LINE_MAX + COMBINE_PART_MAX);
    int r = 0;
    if (!b->native)
        return 0;
    if (combine_end(b->native, &out, e) < 0) {
        spoil(b);
    } else {
        int fd = spool_of((struct slice){out.data ? out.data : "", out.size}, e);
        r = fd < 0 ? -1 : put(b, fd, e);
    }
    buf_clear(&out);
    return r;
}

static void pop_run(struct blocks *b)
{
    struct run *r = b->run;
    b->run = r->next;
    if (!b->run)
        b->run_last = NULL;
    b->held--;
    run_free(r);
}

static void reverse_runs(struct blocks *b)
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

static int give_all(struct blocks *b, struct err *e)
{
    while (b->run && b->run->ended) {
        enum state state = b->state;
        bool enough = b->tail->stops_early && b->tail->combine == GRAPH_COMBINE_CONCAT && b->run->status == 0;
        if (give(b, b->run, e) < 0)
            return -1;
        if (b->state != state) /* it was left, or is spoilt, and the list dropped */
            return 0;
        pop_run(b);
        if (enough) {
            /* It would have ended here: `grep -q` that found something. */
            drop_runs(b);
            end(b);
            stop_input(b);
            return 0;
        }
    }
    return 0;
}

/* ---- runs */

static struct region_words run_words(void *owner, uint32_t node)
{
    struct run *r = owner;
    struct blocks *b = r->b;
    const struct graph_node *n = &b->t->graph->node[node];
    const struct graph_split *s = &n->split;
    if (r->part)
        return (struct region_words){s->combine_argv, s->combine_argc};
    bool other = (s->run == GRAPH_RUN_FIRST && !r->first) || (s->run == GRAPH_RUN_LAST && !r->last);
    struct region_words w = other           ? (struct region_words){s->rest_argv, s->rest_argc}
                            : s->block_argc ? (struct region_words){s->block_argv, s->block_argc}
                                            : (struct region_words){n->argv, n->argc};
    if (!s->file_count)
        return w;
    /* {} is the file that the block is of. */
    const char *name = b->t->graph->file[inlet_file(&b->in, r->from)].name;
    const char **word = arena_array(&r->arena, w.count, sizeof *word);
    for (uint32_t i = 0; word && i < w.count; i++) {
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
    return word ? (struct region_words){word, w.count} : (struct region_words){0};
}

static void add_result(struct blocks *b, uint32_t i, const struct box_result *r)
{
    struct box_result *s = &b->sum[i];
    if (!b->seen[i]) {
        *s = (struct box_result){.end = r->end, .status = r->status, .signal = r->signal, .limit = "",
                                 .text = "", .certified = true, .uncertified_why = ""};
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
    uint32_t ok = r->part ? 1 : node_of(b, i)->split.ok_status;
    return end->end == BOX_EXITED && end->status >= 0 && end->status < 32 && (ok >> end->status & 1);
}

static void run_task_ended(void *owner, uint32_t task, const struct box_result *end)
{
    struct run *r = owner;
    struct blocks *b = r->b;
    uint32_t i = r->part ? b->stage->count - 1 : task;
    struct stat said;
    for (uint32_t k = 0; k < end->made_count; k++)
        if (end->made[k].fd >= 0)
            close(end->made[k].fd);
    if (b->state == ENDED || b->state == WHOLE)
        return;
    add_result(b, i, end);
    if (i + 1 == b->stage->count)
        r->status = end->end == BOX_EXITED ? end->status : -1;
    if (!as_it_should(b, r, i, end) || fstat(b->errors, &said) < 0 || said.st_size)
        spoil(b);
}

static void run_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    struct run *r = owner;
    struct err e;
    (void)channel;
    if (sys == 0 || r->b->state == ENDED || r->b->state == WHOLE)
        return;
    errno = sys;
    err_sys(&e, reading ? "cannot read an input" : "cannot write to a block's programs");
    fail(r->b, &e);
}

static void run_ended(void *owner)
{
    struct run *r = owner;
    struct blocks *b = r->b;
    r->ended = true;
    b->running--;
    agent_end_run(b->t->agent);
    if (b->state == ENDED || b->state == WHOLE)
        drop_runs(b);
    else
        step(b);
    attempt_settle(b->t);
}

static const struct region_events run_events = {
    .task_ended = run_task_ended, .pump_ended = run_pump_ended, .ended = run_ended};

static struct run *run_new(struct blocks *b, struct err *e)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r) {
        err_nomem(e);
        return NULL;
    }
    *r = (struct run){.b = b, .arena = ARENA_INIT(RUN_ARENA_MAX), .out = spool_open(e)};
    r->watch.events = &run_events;
    r->watch.owner = r;
    if (r->out < 0) {
        run_free(r);
        return NULL;
    }
    return r;
}

static int start(struct blocks *b, struct run *r, struct region_scope *scope, struct err *e)
{
    struct region region = {.arena = &r->arena};
    scope->stderr_fd = b->errors;
    scope->words = run_words;
    scope->owner = r;
    scope->block = r->number + 1;
    int result = region_build(b->t, scope, &region, e);
    if (result == 0)
        result = agent_run_region(b->t->agent, &r->watch, &region.plan, e);
    region_close(&region);
    if (result == 0)
        b->running++;
    return result;
}

/* The chain, on [from, to). */
static int start_chain(struct blocks *b, struct run *r, struct err *e)
{
    static struct box_source source[SOURCES_MAX];
    struct region_end end[2];
    uint32_t ends = 0;
    int count = b->rule.cut == GRAPH_CUT_FILES ? 0 : inlet_sources(&b->in, r->from, r->to, source, SOURCES_MAX);
    if (count < 0)
        return err_set(e, ERR_LIMIT, "one block is in more than %d pieces", SOURCES_MAX);
    if (count)
        end[ends++] = (struct region_end){.how = REGION_FEED, .node = b->node[0], .source = source,
                                          .source_count = (uint32_t)count, .channel = GRAPH_NONE};
    if (b->stage->out_edge != GRAPH_NONE)
        end[ends++] = (struct region_end){.how = REGION_FILE, .edge = b->stage->out_edge, .fd = r->out,
                                          .channel = GRAPH_NONE};
    struct region_scope scope = {.node = b->node, .count = b->stage->count, .end = end, .end_count = ends};
    return start(b, r, &scope, e);
}

/* ---- merging */

static int start_merge(struct blocks *b, struct run *r, struct err *e)
{
    struct box_file *part = arena_array(&r->arena, r->part_count, sizeof *part);
    uint32_t last = blocks_last_node(b), i = 0;
    struct region_end end[] = {{.how = REGION_NOTHING, .node = last, .edge = GRAPH_NONE},
                               {.how = REGION_FILE, .edge = b->stage->out_edge, .fd = r->out}};
    int result = part ? 0 : err_nomem(e);
    for (struct run *p = r->part; result == 0 && p; p = p->next, i++) {
        char *name = arena_alloc(&r->arena, 32);
        int fd = spool_reader(p->out, e);
        if (!name || fd < 0) {
            fd_close(&fd);
            result = name ? -1 : err_nomem(e);
            break;
        }
        snprintf(name, 32, ".zpipe-part-%u", i);
        fd_close(&p->out);
        p->out = fd;
        part[i] = (struct box_file){.name = name, .fd = fd};
    }
    struct region_scope scope = {.node = &last, .count = 1, .end = end,
                                 .end_count = 1 + (b->stage->out_edge != GRAPH_NONE), .part = part,
                                 .part_count = r->part_count};
    return result < 0 ? -1 : start(b, r, &scope, e);
}

/* One level of the tree: neighbours become one, MERGE_FAN at most. */
static int merge_level(struct blocks *b, struct err *e)
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
        if (agent_begin_run(b->t->agent, 0, UINT32_MAX), start_merge(b, r, e) < 0) {
            r->ended = true;
            agent_end_run(b->t->agent);
            return -1;
        }
    return 0;
}

static bool all_ended(const struct blocks *b)
{
    return b->running == 0;
}

static int combine(struct blocks *b, struct err *e)
{
    b->state = COMBINING;
    if (b->tail->combine == GRAPH_COMBINE_MERGE && b->held > 1)
        return merge_level(b, e);
    if (b->tail->combine == GRAPH_COMBINE_REVERSE)
        reverse_runs(b);
    if (give_all(b, e) < 0 || (b->state == COMBINING && give_end(b, e) < 0))
        return -1;
    if (b->state == COMBINING)
        end(b);
    return 0;
}

/* ---- cutting */

static uint64_t run_bytes(const struct blocks *b)
{
    uint64_t max = b->tail->combine == GRAPH_COMBINE_MERGE ? MERGE_BYTES_MAX : RUN_BYTES_MAX;
    uint64_t size = b->in.bytes / (RUNS_PER_SLOT * (uint64_t)agent_width(b->t->agent, b->t->graph->width));
    if (b->rule.split_bytes)
        return 1;
    return size < RUN_BYTES_MIN ? RUN_BYTES_MIN : size > max ? max : size;
}

static bool room_for_more(const struct blocks *b)
{
    return waits_for_all(b) || (b->held < HELD_MAX && outlet_backlog(&b->out) < BACKLOG_MAX);
}

/* Does what the run reads, or what comes soon after it, spoil the stage?  A command that meets such a byte may
 * change what it makes of all that it holds in its buffer.  1, 0, or -1. */
static int is_spoilt(struct blocks *b, uint64_t to, struct err *e)
{
    static const struct slice zero = {"", 1};
    uint64_t from = b->looked > b->from ? b->looked : b->from, upto = to + SPOIL_AHEAD;
    if (b->rule.cut == GRAPH_CUT_FILES || (!b->head->spoils.size && !b->stage->no_zeros))
        return 0;
    upto = upto < b->in.bytes ? upto : b->in.bytes;
    int r = b->head->spoils.size ? inlet_holds(&b->in, from, upto, b->head->spoils, e) : 0;
    b->looked = upto;
    return r == 0 && b->stage->no_zeros ? inlet_holds(&b->in, from, upto, zero, e) : r;
}

/* 1: a run was started; 0: not now. */
static int start_one(struct blocks *b, struct err *e)
{
    uint64_t size = run_bytes(b), to, units = b->units;
    uint64_t least = b->number == 0 && b->head->run == GRAPH_RUN_FIRST ? b->head->first_units : 0;
    uint64_t ahead = b->head->spoils.size || b->stage->no_zeros ? SPOIL_AHEAD : 0;
    if (!b->in.ended && b->in.bytes - b->from < size + ahead)
        return 0;
    int r = inlet_cut(&b->in, &b->rule, b->from, size, least, &units, &to, e);
    if (r <= 0 || (b->head->run == GRAPH_RUN_LAST && !b->in.ended && to == b->in.bytes))
        return r < 0 ? -1 : 0;
    if (!agent_begin_run(b->t->agent, b->running, b->t->graph->width))
        return 0;
    if ((r = is_spoilt(b, to, e)) != 0) {
        agent_end_run(b->t->agent);
        return r < 0 ? -1 : (spoil(b), 0);
    }
    struct run *run = run_new(b, e);
    if (!run)
        return agent_end_run(b->t->agent), -1;
    run->number = b->number++;
    run->first = run->number == 0;
    run->from = b->from;
    run->to = to;
    run->last = b->in.ended && to == b->in.bytes;
    if (start_chain(b, run, e) < 0) {
        agent_end_run(b->t->agent);
        run_free(run);
        return -1;
    }
    if (b->run_last)
        b->run_last->next = run;
    else
        b->run = run;
    b->run_last = run;
    b->held++;
    b->from = to;
    b->units = units;
    b->cut_all = run->last;
    return 1;
}

static int step_cutting(struct blocks *b, struct err *e)
{
    int r = 1;
    if (!waits_for_all(b) && give_all(b, e) < 0)
        return -1;
    while (b->state == CUTTING && r > 0 && b->from < b->in.bytes && room_for_more(b))
        if ((r = start_one(b, e)) < 0)
            return -1;
    if (b->state != CUTTING || !b->in.ended || b->from < b->in.bytes)
        return 0;
    if (!b->in.bytes) {
        spoil(b); /* nothing to cut: the chain runs once, on nothing */
        return 0;
    }
    return all_ended(b) ? combine(b, e) : 0;
}

static void whole_feed(struct blocks *b);

static void step(struct blocks *b)
{
    struct err e;
    int r = 0;
    if (b->state == CUTTING)
        r = step_cutting(b, &e);
    else if (b->state == COMBINING && all_ended(b))
        r = combine(b, &e);
    else if (b->state == WHOLE)
        whole_feed(b);
    if (r < 0)
        fail(b, &e);
    else if (b->state == CUTTING || b->state == WHOLE)
        hold_input(b);
}

void blocks_step(struct blocks *b)
{
    step(b);
}

/* ---- a spool that grows, into the outlet */

/* Another descriptor of it, for somebody who closes it. */
static int again(int fd, struct err *e)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return other < 0 ? err_sys(e, "cannot duplicate a descriptor") : other;
}

/* What is behind the bytes that were given away by blocks goes on; those must be the same. */
static int whole_take(struct blocks *b, bool all, struct err *e)
{
    struct spooled *s = &b->whole_out;
    uint8_t was[16], is[16];
    if (s->taken < b->given_bytes) {
        uint64_t upto = s->bytes < b->given_bytes ? s->bytes : b->given_bytes;
        if (digest_range(b->again, s->fd, s->taken, upto - s->taken, e) < 0)
            return -1;
        s->taken = upto;
        running_digest_look(b->given, was);
        running_digest_look(b->again, is);
        if ((s->taken < b->given_bytes && all) ||
            (s->taken == b->given_bytes && memcmp(was, is, sizeof was) != 0))
            return err_set(e, ERR_BUG,
                           "`%.200s` wrote other bytes as a whole than in blocks, and some of these are out "
                           "already; run it with --split=never",
                           node_of(b, 0)->label);
    }
    if (s->bytes <= s->taken || (!all && s->bytes - s->taken < PUT_BYTES_MIN))
        return 0;
    int fd = again(s->fd, e);
    uint64_t from = s->taken, size = s->bytes - s->taken;
    s->taken = s->bytes;
    return fd < 0 ? -1 : outlet_put(&b->out, fd, from, size, e);
}

/* ---- the whole */

static void whole_moved(struct group *g, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    struct blocks *b = g->owner;
    struct err e;
    (void)sources;
    if (b->state == WHOLE && g->region.plan.channel[channel].end == BOX_FEED) {
        b->whole_used = bytes;
        hold_input(b);
    }
    if (b->state != WHOLE || g->region.plan.channel[channel].end != BOX_DRAIN)
        return;
    b->whole_out.bytes = bytes;
    if (whole_take(b, false, &e) < 0)
        fail(b, &e);
}

static bool whole_pump_ended(struct group *g, uint32_t channel, int sys, bool reading)
{
    struct blocks *b = g->owner;
    struct err e;
    if (g->region.plan.channel[channel].end == BOX_FEED && !sys) {
        stop_input(b);
        return true;
    }
    if (sys && sys != EPIPE && b->state == WHOLE) {
        errno = sys;
        err_sys(&e, reading ? "cannot read an input" : "cannot write to a temporary file");
        fail(b, &e);
    }
    return true;
}

static void whole_ended(struct group *g)
{
    struct blocks *b = g->owner;
    struct err e;
    if (b->state != WHOLE)
        return;
    if (b->whole_out.fd >= 0 &&
        (size_of(b->whole_out.fd, &b->whole_out.bytes, &e) < 0 || whole_take(b, true, &e) < 0)) {
        fail(b, &e);
        return;
    }
    if (b->state == WHOLE)
        end(b);
}

/* What has come of the input since. */
static void whole_feed(struct blocks *b)
{
    static struct box_source source[SOURCES_MAX];
    struct err e;
    uint64_t id = b->whole.watch.id;
    if (b->whole_fed == UINT64_MAX || !id || b->stage->in_edge == GRAPH_NONE)
        return;
    int count = inlet_sources(&b->in, b->whole_fed, b->in.bytes, source, SOURCES_MAX), r = 0;
    if (count < 0)
        r = err_set(&e, ERR_LIMIT, "the input is in more than %d pieces", SOURCES_MAX);
    for (int i = 0; r == 0 && i < count; i += BOX_SOURCES_MAX) {
        int part = count - i < BOX_SOURCES_MAX ? count - i : BOX_SOURCES_MAX;
        r = box_feed(agent_box(b->t->agent), id, 0, source + i, (uint32_t)part, &e);
    }
    b->whole_fed = b->in.bytes;
    if (r == 0 && b->in.ended) {
        r = box_feed_end(agent_box(b->t->agent), id, 0, &e);
        b->whole_fed = UINT64_MAX;
    }
    if (r < 0)
        fail(b, &e);
}

static int whole_start(struct blocks *b, struct err *e)
{
    struct region_end end[2];
    uint32_t ends = 0;
    if (b->stage->in_edge != GRAPH_NONE)
        end[ends++] = (struct region_end){.how = REGION_FEED, .node = b->node[0], .more = true,
                                          .channel = GRAPH_NONE};
    if (b->stage->out_edge != GRAPH_NONE) {
        b->whole_out.fd = spool_open(e);
        if (b->whole_out.fd < 0)
            return -1;
        end[ends++] = (struct region_end){.how = REGION_DRAIN, .edge = b->stage->out_edge,
                                          .fd = b->whole_out.fd, .channel = GRAPH_NONE};
    }
    b->again = running_digest_new();
    if (!b->again)
        return err_nomem(e);
    b->whole.moved = whole_moved;
    b->whole.pump_ended = whole_pump_ended;
    b->whole.ended = whole_ended;
    b->whole.owner = b;
    struct region_scope scope = {.node = b->node, .count = b->stage->count, .end = end, .end_count = ends,
                                 .stderr_fd = -1};
    if (group_run(&b->whole, b->t, &scope, e) < 0)
        return -1;
    whole_feed(b);
    return 0;
}

static void spoil(struct blocks *b)
{
    struct err e;
    b->state = WHOLE;
    b->reported = true; /* the whole tells how it ended */
    drop_runs(b);
    if (whole_start(b, &e) < 0)
        fail(b, &e);
}

/* ---- the input */

/* A stream that comes faster than it is worked on waits. */
static void hold_input(struct blocks *b)
{
    uint64_t used = b->state == WHOLE ? b->whole_used : b->from, ahead = b->in.bytes - used;
    bool hold = ahead > (b->held_input ? INPUT_AHEAD_MAX / 2 : INPUT_AHEAD_MAX);
    const struct region_watch *w = b->copy.id ? &b->copy : b->from_main ? &b->t->main.watch : NULL;
    if (hold == b->held_input || b->in.ended || !w || !w->id)
        return;
    b->held_input = hold;
    box_hold(agent_box(b->t->agent), w->id, b->from_main ? b->from_main->channel : 0, hold, NULL);
}

static void input_grown(struct blocks *b, uint64_t bytes)
{
    inlet_grow(&b->in, bytes);
    step(b);
}

static void input_ended(struct blocks *b, int sys, bool reading)
{
    struct err e;
    uint64_t size = 0;
    if (b->in.ended)
        return;
    if (sys && sys != EPIPE) {
        errno = sys;
        err_sys(&e, reading ? "cannot read an input" : "cannot write to a temporary file");
        fail(b, &e);
        return;
    }
    if (size_of(b->input.fd, &size, &e) < 0) {
        fail(b, &e);
        return;
    }
    inlet_grow(&b->in, size);
    b->in.ended = true;
    step(b);
}

static void copy_moved(void *owner, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    (void)channel, (void)sources;
    input_grown(owner, bytes);
}

static void copy_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    (void)channel;
    input_ended(owner, sys, reading);
}

static void copy_ended(void *owner)
{
    struct blocks *b = owner;
    attempt_settle(b->t);
}

static int spool_input(struct blocks *b, struct err *e)
{
    b->input.fd = spool_open(e);
    int fd = b->input.fd < 0 ? -1 : again(b->input.fd, e);
    return fd < 0 ? -1 : inlet_add(&b->in, fd, 0, 0, GRAPH_NONE, e);
}

static int copy_input(struct blocks *b, const struct box_source *source, uint32_t count, struct err *e)
{
    static const struct region_events events = {
        .moved = copy_moved, .pump_ended = copy_pump_ended, .ended = copy_ended};
    if (spool_input(b, e) < 0)
        return -1;
    struct box_channel c = {.end = BOX_COPY, .tell = true, .source = source, .source_count = count,
                            .sink = b->input.fd};
    b->copy.events = &events;
    b->copy.owner = b;
    return agent_run_region(b->t->agent, &b->copy, &(struct box_region){.channel = &c, .channel_count = 1}, e);
}

static int stdin_of(const struct attempt *t, uint32_t edge)
{
    const struct attempt_route *route =
        attempt_route_of((struct attempt *)(uintptr_t)t, MSG_EDGE, edge, GRAPH_NONE);
    return route ? route->r.fd : -1;
}

/* A descriptor for the bytes of a segment; *from: where they begin, BOX_ALL: wherever it stands. */
static int segment_open(struct blocks *b, const struct graph_segment *s, uint64_t *from, uint64_t *size,
                        struct err *e)
{
    struct stat st;
    int fd;
    *from = 0;
    if (s->kind == GRAPH_SEGMENT_FILE) {
        *size = b->t->graph->file[s->file].size_bytes;
        return region_open_file(&b->t->graph->file[s->file], e);
    }
    if (s->kind == GRAPH_SEGMENT_TEXT) {
        *size = s->text.size;
        return spool_of(s->text, e);
    }
    fd = stdin_of(b->t, b->stage->in_edge);
    fd = fd < 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : again(fd, e);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd_close(&fd), err_sys(e, "cannot use stdin");
    off_t at = S_ISREG(st.st_mode) ? lseek(fd, 0, SEEK_CUR) : -1;
    *from = at < 0 ? BOX_ALL : (uint64_t)at;
    *size = at < 0 || st.st_size < at ? 0 : (uint64_t)(st.st_size - at);
    return fd;
}

/* A source of this process: its files as they are, if they are that; else all of it by a spool. */
static int open_source(struct blocks *b, const struct graph_node *n, struct err *e)
{
    struct box_source *source = calloc((size_t)n->segment_count + 1, sizeof *source);
    uint32_t count = 0;
    bool files = true;
    int r = source ? 0 : err_nomem(e);
    for (; r == 0 && count < n->segment_count; count++) {
        struct box_source *s = &source[count];
        s->fd = segment_open(b, &n->segment[count], &s->offset, &s->size, e);
        if (s->fd < 0) {
            r = -1;
            break;
        }
        files &= s->offset != BOX_ALL;
    }
    if (r == 0 && !files) {
        for (uint32_t i = 0; i < count; i++)
            if (n->segment[i].kind == GRAPH_SEGMENT_STDIN)
                source[i].offset = BOX_ALL;
        r = copy_input(b, source, count, e);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (r == 0 && files)
            r = inlet_add(&b->in, source[i].fd, source[i].offset, source[i].size, GRAPH_NONE, e);
        else
            close(source[i].fd);
    }
    b->in.ended = files;
    free(source);
    return r;
}

/* The files that the stage's words name. */
static int open_files(struct blocks *b, struct err *e)
{
    const struct graph_split *s = b->head;
    b->in.apart = true;
    for (uint32_t i = 0; i < s->file_count; i++) {
        const struct graph_file *f = &b->t->graph->file[s->file[i]];
        struct attempt_route *route = attempt_route_of(b->t, MSG_FILE, s->file[i], b->node[0]);
        if (!route)
            return err_set(e, ERR_PROTO, "the input '%s' has no route", f->name);
        if (s->cut == GRAPH_CUT_FILES) { /* its programs open it; one that is empty counts too */
            if (inlet_add(&b->in, -1, 0, 1, s->file[i], e) < 0)
                return -1;
            continue;
        }
        int fd = route->r.via == MSG_VIA_PATH ? region_open_file(f, e) : spool_reader(route->spool, e);
        if (fd < 0 || inlet_add(&b->in, fd, 0, f->size_bytes, s->file[i], e) < 0)
            return -1;
    }
    b->in.ended = true;
    return 0;
}

/* A pair of sockets between a route's stream and a pump of ours. */
static int remote_pair(struct blocks *b, uint32_t edge, bool out, int *ours, struct err *e)
{
    struct attempt_route *route = attempt_route_of(b->t, MSG_EDGE, edge, GRAPH_NONE);
    int pair[2];
    if (!route)
        return err_set(e, ERR_PROTO, "edge %u of the job has no route", edge);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a socket pair");
    *ours = pair[1];
    return attempt_carry(b->t, route, pair[0], out, e);
}

static int open_input(struct blocks *b, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t edge = b->stage->in_edge;
    if (edge == GRAPH_NONE)
        return open_files(b, e);
    if (b->writer || b->from_main)
        return 0;
    uint32_t from = g->edge[edge].from;
    if (b->t->here[from])
        return open_source(b, &g->node[from], e);
    struct attempt_route *route = attempt_route_of(b->t, MSG_EDGE, edge, GRAPH_NONE);
    if (route && route->spool >= 0) { /* a seekable input, fetched whole */
        uint64_t size = 0;
        int fd = spool_reader(route->spool, e);
        b->in.ended = true;
        return fd < 0 || size_of(fd, &size, e) < 0 ? -1 : inlet_add(&b->in, fd, 0, size, GRAPH_NONE, e);
    }
    int fd = -1;
    int r = remote_pair(b, edge, false, &fd, e);
    struct box_source s = {.fd = fd, .offset = BOX_ALL};
    if (r == 0)
        r = copy_input(b, &s, 1, e);
    fd_close(&fd);
    return r;
}

/* ---- the output */

static void reader_grown(void *owner)
{
    step(owner);
}

static int open_output(struct blocks *b, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t edge = b->stage->out_edge;
    if (b->to_main) {
        outlet_to_channel(&b->out, &b->t->main.watch, b->to_main->channel);
        return 0;
    }
    if (b->reader) {
        outlet_to_inlet(&b->out, &b->reader->in, reader_grown, b->reader);
        return 0;
    }
    if (edge == GRAPH_NONE)
        return outlet_to_nothing(&b->out), 0;
    uint32_t to = g->edge[edge].to;
    int fd = stdin_of(b->t, edge); /* or whatever this process calls the other end */
    if (b->t->here[to]) {
        struct stat s;
        bool null = g->node[to].sink == GRAPH_SINK_NULL || fd < 0 || fstat(fd, &s) < 0;
        if (null)
            return outlet_to_nothing(&b->out), 0;
        return outlet_to_fd(&b->out, fd, e);
    }
    fd = -1;
    int r = remote_pair(b, edge, true, &fd, e);
    if (r == 0)
        r = outlet_to_fd(&b->out, fd, e);
    fd_close(&fd);
    return r;
}

/* ---- the main region */

bool blocks_main_runs(const struct attempt *t, uint32_t node)
{
    const struct graph_node *n = &t->graph->node[node];
    if (!t->here[node] || (n->kind != GRAPH_COMMAND && n->kind != GRAPH_SHELL))
        return false;
    for (uint32_t i = 0; i < t->blocks_count; i++) {
        const struct blocks *b = t->blocks[i];
        for (uint32_t k = 0; k < b->stage->count; k++)
            if (b->node[k] == node)
                return k + 1 == b->stage->count && blocks_rerun(b).count;
    }
    return true;
}

static struct blocks *ends_with(const struct attempt *t, uint32_t node)
{
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (blocks_last_node(t->blocks[i]) == node && !blocks_rerun(t->blocks[i]).count)
            return t->blocks[i];
    return NULL;
}

/* Is this edge the input of a stage in blocks? */
static bool reads(const struct attempt *t, uint32_t edge)
{
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (t->blocks[i]->stage->in_edge == edge)
            return true;
    return false;
}

int blocks_meet_main(struct blocks *b, struct region_end *end, uint32_t *count, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t in = b->stage->in_edge, out = b->stage->out_edge;
    *count = 0;
    if (in != GRAPH_NONE && blocks_main_runs(b->t, g->edge[in].from)) {
        if (spool_input(b, e) < 0)
            return -1;
        b->from_main = &end[*count];
        end[(*count)++] = (struct region_end){.how = REGION_DRAIN, .edge = in, .fd = b->input.fd,
                                              .channel = GRAPH_NONE};
    } else if (in != GRAPH_NONE) {
        b->writer = ends_with(b->t, g->edge[in].from);
        if (b->writer)
            b->writer->reader = b;
    }
    uint32_t to = blocks_rerun(b).count                      ? blocks_last_node(b)
                  : out == GRAPH_NONE || reads(b->t, out) ? GRAPH_NONE
                                                            : g->edge[out].to;
    if (to != GRAPH_NONE && blocks_main_runs(b->t, to)) {
        b->to_main = &end[*count];
        /* `head` shall end with the line that it wants, not when a read is full. */
        end[(*count)++] = (struct region_end){.how = REGION_FEED, .node = to, .more = true,
                                              .lines = b->tail->stops_early, .channel = GRAPH_NONE};
    }
    return 0;
}

bool blocks_moved(struct blocks *b, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    if (b->from_main && b->from_main->channel == channel)
        input_grown(b, bytes);
    else if (b->to_main && b->to_main->channel == channel)
        outlet_moved(&b->out, bytes, sources);
    else
        return false;
    return true;
}

bool blocks_pump_ended(struct blocks *b, uint32_t channel, int sys, bool reading)
{
    if (b->from_main && b->from_main->channel == channel)
        input_ended(b, sys, reading);
    else if (b->to_main && b->to_main->channel == channel)
        outlet_pump_ended(&b->out, sys, reading);
    else
        return false;
    return true;
}

/* ---- life */

/* A terminal's lines are wanted one by one, and what is small needs no cutting. */
static bool stdin_wanted(const struct attempt *t, uint32_t edge)
{
    struct stat s;
    int fd = stdin_of(t, edge);
    if (fd < 0 || fstat(fd, &s) < 0 || isatty(fd))
        return false;
    if (!S_ISREG(s.st_mode))
        return S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode);
    return s.st_size - lseek(fd, 0, SEEK_CUR) >= (off_t)GRAPH_SPLIT_MIN || t->graph->split_bytes;
}

bool blocks_wanted(const struct attempt *t, const struct graph_stage *s)
{
    const struct graph *g = t->graph;
    for (uint32_t i = 0; i < s->count; i++)
        if (!t->here[t->stages.node[s->first + i]])
            return false;
    if (s->in_edge == GRAPH_NONE)
        return true;
    uint32_t from = g->edge[s->in_edge].from;
    const struct graph_node *n = &g->node[from];
    for (uint32_t i = 0; t->here[from] && n->kind == GRAPH_SOURCE && i < n->segment_count; i++)
        if (n->segment[i].kind == GRAPH_SEGMENT_STDIN && n->segment_count == 1)
            return stdin_wanted(t, s->in_edge);
    return true;
}

struct blocks *blocks_new(struct attempt *t, const struct graph_stage *s, struct err *e)
{
    struct blocks *b = calloc(1, sizeof *b);
    if (!b) {
        err_nomem(e);
        return NULL;
    }
    *b = (struct blocks){.t = t, .stage = s, .node = &t->stages.node[s->first], .errors = -1};
    b->input.fd = b->whole_out.fd = -1;
    b->head = &t->graph->node[b->node[0]].split;
    b->tail = &t->graph->node[b->node[s->count - 1]].split;
    b->rule = (struct inlet_rule){s->cut, b->head->cut_step, t->graph->split_bytes};
    outlet_init(&b->out, t->agent, &outlet_events, b);
    b->sum = calloc(s->count, sizeof *b->sum);
    b->seen = calloc(s->count, sizeof *b->seen);
    b->given = running_digest_new();
    int r = !b->sum || !b->seen || !b->given ? err_nomem(e) : 0;
    if (r == 0 && b->tail->combine == GRAPH_COMBINE_NATIVE && !(b->native = combine_new(b->tail->combine_text, e)))
        r = -1;
    if (r < 0) {
        blocks_free(b);
        return NULL;
    }
    char path[64];
    int made = memfd_create("zpipe-errors", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", made);
    b->errors = made < 0 ? -1 : open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    fd_close(&made);
    if (b->errors < 0) {
        err_sys(e, "cannot make a memory file");
        blocks_free(b);
        return NULL;
    }
    return b;
}

int blocks_start(struct blocks *b, struct err *e)
{
    if (open_output(b, e) < 0 || open_input(b, e) < 0)
        return -1;
    step(b);
    return 0;
}
