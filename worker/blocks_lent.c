/* Where a run of blocks is run: in a slot of this worker or, while there is one, in a slot of another that
 * was lent to us (borrow.c).  The stage cuts, orders and combines here, whoever runs what.
 *
 * A run that a lender did not do waits, and is given out again before anything new is cut.  When nothing is
 * left to cut and a slot here is free, runs that are elsewhere are started here a second time, the newest
 * first, since that is the one a lender has not begun; and the oldest one, when all others wait for it.  The
 * copy that ends first counts, and if the other one ends too their bytes must be equal. */
#include "base/log.h"
#include "worker/blocks_inside.h"

#include <string.h>
#include <sys/stat.h>

#define WANT_MAX   4096
#define TASK_BYTES (64u << 10) /* a block at least, where nothing else is said */

static bool may_lend(const struct blocks *b, uint64_t from, uint64_t to)
{
    uint64_t size = to - from;
    if (b->may_be_lent && run_is_file(b) && from < b->in.bytes)
        size = b->t->graph->file[inlet_file(&b->in, from)].size_bytes;
    return size <= LENT_INPUT_MAX && b->in.count && b->may_be_lent;
}

struct box_source lent_input(const struct run *r)
{
    const struct blocks *b = r->b;
    struct box_source s = {.fd = -1, .size = r->to - r->from};
    if (!run_is_file(b))
        return s;
    s.size = b->t->graph->file[r->file].size_bytes;
    if (blocks_per_file(b)) {
        s.fd = b->intake.spool;
        s.offset = b->file_at[r->from];
    } else {
        s.fd = attempt_route_of(b->t, MSG_FILE, r->file, b->node[0])->spool;
    }
    return s;
}

bool lent_slot(struct blocks *b, uint64_t from, uint64_t to, enum where *where)
{
    uint32_t width = b->t->graph->width;
    *where = HERE;
    if (agent_begin_run(b->t->agent, b->running - b->resting, width))
        return true;
    *where = ELSEWHERE;
    b->lacks_slots = true;
    return (!width || b->running - b->resting + b->away - b->waiting < width) && may_lend(b, from, to) && borrow_has_room(b->t);
}

int lent_start(struct blocks *b, struct run *r, enum where where, struct err *e)
{
    bool ready = !b->way->prepare || r->task || b->way->prepare(r, e) == 0;
    if (where == ELSEWHERE) {
        b->away++;
        return ready ? borrow_run(b->t, r, e) : -1;
    }
    if (!ready || b->way->start(b, r, e) < 0) {
        agent_end_run(b->t->agent);
        return -1;
    }
    b->running++;
    return 0;
}

/* ---- runs that come back */

void lent_back(struct run *r, const char *lender, const struct err *why)
{
    struct blocks *b = r->b;
    struct err e;
    if (r->copy)
        return; /* that one goes on */
    if (why && ++r->tries == RUN_TRIES_MAX) {
        err_set(&e, ERR_GONE, "block %llu of `%.200s` was lost %d times with the worker that ran it, at last with '%s': %.200s",
                (unsigned long long)r->number + 1, blocks_node(b, 0)->label, RUN_TRIES_MAX, lender, why->text);
        blocks_fail(b, &e);
        return;
    }
    r->waiting = true;
    b->waiting++;
    agent_step_soon(b->t->agent);
}

/* 1: one of those that came back is under way again. */
int lent_again(struct blocks *b, struct err *e)
{
    struct run *r = b->run;
    enum where where;
    while (r && !r->waiting)
        r = r->next;
    if (!r || !lent_slot(b, r->from, r->to, &where))
        return 0;
    r->waiting = false;
    b->waiting--;
    b->away--;
    return lent_start(b, r, where, e) < 0 ? -1 : 1;
}

/* ---- two of the same */

