/* See blocks.h. */
#include "worker/deal.h"
#include "worker/tasks.h"

#include "base/log.h"
#include "proto/flow.h"
#include "proto/lent.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void blocks_fail(struct blocks *b, const struct err *why)
{
    attempt_fail(b->t, why);
}

const struct graph_node *blocks_node(const struct blocks *b, uint32_t i)
{
    return &b->t->graph->node[b->node[i]];
}

uint32_t blocks_last_node(const struct blocks *b)
{
    if (b->stage->author != GRAPH_NONE)
        return b->stage->author;
    return b->node[b->stage->count - 1];
}

struct group *blocks_group(struct blocks *b)
{
    return &b->whole;
}

bool blocks_per_file(const struct blocks *b)
{
    return b->stage->author != GRAPH_NONE && b->t->graph->node[b->stage->author].per_file;
}

struct region_words blocks_rerun(const struct blocks *b)
{
    if (b->last->combine != GRAPH_COMBINE_RERUN)
        return (struct region_words){NULL, 0};
    return (struct region_words){b->last->combine_argv, b->last->combine_argc};
}

/* Must all runs have ended before any output can be passed on? */
bool blocks_wait_for_all(const struct blocks *b)
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
    return !b->running && !group_runs(&b->whole) && intake_over(&b->intake) && !(b->tasks && !tasks_over(b));
}

bool blocks_over(const struct blocks *b)
{
    return b->state == ENDED && nothing_runs(b) && b->out_ended;
}

void blocks_end_stderr(struct blocks *b, uint32_t node)
{
    struct attempt_route *route = attempt_route_of(b->t, MSG_STDERR, node, GRAPH_NONE);
    struct err e;
    if (!route || route->r.via == MSG_VIA_FD)
        return;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if ((fd < 0 ? err_sys(&e, "cannot open /dev/null") : attempt_carry(b->t, route, fd, true, &e)) < 0)
        blocks_fail(b, &e);
}

static void report(struct blocks *b, bool early)
{
    if (b->reported || b->stopping)
        return;
    b->reported = true;
    b->t->report[b->stage->author != GRAPH_NONE ? b->stage->author : b->node[0]].compared = b->compared;
    b->way->report(b, early);
}

static void report_planned(struct blocks *b, bool early)
{
    bool rerun = blocks_rerun(b).count > 0;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        struct box_result *r = &b->sum[i];
        if (rerun && i + 1 == b->stage->count) {
            blocks_end_stderr(b, b->node[i]);
            break; /* the program in the main region reports for this node */
        }
        if (early) {
            r->end = BOX_SIGNALLED;
            r->signal = SIGPIPE;
        }
        attempt_node_ended(b->t, b->node[i], r, early);
        attempt_said(b->t, b->node[i], NULL);
        blocks_end_stderr(b, b->node[i]);
    }
}

bool blocks_ran_whole(const struct attempt *t, uint32_t node)
{
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (blocks_last_node(t->blocks[i]) == node)
            return t->blocks[i]->whole.t;
    return false;
}

void blocks_amend(const struct attempt *t, uint32_t node, struct box_result *r)
{
    for (uint32_t i = 0; i < t->blocks_count; i++) {
        const struct blocks *b = t->blocks[i];
        uint32_t last = b->stage->count - 1;
        if (b->node[last] == node && b->state != WHOLE && b->seen[last] && r->end == BOX_EXITED && r->status == 0)
            r->status = b->sum[last].status;
    }
}

/* If nobody has left yet, how the stage ended is known when the last of its output was taken: a reader that leaves before that
 * ends it by SIGPIPE, as it would have ended the command that writes while it works. */
void blocks_end(struct blocks *b)
{
    struct err e;
    bool early = b->unread && (b->out.bytes || blocks_wait_for_all(b));
    b->undecided = b->state != WHOLE && !early && !b->out_ended;
    if (b->state != WHOLE && !b->undecided)
        report(b, early);
    b->state = ENDED;
    borrows_drop(b);
    if (outlet_close(&b->out, &e) < 0)
        blocks_fail(b, &e);
    attempt_settle(b->t);
}

