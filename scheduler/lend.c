/* Slots lent to a part of a job whose stages in blocks could use more than its own worker has.
 *
 * A stage in blocks has one owner, the worker of its part, which cuts, orders and combines.  Other workers do single runs
 * of blocks for it (worker/borrow.c, worker/lend.c).  So for the core a loan is nothing but slots of another worker, the
 * lender: the owner says how many it could use (WANT), and free slots are dealt out in turn to all parts that want some.
 * The core does not know which runs are done there.
 *
 * What must stay true: a lender's slots are taken from LEND until it says RETURNED or is lost; while
 * a job waits for a slot nothing is lent, and as many slots as jobs wait are on their way back. */
#include "scheduler/state.h"

#include <stdlib.h>
#include <string.h>

void lend_init(struct part *p)
{
    list_init(&p->loans);
    list_init(&p->wanting);
}

/* Put the part into the list of those that want more, or take it out. */
static void look(struct core *c, struct part *p)
{
    bool wants = p->worker && p->wants > p->lent && p->loan_count < PART_LOANS_MAX &&
                 p->loans_failed < LOAN_FAILURES_MAX && p->worker->data_url[0] &&
                 (p->job->state == JOB_SENT || p->job->state == JOB_RUNNING);
    if (wants == !list_empty(&p->wanting))
        return;
    if (wants) {
        list_add(&c->wanting, &p->wanting);
        c->wanting_count++;
        c->lend_again = true;
    } else {
        list_remove(&p->wanting);
        c->wanting_count--;
    }
}

void lend_want(struct core *c, struct part *p, uint32_t slots)
{
    p->wants = slots;
    look(c, p);
}

/* ---- over */

static void tell_recall(struct core *c, const struct peer_state *whom, const struct loan *l,
                        bool now, const char *why)
{
    struct msg m = {.type = MSG_RECALL, .recall = {l->job, l->attempt, l->number, now, why, false}};
    core_send(c, whom->link, &m);
}

static void tell_owner(struct core *c, const struct loan *l, bool returned)
{
    const char *why = returned ? "the lender gave it back" : "the lender was lost";
    struct msg m = {.type = MSG_RECALL, .recall = {l->job, l->attempt, l->number, true, why, returned}};
    core_send(c, l->owner->worker->link, &m);
}

/* The loan no longer counts as lent, though its slots have not come back yet. */
static void take_back(struct core *c, struct loan *l)
{
    if (!l->recalled) {
        l->recalled = true;
        c->coming += l->slots;
        list_remove(&l->lent);
        if (l->owner) {
            l->owner->lent -= l->slots;
            look(c, l->owner);
        }
    }
}

/* The loan is over on both sides. */
static void loan_free(struct core *c, struct loan *l, bool returned)
{
    struct part *p = l->owner;
    take_back(c, l);
    c->coming -= l->slots;
    if (p) {
        list_remove(&l->of_part);
        p->loan_count--;
        tell_owner(c, l, returned);
        look(c, p);
    }
    list_remove(&l->timed);
    list_remove(&l->at);
    table_remove(&c->loans, l->number);
    free(l);
}

void lend_part_over(struct core *c, struct part *p)
{
    lend_want(c, p, 0);
    while (!list_empty(&p->loans)) {
        struct loan *l = LIST_OF(p->loans.next, loan, of_part);
        take_back(c, l);
        list_remove(&l->of_part);
        p->loan_count--;
        l->owner = NULL;
        l->since_ns = c->event_ns;
        list_add(&c->returning, &l->timed);
        tell_recall(c, l->lender, l, true, "the job's part is over");
    }
}

void lend_lose_worker(struct core *c, struct peer_state *lender)
{
    while (!list_empty(&lender->loans))
        loan_free(c, LIST_OF(lender->loans.next, loan, at), false);
}

void lend_recall_all(struct core *c, struct peer_state *lender, const char *why)
{
    for (struct list *l = lender->loans.next; l != &lender->loans; l = l->next) {
        struct loan *loan = LIST_OF(l, loan, at);
        if (loan->recalled)
            continue;
        tell_recall(c, lender, loan, false, why);
        take_back(c, loan);
    }
}

bool lend_returned(struct core *c, struct peer_state *lender, const struct msg_returned *m)
{
    struct loan *l = table_get(&c->loans, m->loan);
    if (!l || l->lender != lender || l->job != m->job || l->attempt != m->attempt)
        return false;
    if (l->owner && m->failed)
        l->owner->loans_failed++;
    fleet_release(c, lender, l->slots, l->memory_bytes);
    loan_free(c, l, true);
    return true;
}

void lend_overdue(struct core *c, uint64_t now)
{
    while (!list_empty(&c->returning)) {
        struct loan *l = LIST_OF(c->returning.next, loan, timed);
        if (now < l->since_ns + STOP_NS)
            return;
        core_evict(c, now, l->lender, "it did not end a run that it was told to stop");
    }
}

uint64_t lend_deadline(const struct core *c)
{
    return list_empty(&c->returning)
               ? UINT64_MAX
               : LIST_OF(c->returning.next, loan, timed)->since_ns + STOP_NS;
}

/* ---- new ones */

