/* Runs that are done twice.  Everything that they wrote is compared, and how the last program ended.
 *
 * When nothing is left to cut, or all others wait for the oldest run, a copy of a lent run is started here if a slot is
 * free: first of the newest, which the lender has most likely not begun.  A run here has been begun for sure, so it is
 * copied only when it is late; another worker's slot is asked for then, and does the copy.  The copy that ends first counts,
 * and if the other one ends, too, they must be equal.  The last one goes on for that alone: it ends with the stage, or when
 * its slot is wanted.
 *
 * An audit is a copy that the user asked for (--audit).  Which runs have one follows from job, stage and number alone.  It
 * is made on another worker than its original, if there is one; it stops waiting for that when nothing else is left to do.
 * An audit serves only the comparison, and the stage waits for it. */
#include "base/log.h"
#include "worker/blocks_inside.h"

#include <stdio.h>
#include <string.h>

#define LATE_NS 1000000000u /* a run that takes less is never late: to send its input elsewhere takes time, too */

/* ---- what a run came to */

static int look_at(const int *fd, uint32_t count, const uint32_t end[3], const char *worker, struct outcome *out,
                   struct err *e)
{
    struct running_digest *d = running_digest_new();
    int r = d ? 0 : err_nomem(e);
    *out = (struct outcome){.is = true};
    snprintf(out->worker, sizeof out->worker, "%s", worker);
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        uint64_t bytes = 0; /* an output that was not opened is empty: a worker that keeps outputs in memory opens no file for an empty one */
        r = fd[i] < 0 ? 0 : blocks_size_of(fd[i], &bytes, e);
        if (r == 0)
            running_digest_add(d, &bytes, sizeof bytes);
        if (r == 0 && fd[i] >= 0)
            r = blocks_digest(d, fd[i], 0, bytes, e);
    }
    if (r == 0) {
        running_digest_add(d, end, 3 * sizeof *end);
        running_digest_look(d, out->digest);
    }
    running_digest_free(d);
    return r;
}

static int look_at_run(struct run *r, struct outcome *out, struct err *e)
{
    const struct blocks *b = r->b;
    const struct box_result *last = run_result(r, run_program_count(r) - 1);
    uint32_t count = run_outputs(b), end[3] = {last->end, (uint32_t)last->status & 255, (uint32_t)last->signal & 127};
    int *fd = arena_array(&r->arena, count, sizeof *fd);
    for (uint32_t i = 0; fd && i < count; i++)
        fd[i] = *run_output(r, i);
    const char *worker = r->worker ? r->worker : agent_name(b->t->agent);
    return fd ? look_at(fd, count, end, worker, out, e) : err_nomem(e);
}

static void print(const struct outcome *o, char text[33])
{
    for (size_t i = 0; i < sizeof o->digest; i++)
        snprintf(text + 2 * i, 3, "%02x", o->digest[i]);
}

static int compare(const struct blocks *b, uint64_t number, const struct outcome *one, const struct outcome *other,
                   struct err *e)
{
    char first[33], second[33];
    if (b->state == ENDED || b->state == WHOLE || memcmp(one->digest, other->digest, sizeof one->digest) == 0)
        return 0;
    print(one, first);
    print(other, second);
    return err_set(e, ERR_INPUT,
                   "not deterministic: %s %llu of `%.200s` was run twice and came out differently: digest %s on '%s', "
                   "%s on '%s'",
                   b->deal ? "partition" : "block", (unsigned long long)number + 1, blocks_node(b, 0)->label, first,
                   one->worker, second, other->worker);
}

void twice_compare(struct blocks *b, uint64_t number, const int *fd, const struct msg_ran *last, const char *lender,
                   const struct outcome *with)
{
    const uint32_t end[3] = {last->end, last->status, last->signal};
    struct outcome is;
    struct err e;
    if (look_at(fd, run_outputs(b), end, lender, &is, &e) < 0 || compare(b, number, with, &is, &e) < 0)
        blocks_fail(b, &e);
}

/* ---- copies */

static void copy_add(struct run *copy)
{
    struct blocks *b = copy->b;
    copy->is_copy = true;
    copy->next = b->copies;
    b->copies = copy;
}