/* Tasks that leave files all run: which files there are must not depend on when the reader left. */
bool blocks_make_files(const struct blocks *b)
{
    return b->tasks && b->tasks->sink_count;
}

/* Does the stage go on though nobody reads its output?  It does if its command, run as one, would have written nothing yet: it
 * would read on, and so the commands before it would not notice. */
static bool goes_on_unread(const struct blocks *b)
{
    bool silent = b->stage->author == GRAPH_NONE && !blocks_rerun(b).count && !b->out.bytes;
    return blocks_wait_for_all(b) || combine_adds(b->tail->combine_text) || blocks_make_files(b) || silent;
}

void blocks_leave(struct blocks *b)
{
    if (b->state != WHOLE)
        report(b, true);
    if (group_runs(&b->whole))
        whole_left(b);
    b->state = ENDED;
    runs_drop(b);
    intake_stop(&b->intake);
}

static void outlet_was_left(void *owner)
{
    struct blocks *b = owner;
    if (b->undecided)
        report(b, true);
    if (b->state == ENDED)
        return;
    if (b->state != WHOLE && goes_on_unread(b))
        b->unread = true; /* the command finds out only when it writes */
    else
        blocks_leave(b);
}

static void outlet_ended(void *owner)
{
    struct blocks *b = owner;
    if (b->undecided)
        report(b, false);
    b->out_ended = true;
    attempt_settle(b->t);
}

static void outlet_has_room(void *owner)
{
    blocks_step(owner);
}

static void outlet_failed(void *owner, const struct err *why)
{
    blocks_fail(owner, why);
}

static const struct outlet_events outlet_events = {outlet_has_room, outlet_was_left, outlet_ended,
                                                   outlet_failed};

void blocks_stop(struct blocks *b)
{
    b->stopping = true;
    b->state = ENDED;
    runs_drop(b);
    if (!intake_over(&b->intake))
        agent_stop_region(b->t->agent, &b->intake.copy);
    if (group_runs(&b->whole))
        agent_stop_region(b->t->agent, &b->whole.watch);
    outlet_stop(&b->out);
    if (b->way->stop)
        b->way->stop(b);
}

void blocks_free(struct blocks *b)
{
    if (!b)
        return;
    for (struct run **list = &b->run; *list || (list = &b->copies, *list);) {
        struct run *r = *list;
        *list = r->next;
        run_free(r);
    }
    while (b->orphans) { /* the box is gone, so their regions' ends will not be told */
        struct run *r = b->orphans;
        b->orphans = r->next;
        r->rests = false;
        run_free(r);
    }
    if (b->way->free)
        b->way->free(b);
    keys_drop(b);
    combine_free(b->native);
    inlet_clear(&b->in);
    outlet_clear(&b->out);
    group_clear(&b->whole);
    running_digest_free(b->given);
    running_digest_free(b->again);
    fd_close(&b->whole_out.fd);
    intake_clear(&b->intake);
    fd_close(&b->errors);
    free(b->sum);
    free(b->seen);
    free(b);
}

/* ---- combining */

static bool all_ended(const struct blocks *b)
{
    return b->running + b->away == b->copying && !b->audits;
}

static int combine(struct blocks *b, struct err *e)
{
    b->state = COMBINING;
    copies_drop(b);
    if (b->tail->combine == GRAPH_COMBINE_MERGE && b->held > 1) {
        int r = keys_begin(b, e);
        return r < 0 ? -1 : r > 0 ? keys_step(b, e) : runs_merge(b, e);
    }
    if (b->tail->combine == GRAPH_COMBINE_REVERSE)
        runs_reverse(b);
    if (blocks_give_all(b, e) < 0 || (b->state == COMBINING && blocks_give_end(b, e) < 0))
        return -1;
    if (b->state == COMBINING && b->stage->merge_count) {
        int r = tasks_merge_end(b, e);
        if (r <= 0 || b->state != COMBINING)
            return r < 0 ? -1 : 0;
    }
    if (b->state == COMBINING)
        blocks_end(b);
    return 0;
}