/* Of all that a run wrote: each piece's size, or that it is not there, and its bytes. */
static int look_at(const int *fd, uint32_t count, uint8_t digest[16], uint64_t *size, struct err *e)
{
    struct running_digest *d = running_digest_new();
    int r = d ? 0 : err_nomem(e);
    *size = 0;
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        uint64_t bytes = UINT64_MAX;
        r = fd[i] < 0 ? 0 : blocks_size_of(fd[i], &bytes, e);
        if (r == 0)
            running_digest_add(d, &bytes, sizeof bytes);
        if (r == 0 && fd[i] >= 0)
            r = blocks_digest(d, fd[i], 0, bytes, e);
        *size += fd[i] < 0 ? 0 : bytes;
    }
    if (r == 0)
        running_digest_look(d, digest);
    running_digest_free(d);
    return r;
}

static int look_at_run(struct run *r, uint8_t digest[16], uint64_t *size, struct err *e)
{
    uint32_t count = run_outputs(r->b);
    int *fd = arena_array(&r->arena, count, sizeof *fd);
    for (uint32_t i = 0; fd && i < count; i++)
        fd[i] = *run_output(r, i);
    return fd ? look_at(fd, count, digest, size, e) : err_nomem(e);
}

static void compare(struct blocks *b, uint64_t number, const uint8_t one[16], uint64_t one_size,
                    const uint8_t other[16], uint64_t other_size)
{
    struct err e;
    if (b->state == ENDED || b->state == WHOLE || (one_size == other_size && memcmp(one, other, 16) == 0))
        return;
    err_set(&e, ERR_INPUT,
            "not deterministic: block %llu of `%.200s` was run twice, and wrote other bytes the second time",
            (unsigned long long)number + 1, blocks_node(b, 0)->label);
    blocks_fail(b, &e);
}

void lent_compare(struct blocks *b, uint64_t number, const int *fd, const uint8_t digest[16], uint64_t size)
{
    uint8_t is[16];
    uint64_t bytes;
    struct err e;
    if (look_at(fd, run_outputs(b), is, &bytes, &e) < 0)
        blocks_fail(b, &e);
    else
        compare(b, number, is, bytes, digest, size);
}

void lent_ended(struct run *r, const char *lender, const struct msg_ran *ran, int *fd)
{
    struct blocks *b = r->b;
    struct run *copy = r->copy;
    enum blocks_state state = b->state;
    struct err e;
    for (uint32_t i = 0; i < run_outputs(b); i++) {
        fd_close(run_output(r, i));
        *run_output(r, i) = fd[i];
        fd[i] = -1;
    }
    r->worker = arena_string(&r->arena, lender);
    if (copy && look_at_run(r, copy->digest, &copy->size, &e) < 0) {
        blocks_fail(b, &e);
        return;
    }
    if (copy)
        copy->of = r->copy = NULL;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        const struct msg_ran *n = &ran[i];
        struct box_result one = {.end = (enum box_end)n->end, .status = (int)n->status, .signal = (int)n->signal,
                                 .limit = n->limit, .text = n->text, .cpu_user_ns = n->cpu_user_ns,
                                 .cpu_sys_ns = n->cpu_sys_ns, .wall_ns = n->wall_ns,
                                 .memory_peak_bytes = n->memory_peak_bytes, .certified = n->certified,
                                 .uncertified_why = "", .cold_why = n->cold};
        run_note(r, i, &one);
        b->way->task_ended(r, i, &one);
        if (b->state != state)
            return; /* it is spoilt, and r gone */
        if (b->way->dropped && n->dropped[0])
            *b->way->dropped(r, i) = n->dropped;
    }
    b->away--;
    run_complete(r);
    attempt_settle(b->t);
}

void copies_drop(struct blocks *b)
{
    for (struct run *copy = b->copies; copy; copy = copy->next) {
        if (copy->of)
            copy->of->copy = NULL;
        copy->of = NULL;
        copy->ended = true;
        agent_stop_region(b->t->agent, &copy->watch);
    }
}

/* In the list of runs. */
static void take_place(struct blocks *b, struct run *copy, struct run *r)
{
    struct run **at = &b->run;
    while (*at != r)
        at = &(*at)->next;
    *at = copy;
    copy->next = r->next;
    if (b->run_last == r)
        b->run_last = copy;
    copy->of = NULL;
    copy->is_copy = false;
    run_free(r);
}