static struct run *copy_new(struct run *r, struct err *e)
{
    struct run *copy = run_like(r, e);
    if (!copy)
        return NULL;
    copy->of = r;
    r->copy = copy;
    copy_add(copy);
    return copy;
}

static void unlink_copy(struct blocks *b, struct run *copy)
{
    struct run **at = &b->copies;
    while (*at != copy)
        at = &(*at)->next;
    *at = copy->next;
    if (copy->of)
        copy->of->copy = NULL;
    if (copy->is_audit)
        b->audits--;
    else
        b->copying--;
}

static void copy_free(struct run *copy)
{
    unlink_copy(copy->b, copy);
    run_free(copy);
}

/* Kill a copy that runs here. */
static void stop(struct run *copy)
{
    if (copy->of)
        copy->of->copy = NULL;
    copy->of = NULL;
    copy->ended = true;
    agent_stop_region(copy->b->t->agent, &copy->watch);
}

void copies_yield(struct blocks *b)
{
    for (struct run *copy = b->copies; copy; copy = copy->next)
        if (copy->watch.id && !copy->of && !copy->is_audit && !copy->ended)
            stop(copy);
}

void copies_drop(struct blocks *b)
{
    struct run *next;
    for (struct run *copy = b->copies; copy; copy = next) {
        next = copy->next;
        if (copy->watch.id)
            stop(copy);
        else /* it waits for a slot, or a lender had it */
            copy_free(copy);
    }
}

/* The copy takes the original's place in the list of runs.  An original that runs here goes on as the copy. */
static void take_place(struct run *copy, struct run *r, const struct outcome *is)
{
    struct blocks *b = copy->b;
    run_replace(r, copy);
    copy->of = NULL;
    copy->is_copy = false;
    copy->seen = r->seen;
    if (r->watch.id) {
        r->seen = *is;
        copy_add(r);
        b->copying++;
        return;
    }
    b->away--;
    if (r->lent)
        borrow_compare(r, is);
    run_free(r);
}

int twice_ended(struct run *r, struct err *e)
{
    struct run *copy = r->copy;
    struct outcome is;
    if (!copy && !r->seen.is)
        return 0;
    if (look_at_run(r, &is, e) < 0)
        return -1;
    if (copy) {
        copy->seen = is;
        copy->of = r->copy = NULL;
    }
    if (copy && copy->lent && !copy->is_audit) {
        borrow_compare(copy, &is);
        copy_free(copy);
        r->b->away--;
    }
    if (!r->seen.is)
        return 0;
    r->b->compared++;
    return compare(r->b, r->number, &is, &r->seen, e);
}

void copy_ended(struct run *copy)
{
    struct blocks *b = copy->b;
    struct run *r = copy->of;
    bool dropped = copy->ended;
    struct outcome is;
    struct err e;
    if (copy->lost) {
        err_set(&e, ERR_IO, "%s", copy->lost);
        copy_lost(copy, agent_name(b->t->agent), &e);
        blocks_step(b);
        return;
    }
    unlink_copy(b, copy);
    b->compared += !dropped && !r && copy->is_audit;
    if (!dropped && (look_at_run(copy, &is, &e) < 0 || (!r && compare(b, copy->number, &copy->seen, &is, &e) < 0))) {
        blocks_fail(b, &e);
        r = NULL;
    } else if (r && copy->is_audit) {
        r->seen = is;
        r = NULL;
    }
    if (!r) {
        run_free(copy);
        blocks_step(b);
        return;
    }
    take_place(copy, r, &is);
    run_complete(copy);
}

void copy_lost(struct run *copy, const char *worker, const struct err *why)
{
    struct run *r = copy->of;
    if (r)
        r->stays |= copy->stays;
    copy_free(copy);
    if (r && !r->watch.id && !r->lent)
        lent_back(r, worker, why); /* it was lost before */
    else if (r)
        r->tries += why != NULL;
}

static int hasten_one(struct blocks *b, struct run *r, enum where where, struct err *e)
{
    struct run *copy = copy_new(r, e);
    if (!copy) {
        if (where == HERE)
            agent_end_run(b->t->agent, b->run_memory);
        return -1;
    }
    b->copying++;
    log_info("run_again", "job=%llu run=%llu where=%s", (unsigned long long)b->t->job, (unsigned long long)r->number,
             where == HERE ? "here" : "elsewhere");
    return lent_start(b, copy, where, e);
}