/* ---- cutting */

/* Are outputs put together by the command that made them (`awk '!n[$1]++'`)?  Then it may have any block as it is, since
 * f(f(a) f(b)) = f(a b) for any cut, and so f(f(a) b) = f(f(f(a)) f(b)) = f(a b). */
static bool is_its_own(const struct blocks *b)
{
    const struct graph_node *n = blocks_node(b, 0);
    const struct graph_split *s = b->head;
    const char *const *word = s->block_argc ? s->block_argv : n->argv;
    if (!b->way->spoils || b->stage->count != 1 || s->combine != GRAPH_COMBINE_RERUN || s->run != GRAPH_RUN_EACH ||
        s->combine_argc != (s->block_argc ? s->block_argc : n->argc))
        return false;
    for (uint32_t i = 0; i < s->combine_argc; i++)
        if (strcmp(word[i], s->combine_argv[i]) != 0)
            return false;
    return true;
}

/* Have runs whose output one command reads again left more than a part of their input?  What they do once it is passed on is not counted. */
static bool leave_more_than(const struct blocks *b, unsigned part)
{
    return b->read_again && b->kept_in >= LEFT_BYTES && b->kept_in >= b->in.bytes / LEFT_KNOWN && b->kept_out > b->kept_in / part;
}

static uint64_t slots_of(const struct blocks *b)
{
    return agent_width(b->t->agent, b->t->graph->width) + (uint64_t)borrowed_slots(b->t);
}

/* Do a few slots gain less from its blocks than it costs to read again what they leave, even if the runs are as large as can be? */
static bool is_useless(const struct blocks *b)
{
    return leave_more_than(b, LEFT_LARGE) && b->in.ended && slots_of(b) < LEFT_SLOTS && b->in.bytes < slots_of(b) * LEFT_FAR;
}

/* How large the next run is to be.  Once all of the input has come it is a share of what is left, so that the last runs are
 * small and all slots end at about the same time.  Runs that are merged afterwards are few and of equal size.  Runs that leave much to a command that
 * reads it again are as large as can be: keys that two of them have are counted in one then. */
static uint64_t run_bytes(const struct blocks *b)
{
    uint64_t slots = slots_of(b);
    uint64_t size = b->in.bytes / (RUNS_PER_SLOT * slots);
    uint64_t max = RUN_BYTES_MAX, fan = b->in.bytes / MERGE_FAN;
    if (b->files_bytes)
        size = b->files_bytes / (RUNS_PER_SLOT * RUNS_LEFT_PER_SLOT * slots);
    if (b->way->joins && b->tail->combine == GRAPH_COMBINE_MERGE && b->last == b->tail)
        max = fan < SORT_BYTES_MAX ? SORT_BYTES_MAX : fan < MERGE_BYTES_MAX ? fan : MERGE_BYTES_MAX;
    else if (b->in.ended && !b->files_bytes)
        size = (b->in.bytes - b->from) / (RUNS_LEFT_PER_SLOT * slots);
    if (leave_more_than(b, LEFT_LARGE)) {
        size = (b->in.bytes - b->from) / slots;
        size = size < RUN_BYTES_MAX ? RUN_BYTES_MAX : size;
        max = MERGE_BYTES_MAX;
    }
    if (!b->way->joins || b->in.pieces)
        return 1;
    if (b->rule.split_bytes) { /* each run costs a sandbox and, until all are put together, a descriptor */
        uint64_t doubled = b->number / RUNS_APART;
        return doubled ? b->rule.split_bytes << (doubled < 20 ? doubled : 20) : 1;
    }
    if ((b->may_be_left || b->read_again) && b->number / slots < LEFT_DOUBLED) /* the reader may want no more than the first lines, or they leave much */
        max = (uint64_t)RUN_BYTES_MIN << b->number / slots;
    return size < RUN_BYTES_MIN ? RUN_BYTES_MIN : size > max ? max : size;
}

bool blocks_room_for_more(const struct blocks *b)
{
    if (b->audits >= AUDITS_MAX || (b->tasks && !tasks_have_room(b)))
        return false;
    return (blocks_wait_for_all(b) && !b->keys) || (b->held < HELD_MAX && outlet_backlog(&b->out) < BACKLOG_MAX);
}

