/* Runs that are done twice.  Everything that they wrote is compared, and how the last program ended.
 *
 * When nothing is left to cut, or all others wait for the oldest run, a copy of a lent run is started here if a slot is
 * free: first of the newest, which the lender has most likely not begun.  A run here has been begun for sure, so it is
 * copied only when it is late, or has taken a minute where none has ended; another worker's slot is asked for then, and
 * does the copy.  The copy that ends first counts, and if the other one ends, too, they must be equal.  The last one goes on
 * for that alone: it ends with the stage, or when its slot is wanted.
 *
 * A copy may be late itself: then the next one takes its place, which has twice the time, and so on, elsewhere if somebody
 * else has a slot, and otherwise here.  So a stage cannot stand still while any place is left that does its runs, and a
 * run that just takes long has few copies in vain.  Originals are not killed: the one begun first may be the first to end.
 *
 * An audit is a copy that the user asked for (--audit).  Which runs have one follows from job, stage and number alone.  It
 * is made on another worker than its original, if there is one; it stops waiting for that when nothing else is left to do.
 * An audit serves only the comparison, and the stage waits for it. */
#include "base/log.h"
#include "worker/blocks_inside.h"

#include <stdio.h>
#include <string.h>

#define LATE_NS    1000000000u /* a run that takes less is never late: to send its input elsewhere takes time, too */
#define FIRST_NS   60000000000u /* where no run has ended, and nobody knows how long one takes */
#define COPIES_MAX 16          /* of one run, one after another: the last one has some 10,000 times the usual time */
#define HERE_AFTER 1           /* a run here has a copy here only after so many more doublings, */
#define OVER_AFTER 2           /* and after so many even if no slot is free */

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
    r->copied++;
    log_info("run_again", "job=%llu run=%llu where=%s", (unsigned long long)b->t->job, (unsigned long long)r->number,
             where == HERE ? "here" : "elsewhere");
    return lent_start(b, copy, where, e);
}

static bool takes_long(const struct blocks *b, uint64_t since_ns, uint32_t doublings)
{
    uint64_t usual = b->noted ? b->task_ns + b->task_ns / 2 : FIRST_NS;
    return loop_clock_ns() - since_ns > (usual > LATE_NS ? usual : LATE_NS) << doublings;
}

/* Does the run, or its copy if it has one, take longer than others do?  Each copy has twice the time of the one before. */
static bool is_late(const struct run *r, uint32_t doublings)
{
    return takes_long(r->b, r->copy ? r->copy->began_ns : r->began_ns, r->copied + doublings);
}

/* May the run have a copy, or another one? */
static bool may_copy(const struct run *r)
{
    return !r->ended && !r->rests && !r->waiting && !(r->copy && r->copy->is_audit) && r->copied < COPIES_MAX &&
           lent_may(r->b, run_bytes_in(r)) && ((r->lent && !r->copy) || is_late(r, 0));
}

static bool may_leave(const struct run *r)
{
    return !r->stays && r->tries < RUN_TRIES_MAX && is_late(r, 0);
}

/* Is nothing cut now?  all: nothing is left, or what came back waits for a slot here, before anything new is cut; otherwise all
 * others wait for the oldest run. */
static bool is_idle(const struct blocks *b, bool *all)
{
    bool some = b->keys ? keys_left(b) : b->from < b->in.bytes;
    *all = b->waiting || (!some && (b->keys || b->in.ended));
    return b->state == (b->keys ? COMBINING : CUTTING) && (*all || (some && !blocks_room_for_more(b)));
}

/* Find a place for another copy of the late run; if it is HERE, a slot was taken.  false: there is none yet. */
static bool find_place(struct blocks *b, const struct run *r, enum where *where)
{
    *where = ELSEWHERE;
    if (may_leave(r) && borrow_is_idle(b->t) && lent_width(b))
        return true;
    *where = HERE;
    if (r->lent)
        return r->copy && !r->copy->watch.id && careful_slot(b);
    /* Otherwise nobody but us is there, or nothing says that another one beside it would end sooner. */
    bool others = b->noted && (r->copied || r->stays || r->tries || borrowed_slots(b->t));
    return others && is_late(r, HERE_AFTER) &&
           (careful_slot(b) || (is_late(r, OVER_AFTER) && agent_begin_run(b->t->agent, queue_slots(b), UINT32_MAX, b->run_memory)));
}

/* Another copy takes its place. */
static void give_up(struct run *copy)
{
    if (copy->watch.id) {
        stop(copy);
        return;
    }
    borrow_give_up(copy);
    copy->b->away--;
    copy_free(copy);
}

/* An audit that a lender keeps for too long is made by somebody else: the stage waits for it. */
static void audits_hasten(struct blocks *b)
{
    for (struct run *copy = b->copies; copy; copy = copy->next)
        if (copy->is_audit && copy->lent && copy->copied < COPIES_MAX && takes_long(b, copy->began_ns, copy->copied + HERE_AFTER)) {
            copy->copied++;
            borrow_give_up(copy);
            lent_back(copy, "", NULL);
        }
}

uint32_t twice_late(const struct blocks *b)
{
    uint32_t count = 0;
    bool all;
    if (!agent_data(b->t->agent) || b->t->elsewhere || !is_idle(b, &all))
        return 0;
    for (const struct run *r = b->run; r && (all || r == b->run); r = r->next)
        count += may_copy(r) && may_leave(r);
    return count;
}

/* Copy the first late run for which there is a place.  1: one was copied; 0: none; -1: e. */
static int copy_late(struct blocks *b, bool all, struct err *e)
{
    enum where where;
    for (struct run *r = b->run; r && (all || r == b->run); r = r->next) {
        if (!may_copy(r) || !is_late(r, 0))
            continue;
        bool found = find_place(b, r, &where);
        if (r->copy && (found || (r->lent && r->copy->watch.id))) /* a lent run's copy here: another one gets its slot */
            give_up(r->copy);
        if (found)
            return hasten_one(b, r, where, e) < 0 ? -1 : 1;
    }
    return 0;
}

/* The newest run that a lender has and that has no copy. */
static struct run *newest_lent(const struct blocks *b, bool all)
{
    struct run *one = NULL;
    for (struct run *r = b->run; r && (all || r == b->run); r = r->next)
        if (r->lent && !r->copy && may_copy(r))
            one = r;
    return one;
}

int twice_hasten(struct blocks *b, struct err *e)
{
    struct run *r;
    bool all;
    int copied = 1;
    audits_hasten(b);
    if (!agent_data(b->t->agent) || !is_idle(b, &all))
        return 0;
    while ((r = newest_lent(b, all)) && careful_slot(b))
        if (hasten_one(b, r, HERE, e) < 0)
            return -1;
    while (copied > 0)
        copied = copy_late(b, all, e);
    return copied;
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
    copy->stays |= r->lent != NULL;
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
