/* See check.h.  Walks everything, so it is for small worlds. */
#include "tests/sim/check.h"

#include <string.h>

#define MUST(holds, text)                                                                          \
    do {                                                                                           \
        if (!(holds))                                                                              \
            return text;                                                                           \
    } while (0)

static size_t length(const struct list *head)
{
    size_t count = 0;
    for (const struct list *l = head->next; l != head; l = l->next)
        count++;
    return count;
}

static const char *check_part(const struct part *p)
{
    uint32_t lent = 0, count = 0;
    for (const struct list *l = p->loans.next; l != &p->loans; l = l->next, count++) {
        const struct loan *loan = LIST_OF(l, loan, of_part);
        MUST(loan->owner == p && p->worker, "slots are lent to nobody");
        MUST(loan->lender != p->worker, "a worker lends to itself");
        lent += loan->recalled ? 0 : loan->slots;
    }
    MUST(count == p->loan_count && lent == p->lent, "a part's loans are counted wrongly");
    MUST(list_empty(&p->wanting) || p->wants > p->lent, "a part wants what it has");
    return NULL;
}

/* A stage that runs has a place, and no reader is newer than its writer. */
static const char *check_places(const struct job *j)
{
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        MUST(!graph_is_stage(&j->graph->node[i]) || j->node[i].part < j->part_count, "a stage is nowhere");
    for (uint32_t i = 0; i < j->graph->edge_count; i++) {
        uint32_t from = j->node[j->graph->edge[i].from].part, to = j->node[j->graph->edge[i].to].part;
        if (from == AT_CLIENT || to == AT_CLIENT)
            continue;
        const struct part *writer = &j->part[from], *reader = &j->part[to];
        MUST(writer->attempt >= reader->attempt, "a stage reads again what was written once");
    }
    return NULL;
}

static const char *check_job(const struct core *c, const struct job *j)
{
    uint32_t left = 0, again = 0;
    for (uint32_t i = 0; i < j->part_count; i++) {
        const struct part *p = &j->part[i];
        const char *wrong = check_part(p);
        if (wrong)
            return wrong;
        left += p->worker != NULL;
        again += p->worker && p->again;
        MUST(!p->again || j->state == JOB_AGAIN || j->state == JOB_STOPPING, "a part shall run again and does not");
        MUST(p->job == j, "a part belongs to another job");
        MUST(!p->worker || p->slots > 0, "a part holds no slot");
        uint64_t run_bytes;
        MUST(!p->worker || p->memory_bytes == memory_of_part(j, i, &run_bytes), "a part holds other memory than it needs");
        MUST(!p->worker || j->local || (j->bound && !strcmp(p->worker->image, j->image) && !strcmp(p->worker->domain, j->domain)),
             "a job runs on two images");
        MUST(!p->worker || table_get(&c->peers, p->worker->link) == p->worker,
             "a part is at a worker that is gone");
    }
    MUST(j->state != JOB_OVER, "a job that is over was kept");
    MUST(left == j->parts_left, "parts are counted wrongly");
    MUST(again == j->again_left, "parts that shall run again are counted wrongly");
    MUST(j->state != JOB_AGAIN || again, "a job waits for parts that have stopped");
    MUST((j->state == JOB_QUEUED || j->state == JOB_CLAIMED) == (left == 0), "a job is nowhere and does not wait");
    if (j->state == JOB_SENT || j->state == JOB_RUNNING) {
        const char *wrong = check_places(j);
        if (wrong)
            return wrong;
    }
    MUST((j->state != JOB_QUEUED && j->state != JOB_CLAIMED) || j->client, "a job waits for a client that is gone");
    MUST(j->state != JOB_STOPPING || j->failed, "a job is stopped for no reason");
    MUST(j->client || j->state == JOB_STOPPING, "a job without a client goes on");
    MUST(table_get(&c->jobs_by_number, j->number) == j, "a job cannot be found by its number");
    MUST(!j->client || table_get(&j->client->requests, j->request) == j,
         "a job cannot be found by its request");
    return NULL;
}