/* Does a byte that the run reads, or one shortly after it, spoil the stage?  A command that meets such a byte may treat
 * everything in its buffer differently.  1, 0, or -1. */
static int is_spoilt(struct blocks *b, uint64_t to, struct err *e)
{
    static const struct slice zero = {"", 1};
    uint64_t from = b->looked > b->from ? b->looked : b->from, upto = to + SPOIL_AHEAD;
    if (b->rule.cut == GRAPH_CUT_FILES || (!b->head->spoils.size && !b->stage->no_zeros))
        return 0;
    upto = upto < b->in.bytes ? upto : b->in.bytes;
    if (upto <= from)
        return 0;
    int r = b->head->spoils.size ? inlet_holds(&b->in, from, upto, b->head->spoils, e) : 0;
    b->looked = upto;
    return r == 0 && b->stage->no_zeros ? inlet_holds(&b->in, from, upto, zero, e) : r;
}

/* Make the run of [b->from, to); it is in no list yet. */
static struct run *next_run(struct blocks *b, uint64_t to, struct err *e)
{
    struct run *run = run_new(b, e);
    if (!run)
        return NULL;
    run->from = b->from;
    run->to = to;
    run->number = b->deal ? deal_partition(run) - 1 : b->number;
    run->first = b->number == 0;
    if (b->head->file_count || (blocks_per_file(b) && to > b->from))
        run->file = inlet_file(&b->in, b->from);
    run->last = b->in.ended && to == b->in.bytes;
    run->stays = run_has_files(run);
    return run;
}

static void add_next(struct blocks *b, struct run *run)
{
    runs_add(b, run);
    b->from = run->to;
    b->number++;
}

/* The result of this run may be known from an earlier life of the job: then it is not run again.  1: it was; 0: it must
 * run; -1: e. */
static int take_past(struct blocks *b, uint64_t to, struct err *e)
{
    enum blocks_state state = b->state;
    struct run *run = next_run(b, to, e);
    int r = !run ? -1 : b->way->prepare ? b->way->prepare(run, e) : 0;
    r = r < 0 ? -1 : past_take(run, e);
    if (r <= 0) {
        if (run)
            run_free(run);
        past_drop(b);
        return r;
    }
    add_next(b, run);
    for (uint32_t i = 0; i < b->stage->count; i++) {
        struct box_result end = run->result[i];
        b->way->task_ended(run, i, &end);
        if (b->state != state)
            return 1; /* and the run was freed */
    }
    run->ended = true;
    run_count(run);
    agent_step_soon(b->t->agent);
    return 1;
}

int blocks_begin(struct blocks *b, uint64_t to, enum where where, struct err *e)
{
    struct run *run = next_run(b, to, e);
    if (!run) {
        if (where == HERE)
            agent_end_run(b->t->agent, b->run_memory);
        return -1;
    }
    add_next(b, run);
    if (careful_shuns(run)) {
        if (where == HERE)
            agent_end_run(b->t->agent, b->run_memory);
        return careful_give_up(run, e);
    }
    return lent_start(b, run, where, e) < 0 || audit_begin(run, e) < 0 ? -1 : 1;
}

/* Make the bytes [b->from, to) the output of a run of their own. */
static int pass_on(struct blocks *b, uint64_t to, struct err *e)
{
    struct run *run = next_run(b, to, e);
    struct box_source *piece = run ? arena_array(&run->arena, PASS_PIECES_MAX, sizeof *piece) : NULL;
    int count = piece ? inlet_sources(&b->in, b->from, to, piece, PASS_PIECES_MAX) : -1;
    if (count < 0) {
        if (run)
            run_free(run);
        return run && piece ? 0 : err_nomem(e);
    }
    run->piece = piece;
    run->piece_count = (uint32_t)count;
    run->ended = true;
    add_next(b, run);
    agent_step_soon(b->t->agent);
    return 1;
}

