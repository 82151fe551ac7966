/* Decides where a run (of blocks, or a merge of a range of keys) is done: in a slot of this worker or, if there is one, in
 * a slot that another worker lends us (borrow.c).  Wherever its runs are done, the stage is cut, ordered and combined here.
 *
 * A run that a lender did not do waits, and is given out again before anything new is cut.  A run that takes long is
 * started a second time (blocks_twice.c). */
#include "worker/blocks_inside.h"

#include <string.h>

#define WANT_MAX   4096
#define TASK_BYTES (64u << 10) /* the least size of a block, where nothing else says it */

uint64_t lent_bytes(const struct blocks *b, uint64_t from, uint64_t to)
{
    if (b->may_be_lent && run_is_file(b) && from < b->in.bytes)
        return b->t->graph->file[inlet_file(&b->in, from)].size_bytes;
    return to - from;
}

bool lent_may(const struct blocks *b, uint64_t bytes)
{
    return bytes <= LENT_INPUT_MAX && b->in.count && b->may_be_lent;
}

static const struct attempt_route *file_route(const struct run *r)
{
    return attempt_route_of(r->b->t, MSG_FILE, r->file, r->b->node[0]);
}

uint32_t lent_input(const struct run *r, struct box_source *out)
{
    const struct blocks *b = r->b;
    if (r->merge.count) {
        memcpy(out, r->source, r->source_count * sizeof *out);
        return r->source_count;
    }
    if (!run_is_file(b))
        return 0;
    *out = (struct box_source){.fd = b->intake.spool, .size = b->t->graph->file[r->file].size_bytes};
    if (b->file_at)
        out->offset = b->file_at[r->from];
    else
        out->fd = r->in >= 0 ? r->in : file_route(r)->spool;
    return 1;
}

int lent_places(const struct run *r, struct msg_place *out, uint32_t max)
{
    const struct blocks *b = r->b;
    if (r->merge.count || b->file_at)
        return -1;
    if (!run_is_file(b))
        return inlet_places(&b->in, r->from, r->to, out, max);
    *out = (struct msg_place){.file = r->file, .bytes = b->t->graph->file[r->file].size_bytes};
    return r->in >= 0 || file_route(r)->in_place ? 1 : -1;
}

bool lent_width(const struct blocks *b)
{
    uint32_t width = b->t->graph->width;
    return !width || queue_slots(b) + b->away - b->waiting < width;
}

bool lent_slot(struct blocks *b, uint64_t bytes, bool stays, enum where *where)
{
    *where = HERE;
    if (careful_slot(b))
        return true;
    if (stays)
        return false;
    *where = ELSEWHERE;
    b->lacks_slots = true;
    return lent_width(b) && lent_may(b, bytes) && borrow_has_room(b->t);
}

int lent_start(struct blocks *b, struct run *r, enum where where, struct err *e)
{
    bool ready = !b->way->prepare || r->task || b->way->prepare(r, e) == 0;
    r->began_ns = loop_clock_ns();
    if (where == ELSEWHERE) {
        if (ready && blocks_per_file(b) && !b->file_at && r->in < 0) /* a file read in place, which the lender may not have */
            ready = (r->in = region_open_file(b->t, &b->t->graph->file[r->file], e)) >= 0;
        b->away++;
        return ready ? borrow_run(b->t, r, e) : -1;
    }
    b->running++;
    if (where == BEHIND)
        queue_add(r);
    else
        queue_open(r);
    careful_begin(r);
    r->watch.brief = queue_is_brief(b);
    if (ready && b->way->start(b, r, e) == 0)
        return 0;
    b->running--;
    queue_leave(r);
    return -1;
}

/* ---- runs that come back */