static const char *check_loans(const struct core *c)
{
    uint64_t coming = 0, waiting = 0;
    size_t count = 0;
    for (const struct list *l = c->workers.next; l != &c->workers; l = l->next) {
        const struct peer_state *w = LIST_OF(l, peer_state, at);
        for (const struct list *k = w->loans.next; k != &w->loans; k = k->next, count++) {
            const struct loan *loan = LIST_OF(k, loan, at);
            coming += loan->recalled ? loan->slots : 0;
            MUST(loan->recalled == list_empty(&loan->lent), "a loan is recalled and is not");
            MUST(loan->owner || loan->recalled, "a loan of nobody's goes on");
        }
    }
    for (const struct list *l = c->turns.next; l != &c->turns; l = l->next)
        if (!place_local(LIST_OF(l, peer_state, turn)))
            waiting += LIST_OF(l, peer_state, turn)->queued;
    MUST(count == c->loans.count && coming == c->coming, "loans are counted wrongly");
    MUST(length(&c->wanting) == c->wanting_count, "those that want slots are counted wrongly");
    MUST(coming >= waiting || list_empty(&c->lent), "a job waits while slots are lent");
    for (const struct list *l = c->wanting.next; l != &c->wanting && !waiting; l = l->next) {
        const struct part *p = LIST_OF(l, part, wanting);
        MUST(!fleet_lender(c, p->worker, p->run_bytes), "a part wants slots, and a worker that may lend has some");
    }
    return NULL;
}

static const char *check_worker(const struct core *c, const struct peer_state *w)
{
    uint32_t used = w->untold;
    uint64_t memory = 0;
    for (const struct list *l = w->parts.next; l != &w->parts; l = l->next) {
        const struct part *p = LIST_OF(l, part, at);
        MUST(p->worker == w, "a worker has a part that is not its own");
        used += p->slots;
        memory += p->memory_bytes;
    }
    for (const struct list *l = w->loans.next; l != &w->loans; l = l->next) {
        const struct loan *loan = LIST_OF(l, loan, at);
        MUST(loan->lender == w && loan->slots, "a worker lends what is not its own");
        const struct peer_state *owner = loan->owner ? loan->owner->worker : w;
        MUST(!strcmp(w->image, owner->image) && !strcmp(w->domain, owner->domain), "a worker lends to another image");
        used += loan->slots;
        memory += loan->memory_bytes;
        MUST(!loan->owner || loan->memory_bytes == loan->slots * loan->owner->run_bytes, "slots are lent without their memory");
    }
    for (const struct list *l = w->remnants.next; l != &w->remnants; l = l->next) {
        const struct remnant *r = LIST_OF(l, remnant, of_worker);
        MUST(r->worker == w && !list_empty(&r->at), "what remains at a worker is not its own");
        used++;
    }
    MUST(!w->memory_bytes || w->memory_used == memory, "memory is taken and nothing needs it, or the other way round");
    MUST(!w->memory_bytes || memory <= w->memory_bytes, "a worker was given more than its memory");
    MUST(w->used == used, "slots are taken and nothing runs");
    MUST(w->used <= w->slots, "a worker was given more than its slots");
    if (w->data_url[0] && w->slots)
        MUST(w->rank < c->fleet.count && c->fleet.heap[w->rank] == w,
             "a worker is not in its place");
    return NULL;
}

/* Has a job of a client that comes before this one waited for memory for so long that this client's next job must let it go
 * first? */
static bool gives_way(const struct core *c, const struct peer_state *p)
{
    bool waits = false;
    for (const struct list *l = c->turns.next; l != &p->turn; l = l->next)
        waits |= wait_for_memory(c, LIST_OF(LIST_OF(l, peer_state, turn)->waiting.next, job, wait));
    return waits && LIST_OF(p->waiting.next, job, wait)->memory_bytes;
}

static const char *check_client(const struct core *c, const struct peer_state *p)
{
    size_t bytes = 0;
    for (const struct list *l = p->jobs.next; l != &p->jobs; l = l->next)
        bytes += LIST_OF(l, job, of_client)->bytes->size;
    MUST(bytes == p->graph_bytes, "a client's bytes are counted wrongly");
    MUST(p->queued == length(&p->waiting), "a client's waiting jobs are counted wrongly");
    for (const struct list *l = p->waiting.next; l != p->waiting.prev && p->queued; l = l->next)
        MUST(LIST_OF(l, job, wait)->round <= LIST_OF(l->next, job, wait)->round, "a client's jobs do not wait by rounds");
    MUST((p->queued == 0) == list_empty(&p->turn), "a client waits without a turn");
    MUST(!p->queued || !place_possible(c, LIST_OF(p->waiting.next, job, wait)) || gives_way(c, p), "a job waits although it could run");
    return NULL;
}