/* 1: a run was started; 0: not now. */
static int start_one(struct blocks *b, struct err *e)
{
    enum where where;
    uint64_t past = past_size(b), size = past ? past : run_bytes(b), to, units = b->units;
    uint64_t least = b->number == 0 && b->head->run == GRAPH_RUN_FIRST ? b->head->first_units : 0;
    uint64_t ahead = b->head->spoils.size || b->stage->no_zeros ? SPOIL_AHEAD : 0;
    b->starved = true;
    if (!b->in.ended && b->in.bytes - b->from < size + ahead)
        return 0;
    int r = inlet_cut(&b->in, &b->rule, b->from, size, least, &units, &to, e);
    if (r <= 0 || (b->head->run == GRAPH_RUN_LAST && !b->in.ended && to == b->in.bytes) || !ends_come(b, to))
        return r < 0 ? -1 : 0;
    if (b->in.pieces && !b->in.ended && b->in.bytes - to < ahead)
        return 0;
    to = b->files_bytes && !past ? files_end(b, size) : to;
    bool several = b->files_bytes && to - b->from > 1;
    b->starved = false;
    r = is_spoilt(b, to, e);
    if (r == 0 && past) {
        r = take_past(b, to, e);
        b->units = r > 0 ? units : b->units;
        return r < 0 ? -1 : 1;
    }
    if (r == 0 && !b->its_own && is_useless(b)) {
        blocks_spoil(b, "blocks leave much to be read again, for so few slots");
        return 0;
    }
    if (r == 0 && !several && b->its_own && leave_more_than(b, LEFT_USELESS) && (r = pass_on(b, to, e)) != 0) {
        b->units = r > 0 ? units : b->units;
        return r;
    }
    if (r == 0 && (queue_has_room(b) ? (where = BEHIND, true) : lent_slot(b, lent_bytes(b, b->from, to), several, &where))) {
        b->units = units;
        return blocks_begin(b, to, where, e);
    }
    /* No slot is free: look for spoiling bytes ahead, so that no slot has to wait for that later. */
    if (r == 0)
        r = is_spoilt(b, to + size, e);
    return r > 0 ? (blocks_spoil(b, "its input holds a byte that changes what it does with all"), 0) : r;
}

static int step_cutting(struct blocks *b, struct err *e)
{
    int r = 1;
    if (!ends_outside_came(b))
        return 0;
    if (!blocks_wait_for_all(b) && blocks_give_all(b, e) < 0)
        return -1;
    if (b->state == CUTTING && b->stage->merge_count && tasks_merge_step(b, e) < 0)
        return -1;
    if (b->state == CUTTING && b->audits && audits_start(b, e) < 0)
        return -1;
    while (b->state == CUTTING && r > 0 && (b->waiting || (b->from < b->in.bytes && blocks_room_for_more(b))))
        if ((r = b->waiting ? lent_again(b, e) : start_one(b, e)) < 0)
            return -1;
    if (b->state == CUTTING && b->queued && queue_release(b, e) < 0)
        return -1;
    if (b->state == CUTTING && twice_hasten(b, e) < 0)
        return -1;
    if (b->state != CUTTING || !b->in.ended || b->from < b->in.bytes)
        return 0;
    if (!b->in.bytes && !b->number)
        return b->way->nothing(b, e);
    return all_ended(b) ? combine(b, e) : 0;
}

void blocks_step(struct blocks *b)
{
    struct err e;
    b->starved = false;
    int r = b->state == DEALING ? deal_step(b, &e) : 0;
    if (r == 0 && b->state == CUTTING)
        r = step_cutting(b, &e);
    else if (b->state == COMBINING && b->keys)
        r = keys_step(b, &e);
    else if (b->state == COMBINING && (all_ended(b) || b->stage->merge_count))
        r = combine(b, &e);
    else if (b->state == WHOLE)
        whole_feed(b);
    if (r < 0)
        blocks_fail(b, &e);
    else if (b->state == DEALING || b->state == CUTTING || b->state == WHOLE)
        intake_hold(&b->intake, b->starved ? b->intake.bytes : ends_used(b)); /* starved: the writer must not wait */
    lent_tell_want(b->t);
}

