/* See check.h.  Walks everything, so it is for small worlds. */
#include "tests/sim/check.h"

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

static const char *check_job(const struct core *c, const struct job *j)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < j->part_count; i++) {
        const struct part *p = &j->part[i];
        left += p->worker != NULL;
        MUST(p->job == j, "a part belongs to another job");
        MUST(!p->worker || p->slots > 0, "a part holds no slot");
        MUST(!p->worker || table_get(&c->peers, p->worker->link) == p->worker,
             "a part is at a worker that is gone");
    }
    MUST(j->state != JOB_OVER, "a job that is over was kept");
    MUST(left == j->parts_left, "parts are counted wrongly");
    MUST((j->state == JOB_QUEUED) == (left == 0), "a job is nowhere and does not wait");
    MUST(j->state != JOB_QUEUED || j->client, "a job waits for a client that is gone");
    MUST(j->state != JOB_STOPPING || j->failed, "a job is stopped for no reason");
    MUST(j->client || j->state == JOB_STOPPING, "a job without a client goes on");
    MUST(table_get(&c->jobs_by_number, j->number) == j, "a job cannot be found by its number");
    MUST(!j->client || table_get(&j->client->requests, j->request) == j,
         "a job cannot be found by its request");
    return NULL;
}

static const char *check_worker(const struct core *c, const struct peer_state *w)
{
    uint32_t used = 0;
    for (const struct list *l = w->parts.next; l != &w->parts; l = l->next) {
        const struct part *p = LIST_OF(l, part, at);
        MUST(p->worker == w, "a worker has a part that is not its own");
        used += p->slots;
    }
    MUST(w->used == used, "slots are taken and nothing runs");
    MUST(w->used <= w->slots, "a worker was given more than its slots");
    if (w->data_url[0] && w->slots)
        MUST(w->rank < c->fleet.count && c->fleet.heap[w->rank] == w,
             "a worker is not in its place");
    return NULL;
}

static const char *check_client(const struct core *c, const struct peer_state *p)
{
    size_t bytes = 0;
    for (const struct list *l = p->jobs.next; l != &p->jobs; l = l->next)
        bytes += LIST_OF(l, job, of_client)->bytes->size;
    MUST(bytes == p->graph_bytes, "a client's bytes are counted wrongly");
    MUST(p->queued == length(&p->waiting), "a client's waiting jobs are counted wrongly");
    MUST((p->queued == 0) == list_empty(&p->turn), "a client waits without a turn");
    MUST(!p->queued || !place_possible(c, p), "a job waits although it could run");
    return NULL;
}

const char *core_check(const struct core *c)
{
    const char *wrong = NULL;
    size_t queued = 0, bytes = 0;
    for (const struct list *l = c->jobs.next; l != &c->jobs && !wrong; l = l->next) {
        const struct job *j = LIST_OF(l, job, at);
        wrong = check_job(c, j);
        queued += j->state == JOB_QUEUED;
        bytes += j->bytes->size;
    }
    for (const struct list *l = c->workers.next; l != &c->workers && !wrong; l = l->next)
        wrong = check_worker(c, LIST_OF(l, peer_state, at));
    for (const struct list *l = c->clients.next; l != &c->clients && !wrong; l = l->next)
        wrong = check_client(c, LIST_OF(l, peer_state, at));
    if (wrong)
        return wrong;
    for (size_t i = 1; i < c->fleet.count; i++)
        MUST(fleet_free_slots(c->fleet.heap[(i - 1) / 2]) >= fleet_free_slots(c->fleet.heap[i]),
             "the fleet is out of order");
    MUST(list_empty(&c->over), "jobs that are over were kept");
    MUST(length(&c->jobs) == c->job_count && c->jobs_by_number.count == c->job_count,
         "jobs are counted wrongly");
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
    MUST(c->homes.count == 0 && c->homes_at_work == 0, "homes are left in the core");
    MUST(c->fleet.count == 0, "workers are left in the core");
    MUST(c->graph_bytes == 0 && c->stats.waiting == 0, "something is left in the core");
    MUST(list_empty(&c->turns) && list_empty(&c->queued) && list_empty(&c->stopping),
         "something still waits in the core");
    MUST(core_next_tick(c) == UINT64_MAX, "the core wants to be woken for nothing");
    return NULL;
}