void lent_copy_ended(struct run *copy)
{
    struct blocks *b = copy->b;
    struct run *r = copy->of, **at = &b->copies;
    uint8_t digest[16];
    uint64_t size;
    struct err e;
    while (*at != copy)
        at = &(*at)->next;
    *at = copy->next;
    b->copying--;
    int bad = copy->ended ? 0 : look_at_run(copy, digest, &size, &e);
    if (bad < 0)
        blocks_fail(b, &e);
    else if (!r && !copy->ended)
        compare(b, copy->number, digest, size, copy->digest, copy->size);
    if (bad < 0 || !r) {
        run_free(copy);
        return;
    }
    if (r->lent)
        borrow_compare(r, digest, size);
    take_place(b, copy, r);
    b->away--;
    run_complete(copy);
}

static int copy_start(struct blocks *b, struct run *r, struct err *e)
{
    struct run *copy = run_new(b, e);
    if (!copy) {
        agent_end_run(b->t->agent);
        return -1;
    }
    copy->number = r->number;
    copy->from = r->from;
    copy->to = r->to;
    copy->file = r->file;
    copy->first = r->first;
    copy->last = r->last;
    copy->is_copy = true;
    if (lent_start(b, copy, HERE, e) < 0) {
        run_free(copy);
        return -1;
    }
    log_info("run_again", "job=%llu run=%llu", (unsigned long long)b->t->job, (unsigned long long)r->number);
    copy->of = r;
    r->copy = copy;
    copy->next = b->copies;
    b->copies = copy;
    b->copying++;
    return 0;
}

static bool may_copy(const struct run *r)
{
    return r && r->lent && !r->copy;
}

int lent_hasten(struct blocks *b, struct err *e)
{
    bool held_up = b->from < b->in.bytes;
    for (;;) {
        struct run *one = may_copy(b->run) ? b->run : NULL;
        for (struct run *r = b->run; r && !held_up; r = r->next)
            if (may_copy(r))
                one = r;
        if (!one || !agent_begin_run(b->t->agent, b->running - b->resting, b->t->graph->width))
            return 0;
        if (copy_start(b, one, e) < 0)
            return -1;
    }
}

/* ---- how many slots would be of use */

static uint32_t stage_wants(const struct blocks *b)
{
    uint64_t each = run_is_file(b) ? 1 : b->rule.block_bytes ? b->rule.block_bytes : b->rule.split_bytes;
    each = each ? each : b->way->joins ? 2 * (uint64_t)RUN_BYTES_MIN : TASK_BYTES;
    uint64_t runs = (b->in.bytes - b->from + each - 1) / each + b->running + b->away;
    uint32_t own = agent_width(b->t->agent, 0), width = b->t->graph->width;
    uint32_t max = width ? width > own ? width - own : 0 : WANT_MAX;
    bool busy = b->waiting || b->from < b->in.bytes;
    if (b->state != CUTTING || !busy || !b->lacks_slots || !may_lend(b, 0, 0))
        return 0;
    return runs < max ? (uint32_t)runs : max;
}

static bool may_want(const struct blocks *b)
{
    bool more = !b->in.ended || b->waiting || b->from < b->in.bytes;
    return b->may_be_lent && (b->state == DEALING || (b->state == CUTTING && more));
}

/* More is asked for when it is twice as much, and none when no stage can come to want any. */
void lent_tell_want(struct attempt *t)
{
    uint32_t wants = 0;
    bool more = false;
    if (!agent_data(t->agent))
        return;
    for (uint32_t i = 0; i < t->blocks_count; i++) {
        const struct blocks *b = t->blocks[i];
        uint32_t one = stage_wants(b);
        wants += one < WANT_MAX - wants ? one : WANT_MAX - wants;
        more |= may_want(b);
    }
    if (more ? wants >= 2 * t->wanted && wants : t->wanted) {
        t->wanted = more ? wants : 0;
        struct msg m = {.type = MSG_WANT, .want = {t->job, t->number, t->wanted}};
        agent_send(t->agent, &m);
    }
    if (!more)
        borrows_dismiss(t);
}