void blocks_spoil(struct blocks *b, const char *why)
{
    struct err e;
    if (why)
        log_info("runs_whole", "job=%llu stage=%u command=\"%.200s\" why=\"%s\"", (unsigned long long)b->t->job, b->node[0] + 1,
                 blocks_node(b, 0)->label, why);
    b->state = WHOLE;
    b->reported = true; /* the run as a whole will report how the stage ended */
    runs_drop(b);
    if (whole_start(b, &e) < 0)
        blocks_fail(b, &e);
}

/* ---- life */

static int nothing_planned(struct blocks *b, struct err *e)
{
    (void)e;
    blocks_spoil(b, NULL); /* no input: the chain runs once, on nothing */
    return 0;
}

/* Tell what its first command has read and its last has written so far. */
static void tell_progress(const struct blocks *b)
{
    if (b->stage->author != GRAPH_NONE && b->state != ENDED) {
        struct msg m = {.type = MSG_PROGRESS,
                        .progress = {b->t->job, b->stage->author, b->deal ? b->dealt : b->from, b->out.bytes, true}};
        attempt_say(b->t, &m);
        return;
    }
    for (uint32_t i = 0; b->state != ENDED && !group_runs(&b->whole) && i < b->stage->count; i++) {
        bool last = i + 1 == b->stage->count;
        struct msg m = {.type = MSG_PROGRESS,
                        .progress = {b->t->job, b->node[i], i ? 0 : b->from, last ? b->out.bytes : 0, true}};
        if (!last || !blocks_rerun(b).count)
            attempt_say(b->t, &m);
    }
}

void blocks_look(const struct blocks *b)
{
    tell_progress(b);
    if (agent_data(b->t->agent))
        agent_step_soon(b->t->agent); /* a run may be late by now */
}

/* Is this stdin worth cutting?  A terminal's lines are wanted one by one, and a small file needs no cutting. */
static bool stdin_wanted(const struct attempt *t, uint32_t edge)
{
    struct stat s;
    int fd = attempt_edge_fd(t, edge);
    if (fd < 0 || fstat(fd, &s) < 0 || isatty(fd))
        return false;
    if (!S_ISREG(s.st_mode))
        return S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode);
    return s.st_size - lseek(fd, 0, SEEK_CUR) >= (off_t)GRAPH_SPLIT_MIN || t->graph->split_bytes;
}

bool blocks_wanted(const struct attempt *t, const struct graph_stage *s)
{
    const struct graph *g = t->graph;
    if (s->author != GRAPH_NONE)
        return t->here[s->author];
    if (agent_width(t->agent, g->width) < 2 && !g->split_bytes && (g->width == 1 || !agent_data(t->agent)))
        return false; /* with one slot there is nothing to gain; in a cluster other workers may help */
    for (uint32_t i = 0; i < s->count; i++)
        if (!t->here[t->stages.node[s->first + i]])
            return false;
    bool sorted = !s->ranges;
    for (uint32_t i = 0; i < t->blocks_count; i++)
        sorted |= t->blocks[i]->stage->out_edge == s->in_edge;
    if (!sorted)
        return false; /* the stage before it does not run in blocks here, so there are no ranges of keys */
    if (s->in_edge == GRAPH_NONE)
        return true;
    uint32_t from = g->edge[s->in_edge].from;
    const struct graph_node *n = &g->node[from];
    for (uint32_t i = 0; t->here[from] && n->kind == GRAPH_SOURCE && i < n->segment_count; i++)
        if (n->segment[i].kind == GRAPH_SEGMENT_STDIN && n->segment_count == 1)
            return stdin_wanted(t, s->in_edge);
    return true;
}

/* Open the blocks' stderr: a memory file in which there must be nothing at the end. */
static int open_errors(struct blocks *b, struct err *e)
{
    int made = memfd_create("zpipe-errors", MFD_CLOEXEC);
    b->errors = made < 0 ? -1 : fd_reopen(made, O_WRONLY | O_APPEND);
    fd_close(&made);
    return b->errors < 0 ? err_sys(e, "cannot make a memory file") : 0;
}