void lent_back(struct run *r, const char *lender, const struct err *why)
{
    struct blocks *b = r->b;
    struct err e;
    if (r->is_copy && !r->is_audit) {
        b->away--;
        copy_lost(r, lender, why);
        return;
    }
    r->tries += why != NULL;
    if (r->copy && !r->copy->is_audit)
        return; /* its copy goes on */
    if (why && r->tries >= RUN_TRIES_MAX) {
        err_set(&e, ERR_GONE, "block %llu of `%.200s` was lost %d times with the worker that ran it, at last with '%s': %.200s",
                (unsigned long long)r->number + 1, blocks_node(b, 0)->label, RUN_TRIES_MAX, lender, why->text);
        if (b->way->gave_up && !r->is_copy && b->way->gave_up(r, &e))
            return;
        blocks_alone(r, &e);
        attempt_fail_for_good(b->t, &e);
        return;
    }
    r->waiting = true;
    if (r->is_copy)
        b->away--;
    else
        b->waiting++;
    agent_step_soon(b->t->agent);
}

/* Start a run that came back.  1: one is under way again. */
int lent_again(struct blocks *b, struct err *e)
{
    struct run *r = b->run;
    enum where where;
    while (r && !r->waiting)
        r = r->next;
    if (!r || !lent_slot(b, run_bytes_in(r), r->stays, &where))
        return 0;
    r->waiting = false;
    b->waiting--;
    b->away--;
    return lent_start(b, r, where, e) < 0 ? -1 : 1;
}

/* ---- what a lender did */

void lent_ended(struct run *r, const char *lender, const struct msg_ran *ran, int *fd)
{
    struct blocks *b = r->b;
    enum blocks_state state = b->state;
    for (uint32_t i = 0; i < run_outputs(b); i++) {
        fd_close(run_output(r, i));
        *run_output(r, i) = fd[i];
        fd[i] = -1;
    }
    r->worker = arena_string(&r->arena, lender);
    for (uint32_t i = 0; i < run_program_count(r); i++) {
        const struct msg_ran *n = &ran[i];
        struct box_result one = {.end = (enum box_end)n->end, .status = (int)n->status, .signal = (int)n->signal,
                                 .limit = n->limit, .text = n->text, .cpu_user_ns = n->cpu_user_ns,
                                 .cpu_sys_ns = n->cpu_sys_ns, .wall_ns = n->wall_ns,
                                 .memory_peak_bytes = n->memory_peak_bytes, .certified = n->certified,
                                 .uncertified_why = "", .cold_why = n->cold};
        run_note(r, i, &one);
        b->way->task_ended(r, i, &one);
        if (b->state != state)
            return; /* the stage is spoilt, and r was freed */
        if (b->way->dropped && n->dropped[0])
            *b->way->dropped(r, i) = n->dropped;
    }
    b->away--;
    if (r->is_copy)
        copy_ended(r);
    else
        run_complete(r);
    attempt_settle(b->t);
}

/* ---- how many slots would be of use */

static uint32_t stage_wants(const struct blocks *b)
{
    uint64_t each = run_is_file(b) ? 1 : b->rule.block_bytes ? b->rule.block_bytes : b->rule.split_bytes;
    each = each ? each : b->way->joins ? 2 * (uint64_t)RUN_BYTES_MIN : TASK_BYTES;
    uint64_t left = b->keys ? keys_left(b) : (b->in.bytes - b->from + each - 1) / each;
    uint64_t runs = left + b->running + b->away + b->audits;
    uint32_t own = agent_width(b->t->agent, 0), width = b->t->graph->width;
    uint32_t max = width ? width > own ? width - own : 0 : WANT_MAX;
    uint32_t late = twice_late(b);
    if (late)
        return lent_width(b) ? late + b->away + borrow_stuck_slots(b->t) : 0;
    bool busy = b->waiting || b->audits || left;
    if ((b->state != CUTTING && !b->keys) || !busy || !(b->lacks_slots || b->audits) || !lent_may(b, 0))
        return 0;
    return runs < max ? (uint32_t)runs : max;
}

static bool may_want(const struct blocks *b)
{
    bool more = !b->in.ended || b->waiting || b->audits || b->from < b->in.bytes || keys_come(b);
    return b->may_be_lent && (b->state == DEALING || (b->state == CUTTING && more) || b->waiting || keys_left(b) || twice_late(b));
}

/* Tell the scheduler how many slots of other workers would be of use.  A larger number is told only if it is twice the last
 * one, and none once no stage can come to want any. */
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
        attempt_say(t, &m);
    }
    if (!more)
        borrows_dismiss(t);
}