/* A run here that takes longer than others do. */
static bool is_late(const struct run *r)
{
    const struct blocks *b = r->b;
    uint64_t usual = b->task_ns + b->task_ns / 2;
    return r->watch.id && !r->rests && !r->stays && r->tries < RUN_TRIES_MAX && b->noted && lent_may(b, run_bytes_in(r)) &&
           loop_clock_ns() - r->began_ns > (usual > LATE_NS ? usual : LATE_NS);
}

/* May the run be copied to where copies of it are made? */
static bool may_copy(const struct run *r, enum where where)
{
    return !r->ended && !r->copy && (where == HERE ? r->lent != NULL : is_late(r));
}

/* Is nothing cut now?  all: nothing is left, or what came back waits for a slot here, before anything new is cut; otherwise all
 * others wait for the oldest run. */
static bool is_idle(const struct blocks *b, bool *all)
{
    bool some = b->keys ? keys_left(b) : b->from < b->in.bytes;
    *all = b->waiting || (!some && (b->keys || b->in.ended));
    return b->state == (b->keys ? COMBINING : CUTTING) && (*all || (some && !blocks_room_for_more(b)));
}

/* The run to be copied next, and how many there are to choose from; NULL: none. */
static struct run *next_copy(const struct blocks *b, enum where where, uint32_t *count)
{
    struct run *one = NULL;
    bool all;
    *count = 0;
    if (!is_idle(b, &all))
        return NULL;
    for (struct run *r = b->run; r && (all || r == b->run); r = r->next)
        if (may_copy(r, where)) {
            one = r;
            ++*count;
        }
    return one;
}

uint32_t twice_late(const struct blocks *b)
{
    uint32_t count = 0;
    if (agent_data(b->t->agent) && b->running > b->resting && !b->t->elsewhere)
        next_copy(b, ELSEWHERE, &count);
    return count;
}

int twice_hasten(struct blocks *b, struct err *e)
{
    uint32_t count;
    struct run *r;
    while ((r = next_copy(b, HERE, &count)) && careful_slot(b))
        if (hasten_one(b, r, HERE, e) < 0)
            return -1;
    while (borrow_is_idle(b->t) && (r = next_copy(b, ELSEWHERE, &count)) && lent_width(b))
        if (hasten_one(b, r, ELSEWHERE, e) < 0)
            return -1;
    return 0;
}

/* ---- audits */

static bool is_chosen(const struct run *r)
{
    const struct blocks *b = r->b;
    const uint64_t name[] = {b->t->job, (uint64_t)(b->stage - b->t->stages.stage), r->number};
    struct running_digest *d = running_digest_new();
    uint64_t hash[2] = {UINT64_MAX, 0};
    if (d) {
        running_digest_add(d, name, sizeof name);
        running_digest_look(d, (uint8_t *)hash);
    }
    running_digest_free(d);
    return hash[0] % GRAPH_AUDIT_ALL < b->t->graph->audit;
}

int audit_begin(struct run *r, struct err *e)
{
    struct blocks *b = r->b;
    if (!b->t->graph->audit || !is_chosen(r))
        return 0;
    struct run *copy = copy_new(r, e);
    if (!copy)
        return -1;
    copy->is_audit = copy->waiting = true;
    copy->stays = r->lent;
    b->audits++;
    return 0;
}

/* Find a slot for the audit.  false: there is none yet. */
static bool audit_slot(struct blocks *b, const struct run *copy, enum where *where)
{
    struct attempt *t = b->t;
    bool idle = b->in.ended && b->from == b->in.bytes && !b->waiting;
    bool lenders = agent_data(t->agent) && lent_may(b, run_bytes_in(copy));
    bool others = lenders && (borrowed_slots(t) || (!idle && b->audits < AUDITS_MAX));
    *where = others && !copy->stays ? ELSEWHERE : HERE;
    if (*where == ELSEWHERE)
        return borrow_has_room(t);
    return careful_slot(b);
}

int audits_start(struct blocks *b, struct err *e)
{
    for (struct run *copy = b->copies; copy; copy = copy->next) {
        enum where where;
        if (!copy->waiting || !audit_slot(b, copy, &where))
            continue;
        copy->waiting = false;
        if (lent_start(b, copy, where, e) < 0)
            return -1;
    }
    return 0;
}