/* Change the first node's split for a stage in which each block is a range of keys: the outputs just stand end to end. */
static int take_ranges(struct blocks *b, struct err *e)
{
    struct graph_split *s = arena_alloc(&b->t->arena, sizeof *s);
    if (!s)
        return err_nomem(e);
    *s = *b->head;
    s->combine = GRAPH_COMBINE_CONCAT;
    s->combine_text = "";
    s->combine_argc = s->block_argc = 0;
    b->head = s;
    b->in.pieces = b->in.apart = true;
    return 0;
}

static int open_planned(struct blocks *b, struct err *e)
{
    b->head = &blocks_node(b, 0)->split;
    if (b->stage->ranges && take_ranges(b, e) < 0)
        return -1;
    b->tail = b->stage->joins ? &blocks_node(b, b->stage->joins)->split : b->head;
    b->last = b->stage->count == b->stage->joins + 1 ? b->tail : &blocks_node(b, b->stage->count - 1)->split;
    b->rule.step = b->head->cut_step;
    b->rule.seam = b->head->seam;
    b->rule.split_bytes = b->t->graph->split_bytes;
    b->sum = calloc(b->stage->count, sizeof *b->sum);
    b->seen = calloc(b->stage->count, sizeof *b->seen);
    if (!b->sum || !b->seen)
        return err_nomem(e);
    for (uint32_t i = 0; i < b->stage->count; i++) /* there may be no block that sets them */
        b->sum[i].limit = b->sum[i].text = b->sum[i].uncertified_why = b->sum[i].cold_why = "";
    if (b->tail->combine == GRAPH_COMBINE_NATIVE && !(b->native = combine_new(b->tail->combine_text, e)))
        return -1;
    return open_errors(b, e);
}

const struct blocks_way blocks_planner = {.joins = true,
                                          .spoils = true,
                                          .open = open_planned,
                                          .start = run_start,
                                          .task_ended = run_task_ended,
                                          .give = blocks_give,
                                          .nothing = nothing_planned,
                                          .report = report_planned};

static void step(void *b)
{
    blocks_step(b);
}

struct blocks *blocks_new(struct attempt *t, const struct graph_stage *s, struct err *e)
{
    struct blocks *b = calloc(1, sizeof *b);
    if (!b) {
        err_nomem(e);
        return NULL;
    }
    *b = (struct blocks){.t = t, .stage = s, .node = &t->stages.node[s->first], .errors = -1,
                         .run_memory = stage_run_memory(t->graph, &t->stages, s)};
    b->whole_out.fd = -1;
    b->way = s->author == GRAPH_NONE ? &blocks_planner : &blocks_author;
    b->may_be_left = graph_may_be_left(t->graph, b->node[0]);
    b->rule.cut = s->cut;
    const char *stays = stage_stays_why(t->graph, &t->stages, s);
    b->may_be_lent = !stays;
    if (stays && !t->elsewhere && agent_data(t->agent))
        log_info("not_lent", "job=%llu stage=%u why=\"%s\"", (unsigned long long)t->job,
                 (s->author != GRAPH_NONE ? s->author : b->node[0]) + 1, stays);
    outlet_init(&b->out, t->agent, &outlet_events, b);
    intake_init(&b->intake, t, s->in_edge, &b->in, step, b);
    b->given = running_digest_new();
    if (b->given ? b->way->open(b, e) < 0 : err_nomem(e)) {
        blocks_free(b);
        return NULL;
    }
    b->read_again = b->way->spoils && b->last == b->tail && blocks_rerun(b).count && blocks_wait_for_all(b);
    b->its_own = is_its_own(b);
    if (s->out_edge != GRAPH_NONE && !blocks_rerun(b).count)
        t->joint[s->out_edge].writer = &b->out;
    return b;
}

int blocks_start(struct blocks *b, struct err *e)
{
    if (outlet_open(&b->out, b->t, b->stage->out_edge, e) < 0 || ends_open_input(b, e) < 0)
        return -1;
    blocks_step(b);
    return 0;
}
