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

#define WANT_MAX 4096

static bool may_lend(const struct blocks *b, uint64_t size)
{
    return size <= LENT_INPUT_MAX && b->in.count && b->may_be_lent;
}

bool lent_slot(struct blocks *b, uint64_t size, enum where *where)
{
    uint32_t width = b->t->graph->width;
    *where = HERE;
    if (agent_begin_run(b->t->agent, b->running - b->resting, width))
        return true;
    *where = ELSEWHERE;
    b->lacks_slots = true;
    return (!width || b->running - b->resting + b->away - b->waiting < width) && may_lend(b, size) && borrow_has_room(b->t);
}

int lent_start(struct blocks *b, struct run *r, enum where where, struct err *e)
{
    if (where == ELSEWHERE) {
        b->away++;
        return borrow_run(b->t, r, e);
    }
    if (b->way->start(b, r, e) < 0) {
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
    if (!r || !lent_slot(b, r->to - r->from, &where))
        return 0;
    r->waiting = false;
    b->waiting--;
    b->away--;
    return lent_start(b, r, where, e) < 0 ? -1 : 1;
}

/* ---- two of the same */

static int look_at(int fd, uint8_t digest[16], uint64_t *size, struct err *e)
{
    struct running_digest *d = running_digest_new();
    int r = d ? blocks_size_of(fd, size, e) : err_nomem(e);
    if (r == 0)
        r = blocks_digest(d, fd, 0, *size, e);
    if (r == 0)
        running_digest_look(d, digest);
    running_digest_free(d);
    return r;
}

void lent_compare(struct blocks *b, uint64_t number, int fd, const uint8_t digest[16], uint64_t size)
{
    uint8_t is[16];
    uint64_t bytes;
    struct err e;
    if (b->state == ENDED || b->state == WHOLE)
        return;
    if (look_at(fd, is, &bytes, &e) < 0) {
        blocks_fail(b, &e);
    } else if (bytes != size || memcmp(is, digest, sizeof is) != 0) {
        err_set(&e, ERR_INPUT,
                "not deterministic: block %llu of `%.200s` was run twice, and wrote other bytes the second time",
                (unsigned long long)number + 1, blocks_node(b, 0)->label);
        blocks_fail(b, &e);
    }
}

void lent_ended(struct run *r, const char *lender, const struct msg_ran *ran, int fd)
{
    struct blocks *b = r->b;
    struct run *copy = r->copy;
    enum blocks_state state = b->state;
    struct err e;
    fd_close(&r->out);
    r->out = fd;
    r->worker = arena_string(&r->arena, lender);
    if (copy && look_at(fd, copy->digest, &copy->size, &e) < 0) {
        blocks_fail(b, &e);
        return;
    }
    if (copy)
        copy->of = r->copy = NULL;
    for (uint32_t i = 0; i < b->stage->count; i++) {
        const struct msg_ran *n = &ran[i];
        struct box_result one = {.end = (enum box_end)n->end, .status = (int)n->status, .signal = (int)n->signal,
                                 .limit = "", .text = "", .cpu_user_ns = n->cpu_user_ns,
                                 .cpu_sys_ns = n->cpu_sys_ns, .wall_ns = n->wall_ns,
                                 .memory_peak_bytes = n->memory_peak_bytes, .certified = n->certified,
                                 .uncertified_why = ""};
        r->result[i] = one;
        b->way->task_ended(r, i, &one);
        if (b->state != state)
            return; /* it is spoilt, and r gone */
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

void lent_copy_ended(struct run *copy)
{
    struct blocks *b = copy->b;
    struct run *r = copy->of, **at = &b->copies;
    struct err e;
    while (*at != copy)
        at = &(*at)->next;
    *at = copy->next;
    b->copying--;
    if (!r) {
        if (!copy->ended)
            lent_compare(b, copy->number, copy->out, copy->digest, copy->size);
        run_free(copy);
        return;
    }
    if (r->lent) {
        uint8_t digest[16];
        uint64_t size;
        if (look_at(copy->out, digest, &size, &e) < 0) {
            blocks_fail(b, &e);
            run_free(copy);
            return;
        }
        borrow_compare(r, digest, size);
    }
    fd_close(&r->out);
    r->out = copy->out;
    copy->out = -1;
    r->status = copy->status;
    r->copy = NULL;
    memcpy(r->result, copy->result, b->stage->count * sizeof *r->result);
    run_free(copy);
    b->away--;
    run_complete(r);
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
    uint64_t each = b->rule.split_bytes ? b->rule.split_bytes : 2 * (uint64_t)RUN_BYTES_MIN;
    uint64_t runs = (b->in.bytes - b->from + each - 1) / each + b->running + b->away;
    uint32_t own = agent_width(b->t->agent, 0), width = b->t->graph->width;
    uint32_t max = width ? width > own ? width - own : 0 : WANT_MAX;
    bool busy = b->waiting || b->from < b->in.bytes;
    if (b->state != CUTTING || !busy || !b->lacks_slots || !may_lend(b, 0))
        return 0;
    return runs < max ? (uint32_t)runs : max;
}

static bool may_want(const struct blocks *b)
{
    bool more = !b->in.ended || b->waiting || b->from < b->in.bytes;
    return b->state == CUTTING && more && b->may_be_lent;
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