/* Make the LEND or LENT message, with what it borrows in the action's arena. */
static struct action *new_action(struct core *c, const struct peer_state *whom,
                                 const struct loan *l, const uint8_t *token,
                                 const struct peer_state *other, bool to_lender)
{
    struct action *a = action_new(c, whom->link, NULL);
    if (!a)
        return NULL;
    const uint8_t *key = to_lender ? other->data_key : other->key;
    bool has_key = to_lender ? other->has_data_key : other->has_key;
    struct slice t = {arena_bytes(&a->arena, token, MSG_TOKEN_BYTES), MSG_TOKEN_BYTES};
    struct slice k = {arena_bytes(&a->arena, key, MSG_KEY_BYTES), has_key ? MSG_KEY_BYTES : 0};
    const char *text = arena_string(&a->arena, to_lender ? other->data_url : other->name);
    if (!t.data || !k.data || !text) {
        action_forget(c, a);
        return NULL;
    }
    a->out.msg = to_lender
                     ? (struct msg){.type = MSG_LEND,
                                    .lend = {l->job, l->attempt, l->number, t, l->slots, text, k}}
                     : (struct msg){.type = MSG_LENT,
                                    .lent = {l->job, l->attempt, l->number, t, l->slots, text, k}};
    if (to_lender)
        a->bulk = bytes_share(l->owner->job->bytes);
    return a;
}

/* Tell both sides or neither. */
static bool tell_both(struct core *c, const struct loan *l)
{
    uint64_t token[MSG_TOKEN_BYTES / sizeof(uint64_t)] = {core_random(c), core_random(c)};
    const struct peer_state *owner = l->owner->worker;
    struct action *lend = new_action(c, l->lender, l, (const uint8_t *)token, owner, true);
    struct action *lent = new_action(c, owner, l, (const uint8_t *)token, l->lender, false);
    if (lend && lent) {
        action_queue(c, lent);
        action_queue(c, lend);
        return true;
    }
    if (lend)
        action_forget(c, lend);
    if (lent)
        action_forget(c, lent);
    return false;
}

/* Make a loan.  false: no memory, and nothing was lent. */
static bool lend(struct core *c, struct part *p, struct peer_state *lender, uint32_t slots)
{
    struct loan *l = calloc(1, sizeof *l);
    if (!l)
        return false;
    *l = (struct loan){.number = ++c->loan_numbers,
                       .job = p->job->number,
                       .attempt = p->attempt,
                       .owner = p,
                       .lender = lender,
                       .slots = slots,
                       .memory_bytes = slots * p->run_bytes};
    list_init(&l->timed);
    if (table_get(&c->loans, l->number) || !table_put(&c->loans, l->number, l) || !tell_both(c, l)) {
        if (table_get(&c->loans, l->number) == l)
            table_remove(&c->loans, l->number);
        free(l);
        return false;
    }
    list_add(&c->lent, &l->lent);
    list_add(&lender->loans, &l->at);
    list_add(&p->loans, &l->of_part);
    p->loan_count++;
    p->lent += slots;
    fleet_take(c, lender, slots, l->memory_bytes);
    look(c, p);
    return true;
}

/* Deal out free slots in turn to all parts that want some. */
static void hand_out(struct core *c)
{
    bool again = true;
    struct list *next;
    while (again) {
        again = false;
        for (struct list *l = c->wanting.next; l != &c->wanting; l = next) {
            if (!fleet_has_free(c))
                return; /* otherwise many parts that want slots would all be looked at, at each event */
            struct part *p = LIST_OF(l, part, wanting);
            struct peer_state *lender = fleet_lender(c, p->worker, p->run_bytes);
            uint32_t slots = lender ? fleet_free_slots(lender) / c->wanting_count : 0;
            next = l->next;
            if (!lender)
                continue;
            slots = slots < p->wants - p->lent ? slots : p->wants - p->lent;
            if (!lend(c, p, lender, memory_runs(lender, p->run_bytes, slots ? slots : 1)))
                return;
            again = true;
        }
    }
}

/* How many jobs wait for a slot of the fleet, not for the worker in their client's process. */
static uint64_t count_waiting(const struct core *c)
{
    uint64_t count = 0;
    if (!c->homes_at_work)
        return c->stats.waiting;
    for (const struct list *l = c->turns.next; l != &c->turns; l = l->next) {
        const struct peer_state *client = LIST_OF(l, peer_state, turn);
        count += place_local(client) ? 0 : client->queued;
    }
    return count;
}

/* A job waits for memory: recall all loans that hold some. */
static void recall_memory(struct core *c)
{
    for (struct list *l = c->lent.next, *next; l != &c->lent; l = next) {
        struct loan *loan = LIST_OF(l, loan, lent);
        next = l->next;
        if (!loan->memory_bytes)
            continue;
        tell_recall(c, loan->lender, loan, false, "another job waits for memory");
        take_back(c, loan);
    }
}

/* Recall or make loans as needed.  The newest loans are recalled first, as older ones are closer to being of use. */
void lend_step(struct core *c)
{
    if (!c->lend_again)
        return;
    c->lend_again = false;
    uint64_t waiting = count_waiting(c);
    while (c->coming < waiting && !list_empty(&c->lent)) {
        struct loan *l = LIST_OF(c->lent.prev, loan, lent);
        tell_recall(c, l->lender, l, false, "another job waits for a slot");
        take_back(c, l);
    }
    if (waiting && c->needy)
        recall_memory(c);
    if (!waiting)
        hand_out(c);
}