/* Submitted jobs, and questions about them. */
static const char *check_keeper(const struct core *c, const struct peer_state *p)
{
    MUST(p->held_count == length(&p->held) && p->asked_count == length(&p->asked), "a keeper's jobs are counted wrongly");
    MUST(p->keeps || (!p->held_count && !p->asked_count), "somebody who is no keeper keeps");
    for (const struct list *l = p->held.next; l != &p->held; l = l->next) {
        const struct held *h = LIST_OF(l, held, of_keeper);
        MUST(h->keeper == p && held_of(c, h->number) == h, "a submitted job cannot be found by its number");
    }
    MUST(list_empty(&p->bringing) || !list_empty(&c->bringing), "somebody waits for a keeper alone");
    return NULL;
}

static const char *check_keepers(const struct core *c)
{
    size_t held = 0;
    for (const struct list *l = c->clients.next; l != &c->clients; l = l->next) {
        const struct peer_state *p = LIST_OF(l, peer_state, at);
        const char *wrong = check_keeper(c, p);
        if (wrong)
            return wrong;
        held += p->held_count;
        for (const struct list *b = c->bringing.next; p->keeps && b != &c->bringing; b = b->next) {
            const struct peer_state *waits = LIST_OF(b, peer_state, bringing);
            MUST(waits->bring_what != MSG_ASK_KEEP, "somebody waits for a keeper although one is there");
            MUST(waits->bring_what == MSG_ASK_KEEP || !held_of(c, waits->bring_job), "somebody waits for a job that is there");
        }
    }
    MUST(held == c->held.count && held == length(&c->helds), "submitted jobs are counted wrongly");
    return NULL;
}

const char *core_check(const struct core *c)
{
    const char *wrong = NULL;
    size_t queued = 0, needy = 0, bytes = 0;
    for (const struct list *l = c->jobs.next; l != &c->jobs && !wrong; l = l->next) {
        const struct job *j = LIST_OF(l, job, at);
        wrong = check_job(c, j);
        queued += j->state == JOB_QUEUED;
        needy += j->state == JOB_QUEUED && j->memory_bytes;
        bytes += j->bytes->size;
    }
    for (const struct list *l = c->workers.next; l != &c->workers && !wrong; l = l->next)
        wrong = check_worker(c, LIST_OF(l, peer_state, at));
    for (const struct list *l = c->clients.next; l != &c->clients && !wrong; l = l->next)
        wrong = check_client(c, LIST_OF(l, peer_state, at));
    if (!wrong)
        wrong = check_keepers(c);
    if (!wrong)
        wrong = check_loans(c);
    if (wrong)
        return wrong;
    for (size_t i = 1; i < c->fleet.count; i++)
        MUST(fleet_free_slots(c->fleet.heap[(i - 1) / 2]) >= fleet_free_slots(c->fleet.heap[i]),
             "the fleet is out of order");
    MUST(list_empty(&c->over), "jobs that are over were kept");
    MUST(length(&c->jobs) == c->job_count && c->jobs_by_number.count == c->job_count,
         "jobs are counted wrongly");
    MUST(c->needy == needy, "jobs that need memory are counted wrongly");
    MUST(length(&c->queued) == queued && c->stats.waiting == queued,
         "waiting jobs are counted wrongly");
    MUST(bytes == c->graph_bytes, "bytes are counted wrongly");
    MUST(length(&c->workers) + length(&c->clients) == c->peers.count, "peers are counted wrongly");
    return NULL;
}

const char *core_check_empty(const struct core *c)
{
    MUST(c->job_count == 0 && list_empty(&c->jobs), "jobs are left in the core");
    MUST(c->peers.count == 0, "peers are left in the core");
    MUST(c->held.count == 0 && list_empty(&c->helds) && list_empty(&c->bringing), "submitted jobs are left in the core");
    MUST(c->homes.count == 0 && c->homes_at_work == 0, "homes are left in the core");
    MUST(c->fleet.count == 0, "workers are left in the core");
    MUST(c->graph_bytes == 0 && c->stats.waiting == 0, "something is left in the core");
    MUST(list_empty(&c->turns) && list_empty(&c->queued) && list_empty(&c->stopping) &&
             list_empty(&c->claims) && list_empty(&c->remnants) && list_empty(&c->leaving),
         "something still waits in the core");
    MUST(c->loans.count == 0 && !c->coming && !c->wanting_count && list_empty(&c->lent) &&
             list_empty(&c->returning),
         "loans are left in the core");
    MUST(core_next_tick(c) == UINT64_MAX, "the core wants to be woken for nothing");
    return NULL;
}
